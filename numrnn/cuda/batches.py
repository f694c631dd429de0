"""Sequences and their targets on the device, and the minibatches that are cut out of them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.embedding import Embedding
from numrnn.kernels.cuda.arrays import DeviceArrays, Stager, step_rows, upload
from numrnn.packing import Packing, Sequences
from numrnn.training.data import TrainingData, TrainingSource

__all__ = ["Answers", "Batch", "Plan", "Plans", "Shuffled", "Source", "Values", "WindowRows", "batch_of"]

# So many plans of batches are remembered; batches of one length all have the same.
_REMEMBERED_PLANS = 16

Integers = NDArray[np.int64]


@dataclass
class Answers:
    """Targets and weights on the device.

    Attributes
    ----------
    targets : device array
        Class numbers (n,), or values (n, n_columns).
    weights : device array of float64
        (n,), or of length 0 if all are 1.
    starts : ndarray of int64, shape (n_sequences,)
        Where those of each sequence of a batch begin.
    total : float
        Sum of the weights in the batch.
    n_rows : int
        Rows of the batch that have a target.
    """

    targets: Any
    weights: Any
    starts: Integers
    total: float
    n_rows: int


@dataclass
class Batch:
    """Sequences of which the time steps are on the device.

    Attributes
    ----------
    values : device array
        One-dimensional; rows of features.
    starts, lengths : ndarray of int64, shape (n_sequences,)
        The row at which each sequence begins, and its time steps.
    answers : Answers or None
        None for inference.
    """

    values: Any
    starts: Integers
    lengths: Integers
    answers: Answers | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def max_length(self) -> int:
        return int(self.lengths.max(initial=0))


class Plan:
    """How sequences of some lengths are walked, with the tables for it on the device.

    Attributes
    ----------
    packing : Packing
    offsets, order, steps : device arrays of int64
        Where the rows of each time step begin, the number of the sequence at each position, its time steps.
    place, owner : device arrays of int64, shape (n_rows,)
        Of each packed row, where it lies if sequence follows upon sequence, and the number of its sequence.
    """

    def __init__(self, lengths: Integers, arrays: DeviceArrays, queue: Any) -> None:
        self.packing = packing = Packing(lengths)
        self.arrays = arrays
        self.n_rows, self.n_sequences = packing.n_rows, packing.n_sequences
        self.n_timesteps = packing.n_timesteps
        firsts = np.cumsum(lengths) - lengths
        self.offsets = arrays.put("offsets", packing.offsets, queue)
        self.order = arrays.put("order", packing.order, queue)
        self.steps = arrays.put("steps", packing.lengths, queue)
        starts = arrays.put("starts", np.concatenate([firsts, np.arange(len(lengths), dtype=np.int64)]), queue)
        self.place = arrays.at_least("place", self.n_rows, np.int64)
        self.owner = arrays.at_least("owner", self.n_rows, np.int64)
        step_rows(queue, self.offsets, self.n_timesteps, self.order, starts, 0, 1, self.place)
        step_rows(queue, self.offsets, self.n_timesteps, self.order, starts, self.n_sequences, 0, self.owner)


class Plans:
    """Makes plans, and remembers the last ones. The memory of one that is forgotten serves the next."""

    def __init__(self) -> None:
        self._plans: OrderedDict[bytes, Plan] = OrderedDict()

    def of(self, lengths: Integers, queue: Any) -> Plan:
        """The plan for these lengths; it may be used until so many others have been asked for."""
        key = lengths.tobytes()
        plan = self._plans.get(key)
        if plan is None:
            arrays = DeviceArrays()
            if len(self._plans) >= _REMEMBERED_PLANS:
                arrays = self._plans.popitem(last=False)[1].arrays
            plan = self._plans[key] = Plan(lengths, arrays, queue)
        self._plans.move_to_end(key)
        return plan


class WindowRows:
    """A window of time of a batch: its plan, and where its rows lie in the data and among the targets.

    Attributes
    ----------
    plan : Plan
    source, answer : device arrays of int64, shape (n_rows,)
        Of each packed row the row in the data, and among the targets where each time step has one.
    """

    def __init__(
        self,
        plans: Plans,
        arrays: DeviceArrays,
        batch: Batch,
        begin: int | Integers,
        end: int | Integers,
        by_step: bool,
        queue: Any,
    ) -> None:
        first = np.minimum(begin, batch.lengths)
        self.lengths = np.clip(end, first, batch.lengths) - first
        self.plan = plan = plans.of(self.lengths, queue)
        answers = batch.answers.starts + first if by_step and batch.answers is not None else np.zeros(0, np.int64)
        starts = arrays.put("starts", np.concatenate([batch.starts + first, answers]), queue)
        self.source = arrays.at_least("source rows", plan.n_rows, np.int64)
        step_rows(queue, plan.offsets, plan.n_timesteps, plan.order, starts, 0, 1, self.source)
        self.answer = self.source
        if len(answers):
            self.answer = arrays.at_least("answer rows", plan.n_rows, np.int64)
            first_answer = len(batch)
            step_rows(queue, plan.offsets, plan.n_timesteps, plan.order, starts, first_answer, 1, self.answer)


def batch_of(values: Any, sequences: Sequences, answers: Answers | None = None) -> Batch:
    """A batch of sequences whose `values` are on the device already."""
    return Batch(values, sequences.starts, sequences.lengths, answers)


class Values:
    """Time steps on the device: all rows of an array at once where there is room, else those that are asked for.

    Parameters
    ----------
    memory : float
        Bytes that they may take.
    arrays : DeviceArrays
        For rows that are uploaded each time.
    queue
    """

    def __init__(self, memory: float, arrays: DeviceArrays, queue: Any) -> None:
        self.memory = memory
        self.arrays = arrays
        self.queue = queue
        self.stager: Stager | None = None
        self._host: NDArray | None = None
        self._device: Any = None

    @property
    def is_resident(self) -> bool:
        """Whether all rows of the last array are on the device."""
        return self._device is not None

    def of(self, sequences: Sequences) -> tuple[Any, Sequences]:
        """The time steps on the device, and where the sequences lie in them."""
        values = sequences.values
        if values is self._host and self._device is not None:
            return self._device, sequences
        if values.nbytes <= self.memory:
            # The same array again and again: all that there is, or what other minibatches will share.
            self._host, self._device = values, upload(values.reshape(-1), self.queue)
            return self._device, sequences
        self._host = self._device = None
        if self.stager is None:
            self.stager = Stager(self.arrays)
        starts = np.cumsum(sequences.lengths) - sequences.lengths
        own = self.stager.put("values", values, sequences.rows(), self.queue)
        return own, Sequences(values, starts, sequences.lengths)


class Source:
    """A training set of which as much as fits lies on the device.

    Time steps that all minibatches share are uploaded once, and so are targets and weights that are known beforehand;
    minibatches are then nothing but row numbers. What does not fit, or is made minibatch by minibatch, is uploaded with
    each of them.

    Parameters
    ----------
    data : TrainingSource
    per_step : bool
        Whether every time step has a target.
    embedding : Embedding or None
        Checks the numbers that stand for rows of its tables.
    memory : float
        Bytes that the time steps may take.
    arrays : DeviceArrays
        For what is uploaded with every minibatch.
    queue
        Where copies are launched.
    """

    def __init__(
        self,
        data: TrainingSource,
        per_step: bool,
        embedding: Embedding | None,
        memory: float,
        arrays: DeviceArrays,
        queue: Any,
    ) -> None:
        self.data = data
        self.per_step = per_step
        self.embedding = embedding
        self.arrays = arrays
        self.queue = queue
        self.values = Values(memory, arrays, queue)
        self._nothing = upload(np.zeros(0, dtype=np.float64), queue)
        self._targets: Any = None
        self._weights: Any = self._nothing
        self._weight_sums: NDArray | None = None
        if isinstance(data, TrainingData):
            self._targets = upload(data.targets, queue)
            if data.weights is not None:
                self._weights = upload(data.weights, queue)
                self._weight_sums = data.weights
                if data.row_starts is not None:
                    sums = np.concatenate([[0.0], np.cumsum(data.weights)])
                    self._weight_sums = sums[data.row_starts + data.lengths] - sums[data.row_starts]
            if embedding is not None:
                embedding.check(data.sequences)

    def reorder(self, order: Integers | None) -> Shuffled:
        """The training set in the order of an epoch."""
        return Shuffled(self, order)


class Shuffled:
    """A `Source` in the order of one epoch."""

    def __init__(self, source: Source, order: Integers | None) -> None:
        self.source = source
        self.order = order
        self.shuffled = source.data.reorder(order)

    def batch(self, begin: int, end: int) -> Batch:
        """Members `begin` to `end` of the training set."""
        source, data = self.source, self.source.data
        if not isinstance(data, TrainingData):
            return self._made(begin, end)
        numbers = np.arange(begin, end, dtype=np.int64) if self.order is None else self.order[begin:end]
        values, sequences = source.values.of(data.sequences.take(numbers))
        starts = numbers if data.row_starts is None else data.row_starts[numbers]
        n_rows = int(sequences.lengths.sum()) if source.per_step else len(numbers)
        sums = source._weight_sums
        total = float(n_rows) if sums is None else float(sums[numbers].sum())
        return batch_of(values, sequences, Answers(source._targets, source._weights, starts, total, n_rows))

    def _made(self, begin: int, end: int) -> Batch:
        source = self.source
        sequences, targets, weights = self.shuffled.part(begin, end)
        if source.embedding is not None:
            source.embedding.check(sequences)
        values, placed = source.values.of(sequences)
        n_rows = len(targets)
        lengths = sequences.lengths
        starts = np.cumsum(lengths) - lengths if source.per_step else np.arange(len(lengths), dtype=np.int64)
        total = float(n_rows) if weights is None else float(weights.sum())
        of_rows = source._nothing if weights is None else source.arrays.put("weights", weights, source.queue)
        # Values of several outputs are a matrix, class numbers are not.
        of_targets = source.arrays.put("targets", targets, source.queue)
        if targets.ndim > 1:
            of_targets = source.arrays.matrix("targets", len(targets), targets.shape[1], targets.dtype)
        return batch_of(values, placed, Answers(of_targets, of_rows, starts, total, n_rows))
