"""How the kernels around the recurrence are launched, and what the threads of a block do together."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import sys
import warnings
from types import FunctionType
from typing import Any

from numba import config, cuda

from numrnn.kernels.cuda.simulation import repair

__all__ = [
    "SIMULATED",
    "THREADS",
    "block_grid",
    "block_largest",
    "block_sum",
    "device_function",
    "kernel",
    "matrix_grid",
    "plain",
    "specialized",
    "vector_grid",
]

SIMULATED = bool(config.ENABLE_CUDASIM)

if SIMULATED:
    # While threads meet at a barrier the simulator spins, and keeps the interpreter to itself for as long as it may.
    sys.setswitchinterval(1e-4)
    repair()

# Threads of a block, a power of two. In the simulator every one of them is a thread of Python; several blocks with
# several threads each are what small arrays should cross.
THREADS = 4 if SIMULATED else 256
_COLUMNS = 2 if SIMULATED else 32
# Enough blocks to fill any device several times over; what is left is for their loops.
_MOST_BLOCKS = 2 if SIMULATED else 2048

Grid = tuple[Any, Any]


class _Kernel:
    """A kernel that remembers how it has been launched.

    Numba's own memory for that is small and shared by all kernels, and it warns of every grid that does not fill a
    device; small batches are what this package is for.
    """

    # Grids depend on the sizes of batches, of which there may be many.
    _REMEMBERED = 256

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._launches: dict[Any, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._compiled, name)

    def __getitem__(self, configuration: Any) -> Any:
        launch = self._launches.get(configuration)
        if launch is None:
            if len(self._launches) >= self._REMEMBERED:
                self._launches.clear()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                launch = self._launches[configuration] = self._compiled[configuration]
        return launch


def kernel(function: Any) -> Any:
    """Compile a kernel when it is first launched."""
    compiled = cuda.jit(function)
    return compiled if SIMULATED else _Kernel(compiled)


device_function = cuda.jit(device=True)


def plain(function: Any) -> Any:
    """A compiled function of arrays that is shared with the CPU, as a kernel here can call it.

    On a device that is the function itself. The simulator runs Python with arrays of its own, which code compiled for
    the CPU does not take: there it is the plain function, and so is everything that it calls.
    """
    return _uncompiled(function) if SIMULATED else function


def _uncompiled(function: Any) -> Any:
    source = getattr(function, "py_func", function)
    if not isinstance(source, FunctionType):
        return function
    names = {
        name: _uncompiled(source.__globals__[name])
        for name in source.__code__.co_names
        if hasattr(source.__globals__.get(name), "py_func")
    }
    return FunctionType(source.__code__, {**source.__globals__, **names}, source.__name__, source.__defaults__)


def specialized(function: FunctionType, **names: Any) -> Any:
    """A kernel that is a copy of a function in which some global names mean something of their own."""
    copy = FunctionType(function.__code__, {**function.__globals__, **names}, function.__name__, function.__defaults__)
    copy.__qualname__ = "_".join([function.__qualname__, *(getattr(value, "__name__", "") for value in names.values())])
    copy.__module__ = function.__module__
    return kernel(copy)


def vector_grid(size: int, most_blocks: int = _MOST_BLOCKS) -> Grid:
    """Blocks and threads for a loop over `size` elements that strides by ``gridsize(1)``."""
    return min(max(-(-size // THREADS), 1), most_blocks, _MOST_BLOCKS), THREADS


def matrix_grid(n_rows: int, most_blocks: int = _MOST_BLOCKS) -> Grid:
    """Blocks and threads for a loop over rows, by blocks and the threads' y, and over columns, by the threads' x."""
    rows = THREADS // _COLUMNS
    return min(max(-(-n_rows // rows), 1), most_blocks, _MOST_BLOCKS), (_COLUMNS, rows)


def block_grid(count: int) -> Grid:
    """Blocks and threads for a loop over `count` things, to each of which a whole block attends."""
    return min(max(count, 1), _MOST_BLOCKS), THREADS


@device_function
def block_sum(value, scratch):
    """The sum over all threads of a block, for each of them; scratch is shared and has an element for every thread."""
    me = cuda.threadIdx.x
    scratch[me] = value
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if me < half:
            scratch[me] += scratch[me + half]
        cuda.syncthreads()
        half //= 2
    total = scratch[0]
    cuda.syncthreads()
    return total


@device_function
def block_largest(value, scratch):
    """The largest value of all threads of a block, for each of them; one that is NaN may or may not be seen."""
    me = cuda.threadIdx.x
    scratch[me] = value
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if me < half and not scratch[me + half] <= scratch[me]:
            scratch[me] = scratch[me + half]
        cuda.syncthreads()
        half //= 2
    largest = scratch[0]
    cuda.syncthreads()
    return largest
