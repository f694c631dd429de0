"""The reference the tests measure the package against: plain NumPy in float64, slow and obvious.

Nothing here imports the package. Every formula is written from the definition of the thing, one sequence, one time step
and one cell at a time, so that it can be read beside a textbook; `test_oracle.py` checks the reference itself, by
central differences and against PyTorch where that is installed.
"""

from __future__ import annotations

from oracle.cells import CELLS, Cell
from oracle.comparison import assert_close, central_difference
from oracle.pooling import pool, pool_backward
from oracle.problems import parameter_shapes, random_parameters, random_sequences, random_state
from oracle.recurrent import StackPass, backward, forward, to_bfloat16

__all__ = [
    "CELLS",
    "Cell",
    "StackPass",
    "assert_close",
    "backward",
    "central_difference",
    "forward",
    "parameter_shapes",
    "pool",
    "pool_backward",
    "random_parameters",
    "random_sequences",
    "random_state",
    "to_bfloat16",
]
