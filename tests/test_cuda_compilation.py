"""Kernels for CUDA devices compile without one: no float64 instruction among float32, no registers in memory."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed")
@pytest.mark.parametrize(
    "kernels", ("lstm_32_float32", "matrices: multiply", "step of a thread, lstm", "cross_attention")
)
def test_kernels_compile(kernels):
    # In a process of its own, since a device is stood in for.
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-m", "benchmarks.gpu_kernels", "--only", kernels]
    process = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    last = process.stdout.splitlines()[-1]
    assert last.endswith("0 with a problem") and int(last.split()[0]) >= 4
