"""MNIST, row by row: an image is a sequence of 28 time steps, each a row of 28 pixels."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.experiments.data import read_mnist
from benchmarks.experiments.experiment import Experiment, Split
from numrnn import Convolution, RNNClassifier

__all__ = ["EXPERIMENTS", "scaled_mnist"]

_MEAN, _DEVIATION = 0.1307, 0.3081  # of all pixels of the training images


def scaled_mnist(data: Path) -> Split:
    """The official split, pixels of mean 0 and variance 1."""
    X_train, y_train, X_test, y_test = read_mnist(data)
    return Split((X_train - _MEAN) / _DEVIATION, y_train, (X_test - _MEAN) / _DEVIATION, y_test)


def _splits(data: Path, seed: int) -> list[Split]:
    return [scaled_mnist(data)]


def _classifier(hidden_size: int, **settings: Any) -> RNNClassifier:
    return RNNClassifier(
        (hidden_size,),
        bidirectional=True,
        pooling="max",
        solver="adamw",
        alpha=0.01,
        learning_rate_init=3e-3,
        learning_rate="cosine",
        batch_size=128,
        max_iter=12,
        tol=0.0,
        n_iter_no_change=12,
        **settings,
    )


def _convolutions() -> list[Convolution]:
    return [Convolution("2d", filters=filters, kernel_size=3, pool_size=2) for filters in (16, 32)]


EXPERIMENTS = (
    Experiment(
        name="mnist",
        task="MNIST, row by row (T = 28)",
        network="bidirectional LSTM, 128 units, maximum over time",
        literature="goal 0.988",
        goal=0.988,
        splits=_splits,
        estimator=partial(_classifier, 128),
    ),
    Experiment(
        name="mnist_convolution",
        task="MNIST, row by row (T = 28)",
        network="two convolutions with pooling (16 and 32 filters), bidirectional LSTM, 64 units, maximum over time",
        literature="goal 0.992",
        goal=0.992,
        splits=_splits,
        estimator=lambda: _classifier(64, convolution=_convolutions(), output_dropout=0.3),
    ),
)
