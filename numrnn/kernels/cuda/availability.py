"""Whether there is a CUDA device, and what its errors are."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

__all__ = ["device_error_kinds", "is_out_of_memory", "why_unavailable"]

_OUT_OF_MEMORY = 2


@cache
def why_unavailable() -> str | None:
    """What keeps this process from using a CUDA device, or None if nothing does."""
    if find_spec("numba_cuda") is None:
        return "the package numba-cuda is not installed: pip install 'numrnn[cuda]'"
    try:
        from numba import cuda

        if not cuda.is_available():
            return "no CUDA device and driver were found (`python -m numba -s` shows what Numba sees)"
        # Also that it can be made ready, not only that it is there.
        cuda.current_context()
    except Exception as error:
        return f"the CUDA device cannot be used: {type(error).__name__}: {error}"
    return None


def device_error_kinds() -> tuple[type[BaseException], ...]:
    """What Numba raises when something goes wrong on the device, at a launch or while code for it is built."""
    from numba.cuda.cudadrv import driver, error

    names = ("CudaAPIError", "LinkerError", "CudaDriverError", "CudaRuntimeError", "CudaSupportError", "NvvmError")
    found = [getattr(module, name, None) for module in (driver, error) for name in names]
    return tuple({kind for kind in found if isinstance(kind, type)})


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of the device says that there is not enough memory."""
    return getattr(error, "code", None) == _OUT_OF_MEMORY or "OUT_OF_MEMORY" in str(error)
