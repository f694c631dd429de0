"""A convolutional front end: convolution, relu and max-pooling over time or over images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numrnn.buffers import Buffers, read_only
from numrnn.kernels.cpu.convolution import PRODUCT_PIXELS, convolve, convolve_adjoint
from numrnn.kernels.cpu.matmul import SUM_ROWS, pack_columns, pack_rows
from numrnn.kernels.simd import PANEL_VECTORS, lane_count
from numrnn.packing import Sequences, balanced_ranges
from numrnn.stages import StagePass
from numrnn.workers import Workers

__all__ = ["Convolution", "ConvolutionPass", "convolutions_from"]

# What a block of the forward and of the backward pass computes: in the first- and in the second-level cache.
_BLOCK_BYTES = 32 * 1024
_ADJOINT_BLOCK_BYTES = 96 * 1024
# The gradient of the weights is summed in parts, each of about so many pixels, but no more than so many parts: the same
# ones for every number of threads.
_PIXELS_PER_PART = 8192
_MOST_PARTS = 16


class ConvolutionPass(StagePass):
    """What one forward pass leaves behind: the output, and which pixel of each pool won."""

    def __init__(self, sequences: Sequences, source: Sequences, winners: NDArray) -> None:
        super().__init__(sequences)
        self.source = source
        self.winners = winners


class Convolution:
    r"""Convolution, relu and max-pooling [1]_ of sequences, over time or of images whose rows are the time steps.

    .. math::

        y_{t, f} = \max_{\text{pool}}\, \max\Bigl(0,\; b_f + \sum_{i, c} W_{f, c, i}\,
            x_{t + i - \lfloor (k - 1) / 2 \rfloor,\, c}\Bigr)

    Parameters
    ----------
    kind : {"1d", "2d"}
        "1d": a time step is a vector of channels; time is convolved and pooled. "2d": a time step is a row of an image,
        `width * channels` numbers, channels last; a row of the result is likewise ``ceil(width / pool_size) *
        filters`` numbers.
    input_size : int
        Features of a time step.
    filters : int
        Channels of the result.
    kernel_size : int
        Time steps of the kernel; rows and columns for "2d". Any positive size: the sequence is continued by zeros,
        (kernel_size - 1) // 2 before its beginning and the others of kernel_size - 1 behind its end, so that the
        convolution has as many steps as the sequence ('same' in PyTorch and Keras).
    pool_size : int, default=1
        Steps over which the maximum is taken; rows and columns for "2d". The last pool has what is left, so that no
        step is lost and a sequence with steps keeps at least one: n steps become ceil(n / pool_size).
    dtype : {"float32", "float64"}, default="float32"
    number : int, default=0
        The parameters are `conv_weight_{number}`, (filters, channels, kernel_size) or (filters, channels, kernel_size,
        kernel_size) as PyTorch's, and `conv_bias_{number}` (filters,).
    channels : int, default=1
        Channels of an image; "2d" only.
    workers : Workers or None, default=None
        The threads to use. None: the calling one. Results do not depend on it, bit for bit.

    Attributes
    ----------
    output_size : int
        Features of a time step of the result.

    Notes
    -----
    What is computed for a sequence depends on no other one. Where equal values are the maximum, the first one (row
    after row) has the gradient.

    References
    ----------
    .. [1] LeCun, Y., Boser, B., Denker, J. S., Henderson, D., Howard, R. E., Hubbard, W. and Jackel, L. D. (1989).
       Backpropagation applied to handwritten zip code recognition. Neural Computation 1.

    Examples
    --------
    >>> import numpy as np
    >>> from numrnn.convolution import Convolution
    >>> from numrnn.packing import Sequences
    >>> edge = Convolution("1d", input_size=1, filters=1, kernel_size=2, dtype="float64")
    >>> parameters = {"conv_weight_0": np.array([[[-1.0, 1.0]]]), "conv_bias_0": np.zeros(1)}
    >>> steps = Sequences.from_list([np.array([[1.0], [1.0], [4.0]])])
    >>> edge.forward(parameters, steps, training=False).sequences.values.ravel()  # the next step less this one
    array([0., 3., 0.])
    """

    def __init__(
        self,
        kind: str,
        input_size: int,
        filters: int,
        kernel_size: int,
        pool_size: int = 1,
        dtype: DTypeLike = "float32",
        number: int = 0,
        *,
        channels: int = 1,
        workers: Workers | None = None,
    ) -> None:
        if kind not in ("1d", "2d"):
            raise ValueError(f"kind must be '1d' or '2d', got {kind!r}")
        for name, value in (
            ("input_size", input_size),
            ("filters", filters),
            ("kernel_size", kernel_size),
            ("pool_size", pool_size),
            ("channels", channels),
        ):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if kind == "2d" and input_size % channels:
            raise ValueError(
                f"input_size must be a multiple of the number of channels, got rows of {input_size} numbers and "
                f"{channels} channels"
            )
        if kind == "1d" and channels != 1:
            raise ValueError(f"channels is for kind '2d': of '1d' every feature is one, got {channels}")
        self.kind = kind
        self.input_size = input_size
        self.filters = filters
        self.kernel_size = kernel_size
        self.pool_size = pool_size
        self.dtype = np.dtype(dtype)
        self.workers = workers
        self.weight, self.bias = f"conv_weight_{number}", f"conv_bias_{number}"
        images = kind == "2d"
        self.channels = channels if images else input_size
        # A time series is an image of one row.
        self._kernel = (kernel_size if images else 1, kernel_size)
        self._pool = (pool_size if images else 1, pool_size)
        self._width = input_size // channels if images else 0
        self.output_size = -(-self._width // pool_size) * filters if images else filters
        self._lanes = lane_count(self.dtype)
        self._columns = self._pad(filters)
        self._taps = self.channels * self._kernel[0] * kernel_size
        self._buffers = Buffers()
        self._gates = np.zeros(1, dtype=np.int64)

    def _pad(self, size: int) -> int:
        return -(-size // self._lanes) * self._lanes

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters."""
        kernel = (self.kernel_size,) * (2 if self.kind == "2d" else 1)
        return {self.weight: (self.filters, self.channels, *kernel), self.bias: (self.filters,)}

    def initialize(self, parameters: Mapping[str, NDArray], rng: np.random.RandomState) -> None:
        """Write initial parameters: weights uniform with the variance 2 / fan-in that relu keeps, bias zero.

        He, K., Zhang, X., Ren, S. and Sun, J. (2015). Delving deep into rectifiers: surpassing human-level performance
        on ImageNet classification. ICCV.
        """
        bound = np.sqrt(6.0 / self._taps)
        parameters[self.weight][...] = rng.uniform(-bound, bound, parameters[self.weight].shape)
        parameters[self.bias][...] = 0.0

    # ------------------------------------------------------------------------------------------------------- passes
    def forward(
        self, parameters: Mapping[str, NDArray], sequences: Sequences, *, training: bool = False
    ) -> ConvolutionPass:
        """Run over a batch.

        Parameters
        ----------
        parameters : mapping of str to ndarray
        sequences : Sequences
            Kept for `backward`, not copied. Lengths may be zero.
        training : bool, default=False
            Whether `backward` will follow.

        Returns
        -------
        ConvolutionPass
            Its `sequences` are the result, `(n_rows_out, output_size)`.
        """
        values = sequences.values
        if values.ndim != 2 or values.shape[1] != self.input_size or values.dtype != self.dtype:
            raise ValueError(
                f"expected sequences of {self.input_size} features in {self.dtype}, got an array of shape "
                f"{values.shape} in {values.dtype}"
            )
        lengths = -(-sequences.lengths // self.pool_size)
        starts = np.cumsum(lengths) - lengths
        output = np.empty((int(lengths.sum()), self.output_size), dtype=self.dtype)
        n_pixels = output.size // self.filters
        winners = np.empty(n_pixels * self._columns if training else 0, dtype=self.dtype)
        result = ConvolutionPass(Sequences(output, starts, lengths), sequences, winners)
        heights, widths = self._planes(sequences)
        lease = self._buffers.lease()
        cell = self._kernel[0] * self.channels
        panels = lease.exact(("panels",), self._taps * self._columns, self.dtype)
        # The order of the numbers under the kernel: x, y, channel.
        ordered = self._weight(parameters).transpose(0, 3, 2, 1).reshape(self.filters, self._taps)
        identity = np.arange(self._lanes, dtype=np.int64)
        pack_columns(np.ascontiguousarray(ordered), self._gates, self.filters, 0, self._columns, identity, panels)
        bias = np.zeros(self._columns, dtype=self.dtype)
        bias[: self.filters] = parameters[self.bias]
        block_h, block_w = self._block(heights, widths)
        rows, span = block_h * self._pool[0], block_w * self._pool[1]
        source, origins = read_only(values.reshape(-1)), sequences.starts * self.input_size
        pixels = starts * (self.output_size // self.filters)

        def part(begin: int, end: int) -> None:
            own = self._buffers.lease()
            convolve(
                source, origins, heights, widths, begin, end, self.channels, *self._kernel, *self._pool, panels, bias,
                self.filters, self._columns, block_h, block_w, own.at_least(("table",), rows * span, np.int64),
                own.at_least(("strip",), rows * (span + self.kernel_size - 1) * cell, self.dtype),
                own.at_least(("convolved",), rows * span * self._columns, self.dtype), pixels, output.reshape(-1),
                winners, training,
            )  # fmt: skip
            own.release()

        sizes = heights * widths
        self._run([partial(part, *bounds) for bounds in balanced_ranges(sizes, self._threads(sizes))])
        lease.release()
        return result

    def backward(
        self,
        run: StagePass,
        parameters: Mapping[str, NDArray],
        d_values: NDArray,
        gradient: Mapping[str, NDArray],
        *,
        need_input: bool = True,
    ) -> NDArray | None:
        """Add the gradients of the parameters to `gradient`.

        Parameters
        ----------
        run : ConvolutionPass
            Of ``forward(training=True)``.
        parameters : mapping of str to ndarray
            As in that forward pass.
        d_values : ndarray
            Gradient of `run.sequences.values`, of its shape.
        gradient : mapping of str to ndarray
        need_input : bool, default=True
            Whether to compute the gradient of the input.

        Returns
        -------
        ndarray of shape (n_steps, input_size) or None
            Gradient of the input's time steps, sequence after sequence.
        """
        assert isinstance(run, ConvolutionPass)
        sequences = run.source
        kernel_h, kernel_w = self._kernel
        columns, strip_columns = self._columns, self._pad(kernel_h * self.channels)
        heights, widths = self._planes(sequences)
        tallest, widest = int(heights.max(initial=0)), int(widths.max(initial=0))
        padded_w = widest + kernel_w - 1
        # Not a multiple of a page of the first-level cache, in which channels would compete for few places.
        plane_pitch = self._pad((tallest + kernel_h - 1) * padded_w) + self._lanes
        # Where each weight's part of a transposed plane begins. Planes of several rows have one width.
        channel, y, x = np.ogrid[: self.channels, :kernel_h, :kernel_w]
        taps = (channel * plane_pitch + y * padded_w + x).reshape(-1).astype(np.int64, copy=False)
        block_rows = self._pool[0] * max(
            1, _ADJOINT_BLOCK_BYTES // (self.dtype.itemsize * columns * padded_w * self._pool[0])
        )
        block_rows = min(block_rows, -(-tallest // self._pool[0]) * self._pool[0])
        lease = self._buffers.lease()
        panels, zeros = np.zeros(0, dtype=self.dtype), np.zeros(strip_columns, dtype=self.dtype)
        d_input = np.zeros((sequences.n_steps if need_input else 0, self.input_size), dtype=self.dtype)
        if need_input:
            panels = lease.exact(("panels back",), kernel_w * columns * strip_columns, self.dtype)
            ordered = np.zeros((kernel_w, columns, kernel_h, self.channels), dtype=self.dtype)
            ordered[:, : self.filters] = self._weight(parameters)[:, :, :, ::-1].transpose(3, 0, 2, 1)
            ordered = ordered.reshape(kernel_w * columns, kernel_h * self.channels)
            pack_rows(ordered, self._gates, len(ordered), len(ordered), 0, strip_columns, panels)
        source, origins = read_only(sequences.values.reshape(-1)), sequences.starts * self.input_size
        d_origins = (np.cumsum(sequences.lengths) - sequences.lengths) * self.input_size
        pixels = run.sequences.starts * (self.output_size // self.filters)
        d_output = read_only(np.ascontiguousarray(d_values, dtype=self.dtype).reshape(-1))
        identity = np.arange(max(widest, self._lanes), dtype=np.int64)
        sizes = heights * widths
        n_parts = min(_MOST_PARTS, 1 + int(sizes.sum()) // _PIXELS_PER_PART)
        bounds = balanced_ranges(sizes, n_parts)
        products = np.empty((len(bounds), self._taps * columns), dtype=self.dtype)
        d_bias = np.empty((len(bounds), columns), dtype=self.dtype)

        def part(number: int) -> None:
            own = self._buffers.lease()
            convolve_adjoint(
                source, origins, heights, widths, *bounds[number], self.channels, *self._kernel, *self._pool,
                self.filters, columns, pixels, run.winners, d_output, block_rows // self._pool[0],
                own.at_least(("plane",), self.channels * plane_pitch, self.dtype), plane_pitch, taps, identity,
                own.at_least(("d_convolved",), (block_rows * padded_w + kernel_w - 1) * columns, self.dtype),
                own.at_least(("panel",), PANEL_VECTORS * self._lanes * SUM_ROWS, self.dtype), products[number],
                d_bias[number], need_input, panels, own.at_least(("table back",), block_rows * widest, np.int64), zeros,
                strip_columns, own.at_least(("d_strip",), PRODUCT_PIXELS * strip_columns, self.dtype), d_origins,
                d_input.reshape(-1),
            )  # fmt: skip
            own.release()

        def parts(begin: int, end: int) -> None:
            for number in range(begin, end):
                part(number)

        by_part = np.array([int(sizes[a:b].sum()) for a, b in bounds], dtype=np.int64)
        self._run([partial(parts, *shares) for shares in balanced_ranges(by_part, self._threads(sizes))])
        total = products.sum(axis=0, dtype=np.float64).reshape(self._taps, columns)[:, : self.filters]
        gradient[self.weight][...] += total.T.reshape(gradient[self.weight].shape)
        gradient[self.bias][...] += d_bias.sum(axis=0, dtype=np.float64)[: self.filters]
        lease.release()
        return d_input if need_input else None

    # ----------------------------------------------------------------------------------------------------- internal
    def _weight(self, parameters: Mapping[str, NDArray]) -> NDArray:
        """The weight as that of an image: (filters, channels, rows, columns)."""
        return parameters[self.weight].reshape(self.filters, self.channels, *self._kernel)

    def _planes(self, sequences: Sequences) -> tuple[NDArray, NDArray]:
        """Height and width of every sequence as an image."""
        if self.kind == "1d":
            return np.ones(len(sequences), dtype=np.int64), sequences.lengths
        return sequences.lengths, np.full(len(sequences), self._width, dtype=np.int64)

    def _block(self, heights: NDArray, widths: NDArray) -> tuple[int, int]:
        """Pooled rows and columns that the forward pass computes at once."""
        pool_h, pool_w = self._pool
        cell = self._kernel[0] * self.channels
        most_pixels = _BLOCK_BYTES // (self.dtype.itemsize * (self._columns + cell))
        block_w = min(max(1, most_pixels // (pool_h * pool_w)), max(1, -(-int(widths.max(initial=0)) // pool_w)))
        block_h = max(1, most_pixels // (pool_h * pool_w * block_w))
        return min(block_h, max(1, -(-int(heights.max(initial=0)) // pool_h))), block_w

    def _threads(self, sizes: NDArray) -> int:
        if self.workers is None:
            return 1
        flops = 2 * int(sizes.sum()) * self._taps * self._columns
        return self.workers.worth(flops)

    def _run(self, tasks: list[Any]) -> None:
        if self.workers is None:
            for task in tasks:
                task()
        else:
            self.workers.run(tasks)


def convolutions_from(
    settings: Iterable[Mapping[str, Any]],
    input_size: int,
    dtype: DTypeLike = "float32",
    *,
    workers: Workers | None = None,
) -> list[Convolution]:
    """Convolutions one after the other, from their settings.

    Parameters
    ----------
    settings : iterable of dict
        "kind", "filters" and "kernel_size", and "pool_size" if not 1, each; see `Convolution`. "channels" are those of
        the image, if not 1, that a first "2d" is given; a later one has the filters of the one before it.
    input_size : int
        Features of a time step of the first one's input.
    dtype : {"float32", "float64"}, default="float32"
    workers : Workers or None, default=None

    Raises
    ------
    ValueError
        If a setting is unknown or missing.

    Examples
    --------
    >>> from numrnn.convolution import convolutions_from
    >>> settings = {"kind": "2d", "filters": 8, "kernel_size": 3, "pool_size": 2}
    >>> [stage.output_size for stage in convolutions_from([settings, settings], input_size=28)]
    [112, 56]
    """
    stages: list[Convolution] = []
    known = {"kind", "filters", "kernel_size", "pool_size", "channels"}
    for number, setting in enumerate(settings):
        unknown, missing = set(setting) - known, {"kind", "filters", "kernel_size"} - set(setting)
        if unknown or missing:
            raise ValueError(
                f"the settings of a convolution are {sorted(known)}, of which pool_size and channels may be left out; "
                f"got {sorted(setting)}"
            )
        arguments = dict(setting)
        if stages and stages[-1].kind == "2d" and setting["kind"] == "2d":
            arguments.setdefault("channels", stages[-1].filters)
        stages.append(
            Convolution(
                arguments.pop("kind"),
                stages[-1].output_size if stages else input_size,
                **arguments,
                dtype=dtype,
                number=number,
                workers=workers,
            )
        )
    return stages
