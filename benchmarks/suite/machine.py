"""What is being measured on: the processor, its name and its measured arithmetic peak."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import threading
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numba import njit

from numrnn.kernels.jit import VECTOR_BITS
from numrnn.kernels.simd import fma, load, store
from numrnn.workers import effective_n_jobs

__all__ = ["describe", "fma_peak", "processor_name"]

_ACCUMULATORS = 16


def _registers_only(x, y, sums, n_rounds):  # type: ignore[no-untyped-def]
    # 16 chains: enough to fill two units with a latency of four cycles twice over; nothing is loaded in the loop.
    lanes = len(x)
    left, right = load(x, 0), load(y, 0)
    # Every chain starts at its own numbers: equal ones would be computed once.
    a, b, c, d = load(sums, 0), load(sums, 1), load(sums, 2), load(sums, 3)
    e, f, g, h = load(sums, 4), load(sums, 5), load(sums, 6), load(sums, 7)
    i, j, k, m = load(sums, 8), load(sums, 9), load(sums, 10), load(sums, 11)
    n, o, p, q = load(sums, 12), load(sums, 13), load(sums, 14), load(sums, 15)
    for _ in range(n_rounds):
        a = fma(left, right, a)
        b = fma(left, right, b)
        c = fma(left, right, c)
        d = fma(left, right, d)
        e = fma(left, right, e)
        f = fma(left, right, f)
        g = fma(left, right, g)
        h = fma(left, right, h)
        i = fma(left, right, i)
        j = fma(left, right, j)
        k = fma(left, right, k)
        m = fma(left, right, m)
        n = fma(left, right, n)
        o = fma(left, right, o)
        p = fma(left, right, p)
        q = fma(left, right, q)
    store(sums, 0, a + b + c + d + e + f + g + h)
    store(sums, lanes, i + j + k + m + n + o + p + q)


@cache
def _tile() -> Any:
    return njit(nogil=True)(_registers_only)


@cache
def fma_peak(n_threads: int | None = None, repeats: int = 7) -> float:
    """The rate of float32 fused multiply-adds in registers, as GFLOP/s.

    Parameters
    ----------
    n_threads : int or None, default=None
        Threads that run at once. None is what numrnn uses by default.
    repeats : int, default=7
        The best one counts: it is a limit.

    Returns
    -------
    float
        Of all threads together; a fused multiply-add is two operations.
    """
    threads = effective_n_jobs(None) if n_threads is None else n_threads
    lanes = VECTOR_BITS // 32
    values = [np.full(lanes, number, dtype=np.float32) for number in (0.5, 0.25)]
    n_rounds = 1_000_000
    kernel = _tile()
    start = np.arange(2 * lanes + _ACCUMULATORS, dtype=np.float32)
    kernel(*values, start.copy(), 1)
    best = 0.0
    for _ in range(repeats):
        begin_together = threading.Barrier(threads)
        spans: list[tuple[float, float]] = []

        def run(barrier: threading.Barrier = begin_together, spans: list[tuple[float, float]] = spans) -> None:
            sums = start.copy()
            barrier.wait()
            begin = perf_counter()
            kernel(*values, sums, n_rounds)
            spans.append((begin, perf_counter()))

        others = [threading.Thread(target=run) for _ in range(threads)]
        for thread in others:
            thread.start()
        for thread in others:
            thread.join()
        seconds = max(end for _, end in spans) - min(begin for begin, _ in spans)
        best = max(best, 2.0 * threads * lanes * _ACCUMULATORS * n_rounds / seconds)
    return best / 1e9


@cache
def processor_name() -> str:
    """The name that the processor gives itself."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def describe() -> dict[str, Any]:
    """Processor, threads, system and versions, for the record."""
    versions = {"python": platform.python_version()}
    for package in ("numrnn", "numpy", "numba", "llvmlite", "scikit-learn", "torch", "onnxruntime", "skorch"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    if "numrnn" not in versions:
        from numrnn import __version__

        versions["numrnn"] = __version__
    return {
        "processor": processor_name(),
        "processors_available": effective_n_jobs(None),
        "vector_bits": VECTOR_BITS,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_average_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": versions,
    }
