"""The attention of a decoder on the device: products with its weights, around the kernels."""

from __future__ import annotations

from typing import Any, NamedTuple

from numrnn.cuda.batches import Plan
from numrnn.cuda.projection import DeviceProjection, Place
from numrnn.kernels.cuda.arrays import DeviceArrays, add_columns, add_vector, clear
from numrnn.kernels.cuda.cross_attention import cross_attend, cross_attend_adjoint
from numrnn.parameters import Parameters
from numrnn.seq2seq.decoder import Decoder

__all__ = ["CrossAttention", "DeviceRead"]


class DeviceRead(NamedTuple):
    """What a decoder is given of its sources, see `Source`; sequences are in the caller's order.

    Attributes
    ----------
    summary : list of (device array, first element, elements from row to row, columns)
        The parts of which a summary consists, side by side.
    states : device array or None
        (n_rows * state_size,), sequence after sequence.
    firsts, counts : device array of int64
        The rows of each sequence.
    n_rows, longest : int
        Of all sources, and of the longest.
    """

    summary: list[tuple[Any, int, int, int]]
    states: Any
    firsts: Any
    counts: Any
    n_rows: int
    longest: int


class CrossAttention:
    """From the hidden states of a decoder's top layer to contexts, for some of the packed rows at a time, and back.

    Parameters
    ----------
    decoder : Decoder
        Of the host, for its form.
    names : Parameters
    arrays : DeviceArrays
    queue

    Attributes
    ----------
    contexts, d_contexts : device array
        (n_rows * context_size,).
    """

    def __init__(self, decoder: Decoder, names: Parameters, arrays: DeviceArrays, queue: Any) -> None:
        form = decoder.form(1)
        self.context_size = decoder.context_size
        self.state_size = decoder.state_size
        self.top_size = decoder.sizes[-1]
        self.dtype = decoder.dtype
        self._arrays = arrays
        self._queue = queue
        self._additive = form.additive
        self._scale = form.scale
        self.n_heads = form.n_heads
        self._head_size = form.head_size
        assert decoder.key is not None
        self._key = DeviceProjection(decoder.key, names, arrays, queue)
        self._query, self._value, self._output = (
            None if one is None else DeviceProjection(one, names, arrays, queue)
            for one in (decoder.query, decoder.value, decoder.output)
        )
        self._key_width = self._key.n_outputs // self.n_heads
        self._vector = names.span("attention_vector").start if form.additive else 0
        self.contexts: Any = None
        self.d_contexts: Any = None

    @property
    def _pitches(self) -> tuple[int, int]:
        """Elements of a row of keys and queries, and of values and what is attended."""
        return self._key.n_outputs, self.n_heads * self._head_size

    def row_bytes(self, longest: int) -> tuple[int, int]:
        """Bytes of a row of the encoder and of one of the decoder in training, with sources as long as that."""
        keys, values = self._pitches
        source = 2 * self.state_size + 2 * keys + 2 * values
        row = 2 * keys + 2 * values + 3 * self.context_size + 2 * self.n_heads * longest
        return source * self.dtype.itemsize, row * self.dtype.itemsize

    # ------------------------------------------------------------------------------------------------------- forward
    def begin(self, parameters: Any, read: DeviceRead, plan: Plan) -> None:
        """Read the encoder, before the first step of a batch."""
        arrays, dtype = self._arrays, self.dtype
        keys, values = self._pitches
        self._read, self._plan = read, plan
        states: Place = read.states, 0, self.state_size
        self._keys = arrays.at_least("keys", read.n_rows * keys, dtype)
        self._key.apply(parameters, states, read.n_rows, self._keys)
        self._values = read.states
        if self._value is not None:
            self._values = arrays.at_least("values", read.n_rows * values, dtype)
            self._value.apply(parameters, states, read.n_rows, self._values)
        self._attended = self.contexts = arrays.at_least("attended", plan.n_rows * values, dtype)
        if self._output is not None:
            self.contexts = arrays.at_least("contexts", plan.n_rows * self.context_size, dtype)
            self._output.begin(parameters, self.contexts, plan.n_rows)
        self._queries: Any = None
        if self._query is not None:
            self._queries = arrays.at_least("queries", plan.n_rows * keys, dtype)
            if self._query.bias is not None:
                self._query.begin(parameters, self._queries, plan.n_rows)
        self._weights = arrays.at_least("weights", plan.n_rows * self.n_heads * read.longest, dtype)

    def attend(self, parameters: Any, hidden: Any, first: int, count: int) -> None:
        """From some rows of the top layer to their contexts."""
        keys, values = self._pitches
        read = self._read
        if self._query is None:
            self._queries = hidden
        else:
            self._query.add(
                parameters, (hidden, first * self.top_size, self.top_size), count, (self._queries, first * keys, keys),
                overwrite=self._query.bias is None,
            )  # fmt: skip
        cross_attend(
            self._queue, self._additive, self._keys, self._values, parameters, self._vector, read.firsts, read.counts,
            self._plan.owner, first, count, *self._form, self._queries, self._attended, self._weights, read.longest,
        )  # fmt: skip
        if self._output is not None:
            size = self.context_size
            of_contexts = self.contexts, first * size, size
            self._output.add(parameters, (self._attended, first * values, values), count, of_contexts)

    @property
    def _form(self) -> tuple[int, int, int, Any]:
        return self.n_heads, self._key_width, self._head_size, self._scale

    # ------------------------------------------------------------------------------------------------------ backward
    def begin_backward(self) -> None:
        """Before the last step; `d_contexts` is then that from outside, and is for the caller to write."""
        arrays, queue, dtype, read = self._arrays, self._queue, self.dtype, self._read
        keys, values = self._pitches
        plan = self._plan
        self.d_contexts = arrays.at_least("d contexts", plan.n_rows * self.context_size, dtype)
        self._d_attended = self.d_contexts
        if self._output is not None:
            self._d_attended = arrays.at_least("d attended", plan.n_rows * values, dtype)
        if self._query is not None:
            self._d_queries = arrays.at_least("d queries", plan.n_rows * keys, dtype)
        self._d_scores = arrays.at_least("d scores", plan.n_sequences * self.n_heads * read.longest, dtype)
        self._d_keys = arrays.at_least("d keys", read.n_rows * keys, dtype)
        self._d_values = arrays.at_least("d values", read.n_rows * values, dtype)
        self._n_alive = int(plan.packing.offsets[1]) if plan.n_timesteps else 0
        n_vector = self._n_alive * self._key_width if self._additive else 0
        self._d_vectors = arrays.at_least("d vectors", n_vector, dtype)
        clear(queue, self._d_keys, 0, read.n_rows * keys)
        clear(queue, self._d_values, 0, read.n_rows * values)
        clear(queue, self._d_vectors, 0, n_vector)

    def backward(self, parameters: Any, d_hidden: Any, step: int, n_steps: int) -> None:
        """From the gradients of the contexts of some time steps to those of the hidden states, which are added to."""
        keys, values = self._pitches
        read, plan = self._read, self._plan
        offsets = plan.packing.offsets
        first, count = int(offsets[step]), int(offsets[step + n_steps] - offsets[step])
        n_alive = int(offsets[step + 1] - offsets[step])
        if self._output is not None:
            size = self.context_size
            self._output.input_gradient(
                parameters, (self.d_contexts, first * size, size), count, (self._d_attended, first * values, values)
            )
        adds = self._query is None
        d_queries = d_hidden if adds else self._d_queries
        cross_attend_adjoint(
            self._queue, self._additive, self._keys, self._values, parameters, self._vector, read.firsts, read.counts,
            plan.order, plan.offsets, step, n_steps, n_alive, *self._form, self._queries, self._d_attended,
            self._weights, read.longest, self._d_scores, self._d_keys, self._d_values, self._d_vectors, d_queries, adds,
        )  # fmt: skip
        if self._query is not None:
            of_hidden = d_hidden, first * self.top_size, self.top_size
            self._query.input_gradient(parameters, (d_queries, first * keys, keys), count, of_hidden, add=True)

    def finish(self, parameters: Any, hidden: Any, gradient: Any) -> Any:
        """Add the gradients of the weights, after the first step; that of the states that were read."""
        queue, n_rows, read = self._queue, self._plan.n_rows, self._read
        keys, values = self._pitches
        if self._query is not None:
            d_queries = self._d_queries, 0, keys
            self._query.weight_gradient(d_queries, n_rows, (hidden, 0, self.top_size), gradient)
            self._query.bias_gradient(self._d_queries, n_rows, gradient)
        if self._output is not None:
            d_contexts = self.d_contexts, 0, self.context_size
            self._output.weight_gradient(d_contexts, n_rows, (self._attended, 0, values), gradient)
            self._output.bias_gradient(self.d_contexts, n_rows, gradient)
        if self._additive:
            add_columns(queue, self._d_vectors, self._n_alive, self._key_width, gradient, self._vector)
        size = self.state_size
        states = read.states, 0, size
        d_states = self._arrays.at_least("d states that are read", read.n_rows * size, self.dtype)
        d_keys, d_values = (self._d_keys, 0, keys), (self._d_values, 0, values)
        self._key.input_gradient(parameters, d_keys, read.n_rows, (d_states, 0, size))
        self._key.weight_gradient(d_keys, read.n_rows, states, gradient)
        self._key.bias_gradient(self._d_keys, read.n_rows, gradient)
        if self._value is not None:
            self._value.input_gradient(parameters, d_values, read.n_rows, (d_states, 0, size), add=True)
            self._value.weight_gradient(d_values, read.n_rows, states, gradient)
            self._value.bias_gradient(self._d_values, read.n_rows, gradient)
        else:
            add_vector(queue, self._d_values, d_states, read.n_rows * size)
        return d_states
