"""Which input values an output rests on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from numrnn.checks import real_array
from numrnn.estimators.validation import is_list_of_sequences, words_of
from numrnn.inspection.differentiation import Differentiation, Pass
from numrnn.inspection.models import fitted_estimator, prepared
from numrnn.inspection.recurrence import chunks, starts_of
from numrnn.packing import Sequences
from numrnn.reading import plain_array

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
    steps: int = 32,
    tol: float = 1e-3,
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
    steps : int, default=32
        For integrated gradients, the points of a Gauss-Legendre quadrature.
    tol : float, default=1e-3
        For integrated gradients: as long as the sum of a sequence's attributions is wrong by more than this part of the
        difference of the outputs, or of the sum of the attributions' magnitudes if that is more, the line is cut into
        halves where it is wrong, down to 1/4096 of its length. Networks that remember can switch from one output to
        another within a very short piece of the line, which fixed points miss. ``numpy.inf`` leaves it at one piece.
    return_convergence_delta : bool, default=False
        For integrated gradients, whether to return too by how much the sums are wrong.

    Returns
    -------
    values : ndarray of float64 of the shape of X, or list of ndarray
    delta : ndarray of float64, shape (n_samples,)
        Only if `return_convergence_delta`: sum of a sequence's attributions, minus the difference of the outputs for
        the sequence and for its baseline.

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
    if not tol > 0:
        raise ValueError(f"tol must be positive, got {tol!r}")
    sequences, container = prepared(model, X, "attributions")
    explained = _explained(model, sequences, target, output, time_step)
    differentiation = Differentiation(model._network)
    start = _baseline(model, baseline, sequences, differentiation)
    rows, deltas = [], []
    first = 0
    for part in chunks(sequences.lengths, differentiation.recurrence.bytes_per_step):
        some = _some(sequences, part)
        values = differentiation.embed(some)
        run = differentiation.forward(values, some.lengths)
        mine = explained.of(slice(first, first + len(run.outputs)))
        first += len(run.outputs)
        if not integrated:
            rows.append(differentiation.by_column(values * _gradient(differentiation, run, mine)))
            continue
        path = _Path(differentiation, mine, start(part), values, some.lengths, int(steps))
        mean, delta = path.mean_gradient(float(tol))
        rows.append(differentiation.by_column((values - path.begin) * mean))
        deltas.append(delta)
    shares = container.fill_like_input(np.concatenate(rows))
    if not integrated:
        return shares
    delta = np.concatenate(deltas)
    return (shares, delta) if return_convergence_delta else shares


def _gradient(differentiation: Differentiation, run: Pass, explained: _Explained) -> NDArray[np.float64]:
    return differentiation.backward(run, differentiation.gradient_of_outputs(explained.gradient(run.outputs)))


class _Path:
    """The straight line from the baseline of every sequence to the sequence, on which gradients are averaged.

    The integral of the slope along a piece of the line is the difference of the outputs at its ends. Pieces where the
    quadrature misses that are halved: a network that remembers can change its mind within a thousandth of the way.
    """

    # Halvings at most; 2**-12 of the way is the shortest piece.
    _DEPTH = 12

    def __init__(
        self,
        differentiation: Differentiation,
        explained: _Explained,
        begin: NDArray[np.float64],
        end: NDArray[np.float64],
        lengths: NDArray[np.int64],
        steps: int,
    ) -> None:
        self.differentiation = differentiation
        self.explained = explained
        self.begin = begin
        self.difference = end - begin
        self.lengths = lengths
        # The points lie inside (0, 1); the weights sum to one.
        points, weights = np.polynomial.legendre.leggauss(steps)
        self.quadrature = list(zip((points + 1) / 2, weights / 2, strict=True))

    def _rows(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        return Sequences(self.begin, starts_of(self.lengths)[numbers], self.lengths[numbers]).rows()

    def _run(self, numbers: NDArray[np.int64], rows: NDArray[np.int64], at: NDArray[np.float64]) -> Pass:
        """Some of the sequences, each at a point of its line."""
        lengths = self.lengths[numbers]
        points = np.repeat(at, lengths)[:, np.newaxis]
        return self.differentiation.forward(self.begin[rows] + points * self.difference[rows], lengths)

    def _values(self, numbers: NDArray[np.int64], rows: NDArray[np.int64], at: NDArray[np.float64]) -> NDArray:
        """What is explained, at points of the lines."""
        run = self._run(numbers, rows, at)
        values = self._explained(numbers, run).value(run.outputs)
        return values if len(values) == len(numbers) else np.add.reduceat(values, starts_of(run.lengths))

    def _explained(self, numbers: NDArray[np.int64], run: Pass) -> _Explained:
        if len(run.outputs) == len(numbers):
            return self.explained.of(numbers)
        lengths = self.lengths  # a row of outputs for every time step
        return self.explained.of(Sequences(self.begin, starts_of(lengths)[numbers], lengths[numbers]).rows())

    def mean_gradient(self, tol: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The mean gradient at every row, and by how much the attributions of every sequence miss the difference."""
        n_sequences = len(self.lengths)
        mean, delta = np.zeros_like(self.begin), np.zeros(n_sequences, dtype=np.float64)
        numbers = np.arange(n_sequences)
        begin, end = np.zeros(n_sequences), np.ones(n_sequences)
        rows = self._rows(numbers)
        low, high = self._values(numbers, rows, begin), self._values(numbers, rows, end)
        allowed = np.zeros(n_sequences)
        for depth in range(self._DEPTH + 1):
            lengths = self.lengths[numbers]
            gradient = np.zeros((len(rows), self.begin.shape[1]))
            for point, weight in self.quadrature:
                run = self._run(numbers, rows, begin + point * (end - begin))
                share = np.repeat(weight * (end - begin), lengths)[:, np.newaxis]
                gradient += share * _gradient(self.differentiation, run, self._explained(numbers, run))
            products = self.difference[rows] * gradient
            missing = np.add.reduceat(products.sum(axis=1), starts_of(lengths)) - (high - low)
            if depth == 0:
                size = np.add.reduceat(np.abs(products).sum(axis=1), starts_of(lengths))
                allowed = tol * np.maximum(np.abs(high - low), size)
            # Half of what is allowed may come from the first piece, a quarter from those of the next size, ...
            done = (np.abs(missing) <= allowed[numbers] / 2 ** (depth + 1)) | (depth == self._DEPTH)
            finished = np.repeat(done, lengths)
            np.add.at(mean, rows[finished], gradient[finished])
            np.add.at(delta, numbers[done], missing[done])
            if done.all():
                break
            numbers, begin, end, low, high = (array[~done] for array in (numbers, begin, end, low, high))
            middle = (begin + end) / 2
            between = self._values(numbers, self._rows(numbers), middle)
            begin, end = np.concatenate([begin, middle]), np.concatenate([middle, end])
            low, high = np.concatenate([low, between]), np.concatenate([between, high])
            numbers = np.concatenate([numbers, numbers])
            rows = self._rows(numbers)
        return mean, delta


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

    def of(self, rows: slice | NDArray[np.int64]) -> _Explained:
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
    lengths = network.embedded(sequences).lengths if network.convolutions else sequences.lengths
    weights = np.ones(int(lengths.sum()) if per_step else len(sequences))
    if time_step is not None:
        weights[:] = 0
        weights[_rows_of_time_step(time_step, lengths, per_step)] = 1
    if is_classifier:
        columns = _columns_of_labels(model, target, len(sequences))
        if columns is None:
            decoded = network.loss_name == "crf"
            columns = network.decode(sequences) if decoded else network.outputs(sequences).argmax(axis=1)
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
    labels = plain_array(target, "target").tolist()
    if not isinstance(labels, list):
        labels = [labels] * n_sequences
    if len(labels) != n_sequences:
        raise ValueError(
            f"target must be one label, or one for each of the {n_sequences} sequences of X, got {len(labels)} labels"
        )
    unknown = [label for label in labels if label not in classes]
    if unknown:
        raise ValueError(f"target must be among the classes {classes}, got {unknown[0]!r}")
    return np.array([classes.index(label) for label in labels], dtype=np.int64)


def _baseline(
    model: Any, baseline: Any, sequences: Sequences, differentiation: Differentiation
) -> Callable[[slice], NDArray[np.float64]]:
    """From some of the sequences to the rows of their baselines, with vectors in the place of ids.

    Raises
    ------
    ValueError
        If the baseline does not fit the sequences.
    """
    n_features = sequences.n_features
    if baseline is None:
        return lambda part: np.zeros_like(differentiation.embed(_some(sequences, part)))
    several = is_list_of_sequences(baseline) or words_of(baseline) is not None
    if not several and np.shape(baseline) in ((), (n_features,)):
        row = np.broadcast_to(real_array(baseline, "baseline", np.dtype(np.float64)), (n_features,))
        if not np.isfinite(row).all():
            raise ValueError(f"baseline must be finite, got {baseline!r}")
        one = Sequences(row[np.newaxis].copy(), np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64))
        embedded = differentiation.embed(one)[0]
        return lambda part: np.tile(embedded, (int(sequences.lengths[part].sum()), 1))
    try:
        given = model._sequences(baseline)
    except ValueError as error:
        raise ValueError(
            f"baseline must be a number, one for each of the {n_features} features, or sequences like X: {error}"
        ) from error
    if not np.array_equal(given.lengths, sequences.lengths):
        raise ValueError("baseline must have sequences of the lengths of those of X")
    return lambda part: differentiation.embed(_some(given, part))


def _some(sequences: Sequences, part: slice) -> Sequences:
    return Sequences(sequences.values, sequences.starts[part], sequences.lengths[part])
