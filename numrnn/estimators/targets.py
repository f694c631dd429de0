"""Targets of sequences: one row for each sequence, or one for each of its time steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.packing import Sequences

__all__ = ["Targets"]


@dataclass(frozen=True)
class Targets:
    """The targets of samples, as rows.

    Attributes
    ----------
    steps : Sequences
        The rows of each sample: exactly one, or one for each time step. Values are (n_rows,) or (n_rows, n_outputs).
    per_step : bool
        Which of the two.
    """

    steps: Sequences
    per_step: bool

    @classmethod
    def of_samples(cls, values: NDArray) -> Targets:
        """One row for each sample."""
        n_samples = len(values)
        return cls(Sequences(values, np.arange(n_samples), np.ones(n_samples, dtype=np.int64)), False)

    def __len__(self) -> int:
        return len(self.steps)

    def rows(self) -> NDArray:
        """The rows of all samples, sample after sample."""
        return self.steps.values[self.steps.rows()]

    def take(self, numbers: NDArray) -> Targets:
        """Those of the chosen samples, in the chosen order."""
        return Targets(self.steps.take(numbers), self.per_step)

    def with_rows(self, rows: NDArray) -> Targets:
        """The same form with other values in place of those that `rows` returns."""
        lengths = self.steps.lengths
        return Targets(Sequences(rows, np.cumsum(lengths) - lengths, lengths), self.per_step)

    def spread(self, weights: NDArray | None) -> NDArray | None:
        """What is given for samples, for each of their rows."""
        return None if weights is None else np.repeat(weights, self.steps.lengths)

    def check_steps(self, sequences: Sequences) -> None:
        """Raise ValueError unless there is one row for each time step of these sequences.

        It is not asked of targets of whole sequences.
        """
        if not self.per_step:
            return
        different = np.flatnonzero(self.steps.lengths != sequences.lengths)
        if len(different):
            number = int(different[0])
            raise ValueError(
                f"y must have one row for each time step of X: y of sample {number} has "
                f"{_count(self.steps.lengths[number])}, X of sample {number} has {_count(sequences.lengths[number])}"
            )


def _count(steps: Any) -> str:
    return f"{int(steps)} time step{'' if steps == 1 else 's'}"
