"""Classification of sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets

from numrnn.estimators.base import Prepared, RecurrentEstimator, only_stochastic
from numrnn.estimators.documentation import documented
from numrnn.estimators.labels import encode_labels
from numrnn.estimators.targets import Targets
from numrnn.estimators.validation import check_targets

__all__ = ["RNNClassifier"]


@documented
@dataclass(eq=False, repr=False, kw_only=True)
class RNNClassifier(ClassifierMixin, RecurrentEstimator):
    """Recurrent network that assigns a class to a sequence.

    A stack of recurrent layers reads the sequence; a dense layer and a softmax turn its last hidden state into the
    probabilities of the classes. The cross-entropy is minimised.

    Inputs are not scaled: features should be of about zero mean and unit variance, and a warning says if they are not.

    Parameters
    ----------
    <common parameters>
    <common pooling>
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes in the loss, ``{label: weight}``; labels that are not in it have weight 1. "balanced"
        gives every class the same total weight.
    label_smoothing : float in [0, 1), default=0.0
        Part of the target's probability that is spread evenly over all classes in training [8]_, so that the network
        is less sure of itself.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels, sorted.
    <common attributes>

    See Also
    --------
    RNNRegressor : The same network for numbers.

    References
    ----------
    <common references>
    .. [8] Szegedy, C. et al. (2016). Rethinking the Inception architecture for computer vision. CVPR.

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
        "pooling": [StrOptions({"last", "mean", "max", "attention"})],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    }

    pooling: str = "last"
    class_weight: dict[Any, float] | str | None = None
    label_smoothing: float = 0.0

    # --------------------------------------------------------------------------------------------------- targets
    def _check_y(self, y: Any) -> Targets:
        y = column_or_1d(check_targets(self, y, None), warn=True)
        check_classification_targets(y)
        return Targets.of_samples(y)

    def _encode(self, targets: Targets, *, reset: bool, classes: Any) -> Targets:
        return encode_labels(self, targets, reset=reset, classes=classes)

    def _prepare(self, rows: NDArray, weights: NDArray[np.float64] | None, *, reset: bool) -> Prepared:
        if self.class_weight is None:
            return rows, weights
        weights = np.ones(len(rows)) if weights is None else weights
        if isinstance(self.class_weight, str):  # "balanced"
            totals = np.bincount(rows, weights=weights, minlength=len(self.classes_))
            with np.errstate(divide="ignore"):
                of_class = weights.sum() / (np.count_nonzero(totals) * totals)
        else:
            self._check_class_weight(self.class_weight)
            present = self.classes_[np.unique(rows)]
            of_class = compute_class_weight(self.class_weight, classes=self.classes_, y=present)
        weights = weights * of_class[rows]
        if not weights.any():
            raise ValueError(
                f"The 'class_weight' parameter of {type(self).__name__} must leave at least one sample with a positive "
                f"weight. Got {self.class_weight!r} instead."
            )
        return rows, weights

    def _check_class_weight(self, class_weight: Mapping[Any, Any]) -> None:
        for label, weight in class_weight.items():
            if not isinstance(weight, Real) or not 0 <= float(weight) < np.inf:
                raise ValueError(
                    f"The 'class_weight' parameter of {type(self).__name__} must give every label a finite number that "
                    f"is not negative. Got {weight!r} for {label!r} instead."
                )

    def _network_targets(self, rows: NDArray) -> NDArray:
        return rows

    def _readout_settings(self) -> dict[str, Any]:
        return {
            "n_outputs": len(self.classes_),
            "loss": "cross_entropy",
            "pooling": self.pooling,
            "label_smoothing": float(self.label_smoothing),
        }

    def _validation_score(self, outputs: NDArray, targets: NDArray, weights: NDArray | None) -> float:
        return float(accuracy_score(targets, outputs.argmax(axis=1), sample_weight=weights))

    def _stratify(self, targets: Targets) -> NDArray | None:
        return targets.rows()

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
        outputs = self._outputs(self._sequences(X))
        return self.classes_[outputs.argmax(axis=1)]

    def _of_outputs(self, outputs: NDArray) -> NDArray:
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
        return log_softmax(self._outputs(self._sequences(X)), axis=1)
