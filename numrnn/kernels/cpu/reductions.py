"""Sums over long vectors."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np

from numrnn.kernels.jit import inline

__all__ = ["sum_of_squares"]


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
