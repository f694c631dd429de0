"""Ways through an encoder and a decoder that reads a target, in parts of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from numrnn.dropout import drop
from numrnn.packing import Sequences
from numrnn.seq2seq.decoder import INPUT_STREAM, DecoderPass, Source
from numrnn.seq2seq.decoding import draw, unroll
from numrnn.seq2seq.form import Form
from numrnn.stages import StagePass
from numrnn.trunk import TrunkPass

__all__ = ["PairBatch", "Pass", "Passes", "part_of"]

# Batches are cut so that what the recurrent layers and the attention keep stays near this number of bytes.
_INFERENCE_BYTES = 2**27


class PairBatch(NamedTuple):
    """Sources and as many targets, without the symbol that ends a target.

    Attributes
    ----------
    sources, targets : Sequences
        Ids are one column of the network's type. A network with `decoder_inputs` has these in the place of targets.
    """

    sources: Sequences
    targets: Sequences


class Pass(NamedTuple):
    """What a forward pass of both sides leaves behind."""

    encoded: TrunkPass | None
    embedded: StagePass | None
    decoded: DecoderPass
    seed: int


class Passes(Form):
    """An encoder and a decoder that can be run, both sides given."""

    def expected(self, targets: Sequences) -> NDArray:
        """What the decoder should put out, sequence after sequence.

        Returns
        -------
        ndarray
            int64 (n_tokens + n_sequences,): the ids of each target, and the end; or the rows of the targets.
        """
        if self.decoder_inputs is not None:
            raise ValueError("what a network with decoder_inputs should put out is not in its targets")
        rows = targets.rows()
        if not self.takes_ids:
            return np.ascontiguousarray(targets.values[rows])
        expected = np.full(len(rows) + len(targets), self.end_id, dtype=np.int64)
        expected[np.arange(len(rows)) + np.repeat(np.arange(len(targets)), targets.lengths)] = targets.values[rows, 0]
        return expected

    def _inputs(self, targets: Sequences) -> Sequences:
        """What the decoder reads: the targets, one step later, or what is given in their place; an array of its own."""
        if self.decoder_inputs is not None:
            starts = np.cumsum(targets.lengths) - targets.lengths
            return Sequences(targets.values[targets.rows()], starts, targets.lengths)
        if self.takes_ids:
            lengths = targets.lengths + 1
            starts = np.cumsum(lengths) - lengths
            shifted = np.empty((int(lengths.sum()), 1), dtype=self.dtype)
            shifted[1:, 0] = self.expected(targets)[:-1]
            shifted[starts] = self.end_id
            return Sequences(shifted, starts, lengths)
        lengths = targets.lengths
        starts = np.cumsum(lengths) - lengths
        values = self.expected(targets)
        shifted = np.zeros((len(values), self.target_size), dtype=self.dtype)
        shifted[1:] = values[:-1]
        shifted[starts[lengths > 0]] = 0
        return Sequences(shifted, starts, lengths)

    def _read(self, sources: Sequences, *, training: bool, seed: int) -> tuple[Source, TrunkPass | None]:
        """Run the encoder."""
        n = len(sources)
        if self.encoder is None:
            nothing = np.zeros(n, dtype=np.int64)
            return Source(np.ascontiguousarray(sources.values[sources.rows()]), None, nothing, nothing), None
        run = self.encoder.forward(self.parameters, sources, training=training, dropout_seed=seed)
        directions = run.state[-self.encoder.stack.n_directions :]
        summary = np.concatenate([state[0] for state in directions], axis=1)
        starts = np.cumsum(sources.lengths) - sources.lengths
        return Source(summary, run.output, starts, sources.lengths), run

    def _forward(self, batch: PairBatch, *, training: bool, seed: int, keep: bool) -> Pass:
        """Both sides, with given inputs of the decoder."""
        source, encoded = self._read(batch.sources, training=keep, seed=seed)
        inputs = self._inputs(batch.targets)
        if training and self.sampling_share > 0:
            inputs = self._sampled_inputs(batch, inputs, seed)
        embedded: StagePass | None = None
        values = inputs.values
        if self._embedding is not None:
            embedded = self._embedding.forward(self.parameters, inputs, training=training)
            values = embedded.sequences.values
        if training:
            drop(values, self.input_dropout, seed, INPUT_STREAM)
        decoded = self.decoder.forward(
            self.parameters, source, values, inputs.lengths, training=training, dropout_seed=seed
        )
        return Pass(encoded, embedded, decoded, seed)

    def _sampled_inputs(self, batch: PairBatch, inputs: Sequences, seed: int) -> Sequences:
        """Inputs some of which are what the decoder predicts after those before it, without dropout."""
        rng = np.random.RandomState(seed)
        lengths, starts, values = inputs.lengths, inputs.starts, inputs.values.copy()
        own = rng.random_sample(len(values)) < self.sampling_share
        # The first input is not a prediction. Input i + 1 is the output of step i.
        own[starts[lengths > 0]] = False
        if not self.takes_ids:
            marks = np.ones(len(values), dtype=np.uint8)
            marks[:-1] = ~own[1:]
            following = np.zeros_like(values)
            following[:-1] = values[1:]
            found, _ = unroll(self, batch.sources, lengths, with_attention=False, given=following, takes_given=marks)
            values[1:][own[1:]] = found[:-1][own[1:]]
            return Sequences(values, starts, lengths)
        most = lengths - 1
        columns = np.arange(int(most.max(initial=0)))
        inside = columns < most[:, np.newaxis]
        rows = (starts + 1)[:, np.newaxis] + columns
        given = np.full(inside.shape, -1, dtype=np.int64)
        given[inside] = np.where(own[rows[inside]], -1, values[rows[inside], 0])
        found_ids = draw(
            self, batch.sources, most, np.zeros(given.shape), temperature=0.0, top_k=self.n_outputs, top_p=1.0,
            forbidden=(), with_attention=False, given=given,
        )  # fmt: skip
        values[rows[inside], 0] = found_ids.tokens[:, 0][inside]
        return Sequences(values, starts, lengths)

    @staticmethod
    def _rows(run: Pass) -> NDArray[np.int64]:
        """Where each packed row of the decoder stands, sequence after sequence."""
        return run.decoded.inputs.table

    def _passes(self, batch: PairBatch) -> Iterator[tuple[PairBatch, slice, Pass]]:
        """Forward passes of bounded size, and the rows of `expected` that each stands for."""
        first = 0
        for chunk in self._inference_chunks(batch.sources.lengths, batch.targets.lengths):
            part = part_of(batch, chunk)
            run = self._forward(part, training=False, seed=0, keep=False)
            rows = slice(first, first + run.decoded.packing.n_rows)
            first = rows.stop
            yield part, rows, run
            self.decoder.release(run.decoded)

    def _n_expected(self, targets: Sequences) -> int:
        """Rows of what `expected` makes of these targets."""
        return targets.n_steps + (len(targets) if self.takes_ids else 0)

    def _chunks(self, sources: NDArray, targets: NDArray, memory: int) -> Iterator[slice]:
        """Consecutive pairs of these lengths that together fit into the memory; at least one."""
        encoder = (
            8 * sum(self.encoder_sizes) * (1 + self.bidirectional) + 3 * self._state_size + 4 * self.attention_size
        )
        decoder = 8 * sum(self.decoder_sizes) + 6 * max(self._state_size, self.attention_size) + 4 * self.readout_size
        # The weights of the attention are as long as the longest source.
        longest = self.n_heads * int(sources.max(initial=0)) if self.attention is not None else 0
        costs = self.dtype.itemsize * (sources * encoder + (targets + 1) * (decoder + longest))
        ends = np.cumsum(costs)
        begin = 0
        while begin < len(costs):
            done = ends[begin - 1] if begin else 0
            end = max(int(np.searchsorted(ends, done + memory, side="right")), begin + 1)
            yield slice(begin, end)
            begin = end

    def _inference_chunks(self, sources: NDArray, targets: NDArray) -> Iterator[slice]:
        return self._chunks(sources, targets, _INFERENCE_BYTES)

    # ------------------------------------------------------------------------------------------------------- checks
    def _check_sources(self, sources: Sequences) -> None:
        columns = 1 if self.source == "ids" else self.source_size
        values = sources.values
        if values.ndim != 2 or values.shape[1] != columns or values.dtype != self.dtype:
            raise ValueError(
                f"expected sources of {columns} columns in {self.dtype}, got an array of shape {values.shape} in "
                f"{values.dtype}"
            )
        if self.encoder is None and not (sources.lengths == 1).all():
            raise ValueError("a source that is one vector must be a sequence of one row")

    def _check_batch(self, batch: PairBatch) -> None:
        self._check_sources(batch.sources)
        values, columns = batch.targets.values, self._target_columns
        if values.ndim != 2 or values.shape[1] != columns or values.dtype != self.dtype:
            raise ValueError(
                f"expected targets of {columns} columns in {self.dtype}, got an array of shape {values.shape} in "
                f"{values.dtype}"
            )
        if len(batch.sources) != len(batch.targets):
            raise ValueError(f"got {len(batch.sources)} sources, but {len(batch.targets)} targets")

    def _check(self, batch: PairBatch, expected: NDArray, weights: NDArray | None) -> tuple[NDArray, NDArray]:
        self._check_batch(batch)
        n_rows = self._n_expected(batch.targets)
        shape = (n_rows,) if self.takes_ids else (n_rows, self.head.n_target_columns)
        dtype = np.dtype(np.int64) if self.takes_ids else self.dtype
        if expected.shape != shape or expected.dtype != dtype:
            raise ValueError(f"expected outputs of shape {shape} in {dtype}, got {expected.shape} in {expected.dtype}")
        if weights is None:
            weights = np.ones(n_rows, dtype=np.float64)
        elif weights.shape != (n_rows,) or weights.dtype != np.float64:
            raise ValueError(
                f"expected {n_rows} weights in float64, got an array of shape {weights.shape} in {weights.dtype}"
            )
        return expected, weights


def part_of(batch: PairBatch, chunk: slice) -> PairBatch:
    """Some pairs of a batch; nothing is copied."""
    return PairBatch(*(Sequences(side.values, side.starts[chunk], side.lengths[chunk]) for side in batch))
