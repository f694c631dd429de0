"""Beijing PM2.5: the next hour, and the next 24 hours. ``python -m benchmarks.experiments.pm25``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from benchmarks.experiments.forecasts import Task, main, quickly
from numrnn import RNNForecaster
from numrnn.datasets import load_beijing_pm25

_HOURS_OF_2010 = 365 * 24
_HOURS_TO_2014 = (4 * 365 + 1) * 24


def _series() -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Concentrations with NaN where none was measured; weather and calendar; which columns are known beforehand."""
    pollution = load_beijing_pm25(n_timesteps=1)
    columns = {name: number for number, name in enumerate(pollution.feature_names)}
    y = pollution.hourly[:, columns["pm25"]].astype(np.float64)
    y[pollution.hourly[:, columns["pm25_missing"]] == 1] = np.nan
    chosen = [name for name in columns if name not in ("pm25", "pm25_missing")]
    X = pollution.hourly[:, [columns[name] for name in chosen]].astype(np.float64)
    for name in ("wind_speed", "snow", "rain"):  # accumulated: their growth slows down
        X[:, chosen.index(name)] = np.log1p(X[:, chosen.index(name)])
    known = [number for number, name in enumerate(chosen) if name.startswith(("day_", "year_"))]
    return y, X, known


def tasks(data: Path, quick: bool) -> list[Task]:
    """The data are those of the package; the folder is not needed."""
    y, X, known = _series()
    common: dict[str, Any] = {
        "window_length": 24,
        "future_covariates": known,
        "missing": "mask",
        "early_stopping": True,
        "validation_fraction": 0.1,
        "calibration_fraction": 0.05,
        "batch_size": 256,
        "learning_rate_init": 2e-3,
    }
    tutorial = RNNForecaster((64, 32), bidirectional=True, dropout=0.2, max_iter=25, n_iter_no_change=6, **common)
    tutorial.set_params(batch_size=72)
    best = RNNForecaster((64,), difference=1, learning_rate="cosine", max_iter=8, n_iter_no_change=8, **common)
    day = RNNForecaster(
        (64,), horizon=24, difference=1, learning_rate="cosine", max_iter=8, n_iter_no_change=8, **common
    )
    decoder = clone(day).set_params(strategy="encoder_decoder")
    made = [
        Task("pm25_next_hour", "Beijing PM2.5, next hour, trained on 2010 to 2013, tested on 2014", y, X,
             _HOURS_TO_2014, 1, 24, {"LSTM 64 on differences": best}, (1,)),
        Task("pm25_next_day", "Beijing PM2.5, next 24 hours, trained on 2010 to 2013, tested on 2014", y, X,
             _HOURS_TO_2014, 6, 24, {"LSTM 64 on differences": day, "the same, encoder and decoder": decoder},
             (1, 6, 24), recent=2000),
        Task("pm25_next_hour_one_year", "Beijing PM2.5, next hour, trained on 2010, tested on 2011 to 2014", y, X,
             _HOURS_OF_2010, 1, 24, {"LSTM 64 on differences": best}, (1,)),
        Task("pm25_tutorial_network", "Beijing PM2.5, next hour, trained on 2010, tested on 2011 to 2014", y, X,
             _HOURS_OF_2010, 1, 24, {"bidirectional LSTM 64 + 32, dropout 0.2, early stopping": tutorial}, (1,),
             statistical=False),
    ]  # fmt: skip
    return quickly(made) if quick else made


if __name__ == "__main__":
    sys.exit(main("pm25", tasks))
