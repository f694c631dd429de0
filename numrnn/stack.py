"""A stack of recurrent layers over ragged batches: forward, and backward through time.

This is the engine under the layers and the estimators. It owns no parameters: every call is given them, by PyTorch's
names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numrnn.buffers import Buffers, Lease, aligned_zeros, read_only
from numrnn.direction import Direction, DirectionPass, Dropout, Rows
from numrnn.kernels.cpu.matmul import add_rows, multiply
from numrnn.kernels.cpu.pooling import pool_max, pool_max_adjoint, pool_mean, pool_mean_adjoint
from numrnn.kernels.equations import CELLS
from numrnn.packing import Packing, Sequences
from numrnn.workers import Workers

__all__ = ["MOST_ADVANCED", "POOLINGS", "PackedWeights", "RecurrentPass", "RecurrentStack", "States"]

POOLINGS = ("last", "mean", "max")

# Floating-point operations that are worth a thread of their own.
_FLOPS_PER_THREAD = 4_000_000
# The most sequences that `advance` takes; more have enough work in them to go the general way.
MOST_ADVANCED = 64

# Between the dropout seeds of neighbouring windows of time.
_WINDOW_STRIDE = 1_000_003

States = list[NDArray]
Task = Callable[[], None]


class RecurrentPass:
    """What one forward pass leaves behind: its results, and if it was for training, what the backward pass needs.

    Attributes
    ----------
    output : ndarray
        Without pooling, the hidden states of the top layer, `(n_steps, output_size)`, sequence after sequence. With
        pooling, `(n_sequences, output_size)`.
    state : list of ndarray
        The final state of each layer and direction, each `(n_states, n_sequences, hidden_size)`.
    """

    output: NDArray

    def __init__(self, sequences: Sequences, pooling: str | None, training: bool, lease: Lease) -> None:
        self.sequences = sequences
        self.packing = Packing(sequences.lengths)
        self.pooling = pooling
        self.training = training
        # The masks between layers.
        self.dropout: Dropout | None = None
        self.lease = lease
        self.state: States = []
        self.directions: list[DirectionPass] = []
        # Which time step holds each maximum, for max pooling; where the outputs of a sequence begin, without pooling.
        self.max_steps: NDArray | None = None
        self.output_starts: NDArray | None = None


class RecurrentStack:
    """Stacked, optionally bidirectional layers of one recurrent cell.

    Parameters
    ----------
    cell : {"rnn_tanh", "rnn_relu", "lstm", "gru"}
    input_size : int
        Features of one time step.
    hidden_sizes : tuple of int
        Units of each layer, from the input up.
    bidirectional : bool, default=False
        Whether every layer also walks its sequences from their ends; the outputs of both directions are joined.
    dropout : float, default=0.0
        Probability with which an output of every layer but the last is zeroed in training.
    recurrent_dropout : float, default=0.0
        Probability with which, in training, a unit of the hidden state is zeroed on its way into the product with
        `weight_hh`, the same units at all time steps of a sequence (Gal and Ghahramani, 2016). The other ways of the
        state are not touched: not the LSTM's cell state, not the part of the hidden state that a GRU carries over by
        its convex combination (its reset and candidate gates do see ``mask * h`` in their products), not the outputs.
    residual : bool, default=False
        Whether the input of a layer, as the layer sees it, is added to its output, wherever the two are of one size and
        the layer is not the first. Final states are those of the cells; pooling sees the sums.
    dtype : {"float32", "float64"}, default="float32"
    workers : Workers, default=None
        The threads to use. None makes a pool over all processors.
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_sizes: tuple[int, ...],
        *,
        bidirectional: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        residual: bool = False,
        dtype: DTypeLike = "float32",
        workers: Workers | None = None,
    ) -> None:
        if cell not in CELLS:
            raise ValueError(f"cell must be one of {', '.join(map(repr, CELLS))}, got {cell!r}")
        self.cell = CELLS[cell]
        self.input_size = input_size
        self.hidden_sizes = tuple(hidden_sizes)
        self.n_directions = 2 if bidirectional else 1
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.residual = residual
        self.dtype = np.dtype(dtype)
        self.workers = Workers() if workers is None else workers
        self.n_states = self.cell.n_states
        self.output_size = self.hidden_sizes[-1] * self.n_directions
        self._buffers = Buffers()
        self._workspaces: list[NDArray] = []
        self._identity = np.arange(256, dtype=np.int64)
        self._layers: list[list[Direction]] = []
        size = input_size
        for layer, hidden_size in enumerate(self.hidden_sizes):
            reverses = (False, True)[: self.n_directions]
            self._layers.append([Direction(cell, layer, r, size, hidden_size, self.dtype) for r in reverses])
            size = hidden_size * self.n_directions

    # ------------------------------------------------------------------------------------------------- parameters
    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters, in PyTorch's order."""
        return {name: shape for layer in self._layers for direction in layer for name, shape in direction.shapes()}

    def initialize(self, parameters: Mapping[str, NDArray], rng: np.random.RandomState) -> None:
        """Write initial values.

        Input weights are uniform with the variance of Glorot and Bengio (2010), recurrent weights orthogonal in every
        gate (Saxe, McClelland and Ganguli, 2014; the identity for rectified units, Le, Jaitly and Hinton, 2015), biases
        zero but for a forget gate of one (Gers, Schmidhuber and Cummins, 2000).
        """
        gates = self.cell.n_gates
        for direction in (direction for layer in self._layers for direction in layer):
            size = direction.hidden_size
            bound = np.sqrt(6.0 / (direction.input_size + size))
            parameters[direction.weight_ih][...] = rng.uniform(-bound, bound, (gates * size, direction.input_size))
            blocks = parameters[direction.weight_hh].reshape(gates, size, size)
            for gate in range(gates):
                if self.cell.name == "rnn_relu":
                    blocks[gate] = np.eye(size)
                else:
                    q, r = np.linalg.qr(rng.standard_normal((size, size)))
                    blocks[gate] = q * np.where(np.diag(r) < 0, -1.0, 1.0)
            parameters[direction.bias_ih][...] = 0
            parameters[direction.bias_hh][...] = 0
            if self.cell.forget_gate is not None:
                parameters[direction.bias_ih].reshape(gates, size)[self.cell.forget_gate] = 1

    # ---------------------------------------------------------------------------------------------------- forward
    def forward(
        self,
        parameters: Mapping[str, NDArray],
        sequences: Sequences,
        *,
        state: States | None = None,
        pooling: str | None = None,
        training: bool = False,
        dropout_seed: int = 0,
        output: NDArray | None = None,
        output_starts: NDArray | None = None,
        packed: PackedWeights | None = None,
    ) -> RecurrentPass:
        """Run the layers over a batch.

        Parameters
        ----------
        parameters : mapping of str to ndarray
        sequences : Sequences
            Lengths may be zero: such a sequence has no output, and its state passes through.
        state : list of ndarray, default=None
            Initial state of each layer and direction, `(n_states, n_sequences, hidden_size)`. None is zero.
        pooling : {None, "last", "mean", "max"}, default=None
            How the outputs of the time steps become one output of the sequence. "last" joins the final hidden states of
            both directions.
        training : bool, default=False
            Whether to keep what `backward` needs, and to apply dropout.
        dropout_seed : int, default=0
            Chooses the dropout masks. Windows of time of the same sequences should have seeds that agree in the low 32
            bits, which alone choose the masks of recurrent states, and differ in the bits above.
        output, output_starts : ndarray, default=None
            Without pooling, a contiguous array `(n_rows, output_size)` to write to instead of a new one, and the row in
            it of the first time step of every sequence.
        packed : PackedWeights, default=None
            Weights of these parameters from earlier passes, if they have not changed since.

        Returns
        -------
        RecurrentPass
        """
        lease = self._buffers.lease()
        run = RecurrentPass(sequences, pooling, training, lease)
        recurrent_dropout = None
        if training and self.dropout > 0:
            run.dropout = Dropout(self.dropout, dropout_seed + _WINDOW_STRIDE * (dropout_seed >> 32))
        if training and self.recurrent_dropout > 0:
            recurrent_dropout = Dropout(self.recurrent_dropout, dropout_seed)
        packing = run.packing
        n_rows = packing.n_rows
        identity = self._rows(max(n_rows, packing.n_sequences))
        input_rows = packing.rows(sequences.starts)
        inputs = Rows(sequences.values.reshape(-1), input_rows, sequences.n_features)
        if pooling is None:
            if output is None:
                output = np.empty((n_rows, self.output_size), dtype=self.dtype)
                output_starts = np.cumsum(sequences.lengths) - sequences.lengths
            assert output_starts is not None
            run.output_starts = output_starts
        for number, layer in enumerate(self._layers):
            width = self.hidden_sizes[number] * self.n_directions
            is_top = number == len(self._layers) - 1
            target: Rows | None
            if is_top and pooling is None:
                assert output is not None and output_starts is not None
                same = output_starts is sequences.starts
                output_rows = input_rows if same else packing.rows(output_starts)
                target = Rows(output.reshape(-1), output_rows, width)
            elif is_top and pooling == "last":
                target = None
            else:
                target = Rows(lease.at_least(("output", number), n_rows * width, self.dtype), identity, width)
            tasks: list[Task] = []
            counters: list[NDArray] = []
            for direction, initial in zip(layer, self._of_layer(state, number), strict=True):
                mine = direction.begin(packing, inputs, initial, training, recurrent_dropout, lease)
                run.directions.append(mine)
                place = _columns_of(target, direction)
                shares = direction.shares(packing, self._n_threads(n_rows * direction.step_flops))
                cache = PackedWeights(self, parameters, lease) if packed is None else packed
                weights = [cache.of(direction, share.unit_begin, share.units) for share in shares]
                tasks += direction.forward_tasks(mine, weights, shares, identity, place, training, lease)
                counters += [shares[0].counter] if shares[0].n_threads > 1 else []
            self.workers.run(tasks, counters=counters)
            for direction, mine in zip(layer, run.directions[-len(layer) :], strict=True):
                run.state.append(direction.unsorted_state(mine.state, packing))
            if target is not None:
                if self.is_residual(number):
                    add_rows(
                        read_only(inputs.flat),
                        inputs.pitch,
                        inputs.table,
                        n_rows,
                        width,
                        target.flat,
                        target.table,
                        target.pitch,
                    )
                if not is_top:
                    if run.dropout is not None:
                        run.dropout.apply(target.flat, n_rows, width, width, number)
                    inputs = Rows(target.flat, identity, width)
        if pooling is None:
            assert output is not None
            run.output = output
        elif target is None:
            run.output = np.concatenate([final[0] for final in run.state[-self.n_directions :]], axis=1)
            if self.is_residual(len(self._layers) - 1):
                by_row = inputs.flat.reshape(n_rows, inputs.pitch)
                for sequence_order, rows, columns in self._last_rows(packing):
                    run.output[sequence_order, columns] += by_row[rows, columns]
        else:
            run.output = self._pool(run, target.flat.reshape(n_rows, self.output_size))
        if not training:
            lease.release()
        return run

    def is_residual(self, layer: int) -> bool:
        """Whether the input of that layer is added to its output."""
        return self.residual and layer > 0 and self.hidden_sizes[layer - 1] == self.hidden_sizes[layer]

    def _last_rows(self, packing: Packing) -> Iterator[tuple[NDArray, NDArray, slice]]:
        """For each direction of the top layer the sequences, the packed rows of their last steps, and the columns."""
        # Those that have a time step are the first ones.
        n_sequences = int(packing.offsets[1]) if packing.n_timesteps else 0
        positions = np.arange(n_sequences)
        lasts = packing.offsets[packing.lengths[:n_sequences] - 1] + positions
        size = self.hidden_sizes[-1]
        for direction, rows in zip(self._layers[-1], (lasts, positions), strict=False):
            first = size if direction.reverse else 0
            yield packing.order[:n_sequences], rows, slice(first, first + size)

    def _pool(self, run: RecurrentPass, outputs: NDArray) -> NDArray:
        packing = run.packing
        pooled = np.zeros((packing.n_sequences, self.output_size), dtype=self.dtype)
        if run.pooling == "mean":
            totals = np.zeros(pooled.shape, dtype=np.float64)
            pool_mean(outputs, packing.offsets, packing.lengths, packing.order, totals, pooled)
        else:
            run.max_steps = np.zeros(pooled.shape, dtype=np.int64)
            pool_max(outputs, packing.offsets, packing.order, pooled, run.max_steps)
        return pooled

    def advance(
        self,
        layer: int,
        place: int,
        packed: PackedWeights,
        x: NDArray,
        states: tuple[NDArray, ...],
        results: NDArray,
    ) -> tuple[bool, bool]:
        """One time step of few sequences through one layer, with as little around the kernel as can be.

        Parameters
        ----------
        layer : int
        place : int
            Where in `states` and `results` this layer is.
        packed : PackedWeights
        x : ndarray of shape (n_sequences, n_features)
            Like all arrays here contiguous, writable and of the stack's type. At most `MOST_ADVANCED` sequences.
        states : tuple of n_states ndarray of shape (n_places, n_sequences, hidden_size)
        results : ndarray of shape (n_states + 1, n_places, n_sequences, hidden_size)
            Receives the new states, and the output once more.

        Returns
        -------
        finite_input, finite_state : bool
            Whether x and the states were finite. If not, the results are meaningless.
        """
        direction = self._layers[layer][0]
        needed = len(x) * direction.step_size
        try:
            workspace = self._workspaces.pop()
        except IndexError:
            workspace = aligned_zeros(needed, self.dtype)
        if workspace.size < needed:
            workspace = aligned_zeros(needed, self.dtype)
        weights = packed.whole.get(layer)
        if weights is None:
            weights = packed.whole[layer] = packed.of(direction, 0, direction.padded)
        finite = direction.kernels.advance(
            x, states, place, weights, workspace, self._identity, direction.padded, results
        )
        self._workspaces.append(workspace)
        return finite

    # --------------------------------------------------------------------------------------------------- backward
    def backward(
        self,
        run: RecurrentPass,
        parameters: Mapping[str, NDArray],
        d_output: NDArray | None,
        gradient: Mapping[str, NDArray],
        *,
        d_state: States | None = None,
        need_input: bool = False,
    ) -> tuple[NDArray | None, States]:
        """Gradients of everything that a forward pass in training mode read.

        Parameters
        ----------
        run : RecurrentPass
            Of ``forward(training=True)``. It is used up.
        parameters : mapping of str to ndarray
            As in that forward pass.
        d_output : ndarray or None
            Gradient of `run.output`, of its shape. None is zero.
        gradient : mapping of str to ndarray
            The gradients of the parameters are added to these arrays.
        d_state : list of ndarray, default=None
            Gradient of `run.state`. None is zero.
        need_input : bool, default=False
            Whether to compute the gradient of the input.

        Returns
        -------
        d_input : ndarray of shape (n_steps, input_size), or None
            Sequence after sequence.
        d_state : list of ndarray
            Gradient of the initial state, in the form of `run.state`.

        Raises
        ------
        RuntimeError
            If the pass was not for training, or has been used.
        """
        if not run.training:
            raise RuntimeError("backward needs a forward pass with training=True that has not been used yet")
        run.training = False
        lease, packing = run.lease, run.packing
        n_rows = packing.n_rows
        identity = self._rows(max(n_rows, packing.n_sequences))
        above = None if d_output is None else self._d_rows(run, np.ascontiguousarray(d_output, dtype=self.dtype))
        initial: list[States] = []
        for number in range(len(self._layers) - 1, -1, -1):
            layer = self._layers[number]
            runs = run.directions[number * len(layer) : (number + 1) * len(layer)]
            tasks: list[Task] = []
            counters: list[NDArray] = []
            d_states = []
            for direction, mine, final in zip(layer, runs, self._of_layer(d_state, number), strict=True):
                d_mine = direction.sorted_state("d state", final, packing, lease)
                if run.pooling == "last" and d_output is not None and number == len(self._layers) - 1:
                    first = direction.hidden_size if direction.reverse else 0
                    by_unit = d_mine.reshape(self.n_states, packing.n_sequences, direction.padded)
                    d_hidden = d_output[packing.order, first : first + direction.hidden_size]
                    by_unit[0, :, : direction.hidden_size] += d_hidden
                d_states.append(d_mine)
                place = _columns_of(above, direction)
                shares = direction.shares(packing, self._n_threads(n_rows * direction.step_flops))
                tasks += direction.backward_tasks(mine, parameters, shares, identity, place, d_mine, lease)
                counters += [shares[0].counter] if shares[0].n_threads > 1 else []
            self.workers.run(tasks, counters=counters)
            initial.append([d.unsorted_state(flat, packing) for d, flat in zip(layer, d_states, strict=True)])
            parts = self._n_threads(n_rows * layer[0].step_flops)
            tasks = []
            for direction, mine in zip(layer, runs, strict=True):
                tasks += direction.weight_gradient_tasks(mine, identity, parts, lease)
            self.workers.run(tasks)
            for direction, mine in zip(layer, runs, strict=True):
                direction.add_gradients(mine, gradient, identity, lease)
            if number > 0 or need_input:
                below = self._input_gradient(layer, runs, parameters, identity, lease)
                if self.is_residual(number):
                    self._add_residual_gradient(run, number, d_output, above, below)
                above = below
            if number > 0 and run.dropout is not None:
                assert above is not None
                width = self.hidden_sizes[number - 1] * self.n_directions
                run.dropout.apply(above.flat, n_rows, width, above.pitch, number - 1)
        d_input = None
        if need_input:
            assert above is not None
            lengths = run.sequences.lengths
            d_input = np.empty((n_rows, self.input_size), dtype=self.dtype)
            by_row = above.flat.reshape(n_rows, above.pitch)[:, : self.input_size]
            d_input[packing.rows(np.cumsum(lengths) - lengths)] = by_row
        lease.release()
        return d_input, [state for states in reversed(initial) for state in states]

    def _d_rows(self, run: RecurrentPass, d_output: NDArray) -> Rows | None:
        """The gradient of the outputs of the top layer's time steps; None where pooling uses the final states alone."""
        packing = run.packing
        if run.pooling is None:
            assert run.output_starts is not None
            return Rows(d_output.reshape(-1), packing.rows(run.output_starts), self.output_size)
        if run.pooling == "last":
            return None
        flat = run.lease.at_least(("d pooled",), packing.n_rows * self.output_size, self.dtype)
        d_outputs = flat.reshape(packing.n_rows, self.output_size)
        if run.pooling == "mean":
            pool_mean_adjoint(d_output, packing.offsets, packing.lengths, packing.order, d_outputs)
        else:
            pool_max_adjoint(d_output, packing.offsets, packing.order, run.max_steps, d_outputs)
        return Rows(flat, self._rows(packing.n_rows), self.output_size)

    def _input_gradient(
        self,
        layer: list[Direction],
        runs: list[DirectionPass],
        parameters: Mapping[str, NDArray],
        identity: NDArray,
        lease: Lease,
    ) -> Rows:
        """Gradient of one layer's input, in packed rows of a whole number of vectors."""
        n_rows, pitch = runs[0].packing.n_rows, layer[0].padded_input
        d_inputs = lease.at_least(("d input", layer[0].key), n_rows * pitch, self.dtype)
        zero = lease.exact(("zero",), pitch, self.dtype)
        panels = [direction.input_panels_backward(parameters, lease) for direction in layer]

        def rows(begin: int, end: int) -> None:
            start, start0, start_pitch = zero, 0, 0
            for direction, mine, mine_panels in zip(layer, runs, panels, strict=True):
                multiply(
                    read_only(mine.saved),
                    begin * direction.slots,
                    identity,
                    0,
                    end - begin,
                    direction.slots,
                    mine_panels,
                    0,
                    direction.input_columns,
                    pitch,
                    start,
                    start0,
                    start_pitch,
                    d_inputs,
                    begin * pitch,
                    pitch,
                )
                start, start0, start_pitch = d_inputs, begin * pitch, pitch

        parts = self._n_threads(n_rows * layer[0].step_flops)
        bounds = [n_rows * part // parts for part in range(parts + 1)]
        self.workers.run([partial(rows, *pair) for pair in pairwise(bounds)])
        return Rows(d_inputs, identity, pitch)

    def _add_residual_gradient(
        self, run: RecurrentPass, number: int, d_output: NDArray | None, above: Rows | None, below: Rows
    ) -> None:
        """Add the gradient of a layer's output to that of its input."""
        n_rows = run.packing.n_rows
        if above is not None:
            width = self.hidden_sizes[number] * self.n_directions
            add_rows(
                read_only(above.flat), above.pitch, above.table, n_rows, width, below.flat, below.table, below.pitch
            )
        elif d_output is not None and number == len(self._layers) - 1:
            by_row = below.flat.reshape(n_rows, below.pitch)
            for sequence_order, rows, columns in self._last_rows(run.packing):
                by_row[rows, columns] += d_output[sequence_order, columns]

    # ---------------------------------------------------------------------------------------------------- helpers
    def _rows(self, count: int) -> NDArray:
        """0, 1, 2, ... for at least `count` rows: the table of matrices whose rows lie in order."""
        count = max(count, 256)
        # Another thread may replace the table by a shorter one at any moment.
        table = self._identity
        if len(table) < count:
            self._identity = table = np.arange(2 * count, dtype=np.int64)
        return table

    def _of_layer(self, states: States | None, number: int) -> States | list[None]:
        if states is None:
            return [None] * self.n_directions
        return states[number * self.n_directions : (number + 1) * self.n_directions]

    def _n_threads(self, flops: int) -> int:
        """Threads for one direction of a layer that has that much work; both directions run at once."""
        return max(1, min(self.workers.n // self.n_directions, flops // _FLOPS_PER_THREAD))


class PackedWeights:
    """The weights of a stack in the kernels' layout, packed when first asked for.

    Parameters
    ----------
    stack : RecurrentStack
    parameters : mapping of str to ndarray
        They must not change while this is in use.
    lease : Lease, default=None
        Where the memory comes from, for the length of one pass. None is memory of its own.
    """

    def __init__(self, stack: RecurrentStack, parameters: Mapping[str, NDArray], lease: Lease | None = None) -> None:
        self._stack = stack
        self._parameters = parameters
        self._lease = lease
        self._made: dict[tuple, NDArray] = {}
        # All units of a layer in one direction, by its number.
        self.whole: dict[int, NDArray] = {}

    def of(self, direction: Direction, unit_begin: int, units: int) -> NDArray:
        """The weights of some units of a direction."""
        key = ("packed", direction.key, unit_begin, units)
        weights = self._made.get(key)
        if weights is None:
            size, dtype = direction.packed_size(units), direction.dtype
            memory = aligned_zeros(size, dtype) if self._lease is None else self._lease.exact(key, size, dtype)
            weights = direction.pack(self._parameters, unit_begin, units, self._stack._rows(0), memory)
            self._made[key] = weights
        return weights


def _columns_of(rows: Rows | None, direction: Direction) -> Rows | None:
    """The columns of a direction in a matrix that joins the outputs of both."""
    if rows is None or not direction.reverse:
        return rows
    return Rows(rows.flat, rows.table, rows.pitch, direction.hidden_size)
