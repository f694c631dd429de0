"""Which modules the run of docstring examples leaves out: those whose optional package is not installed."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = []
if find_spec("numba_cuda") is None:
    collect_ignore_glob += ["numrnn/cuda/*", "numrnn/kernels/cuda/*"]
if find_spec("sktime") is None:
    collect_ignore_glob += ["numrnn/forecasting/sktime.py"]
