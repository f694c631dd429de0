"""An embedding and the input weights of the first recurrent layer, as one table of pre-activations.

A batch of text has thousands of time steps, but few different symbols. The product of a symbol's vector with the input
weights is the same wherever the symbol stands: it is computed once for each distinct symbol, and the time steps look it
up. Back, the gradients of the pre-activations are summed for each symbol before they go through the products. That is
the same mathematics, and forward the same numbers to the last bit, without most of the arithmetic of the input.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.buffers import Buffers, Lease, read_only
from numrnn.direction import Direction, DirectionPass
from numrnn.embedding import Embedding
from numrnn.kernels.cpu.embedding import add_by_number
from numrnn.kernels.cpu.gradients import INPUT_ROWS, input_gradient, weight_gradient_scratch, weight_gradients
from numrnn.kernels.cpu.matmul import multiply, pack_columns, pack_rows
from numrnn.kernels.simd import TILE_ROWS
from numrnn.packing import Sequences
from numrnn.stack import RecurrentPass, RecurrentStack, States

__all__ = ["ProjectedEmbedding", "ProjectedPass"]

# The table pays where each of its rows stands for so many time steps.
_FEWEST_STEPS = 2
# The floating-point operations that take as long as to look one number up and add it.
_FLOPS_OF_SUM = 8


class ProjectedPass:
    """What one forward pass leaves behind.

    Attributes
    ----------
    run : RecurrentPass
        Of the layers.
    rows : ndarray of int64
        Of the embedding, one for every row of the table.
    """

    def __init__(self, run: RecurrentPass, rows: NDArray[np.int64], lease: Lease) -> None:
        self.run = run
        self.rows = rows
        self.lease = lease


class ProjectedEmbedding:
    """The embedding and the first layer's input weights of a network whose time steps are ids.

    Parameters
    ----------
    embedding : Embedding
        Of one table, and no numeric columns.
    stack : RecurrentStack
        Of one direction.
    """

    def __init__(self, embedding: Embedding, stack: RecurrentStack) -> None:
        self._embedding = embedding
        self._stack = stack.without_input_weights()
        self._workers = stack.workers
        hidden_size = stack.hidden_sizes[0]
        self._direction = Direction(stack.cell.name, 0, False, stack.input_size, hidden_size, stack.dtype)
        self._no_weights = np.empty((stack.cell.n_gates * hidden_size, 0), dtype=stack.dtype)
        self._identity = np.arange(512, dtype=np.int64)
        self._buffers = Buffers()

    @property
    def matmul_precision(self) -> str | None:
        """Of the layers, see `RecurrentStack`; the table is made in that of its type."""
        return self._stack.matmul_precision

    @matmul_precision.setter
    def matmul_precision(self, precision: str | None) -> None:
        self._stack.matmul_precision = precision

    def forward(
        self, parameters: Mapping[str, NDArray], sequences: Sequences, *, training: bool, **options: Any
    ) -> ProjectedPass | None:
        """Run the layers, see `RecurrentStack.forward`; None, and nothing done, where the table would not pay.

        Raises
        ------
        ValueError
            If a value is not the number of a row.
        """
        rows, numbers = self._embedding.distinct(sequences)
        if _FEWEST_STEPS * len(rows) > len(numbers):
            return None
        lease = self._buffers.lease()
        table = Sequences(self._table(parameters, rows, lease), sequences.starts, sequences.lengths)
        run = self._stack.forward(self._without(parameters), table, rows=numbers, training=training, **options)
        if not training:
            lease.release()
        return ProjectedPass(run, rows, lease)

    def backward(
        self,
        run: ProjectedPass,
        parameters: Mapping[str, NDArray],
        d_output: NDArray,
        gradient: Mapping[str, NDArray],
        *,
        d_state: States | None = None,
    ) -> None:
        """Add the gradients of a pass in training, see `RecurrentStack.backward`."""
        visit = partial(self._input_gradients, run, parameters, gradient)
        weights, own = self._without(parameters), self._without(gradient)
        self._stack.backward(run.run, weights, d_output, own, d_state=d_state, visit=visit)
        self._embedding.add_reached(run.rows)
        run.lease.release()

    # -------------------------------------------------------------------------------------------------------- helpers
    def _without(self, parameters: Mapping[str, NDArray]) -> dict[str, NDArray]:
        return {**parameters, self._direction.weight_ih: self._no_weights}

    def _table(self, parameters: Mapping[str, NDArray], rows: NDArray[np.int64], lease: Lease) -> NDArray:
        """Pre-activations of some rows of the embedding."""
        own = self._direction
        size, padded, columns = own.input_size, own.padded, own.input_columns
        panels = lease.exact(("panels",), columns * size, own.dtype)
        weight = parameters[own.weight_ih]
        pack_columns(weight, own.input_gates, own.hidden_size, 0, padded, self._identity, panels)
        bias = lease.exact(("bias",), columns, own.dtype)
        by_slot = bias.reshape(-1, padded)[:, : own.hidden_size]
        bias_ih = parameters[own.bias_ih].reshape(-1, own.hidden_size)
        bias_hh = parameters[own.bias_hh].reshape(-1, own.hidden_size)
        by_slot[...] = bias_ih[own.input_gates]
        # The slots of the hidden state's gates are the last ones; some have both biases.
        first = own.cell.n_slots - len(own.hidden_gates)
        for slot in range(first, len(own.input_gates)):
            by_slot[slot] += bias_hh[own.hidden_gates[slot - first]]
        table = lease.at_least(("table",), len(rows) * columns, own.dtype)
        vectors = parameters[self._embedding.names[0]].reshape(-1)

        def product(begin: int, end: int) -> None:
            place = begin * columns
            arguments = (panels, 0, size, columns, bias, 0, 0, table, place, columns)
            multiply(vectors, 0, rows, begin, end - begin, size, *arguments)

        flops = 2 * len(rows) * columns * size
        self._workers.divide(len(rows), flops, product)
        return table.reshape(len(rows), columns)

    def _input_gradients(
        self,
        run: ProjectedPass,
        parameters: Mapping[str, NDArray],
        gradient: Mapping[str, NDArray],
        kept: DirectionPass,
    ) -> None:
        """Add the gradients of the input weights and of the embedding; the gradients of the biases have been added."""
        assert kept.inputs is not None
        own, lease, rows = self._direction, run.lease, run.rows
        size, padded, columns = own.input_size, own.padded, own.input_columns
        n_rows, numbers = kept.packing.n_rows, kept.inputs.table
        sums = lease.at_least(("sums",), len(rows) * columns, own.dtype)
        sums[:] = 0

        def add(begin: int, end: int) -> None:
            add_by_number(kept.saved, numbers, n_rows, own.slots, begin, end, sums, columns)

        self._workers.divide(columns, _FLOPS_OF_SUM * n_rows * columns, add, step=own.lanes)
        flops = 2 * len(rows) * columns * size
        vectors = read_only(parameters[self._embedding.names[0]].reshape(-1))
        nothing = np.empty(0, dtype=own.dtype)
        no_matrix = np.empty((0, 0), dtype=own.dtype)
        no_gates = np.empty(0, dtype=np.int64)
        unused_bias = np.empty(len(self._no_weights), dtype=own.dtype)

        def weights(begin: int, end: int) -> None:
            weight_gradients(
                sums,
                len(rows),
                columns,
                padded,
                own.hidden_size,
                begin,
                end,
                self._identity,
                own.input_gates,
                vectors,
                rows,
                size,
                gradient[own.weight_ih],
                unused_bias,
                no_gates,
                read_only(nothing),
                0,
                no_matrix,
                unused_bias,
                *(np.empty(size, dtype=own.dtype) for size in weight_gradient_scratch(own.lanes)),
            )

        self._workers.divide(len(own.input_gates) * own.hidden_size, flops, weights, step=TILE_ROWS)
        panels = lease.exact(("panels, backward",), columns * own.padded_input, own.dtype)
        weight = parameters[own.weight_ih]
        pack_rows(weight, own.input_gates, own.hidden_size, padded, 0, own.padded_input, panels)
        d_vectors = gradient[self._embedding.names[0]].reshape(-1)

        def embedded(begin: int, end: int) -> None:
            input_gradient(
                sums,
                sums,
                columns,
                padded,
                own.hidden_size,
                begin,
                end,
                self._identity,
                own.input_gates,
                weight,
                panels,
                np.empty(INPUT_ROWS * own.padded_input, dtype=own.dtype),
                d_vectors,
                rows,
                size,
                False,
            )

        self._workers.divide(len(rows), flops, embedded)
