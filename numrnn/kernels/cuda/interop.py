"""Arrays of the device that belong to others: CuPy's, PyTorch's, JAX's, Numba's."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from numrnn.kernels.cuda.grids import SIMULATED

__all__ = ["adopt", "is_device_array", "new_array"]


def is_device_array(array: Any) -> bool:
    """Whether it lies on a CUDA device."""
    if SIMULATED:
        return bool(cuda.devicearray.is_cuda_ndarray(array))
    return hasattr(array, "__cuda_array_interface__")


def adopt(array: Any, name: str, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """The elements of an array on the device as a flat one: the same memory, not a copy.

    What other streams have been told to do with it is waited for, as the interface of arrays says.

    Raises
    ------
    ValueError
        If it is not of that shape and type, or not contiguous.
    """
    found = array if SIMULATED else cuda.as_cuda_array(array)
    if tuple(found.shape) != shape or found.dtype != dtype:
        raise ValueError(
            f"{name} must be of shape {shape} and type {dtype.name} on the device, where nothing is converted; got "
            f"{tuple(found.shape)} and {found.dtype}"
        )
    if not SIMULATED and not found.flags["C_CONTIGUOUS"]:
        raise ValueError(f"{name} must be C-contiguous on the device, where nothing is copied")
    return found.reshape(found.size)


def new_array(shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """An array on the device with whatever it holds."""
    return cuda.device_array(shape, dtype)
