"""Measures of forecasts, the mean over everything but the horizon; missing values are left out."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["coverage", "mae", "mase", "naive_error", "pinball", "rmse", "smape"]

Array = NDArray[np.float64]


def _mean(values: Array, axis: Any) -> Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing is NaN
        return np.nanmean(values, axis=axis)


def mae(observed: Array, forecast: Array, axis: Any = None) -> Array:
    """Mean absolute error."""
    return _mean(np.abs(observed - forecast), axis)


def rmse(observed: Array, forecast: Array, axis: Any = None) -> Array:
    """Root of the mean squared error."""
    return np.sqrt(_mean((observed - forecast) ** 2, axis))


def smape(observed: Array, forecast: Array, axis: Any = None) -> Array:
    """Symmetric mean absolute percentage error ``200 |y - f| / (|y| + |f|)``, from 0 to 200; 0 where both are 0.

    Makridakis, S. (1993). Accuracy measures: theoretical and practical concerns. International Journal of Forecasting
    9.
    """
    size = np.abs(observed) + np.abs(forecast)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(size == 0, 0.0, 200.0 * np.abs(observed - forecast) / size)
    return _mean(ratio, axis)


def naive_error(series: Array, seasonality: int = 1) -> Array:
    """Mean absolute error of the seasonal naive forecast within a series (n_steps, ...): the scale of `mase`.

    NaN for a series that is not longer than a season.
    """
    if len(series) <= seasonality:
        return np.full(series.shape[1:], np.nan)
    return _mean(np.abs(series[seasonality:] - series[:-seasonality]), 0)


def mase(observed: Array, forecast: Array, scale: Array, axis: Any = None) -> Array:
    """Mean absolute scaled error: errors in units of `naive_error` of the training data; NaN where that is 0.

    Hyndman, R. J. and Koehler, A. B. (2006). Another look at measures of forecast accuracy. International Journal of
    Forecasting 22, 679-688.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.where(np.asarray(scale) > 0, scale, np.nan)
        return _mean(np.abs(observed - forecast) / scale, axis)


def pinball(observed: Array, quantile: Array, level: float, axis: Any = None) -> Array:
    """Pinball loss of a quantile forecast: level * (y - q) for y > q, else (1 - level) * (q - y)."""
    error = observed - quantile
    return _mean(np.maximum(level * error, (level - 1.0) * error), axis)


def coverage(observed: Array, lower: Array, upper: Array, axis: Any = None) -> Array:
    """Share of the observed values that lie between the bounds, these included."""
    inside = np.where(np.isnan(observed), np.nan, (observed >= lower) & (observed <= upper))
    return _mean(inside, axis)
