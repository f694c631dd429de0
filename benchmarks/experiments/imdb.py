"""Sentiment of film reviews: words to embeddings to a bidirectional LSTM, on the official 25,000 / 25,000 reviews."""

from __future__ import annotations

from pathlib import Path

from sklearn.pipeline import Pipeline, make_pipeline

from benchmarks.experiments.data import read_imdb
from benchmarks.experiments.experiment import Experiment, Split
from numrnn import RNNClassifier, SequenceEncoder

__all__ = ["EXPERIMENTS"]


def _splits(data: Path, seed: int) -> list[Split]:
    return [Split(*read_imdb(data))]


def _classifier() -> Pipeline:
    return make_pipeline(
        SequenceEncoder(max_features=20_000, max_length=400, truncation="tail"),
        RNNClassifier(
            (64,),
            embedding_dim=64,
            bidirectional=True,
            pooling="max",
            input_dropout=0.5,
            output_dropout=0.5,
            learning_rate_init=2e-3,
            learning_rate="cosine",
            batch_size=64,
            max_iter=3,
            tol=0.0,
        ),
    )


EXPERIMENTS = (
    Experiment(
        name="imdb",
        task="IMDB: sentiment of film reviews (the last 400 words)",
        network="embedding of 64, bidirectional LSTM, 64 units, maximum over time",
        literature="goal 0.88",
        goal=0.88,
        splits=_splits,
        estimator=_classifier,
    ),
)
