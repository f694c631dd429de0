"""Forecasts of time series by recurrent networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import _fit_context
from sklearn.utils.validation import check_is_fitted

from numrnn.forecasting.continuation import Continuation
from numrnn.forecasting.keeping import Keeping
from numrnn.forecasting.metrics import mase
from numrnn.forecasting.prediction import Prediction
from numrnn.forecasting.series import check_frequency, read_covariates, read_panel, read_static

if TYPE_CHECKING:
    from numrnn.forecasting.backtest import Backtest

__all__ = ["RNNForecaster"]


class RNNForecaster(Prediction, Continuation, Keeping):
    """Forecast one or several time series by a recurrent network that reads a window of their past.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(64,)
        Units of each recurrent layer, from the input up.
    horizon : int, default=1
        Steps ahead that the forecaster is made for.
    window_length : int, default=24
        Time steps that the network reads before a forecast.
    strategy : {"direct", "recursive", "encoder_decoder"}, default="direct"
        "direct": the network forecasts all steps of the horizon at once. "recursive": it forecasts one step, which is
        then read as if it had been observed, for the next one. "encoder_decoder": a second network begins with what
        the first one has read, and goes through the steps of the horizon; it reads what is known of each of them
        beforehand, and never its own forecasts [2]_.
    attention : {"additive", "multiplicative", "multihead"} or None, default=None
        With "encoder_decoder": how the decoder looks back at each step of the window, see `RNNSeq2Seq`.
    n_heads : int, default=4
        For ``attention="multihead"``; they must divide the units of the last layer.
    loss : {"squared_error", "absolute_error", "huber", "quantile", "gaussian", "student_t", "negative_binomial"}, \
            default="squared_error"
        The first three make forecasts of a point; their intervals come from errors on a held-out part of the series.
        "quantile" learns the `quantile_levels`, which never cross. The last three learn the parameters of a
        distribution [1]_; "negative_binomial" is for counts.
    quantile_levels : sequence of float, default=(0.05, 0.25, 0.5, 0.75, 0.95)
        Levels that the loss "quantile" learns, increasing; others lie on straight lines between them.
    difference : int or sequence of int or None, default=None
        Lags of differences, one after the other: 1 takes away a trend, 12 the season of monthly data, (1, 12) both.
        A forecast is made as a difference to values before it, and given as a value.
    transformation : {"log", "log1p"} or None, default=None
        Of the values, before the difference. A point forecast is transformed back as it is: with "squared_error" it is
        then nearer to the median than to the mean.
    scaling : {"auto", "standard", "minmax", "mean"} or None, default="auto"
        Of every series by itself, after the difference: to mean 0 and standard deviation 1, to the range from 0 to 1,
        or divided by the mean of the absolute values. What has no spread is not scaled. "auto" is "standard", for
        counts "mean".
    calendar : sequence of {"time_of_day", "time_of_week", "time_of_month", "time_of_year"}, default=()
        The position of a time step in these periods, as sine and cosine. Only for series with time stamps.
    future_covariates : "all" or sequence of int or str, default="all"
        Columns of X that are known for the future, and are given to `predict`. The others are read as far as they go.
    missing : {"raise", "mask"}, default="raise"
        What to do about values of y that are NaN: refuse them, or leave them out of the loss, and let the network read
        the last value before them with a flag that they are missing.
    seasonality : int, default=1
        Period of the naive forecast by which errors are scaled in `score` and `backtest`.
    frequency : str or offset or None, default=None
        Of the time stamps, as pandas names it. None infers it. If it is given, times that are not there are missing
        values.
    calibration_fraction : float in [0, 1) or "auto", default="auto"
        The share of the windows, at the end of each series, that the network is not trained on, and by which intervals
        are corrected. "auto" is 0.1 for losses of a point, else 0, where intervals are those of the learned
        distribution.
    train_on_all : bool, default=False
        Whether to train once more, on all windows: when the errors of the calibration are known, and for as many epochs
        as `early_stopping` found best. The intervals stay those of the first training, which knew less.
    n_paths : int, default=500
        Sample paths that make a quantile of a distribution more than one step ahead if "recursive", or beyond the
        horizon.
    cell : {"lstm", "gru", "rnn"}, default="lstm"
    activation : {"tanh", "relu"}, default="tanh"
        Of the cell "rnn".
    bidirectional : bool, default=False
        Whether layers read the window in both directions.
    dropout : float in [0, 1), default=0.0
        Between recurrent layers.
    solver : {"adam", "adamw", "sgd", "rmsprop", "lbfgs"}, default="adam"
    learning_rate_init : float, default=1e-3
    learning_rate : {"constant", "step", "cosine", "adaptive"} or callable, default="constant"
    alpha : float, default=0.0
        L2 penalty of the weights.
    batch_size : int or "auto", default="auto"
        Windows in a minibatch.
    max_iter : int, default=100
        Epochs at most.
    tol : float, default=1e-4
    n_iter_no_change : int, default=10
    early_stopping : bool, default=False
        Whether to keep the weights of the epoch that was best on windows held out after those trained on.
    validation_fraction : float, default=0.1
        Share of the windows held out for that; they come before those of the calibration.
    max_grad_norm : float or None, default=1.0
    bptt_steps : int or None, default=None
    random_state : int, RandomState instance or None, default=None
    dtype : {"float32", "float64"}, default="float32"
        Of the network.
    matmul_precision : {None, "bfloat16"}, default=None
        Of the products of recurrent layers in training and forecasts, as of :class:`RNNRegressor`; not for
        ``strategy="encoder_decoder"``. A fitted forecaster keeps the one that it was fitted with.
    device : {"cpu", "cuda", "auto"}, default="cpu"
        What trains and predicts, as of :class:`RNNRegressor`.
    n_jobs : int or None, default=None
        Threads. Results do not depend on it.
    verbose : bool, default=False

    Attributes
    ----------
    n_series_, n_targets_ : int
        Series in y, and columns of each.
    location_, scale_ : ndarray of shape (n_series, n_targets)
        What was subtracted from the differenced series, and what they were divided by.
    naive_error_ : ndarray of shape (n_series, n_targets)
        Mean absolute error of the seasonal naive forecast within the series: the unit of MASE.
    loss_curve_ : list of float
        Training loss of every epoch, in scaled units.
    validation_scores_ : list of float or None
        Minus the loss of the windows held out, with `early_stopping`.
    n_iter_ : int
        Epochs.
    device_ : {"cpu", "cuda"}
        Where the last fit ran.
    n_windows_ : int
        Windows trained on.
    n_parameters_ : int

    See Also
    --------
    RNNRegressor : For sequences that are samples by themselves.

    Notes
    -----
    Windows are views of the series: memory does not grow with their length. Covariates are standardised, all series
    together; a covariate that is missing is taken as its mean. Known covariates and the calendar are read ahead: where
    a window ends, the network has read those of the steps it forecasts. A decoder reads them at their steps, beside how
    far these are.

    The intervals of losses of a point, and of others if there is a calibration, are split-conformal. Of a point, errors
    too few to be ranked, with regard to how they overlap, are taken to be normal: see `docs/forecasting.md`.

    References
    ----------
    .. [1] Salinas, D., Flunkert, V., Gasthaus, J. and Januschowski, T. (2020). DeepAR: probabilistic forecasting with
       autoregressive recurrent networks. International Journal of Forecasting 36, 1181-1191.
    .. [2] Wen, R., Torkkola, K., Narayanaswamy, B. and Madeka, D. (2017). A multi-horizon quantile recurrent
       forecaster. NeurIPS time series workshop. arXiv:1711.11053.

    Examples
    --------
    >>> import numpy as np
    >>> from numrnn import RNNForecaster
    >>> t = np.arange(300)
    >>> y = 10 + np.sin(2 * np.pi * t / 12) + 0.01 * t
    >>> model = RNNForecaster((16,), horizon=12, window_length=12, difference=12, max_iter=30, random_state=0)
    >>> model = model.fit(y[:288])
    >>> forecast = model.predict()
    >>> bool(np.abs(forecast - y[288:]).max() < 0.1)
    True
    """

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, y: Any, X: Any = None, static: Any = None) -> Self:
        """Learn from one or several series.

        Parameters
        ----------
        y : array, Series, DataFrame, or list of these
            One series: an array or pandas Series (n_steps,); with several targets, which are read and forecast
            together, an array or DataFrame (n_steps, n_targets). Several series, for which one network is trained: a
            list of such, of any lengths, or a DataFrame in long format with the columns `unique_id`, `ds` (time) and
            `y`. The index of a Series or DataFrame must be sorted, without duplicates, and regular.
        X : array, DataFrame, or list of these, default=None
            Covariates (n_steps, n_covariates), a row for each time step of y; several series as in y.
        static : array or DataFrame of shape (n_series, n_static), default=None
            Covariates of the series, for the long format with the `unique_id` as index or column.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If the data or parameters are not as described, or too short for one window; the message says how.
        TypeError
            If the index is neither of times nor of integers.
        FloatingPointError
            If the loss stops being finite.
        """
        levels = self._check_parameters()
        frequency = check_frequency(self.frequency)
        panel = read_panel(y, frequency, self.missing)
        names: list[Any] | None = None
        if X is not None:
            covariates, names = read_covariates(X, panel, frequency=frequency)
            panel.covariates = covariates[0] if len(covariates) == 1 else np.concatenate(covariates)
        traits = read_static(static, panel)
        return self._fit_panel(panel, names, traits, levels)

    def score(self, y: Any, X: Any = None) -> float:
        """Minus the mean absolute scaled error of the forecast of what followed the series: higher is better.

        Above -1, the forecast is better than the seasonal naive one was within the series, one period ahead.

        Parameters
        ----------
        y : array, Series, DataFrame, or list of these
            What was observed right after the y of `fit` (and `update`).
        X : array, DataFrame, or list of these, default=None
            Covariates of these steps.

        Returns
        -------
        score : float
            NaN if every series of `fit` was constant.
        """
        check_is_fitted(self, "_network")
        panel = self._history
        seen = read_panel(y, panel.frequency, "mask")
        if seen.container == "long" and panel.container == "long":
            seen = seen.ordered(panel.names)
        panel.follow(seen)
        prepared, series, ends, steps = self._ready(int(seen.lengths.max()), X)
        points = self._predictor.points(prepared, series, ends, steps)
        errors = []
        for number in range(len(panel)):
            observed = seen.values[seen.rows(number)]
            errors.append(mase(observed, points[number, : len(observed)], self.naive_error_[number], axis=0))
        errors_of_all = np.stack(errors)
        return -float(np.nanmean(errors_of_all)) if not np.isnan(errors_of_all).all() else float("nan")

    def backtest(
        self,
        y: Any,
        X: Any = None,
        *,
        initial: int,
        step: int | None = None,
        horizon: int | None = None,
        coverage: float = 0.9,
        refit: bool = False,
        static: Any = None,
    ) -> Backtest:
        """Forecast again and again from origins that move through the series, and compare with what followed.

        A copy of this forecaster is fitted on the first `initial` steps. Forecasts are made after these, then `step`
        steps later, and so on, as far as the whole horizon was observed. This forecaster is not changed.

        Parameters
        ----------
        y, X, static
            As for `fit`. Of X, each forecast reads what it may know: past covariates up to its origin.
        initial : int
            Time steps of every series that the first forecast knows.
        step : int, default=None
            Time steps from one origin to the next. None is the horizon.
        horizon : int, default=None
            Steps of a forecast, at most the horizon of the forecaster, which None stands for.
        coverage : float, default=0.9
            Of the intervals.
        refit : bool, default=False
            Whether to fit anew at every origin. Else the forecaster is fitted once, and updated with what was observed
            up to each origin, its intervals included.
        static : array or DataFrame, default=None

        Returns
        -------
        result : Backtest
            Forecasts, intervals, observations and measures for each step of the horizon.
        """
        from numrnn.forecasting.backtest import run_backtest

        return run_backtest(
            self, y, X, initial=initial, step=step, horizon=horizon, coverage=coverage, refit=refit, static=static
        )
