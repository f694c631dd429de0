"""The tanh of whole arrays on the device, and its adjoint: first states and features of a decoder."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

from numba import cuda

from numrnn.kernels.cuda.grids import kernel, vector_grid

__all__ = ["squash", "squash_adjoint"]


@kernel
def _squash(values, size):
    for i in range(cuda.grid(1), size, cuda.gridsize(1)):
        values[i] = math.tanh(values[i])


def squash(queue, values, size):
    """Replace the first elements by their hyperbolic tangent."""
    if size:
        _squash[*vector_grid(size), queue](values, size)


@kernel
def _squash_adjoint(squashed, d_values, first, size):
    one = squashed.dtype.type(1)
    for i in range(cuda.grid(1), size, cuda.gridsize(1)):
        y = squashed[i]
        d_values[first + i] *= one - y * y


def squash_adjoint(queue, squashed, d_values, first, size):
    """From the gradient of `squashed` to that of what `squash` was given, in place; it begins at element `first`."""
    if size:
        _squash_adjoint[*vector_grid(size), queue](squashed, d_values, first, size)


def examples():
    """Kernels with the types of their arguments: what a check without a device compiles."""
    for f in ("f4", "f8"):
        v = f"{f}[::1]"
        yield f"squash {f}", _squash, (v, "i8")
        yield f"squash back {f}", _squash_adjoint, (v, v, "i8", "i8")
