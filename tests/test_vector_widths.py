"""The engine at another vector width than this machine's own.

Tails, padding and tile shapes all depend on how many lanes a vector has. The width is chosen once per process, so the
properties of `test_shapes.py` run in a process of their own, with a compilation cache of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from numrnn.kernels.simd import VECTOR_BITS

ROOT = Path(__file__).parent.parent


def test_any_shape_at_another_width(pytestconfig, tmp_path):
    bits = 128 if VECTOR_BITS == 256 else 256
    cache = getattr(pytestconfig, "cache", None)  # kept between runs, unless pytest runs without its cache
    directory = tmp_path if cache is None else cache.mkdir(f"numba-{bits}")
    environment = {
        **os.environ,
        "NUMRNN_VECTOR_BITS": str(bits),
        "NUMBA_CACHE_DIR": str(directory),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    tests = str(ROOT / "tests" / "test_shapes.py")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--no-header", tests]
    process = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "3 passed" in process.stdout
