"""Transformers of scikit-learn applied to the time steps of sequences."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, TransformerMixin, _fit_context, clone
from sklearn.utils import check_consistent_length, get_tags
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from numrnn.estimators.validation import is_list_of_sequences, to_sequences
from numrnn.packing import Sequences

__all__ = ["PerStep"]


def _inner_has(method: str) -> Any:
    """Whether the transformer inside has a method, for `available_if`."""

    def has(estimator: PerStep) -> bool:
        getattr(getattr(estimator, "transformer_", estimator.transformer), method)
        return True

    return has


class PerStep(MetaEstimatorMixin, TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Any transformer of scikit-learn, applied to the features of every time step.

    The time steps of all sequences are the rows that the transformer is fitted on; a scaler so learns the mean of a
    feature over sequences and time. What comes out has the container of what went in: an array of three dimensions, a
    list of arrays, or a matrix of univariate sequences.

    Parameters
    ----------
    transformer : object
        What to apply, with `fit` and `transform`, from one row per time step to as many rows. It is cloned.

    Attributes
    ----------
    transformer_ : object
        The fitted clone.
    n_features_in_ : int
        Features of a time step; for a matrix of univariate sequences, its columns.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns, if X was a DataFrame, or a list of them, whose column names are all strings.

    See Also
    --------
    RNNClassifier, RNNRegressor : Read sequences in the same containers.

    Notes
    -----
    Missing values are passed on to transformers that take them, such as :class:`~sklearn.impute.SimpleImputer`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.preprocessing import StandardScaler
    >>> from numrnn import PerStep
    >>> ragged = [np.array([[0.0, 5.0], [2.0, 5.0]]), np.array([[4.0, 8.0]])]
    >>> scaler = PerStep(StandardScaler(with_std=False)).fit(ragged)
    >>> scaler.transform(ragged)
    [array([[-2., -1.],
           [ 0., -1.]]), array([[2., 2.]])]
    >>> bool(np.allclose(scaler.inverse_transform(scaler.transform(ragged))[1], ragged[1]))
    True

    In a pipeline:

    >>> from sklearn.pipeline import make_pipeline
    >>> from numrnn import RNNClassifier
    >>> model = make_pipeline(PerStep(StandardScaler()), RNNClassifier())
    >>> model = model.set_params(perstep__transformer__with_mean=False)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {"transformer": [HasMethods(["fit", "transform"])]}

    _input_size: int
    _univariate_columns: bool

    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer

    # ----------------------------------------------------------------------------------------------------- fitting
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit a clone of the transformer on the time steps of all sequences.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_timesteps, n_features), (n_samples, n_timesteps), or list of arrays
            Sequences, as for the estimators. A matrix or DataFrame holds univariate ones, a list those of different
            lengths: arrays (n_timesteps_i, n_features), or (n_timesteps_i,) if univariate.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), or list of arrays, default=None
            Targets, for transformers that use them. That of a sequence counts for each of its time steps; a list of
            arrays (n_timesteps_i,) or an array of three dimensions has those of the time steps themselves.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If X is not as described; the message says where.
        """
        self._fit(X, y, transform=False)
        return self

    @_fit_context(prefer_skip_nested_validation=False)
    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Fit a clone of the transformer and transform the same sequences.

        Parameters
        ----------
        X : array-like or list of arrays
            Sequences, as for `fit`.
        y : array-like or list of arrays, default=None
            Targets, as for `fit`.

        Returns
        -------
        X_transformed : ndarray or list of ndarray
            The sequences in the container of X, as `transform` returns them.

        Raises
        ------
        ValueError
            If X is not as described; the message says where.
        """
        sequences, rows = self._fit(X, y, transform=True)
        return _in_container_of(X, sequences, rows)

    def _fit(self, X: Any, y: Any, *, transform: bool) -> tuple[Sequences, NDArray]:
        """The sequences of X, and their transformed time steps, of which only the first matters unless `transform`."""
        sequences = self._sequences(X, reset=True)
        inner = clone(self.transformer)
        targets = _targets_of_steps(y, sequences)
        if transform and hasattr(inner, "fit_transform"):
            rows = _as_rows(inner.fit_transform(sequences.values, targets), len(sequences.values), inner)
        else:
            inner.fit(sequences.values, targets)
            steps = sequences.values if transform else sequences.values[:1]
            rows = _as_rows(inner.transform(steps), len(steps), inner)
        self.transformer_ = inner
        self._output_size = rows.shape[1]
        return sequences, rows

    @available_if(_inner_has("partial_fit"))
    @_fit_context(prefer_skip_nested_validation=False)
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Go on fitting the transformer, if it can be fitted in parts.

        Parameters
        ----------
        X : array-like or list of arrays
            Sequences, as for `fit`, with as many features as in the first call.
        y : array-like or list of arrays, default=None
            Targets, as for `fit`.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If X is not as described; the message says where.
        """
        first = not hasattr(self, "transformer_")
        sequences = self._sequences(X, reset=first)
        inner = clone(self.transformer) if first else self.transformer_
        inner.partial_fit(sequences.values, _targets_of_steps(y, sequences))
        self._output_size = _as_rows(inner.transform(sequences.values[:1]), 1, inner).shape[1]
        self.transformer_ = inner
        return self

    # ---------------------------------------------------------------------------------------------- transforming
    def transform(self, X: Any) -> Any:
        """Transform every time step.

        Parameters
        ----------
        X : array-like or list of arrays
            Sequences, as for `fit`.

        Returns
        -------
        X_transformed : ndarray or list of ndarray
            The sequences in the container of X. A matrix of univariate sequences stays one, and so do lists of them,
            unless the transformer makes several features of one: then every time step has an axis of features.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the transformer was not fitted.
        ValueError
            If X is not as described or has another number of features; the message says where.
        """
        check_is_fitted(self)
        sequences = self._sequences(X, reset=False)
        steps = sequences.values
        return _in_container_of(
            X, sequences, _as_rows(self.transformer_.transform(steps), len(steps), self.transformer_)
        )

    @available_if(_inner_has("inverse_transform"))
    def inverse_transform(self, X: Any) -> Any:
        """Undo the transformation of every time step, if the transformer can.

        Parameters
        ----------
        X : array-like or list of arrays
            Sequences of what `transform` returns, in any of the containers of `fit`.

        Returns
        -------
        X_original : ndarray or list of ndarray
            The sequences in the container of X.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the transformer was not fitted.
        ValueError
            If X is not as described or has another number of features; the message says where.
        """
        check_is_fitted(self)
        # A reader of its own: what is learned of the sequences that come out is not that of those that went in.
        reader = type(self)(self.transformer)
        sequences = reader._sequences(X, reset=True)
        if reader._input_size != self._output_size:
            raise ValueError(
                f"X has {reader._input_size} features, but {type(self).__name__} makes time steps of "
                f"{self._output_size} features and can only undo those"
            )
        steps = sequences.values
        rows = _as_rows(self.transformer_.inverse_transform(steps), len(steps), self.transformer_)
        return _in_container_of(X, sequences, rows)

    def _sequences(self, X: Any, *, reset: bool) -> Sequences:
        tags = get_tags(self)
        dtype = np.dtype(np.float32 if _is_single_precision(X) else np.float64)
        return to_sequences(self, X, dtype, reset=reset, allow_nan=tags.input_tags.allow_nan)

    # ------------------------------------------------------------------------------------------------------- names
    @available_if(_inner_has("get_feature_names_out"))
    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the features that a time step has after the transformation.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the features that go in; None for those seen in `fit`, else x0, x1, ...

        Returns
        -------
        names : ndarray of object
            What the transformer says. If a matrix of univariate sequences stays one, the names of its columns.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the transformer was not fitted.
        ValueError
            If `input_features` are not as many as the features seen in `fit`, or other ones.
        """
        check_is_fitted(self)
        if not self._univariate_columns:
            names = _check_feature_names_in(self, input_features, generate_names=False)
            return self.transformer_.get_feature_names_out(names)
        columns = _check_feature_names_in(self, input_features)
        return columns if self._output_size == 1 else self.transformer_.get_feature_names_out()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = get_tags(self.transformer)
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = inner.input_tags.allow_nan
        tags.target_tags.required = inner.target_tags.required
        tags.non_deterministic = inner.non_deterministic
        if tags.transformer_tags is not None and inner.transformer_tags is not None:
            tags.transformer_tags.preserves_dtype = inner.transformer_tags.preserves_dtype
        return tags


def _targets_of_steps(y: Any, sequences: Sequences) -> NDArray | None:
    """The target of every time step, in sequence order."""
    if y is None:
        return None
    check_consistent_length(sequences, y)
    if is_list_of_sequences(y):
        for number, (targets, length) in enumerate(zip(y, sequences.lengths, strict=True)):
            if len(targets) != length:
                raise ValueError(f"sequence {number} has {length} time steps in X, but {len(targets)} targets in y")
        return np.concatenate([np.asarray(targets) for targets in y])
    targets = np.asarray(y)
    if targets.ndim < 3:
        return np.repeat(targets, sequences.lengths, axis=0)
    if not (sequences.lengths == targets.shape[1]).all():
        raise ValueError(
            f"y has the targets of {targets.shape[1]} time steps for every sequence, but the sequences of X have "
            f"{sequences.lengths.min()} to {sequences.max_length} time steps"
        )
    return targets.reshape(-1, *targets.shape[2:])


def _is_single_precision(X: Any) -> bool:
    """Whether all numbers are float32, which transformers keep; everything else is computed in float64."""
    arrays = X if is_list_of_sequences(X) else [X]
    return len(arrays) > 0 and all(getattr(array, "dtype", None) == np.float32 for array in arrays)


def _as_rows(rows: Any, n_steps: int, inner: Any) -> NDArray:
    """What a transformer returned, as a matrix of floating-point numbers with one row per time step."""
    rows = np.asarray(rows.toarray() if hasattr(rows, "toarray") else rows)
    if rows.ndim != 2 or len(rows) != n_steps:
        raise ValueError(
            f"{type(inner).__name__} returned an array of shape {rows.shape} for {n_steps} time steps; expected one "
            "row for each"
        )
    return rows if rows.dtype in (np.float32, np.float64) else rows.astype(np.float64)


def _in_container_of(X: Any, sequences: Sequences, rows: NDArray) -> Any:
    """One row per time step, in sequence order, in the container that the sequences came in."""
    n_features = rows.shape[1]
    if not is_list_of_sequences(X):
        univariate = np.asarray(X).ndim == 2
        shape = (len(sequences), sequences.max_length)
        return rows.reshape(shape if univariate and n_features == 1 else (*shape, n_features))
    if n_features == 1 and np.ndim(X[0]) == 1:
        rows = rows[:, 0]
    return np.split(rows, np.cumsum(sequences.lengths)[:-1])
