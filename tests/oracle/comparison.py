"""How the tests compare arrays, and derivatives from values alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def assert_close(actual: NDArray, expected: NDArray, tolerance: float, what: str = "") -> None:
    """Every element within `tolerance` of the expected one, relative to it or to the largest of the array.

    A gradient is a sum of terms of both signs, so a small element of it cannot be held to its own size.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    scale = float(np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * max(scale, 1e-3), err_msg=what)


def central_difference(function: Callable[[], float], array: NDArray[np.float64], step: float = 1e-4) -> NDArray:
    """The gradient of `function()` with respect to `array`, which is changed in place and restored.

    Four values per element, so that the error is of the order step^4: about 1e-16 of truncation and 1e-12 of rounding.
    """
    gradient = np.zeros(array.shape)
    for index in np.ndindex(*array.shape):
        centre = array[index]
        values = []
        for shift in (-2, -1, 1, 2):
            array[index] = centre + shift * step
            values.append(function())
        array[index] = centre
        gradient[index] = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
    return gradient
