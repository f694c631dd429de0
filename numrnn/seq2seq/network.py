"""Encoder and decoder over one vector of parameters, and their training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numrnn.dropout import drop
from numrnn.kernels.cpu.losses import weight_penalty
from numrnn.parameters import Reach
from numrnn.seq2seq.decoder import INPUT_STREAM
from numrnn.seq2seq.inspection import Inspection
from numrnn.seq2seq.passes import PairBatch, Pass, part_of
from numrnn.seq2seq.writing import Writing
from numrnn.trunk import TrunkPass

__all__ = ["EncoderDecoder", "PairBatch", "chunk_seed"]

# Batches are cut so that what the recurrent layers and the attention keep stays near this number of bytes.
_TRAINING_BYTES = 2**30


def chunk_seed(dropout_seed: int, number: int) -> int:
    """The seed of a part of a minibatch."""
    return (dropout_seed + 7919 * number) % 2**31


class EncoderDecoder(Writing, Inspection):
    """A recurrent encoder, a recurrent decoder and attention between them; for the parameters see `Form`."""

    def with_dtype(self, dtype: DTypeLike) -> EncoderDecoder:
        """A network of the same form and parameter values in another floating-point type."""
        other = EncoderDecoder(**{**self._form(), "dtype": dtype})
        other.parameters.flat[:] = self.parameters.flat
        return other

    def loss(self, batch: PairBatch, expected: NDArray, weights: NDArray | None = None) -> float:
        """Weighted mean loss of the rows of `expected`, without dropout.

        Parameters
        ----------
        batch : PairBatch
        expected : ndarray
            As the method `expected` makes it of the targets; with `decoder_inputs` the targets of all steps, sequence
            after sequence, in the columns that the loss takes, NaN where one is missing.
        weights : ndarray of float64, shape (n_rows,), or None
        """
        expected, weights = self._check(batch, expected, weights)
        total = 0.0
        for _, own, run in self._passes(batch):
            rows = self._rows(run)
            total += self._head_loss(run, expected[own][rows], weights[own][rows])[0]
        total_weight = float(weights.sum())
        return total / total_weight if total_weight else 0.0

    def _head_loss(
        self, run: Pass, expected: NDArray, weights: NDArray, scale: float = 0.0, gradient: Any = None
    ) -> tuple[float, NDArray | None]:
        lengths = np.zeros(0, dtype=np.int64)
        return self.head.loss(
            self._head_view(self.parameters), run.decoded.features, lengths, expected, weights, scale, gradient
        )

    def loss_and_gradient(
        self,
        batch: PairBatch,
        expected: NDArray,
        weights: NDArray | None = None,
        *,
        alpha: float = 0.0,
        bptt_steps: int | None = None,
        dropout_seed: int = 0,
        state: None = None,
    ) -> float:
        """Loss of a batch in training; its gradient is written to `gradient`.

        Parameters
        ----------
        batch, expected, weights
            As for `loss`.
        alpha : float, default=0.0
            Strength of the L2 penalty, as of `Network.loss_and_gradient`.
        bptt_steps, state : None
            Time is not cut into windows here.
        dropout_seed : int, default=0
            Chooses what dropout removes, and which inputs are sampled.

        Returns
        -------
        float
            The weighted mean loss plus the penalty.
        """
        if bptt_steps is not None or state is not None:
            raise ValueError(
                "an encoder and a decoder are trained on whole sequences: bptt_steps and state must be None"
            )
        expected, weights = self._check(batch, expected, weights)
        total_weight = float(weights.sum())
        scale = 1.0 / total_weight if total_weight else 0.0
        self._clear_gradient()
        total, first = 0.0, 0
        for number, chunk in enumerate(self._training_chunks(batch.sources.lengths, batch.targets.lengths)):
            part = part_of(batch, chunk)
            rows = slice(first, first + self._n_expected(part.targets))
            first = rows.stop
            seed = chunk_seed(dropout_seed, number)
            total += self._accumulate(part, expected[rows], weights[rows], scale, seed)
        loss = total * scale
        if alpha and total_weight:
            loss += weight_penalty(self.parameters.flat, self.gradient.flat, *self.weight_spans, alpha * scale)
        return loss

    def _training_chunks(self, sources: NDArray, targets: NDArray) -> Iterator[slice]:
        """The parts of a minibatch, with dropout from a seed for each: see `chunk_seed`."""
        return self._chunks(sources, targets, _TRAINING_BYTES)

    def _accumulate(self, batch: PairBatch, expected: NDArray, weights: NDArray, scale: float, seed: int) -> float:
        """Sum of the losses of a part of a batch; its gradient, times `scale`, is added."""
        parameters, gradient = self.parameters, self.gradient
        run = self._forward(batch, training=True, seed=seed, keep=True)
        rows = self._rows(run)
        total, d_features = self._head_loss(run, expected[rows], weights[rows], scale, self._head_view(gradient))
        assert d_features is not None
        d_inputs, d_summary, d_states = self.decoder.backward(run.decoded, parameters, d_features, gradient)
        if self._embedding is not None:
            assert run.embedded is not None
            drop(d_inputs, self.input_dropout, run.seed, INPUT_STREAM)
            self._embedding.backward(run.embedded, parameters, d_inputs, gradient, need_input=False)
        if self.encoder is not None:
            assert run.encoded is not None
            self._encoder_backward(run.encoded, d_summary, d_states)
        return total

    def _encoder_backward(self, run: TrunkPass, d_summary: NDArray, d_states: NDArray | None) -> None:
        assert self.encoder is not None
        d_final = [np.zeros_like(state) for state in run.state]
        size = self.encoder_sizes[-1]
        n_directions = self.encoder.stack.n_directions
        for number, d_state in enumerate(d_final[-n_directions:]):
            d_state[0] = d_summary[:, number * size : (number + 1) * size]
        if d_states is None:
            d_states = np.zeros_like(run.output)
        self.encoder.backward(run, self.parameters, d_states, self.gradient, d_state=d_final)

    def _clear_gradient(self) -> None:
        """Zero what the last call has written, and not the rows of tables that it has not."""
        for table in self._tables:
            table.forget(self.gradient)
        if self._embedding is not None and self.tied_embeddings:
            self._embedding.forget(self.gradient)
        self.gradient.flat[self._dense :] = 0.0

    def reach(self, batch: PairBatch | None = None) -> Reach:
        """The parts of `gradient` that the last call of `loss_and_gradient` can have made other than zero.

        With a batch, those that a call with it would. As its own predictions are inputs of the decoder, too, scheduled
        sampling reaches every vector of the targets.
        """
        if not self._tables:
            return Reach.all_of(self.parameters.size)
        found = []
        for table in self._tables:
            if batch is None:
                found += table.reached
            elif table is self._source_table:
                found += table.rows_of(batch.sources)
            elif self.sampling_share > 0:
                found.append(np.arange(self.n_outputs))
            else:
                found += table.rows_of(self._inputs(batch.targets))
        return self._reach_of_rows(found)

    def whole_reach(self) -> Reach:
        """All parts of `gradient`: every row of every table."""
        if not self._tables:
            return Reach.all_of(self.parameters.size)
        return self._reach_of_rows([np.arange(table.tables[0][1]) for table in self._tables])

    def _reach_of_rows(self, rows_of_tables: list[NDArray[np.int64]]) -> Reach:
        begins, ends, rows = [np.array([self._dense])], [np.array([self.parameters.size])], []
        n_rows = 0
        for table, reached in zip(self._tables, rows_of_tables, strict=True):
            _, n_entries, dimension = table.tables[0]
            begins.append(self.parameters.span(table.names[0]).start + reached * dimension)
            ends.append(begins[-1] + dimension)
            rows.append(n_rows + reached)
            n_rows += n_entries
        return Reach(
            np.concatenate(begins, dtype=np.int64), np.concatenate(ends, dtype=np.int64), np.concatenate(rows), n_rows
        )
