"""Where a network is trained: minibatch after minibatch, each a pass there and back and an update by the solver."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from numrnn.kernels.cpu.solvers import scale_spans
from numrnn.network import Network
from numrnn.packing import Sequences
from numrnn.training.compiled_epochs import CompiledEpochs
from numrnn.training.data import TrainingData, TrainingSource
from numrnn.training.solvers import Solver
from numrnn.training.streams import StreamWindows

__all__ = ["Engine", "EngineMaker", "HostEngine", "LossOfAll", "Minibatches", "NotFinite", "Objective"]


class NotFinite(ArithmeticError):
    """A loss or a gradient is not finite; nothing has been updated by it.

    Parameters
    ----------
    what : {"loss", "gradient"}
    value : float
        The loss.
    number : int
        Of the minibatch in its epoch, from 0.
    """

    def __init__(self, what: str, value: float, number: int) -> None:
        super().__init__(what, value, number)
        self.what = what
        self.value = value
        self.number = number


@dataclass(frozen=True)
class Objective:
    """What all minibatches have in common.

    Attributes
    ----------
    penalty : float
        See `alpha` of `Network.loss_and_gradient`.
    bptt_steps : int or None
    max_norm : float
        Longer gradients are scaled to this norm.
    """

    penalty: float
    bptt_steps: int | None
    max_norm: float


@dataclass(frozen=True)
class Minibatches:
    """Those of one epoch.

    Attributes
    ----------
    order : ndarray of int64 or None
        A permutation of the sequences; None for their own order.
    bounds : list of tuple of int
        The minibatches, as ranges of that permutation.
    seeds : list of int
        Of dropout, one for each minibatch.
    """

    order: NDArray[np.int64] | None
    bounds: list[tuple[int, int]]
    seeds: list[int]


class Engine(Protocol):
    """Trains one network on one set of data, and judges it in between.

    Attributes
    ----------
    device_name : str
        Where it trains.
    """

    device_name: str

    def epoch(self, batches: Minibatches, rate: float) -> float:
        """Train on the minibatches, one update after each.

        Returns
        -------
        float
            Sum over the minibatches of their loss times the weight of their rows. The network's `parameters` are those
            after the last update.

        Raises
        ------
        NotFinite
        """
        ...

    def outputs(self, sequences: Sequences) -> NDArray:
        """As `Network.outputs`."""
        ...

    def loss(self, sequences: Sequences, targets: NDArray, weights: NDArray | None) -> float:
        """As `Network.loss`."""
        ...

    def close(self) -> None:
        """Leave everything that was learned in the network and in the solver; called however training ends."""
        ...


# From a vector of parameters to the loss and its gradient, an array of its own.
LossOfAll = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]


class EngineMaker(Protocol):
    """Makes an engine: the class of one."""

    device_name: str

    def __call__(
        self, network: Network, data: TrainingSource, solver: Solver, objective: Objective, batch_size: int
    ) -> Engine: ...

    def loss_of_all(
        self, network: Network, data: TrainingData, alpha: float, bptt_steps: int | None, dropout_seed: int
    ) -> LossOfAll:
        """What a solver that knows no minibatches minimises: the loss of all data as a function of the parameters.

        The arguments are those of `Network.loss_and_gradient`; network and data are in float64.
        """
        ...


class HostEngine:
    """Trains with the kernels of the CPU.

    Parameters
    ----------
    network : Network
    data : TrainingSource
    solver : Solver
    objective : Objective
    batch_size : int
        Members of the source in a minibatch.
    """

    device_name = "cpu"

    def __init__(
        self, network: Network, data: TrainingSource, solver: Solver, objective: Objective, batch_size: int
    ) -> None:
        self.network = network
        self.data = data
        self.solver = solver
        self.objective = objective
        self._mean_weight = data.total_weight / data.n_rows
        self._has_tables = bool(network.embeddings)
        self._compiled: CompiledEpochs | None = None
        if CompiledEpochs.takes(network, data, solver, objective.bptt_steps, batch_size):
            assert isinstance(data, TrainingData)
            self._compiled = CompiledEpochs(network, data, solver, objective.penalty, objective.max_norm, batch_size)

    def epoch(self, batches: Minibatches, rate: float) -> float:
        network, solver, objective = self.network, self.solver, self.objective
        if self._compiled is not None:
            ending = self._compiled.epoch(batches.order, batches.bounds, rate)
            if ending is not None:
                if ending.not_finite is not None:
                    raise NotFinite(ending.not_finite, ending.loss, ending.number)
                return ending.loss_sum
        parameters, gradient = network.parameters.flat, network.gradient.flat
        shuffled = self.data.reorder(batches.order)
        loss_sum = 0.0
        carried = None
        for number, ((begin, end), seed) in enumerate(zip(batches.bounds, batches.seeds, strict=True)):
            sequences, targets, weights = shuffled.part(begin, end)
            if self._has_tables:
                solver.catch_up(parameters, network.reach(sequences), rate)
            loss = network.loss_and_gradient(
                sequences,
                targets,
                weights,
                alpha=objective.penalty,
                bptt_steps=objective.bptt_steps,
                dropout_seed=seed,
                state=carried,
            )
            carried = network.final_state if isinstance(self.data, StreamWindows) else None
            if not math.isfinite(loss):
                raise NotFinite("loss", loss, number)
            reach = network.reach()
            batch_weight = float(len(targets) if weights is None else weights.sum())
            if weights is not None and len(batches.bounds) > 1:
                # The loss of a minibatch is a mean by its own weights. In the mean over all data a minibatch of light
                # rows counts for less.
                factor = gradient.dtype.type(batch_weight / len(targets) / self._mean_weight)
                scale_spans(gradient, reach.begins, reach.ends, factor)
            norm = solver.update(parameters, gradient, rate, objective.max_norm, reach)
            if not math.isfinite(norm):
                raise NotFinite("gradient", loss, number)
            loss_sum += loss * batch_weight
        if self._has_tables:
            solver.catch_up(parameters, network.whole_reach(), rate)
        return loss_sum

    @staticmethod
    def loss_of_all(
        network: Network, data: TrainingData, alpha: float, bptt_steps: int | None, dropout_seed: int
    ) -> LossOfAll:
        def evaluate(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            network.parameters.flat[:] = x
            loss = network.loss_and_gradient(
                data.sequences,
                data.targets,
                data.weights,
                alpha=alpha,
                bptt_steps=bptt_steps,
                dropout_seed=dropout_seed,
            )
            return loss, network.gradient.flat.copy()

        return evaluate

    def outputs(self, sequences: Sequences) -> NDArray:
        return self.network.outputs(sequences)

    def loss(self, sequences: Sequences, targets: NDArray, weights: NDArray | None) -> float:
        return self.network.loss(sequences, targets, weights)

    def close(self) -> None:
        """Nothing has to be brought back."""
