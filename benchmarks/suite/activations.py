"""Activations: numbers per second through the vectorised functions, in data that stays in the first cache."""

from __future__ import annotations

from time import perf_counter

import numpy as np
from numba import njit

from numrnn.kernels.activations import exp, relu, sigmoid, tanh
from numrnn.kernels.simd import lanes, load, store

_FUNCTIONS = {"exp": exp, "sigmoid": sigmoid, "tanh": tanh, "relu": relu}
_COUNT = 2048
_PASSES = 200


class Activations:
    """One thread."""

    params = (tuple(_FUNCTIONS), ("float32", "float64"))
    param_names = ("function", "dtype")
    timeout = 120.0

    def setup(self, name: str, dtype: str) -> None:
        function = _FUNCTIONS[name]

        @njit(nogil=True, error_model="numpy")
        def apply(values, results, n_passes):  # type: ignore[no-untyped-def]
            for _ in range(n_passes):
                for index in range(0, values.size, lanes(values)):
                    store(results, index, function(load(values, index)))

        self.apply = apply
        self.values = np.linspace(-8, 8, _COUNT).astype(dtype)
        self.results = np.empty_like(self.values)
        self.apply(self.values, self.results, 1)

    def time_activation(self, name: str, dtype: str) -> None:
        self.apply(self.values, self.results, _PASSES)

    def track_throughput(self, name: str, dtype: str) -> float:
        times = []
        for _ in range(9):
            start = perf_counter()
            self.apply(self.values, self.results, _PASSES)
            times.append(perf_counter() - start)
        return _COUNT * _PASSES / float(np.median(times)) / 1e9

    track_throughput.unit = "10^9 numbers/s"  # type: ignore[attr-defined]
