"""How a fitted forecaster goes on with new values, without training."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from numrnn.forecasting.fitting import Fitting
from numrnn.forecasting.preparation import TRANSFORMATIONS
from numrnn.forecasting.series import Panel, read_covariates, read_panel
from numrnn.forecasting.windows import Prepared

__all__ = ["Continuation"]

Array = NDArray[np.float64]


class Continuation(Fitting):
    """The method `update`."""

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
        self._check_new(new)
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

    def _check_new(self, new: Panel) -> None:
        lowest = np.nanmin(new.values, initial=np.inf)
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
