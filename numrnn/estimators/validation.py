"""What users pass to an estimator, checked and turned into the containers of the engine. The one place that does so."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral, Number
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from numrnn.buffers import read_only
from numrnn.estimators.targets import Targets
from numrnn.kernels.cpu.reductions import column_statistics
from numrnn.packing import Sequences
from numrnn.reading import check_readable

__all__ = [
    "check_sample_weight",
    "check_sizes_and_threads",
    "check_targets",
    "checked_array",
    "feature_names_of_steps",
    "hidden_sizes_of",
    "in_form_of",
    "is_list_of_sequences",
    "merge_equal_samples",
    "numeric_sequences",
    "to_sequences",
    "to_values",
    "warn_if_unscaled",
    "words_of",
]

# A feature whose magnitude is outside this range, or whose mean is so many times its range, is called unscaled.
_LARGEST_MAGNITUDE = 10.0
_SMALLEST_MAGNITUDE = 0.01
_LARGEST_OFFSET = 10.0
_FROM_WORDS = "numrnn.SequenceEncoder makes sequences of ids from texts and words"
# So many time steps are enough to tell the scale of a feature.
_STEPS_FOR_SCALE = 100_000


def to_sequences(
    estimator: Any, X: Any, dtype: np.dtype, *, reset: bool, allow_nan: bool = False, padded: bool = False
) -> Sequences:
    """Sequences of whatever an estimator accepts as X.

    ====================================================  ============================  ================
    X                                                     sequences                     `n_features_in_`
    ====================================================  ============================  ================
    array (n_samples, n_timesteps, n_features)            as it says                    n_features
    array or DataFrame (n_samples, n_timesteps)           univariate, of one length     n_timesteps
    list of arrays (n_timesteps_i, n_features)            ragged                        n_features
    list of arrays (n_timesteps_i,)                       ragged, univariate            1
    ====================================================  ============================  ================

    Tuples and one-dimensional object arrays are lists; nested lists of numbers are arrays if they are rectangular.

    Parameters
    ----------
    estimator : RNNClassifier or RNNRegressor
        Receives `n_features_in_`, `feature_names_in_` and two private attributes if `reset` is true; else X is compared
        with them.
    X : array-like
    dtype : dtype
        float32 or float64. An array of this type in C order is not copied.
    reset : bool
        Whether this is the X that the estimator learns its features from.
    allow_nan : bool, default=False
        Whether a value may be missing.
    padded : bool, default=False
        Whether the columns of a matrix have no meaning of their own, because sequences end in padding: another matrix
        may then have more or fewer of them, and `n_features_in_` is 1.

    Returns
    -------
    Sequences

    Raises
    ------
    ValueError
        If X has the wrong rank or number of features, is empty, or holds NaN or infinities.
    TypeError
        If X is sparse or not numeric.
    """
    check_readable(X, "X")
    arrays = _as_list_of_sequences(X)
    with np.errstate(over="ignore"):  # too large for float32 is infinite in float32, and reported below
        if arrays is not None:
            sequences = _join(estimator, arrays, dtype, "X", "features")
            # Feature names are a matter of DataFrames, all of which have the same: the first one stands for them. Of
            # other lists this forgets or misses those of an earlier one.
            like = X if feature_names_of_steps(X) is None else arrays[0]
            validate_data(estimator, like, reset=reset, skip_check_array=True, ensure_2d=False)
        else:
            if _rank(X) < 3:
                return _from_matrix(estimator, X, dtype, reset=reset, allow_nan=allow_nan, padded=padded)
            sequences = _from_cube(estimator, X, dtype, reset=reset)
    _check_n_features(estimator, sequences.n_features, reset=reset)
    _check_finite(sequences, allow_nan=allow_nan)
    if reset:
        estimator._univariate_columns = False
    return sequences


def is_list_of_sequences(X: Any) -> bool:
    """Whether `to_sequences` reads X as a list of sequences, not as one array."""
    return _as_list_of_sequences(X) is not None


def _rank(X: Any) -> int:
    shape = getattr(X, "shape", None)
    return len(shape) if isinstance(shape, tuple) else np.asarray(X).ndim


def _as_list_of_sequences(X: Any) -> list[Any] | None:
    """The elements of X if X is a list of sequences, None if it is one array."""
    if isinstance(X, Sequence) and not isinstance(X, (str, bytes)):
        if any(_is_array(element) for element in X):
            return list(X)
        try:
            np.asarray(X)
        except ValueError:  # not rectangular
            return list(X)
        return [] if len(X) == 0 else None
    if getattr(X, "dtype", None) == np.dtype(object) and _rank(X) == 1:
        elements = list(X)
        return elements if any(_is_array(e) or isinstance(e, (list, tuple)) for e in elements) else None
    return None


def _is_array(element: Any) -> bool:
    """Whether an element of a list is a sequence by itself, not a number or a list of numbers."""
    return getattr(element, "ndim", 0) > 0


def _from_matrix(estimator: Any, X: Any, dtype: np.dtype, *, reset: bool, allow_nan: bool, padded: bool) -> Sequences:
    """Each row is a univariate sequence. Raises scikit-learn's own errors."""
    if _rank(X) == 1 and isinstance(X, Iterable) and isinstance(next(iter(X), None), str):
        raise ValueError(f"X holds texts, but {_name(estimator)} expects sequences of numbers; {_FROM_WORDS}")
    # Columns are compared one by one with those seen in fit, unless these were time steps of no fixed number.
    same_columns = not padded if reset else estimator._univariate_columns
    settings = {"dtype": dtype, "order": "C", "ensure_all_finite": False}
    if same_columns:
        with _too_large_for("X"):
            X = validate_data(estimator, X, reset=reset, **settings)
    else:
        X = checked_array(X, "X", estimator, **settings)
        _check_n_features(estimator, 1, reset=reset, shape=X.shape)
    sequences = Sequences.from_padded(X[:, :, np.newaxis])
    _check_finite(sequences, allow_nan=allow_nan)
    if reset:
        estimator._univariate_columns = same_columns
        estimator._input_size = 1
        if not same_columns:
            estimator.__dict__.pop("feature_names_in_", None)
    return sequences


def _from_cube(estimator: Any, X: Any, dtype: np.dtype, *, reset: bool) -> Sequences:
    X = checked_array(X, "X", estimator, dtype=dtype, order="C", ensure_all_finite=False, allow_nd=True)
    if X.ndim > 3:
        raise ValueError(
            f"X has {X.ndim} dimensions, but {_name(estimator)} expects sequences: an array "
            "(n_samples, n_timesteps, n_features), an array (n_samples, n_timesteps), or a list of arrays "
            "(n_timesteps_i, n_features)"
        )
    if 0 in X.shape:
        raise ValueError(
            f"Found array with shape={X.shape} while a minimum of 1 sample, 1 time step and 1 feature is required by "
            f"{_name(estimator)}."
        )
    validate_data(estimator, X, reset=reset, skip_check_array=True, ensure_2d=False)
    return Sequences.from_padded(X)


def checked_array(data: Any, name: str, estimator: Any = None, **settings: Any) -> NDArray:
    """What scikit-learn's `check_array` makes of data, and refuses; and of what it would read wrongly, nothing.

    Parameters
    ----------
    data : array-like
    name : str
        What errors call it.
    estimator : object, default=None
        Its class is named in errors.
    **settings
        Of `check_array`. Where `dtype` is None, dates and words are fine.

    Raises
    ------
    ValueError, TypeError
    """
    check_readable(data, name, numbers=settings.get("dtype") is not None)
    with _too_large_for(name):
        return check_array(data, input_name=name, estimator=estimator, **settings)


@contextmanager
def _too_large_for(name: str) -> Iterator[None]:
    """Integers may be larger than any float."""
    try:
        yield
    except OverflowError as error:
        raise ValueError(f"Input {name} contains infinity or a value too large: {error}") from error


def _join(estimator: Any, arrays: Sequence[Any], dtype: np.dtype, name: str, columns: str) -> Sequences:
    """Copy the sequences of a list into one matrix."""
    if len(arrays) == 0:
        raise ValueError(f"Found list with 0 sequences while a minimum of 1 is required by {_name(estimator)}.")
    parts = [_as_steps(number, array, name, columns) for number, array in enumerate(arrays)]
    rank, width = parts[0].ndim, parts[0].shape[-1]
    for number, part in enumerate(parts):
        if part.ndim != rank:
            raise ValueError(f"sequence {number} of {name} has {part.ndim} dimensions, but sequence 0 has {rank}")
        if rank == 2 and part.shape[1] != width:
            raise ValueError(f"sequence {number} of {name} has {part.shape[1]} {columns}, but sequence 0 has {width}")
        if len(part) == 0:
            raise ValueError(f"sequence {number} of {name} has no time step; every sequence needs at least one")
    if rank == 2 and width == 0:
        raise ValueError(
            f"the sequences of {name} have 0 {columns} while a minimum of 1 is required by {_name(estimator)}."
        )
    lengths = np.array([len(part) for part in parts], dtype=np.int64)
    ends = np.cumsum(lengths)
    values = np.empty((int(ends[-1]), width if rank == 2 else 1), dtype=dtype)
    for part, end, length in zip(parts, ends, lengths, strict=True):
        values[end - length : end] = part if rank == 2 else part[:, np.newaxis]
    return Sequences(values, ends - lengths, lengths)


def _as_steps(number: int, array: Any, name: str, columns: str) -> NDArray:
    """One sequence of a list as an array of numbers with one or two dimensions."""
    try:
        part = np.asarray(array)
        if part.dtype.kind not in "biufc":
            part = part.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        words = isinstance(array, Iterable) and not hasattr(array, "columns")
        advice = f"; {_FROM_WORDS}" if words and any(isinstance(step, str) for step in array) else ""
        raise (TypeError if isinstance(error, TypeError) else ValueError)(
            f"sequence {number} of {name} cannot be converted to an array of numbers: {error}{advice}"
        ) from error
    if part.dtype.kind == "c":
        raise ValueError(f"Complex data not supported\nsequence {number} of {name} is of type {part.dtype}")
    if part.ndim not in (1, 2):
        raise ValueError(
            f"sequence {number} of {name} has {part.ndim} dimensions, expected an array (n_timesteps, n_{columns}), or "
            f"(n_timesteps,) if there is one number for every time step"
        )
    return part


def _name(estimator: Any) -> str:
    return type(estimator).__name__


def _check_n_features(estimator: Any, n_features: int, *, reset: bool, shape: tuple[int, ...] | None = None) -> None:
    """Remember, or compare, the number of features of a time step."""
    if reset:
        estimator.n_features_in_ = estimator._input_size = n_features
    elif n_features != estimator._input_size:
        per_step = "" if shape is None else f" (shape={shape} is read as univariate sequences)"
        raise ValueError(
            f"X has {n_features} features, but {_name(estimator)} is expecting {estimator._input_size} features as "
            f"input{per_step}."
        )


def _check_finite(sequences: Sequences, name: str = "X", column: str = "feature", *, allow_nan: bool = False) -> None:
    """Raise an error that says where the first value is that is not a finite number."""
    values = sequences.values
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(values.sum()):
            return
    bad = np.isinf(values) if allow_nan else ~np.isfinite(values)
    bad_rows = np.flatnonzero(bad.any(axis=1))
    if len(bad_rows) == 0:  # only the sum was too large, or values may be missing
        return
    row = int(bad_rows[0])
    feature = int(np.flatnonzero(bad[row])[0])
    what = "NaN" if np.isnan(values[row, feature]) else f"infinity or a value too large for {values.dtype!r}"
    raise ValueError(f"Input {name} contains {what}: {_place(sequences, row)}, {column} {feature}.")


def _place(sequences: Sequences, row: int) -> str:
    """Sample and time step of a row of values that lie sequence after sequence."""
    sample = int(np.searchsorted(sequences.starts, row, side="right")) - 1
    return f"sample {sample}, time step {row - int(sequences.starts[sample])}"


def numeric_sequences(estimator: Any, data: Any, dtype: np.dtype, name: str) -> Sequences:
    """Sequences of measurements, one side of a pair: an array or a list, of finite numbers.

    Parameters
    ----------
    estimator : object
        Its class is named in errors.
    data : array (n_samples, n_timesteps, n_features) or (n_samples, n_timesteps), or list of arrays
    dtype : dtype
    name : {"X", "y"}

    Raises
    ------
    ValueError
        If it has another form, is empty, or holds NaN or infinities.
    """
    check_readable(data, name)
    arrays = _as_list_of_sequences(data)
    if arrays is not None:
        sequences = _join(estimator, arrays, dtype, name, "features")
    else:
        array = (
            check_targets(estimator, data, dtype)
            if name == "y"
            else checked_array(data, name, estimator, dtype=dtype, ensure_all_finite=False, allow_nd=True)
        )
        if array.ndim not in (2, 3) or 0 in array.shape:
            raise ValueError(
                f"Found array with shape={array.shape} as {name} while 2 or 3 dimensions and a minimum of 1 sample, 1 "
                f"time step and 1 feature are required by {_name(estimator)}."
            )
        sequences = Sequences.from_padded(array.reshape(*array.shape[:2], -1))
    _check_finite(sequences, name)
    return sequences


def to_values(estimator: Any, y: Any) -> Targets:
    """Targets that are numbers.

    ==================================================  ==========================================
    y                                                   targets
    ==================================================  ==========================================
    array (n_samples,)                                  one number for each sequence
    array (n_samples, n_outputs)                        several numbers for each sequence
    array (n_samples, n_timesteps, n_outputs)           one row for each time step
    list of arrays (n_timesteps_i, n_outputs)           one row for each time step
    list of arrays (n_timesteps_i,)                     one number for each time step
    ==================================================  ==========================================

    What a list is, is decided as for X: the form of y alone says what its numbers belong to, never whether two sizes
    happen to be equal.

    Returns
    -------
    Targets
        Values of float64, one-dimensional where there is one number without an axis of outputs.

    Raises
    ------
    ValueError
        If y has another form, is empty, or holds NaN or infinities.
    """
    check_readable(y, "y")
    arrays = _as_list_of_sequences(y) if _is_container(y) else None
    if arrays:
        steps = _join(estimator, arrays, np.dtype(np.float64), "y", "outputs")
        _check_finite(steps, "y", "output")
        if np.ndim(arrays[0]) == 1:
            steps = Sequences(steps.values[:, 0], steps.starts, steps.lengths)
        return Targets(steps, True)
    y = check_targets(estimator, y, np.float64)
    if y.ndim == 3:
        if 0 in y.shape:
            raise ValueError(
                f"Found array with shape={y.shape} while a minimum of 1 sample, 1 time step and 1 output is required "
                f"by {_name(estimator)}."
            )
        return Targets(Sequences.from_padded(y), True)
    if y.ndim not in (1, 2):
        raise ValueError(
            "y should be a 1d array, a 2d array of several outputs, or a 3d array or list of arrays with one row for "
            f"each time step, got shape {y.shape}"
        )
    return Targets.of_samples(y)


def _is_container(y: Any) -> bool:
    return isinstance(y, Sequence) or (getattr(y, "dtype", None) == np.dtype(object) and _rank(y) == 1)


def check_targets(estimator: Any, y: Any, dtype: Any) -> NDArray:
    """y as an array without NaN, infinities and complex numbers; anything if dtype is None, as labels may be."""
    return checked_array(y, "y", estimator, dtype=dtype, ensure_2d=False, allow_nd=True, ensure_min_samples=0)


def feature_names_of_steps(X: Any) -> list[str] | None:
    """Names of the features of a time step: the columns, if X is a list of DataFrames."""
    arrays = _as_list_of_sequences(X) or []
    names = [getattr(array, "columns", None) for array in arrays]
    if not names or names[0] is None:
        return None
    for number, other in enumerate(names):
        if other is None or list(other) != list(names[0]):
            raise ValueError(
                f"sequence {number} of X has other columns than sequence 0: "
                f"{None if other is None else list(other)} and {list(names[0])}"
            )
    return list(names[0])


def words_of(X: Any) -> list[list[str]] | None:
    """The words of sequences of words; None if X is something else.

    Raises
    ------
    ValueError
        If a sequence is empty, holds something else than strings, or is one string that should be split.
    """
    check_readable(X, "X")
    if not isinstance(X, Sequence) and (getattr(X, "dtype", np.dtype(float)).kind not in "OU" or np.ndim(X) == 0):
        return None
    if isinstance(X, (str, bytes)):
        return None
    sequences = list(X)
    first: Any = next((sequence for sequence in sequences if not _is_sized(sequence) or len(sequence)), None)
    # What a DataFrame iterates over are the names of its columns.
    sized = _is_sized(first) and not hasattr(first, "columns") and isinstance(first, Iterable)
    if not isinstance(first, str) and not (sized and isinstance(next(iter(first)), str)):
        return None
    words = []
    for number, sequence in enumerate(sequences):
        if isinstance(sequence, str):
            raise ValueError(
                f"sequence {number} of X is a string, expected a list of words: split it, for example with str.split"
            )
        if not _is_sized(sequence):
            raise ValueError(f"sequence {number} of X is {sequence!r}, expected a list of words")
        sequence = list(sequence)
        if not sequence:
            raise ValueError(f"sequence {number} of X has no time step; every sequence needs at least one")
        for step, word in enumerate(sequence):
            if not isinstance(word, str):
                raise ValueError(
                    f"sequence {number} of X holds words, but at time step {step} {word!r}, which is not a string"
                )
        words.append(sequence)
    return words


def _is_sized(sequence: Any) -> bool:
    return hasattr(sequence, "__len__") and getattr(sequence, "ndim", 1) > 0


def in_form_of(X: Any, sequences: Sequences, rows: NDArray) -> Any:
    """Rows of time steps, sequence after sequence, as an array or a list, whichever X is.

    Parameters
    ----------
    X : array-like or list
        What `sequences` was made from.
    sequences : Sequences
    rows : ndarray of shape (n_steps,) or (n_steps, n_columns)

    Returns
    -------
    ndarray of shape (n_samples, n_timesteps) or (n_samples, n_timesteps, n_columns), or list of arrays
    """
    if not is_list_of_sequences(X):
        return rows.reshape(len(sequences), -1, *rows.shape[1:])
    return np.split(rows, np.cumsum(sequences.lengths)[:-1])


def hidden_sizes_of(estimator: Any) -> tuple[Any, ...]:
    """The units of each layer as `hidden_layer_sizes` has them, one number or several."""
    sizes = estimator.hidden_layer_sizes
    return (sizes,) if isinstance(sizes, Integral) else tuple(sizes)


def check_sizes_and_threads(estimator: Any) -> None:
    """Raise ValueError unless `hidden_layer_sizes` and `n_jobs` are what the constraints of parameters cannot tell."""
    sizes, name = hidden_sizes_of(estimator), _name(estimator)
    if not sizes or any(not isinstance(size, Integral) or size < 1 for size in sizes):
        raise ValueError(
            f"The 'hidden_layer_sizes' parameter of {name} must be a positive integer or a sequence of them. "
            f"Got {estimator.hidden_layer_sizes!r} instead."
        )
    if estimator.n_jobs == 0:
        raise ValueError(f"The 'n_jobs' parameter of {name} must be None or a nonzero integer. Got 0 instead.")


def check_sample_weight(sample_weight: Any, n_samples: int) -> NDArray[np.float64] | None:
    """Sample weights as float64, None if there are none.

    Raises
    ------
    ValueError
        If they are not finite, not one number per sample, negative, all zero, or too small or too large to compute
        with.
    """
    if sample_weight is None:
        return None
    if isinstance(sample_weight, Number):
        sample_weight = np.full(n_samples, sample_weight)
    weights = checked_array(sample_weight, "sample_weight", dtype=np.float64, ensure_2d=False, allow_nd=True)
    if weights.shape != (n_samples,):
        raise ValueError(f"sample_weight.shape == {weights.shape}, expected {(n_samples,)}: one weight for each sample")
    if (weights < 0).any():
        raise ValueError(f"Negative values in data passed to `sample_weight`: the smallest is {weights.min()}.")
    if not weights.any():
        raise ValueError("Sample weights must contain at least one non-zero number: all of them are zero.")
    smallest = weights[weights > 0].min()
    with np.errstate(over="ignore"):
        overflow = not np.isfinite(weights.sum())
    if overflow or smallest < np.finfo(np.float64).tiny:
        what = f"as large as {weights.max():.3g}" if overflow else f"as small as {smallest:.3g}"
        raise ValueError(
            f"sample_weight contains numbers {what}; their sums and quotients cannot be computed. Weights count in "
            "relation to one another: multiply all of them by one number that brings them near 1."
        )
    return weights


def merge_equal_samples(
    sequences: Sequences, targets: Targets, weights: NDArray[np.float64] | None, *, limit: float
) -> tuple[Sequences, Targets, NDArray[np.float64]] | None:
    """Equal samples joined into one with the sum of their weights, in an order that depends on their values alone.

    Training on all samples at once is a sum over them, which in floating-point numbers depends on their order, and
    recurrences amplify the difference. After this it depends neither on the order nor on whether a sample of weight 2
    was given twice.

    Parameters
    ----------
    sequences : Sequences
    targets : Targets
    weights : ndarray of shape (n_samples,), or None for ones
    limit : float
        Most distinct samples that are of interest.

    Returns
    -------
    sequences, targets, weights
        One for each distinct sample; None if there are more of them than `limit`.
    """
    groups: dict[tuple[int, bytes, bytes], list[int]] = {}
    for number, key in enumerate(_sample_keys(sequences, targets)):
        groups.setdefault(key, []).append(number)
        if len(groups) > limit:
            return None
    members = [groups[key] for key in sorted(groups)]
    first = np.array([numbers[0] for numbers in members], dtype=np.int64)
    if weights is None:
        merged = np.array([len(numbers) for numbers in members], dtype=np.float64)
    else:
        merged = np.array([np.sort(weights[numbers]).sum() for numbers in members], dtype=np.float64)
    return sequences.take(first), targets.take(first), merged


def _sample_keys(sequences: Sequences, targets: Targets) -> Iterator[tuple[int, bytes, bytes]]:
    for steps, target in zip(sequences, targets.steps, strict=True):
        yield len(steps), steps.tobytes(), target.tobytes()


def warn_if_unscaled(estimator: Any, sequences: Sequences) -> None:
    """Warn about inputs that are far from unit scale; nothing scales them.

    The gates of a recurrent network saturate on large inputs and ignore small ones. A feature is reported if its root
    mean square is above 10, if no value of it exceeds 0.01, or if its mean is more than 10 times its range. Ids have no
    scale and are not looked at.
    """
    ids = {column for column, _, _ in estimator._embeddings}
    features = [feature for feature in range(sequences.n_features) if feature not in ids]
    if not features:
        return
    of_all = np.empty((4, sequences.n_features), dtype=np.float64)
    column_statistics(read_only(sequences.values), max(len(sequences.values) // _STEPS_FOR_SCALE, 1), *of_all)
    mean, deviation, lowest, highest = of_all[:, features]
    magnitude = np.hypot(mean, deviation)
    largest = np.maximum(np.abs(lowest), np.abs(highest))
    spread = highest - lowest
    with np.errstate(divide="ignore", invalid="ignore"):
        too_large = magnitude / _LARGEST_MAGNITUDE
        too_small = np.where(largest > 0, _SMALLEST_MAGNITUDE / largest, 0.0)
        too_far = np.where(spread > 0, np.abs(mean) / (_LARGEST_OFFSET * spread), 0.0)
    badness = np.maximum(np.maximum(too_large, too_small), too_far)
    worst = int(np.argmax(badness))
    if not badness[worst] > 1.0:
        return
    subject = "the values of X have" if sequences.n_features == 1 else f"feature {features[worst]} of X has"
    warnings.warn(
        f"The inputs are not scaled: {subject} mean {mean[worst]:.4g} and standard deviation {deviation[worst]:.4g}. "
        f"{_name(estimator)} learns best from features of about zero mean and unit standard deviation; scale them, for "
        "example with sklearn.preprocessing.StandardScaler.",
        UserWarning,
        stacklevel=6,  # the caller of fit
    )
