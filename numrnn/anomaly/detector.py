"""Outlier detection in time series and in sequences of symbols."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_feature_names, check_is_fitted

from numrnn.anomaly.symbols import SymbolScorer, sequences_of
from numrnn.anomaly.thresholds import level_by_extremes, level_by_share
from numrnn.anomaly.windows import Reconstructions, WindowScorer
from numrnn.devices import check_device, engine_of
from numrnn.estimators.base import RecurrentEstimator, automatic_batch_size, network_from, network_settings
from numrnn.estimators.validation import check_sizes_and_threads, checked_array, hidden_sizes_of
from numrnn.forecasting.preparation import Preparation, Settings
from numrnn.forecasting.series import Panel, check_frequency, form_of, is_pandas, read_panel
from numrnn.forecasting.windows import Windows
from numrnn.language import RNNLanguageModel
from numrnn.training.loop import TrainingState, train

__all__ = ["RNNAnomalyDetector"]

Array = NDArray[np.float64]

_SHARED = (
    "hidden_layer_sizes",
    "cell",
    "dropout",
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
    "random_state",
    "dtype",
    "device",
    "n_jobs",
    "verbose",
)

# What is fitted and written to a file as it is.
_FITTED = ("offset_", "normal_score_", "loss_curve_", "validation_scores_", "n_iter_", "_kind")
# What the constructor of a language model calls the same.
_OF_LANGUAGE_MODEL = (*(name for name in _SHARED if name != "batch_size"), "embedding_dim", "solver")
# Texts of a minibatch, or streams into which a long one is cut.
_STREAMS = 64
# Fewer held-out windows than this say nothing about usual errors: those that were trained on must do.
_FEWEST_HELD_OUT = 10


@dataclass(eq=False, repr=False, kw_only=True)
class RNNAnomalyDetector(OutlierMixin, BaseEstimator):
    """Find what is unusual in time series or in sequences of symbols, by what a recurrent network expects.

    A sample is a time step, or with ``level="sequence"`` a whole sequence. As in scikit-learn, higher scores are more
    normal, `decision_function` is negative and `predict` is -1 for anomalies. A score depends on the past alone, so
    that a stream is judged as it comes (`update`) exactly as it would be afterwards.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(32,)
        Units of each recurrent layer, from the input up.
    method : {"forecast", "reconstruction", "likelihood"}, default="forecast"
        By what a time step is judged. "forecast": the error of a forecast of it from the window before it.
        "reconstruction": the error with which a sequence autoencoder reproduces the window that ends with it [1]_.
        "likelihood", for symbols: their probability, given all before them in the sequence.
    level : {"step", "sequence"}, default="step"
        What a sample is.
    window_length : int, default=24
        Time steps that the network reads; for "likelihood" those through which gradients flow.
    difference : int or sequence of int or None, default=None
        Lags of differences, as of `RNNForecaster`. For "forecast".
    contamination : float in (0, 0.5] or "auto", default=0.01
        The share of the samples of `fit` that count as anomalies. "auto": the threshold lies where scores of normal
        samples fall below it with the probability `alarm_rate`, extrapolated from the tail of the held-out scores [2]_.
    alarm_rate : float in (0, 1), default=1e-4
        For "auto".
    loss : {"squared_error", "absolute_error", "huber"}, default="huber"
        Of the training on series; "huber" is least distracted by anomalies in them.
    missing : {"raise", "mask"}, default="raise"
        Whether NaN is refused, or read as a value that is missing: it is not judged.
    frequency : str or offset or None, default=None
        Of the time stamps. If it is given, times that are not there are missing values; results have them, too.
    validation_fraction : float in (0, 1), default=0.2
        The share of the time steps at the end of each series (for "likelihood" of the sequences, with `early_stopping`)
        that the network is not trained on. Their errors say how large errors usually are.
    embedding_dim : int, default=32
        Length of a symbol's vector.
    cell : {"lstm", "gru", "rnn"}, default="lstm"
    dropout : float in [0, 1), default=0.0
        Between recurrent layers.
    solver : {"adam", "adamw", "sgd", "rmsprop"}, default="adam"
    learning_rate_init : float, default=2e-3
    learning_rate : {"constant", "step", "cosine", "adaptive"} or callable, default="constant"
    alpha : float, default=0.0
        L2 penalty of the weights.
    batch_size : int or "auto", default="auto"
        Windows, or sequences of symbols, in a minibatch.
    max_iter : int, default=50
        Epochs at most.
    tol : float, default=1e-4
    n_iter_no_change : int, default=10
    early_stopping : bool, default=False
        Whether to keep the weights of the epoch that was best on what is held out.
    max_grad_norm : float or None, default=1.0
    random_state : int, RandomState instance or None, default=None
    dtype : {"float32", "float64"}, default="float32"
    device : {"cpu", "cuda", "auto"}, default="cpu"
        What trains, and for "forecast" and "reconstruction" what judges, as of :class:`RNNRegressor`.
    n_jobs : int or None, default=None
        Threads. Results do not depend on it.
    verbose : bool, default=False

    Attributes
    ----------
    offset_ : float
        The threshold: ``decision_function(X) = score_samples(X) - offset_``.
    normal_score_ : float
        The median score of `fit`. Samples that cannot be judged have it: the first steps of a series, missing values.
    n_unjudged_ : int
        Time steps at the beginning of a series that cannot be judged.
    n_features_in_ : int
        Numbers in a time step; for symbols 1.
    loss_curve_ : list of float
    validation_scores_ : list of float or None
    n_iter_ : int
    device_ : {"cpu", "cuda"}
        Where the last fit ran.
    n_parameters_ : int

    See Also
    --------
    RNNForecaster : Forecasts with intervals.
    RNNLanguageModel : The likelihood of sequences of symbols.

    Notes
    -----
    The score of a time step is minus the root mean square, over its numbers (for "reconstruction" also over the steps
    of the window), of errors that were standardised by what is usual: by mean and standard deviation of the errors on
    the held-out part. For one number and "forecast", a score of -4 is an error of four standard deviations. For
    "likelihood" it is the log-likelihood in nats. The score of a sequence is minus the root mean square of those of
    its steps, or their mean for "likelihood".

    All series have one scale.

    References
    ----------
    .. [1] Malhotra, P. et al. (2016). LSTM-based encoder-decoder for multi-sensor anomaly detection. ICML workshop on
       anomaly detection.
    .. [2] Siffer, A. et al. (2017). Anomaly detection in streams with extreme value theory. KDD.

    Examples
    --------
    >>> import numpy as np
    >>> from numrnn import RNNAnomalyDetector
    >>> t = np.arange(600)
    >>> x = np.sin(2 * np.pi * t / 20) + 0.05 * np.random.default_rng(0).normal(size=600)
    >>> x[550] += 1.0
    >>> detector = RNNAnomalyDetector((16,), window_length=20, contamination="auto", max_iter=30, random_state=0)
    >>> detector = detector.fit(x[:500])
    >>> np.flatnonzero(detector.predict(x) == -1).tolist()[:1]
    [550]

    A stream goes on where the series of `fit` ended:

    >>> scores = [detector.update([value])[0] for value in x[500:]]
    >>> bool(np.array_equal(scores, detector.score_samples(x)[500:]))
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **{name: RecurrentEstimator._parameter_constraints[name] for name in _SHARED},
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
        "solver": [StrOptions({"adam", "adamw", "sgd", "rmsprop"})],
    }

    hidden_layer_sizes: Any = field(default=(32,), kw_only=False)
    method: str = "forecast"
    level: str = "step"
    window_length: int = 24
    difference: Any = None
    contamination: float | str = 0.01
    alarm_rate: float = 1e-4
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
    device: str = "cpu"
    n_jobs: int | None = None
    verbose: bool = False

    # ---------------------------------------------------------------------------------------------------- fitting
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn what is usual.

        Parameters
        ----------
        X : array, Series, DataFrame, str, or list of these
            One series: (n_steps,), or (n_steps, n_features), whose rows are time steps. Several: a list of arrays or
            pandas data of any lengths, an array (n_series, n_steps, n_features), or a DataFrame in long format with the
            columns `unique_id`, `ds` and `y`. For "likelihood": a string or an array (n_steps,) of symbols, or a list
            of such; rows of a matrix are sequences.
        y : None
            Ignored.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If the data or parameters are not as described, or too short for one window; the message says how.
        FloatingPointError
            If the loss stops being finite.
        """
        lags = self._check_parameters()
        if self.method == "likelihood":
            return self._fit_symbols(X)
        panel, kind = self._read(X, reset=True)
        self._fit_series(panel, lags)
        self._kind = kind
        return self

    def _check_parameters(self) -> tuple[int, ...]:
        """What the constraints of single parameters do not tell; the lags."""
        check_sizes_and_threads(self)
        check_device(self.device)
        name = type(self).__name__
        lags = np.atleast_1d(np.asarray(() if self.difference is None else self.difference))
        if len(lags) and (lags.ndim != 1 or lags.dtype.kind not in "iu" or (lags < 1).any()):
            raise ValueError(
                f"The 'difference' parameter of {name} must be positive lags. Got {self.difference!r} instead."
            )
        if len(lags) and self.method != "forecast":
            raise ValueError(
                f"The 'difference' parameter of {name} must be None for method={self.method!r}. Got "
                f"{self.difference!r} instead."
            )
        return tuple(int(lag) for lag in lags)

    def _fit_series(self, panel: Panel, lags: tuple[int, ...]) -> None:
        window = int(self.window_length)
        settings = Settings(window, 1, 1, lags, None, "standard", (), (), ())
        scorer = WindowScorer(self.method, None, None)  # type: ignore[arg-type]
        needed = settings.n_history + (self.method == "forecast")
        if panel.lengths.max() < needed:
            raise ValueError(
                f"X is too short: window_length={self.window_length} and difference={self.difference} need at least "
                f"{needed} time steps, got {panel.lengths.max()} (n_samples={panel.lengths.max()})"
            )
        for number, name in enumerate(panel.names):
            empty = np.isnan(panel.values[panel.rows(number)]).all(axis=0)
            if empty.any():
                what = "X" if len(panel) == 1 else f"series {name!r} of X"
                raise ValueError(f"column {int(np.argmax(empty))} of {what} has no observed value: all are missing")
        first = np.full(len(panel), settings.n_history - 1, dtype=np.int64)
        end = np.maximum(panel.lengths - (self.method == "forecast"), first)
        held_out = end - np.rint(float(self.validation_fraction) * (end - first)).astype(np.int64)
        # The windows that a reconstruction is trained on have no step in common with those that are held out.
        last = held_out if self.method == "forecast" else np.maximum(held_out - (window - 1), first)
        if (end - held_out).sum() < _FEWEST_HELD_OUT or not (last > first).any():
            if self.early_stopping:
                raise ValueError(
                    f"X is too short for early_stopping: validation_fraction={self.validation_fraction!r} leaves "
                    f"{int((last - first).sum())} windows to train on and {int((end - held_out).sum())} to validate "
                    f"with, of which there must be {_FEWEST_HELD_OUT}"
                )
            held_out, last = first, end

        learning = panel.head(np.where(last > first, last + (self.method == "forecast"), panel.lengths))
        preparation = Preparation(settings, learning, None, np.dtype(self.dtype))
        preparation.share_scales(learning)
        scorer.preparation = preparation.for_series(1)
        prepared = scorer.prepare(panel)
        kind = Windows if self.method == "forecast" else Reconstructions
        windows, judged = kind(prepared, first, last), kind(prepared, held_out, end)
        if windows.total_weight == 0 or judged.total_weight == 0:
            raise ValueError("no window of X has an observed value to learn from: all of them are missing")

        random, state = check_random_state(self.random_state), TrainingState()
        scorer.network = network_from(self._network_form(preparation), self.n_jobs)
        scorer.network.initialize(random)
        settings_of_training = self._training_settings(len(windows))
        engine = engine_of(
            self.device, scorer.network, windows.lengths, settings_of_training["batch_size"], self.solver
        )
        try:
            train(
                scorer.network,
                windows,
                engine=engine,
                **settings_of_training,
                validation=judged if self.early_stopping else None,
                rng=random,
                state=state,
            )
        finally:
            scorer.network.workers.close()  # type: ignore[union-attr]
        self._warn_unless(state.converged or state.interrupted)
        self._set_fitted(scorer, scorer.network, state, engine.device_name)
        usual = scorer.learn_usual_errors(prepared, *judged.places(0, len(judged)), self.device)
        distances = scorer.distances(panel, self.device)
        self._history: Panel | None = panel.tail(scorer.n_before)
        self._set_threshold([-steps for steps in distances], -usual[~np.isnan(usual)])

    def _fit_symbols(self, X: Any) -> Self:
        sequences, single = sequences_of(X)
        settings = {name: getattr(self, name) for name in _OF_LANGUAGE_MODEL}
        model = RNNLanguageModel(
            **settings,
            bptt_steps=int(self.window_length),
            batch_size=_STREAMS if isinstance(self.batch_size, str) else int(self.batch_size),
        )
        model.fit(sequences[0] if isinstance(sequences[0], str) and single else sequences)
        scorer = SymbolScorer(model)
        self._set_fitted(scorer, model._network, model._state, model.device_)
        self._kind = "one" if single else "list"
        self.n_features_in_ = 1
        scores = self._score_symbols(sequences)
        seen = np.concatenate(scores)
        seen = seen[~np.isnan(seen)]
        # Rarer than once in all of the training sequences, and than anything in them.
        scorer.unseen = float(min(seen.min(), -np.log(len(seen) + 1)))
        self._stream: tuple[Array, NDArray[np.int64]] | None = None
        self._set_threshold(scores, seen)
        if single:
            self._stream = scorer.start()
            self._read_on(sequences[0])
        return self

    def _set_fitted(self, scorer: Any, network: Any, state: TrainingState, device: str) -> None:
        self.device_ = device
        self._scorer, self._fitted_method = scorer, self.method
        self.loss_curve_, self.n_iter_ = state.loss_curve, state.n_iter
        self.validation_scores_ = state.validation_scores if self.early_stopping else None
        self.n_parameters_ = network.n_parameters

    def _set_threshold(self, scores: list[Array], usual: Array) -> None:
        judged = np.concatenate(scores)
        judged = judged[~np.isnan(judged)]
        if not len(judged):
            raise ValueError("no time step of X can be judged: all of them are missing")
        self.normal_score_ = float(np.median(judged))
        if self.level == "sequence":
            whole = np.array([self._of_sequence(steps) for steps in scores])
            usual = whole[~np.isnan(whole)]
            self.normal_score_ = float(np.median(usual))
        samples = self._samples(scores)
        if isinstance(self.contamination, str):
            self.offset_ = level_by_extremes(usual, float(self.alarm_rate))
        else:
            self.offset_ = level_by_share(np.concatenate(samples), float(self.contamination))

    def _network_form(self, preparation: Preparation) -> dict[str, Any]:
        blank = self.method == "reconstruction"
        return {
            "cell": "rnn_tanh" if self.cell == "rnn" else self.cell,
            "input_size": preparation.n_features + blank,
            "hidden_sizes": [int(size) for size in hidden_sizes_of(self)],
            "n_outputs": preparation.n_targets,
            "pooling": None if blank else "last",
            "dropout": float(self.dropout),
            "loss": self.loss,
            "dtype": np.dtype(self.dtype).name,
        }

    def _training_settings(self, n_windows: int) -> dict[str, Any]:
        return {
            "solver": self.solver,
            "learning_rate": self.learning_rate,
            "learning_rate_init": float(self.learning_rate_init),
            "alpha": float(self.alpha),
            "batch_size": automatic_batch_size(n_windows) if isinstance(self.batch_size, str) else int(self.batch_size),
            "max_iter": int(self.max_iter),
            "tol": float(self.tol),
            "n_iter_no_change": self.n_iter_no_change,
            "early_stopping": bool(self.early_stopping),
            "max_grad_norm": self.max_grad_norm,
            "verbose": bool(self.verbose),
        }

    def _warn_unless(self, converged: bool) -> None:
        if not converged and not self.early_stopping:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                "converged yet.",
                ConvergenceWarning,
                stacklevel=5,  # the caller of fit
            )

    # ----------------------------------------------------------------------------------------------------- reading
    def _read(self, X: Any, *, reset: bool) -> tuple[Panel, str]:
        """Series, and in what they came: "panel", or "array" for one of three dimensions."""
        kind, what = "panel", X
        frequency = check_frequency(self.frequency)
        if is_pandas(X):
            if X.ndim == 2 and not {"unique_id", "ds"} <= set(X.columns):
                _check_feature_names(self, X, reset=reset)
        elif not (isinstance(X, Sequence) and any(hasattr(element, "ndim") for element in X)):
            # A list of lists is a matrix, as everywhere in scikit-learn; series of different lengths are arrays.
            allowed: Any = "allow-nan" if self.missing == "mask" else True
            what = checked_array(
                X, "X", self, dtype=np.float64, ensure_2d=False, allow_nd=True, ensure_all_finite=allowed
            )
            if what.ndim == 3:
                kind, what = "array", list(what)
            elif what.ndim not in (1, 2):
                raise ValueError(
                    "X must be of the shape (n_steps,), (n_steps, n_features) or (n_series, n_steps, n_features), got "
                    f"{what.shape}"
                )
        try:
            panel = read_panel(what, frequency, self.missing)
        except (TypeError, ValueError) as error:
            raise type(error)(str(error).replace("of y", "of X").replace("y ", "X ", str(error)[:2] == "y ")) from error
        if reset:
            self.n_features_in_ = panel.n_targets
        elif panel.n_targets != self.n_features_in_:
            if np.ndim(what) == 1 and not isinstance(what, (list, tuple)):
                raise ValueError(
                    f"Expected an array (n_steps, {self.n_features_in_}) as in fit, got one of a single dimension "
                    f"({len(what)},). Reshape your data: X.reshape(-1, {self.n_features_in_}) if it is the rows one "
                    "after the other"
                )
            raise ValueError(
                f"X has {panel.n_targets} features, but {type(self).__name__} is expecting {self.n_features_in_} "
                "features as input"
            )
        return panel, kind

    # ----------------------------------------------------------------------------------------------------- scores
    def _score_symbols(self, sequences: list[Any]) -> list[Array]:
        scorer = self._scorer
        return [scorer.log_likelihoods(scorer.ids(sequence), *scorer.start()) for sequence in sequences]

    def _of_sequence(self, steps: Array) -> float:
        judged = steps[~np.isnan(steps)]
        if not len(judged):
            return float("nan")
        return float(judged.mean() if self._fitted_method == "likelihood" else -np.sqrt(np.mean(judged**2)))

    def _samples(self, scores: list[Array]) -> list[Array]:
        """Scores of samples, none missing: of the steps of each sequence, or one of each sequence."""
        if self.level == "sequence":
            scores = [np.array([self._of_sequence(steps)]) for steps in scores]
        return [np.where(np.isnan(part), self.normal_score_, part) for part in scores]

    def _rendered(self, X: Any, change: Callable[[Array], NDArray], name: str) -> Any:
        """A number for every sample, in a container like X."""
        check_is_fitted(self, "_scorer")
        if self._fitted_method == "likelihood":
            sequences, single = sequences_of(X)
            samples = [change(part) for part in self._samples(self._score_symbols(sequences))]
            if self.level == "sequence":
                return np.concatenate(samples)
            return samples[0] if single else samples
        panel, kind = self._read(X, reset=False)
        scores = [-steps for steps in self._scorer.distances(panel, self.device)]
        samples = [change(part) for part in self._samples(scores)]
        return self._in_container(panel, kind, samples, name)

    def _in_container(self, panel: Panel, kind: str, samples: list[NDArray], name: str) -> Any:
        if self.level == "sequence":
            values = np.concatenate(samples)
            if panel.container == "long":
                from numrnn.forecasting.frames import named

                return named(values, panel.names, name)
            return values
        return np.stack(samples) if kind == "array" else panel.render_beside(samples, name)

    def score_samples(self, X: Any) -> Any:
        """How normal samples are: the higher, the more.

        Parameters
        ----------
        X : array, Series, DataFrame, str, or list of these
            As for `fit`: of any lengths, each series from its own beginning.

        Returns
        -------
        scores : array, Series, DataFrame, or list of these
            With ``level="step"`` a number for each time step: an array (n_steps,), a Series with the index of X, a
            list, an array (n_series, n_steps), or long format. With ``level="sequence"`` an array (n_series,).
        """
        return self._rendered(X, lambda scores: scores, "score")

    def decision_function(self, X: Any) -> Any:
        """`score_samples` less `offset_`: negative for anomalies.

        Parameters
        ----------
        X : array, Series, DataFrame, str, or list of these
            As for `score_samples`.

        Returns
        -------
        scores : array, Series, DataFrame, or list of these
        """
        check_is_fitted(self, "_scorer")
        return self._rendered(X, lambda scores: scores - self.offset_, "score")

    def predict(self, X: Any) -> Any:
        """Which samples are anomalies.

        Parameters
        ----------
        X : array, Series, DataFrame, str, or list of these
            As for `score_samples`.

        Returns
        -------
        labels : array, Series, DataFrame, or list of these
            1 for normal samples, -1 for anomalies.
        """
        check_is_fitted(self, "_scorer")
        return self._rendered(X, lambda scores: np.where(scores - self.offset_ >= 0, 1, -1), "label")

    # ----------------------------------------------------------------------------------------------------- streams
    def update(self, X_new: Any) -> Any:
        """Scores of time steps that follow: those of `fit`, then of earlier updates; nothing is learned.

        Parameters
        ----------
        X_new : array, Series, DataFrame, str, or list of these
            One or more time steps: an array (n_new,) or (n_new, n_features), or as X was. Several series all go on;
            of symbols there must be one sequence.

        Returns
        -------
        scores : array, Series, DataFrame, or list of these
            Of the new time steps, whatever `level` is. They are those that `score_samples` gives to the whole series.

        Raises
        ------
        ValueError
            If the time steps do not go on where the series ended, or are not as described. Nothing is changed then.
        """
        check_is_fitted(self, "_scorer")
        if self._fitted_method == "likelihood":
            sequences, single = sequences_of(X_new)
            if not single:
                raise ValueError("a stream of symbols is one sequence: X_new must be a string or an array (n_new,)")
            if self._stream is None:
                self._stream = self._scorer.start()
            return self._filled(self._read_on(sequences[0]))
        old, scorer = self._history, self._scorer
        if old is not None and old.frequency is not None and is_pandas(X_new):
            new = read_panel(X_new, old.frequency, self.missing)
        else:
            new, _ = self._read(X_new, reset=False)
        if old is not None and (new.container, len(new)) != (old.container, len(old)):
            raise ValueError(
                f"X_new must go on with the {len(old)} series of X in such a container, got {len(new)}; reset() begins "
                "a new stream"
            )
        if new.n_targets != self.n_features_in_:
            raise ValueError(f"X_new has {new.n_targets} features, expected {self.n_features_in_}")
        if old is not None and old.container == "long":
            new = new.ordered(old.names)
        whole = new if old is None else old.joined(new)
        distances = scorer.distances(whole, self.device)
        self._history = whole.tail(scorer.n_before)
        scores = [self._filled(-steps[len(steps) - int(n) :]) for steps, n in zip(distances, new.lengths, strict=True)]
        return new.render_beside(scores, "score")

    def reset(self) -> Self:
        """Forget the past of the stream: the next `update` begins a new series.

        Returns
        -------
        self : object
        """
        check_is_fitted(self, "_scorer")
        if self._fitted_method == "likelihood":
            self._stream = None
        else:
            self._history = None
        return self

    def _filled(self, scores: Array) -> Array:
        """With the typical score of a step where there is none."""
        return np.where(np.isnan(scores), self.normal_score_, scores)

    def _read_on(self, sequence: Any) -> Array:
        """Scores of symbols that go on with the stream."""
        assert self._stream is not None
        state, before = self._stream
        ids = self._scorer.ids(sequence)
        values = self._scorer.log_likelihoods(ids, state, before)
        self._stream = state, (ids[-1:] if len(ids) else before)
        return values

    @property
    def n_unjudged_(self) -> int:
        """Time steps at the beginning of a series that cannot be judged."""
        check_is_fitted(self, "_scorer")
        if self._fitted_method == "likelihood":
            return 0 if self._scorer.model._several else 1
        return int(self._scorer.n_before)

    # ----------------------------------------------------------------------------------------------------- keeping
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted detector to a file that `numrnn.load` reads.

        The file has the weights, the usual errors, the threshold, and the end of the stream that `update` goes on with.
        Reading it executes nothing.

        Parameters
        ----------
        path : str or path-like
            Name of the file, by custom with the extension ``.safetensors``. An existing file is replaced.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If `fit` was not called.
        ValueError
            If a parameter, a name or a symbol cannot be written.
        """
        from numrnn.persistence import save

        save(self, path)

    def _check_fitted(self) -> None:
        check_is_fitted(self, "_scorer")

    @property
    def _network(self) -> Any:
        symbols = self._fitted_method == "likelihood"
        return self._scorer.model._network if symbols else self._scorer.network

    def _to_state(self) -> dict[str, Any]:
        """What was fitted but the network, in terms of numbers, strings, lists, tuples and arrays."""
        names = getattr(self, "feature_names_in_", None)
        state: dict[str, Any] = {
            "attributes": {name: getattr(self, name) for name in _FITTED},
            "method": self._fitted_method,
            "features": (self.n_features_in_, None if names is None else list(names)),
            "scorer": self._scorer.plain(),
        }
        if self._fitted_method == "likelihood":
            return {**state, "stream": self._stream}
        panel = self._history
        forms = [] if panel is None else [form.plain() for form in panel.forms]
        history = None
        if panel is not None:
            history = {field.name: getattr(panel, field.name) for field in fields(panel) if field.name != "forms"}
        return {**state, "forms": forms, "history": history}

    def _from_state(self, state: dict[str, Any], network: Any) -> None:
        """Become what `_to_state` described."""
        for name in _FITTED:
            setattr(self, name, state["attributes"][name])
        self._fitted_method = str(state["method"])
        self.n_features_in_, names = state["features"]
        if names is not None:
            self.feature_names_in_ = np.array(names, dtype=object)
        if self._fitted_method == "likelihood":
            settings = {name: getattr(self, name) for name in _OF_LANGUAGE_MODEL}
            self._scorer = SymbolScorer.from_plain(RNNLanguageModel(**settings), network, state["scorer"])
            self._stream = state["stream"]
            if self._stream is not None:
                shape = self._scorer.start()[0].shape
                if self._stream[0].shape != shape or not (self._stream[1] < network.n_outputs).all():
                    raise ValueError("its parts do not fit together")
        else:
            self._scorer = WindowScorer.from_plain(self._fitted_method, network, state["scorer"])
            history = state["history"]
            self._history = None
            if history is not None:
                self._history = Panel(**history, forms=[form_of(plain) for plain in state["forms"]])
                n_rows, n_targets = self._history.values.shape
                if n_rows != int(self._history.lengths.sum()) or n_targets != self.n_features_in_:
                    raise ValueError("its parts do not fit together")
        self.n_parameters_ = network.n_parameters

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "offset_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.input_tags.allow_nan = self.missing == "mask"
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if state.get("_fitted_method") in ("forecast", "reconstruction"):
            # Rebuilt: threads and scratch memory stay behind.
            scorer, network = state.pop("_scorer"), self._network
            state["_plain"] = (scorer.plain(), network_settings(network), network.parameters.flat.copy())
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        plain = state.pop("_plain", None)
        super().__setstate__(state)
        if plain is not None:
            scorer, form, weights = plain
            network = network_from(form, self.n_jobs)
            network.parameters.flat[:] = weights
            self._scorer = WindowScorer.from_plain(self._fitted_method, network, scorer)
