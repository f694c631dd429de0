"""Daily prices of six stocks, one network for all of them. ``python -m benchmarks.experiments.stocks``."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from benchmarks.experiments.data import folder_of
from benchmarks.experiments.forecasts import Task, main, quickly
from numrnn import RNNForecaster

TICKERS = ("AAPL", "GE", "IBM", "KO", "MSFT", "XOM")


def _closing_prices(data: Path) -> list[np.ndarray]:
    prices = []
    for ticker in TICKERS:
        with (folder_of(data, "stocks") / f"sk_{ticker}.csv").open(encoding="utf-8") as file:
            prices.append(np.array([float(row["close"]) for row in csv.DictReader(file)]))
    return prices


def tasks(data: Path, quick: bool) -> list[Task]:
    """Prices of five trading days to come, and the spread of their distribution."""
    common = {
        "horizon": 5,
        "window_length": 20,
        "transformation": "log",
        "difference": 1,
        "learning_rate_init": 1e-3,
        "max_iter": 30,
        "early_stopping": True,
        "train_on_all": True,
        "validation_fraction": 0.15,
        "n_iter_no_change": 5,
        "batch_size": 64,
        "cell": "gru",
    }
    networks = {
        "GRU 16, squared error": RNNForecaster((16,), calibration_fraction=0.1, **common),
        "GRU 16, Student's t": RNNForecaster((16,), loss="student_t", calibration_fraction=0.1, **common),
    }
    made = [
        Task("stocks", "Closing prices of six stocks, the last year of five", _closing_prices(data), None, 1000, 1, 1,
             networks, (1, 3, 5), drift=True),
    ]  # fmt: skip
    return quickly(made) if quick else made


if __name__ == "__main__":
    sys.exit(main("stocks", tasks))
