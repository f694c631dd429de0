"""Splice junctions of primate DNA: where genes are cut, from 60 bases, in a stratified cross-validation of 10 folds.

A junction is always in the middle of its piece. A token is a base and its place, so that the network knows where it is;
with bases alone it has to count, and reaches a lower accuracy.
"""

from __future__ import annotations

from pathlib import Path

from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline

from benchmarks.experiments.data import read_splice
from benchmarks.experiments.experiment import Experiment, Split
from numrnn import RNNClassifier, SequenceEncoder

__all__ = ["EXPERIMENTS"]


def _splits(data: Path, seed: int) -> list[Split]:
    """Ten folds, the same for every seed."""
    bases, y = read_splice(data)
    folds = StratifiedKFold(10, shuffle=True, random_state=0).split(bases, y)
    return [Split([bases[i] for i in train], y[train], [bases[i] for i in test], y[test]) for train, test in folds]


def bases_and_places(dna: str) -> list[str]:
    """The tokens: "A0", "G1", ..."""
    return [f"{base}{place}" for place, base in enumerate(dna)]


def _classifier() -> Pipeline:
    return make_pipeline(
        SequenceEncoder(analyzer=bases_and_places),
        RNNClassifier(
            (32,),
            embedding_dim=16,
            bidirectional=True,
            pooling="max",
            input_dropout=0.2,
            output_dropout=0.5,
            learning_rate_init=5e-3,
            learning_rate="cosine",
            batch_size=32,
            max_iter=12,
            tol=0.0,
        ),
    )


EXPERIMENTS = (
    Experiment(
        name="dna",
        task="splice junctions of DNA: 3 kinds (T = 60 bases)",
        network="embedding of 16, bidirectional LSTM, 32 units, maximum over time",
        literature="goal 0.95",
        goal=0.95,
        splits=_splits,
        estimator=_classifier,
    ),
)
