"""Cold start: importing, and the first fit of a process, without and with compiled code in the disk cache.

Every number comes from a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from .workloads import CELLS, few

__all__ = ["FIRST_FIT", "PUBLIC_NAMES", "first_fit", "run_python", "seconds_of_import"]

PUBLIC_NAMES = "from numrnn import GRU, LSTM, RNN, RNNClassifier, RNNRegressor"

_TIME_IMPORT = """
from time import perf_counter
begin = perf_counter()
{statement}
print(perf_counter() - begin)
"""

FIRST_FIT = """
import json, warnings
from time import perf_counter
process_begin = perf_counter()
import numpy as np
from numrnn import RNNClassifier
imported = perf_counter()
X = np.random.default_rng(0).standard_normal((200, 20, 8), dtype=np.float32)
y = (X[:, -1, 0] > 0).astype(int)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    begin = perf_counter()
    RNNClassifier(cell="{cell}", max_iter=1, random_state=0).fit(X, y)
end = perf_counter()
print(json.dumps({{"import": imported - process_begin, "fit": end - begin}}))
"""


def run_python(code: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    # Not -m: the folder of the sources may not be where the process runs.
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path), **environment}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"a benchmark process failed with status {done.returncode}:\n{done.stderr}")
    return done.stdout


def seconds_of_import(statement: str = "import numrnn") -> float:
    """Seconds that an import takes in a fresh process."""
    return float(run_python(_TIME_IMPORT.format(statement=statement)))


def first_fit(cache: str | Path, cell: str = "lstm") -> dict[str, float]:
    """Seconds of importing and of one epoch of `RNNClassifier().fit`, 200 sequences, in a fresh process.

    Compiled code is kept in `cache`: an empty folder for a cold one.
    """
    return json.loads(run_python(FIRST_FIT.format(cell=cell), NUMBA_CACHE_DIR=str(cache)))


class Import:
    """Seconds in a fresh process."""

    params = ("import numrnn", PUBLIC_NAMES)
    param_names = ("statement",)
    timeout = 120.0

    def setup(self, statement: str) -> None:
        seconds_of_import(statement)  # the files are in memory, and their bytecode on the disk

    def track_import(self, statement: str) -> float:
        return sorted(seconds_of_import(statement) for _ in range(3))[1]

    track_import.unit = "s"  # type: ignore[attr-defined]


class FirstFit:
    """Seconds of the first `fit` of a process."""

    params = few(CELLS)
    param_names = ("cell",)
    timeout = 300.0

    def setup(self, cell: str) -> None:
        self.folder = tempfile.TemporaryDirectory()

    def teardown(self, cell: str) -> None:
        self.folder.cleanup()

    def track_empty_cache(self, cell: str) -> float:
        return first_fit(self.folder.name, cell)["fit"]

    def track_warm_cache(self, cell: str) -> float:
        first_fit(self.folder.name, cell)
        return sorted(first_fit(self.folder.name, cell)["fit"] for _ in range(3))[1]

    track_empty_cache.unit = track_warm_cache.unit = "s"  # type: ignore[attr-defined]
