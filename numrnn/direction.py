"""One recurrent layer in one direction: from named parameters to calls of the kernels, and back to named gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from numrnn.buffers import Lease, read_only
from numrnn.kernels.cpu.dropout import dropout
from numrnn.kernels.cpu.matmul import (
    SUM_COLUMNS,
    SUM_PITCH,
    SUM_ROWS,
    multiply_transposed,
    pack_columns,
    pack_rows,
    unpack_columns,
)
from numrnn.kernels.cpu.recurrent import RECURRENT
from numrnn.kernels.equations import CELLS
from numrnn.kernels.jit import COMPILED
from numrnn.kernels.simd import PANEL_VECTORS, TILE_ROWS, lane_count
from numrnn.packing import Packing

__all__ = ["Direction", "DirectionPass", "Dropout", "Rows", "Share"]

Task = Callable[[], None]

# Scratch for pre-activations that are computed ahead of the recurrence: they should still be in the second-level cache
# when the recurrence reads them.
_SCRATCH_BYTES = 256 * 1024
# The masks of recurrent states are drawn from streams of their own, those between layers from the layer's number.
_RECURRENT_STREAM = 2**31
# Weights that one core cannot keep in its second-level cache beside everything else.
_LARGE_WEIGHTS = 768 * 1024


def _run_all(tasks: list[Task]) -> None:
    for task in tasks:
        task()


@dataclass(frozen=True)
class Dropout:
    """Inverted dropout: what is kept is scaled so that its expected value stays.

    Parameters
    ----------
    probability : float
        Of an element to be zeroed.
    seed : int
        Its low 32 bits count.
    """

    probability: float
    seed: int

    def apply(self, flat: NDArray, n_rows: int, n_columns: int, pitch: int, stream: int) -> None:
        """Multiply rows of a matrix by the mask that belongs to the stream, a number below 2**32."""
        if n_rows == 0:
            return
        threshold = min(round(self.probability * 2**32), 2**32 - 1)
        scale = np.asarray(1 / (1 - self.probability), dtype=flat.dtype)[()]
        key = np.uint32(self.seed & 0xFFFFFFFF), np.uint32(stream)
        dropout(flat, n_rows, n_columns, pitch, *key, np.uint32(threshold), scale)


@dataclass(frozen=True)
class Rows:
    """A matrix as the kernels address it: packed row r of a batch is row `table[r]`, from column `column` on."""

    flat: NDArray
    table: NDArray
    pitch: int
    column: int = 0


@dataclass(frozen=True)
class Share:
    """The part of a pass that one thread does: sequences, units, and with how many others it meets around a counter."""

    begin: int
    end: int
    unit_begin: int
    units: int
    counter: NDArray
    n_threads: int


@dataclass
class DirectionPass:
    """The arrays of one direction during one pass over a batch; the kernels' documentation says what they hold.

    Without dropout of the recurrent state there is no `mask`, and its product reads the state itself.
    """

    packing: Packing
    inputs: Rows
    state: NDArray
    saved: NDArray
    previous: NDArray
    mask: NDArray | None = None
    hidden: NDArray | None = None
    previous_hidden: NDArray | None = None
    products: dict[str, tuple[NDArray, NDArray]] = field(default_factory=dict)


class Direction:
    """Sizes, names of parameters and private layouts of one layer in one direction.

    Parameters
    ----------
    cell : str
    layer : int
    reverse : bool
        Whether it walks its sequences from their ends.
    input_size, hidden_size : int
    dtype : dtype
    """

    def __init__(
        self, cell: str, layer: int, reverse: bool, input_size: int, hidden_size: int, dtype: np.dtype
    ) -> None:
        self.cell = CELLS[cell]
        self.kernels = RECURRENT[cell]
        self.key = (layer, reverse)
        self.reverse = reverse
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.dtype = dtype
        self.lanes = lane_count(dtype)
        self.padded = self._pad(hidden_size)
        self.padded_input = self._pad(input_size)
        self.slots = self.cell.n_slots * self.padded
        # Scratch of one sequence for the single-step kernel.
        self.step_size = self.slots + self.cell.n_states * self.padded + input_size
        self.input_gates = np.array(self.cell.input_gates, dtype=np.int64)
        self.hidden_gates = np.array(self.cell.hidden_gates, dtype=np.int64)
        self.input_columns = len(self.input_gates) * self.padded
        self.hidden_columns = len(self.hidden_gates) * self.padded
        suffix = f"_l{layer}" + ("_reverse" if reverse else "")
        self.weight_ih, self.weight_hh = "weight_ih" + suffix, "weight_hh" + suffix
        self.bias_ih, self.bias_hh = "bias_ih" + suffix, "bias_hh" + suffix

    def _pad(self, size: int) -> int:
        return -(-size // self.lanes) * self.lanes

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of the parameters."""
        rows = self.cell.n_gates * self.hidden_size
        yield self.weight_ih, (rows, self.input_size)
        yield self.weight_hh, (rows, self.hidden_size)
        yield self.bias_ih, (rows,)
        yield self.bias_hh, (rows,)

    @property
    def step_flops(self) -> int:
        """Floating-point operations of one time step of one sequence, forward."""
        return 2 * (self.input_columns * self.input_size + self.hidden_columns * self.hidden_size)

    # ----------------------------------------------------------------------------------------------------- states
    def sorted_state(self, purpose: str, state: NDArray | None, packing: Packing, lease: Lease) -> NDArray:
        """A state (n_states, n_sequences, hidden_size) in the caller's order, sorted and padded for the kernels."""
        n_states, n_sequences = self.cell.n_states, packing.n_sequences
        flat = lease.at_least((purpose, self.key), n_states * n_sequences * self.padded, self.dtype)
        flat.fill(0)
        if state is not None:
            sorted_ = state if packing.in_order else state[:, packing.order]
            flat.reshape(n_states, n_sequences, self.padded)[:, :, : self.hidden_size] = sorted_
        return flat

    def unsorted_state(self, flat: NDArray, packing: Packing) -> NDArray:
        """The inverse of `sorted_state`, in memory of its own."""
        n_states, n_sequences = self.cell.n_states, packing.n_sequences
        sorted_ = flat.reshape(n_states, n_sequences, self.padded)[:, :, : self.hidden_size]
        if packing.in_order:
            return sorted_.copy()
        state = np.empty((n_states, n_sequences, self.hidden_size), dtype=self.dtype)
        state[:, packing.order] = sorted_
        return state

    # ---------------------------------------------------------------------------------------------------- forward
    def begin(
        self,
        packing: Packing,
        inputs: Rows,
        initial: NDArray | None,
        training: bool,
        recurrent_dropout: Dropout | None,
        lease: Lease,
    ) -> DirectionPass:
        """Take the arrays for a pass."""
        kept = packing.n_rows if training else 0
        run = DirectionPass(
            packing,
            inputs,
            self.sorted_state("state", initial, packing, lease),
            lease.at_least(("saved", self.key), kept * self.slots, self.dtype),
            lease.at_least(("previous", self.key), kept * self.cell.n_states * self.padded, self.dtype),
        )
        if recurrent_dropout is not None:
            size = packing.n_sequences * self.padded
            run.mask = lease.at_least(("mask", self.key), size, self.dtype)
            run.hidden = lease.at_least(("hidden", self.key), size, self.dtype)
            run.previous_hidden = lease.at_least(("previous hidden", self.key), kept * self.padded, self.dtype)
            # Drawn in the caller's order of the sequences, which is the same in every window of time.
            masks = np.ones((packing.n_sequences, self.padded), dtype=self.dtype)
            stream = _RECURRENT_STREAM + 2 * self.key[0] + self.reverse
            recurrent_dropout.apply(masks.reshape(-1), packing.n_sequences, self.padded, self.padded, stream)
            np.take(masks, packing.order, axis=0, out=run.mask.reshape(masks.shape))
            np.multiply(run.state[:size], run.mask, out=run.hidden)
        return run

    def packed_size(self, units: int) -> int:
        """Elements of what `pack` writes for that many units."""
        by_unit = (
            len(self.input_gates) * self.input_size + len(self.hidden_gates) * self.hidden_size + self.cell.n_slots
        )
        return units * by_unit

    def pack(
        self, parameters: Mapping[str, NDArray], unit_begin: int, units: int, identity: NDArray, packed: NDArray
    ) -> NDArray:
        """Write the weights of some units as the forward kernels want them: weight_ih, weight_hh, biases by slot.

        Padding must be zero in `packed` before.
        """
        size = self.hidden_size
        hidden = len(self.input_gates) * units * self.input_size
        bias = hidden + len(self.hidden_gates) * units * size
        pack_columns(parameters[self.weight_ih], self.input_gates, size, unit_begin, units, identity, packed[:hidden])
        pack_columns(
            parameters[self.weight_hh], self.hidden_gates, size, unit_begin, units, identity, packed[hidden:bias]
        )
        own = slice(unit_begin, min(unit_begin + units, size))
        slots = packed[bias:].reshape(self.cell.n_slots, units)[:, : own.stop - own.start]
        by_gate = (self.cell.n_gates, size)
        # Both biases, summed where a slot has both.
        slots[...] = 0
        slots[: len(self.input_gates)] += parameters[self.bias_ih].reshape(by_gate)[self.input_gates, own]
        slots[-len(self.hidden_gates) :] += parameters[self.bias_hh].reshape(by_gate)[self.hidden_gates, own]
        return packed

    def shares(self, packing: Packing, n_threads: int) -> list[Share]:
        """Divide the work of a pass among threads: by units if the weights are large, else by sequences."""
        vectors = self.padded // self.lanes
        weights = self.packed_size(self.padded) * self.dtype.itemsize
        if n_threads > 1 and vectors >= n_threads and weights >= _LARGE_WEIGHTS and COMPILED:
            bounds = [vectors * i // n_threads * self.lanes for i in range(n_threads + 1)]
            counter = np.zeros(1, dtype=np.int64)
            return [Share(0, packing.n_sequences, a, b - a, counter, n_threads) for a, b in pairwise(bounds)]
        n_threads = min(n_threads, packing.n_sequences)
        bounds = [0, packing.n_sequences]
        if n_threads > 1:
            steps = np.cumsum(packing.lengths)
            inner = np.searchsorted(steps, steps[-1] * np.arange(1, n_threads) / n_threads, side="left") + 1
            bounds[1:1] = np.minimum(inner, packing.n_sequences).tolist()
        alone = np.zeros(1, dtype=np.int64)
        return [Share(a, b, 0, self.padded, alone, 1) for a, b in pairwise(bounds) if b > a or len(bounds) == 2]

    def forward_tasks(
        self,
        run: DirectionPass,
        weights: list[NDArray],
        shares: list[Share],
        identity: NDArray,
        output: Rows | None,
        training: bool,
        lease: Lease,
    ) -> Iterator[Task]:
        """Calls that do one share each, with the packed weights of its units."""
        packing = run.packing
        target = output if output is not None else Rows(run.state, identity, 0)
        for share, packed in zip(shares, weights, strict=True):
            slots = self.cell.n_slots * share.units
            scratch_rows = _SCRATCH_BYTES // (slots * self.dtype.itemsize)
            n_own = share.end - share.begin
            capacity = max(n_own, min(scratch_rows, int(packing.lengths[share.begin : share.end].sum())))
            yield partial(
                self.kernels.forward,
                read_only(run.inputs.flat),
                run.inputs.table,
                run.inputs.pitch,
                self.input_size,
                packed,
                self.hidden_size,
                self.padded,
                run.state,
                run.state if run.hidden is None else run.hidden,
                run.state if run.mask is None else run.mask,
                packing.n_sequences,
                packing.offsets,
                identity,
                self.reverse,
                share.begin,
                share.end,
                share.unit_begin,
                share.units,
                share.counter,
                share.n_threads,
                lease.at_least(("scratch",), capacity * slots, self.dtype),
                lease.at_least(("scratch rows",), capacity, np.int64),
                run.saved,
                run.previous,
                run.previous if run.previous_hidden is None else run.previous_hidden,
                target.flat,
                target.table,
                target.column,
                target.pitch,
                training,
                output is not None,
                run.mask is not None,
            )

    # --------------------------------------------------------------------------------------------------- backward
    def backward_tasks(
        self,
        run: DirectionPass,
        parameters: Mapping[str, NDArray],
        shares: list[Share],
        identity: NDArray,
        d_output: Rows | None,
        d_state: NDArray,
        lease: Lease,
    ) -> Iterator[Task]:
        """Calls that go back through time, one share each."""
        source = d_output if d_output is not None else Rows(d_state, identity, 0)
        panels: dict[int, NDArray] = {}
        for share in shares:
            if share.unit_begin not in panels:
                key = ("hidden panels, backward", self.key, share.unit_begin)
                mine = lease.exact(key, self.hidden_columns * share.units, self.dtype)
                weight = parameters[self.weight_hh]
                pack_rows(weight, self.hidden_gates, self.hidden_size, self.padded, share.unit_begin, share.units, mine)
                panels[share.unit_begin] = mine
            yield partial(
                self.kernels.backward,
                run.saved,
                run.previous,
                panels[share.unit_begin],
                self.hidden_size,
                self.padded,
                d_state,
                d_state if run.hidden is None else run.hidden,
                d_state if run.mask is None else run.mask,
                run.packing.n_sequences,
                run.packing.offsets,
                identity,
                self.reverse,
                share.begin,
                share.end,
                share.unit_begin,
                share.units,
                share.counter,
                share.n_threads,
                read_only(source.flat),
                source.table,
                source.column,
                source.pitch,
                d_output is not None,
                run.mask is not None,
            )

    def weight_gradient_tasks(self, run: DirectionPass, identity: NDArray, parts: int, lease: Lease) -> Iterator[Task]:
        """Calls that compute the products behind the gradients, divided among threads by rows of the products.

        Every element is summed over the time steps in their order, so that the division does not change a bit of it.
        """
        previous = Rows(run.previous, identity, self.cell.n_states * self.padded)
        if run.previous_hidden is not None:
            previous = Rows(run.previous_hidden, identity, self.padded)
        # The rows of both products, one after the other, in whole tiles.
        total = self.input_size + self.hidden_size
        bounds = [min(total, -(-total * part // (parts * TILE_ROWS)) * TILE_ROWS) for part in range(parts)] + [total]
        calls: list[list[Task]] = [[] for _ in range(parts)]
        for name, left, depth, columns, before in (
            ("ih", run.inputs, self.input_size, self.input_columns, 0),
            ("hh", previous, self.hidden_size, self.hidden_columns, self.input_size),
        ):
            product = lease.at_least(("product", name, self.key), depth * columns, self.dtype)
            sums = lease.at_least(("sums", name, self.key), columns, self.dtype)
            run.products[name] = product, sums
            for part in range(parts):
                k_begin, k_end = max(0, bounds[part] - before), min(depth, bounds[part + 1] - before)
                if k_begin >= k_end:
                    continue
                calls[part].append(
                    partial(
                        multiply_transposed,
                        read_only(left.flat),
                        left.column,
                        left.table,
                        run.packing.n_rows,
                        left.pitch,
                        k_begin,
                        k_end,
                        identity,
                        run.saved,
                        0 if name == "ih" else self.slots - columns,
                        self.slots,
                        columns,
                        lease.at_least(("panel",), SUM_ROWS * PANEL_VECTORS * self.lanes, self.dtype),
                        lease.at_least(("block",), SUM_PITCH * SUM_COLUMNS, self.dtype),
                        product,
                        sums,
                    )
                )
        for mine in calls:
            yield partial(_run_all, mine)

    def add_gradients(
        self, run: DirectionPass, gradient: Mapping[str, NDArray], identity: NDArray, lease: Lease
    ) -> None:
        """Add the finished products to the named gradients."""
        size, padded = self.hidden_size, self.padded
        square = lease.at_least(("square",), self.lanes**2, self.dtype)
        for name, weight, bias, gates in (
            ("ih", self.weight_ih, self.bias_ih, self.input_gates),
            ("hh", self.weight_hh, self.bias_hh, self.hidden_gates),
        ):
            product, sums = run.products[name]
            unpack_columns(product, gates, size, padded, identity, square, gradient[weight])
            gradient[bias].reshape(self.cell.n_gates, size)[gates] += sums.reshape(len(gates), padded)[:, :size]

    def input_panels_backward(self, parameters: Mapping[str, NDArray], lease: Lease) -> NDArray:
        """weight_ih, packed for the product that gives the gradient of the input."""
        size = self.input_columns * self.padded_input
        panels = lease.exact(("input panels, backward", self.key), size, self.dtype)
        weight = parameters[self.weight_ih]
        pack_rows(weight, self.input_gates, self.hidden_size, self.padded, 0, self.padded_input, panels)
        return panels
