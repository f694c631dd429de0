"""The classic tasks of long memory: adding two marked numbers among 400, copying ten symbols over 100 blanks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from sklearn.metrics import mean_squared_error

from benchmarks.experiments.experiment import Experiment, Split
from numrnn import RNNRegressor, RNNTagger
from numrnn.datasets import make_adding_problem, make_copy_memory

__all__ = ["EXPERIMENTS"]

_N_MEMORY = 10  # symbols to copy, of an alphabet of 8


def _adding(n_timesteps: int, data: Any, seed: int) -> list[Split]:
    """New sequences for every seed; those of the test are never those of the training."""
    return [
        Split(
            *make_adding_problem(10_000, n_timesteps, random_state=seed),
            *make_adding_problem(2_000, n_timesteps, random_state=10_000 + seed),
        )
    ]


def _adder(cell: str) -> RNNRegressor:
    return RNNRegressor(
        (64,),
        cell=cell,
        learning_rate_init=5e-3,
        learning_rate="cosine",
        batch_size=50,
        max_iter=20,
        tol=0.0,
        n_iter_no_change=20,
    )


def _copying(delay: int, data: Any, seed: int) -> list[Split]:
    """New sequences for every seed, in training and in the test."""
    X, y = make_copy_memory(10_000, delay, random_state=seed)
    X_test, y_test = make_copy_memory(2_000, delay, random_state=10_000 + seed)
    return [Split(list(X), list(y), list(X_test), list(y_test))]


def _copier(cell: str) -> RNNTagger:
    return RNNTagger(
        (128,),
        cell=cell,
        learning_rate_init=5e-3,
        learning_rate="cosine",
        batch_size=50,
        max_iter=20,
        tol=0.0,
        n_iter_no_change=20,
    )


def _recalled(y_true: Sequence[Any], y_pred: Sequence[Any]) -> float:
    """The share of the ten symbols to be copied that are right; the blanks before them count for nothing."""
    return float(
        np.mean([np.asarray(a)[-_N_MEMORY:] == np.asarray(b)[-_N_MEMORY:] for a, b in zip(y_true, y_pred, strict=True)])
    )


_ADDING = tuple(
    Experiment(
        name=f"adding_{cell}",
        task="adding problem (T = 400)",
        network=f"{cell.upper()}, 64 units, last state",
        literature="solved below 0.01; always answering 1: 0.167",
        goal=0.01,
        splits=partial(_adding, 400),
        estimator=partial(_adder, cell),
        metric="mean squared error",
        score=mean_squared_error,
        lower_is_better=True,
        needs_data=False,
        peer_epochs=2,
    )
    for cell in ("lstm", "gru")
)

_COPYING = tuple(
    Experiment(
        name=f"copy_{cell}",
        task="copy memory (10 symbols, delay 100, T = 120)",
        network=f"{cell.upper()}, 128 units, one answer for every step",
        literature="solved above 0.99; guessing: 0.125",
        goal=0.99,
        splits=partial(_copying, 100),
        estimator=partial(_copier, cell),
        metric="share of symbols recalled",
        score=_recalled,
        needs_data=False,
        peer_epochs=2,
    )
    for cell in ("lstm", "gru")
)

EXPERIMENTS = (*_ADDING, *_COPYING)
