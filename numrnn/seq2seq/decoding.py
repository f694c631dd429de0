"""What an encoder and a decoder write: search, draws, numbers, in chunks of sources that threads share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numrnn.kernels.cpu.decoder import Attention, Memory, Panels
from numrnn.kernels.cpu.decoding import DECODING, Readout
from numrnn.kernels.cpu.decoding import Hypotheses as Rows
from numrnn.packing import Sequences
from numrnn.seq2seq.decoder import Source
from numrnn.seq2seq.projection import Matrix, Projection, identity_rows

if TYPE_CHECKING:
    from numrnn.seq2seq.passes import Passes

__all__ = ["Hypotheses", "beam", "draw", "readout_of", "unroll"]

# Rows of an encoder that are kept at once, rows of a decoder that one call of a kernel takes, and those whose logits
# are computed together; calls of a thread whose memory is there at once.
_CHUNKS = 4
_SOURCE_ROWS = 16384
_ROWS = 384
_UNIT_ROWS = 96


@dataclass
class Hypotheses:
    """What was written for every source, the best first.

    Attributes
    ----------
    tokens : ndarray of int64, shape (n_sources, n_best, longest)
        Without the end; -1 beyond the length.
    lengths : ndarray of int64, shape (n_sources, n_best)
        -1 where there is no such hypothesis.
    scores : ndarray of float64, shape (n_sources, n_best)
        By which they are ranked; minus infinity where there is none.
    log_likelihoods : ndarray of float64, shape (n_sources, n_best)
        The end included.
    attention : list of list of ndarray, or None
        For every source and hypothesis (length, length of the source): what each token looked at, the mean over heads.
    """

    tokens: NDArray[np.int64]
    lengths: NDArray[np.int64]
    scores: NDArray[np.float64]
    log_likelihoods: NDArray[np.float64]
    attention: list[list[NDArray]] | None = None


class _Chunk(NamedTuple):
    """Some sources, and what a kernel needs for them."""

    numbers: NDArray[np.int64]
    firsts: NDArray[np.int64]
    lasts: NDArray[np.int64]
    attention: Attention
    memory: Memory
    previous: NDArray[np.int64]
    rows: Rows
    squashed: NDArray
    outputs: NDArray
    lane: NDArray

    @property
    def longest(self) -> int:
        return int((self.lasts - self.firsts).max(initial=0))


class _Weights(NamedTuple):
    layout: NDArray[np.int64]
    panels: Panels
    readout: Readout


def readout_of(network: Passes) -> Readout:
    """The weights around the steps."""
    decoder, parameters = network.decoder, network.parameters
    head = network._head_view(parameters)
    out = Projection(
        "weight_out", "bias_out", network.n_outputs, network.readout_size, dtype=network.dtype, workers=decoder.workers
    )
    nothing = np.zeros(1, dtype=network.dtype)
    return Readout(
        decoder.inputs[0].pack(parameters),
        decoder.bias(parameters, 0),
        decoder.read_state.pack(parameters),
        nothing if decoder.read_context is None else decoder.read_context.pack(parameters),
        decoder.read_input.pack(parameters),
        decoder.read_state.pack_bias(parameters),
        out.pack(head),
        out.pack_bias(head),
        decoder.input_size,
        network.readout_size,
        decoder.read_state.pitch,
        network.n_outputs,
        out.pitch,
    )


def _chunks(network: Passes, sources: Sequences, most: NDArray, width: int) -> Iterator[list[_Chunk]]:
    """Groups of chunks whose sources have been read, together with the sources' numbers.

    Sources of about one length come together; nothing of a result depends on that.
    """
    decoder = network.decoder
    order = np.lexsort((most, sources.lengths)).astype(np.int64)
    at_once = max(_ROWS // width, 1)
    begin = 0
    while begin < len(order):
        ends = np.cumsum(sources.lengths[order[begin:]])
        end = begin + max(int(np.searchsorted(ends, _SOURCE_ROWS, side="right")), 1)
        end = min(end, begin + _CHUNKS * decoder.workers.n * at_once)
        numbers = order[begin:end]
        begin = end
        source, _ = network._read(sources.take(numbers), training=False, seed=0)
        lease = decoder._buffers.lease()
        keys, values = decoder.read(network.parameters, source, lease)
        # All threads have about as much to do.
        n_chunks = -(-len(numbers) // at_once)
        n_chunks = min(-(-n_chunks // decoder.workers.n) * decoder.workers.n, len(numbers))
        bounds = [len(numbers) * i // n_chunks for i in range(n_chunks + 1)]
        chunks = []
        for first, last in pairwise(bounds):
            chosen = np.arange(first, last, dtype=np.int64)
            chunks.append(_chunk(network, source, keys, values, numbers[first:last], chosen, width))
        yield chunks
        lease.release()


def _chunk(
    network: Passes,
    source: Source,
    keys: NDArray,
    values: NDArray,
    numbers: NDArray[np.int64],
    chosen: NDArray[np.int64],
    width: int,
) -> _Chunk:
    decoder, dtype = network.decoder, network.dtype
    max_rows = len(chosen) * width
    firsts = source.starts[chosen]
    lasts = firsts + source.lengths[chosen]
    total = 2 * max_rows
    attention = decoder.form(int((lasts - firsts).max(initial=0)) if decoder.attention else 1)
    layout, ends = decoder.layout(total, max_rows)

    def rows(size: int) -> NDArray:
        return np.zeros(max(size, 1), dtype=dtype)

    attended = rows(total * attention.value_pitch)
    memory = Memory(
        rows(ends[0]),
        rows(ends[1]),
        rows(ends[2]),
        np.zeros(0, dtype=dtype),
        keys,
        values,
        np.zeros(max_rows, dtype=np.int64),
        np.zeros(max_rows, dtype=np.int64),
        rows(max_rows * attention.n_heads * attention.key_width),
        attended,
        rows(max_rows * attention.n_heads * attention.longest),
        rows(total * attention.context_pitch) if attention.projects_output else attended,
        total,
    )
    summary = Matrix(source.summary.reshape(-1), chosen, source.summary.shape[1])
    decoder.first_states(network.parameters, summary, len(chosen), layout, total, memory.states)
    lanes = decoder.lanes
    out_pitch = -(-network.n_outputs // lanes) * lanes
    return _Chunk(
        numbers,
        firsts,
        lasts,
        attention,
        memory,
        np.zeros(max_rows, dtype=np.int64),
        _rows(len(chosen), width, min(width + 1, network.n_outputs), attention.longest),
        rows(max_rows * decoder.read_state.pitch),
        rows(min(_UNIT_ROWS, max_rows) * out_pitch),
        np.zeros(lanes, dtype=dtype),
    )


def _rows(n_sources: int, width: int, n_best: int, longest: int) -> Rows:
    """Scratch for the hypotheses of so many sources, of which each row offers its `n_best` continuations."""
    n = n_sources * width

    def ids(count: int) -> NDArray[np.int64]:
        return np.zeros(count, dtype=np.int64)

    return Rows(
        ids(n), ids(n), np.zeros(n), np.zeros(n), ids(n), np.zeros(n * n_best), ids(n * n_best),
        np.zeros((2, n, longest)), ids(width), ids(n_sources), ids(n_sources),
    )  # fmt: skip


def _over_chunks(
    network: Passes, sources: Sequences, most: NDArray, width: int, task: Callable[[_Chunk, _Weights], None]
) -> None:
    """Call the task for every chunk, a part of them in each thread."""
    decoder = network.decoder
    readout = readout_of(network)
    for chunks in _chunks(network, sources, most, width):
        # Offsets of the weights are the same for all chunks.
        layouts = [decoder.layout(chunk.memory.total, chunk.memory.total // 2) for chunk in chunks]
        panels = decoder.pack(network.parameters, *layouts[0])

        def part(own: int, step: int, chunks=chunks, layouts=layouts, panels=panels) -> None:
            for number in range(own, len(chunks), step):
                task(chunks[number], _Weights(layouts[number][0], panels, readout))

        n_threads = min(decoder.workers.n, len(chunks))
        decoder.workers.run([partial(part, own, n_threads) for own in range(n_threads)])


def _call(network: Passes, name: str, chunk: _Chunk, weights: _Weights, given: NDArray, *rest: Any) -> None:
    arguments = (
        chunk.attention, weights.layout, weights.panels, chunk.memory, weights.readout, given, chunk.previous,
        chunk.rows, chunk.squashed, chunk.outputs, identity_rows(chunk.memory.total), chunk.lane, chunk.firsts,
        chunk.lasts,
    )  # fmt: skip
    getattr(DECODING[network.cell], name)(*arguments, *rest)


def _forbidden(network: Passes, forbidden: Sequence[int]) -> NDArray[np.int64]:
    ids = np.unique(np.array(list(forbidden), dtype=np.int64))
    if len(ids) and not 0 <= ids[0] <= ids[-1] < network.target_size:
        raise ValueError(f"forbidden ids must lie between 0 and {network.target_size - 1}, got {ids.tolist()}")
    return ids


def _table(network: Passes) -> NDArray:
    return network.parameters["target_embedding_0"].reshape(-1)


class _Results:
    """Hypotheses of all sources, filled chunk by chunk."""

    def __init__(self, network: Passes, sources: Sequences, most: NDArray, n_best: int, with_attention: bool) -> None:
        n, longest = len(sources), int(most.max(initial=0))
        self.with_attention = with_attention and network.decoder.attention is not None
        self.n_best = n_best
        self.found = Hypotheses(
            np.full((n, n_best, longest), -1, dtype=np.int64),
            np.full((n, n_best), -1, dtype=np.int64),
            np.full((n, n_best), -np.inf),
            np.full((n, n_best), -np.inf),
            [[] for _ in range(n)] if self.with_attention else None,
        )

    def attention_of(self, chunk: _Chunk, longest_target: int) -> NDArray:
        """Where a kernel writes what the tokens of a chunk looked at."""
        n = len(chunk.numbers) * self.n_best if self.with_attention else 0
        return np.zeros((n, longest_target, max(chunk.longest, 1)))

    def put(
        self, chunk: _Chunk, tokens: NDArray, lengths: NDArray, scores: NDArray, likelihoods: NDArray, looked: NDArray
    ) -> None:
        """Take the results of a chunk, each with axes source and hypothesis."""
        found, numbers = self.found, chunk.numbers
        tokens[np.arange(tokens.shape[2]) >= lengths[:, :, np.newaxis]] = -1
        found.tokens[numbers, :, : tokens.shape[2]] = tokens
        found.lengths[numbers], found.scores[numbers] = lengths, scores
        found.log_likelihoods[numbers] = likelihoods
        if found.attention is not None:
            sizes = chunk.lasts - chunk.firsts
            for i, number in enumerate(numbers):
                found.attention[number] = [
                    looked[i * self.n_best + j, : max(length, 0), : sizes[i]].copy()
                    for j, length in enumerate(lengths[i])
                ]


def beam(
    network: Passes,
    sources: Sequences,
    most: NDArray[np.int64],
    *,
    width: int,
    n_best: int,
    exponent: float,
    coverage: float,
    forbidden: Sequence[int],
    with_attention: bool,
) -> Hypotheses:
    """See `EncoderDecoder.beam`."""
    results = _Results(network, sources, most, n_best, with_attention)
    excluded = _forbidden(network, forbidden)
    table = _table(network)

    def task(chunk: _Chunk, weights: _Weights) -> None:
        n, max_rows = len(chunk.numbers), chunk.memory.total // 2
        own = most[chunk.numbers]
        longest = int(own.max())
        tokens = np.full((n, n_best, longest), -1, dtype=np.int64)
        lengths = np.zeros((n, n_best), dtype=np.int64)
        scores, likelihoods = np.zeros((n, n_best)), np.zeros((n, n_best))
        looked = results.attention_of(chunk, longest)
        steps = longest + 1 if len(looked) else 1
        _call(
            network, "search", chunk, weights, table, own, width, n_best, float(exponent), float(coverage), excluded,
            network.end_id, tokens, lengths, scores, likelihoods, looked,
            np.zeros((2, longest + 1, max_rows), dtype=np.int64),
            np.zeros((steps, max_rows, chunk.attention.longest)),
        )  # fmt: skip
        results.put(chunk, tokens, lengths, scores, likelihoods, looked)

    _over_chunks(network, sources, most, width, task)
    return results.found


def draw(
    network: Passes,
    sources: Sequences,
    most: NDArray[np.int64],
    uniforms: NDArray[np.float64],
    *,
    temperature: float,
    top_k: int,
    top_p: float,
    forbidden: Sequence[int],
    with_attention: bool,
    given: NDArray[np.int64] | None = None,
) -> Hypotheses:
    """See `EncoderDecoder.sample`; `given` ids (n_sources, longest) are taken where they are not negative."""
    results = _Results(network, sources, most, 1, with_attention)
    excluded = _forbidden(network, forbidden)
    table = _table(network)

    def task(chunk: _Chunk, weights: _Weights) -> None:
        n = len(chunk.numbers)
        own = most[chunk.numbers]
        longest = int(own.max())
        tokens = np.full((n, longest), -1, dtype=np.int64)
        lengths, likelihoods = np.zeros(n, dtype=np.int64), np.zeros(n)
        looked = results.attention_of(chunk, longest)
        _call(
            network, "draw", chunk, weights, table, own, float(temperature), int(top_k), float(top_p),
            np.ascontiguousarray(uniforms[chunk.numbers]),
            np.zeros((0, 0), dtype=np.int64) if given is None else np.ascontiguousarray(given[chunk.numbers]),
            excluded, network.end_id, tokens, lengths, likelihoods, looked,
            np.zeros(network.n_outputs, dtype=np.int64), np.zeros(network.n_outputs), np.zeros(network.n_outputs),
        )  # fmt: skip
        results.put(chunk, tokens[:, None], lengths[:, None], likelihoods[:, None], likelihoods[:, None], looked)

    _over_chunks(network, sources, most, 1, task)
    return results.found


def unroll(
    network: Passes,
    sources: Sequences,
    steps: NDArray[np.int64],
    *,
    with_attention: bool,
    given: NDArray | None = None,
    takes_given: NDArray[np.uint8] | None = None,
) -> tuple[NDArray, list[NDArray] | None]:
    """See `EncoderDecoder.predict_values`; `given` rows are the next inputs after those that `takes_given` marks."""
    starts = np.cumsum(steps) - steps
    n_rows = int(steps.sum())
    found = np.zeros((n_rows, network.target_size), dtype=network.dtype)
    given = found if given is None else given
    marks = np.zeros(n_rows, dtype=np.uint8) if takes_given is None else takes_given
    keeps = with_attention and network.decoder.attention is not None
    longest = max(int(sources.lengths.max(initial=0)), 1)
    looked = np.zeros((n_rows if keeps else 0, longest))

    def task(chunk: _Chunk, weights: _Weights) -> None:
        max_rows = chunk.memory.total // 2
        own, first = steps[chunk.numbers], starts[chunk.numbers]
        x = np.zeros(max_rows * network.target_size, dtype=network.dtype)
        _call(network, "unroll", chunk, weights, x, own, first, given, marks, found, looked)

    _over_chunks(network, sources, steps, 1, task)
    if not keeps:
        return found, None
    maps = [
        looked[start : start + count, :size].copy()
        for start, count, size in zip(starts, steps, sources.lengths, strict=True)
    ]
    return found, maps
