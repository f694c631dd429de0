"""Regression on sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import StrOptions

from numrnn.estimators.base import Prepared, RecurrentEstimator, check_targets, only_stochastic

__all__ = ["RNNRegressor"]


class RNNRegressor(RegressorMixin, RecurrentEstimator):
    """Recurrent network that assigns one or several numbers to a sequence.

    A stack of recurrent layers reads the sequence; a dense layer turns its last hidden state into the outputs.

    Targets are standardised for training, each output by its mean and standard deviation: whatever unit they are in,
    the default learning rate fits. Losses are in these units, predictions in those of y. Inputs are not scaled:
    features should be of about zero mean and unit variance, and a warning says if they are not.

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
        Whether to set aside part of the training data, judge by the R² score on it, and keep the weights of the best
        epoch.
    validation_fraction : float, default=0.1
        The part that is set aside.
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
    loss : {"squared_error", "absolute_error", "huber"}, default="squared_error"
        Mean over the outputs of the squared error, the absolute error, or Huber's loss (quadratic up to an error of one
        standard deviation of the target, linear beyond).

    Attributes
    ----------
    target_mean_, target_scale_ : ndarray of shape (`n_outputs_`,)
        Mean and standard deviation of the targets of the first fit, by sample weight. The scale of a constant is 1.
    n_outputs_ : int
        Number of outputs.
    n_features_in_ : int
        Features of a time step; for a matrix of univariate sequences, its columns.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns, if X was a DataFrame whose column names are all strings.
    loss_curve_ : list of float
        Mean training loss, in standardised units, of every epoch, earlier fits of a warm start included.
    best_loss_ : float
        The lowest of them.
    validation_scores_ : list of float or None
        R² on the held-out data after each epoch; None without `early_stopping`.
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
    RNNClassifier : The same network for classes.

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
    The next value of a sine wave of any phase:

    >>> import numpy as np
    >>> from numrnn import RNNRegressor
    >>> phase = np.random.default_rng(0).uniform(0, 2 * np.pi, size=(300, 1))
    >>> wave = np.sin(phase + 0.5 * np.arange(21))
    >>> X, y = wave[:, :-1], wave[:, -1]
    >>> model = RNNRegressor((16,), max_iter=50, tol=0.0, random_state=0).fit(X[:200], y[:200])
    >>> model.score(X[200:], y[200:]) > 0.99
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **RecurrentEstimator._parameter_constraints,
        "loss": [StrOptions({"squared_error", "absolute_error", "huber"})],
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
        loss: str = "squared_error",
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
        self.loss = loss

    # --------------------------------------------------------------------------------------------------- targets
    def _check_y(self, y: Any) -> NDArray[np.float64]:
        y = check_targets(self, y, np.float64)
        if y.ndim not in (1, 2):
            raise ValueError(f"y should be a 1d array, or a 2d array of several outputs, got shape {y.shape}")
        return y

    def _encode(self, y: NDArray, *, reset: bool, classes: Any) -> NDArray[np.float64]:
        targets = y.reshape(len(y), -1)
        if reset:
            self.n_outputs_ = targets.shape[1]
            self._column = y.ndim == 2
        elif targets.shape[1] != self.n_outputs_:
            raise ValueError(
                f"y has {targets.shape[1]} outputs, but {type(self).__name__} was first fitted with {self.n_outputs_}"
            )
        return targets

    def _prepare(self, targets: NDArray, weights: NDArray[np.float64] | None, *, reset: bool) -> Prepared:
        if reset:
            with np.errstate(over="ignore", invalid="ignore"):
                self.target_mean_ = np.average(targets, axis=0, weights=weights)
                scale = np.sqrt(np.average((targets - self.target_mean_) ** 2, axis=0, weights=weights))
            if not np.isfinite(scale).all():
                raise ValueError("Input y contains values too large for their variance to be computed in float64.")
            # The deviation of a constant is what rounding leaves of it.
            constant = scale <= 10 * np.finfo(np.float64).eps * np.abs(self.target_mean_)
            self.target_scale_ = np.where(constant, 1.0, scale)
        return self._network_targets(targets), weights

    def _network_targets(self, targets: NDArray) -> NDArray:
        return (targets - self.target_mean_) / self.target_scale_

    def _network_outputs(self) -> tuple[int, str]:
        return self.n_outputs_, self.loss

    def _validation_score(self, outputs: NDArray, targets: NDArray, weights: NDArray | None) -> float:
        return float(r2_score(targets, outputs, sample_weight=weights))

    # --------------------------------------------------------------------------------------------------- fitting
    @only_stochastic
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """One epoch of training with the given data. The first call fixes the scale of the targets.

        Parameters
        ----------
        X : array-like or list of arrays
            Sequences, as for `fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        Returns
        -------
        self : object
        """
        return self._partial_fit(X, y, sample_weight, None)

    # ------------------------------------------------------------------------------------------------- inference
    def predict(self, X: Any) -> NDArray[np.float64]:
        """The outputs for each sequence, in the units of y.

        Parameters
        ----------
        X : array-like or list of arrays
            Sequences, as for `fit`.

        Returns
        -------
        values : ndarray of float64, shape (n_samples,) or (n_samples, n_outputs)
            Two-dimensional if y was.
        """
        values = self._outputs(X) * self.target_scale_ + self.target_mean_
        return values if self._column else values[:, 0]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
