"""Full-batch training by L-BFGS, for small data."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

__all__ = ["minimize_lbfgs"]


def minimize_lbfgs(
    function: Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]],
    start: NDArray[np.float64],
    *,
    max_iter: int,
    tol: float,
    on_iteration: Callable[[NDArray[np.float64], float], None],
) -> tuple[NDArray[np.float64], bool]:
    """Minimise a function of one vector by the limited-memory quasi-Newton method of SciPy.

    Liu, D. C. and Nocedal, J. (1989). On the limited memory BFGS method for large scale optimization.

    Parameters
    ----------
    function : callable
        Vector -> value and gradient.
    start : ndarray of shape (size,)
    max_iter : int
    tol : float
        Ends when no element of the gradient is larger.
    on_iteration : callable
        Called with every accepted point and its value.

    Returns
    -------
    best : ndarray of shape (size,)
    converged : bool
        False if `max_iter` ended it.

    Raises
    ------
    FloatingPointError
        If a value or gradient is not finite.
    """
    value = math.nan

    def evaluate(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        nonlocal value
        value, gradient = function(x)
        if not math.isfinite(value) or not np.isfinite(gradient).all():
            raise FloatingPointError("the loss or its gradient is not finite")
        return value, gradient

    def accept(x: NDArray[np.float64]) -> None:
        # A line search ends with an evaluation of the point that it accepts.
        on_iteration(x, value)

    # With more threads its products of vectors would be other sums, and no sooner done.
    with threadpool_limits(1, user_api="blas"):
        result = minimize(
            evaluate,
            start,
            method="L-BFGS-B",
            jac=True,
            callback=accept,
            options={"maxiter": max_iter, "maxfun": 20 * max_iter + 100, "gtol": tol},
        )
    return result.x, result.status == 0
