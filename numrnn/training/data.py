"""A training set, checked once and cut into minibatches without copying its time steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from numrnn.network import Network
from numrnn.packing import Sequences

__all__ = ["TrainingData", "TrainingSource"]


class TrainingSource(Protocol):
    """A training set that makes its minibatches when they are needed."""

    @property
    def total_weight(self) -> float:
        """Sum of the weights of all targets."""

    @property
    def n_rows(self) -> int:
        """Number of targets: sequences, or time steps where the network does not pool."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Time steps of every sequence."""

    def __len__(self) -> int:
        """Number of sequences."""

    def reorder(self, order: NDArray[np.int64] | None) -> TrainingSource:
        """The sequences in another order; None for their own."""

    def part(self, begin: int, end: int) -> tuple[Any, NDArray, NDArray | None]:
        """Sequences `begin` to `end`, or pairs of them, with targets and weights, as the network takes them."""


@dataclass
class TrainingData:
    """The rows of a training set in the form that the network takes."""

    sequences: Sequences
    targets: NDArray
    weights: NDArray[np.float64] | None
    # Where the rows of each sequence begin, if there is one target per time step.
    row_starts: NDArray[np.int64] | None

    @classmethod
    def of(cls, network: Network, sequences: Sequences, targets: NDArray, weights: NDArray | None) -> TrainingData:
        per_step = network.pooling is None
        n_rows = sequences.n_steps if per_step else len(sequences)
        if len(sequences) == 0:
            raise ValueError("there must be at least one sequence to train on, got none")
        # Arrays of their own, writable and contiguous: kernels are compiled once, for these.
        if network.takes_classes:
            targets = np.array(targets, dtype=np.int64, order="C")
            if targets.shape != (n_rows,):
                raise ValueError(f"expected {n_rows} class numbers, got targets of shape {targets.shape}")
            if n_rows and not 0 <= targets.min() <= targets.max() < network.n_outputs:
                raise ValueError(
                    f"class numbers must lie between 0 and {network.n_outputs - 1}, got {targets.min()} to "
                    f"{targets.max()}"
                )
        else:
            targets = np.array(targets, dtype=network.dtype, order="C")
            if targets.ndim == 1:
                targets = targets[:, None]
            if targets.shape != (n_rows, network.n_target_columns):
                raise ValueError(f"expected targets of shape {(n_rows, network.n_target_columns)}, got {targets.shape}")
        if weights is not None:
            weights = np.array(weights, dtype=np.float64)
            if weights.shape != (n_rows,):
                raise ValueError(f"expected {n_rows} weights, got an array of shape {weights.shape}")
            if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() == 0:
                raise ValueError("weights must be finite and not negative, and not all of them zero")
        starts = np.cumsum(sequences.lengths) - sequences.lengths if per_step else None
        return cls(sequences, targets, weights, starts)

    def reorder(self, order: NDArray[np.int64] | None) -> TrainingData:
        """The sequences in another order; their time steps are not copied, and neither are targets per time step."""
        if order is None:
            return self
        sequences = self.sequences.take(order)
        if self.row_starts is not None:
            return TrainingData(sequences, self.targets, self.weights, self.row_starts[order])
        weights = None if self.weights is None else self.weights[order]
        return TrainingData(sequences, self.targets[order], weights, None)

    def part(self, begin: int, end: int) -> tuple[Sequences, NDArray, NDArray | None]:
        """Sequences `begin` to `end` with their targets and weights."""
        whole = self.sequences
        sequences = Sequences(whole.values, whole.starts[begin:end], whole.lengths[begin:end])
        rows: Any = slice(begin, end)
        if self.row_starts is not None:
            rows = Sequences(whole.values, self.row_starts[begin:end], sequences.lengths).rows()
        return sequences, self.targets[rows], None if self.weights is None else self.weights[rows]

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def n_rows(self) -> int:
        return len(self.targets)

    @property
    def lengths(self) -> NDArray[np.int64]:
        return self.sequences.lengths

    @property
    def total_weight(self) -> float:
        return float(len(self.targets)) if self.weights is None else float(self.weights.sum())
