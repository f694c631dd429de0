"""Small sets of time series from the UCR/UEA archive, in their official splits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.experiments.data import read_ucr_uea
from benchmarks.experiments.experiment import Experiment, Split, standardised
from numrnn import RNNClassifier

__all__ = ["EXPERIMENTS"]


def _splits(name: str, data: Path, seed: int) -> list[Split]:
    """The official split, standardised by the training part; an array if all sequences are of one length."""
    parts = [
        np.stack(part) if isinstance(part, list) and len({len(x) for x in part}) == 1 else part
        for part in read_ucr_uea(data, name)
    ]
    return [standardised(Split(*parts))]


def _classifier(**settings: Any) -> Callable[[], RNNClassifier]:
    defaults = {
        "bidirectional": True,
        "learning_rate_init": 5e-3,
        "learning_rate": "cosine",
        "tol": 0.0,
        "n_iter_no_change": 1000,
    }
    return partial(RNNClassifier, **{**defaults, **settings})


EXPERIMENTS = (
    Experiment(
        name="japanese_vowels",
        task="JapaneseVowels: 9 speakers, ragged (T = 7 to 29, 12 features)",
        network="bidirectional GRU, 64 units, mean over time",
        literature="goal 0.97",
        goal=0.97,
        splits=partial(_splits, "JapaneseVowels"),
        estimator=_classifier(hidden_layer_sizes=(64,), cell="gru", pooling="mean", batch_size=16, max_iter=50),
    ),
    Experiment(
        name="basic_motions",
        task="BasicMotions: 4 activities (T = 100, 6 features)",
        network="bidirectional GRU, 32 units, maximum over time",
        literature="goal 1.00",
        goal=1.0,
        splits=partial(_splits, "BasicMotions"),
        estimator=_classifier(hidden_layer_sizes=(32,), cell="gru", pooling="max", batch_size=8, max_iter=60),
    ),
    Experiment(
        name="italy_power_demand",
        task="ItalyPowerDemand: 2 seasons (T = 24, univariate)",
        network="bidirectional simple RNN, 32 units, last states",
        literature="goal 0.96",
        goal=0.96,
        splits=partial(_splits, "ItalyPowerDemand"),
        estimator=_classifier(
            hidden_layer_sizes=(32,), cell="rnn", pooling="last", batch_size=8, max_iter=60, learning_rate_init=3e-3
        ),
    ),
    Experiment(
        name="gun_point",
        task="GunPoint: 2 gestures (T = 150, univariate)",
        network="bidirectional LSTM, 32 units, mean over time",
        literature="goal 0.90",
        goal=0.90,
        splits=partial(_splits, "GunPoint"),
        estimator=_classifier(hidden_layer_sizes=(32,), cell="lstm", pooling="mean", batch_size=8, max_iter=150),
    ),
)
