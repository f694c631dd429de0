"""Compiled functions called by their address."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from numba.core.errors import TypingError

from numrnn.kernels.jit import COMPILED, kernel
from numrnn.kernels.pointers import call, pointer_to

compiled_only = pytest.mark.skipif(not COMPILED, reason="without a compiler a pointer is the function itself")


@kernel
def _add(values, at, number, doubled):
    values[at] += number
    if doubled:
        values[at] *= 2
    return values.sum()


@kernel
def _subtract(values, at, number, doubled):
    values[at] -= number
    return values.sum()


@kernel
def _clear(values):
    values[:] = 0


class Pointers(NamedTuple):
    change: object
    clear: object


@kernel
def _caller(pointers, values, numbers, doubled):
    call(pointers.clear, (values,))
    total = 0.0
    for i in range(len(numbers)):
        total = call(pointers.change, (values, i, numbers[i], doubled))
    return total


def pointers(function, values):
    return Pointers(pointer_to(function, values, 0, 1.0, True), pointer_to(_clear, values))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_caller_serves_all_functions_of_a_signature(dtype):
    values, numbers = np.full(3, 7, dtype=dtype), np.array([1.0, 2.0, 3.0])
    assert _caller(pointers(_add, values), values, numbers, True) == 12
    np.testing.assert_array_equal(values, [2, 4, 6])
    if COMPILED:
        before = len(_caller.signatures)
    assert _caller(pointers(_subtract, values), values, numbers, True) == -6
    np.testing.assert_array_equal(values, [-1, -2, -3])
    if COMPILED:
        assert len(_caller.signatures) == before


@compiled_only
def test_arguments_of_other_types_are_an_error_before_anything_runs():
    values = np.zeros(3, dtype=np.float32)
    given = pointers(_add, np.zeros(3, dtype=np.float64))
    with pytest.raises(TypingError, match=r"argument 0 must be of type .*float64.*got .*float32"):
        _caller(given, values, np.ones(3), True)
    assert not values.any()


@compiled_only
def test_an_error_inside_comes_out():
    @kernel
    def fails(values):
        if values[0] > 0:
            raise ValueError("no such thing")
        return values[0]

    @kernel
    def around(pointer, values):
        return call(pointer, (values,))

    pointer = pointer_to(fails, np.zeros(1))
    assert around(pointer, np.zeros(1)) == 0
    with pytest.raises(ValueError, match="no such thing"):
        around(pointer, np.ones(1))
