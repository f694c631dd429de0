"""How a network that takes one time step at a time lies in arrays, for the steps of every device.

A network is a `StreamParameters`, three arrays: `weights` holds what a step reads, and `layout` says where. A stream is
one array, `state`: what the network remembers, followed by scratch.

``layout`` holds whole numbers: the header, named by the constants below; for every layer its inputs, units, padded
units, and where its weights (in `weights`, as `recurrent.forward` reads them) and its states (in `state`) begin; for
every feature that is an id its column, the rows and columns of its table, and where that begins in `weights`.

Weights stand in panels, as `matmul.pack_columns` writes them: element (k, column) of a matrix (depth, columns) is the
one at k * width + column % PANEL of the panel that begins at depth * (column // PANEL * PANEL); a panel is PANEL
columns wide, and the last one as wide as what is left.

Matrices may be in bfloat16 where all else is float32. `weights` then holds whole numbers of 16 bits, in which positions
are counted: each of them is an element of a matrix, two are a number of what is no matrix (biases, tables, what is
projected). In a row of a panel the elements of each two vectors stand in turn, the first of the one, the first of the
other, the second of the one, ...: what is read as a vector of 32-bit numbers has one vector in the upper halves and one
in the lower ones. A last vector without another is as it was.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numrnn.kernels.simd import PANEL_VECTORS, lane_count

__all__ = [
    "HEAD",
    "HEADER",
    "HEADS",
    "INPUT",
    "N_FEATURES",
    "N_IDS",
    "N_LAYERS",
    "N_OUTPUTS",
    "OUTPUTS",
    "PER_ID",
    "PER_LAYER",
    "POOLED",
    "POOLING",
    "POOLINGS",
    "PRE_ACTIVATIONS",
    "PROJECTED",
    "READOUT",
    "REMEMBERED",
    "RESIDUAL",
    "STATE_SIZE",
    "SUMS",
    "ZERO",
    "StreamParameters",
    "panel_width",
]


def panel_width(dtype: Any) -> int:
    """Columns of a panel."""
    return PANEL_VECTORS * lane_count(dtype)


class StreamParameters(NamedTuple):
    """A network for compiled code.

    Attributes
    ----------
    weights : ndarray of float32 or float64, or in bfloat16 of uint16, shape (n_weights,)
        All weights in the kernels' layout.
    layout : ndarray of int64
        Where they stand; see `numrnn.kernels.stream_layout`.
    units : ndarray of float64, shape (2, n_outputs)
        By what the readout's outputs are multiplied, and what is then added: from the units of the network to the
        user's.
    """

    weights: Any
    layout: Any
    units: Any


# What the entries of the header say. Sizes:
N_FEATURES, N_IDS, N_LAYERS, N_OUTPUTS = 0, 1, 2, 3
# Kinds:
POOLING, HEAD, RESIDUAL = 4, 5, 6
# Where in `weights` the readout begins; where in `state` the input of the first layer, the pre-activations, sums of a
# layer's input and output, the outputs, and what pooling remembers; the elements that a stream remembers, and those of
# a state altogether.
READOUT, INPUT, PRE_ACTIVATIONS, SUMS, OUTPUTS, POOLED, REMEMBERED, STATE_SIZE = 7, 8, 9, 10, 11, 12, 13, 14
# Always zero: the table of row numbers of a matrix with one row.
ZERO = 15
# Where in `weights` the pre-activations of the first layer begin that belong to each id, if the id is all there is to a
# time step and they have been computed for all ids; else zero.
PROJECTED = 16
HEADER, PER_LAYER, PER_ID = 17, 5, 4

# What the readout sees, and what becomes of its outputs.
POOLINGS = {"last": 0, "mean": 1, "max": 2}
HEADS = {"none": 0, "linear": 1, "softmax": 2}
