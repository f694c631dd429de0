"""Pairs of sequences on the device, and the minibatches that are cut out of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numrnn.cuda.batches import Answers, Batch, Values
from numrnn.kernels.cuda.arrays import DeviceArrays, upload
from numrnn.packing import Sequences
from numrnn.seq2seq import EncoderDecoder, PairBatch, Pairs
from numrnn.training.data import TrainingSource

__all__ = ["DevicePairs", "PairSource", "ShuffledPairs"]


class DevicePairs(NamedTuple):
    """Pairs of which the time steps are on the device.

    Attributes
    ----------
    sources : Batch
    inputs : Batch
        What the decoder reads at every step, with what it should put out.
    """

    sources: Batch
    inputs: Batch

    @property
    def answers(self) -> Answers | None:
        return self.inputs.answers

    def part(self, chunk: slice) -> DevicePairs:
        """Some of the pairs; nothing is copied."""
        answers = self.answers
        if answers is not None:
            answers = Answers(answers.targets, answers.weights, answers.starts[chunk], answers.total, answers.n_rows)
        sides = [Batch(side.values, side.starts[chunk], side.lengths[chunk]) for side in (self.sources, self.inputs)]
        sides[1].answers = answers
        return DevicePairs(*sides)


class PairSource:
    """A training set of pairs of which as much as fits lies on the device.

    What the decoder reads and should put out is made and uploaded once for all pairs that are known beforehand; a
    minibatch is then nothing but row numbers. Of windows of series the series is there, and what is made for a
    minibatch is uploaded with it.

    Parameters
    ----------
    network : EncoderDecoder
        On the host.
    data : TrainingSource or None
        None: pairs are given to `made`.
    memory : float
        Bytes that the time steps may take.
    arrays : DeviceArrays
        For what is uploaded with every minibatch.
    queue
    """

    def __init__(
        self, network: EncoderDecoder, data: TrainingSource | None, memory: float, arrays: DeviceArrays, queue: Any
    ) -> None:
        self.network = network
        self.data = data
        self.arrays = arrays
        self.queue = queue
        self._nothing = upload(np.zeros(0, dtype=np.float64), queue)
        self._inputs: Sequences | None = None
        self._stored: tuple[Any, Any] | None = None
        if isinstance(data, Pairs):
            self._check(PairBatch(data.sources, data.targets))
            inputs, expected = network._inputs(data.targets), network.expected(data.targets)
            n_bytes = inputs.values.nbytes + expected.nbytes
            if n_bytes <= memory:
                memory -= n_bytes
                self._inputs = inputs
                self._stored = upload(inputs.values.reshape(-1), queue), upload(expected, queue)
        self.values = Values(memory, arrays, queue)

    @property
    def is_resident(self) -> bool:
        """Whether targets and sources had been on the device before the last minibatch."""
        return self._stored is not None and self.values.is_resident

    def reorder(self, order: NDArray[np.int64] | None) -> ShuffledPairs:
        """The training set in the order of an epoch."""
        return ShuffledPairs(self, order)

    def made(
        self, pairs: PairBatch, expected: NDArray | None = None, weights: NDArray[np.float64] | None = None
    ) -> DevicePairs:
        """Pairs that are on the host; what is uploaded with them is valid until the next call.

        Parameters
        ----------
        pairs : PairBatch
        expected, weights : ndarray or None
            As for `EncoderDecoder.loss`; nothing is expected in inference.
        """
        network, arrays, queue = self.network, self.arrays, self.queue
        self._check(pairs)
        inputs = network._inputs(pairs.targets)
        answers: Answers | None = None
        if expected is not None:
            n_rows = len(expected)
            targets = arrays.put("targets", expected, queue)
            if expected.ndim > 1:
                targets = arrays.matrix("targets", n_rows, expected.shape[1], expected.dtype)
            of_rows = self._nothing if weights is None else arrays.put("weights", weights, queue)
            total = float(n_rows) if weights is None else float(weights.sum())
            answers = Answers(targets, of_rows, inputs.starts, total, n_rows)
        values = arrays.put("inputs of the decoder", inputs.values.reshape(-1), queue)
        return DevicePairs(self._sources(pairs.sources), Batch(values, inputs.starts, inputs.lengths, answers))

    def of_numbers(self, numbers: NDArray[np.int64]) -> DevicePairs | None:
        """Pairs of the training set, if what the decoder reads is on the device."""
        if self._stored is None:
            return None
        assert isinstance(self.data, Pairs) and self._inputs is not None
        (values, expected), starts = self._stored, self._inputs.starts[numbers]
        lengths = self._inputs.lengths[numbers]
        n_rows = int(lengths.sum())
        answers = Answers(expected, self._nothing, starts, float(n_rows), n_rows)
        return DevicePairs(self._sources(self.data.sources.take(numbers)), Batch(values, starts, lengths, answers))

    def _sources(self, sources: Sequences) -> Batch:
        values, placed = self.values.of(sources)
        return Batch(values, placed.starts, placed.lengths)

    def _check(self, pairs: PairBatch) -> None:
        """What kernels do not look at: the numbers that stand for vectors."""
        network = self.network
        network._check_batch(pairs)
        if network.encoder is not None and network.encoder.embedding is not None:
            network.encoder.embedding.check(pairs.sources)
        if network._embedding is not None:
            network._embedding.check(pairs.targets)


class ShuffledPairs:
    """A `PairSource` in the order of one epoch."""

    def __init__(self, source: PairSource, order: NDArray[np.int64] | None) -> None:
        assert source.data is not None
        self.source = source
        self.order = order
        self.shuffled = source.data.reorder(order)
        if source.network.sampling_share > 0:
            raise ValueError(
                "scheduled sampling reads what the decoder writes on its own, which is computed on the CPU: device "
                "must be 'cpu', or the share of sampled inputs 0"
            )

    def batch(self, begin: int, end: int) -> DevicePairs:
        """Members `begin` to `end` of the training set."""
        numbers = np.arange(begin, end, dtype=np.int64) if self.order is None else self.order[begin:end]
        stored = self.source.of_numbers(numbers)
        return self.source.made(*self.shuffled.part(begin, end)) if stored is None else stored
