"""Outlier detection in time series and in sequences of symbols."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import _fit_context
from sklearn.utils.validation import check_is_fitted

from numrnn.anomaly.keeping import DetectorKeeping
from numrnn.anomaly.symbols import sequences_of
from numrnn.forecasting.series import is_pandas, read_panel

__all__ = ["RNNAnomalyDetector"]


class RNNAnomalyDetector(DetectorKeeping):
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
        For "auto". With `averages` it is the tail of a Gaussian distribution, and 0.01 is a good choice.
    averages : (int, int) or None, default=None
        Spans (short, long) in time steps, such as (10, 2000). A time step is then judged by the average badness of the
        last few steps, compared with the long run: the anomaly likelihood [3]_, with exponential averages. It is robust
        to single outliers and to a level of badness that changes slowly. For series of numbers and ``level="step"``.
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
    matmul_precision : {None, "bfloat16"}, default=None
        Of the products of recurrent layers, as of :class:`RNNRegressor`. A fitted detector keeps the one that it was
        fitted with.
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

    With `averages`, the score is the long average of that root mean square less the short one, in long-run standard
    deviations of it: -3 says that the last steps were worse than usual by three of them.

    All series have one scale.

    References
    ----------
    .. [1] Malhotra, P. et al. (2016). LSTM-based encoder-decoder for multi-sensor anomaly detection. ICML workshop on
       anomaly detection.
    .. [2] Siffer, A. et al. (2017). Anomaly detection in streams with extreme value theory. KDD.
    .. [3] Lavin, A. and Ahmad, S. (2015). Evaluating real-time anomaly detection algorithms: the Numenta anomaly
       benchmark. ICMLA.

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
        distances = [
            steps[len(steps) - int(n) :]
            for steps, n in zip(scorer.distances(whole, self.device), new.lengths, strict=True)
        ]
        if old is None:
            self._states = self._start(len(new))
        self._history = whole.tail(scorer.n_before)
        scores = [self._filled(steps) for steps in self._score_series(distances, self._states)]
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
            self._history = self._states = None
        return self

    @property
    def n_unjudged_(self) -> int:
        """Time steps at the beginning of a series that cannot be judged."""
        check_is_fitted(self, "_scorer")
        if self._fitted_method == "likelihood":
            return 0 if self._scorer.model._several else 1
        return int(self._scorer.n_before)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.input_tags.allow_nan = self.missing == "mask"
        return tags
