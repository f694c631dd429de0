"""Tables of vectors: rows chosen by the numbers in a column of the input, and the adjoint.

values (n_rows, n_features): float, the input, read only; where sequence s has its time steps is `starts[s]` and
`lengths[s]`, int64. Time steps are taken sequence after sequence, and written without gaps.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np

from numrnn.kernels.jit import kernel
from numrnn.kernels.simd import lanes, load, store

__all__ = ["add_by_number", "copy_columns", "forget_rows", "look_up", "number_distinct", "scatter_add"]


@kernel
def look_up(values, starts, lengths, column, table, target, target_column, numbers):
    """Write the row of `table` that `values[:, column]` numbers to `target`, from `target_column` on.

    table (n_entries, dimension), target (n_steps, ...): float. numbers: int64 (n_steps,), receives the row numbers.
    Returns the first time step whose value is not a whole number from 0 to n_entries - 1, or -1 if there is none.
    """
    n_entries, dimension = table.shape
    step = 0
    for sequence in range(len(starts)):
        for row in range(starts[sequence], starts[sequence] + lengths[sequence]):
            value = values[row, column]
            if not (value >= 0 and value < n_entries):
                return step
            number = np.int64(value)
            if number != value:
                return step
            numbers[step] = number
            for i in range(dimension):
                target[step, target_column + i] = table[number, i]
            step += 1
    return -1


@kernel
def number_distinct(values, starts, lengths, column, n_entries, places, rows, numbers):
    """Number the distinct row numbers in `values[:, column]` in the order of their first appearance.

    rows: int64 (n_entries,), receives them in that order; numbers: int64 (n_steps,), the place in `rows` of every time
    step's. places: int64 (n_entries,), scratch that holds -1 everywhere, before and after. Returns how many there are,
    and the first time step whose value is not a whole number from 0 to n_entries - 1, or -1; what follows such a step
    is not looked at.
    """
    n_distinct = step = 0
    wrong = -1
    for sequence in range(len(starts)):
        for row in range(starts[sequence], starts[sequence] + lengths[sequence]):
            value = values[row, column]
            if wrong >= 0 or not (value >= 0 and value < n_entries) or np.int64(value) != value:
                wrong = step if wrong < 0 else wrong
                break
            number = np.int64(value)
            if places[number] < 0:
                places[number] = n_distinct
                rows[n_distinct] = number
                n_distinct += 1
            numbers[step] = places[number]
            step += 1
    for i in range(n_distinct):
        places[rows[i]] = -1
    return n_distinct, wrong


@kernel
def add_by_number(matrix, numbers, n_rows, pitch, begin, end, sums, sums_pitch):
    """sums[numbers[r], begin:end] += matrix[r, begin:end], row after row.

    Both matrices are one-dimensional here, with a pitch; begin and end are multiples of a vector's lanes.
    """
    n_lanes = lanes(sums)
    for row in range(n_rows):
        source, target = row * pitch, numbers[row] * sums_pitch
        for column in range(begin, end, n_lanes):
            store(sums, target + column, load(sums, target + column) + load(matrix, source + column))


@kernel
def copy_columns(values, starts, lengths, columns, target, target_column):
    """Write the columns of `values` that `columns`, int64, names to `target`, from `target_column` on."""
    step = 0
    for sequence in range(len(starts)):
        for row in range(starts[sequence], starts[sequence] + lengths[sequence]):
            for i in range(len(columns)):
                target[step, target_column + i] = values[row, columns[i]]
            step += 1


@kernel
def scatter_add(numbers, d_target, target_column, gradient, reached, rows, n_reached):
    """Add rows of `d_target`, from `target_column` on, to the rows of `gradient` that `numbers` gives, in their order.

    reached: uint8 (n_entries,), 1 for the rows that have been added to. rows: int64 (n_entries,), the numbers of these
    in its first `n_reached` elements. Both are brought up to date; returns the new n_reached.
    """
    dimension = gradient.shape[1]
    for step in range(len(numbers)):
        number = numbers[step]
        if reached[number] == 0:
            reached[number] = 1
            rows[n_reached] = number
            n_reached += 1
        for i in range(dimension):
            gradient[number, i] += d_target[step, target_column + i]
    return n_reached


@kernel
def forget_rows(gradient, reached, rows, n_reached):
    """Undo `scatter_add`: zero the rows of the gradient that it has added to, and their marks."""
    for i in range(n_reached):
        reached[rows[i]] = 0
        gradient[rows[i]] = 0
