"""MNIST, pixel by pixel: an image is a sequence of 784 time steps with one pixel each, in scan order."""

from __future__ import annotations

from pathlib import Path

from benchmarks.experiments.experiment import Experiment, Split
from benchmarks.experiments.mnist import scaled_mnist
from numrnn import RNNClassifier

__all__ = ["EXPERIMENTS"]


def _splits(data: Path, seed: int) -> list[Split]:
    images = scaled_mnist(data)
    return [Split(images.X_train.reshape(-1, 784, 1), images.y_train, images.X_test.reshape(-1, 784, 1), images.y_test)]


def _gru() -> RNNClassifier:
    return RNNClassifier(
        (64,),
        cell="gru",
        pooling="mean",
        learning_rate_init=5e-3,
        learning_rate="cosine",
        batch_size=64,
        max_iter=10,
        tol=0.0,
        n_iter_no_change=10,
    )


EXPERIMENTS = (
    Experiment(
        name="mnist_pixels",
        task="MNIST, pixel by pixel (T = 784)",
        network="GRU, 64 units, mean over time",
        literature="0.97, IRNN (Le, Jaitly and Hinton, 2015)",
        goal=0.97,
        splits=_splits,
        estimator=_gru,
        peer_epochs=1,
    ),
)
