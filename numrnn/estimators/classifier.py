"""Classification of sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.special import log_softmax
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets

from numrnn.estimators.base import Prepared, RecurrentEstimator, check_targets, only_stochastic

__all__ = ["RNNClassifier"]


class RNNClassifier(ClassifierMixin, RecurrentEstimator):
    """Recurrent network that assigns a class to a sequence.

    A stack of recurrent layers reads the sequence; a dense layer and a softmax turn its last hidden state into the
    probabilities of the classes. The cross-entropy is minimised.

    Inputs are not scaled: features should be of about zero mean and unit variance, and a warning says if they are not.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(64,)
        Units of each recurrent layer, from the input up.
    cell : {"lstm", "gru", "rnn"}, default="lstm"
        Long short-term memory [1]_, gated recurrent unit [2]_ (reset gate after the product) or simple recurrence [3]_.
    activation : {"tanh", "relu"}, default="tanh"
        Of the simple recurrence; the others have their own.
    bidirectional : bool, default=False
        Whether every layer also reads the sequences from their ends. Doubles the number of features.
    pooling : {"last", "mean", "max"}, default="last"
        What of the last layer is read out: its state after the last time step, or the mean or maximum over time.
    dropout : float in [0, 1), default=0.0
        Share of the outputs of every layer but the last that is left out in training.
    solver : {"adam", "adamw", "sgd", "rmsprop", "lbfgs"}, default="adam"
        "sgd" has a Nesterov momentum of 0.9; "adamw" takes `alpha` as decoupled weight decay; "lbfgs" uses all data for
        every step, for small data.
    learning_rate_init : float, default=1e-3
        The learning rate to start from.
    learning_rate : {"constant", "step", "cosine", "adaptive"} or callable, default="constant"
        "step" divides by 10 after each third of `max_iter`; "cosine" warms up over a twentieth of `max_iter`, then
        falls to zero; "adaptive" divides by 5 whenever training stops improving; a function gives the rate of each
        epoch, counted from 0.
    alpha : float, default=0.0
        Strength of the L2 penalty ``alpha / 2 * ||W||**2`` of the weights, which like the loss is divided by the sum of
        the sample weights.
    batch_size : int or "auto", default="auto"
        Sequences in a minibatch. "auto" is all of them up to 16, else the square root of their number, between 8 and
        256.
    max_iter : int, default=100
        Epochs (for "lbfgs", iterations) at most.
    tol : float, default=1e-4
        Smallest improvement of the loss (with `early_stopping`, of the validation score) that counts.
    n_iter_no_change : int, default=10
        Training ends after more than so many epochs in a row without improvement.
    early_stopping : bool, default=False
        Whether to set aside part of the training data, judge by the accuracy on it, and keep the weights of the best
        epoch.
    validation_fraction : float, default=0.1
        The part that is set aside, with the same share of every class.
    max_grad_norm : float or None, default=1.0
        A longer gradient is scaled to this Euclidean norm [4]_.
    bptt_steps : int or None, default=None
        Truncated backpropagation through time: gradients flow back over windows of so many time steps, and memory grows
        with the window instead of the sequence. None is the whole sequence. Not for bidirectional networks.
    shuffle : bool, default=True
        Whether minibatches are drawn anew in each epoch, from sequences of similar length.
    warm_start : bool, default=False
        Whether `fit` goes on from the present weights. Everything else about the network stays as it was first fitted.
    random_state : int, RandomState instance or None, default=None
        Initial weights, the validation split, minibatches and dropout. An int gives the same model every time, whatever
        `n_jobs` is.
    dtype : {"float32", "float64"}, default="float32"
        Floating-point type of the network.
    device : {"cpu", "cuda", "auto"}, default="cpu"
        "auto" is the CPU, and "cuda" an error, while there is no CUDA engine.
    n_jobs : int or None, default=None
        Threads. None is one for each processor; -1 the same, -2 one fewer.
    verbose : bool, default=False
        Whether to show a progress bar.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes in the loss, ``{label: weight}``; labels that are not in it have weight 1. "balanced"
        gives every class the same total weight.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels, sorted.
    n_features_in_ : int
        Features of a time step; for a matrix of univariate sequences, its columns.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns, if X was a DataFrame whose column names are all strings.
    loss_curve_ : list of float
        Mean training loss of every epoch, earlier fits of a warm start included.
    best_loss_ : float
        The lowest of them.
    validation_scores_ : list of float or None
        Accuracy on the held-out data after each epoch; None without `early_stopping`.
    best_validation_score_ : float or None
        The highest of them.
    n_iter_ : int
        Epochs of the last fit, or of all calls of `partial_fit`.
    n_parameters_ : int
        Number of trained weights and biases.
    t_ : int
        Sequences seen in training, repetitions counted.

    See Also
    --------
    RNNRegressor : The same network for numbers.

    References
    ----------
    .. [1] Hochreiter, S. and Schmidhuber, J. (1997). Long short-term memory. Neural Computation 9, 1735-1780.
    .. [2] Cho, K. et al. (2014). Learning phrase representations using RNN encoder-decoder for statistical machine
       translation. EMNLP.
    .. [3] Elman, J. L. (1990). Finding structure in time. Cognitive Science 14, 179-211.
    .. [4] Pascanu, R., Mikolov, T. and Bengio, Y. (2013). On the difficulty of training recurrent neural networks.
       ICML.

    Examples
    --------
    Which of two noisy sequences goes up?

    >>> import numpy as np
    >>> from numrnn import RNNClassifier
    >>> rng = np.random.default_rng(0)
    >>> slope = rng.choice([-1.0, 1.0], size=200)
    >>> X = slope[:, None] * np.linspace(-1, 1, 20) + rng.normal(scale=0.5, size=(200, 20))
    >>> y = np.where(slope > 0, "up", "down")
    >>> model = RNNClassifier((16,), max_iter=20, tol=0.0, random_state=0).fit(X[:150], y[:150])
    >>> model.score(X[150:], y[150:])
    1.0
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **RecurrentEstimator._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (64,),
        *,
        cell: str = "lstm",
        activation: str = "tanh",
        bidirectional: bool = False,
        pooling: str = "last",
        dropout: float = 0.0,
        solver: str = "adam",
        learning_rate_init: float = 1e-3,
        learning_rate: str | Callable[[int], float] = "constant",
        alpha: float = 0.0,
        batch_size: int | str = "auto",
        max_iter: int = 100,
        tol: float = 1e-4,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        max_grad_norm: float | None = 1.0,
        bptt_steps: int | None = None,
        shuffle: bool = True,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        dtype: DTypeLike = "float32",
        device: str = "cpu",
        n_jobs: int | None = None,
        verbose: bool = False,
        class_weight: dict[Any, float] | str | None = None,
    ) -> None:
        super().__init__(
            hidden_layer_sizes,
            cell=cell,
            activation=activation,
            bidirectional=bidirectional,
            pooling=pooling,
            dropout=dropout,
            solver=solver,
            learning_rate_init=learning_rate_init,
            learning_rate=learning_rate,
            alpha=alpha,
            batch_size=batch_size,
            max_iter=max_iter,
            tol=tol,
            n_iter_no_change=n_iter_no_change,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            max_grad_norm=max_grad_norm,
            bptt_steps=bptt_steps,
            shuffle=shuffle,
            warm_start=warm_start,
            random_state=random_state,
            dtype=dtype,
            device=device,
            n_jobs=n_jobs,
            verbose=verbose,
        )
        self.class_weight = class_weight

    # --------------------------------------------------------------------------------------------------- targets
    def _check_y(self, y: Any) -> NDArray:
        y = column_or_1d(check_targets(self, y, None), warn=True)
        check_classification_targets(y)
        return y

    def _encode(self, y: NDArray, *, reset: bool, classes: Any) -> NDArray[np.int64]:
        given = None if classes is None else np.unique(column_or_1d(check_targets(self, classes, None)))
        if reset:
            self.classes_ = np.unique(y) if given is None else given
            if len(self.classes_) < 2:
                raise ValueError(
                    f"{type(self).__name__} needs samples of at least 2 classes, but the data contains only 1 class: "
                    f"{self.classes_[0]!r}"
                )
        elif given is not None and not np.array_equal(given, self.classes_):
            raise ValueError(f"`classes={classes!r}` is not the same as in the call before: {self.classes_!r}")
        unseen = np.setdiff1d(y, self.classes_)
        if len(unseen):
            raise ValueError(f"y contains labels that are not among the classes {self.classes_!r}: {unseen!r}")
        return np.searchsorted(self.classes_, y).astype(np.int64, copy=False)

    def _prepare(self, targets: NDArray, weights: NDArray[np.float64] | None, *, reset: bool) -> Prepared:
        if self.class_weight is None:
            return targets, weights
        weights = np.ones(len(targets)) if weights is None else weights
        if self.class_weight == "balanced":
            totals = np.bincount(targets, weights=weights, minlength=len(self.classes_))
            with np.errstate(divide="ignore"):
                of_class = weights.sum() / (np.count_nonzero(totals) * totals)
        else:
            present = self.classes_[np.unique(targets)]
            of_class = compute_class_weight(self.class_weight, classes=self.classes_, y=present)
        weights = weights * of_class[targets]
        if not weights.any():
            raise ValueError(
                f"The 'class_weight' parameter of {type(self).__name__} must leave at least one sample with a positive "
                f"weight. Got {self.class_weight!r} instead."
            )
        return targets, weights

    def _network_targets(self, targets: NDArray) -> NDArray:
        return targets

    def _network_outputs(self) -> tuple[int, str]:
        return len(self.classes_), "cross_entropy"

    def _validation_score(self, outputs: NDArray, targets: NDArray, weights: NDArray | None) -> float:
        return float(accuracy_score(targets, outputs.argmax(axis=1), sample_weight=weights))

    def _stratify(self, targets: NDArray) -> NDArray | None:
        return targets

    # --------------------------------------------------------------------------------------------------- fitting
    @only_stochastic
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """One epoch of training with the given data.

        Parameters
        ----------
        X : array-like or list of arrays
            Sequences, as for `fit`.
        y : array-like of shape (n_samples,)
            Class labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever occur. Needed in the first call, later it can be left out.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        Returns
        -------
        self : object
        """
        if classes is None and not hasattr(self, "_network"):
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' is not supported for partial_fit: the shares of the classes are not known "
                "before all data has been seen. Compute the weights with "
                "sklearn.utils.class_weight.compute_class_weight and pass them as a dict."
            )
        return self._partial_fit(X, y, sample_weight, classes)

    # ------------------------------------------------------------------------------------------------- inference
    def predict(self, X: Any) -> NDArray:
        """The most probable class of each sequence.

        Parameters
        ----------
        X : array-like or list of arrays
            Sequences, as for `fit`.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
        """
        outputs = self._outputs(X)
        return self.classes_[outputs.argmax(axis=1)]

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """The probability of each class.

        Parameters
        ----------
        X : array-like or list of arrays
            Sequences, as for `fit`.

        Returns
        -------
        probabilities : ndarray of float64, shape (n_samples, n_classes)
            Columns in the order of `classes_`; rows sum to 1.
        """
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """The logarithm of the probability of each class; exact also where the probability is very small.

        Parameters
        ----------
        X : array-like or list of arrays
            Sequences, as for `fit`.

        Returns
        -------
        log_probabilities : ndarray of float64, shape (n_samples, n_classes)
            Columns in the order of `classes_`.
        """
        return log_softmax(self._outputs(X), axis=1)
