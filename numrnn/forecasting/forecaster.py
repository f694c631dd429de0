"""Forecasts of time series by recurrent networks."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from numrnn.estimators.base import RecurrentEstimator, automatic_batch_size, network_from, network_settings
from numrnn.forecasting.calibration import ErrorPool, fewest_errors
from numrnn.forecasting.distributions import POINT_LOSSES, outputs_per_target
from numrnn.forecasting.metrics import mase, naive_error
from numrnn.forecasting.origins import Predictor
from numrnn.forecasting.preparation import CALENDAR, TRANSFORMATIONS, Preparation, Settings
from numrnn.forecasting.series import Panel, check_frequency, form_of, read_covariates, read_panel, read_static
from numrnn.forecasting.windows import Prepared, Windows
from numrnn.kernels.cpu.likelihoods import LIKELIHOODS
from numrnn.training.loop import TrainingState, train
from numrnn.training.schedules import make_schedule

if TYPE_CHECKING:
    from numrnn.forecasting.backtest import Backtest

__all__ = ["RNNForecaster", "tails"]

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

# What the forecaster has in common with the other estimators.
_SHARED = (
    "hidden_layer_sizes",
    "cell",
    "activation",
    "bidirectional",
    "dropout",
    "solver",
    "learning_rate_init",
    "learning_rate",
    "alpha",
    "batch_size",
    "max_iter",
    "tol",
    "n_iter_no_change",
    "early_stopping",
    "validation_fraction",
    "max_grad_norm",
    "bptt_steps",
    "random_state",
    "dtype",
    "n_jobs",
    "verbose",
)

# What is fitted and written to a file as it is.
_FITTED = (
    "n_series_",
    "n_targets_",
    "naive_error_",
    "loss_curve_",
    "validation_scores_",
    "n_iter_",
    "n_windows_",
    "_levels",
    "_covariate_names",
    "_n_covariates",
    "_path_seed",
)


@dataclass(eq=False, repr=False, kw_only=True)
class RNNForecaster(BaseEstimator):
    """Forecast one or several time series by a recurrent network that reads a window of their past.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(64,)
        Units of each recurrent layer, from the input up.
    horizon : int, default=1
        Steps ahead that the forecaster is made for.
    window_length : int, default=24
        Time steps that the network reads before a forecast.
    strategy : {"direct", "recursive"}, default="direct"
        "direct": the network forecasts all steps of the horizon at once. "recursive": it forecasts one step, which is
        then read as if it had been observed, for the next one.
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
    n_windows_ : int
        Windows trained on.
    n_parameters_ : int

    See Also
    --------
    RNNRegressor : For sequences that are samples by themselves.

    Notes
    -----
    Windows are views of the series: memory does not grow with their length. Covariates are standardised, all series
    together; a covariate that is missing is taken as its mean. Known covariates and the calendar are read ahead: with a
    window ends, the network has read those of the steps it forecasts.

    The intervals of losses of a point, and of others if there is a calibration, are split-conformal: see
    `docs/forecasting.md`.

    References
    ----------
    .. [1] Salinas, D., Flunkert, V., Gasthaus, J. and Januschowski, T. (2020). DeepAR: probabilistic forecasting with
       autoregressive recurrent networks. International Journal of Forecasting 36, 1181-1191.

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

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **{name: RecurrentEstimator._parameter_constraints[name] for name in _SHARED},
        "horizon": [Interval(Integral, 1, None, closed="left")],
        "window_length": [Interval(Integral, 1, None, closed="left")],
        "strategy": [StrOptions({"direct", "recursive"})],
        "loss": [StrOptions({*POINT_LOSSES, *LIKELIHOODS})],
        "quantile_levels": ["array-like"],
        "difference": [Interval(Integral, 1, None, closed="left"), "array-like", None],
        "transformation": [StrOptions(set(TRANSFORMATIONS)), None],
        "scaling": [StrOptions({"auto", "standard", "minmax", "mean"}), None],
        "calendar": ["array-like"],
        "future_covariates": [StrOptions({"all"}), "array-like"],
        "missing": [StrOptions({"raise", "mask"})],
        "seasonality": [Interval(Integral, 1, None, closed="left")],
        "frequency": "no_validation",
        "calibration_fraction": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left")],
        "train_on_all": ["boolean"],
        "n_paths": [Interval(Integral, 2, None, closed="left")],
    }

    hidden_layer_sizes: Any = field(default=(64,), kw_only=False)
    horizon: int = 1
    window_length: int = 24
    strategy: str = "direct"
    loss: str = "squared_error"
    quantile_levels: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95)
    difference: int | Sequence[int] | None = None
    transformation: str | None = None
    scaling: str | None = "auto"
    calendar: Sequence[str] = ()
    future_covariates: str | Sequence[int | str] = "all"
    missing: str = "raise"
    seasonality: int = 1
    frequency: Any = None
    calibration_fraction: float | str = "auto"
    train_on_all: bool = False
    n_paths: int = 500
    cell: str = "lstm"
    activation: str = "tanh"
    bidirectional: bool = False
    dropout: float = 0.0
    solver: str = "adam"
    learning_rate_init: float = 1e-3
    learning_rate: str | Callable[[int], float] = "constant"
    alpha: float = 0.0
    batch_size: int | str = "auto"
    max_iter: int = 100
    tol: float = 1e-4
    n_iter_no_change: Any = 10
    early_stopping: bool = False
    validation_fraction: float = 0.1
    max_grad_norm: float | None = 1.0
    bptt_steps: int | None = None
    random_state: int | np.random.RandomState | None = None
    dtype: Any = "float32"
    n_jobs: int | None = None
    verbose: bool = False

    # --------------------------------------------------------------------------------------------------- fitting
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

    def _fit_panel(self, panel: Panel, names: list[Any] | None, traits: Array | None, levels: Array) -> Self:
        """Learn from series that have been read."""
        settings = self._settings(panel, names)
        self._check_series(panel, settings)
        first, training_end, validation, calibration = self._split(panel, settings)
        # What is held out has no part in the scales.
        learning = panel.head(training_end + settings.block)
        self._check_series(learning, settings, held_out=panel)
        preparation = Preparation(settings, learning, traits, np.dtype(self.dtype))
        prepared = Prepared(preparation, panel)
        counts = self.loss == "negative_binomial"
        windows = Windows(prepared, first, training_end, counts=counts)
        judged = Windows(prepared, *validation, counts=counts) if self.early_stopping else None
        if windows.total_weight == 0 or (judged is not None and judged.total_weight == 0):
            raise ValueError("no window of y has an observed value after it: all of them are missing")

        self._random = check_random_state(self.random_state)
        self._network = self._build_network(preparation, len(levels))
        self._network.initialize(self._random)
        self._state = TrainingState()
        self._levels, self._preparation, self._covariate_names = levels, preparation, names
        self._n_covariates = 0 if panel.covariates is None else panel.covariates.shape[1]
        self.n_series_, self.n_targets_ = len(panel), panel.n_targets
        self.location_, self.scale_ = preparation.location, preparation.scale
        errors = [naive_error(panel.values[panel.rows(i)], int(self.seasonality)) for i in range(len(panel))]
        self.naive_error_ = np.stack(errors)
        self.n_windows_ = len(windows)
        try:
            self._train(windows, judged)
        finally:
            self._network.workers.close()  # type: ignore[union-attr]
            self.loss_curve_, self.n_iter_ = self._state.loss_curve, self._state.n_iter
            self.validation_scores_ = self._state.validation_scores if self.early_stopping else None
            self.n_parameters_ = self._network.n_parameters
            self._path_seed = int(self._random.randint(2**31 - 1))
            self._pool: ErrorPool | None = None
            self._history = panel.tail(settings.n_history + settings.horizon)
        ends = [np.arange(begin, end) for begin, end in zip(*calibration, strict=True)]
        if sum(len(part) for part in ends):
            self._pool = ErrorPool(*self._predictor.forecasts_and_outcomes(prepared, ends))
        if self.train_on_all and not self._state.interrupted:
            self._train_on_all(Windows(prepared, first, panel.lengths - settings.block, counts=counts))
        return self

    def _train_on_all(self, windows: Windows) -> None:
        """Train a new network on all windows, as long as was best for the first one."""
        scores = self.validation_scores_
        n_epochs = max(int(np.argmax(scores)) + 1 if scores else self.n_iter_, 1)
        network = self._build_network(self._preparation, len(self._levels))
        network.initialize(self._random)
        schedule = make_schedule(self.learning_rate, float(self.learning_rate_init), int(self.max_iter))
        state = TrainingState()
        with network.workers:
            train(
                network,
                windows,
                **self._training_settings(len(windows)),
                learning_rate=schedule if self.solver != "lbfgs" else "constant",
                max_iter=n_epochs,
                tol=float(self.tol) if self.solver == "lbfgs" else 0.0,
                n_iter_no_change=n_epochs,
                state=state,
            )
        self._network, self._state = network, state
        self.loss_curve_, self.n_iter_, self.n_windows_ = state.loss_curve, state.n_iter, len(windows)

    def _check_parameters(self) -> Array:
        """What the constraints of single parameters do not tell; the quantile levels."""
        name = type(self).__name__
        sizes = np.atleast_1d(np.asarray(self.hidden_layer_sizes))
        if sizes.ndim != 1 or sizes.dtype.kind not in "iu" or not len(sizes) or (sizes < 1).any():
            raise ValueError(
                f"The 'hidden_layer_sizes' parameter of {name} must be a positive integer or a sequence of them. Got "
                f"{self.hidden_layer_sizes!r} instead."
            )
        lags = np.atleast_1d(np.asarray(() if self.difference is None else self.difference))
        if len(lags) and (lags.ndim != 1 or lags.dtype.kind not in "iu" or (lags < 1).any()):
            raise ValueError(
                f"The 'difference' parameter of {name} must be positive lags. Got {self.difference!r} instead."
            )
        unknown = [feature for feature in self.calendar if feature not in CALENDAR]
        if unknown or isinstance(self.calendar, str):
            raise ValueError(
                f"The 'calendar' parameter of {name} must be a sequence of {sorted(CALENDAR)}. Got {self.calendar!r} "
                "instead."
            )
        if self.bptt_steps is not None and self.bidirectional:
            raise ValueError(f"The 'bptt_steps' parameter of {name} must be None if 'bidirectional' is true.")
        if self.solver == "lbfgs" and self.early_stopping:
            raise ValueError(f"The 'early_stopping' parameter of {name} must be False for 'lbfgs'. Got True instead.")
        if self.n_jobs == 0:
            raise ValueError(f"The 'n_jobs' parameter of {name} must be None or a nonzero integer. Got 0 instead.")
        if self.loss == "negative_binomial" and (
            len(lags) or self.transformation or self.scaling in ("standard", "minmax")
        ):
            raise ValueError(
                "loss='negative_binomial' is for counts as they are: difference and transformation must be None and "
                f"scaling 'mean' or None, got {self.difference!r}, {self.transformation!r} and {self.scaling!r}"
            )
        if (
            self.strategy == "recursive"
            and self.horizon > 1
            and self._calibration_share()
            and self.loss not in POINT_LOSSES
        ):
            raise ValueError(
                f"calibration_fraction must be 0 for loss={self.loss!r} with strategy='recursive' and a horizon of "
                "more than "
                f"1 step, whose intervals are those of sample paths; got {self.calibration_fraction!r}"
            )
        if self.loss != "quantile":
            return np.zeros(0)
        levels = np.asarray(self.quantile_levels, dtype=np.float64)
        if (
            levels.ndim != 1
            or not len(levels)
            or not ((levels > 0) & (levels < 1)).all()
            or (np.diff(levels) <= 0).any()
        ):
            raise ValueError(
                f"The 'quantile_levels' parameter of {name} must lie between 0 and 1 and increase. Got "
                f"{self.quantile_levels!r} instead."
            )
        return levels

    def _calibration_share(self) -> float:
        if isinstance(self.calibration_fraction, str):
            return 0.1 if self.loss in POINT_LOSSES else 0.0
        return float(self.calibration_fraction)

    def _settings(self, panel: Panel, names: list[Any] | None) -> Settings:
        n_covariates = 0 if panel.covariates is None else panel.covariates.shape[1]
        columns = range(n_covariates)
        if isinstance(self.future_covariates, str):
            known = tuple(columns)
        else:
            known = tuple(self._column(column, n_covariates, names) for column in self.future_covariates)
        past = tuple(column for column in columns if column not in known)
        block = int(self.horizon) if self.strategy == "direct" else 1
        if past and block < self.horizon:
            raise ValueError(
                "strategy='recursive' with a horizon of more than 1 step needs the future of all covariates, but "
                "columns "
                f"{list(past)} of X are not in future_covariates; use strategy='direct'"
            )
        if self.calendar and panel.forms[0].times(0, 1) is None:
            raise ValueError(
                "calendar features need series with time stamps: a pandas Series or DataFrame with such an index"
            )
        lags = () if self.difference is None else np.atleast_1d(np.asarray(self.difference))
        scaling = self.scaling
        if scaling == "auto":
            scaling = "mean" if self.loss == "negative_binomial" else "standard"
        return Settings(
            window_length=int(self.window_length),
            block=block,
            horizon=int(self.horizon),
            lags=tuple(int(lag) for lag in lags),
            transformation=self.transformation,
            scaling=scaling,
            calendar=tuple(self.calendar),
            known=known,
            past=past,
        )

    def _column(self, column: Any, n_covariates: int, names: list[Any] | None) -> int:
        if names is not None and column in names:
            return names.index(column)
        if isinstance(column, Integral) and 0 <= int(column) < n_covariates:
            return int(column)
        known = list(range(n_covariates)) if names is None else names
        raise ValueError(f"future_covariates names {column!r}, which is not a column of X; its columns are {known}")

    def _check_series(self, panel: Panel, settings: Settings, held_out: Panel | None = None) -> None:
        """Every series must be long enough, have values, and such that the transformation and the loss can take."""
        needed = settings.n_history + settings.horizon
        for number, name in enumerate(panel.names):
            what = "y" if len(panel) == 1 else f"series {name!r} of y"
            values = panel.values[panel.rows(number)]
            if held_out is None and len(values) < needed:
                raise ValueError(
                    f"{what} is too short: window_length={self.window_length}, difference={self.difference} and "
                    f"horizon={self.horizon} need at least {needed} time steps, got {len(values)}"
                )
            empty = np.isnan(values).all(axis=0)
            if empty.any():
                column = f"column {int(np.argmax(empty))} of {what}" if panel.n_targets > 1 else what
                where = "" if held_out is None else " in the part that is trained on"
                raise ValueError(f"{column} has no observed value{where}: all are missing")
            if self.transformation is not None:
                border = TRANSFORMATIONS[self.transformation][2]
                lowest = float(np.nanmin(values))
                if lowest <= border:
                    raise ValueError(
                        f"transformation={self.transformation!r} needs values above {border:g}, but {what} contains "
                        f"{lowest:g}"
                    )
            if self.loss == "negative_binomial":
                seen = values[~np.isnan(values)]
                if (seen < 0).any() or (seen != np.rint(seen)).any():
                    wrong = seen[(seen < 0) | (seen != np.rint(seen))][0]
                    raise ValueError(
                        f"loss='negative_binomial' needs counts 0, 1, 2, ..., but {what} contains {wrong:g}"
                    )

    def _split(self, panel: Panel, settings: Settings) -> tuple[Rows, Rows, tuple[Rows, Rows], tuple[Rows, Rows]]:
        """The first window's last row, and ranges of last rows for training, validation and calibration, in this order.

        No value that one part forecasts is forecast by another.
        """
        first = np.full(len(panel), settings.n_history - 1, dtype=np.int64)
        end = panel.lengths - settings.horizon
        total = end - first

        def share(fraction: float) -> Rows:
            return np.maximum(np.rint(fraction * total), 1).astype(np.int64) if fraction else np.zeros_like(total)

        n_calibration = share(self._calibration_share())
        n_validation = share(float(self.validation_fraction) if self.early_stopping else 0.0)
        calibration = (end - n_calibration, end)
        # Without calibration all windows up to the last value are of use.
        training_end = np.where(n_calibration > 0, calibration[0] + 1, panel.lengths) - settings.block
        validation = (training_end - n_validation, training_end)
        training_end = np.where(n_validation > 0, validation[0] + 1 - settings.block, training_end)
        if (training_end <= first).all():
            raise ValueError(
                f"y is too short: nothing is left to train on after {int(n_calibration.max())} windows were set aside "
                "for "
                f"intervals and {int(n_validation.max())} for early stopping; the longest series has "
                f"{int(panel.lengths.max())} steps"
            )
        # A series too short to be trained on lends its scale from what it has.
        training_end = np.maximum(training_end, first + 1 - settings.block)
        validation = (np.maximum(validation[0], first), np.maximum(validation[1], first))
        return first, training_end, validation, (np.maximum(calibration[0], first), end)

    def _build_network(self, preparation: Preparation, n_levels: int) -> Any:
        block = preparation.settings.block
        raw = outputs_per_target(self.loss, np.zeros(n_levels))
        return network_from(
            {
                "cell": f"rnn_{self.activation}" if self.cell == "rnn" else self.cell,
                "input_size": preparation.n_features,
                "hidden_sizes": [int(size) for size in np.atleast_1d(np.asarray(self.hidden_layer_sizes))],
                "n_outputs": block * preparation.n_targets * raw,
                "bidirectional": bool(self.bidirectional),
                "pooling": "last",
                "dropout": float(self.dropout),
                "loss": self.loss,
                "quantile_levels": [float(level) for level in self.quantile_levels] if self.loss == "quantile" else [],
                "dtype": np.dtype(self.dtype).name,
            },
            self.n_jobs,
        )

    def _training_settings(self, n_windows: int) -> dict[str, Any]:
        return {
            "solver": self.solver,
            "learning_rate_init": float(self.learning_rate_init),
            "alpha": float(self.alpha),
            "batch_size": automatic_batch_size(n_windows) if isinstance(self.batch_size, str) else int(self.batch_size),
            "max_grad_norm": self.max_grad_norm,
            "bptt_steps": None if self.bptt_steps is None else int(self.bptt_steps),
            "rng": self._random,
            "verbose": bool(self.verbose),
        }

    def _train(self, windows: Windows, judged: Windows | None) -> None:
        train(
            self._network,
            windows,
            **self._training_settings(len(windows)),
            learning_rate=self.learning_rate,
            max_iter=int(self.max_iter),
            tol=float(self.tol),
            n_iter_no_change=self.n_iter_no_change,
            early_stopping=bool(self.early_stopping),
            validation=judged,
            state=self._state,
        )
        if not (self._state.converged or self._state.interrupted):
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                "converged yet.",
                ConvergenceWarning,
                stacklevel=5,  # the caller of fit
            )

    # ------------------------------------------------------------------------------------------------ prediction
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

    @property
    def _predictor(self) -> Predictor:
        return Predictor(self._network, self._preparation, self.loss, self._levels, int(self.n_paths), self._path_seed)

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
        if self._pool is not None and len(self._pool) < fewest_errors(wanted):
            warnings.warn(
                f"{len(self._pool)} errors of the calibration are too few for quantiles at the levels "
                f"{wanted.tolist()}, which "
                f"take {fewest_errors(wanted)}: the most extreme errors are used, and intervals may be too narrow. "
                "Increase "
                "calibration_fraction or the length of the series.",
                UserWarning,
                stacklevel=4,
            )
        return wanted

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

    # ------------------------------------------------------------------------------------------------- afterwards
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

    # --------------------------------------------------------------------------------------------------- keeping
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted forecaster to a file that `numrnn.load` reads.

        The file has the weights, the scales, the end of the series that the next forecast begins with, and the errors
        by which intervals are calibrated. Reading it executes nothing.

        Parameters
        ----------
        path : str or path-like
            Name of the file, by custom with the extension ``.safetensors``. An existing file is replaced.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If `fit` was not called.
        ValueError
            If a parameter or a name of a series cannot be written, such as a learning rate that is a function.
        """
        from numrnn.persistence import save

        save(self, path)

    def _check_fitted(self) -> None:
        check_is_fitted(self, "_network")

    def _to_state(self) -> dict[str, Any]:
        """What was fitted but the network, in terms of numbers, strings, lists, tuples and arrays."""
        history, pool = self._history, self._pool
        return {
            "attributes": {name: getattr(self, name) for name in _FITTED},
            "preparation": self._preparation.plain(),
            "pool": None if pool is None else [pool.size, list(pool.raw), list(pool.observed)],
            "forms": [form.plain() for form in history.forms],
            "history": {field.name: getattr(history, field.name) for field in fields(history) if field.name != "forms"},
        }

    def _from_state(self, state: dict[str, Any], network: Any) -> None:
        """Become what `_to_state` described."""
        for name in _FITTED:
            setattr(self, name, state["attributes"][name])
        self._preparation = preparation = Preparation.from_plain(state["preparation"])
        self._history = Panel(**state["history"], forms=[form_of(plain) for plain in state["forms"]])
        self._pool = None
        if state["pool"] is not None:
            size, raw, observed = state["pool"]
            self._pool = ErrorPool(raw, observed, size)
        self.location_, self.scale_ = preparation.location, preparation.scale
        shape = (self.n_series_, self.n_targets_)
        history = self._history
        if not (
            preparation.n_features == network.input_size
            and shape == preparation.scale.shape == history.before.shape
            and len(history.forms) == len(history.names) == len(history) == self.n_series_
            and history.values.shape == (int(history.lengths.sum()), self.n_targets_)
            and network.n_target_columns % (preparation.settings.block * self.n_targets_) == 0
        ):
            raise ValueError("its parts do not fit together")
        self._network = network
        self.n_parameters_ = network.n_parameters

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_history")

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "_network" in state:  # rebuilt: threads and scratch memory stay behind
            network = state.pop("_network")
            state["_weights"], state["_form"] = network.parameters.flat.copy(), network_settings(network)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        weights, form = state.pop("_weights", None), state.pop("_form", None)
        super().__setstate__(state)
        if form is not None:
            self._network = network_from(form, self.n_jobs)
            self._network.parameters.flat[:] = weights


def tails(coverage: Any) -> tuple[float, float]:
    """Levels of the bounds of a central interval."""
    if not isinstance(coverage, Real) or not 0 < float(coverage) < 1:
        raise ValueError(f"coverage must be a number between 0 and 1, got {coverage!r}")
    return round((1 - float(coverage)) / 2, 12), round((1 + float(coverage)) / 2, 12)
