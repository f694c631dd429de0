"""Training of an encoder and a decoder on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.cuda.encoder_decoder import DeviceEncoderDecoder, PairInference
from numrnn.cuda.engine import DeviceEngine
from numrnn.cuda.faults import device_errors
from numrnn.cuda.head import OUTPUT_BYTES
from numrnn.cuda.memory import MemoryNeed, check_memory
from numrnn.cuda.pairs import PairSource
from numrnn.kernels.cpu.losses import weight_penalty
from numrnn.kernels.cuda.arrays import download, free_bytes
from numrnn.seq2seq import EncoderDecoder, PairBatch, Pairs
from numrnn.seq2seq.network import chunk_seed
from numrnn.seq2seq.passes import part_of
from numrnn.training.data import TrainingData, TrainingSource
from numrnn.training.engine import LossOfAll
from numrnn.training.solvers import Solver

__all__ = ["PairEngine", "pair_memory_need"]

Integers = NDArray[np.int64]


class PairEngine(DeviceEngine):
    """`DeviceEngine` for pairs of sequences: the epochs, the solvers and the faults are the same.

    Raises
    ------
    ValueError
        If a share of the decoder's inputs should be its own predictions: these are made on the CPU alone.
    """

    def _prepare(self, network: Any, data: TrainingSource, batch_size: int) -> tuple[Any, Any, Any]:
        device = DeviceEncoderDecoder(network)
        sources, inputs = _lengths_of(network, data)
        need = _checked_need(device, sources, inputs, self.solver, batch_size, _bytes_of(data))
        room = 0.9 * free_bytes() - need.total
        return device, PairSource(network, data, room, device.arrays, device.queue), PairInference(device)

    @staticmethod
    def loss_of_all(
        network: Any, data: TrainingData, alpha: float, bptt_steps: int | None, dropout_seed: int
    ) -> LossOfAll:
        if bptt_steps is not None:
            raise ValueError("an encoder and a decoder are trained on whole sequences: bptt_steps must be None")
        with device_errors("the preparation of training", "Nothing has been learned."):
            return _LossOfAllPairs(network, data, alpha, dropout_seed)


class _LossOfAllPairs:
    """The loss of all pairs and its gradient, in parts of bounded size, the masks of dropout those of the CPU."""

    def __init__(self, network: EncoderDecoder, data: TrainingData, alpha: float, dropout_seed: int) -> None:
        self.network = network
        self.data = data
        self.alpha = alpha
        self.dropout_seed = dropout_seed
        self.device = device = DeviceEncoderDecoder(network)
        pairs: Any = data.sequences
        self._pairs: PairBatch = pairs
        sources, inputs = pairs.sources.lengths, pairs.targets.lengths + network.takes_ids
        need = _checked_need(device, sources, inputs, None, len(sources), 0)
        room = 0.9 * free_bytes() - need.total
        self._source = PairSource(network, None, room, device.arrays, device.queue)
        self._chunks = list(network._training_chunks(sources, pairs.targets.lengths))
        self._made: Any = None

    def __call__(self, x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        network, device, data = self.network, self.device, self.data
        network.parameters.flat[:] = x
        total_weight = data.total_weight
        scale = 1.0 / total_weight if total_weight else 0.0
        total, gradient, first = 0.0, np.zeros_like(network.gradient.flat), 0
        with device_errors("the computation of a gradient", "The network has the parameters of the last iteration."):
            device.upload(network.parameters.flat)
            for number, chunk in enumerate(self._chunks):
                part = part_of(self._pairs, chunk)
                rows = slice(first, first + network._n_expected(part.targets))
                first = rows.stop
                if self._made is None or len(self._chunks) > 1:
                    weights = None if data.weights is None else data.weights[rows]
                    self._made = self._source.made(part, data.targets[rows], weights)
                device.accumulate(self._made, scale, dropout_seed=chunk_seed(self.dropout_seed, number))
                total += float(download(device.losses, device.queue)[: rows.stop - rows.start].sum())
                gradient += download(device.gradient, device.queue)
        loss = total * scale
        if self.alpha and total_weight:
            loss += weight_penalty(network.parameters.flat, gradient, *network.weight_spans, self.alpha * scale)
        return loss, gradient


# ------------------------------------------------------------------------------------------------------------- memory
def _lengths_of(network: EncoderDecoder, data: TrainingSource) -> tuple[Integers, Integers]:
    """Rows of the source and of the decoder's inputs, of every pair."""
    if isinstance(data, Pairs):
        return data.sources.lengths, data.targets.lengths + int(network.takes_ids)
    steps = data.n_rows // len(data)
    return np.asarray(data.lengths), np.full(len(data), steps, dtype=np.int64)


def _bytes_of(data: TrainingSource) -> int:
    if not isinstance(data, Pairs):
        return 0
    return int(data.sources.values.nbytes + 2 * data.targets.values.nbytes)


def _checked_need(
    device: DeviceEncoderDecoder,
    sources: Integers,
    inputs: Integers,
    solver: Solver | None,
    batch_size: int,
    n_bytes: int,
) -> MemoryNeed:
    def need_of(size: int, _: int | None) -> MemoryNeed:
        return pair_memory_need(device, sources, inputs, solver, size, n_bytes)

    longest = int((sources + inputs).max(initial=0))
    return check_memory(need_of, free_bytes(), longest, batch_size, None, False)


def pair_memory_need(
    device: DeviceEncoderDecoder,
    sources: Integers,
    inputs: Integers,
    solver: Solver | None,
    batch_size: int,
    n_bytes: int = 0,
) -> MemoryNeed:
    """What training needs: see `memory_need`. Time steps are those of sources and of inputs together.

    Parameters
    ----------
    device : DeviceEncoderDecoder
    sources, inputs : ndarray of int64, shape (n_pairs,)
        Rows of every source, and of what the decoder reads.
    solver : Solver or None
    batch_size : int
    n_bytes : int, default=0
        Of the training set.
    """
    network, item = device.network, device.dtype.itemsize
    n_moments = 0 if solver is None else len(solver.moment_names)
    tables = [table.tables[0] for table in network._tables]
    if network.tied_embeddings:
        tables.append((0, network.n_outputs, network.target_embedding))
    parameters = network.n_parameters * (item * (2 + n_moments) + 1) + sum(8 * rows * size for _, rows, size in tables)
    # The most expensive pairs together, as many as are worked on at a time.
    largest = np.argsort(-(sources + inputs), kind="stable")[:batch_size]
    sources, inputs = sources[largest], inputs[largest]
    most, n_steps, n_inputs = 0.0, 0, 0
    for chunk in network._training_chunks(sources, inputs - int(network.takes_ids)):
        longest = int(sources[chunk].max(initial=1)) if network.attention is not None else 1
        of_source, of_input = device.row_bytes(longest)
        total = float(of_source * sources[chunk].sum() + of_input * inputs[chunk].sum())
        if total >= most:
            most, n_inputs = total, int(inputs[chunk].sum())
            n_steps = n_inputs + int(sources[chunk].sum())
    at_once = n_inputs * network.n_outputs * item * (1 if network.loss_name == "cross_entropy" else 2)
    return MemoryNeed(
        parameters=int(parameters),
        step=int(-(-most // max(n_steps, 1))),
        whole_step=0,
        outputs=int(min(at_once, OUTPUT_BYTES)),
        n_steps=n_steps,
        n_whole_steps=n_steps,
        data=n_bytes,
    )
