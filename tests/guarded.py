"""Memory in which a read or a write one byte beside an array ends the process: a page that nobody may touch lies there.

NumPy takes its memory from an allocator that can be replaced. The one here gives every array pages of its own, with a
page without any rights right after its last byte, or right before its first one. What a kernel reads beside an array,
be it to throw it away, is then a segmentation fault. Linux only.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numba
import numpy as np
from numba import types

from numrnn.kernels.memory import array_at

__all__ = ["SIDES", "guarded"]

SIDES = ("after", "before")
_PAGE = 4096
_READ_AND_WRITE, _PRIVATE_AND_ANONYMOUS = 3, 0x22
# Where NumPy's table of C functions has the one that replaces the allocator.
_SET_HANDLER = 304

address, size = types.intp, types.uintp
_mmap = types.ExternalFunction("mmap", address(address, size, types.int32, types.int32, types.int32, types.int64))
_munmap = types.ExternalFunction("munmap", types.int32(address, size))
_mprotect = types.ExternalFunction("mprotect", types.int32(address, size, types.int32))
_memcpy = types.ExternalFunction("memcpy", address(address, address, size))


class _Allocator(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("context", "malloc", "calloc", "realloc", "free")]


class _Handler(ctypes.Structure):
    """NumPy's PyDataMem_Handler."""

    _fields_ = [("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), ("allocator", _Allocator)]


@cache
def _handler(side: str) -> tuple[Any, list[Any]]:
    """A capsule for NumPy, and what must live as long as any array of that memory: as long as the process."""
    after = side == "after"
    # A block: its length and that of the array; a page without rights, if before; the array; such a page, if after.
    n_before = 1 if after else 2

    @numba.njit
    def allocate(n_bytes):
        n_bytes = max(n_bytes, 1)
        n_pages = -(-n_bytes // _PAGE)
        length = (n_before + n_pages + (1 if after else 0)) * _PAGE
        block = _mmap(0, length, _READ_AND_WRITE, _PRIVATE_AND_ANONYMOUS, -1, 0)
        if block == -1:
            return 0
        header = array_at(block, 2, np.int64)
        header[0] = length
        header[1] = n_bytes
        if after:
            _mprotect(block + length - _PAGE, _PAGE, 0)
            return block + length - _PAGE - n_bytes
        _mprotect(block + _PAGE, _PAGE, 0)
        return block + 2 * _PAGE

    @numba.njit
    def block_of(array):
        return array - array % _PAGE - n_before * _PAGE

    @numba.njit
    def release(array):
        if array != 0:
            block = block_of(array)
            _munmap(block, array_at(block, 2, np.int64)[0])

    @numba.cfunc(address(address, address))
    def malloc(context, n_bytes):
        return allocate(n_bytes)

    @numba.cfunc(address(address, address, address))
    def calloc(context, n, each):
        return allocate(n * each)

    @numba.cfunc(address(address, address, address))
    def realloc(context, array, n_bytes):
        made = allocate(n_bytes)
        if array != 0 and made != 0:
            _memcpy(made, array, min(array_at(block_of(array), 2, np.int64)[1], n_bytes))
            release(array)
        return made

    @numba.cfunc(types.void(address, address, address))
    def free(context, array, n_bytes):
        release(array)

    functions = [malloc, calloc, realloc, free]
    handler = _Handler(b"guarded", 1, _Allocator(None, *(function.address for function in functions)))
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    name = b"mem_handler"
    return new(ctypes.addressof(handler), name, None), [functions, handler, name]


def _set_handler(capsule: Any) -> Any:
    """Make NumPy use an allocator; returns the one before."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = ctypes.cast(get(np._core._multiarray_umath._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p))
    return ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(table[_SET_HANDLER])(capsule)


@contextmanager
def guarded(side: str) -> Iterator[None]:
    """Every array that is made within has a page without rights on that side.

    Parameters
    ----------
    side : {"after", "before"}
    """
    if sys.platform != "linux":
        raise OSError(f"guarded memory needs Linux, this is {sys.platform}")
    before = _set_handler(_handler(side)[0])
    try:
        yield
    finally:
        _set_handler(before)
