"""Regression on sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils import check_consistent_length
from sklearn.utils._param_validation import StrOptions

from numrnn.estimators.base import Prepared, RecurrentEstimator, only_stochastic
from numrnn.estimators.documentation import documented
from numrnn.estimators.targets import Targets
from numrnn.estimators.validation import check_sample_weight, to_values

__all__ = ["RNNRegressor"]


@documented
@dataclass(eq=False, repr=False, kw_only=True)
class RNNRegressor(RegressorMixin, RecurrentEstimator):
    """Recurrent network that assigns one or several numbers to a sequence, or to each of its time steps.

    A stack of recurrent layers reads the sequence; a dense layer turns its last hidden state into the outputs. If y has
    one row for each time step, it turns the hidden state after every time step into the outputs of that step, and
    `pooling` is not used. What the numbers belong to depends on the form of y alone:

    ==========================================  =============================  ========================================
    y                                           targets                        `predict` returns
    ==========================================  =============================  ========================================
    array (n_samples,)                          one number a sequence          array (n_samples,)
    array (n_samples, n_outputs)                several numbers a sequence     array (n_samples, n_outputs)
    array (n_samples, n_timesteps, n_outputs)   a row for each time step       array (n_samples, n_timesteps, n_outputs)
    list of arrays (n_timesteps_i, n_outputs)   a row for each time step       list of arrays (n_timesteps_i, n_outputs)
    list of arrays (n_timesteps_i,)             a number for each time step    list of arrays (n_timesteps_i,)
    ==========================================  =============================  ========================================

    Whether targets of time steps are predicted as one array or as a list depends on X: an array for an array, a list
    for a list. All steps count the same in loss and score, those of longer sequences too.

    Targets are standardised for training, each output by its mean and standard deviation: whatever unit they are in,
    the default learning rate fits. Losses are in these units, predictions in those of y. Inputs are not scaled:
    features should be of about zero mean and unit variance, and a warning says if they are not.

    Parameters
    ----------
    <common parameters>
    <common pooling>
    loss : {"squared_error", "absolute_error", "huber"}, default="squared_error"
        Mean over the outputs of the squared error, the absolute error, or Huber's loss (quadratic up to an error of one
        standard deviation of the target, linear beyond).

    Attributes
    ----------
    target_mean_, target_scale_ : ndarray of shape (`n_outputs_`,)
        Mean and standard deviation of the targets of the first fit, over all rows and by sample weight. The
        scale of a constant is 1.
    n_outputs_ : int
        Number of outputs.
    <common attributes>

    See Also
    --------
    RNNClassifier : The same network for classes.

    References
    ----------
    <common references>

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

    The sum so far, after every step of sequences of different lengths:

    >>> rng = np.random.default_rng(0)
    >>> X = [rng.normal(size=length) for length in rng.integers(2, 8, size=200)]
    >>> y = [np.cumsum(steps) for steps in X]
    >>> model = RNNRegressor((16,), learning_rate_init=0.01, max_iter=40, tol=0.0, random_state=0).fit(X[:150], y[:150])
    >>> model.score(X[150:], y[150:]) > 0.9
    True
    >>> [len(steps) for steps in model.predict(X[:3])] == [len(steps) for steps in X[:3]]
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **RecurrentEstimator._parameter_constraints,
        "pooling": [StrOptions({"last", "mean", "max", "attention"})],
        "loss": [StrOptions({"squared_error", "absolute_error", "huber"})],
    }

    pooling: str = "last"
    loss: str = "squared_error"

    # --------------------------------------------------------------------------------------------------- targets
    def _check_y(self, y: Any) -> Targets:
        return to_values(self, y)

    def _encode(self, targets: Targets, *, reset: bool, classes: Any) -> Targets:
        rows = targets.rows()
        matrix = rows.reshape(len(rows), -1)
        if reset:
            self.n_outputs_ = matrix.shape[1]
            self._column = rows.ndim == 2
        elif matrix.shape[1] != self.n_outputs_:
            raise ValueError(
                f"y has {matrix.shape[1]} outputs, but {type(self).__name__} was first fitted with {self.n_outputs_}"
            )
        return targets.with_rows(matrix)

    def _prepare(self, rows: NDArray, weights: NDArray[np.float64] | None, *, reset: bool) -> Prepared:
        if reset:
            with np.errstate(over="ignore", invalid="ignore"):
                self.target_mean_ = np.average(rows, axis=0, weights=weights)
                scale = np.sqrt(np.average((rows - self.target_mean_) ** 2, axis=0, weights=weights))
            if not np.isfinite(scale).all():
                raise ValueError("Input y contains values too large for their variance to be computed in float64.")
            # The deviation of a constant is what rounding leaves of it.
            constant = scale <= 10 * np.finfo(np.float64).eps * np.abs(self.target_mean_)
            self.target_scale_ = np.where(constant, 1.0, scale)
        return self._network_targets(rows), weights

    def _network_targets(self, rows: NDArray) -> NDArray:
        return (rows - self.target_mean_) / self.target_scale_

    def _readout_settings(self) -> dict[str, Any]:
        pooling = None if self._per_step else self.pooling
        return {"n_outputs": self.n_outputs_, "loss": self.loss, "pooling": pooling}

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
        y : array-like or list of arrays
            Targets, as for `fit`.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        Returns
        -------
        self : object
        """
        return self._partial_fit(X, y, sample_weight, None)

    # ------------------------------------------------------------------------------------------------- inference
    def predict(self, X: Any) -> Any:
        """The outputs for each sequence, or for each of its time steps, in the units of y.

        Parameters
        ----------
        X : array-like or list of arrays
            Sequences, as for `fit`.

        Returns
        -------
        values : ndarray of float64, shape (n_samples,) or (n_samples, n_outputs)
            Two-dimensional if y was. With targets for every time step an array of shape (n_samples, n_timesteps,
            n_outputs), or a list of arrays (n_timesteps_i, n_outputs) if X is a list; without the last axis if the
            targets had none.
        """
        sequences = self._sequences(X)
        values = self._outputs(sequences) * self.target_scale_ + self.target_mean_
        return self._in_form_of(X, sequences, values if self._column else values[:, 0])

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The coefficient of determination R², the mean over the outputs.

        Parameters
        ----------
        X : array-like or list of arrays
            Sequences, as for `fit`.
        y : array-like or list of arrays
            Targets, as for `fit`.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples. With targets for every time step each step has the weight of its sample.

        Returns
        -------
        float
            At most 1; 0 for the mean of y as prediction. See `sklearn.metrics.r2_score`.

        Raises
        ------
        ValueError
            If y does not fit X, or has targets for time steps and the estimator predicts one for each sequence, or
            the other way round.
        """
        sequences = self._sequences(X)
        targets = to_values(self, y)
        check_consistent_length(sequences, targets)
        self._check_kind_of_targets(targets)
        targets.check_steps(sequences)
        weights = targets.spread(check_sample_weight(sample_weight, len(sequences)))
        rows = targets.rows()
        values = self._outputs(sequences) * self.target_scale_ + self.target_mean_
        return float(r2_score(rows.reshape(len(rows), -1), values, sample_weight=weights))

    def _of_outputs(self, outputs: NDArray) -> NDArray:
        return outputs if self._column else outputs[:, 0]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
