"""Scratch memory that is used again: no allocation in the steady state, none shared between concurrent calls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["Buffers", "Lease", "aligned_zeros", "laid_out", "read_only"]

# A cache line, and the widest vector: an aligned vector never straddles two lines.
_ALIGNMENT = 64


def aligned_zeros(size: int, dtype: DTypeLike) -> NDArray:
    """A one-dimensional array of zeros that begins on a cache line."""
    dtype = np.dtype(dtype)
    raw = np.zeros(size * dtype.itemsize + _ALIGNMENT, dtype=np.uint8)
    begin = -raw.ctypes.data % _ALIGNMENT
    return raw[begin : begin + size * dtype.itemsize].view(dtype)


def laid_out(made_for: int, here: int, make: Callable[..., Any], *arguments: Any) -> Any:
    """Read a pickle of what is laid out for vectors of so many bits: ``make(*arguments)``, where these are the same.

    Raises
    ------
    ValueError
        If it comes from a machine, or a process, with other vectors.
    """
    if made_for != here:
        raise ValueError(
            f"a compiled network was pickled where vectors have {made_for} bits; here they have {here}: keep the model "
            "itself and compile it here"
        )
    return make(*arguments)


def read_only(array: NDArray) -> NDArray:
    """A view that may not be written: kernels are compiled once, for read-only input."""
    view = array.view()
    view.flags.writeable = False
    return view


class Buffers:
    """A store of arrays by purpose. Arrays are lent through a `Lease` and come back when it ends.

    An array lent by `Lease.exact` was zero when it was made and afterwards only ever served the same purpose and size,
    so that padding which nobody writes stays zero.
    """

    # As many kinds of things are kept whole, and so many of each, in so many bytes.
    _KINDS = 16
    _OF_A_KIND = 8
    _BYTES = 2**26

    def __init__(self) -> None:
        self._free: defaultdict[Any, list[NDArray]] = defaultdict(list)
        self._whole: dict[Any, list[Any]] = {}

    def lease(self) -> Lease:
        return Lease(self._free)

    def take(self, key: Any) -> Any:
        """Something that was kept under that key, or None. Nobody else gets it."""
        try:
            return self._whole[key].pop()
        except (KeyError, IndexError):
            return None

    def keep(self, key: Any, thing: Any) -> bool:
        """Keep something, which has a `lease`, for a later `take`. The oldest kinds have to go where it is too much.

        Returns whether there was room.
        """
        things = self._whole.setdefault(key, [])
        if len(things) >= self._OF_A_KIND:
            return False
        things.append(thing)
        # Other threads may do the same at the same time.
        try:
            while len(self._whole) > self._KINDS or self._n_bytes() > self._BYTES:
                old = self._whole.pop(next(iter(self._whole)))
                while old:
                    old.pop().lease.release()
        except (KeyError, IndexError, StopIteration, RuntimeError):
            pass
        return True

    def _n_bytes(self) -> int:
        return sum(thing.lease.n_bytes for things in self._whole.values() for thing in things)

    def __reduce__(self) -> Any:
        return Buffers, ()


class Lease:
    """The arrays of one pass over a batch.

    They go back to the store at `release`. Those of a lease that is forgotten, because something went wrong, are left
    to the garbage collector: a thread may still be writing to them.

    Attributes
    ----------
    n_bytes : int
        Memory of all arrays that were lent.
    """

    # More than this many free arrays of one purpose are left to the garbage collector.
    _KEEP = 64

    def __init__(self, free: defaultdict[Any, list[NDArray]]) -> None:
        self._free = free
        self._taken: list[tuple[Any, NDArray]] = []
        self.n_bytes = 0

    def exact(self, purpose: tuple, size: int, dtype: DTypeLike) -> NDArray:
        """An array of that size whose never-written parts are zero."""
        key = (*purpose, size, np.dtype(dtype))
        try:
            array = self._free[key].pop()
        except IndexError:
            array = aligned_zeros(size, dtype)
        self._taken.append((key, array))
        self.n_bytes += array.nbytes
        return array

    def at_least(self, purpose: tuple, size: int, dtype: DTypeLike) -> NDArray:
        """An array of that size with arbitrary contents, cut from one that may be larger."""
        if size == 0:
            return np.zeros(0, dtype=dtype)
        key = (*purpose, np.dtype(dtype))
        try:
            array = self._free[key].pop()
        except IndexError:
            array = aligned_zeros(size, dtype)
        # A much larger array than needed is not held on to: one huge batch must not fix the memory of all later ones.
        if not size <= array.size <= 8 * size + 65536:
            array = aligned_zeros(size, dtype)
        self._taken.append((key, array))
        self.n_bytes += array.nbytes
        return array[:size]

    def release(self) -> None:
        taken, self._taken = self._taken, []
        for key, array in taken:
            if len(self._free[key]) < self._KEEP:
                self._free[key].append(array)
