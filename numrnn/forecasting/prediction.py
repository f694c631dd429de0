"""What a fitted forecaster says of the future: points, quantiles, intervals, paths."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from numrnn.forecasting.calibration import fewest_errors, independent_errors
from numrnn.forecasting.distributions import POINT_LOSSES
from numrnn.forecasting.fitting import Fitting
from numrnn.forecasting.series import read_covariates
from numrnn.forecasting.windows import Prepared

__all__ = ["Prediction", "tails"]

Array = NDArray[np.float64]
Rows = NDArray[np.int64]


class Prediction(Fitting):
    """Forecasts of the steps that follow the series, in the container of these."""

    def _ready(self, steps: Any, X: Any) -> tuple[Prepared, Rows, Rows, int]:
        """The series at their ends, prepared for a forecast."""
        check_is_fitted(self, "_network")
        steps = self._check_steps(steps)
        panel, settings = self._history, self._preparation.settings
        if settings.past and steps > settings.block:
            raise ValueError(
                f"a forecast of {steps} steps needs the future of all covariates, but columns {list(settings.past)} "
                "of X are "
                f"not in future_covariates; at most {settings.block} steps can be forecast without them"
            )
        future = self._future(X, steps)
        prepared = Prepared(self._preparation, panel, future, steps)
        return prepared, np.arange(len(panel)), panel.lengths - 1, steps

    def _check_steps(self, steps: Any) -> int:
        steps = int(self.horizon) if steps is None else steps
        if not isinstance(steps, Integral) or isinstance(steps, bool) or int(steps) < 1:
            raise ValueError(f"steps must be a positive integer or None for the horizon, got {steps!r}")
        return int(steps)

    def _future(self, X: Any, steps: int) -> list[Array] | None:
        """Known covariates of the steps to come, in the order of `Settings.known`."""
        known = self._preparation.settings.known
        if X is None:
            if known:
                raise ValueError(
                    f"X must hold the future covariates of the {steps} steps to forecast (columns {list(known)} of "
                    "the X of "
                    "fit), got None"
                )
            return None
        if not self._n_covariates:
            raise ValueError("X must be None: the forecaster was fitted without covariates")
        arrays, names = read_covariates(X, self._history, future=steps)
        n_columns = arrays[0].shape[1]
        if names is not None and self._covariate_names is not None:
            wanted = [self._covariate_names[column] for column in known]
            absent = [name for name in wanted if name not in names]
            if absent:
                raise ValueError(
                    f"X has no column {absent[0]!r}, whose future values the forecast needs; it has {names}"
                )
            columns = [names.index(name) for name in wanted]
        elif n_columns == self._n_covariates:
            columns = list(known)
        elif n_columns == len(known):
            columns = list(range(n_columns))
        else:
            raise ValueError(
                f"X must have the {self._n_covariates} columns of the X of fit, or the {len(known)} of them that are "
                "known for "
                f"the future, got {n_columns}"
            )
        return [array[:, columns] for array in arrays] if known else None

    def predict(self, steps: int | None = None, X: Any = None) -> Any:
        """Forecast the steps after the series.

        Parameters
        ----------
        steps : int, default=None
            How many; None is the horizon. Beyond the horizon, forecasts are read for those that follow.
        X : array, DataFrame, or list of these, default=None
            Future covariates, at least `steps` rows: all columns of the X of `fit`, or those in `future_covariates`. If
            the network looks further ahead, the last row is repeated.

        Returns
        -------
        forecast : array, Series, DataFrame, or list of these
            As y was: (steps,) or (steps, n_targets); pandas data with the index that follows. The mean, or for the
            losses "absolute_error" and "quantile" the median.

        Raises
        ------
        ValueError
            If `steps` or X are not as described.
        sklearn.exceptions.NotFittedError
            If `fit` was not called.
        """
        prepared, series, ends, steps = self._ready(steps, X)
        return self._history.render(list(self._predictor.points(prepared, series, ends, steps)))

    def predict_quantiles(self, steps: int | None = None, levels: Any = (0.1, 0.5, 0.9), X: Any = None) -> Any:
        """Quantiles of what follows the series.

        Parameters
        ----------
        steps : int, default=None
            As for `predict`. With a loss of a point, at most the horizon.
        levels : sequence of float, default=(0.1, 0.5, 0.9)
            Between 0 and 1. With the loss "quantile", within its `quantile_levels`.
        X : array, DataFrame, or list of these, default=None
            As for `predict`.

        Returns
        -------
        quantiles : array, DataFrame, or list of these
            (steps, n_levels), or (steps, n_targets, n_levels) if y had several targets; in a DataFrame, columns are
            called by the levels.
        """
        return self._predict_quantiles(steps, levels, X)

    def _predict_quantiles(self, steps: int | None, levels: Any, X: Any, labels: list[Any] | None = None) -> Any:
        check_is_fitted(self, "_network")
        wanted = self._check_levels(levels, self._check_steps(steps))
        prepared, series, ends, steps = self._ready(steps, X)
        labels = list(np.atleast_1d(levels)) if labels is None else labels
        order = np.argsort(wanted)
        correction = self._predictor.correction(self._pool, steps, wanted[order])
        sorted_quantiles = self._predictor.quantiles(prepared, series, ends, steps, wanted[order], correction)
        quantiles = np.empty_like(sorted_quantiles)
        quantiles[..., order] = sorted_quantiles
        return self._history.render(list(quantiles), labels)

    def _check_levels(self, levels: Any, steps: int) -> Array:
        try:
            wanted = np.atleast_1d(np.asarray(levels, dtype=np.float64))
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"levels must be numbers between 0 and 1, got {levels!r}") from error
        if wanted.ndim != 1 or not len(wanted) or not ((wanted > 0) & (wanted < 1)).all():
            raise ValueError(f"levels must lie between 0 and 1, got {levels!r}")
        if self.loss in POINT_LOSSES and self._pool is None:
            raise ValueError(
                f"loss={self.loss!r} has quantiles and intervals only by a calibration; calibration_fraction is "
                f"{self.calibration_fraction!r}"
            )
        if self._pool is not None and steps > self.horizon:
            raise ValueError(
                f"quantiles are calibrated for the horizon of {self.horizon} steps, but {steps} were asked for"
            )
        slack = 1e-9
        if self.loss == "quantile" and (
            wanted.min() < self._levels[0] - slack or wanted.max() > self._levels[-1] + slack
        ):
            raise ValueError(
                f"levels must lie within the quantile_levels of the loss, {self._levels[0]:g} to "
                f"{self._levels[-1]:g}, got "
                f"{levels!r}"
            )
        if self._pool is not None:
            self._warn_of_few_errors(len(self._pool), wanted, steps)
        return wanted

    def _warn_of_few_errors(self, n_errors: int, levels: Array, steps: int) -> None:
        """Say so if the calibration is worth little. Of points, it takes errors to be normal where they are few."""
        if self.loss in POINT_LOSSES:
            independent = float(independent_errors(np.full((steps, 1), n_errors))[-1, 0])
            if independent >= 1 or (levels == 0.5).all():
                return
            what = (
                f"the calibration has errors of {n_errors} forecasts {steps} steps ahead, which overlap and tell of "
                f"their spread as much as {independent:.2g} independent ones"
            )
        else:
            if n_errors >= fewest_errors(levels):
                return
            what = (
                f"{n_errors} errors of the calibration are too few for quantiles at the levels {levels.tolist()}, "
                f"which take {fewest_errors(levels)}: the most extreme errors are used"
            )
        warnings.warn(
            f"{what}. Intervals may be too narrow: increase calibration_fraction or the length of the series.",
            UserWarning,
            stacklevel=5,
        )

    def predict_interval(self, steps: int | None = None, coverage: float = 0.9, X: Any = None) -> Any:
        """Intervals that contain what follows the series with a given probability, each step by itself.

        Parameters
        ----------
        steps : int, default=None
            As for `predict_quantiles`.
        coverage : float, default=0.9
            The probability; as much of the rest lies below as above.
        X : array, DataFrame, or list of these, default=None
            As for `predict`.

        Returns
        -------
        interval : array, DataFrame, or list of these
            Lower and upper bound: (steps, 2), or (steps, n_targets, 2); in a DataFrame, columns "lower" and "upper".
        """
        return self._predict_quantiles(steps, tails(coverage), X, ["lower", "upper"])

    def sample(
        self,
        steps: int | None = None,
        n_samples: int = 100,
        X: Any = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> Any:
        """Possible futures.

        Parameters
        ----------
        steps : int, default=None
            As for `predict_quantiles`.
        n_samples : int, default=100
        X : array, DataFrame, or list of these, default=None
            As for `predict`.
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        paths : array, DataFrame, or list of these
            (steps, n_samples), or (steps, n_targets, n_samples).

        Notes
        -----
        With a loss of a point, a path is the forecast with the errors of one earlier forecast added, all steps
        together. Else values are drawn from the distribution, and read for the steps that follow; the steps of one
        output of the network, and several targets, are drawn independently.
        """
        if not isinstance(n_samples, Integral) or n_samples < 1:
            raise ValueError(f"n_samples must be a positive integer, got {n_samples!r}")
        check_is_fitted(self, "_network")
        rng = check_random_state(random_state)
        if self.loss in POINT_LOSSES:
            self._check_levels(0.5, self._check_steps(steps))
        prepared, series, ends, steps = self._ready(steps, X)
        labels = list(range(int(n_samples)))
        if self.loss not in POINT_LOSSES:
            levels = self._predictor.sample_levels(prepared, series, ends, steps, int(n_samples), rng)
            return self._history.render(list(self._predictor.in_units(prepared.preparation.restore(levels))), labels)
        assert self._pool is not None
        errors = np.concatenate(
            [seen - raw[..., 0] for raw, seen in zip(self._pool.raw, self._pool.observed, strict=True)]
        )
        errors = errors[~np.isnan(errors[:, :steps]).any(axis=(1, 2)), :steps]
        if not len(errors):
            raise ValueError("every forecast of the calibration has a missing value: there are no errors to draw from")
        points = self._predictor.raw(prepared, series, ends, steps)
        drawn = np.moveaxis(errors[rng.randint(len(errors), size=(len(ends), int(n_samples)))], 1, -1)
        return self._history.render(list(self._predictor.values(prepared, series, ends, points + drawn)), labels)


def tails(coverage: Any) -> tuple[float, float]:
    """Levels of the bounds of a central interval."""
    if not isinstance(coverage, Real) or not 0 < float(coverage) < 1:
        raise ValueError(f"coverage must be a number between 0 and 1, got {coverage!r}")
    return round((1 - float(coverage)) / 2, 12), round((1 + float(coverage)) / 2, 12)
