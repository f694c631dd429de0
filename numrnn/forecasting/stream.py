"""A fitted forecaster that is given its series one time step at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numrnn.forecasting.origins import Predictor
from numrnn.forecasting.series import ArrayForm, Panel, as_numbers
from numrnn.forecasting.windows import Prepared

__all__ = ["ForecastStream"]

Array = NDArray[np.float64]


class ForecastStream:
    """Series that go on one time step at a time, with a forecast after each. Made by `RNNForecaster.stream`.

    It begins where the series of the forecaster ended, which it does not change. What `update` returns is, to the last
    bit, what `predict` would after `RNNForecaster.update` with the same time steps.

    Attributes
    ----------
    state : ndarray of float64, shape (state_size,)
        All that is known of the series: their last values, as many as a forecast reads, and the covariates of these.
        Reading gives a copy; setting it goes on from there, in this stream or in another of the same forecaster.
    n_series : int
    """

    def __init__(
        self, predictor: Predictor, history: Panel, missing: str, steps: int | None, check: Callable[[Array], None]
    ) -> None:
        self._predictor = predictor
        self._settings = predictor.preparation.settings
        self._start = history.tail(self._settings.n_history)
        self._missing = missing
        self._steps = steps
        self._check = check
        self.n_series = len(history)
        covariates = history.covariates
        self._n_covariates = 0 if covariates is None else covariates.shape[1]
        self._numbers = np.arange(self.n_series)
        self.reset()

    def reset(self) -> None:
        """Go back to where the series of the forecaster ended."""
        start = self._start
        covariates = None if start.covariates is None else start.covariates.copy()
        self._panel = replace(
            start,
            values=start.values.copy(),
            before=start.before.copy(),
            covariates=covariates,
            forms=list(start.forms),
        )
        self._n_steps = 0

    def update(self, y_t: ArrayLike, x_t: ArrayLike | None = None, X_future: ArrayLike | None = None) -> Any:
        """Take the next time step.

        Parameters
        ----------
        y_t : array-like of shape () or (n_targets,)
            Its values; of several series with their axis before: (n_series,) or (n_series, n_targets), in the order of
            `fit`. NaN is a missing value, for a forecaster with ``missing="mask"``.
        x_t : array-like of shape (n_covariates,) or (n_series, n_covariates), default=None
            Its covariates, all columns of the X of `fit`.
        X_future : array-like of shape (n_steps, n_columns) or (n_series, n_steps, n_columns), default=None
            Covariates of the steps that follow, at least as many as are forecast: all columns, or those that are known
            for the future. If the network looks further ahead, the last row is repeated.

        Returns
        -------
        forecast : float or ndarray
            Of the next time step, in the shape of y_t. If the stream was made with `steps`, the axis of these comes
            before that of the targets.

        Raises
        ------
        ValueError
            If a shape is another one, covariates are missing, or a number cannot be used; the state is then as it was.
        """
        panel = self._panel
        y = self._read_values(y_t)
        x = self._read_covariates(x_t)
        future = self._read_future(X_future)
        n_rows = self._settings.n_history
        values = panel.values.reshape(self.n_series, n_rows, -1)
        first = values[:, 0]
        panel.before[:] = np.where(np.isnan(first), panel.before, first)
        _append(values, y)
        if panel.covariates is not None:
            _append(panel.covariates.reshape(self.n_series, n_rows, -1), x)
        if self._settings.calendar:
            panel.forms[:] = [form.follow(ArrayForm(True, 1), 1, "y") for form in panel.forms]
        self._n_steps += 1
        return self._forecast(future)

    def _forecast(self, future: list[Array] | None) -> Any:
        steps = 1 if self._steps is None else self._steps
        panel, predictor = self._panel, self._predictor
        prepared = Prepared(predictor.preparation, panel, future, steps)
        made = predictor.points(prepared, self._numbers, panel.lengths - 1, steps)
        if panel.forms[0].single_target:
            made = made[..., 0]
        if self._steps is None:
            made = made[:, 0]
        if panel.container != "one":
            return made
        return float(made[0]) if made[0].ndim == 0 else made[0]

    # ---------------------------------------------------------------------------------------------------------- input
    def _series(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what there is of every series."""
        return shape if self._panel.container == "one" else (self.n_series, *shape)

    def _read_values(self, y_t: ArrayLike) -> Array:
        y, n_targets = as_numbers(y_t, "y_t"), self._panel.n_targets
        expected = self._series(() if self._panel.forms[0].single_target else (n_targets,))
        if y.shape != expected:
            raise ValueError(f"y_t must have the shape {expected}, got {y.shape}")
        if np.isinf(y).any():
            raise ValueError("y_t contains an infinite value")
        if self._missing == "raise" and np.isnan(y).any():
            raise ValueError("y_t contains a missing value; a forecaster with missing='mask' takes them")
        self._check(y)
        return y.reshape(self.n_series, n_targets)

    def _read_covariates(self, x_t: ArrayLike | None) -> Array:
        if (x_t is None) != (self._n_covariates == 0):
            raise ValueError(
                f"x_t must hold the {self._n_covariates} covariates of the time step, got None"
                if x_t is None
                else "x_t must be None: the forecaster was fitted without covariates"
            )
        if x_t is None:
            return np.zeros((self.n_series, 0))
        x, expected = as_numbers(x_t, "x_t"), self._series((self._n_covariates,))
        if x.shape != expected:
            raise ValueError(f"x_t must have the shape {expected}, got {x.shape}")
        if np.isinf(x).any():
            raise ValueError("x_t contains an infinite value")
        return x.reshape(self.n_series, -1)

    def _read_future(self, X_future: ArrayLike | None) -> list[Array] | None:
        known, steps = self._settings.known, 1 if self._steps is None else self._steps
        if not known:
            if X_future is not None:
                raise ValueError("X_future must be None: no covariate of the forecaster is known for the future")
            return None
        if X_future is None:
            raise ValueError(
                f"X_future must hold the covariates of the {steps} steps to forecast (columns {list(known)} of the X "
                "of fit), got None"
            )
        future = as_numbers(X_future, "X_future")
        n_axes = len(self._series((0, 0)))
        if (
            future.ndim != n_axes
            or future.shape[:-2] != self._series(())
            or future.shape[-2] < steps
            or future.shape[-1] not in (len(known), self._n_covariates)
        ):
            lead = "" if n_axes == 2 else f"{self.n_series}, "
            raise ValueError(
                f"X_future must have the shape ({lead}at least {steps}, {len(known)} or {self._n_covariates}), got "
                f"{future.shape}"
            )
        if np.isinf(future).any():
            raise ValueError("X_future contains an infinite value")
        # With as many columns as X, those that are known are picked; with as many as are known, they are these.
        if future.shape[-1] == self._n_covariates:
            future = future[..., list(known)]
        return list(future.reshape(self.n_series, *future.shape[-2:]))

    # ---------------------------------------------------------------------------------------------------------- state
    @property
    def state(self) -> Array:
        panel = self._panel
        covariates = np.zeros(0) if panel.covariates is None else panel.covariates.reshape(-1)
        return np.concatenate([panel.values.reshape(-1), panel.before.reshape(-1), covariates, [self._n_steps]])

    @state.setter
    def state(self, state: ArrayLike) -> None:
        given, panel = as_numbers(state, "state"), self._panel
        n_covariates = 0 if panel.covariates is None else panel.covariates.size
        ends = np.cumsum([panel.values.size, panel.before.size, n_covariates, 1])
        if given.shape != (int(ends[-1]),):
            raise ValueError(
                f"state must have the shape {(int(ends[-1]),)}, as this forecaster's streams have, got {given.shape}"
            )
        if np.isinf(given).any() or not given[-1] >= 0 or given[-1] != np.rint(given[-1]):
            raise ValueError(
                "state must be one that was read from a stream: finite, with the number of its time steps at the end, "
                f"got {given[-1]!r} there"
            )
        panel.values[:] = given[: ends[0]].reshape(panel.values.shape)
        panel.before[:] = given[ends[0] : ends[1]].reshape(panel.before.shape)
        if panel.covariates is not None:
            panel.covariates[:] = given[ends[1] : ends[2]].reshape(panel.covariates.shape)
        self._n_steps = n_steps = int(given[-1])
        forms = self._start.forms
        panel.forms[:] = [form.follow(ArrayForm(True, n_steps), n_steps, "y") if n_steps else form for form in forms]


def _append(rows: Array, last: Array) -> None:
    """Let the first row of every series go, and write the last one."""
    rows[:, :-1] = rows[:, 1:]
    rows[:, -1] = last
