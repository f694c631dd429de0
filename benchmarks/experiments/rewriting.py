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


_COMMON = {
    "analyzer": "char",
    "learning_rate": "cosine",
    "tol": 0.0,
    "n_iter_no_change": np.inf,
}

EXPERIMENTS = (
    Experiment(
        name="reversal",
        task="1 to 20 digits backwards, character by character",
        network="bidirectional GRU and GRU, 64 units, additive attention",
        literature="goal 0.99",
        goal=0.99,
        metric="exact match",
        score=exact_match,
        splits=partial(_splits, make=reversals, n_train=20_000),
        estimator=partial(
            RNNSeq2Seq, (64,), embedding_dim=32, learning_rate_init=3e-3, batch_size=64, max_iter=10, **_COMMON
        ),
        needs_data=False,
        peer=peer,
        details=speeds_and_samples,
    ),
    Experiment(
        name="addition",
        task="sums of two numbers of four digits, character by character",
        network="bidirectional GRU and GRU, 128 units, additive attention",
        literature="goal 0.98",
        goal=0.98,
        metric="exact match",
        score=exact_match,
        splits=partial(_splits, make=additions, n_train=50_000),
        estimator=partial(
            RNNSeq2Seq, (128,), embedding_dim=32, learning_rate_init=3e-3, batch_size=64, max_iter=12, **_COMMON
        ),
        needs_data=False,
        peer=peer,
        details=speeds_and_samples,
    ),
    Experiment(
        name="dates",
        task="dates in 23 forms to ISO 8601, character by character",
        network="bidirectional GRU and GRU, 64 units, additive attention",
        literature="goal 0.99",
        goal=0.99,
        metric="exact match",
        score=exact_match,
        splits=partial(_splits, make=dates, n_train=20_000),
        estimator=partial(
            RNNSeq2Seq, (64,), embedding_dim=32, learning_rate_init=3e-3, batch_size=64, max_iter=8, **_COMMON
        ),
        needs_data=False,
        peer=peer,
        details=speeds_and_samples,
    ),
)
