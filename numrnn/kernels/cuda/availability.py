"""Whether there is a CUDA device, and what its errors are."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

__all__ = [
    "PRODUCTS",
    "is_device_error",
    "is_out_of_memory",
    "products",
    "refusal",
    "require_package",
    "why_unavailable",
]

# Packages whose errors are those of the device: numba-cuda, and NVIDIA's that it stands on.
_ROOTS = ("numba.cuda.", "cuda.core", "cuda.bindings", "cuda.pathfinder", "nvmath.", "cupy_backends.", "cupy.")

_OUT_OF_MEMORY = 2


_NOT_INSTALLED = "the package numba-cuda is not installed: pip install 'numrnn[cuda]'"


def require_package() -> None:
    """Raise an ImportError where kernels cannot be compiled."""
    if find_spec("numba_cuda") is None:
        raise ImportError(_NOT_INSTALLED)


# Arithmetic of large products of float32 matrices.
PRODUCTS = ("float32", "tf32", "bfloat16")


@cache
def products() -> str:
    """In which arithmetic the device multiplies large float32 matrices; the variable NUMRNN_CUDA_PRODUCTS says it.

    Raises
    ------
    ValueError
        If the variable is something else.
    """
    chosen = os.environ.get("NUMRNN_CUDA_PRODUCTS", PRODUCTS[0])
    if chosen not in PRODUCTS:
        raise ValueError(f"NUMRNN_CUDA_PRODUCTS must be one of {', '.join(PRODUCTS)}, got {chosen!r}")
    return chosen


@cache
def why_unavailable() -> str | None:
    """What keeps this process from using a CUDA device, or None if nothing does."""
    if find_spec("numba_cuda") is None:
        return _NOT_INSTALLED
    try:
        from numba import cuda

        if not cuda.is_available():
            return "no CUDA device and driver were found (`python -m numba -s` shows what Numba sees)"
        # Also that it can be made ready, not only that it is there.
        cuda.current_context()
    except Exception as error:
        return f"the CUDA device cannot be used: {type(error).__name__}: {error}"
    return None


def refusal(problem: str) -> RuntimeError:
    """The error of ``device="cuda"`` where a CUDA device cannot be used, and why."""
    return RuntimeError(
        f"device='cuda' is not available: {problem}. Use device='cpu', or device='auto' for whatever there is."
    )


def is_device_error(error: BaseException) -> bool:
    """Whether an error comes from the device, its driver, or the building of code for it."""
    return any(kind.__module__.startswith(_ROOTS) for kind in type(error).__mro__)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of the device says that there is not enough memory."""
    return getattr(error, "code", None) == _OUT_OF_MEMORY or "OUT_OF_MEMORY" in str(error)
