"""Solvers: one clipped update of the flat parameter vector."""

from __future__ import annotations

import numpy as np

from numrnn.training.solvers import SOLVERS

from .workloads import few


class Update:
    """All solvers, with and without the caches."""

    params = (tuple(SOLVERS), few((100_000, 1_000_000)))
    param_names = ("solver", "n_parameters")
    timeout = 120.0

    def setup(self, solver: str, n_parameters: int) -> None:
        rng = np.random.default_rng(0)
        self.solver = SOLVERS[solver]()
        self.parameters = rng.standard_normal(n_parameters, dtype=np.float32)
        self.gradient = rng.standard_normal(n_parameters, dtype=np.float32)
        self.solver.update(self.parameters, self.gradient, 1e-6, 1.0)

    def time_update(self, solver: str, n_parameters: int) -> None:
        self.solver.update(self.parameters, self.gradient, 1e-6, 1.0)
