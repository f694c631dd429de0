"""What training remembers from one call to the next."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from numrnn.training.schedules import Schedule
from numrnn.training.solvers import Solver

__all__ = ["TrainingState"]


@dataclass
class TrainingState:
    """What training has done so far, and what it needs in order to go on.

    Attributes
    ----------
    loss_curve : list of float
        Mean training loss of every completed epoch (with dropout and penalty), earlier calls included.
    validation_scores : list of float
        Score after every epoch of early stopping.
    best_loss, best_validation_score : float
    n_iter : int
        Epochs (L-BFGS: iterations) completed in the latest call.
    n_epochs : int
        Epochs completed in all calls.
    n_samples_seen : int
        Sequences used in updates, in all calls.
    no_improvement_count : int
        Epochs in a row that did not improve by `tol`.
    converged : bool
        Whether the latest call ended because nothing improved any more, not because of `max_iter`.
    interrupted : bool
        Whether the latest call was ended by the user.
    solver : Solver or None
        With its moments.
    schedule : Schedule or None
    best_parameters : ndarray or None
        Parameters of the best validation score.
    solver_from, schedule_from
        What they were made from: a later call with other arguments makes new ones.
    schedule_begin : int
        The epoch that the schedule counts as its first.
    """

    loss_curve: list[float] = field(default_factory=list)
    validation_scores: list[float] = field(default_factory=list)
    best_loss: float = math.inf
    best_validation_score: float = -math.inf
    n_iter: int = 0
    n_epochs: int = 0
    n_samples_seen: int = 0
    no_improvement_count: int = 0
    converged: bool = False
    interrupted: bool = False
    solver: Solver | None = None
    schedule: Schedule | None = None
    best_parameters: NDArray | None = None
    solver_from: Any = None
    schedule_from: Any = None
    schedule_begin: int = 0
