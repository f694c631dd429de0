"""From a table to the time series that `RNNForecaster` takes."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from numrnn.commands.arguments import tell
from numrnn.commands.tables import Table, import_pandas, pluralize

__all__ = ["Series", "add_series", "format_times", "read_series"]

# Columns that are taken for the time if nothing else is said, in any case of their letters.
_NAMES_OF_TIME = ("time", "timestamp", "datetime", "date", "ds")
_PARTS_OF_TIME = ("year", "month", "day", "hour", "minute", "second")


@dataclass
class Series:
    """What a table says of the past, and what it knows of the future.

    Attributes
    ----------
    y : Series, or DataFrame in long format
    X : DataFrame or None
        Covariates of the rows of y.
    future : DataFrame or None
        Known covariates of the time steps after them.
    time : str
        What the index is called in results.
    """

    y: Any
    X: Any
    future: Any
    time: str


def add_series(parser: argparse.ArgumentParser) -> None:
    """Which columns are the series, and when it was."""
    parser.add_argument(
        "--time",
        nargs="+",
        metavar="COL",
        help="the time stamps, in one column or as year, month, day, hour, ... (default: columns of such names, or a "
        "first column of dates; else rows are time steps)",
    )
    parser.add_argument("--no-time", action="store_true", help="rows are time steps, whatever the columns are called")
    parser.add_argument(
        "--time-format", metavar="F", help="of the time stamps, such as %%d.%%m.%%Y (default: ISO 8601)"
    )
    parser.add_argument(
        "--id", metavar="COL", help="several series, one below the other: the name of each row's series"
    )


def read_series(
    table: Table,
    chosen: argparse.Namespace,
    *,
    column: str,
    covariates: Sequence[str],
    known: Sequence[str],
    time: Sequence[str] | None,
) -> Series:
    """The series in a table.

    Parameters
    ----------
    table : Table
    chosen : Namespace
        With the arguments of `add_series`.
    column : str
        What is forecast.
    covariates : sequence of str
        Columns that are read beside it.
    known : sequence of str
        Those of them that are known for the future. Rows at the end in which `column` is empty are the future.
    time : sequence of str or None
        Columns of the time; None looks for them.

    Returns
    -------
    Series

    Raises
    ------
    ValueError
        If a column is not there or not what was expected; the message says where.
    ImportError
        If pandas is not installed.
    """
    pandas = import_pandas("reading time series from tables")
    values = table.numbers(column)
    if np.isnan(values).all():
        raise ValueError(f"{table.name}: the column {column!r} is empty in all rows")
    names = [table.texts(chosen.id)] if chosen.id else []
    beside = {name: table.numbers(name) for name in covariates}
    if chosen.no_time:
        time = []
    elif time is None:
        time = _find_time(table, {column, *covariates, *([chosen.id] if chosen.id else [])})
    index = _read_time(table, list(time), chosen.time_format, pandas)
    if not time and chosen.id:  # every series counts its own rows
        index = pandas.Series(names[0]).groupby(names[0], sort=False).cumcount().to_numpy() + 1
    label = time[0] if len(time) == 1 else ("time" if time else "row")
    if time:
        _check_order(table, index, names[0] if chosen.id else None, chosen.frequency, pandas)

    past = ~np.isnan(values) if known else np.ones(len(table), dtype=np.bool_)
    if not chosen.id:
        # Up to the last observation; what is empty before it is missing.
        past[: np.flatnonzero(past)[-1] + 1] = True
        index = pandas.Index(index, name=label)
        y = pandas.Series(values[past], index[past], name=column)
        X = pandas.DataFrame(beside, index=index)
    else:
        for name in dict.fromkeys(names[0]):
            rows = np.flatnonzero(np.array(names[0]) == name)
            seen = np.flatnonzero(past[rows])
            past[rows[: seen[-1] + 1 if len(seen) else 0]] = True
        columns = {"unique_id": names[0], "ds": index}
        y = pandas.DataFrame({**columns, "y": values})[past]
        X = pandas.DataFrame({**columns, **beside})
    future = None
    if known:
        keep = [*(["unique_id", "ds"] if chosen.id else []), *known]
        future = X.loc[~past, keep]
    n_missing = int(np.isnan(values[past]).sum())
    span = ""
    if time and not chosen.id:
        span = ", {} to {}".format(*format_times([index[past][0], index[past][-1]]))
    series = f" in {pluralize(len(set(names[0])), 'series').replace('seriess', 'series')}" if chosen.id else ""
    missing = f"; {n_missing:,} of them empty" if n_missing else ""
    tell(chosen, f"{pluralize(int(past.sum()), 'time step')} of {column!r}{series}{span}{missing}")
    return Series(y, X[past] if covariates else None, future, label)


def _check_order(table: Table, index: Any, names: list[str] | None, frequency: str | None, pandas: Any) -> None:
    """Times must follow one another in equal steps, unless a frequency says which of them are not there.

    The forecaster looks at this, too, but knows no rows.
    """
    # Not before there is pandas.
    from numrnn.forecasting.frames import infer_frequency

    series = np.zeros(len(index), dtype=np.int64) if names is None else pandas.factorize(np.array(names))[0]
    for number in range(series.max() + 1):
        rows = np.flatnonzero(series == number)
        times = index[rows]
        whose = "" if names is None else f" of {names[rows[0]]!r}"
        steps = times[1:] - times[:-1]
        wrong = np.flatnonzero(np.asarray(times[1:] <= times[:-1]))
        if len(wrong):
            row, before = int(rows[wrong[0] + 1]), int(rows[wrong[0]])
            now, last = format_times([index[row], index[before]])
            what = "is there twice" if now == last else f"comes after {last}"
            raise ValueError(
                f"{table.name}: the time {now}{whose} in {table.place(row)} {what}; rows must be in the order of time"
            )
        regular = len(times) < 3 or (steps == steps[0]).all()
        if frequency is None and not regular and (not hasattr(times, "freq") or infer_frequency(times) is None):
            usual = pandas.Series(steps).mode().iloc[0]
            first = int(np.argmax(np.asarray(steps != usual)))
            row = int(rows[first + 1])
            now, last = format_times([index[row], index[rows[first]]])
            advice = "--no-time rows for time steps"
            if not isinstance(usual, Integral):
                name = _frequency_name(usual, pandas)
                advice = f"--frequency {name} takes what is not there as missing, {advice}"
            raise ValueError(
                f"{table.name}: the times{whose} have a gap: {now} in {table.place(row)} follows {last}, but most "
                f"steps are {str(usual).removesuffix(' 00:00:00')}. {advice}"
            )


def _frequency_name(step: Any, pandas: Any) -> str:
    """The name of a step between two times; days are days, which newer versions of pandas would count in hours."""
    day = pandas.Timedelta(days=1)
    if isinstance(step, pandas.Timedelta) and not step % day:
        step = f"{step // day}D"
    return str(pandas.tseries.frequencies.to_offset(step).freqstr)


def format_times(times: Iterable[Any]) -> list[Any]:
    """Times as ISO 8601 writes them, without the hours if all are midnight; whole numbers as they are."""
    everything = list(times)
    if not all(hasattr(time, "isoformat") for time in everything):
        return [int(time) for time in everything]
    texts = [time.isoformat(sep=" ") for time in everything]
    midnight = " 00:00:00"
    return [text.removesuffix(midnight) for text in texts] if all(midnight in text for text in texts) else texts


def _find_time(table: Table, taken: set[str]) -> list[str]:
    by_name = {name.lower(): name for name in table.columns if name not in taken}
    if "year" in by_name and "month" in by_name:
        return [by_name[part] for part in _PARTS_OF_TIME if part in by_name]
    for name in _NAMES_OF_TIME:
        if name in by_name:
            return [by_name[name]]
    first = next(iter(table.columns))
    return [first] if first not in taken and not table.is_numeric(first) else []


def _read_time(table: Table, names: list[str], time_format: str | None, pandas: Any) -> Any:
    """Times or whole numbers, one for each row; the rows' numbers if there is no column of time."""
    if not names:
        return np.arange(1, len(table) + 1)
    if len(names) > 1:
        return _from_parts(table, names, pandas)
    (name,) = names
    cells = table.column(name)
    missing = table.is_missing(name)
    if missing.any():
        raise ValueError(f"{table.name}: the time {name!r} is empty in {table.place(int(np.argmax(missing)))}")
    if isinstance(cells, np.ndarray) and cells.dtype.kind == "M":
        return pandas.DatetimeIndex(cells)
    if time_format is None and table.is_numeric(name):
        numbers = table.numbers(name)
        whole = np.rint(numbers)
        if (whole != numbers).any():
            row = int(np.argmax(whole != numbers))
            raise ValueError(
                f"{table.name}: the time {name!r} is {cells[row]} in {table.place(row)}; times are dates or whole "
                "numbers. --no-time takes rows for time steps"
            )
        return whole.astype(np.int64)
    texts = [str(cell).strip() for cell in cells]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        times = pandas.to_datetime(pandas.Series(texts), format=time_format or "ISO8601", errors="coerce")
    wrong = times.isna().to_numpy()
    if wrong.any():
        row = int(np.argmax(wrong))
        expected = (
            f"in the format {time_format}" if time_format else "as in ISO 8601, such as 2024-12-31 or 2024-12-31 23:00"
        )
        raise ValueError(
            f"{table.name}: the time {name!r} is {cells[row]!r} in {table.place(row)}, where a time was expected "
            f"{expected}. --time-format says what it looks like, --no-time takes rows for time steps"
        )
    return pandas.DatetimeIndex(times)


def _from_parts(table: Table, names: list[str], pandas: Any) -> Any:
    unknown = [name for name in names if name.lower() not in _PARTS_OF_TIME]
    if unknown:
        raise ValueError(
            f"--time {' '.join(names)}: the parts of a time are columns called {', '.join(_PARTS_OF_TIME)}, got "
            f"{unknown[0]!r}"
        )
    parts = {name.lower(): table.complete_numbers(name) for name in names}
    if not {"year", "month"} <= parts.keys():
        raise ValueError(f"--time {' '.join(names)}: a time needs at least the columns year and month")
    parts.setdefault("day", np.ones(len(table)))
    times = pandas.to_datetime(pandas.DataFrame(parts), errors="coerce")
    wrong = times.isna().to_numpy()
    if wrong.any():
        row = int(np.argmax(wrong))
        text = ", ".join(f"{name} {parts[name.lower()][row]:g}" for name in names)
        raise ValueError(f"{table.name}: {text} in {table.place(row)} is not a time")
    return pandas.DatetimeIndex(times)
