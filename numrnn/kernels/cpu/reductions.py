"""Sums over long vectors and over the rows of matrices."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np

from numrnn.kernels.jit import inline, kernel

__all__ = ["column_statistics", "sum_of_squares"]


@inline
def sum_of_squares(vector, begin, end):
    """Sum of vector[i]**2 for begin <= i < end, in float64.

    Four sums that do not wait for each other, in an order that is the same on every machine.
    """
    s0 = s1 = s2 = s3 = 0.0
    whole = end - (end - begin) % 4
    for i in range(begin, whole, 4):
        s0 += np.float64(vector[i]) ** 2
        s1 += np.float64(vector[i + 1]) ** 2
        s2 += np.float64(vector[i + 2]) ** 2
        s3 += np.float64(vector[i + 3]) ** 2
    for i in range(whole, end):
        s0 += np.float64(vector[i]) ** 2
    return (s0 + s1) + (s2 + s3)


@kernel
def column_statistics(values, stride, mean, deviation, lowest, highest):
    """Mean, standard deviation, smallest and largest number of every column, of each `stride`-th row.

    values: float (n_rows, n_columns), at least one row; read. The others: float64 (n_columns,), written.
    """
    n_columns = values.shape[1]
    count = 0
    mean[:] = 0.0
    deviation[:] = 0.0
    lowest[:] = np.inf
    highest[:] = -np.inf
    for row in range(0, len(values), stride):
        count += 1
        for column in range(n_columns):
            value = np.float64(values[row, column])
            mean[column] += value
            lowest[column] = min(lowest[column], value)
            highest[column] = max(highest[column], value)
    for column in range(n_columns):
        mean[column] /= count
    for row in range(0, len(values), stride):
        for column in range(n_columns):
            distance = np.float64(values[row, column]) - mean[column]
            deviation[column] += distance * distance
    for column in range(n_columns):
        deviation[column] = math.sqrt(deviation[column] / count)
