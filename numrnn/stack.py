"""A stack of recurrent layers over ragged batches: forward, and backward through time.

This is the engine under the layers and the estimators. It owns no parameters: every call is given them, by PyTorch's
names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numrnn.bfloat16 import check_matmul_precision
from numrnn.buffers import Buffers, Lease, aligned_zeros, read_only
from numrnn.direction import Direction, DirectionPass, Dropout, Rows
from numrnn.kernels.cpu.gradients import INPUT_ROWS
from numrnn.kernels.cpu.matmul import add_rows
from numrnn.kernels.cpu.pooling import pool_max, pool_max_adjoint, pool_mean, pool_mean_adjoint
from numrnn.kernels.equations import CELLS
from numrnn.packing import Packing, Sequences
from numrnn.workers import Workers

__all__ = ["MOST_ADVANCED", "POOLINGS", "PackedWeights", "RecurrentPass", "RecurrentStack", "States"]

POOLINGS = ("last", "mean", "max")

# As many sequences are run by `infer`; what surrounds the kernels is nothing beside more of them.
_FEW_SEQUENCES = 8
# The most sequences that `advance` takes; more have enough work in them to go the general way.
MOST_ADVANCED = 64

# Between the dropout seeds of neighbouring windows of time.
_WINDOW_STRIDE = 1_000_003

States = list[NDArray]
Task = Callable[[], None]


class _Plan:
    """How batches of some lengths are walked, and the memory for it, which serves one pass at a time.

    Small plans are kept: to make one takes a part of the time of a short pass.
    """

    # Plans with more memory than this, in bytes, are made anew for every pass, those between the two numbers unless
    # batches of the same lengths follow each other: else passes would go through the memory of many plans in turn.
    KEPT_BYTES = 2**22
    ALWAYS_KEPT_BYTES = 2**19

    def __init__(
        self,
        lengths: NDArray,
        layers: list[list[Direction]],
        threads: list[int],
        training: bool,
        masked: bool,
        identity: NDArray,
        lease: Lease,
    ) -> None:
        self.packing = Packing(lengths)
        self.identity = identity
        self.lease = lease
        self.layers = [
            [direction.begin(self.packing, n_threads, training, masked, identity, lease) for direction in layer]
            for layer, n_threads in zip(layers, threads, strict=True)
        ]
        # Into how many parts the work that follows the way back through time is divided, layer by layer.
        self.parts = threads
        self._in_sequence_order: NDArray | None = None
        self._in_caller_order: NDArray | None = None
        # Between layers: outputs of each layer, and gradients of its inputs.
        self.outputs: dict[int, Rows] = {}
        self.d_inputs: dict[int, Rows] = {}

    def in_sequence_order(self) -> NDArray:
        """The table of the rows of a matrix in which sequence comes after sequence."""
        if self._in_sequence_order is None:
            lengths = np.empty_like(self.packing.lengths)
            lengths[self.packing.order] = self.packing.lengths
            self._in_sequence_order = self.packing.rows(np.cumsum(lengths) - lengths)
        return self._in_sequence_order

    def in_caller_order(self) -> NDArray:
        """The same for sequences of one length, in the caller's order."""
        if self._in_caller_order is None:
            self._in_caller_order = self.packing.rows(np.cumsum(self.packing.lengths) - self.packing.lengths)
        return self._in_caller_order

    def between(self, rows: dict[int, Rows], purpose: str, number: int, width: int, dtype: np.dtype) -> Rows:
        """A matrix in packed order."""
        matrix = rows.get(number)
        if matrix is None:
            flat = self.lease.at_least((purpose, number), self.packing.n_rows * width, dtype)
            matrix = rows[number] = Rows(flat, self.identity, width)
        return matrix


class RecurrentPass:
    """What one forward pass leaves behind: its results, and if it was for training, what the backward pass needs.

    Attributes
    ----------
    output : ndarray
        Without pooling, the hidden states of the top layer, `(n_steps, output_size)`, sequence after sequence. With
        pooling, `(n_sequences, output_size)`.
    final : list of ndarray
        The final states. If all layers are of one size one array `(n_states, n_layers * n_directions, n_sequences,
        hidden_size)`, else one for each layer.
    d_initial : list of ndarray
        After the backward pass, the gradients of the initial states in the same form.
    """

    output: NDArray
    d_initial: list[NDArray]

    def __init__(
        self, sequences: Sequences, plan: _Plan, key: tuple[Any, ...], pooling: str | None, training: bool, lease: Lease
    ) -> None:
        self.sequences = sequences
        self.plan = plan
        self.key = key
        self.pooling = pooling
        self.training = training
        # The masks between layers.
        self.dropout: Dropout | None = None
        self.lease = lease
        self.final: list[NDArray] = []
        # Which time step holds each maximum, for max pooling; where the outputs of a sequence begin, without pooling.
        self.max_steps: NDArray | None = None
        self.output_starts: NDArray | None = None

    @property
    def packing(self) -> Packing:
        return self.plan.packing

    @property
    def directions(self) -> list[DirectionPass]:
        """What the kernels have kept of each layer and direction, in the order of `state`."""
        return [kept for layer in self.plan.layers for kept in layer]

    @property
    def state(self) -> States:
        """The final state of each layer and direction, each `(n_states, n_sequences, hidden_size)`."""
        return _by_place(self.final)


def _by_place(blocks: list[NDArray]) -> States:
    return [block[:, place] for block in blocks for place in range(block.shape[1])]


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
    matmul_precision : {None, "bfloat16"}, default=None
        "bfloat16" rounds the factors of all products to it; sums, states and whatever is kept stay float32. Not those
        of `advance`. Can be set to the other at any time.
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
        matmul_precision: str | None = None,
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
        self._is_uniform = len(set(self.hidden_sizes)) == 1
        check_matmul_precision(matmul_precision, self.dtype)
        self._matmul_precision = matmul_precision
        self._buffers = Buffers()
        # What the plan of the last pass was for.
        self._last_key: tuple[Any, ...] = ()
        self._workspaces: list[NDArray] = []
        self._identity = np.arange(256, dtype=np.int64)
        self._layers = self._make_layers()

    def _make_layers(self) -> list[list[Direction]]:
        layers: list[list[Direction]] = []
        size = self.input_size
        for layer, hidden_size in enumerate(self.hidden_sizes):
            reverses = (False, True)[: self.n_directions]
            form = size, hidden_size, self.dtype, self._matmul_precision == "bfloat16"
            layers.append([Direction(self.cell.name, layer, reverse, *form) for reverse in reverses])
            size = hidden_size * self.n_directions
        return layers

    @property
    def matmul_precision(self) -> str | None:
        """See the parameter."""
        return self._matmul_precision

    @matmul_precision.setter
    def matmul_precision(self, precision: str | None) -> None:
        if precision != self._matmul_precision:
            check_matmul_precision(precision, self.dtype)
            self._matmul_precision = precision
            # Plans know their directions, and `Lease.exact` what lies in the padding.
            self._buffers = Buffers()
            self._layers = self._make_layers()

    def without_input_weights(self) -> RecurrentStack:
        """The same layers, but the first one is given the pre-activations that its input would make.

        For layers of one direction. A row of its input has the product with `weight_ih` and the biases that
        `pack_layer` adds to it, the units of each gate padded. The parameter `weight_ih_l0` has no columns.
        """
        return RecurrentStack(
            self.cell.name,
            0,
            self.hidden_sizes,
            dropout=self.dropout,
            recurrent_dropout=self.recurrent_dropout,
            residual=self.residual,
            dtype=self.dtype,
            matmul_precision=self.matmul_precision,
            workers=self.workers,
        )

    @property
    def directions(self) -> list[list[Direction]]:
        """The directions of every layer, from the input up."""
        return self._layers

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
        rows: NDArray[np.int64] | None = None,
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
        rows : ndarray of int64, shape (n_steps,), default=None
            The row of `sequences.values` that each time step reads, sequence after sequence, where it is not the place
            of the time step: rows may be shared.

        Returns
        -------
        RecurrentPass
        """
        masked = training and self.recurrent_dropout > 0
        key = (sequences.lengths.tobytes(), training, masked)
        plan = self._buffers.take(key) or self._plan(sequences.lengths, training, masked)
        packing, identity = plan.packing, plan.identity
        n_rows, n_sequences = packing.n_rows, packing.n_sequences
        lease = self._buffers.lease()
        run = RecurrentPass(sequences, plan, key, pooling, training, lease)
        recurrent_dropout = Dropout(self.recurrent_dropout, dropout_seed) if masked else None
        if training and self.dropout > 0:
            run.dropout = self.dropout_of(dropout_seed)
        if packed is None:
            packed = PackedWeights(self, parameters, lease)
        run.final = self._state_blocks(n_sequences)
        input_rows = packing.rows(sequences.starts) if rows is None else rows[plan.in_sequence_order()]
        inputs = Rows(read_only(sequences.values.reshape(-1)), input_rows, sequences.n_features)
        if pooling is None:
            if output is None:
                output = np.empty((n_rows, self.output_size), dtype=self.dtype)
                output_starts = np.cumsum(sequences.lengths) - sequences.lengths
            assert output_starts is not None
            run.output_starts = output_starts
        top = len(self._layers) - 1
        target: Rows | None = None
        for number, (layer, runs) in enumerate(zip(self._layers, plan.layers, strict=True)):
            width = self.hidden_sizes[number] * self.n_directions
            if number == top and pooling is None:
                assert output is not None and output_starts is not None
                same = output_starts is sequences.starts
                output_rows = input_rows if same else packing.rows(output_starts)
                target = Rows(output.reshape(-1), output_rows, width)
            elif number == top and pooling == "last":
                target = None
            else:
                target = plan.between(plan.outputs, "output", number, width, self.dtype)
            tasks: list[Task] = []
            counters: list[NDArray] = []
            for direction, mine, initial in zip(layer, runs, self._of_layer(state, number), strict=True):
                mine.inputs = inputs
                if recurrent_dropout is not None:
                    direction.draw_mask(mine, recurrent_dropout)
                weights = [packed.of(direction, share.unit_begin, share.units) for share in mine.shares]
                block, place = self._place(number, direction)
                columns = _columns_of(target, direction)
                tasks += direction.forward_tasks(mine, weights, initial, run.final[block], place, columns)
                if mine.counter is not None:
                    counters.append(mine.counter)
            self.workers.run(tasks, counters=counters)
            if target is not None:
                if self.is_residual(number):
                    table, pitch = target.table, target.pitch
                    add_rows(inputs.flat, inputs.pitch, inputs.table, n_rows, width, target.flat, table, pitch)
                if number < top:
                    if run.dropout is not None:
                        run.dropout.apply(target.flat, n_rows, width, width, number)
                    inputs = Rows(read_only(target.flat), identity, width)
        if pooling is None:
            assert output is not None
            run.output = output
        elif target is None:
            run.output = np.concatenate([final[0] for final in run.state[-self.n_directions :]], axis=1)
            if self.is_residual(top):
                by_row = inputs.flat.reshape(n_rows, inputs.pitch)
                for sequence_order, rows, columns_ in self._last_rows(packing):
                    run.output[sequence_order, columns_] += by_row[rows, columns_]
        else:
            run.output = self._pool(run, target.flat.reshape(n_rows, self.output_size))
        if not training:
            self._finish(run)
        return run

    def infer(self, x: NDArray, state: States | None, packed: PackedWeights, output: NDArray) -> list[NDArray] | None:
        """As `forward` for sequences of one length without pooling, with as little around the kernels as can be.

        Parameters
        ----------
        x : ndarray of shape (n_sequences, n_timesteps, n_features)
            Contiguous and of the stack's type.
        state : list of ndarray or None
        packed : PackedWeights
        output : ndarray of shape (n_sequences, n_timesteps, output_size)
            Receives the hidden states of the top layer.

        Returns
        -------
        final : list of ndarray or None
            As `RecurrentPass.final`; None, and nothing is done, if the pass is large enough for several threads or has
            more than the kernels to it.
        """
        n_sequences, n_timesteps, n_features = x.shape
        if n_sequences > _FEW_SEQUENCES or self.n_directions > 1 or self.residual:
            return None
        key = n_sequences, n_timesteps
        plan = self._buffers.take(key)
        if plan is None:
            lengths = np.full(n_sequences, n_timesteps, dtype=np.int64)
            if max(self._n_threads(n_sequences * n_timesteps * layer[0].step_flops) for layer in self._layers) > 1:
                return None
            plan = self._plan(lengths, False, False)
        rows = plan.in_caller_order()
        final = self._state_blocks(n_sequences)
        source, table, pitch = read_only(x.reshape(-1)), rows, n_features
        top = len(self._layers) - 1
        for number, ((direction,), (run,)) in enumerate(zip(self._layers, plan.layers, strict=True)):
            weights = packed.whole.get(number)
            if weights is None:
                weights = packed.whole[number] = packed.of(direction, 0, direction.padded)
            if number < top:
                width = direction.hidden_size
                flat, target_rows, *_ = plan.between(plan.outputs, "output", number, width, self.dtype)
            else:
                flat, target_rows, width = output.reshape(-1), rows, self.output_size
            block, place = (0, number) if self._is_uniform else (number, 0)
            initial = None if state is None else state[number]
            direction.run_alone(
                run, source, table, pitch, weights, initial, final[block], place, flat, target_rows, width
            )
            source, table, pitch = read_only(flat) if number < top else flat, target_rows, width
        self._keep(key, plan)
        return final

    def _plan(self, lengths: NDArray, training: bool, masked: bool) -> _Plan:
        n_rows = int(lengths.sum())
        threads = [self._n_threads(n_rows * layer[0].step_flops) for layer in self._layers]
        identity = self._rows(max(n_rows, len(lengths)))
        return _Plan(lengths, self._layers, threads, training, masked, identity, self._buffers.lease())

    def _finish(self, run: RecurrentPass) -> None:
        """Give the memory of a pass back."""
        run.lease.release()
        plan = run.plan
        for mine in (mine for runs in plan.layers for mine in runs):
            mine.inputs = None
        self._keep(run.key, plan)

    def _keep(self, key: tuple[Any, ...], plan: _Plan) -> None:
        """Keep a plan for the next batch of the same lengths, or give its memory back."""
        most = plan.KEPT_BYTES if key == self._last_key else plan.ALWAYS_KEPT_BYTES
        self._last_key = key
        if plan.lease.n_bytes > most or not self._buffers.keep(key, plan):
            plan.lease.release()

    def _state_blocks(self, n_sequences: int) -> list[NDArray]:
        """Arrays for the states of all layers, as `RecurrentPass.final` describes them."""
        n_states, sizes, dtype = self.n_states, self.hidden_sizes, self.dtype
        if self._is_uniform:
            return [np.empty((n_states, len(sizes) * self.n_directions, n_sequences, sizes[0]), dtype)]
        return [np.empty((n_states, self.n_directions, n_sequences, size), dtype) for size in sizes]

    def _place(self, number: int, direction: Direction) -> tuple[int, int]:
        """Which array of `_state_blocks` holds the state of a direction, and where in it."""
        place = int(direction.reverse)
        return (0, number * self.n_directions + place) if self._is_uniform else (number, place)

    def dropout_of(self, dropout_seed: int) -> Dropout:
        """The masks between layers that belong to a seed with a window of time above its low 32 bits."""
        return Dropout(self.dropout, dropout_seed + _WINDOW_STRIDE * (dropout_seed >> 32))

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
        weights = packed.of_steps.get(layer)
        if weights is None:
            weights = packed.of_steps[layer] = packed.of(direction, 0, direction.padded, narrow=False)
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
        visit: Callable[[DirectionPass], None] | None = None,
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
        visit : callable, default=None
            Is called with what the kernels have kept of each direction of the first layer, when `saved` holds the
            gradients of its pre-activations.

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
        lease, plan = run.lease, run.plan
        packing = plan.packing
        n_rows = packing.n_rows
        d_last = None
        if d_output is not None:
            d_output = np.ascontiguousarray(d_output, dtype=self.dtype)
            d_last = read_only(d_output) if run.pooling == "last" else None
        above = None if d_output is None else self._d_rows(run, d_output)
        run.d_initial = self._state_blocks(packing.n_sequences)
        d_input: NDArray | None = None
        for number in range(len(self._layers) - 1, -1, -1):
            layer, runs = self._layers[number], plan.layers[number]
            tasks: list[Task] = []
            counters: list[NDArray] = []
            for direction, mine, final in zip(layer, runs, self._of_layer(d_state, number), strict=True):
                block, place = self._place(number, direction)
                d_initial = run.d_initial[block]
                tasks += direction.backward_tasks(mine, parameters, final, d_last, d_initial, place, above, plan.lease)
                if mine.counter is not None:
                    counters.append(mine.counter)
            self.workers.run(tasks, counters=counters)
            parts = plan.parts[number]
            tasks = []
            for direction, mine in zip(layer, runs, strict=True):
                tasks += direction.weight_gradient_tasks(mine, gradient, parts, lease)
            self.workers.run(tasks)
            if number > 0:
                below = plan.between(plan.d_inputs, "d input", number, layer[0].input_size, self.dtype)
                self._input_gradient(layer, runs, parameters, below, parts, lease)
                if self.is_residual(number):
                    self._add_residual_gradient(run, number, d_output, above, below)
                if run.dropout is not None:
                    run.dropout.apply(below.flat, n_rows, below.pitch, below.pitch, number - 1)
                above = Rows(read_only(below.flat), below.table, below.pitch)
            elif need_input:
                d_input = np.empty((n_rows, self.input_size), dtype=self.dtype)
                rows = plan.in_sequence_order()
                self._input_gradient(
                    layer, runs, parameters, Rows(d_input.reshape(-1), rows, self.input_size), parts, lease
                )
            elif visit is not None:
                for mine in runs:
                    visit(mine)
            d_last = None
        self._finish(run)
        return d_input, _by_place(run.d_initial)

    def _d_rows(self, run: RecurrentPass, d_output: NDArray) -> Rows | None:
        """The gradient of the outputs of the top layer's time steps; None where pooling uses the final states alone."""
        packing = run.packing
        if run.pooling is None:
            assert run.output_starts is not None
            return Rows(read_only(d_output.reshape(-1)), packing.rows(run.output_starts), self.output_size)
        if run.pooling == "last":
            return None
        flat = run.lease.at_least(("d pooled",), packing.n_rows * self.output_size, self.dtype)
        d_outputs = flat.reshape(packing.n_rows, self.output_size)
        if run.pooling == "mean":
            pool_mean_adjoint(d_output, packing.offsets, packing.lengths, packing.order, d_outputs)
        else:
            pool_max_adjoint(d_output, packing.offsets, packing.order, run.max_steps, d_outputs)
        return Rows(read_only(flat), run.plan.identity, self.output_size)

    def _input_gradient(
        self,
        layer: list[Direction],
        runs: list[DirectionPass],
        parameters: Mapping[str, NDArray],
        d_input: Rows,
        parts: int,
        lease: Lease,
    ) -> None:
        """Write the gradient of one layer's input."""
        calls = [
            direction.input_gradient_call(mine, parameters, d_input, number == 0)
            for number, (direction, mine) in enumerate(zip(layer, runs, strict=True))
        ]

        def rows(begin: int, end: int, scratch: NDArray) -> None:
            for call in calls:
                call(begin, end, scratch)

        n_rows = runs[0].packing.n_rows
        bounds = [n_rows * part // parts for part in range(parts + 1)]
        size = INPUT_ROWS * layer[0].padded_input
        self.workers.run(
            [partial(rows, *pair, lease.at_least(("input rows",), size, self.dtype)) for pair in pairwise(bounds)]
        )

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
        return max(1, min(self.workers.n // self.n_directions, self.workers.worth(flops)))


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
        # All units of a layer in one direction, by its number: for `infer`, and for `advance`.
        self.whole: dict[int, NDArray] = {}
        self.of_steps: dict[int, NDArray] = {}

    def of(self, direction: Direction, unit_begin: int, units: int, narrow: bool | None = None) -> NDArray:
        """The weights of some units of a direction; None is in the precision of its products."""
        narrow = direction.narrow if narrow is None else narrow
        key = ("packed", direction.key, unit_begin, units, narrow)
        weights = self._made.get(key)
        if weights is None:
            size, dtype = direction.packed_size(units, narrow), direction.dtype
            memory = aligned_zeros(size, dtype) if self._lease is None else self._lease.exact(key, size, dtype)
            weights = direction.pack(self._parameters, unit_begin, units, self._stack._rows(0), memory, narrow)
            self._made[key] = weights
        return weights


def _columns_of(rows: Rows | None, direction: Direction) -> Rows | None:
    """The columns of a direction in a matrix that joins the outputs of both."""
    if rows is None or not direction.reverse:
        return rows
    return Rows(rows.flat, rows.table, rows.pitch, direction.hidden_size)
