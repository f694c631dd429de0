"""The classic tasks of long memory: adding two marked numbers among 400, copying ten symbols over 100 blanks.

The sequences to learn from are of many lengths, up to that of the test: a network learns to remember over short times
first. Trained on the longest alone it has to begin with gradients that have vanished.
"""

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

_N_TRAIN, _N_TEST, _N_LENGTHS = 10_000, 2_000, 20
_N_MEMORY = 10  # symbols to copy, of an alphabet of 8


def _adding(n_timesteps: int, data: Any, seed: int) -> list[Split]:
    """Training sequences of 20 lengths; test sequences of the last one, new ones for every seed."""
    random = np.random.RandomState(seed)
    parts = [
        make_adding_problem(_N_TRAIN // _N_LENGTHS, int(length), random_state=random)
        for length in np.linspace(n_timesteps / _N_LENGTHS, n_timesteps, _N_LENGTHS)
    ]
    test = make_adding_problem(_N_TEST, n_timesteps, random_state=random)
    return [Split([x for X, _ in parts for x in X], np.concatenate([y for _, y in parts]), list(test[0]), test[1])]


def _adder(cell: str) -> RNNRegressor:
    return RNNRegressor(
        (64,), cell=cell, learning_rate_init=0.01, batch_size=32, max_iter=12, tol=0.0, n_iter_no_change=12
    )


def _copying(delay: int, data: Any, seed: int) -> list[Split]:
    """Training sequences of 20 delays; test sequences of the last one, new ones for every seed."""
    random = np.random.RandomState(seed)
    parts = [
        make_copy_memory(_N_TRAIN // _N_LENGTHS, int(length), n_memory=_N_MEMORY, random_state=random)
        for length in np.linspace(delay / _N_LENGTHS, delay, _N_LENGTHS)
    ]
    test = make_copy_memory(_N_TEST, delay, n_memory=_N_MEMORY, random_state=random)
    return [
        Split([x for X, _ in parts for x in X], [y for _, part in parts for y in part], list(test[0]), list(test[1]))
    ]


def _copier(cell: str) -> RNNTagger:
    return RNNTagger(
        (128,),
        cell=cell,
        learning_rate_init=5e-3,
        learning_rate="cosine",
        batch_size=32,
        max_iter=100,
        tol=0.0,
        n_iter_no_change=100,
    )


def _recalled(y_true: Sequence[Any], y_pred: Sequence[Any]) -> float:
    """The share of the ten symbols to be copied that are right; the blanks before them count for nothing."""
    return float(
        np.mean([np.asarray(a)[-_N_MEMORY:] == np.asarray(b)[-_N_MEMORY:] for a, b in zip(y_true, y_pred, strict=True)])
    )


_ADDING = tuple(
    Experiment(
        name=f"adding_{cell}",
        task="adding problem (T = 400; learned from T = 20 to 400)",
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
        task="copy memory (10 symbols, delay 100; learned from delays 5 to 100)",
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
