"""Epochs of small networks, trained without leaving compiled code between minibatches."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numrnn.buffers import aligned_zeros, read_only
from numrnn.direction import Direction
from numrnn.heads import Head
from numrnn.kernels.cpu.gradients import weight_gradient_scratch
from numrnn.kernels.cpu.losses import workspace_size
from numrnn.kernels.cpu.minibatches import (
    FINITE,
    LOSS_NOT_FINITE,
    Batches,
    Form,
    Kernels,
    Memory,
    OwnMemory,
    Samples,
    Weights,
    kernels_for,
    losses_of_minibatches,
    train_on,
)
from numrnn.kernels.cpu.readout import IDENTITY_ROWS, scratch_sizes
from numrnn.kernels.jit import COMPILED
from numrnn.kernels.simd import TILE_ROWS
from numrnn.network import Network
from numrnn.packing import Packing
from numrnn.parameters import Parameters
from numrnn.training.data import TrainingData
from numrnn.training.solvers import SGD, Adam, AdamW, RMSprop, Solver

__all__ = ["CompiledEpochs", "Ending"]

# The solvers whose updates the kernels know. A class derived from one of them may do something else.
_SOLVERS: dict[type, str] = {SGD: "sgd", Adam: "adam", AdamW: "adam", RMSprop: "rmsprop"}
# Floating-point operations of one call, after which a KeyboardInterrupt is heard: a tenth of a second at most.
_FLOPS_OF_CALL = 5_000_000_000
# Bytes that the way back needs of what the way there leaves, of as many sequences as go there and back at once.
_AT_ONCE_BYTES = 2**19


class Ending(NamedTuple):
    """How an epoch ended.

    Attributes
    ----------
    loss_sum : float
        Over the minibatches, their loss times the weight of their rows.
    not_finite : {None, "loss", "gradient"}
    loss : float
    number : int
        Loss and number of the minibatch of which something is not finite.
    """

    loss_sum: float
    not_finite: str | None = None
    loss: float = 0.0
    number: int = 0


class CompiledEpochs:
    """The memory of minibatches, and calls of the kernel that trains on them.

    Parameters
    ----------
    network : Network
        One that `takes`.
    data : TrainingData
    solver : Solver
    penalty, max_norm : float
        As in `Objective`.
    batch_size : int
    """

    def __init__(
        self, network: Network, data: TrainingData, solver: Solver, penalty: float, max_norm: float, batch_size: int
    ) -> None:
        self._network, self._data, self._solver = network, data, solver
        self._mean_weight = data.total_weight / data.n_rows
        stack, dtype = network.stack, network.dtype
        self._workers = stack.workers
        direction = self._direction = stack.directions[0][0]
        lengths = data.lengths
        self._one_length = len(lengths) > 0 and bool((lengths == lengths[0]).all())
        n_sequences = batch_size
        n_steps = data.sequences.max_length
        n_rows = n_sequences * n_steps
        flops = n_rows * direction.step_flops
        self._n_threads = min(self._workers.worth(flops), n_sequences) if COMPILED else 1
        self._batches_of_call = max(1, _FLOPS_OF_CALL // max(3 * flops, 1))
        nothing = np.empty(0, dtype=dtype)
        n_states, padded, slots = stack.n_states, direction.padded, direction.slots
        of_sequence = n_steps * (slots + n_states * padded) * dtype.itemsize
        self._form = Form(
            direction.input_size,
            direction.hidden_size,
            padded,
            direction.cell.n_slots,
            n_states,
            direction.input_gates,
            direction.hidden_gates,
            np.arange(max(n_rows, n_sequences, IDENTITY_ROWS), dtype=np.int64),
            max(TILE_ROWS, _AT_ONCE_BYTES // max(of_sequence, 1)),
            network.head.unit_rows,
            penalty,
            *network.weight_spans,
            max_norm,
            True,
            False,
            1,
            np.empty((n_states, 0, 0), dtype=dtype),
            nothing,
            read_only(nothing),
            np.empty(0, dtype=np.int64),
        )
        previous = aligned_zeros(n_rows * n_states * padded, dtype)
        d_features = np.empty((n_sequences, direction.hidden_size), dtype=dtype)
        states = (n_states, 1, n_sequences, direction.hidden_size)
        state = aligned_zeros(n_states * n_sequences * padded, dtype)
        saved = aligned_zeros(n_rows * slots, dtype)
        self._memory = Memory(
            np.empty(n_rows, dtype=np.int64),
            state,
            direction.factors(n_sequences * padded) if direction.narrow else state,
            direction.factors(n_rows * slots) if direction.narrow else saved,
            saved,
            previous,
            read_only(previous),
            np.empty(states, dtype=dtype),
            np.empty((n_sequences, network.n_outputs), dtype=dtype),
            np.empty((n_sequences, network.n_outputs), dtype=dtype),
            d_features,
            read_only(d_features),
            aligned_zeros(n_states * n_sequences * padded, dtype),
            np.empty(states, dtype=dtype),
            np.empty(n_sequences, dtype=np.float64),
            np.zeros(1, dtype=np.float64),
            np.zeros(3, dtype=np.int64),
        )
        self._own = [self._own_memory(thread, n_sequences, n_rows) for thread in range(self._n_threads)]
        self._loss_settings: list[tuple[Any, ...]] = [()] * self._n_threads
        if network.loss_name == "cross_entropy":
            size = workspace_size(network.n_outputs)
            self._loss_settings = [
                (float(network.label_smoothing), np.empty(size, dtype=np.float64)) for _ in range(self._n_threads)
            ]
        self._weights, self._gradient = (self._parts_of(flat) for flat in (network.parameters, network.gradient))
        # The kernels, for samples of these kinds.
        self._kernels: tuple[list[tuple[Any, ...]], Kernels] | None = None
        # Order, whether it is the caller's, offsets, their bounds, and shares, for these bounds of minibatches.
        self._tables: tuple[list[tuple[int, int]], tuple[NDArray, ...]] | None = None

    @staticmethod
    def takes(network: Network, data: Any, solver: Solver, bptt_steps: int | None, batch_size: int) -> bool:
        """Whether they are such as the kernel knows, and small enough for it to pay.

        Parameters
        ----------
        network, data, solver, bptt_steps, batch_size
            As for `train`.
        """
        if not (type(network) is Network and type(network.head) is Head and isinstance(data, TrainingData)):
            return False
        is_simple = (
            len(network.hidden_sizes) == 1
            and not network.bidirectional
            and network.pooling == "last"
            and not network.trunk.stages
            and not network.uses_random_numbers
            and network.loss_name in losses_of_minibatches
            and network.head.keeps_outputs
        )
        if not is_simple or type(solver) not in _SOLVERS:
            return False
        longest = data.sequences.max_length
        if bptt_steps is not None and bptt_steps < longest:
            return False
        return not network.stack.directions[0][0].is_large and network.fits_at_once(batch_size, longest)

    def _own_memory(self, thread: int, n_sequences: int, n_rows: int) -> OwnMemory:
        network, direction, dtype = self._network, self._direction, self._network.dtype
        scratch_rows = max(n_sequences, min(direction.scratch_rows(direction.padded), n_rows))
        total = direction.cell.n_slots * direction.hidden_size
        panel, block, product = (aligned_zeros(size, dtype) for size in scratch_sizes(direction.lanes))
        slot_begin, slot_end = self._part(total, thread, TILE_ROWS)
        output_begin, output_end = self._part(network.n_outputs, thread, 1)
        begin, end = self._part(network.parameters.size, thread, direction.lanes)
        n_sum_factors, n_sums = weight_gradient_scratch(direction.lanes)
        rows_of_factors = scratch_rows if direction.narrow else 0
        packed = aligned_zeros(direction.packed_size(direction.padded, direction.narrow), dtype)
        hidden_panels = direction.factors(direction.hidden_columns * direction.padded)
        return OwnMemory(
            packed.view(direction.factor_dtype),
            hidden_panels,
            packed,
            hidden_panels.view(dtype),
            *self._pairs(direction),
            aligned_zeros(scratch_rows * direction.slots, dtype),
            np.empty(scratch_rows, dtype=np.int64),
            direction.factors(rows_of_factors * direction.padded_input),
            direction.factors(n_sum_factors),
            aligned_zeros(n_sums, dtype),
            panel,
            block,
            product,
            slot_begin,
            slot_end,
            output_begin,
            output_end,
            np.array([begin], dtype=np.int64),
            np.array([end], dtype=np.int64),
        )

    @staticmethod
    def _pairs(direction: Direction) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray]:
        """Scratch for the weights in pairs: all, where the parts begin, and the parts as matrices of numbers."""
        rows = direction.cell.n_gates * direction.hidden_size
        half = -(-direction.hidden_size // 2)
        shapes = [
            (rows, -(-direction.input_size // 2)),
            (rows, half),
            (direction.cell.n_gates * half, direction.hidden_size),
        ]
        if not direction.narrow:
            shapes = [(0, 0)] * 3
        sizes = [n_rows * n_columns for n_rows, n_columns in shapes]
        # What is written beyond the end of a part must not be of the next one.
        begins = np.cumsum([0, *(-(-(size + direction.lanes) // direction.lanes) * direction.lanes for size in sizes)])
        pairs = aligned_zeros(int(begins[-1]), direction.factor_dtype)
        back, hidden, inputs = (
            pairs[begin : begin + size].view(direction.dtype).reshape(shape)
            for begin, size, shape in reversed(list(zip(begins, sizes, shapes, strict=False)))
        )
        return pairs, begins, inputs, hidden, back

    def _part(self, count: int, thread: int, step: int) -> tuple[int, int]:
        """A thread's part of so many things, in whole steps."""
        begin, end = (
            min(count, -(-count * number // (self._n_threads * step)) * step) for number in (thread, thread + 1)
        )
        return begin, end if thread < self._n_threads - 1 else count

    def _parts_of(self, values: Parameters) -> Weights:
        direction = self._direction
        names = (direction.weight_ih, direction.weight_hh, direction.bias_ih, direction.bias_hh)
        return Weights(values.flat, *(values[name] for name in (*names, "weight_out", "bias_out")))

    def _tables_of(self, bounds: list[tuple[int, int]], lengths: NDArray[np.int64]) -> tuple[NDArray, ...]:
        """What the packings of all minibatches say."""
        if self._tables is not None and self._tables[0] == bounds:
            return self._tables[1]
        order = np.empty(len(lengths), dtype=np.int64)
        in_order = np.empty(len(bounds), dtype=np.bool_)
        offset_bounds = np.empty((len(bounds), 2), dtype=np.int64)
        shares = np.empty((len(bounds), self._n_threads + 1), dtype=np.int64)
        offsets: list[NDArray] = []
        n_offsets = 0
        for number, (begin, end) in enumerate(bounds):
            packing = Packing(lengths[begin:end])
            order[begin:end] = packing.order
            in_order[number] = packing.in_order
            offset_bounds[number] = n_offsets, n_offsets + len(packing.offsets)
            offsets.append(packing.offsets)
            n_offsets += len(packing.offsets)
            shares[number] = end - begin
            own = self._direction.shares(packing, self._n_threads)
            shares[number, : len(own)] = [share.begin for share in own]
        tables = (order, in_order, np.concatenate(offsets), offset_bounds, shares)
        if self._one_length:
            self._tables = bounds, tables
        return tables

    def epoch(self, order: NDArray[np.int64] | None, bounds: list[tuple[int, int]], rate: float) -> Ending | None:
        """Train on the minibatches of one epoch, see `Minibatches`.

        Returns
        -------
        Ending or None
            None if the solver's moments are not those of this network; then nothing has been done.
        """
        solver, parameters = self._solver, self._network.parameters.flat
        solver.begin(parameters)
        of_one_form = (parameters.shape, parameters.dtype)
        if any((moment.shape, moment.dtype) != of_one_form for moment in solver.moments.values()):
            return None
        data = self._data.reorder(order)
        counts = np.array([end - begin for begin, end in bounds], dtype=np.float64)
        batch_weights = counts
        if data.weights is not None:
            batch_weights = np.array([data.weights[begin:end].sum() for begin, end in bounds], dtype=np.float64)
        with np.errstate(divide="ignore"):
            scales = np.where(batch_weights > 0, 1.0 / batch_weights, 0.0)
        factors = batch_weights / counts / self._mean_weight
        places, in_order, offsets, offset_bounds, shares = self._tables_of(bounds, data.lengths)
        batches = Batches(
            np.array(bounds, dtype=np.int64),
            places,
            in_order,
            offsets,
            offset_bounds,
            shares,
            scales,
            factors,
            data.weights is not None and len(bounds) > 1,
            np.zeros(len(bounds), dtype=np.float64),
        )
        samples = Samples(
            read_only(data.sequences.values.reshape(-1)),
            data.sequences.starts,
            data.targets,
            np.ones(len(data), dtype=np.float64) if data.weights is None else data.weights,
        )
        first_step = solver.n_updates + 1
        settings = [solver.settings_of_span(parameters, int(own.begins[0]), int(own.ends[0])) for own in self._own]
        counter = np.zeros(1, dtype=np.int64)
        ending = self._memory.ending
        # What else they are given is of the same types in every epoch.
        kinds = [(array.dtype, array.ndim, array.flags.writeable, array.flags.c_contiguous) for array in samples]
        if self._kernels is None or self._kernels[0] != kinds:
            kernels = kernels_for(
                self._network.cell,
                self._network.loss_name,
                _SOLVERS[type(solver)],
                batches,
                samples,
                self._form,
                self._weights,
                self._gradient,
                self._memory,
                self._own[0],
                settings[0],
                self._loss_settings[0],
            )
            self._kernels = kinds, kernels
        kernels = self._kernels[1]
        for first in range(0, len(bounds), self._batches_of_call):
            counter[0] = 0
            ending[:] = FINITE, first, first
            tasks = [
                partial(
                    train_on,
                    thread,
                    self._n_threads,
                    counter,
                    first,
                    min(first + self._batches_of_call, len(bounds)),
                    first_step,
                    float(rate),
                    batches,
                    samples,
                    kernels,
                    self._form,
                    self._weights,
                    self._gradient,
                    self._memory,
                    self._own[thread],
                    settings[thread],
                    self._loss_settings[thread],
                )
                for thread in range(self._n_threads)
            ]
            try:
                self._workers.run(tasks, counters=[counter] if len(tasks) > 1 else ())
            finally:
                solver.n_updates = first_step - 1 + int(ending[2])
            if ending[0] != FINITE:
                number = int(ending[1])
                what = "loss" if ending[0] == LOSS_NOT_FINITE else "gradient"
                return Ending(0.0, what, float(batches.losses[number]), number)
        loss_sum = 0.0
        for loss, weight in zip(batches.losses.tolist(), batch_weights.tolist(), strict=True):
            loss_sum += loss * weight
        return Ending(loss_sum)
