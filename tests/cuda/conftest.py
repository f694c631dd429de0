"""Tests of kernels for CUDA devices: on a device, or in Numba's simulator with ``NUMBA_ENABLE_CUDASIM=1``.

The variable must be set before Numba is imported, so that the simulator has a process of its own:
`tests/test_cuda_simulator.py` starts it.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from numrnn.kernels.cuda.availability import why_unavailable

FOLDER = Path(__file__).parent

# Without the extra `cuda` the kernels cannot be imported.
collect_ignore_glob = [] if importlib.util.find_spec("numba_cuda") else ["test_*.py"]


def pytest_collection_modifyitems(items):
    reason = None if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1" else why_unavailable()
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.cuda)
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=reason))
