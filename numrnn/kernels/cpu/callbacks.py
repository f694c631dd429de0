"""Networks as functions of C: for programs in other languages, and for SciPy's low-level callables.

C knows a network by the address of eight 64-bit numbers, its description: address and size of the weights, of the
layout and of the units of a `StreamParameters`, the size of a state, and the number of features.
"""

# mypy: disable-error-code="no-untyped-def, operator, misc"
from __future__ import annotations

from functools import cache
from types import FunctionType
from typing import Any

import numpy as np
from numba import carray, cfunc, types
from numpy.typing import NDArray

from numrnn.kernels.cpu.streaming import STREAMING
from numrnn.kernels.jit import inline
from numrnn.kernels.memory import array_at, numbers_of, stack_array
from numrnn.kernels.stream_layout import N_OUTPUTS, StreamParameters

__all__ = ["CALLBACKS", "DESCRIPTION_SIZE", "callback", "describe"]

DESCRIPTION_SIZE = 8

# What the functions below know of a network. Each compiled copy has its own values of these names.
element = np.float32
step = predict = network_of = None


def describe(parameters: StreamParameters, state_size: int, n_features: int) -> NDArray[np.int64]:
    """The description of a network; the arrays of the parameters must outlive it."""
    arrays = [part for array in parameters for part in (array.ctypes.data, array.size)]
    return np.array([*arrays, state_size, n_features], dtype=np.int64)


def _network_of(description):
    layout = array_at(description[2], description[3], np.int64)
    units = array_at(description[4], description[5], np.float64)
    return StreamParameters(
        array_at(description[0], description[1], element), layout, units.reshape((2, layout[N_OUTPUTS]))
    )


def _step(network, state, x, out):
    """void step(const int64_t *network, T *state, const T *x, T *out)"""
    description = carray(network, (DESCRIPTION_SIZE,))
    parameters = network_of(description)
    n_outputs = parameters.layout[N_OUTPUTS]
    step(parameters, carray(state, (description[6],)), carray(x, (description[7],)), carray(out, (n_outputs,)))


def _integrand(n, x, network):
    """double f(int n, double *x, void *network): the first output for the one time step x.

    For functions of one number, the first of x, SciPy passes more: only the network's features are read.
    """
    description = carray(network, (DESCRIPTION_SIZE,), np.int64)
    parameters = network_of(description)
    out = stack_array(parameters.units, parameters.layout[N_OUTPUTS])
    predict(parameters, carray(x, (1, description[7])), out)
    return out[0]


def _filter_window(window, size, result, network):
    """int f(double *window, npy_intp size, double *result, void *network)

    The first output after a univariate window.
    """
    parameters = network_of(carray(network, (DESCRIPTION_SIZE,), np.int64))
    out = stack_array(parameters.units, parameters.layout[N_OUTPUTS])
    predict(parameters, carray(window, (size, 1)), out)
    carray(result, (1,))[0] = out[0]
    return 1


def _filter_line(line, size, result, n_results, network):
    """int f(double *line, npy_intp size, double *result, npy_intp n_results, void *network)

    Walks a whole univariate line and writes the first output of its last n_results steps.
    """
    description = carray(network, (DESCRIPTION_SIZE,), np.int64)
    parameters = network_of(description)
    state = stack_array(numbers_of(parameters.weights), description[6])
    state[:] = 0
    out = stack_array(parameters.units, parameters.layout[N_OUTPUTS])
    values, results = carray(line, (size, 1)), carray(result, (n_results,))
    for t in range(size):
        step(parameters, state, values[t], out)
        if t >= size - n_results:
            results[t - (size - n_results)] = out[0]
    return 1


def _step_signature(number_type: Any) -> Any:
    pointer = types.CPointer(number_type)
    return types.void(types.CPointer(types.int64), pointer, pointer, pointer)


_DOUBLES = types.CPointer(types.float64)
_SCIPY = {
    "integrand": (_integrand, types.float64(types.intc, _DOUBLES, types.voidptr)),
    "window": (_filter_window, types.intc(_DOUBLES, types.intp, _DOUBLES, types.voidptr)),
    "line": (_filter_line, types.intc(_DOUBLES, types.intp, _DOUBLES, types.intp, types.voidptr)),
}
CALLBACKS = ("step", *_SCIPY)


@cache
def callback(kind: str, cell: str, dtype: np.dtype, weights: np.dtype) -> Any:
    """The C function of one kind for networks of one cell, of that type and with the elements of its `weights` of that
    type; compiled when first asked for.
    """
    number_type = types.float32 if dtype == np.float32 else types.float64
    function, signature = (_step, _step_signature(number_type)) if kind == "step" else _SCIPY[kind]
    names = {"step": STREAMING[cell].step, "predict": STREAMING[cell].predict}
    names["network_of"] = inline(_with_names(_network_of, {"element": weights.type}))
    return cfunc(signature, error_model="numpy")(_with_names(function, names))


def _with_names(function: Any, names: dict[str, Any]) -> Any:
    """A copy of a function in which some global names mean something of their own."""
    return FunctionType(function.__code__, {**function.__globals__, **names}, function.__name__)
