"""From a table to sequences, each of which is a sample.

=======  ===============================================================================================
form     a table
=======  ===============================================================================================
wide     without ``--id``: every row is a sequence of one feature, its columns are the time steps; where
         the cells of a row end before the columns do, so does the sequence
long     with ``--id``: every row is a time step, its columns are the features; the rows of one name are
         one sequence, in the order in which they stand, or of ``--time``
=======  ===============================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.commands.tables import Table

__all__ = ["Samples", "read_samples", "read_targets"]


@dataclass
class Samples:
    """Sequences and where they come from.

    Attributes
    ----------
    X : list of ndarray (n_timesteps_i, n_features), ndarray (n_samples, n_timesteps), or list of lists of str
        The second for a table in wide form whose sequences all have one length, the third for words.
    names : list of str or int
        Of the sequences: those in the column of names, or the numbers of the rows, from 1.
    features : list of str
        The columns: features in long form, time steps in wide form.
    rows : list of ndarray of int64
        The rows of the table that each sequence comes from, in its order.
    """

    X: Any
    names: list[Any]
    features: list[str]
    rows: list[NDArray[np.int64]]


def read_samples(
    table: Table,
    *,
    id: str | None,
    time: str | None,
    features: Sequence[str] | None,
    apart: Sequence[str] = (),
    words: bool | None = False,
) -> Samples:
    """The sequences in a table.

    Parameters
    ----------
    table : Table
    id : str or None
        The column of names in long form; None is wide form.
    time : str or None
        The column that orders the rows of a sequence.
    features : sequence of str or None
        Which columns; None is all that have no other meaning.
    apart : sequence of str
        Columns that are no features, such as the target.
    words : bool or None
        Whether the one column of features holds words. None: if it is a single one in long form, and no numbers.

    Raises
    ------
    ValueError
        If a column is not there, or a cell not a number; the message says where.
    """
    for name in (id, time, *apart):
        if name is not None:
            table.column(name)
    if time is not None and id is None:
        raise ValueError("--time orders the rows of a sequence, which --id must name; without it a row is a sequence")
    taken = {name for name in (id, time, *apart) if name is not None}
    columns = [name for name in table.columns if name not in taken] if features is None else list(features)
    both = [name for name in columns if name in taken]
    if both:
        raise ValueError(f"the column {both[0]!r} cannot be a feature: it is the name, the time or the target")
    if not columns:
        raise ValueError(f"{table.name} has no column left for the features")
    if id is None:
        return _wide(table, columns)
    if words is None:
        words = len(columns) == 1 and not table.is_numeric(columns[0])
    if words and len(columns) > 1:
        raise ValueError(f"words are in one column, got {len(columns)}: {', '.join(columns)}; --features says which")
    return _long(table, columns, id, time, words)


def _wide(table: Table, columns: list[str]) -> Samples:
    values = np.stack([table.numbers(name) for name in columns], axis=1)
    missing = np.isnan(values)
    lengths = len(columns) - np.argmin(missing[:, ::-1], axis=1)
    lengths[missing.all(axis=1)] = 0
    for row, length in enumerate(lengths):
        if length == 0:
            raise ValueError(f"{table.name}: {table.place(row)} has no value at all")
        if missing[row, :length].any():
            column = columns[int(np.argmax(missing[row]))]
            raise ValueError(
                f"{table.name}: the column {column!r} is empty in {table.place(row)}, but later columns are not; only "
                "the end of a sequence may be"
            )
    rows = [np.array([row]) for row in range(len(table))]
    names: list[Any] = list(range(1, len(table) + 1))
    if (lengths == len(columns)).all():
        return Samples(values, names, columns, rows)
    X = [sequence[:length, np.newaxis] for sequence, length in zip(values, lengths, strict=True)]
    return Samples(X, names, columns, rows)


def _long(table: Table, columns: list[str], id: str, time: str | None, words: bool) -> Samples:
    values = None if words else np.stack([table.complete_numbers(name) for name in columns], axis=1)
    groups: dict[str, list[int]] = {}
    for row, name in enumerate(table.texts(id)):
        groups.setdefault(name, []).append(row)
    rows = [np.array(group) for group in groups.values()]
    if time is not None:
        order = _order(table, time)
        rows = [group[np.argsort(order[group], kind="stable")] for group in rows]
        for name, group in zip(groups, rows, strict=True):
            twice = np.flatnonzero(order[group][1:] == order[group][:-1])
            if len(twice):
                first, second = group[twice[0]], group[twice[0] + 1]
                raise ValueError(
                    f"{table.name}: {table.place(first)} and {table.place(second)} of {name!r} have the same time"
                )
    X: list[Any]
    if values is None:
        texts = table.texts(columns[0])
        X = [[texts[row] for row in group] for group in rows]
    else:
        X = [values[group] for group in rows]
    return Samples(X, list(groups), columns, rows)


def _order(table: Table, time: str) -> Any:
    """Something that sorts as the times do: numbers, or times as ISO 8601 writes them."""
    cells = table.column(time)
    if isinstance(cells, np.ndarray) and cells.dtype.kind == "M":
        return cells
    if table.is_numeric(time):
        return table.complete_numbers(time)
    texts = table.texts(time)
    try:
        return np.array([np.datetime64(text.removesuffix("Z")) for text in texts], dtype="datetime64[ns]")
    except ValueError:
        for row, text in enumerate(texts):
            try:
                np.datetime64(text.removesuffix("Z"))
            except ValueError:
                raise ValueError(
                    f"{table.name}: the time {time!r} is {text!r} in {table.place(row)}; numbers and ISO 8601 "
                    "(2024-12-31 23:00) can be sorted"
                ) from None
        raise


def read_targets(
    table: Table, samples: Samples, target: str, task: str | None, *, per_step: bool = False
) -> tuple[str, Any]:
    """What is to be predicted of every sequence or time step, and whether that is a class or a number.

    Parameters
    ----------
    table : Table
    samples : Samples
    target : str
        The column.
    task : {"classification", "regression"} or None
        None is "regression" for a column of numbers that are not all whole, else "classification".
    per_step : bool, default=False
        Whether every row has a target of its own. Else all rows of a sequence have the same.

    Returns
    -------
    task : str
    y : ndarray of shape (n_samples,), or list of ndarray of shape (n_timesteps_i,)

    Raises
    ------
    ValueError
        If a cell is empty, no number though it must be one, or the rows of a sequence differ though they must not.
    """
    numeric = table.is_numeric(target)
    whole = numeric and bool((np.rint(table.complete_numbers(target)) == table.complete_numbers(target)).all())
    if task is None:
        task = "classification" if whole or not numeric else "regression"
    cells: NDArray[Any]
    if task == "regression":
        cells = table.complete_numbers(target)
    elif whole:
        cells = table.complete_numbers(target).astype(np.int64)
    else:
        cells = np.array(table.texts(target))
    if per_step:
        return task, [cells[rows] for rows in samples.rows]
    for name, rows in zip(samples.names, samples.rows, strict=True):
        other = np.flatnonzero(cells[rows] != cells[rows[0]])
        if len(other):
            row = int(rows[other[0]])
            raise ValueError(
                f"{table.name}: the target {target!r} of {name!r} is {cells[rows[0]]} in {table.place(int(rows[0]))}, "
                f"but {cells[row]} in {table.place(row)}; a sequence has one target, unless --per-step says that every "
                "row has its own"
            )
    return task, cells[np.array([rows[0] for rows in samples.rows])]
