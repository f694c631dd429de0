"""Texts into texts by characters: digits backwards, sums, dates; pairs that are generated, for the test other ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.experiments.encoder_decoder import exact_match, peer, speeds_and_samples
from benchmarks.experiments.experiment import Experiment, Split
from benchmarks.experiments.pairs import additions, dates, distinct_pairs, reversals
from numrnn import RNNSeq2Seq

__all__ = ["EXPERIMENTS"]

_N_TEST = 2000


def _splits(
    data: Any, seed: int, *, make: Callable[[np.random.Generator], tuple[str, str]], n_train: int
) -> list[Split]:
    """One split, with pairs of its own for every seed."""
    pairs = distinct_pairs(make, n_train + _N_TEST, seed)
    X, y = [source for source, _ in pairs], [target for _, target in pairs]
    return [Split(X[_N_TEST:], y[_N_TEST:], X[:_N_TEST], y[:_N_TEST])]


def _experiment(
    name: str, task: str, goal: float, make: Callable[..., Any], n_train: int, units: int, max_iter: int
) -> Experiment:
    """Texts rewritten character by character; the tasks differ in pairs, units and epochs."""
    return Experiment(
        name=name,
        task=f"{task}, character by character",
        network=f"bidirectional GRU and GRU, {units} units, additive attention",
        literature=f"goal {goal}",
        goal=goal,
        metric="exact match",
        score=exact_match,
        splits=partial(_splits, make=make, n_train=n_train),
        estimator=partial(
            RNNSeq2Seq,
            (units,),
            embedding_dim=32,
            analyzer="char",
            learning_rate_init=3e-3,
            learning_rate="cosine",
            batch_size=64,
            max_iter=max_iter,
            tol=0.0,
            n_iter_no_change=np.inf,
        ),
        needs_data=False,
        peer=peer,
        details=speeds_and_samples,
    )


EXPERIMENTS = (
    _experiment("reversal", "1 to 20 digits backwards", 0.99, reversals, 20_000, 64, 10),
    _experiment("addition", "sums of two numbers of four digits", 0.98, additions, 50_000, 128, 12),
    _experiment("dates", "dates in 23 forms to ISO 8601", 0.99, dates, 20_000, 64, 8),
)
