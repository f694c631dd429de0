"""Memory against the length of sequences: it grows with T, unless `bptt_steps` bounds it.

Counted are the bytes of NumPy arrays alive at once, as tracemalloc sees them: exact, and the same in every run. The
peak of the whole process is beside it, with the interpreter and the compiled code in it.
"""

from __future__ import annotations

import tracemalloc

import numpy as np
from numpy.typing import NDArray

from numrnn import RNNRegressor

from .training import fit as fit_model
from .workloads import few

_LENGTHS = few((100, 1000, 4000))
_WINDOWS = ("all", 50)


def _model(bptt_steps: int | str) -> RNNRegressor:
    window = None if bptt_steps == "all" else bptt_steps
    return RNNRegressor((64,), bptt_steps=window, batch_size=16, max_iter=1, random_state=0, n_jobs=1)


def _data(n_timesteps: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    X = np.random.default_rng(0).standard_normal((16, n_timesteps, 4), dtype=np.float32)
    return X, X[:, -1, 0].astype(np.float64)


def _bytes_of_arrays(model: RNNRegressor, X: NDArray[np.float32], y: NDArray[np.float64]) -> int:
    """The most that arrays made by `fit` took at once."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        fit_model(model, X, y)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak - before


class Fit:
    """One epoch, one update of 16 sequences of 4 inputs, LSTM with 64 units."""

    params = (_LENGTHS, _WINDOWS)
    param_names = ("T", "bptt_steps")
    timeout = 300.0

    def setup(self, n_timesteps: int, bptt_steps: int | str) -> None:
        self.X, self.y = _data(n_timesteps)
        self.model = _model(bptt_steps)
        fit_model(self.model, self.X[:, :2], self.y)

    def peakmem_fit(self, n_timesteps: int, bptt_steps: int | str) -> None:
        fit_model(self.model, self.X, self.y)

    def track_arrays(self, n_timesteps: int, bptt_steps: int | str) -> float:
        return _bytes_of_arrays(self.model, self.X, self.y) / 2**20

    track_arrays.unit = "MiB"  # type: ignore[attr-defined]


class Growth:
    """How many times the memory of sequences of 200 steps those of 2000 take: about 1 if it is flat."""

    params = _WINDOWS
    param_names = ("bptt_steps",)
    timeout = 300.0

    def setup(self, bptt_steps: int | str) -> None:
        self.model = _model(bptt_steps)
        fit_model(self.model, *_data(2))

    def track_growth(self, bptt_steps: int | str) -> float:
        short, long = (_bytes_of_arrays(self.model, *_data(n_timesteps)) for n_timesteps in (200, 2000))
        return long / short

    track_growth.unit = "times"  # type: ignore[attr-defined]
