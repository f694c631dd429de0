"""Training on the device: data, parameters and moments stay there, the host hears of them once in an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.cuda.batches import Source
from numrnn.cuda.faults import device_errors
from numrnn.cuda.inference import DeviceInference
from numrnn.cuda.memory import MemoryNeed, check_memory, memory_need
from numrnn.cuda.network import DeviceNetwork
from numrnn.cuda.solvers import DeviceSolver
from numrnn.kernels.cpu.losses import weight_penalty
from numrnn.kernels.cuda.arrays import download, free_bytes
from numrnn.network import Network
from numrnn.packing import Sequences
from numrnn.training.data import TrainingData, TrainingSource
from numrnn.training.engine import LossOfAll, Minibatches, NotFinite, Objective
from numrnn.training.solvers import Solver
from numrnn.training.streams import StreamWindows

__all__ = ["DeviceEngine"]


class DeviceEngine:
    """Trains with the kernels of a CUDA device; the parameters are those of `HostEngine`.

    In an epoch nothing is waited for: losses and norms of the gradient of all minibatches are written to a record on
    the device. If one is not finite, the updates from there on do nothing. At the end the record and the parameters are
    brought to the host, whose network then has what was learned, whatever happens to the device later.

    Raises
    ------
    MemoryError
        If a minibatch does not fit; the message says what would.
    RuntimeError
        If the device fails.
    """

    device_name = "cuda"

    def __init__(
        self, network: Network, data: TrainingSource, solver: Solver, objective: Objective, batch_size: int
    ) -> None:
        self.network = network
        self.objective = objective
        self.solver = solver
        self._streams = isinstance(data, StreamWindows)
        self._mean_weight = data.total_weight / data.n_rows
        self._on_device: DeviceSolver | None = None
        # Whether the device has learned what the host does not have, and whether it still answers.
        self._is_ahead = False
        self._is_broken = False
        self._n_epochs = 0
        with self._faults("the preparation of training", "Nothing has been learned."):
            self.device, self._source, self._inference = self._prepare(network, data, batch_size)

    def _prepare(self, network: Any, data: TrainingSource, batch_size: int) -> tuple[Any, Any, Any]:
        """The network on the device, the data as far as they fit beside it, and what judges in between."""
        device = DeviceNetwork(network)
        lengths, steps = data.lengths, self.objective.bptt_steps
        if isinstance(data, StreamWindows):
            # Here a minibatch is one window of all streams.
            lengths = data.window_lengths
            batch_size = len(lengths)
        longest, of_stack = int(lengths.max(initial=0)), device.stack.step_bytes

        def need_of(size: int, steps: int | None) -> MemoryNeed:
            return memory_need(network, data, lengths, self.solver, size, steps, of_stack, device.trunk)

        free = free_bytes()
        need = check_memory(need_of, free, longest, batch_size, steps, not network.bidirectional)
        room = 0.9 * free - need.total
        source = Source(data, device.per_step, network.trunk.embedding, room, device.arrays, device.queue)
        return device, source, DeviceInference(device, keeps_values=True)

    @staticmethod
    def loss_of_all(
        network: Network, data: TrainingData, alpha: float, bptt_steps: int | None, dropout_seed: int
    ) -> LossOfAll:
        """As `HostEngine.loss_of_all`: the gradient is the device's, the vectors of the solver are the host's."""
        with device_errors("the preparation of training", "Nothing has been learned."):
            return _LossOfAll(network, data, alpha, bptt_steps, dropout_seed)

    @contextmanager
    def _faults(self, doing: str, consequence: str) -> Iterator[None]:
        try:
            with device_errors(doing, consequence):
                yield
        except (MemoryError, RuntimeError):
            self._is_broken = True
            raise

    def epoch(self, batches: Minibatches, rate: float) -> float:
        self._n_epochs += 1
        consequence = "The network has the parameters of the epoch before."
        with self._faults(f"epoch {self._n_epochs} of training", consequence):
            solver = self._start(rate)
            solver.begin(len(batches.bounds))
            shuffled = self._source.reorder(batches.order)
            self._is_ahead = True
            totals = np.zeros(len(batches.bounds))
            carried = None
            for number in range(len(batches.bounds)):
                totals[number], carried = self._minibatch(solver, shuffled, batches, number, rate, carried)
            record, failed = solver.conclude(len(totals))
            if failed is not None:
                self._is_ahead = False
                what = "gradient" if np.isfinite(record[failed, 0]) else "loss"
                raise NotFinite(what, float(record[failed, 0]), failed)
            self.device.download()
            self._is_ahead = False
            return float(sum(record[:, 0] * totals))

    def _start(self, rate: float) -> DeviceSolver:
        """The solver on the device; made when the first learning rate is known."""
        if self._on_device is None:
            if self.network.embeddings:
                # Rows of tables make the updates that they have missed; from now on they take part in all.
                self.solver.catch_up(self.network.parameters.flat, self.network.whole_reach(), rate)
                self.device.upload(self.network.parameters.flat)
            self._on_device = DeviceSolver(self.solver, self.network, self.device.queue)
        return self._on_device

    def _minibatch(
        self, solver: DeviceSolver, shuffled: Any, batches: Minibatches, number: int, rate: float, state: Any
    ) -> tuple[float, Any]:
        """One minibatch and its update: the sum of its weights, and the state that goes into the next one."""
        device, objective = self.device, self.objective
        batch = shuffled.batch(*batches.bounds[number])
        answers = batch.answers
        assert answers is not None
        scale = 1.0 / answers.total if answers.total else 0.0
        factor = 1.0
        if answers.weights.size > 0 and len(batches.bounds) > 1:
            # The loss of a minibatch is a mean by its own weights. In the mean over all data a minibatch of light rows
            # counts for less.
            factor = answers.total / answers.n_rows / self._mean_weight
        device.accumulate(
            batch, scale * factor, bptt_steps=objective.bptt_steps, dropout_seed=batches.seeds[number], state=state
        )
        penalty = objective.penalty * scale
        solver.update(
            device.parameters,
            device.gradient,
            device.losses,
            answers.n_rows,
            number=number,
            loss_scale=scale,
            penalty=penalty,
            strength=penalty * factor,
            max_norm=objective.max_norm,
            learning_rate=rate,
        )
        return answers.total, device.state if self._streams else None

    def outputs(self, sequences: Sequences) -> NDArray:
        return self._inference.outputs(sequences)

    def loss(self, sequences: Sequences, targets: NDArray, weights: NDArray | None) -> float:
        return self._inference.loss(sequences, targets, weights)

    def close(self) -> None:
        """Bring what was learned to the host, if the device still answers."""
        if self._is_broken or self._on_device is None:
            return
        with self._faults("the end of training", "The network has the parameters of the last whole epoch."):
            if self._is_ahead:
                self.device.download()
            self._on_device.download()


class _LossOfAll:
    """The loss of all data and its gradient, from as many sequences at a time as the device holds."""

    def __init__(
        self, network: Network, data: TrainingData, alpha: float, bptt_steps: int | None, dropout_seed: int
    ) -> None:
        self.network = network
        self.data = data
        self.alpha = alpha
        self.bptt_steps = bptt_steps
        self.dropout_seed = dropout_seed
        self.device = device = DeviceNetwork(network)
        lengths = data.lengths

        def need_of(size: int, steps: int | None) -> MemoryNeed:
            return memory_need(network, data, lengths, None, size, steps, device.stack.step_bytes, device.trunk)

        free, longest = free_bytes(), int(lengths.max(initial=0))
        need = check_memory(need_of, free, longest, 1, bptt_steps, not network.bidirectional)
        room = 0.9 * free - need.total
        # The time steps stay on the device if they leave it half of what is there.
        half = min(room / 2, 2.0**60)
        self._source = Source(data, device.per_step, network.trunk.embedding, half, device.arrays, device.queue)
        windows = lengths if bptt_steps is None else np.minimum(lengths, bptt_steps)
        costs = windows * (need.step + data.sequences.n_features * network.dtype.itemsize) + lengths * need.whole_step
        self._chunks = list(network._chunks(costs, int(max(half, 1))))

    def __call__(self, x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        network, device = self.network, self.device
        network.parameters.flat[:] = x
        total_weight = self.data.total_weight
        scale = 1.0 / total_weight if total_weight else 0.0
        total, gradient = 0.0, np.zeros_like(network.gradient.flat)
        with device_errors("the computation of a gradient", "The network has the parameters of the last iteration."):
            device.upload(network.parameters.flat)
            shuffled = self._source.reorder(None)
            for number, chunk in enumerate(self._chunks):
                batch = shuffled.batch(chunk.start, chunk.stop)
                assert batch.answers is not None
                seed = (self.dropout_seed + 7919 * number) % 2**31
                device.accumulate(batch, scale, bptt_steps=self.bptt_steps, dropout_seed=seed)
                total += float(download(device.losses, device.queue)[: batch.answers.n_rows].sum())
                gradient += download(device.gradient, device.queue)
        loss = total * scale
        if self.alpha and total_weight:
            loss += weight_penalty(network.parameters.flat, gradient, *network.weight_spans, self.alpha * scale)
        return loss, gradient
