"""Checks of input, at the speed of memory."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from numrnn.kernels.jit import kernel

__all__ = ["all_finite"]


@kernel
def all_finite(values):
    """Whether a one-dimensional array has neither NaN nor infinities."""
    # A finite number minus itself is zero, any other is NaN. By blocks, so that the loop need not run to the end.
    for first in range(0, len(values), 4096):
        bad = 0
        for i in range(first, min(len(values), first + 4096)):
            bad |= values[i] - values[i] != 0
        if bad:
            return False
    return True
