"""Prediction: how long one answer takes, in the middle and in the worst hundredth of the calls."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np

from .training import estimator_for
from .training import fit as fit_model
from .workloads import CELLS, DEVICES, Size, data_set, few, make_input, make_layer, skip_without_engine


def percentile(call: Any, rank: float, *, n_calls: int = 2000, seconds: float = 1.0) -> float:
    """A percentile of the time of a call, in microseconds; fewer calls than `n_calls` if they take long."""
    for _ in range(5):
        call()
    times: list[float] = []
    end = perf_counter() + seconds
    while len(times) < n_calls and (len(times) < 100 or perf_counter() < end):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return float(np.percentile(times, rank)) * 1e6


class Predict:
    """`predict` of a fitted classifier (LSTM, 64 units, digits), for one sequence and for many."""

    params = (few(DEVICES), few(CELLS), few((1, 32, 1024)))
    param_names = ("device", "cell", "n_sequences")
    timeout = 300.0

    def setup(self, device: str, cell: str, n_sequences: int) -> None:
        skip_without_engine(device)
        X, y = data_set("digits")
        self.model = fit_model(estimator_for("digits", cell, device), X[:256], y[:256])
        self.X = X[:n_sequences]
        self.model.predict(self.X)

    def time_predict(self, device: str, cell: str, n_sequences: int) -> None:
        self.model.predict(self.X)

    def track_median(self, device: str, cell: str, n_sequences: int) -> float:
        return percentile(lambda: self.model.predict(self.X), 50)

    def track_percentile_99(self, device: str, cell: str, n_sequences: int) -> float:
        return percentile(lambda: self.model.predict(self.X), 99)

    track_median.unit = "us"  # type: ignore[attr-defined]
    track_percentile_99.unit = "us"  # type: ignore[attr-defined]


class StepLatency:
    """A stream: one call of `layer.step` after another."""

    params = (few(DEVICES), few(CELLS))
    param_names = ("device", "cell")
    timeout = 300.0

    def setup(self, device: str, cell: str) -> None:
        skip_without_engine(device)
        size = Size(1, 1, 16, 32)
        self.layer = make_layer(cell, size, device=device)
        self.x_t = make_input(size)[:, 0].copy()
        _, self.state = self.layer.step(self.x_t)

    def _step(self) -> None:
        _, self.state = self.layer.step(self.x_t, self.state)

    def track_median(self, device: str, cell: str) -> float:
        return percentile(self._step, 50, n_calls=20_000)

    def track_percentile_99(self, device: str, cell: str) -> float:
        return percentile(self._step, 99, n_calls=20_000)

    track_median.unit = "us"  # type: ignore[attr-defined]
    track_percentile_99.unit = "us"  # type: ignore[attr-defined]
