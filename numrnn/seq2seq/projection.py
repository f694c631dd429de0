"""Products of many rows with one weight, and their gradients: what a decoder does before and after its time steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from numrnn.buffers import aligned_zeros
from numrnn.kernels.cpu.gradients import INPUT_ROWS, input_gradient, weight_gradient_scratch, weight_gradients
from numrnn.kernels.cpu.matmul import multiply, pack_columns, pack_rows
from numrnn.kernels.simd import TILE_ROWS, lane_count
from numrnn.workers import Workers

__all__ = ["Matrix", "Projection", "identity_rows"]

_identity = np.arange(4096, dtype=np.int64)


def identity_rows(count: int) -> NDArray[np.int64]:
    """0, 1, 2, ... for at least that many rows."""
    global _identity
    table = _identity
    if len(table) < count:
        _identity = table = np.arange(2 * count, dtype=np.int64)
    return table


class Matrix(NamedTuple):
    """Row r is row `table[r]` of a one-dimensional array, rows `pitch` elements apart, from element `first` on."""

    flat: NDArray
    table: NDArray[np.int64]
    pitch: int
    first: int = 0

    @classmethod
    def of(cls, array: NDArray) -> Matrix:
        """A C-contiguous two-dimensional array."""
        return cls(array.reshape(-1), identity_rows(len(array)), array.shape[1])


class Projection:
    """``y = x @ weight.T + bias``, with outputs in blocks that are each padded to whole vectors.

    Parameters
    ----------
    weight : str
        Name of the weight (n_blocks * size, input_size).
    bias : str or None
        Name of the bias, of as many elements as the weight has rows.
    size : int
        Rows of one block.
    input_size : int
    dtype : dtype
    workers : Workers
    blocks : tuple of int, default=(0,)
        The block of the weight that each slot of the result holds.
    n_slots : int, default=None
        Slots of a row of the result, of which `blocks` says what the first ones hold. None: as many as there are
        blocks.
    """

    def __init__(
        self,
        weight: str,
        bias: str | None,
        size: int,
        input_size: int,
        *,
        dtype: np.dtype,
        workers: Workers,
        blocks: tuple[int, ...] = (0,),
        n_slots: int | None = None,
    ) -> None:
        self.weight = weight
        self.bias = bias
        self.size = size
        self.input_size = input_size
        self.dtype = np.dtype(dtype)
        self.workers = workers
        self.blocks = np.array(blocks, dtype=np.int64)
        self._lanes = lane_count(self.dtype)
        self.padded = -(-size // self._lanes) * self._lanes
        self.padded_input = -(-input_size // self._lanes) * self._lanes
        self.columns = len(blocks) * self.padded
        self.pitch = (len(blocks) if n_slots is None else n_slots) * self.padded
        # Elements of what `pack` and `pack_transposed` write.
        self.packed_size = self.columns * input_size
        self.transposed_size = self.columns * self.padded_input
        self._no_blocks = np.zeros(0, dtype=np.int64)

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters."""
        rows = len(self.blocks) * self.size
        shapes: dict[str, tuple[int, ...]] = {self.weight: (rows, self.input_size)}
        return shapes if self.bias is None else shapes | {self.bias: (rows,)}

    def initialize(self, parameters: Mapping[str, NDArray], rng: np.random.RandomState) -> None:
        """Write initial parameters: Glorot-uniform weights in every block, biases zero."""
        bound = np.sqrt(6.0 / (self.size + self.input_size))
        parameters[self.weight][...] = rng.uniform(-bound, bound, parameters[self.weight].shape)
        if self.bias is not None:
            parameters[self.bias][...] = 0

    # ------------------------------------------------------------------------------------------------------ packing
    def pack(self, parameters: Mapping[str, NDArray], panels: NDArray | None = None) -> NDArray:
        """The weight as `multiply` wants it for ``x @ weight.T``, in memory that is zero, if given."""
        if panels is None:
            panels = aligned_zeros(self.packed_size, self.dtype)
        weight = parameters[self.weight]
        pack_columns(weight, self.blocks, self.size, 0, self.padded, identity_rows(self.padded), panels)
        return panels

    def pack_transposed(self, parameters: Mapping[str, NDArray], panels: NDArray | None = None) -> NDArray:
        """The weight as `multiply` wants it for ``d_y @ weight``, in memory that is zero, if given."""
        if panels is None:
            panels = aligned_zeros(self.transposed_size, self.dtype)
        pack_rows(parameters[self.weight], self.blocks, self.size, self.padded, 0, self.padded_input, panels)
        return panels

    def pack_bias(self, parameters: Mapping[str, NDArray]) -> NDArray:
        """The bias, or zero, by slot: (columns,)."""
        bias = np.zeros((len(self.blocks), self.padded), dtype=self.dtype)
        if self.bias is not None:
            bias[:, : self.size] = parameters[self.bias].reshape(-1, self.size)[self.blocks]
        return bias.reshape(-1)

    # ----------------------------------------------------------------------------------------------------- products
    def _flops(self, n_rows: int) -> int:
        return 2 * n_rows * self.columns * self.input_size

    def apply(
        self,
        parameters: Mapping[str, NDArray],
        x: Matrix,
        n_rows: int,
        y: NDArray,
        *,
        bias: NDArray | None = None,
        add: bool = False,
    ) -> None:
        """Write the result of `n_rows` rows to y (n_rows * pitch,), or add it, without the bias, to what is there.

        A bias, by slot, takes the place of the one among the parameters.
        """
        panels = self.pack(parameters)
        if bias is None:
            bias = self.pack_bias(parameters)

        def rows(begin: int, end: int) -> None:
            start = (y, begin * self.pitch, self.pitch) if add else (bias, 0, 0)
            multiply(
                x.flat, x.first, x.table, begin, end - begin, x.pitch, panels, 0, self.input_size, self.columns,
                *start, y, begin * self.pitch, self.pitch,
            )  # fmt: skip

        self.workers.divide(n_rows, self._flops(n_rows), rows)

    def input_gradient(
        self, parameters: Mapping[str, NDArray], d_y: NDArray, n_rows: int, d_x: Matrix, *, add: bool = False
    ) -> None:
        """Write, or add, the gradient of x: `input_size` elements of every row."""
        panels = self.pack_transposed(parameters)
        identity = identity_rows(n_rows)

        def rows(begin: int, end: int) -> None:
            scratch = np.empty(INPUT_ROWS * self.padded_input, dtype=self.dtype)
            input_gradient(
                d_y, d_y, self.pitch, self.padded, self.size, begin, end, identity, self.blocks,
                parameters[self.weight], panels, scratch, d_x.flat[d_x.first :], d_x.table, d_x.pitch, not add,
            )  # fmt: skip

        self.workers.divide(n_rows, self._flops(n_rows), rows)

    def weight_gradient(self, d_y: NDArray, n_rows: int, x: Matrix, gradient: Mapping[str, NDArray]) -> None:
        """Add the gradients of the parameters. Every sum goes through the rows in their order, whatever the threads."""
        d_weight = gradient[self.weight]
        d_bias = np.zeros(len(d_weight), dtype=self.dtype) if self.bias is None else gradient[self.bias]
        identity = identity_rows(max(n_rows, 4096))
        values = x.flat[x.first :]

        def outputs(begin: int, end: int) -> None:
            scratch = [np.empty(size, dtype=self.dtype) for size in weight_gradient_scratch(self._lanes)]
            weight_gradients(
                d_y, n_rows, self.pitch, self.padded, self.size, begin, end, identity, self.blocks,
                values, x.table, x.pitch, d_weight, d_bias,
                self._no_blocks, values, 0, d_weight, d_bias, *scratch,
            )  # fmt: skip

        self.workers.divide(len(d_weight), self._flops(n_rows), outputs, step=TILE_ROWS)
