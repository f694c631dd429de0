"""One time step called from compiled code."""

from __future__ import annotations

import ctypes
import ctypes.util
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .workloads import CELLS, Size, few, make_layer

SIZES = (Size(1, 1, 16, 32), Size(1, 1, 128, 128))
_CLOCK_MONOTONIC = 1

_libc = ctypes.CDLL(ctypes.util.find_library("c"))
_clock_gettime = _libc.clock_gettime
_clock_gettime.argtypes = (ctypes.c_int, ctypes.c_void_p)
_clock_gettime.restype = ctypes.c_int


@njit
def _now(buffer):
    _clock_gettime(_CLOCK_MONOTONIC, buffer.ctypes)
    return buffer[0] * 1_000_000_000 + buffer[1]


def embedded_step_times(
    layer: Any, n_steps: int, weights: str | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Nanoseconds of every step called from compiled code, and of reading the clock alone."""
    compiled = layer.compile(weights)
    step = compiled.step

    @njit
    def walk(parameters, state, x, out, buffer, times, alone):
        for t in range(len(times)):
            begin = _now(buffer)
            step(parameters, state, x[t % len(x)], out)
            end = _now(buffer)
            times[t] = end - begin
            begin = _now(buffer)
            alone[t] = _now(buffer) - begin

    x = np.random.default_rng(0).normal(size=(64, compiled.n_features)).astype(np.float32)
    out, buffer = np.empty(compiled.n_outputs, dtype=np.float32), np.zeros(2, dtype=np.int64)
    times, alone = np.empty(n_steps, dtype=np.int64), np.empty(n_steps, dtype=np.int64)
    state = compiled.initial_state()
    walk(compiled.parameters, state, x, out, buffer, times[:10], alone[:10])
    walk(compiled.parameters, state, x, out, buffer, times, alone)
    return times, alone


class EmbeddedStep:
    """Microseconds of one step of batch 1, reading the clock included, in the middle and in the worst hundredth."""

    timeout = 300.0
    params = (few(CELLS), few([str(size) for size in SIZES]), ("float32", "bfloat16"))
    param_names = ("cell", "(N, T, D, H)", "weights")

    def setup(self, cell: str, size: str, weights: str) -> None:
        layer = make_layer(cell, Size.parse(size), n_jobs=1)
        self.times = embedded_step_times(layer, 20_000, None if weights == "float32" else weights)[0]

    def track_median(self, cell: str, size: str, weights: str) -> float:
        return float(np.median(self.times)) / 1e3

    def track_percentile_99(self, cell: str, size: str, weights: str) -> float:
        return float(np.percentile(self.times, 99)) / 1e3

    track_median.unit = "us"  # type: ignore[attr-defined]
    track_percentile_99.unit = "us"  # type: ignore[attr-defined]
