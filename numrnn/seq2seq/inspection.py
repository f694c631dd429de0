"""What can be asked about given pairs: likelihoods, outputs, attention, states of the encoder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from numrnn.packing import Sequences
from numrnn.seq2seq.passes import PairBatch, Passes

__all__ = ["Inspection"]

# Rows whose probabilities are computed at once.
_AT_ONCE = 256


class Inspection(Passes):
    """The methods that look at a network's insides while it reads given pairs."""

    def log_likelihoods(self, batch: PairBatch) -> NDArray[np.float64]:
        """Logarithm of the probability of every id that is expected, given those before it."""
        if not self.takes_ids:
            raise ValueError("log_likelihoods are for targets that are ids")
        expected = self.expected(batch.targets)
        self._check(batch, expected, None)
        found = np.empty(len(expected), dtype=np.float64)
        for _, rows, run in self._passes(batch):
            table, own = self._rows(run), expected[rows]
            for begin in range(0, len(table), _AT_ONCE):
                chosen = table[begin : begin + _AT_ONCE]
                logits = self.head.outputs(
                    self._head_view(self.parameters), run.decoded.features[begin : begin + _AT_ONCE]
                ).astype(np.float64)
                logits -= logits.max(axis=1, keepdims=True)
                denominators = np.log(np.exp(logits).sum(axis=1))
                found[rows][chosen] = logits[np.arange(len(chosen)), own[chosen]] - denominators
        return found

    def outputs_of(self, batch: PairBatch) -> NDArray:
        """Raw outputs for the rows of `expected`, the decoder reading the targets: (n_rows, n_outputs)."""
        self._check_batch(batch)
        outputs = np.empty((self._n_expected(batch.targets), self.n_outputs), dtype=self.dtype)
        for _, rows, run in self._passes(batch):
            outputs[rows][self._rows(run)] = self.head.outputs(self._head_view(self.parameters), run.decoded.features)
        return outputs

    def attention_weights(self, batch: PairBatch) -> list[NDArray]:
        """What every step looks at when the decoder reads the targets, the mean over heads.

        Returns
        -------
        list of ndarray of shape (steps of the decoder, length of the source)
        """
        if self.attention is None:
            raise ValueError("attention_weights need a network with attention")
        self._check_batch(batch)
        maps: list[NDArray] = []
        for part, _, run in self._passes(batch):
            table, weights = self._rows(run), run.decoded.weights
            in_order = np.empty((len(table), weights.shape[2]))
            in_order[table] = weights.mean(axis=1, dtype=np.float64)
            lengths = part.targets.lengths + int(self.takes_ids)
            ends = np.cumsum(lengths)
            for end, length, size in zip(ends, lengths, part.sources.lengths, strict=True):
                maps.append(in_order[end - length : end, :size].copy())
        return maps

    def encode(self, sources: Sequences) -> tuple[NDArray, NDArray]:
        """What the decoder is given of every source.

        Returns
        -------
        states : ndarray of shape (n_steps, n_units)
            Of the encoder's top layer, sequence after sequence; of both directions.
        summary : ndarray of shape (n_sources, n_units)
            Its last hidden states; without an encoder, the source.
        """
        self._check_sources(sources)
        states = [np.empty((0, self._state_size), dtype=self.dtype)]
        summaries = [np.empty((0, self._state_size or self.source_size), dtype=self.dtype)]
        for chosen in self._inference_chunks(sources.lengths, np.zeros_like(sources.lengths)):
            part = Sequences(sources.values, sources.starts[chosen], sources.lengths[chosen])
            source, _ = self._read(part, training=False, seed=0)
            summaries.append(source.summary)
            if source.states is not None:
                states.append(source.states)
        return np.concatenate(states), np.concatenate(summaries)
