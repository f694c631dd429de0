"""One recurrent layer in one direction: from named parameters to calls of the kernels, and back to named gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numrnn.buffers import Lease, aligned_zeros, read_only
from numrnn.kernels.cpu.dropout import dropout
from numrnn.kernels.cpu.gradients import input_gradient, weight_gradient_scratch, weight_gradients
from numrnn.kernels.cpu.matmul import pack_layer, pack_rows
from numrnn.kernels.cpu.pairs import pair_columns, pair_rows
from numrnn.kernels.cpu.recurrent import RECURRENT
from numrnn.kernels.equations import CELLS
from numrnn.kernels.jit import COMPILED
from numrnn.kernels.simd import FEW_ROWS, TILE_ROWS, lane_count
from numrnn.packing import Packing

__all__ = ["Direction", "DirectionPass", "Dropout", "Rows", "Share"]

Task = Callable[[], None]

# Scratch for pre-activations that are computed ahead of the recurrence: they should still be in the second-level cache
# when the recurrence reads them.
_SCRATCH_BYTES = 256 * 1024
# The masks of recurrent states are drawn from streams of their own, those between layers from the layer's number.
_RECURRENT_STREAM = 2**31
# Weights that one core cannot keep in its second-level cache beside everything else, and the sequences of a thread that
# use them often enough, whenever they come, for it to do without others.
_LARGE_WEIGHTS = 768 * 1024
_ENOUGH_SEQUENCES = 8
# Time steps for which the recurrent weights are not packed on the way back, if there are few sequences.
_FEW_STEPS = 4


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
        if n_rows:
            dropout(flat, n_rows, n_columns, pitch, *self.mask(stream, flat.dtype))

    def mask(self, stream: int, dtype: np.dtype) -> tuple[np.uint32, np.uint32, np.uint32, Any]:
        """What determines the mask of a stream: seed, stream, threshold, and the factor of what is kept."""
        threshold = min(round(self.probability * 2**32), 2**32 - 1)
        scale = np.asarray(1 / (1 - self.probability), dtype=dtype)[()]
        return np.uint32(self.seed & 0xFFFFFFFF), np.uint32(stream), np.uint32(threshold), scale


class Rows(NamedTuple):
    """A matrix as the kernels address it: packed row r of a batch is row `table[r]`, from column `column` on.

    What they only read is read-only here, since they are compiled once.
    """

    flat: NDArray
    table: NDArray
    pitch: int
    column: int = 0


class Share(NamedTuple):
    """The part of a pass that one thread does: sequences, units, and with how many others it meets around a counter."""

    begin: int
    end: int
    unit_begin: int
    units: int
    counter: NDArray
    n_threads: int


@dataclass
class DirectionPass:
    """The memory of one direction for passes over batches of one packing; the kernels say what it holds.

    Without dropout of the recurrent state there is no `mask`, and its product reads the state itself, unless products
    are of bfloat16. In these `hidden` and `d_factors`, the gradients of the pre-activations, are pairs.

    Attributes
    ----------
    forward_arguments, backward_arguments : list of tuple
        For each share what its kernels are given in every pass; made when first needed.
    inputs : Rows
        Of the present pass.
    """

    packing: Packing
    identity: NDArray
    shares: list[Share]
    training: bool
    state: NDArray
    saved: NDArray
    previous: NDArray
    mask: NDArray | None
    hidden: NDArray | None
    previous_hidden: NDArray | None
    d_factors: NDArray
    inputs: Rows | None = None
    forward_arguments: list[tuple[Any, ...]] = field(default_factory=list)
    backward_arguments: list[tuple[Any, ...]] = field(default_factory=list)
    hidden_panels: dict[int, NDArray] = field(default_factory=dict)
    input_panels: NDArray | None = None

    @property
    def counter(self) -> NDArray | None:
        """Where the threads of a pass meet, if they do."""
        return self.shares[0].counter if self.shares[0].n_threads > 1 else None

    @property
    def read_by_product(self) -> tuple[NDArray, int]:
        """What the recurrent products have read, and the elements from one row to the next."""
        if self.previous_hidden is not None:
            return read_only(self.previous_hidden), self.previous_hidden.size // max(self.packing.n_rows, 1)
        return read_only(self.previous), self.previous.size // max(self.packing.n_rows, 1)


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
    narrow : bool, default=False
        Whether the factors of products are rounded to bfloat16; for float32.
    """

    def __init__(
        self,
        cell: str,
        layer: int,
        reverse: bool,
        input_size: int,
        hidden_size: int,
        dtype: np.dtype,
        narrow: bool = False,
    ) -> None:
        self.cell = CELLS[cell]
        self.kernels = RECURRENT[cell]
        self.key = (layer, reverse)
        self.reverse = reverse
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.dtype = dtype
        self.narrow = narrow
        # The type of the arrays that hold factors, and how many of them an element holds.
        self.factor_dtype = np.dtype(np.uint32) if narrow else dtype
        self.per_element = 2 if narrow else 1
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
        # What stands for an array that is not given.
        self._no_states = np.empty((self.cell.n_states, 0, 0), dtype=dtype)
        self._no_matrix = read_only(np.empty((0, 0), dtype=dtype))
        self._nothing = np.empty(0, dtype=dtype)
        self._nowhere = Rows(np.empty(0, dtype=dtype), np.empty(0, dtype=np.int64), 0)
        self._nowhere_read = Rows(read_only(self._nothing), self._nowhere.table, 0)
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

    # ---------------------------------------------------------------------------------------------------- the memory
    def begin(
        self, packing: Packing, n_threads: int, training: bool, masked: bool, identity: NDArray, lease: Lease
    ) -> DirectionPass:
        """Take the memory for passes over batches of that packing, and divide the work."""
        kept = packing.n_rows if training else 0
        size = packing.n_sequences * self.padded
        n_states = self.cell.n_states
        run = DirectionPass(
            packing,
            identity,
            self.shares(packing, n_threads),
            training,
            lease.at_least(("state", self.key), n_states * size, self.dtype),
            lease.at_least(("saved", self.key), kept * self.slots, self.dtype),
            lease.at_least(("previous", self.key), kept * n_states * self.padded, self.dtype),
            lease.at_least(("mask", self.key), size, self.dtype) if masked else None,
            self._factors(("hidden", self.key), size, lease) if masked or self.narrow else None,
            lease.at_least(("previous hidden", self.key), kept * self.padded, self.dtype) if masked else None,
            self._nothing,
        )
        run.d_factors = self._factors(("d factors", self.key), run.saved.size, lease) if self.narrow else run.saved
        for share in run.shares:
            slots = self.cell.n_slots * share.units
            rows = int(packing.lengths[share.begin : share.end].sum())
            capacity = max(share.end - share.begin, min(self.scratch_rows(share.units), rows))
            n_factors = capacity * self.padded_input
            inputs = self._factors(("input factors",), n_factors, lease) if self.narrow else run.state
            run.forward_arguments.append(
                (
                    self.input_size,
                    self.hidden_size,
                    self.padded,
                    run.state,
                    run.state if run.hidden is None else run.hidden,
                    run.state if run.mask is None else run.mask,
                    masked,
                    packing.n_sequences,
                    packing.offsets,
                    packing.order,
                    identity,
                    self.reverse,
                    *share,
                    lease.at_least(("scratch",), capacity * slots, self.dtype),
                    lease.at_least(("scratch rows",), capacity, np.int64),
                    run.saved,
                    run.previous,
                    run.previous if run.previous_hidden is None else run.previous_hidden,
                    training,
                    inputs,
                )
            )
        return run

    def factors(self, size: int) -> NDArray:
        """New memory for so many factors of products, zero."""
        return aligned_zeros(-(-size // self.per_element), self.factor_dtype)

    def _factors(self, purpose: tuple, size: int, lease: Lease) -> NDArray:
        """Scratch for so many factors of products."""
        return lease.at_least(purpose, -(-size // self.per_element), self.factor_dtype)

    def scratch_rows(self, units: int) -> int:
        """Rows of pre-activations, of that many units, that are computed ahead of the recurrence."""
        return _SCRATCH_BYTES // (self.cell.n_slots * units * self.dtype.itemsize)

    @property
    def is_large(self) -> bool:
        """Whether its weights are too large for one core."""
        return self.packed_size(self.padded, self.narrow) * self.dtype.itemsize >= _LARGE_WEIGHTS

    def _prepare_backward(self, run: DirectionPass, lease: Lease) -> None:
        """The memory that only the way back needs."""
        packing = run.packing
        # For few rows packing would be most of the work.
        few = packing.n_sequences <= FEW_ROWS and packing.n_timesteps <= _FEW_STEPS
        packed = self.narrow or not few or self.hidden_size % self.lanes > 0
        d_state = lease.at_least(("d state", self.key), run.state.size, self.dtype)
        d_hidden = d_state
        if run.mask is not None:
            d_hidden = lease.at_least(("d hidden", self.key), run.mask.size, self.dtype)
        for share in run.shares:
            if share.unit_begin not in run.hidden_panels:
                key = ("hidden panels, backward", self.key, share.unit_begin)
                size = self.hidden_columns // self.per_element * share.units if packed else 0
                run.hidden_panels[share.unit_begin] = lease.exact(key, size, self.dtype) if packed else self._nothing
            run.backward_arguments.append(
                (
                    self.hidden_gates,
                    self.hidden_size,
                    self.padded,
                    d_state,
                    d_hidden,
                    d_state if run.mask is None else run.mask,
                    run.mask is not None,
                    packing.n_sequences,
                    packing.offsets,
                    packing.order,
                    run.identity,
                    self.reverse,
                    *share,
                    run.saved,
                    run.previous,
                    run.d_factors,
                )
            )
        if self.narrow or packing.n_rows > FEW_ROWS or self.input_size % self.lanes > 0:
            size = self.input_columns // self.per_element * self.padded_input
            run.input_panels = lease.exact(("input panels, backward", self.key), size, self.dtype)
        else:
            run.input_panels = self._nothing

    @property
    def mask_stream(self) -> int:
        """The stream of the masks of the recurrent states."""
        return _RECURRENT_STREAM + 2 * self.key[0] + self.reverse

    def draw_mask(self, run: DirectionPass, recurrent_dropout: Dropout) -> None:
        """Choose the units of the hidden state that the recurrent product of a pass does not see."""
        assert run.mask is not None
        packing = run.packing
        # Drawn in the caller's order of the sequences, which is the same in every window of time.
        masks = np.ones((packing.n_sequences, self.padded), dtype=self.dtype)
        recurrent_dropout.apply(masks.reshape(-1), packing.n_sequences, self.padded, self.padded, self.mask_stream)
        np.take(masks, packing.order, axis=0, out=run.mask.reshape(masks.shape))

    def packed_size(self, units: int, narrow: bool = False) -> int:
        """Elements of what `pack` writes for that many units."""
        per_element = 2 if narrow else 1
        input_depth, hidden_depth = (-(-size // per_element) for size in (self.input_size, self.hidden_size))
        by_unit = len(self.input_gates) * input_depth + len(self.hidden_gates) * hidden_depth + self.cell.n_slots
        return units * by_unit

    def pack(
        self,
        parameters: Mapping[str, NDArray],
        unit_begin: int,
        units: int,
        identity: NDArray,
        packed: NDArray,
        narrow: bool = False,
    ) -> NDArray:
        """Write the weights of some units as the forward kernels want them: weight_ih, weight_hh, biases by slot.

        Padding must be zero in `packed` before. Returns it, as an array of pairs if they are to be `narrow`.
        """
        weight_ih, weight_hh = parameters[self.weight_ih], parameters[self.weight_hh]
        pack_layer(
            self._in_pairs(weight_ih) if narrow else weight_ih,
            self._in_pairs(weight_hh) if narrow else weight_hh,
            parameters[self.bias_ih],
            parameters[self.bias_hh],
            self.input_gates,
            self.hidden_gates,
            self.cell.n_slots,
            self.hidden_size,
            unit_begin,
            units,
            identity,
            packed,
        )
        return packed.view(np.uint32) if narrow else packed

    # A matrix of pairs is packed as if it were one of numbers, whose bits nobody looks at.
    def _in_pairs(self, weight: NDArray) -> NDArray:
        """A weight in pairs of neighbours of a row."""
        n_rows, depth = weight.shape[0], -(-weight.shape[1] // 2)
        pairs = np.empty(n_rows * depth + self.lanes, np.uint32)
        pair_columns(weight, pairs)
        return pairs[: n_rows * depth].view(np.float32).reshape(n_rows, depth)

    def _pack_rows(self, weight: NDArray, gates: NDArray, column_begin: int, columns: int, panels: NDArray) -> NDArray:
        """`pack_rows` of some columns of a weight, as the factors of a product. Returns the panels."""
        padded, size = self.padded // self.per_element, -(-self.hidden_size // self.per_element)
        if self.narrow:
            n_rows, n_columns = len(weight) // self.hidden_size * size, weight.shape[1]
            pairs = np.empty(n_rows * n_columns + self.lanes, np.uint32)
            pair_rows(weight, self.hidden_size, pairs)
            weight = pairs[: n_rows * n_columns].view(np.float32).reshape(n_rows, n_columns)
        pack_rows(weight, gates, size, padded, column_begin, columns, panels)
        return panels.view(self.factor_dtype)

    def shares(self, packing: Packing, n_threads: int) -> list[Share]:
        """Divide the work of a pass among threads: by units if weights are large and sequences few, else by these."""
        if n_threads > 1:
            vectors = self.padded // self.lanes
            # On average over the time steps.
            few = packing.n_rows < _ENOUGH_SEQUENCES * n_threads * packing.n_timesteps
            if few and vectors >= n_threads and self.is_large and COMPILED:
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

    # ---------------------------------------------------------------------------------------------------- forward
    def forward_tasks(
        self,
        run: DirectionPass,
        weights: list[NDArray],
        initial: NDArray | None,
        final: NDArray,
        place: int,
        output: Rows | None,
    ) -> list[Task]:
        """Calls that do one share each, with the packed weights of its units.

        initial (n_states, n_sequences, hidden_size) and final (n_states, n_places, n_sequences, hidden_size) are states
        in the caller's order of the sequences.
        """
        inputs = run.inputs
        assert inputs is not None
        target = self._nowhere if output is None else output
        counter = run.counter
        if counter is not None:
            counter[0] = 0
        given = self._no_states if initial is None else np.ascontiguousarray(initial)
        return [
            partial(
                self.kernels.forward,
                inputs.flat,
                inputs.table,
                inputs.pitch,
                packed,
                given,
                initial is not None,
                final,
                place,
                target.flat,
                target.table,
                target.column,
                target.pitch,
                output is not None,
                *fixed,
            )
            for packed, fixed in zip(weights, run.forward_arguments, strict=True)
        ]

    def run_alone(
        self,
        run: DirectionPass,
        source: NDArray,
        rows: NDArray,
        pitch: int,
        weights: NDArray,
        initial: NDArray | None,
        final: NDArray,
        place: int,
        target: NDArray,
        target_rows: NDArray,
        target_pitch: int,
    ) -> None:
        """The only share of a pass, at once: the arguments of `forward_tasks`, matrices as `Rows` has them."""
        self.kernels.forward(
            source,
            rows,
            pitch,
            weights,
            self._no_states if initial is None else np.ascontiguousarray(initial),
            initial is not None,
            final,
            place,
            target,
            target_rows,
            0,
            target_pitch,
            True,
            *run.forward_arguments[0],
        )

    # --------------------------------------------------------------------------------------------------- backward
    def backward_tasks(
        self,
        run: DirectionPass,
        parameters: Mapping[str, NDArray],
        d_final: NDArray | None,
        d_last: NDArray | None,
        d_initial: NDArray,
        place: int,
        d_output: Rows | None,
        lease: Lease,
    ) -> list[Task]:
        """Calls that go back through time, one share each.

        d_final and d_initial as the states of `forward_tasks`; d_last (n_sequences, ...) is the gradient of the final
        hidden states of the layer, both directions joined, from pooling.
        """
        if not run.backward_arguments:
            self._prepare_backward(run, lease)
        weight = parameters[self.weight_hh]
        counter = run.counter
        if counter is not None:
            counter[0] = 0
        source = self._nowhere_read if d_output is None else d_output
        given = self._no_states if d_final is None else np.ascontiguousarray(d_final)
        column = self.hidden_size if self.reverse else 0
        tasks: list[Task] = []
        done: set[int] = set()
        for share, fixed in zip(run.shares, run.backward_arguments, strict=True):
            panels = run.hidden_panels[share.unit_begin]
            if panels.size and share.unit_begin not in done:
                done.add(share.unit_begin)
                self._pack_rows(weight, self.hidden_gates, share.unit_begin, share.units, panels)
            tasks.append(
                partial(
                    self.kernels.backward,
                    weight,
                    panels.view(self.factor_dtype),
                    given,
                    d_final is not None,
                    self._no_matrix if d_last is None else d_last,
                    d_last is not None,
                    d_initial,
                    place,
                    source.flat,
                    source.table,
                    column,
                    source.pitch,
                    d_output is not None,
                    *fixed,
                )
            )
        return tasks

    def weight_gradient_tasks(
        self, run: DirectionPass, gradient: Mapping[str, NDArray], parts: int, lease: Lease
    ) -> Iterator[Task]:
        """Calls that add to the gradients of the parameters, divided among threads by gates and units.

        Every element is summed over the time steps in their order, so that the division does not change a bit of it.
        """
        inputs = run.inputs
        assert inputs is not None
        hidden, hidden_pitch = run.read_by_product
        targets = [gradient[name] for name in (self.weight_ih, self.bias_ih, self.weight_hh, self.bias_hh)]
        n_factors, n_sums = weight_gradient_scratch(self.lanes)
        # In whole tiles.
        total = self.cell.n_slots * self.hidden_size
        bounds = [min(total, -(-total * part // (parts * TILE_ROWS)) * TILE_ROWS) for part in range(parts)] + [total]
        for begin, end in pairwise(bounds):
            yield partial(
                weight_gradients,
                run.saved,
                run.packing.n_rows,
                self.slots,
                self.padded,
                self.hidden_size,
                begin,
                end,
                run.identity,
                self.input_gates,
                inputs.flat,
                inputs.table,
                inputs.pitch,
                targets[0],
                targets[1],
                self.hidden_gates,
                hidden,
                hidden_pitch,
                targets[2],
                targets[3],
                self._factors(("factors of sums",), n_factors, lease),
                lease.at_least(("sums",), n_sums, self.dtype),
            )

    def input_gradient_call(
        self, run: DirectionPass, parameters: Mapping[str, NDArray], d_input: Rows, is_first: bool
    ) -> Callable[[int, int, NDArray], None]:
        """A function of packed rows, from and to, and scratch, that writes the gradients of their inputs.

        They are added to those of the other direction, unless this one `is_first`.
        """
        weight = parameters[self.weight_ih]
        panels = run.input_panels
        assert panels is not None
        if panels.size:
            panels = self._pack_rows(weight, self.input_gates, 0, self.padded_input, panels)

        def call(begin: int, end: int, scratch: NDArray) -> None:
            input_gradient(
                run.saved,
                run.d_factors,
                self.slots,
                self.padded,
                self.hidden_size,
                begin,
                end,
                run.identity,
                self.input_gates,
                weight,
                panels,
                scratch,
                d_input.flat,
                d_input.table,
                d_input.pitch,
                is_first,
            )

        return call
