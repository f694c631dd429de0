"""What training needs in order to go on, as plain values and arrays: for files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.network import Network
from numrnn.training.loop import TrainingState
from numrnn.training.schedules import SCHEDULES, make_schedule
from numrnn.training.solvers import SOLVERS, AdamW

__all__ = ["checkpoint", "resume"]

# The generator of scikit-learn's random_state.
_GENERATOR = "MT19937"
_COUNTS = ("n_iter", "n_epochs", "n_samples_seen", "no_improvement_count", "schedule_begin")
_NUMBERS = ("best_loss", "best_validation_score")
_LISTS = ("loss_curve", "validation_scores")


def checkpoint(state: TrainingState, rng: np.random.RandomState) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """Everything that determines how training goes on.

    Parameters
    ----------
    state : TrainingState
        After training with a solver given by its name.
    rng : RandomState

    Returns
    -------
    plain : dict
        Numbers, strings, and lists of them.
    arrays : dict of str to ndarray
        Moments of the solver, the best parameters so far, and the state of the generator.
    """
    plain: dict[str, Any] = {name: getattr(state, name) for name in (*_COUNTS, *_NUMBERS, *_LISTS)}
    arrays: dict[str, NDArray] = {}
    if state.solver is not None and isinstance(state.solver_from, str):
        of_solver = state.solver.state()
        plain["solver"] = state.solver_from
        plain["n_updates"] = of_solver.pop("n_updates")
        arrays |= {f"solver_{name}": array for name, array in of_solver.items() if array is not None}
    if state.schedule is not None and isinstance(state.schedule_from[0], str):
        plain["schedule"] = [*state.schedule_from]
        plain["rate"] = state.schedule.learning_rate
    if state.best_parameters is not None:
        arrays["best_parameters"] = state.best_parameters
    kind, keys, position, has_gauss, gauss = rng.get_state(legacy=True)
    if kind == _GENERATOR:
        plain["generator"] = [int(position), int(has_gauss), float(gauss)]
        arrays["generator"] = np.asarray(keys, dtype=np.uint32)
    return plain, arrays


def resume(
    network: Network, plain: dict[str, Any], arrays: dict[str, NDArray]
) -> tuple[TrainingState, np.random.RandomState | None]:
    """What `checkpoint` was given.

    Parameters
    ----------
    network : Network
        The one that is trained.
    plain, arrays
        What `checkpoint` returned.

    Returns
    -------
    state : TrainingState
    rng : RandomState or None
        None if the generator was of a kind that is not kept.

    Raises
    ------
    ValueError
        If the values do not fit each other or the network.
    """
    state = TrainingState()
    for name in _COUNTS:
        setattr(state, name, int(plain[name]))
    for name in _NUMBERS:
        setattr(state, name, float(plain[name]))
    for name in _LISTS:
        setattr(state, name, [float(value) for value in plain[name]])
    flat = network.parameters.flat
    if "solver" in plain:
        name = plain["solver"]
        if name not in SOLVERS:
            raise ValueError(f"unknown solver {name!r}, expected one of {sorted(SOLVERS)}")
        solver = AdamW(spans=network.weight_spans) if name == "adamw" else SOLVERS[name]()
        moments = {key: arrays[f"solver_{key}"] for key in solver.moment_names if f"solver_{key}" in arrays}
        for key, moment in moments.items():
            _check_like(f"solver_{key}", moment, flat)
        rows = arrays.get("solver_rows_updated")
        if rows is not None and (rows.ndim != 1 or rows.dtype != np.int64):
            raise ValueError(f"solver_rows_updated must be a vector of int64, got {rows.shape} {rows.dtype}")
        solver.restore({**moments, "n_updates": int(plain["n_updates"]), "rows_updated": rows})
        state.solver, state.solver_from = solver, name
    if "schedule" in plain:
        name, rate, n_epochs = plain["schedule"]
        if name not in SCHEDULES:
            raise ValueError(f"unknown schedule {name!r}, expected one of {list(SCHEDULES)}")
        state.schedule_from = (name, float(rate), int(n_epochs))
        state.schedule = make_schedule(*state.schedule_from)
        state.schedule.learning_rate = float(plain["rate"])
    if "best_parameters" in arrays:
        _check_like("best_parameters", arrays["best_parameters"], flat)
        state.best_parameters = arrays["best_parameters"].copy()
    if "generator" not in plain:
        return state, None
    rng = np.random.RandomState()
    position, has_gauss, gauss = plain["generator"]
    rng.set_state((_GENERATOR, arrays["generator"], int(position), int(has_gauss), float(gauss)))
    return state, rng


def _check_like(name: str, array: NDArray, flat: NDArray) -> None:
    if array.shape != flat.shape or array.dtype != flat.dtype:
        raise ValueError(f"{name} must be {flat.shape} {flat.dtype}, got {array.shape} {array.dtype}")
