"""Classic series: airline passengers, sunspots, daily temperatures. ``python -m benchmarks.experiments.univariate``."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from benchmarks.experiments.data import folder_of
from benchmarks.experiments.forecasts import Task, main, quickly
from numrnn import RNNForecaster


def _read(data: Path, name: str) -> tuple[list[str], np.ndarray]:
    """Time stamps and values of a file with two columns."""
    with (folder_of(data, "univariate") / f"{name}.csv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return [row[0] for row in rows], np.array([float(row[1]) for row in rows])


def _daily(stamps: list[str], values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every day from the first to the last, NaN where there is no row; the time of the year as sine and cosine."""
    days = np.array(stamps, dtype="datetime64[D]")
    every = np.arange(days[0], days[-1] + 1)
    y = np.full(len(every), np.nan)
    y[np.searchsorted(every, days)] = values
    angle = 2 * np.pi * (every - every.astype("datetime64[Y]")).astype(float) / 365.25
    return y, np.stack([np.sin(angle), np.cos(angle)], axis=1)


def tasks(data: Path, quick: bool) -> list[Task]:
    """One task for each series."""
    common: dict[str, Any] = {"tol": 0.0, "n_iter_no_change": 1000}
    airline = RNNForecaster(
        (8,), cell="gru", horizon=12, window_length=12, transformation="log", difference=12, seasonality=12,
        learning_rate_init=5e-3, max_iter=60, calibration_fraction=0.3, train_on_all=True, **common,
    )  # fmt: skip
    sunspots = RNNForecaster(
        (32,), cell="gru", horizon=12, window_length=48, seasonality=1, learning_rate_init=2e-3, max_iter=40,
        early_stopping=True, validation_fraction=0.15, calibration_fraction=0.15, train_on_all=True, n_iter_no_change=6,
    )  # fmt: skip
    temperatures = RNNForecaster(
        (32,), cell="gru", horizon=7, window_length=30, missing="mask", seasonality=1, learning_rate_init=2e-3,
        max_iter=40, early_stopping=True, validation_fraction=0.15, calibration_fraction=0.15, train_on_all=True,
        n_iter_no_change=6,
    )  # fmt: skip
    _, passengers = _read(data, "airline-passengers")
    _, spots = _read(data, "monthly-sunspots")
    degrees, year = _daily(*_read(data, "daily-min-temperatures"))
    made = [
        Task("airline", "Airline passengers, monthly, 1958 to 1960 after nine years", passengers, None, 108, 1, 12,
             {"GRU 8 on differences of logarithms": airline}, (1, 6, 12), seeds=5, anew=True),
        Task("sunspots", "Monthly sunspots, the last third", spots, None, 1880, 1, 132,
             {"GRU 32": sunspots, "GRU 32, quantiles": clone(sunspots).set_params(loss="quantile")}, (1, 6, 12)),
        Task("temperatures", "Daily minimum temperatures in Melbourne, the last three years", degrees, year, 2557, 1,
             365, {"GRU 32": temperatures}, (1, 3, 7)),
    ]  # fmt: skip
    return quickly(made) if quick else made


if __name__ == "__main__":
    sys.exit(main("univariate", tasks))
