"""What a detector is asked to do: its parameters, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils._param_validation import Interval, StrOptions

from numrnn.devices import check_device
from numrnn.estimators.base import shared_constraints
from numrnn.estimators.validation import check_sizes_and_threads
from numrnn.forecasting.preparation import lags_of
from numrnn.forecasting.series import Panel

__all__ = ["DetectorParameters"]

Array = NDArray[np.float64]


class _Fitted:
    """Attributes of a fitted detector, which are no parameters of its constructor."""

    # A WindowScorer or a SymbolScorer, and the method that it was fitted for.
    _scorer: Any
    _fitted_method: str
    # In what the data came: "panel" or "array"; "one" sequence of symbols or a "list".
    _kind: str
    # Where the stream is: the end of every series with its averages, or the state of the language model.
    _history: Panel | None
    _states: list[Array] | None
    _stream: tuple[Array, NDArray[np.int64]] | None
    offset_: float
    normal_score_: float
    n_features_in_: int
    loss_curve_: list[float]
    validation_scores_: list[float] | None
    n_iter_: int
    n_parameters_: int


@dataclass(eq=False, repr=False, kw_only=True)
class DetectorParameters(_Fitted, OutlierMixin, BaseEstimator):
    """The constructor of `RNNAnomalyDetector`, made from these fields, and the checks of what it was given."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **shared_constraints("batch_size", "matmul_precision", "device"),
        "method": [StrOptions({"forecast", "reconstruction", "likelihood"})],
        "level": [StrOptions({"step", "sequence"})],
        "window_length": [Interval(Integral, 1, None, closed="left")],
        "difference": [Interval(Integral, 1, None, closed="left"), "array-like", None],
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "alarm_rate": [Interval(Real, 0, 1, closed="neither")],
        "loss": [StrOptions({"squared_error", "absolute_error", "huber"})],
        "missing": [StrOptions({"raise", "mask"})],
        "frequency": "no_validation",
        "embedding_dim": [Interval(Integral, 1, None, closed="left")],
        "averages": ["array-like", None],
        "solver": [StrOptions({"adam", "adamw", "sgd", "rmsprop"})],
    }

    hidden_layer_sizes: Any = field(default=(32,), kw_only=False)
    method: str = "forecast"
    level: str = "step"
    window_length: int = 24
    difference: Any = None
    contamination: float | str = 0.01
    alarm_rate: float = 1e-4
    averages: tuple[int, int] | None = None
    loss: str = "huber"
    missing: str = "raise"
    frequency: Any = None
    validation_fraction: float = 0.2
    embedding_dim: int = 32
    cell: str = "lstm"
    dropout: float = 0.0
    solver: str = "adam"
    learning_rate_init: float = 2e-3
    learning_rate: str | Callable[[int], float] = "constant"
    alpha: float = 0.0
    batch_size: int | str = "auto"
    max_iter: int = 50
    tol: float = 1e-4
    n_iter_no_change: Any = 10
    early_stopping: bool = False
    max_grad_norm: float | None = 1.0
    random_state: int | np.random.RandomState | None = None
    dtype: Any = "float32"
    matmul_precision: str | None = None
    device: str = "cpu"
    n_jobs: int | None = None
    verbose: bool = False

    def _check_parameters(self) -> tuple[int, ...]:
        """What the constraints of single parameters do not tell; the lags."""
        check_sizes_and_threads(self)
        check_device(self.device, self.matmul_precision, self.dtype)
        name = type(self).__name__
        lags = lags_of(self)
        if lags and self.method != "forecast":
            raise ValueError(
                f"The 'difference' parameter of {name} must be None for method={self.method!r}. Got "
                f"{self.difference!r} instead."
            )
        self._check_averages()
        return lags

    def _check_averages(self) -> None:
        if self.averages is None:
            return
        name = type(self).__name__
        spans = np.asarray(self.averages)
        if spans.shape != (2,) or spans.dtype.kind not in "iu" or not 1 <= spans[0] < spans[1]:
            raise ValueError(
                f"The 'averages' parameter of {name} must be None or two numbers of time steps (short, long), the "
                f"first at least 1 and less than the second. Got {self.averages!r} instead."
            )
        if self.method == "likelihood" or self.level == "sequence":
            raise ValueError(
                f"The 'averages' parameter of {name} must be None for method='likelihood' and level='sequence': they "
                f"are those of the time steps of series of numbers. Got {self.averages!r} instead."
            )
