"""How every CPU function of this package is compiled: for which vectors, with which options, cached by which rules."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
from numba import __version__ as numba_version
from numba import config, njit
from numba.core.registry import cpu_target

__all__ = ["COMPILED", "CPU_FEATURES", "VECTOR_BITS", "ZERO", "inline", "kernel", "paste", "specialize"]

# For arguments of kernels that call one another: Numba compiles them anew for every literal number.
ZERO = np.int64(0)


def _cpu_features() -> set[str]:
    """Names of the instruction sets that Numba compiles for on this machine."""
    features = cpu_target.target_context.codegen().magic_tuple()[2]
    return {name[1:] for name in features.split(",") if name.startswith("+")}


# False under NUMBA_DISABLE_JIT=1, where kernels are ordinary Python functions.
COMPILED = not config.DISABLE_JIT

CPU_FEATURES = _cpu_features()


def _vector_bits() -> int:
    chosen = os.environ.get("NUMRNN_VECTOR_BITS")
    if chosen is None:
        return 512 if "avx512f" in CPU_FEATURES else 256 if "avx" in CPU_FEATURES else 128
    if chosen not in ("128", "256", "512"):
        raise ImportError(f"NUMRNN_VECTOR_BITS must be 128, 256 or 512, got {chosen!r}")
    return int(chosen)


VECTOR_BITS = _vector_bits()


# A line that imports from this package of kernels, and the dotted path behind `numrnn.kernels`.
_IMPORT = re.compile(r"^\s*(?:from|import)\s+numrnn\.kernels((?:\.\w+)*)", re.MULTILINE)
_FOLDER = Path(__file__).parent


@cache
def _sources(path: Path) -> frozenset[Path]:
    """The sources beside this file that a source imports directly; of a package, everything in it."""
    imported: set[Path] = set()
    for dotted in _IMPORT.findall(path.read_text(encoding="utf-8")):
        place = _FOLDER.joinpath(*dotted.split(".")[1:])
        imported.update(place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")])
    return frozenset(imported)


def _reached(path: Path) -> set[Path]:
    """A source and all sources beside this file that it reaches by imports."""
    reached, found = {Path(__file__)}, {path}
    while found:
        reached |= found
        found = {source for known in found for source in _sources(known)} - reached
    return reached


@cache
def _fingerprint(path: Path) -> str:
    """A digest of what a kernel in a file may depend on: the sources it reaches, and the vector width."""
    digest = hashlib.sha256(str(VECTOR_BITS).encode())
    for source in sorted(_reached(path)):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def kernel(function: Callable[..., Any], *, allocates: bool = False) -> Any:
    """Compile a loop over arrays: cached on disk, the GIL released, IEEE division, no reassociation of sums.

    Kernels neither make arrays nor return them, so that they need not count who holds the memory of those they are
    given. They would do so at every call of another function, and atomically: it took a quarter of the time of a small
    step, and made threads that share an array wait for each other. One that does allocate, or return arrays, has to
    say so (otherwise compiling it fails, or what it allocates is lost), and is to be called by such ones alone.
    """
    options = {"nogil": True, "error_model": "numpy", "_nrt": allocates}
    try:
        compiled = njit(cache=True, **options)(function)
    except RuntimeError:
        # No place to keep compiled code: neither beside the sources nor in the user's cache folder can be written.
        return njit(**options)(function)
    if not COMPILED:
        return compiled
    # Numba would see a change in the file of this function only, not in those whose code is compiled into it. As a part
    # of the version it is compared before anything else is read: what older code left may name types that are gone.
    cache_file = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if hasattr(cache_file, "_version"):
        cache_file._version = f"{numba_version} {_fingerprint(Path(function.__code__.co_filename))}"
    return compiled


def inline(function: Callable[..., Any]) -> Any:
    """Compile a small function of values that disappears into whoever calls it."""
    return njit(forceinline=True, nogil=True, error_model="numpy", _nrt=False)(function)


def paste(function: Callable[..., Any]) -> Any:
    """Put the statements of a function in the place of its calls, before types are inferred: it is never compiled."""
    return njit(inline="always", nogil=True, error_model="numpy")(function)


def specialize(function: Callable[..., Any], name: str, *, allocates: bool = False, **names: Any) -> Any:
    """Compile a copy of a kernel in which some global names mean something of their own.

    This is how one loop serves all cells. (A closure would do, but Numba cannot cache closures over compiled functions
    from one process to the next.)

    Parameters
    ----------
    function : function
        The loop, not compiled.
    name : str
        Name of the copy, by which the disk cache tells it from the others.
    allocates : bool, default=False
        See `kernel`.
    **names
        The global names to replace.
    """
    assert isinstance(function, FunctionType)
    copy = FunctionType(function.__code__, {**function.__globals__, **names}, name, function.__defaults__)
    copy.__qualname__ = name
    copy.__module__ = function.__module__
    copy.__doc__ = function.__doc__
    return kernel(copy, allocates=allocates)
