"""Series from outside, checked once, and forecasts in the container and index that they came in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from numrnn.reading import check_readable

__all__ = [
    "ArrayForm",
    "Form",
    "Panel",
    "check_frequency",
    "form_of",
    "is_pandas",
    "read_covariates",
    "read_panel",
    "read_static",
]

Array = NDArray[np.float64]


class Form(Protocol):
    """What a series looked like, so that its forecast can look the same. It stands at the end of the series."""

    # The columns of several targets; None for a single one without a name of its own.
    single_target: bool

    def point(self, values: Array) -> Any:
        """The container for values (n_steps, n_targets) of the time steps that follow."""

    def table(self, values: Array, labels: Sequence[Any]) -> Any:
        """The container for values (n_steps, n_targets, n_labels)."""

    def beside(self, values: NDArray, name: str) -> Any:
        """The container for one value (n_steps,) of each of the last time steps of the series itself."""

    def times(self, first: int, n_steps: int) -> NDArray[np.datetime64] | None:
        """Time stamps of the steps from number `first` on, 0 being the one that follows; None if there are none."""

    def follow(self, other: Form, n_steps: int, what: str) -> Form:
        """The form at the end of another piece, which must begin where this one ended."""

    def check_future(self, X: Any, what: str) -> None:
        """Compare the index of covariates, if they have one, with the steps that follow."""

    def index(self, n_steps: int) -> Any:
        """Labels of the steps that follow."""

    def plain(self) -> dict[str, Any]:
        """The form in numbers, strings, lists and tuples; `form_of` is the way back."""


@dataclass(frozen=True)
class ArrayForm:
    """NumPy arrays: no index, only positions."""

    single_target: bool
    length: int

    def point(self, values: Array) -> Array:
        return values[:, 0] if self.single_target else values

    def table(self, values: Array, labels: Sequence[Any]) -> Array:
        return values[:, 0] if self.single_target else values

    def beside(self, values: NDArray, name: str) -> NDArray:
        return values

    def times(self, first: int, n_steps: int) -> None:
        return None

    def plain(self) -> dict[str, Any]:
        return {"kind": "array", "single_target": self.single_target, "length": self.length}

    def follow(self, other: Form, n_steps: int, what: str) -> ArrayForm:
        return replace(self, length=self.length + n_steps)

    def check_future(self, X: Any, what: str) -> None:
        return None

    def index(self, n_steps: int) -> NDArray[np.int64]:
        return np.arange(self.length, self.length + n_steps)


def form_of(plain: dict[str, Any]) -> Any:
    """The form that `Form.plain` was made of."""
    if plain["kind"] == "array":
        return ArrayForm(bool(plain["single_target"]), int(plain["length"]))
    from numrnn.forecasting.frames import FrameForm

    return FrameForm.from_plain(plain)


@dataclass
class Panel:
    """One or several series in the form of the package.

    Attributes
    ----------
    values : ndarray of float64, shape (n_rows, n_targets)
        Series after series; NaN where a value is missing. Borrowed where possible, never written.
    starts, lengths : ndarray of int64, shape (n_series,)
        Rows of each series.
    forms : list of Form
    container : {"one", "list", "long"}
    names : list
        What messages call each series.
    covariates : ndarray of float64, shape (n_rows, n_covariates), or None
    before : ndarray of float64, shape (n_series, n_targets)
        The last value that was observed before the first row, NaN if there is none.
    n_hidden : ndarray of int64, shape (n_series,)
        Time steps between the last row and where the form stands.
    """

    values: Array
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    forms: list[Any]
    container: str
    names: list[Any]
    covariates: Array | None
    before: Array
    n_hidden: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def n_targets(self) -> int:
        return int(self.values.shape[1])

    def rows(self, number: int) -> slice:
        """Rows of a series."""
        start = int(self.starts[number])
        return slice(start, start + int(self.lengths[number]))

    def times(self, number: int, n_future: int) -> NDArray[np.datetime64] | None:
        """Time stamps of a series and of steps after it."""
        length = int(self.lengths[number])
        return self.forms[number].times(-length - int(self.n_hidden[number]), length + n_future)

    def render(self, arrays: Sequence[Array], labels: Sequence[Any] | None = None) -> Any:
        """Results of every series in the container that the series came in."""
        if self.container == "long":
            from numrnn.forecasting.frames import to_long

            return to_long(self.forms, self.names, arrays, labels)
        pairs = zip(self.forms, arrays, strict=True)
        rendered = [form.point(array) if labels is None else form.table(array, labels) for form, array in pairs]
        return rendered[0] if self.container == "one" else rendered

    def render_beside(self, arrays: Sequence[NDArray], name: str) -> Any:
        """A value for each time step of every series, in the container that the series came in."""
        if self.container == "long":
            from numrnn.forecasting.frames import to_long_beside

            return to_long_beside(self.forms, self.names, arrays, name)
        rendered = [form.beside(array, name) for form, array in zip(self.forms, arrays, strict=True)]
        return rendered[0] if self.container == "one" else rendered

    @property
    def frequency(self) -> Any:
        """The frequency of the time stamps, by which pieces too short to tell it are read; None if there is none."""
        form = self.forms[0]
        step = getattr(form, "step", None)
        is_period = type(getattr(form, "last", None)).__name__ == "Period"
        return step if hasattr(step, "freqstr") and not is_period else None

    def tail(self, n_rows: int) -> Panel:
        """The last rows of every series, copied: the rest of the memory is let go."""
        kept = np.minimum(self.lengths, n_rows)
        pieces = [np.arange(self.rows(i).stop - kept[i], self.rows(i).stop) for i in range(len(self))]
        before = np.stack([self.fill_from(i, int(self.lengths[i] - kept[i])) for i in range(len(self))])
        rows = np.concatenate(pieces)
        covariates = None if self.covariates is None else self.covariates[rows]
        return replace(
            self, values=self.values[rows], starts=np.cumsum(kept) - kept, lengths=kept, covariates=covariates,
            before=before,
        )  # fmt: skip

    def head(self, length: int | NDArray[np.int64]) -> Panel:
        """The first time steps of every series, as views."""
        lengths = np.minimum(self.lengths, length)
        return replace(self, lengths=lengths, n_hidden=self.n_hidden + self.lengths - lengths)

    def fill_from(self, number: int, end: int) -> Array:
        """The last observed value of every target before row `end` of a series."""
        start = int(self.starts[number])
        last = np.array(self.before[number])
        for k in range(self.n_targets):
            column = self.values[start : start + end, k]
            observed = ~np.isnan(column[::-1])
            if observed.any():
                last[k] = column[len(column) - 1 - int(np.argmax(observed))]
        return last

    def ordered(self, names: list[Any]) -> Panel:
        """The same series in the order of the names.

        Raises
        ------
        ValueError
            If these are the names of other series.
        """
        if sorted(self.names, key=str) != sorted(names, key=str):
            raise ValueError(f"expected the series {names}, got {self.names}")
        order = [self.names.index(name) for name in names]
        return replace(
            self,
            starts=self.starts[order],
            lengths=self.lengths[order],
            forms=[self.forms[number] for number in order],
            names=list(names),
            before=self.before[order],
            n_hidden=self.n_hidden[order],
        )

    def follow(self, other: Panel) -> list[Any]:
        """Forms at the end of the continuation of every series, which must begin where the series ends."""
        if len(self) != len(other) or self.n_targets != other.n_targets:
            raise ValueError(
                f"expected the continuation of {len(self)} series with {self.n_targets} targets, got {len(other)} "
                f"series with {other.n_targets}"
            )
        return [
            form.follow(new, int(n), f"y of series {name!r}" if len(self) > 1 else "y")
            for form, new, n, name in zip(self.forms, other.forms, other.lengths, self.names, strict=True)
        ]

    def joined(self, other: Panel) -> Panel:
        """These series, each followed by its continuation."""
        lengths = self.lengths + other.lengths
        pieces = [panel.rows(i) for i in range(len(self)) for panel in (self, other)]
        panels = [self, other] * len(self)
        values = np.concatenate([panel.values[rows] for panel, rows in zip(panels, pieces, strict=True)])
        covariates = None
        if self.covariates is not None:
            parts = [panel.covariates for panel in panels]
            covariates = np.concatenate([part[rows] for part, rows in zip(parts, pieces, strict=True)])  # type: ignore[index]
        forms = self.follow(other)
        return replace(
            self,
            values=values,
            starts=np.cumsum(lengths) - lengths,
            lengths=lengths,
            covariates=covariates,
            forms=forms,
        )


# ------------------------------------------------------------------------------------------------------------ reading
def is_pandas(data: Any) -> bool:
    """Whether data are a Series or DataFrame of pandas, without importing it."""
    return type(data).__module__.partition(".")[0] == "pandas" and hasattr(data, "index") and hasattr(data, "iloc")


def check_frequency(frequency: Any) -> Any:
    """A frequency that pandas understands, or None."""
    if frequency is None:
        return None
    from numrnn.forecasting.frames import parse_frequency

    return parse_frequency(frequency)


def read_panel(y: Any, frequency: Any, missing: str) -> Panel:
    """Series from whatever `RNNForecaster.fit` takes as y; the covariates are left out.

    Raises
    ------
    ValueError, TypeError
        If y is not as described there.
    """
    if y is None:
        raise ValueError("y must be one or several series, got None")
    if is_pandas(y):
        from numrnn.forecasting.frames import is_long, read_frame, read_long

        if is_long(y):
            names, pieces = read_long(y, frequency)
            return _panel(pieces, "long", names, missing)
        return _panel([read_frame(y, frequency, "y")], "one", ["y"], missing)
    if _is_sequence(y) and any(_is_sequence(element) or getattr(element, "ndim", 0) > 0 for element in y):
        pieces = [_read_one(element, frequency, f"series {number} of y") for number, element in enumerate(y)]
        return _panel(pieces, "list", list(range(len(pieces))), missing)
    return _panel([_read_one(y, frequency, "y")], "one", ["y"], missing)


def _is_sequence(data: Any) -> bool:
    return isinstance(data, Sequence) and not isinstance(data, (str, bytes))


def _read_one(y: Any, frequency: Any, what: str) -> tuple[Array, Any]:
    if is_pandas(y):
        from numrnn.forecasting.frames import read_frame

        return read_frame(y, frequency, what)
    values = as_numbers(y, what)
    if values.ndim not in (1, 2):
        raise ValueError(
            f"{what} must be of the shape (n_steps,) or (n_steps, n_targets), got {values.shape}; several series are a "
            "list of arrays"
        )
    if values.ndim == 2 and values.shape[1] == 0:
        raise ValueError(f"{what} has no column, got the shape {values.shape}")
    return values[:, np.newaxis] if values.ndim == 1 else values, ArrayForm(values.ndim == 1, len(values))


def as_numbers(data: Any, what: str) -> Array:
    """An array of float64; the data themselves if they are one."""
    check_readable(data, what)
    try:
        array = np.asarray(data)
        if array.dtype.kind == "c":
            raise ValueError("complex numbers")
        if array.dtype.kind not in "biuf":
            array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{what} must hold real numbers: {error}") from error
    return array.astype(np.float64, copy=False)


def _panel(pieces: list[tuple[Array, Any]], container: str, names: list[Any], missing: str) -> Panel:
    if not pieces:
        raise ValueError("y holds no series")
    n_targets = pieces[0][0].shape[1]
    for name, (values, form) in zip(names, pieces, strict=True):
        what = "y" if container == "one" else f"series {name!r} of y"
        if len(values) == 0:
            raise ValueError(f"{what} has no time step")
        if values.shape[1] != n_targets or form.single_target != pieces[0][1].single_target:
            raise ValueError(f"{what} has {values.shape[1]} targets, but the first series has {n_targets}")
        _check_values(values, form, what, missing)
    lengths = np.array([len(values) for values, _ in pieces], dtype=np.int64)
    return Panel(
        values=pieces[0][0] if len(pieces) == 1 else np.concatenate([values for values, _ in pieces]),
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        forms=[form for _, form in pieces],
        container=container,
        names=names,
        covariates=None,
        before=np.full((len(pieces), n_targets), np.nan),
        n_hidden=np.zeros(len(pieces), dtype=np.int64),
    )


def _check_values(values: Array, form: Any, what: str, missing: str) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(values.sum()):
            return
    bad = np.isinf(values)
    kind = "an infinite value; missing values are NaN"
    if not bad.any() and missing == "raise":
        bad, kind = np.isnan(values), "a missing value (missing='mask' would leave such values out of the loss)"
    if not bad.any():
        return
    row, column = (int(number) for number in np.argwhere(bad)[0])
    stamps = form.times(row - len(values), 1)
    where = f"time step {row}" if stamps is None else f"time step {row} ({stamps[0]})"
    where += f", column {column}" if values.shape[1] > 1 else ""
    raise ValueError(f"{what} contains {kind}: {where}")


def read_static(static: Any, panel: Panel) -> Array | None:
    """Static covariates as (n_series, n_static)."""
    if static is None:
        return None
    if is_pandas(static):
        from numrnn.forecasting.frames import align_static

        static = align_static(static, panel.names if panel.container == "long" else None)
    values = as_numbers(static, "static")
    if values.ndim == 1 and len(panel) == 1:
        values = values[np.newaxis]
    if values.ndim != 2 or len(values) != len(panel) or values.shape[1] == 0:
        raise ValueError(
            f"static must have one row for each of the {len(panel)} series and at least one column, got the shape "
            f"{values.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError("static contains NaN or infinite values; all static covariates must be known")
    return values


def read_covariates(
    X: Any, panel: Panel, *, future: int | None = None, frequency: Any = None
) -> tuple[list[Array], list[Any] | None]:
    """Covariates of every series, and the names of their columns if they have any.

    Parameters
    ----------
    X : array, DataFrame or list of these
        As many rows as y has time steps; of the future at least `future`.
    panel : Panel
        The series that they belong to.
    future : int or None
        None for covariates beside y, else the number of time steps after its end that they must cover.
    frequency : offset or None
        Of the index.
    """
    if is_pandas(X):
        from numrnn.forecasting.frames import is_long, split_long

        if is_long(X):
            if panel.container != "long":
                raise ValueError("X is in long format (unique_id, ds, ...), but y was not")
            pieces = split_long(X, panel.names)
        elif panel.container == "long":
            raise ValueError("y was in long format, so X must have the columns unique_id and ds, too")
        else:
            pieces = [X]
    elif _is_sequence(X) and panel.container == "list":
        pieces = list(X)
    else:
        pieces = [X]
    if len(pieces) != len(panel):
        raise ValueError(f"X must hold covariates for each of the {len(panel)} series, got those of {len(pieces)}")
    arrays: list[Array] = []
    names: list[Any] | None = None
    for number, (piece, form, name) in enumerate(zip(pieces, panel.forms, panel.names, strict=True)):
        what = "X" if len(panel) == 1 else f"X of series {name!r}"
        if is_pandas(piece):
            from numrnn.forecasting.frames import align_covariates

            piece, columns = align_covariates(piece, form, int(panel.lengths[number]), future, frequency, what)
            if names is not None and columns != names:
                raise ValueError(f"{what} has the columns {columns}, but the first series has {names}")
            names = columns
        array = as_numbers(piece, what)
        array = array[:, np.newaxis] if array.ndim == 1 else array
        if array.ndim != 2 or array.shape[1] == 0:
            raise ValueError(f"{what} must be of the shape (n_steps, n_covariates), got {array.shape}")
        if arrays and array.shape[1] != arrays[0].shape[1]:
            raise ValueError(f"{what} has {array.shape[1]} columns, but the first series has {arrays[0].shape[1]}")
        if np.isinf(array).any():
            row, column = (int(position) for position in np.argwhere(np.isinf(array))[0])
            raise ValueError(f"{what} contains an infinite value: row {row}, column {column}")
        if future is None and len(array) != panel.lengths[number]:
            raise ValueError(
                f"{what} must have a row for each of the {panel.lengths[number]} steps of y, got {len(array)}"
            )
        if future is not None and len(array) < future:
            raise ValueError(
                f"{what} is too short: a forecast of {future} steps needs the future covariates of all of them, got "
                f"{len(array)} rows"
            )
        arrays.append(array)
    return arrays, names
