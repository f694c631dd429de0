"""Convolutions before the recurrent layers, on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.convolution import Convolution
from numrnn.kernels.cuda.arrays import DeviceArrays, add_columns, spread
from numrnn.kernels.cuda.convolution import patches, place_pools, place_rows, pool, swap_weights, unpool
from numrnn.kernels.cuda.matrices import multiply
from numrnn.parameters import Parameters

__all__ = ["PATCH_BYTES", "ConvolutionOnDevice", "StepRows"]

# The numbers under the kernel are written out for so many bytes of pixels at a time.
PATCH_BYTES = 2**28

Integers = NDArray[np.int64]


class StepRows:
    """Sequences that follow one another without gaps, with the tables for it on the device.

    Parameters
    ----------
    lengths : ndarray of int64, shape (n_sequences,)
    level : int
        Tables of every level are kept at the same time.
    arrays : DeviceArrays
    queue
    source_starts : ndarray of int64, default=None
        The row at which each sequence begins elsewhere.

    Attributes
    ----------
    begins, ends, sources : device arrays of int64, shape (n_rows,)
        Of each row the first row of its sequence, the one behind it, and the row elsewhere.
    """

    def __init__(
        self, lengths: Integers, level: int, arrays: DeviceArrays, queue: Any, source_starts: Integers | None = None
    ) -> None:
        self.lengths = lengths
        self.starts = np.cumsum(lengths) - lengths
        self.n_rows = int(lengths.sum())
        self.device_starts = arrays.put(("row starts", level), self.starts, queue)
        self.device_lengths = arrays.put(("row lengths", level), lengths, queue)
        elsewhere = self.starts if source_starts is None else source_starts
        places = arrays.put(("row sources", level), elsewhere, queue)
        self.begins, self.ends, self.sources = (
            arrays.at_least((name, level), self.n_rows, np.int64) for name in ("begins", "ends", "sources")
        )
        place_rows(
            queue, self.device_starts, self.device_lengths, len(lengths), places, self.begins, self.ends, self.sources
        )


class ConvolutionOnDevice:
    """What `Convolution` does, as products of patches with the weights.

    Parameters
    ----------
    stage : Convolution
        On the host.
    parameters : Parameters
        Where the weights are in the flat vector.
    level : int
        Number of the convolution.
    arrays : DeviceArrays
    queue
    """

    def __init__(
        self, stage: Convolution, parameters: Parameters, level: int, arrays: DeviceArrays, queue: Any
    ) -> None:
        self.input_size, self.output_size = stage.input_size, stage.output_size
        self.filters, self.channels = stage.filters, stage.channels
        images, size = stage.kind == "2d", stage.kernel_size
        # A time series is an image that is one pixel wide.
        self.width = stage.input_size // stage.channels if images else 1
        self.kernel = size, size if images else 1
        self.pool = stage.pool_size, stage.pool_size if images else 1
        self.pooled_width = -(-self.width // self.pool[1])
        self.corner = tuple((side - 1) // 2 for side in self.kernel)
        self.dtype = stage.dtype
        self._weight = parameters.span(stage.weight).start
        self._bias = parameters.span(stage.bias).start
        self._level = level
        self._arrays = arrays
        self._queue = queue

    @property
    def _area(self) -> int:
        return self.kernel[0] * self.kernel[1]

    def row_bytes(self, training: bool) -> float:
        """Bytes that a row of the input costs, beside the input."""
        item = self.dtype.itemsize
        pixels, pooled = self.width * self.filters, self.output_size / self.pool[0]
        if not training:
            return pixels * item + pooled * item + 24
        return 2 * pixels * item + pooled * (2 * item + 4) + self.input_size * item + 40

    def patch_bytes(self, n_rows: int) -> int:
        """Bytes of the patches of so many rows."""
        taps = self._area * max(self.channels, self.filters)
        return int(min(n_rows * self.width * taps * self.dtype.itemsize, PATCH_BYTES))

    def forward(self, parameters: Any, values: Any, rows: StepRows, training: bool) -> tuple[Any, StepRows]:
        """Run over the rows of whole sequences; the next rows and where they are."""
        queue, arrays, level, filters = self._queue, self._arrays, self._level, self.filters
        n_pixels = rows.n_rows * self.width
        convolved = arrays.at_least("convolved", n_pixels * filters, self.dtype)
        spread(queue, parameters, self._bias, filters, convolved, n_pixels)
        taps = self.channels * self._area
        for first, count, under in self._patches(values, rows, self.channels, False):
            multiply(
                queue, arrays, (under, 0, False), (parameters, self._weight, True), (convolved, first * filters),
                (count, filters, taps), accumulate=True,
            )  # fmt: skip
        pooled = StepRows(-(-rows.lengths // self.pool[0]), level + 1, arrays, queue)
        firsts, lasts = (arrays.at_least((name, level), pooled.n_rows, np.int64) for name in ("firsts", "lasts"))
        place_pools(
            queue, pooled.device_starts, pooled.device_lengths, len(rows.lengths), rows.device_starts,
            rows.device_lengths, self.pool[0], firsts, lasts,
        )  # fmt: skip
        n_outputs = pooled.n_rows * self.output_size
        outputs = arrays.at_least(("convolution", level), n_outputs, self.dtype)
        winners = arrays.at_least(("pool winners", level), n_outputs if training else 0, np.int32)
        pool(
            queue, convolved, firsts, lasts, pooled.n_rows * self.pooled_width, self.width, self.pooled_width, filters,
            self.pool[1], outputs, winners, training,
        )  # fmt: skip
        self._last = values, rows, pooled, firsts, lasts, winners
        return outputs, pooled

    def backward(self, parameters: Any, d_outputs: Any, gradient: Any, need_input: bool) -> Any:
        """Add the gradients of the last pass in training to the flat vector `gradient`; that of the input, or None."""
        queue, arrays, filters, channels = self._queue, self._arrays, self.filters, self.channels
        values, rows, pooled, firsts, lasts, winners = self._last
        n_pixels = rows.n_rows * self.width
        d_convolved = arrays.at_least("d convolved", n_pixels * filters, self.dtype)
        unpool(
            queue, d_outputs, winners, firsts, lasts, pooled.n_rows * self.pooled_width, self.width, self.pooled_width,
            filters, self.pool[1], d_convolved,
        )  # fmt: skip
        add_columns(queue, d_convolved, n_pixels, filters, gradient, self._bias)
        taps = channels * self._area
        for first, count, under in self._patches(values, rows, channels, False):
            multiply(
                queue, arrays, (d_convolved, first * filters, True), (under, 0, False), (gradient, self._weight),
                (filters, taps, count), accumulate=True,
            )  # fmt: skip
        if not need_input:
            return None
        swapped = arrays.at_least("swapped weights", filters * taps, self.dtype)
        swap_weights(queue, parameters, self._weight, filters, channels, self._area, swapped)
        d_values = arrays.at_least(("d convolution", self._level), n_pixels * channels, self.dtype)
        for first, count, under in self._patches(d_convolved, rows, filters, True):
            multiply(
                queue, arrays, (under, 0, False), (swapped, 0, False), (d_values, first * channels),
                (count, channels, filters * self._area),
            )  # fmt: skip
        return d_values

    def _patches(self, values: Any, rows: StepRows, channels: int, turned: bool) -> Any:
        """First pixel, number of pixels, and the numbers under the kernel of each."""
        taps = channels * self._area
        n_pixels = rows.n_rows * self.width
        at_once = max(PATCH_BYTES // (taps * self.dtype.itemsize), 1)
        for first in range(0, n_pixels, at_once):
            count = min(at_once, n_pixels - first)
            under = self._arrays.at_least("patches", count * taps, self.dtype)
            patches(
                self._queue, values, rows.begins, rows.ends, self.width, channels, self.kernel, self.corner, turned,
                first, count, under,
            )  # fmt: skip
            yield first, count, under
