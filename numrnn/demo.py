"""The demonstration: forecast air pollution, read handwritten digits, draw and save the results.

It is also an example to copy from: everything goes through the public estimators and scikit-learn.
"""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from numrnn import RNNClassifier, RNNRegressor, load
from numrnn.datasets import load_beijing_pm25
from numrnn.plots import ForecastDisplay, TrainingCurveDisplay

__all__ = ["DigitsResult", "PollutionResult", "classify_digits", "forecast_pollution", "run"]

PM25 = 0  # the column of the concentration in the windows
PLOTTED_HOURS = 14 * 24


@dataclass(frozen=True)
class PollutionResult:
    """A forecast of the test year and what it is compared with.

    Attributes
    ----------
    model : RNNRegressor
        The fitted network.
    time : ndarray of datetime64[h], shape (n_windows,)
        The hours that were forecast.
    measured, forecast : ndarray of shape (n_windows,)
        PM2.5 in those hours, µg/m³.
    error : dict of str to float
        Mean absolute error of "persistence", "ridge" and "network", µg/m³.
    n_train : int
        Number of training windows.
    seconds : float
        Time to fit the network, compilation included.
    """

    model: RNNRegressor
    time: NDArray
    measured: NDArray
    forecast: NDArray
    error: dict[str, float]
    n_train: int
    seconds: float


@dataclass(frozen=True)
class DigitsResult:
    """A classifier of handwritten digits and its accuracy.

    Attributes
    ----------
    model : RNNClassifier
        The fitted network.
    accuracy : float
        On the held-out quarter of the images.
    n_train, n_test : int
        Number of images.
    seconds : float
        Time to fit the network, compilation included.
    """

    model: RNNClassifier
    accuracy: float
    n_train: int
    n_test: int
    seconds: float


def _fit(model: Any, X: NDArray, y: NDArray) -> tuple[Any, float]:
    """Fit with a progress bar if somebody watches; the planned number of epochs is no reason for a warning."""
    model.set_params(verbose=sys.stderr.isatty())
    start = perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    return model, perf_counter() - start


class _ChangeOfRoot:
    """The view of the problem that all models share.

    The best single guess of the next hour is this hour, so what is learned is the change from it. Changes grow with
    the level, roughly as its square root does; in square roots they are of one size, in clean air and in smog. A model
    fitted to the absolute error predicts a median, and the square of a median is the median of the square: it has the
    least absolute error in µg/m³ too.
    """

    def __init__(self, windows: NDArray) -> None:
        self._steps = StandardScaler().fit(self._with_roots(windows).reshape(-1, windows.shape[2]))

    @staticmethod
    def _with_roots(windows: NDArray) -> NDArray:
        windows = windows.copy()
        windows[:, :, PM25] = np.sqrt(windows[:, :, PM25])
        return windows

    @staticmethod
    def _last_root(windows: NDArray) -> NDArray:
        return np.sqrt(windows[:, -1, PM25])

    def inputs(self, windows: NDArray) -> NDArray:
        """Scaled windows: every time step by the same means and deviations."""
        return self._steps.transform(self._with_roots(windows).reshape(-1, windows.shape[2])).reshape(windows.shape)

    def targets(self, windows: NDArray, target: NDArray) -> NDArray:
        """Change of the square root of PM2.5."""
        return np.sqrt(target) - self._last_root(windows)

    def concentrations(self, windows: NDArray, change: NDArray) -> NDArray:
        """PM2.5 in µg/m³ from a predicted change."""
        return np.maximum(self._last_root(windows) + change, 0) ** 2


def forecast_pollution(*, max_iter: int = 8, n_train: int | None = None, random_state: int = 0) -> PollutionResult:
    """Forecast PM2.5 in Beijing: train on 2010 to 2013, test on 2014.

    Cell, size and learning rate were chosen by training on 2010 to 2012 and comparing forecasts of 2013.

    Parameters
    ----------
    max_iter : int, default=8
        Epochs of training.
    n_train : int or None, default=None
        Use only the latest training windows; all of them if None.
    random_state : int, default=0
        Seed of the network.

    Returns
    -------
    result : PollutionResult
        Persistence forecasts the last measured value. The ridge regression sees the same windows, scaled in the same
        way, and predicts the same target as the network.
    """
    train, test = load_beijing_pm25(subset="train"), load_beijing_pm25(subset="test")
    first = 0 if n_train is None else len(train.target) - n_train
    windows, target = train.data[first:], train.target[first:]
    view = _ChangeOfRoot(windows)
    X, y, X_test = view.inputs(windows), view.targets(windows, target), view.inputs(test.data)
    network = RNNRegressor(
        (64,),
        cell="gru",
        loss="absolute_error",
        learning_rate="cosine",
        learning_rate_init=4e-3,
        batch_size=256,
        max_iter=max_iter,
        random_state=random_state,
    )
    network, seconds = _fit(network, X, y)
    # The hours of a window are nearly collinear: their normal equations need the longer numbers.
    flat, flat_test = (part.reshape(len(part), -1).astype(np.float64) for part in (X, X_test))
    ridge = Ridge().fit(flat, y)
    forecasts = {
        "persistence": test.data[:, -1, PM25],
        "ridge": view.concentrations(test.data, ridge.predict(flat_test)),
        "network": view.concentrations(test.data, network.predict(X_test)),
    }
    return PollutionResult(
        model=network,
        time=test.time,
        measured=test.target,
        forecast=forecasts["network"],
        error={name: float(mean_absolute_error(test.target, forecast)) for name, forecast in forecasts.items()},
        n_train=len(X),
        seconds=seconds,
    )


def classify_digits(*, max_iter: int = 30, random_state: int = 0) -> DigitsResult:
    """Classify scikit-learn's 8 x 8 handwritten digits, read row by row from the top and from the bottom.

    Parameters
    ----------
    max_iter : int, default=30
        Epochs of training.
    random_state : int, default=0
        Seed of the network. The split is always the same.

    Returns
    -------
    result : DigitsResult
    """
    images, labels = load_digits(return_X_y=True)
    X = (images / 16).reshape(-1, 8, 8)
    X_train, X_test, y_train, y_test = train_test_split(X, labels, test_size=0.25, stratify=labels, random_state=0)
    network = RNNClassifier(
        (64,),
        cell="gru",
        bidirectional=True,
        learning_rate="cosine",
        learning_rate_init=5e-3,
        batch_size=32,
        max_iter=max_iter,
        random_state=random_state,
    )
    network, seconds = _fit(network, X_train, y_train)
    return DigitsResult(
        model=network,
        accuracy=float(network.score(X_test, y_test)),
        n_train=len(X_train),
        n_test=len(X_test),
        seconds=seconds,
    )


def _draw(output: Path, pollution: PollutionResult, digits: DigitsResult) -> list[Path]:
    """Write the figures; none without Matplotlib, and say so."""
    hours = slice(PLOTTED_HOURS)
    try:
        displays: dict[str, TrainingCurveDisplay | ForecastDisplay] = {
            "pm25_learning_curve.png": TrainingCurveDisplay.from_estimator(
                pollution.model, name="PM2.5 forecast", marker="."
            ),
            "digits_learning_curve.png": TrainingCurveDisplay.from_estimator(
                digits.model, name="handwritten digits", marker="."
            ),
            "forecast.png": ForecastDisplay.from_predictions(
                pollution.measured[hours],
                pollution.forecast[hours],
                time=pollution.time[hours],
                name="PM2.5 in Beijing, forecast one hour ahead",
            ),
        }
    except ImportError as error:
        print(f"   no figures: {error}")
        return []
    displays["forecast.png"].ax_.set(xlabel=None, ylabel="µg/m³")
    displays["forecast.png"].figure_.set_size_inches(9, 3.5)
    for name, display in displays.items():
        display.figure_.savefig(output / name, dpi=120)
    return [output / name for name in displays]


def _save(output: Path, pollution: PollutionResult, digits: DigitsResult) -> list[Path]:
    """Write the models, each read back once to see that it is whole, and the numbers."""
    paths = [output / "pm25.safetensors", output / "digits.safetensors"]
    for model, path in zip((pollution.model, digits.model), paths, strict=True):
        model.save(path)
        if load(path).n_parameters_ != model.n_parameters_:
            raise RuntimeError(f"{path} was written but does not read back as the model it came from")
    results = {"pm25_mean_absolute_error": pollution.error, "digits_accuracy": digits.accuracy}
    (output / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return [*paths, output / "results.json"]


def run(output: Path, *, pollution_settings: dict[str, Any] | None = None, digits_epochs: int = 30) -> None:
    """Run the whole demonstration and print what comes out.

    Parameters
    ----------
    output : Path
        Folder for the figures, models and results. Made if it is not there; files of earlier runs are overwritten.
    pollution_settings : dict or None, default=None
        Arguments of `forecast_pollution` other than its defaults.
    digits_epochs : int, default=30
        Epochs of `classify_digits`.
    """
    start = perf_counter()
    output.mkdir(parents=True, exist_ok=True)
    print("1. Beijing PM2.5: the next hour from 16 variables of the 24 hours before it", flush=True)
    pollution = forecast_pollution(**(pollution_settings or {}))
    print(f"   {pollution.n_train:,} windows of 2010-2013 to train, {len(pollution.time):,} of 2014 to test")
    print("   mean absolute error in the test year, µg/m³:")
    for name, label in (
        ("persistence", "persistence (as the last hour)"),
        ("ridge", "ridge regression"),
        ("network", f"RNNRegressor, fitted in {pollution.seconds:.1f} s"),
    ):
        print(f"     {pollution.error[name]:6.2f}  {label}")

    print("2. Handwritten digits: each of the 8 rows of an image is a time step", flush=True)
    digits = classify_digits(max_iter=digits_epochs)
    print(f"   {digits.n_train:,} images to train, {digits.n_test} to test")
    print(f"   test accuracy {digits.accuracy:.3f}  RNNClassifier, fitted in {digits.seconds:.1f} s")

    print(f"3. Written to {output}:")
    for path in (*_draw(output, pollution, digits), *_save(output, pollution, digits)):
        print(f"     {path.name}")
    print(f"Done in {perf_counter() - start:.1f} s.")
