"""Compiled code is renewed when a source that it comes from changes."""

from __future__ import annotations

import gc
import importlib
import pkgutil
import sys
import types
import weakref
from pathlib import Path

import numba
import numpy as np
import pytest

import numrnn.kernels
from numrnn.kernels import jit

MODULES = [
    module.name
    for module in pkgutil.walk_packages(numrnn.kernels.__path__, "numrnn.kernels.")
    # Kernels for devices are not cached, and need an extra to be imported.
    if not module.name.startswith("numrnn.kernels.cuda.")
]


@pytest.mark.parametrize("name", MODULES)
def test_everything_a_kernel_uses_counts(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__file__ is not None
    reached = jit._reached(Path(module.__file__))
    for value in vars(module).values():
        origin = sys.modules.get(getattr(value, "__module__", None) or "")
        if origin is not None and origin.__name__.startswith("numrnn.kernels"):
            assert Path(str(origin.__file__)) in reached, f"{name} uses {value}"


def test_a_change_is_seen_where_it_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loops").mkdir()
    sources = {
        "values.py": "one = 1\n",
        "loops/__init__.py": "",
        "loops/inner.py": "from numrnn.kernels.values import (\n    one,\n)\n",
        "loops/outer.py": "    from numrnn.kernels.loops.inner import one\n",
        "other.py": "import numpy\n",
    }
    for name, text in sources.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(jit, "_FOLDER", tmp_path)

    def fingerprints() -> dict[str, str]:
        jit._sources.cache_clear()
        jit._fingerprint.cache_clear()
        return {name: jit._fingerprint(tmp_path / name) for name in sources}

    before = fingerprints()
    (tmp_path / "values.py").write_text("one = 2\n", encoding="utf-8")
    after = fingerprints()
    changed = {name for name in sources if before[name] != after[name]}
    jit._sources.cache_clear()
    jit._fingerprint.cache_clear()
    assert changed == {"values.py", "loops/inner.py", "loops/outer.py"}


_KERNEL = """
from typing import NamedTuple

from numrnn.kernels.jit import kernel


class {name}(NamedTuple):
    value: float


@kernel
def double(x):
    return 2 * x.value


result = double({name}(1.5))
"""


@pytest.mark.skipif(not jit.COMPILED, reason="nothing is compiled")
def test_what_an_older_version_left_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its index names types that may be gone, and could not be unpickled."""
    monkeypatch.setattr("numba.core.config.CACHE_DIR", "")  # beside the source
    path = tmp_path / "a_kernel_of_its_own.py"
    for name in ("Before", "After"):
        path.write_text(_KERNEL.format(name=name), encoding="utf-8")
        jit._fingerprint.cache_clear()
        jit._sources.cache_clear()
        source = compile(path.read_text(encoding="utf-8"), str(path), "exec")
        module = types.ModuleType(path.stem)
        monkeypatch.setitem(sys.modules, path.stem, module)
        exec(source, vars(module))
        assert module.result == 3.0
    assert any(tmp_path.rglob("*.nbi"))


# ----------------------------------------------------------------------------------------------------- uncounted arrays
ALLOCATING = {"arange", "array", "concatenate", "copy", "empty", "full", "linspace", "ones", "stack", "zeros"}


def shifted(x):
    # A slice of the same array is copied to new memory first.
    x[1:] = x[:-1]


def shifted_aloud(x):
    x[1:] = x[:-1]


def add_one(x):
    for i in range(len(x)):
        x[i] += 1


@pytest.mark.skipif(not jit.COMPILED, reason="nothing is compiled")
def test_a_kernel_that_allocates_says_so():
    x = np.arange(3.0)
    with pytest.raises(numba.core.errors.NumbaError, match="NRT required but not enabled"):
        jit.kernel(shifted)(x)
    # Another function, for what is kept on disk would be found.
    jit.kernel(shifted_aloud, allocates=True)(x)
    np.testing.assert_array_equal(x, [0, 0, 1])


@pytest.mark.skipif(not jit.COMPILED, reason="nothing is compiled")
def test_no_other_kernel_makes_arrays():
    """What Numba's functions allocate would be lost, if others had them compiled before."""
    for name in MODULES:
        importlib.import_module(name)
    found = [
        kernel
        for kernel in gc.get_objects()
        # The type, since what a weak reference stands for may be gone.
        if issubclass(type(kernel), numba.core.dispatcher.Dispatcher) and kernel.py_func.__module__ in MODULES
    ]
    silent = [kernel for kernel in found if kernel.targetoptions.get("_nrt") is False]
    assert 3 < len(found) - len(silent) < len(silent)
    for kernel in silent:
        assert not ALLOCATING.intersection(kernel.py_func.__code__.co_names), kernel


def test_kernels_hold_nothing_of_what_they_are_given():
    one = jit.kernel(add_one)

    @numba.njit
    def twice(x):
        one(x)
        one(x[1:])

    x = np.zeros(4)
    held = sys.getrefcount(x)
    for call in (one, twice):
        for _ in range(100):
            call(x)
        assert sys.getrefcount(x) == held
    np.testing.assert_array_equal(x, [200, 300, 300, 300])
    gone = weakref.ref(x)
    del x
    gc.collect()
    assert gone() is None
