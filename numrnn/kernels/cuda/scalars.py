"""The equations of the cells for the scalars of a device's thread: compiled from the same source as for vectors.

The functions that `numrnn.kernels.equations` call are exchanged for those of one number; exponentials are the
device's own (CUDA's single and double precision libraries).
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math
from functools import cache
from types import FunctionType
from typing import Any

import numpy as np

from numrnn.kernels.cuda.grids import SIMULATED, device_function
from numrnn.kernels.equations import Cell
from numrnn.kernels.random import draw, row_key

__all__ = ["adjoint_of", "masked", "step_of"]

# In NumPy's arithmetic, which the simulator has, a number of Python takes the type of the other one and these do not.
_ONE: Any = 1.0 if SIMULATED else np.float32(1)
_ZERO: Any = 0.0 if SIMULATED else np.float32(0)


@device_function
def _sigmoid(x):
    return _ONE / (_ONE + math.exp(-x))


@device_function
def _tanh(x):
    return math.tanh(x)


@device_function
def _relu(x):
    # NaN stays NaN.
    return _ZERO if x < _ZERO else x


@device_function
def _relu_adjoint(y, d_y):
    return d_y if y > _ZERO else _ZERO


@device_function
def _fma(a, b, c):
    return a * b + c


@device_function
def _zeros_like(x):
    return _ZERO


@device_function
def masked(value, seed, stream, threshold, scale, number, unit):
    """A value under dropout: the mask of the CPU, see `numrnn.kernels.random`."""
    return value * scale if draw(row_key(seed, stream, number), unit) >= threshold else value * _ZERO


_SCALAR = {
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "relu": _relu,
    "relu_adjoint": _relu_adjoint,
    "fma": _fma,
    "zeros_like": _zeros_like,
    "ONE": _ONE,
}


def _for_scalars(function: Any) -> Any:
    source = getattr(function, "py_func", function)
    names = {name: value for name, value in _SCALAR.items() if name in source.__globals__}
    return device_function(
        FunctionType(source.__code__, {**source.__globals__, **names}, source.__name__, source.__defaults__)
    )


@cache
def step_of(cell: Cell) -> Any:
    """The equations of a cell."""
    return _for_scalars(cell.equations.step)


@cache
def adjoint_of(cell: Cell) -> Any:
    """Their adjoint."""
    return _for_scalars(cell.equations.adjoint)
