"""Numbers of half the size: bfloat16, the upper halves of float32 numbers.

A bfloat16 has the sign, the exponent and seven bits of the fraction of a float32, and becomes one again by a shift. It
serves in two ways. Weights of compiled steps: a network in bfloat16 is the float32 network whose weight matrices have
been rounded; inputs, states, biases, tables of embeddings and all sums stay float32. And factors of the products of
whole sequences, weights or not, which are rounded on their way into a product: see `simd`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.buffers import aligned_zeros
from numrnn.kernels.equations import CELLS
from numrnn.kernels.simd import PANEL_VECTORS, lane_count
from numrnn.kernels.stream_layout import (
    HEAD,
    HEADER,
    HEADS,
    N_IDS,
    N_LAYERS,
    N_OUTPUTS,
    PER_ID,
    PER_LAYER,
    PROJECTED,
    READOUT,
    StreamParameters,
)

__all__ = ["check_matmul_precision", "check_weights", "in_bfloat16", "round_to_bfloat16", "with_rounded_matrices"]


def check_matmul_precision(precision: Any, dtype: Any) -> None:
    """Raise ValueError unless the argument `matmul_precision` is None, or "bfloat16" for float32."""
    if precision is None:
        return
    if not isinstance(precision, str) or precision != "bfloat16":
        raise ValueError(f"matmul_precision must be None (that of the type) or 'bfloat16', got {precision!r}")
    if np.dtype(dtype) != np.float32:
        raise ValueError(f"matmul_precision='bfloat16' is for dtype='float32', got {np.dtype(dtype).name!r}")


def check_weights(weights: Any, dtype: Any) -> bool:
    """Whether the argument `weights` asks for bfloat16.

    Raises
    ------
    ValueError
        If it is neither None nor "bfloat16", or the network is not of float32.
    """
    if weights is None:
        return False
    if not isinstance(weights, str) or weights != "bfloat16":
        raise ValueError(f"weights must be None (those of the model) or 'bfloat16', got {weights!r}")
    if np.dtype(dtype) != np.float32:
        raise ValueError(f"weights='bfloat16' is for networks of float32, this one computes in {np.dtype(dtype).name}")
    return True


def round_to_bfloat16(x: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The nearest bfloat16 of every float32, of two equally near ones the even one, as 16 bits.

    What is beyond the largest bfloat16 (3.39e38) by half a unit of its last place or more becomes infinite, as
    everywhere in IEEE arithmetic; NaN stays NaN.
    """
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    # 0x7FFF rounds up what is above a half; the lowest bit that is kept rounds a half itself up if that bit is odd.
    # NaN could overflow into another number; it is cut off, and the highest bit of the fraction keeps it one.
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(x), (bits >> 16) | np.uint32(0x40), rounded).astype(np.uint16)


def with_rounded_matrices(arrays: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """The parameters of a float32 network with all weight matrices rounded to bfloat16, which are still float32."""
    return {
        name: _widened(round_to_bfloat16(array)) if name.startswith("weight_") else array
        for name, array in arrays.items()
    }


def in_bfloat16(parameters: StreamParameters, cell_name: str) -> StreamParameters:
    """A network whose matrices have been rounded, in the layout for bfloat16: no number changes."""
    weights, layout, cell = parameters.weights, parameters.layout.copy(), CELLS[cell_name]
    lanes = lane_count(np.float32)
    layers = layout[HEADER : HEADER + PER_LAYER * layout[N_LAYERS]].reshape(-1, PER_LAYER)
    tables = layout[HEADER + PER_LAYER * layout[N_LAYERS] :].reshape(-1, PER_ID)[: layout[N_IDS]]
    parts: list[NDArray[np.uint16]] = []
    size = 0

    def add(begin: int, count: int, depth: int = 0) -> int:
        """The elements from `begin` on: a matrix of that depth, or numbers. Returns where the next ones begin."""
        nonlocal size
        numbers = weights[begin : begin + count]
        parts.append(_paired(round_to_bfloat16(numbers), depth, lanes) if depth else numbers.view(np.uint16))
        size += len(parts[-1])
        return begin + count

    def begin() -> int:
        """Where the next part begins, on a whole vector of the widest elements."""
        nonlocal size
        missing = -size % (2 * lanes)
        parts.append(np.zeros(missing, dtype=np.uint16))
        size += missing
        return size

    for row in layers:
        input_size, hidden_size, padded, at = (int(number) for number in row[:4])
        row[3] = begin()
        at = add(at, len(cell.input_gates) * padded * input_size, input_size)
        at = add(at, len(cell.hidden_gates) * padded * hidden_size, hidden_size)
        add(at, cell.n_slots * padded)
    for row in tables:
        at, row[3] = int(row[3]), begin()
        add(at, int(row[1] * row[2]))
    at, layout[READOUT] = int(layout[READOUT]), begin()
    if layout[HEAD] != HEADS["none"]:
        padded, hidden_size = -(-int(layout[N_OUTPUTS]) // lanes) * lanes, int(layers[-1, 1])
        add(add(at, padded * hidden_size, hidden_size), padded)
    if layout[PROJECTED]:
        at, layout[PROJECTED] = int(layout[PROJECTED]), begin()
        add(at, int(tables[0, 1]) * cell.n_slots * int(layers[0, 2]))
    begin()
    narrow = aligned_zeros(size, np.uint16)
    np.concatenate(parts, out=narrow)
    return StreamParameters(narrow, layout, parameters.units)


def _widened(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _paired(bits: NDArray[np.uint16], depth: int, lanes: int) -> NDArray[np.uint16]:
    """The panels of a matrix with the elements of every two vectors in turn, see `stream_layout`."""
    made = bits.copy()
    columns, step = len(bits) // depth, PANEL_VECTORS * lanes
    for first in range(0, columns, step):
        width = min(step, columns - first)
        pairs = width // (2 * lanes)
        own = slice(first * depth, (first + width) * depth)
        rows, target = (whole[own].reshape(depth, width)[:, : 2 * pairs * lanes] for whole in (bits, made))
        target[...] = rows.reshape(depth, pairs, 2, lanes).swapaxes(2, 3).reshape(depth, -1)
    return made
