"""Learning-rate schedules: epoch (counted from 0) -> learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["SCHEDULES", "Constant", "Cosine", "ReduceOnPlateau", "Schedule", "Step", "make_schedule"]


class Schedule:
    """A learning rate for every epoch.

    Parameters
    ----------
    learning_rate : float
        The rate to start from.
    """

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = learning_rate

    def __call__(self, epoch: int) -> float:
        return self.learning_rate

    def on_plateau(self) -> bool:
        """Called when training has stopped improving: whether it should go on nevertheless."""
        return False


class Constant(Schedule):
    """The same rate for ever.

    Examples
    --------
    >>> Constant(0.01)(7)
    0.01
    """


class Step(Schedule):
    """The rate is multiplied by `factor` every `every` epochs.

    Parameters
    ----------
    learning_rate : float
    every : int, default=30
    factor : float, default=0.1

    Examples
    --------
    >>> schedule = Step(0.8, every=10, factor=0.5)
    >>> [schedule(epoch) for epoch in (0, 9, 10, 25)]
    [0.8, 0.8, 0.4, 0.2]
    """

    def __init__(self, learning_rate: float, every: int = 30, factor: float = 0.1) -> None:
        super().__init__(learning_rate)
        if every < 1:
            raise ValueError(f"every must be a positive number of epochs, got {every}")
        self.every = every
        self.factor = factor

    def __call__(self, epoch: int) -> float:
        return self.learning_rate * self.factor ** (epoch // self.every)


class Cosine(Schedule):
    """A linear warm-up, then half a cosine down to `final`; begins anew when it is over.

    Loshchilov, I. and Hutter, F. (2017). SGDR: stochastic gradient descent with warm restarts. ICLR.

    Parameters
    ----------
    learning_rate : float
        The highest rate.
    n_epochs : int
        The length of warm-up and cosine together.
    warm_up : int, default=0
        Epochs of the warm-up: epoch i has ``(i + 1) / (warm_up + 1)`` of the highest rate.
    final : float, default=0.0
        The rate at which the cosine would arrive after the last epoch.

    Examples
    --------
    >>> schedule = Cosine(1.0, n_epochs=5, warm_up=1)
    >>> [round(schedule(epoch), 4) for epoch in range(6)]
    [0.5, 1.0, 0.8536, 0.5, 0.1464, 0.5]
    """

    def __init__(self, learning_rate: float, n_epochs: int, warm_up: int = 0, final: float = 0.0) -> None:
        super().__init__(learning_rate)
        if not 0 <= warm_up < n_epochs:
            raise ValueError(f"warm_up must be at least 0 and less than n_epochs = {n_epochs}, got {warm_up}")
        self.n_epochs = n_epochs
        self.warm_up = warm_up
        self.final = final

    def __call__(self, epoch: int) -> float:
        epoch %= self.n_epochs
        if epoch < self.warm_up:
            return self.learning_rate * (epoch + 1) / (self.warm_up + 1)
        progress = (epoch - self.warm_up) / (self.n_epochs - self.warm_up)
        return self.final + (self.learning_rate - self.final) * 0.5 * (1.0 + math.cos(math.pi * progress))


class ReduceOnPlateau(Schedule):
    """The rate is multiplied by `factor` whenever training stops improving; below `minimum` training ends instead.

    With the default values this is ``learning_rate="adaptive"`` of scikit-learn's MLPClassifier.

    Parameters
    ----------
    learning_rate : float
    factor : float, default=0.2
    minimum : float, default=1e-6

    Examples
    --------
    >>> schedule = ReduceOnPlateau(0.1, factor=0.5)
    >>> schedule.on_plateau(), schedule(3)
    (True, 0.05)
    """

    def __init__(self, learning_rate: float, factor: float = 0.2, minimum: float = 1e-6) -> None:
        super().__init__(learning_rate)
        if not 0 < factor < 1:
            raise ValueError(f"factor must lie between 0 and 1, got {factor}")
        self.factor = factor
        self.minimum = minimum

    def on_plateau(self) -> bool:
        if self.learning_rate <= self.minimum:
            return False
        self.learning_rate *= self.factor
        return True


SCHEDULES = ("constant", "step", "cosine", "adaptive")


class _Function(Schedule):
    """A function of the user, epoch -> rate."""

    def __init__(self, function: Callable[[int], float]) -> None:
        super().__init__(math.nan)
        self.function = function

    def __call__(self, epoch: int) -> float:
        rate = float(self.function(epoch))
        if not 0 <= rate < math.inf:
            raise ValueError(f"a learning rate must be finite and not negative, got {rate} in epoch {epoch}")
        return rate


def make_schedule(schedule: str | Schedule | Callable[[int], float], learning_rate: float, n_epochs: int) -> Schedule:
    """A schedule from its name, or from a function of the epoch.

    Parameters
    ----------
    schedule : {"constant", "step", "cosine", "adaptive"}, Schedule or callable
        "step" divides the rate by 10 after each third of the epochs; "cosine" warms up over the first twentieth of
        them; "adaptive" is `ReduceOnPlateau`. A callable gives the rate of the epoch that it is called with.
    learning_rate : float
        The rate to start from, for schedules given by name.
    n_epochs : int
        How long training is meant to last.

    Examples
    --------
    >>> make_schedule("step", 0.1, 90)(30)
    0.010000000000000002
    >>> make_schedule(lambda epoch: 0.5**epoch, 0.1, 90)(2)
    0.25
    """
    if isinstance(schedule, Schedule):
        return schedule
    if schedule == "constant":
        return Constant(learning_rate)
    if schedule == "step":
        return Step(learning_rate, every=max(-(-n_epochs // 3), 1))
    if schedule == "cosine":
        return Cosine(learning_rate, n_epochs, warm_up=n_epochs // 20)
    if schedule == "adaptive":
        return ReduceOnPlateau(learning_rate)
    if callable(schedule):
        return _Function(schedule)
    raise ValueError(f"learning_rate must be one of {list(SCHEDULES)} or a function of the epoch, got {schedule!r}")
