"""exp, sigmoid and tanh, generic in vectors and scalars, float32 and float64.

All follow Cody and Waite (Software Manual for the Elementary Functions, 1980): x = n ln 2 + r with an integer n and r
within ln(2) / 2, so that exp(x) = 2**n + 2**n (exp(r) - 1), with a short polynomial for exp(r) - 1. sigmoid and tanh
take one reciprocal; in float32 that is an estimate refined by Newton's method instead of a division. No branches, and
few operations on the units that multiply: these are what activations take the time of.

Accuracy, over the whole range: 4 units in the last place, measured against 80 digits (`tests/test_activations.py`).
The values at 0, -0 and the infinities are exact, and NaN stays NaN. Results far below the smallest normal number are
zero.
"""

from __future__ import annotations

import numpy as np
from numba.extending import overload

from numrnn.kernels.jit import inline
from numrnn.kernels.simd import (
    Vector,
    absolute,
    clamp,
    copy_sign,
    fma,
    minimum,
    power_of_two,
    reciprocal_estimate,
    where_below,
    where_positive,
    zeros_like,
)

__all__ = ["exp", "relu", "relu_adjoint", "sigmoid", "tanh"]

ONE = np.float32(1)
TWO = np.float32(2)
MINUS_TWO = np.float32(-2)
# From here on tanh is 1 in float64, too.
TANH_IS_ONE = np.float32(20)
INFINITY = np.float32(np.inf)

# float32: 1.5 * 2**23 + 127; the two parts of ln 2; the range in which 2**n is right; exp(r) = 1 + r + r**2 (C2 + C3 r
# + ...)
_SHIFT_32 = np.float32(12582912.0 + 127)
_LOG2E_32 = np.float32(1.4426950408889634)
_MINUS_LN2_32 = np.float32(-0.69314718055994530942)
_MINUS_LN2_HIGH_32 = np.float32(-0.693359375)
_MINUS_LN2_LOW_32 = np.float32(2.12194440054690583e-4)
_LOWEST_32 = np.float32(-88.0)
_HIGHEST_32 = np.float32(88.73)
_C2_32 = np.float32(0.49999998149809263785)
_C3_32 = np.float32(0.16666543561879598524)
_C4_32 = np.float32(0.041667201406010109423)
_C5_32 = np.float32(0.0083665262231349092385)
_C6_32 = np.float32(0.0013882415136141718497)

# The same for float64.
_SHIFT_64 = 6755399441055744.0 + 1023
_LOG2E_64 = 1.4426950408889634074
_MINUS_LN2_64 = -0.69314718055994530942
_MINUS_LN2_HIGH_64 = -6.93147180369123816490e-1
_MINUS_LN2_LOW_64 = -1.90821492927058770002e-10
_LOWEST_64 = -709.0
_HIGHEST_64 = 709.79
_C2_64 = 0.50000000000000052301
_C3_64 = 0.16666666666666592456
_C4_64 = 0.041666666666576368598
_C5_64 = 0.0083333333333874312555
_C6_64 = 0.0013888888931658663187
_C7_64 = 0.00019841269723738723593
_C8_64 = 0.000024801505182937568453
_C9_64 = 2.7557403221756430087e-6
_C10_64 = 2.7626068422656872309e-7
_C11_64 = 2.5055165608005814171e-8


@inline
def _polynomial_32(r):  # type: ignore[no-untyped-def]
    # Estrin's order: as many operations as Horner's, but a shorter chain.
    square = r * r
    high = fma(square, _C6_32, fma(r, _C5_32, _C4_32))
    return fma(fma(square, high, fma(r, _C3_32, _C2_32)), square, r)


@inline
def _polynomial_64(r):  # type: ignore[no-untyped-def]
    square = r * r
    fourth = square * square
    low = fma(square, fma(r, _C5_64, _C4_64), fma(r, _C3_64, _C2_64))
    middle = fma(square, fma(r, _C9_64, _C8_64), fma(r, _C7_64, _C6_64))
    high = fma(r, _C11_64, _C10_64)
    return fma(fma(fourth, fma(fourth, high, middle), low), square, r)


def _split_32(x):  # type: ignore[no-untyped-def]
    shifted = fma(x, _LOG2E_32, _SHIFT_32)
    n = shifted - _SHIFT_32
    return shifted, _polynomial_32(fma(n, _MINUS_LN2_LOW_32, fma(n, _MINUS_LN2_HIGH_32, x)))


def _split_64(x):  # type: ignore[no-untyped-def]
    shifted = fma(x, _LOG2E_64, _SHIFT_64)
    n = shifted - _SHIFT_64
    return shifted, _polynomial_64(fma(n, _MINUS_LN2_LOW_64, fma(n, _MINUS_LN2_HIGH_64, x)))


def _split_small_32(x):  # type: ignore[no-untyped-def]
    shifted = fma(x, _LOG2E_32, _SHIFT_32)
    return shifted, _polynomial_32(fma(shifted - _SHIFT_32, _MINUS_LN2_32, x))


def _split_small_64(x):  # type: ignore[no-untyped-def]
    shifted = fma(x, _LOG2E_64, _SHIFT_64)
    return shifted, _polynomial_64(fma(shifted - _SHIFT_64, _MINUS_LN2_64, x))


def _exp_range_32(x):  # type: ignore[no-untyped-def]
    return clamp(x, _LOWEST_32, _HIGHEST_32)


def _exp_range_64(x):  # type: ignore[no-untyped-def]
    return clamp(x, _LOWEST_64, _HIGHEST_64)


def _lowest_32(x):  # type: ignore[no-untyped-def]
    return _LOWEST_32


def _lowest_64(x):  # type: ignore[no-untyped-def]
    return _LOWEST_64


def _by_precision(single, double):  # type: ignore[no-untyped-def]
    """A function that is the first one for float32 and the second one for float64, be they scalars or vectors."""

    def choose(x):  # type: ignore[no-untyped-def]
        return single(x) if x.dtype == np.float32 else double(x)

    @overload(choose, jit_options={"forceinline": True, "error_model": "numpy"})
    def choose_compiled(x):  # type: ignore[no-untyped-def]
        scalar = x.scalar if isinstance(x, Vector) else x
        return single if scalar.bitwidth == 32 else double

    return choose


# For exp(x) = 2**n (1 + p): the number whose `power_of_two` is 2**n, and p.
_split = _by_precision(_split_32, _split_64)
# The same where exp(x) - 1 is wanted and x is not positive: then one constant is enough of ln 2, since what is wrong
# grows with |n| and counts with 2**n.
_split_small = _by_precision(_split_small_32, _split_small_64)
# x within the range that the split can take.
_exp_range = _by_precision(_exp_range_32, _exp_range_64)
_lowest = _by_precision(_lowest_32, _lowest_64)


@inline
def exp(x):  # type: ignore[no-untyped-def]
    """e to the power of x."""
    shifted, p = _split(_exp_range(x))
    # Half of 2**n times two: n may be 128, which has no power of two in float32, while exp(x) is still finite.
    one = where_positive(x, ONE, zeros_like(x))
    half = power_of_two(shifted - one)
    return fma(half, p, half) * (one + ONE)


@inline
def sigmoid(x):  # type: ignore[no-untyped-def]
    """1 / (1 + exp(-x)), zero where the exponential could overflow."""
    lowest = _lowest(x)
    shifted, p = _split(-minimum(x, -lowest))
    scale = power_of_two(shifted)
    return where_below(x, lowest, zeros_like(x), reciprocal_estimate(fma(scale, p, scale) + ONE))


@inline
def tanh(x):  # type: ignore[no-untyped-def]
    """(1 - exp(-2x)) / (1 + exp(-2x))."""
    magnitude = minimum(absolute(x), TANH_IS_ONE)
    shifted, p = _split_small(magnitude * MINUS_TWO)
    scale = power_of_two(shifted)
    e_minus_one = fma(scale, p, scale - ONE)
    return copy_sign(e_minus_one * reciprocal_estimate(e_minus_one + TWO), x)


@inline
def relu(x):  # type: ignore[no-untyped-def]
    """The larger of x and 0."""
    return clamp(x, zeros_like(x), INFINITY)


@inline
def relu_adjoint(y, d_y):  # type: ignore[no-untyped-def]
    """Gradient of relu's input: d_y where the output y is above 0."""
    return where_positive(y, d_y, zeros_like(y))
