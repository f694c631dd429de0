"""The language of a surname by its letters: 18 languages, a tenth of each for the test.

The lists have names more than once: 2,038 of the 20,050 lines repeat a name of the same language, most of them Arabic,
so that a network can know them by heart. The second experiment takes every name of a language once, and all names of
its test are new unless another language has them.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline

from benchmarks.experiments.data import read_surnames
from benchmarks.experiments.experiment import Experiment, Split
from numrnn import RNNClassifier, SequenceEncoder

__all__ = ["EXPERIMENTS"]


def _splits(data: Path, seed: int, *, distinct: bool) -> list[Split]:
    """One split, the same for every seed."""
    names, languages = read_surnames(data)
    pairs = list(zip(names, languages, strict=True))
    if distinct:
        pairs = list(dict.fromkeys(pairs))
    names, languages = [name for name, _ in pairs], np.array([language for _, language in pairs])
    X_train, X_test, y_train, y_test = train_test_split(
        names, languages, test_size=0.1, stratify=languages, random_state=0
    )
    return [Split(X_train, y_train, X_test, y_test)]


def _classifier() -> Pipeline:
    return make_pipeline(
        SequenceEncoder(analyzer="char", lowercase=False, min_df=2),
        RNNClassifier(
            (128,),
            embedding_dim=64,
            bidirectional=True,
            pooling="max",
            input_dropout=0.2,
            output_dropout=0.3,
            learning_rate_init=3e-3,
            learning_rate="cosine",
            batch_size=64,
            max_iter=10,
            tol=0.0,
        ),
    )


EXPERIMENTS = tuple(
    Experiment(
        name=name,
        task=f"surnames: 18 languages by the letters of a name{note}",
        network="embedding of 64, bidirectional LSTM, 128 units, maximum over time",
        literature="goal 0.80",
        goal=0.80,
        splits=partial(_splits, distinct=distinct),
        estimator=_classifier,
    )
    for name, note, distinct in (
        ("surnames", ", as the lists are", False),
        ("surnames_distinct", ", each name of a language once", True),
    )
)
