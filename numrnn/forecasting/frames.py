"""Series and DataFrames of pandas: the one place that knows it. It is imported when such data are given."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numrnn.forecasting.series import as_numbers

__all__ = [
    "FrameForm",
    "align_covariates",
    "align_static",
    "infer_frequency",
    "is_long",
    "named",
    "parse_frequency",
    "read_frame",
    "read_long",
    "split_long",
    "to_frame",
    "to_long",
    "to_long_beside",
]

ID, TIME, TARGET = "unique_id", "ds", "y"
Array = NDArray[np.float64]


@dataclass(frozen=True)
class FrameForm:
    """A Series or DataFrame with a regular index; `last` is its last label, `step` leads from one to the next."""

    single_target: bool
    columns: Any
    index_name: Any
    last: Any
    step: Any

    def index(self, n_steps: int, first: int = 0) -> Any:
        """Labels of `n_steps` steps from number `first` on; number 0 is the one that follows the series."""
        if isinstance(self.step, int):
            begin = self.last + (first + 1) * self.step
            return pd.RangeIndex(begin, begin + n_steps * self.step, self.step, name=self.index_name)
        if isinstance(self.last, pd.Period):
            return pd.period_range(self.last + (first + 1), periods=n_steps, freq=self.last.freq, name=self.index_name)
        begin = self.last + (first + 1) * self.step
        return pd.date_range(begin, periods=n_steps, freq=self.step, name=self.index_name)

    def point(self, values: Array) -> Any:
        index = self.index(len(values))
        if self.single_target:
            return pd.Series(values[:, 0], index=index, name=self.columns)
        return pd.DataFrame(values, index=index, columns=self.columns)

    def table(self, values: Array, labels: Sequence[Any]) -> Any:
        index = self.index(len(values))
        if self.single_target:
            return pd.DataFrame(values[:, 0], index=index, columns=list(labels))
        columns = pd.MultiIndex.from_product([self.columns, list(labels)])
        return pd.DataFrame(values.reshape(len(values), -1), index=index, columns=columns)

    def beside(self, values: NDArray, name: str) -> Any:
        return pd.Series(values, index=self.index(len(values), -len(values)), name=name)

    def times(self, first: int, n_steps: int) -> NDArray[np.datetime64] | None:
        if isinstance(self.step, int):
            return None
        index = self.index(n_steps, first)
        if isinstance(index, pd.PeriodIndex):
            index = index.to_timestamp()
        elif index.tz is not None:  # features of the calendar are those of the clock on the wall
            index = index.tz_localize(None)
        return index.to_numpy(dtype="datetime64[ns]")

    def plain(self) -> dict[str, Any]:
        """This form in numbers, strings, lists and tuples."""
        last: Any = self.last
        if isinstance(last, pd.Period):
            last = ("period", str(last), last.freqstr)
        elif isinstance(last, pd.Timestamp):
            last = ("time", last.as_unit("ns").value, None if last.tz is None else str(last.tz), last.unit)
        else:
            last = int(last)
        columns = self.columns if self.single_target else list(self.columns)
        step = self.step if isinstance(self.step, int) else self.step.freqstr
        return {"kind": "pandas", "single_target": self.single_target, "columns": columns,
                "index_name": self.index_name, "last": last, "step": step}  # fmt: skip

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> FrameForm:
        """The form that `plain` was made of."""
        last, step = plain["last"], plain["step"]
        if isinstance(last, tuple) and last[0] == "period":
            last = pd.Period(last[1], freq=last[2])
        elif isinstance(last, tuple):
            _, nanoseconds, zone, unit = last
            last = pd.Timestamp(int(nanoseconds), unit="ns", tz="UTC").as_unit(unit).tz_convert(zone)
        if isinstance(step, str):
            step = last.freq if isinstance(last, pd.Period) else parse_frequency(step)
        single = bool(plain["single_target"])
        columns = plain["columns"] if single else pd.Index(plain["columns"])
        return cls(single, columns, plain["index_name"], last, step)

    def follow(self, other: Any, n_steps: int, what: str) -> FrameForm:
        if not isinstance(other, FrameForm):  # arrays: by position
            return replace(self, last=self.index(n_steps)[-1])
        begin, expected = other.index(1, -n_steps)[0], self.index(1)[0]
        if n_steps > 1 and type(other.last) is not type(self.last):
            raise ValueError(f"{what} must go on with the same kind of index, got {other.last!r} after {self.last!r}")
        if begin != expected:
            raise ValueError(f"{what} must go on where the series ended: expected {expected} next, got {begin}")
        return replace(self, last=other.last)

    def check_future(self, X: Any, what: str) -> None:
        index = X.index
        if isinstance(index, pd.RangeIndex) and not isinstance(self.step, int):
            return  # no index of its own: by position
        wanted = self.index(len(index))
        if not index.equals(wanted):
            different = int(np.argmax(np.asarray(index != wanted)))
            raise ValueError(
                f"{what} must begin right after the series and go on without gaps: expected {wanted[different]} at row "
                f"{different}, got {index[different]}"
            )


# ------------------------------------------------------------------------------------------------------------ indexes
def parse_frequency(frequency: Any) -> Any:
    try:
        return pd.tseries.frequencies.to_offset(frequency)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"frequency must be one that pandas knows, such as 'h', 'D' or 'MS', got {frequency!r}"
        ) from error


def _check_order(index: Any, what: str) -> None:
    if index.hasnans:
        raise ValueError(f"the index of {what} has a missing label at row {int(np.argmax(index.isna()))}")
    if not index.is_unique:
        raise ValueError(f"the index of {what} has duplicate labels: {index[index.duplicated()][0]} is there twice")
    if not index.is_monotonic_increasing:
        values = index.asi8 if hasattr(index, "asi8") else np.asarray(index)
        row = int(np.argmax(np.diff(values) < 0)) + 1
        raise ValueError(f"the index of {what} is not sorted: {index[row]} (row {row}) comes after {index[row - 1]}")


def _steps(index: Any, frequency: Any, what: str) -> tuple[Any, Any]:
    """The step of an index, and the index without gaps."""
    if not (isinstance(index, (pd.DatetimeIndex, pd.PeriodIndex)) or pd.api.types.is_integer_dtype(index.dtype)):
        raise TypeError(
            f"the index of {what} must be a DatetimeIndex, a PeriodIndex or integers, got {type(index).__name__} of "
            f"{index.dtype}"
        )
    _check_order(index, what)
    if isinstance(index, pd.PeriodIndex):
        full = pd.period_range(index[0], index[-1], freq=index.freq)
        if len(full) != len(index) and frequency is None:
            gap = full[~full.isin(index)][0]
            raise ValueError(
                f"the index of {what} has gaps: {gap} is not there. Give frequency={index.freqstr!r} to take what is "
                "not "
                "there as missing"
            )
        return index.freq, full
    if isinstance(index, pd.DatetimeIndex):
        return _datetime_steps(index, frequency, what)
    differences = np.diff(np.asarray(index))
    step = int(differences[0]) if len(differences) else 1
    if (differences != step).any():
        row = int(np.argmax(differences != step))
        raise ValueError(f"the index of {what} has irregular steps: {index[row]} is followed by {index[row + 1]}")
    return step, index


def infer_frequency(index: Any) -> Any:
    """The frequency of time stamps, a string or an offset; None if they have none, or are fewer than three."""
    if len(index) < 3:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the type that later versions of pandas return: both will do
        return pd.infer_freq(index)


def _datetime_steps(index: Any, frequency: Any, what: str) -> tuple[Any, Any]:
    if frequency is not None:
        full = pd.date_range(index[0], index[-1], freq=frequency)
        outside = ~index.isin(full)
        if outside.any():
            raise ValueError(
                f"the index of {what} does not fit the frequency {frequency.freqstr!r}: {index[outside][0]} is not a "
                "multiple "
                f"of it after {index[0]}"
            )
        return frequency, full
    if index.freq is not None:
        return index.freq, index
    inferred = infer_frequency(index)
    if inferred is not None:
        return pd.tseries.frequencies.to_offset(inferred), index
    if len(index) < 3:
        raise ValueError(f"{what} has too few time stamps to infer their frequency, {len(index)}; give frequency")
    differences = index[1:] - index[:-1]
    usual = differences.value_counts().index[0]
    row = int(np.argmax(differences != usual))
    raise ValueError(
        f"the index of {what} has irregular steps: most are {usual}, but {index[row]} is followed by "
        f"{index[row + 1]}. Give "
        "frequency to take what is not there as missing"
    )


# ------------------------------------------------------------------------------------------------------------ reading
def read_frame(y: Any, frequency: Any, what: str) -> tuple[Array, FrameForm]:
    """Values (n_steps, n_targets) and form of a Series or of a wide DataFrame."""
    single = y.ndim == 1
    if not single and not y.columns.is_unique:
        raise ValueError(f"{what} has two columns of the name {y.columns[y.columns.duplicated()][0]!r}")
    if not single and y.shape[1] == 0:
        raise ValueError(f"{what} has no column; expected one for each target")
    if len(y) == 0:
        raise ValueError(f"{what} has no time step")
    step, full = _steps(y.index, frequency, what)
    values = _numbers(y, what)
    if len(full) != len(y):
        filled = np.full((len(full), values.shape[1]), np.nan)
        filled[full.get_indexer(y.index)] = values
        values = filled
    return values, FrameForm(single, y.name if single else y.columns, y.index.name, full[-1], step)


def _numbers(y: Any, what: str) -> Array:
    """A Series or DataFrame as float64 (n_rows, n_columns); the missing values of any column type are NaN."""
    if y.ndim == 1:
        y = y.to_frame()
    if all(dtype.kind in "biuf" for dtype in y.dtypes if isinstance(dtype, np.dtype)) and not any(
        isinstance(dtype, pd.api.extensions.ExtensionDtype) for dtype in y.dtypes
    ):
        return as_numbers(y.to_numpy(), what)
    for column in y.columns:
        if not (pd.api.types.is_numeric_dtype(y[column].dtype) or pd.api.types.is_bool_dtype(y[column].dtype)):
            raise ValueError(
                f"{what} must hold real numbers, but the column {column!r} is of type {y[column].dtype}; "
                "pandas.to_numeric converts text"
            )
    return y.to_numpy(dtype=np.float64, na_value=np.nan)


def is_long(data: Any) -> bool:
    return data.ndim == 2 and ID in data.columns and TIME in data.columns


def read_long(y: Any, frequency: Any) -> tuple[list[Any], list[tuple[Array, FrameForm]]]:
    """Names of the series in the order of their first rows, and the values and form of each."""
    if TARGET not in y.columns:
        raise ValueError(f"y is in long format, but has no column {TARGET!r}; its columns are {list(y.columns)}")
    extra = [column for column in y.columns if column not in (ID, TIME, TARGET)]
    if extra:
        raise ValueError(
            f"y in long format has the columns {ID}, {TIME} and {TARGET} only, got also {extra}: give them as X"
        )
    if y[ID].isna().any():
        raise ValueError(f"y has a missing {ID} at row {int(np.argmax(y[ID].isna().to_numpy()))}")
    names, pieces = [], []
    for name, rows in y.groupby(ID, sort=False, observed=True):
        names.append(name)
        pieces.append(read_frame(rows.set_index(TIME)[TARGET], frequency, f"series {name!r} of y"))
    steps = {form.step for _, form in pieces}
    if len(steps) > 1:
        other = next(name for name, (_, form) in zip(names, pieces, strict=True) if form.step != pieces[0][1].step)
        raise ValueError(
            f"all series must have one frequency, but {names[0]!r} has {pieces[0][1].step} and {other!r} another; "
            "give frequency"
        )
    return names, pieces


def split_long(X: Any, names: list[Any]) -> list[Any]:
    """Covariates in long format, one DataFrame for each series."""
    groups = dict(list(X.groupby(ID, sort=False, observed=True)))
    absent = [name for name in names if name not in groups]
    if absent:
        raise ValueError(f"X has no rows for series {absent[0]!r}")
    return [groups[name].drop(columns=ID).set_index(TIME).drop(columns=TARGET, errors="ignore") for name in names]


def align_covariates(
    X: Any, form: Any, length: int, future: int | None, frequency: Any, what: str
) -> tuple[Array, list[Any]]:
    """Covariates in the order of the time steps of y, or of those that follow it, and the names of the columns."""
    if X.ndim == 1:
        X = X.to_frame(name=X.name)
    columns = list(X.columns)
    values = _numbers(X, what)
    if not isinstance(form, FrameForm) or (isinstance(X.index, pd.RangeIndex) and not isinstance(form.step, int)):
        return values, columns  # by position
    _check_order(X.index, what)
    if future is not None:
        form.check_future(X, what)
        return values, columns
    wanted = form.index(length, -length)
    if X.index.equals(wanted):
        return values, columns
    places = X.index.get_indexer(wanted)
    if (places < 0).any() and frequency is None:
        raise ValueError(f"{what} must have the index of y, but has no row for {wanted[places < 0][0]}")
    aligned = values[places]
    aligned[places < 0] = np.nan
    return aligned, columns


def align_static(static: Any, names: list[Any] | None) -> Array:
    """Static covariates in the order of the series, by the index or the column unique_id."""
    if static.ndim == 2 and ID in static.columns:
        static = static.set_index(ID)
    if names is not None:
        absent = [name for name in names if name not in static.index]
        if absent:
            raise ValueError(f"static has no row for series {absent[0]!r}")
        static = static.loc[names]
    return _numbers(static, "static")


def to_long(forms: Sequence[Any], names: Sequence[Any], arrays: Sequence[Array], labels: Sequence[Any] | None) -> Any:
    """Results of several series in long format."""
    frames = []
    for form, name, array in zip(forms, names, arrays, strict=True):
        index = form.index(len(array))
        columns = {TARGET: array[:, 0]} if labels is None else {label: array[:, 0, j] for j, label in enumerate(labels)}
        frames.append(pd.DataFrame({ID: [name] * len(array), TIME: index, **columns}))
    return pd.concat(frames, ignore_index=True)


def to_long_beside(forms: Sequence[Any], names: Sequence[Any], arrays: Sequence[NDArray], column: str) -> Any:
    """A value for each time step of several series, in long format."""
    frames = [
        pd.DataFrame({ID: [name] * len(array), TIME: form.index(len(array), -len(array)), column: array})
        for form, name, array in zip(forms, names, arrays, strict=True)
    ]
    return pd.concat(frames, ignore_index=True)


def named(values: NDArray, names: Sequence[Any], name: str) -> Any:
    """A value for each of several series."""
    return pd.Series(values, index=pd.Index(names, name=ID), name=name)


def to_frame(columns: dict[str, Any], index: Any, index_name: str) -> Any:
    """A DataFrame of named columns."""
    return pd.DataFrame(columns, index=pd.Index(index, name=index_name))
