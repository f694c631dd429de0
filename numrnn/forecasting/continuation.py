"""How a fitted forecaster goes on with new values, without training."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from numrnn.forecasting.fitting import Fitting
from numrnn.forecasting.preparation import TRANSFORMATIONS
from numrnn.forecasting.series import Panel, read_covariates, read_panel
from numrnn.forecasting.stream import ForecastStream
from numrnn.forecasting.windows import Prepared

__all__ = ["Continuation"]

Array = NDArray[np.float64]


class Continuation(Fitting):
    """The methods `update` and `stream`."""

    def update(self, y_new: Any, X_new: Any = None) -> Self:
        """Go on with new values, without training: the next forecast begins after them.

        The errors of the forecasts of these values join those by which intervals are calibrated, and the oldest leave.

        Parameters
        ----------
        y_new : array, Series, DataFrame, or list of these
            The values that follow, in the container of y; every series must go on.
        X_new : array, DataFrame, or list of these, default=None
            Their covariates, all columns of the X of `fit`.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If the values do not go on where the series ended, or are not as described. Nothing is changed then.
        """
        check_is_fitted(self, "_network")
        old, settings = self._history, self._preparation.settings
        new = read_panel(y_new, old.frequency, self.missing)
        if (
            new.container != old.container
            or new.n_targets != old.n_targets
            or sorted(new.names, key=str) != sorted(old.names, key=str)
        ):
            raise ValueError(
                f"y_new must be a container like y with the same {len(old)} series and {old.n_targets} targets, got "
                f"{len(new)} series with {new.n_targets}"
            )
        if old.container == "long":
            new = new.ordered(old.names)
        self._check_new(new.values)
        if (X_new is None) != (self._n_covariates == 0):
            raise ValueError(
                f"X_new must hold the {self._n_covariates} covariates of y_new, got None"
                if X_new is None
                else "X_new must be None: the forecaster was fitted without covariates"
            )
        if X_new is not None:
            new.covariates = self._new_covariates(X_new, new)
        whole = old.joined(new)
        pool = self._pool
        if pool is not None:
            begins = np.maximum(old.lengths - settings.horizon, settings.n_history - 1)
            ends = [np.arange(begin, end) for begin, end in zip(begins, whole.lengths - settings.horizon, strict=True)]
            pool = pool.extended(*self._predictor.forecasts_and_outcomes(Prepared(self._preparation, whole), ends))
        self._pool = pool
        self._history = whole.tail(settings.n_history + settings.horizon)
        return self

    def stream(self, steps: int | None = None) -> ForecastStream:
        """The series one time step at a time, with a forecast after each; the forecaster is not changed.

        Parameters
        ----------
        steps : int, default=None
            Steps ahead that are forecast. None is the next one alone, whose forecast has the shape of a time step.

        Returns
        -------
        stream : ForecastStream
            It begins where the series ended. Numbers go in and come out, also where y was of pandas.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If `fit` was not called.
        ValueError
            If `steps` is not positive, or takes the future of covariates that are not known.

        Notes
        -----
        A forecast reads the window anew, as the network was trained to: a time step costs a pass over the window, and
        none of the checks of containers and calibrations of `update`.

        Examples
        --------
        >>> import numpy as np
        >>> from numrnn import RNNForecaster
        >>> y = 10 + np.sin(np.arange(120.0))
        >>> model = RNNForecaster((4,), window_length=8, max_iter=2, tol=0.0, random_state=0).fit(y[:100])
        >>> stream = model.stream()
        >>> forecasts = [stream.update(value) for value in y[100:]]
        >>> bool(forecasts[-1] == model.update(y[100:]).predict()[0])
        True
        """
        check_is_fitted(self, "_network")
        if steps is not None and (not isinstance(steps, Integral) or isinstance(steps, bool) or steps < 1):
            raise ValueError(f"steps must be a positive integer or None, got {steps!r}")
        settings = self._preparation.settings
        if steps is not None and settings.past and steps > settings.block:
            raise ValueError(
                f"a forecast of {steps} steps needs the future of all covariates, but columns {list(settings.past)} of "
                f"X are not in future_covariates; at most {settings.block} steps can be forecast without them"
            )
        wanted = None if steps is None else int(steps)
        return ForecastStream(self._predictor, self._history, self.missing, wanted, self._check_new)

    def _check_new(self, values: Array) -> None:
        lowest = np.nanmin(values, initial=np.inf)
        border = -np.inf if self.transformation is None else TRANSFORMATIONS[self.transformation][2]
        if lowest <= border:
            raise ValueError(f"transformation={self.transformation!r} needs values above {border:g}, got {lowest:g}")

    def _new_covariates(self, X_new: Any, new: Panel) -> Array:
        covariates, names = read_covariates(X_new, new)
        if names is not None and self._covariate_names is not None:
            absent = [name for name in self._covariate_names if name not in names]
            if absent:
                raise ValueError(f"X_new has no column {absent[0]!r}; it has {names}")
            covariates = [part[:, [names.index(name) for name in self._covariate_names]] for part in covariates]
        if covariates[0].shape[1] != self._n_covariates:
            raise ValueError(f"X_new must have {self._n_covariates} columns, got {covariates[0].shape[1]}")
        return np.concatenate(covariates)
