"""What a forecaster is asked to do: its parameters, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions

from numrnn.devices import check_device
from numrnn.estimators.base import shared_constraints
from numrnn.forecasting.calibration import ErrorPool
from numrnn.forecasting.distributions import POINT_LOSSES
from numrnn.forecasting.preparation import CALENDAR, TRANSFORMATIONS, Preparation, Settings, lags_of
from numrnn.forecasting.series import Panel
from numrnn.kernels.cpu.likelihoods import LIKELIHOODS
from numrnn.seq2seq.decoder import ATTENTIONS
from numrnn.training.loop import TrainingState

__all__ = ["ForecasterParameters"]

Array = NDArray[np.float64]


class _Fitted:
    """Attributes of a fitted forecaster, which are no parameters of its constructor."""

    # The network, its training, and the random numbers of both.
    _network: Any
    _state: TrainingState
    _random: np.random.RandomState
    # How series are read, the end of them that the next forecast begins with, and the errors of earlier forecasts.
    _preparation: Preparation
    _history: Panel
    _pool: ErrorPool | None
    _levels: Array
    _covariate_names: list[Any] | None
    _n_covariates: int
    _path_seed: int
    n_series_: int
    n_targets_: int
    location_: Array
    scale_: Array
    naive_error_: Array
    loss_curve_: list[float]
    validation_scores_: list[float] | None
    n_iter_: int
    n_windows_: int
    n_parameters_: int


@dataclass(eq=False, repr=False, kw_only=True)
class ForecasterParameters(_Fitted, BaseEstimator):
    """The constructor of `RNNForecaster`, made from these fields, and the checks of what it was given."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **shared_constraints(
            "activation", "bidirectional", "solver", "batch_size", "bptt_steps", "matmul_precision", "device"
        ),
        "horizon": [Interval(Integral, 1, None, closed="left")],
        "window_length": [Interval(Integral, 1, None, closed="left")],
        "strategy": [StrOptions({"direct", "recursive", "encoder_decoder"})],
        "attention": [StrOptions(set(ATTENTIONS)), None],
        "n_heads": [Interval(Integral, 1, None, closed="left")],
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
    attention: str | None = None
    n_heads: int = 4
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
    matmul_precision: str | None = None
    device: str = "cpu"
    n_jobs: int | None = None
    verbose: bool = False

    def _check_parameters(self) -> Array:
        """What the constraints of single parameters do not tell; the quantile levels."""
        name = type(self).__name__
        sizes = np.atleast_1d(np.asarray(self.hidden_layer_sizes))
        if sizes.ndim != 1 or sizes.dtype.kind not in "iu" or not len(sizes) or (sizes < 1).any():
            raise ValueError(
                f"The 'hidden_layer_sizes' parameter of {name} must be a positive integer or a sequence of them. Got "
                f"{self.hidden_layer_sizes!r} instead."
            )
        lags = lags_of(self)
        unknown = [feature for feature in self.calendar if feature not in CALENDAR]
        if unknown or isinstance(self.calendar, str):
            raise ValueError(
                f"The 'calendar' parameter of {name} must be a sequence of {sorted(CALENDAR)}. Got {self.calendar!r} "
                "instead."
            )
        if self.strategy == "encoder_decoder":
            if self.bptt_steps is not None:
                raise ValueError(
                    f"The 'bptt_steps' parameter of {name} must be None for strategy='encoder_decoder', which is "
                    f"trained on whole windows. Got {self.bptt_steps!r} instead."
                )
            if self.matmul_precision is not None:
                raise ValueError(
                    f"The 'matmul_precision' parameter of {name} must be None for strategy='encoder_decoder', whose "
                    f"decoder has no products in another precision. Got {self.matmul_precision!r} instead."
                )
            if self.attention == "multihead" and sizes[-1] % self.n_heads:
                raise ValueError(
                    f"The 'n_heads' parameter of {name} must divide the {sizes[-1]} units of the last layer. Got "
                    f"{self.n_heads!r} instead."
                )
        elif self.attention is not None:
            raise ValueError(
                f"The 'attention' parameter of {name} must be None for strategy={self.strategy!r}: it is the decoder "
                f"of 'encoder_decoder' that attends to the window. Got {self.attention!r} instead."
            )
        if self.bptt_steps is not None and self.bidirectional:
            raise ValueError(f"The 'bptt_steps' parameter of {name} must be None if 'bidirectional' is true.")
        if self.solver == "lbfgs" and self.early_stopping:
            raise ValueError(f"The 'early_stopping' parameter of {name} must be False for 'lbfgs'. Got True instead.")
        if self.n_jobs == 0:
            raise ValueError(f"The 'n_jobs' parameter of {name} must be None or a nonzero integer. Got 0 instead.")
        if self.loss == "negative_binomial" and (lags or self.transformation or self.scaling in ("standard", "minmax")):
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
        check_device(self.device, self.matmul_precision, self.dtype)
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
        block = 1 if self.strategy == "recursive" else int(self.horizon)
        if past and block < self.horizon:
            raise ValueError(
                "strategy='recursive' with a horizon of more than 1 step needs the future of all covariates, but "
                "columns "
                f"{list(past)} of X are not in future_covariates; use strategy='direct' or 'encoder_decoder'"
            )
        if self.calendar and panel.forms[0].times(0, 1) is None:
            raise ValueError(
                "calendar features need series with time stamps: a pandas Series or DataFrame with such an index"
            )
        scaling = self.scaling
        if scaling == "auto":
            scaling = "mean" if self.loss == "negative_binomial" else "standard"
        return Settings(
            window_length=int(self.window_length),
            block=block,
            horizon=int(self.horizon),
            lags=lags_of(self),
            transformation=self.transformation,
            scaling=scaling,
            calendar=tuple(self.calendar),
            known=known,
            past=past,
            decoder=self.strategy == "encoder_decoder",
        )

    def _column(self, column: Any, n_covariates: int, names: list[Any] | None) -> int:
        if names is not None and column in names:
            return names.index(column)
        if isinstance(column, Integral) and 0 <= int(column) < n_covariates:
            return int(column)
        known = list(range(n_covariates)) if names is None else names
        raise ValueError(f"future_covariates names {column!r}, which is not a column of X; its columns are {known}")
