"""A repair of Numba's CUDA simulator, in which two threads of a block can end up with shared arrays of their own.

The simulator looks whether the array of a line is there and makes it if it is not, in two steps, between which another
thread can do the same. What either of them writes is then not seen by the other.
"""

from __future__ import annotations

import sys
from threading import Lock
from typing import Any

import numpy as np

__all__ = ["repair"]


def repair() -> None:
    """Make shared arrays under a lock. To be called in the simulator only."""
    from numba.core import types
    from numba.cuda.simulator.kernelapi import FakeCUDAShared
    from numba.np import numpy_support

    if hasattr(FakeCUDAShared, "_numrnn_lock"):
        return
    original, lock = FakeCUDAShared.array, Lock()

    def array(self: Any, shape: Any, dtype: Any, alignment: Any = None) -> Any:
        if shape == 0 or alignment is not None:
            return original(self, shape, dtype, alignment)
        frame = sys._getframe(1)
        place = frame.f_code.co_filename, frame.f_lineno
        with lock:
            made = self._allocations.get(place)
            if made is None:
                plain = numpy_support.as_dtype(dtype) if isinstance(dtype, types.Type) else dtype
                made = self._allocations[place] = np.empty(shape, plain)
        return made

    for name, value in (("_numrnn_lock", lock), ("array", array)):
        setattr(FakeCUDAShared, name, value)
