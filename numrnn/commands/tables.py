"""Tables in files: CSV by the standard library, Parquet by pyarrow; and results as CSV or JSON.

What is wrong with a table is said with the place where it is. Cells become numbers, texts or times only when a command
asks for a column, so that a column nobody asks for may hold anything.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Table", "import_pandas", "pluralize", "read_table", "write_csv", "write_json"]

# What stands in an empty cell of a column of numbers, in any case of its letters.
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-nan", "#n/a", "<na>"})
_SEPARATORS = ",;\t|"
_CSV = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz")
_PARQUET = (".parquet", ".pq")


def import_pandas(why: str) -> Any:
    """The module.

    Raises
    ------
    ImportError
        If it is not installed; the message says how to install it.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError(f'{why} needs pandas, which is not installed: pip install "numrnn[tables]"') from error
    return pandas


def pluralize(count: int, noun: str) -> str:
    """A number and the thing that is counted: 1 row, 1,024 rows."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


class Table:
    """Columns of one length with names.

    Parameters
    ----------
    name : str
        What messages call the table.
    columns : dict of str to list or ndarray
        Texts as they stand in a CSV file, or arrays of a Parquet file.
    lines : sequence of int or None, default=None
        The line of the file in which each row ends, if it has lines.
    """

    def __init__(self, name: str, columns: dict[str, Any], lines: Sequence[int] | None = None) -> None:
        self.name = name
        self.columns = columns
        self._lines = lines

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def place(self, row: int) -> str:
        """Where a row is, as people count."""
        return f"row {row + 1}" + ("" if self._lines is None else f" (line {self._lines[row]})")

    def column(self, name: str) -> Any:
        """The cells of a column as they are.

        Raises
        ------
        ValueError
            If there is no such column.
        """
        if name not in self.columns:
            near = difflib.get_close_matches(name, self.columns, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"{self.name} has no column {name!r}; {hint}Its columns are: {', '.join(self.columns)}")
        return self.columns[name]

    def is_missing(self, name: str) -> NDArray[np.bool_]:
        """Which cells of a column are empty."""
        cells = self.column(name)
        if isinstance(cells, np.ndarray) and cells.dtype.kind == "f":
            return np.isnan(cells)
        if isinstance(cells, np.ndarray) and cells.dtype.kind in "mM":
            return np.isnat(cells)
        if isinstance(cells, np.ndarray) and cells.dtype.kind in "biu":
            return np.zeros(len(cells), dtype=np.bool_)
        return np.array([cell is None or str(cell).strip().lower() in MISSING for cell in cells], dtype=np.bool_)

    def is_numeric(self, name: str) -> bool:
        """Whether all cells that are not empty are numbers."""
        cells = self.column(name)
        if isinstance(cells, np.ndarray) and cells.dtype.kind in "biuf":
            return True
        if isinstance(cells, np.ndarray) and cells.dtype.kind in "mM":
            return False
        return all(_is_number(cell) for cell, empty in zip(cells, self.is_missing(name), strict=True) if not empty)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A column of numbers, with NaN for empty cells.

        Raises
        ------
        ValueError
            If there is no such column, or a cell of it is not a finite number.
        """
        cells = self.column(name)
        if isinstance(cells, np.ndarray) and cells.dtype.kind in "biuf":
            numbers = cells.astype(np.float64)
        else:
            if isinstance(cells, np.ndarray) and cells.dtype.kind in "mM":
                raise ValueError(f"{self.name}: the column {name!r} holds times, where numbers were expected")
            missing = self.is_missing(name)
            try:
                numbers = np.array(
                    [math.nan if empty else float(cell) for cell, empty in zip(cells, missing, strict=True)]
                )
            except (TypeError, ValueError):
                row = next(
                    row
                    for row, (cell, empty) in enumerate(zip(cells, missing, strict=True))
                    if not empty and not _is_number(cell)
                )
                raise ValueError(
                    f"{self.name}: the column {name!r} has {cells[row]!r} in {self.place(row)}, where a number was "
                    "expected"
                ) from None
        if np.isinf(numbers).any():
            row = int(np.argmax(np.isinf(numbers)))
            raise ValueError(f"{self.name}: the column {name!r} is infinite in {self.place(row)}")
        return numbers

    def complete_numbers(self, name: str) -> NDArray[np.float64]:
        """A column of numbers without an empty cell.

        Raises
        ------
        ValueError
            As `numbers`, and if a cell is empty.
        """
        numbers = self.numbers(name)
        self._refuse_missing(name, np.isnan(numbers))
        return numbers

    def texts(self, name: str) -> list[str]:
        """A column of texts without an empty one. "NA" and "none" are texts like others.

        Raises
        ------
        ValueError
            If there is no such column, or a cell is empty.
        """
        cells = self.column(name)
        texts = ["" if cell is None or cell != cell else str(cell).strip() for cell in cells]
        self._refuse_missing(name, np.array([not text for text in texts]))
        return texts

    def _refuse_missing(self, name: str, missing: NDArray[np.bool_]) -> None:
        if missing.any():
            raise ValueError(f"{self.name}: the column {name!r} is empty in {self.place(int(np.argmax(missing)))}")


def _is_number(cell: Any) -> bool:
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return True


# ------------------------------------------------------------------------------------------------------------ reading
def read_table(path: str, separator: str | None = None) -> Table:
    """The table in a file.

    Parameters
    ----------
    path : str
        A name that ends in .csv, .tsv or .txt, also with .gz behind it, or in .parquet or .pq; or "-" for CSV from the
        standard input.
    separator : str or None, default=None
        Between the cells of a CSV file. None takes that of comma, semicolon, tab and bar which the first line has most
        of.

    Returns
    -------
    Table

    Raises
    ------
    ValueError
        If the file is not a table, or its name has another ending.
    OSError
        If it cannot be read.
    ImportError
        If it is a Parquet file and pyarrow is not installed.
    """
    if path == "-":
        return _read_csv(io.StringIO(sys.stdin.read(), newline=""), "the standard input", separator)
    lowered = path.lower()
    if lowered.endswith(_PARQUET):
        return _read_parquet(path)
    if not lowered.endswith(_CSV):
        raise ValueError(
            f"{path!r} has an ending that is not known: tables are read from {', '.join((*_CSV, *_PARQUET))}"
        )
    with open(path, "rb") as raw:
        stream: Any = gzip.GzipFile(fileobj=raw) if lowered.endswith(".gz") else raw
        try:
            with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
                return _read_csv(text, repr(path), separator)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path!r} is not text in UTF-8: {error.reason} at byte {error.start}") from None
        except gzip.BadGzipFile as error:
            raise ValueError(f"{path!r} is not a gzip file: {error}") from None


def _read_csv(file: Any, name: str, separator: str | None) -> Table:
    first = file.readline()
    if not first.strip():
        raise ValueError(f"{name} is empty, or its first line is: it must hold the names of the columns")
    if separator is None:
        separator = max(_SEPARATORS, key=first.count)
    rows = csv.reader(_after(first, file), delimiter=separator, strict=True)
    try:
        header = [cell.strip() for cell in next(rows)]
        _check_header(header, name)
        cells: list[list[str]] = []
        lines: list[int] = []
        for row in rows:
            if not row or (len(row) == 1 and not row[0].strip() and len(header) > 1):
                continue  # a blank line
            if len(row) != len(header):
                raise ValueError(
                    f"{name}: line {rows.line_num} has {pluralize(len(row), 'cell')}, but the first line names "
                    f"{pluralize(len(header), 'column')}"
                )
            cells.append(row)
            lines.append(rows.line_num)
    except csv.Error as error:
        raise ValueError(f"{name}: line {rows.line_num} is not CSV: {error}") from None
    if not cells:
        raise ValueError(f"{name} has no row below the names of its columns")
    return Table(name, dict(zip(header, map(list, zip(*cells, strict=True)), strict=True)), lines)


def _after(first: str, file: Any) -> Iterator[str]:
    yield first
    yield from file


def _check_header(header: list[str], name: str) -> None:
    if all(_is_number(cell) for cell in header):
        raise ValueError(
            f"{name}: the first line must hold the names of the columns, but holds numbers: {', '.join(header[:5])}"
        )
    for number, cell in enumerate(header):
        if not cell:
            raise ValueError(f"{name}: the first line has no name for column {number + 1}")
        if cell in header[:number]:
            raise ValueError(f"{name}: two columns have the name {cell!r}")


def _read_parquet(path: str) -> Table:
    with open(path, "rb"):  # the usual errors for a file that is missing, a directory or not readable
        pass
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise ImportError(f'{path!r} is a Parquet file, which needs pyarrow: pip install "numrnn[tables]"') from error
    try:
        table = parquet.read_table(path)
    except (ArrowException, ValueError) as error:
        raise ValueError(f"{path!r} is not a Parquet file, or is damaged: {str(error).splitlines()[0]}") from None
    if not table.num_columns or not table.num_rows:
        raise ValueError(f"{path!r} has no {'row' if table.num_columns else 'column'}")
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        columns[name] = column.to_numpy(zero_copy_only=False)
    return Table(repr(path), columns)


# ------------------------------------------------------------------------------------------------------------ writing
def _cell(value: Any) -> Any:
    """A value as it is written: numbers with the digits that a float32 has."""
    if isinstance(value, (float, np.floating)):
        return None if not math.isfinite(value) else float(f"{float(value):.7g}")
    if isinstance(value, np.generic):
        return value.item()
    return value


def write_csv(rows: Sequence[dict[str, Any]]) -> None:
    """Rows with the same keys, to the standard output."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(rows[0])
    for row in rows:
        cells = [_cell(value) for value in row.values()]
        writer.writerow([f"{cell:.7g}" if isinstance(cell, float) else cell for cell in cells])


def write_json(result: dict[str, Any]) -> None:
    """One object, to the standard output."""
    json.dump(_plain(result), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(element) for key, element in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(element) for element in value]
    if isinstance(value, Path):
        return str(value)
    return _cell(value)
