"""The decoder: recurrent layers with attention over the states of an encoder, from inputs to what a head reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numrnn.buffers import Buffers, Lease, aligned_zeros
from numrnn.direction import Dropout
from numrnn.dropout import OUTPUT_STREAM, drop
from numrnn.kernels.cpu.decoder import DECODER, Attention, Memory, Panels, squash, squash_adjoint
from numrnn.kernels.equations import CELLS
from numrnn.kernels.simd import lane_count
from numrnn.packing import Packing, balanced_ranges
from numrnn.seq2seq.projection import Matrix, Projection, identity_rows
from numrnn.workers import Workers

__all__ = ["ATTENTIONS", "INPUT_STREAM", "LAYER_STREAM", "Decoder", "DecoderPass", "Source"]

ATTENTIONS = ("additive", "multiplicative", "multihead")

# Streams of dropout masks: of the inputs, and between layers from this number on.
INPUT_STREAM = 0xFFFFFFFD
LAYER_STREAM = 2**30

Values = Mapping[str, NDArray]


class Source(NamedTuple):
    """What a decoder is given of the encoder, or instead of one.

    Attributes
    ----------
    summary : ndarray of shape (n_sequences, summary_size)
        From which the first states are made.
    states : ndarray of shape (n_rows, state_size), or None
        What the attention reads, C-contiguous, sequence after sequence.
    starts, lengths : ndarray of int64, shape (n_sequences,)
        The rows of each sequence.
    """

    summary: NDArray
    states: NDArray | None
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]


class DecoderPass(NamedTuple):
    """What a forward pass leaves behind; rows are in packed order.

    Attributes
    ----------
    features : ndarray of shape (n_rows, readout_size)
        What a head reads.
    """

    features: NDArray
    packing: Packing
    inputs: Matrix
    source: Source
    memory: Memory
    attention: Attention
    layout: NDArray[np.int64]
    previous: NDArray[np.int64]
    squashed: NDArray
    order: NDArray[np.int64]
    dropout_seed: int
    lease: Lease

    @property
    def weights(self) -> NDArray:
        """Attention of every packed row (n_rows, n_heads, longest source); arbitrary beyond its source."""
        n_rows = self.packing.n_rows
        return self.memory.weights.reshape(n_rows, self.attention.n_heads, self.attention.longest)


class Decoder:
    """Stacked recurrent layers, attention after every step, and a dense layer of tanh units over what a step knows.

    With y the input of a step, s its states, c the context: ``s_t = cell([y_t, c_(t - 1)], s_(t - 1))``, c_t is what
    the attention finds with the top hidden state s_t (c_0 = 0), and the features are ``tanh(W [s_t, c_t, y_t] + b)``.
    The first states are ``tanh(W summary + b)``, one such layer for each.

    Parameters
    ----------
    cell : str
    sizes : tuple of int
        Units of each layer.
    input_size, summary_size, state_size, readout_size : int
        Of the inputs, of `Source.summary` and `Source.states`, and of the features.
    attention : {"additive", "multiplicative", "multihead"} or None
    n_heads, attention_size : int
        Units of the additive attention, or of all heads together.
    input_feeding : bool
        Whether the context goes into the next step.
    dropout, output_dropout : float
        Between layers, and of the features.
    dtype : dtype
    workers : Workers
    """

    def __init__(
        self,
        cell: str,
        sizes: tuple[int, ...],
        *,
        input_size: int,
        summary_size: int,
        state_size: int,
        readout_size: int,
        attention: str | None,
        n_heads: int,
        attention_size: int,
        input_feeding: bool,
        dropout: float,
        output_dropout: float,
        dtype: np.dtype,
        workers: Workers,
    ) -> None:
        self.cell = CELLS[cell]
        self.kernels = DECODER[cell]
        self.sizes = sizes
        self.input_size = input_size
        self.state_size = state_size
        self.readout_size = readout_size
        self.attention = attention
        self.n_heads = n_heads if attention == "multihead" else 1
        self.attention_size = attention_size
        self.dropout = dropout
        self.output_dropout = output_dropout
        self.dtype = np.dtype(dtype)
        self.workers = workers
        self.lanes = lane_count(self.dtype)
        self._buffers = Buffers()
        top = sizes[-1]
        n_slots = self.cell.n_slots
        make = partial(Projection, dtype=self.dtype, workers=workers)
        into = partial(make, blocks=self.cell.input_gates, n_slots=n_slots)
        recur = partial(make, blocks=self.cell.hidden_gates, n_slots=n_slots)
        states = tuple(range(self.cell.n_states))
        self.bridges = [
            make(f"bridge_weight_l{i}", f"bridge_bias_l{i}", size, summary_size, blocks=states)
            for i, size in enumerate(sizes)
        ]
        below = (input_size, *sizes[:-1])
        self.inputs = [
            into(f"decoder_weight_ih_l{i}", f"decoder_bias_ih_l{i}", size, width)
            for i, (size, width) in enumerate(zip(sizes, below, strict=True))
        ]
        self.hidden = [
            recur(f"decoder_weight_hh_l{i}", f"decoder_bias_hh_l{i}", size, size) for i, size in enumerate(sizes)
        ]
        self.key = self.query = self.value = self.output = self.context = None
        context_size = 0
        if attention == "multihead":
            heads = tuple(range(n_heads))
            width = attention_size // n_heads
            self.key = make("attention_key_weight", "attention_key_bias", width, state_size, blocks=heads)
            self.query = make("attention_query_weight", "attention_query_bias", width, top, blocks=heads)
            self.value = make("attention_value_weight", "attention_value_bias", attention_size, state_size)
            self.output = make("attention_output_weight", "attention_output_bias", attention_size, attention_size)
            context_size = attention_size
        elif attention == "additive":
            self.key = make("attention_key_weight", "attention_key_bias", attention_size, state_size)
            self.query = make("attention_query_weight", None, attention_size, top)
            context_size = state_size
        elif attention == "multiplicative":
            self.key = make("attention_key_weight", None, top, state_size)
            context_size = state_size
        self.context_size = context_size
        if attention is not None and input_feeding:
            self.context = into("decoder_weight_context", None, sizes[0], context_size)
        self.read_state = make("readout_weight_state", "readout_bias", readout_size, top)
        self.read_input = make("readout_weight_input", None, readout_size, input_size)
        self.read_context = (
            None if attention is None else make("readout_weight_context", None, readout_size, context_size)
        )
        # Units of the vector that additive attention has.
        self._vector_size = attention_size if attention == "additive" else 0

    def projections(self) -> Iterator[Projection]:
        """All products with a weight, in the order of the parameters."""
        yield from self.bridges
        for inputs, hidden in zip(self.inputs, self.hidden, strict=True):
            yield inputs
            yield hidden
        for one in (
            self.context, self.key, self.query, self.value, self.output,
            self.read_state, self.read_context, self.read_input,
        ):  # fmt: skip
            if one is not None:
                yield one

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters."""
        shapes: dict[str, tuple[int, ...]] = {}
        for projection in self.projections():
            shapes |= projection.parameter_shapes()
        return shapes | {"attention_vector": (self._vector_size,)} if self._vector_size else shapes

    def initialize(self, parameters: Values, rng: np.random.RandomState) -> None:
        """Write initial parameters: Glorot-uniform weights, recurrent ones orthogonal in every gate, biases zero.

        The bias of a forget gate is one, as for `RecurrentStack`.
        """
        for projection in self.projections():
            projection.initialize(parameters, rng)
        gates = self.cell.n_gates
        for size, inputs, hidden in zip(self.sizes, self.inputs, self.hidden, strict=True):
            blocks = parameters[hidden.weight].reshape(gates, size, size)
            for gate in range(gates):
                q, r = np.linalg.qr(rng.standard_normal((size, size)))
                identity = self.cell.name == "rnn_relu"
                blocks[gate] = np.eye(size) if identity else q * np.where(np.diag(r) < 0, -1.0, 1.0)
            if self.cell.forget_gate is not None:
                assert inputs.bias is not None
                parameters[inputs.bias].reshape(gates, size)[self.cell.forget_gate] = 1
        if self._vector_size:
            bound = np.sqrt(6.0 / (self._vector_size + 1))
            parameters["attention_vector"][...] = rng.uniform(-bound, bound, self._vector_size)

    # ------------------------------------------------------------------------------------------------------ layouts
    def _pad(self, size: int) -> int:
        return -(-size // self.lanes) * self.lanes

    def form(self, longest: int) -> Attention:
        """The form of the attention for sources of at most `longest` rows."""
        attends = self.attention is not None
        multihead = self.attention == "multihead"
        key_width = self.key.padded if self.key is not None else self.lanes
        head_size = self.attention_size // self.n_heads if multihead else self.state_size
        scale = 1.0 / np.sqrt(head_size) if multihead else 1.0
        value_size = self.attention_size if multihead else self.state_size
        return Attention(
            attends,
            self.attention == "additive",
            self.context is not None,
            self.query is not None,
            multihead,
            self.n_heads,
            key_width,
            head_size,
            self._pad(value_size),
            self.context_size,
            self._pad(self.context_size),
            max(longest, 1),
            self.dtype.type(scale),
        )

    def layout(self, total: int, n_rows: int, *, transposed: bool = False) -> tuple[NDArray[np.int64], list[int]]:
        """Where the layers have their parts of the arrays that they share, and the sizes of these arrays.

        The arrays are states, saved, inputs, panels of the hidden state's weights and of the inputs', biases.
        """
        table = np.zeros((len(self.sizes), 8), dtype=np.int64)
        ends = [0] * 6
        below = 0
        for row, size, inputs, hidden in zip(table, self.sizes, self.inputs, self.hidden, strict=True):
            padded, first = self._pad(size), below == 0
            row[:2] = size, padded
            row[2:] = ends
            panels = (hidden.transposed_size, inputs.transposed_size) if transposed else (
                hidden.packed_size, inputs.packed_size
            )  # fmt: skip
            sizes = (
                self.cell.n_states * total * padded,
                n_rows * hidden.pitch,
                0 if first else n_rows * below,
                panels[0],
                0 if first else panels[1],
                hidden.pitch,
            )
            ends = [end + more for end, more in zip(ends, sizes, strict=True)]
            below = padded
        return table, ends

    def bias(self, parameters: Values, layer: int) -> NDArray:
        """The biases of a layer by slot."""
        inputs, hidden = self.inputs[layer], self.hidden[layer]
        bias = np.zeros(hidden.pitch, dtype=self.dtype)
        bias[: inputs.columns] = inputs.pack_bias(parameters)
        bias[hidden.pitch - hidden.columns :] += hidden.pack_bias(parameters)
        return bias

    def pack(self, parameters: Values, layout: NDArray[np.int64], ends: list[int]) -> Panels:
        """Weights for `forward`."""
        hidden, inputs, bias = (aligned_zeros(max(size, 1), self.dtype) for size in ends[3:])
        for layer, row in enumerate(layout):
            self.hidden[layer].pack(parameters, hidden[row[5] : row[5] + self.hidden[layer].packed_size])
            if layer:
                self.inputs[layer].pack(parameters, inputs[row[6] : row[6] + self.inputs[layer].packed_size])
            bias[row[7] : row[7] + self.hidden[layer].pitch] = self.bias(parameters, layer)
        nothing = np.zeros(1, dtype=self.dtype)

        def packed(projection: Projection | None) -> NDArray:
            return nothing if projection is None else projection.pack(parameters)

        def bias_of(projection: Projection | None) -> NDArray:
            return nothing if projection is None else projection.pack_bias(parameters)

        return Panels(
            hidden,
            inputs,
            bias,
            packed(self.context),
            packed(self.query),
            bias_of(self.query),
            packed(self.output),
            bias_of(self.output),
            self._vector(parameters),
        )

    def _pack_transposed(self, parameters: Values, layout: NDArray[np.int64], ends: list[int]) -> Panels:
        """Weights for `backward`."""
        hidden, inputs = (aligned_zeros(max(size, 1), self.dtype) for size in ends[3:5])
        for layer, row in enumerate(layout):
            own = self.hidden[layer]
            own.pack_transposed(parameters, hidden[row[5] : row[5] + own.transposed_size])
            if layer:
                own = self.inputs[layer]
                own.pack_transposed(parameters, inputs[row[6] : row[6] + own.transposed_size])
        nothing = np.zeros(1, dtype=self.dtype)

        def packed(projection: Projection | None) -> NDArray:
            return nothing if projection is None else projection.pack_transposed(parameters)

        return Panels(
            hidden, inputs, nothing, packed(self.context), packed(self.query), nothing, packed(self.output), nothing,
            self._vector(parameters),
        )  # fmt: skip

    def _vector(self, parameters: Values) -> NDArray:
        width = self.key.padded if self.key is not None else 1
        vector = np.zeros(width, dtype=self.dtype)
        if self._vector_size:
            vector[: self._vector_size] = parameters["attention_vector"]
        return vector

    def read(self, parameters: Values, source: Source, lease: Lease) -> tuple[NDArray, NDArray]:
        """Keys and values of all rows of an encoder, flat."""
        if source.states is None or self.key is None:
            nothing = np.zeros(1, dtype=self.dtype)
            return nothing, nothing
        n_rows = len(source.states)
        states = Matrix.of(source.states)
        keys = lease.at_least(("keys",), n_rows * self.key.pitch, self.dtype)
        self.key.apply(parameters, states, n_rows, keys)
        if self.value is not None:
            values = lease.at_least(("values",), n_rows * self.value.pitch, self.dtype)
            self.value.apply(parameters, states, n_rows, values)
        elif self.state_size % self.lanes == 0:
            values = states.flat
        else:
            padded = np.zeros((n_rows, self._pad(self.state_size)), dtype=self.dtype)
            padded[:, : self.state_size] = source.states
            values = padded.reshape(-1)
        return keys, values

    def first_states(
        self, parameters: Values, summary: Matrix, count: int, layout: NDArray[np.int64], total: int, states: NDArray
    ) -> None:
        """Write the states before the first step of `count` sequences."""
        for bridge, row in zip(self.bridges, layout, strict=True):
            found = np.zeros(count * bridge.pitch, dtype=self.dtype)
            bridge.apply(parameters, summary, count, found)
            squash(found, 0, found.size)
            own = self._states_of(row, states, total)
            own[:, :count] = found.reshape(count, len(own), own.shape[2]).transpose(1, 0, 2)

    def _states_of(self, row: NDArray[np.int64], states: NDArray, total: int) -> NDArray:
        """The states of one layer, (n_states, total, padded)."""
        padded, begin, n_states = int(row[1]), int(row[2]), self.cell.n_states
        return states[begin : begin + n_states * total * padded].reshape(n_states, total, padded)

    # ------------------------------------------------------------------------------------------------------ forward
    def forward(
        self,
        parameters: Values,
        source: Source,
        inputs: NDArray,
        lengths: NDArray[np.int64],
        *,
        training: bool = False,
        dropout_seed: int = 0,
    ) -> DecoderPass:
        """Walk through all steps with given inputs.

        Parameters
        ----------
        parameters : mapping of str to ndarray
        source : Source
        inputs : ndarray of shape (n_steps, input_size)
            Of all sequences, one after the other; C-contiguous.
        lengths : ndarray of int64, shape (n_sequences,)
            Steps of each.
        training : bool, default=False
            Whether to apply dropout; `backward` can follow in any case, and releases the memory, which `release` does
            otherwise.
        dropout_seed : int, default=0

        Returns
        -------
        DecoderPass
        """
        lease = self._buffers.lease()
        packing = Packing(lengths)
        offsets, n_rows = packing.offsets, packing.n_rows
        count = int(offsets[1]) if packing.n_timesteps else 0
        total = count + n_rows
        order = np.ascontiguousarray(packing.order[:count])
        alive = np.diff(offsets)
        previous = np.arange(n_rows, dtype=np.int64)
        if packing.n_timesteps > 1:
            previous[count:] += count - np.repeat(alive[:-1], alive[1:])
        firsts, lasts = source.starts[order], (source.starts + source.lengths)[order]
        attention = self.form(int(source.lengths.max(initial=0)) if self.attention else 1)
        layout, ends = self.layout(total, n_rows)
        panels = self.pack(parameters, layout, ends)

        def memory(purpose: str, size: int) -> NDArray:
            return lease.at_least((purpose,), size, self.dtype)

        # A row more, for products that read the last slots of a row, and others beyond.
        saved = memory("saved", ends[1] + max(own.pitch for own in self.hidden))
        masks = np.zeros(0, dtype=self.dtype)
        masked = training and self.dropout > 0 and ends[2] > 0
        if masked:
            masks = memory("masks", ends[2])
            masks[:] = 1
            for layer, row in enumerate(layout[1:]):
                width = int(layout[layer, 1])
                own = masks[row[4] : row[4] + n_rows * width]
                Dropout(self.dropout, dropout_seed).apply(own, n_rows, width, width, LAYER_STREAM + layer)
        keys, values = self.read(parameters, source, lease)
        attended = memory("attended", total * attention.value_pitch)
        contexts = memory("contexts", total * attention.context_pitch) if attention.projects_output else attended
        contexts[: count * attention.context_pitch] = 0
        kept = Memory(
            memory("states", ends[0]),
            saved,
            memory("inputs", ends[2]),
            masks,
            keys,
            values,
            firsts,
            lasts,
            memory("queries", n_rows * attention.n_heads * attention.key_width),
            attended,
            memory("weights", n_rows * attention.n_heads * attention.longest),
            contexts,
            total,
        )
        summary = Matrix(source.summary.reshape(-1), order, source.summary.shape[1])
        self.first_states(parameters, summary, count, layout, total, kept.states)
        rows = packing.rows(np.cumsum(lengths) - lengths)
        given = Matrix(inputs.reshape(-1), rows, self.input_size)
        bias, columns, slots = self.bias(parameters, 0), self.inputs[0].columns, self.hidden[0].pitch
        self.inputs[0].apply(parameters, given, n_rows, saved, bias=bias)
        saved[: n_rows * slots].reshape(n_rows, slots)[:, columns:] = bias[columns:]
        identity = identity_rows(max(n_rows, 1))

        def steps(begin: int, end: int) -> None:
            self.kernels.forward(
                attention, layout, panels, kept, offsets, previous, identity, begin, end,
                np.empty(self.lanes, dtype=self.dtype),
            )  # fmt: skip

        self.workers.run([partial(steps, *share) for share in self._shares(packing, count)])
        squashed = memory("squashed", n_rows * self.read_state.pitch)
        top = layout[-1]
        states = Matrix(kept.states, identity_rows(total)[count:], int(top[1]), int(top[2]))
        self.read_state.apply(parameters, states, n_rows, squashed)
        if self.read_context is not None:
            found = Matrix(contexts, identity_rows(total)[count:], attention.context_pitch)
            self.read_context.apply(parameters, found, n_rows, squashed, add=True)
        self.read_input.apply(parameters, given, n_rows, squashed, add=True)
        self._over_rows(n_rows, self.read_state.pitch, lambda begin, end: squash(squashed, begin, end))
        read_pitch = self.read_state.pitch
        features = squashed[: n_rows * read_pitch].reshape(n_rows, read_pitch)[:, : self.readout_size]
        drops = training and self.output_dropout > 0
        features = features.copy() if drops else np.ascontiguousarray(features)
        if drops:
            drop(features, self.output_dropout, dropout_seed, OUTPUT_STREAM)
        return DecoderPass(
            features, packing, given, source, kept, attention, layout, previous, squashed, order, dropout_seed, lease
        )  # fmt: skip

    def _shares(self, packing: Packing, count: int) -> list[tuple[int, int]]:
        """Ranges of sequences of about equal work, one for each thread."""
        work = 2 * packing.n_rows * sum(own.columns * own.input_size for own in (*self.inputs, *self.hidden))
        n_threads = min(self.workers.worth(work), count)
        return balanced_ranges(packing.lengths[:count], n_threads)

    def _over_rows(self, n_rows: int, pitch: int, task: Any) -> None:
        self.workers.divide(n_rows, n_rows * pitch * 16, lambda begin, end: task(begin * pitch, end * pitch))

    def release(self, run: DecoderPass) -> None:
        """Give the memory of a pass back."""
        run.lease.release()

    # ----------------------------------------------------------------------------------------------------- backward
    def backward(
        self, run: DecoderPass, parameters: Values, d_features: NDArray, gradient: Values, *, training: bool = True
    ) -> tuple[NDArray, NDArray, NDArray | None]:
        """Gradients of everything that a forward pass read; those of the parameters are added to `gradient`.

        Parameters
        ----------
        run : DecoderPass
            It is used up.
        parameters : mapping of str to ndarray
        d_features : ndarray of shape (n_rows, readout_size)
            Overwritten.
        gradient : mapping of str to ndarray
        training : bool, default=True
            As in the forward pass.

        Returns
        -------
        d_inputs : ndarray of shape (n_steps, input_size)
        d_summary : ndarray of shape (n_sequences, summary_size)
        d_states : ndarray of shape (n_source_rows, state_size), or None without attention
        """
        packing, kept, attention, layout, source = run.packing, run.memory, run.attention, run.layout, run.source
        n_rows, count, total = packing.n_rows, len(run.order), kept.total
        lease = run.lease
        after = identity_rows(total)[count:]
        identity = identity_rows(max(n_rows, 1))

        def memory(purpose: str, size: int) -> NDArray:
            return lease.at_least((purpose,), size, self.dtype)

        def rows_of(purpose: str, count: int, size: int) -> NDArray:
            """Rows of which `size` elements will be written, and zero to whole vectors."""
            flat = memory(purpose, count * self._pad(size))
            if size % self.lanes:
                flat[:] = 0
            return flat

        # From the features to states, contexts and inputs.
        if training:
            drop(d_features, self.output_dropout, run.dropout_seed, OUTPUT_STREAM)
        pitch = self.read_state.pitch
        if pitch == self.readout_size:
            d_read = d_features.reshape(-1)
        else:
            d_read = np.zeros(n_rows * pitch, dtype=self.dtype)
            d_read.reshape(n_rows, pitch)[:, : self.readout_size] = d_features
        self._over_rows(n_rows, pitch, lambda begin, end: squash_adjoint(run.squashed, d_read, begin, end))
        top = layout[-1]
        top_states = Matrix(kept.states, after, int(top[1]), int(top[2]))
        d_top = rows_of("d top", n_rows, self.sizes[-1])
        self.read_state.input_gradient(parameters, d_read, n_rows, Matrix(d_top, identity, int(top[1])))
        self.read_state.weight_gradient(d_read, n_rows, top_states, gradient)
        d_contexts = rows_of("d contexts", n_rows, self.context_size)
        context_pitch = attention.context_pitch
        if self.read_context is not None:
            self.read_context.input_gradient(parameters, d_read, n_rows, Matrix(d_contexts, identity, context_pitch))
            self.read_context.weight_gradient(d_read, n_rows, Matrix(kept.contexts, after, context_pitch), gradient)
        d_inputs = np.empty((n_rows, self.input_size), dtype=self.dtype)
        d_given = Matrix(d_inputs.reshape(-1), run.inputs.table, self.input_size)
        self.read_input.input_gradient(parameters, d_read, n_rows, d_given)
        self.read_input.weight_gradient(d_read, n_rows, run.inputs, gradient)

        # Through time.
        transposed, ends = self.layout(total, n_rows, transposed=True)
        panels = self._pack_transposed(parameters, transposed, ends)
        d_sizes = [self.cell.n_states * count * int(row[1]) for row in layout]
        d_layout = np.array([sum(d_sizes[:i]) for i in range(len(d_sizes))], dtype=np.int64)
        d_states = memory("d states", sum(d_sizes))
        d_feed = memory("d feed", count * context_pitch)
        key_pitch = attention.n_heads * attention.key_width
        d_queries = memory("d queries", n_rows * key_pitch)
        d_attended = memory("d attended", n_rows * attention.value_pitch) if self.output is not None else d_contexts
        n_source = 0 if source.states is None else len(source.states)
        d_keys = memory("d keys", n_source * key_pitch)
        d_values = memory("d values", n_source * attention.value_pitch)
        d_vectors = memory("d vectors", count * attention.key_width)
        for flat in (d_states, d_feed, d_keys, d_values, d_vectors):
            flat[:] = 0
        widest = max(int(layout[:, 1].max()), attention.value_pitch, context_pitch, 1)
        zeros = np.zeros(widest, dtype=self.dtype)
        d_below = memory("d below", count * int(layout[:, 1].max()))

        def steps(begin: int, end: int) -> None:
            self.kernels.backward(
                attention, transposed, panels, kept, packing.offsets, run.previous, identity, begin, end,
                np.empty(self.lanes, dtype=self.dtype), d_states, d_layout, d_feed, d_below, d_top, d_contexts,
                d_attended, d_queries, d_keys, d_values, d_vectors, np.empty(attention.longest, dtype=self.dtype),
                zeros,
            )  # fmt: skip

        self.workers.run([partial(steps, *share) for share in self._shares(packing, count)])

        # Weights of the layers, and the rest of the inputs.
        for layer, (inputs, hidden, row) in enumerate(zip(self.inputs, self.hidden, layout, strict=True)):
            d_z = kept.saved[int(row[3]) :]
            if layer == 0:
                x = run.inputs
                inputs.input_gradient(parameters, d_z, n_rows, d_given, add=True)
            else:
                x = Matrix(kept.inputs, identity, int(layout[layer - 1, 1]), int(row[4]))
            inputs.weight_gradient(d_z, n_rows, x, gradient)
            before = Matrix(kept.states, run.previous, int(row[1]), int(row[2]))
            hidden.weight_gradient(d_z[hidden.pitch - hidden.columns :], n_rows, before, gradient)
            if layer == 0 and self.context is not None:
                x = Matrix(kept.contexts, run.previous, context_pitch)
                self.context.weight_gradient(d_z, n_rows, x, gradient)
        if self.query is not None:
            self.query.weight_gradient(d_queries, n_rows, top_states, gradient)
        if self.output is not None:
            x = Matrix(kept.attended, after, attention.value_pitch)
            self.output.weight_gradient(d_contexts, n_rows, x, gradient)
        if self._vector_size:
            parts = d_vectors.reshape(-1, attention.key_width)[:count, : self._vector_size]
            gradient["attention_vector"][...] += parts.sum(axis=0, dtype=np.float64)

        # The encoder.
        d_source: NDArray | None = None
        if self.key is not None:
            assert source.states is not None
            d_source = np.empty((n_source, self.state_size), dtype=self.dtype)
            read = Matrix.of(source.states)
            if self.value is not None:
                self.value.input_gradient(parameters, d_values, n_source, Matrix.of(d_source))
                self.value.weight_gradient(d_values, n_source, read, gradient)
            else:
                d_source[...] = d_values.reshape(-1, attention.value_pitch)[:n_source, : self.state_size]
            self.key.input_gradient(parameters, d_keys, n_source, Matrix.of(d_source), add=True)
            self.key.weight_gradient(d_keys, n_source, read, gradient)
        d_summary = np.zeros(source.summary.shape, dtype=self.dtype)
        summary = Matrix(source.summary.reshape(-1), run.order, source.summary.shape[1])
        for layer, (bridge, row) in enumerate(zip(self.bridges, layout, strict=True)):
            own = self._states_of(row, kept.states, total)
            d_own = d_states[d_layout[layer] : d_layout[layer] + d_sizes[layer]].reshape(len(own), count, own.shape[2])
            d_y = (d_own * (1 - own[:, :count] ** 2)).transpose(1, 0, 2).reshape(-1)
            target = Matrix(d_summary.reshape(-1), run.order, source.summary.shape[1])
            bridge.input_gradient(parameters, d_y, count, target, add=True)
            bridge.weight_gradient(d_y, count, summary, gradient)
        lease.release()
        return d_inputs, d_summary, d_source
