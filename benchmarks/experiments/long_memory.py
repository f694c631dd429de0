"""The classic tasks of long memory: adding two marked numbers among 400, copying ten symbols over 100 blanks."""

from __future__ import annotations

from functools import partial
from typing import Any

from sklearn.metrics import mean_squared_error

from benchmarks.experiments.experiment import Experiment, Split
from numrnn import RNNRegressor
from numrnn.datasets import make_adding_problem

__all__ = ["EXPERIMENTS"]


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


EXPERIMENTS = tuple(
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
