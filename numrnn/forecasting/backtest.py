"""Forecasts from origins that move through a series, compared with what followed."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from numrnn.forecasting import metrics
from numrnn.forecasting.calibration import ErrorPool, corrections
from numrnn.forecasting.distributions import POINT_LOSSES
from numrnn.forecasting.series import check_frequency, read_covariates, read_panel, read_static
from numrnn.forecasting.windows import Prepared

if TYPE_CHECKING:
    from numrnn.forecasting.forecaster import RNNForecaster

__all__ = ["Backtest", "run_backtest"]

Array = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass
class Backtest:
    """Forecasts from many origins, and measures of them.

    Attributes
    ----------
    series : ndarray of int64, shape (n_origins,)
        The number of the series of each origin.
    origins : ndarray of int64, shape (n_origins,)
        Time steps of it that the forecast knew.
    observed, forecast : ndarray of shape (n_origins, horizon) or (n_origins, horizon, n_targets)
        NaN where nothing was observed.
    lower, upper : ndarray or None
        Bounds of the intervals; None if the forecaster has none.
    coverage : float
        Their nominal coverage.
    metrics : dict of str to ndarray of shape (horizon,)
        For each step ahead: "mae", "rmse", "mase", "smape"; with intervals also "pinball" (mean over the two bounds and
        the median), "coverage" and "width".
    """

    series: Rows
    origins: Rows
    observed: Array
    forecast: Array
    lower: Array | None
    upper: Array | None
    coverage: float
    metrics: dict[str, Array] = field(default_factory=dict)

    def to_frame(self) -> Any:
        """The metrics as a pandas DataFrame, a row for each step ahead."""
        from numrnn.forecasting.frames import to_frame

        return to_frame(self.metrics, np.arange(1, self.observed.shape[1] + 1), "step")

    def __str__(self) -> str:
        names = list(self.metrics)
        lines = ["step " + " ".join(f"{name:>10}" for name in names)]
        for step in range(self.observed.shape[1]):
            lines.append(f"{step + 1:>4} " + " ".join(f"{self.metrics[name][step]:>10.4g}" for name in names))
        return "\n".join(lines)


def run_backtest(
    forecaster: RNNForecaster,
    y: Any,
    X: Any,
    *,
    initial: int,
    step: int | None,
    horizon: int | None,
    coverage: float,
    refit: bool,
    static: Any,
) -> Backtest:
    """See `RNNForecaster.backtest`."""
    from numrnn.forecasting.prediction import tails

    model = clone(forecaster)
    model._validate_params()
    levels = model._check_parameters()
    bounds = tails(coverage)
    horizon = _positive("horizon", int(model.horizon) if horizon is None else horizon)
    if horizon > model.horizon:
        raise ValueError(f"horizon must be at most that of the forecaster, {model.horizon}, got {horizon}")
    step = _positive("step", horizon if step is None else step)
    initial = _positive("initial", initial)
    frequency = check_frequency(model.frequency)
    panel = read_panel(y, frequency, model.missing)
    names = None
    if X is not None:
        covariates, names = read_covariates(X, panel, frequency=frequency)
        panel.covariates = np.concatenate(covariates)
    traits = read_static(static, panel)

    ends = [np.arange(initial - 1, length - horizon, step) for length in panel.lengths]
    if any(len(rows) == 0 for rows in ends):
        shortest = int(panel.lengths.min())
        raise ValueError(
            f"y is too short: initial={initial} and horizon={horizon} need {initial + horizon} time steps of every "
            "series, "
            f"got {shortest}"
        )
    series = np.concatenate([np.full(len(rows), number) for number, rows in enumerate(ends)])
    origins = np.concatenate(ends)
    model._fit_panel(panel.head(initial), names, traits, levels)
    with_intervals = model._pool is not None or model.loss not in POINT_LOSSES
    wanted = np.array([bounds[0], 0.5, bounds[1]])
    if with_intervals:
        model._check_levels(wanted, horizon)
    errors = model.naive_error_[series][:, np.newaxis]
    shape = (len(series), horizon, panel.n_targets)
    points, quantiles = np.empty(shape), np.empty((*shape, len(wanted)))
    if not refit:
        prepared = Prepared(model._preparation, panel)
        points[:] = model._predictor.points(prepared, series, origins, horizon)
        if with_intervals:
            correction = _streamed_corrections(model, prepared, initial, series, origins, horizon, wanted)
            quantiles[:] = model._predictor.quantiles(prepared, series, origins, horizon, wanted, correction)
    else:
        for number, end in enumerate(np.unique(origins)):
            if number:
                model._fit_panel(panel.head(end + 1), names, traits, levels)
            chosen = np.flatnonzero(origins == end)
            prepared = Prepared(model._preparation, panel)
            points[chosen] = model._predictor.points(prepared, series[chosen], origins[chosen], horizon)
            if with_intervals:
                correction = model._predictor.correction(model._pool, horizon, wanted)
                quantiles[chosen] = model._predictor.quantiles(
                    prepared, series[chosen], origins[chosen], horizon, wanted, correction
                )
    observed = panel.values[(panel.starts[series] + origins)[:, np.newaxis] + np.arange(1, horizon + 1)]
    single = panel.forms[0].single_target

    def shown(values: Array) -> Array:
        return values[..., 0] if single else values

    return Backtest(
        series=series,
        origins=origins + 1,
        observed=shown(observed),
        forecast=shown(points),
        lower=shown(quantiles[..., 0]) if with_intervals else None,
        upper=shown(quantiles[..., 2]) if with_intervals else None,
        coverage=float(coverage),
        metrics=_measure(observed, points, quantiles if with_intervals else None, wanted, errors),
    )


def _positive(name: str, value: Any) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return int(value)


def _streamed_corrections(
    model: RNNForecaster, prepared: Prepared, initial: int, series: Rows, origins: Rows, horizon: int, wanted: Array
) -> Array | None:
    """What the calibration would be at each origin, had every value up to it been given to `update`."""
    pool = model._pool
    if pool is None:
        return None
    reach = prepared.preparation.settings.horizon
    first = initial - reach
    ends = [np.arange(first, max(int(length) - reach, first)) for length in prepared.panel.lengths]
    later = ErrorPool(*model._predictor.forecasts_and_outcomes(prepared, ends), size=max(len(rows) for rows in ends))
    pairs = zip(model._predictor.errors(pool, wanted), model._predictor.errors(later, wanted), strict=True)
    errors = [np.concatenate(pair)[:, :horizon] for pair in pairs]
    n_before = [len(part) for part in pool.observed]
    result = np.empty((len(series), horizon, errors[0].shape[2], len(wanted)))
    for end in np.unique(origins):
        # Forecasts whose whole horizon has been observed at the origin.
        parts = []
        for part, before, rows in zip(errors, n_before, ends, strict=True):
            known = before + min(max(int(end) + 1 - reach - first, 0), len(rows))
            parts.append(part[max(known - pool.size, 0) : known])
        result[origins == end] = corrections(np.concatenate(parts), wanted, of_points=model.loss in POINT_LOSSES)
    return result


def _measure(
    observed: Array, points: Array, quantiles: Array | None, levels: Array, naive_errors: Array
) -> dict[str, Array]:
    """Measures for each step ahead, over all origins and targets."""
    over = (0, 2)
    measured = {
        "mae": metrics.mae(observed, points, over),
        "rmse": metrics.rmse(observed, points, over),
        "mase": metrics.mase(observed, points, naive_errors, over),
        "smape": metrics.smape(observed, points, over),
    }
    if quantiles is not None:
        losses = [metrics.pinball(observed, quantiles[..., j], level, over) for j, level in enumerate(levels)]
        measured["pinball"] = np.mean(losses, axis=0)
        measured["coverage"] = metrics.coverage(observed, quantiles[..., 0], quantiles[..., -1], over)
        measured["width"] = np.mean(quantiles[..., -1] - quantiles[..., 0], axis=over)
    return measured
