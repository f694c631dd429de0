"""Data to learn from: one real series that ships with the package, and the classic synthetic tasks."""

from __future__ import annotations

from numrnn.datasets.beijing import load_beijing_pm25
from numrnn.datasets.synthetic import make_adding_problem, make_copy_memory, make_temporal_order
from numrnn.datasets.windows import sliding_windows

__all__ = [
    "load_beijing_pm25",
    "make_adding_problem",
    "make_copy_memory",
    "make_temporal_order",
    "sliding_windows",
]
