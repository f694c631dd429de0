"""Memory against the length of sequences: it grows with T, unless `bptt_steps` bounds it.

Counted are the bytes of NumPy arrays alive at once, as tracemalloc sees them: exact, and the same in every run. The
peak of the whole process is beside it, with the interpreter and the compiled code in it.
"""

from __future__ import annotations

import tracemalloc

import numpy as np

from numrnn import RNNRegressor

from .training import fit as fit_model
from .workloads import few

_LENGTHS = few((100, 1000, 4000))
_WINDOWS = ("all", 50)


class Fit:
    """One epoch, one update of 16 sequences of 4 inputs, LSTM with 64 units."""

    params = (_LENGTHS, _WINDOWS)
    param_names = ("T", "bptt_steps")
    timeout = 300.0

    def setup(self, n_timesteps: int, bptt_steps: int | str) -> None:
        rng = np.random.default_rng(0)
        self.X = rng.standard_normal((16, n_timesteps, 4), dtype=np.float32)
        self.y = self.X[:, -1, 0].astype(np.float64)
        window = None if bptt_steps == "all" else bptt_steps
        self.model = RNNRegressor((64,), bptt_steps=window, batch_size=16, max_iter=1, random_state=0, n_jobs=1)
        fit_model(self.model, self.X[:, :2], self.y)

    def peakmem_fit(self, n_timesteps: int, bptt_steps: int | str) -> None:
        fit_model(self.model, self.X, self.y)

    def track_arrays(self, n_timesteps: int, bptt_steps: int | str) -> float:
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            fit_model(self.model, self.X, self.y)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        return (peak - before) / 2**20

    track_arrays.unit = "MiB"  # type: ignore[attr-defined]
