"""Training: one whole epoch of `fit` on real data, solver, losses and batches included."""

from __future__ import annotations

import warnings
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from numrnn import RNNClassifier, RNNRegressor

from .workloads import CELLS, DEVICES, data_set, few, skip_without_engine


def estimator_for(name: str, cell: str, device: str, **options: Any) -> Any:
    """The estimator that suits a data set, one layer of 64 units."""
    kind = RNNClassifier if name == "digits" else RNNRegressor
    settings = {"batch_size": 64 if name == "digits" else 256, "max_iter": 1, "random_state": 0, **options}
    return kind((64,), cell=cell, device=device, **settings)


def fit(model: Any, X: Any, y: Any) -> Any:
    """Fit; that the epochs end before the training converges is meant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, y)


class Epoch:
    """One epoch: 29 updates for the digits, 32 for the PM2.5 windows."""

    params = (few(DEVICES), few(CELLS), few(("digits", "pollution")))
    param_names = ("device", "cell", "data")
    timeout = 300.0

    def setup(self, device: str, cell: str, name: str) -> None:
        skip_without_engine(device)
        self.X, self.y = data_set(name)
        self.model = estimator_for(name, cell, device)
        fit(self.model, self.X, self.y)

    def time_fit(self, device: str, cell: str, name: str) -> None:
        fit(self.model, self.X, self.y)

    def track_sequences_per_second(self, device: str, cell: str, name: str) -> float:
        times = []
        for _ in range(3):
            start = perf_counter()
            fit(self.model, self.X, self.y)
            times.append(perf_counter() - start)
        return len(self.X) / float(np.median(times))

    track_sequences_per_second.unit = "sequences/s"  # type: ignore[attr-defined]
