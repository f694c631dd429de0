"""Checks of input, at the speed of memory."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from numrnn.kernels.jit import kernel
from numrnn.kernels.simd import lanes, load, store, zeros_like

__all__ = ["all_finite"]

# Elements between two looks at the sums: a loop that ends early, but has no branch in its heart.
_BLOCK = 8192


@kernel
def all_finite(values, workspace):
    """Whether a one-dimensional array has neither NaN nor infinities. workspace is scratch of one vector."""
    n_lanes = lanes(values)
    whole = len(values) // n_lanes * n_lanes
    for first in range(0, whole, _BLOCK):
        # A finite number minus itself is zero, any other is NaN, and NaN plus anything stays NaN.
        a = zeros_like(load(values, first))
        b = a
        last = min(whole, first + _BLOCK)
        middle = first + (last - first) // (2 * n_lanes) * (2 * n_lanes)
        for i in range(first, middle, 2 * n_lanes):
            x = load(values, i)
            y = load(values, i + n_lanes)
            a = a + (x - x)
            b = b + (y - y)
        if middle < last:
            x = load(values, middle)
            a = a + (x - x)
        store(workspace, 0, a + b)
        for i in range(n_lanes):
            if workspace[i] != 0:
                return False
    finite = True
    for i in range(whole, len(values)):
        finite = finite and values[i] - values[i] == 0
    return finite
