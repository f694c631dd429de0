"""Which input values an output rests on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from numrnn.checks import real_array
from numrnn.inspection.differentiation import Differentiation
from numrnn.inspection.models import Container, fitted_estimator, prepared
from numrnn.inspection.recurrence import chunks, starts_of
from numrnn.packing import Sequences

__all__ = ["attributions"]


def attributions(
    model: Any,
    X: Any,
    target: Any = None,
    *,
    method: str = "integrated_gradients",
    output: str = "raw",
    time_step: int | None = None,
    baseline: Any = None,
    steps: int = 50,
    return_convergence_delta: bool = False,
) -> Any:
    """Share of every input value in an output of the network.

    Parameters
    ----------
    model : fitted estimator
    X : array-like or list of arrays
        Sequences as for `predict`.
    target : default=None
        Which output to explain. For a classifier a label, or an array with one label for each sequence; None is the
        class that the model predicts. For a regressor the number of the output; None is the only one.
    method : {"integrated_gradients", "gradient_x_input"}, default="integrated_gradients"
        "integrated_gradients" [1]_ is the difference to the baseline times the mean gradient on the straight line from
        the baseline to the input. The attributions of a sequence sum to the difference of the two outputs.
        "gradient_x_input" [2]_ is the gradient at the input times the input: one backward pass, no baseline.
    output : {"raw", "probability"}, default="raw"
        For a classifier whether to explain the raw output of the class, its logit, or its probability. For a regressor
        "raw" is the prediction, in the units of y.
    time_step : int or None, default=None
        For a model with an output at every time step, the time step whose output to explain, negative from the end of
        each sequence. None is the sum over all time steps.
    baseline : float or array-like or None, default=None
        For integrated gradients, the input that says nothing: a number, one for each feature (n_features,), or
        sequences like X. None is zero, the mean of standardised features.
    steps : int, default=50
        For integrated gradients, the points of a Gauss-Legendre quadrature.
    return_convergence_delta : bool, default=False
        For integrated gradients, whether to return too by how much the sums are wrong.

    Returns
    -------
    values : ndarray of float64 of the shape of X, or list of ndarray
    delta : ndarray of float64, shape (n_samples,)
        Only if `return_convergence_delta`: sum of a sequence's attributions, minus the difference of the outputs for
        the sequence and for its baseline. Where it matters, use more `steps`.

    Raises
    ------
    ValueError
        If X is not what the model takes, the target is no class or output of it, `baseline` does not fit X, the time
        step is not in every sequence, or an option is unknown or does not apply.
    TypeError
        If the model is not an estimator of this package.
    sklearn.exceptions.NotFittedError
        If it is not fitted.

    References
    ----------
    .. [1] Sundararajan, M., Taly, A. and Yan, Q. (2017). Axiomatic attribution for deep networks. ICML.
    .. [2] Shrikumar, A., Greenside, P., Shcherbina, A. and Kundaje, A. (2016). Not just a black box: learning important
       features through propagating activation differences. arXiv:1605.01713.

    Examples
    --------
    The target is the second of two features at the third time step, and the network finds that out:

    >>> import numpy as np
    >>> from numrnn import RNNRegressor
    >>> from numrnn.inspection import attributions
    >>> X = np.random.RandomState(0).standard_normal((400, 6, 2))
    >>> y = X[:, 2, 1]
    >>> model = RNNRegressor((16,), learning_rate_init=0.01, max_iter=30, tol=0.0, random_state=0).fit(X, y)
    >>> values, delta = attributions(model, X, return_convergence_delta=True)
    >>> values.shape
    (400, 6, 2)
    >>> mean = np.abs(values).mean(axis=0)
    >>> [int(i) for i in np.unravel_index(mean.argmax(), mean.shape)]
    [2, 1]
    >>> bool(np.abs(delta).max() < 1e-6)
    True
    """
    fitted_estimator(model, "attributions")
    if method not in ("integrated_gradients", "gradient_x_input"):
        raise ValueError(f"method must be 'integrated_gradients' or 'gradient_x_input', got {method!r}")
    integrated = method == "integrated_gradients"
    if not integrated and baseline is not None:
        raise ValueError("baseline is for method='integrated_gradients'; 'gradient_x_input' has none")
    if not integrated and return_convergence_delta:
        raise ValueError("return_convergence_delta is for method='integrated_gradients', whose sums it checks")
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 1:
        raise ValueError(f"steps must be a positive integer, got {steps!r}")
    sequences, container = prepared(model, X, "attributions")
    explained = _explained(model, sequences, target, output, time_step)
    differentiation = Differentiation(model._network)
    start = _baseline(model, X, baseline, sequences, container)
    # The points lie inside (0, 1); the weights sum to one.
    points, weights = np.polynomial.legendre.leggauss(int(steps))
    points, weights = (points + 1) / 2, weights / 2

    result = np.empty((sequences.n_steps, sequences.n_features), dtype=np.float64)
    delta = np.zeros(len(sequences), dtype=np.float64)
    begin = 0
    for part in chunks(sequences.lengths, differentiation.recurrence.bytes_per_step):
        some = Sequences(sequences.values, sequences.starts[part], sequences.lengths[part])
        end, lengths = begin + some.n_steps, some.lengths
        values = some.values[some.rows()].astype(np.float64)
        mine = explained.of(slice(begin, end) if model._network.pooling is None else part)
        if not integrated:
            result[begin:end] = values * _gradient(differentiation, values, lengths, mine)
        else:
            empty = start(begin, end)
            difference = values - empty
            mean = np.zeros_like(values)
            for point, weight in zip(points, weights, strict=True):
                mean += weight * _gradient(differentiation, empty + point * difference, lengths, mine)
            result[begin:end] = difference * mean
        if return_convergence_delta:
            delta[part] = np.add.reduceat(result[begin:end].sum(axis=1), starts_of(lengths))
            for sign, at in ((-1, values), (1, empty)):
                explained_values = mine.value(differentiation.forward(at, lengths).outputs)
                per_step = model._network.pooling is None
                delta[part] += sign * (
                    np.add.reduceat(explained_values, starts_of(lengths)) if per_step else explained_values
                )
        begin = end
    values = container.fill_like_input(result)
    return (values, delta) if return_convergence_delta else values


def _gradient(
    differentiation: Differentiation, values: NDArray[np.float64], lengths: NDArray[np.int64], explained: _Explained
) -> NDArray[np.float64]:
    run = differentiation.forward(values, lengths)
    return differentiation.backward(run, explained.gradient(run.outputs))


@dataclass(frozen=True)
class _Explained:
    """The number of each sequence that is explained: a weighted sum over the rows of its outputs of one of the columns.

    Attributes
    ----------
    columns : ndarray of int64, shape (n_rows,)
    weights : ndarray of float64, shape (n_rows,)
    probability : bool
        Whether it is not the raw output but the softmax of the outputs of a row.
    """

    columns: NDArray[np.int64]
    weights: NDArray[np.float64]
    probability: bool

    def of(self, rows: slice) -> _Explained:
        return _Explained(self.columns[rows], self.weights[rows], self.probability)

    def value(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of each row."""
        if self.probability:
            outputs = softmax(outputs, axis=1)
        return self.weights * outputs[np.arange(len(outputs)), self.columns]

    def gradient(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of the values by the outputs."""
        d_outputs = np.zeros_like(outputs)
        d_outputs[np.arange(len(outputs)), self.columns] = self.weights
        if self.probability:
            d_outputs -= self.weights[:, None] * softmax(outputs, axis=1)
            d_outputs *= softmax(outputs, axis=1)[np.arange(len(outputs)), self.columns][:, None]
        return d_outputs


def _explained(model: Any, sequences: Sequences, target: Any, output: str, time_step: int | None) -> _Explained:
    """Which numbers are meant.

    Raises
    ------
    ValueError
        If there is no such output or time step.
    """
    network, is_classifier = model._network, hasattr(model, "classes_")
    per_step = network.pooling is None
    if output not in ("raw", "probability"):
        raise ValueError(f"output must be 'raw' or 'probability', got {output!r}")
    if output == "probability" and not is_classifier:
        raise ValueError("output='probability' needs a classifier; a regressor has no probabilities")
    if output == "probability" and network.loss_name != "cross_entropy":
        raise ValueError("output='probability' needs a model with a softmax output; use output='raw'")
    lengths = sequences.lengths
    weights = np.ones(sequences.n_steps if per_step else len(sequences))
    if time_step is not None:
        weights[:] = 0
        weights[_rows_of_time_step(time_step, lengths, per_step)] = 1
    if is_classifier:
        columns = _columns_of_labels(model, target, len(sequences))
        if columns is None:
            columns = network.outputs(sequences).argmax(axis=1)
        elif per_step:
            columns = np.repeat(columns, lengths)
        return _Explained(columns, weights, output == "probability")
    n_outputs = network.n_outputs
    number = 0 if target is None and n_outputs == 1 else target
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or not 0 <= number < n_outputs:
        raise ValueError(
            f"target must be the number of the output to explain, from 0 to {n_outputs - 1}, got {target!r}"
        )
    weights *= float(np.ravel(model.target_scale_)[number])
    return _Explained(np.full(len(weights), number, dtype=np.int64), weights, False)


def _rows_of_time_step(time_step: Any, lengths: NDArray[np.int64], per_step: bool) -> NDArray[np.int64]:
    if not per_step:
        raise ValueError("time_step is for models with an output at every time step; this one has one per sequence")
    if isinstance(time_step, bool) or not isinstance(time_step, (int, np.integer)):
        raise ValueError(f"time_step must be an integer or None, got {time_step!r}")
    shortest = int(lengths.min())
    if not -shortest <= time_step < shortest:
        raise ValueError(
            f"time_step must lie in every sequence, the shortest of which has {shortest} time steps, got {time_step}"
        )
    return starts_of(lengths) + (time_step if time_step >= 0 else lengths + time_step)


def _columns_of_labels(model: Any, target: Any, n_sequences: int) -> NDArray[np.int64] | None:
    """The output of the class of each sequence; None stays None."""
    if target is None:
        return None
    classes = list(model.classes_)
    labels = [target] * n_sequences if np.ndim(target) == 0 else list(target)
    if len(labels) != n_sequences:
        raise ValueError(
            f"target must be one label, or one for each of the {n_sequences} sequences of X, got {len(labels)} labels"
        )
    unknown = [label for label in labels if label not in classes]
    if unknown:
        raise ValueError(f"target must be among the classes {classes}, got {unknown[0]!r}")
    return np.array([classes.index(label) for label in labels], dtype=np.int64)


def _baseline(
    model: Any, X: Any, baseline: Any, sequences: Sequences, container: Container
) -> Callable[[int, int], NDArray[np.float64]]:
    """From a range of rows to the rows of the baseline.

    Raises
    ------
    ValueError
        If the baseline does not fit the sequences.
    """
    n_features = sequences.n_features
    if baseline is None or np.ndim(baseline) == 0 or (np.ndim(baseline) == 1 and len(baseline) == n_features):
        row = real_array(0.0 if baseline is None else baseline, "baseline", np.dtype(np.float64))
        if not np.isfinite(row).all():
            raise ValueError(f"baseline must be finite, got {baseline!r}")
        return lambda begin, end: (
            np.tile(row, (end - begin, 1)) if row.ndim else np.full((end - begin, n_features), row)
        )
    try:
        given = model._sequences(baseline)
    except ValueError as error:
        raise ValueError(
            f"baseline must be a number, one for each of the {n_features} features, or sequences like X: {error}"
        ) from error
    if not np.array_equal(given.lengths, sequences.lengths):
        raise ValueError("baseline must have sequences of the lengths of those of X")
    rows = given.rows()
    return lambda begin, end: given.values[rows[begin:end]].astype(np.float64)
