"""What estimators that train a network share: parameters of the loop, what a fit leaves behind, errors in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numrnn.training.loop import TrainingState

__all__ = ["leaving_results", "loop_parameters", "unchanged_if_unlearned", "unchanged_on_error"]


def loop_parameters(model: Any) -> dict[str, Any]:
    """The arguments of `train` that are parameters of the model as they are."""
    return {
        "solver": model.solver,
        "learning_rate": model.learning_rate,
        "learning_rate_init": float(model.learning_rate_init),
        "alpha": float(model.alpha),
        "max_iter": int(model.max_iter),
        "tol": float(model.tol),
        "n_iter_no_change": model.n_iter_no_change,
        "max_grad_norm": model.max_grad_norm,
        "rng": model._random,
        "verbose": bool(model.verbose),
        "state": model._state,
    }


@contextmanager
def leaving_results(model: Any, *, incremental: bool, totals: bool = True) -> Iterator[None]:
    """Training within it leaves the attributes that tell of it, `best_loss_` and `t_` if asked for, and no threads.

    Also after an error: the network then has its last good parameters, and is as fitted as it can be.
    """
    state: TrainingState = model._state
    try:
        yield
    finally:
        if model._network.workers is not None:
            model._network.workers.close()
        model.loss_curve_ = state.loss_curve
        model.validation_scores_ = state.validation_scores if model.early_stopping else None
        model.best_validation_score_ = state.best_validation_score if model.early_stopping else None
        model.n_iter_ = state.n_epochs if incremental else state.n_iter
        model.n_parameters_ = model._network.n_parameters
        if totals:
            model.best_loss_, model.t_ = state.best_loss, state.n_samples_seen


def _restore(model: Any, attributes: dict[str, Any]) -> None:
    model.__dict__.clear()
    model.__dict__.update(attributes)


@contextmanager
def unchanged_on_error(model: Any) -> Iterator[dict[str, Any]]:
    """Data that cannot be used leaves a model, fitted or not, as it was; gives the attributes that it had."""
    before = dict(model.__dict__)
    try:
        yield before
    except BaseException:
        _restore(model, before)
        raise


@contextmanager
def unchanged_if_unlearned(model: Any, before: dict[str, Any], *, reset: bool) -> Iterator[None]:
    """A new network whose training fails before its first epoch has ended gives way to the one before.

    So it is where a learning rate cannot be computed, or memory is not there. A loss that stops being finite leaves the
    new network.
    """
    try:
        yield
    except FloatingPointError:
        raise
    except BaseException:
        if reset and not model._state.n_epochs:
            _restore(model, before)
        raise
