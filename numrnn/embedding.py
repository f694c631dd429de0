"""Categorical columns of the input, each replaced by learned vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from numrnn.buffers import read_only
from numrnn.kernels.cpu.embedding import copy_columns, forget_rows, look_up, number_distinct, scatter_add
from numrnn.packing import Sequences
from numrnn.stages import StagePass

__all__ = ["Embedding"]


class _EmbeddingPass(StagePass):
    def __init__(self, sequences: Sequences, numbers: NDArray[np.int64]) -> None:
        super().__init__(sequences)
        # The row of its table that each time step took, for every table (n_tables, n_steps).
        self.numbers = numbers


class _ReachedRows:
    """The rows of one table to which a gradient has been added since it was last cleared."""

    def __init__(self, n_rows: int) -> None:
        self.marks = np.zeros(n_rows, dtype=np.uint8)
        self.list = np.zeros(n_rows, dtype=np.int64)
        self.count = 0

    @property
    def numbers(self) -> NDArray[np.int64]:
        return self.list[: self.count]


class Embedding:
    """Tables of vectors for categorical columns; the other columns pass through.

    The output is the vector of the first categorical column, that of the second, ..., and then the numeric columns in
    their order.

    Parameters
    ----------
    input_size : int
        Columns of the input.
    tables : sequence of (int, int, int)
        Column of the input, number of rows and dimension of every table. The values of the column are row numbers,
        held as floating-point numbers.
    dtype : dtype
        float32 or float64.
    prefix : str, default="embedding"
        Of the names of the parameters.

    Attributes
    ----------
    output_size : int
    names : list of str
        Of the parameters: `embedding_0` (n_rows, dimension), `embedding_1`, ...
    reached : list of ndarray of int64
        For every table, the rows to which `backward` has added gradients since `forget`, in the order of their first
        appearance. Other rows of the gradient have not been written.

    Raises
    ------
    ValueError
        If columns, sizes or the number of rows are impossible. float32 numbers rows exactly up to 2**24.
    """

    def __init__(
        self,
        input_size: int,
        tables: Sequence[tuple[int, int, int]],
        dtype: np.dtype,
        *,
        prefix: str = "embedding",
    ) -> None:
        self.tables = [(int(column), int(n_rows), int(dimension)) for column, n_rows, dimension in tables]
        columns = [column for column, _, _ in self.tables]
        if len(set(columns)) < len(columns) or not all(0 <= column < input_size for column in columns):
            raise ValueError(f"embeddings must name different columns from 0 to {input_size - 1}, got {columns}")
        most = 2 ** (np.finfo(dtype).nmant + 1)
        for column, n_rows, dimension in self.tables:
            if n_rows < 1 or dimension < 1:
                raise ValueError(
                    f"the embedding of column {column} must have at least one row and one dimension, got {n_rows} rows "
                    f"and {dimension} dimensions"
                )
            if n_rows > most:
                raise ValueError(
                    f"the embedding of column {column} has {n_rows} rows, but {dtype} holds whole numbers exactly only "
                    f"up to {most}"
                )
        self.input_size = input_size
        self.dtype = np.dtype(dtype)
        self.numeric = np.setdiff1d(np.arange(input_size, dtype=np.int64), np.array(columns, dtype=np.int64))
        self.names = [f"{prefix}_{i}" for i in range(len(self.tables))]
        dimensions = np.array([dimension for _, _, dimension in self.tables], dtype=np.int64)
        self._first_columns = (np.cumsum(dimensions) - dimensions).tolist()
        self._embedded_size = int(dimensions.sum())
        self.output_size = self._embedded_size + len(self.numeric)
        self._reached = [_ReachedRows(n_rows) for _, n_rows, _ in self.tables]
        # Scratch of `number_distinct`, for every table.
        self._places: list[list[NDArray[np.int64]]] = [[] for _ in self.tables]

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters."""
        return {name: table[1:] for name, table in zip(self.names, self.tables, strict=True)}

    def initialize(self, parameters: Mapping[str, NDArray], rng: np.random.RandomState) -> None:
        """Write initial vectors: uniform, of length one in the root mean square."""
        for name, (_, n_rows, dimension) in zip(self.names, self.tables, strict=True):
            bound = np.sqrt(3.0 / dimension)
            parameters[name][...] = rng.uniform(-bound, bound, (n_rows, dimension))

    def forward(self, parameters: Mapping[str, NDArray], sequences: Sequences, *, training: bool) -> _EmbeddingPass:
        """Look the vectors up.

        Raises
        ------
        ValueError
            If a value of a categorical column is not the number of a row.
        """
        n_steps = sequences.n_steps
        values = np.empty((n_steps, self.output_size), dtype=self.dtype)
        numbers = np.empty((len(self.tables), n_steps), dtype=np.int64)
        source = read_only(sequences.values)
        for name, table, first, mine in zip(self.names, self.tables, self._first_columns, numbers, strict=True):
            wrong = look_up(
                source, sequences.starts, sequences.lengths, table[0], parameters[name], values, first, mine
            )
            if wrong >= 0:
                self._refuse(sequences, wrong, table)
        if len(self.numeric):
            copy_columns(source, sequences.starts, sequences.lengths, self.numeric, values, self._embedded_size)
        starts = np.cumsum(sequences.lengths) - sequences.lengths
        return _EmbeddingPass(Sequences(values, starts, sequences.lengths), numbers)

    def check(self, sequences: Sequences) -> None:
        """Raise the error of `forward` if a value of a categorical column is not the number of a row."""
        rows = sequences.rows()
        for table in self.tables:
            values = sequences.values[rows, table[0]]
            wrong = ~((values >= 0) & (values < table[1]) & (values == np.floor(values)))
            if wrong.any():
                self._refuse(sequences, int(wrong.argmax()), table)

    @staticmethod
    def _refuse(sequences: Sequences, step: int, table: tuple[int, int, int]) -> None:
        column, n_rows, _ = table
        ends = np.cumsum(sequences.lengths)
        number = int(np.searchsorted(ends, step, side="right"))
        inside = step - int(ends[number] - sequences.lengths[number])
        value = sequences.values[sequences.starts[number] + inside, column]
        raise ValueError(
            f"column {column} must hold whole numbers from 0 to {n_rows - 1}, the rows of its embedding, got {value} "
            f"in step {inside} of sequence {number}"
        )

    def backward(
        self,
        run: StagePass,
        parameters: Mapping[str, NDArray],
        d_values: NDArray,
        gradient: Mapping[str, NDArray],
        *,
        need_input: bool,
    ) -> NDArray | None:
        """Add to the rows of the tables that were looked up, in the order of the time steps."""
        assert isinstance(run, _EmbeddingPass)
        for name, numbers, first, rows in zip(self.names, run.numbers, self._first_columns, self._reached, strict=True):
            rows.count = scatter_add(numbers, d_values, first, gradient[name], rows.marks, rows.list, rows.count)
        if not need_input:
            return None
        d_input = np.zeros((len(d_values), self.input_size), dtype=self.dtype)
        d_input[:, self.numeric] = d_values[:, self._embedded_size :]
        return d_input

    @property
    def reached(self) -> list[NDArray[np.int64]]:
        return [rows.numbers for rows in self._reached]

    @property
    def is_whole_input(self) -> bool:
        """Whether a time step is the number of one row and nothing else."""
        return len(self.tables) == 1 and not len(self.numeric)

    def distinct(self, sequences: Sequences) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows of the only table that these sequences look up, each once, and which of them each time step does.

        Raises
        ------
        ValueError
            If a value is not the number of a row.
        """
        rows, numbers, wrong = self._distinct(sequences, 0)
        if wrong >= 0:
            self._refuse(sequences, wrong, self.tables[0])
        return rows, numbers

    def _distinct(self, sequences: Sequences, table: int) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        column, n_rows, _ = self.tables[table]
        try:
            places = self._places[table].pop()
        except IndexError:
            places = np.full(n_rows, -1, dtype=np.int64)
        numbers = np.empty(sequences.n_steps, dtype=np.int64)
        rows = np.empty(min(n_rows, len(numbers)), dtype=np.int64)
        values, starts, lengths = read_only(sequences.values), sequences.starts, sequences.lengths
        count, wrong = number_distinct(values, starts, lengths, column, n_rows, places, rows, numbers)
        self._places[table].append(places)
        return rows[:count], numbers, wrong

    def add_reached(self, rows: NDArray[np.int64]) -> None:
        """Say that gradients have been added to these rows of the only table, each named once."""
        reached = self._reached[0]
        new = rows[reached.marks[rows] == 0]
        reached.marks[new] = 1
        reached.list[reached.count : reached.count + len(new)] = new
        reached.count += len(new)

    def rows_of(self, sequences: Sequences) -> list[NDArray[np.int64]]:
        """For every table, the rows that `forward` would look up in these sequences, each once.

        What is not the number of a row ends the search: `forward` will refuse it.
        """
        return [self._distinct(sequences, table)[0] for table in range(len(self.tables))]

    def forget(self, gradient: Mapping[str, NDArray]) -> None:
        """Zero what `backward` has added to since the last call; what was never reached is not looked at."""
        for name, rows in zip(self.names, self._reached, strict=True):
            forget_rows(gradient[name], rows.marks, rows.list, rows.count)
            rows.count = 0
