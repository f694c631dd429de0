"""Pairs of sequences as a source of minibatches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from numrnn.packing import Sequences
from numrnn.seq2seq.network import EncoderDecoder, PairBatch

__all__ = ["Pairs"]


@dataclass(frozen=True)
class Pairs:
    """A `TrainingSource` of pairs.

    Attributes
    ----------
    network : EncoderDecoder
        Says what is expected of the targets.
    sources, targets : Sequences
        As many of the one as of the other, as the network takes them.
    hook : callable or None, default=None
        Called at the beginning of every epoch.
    """

    network: EncoderDecoder
    sources: Sequences
    targets: Sequences
    hook: Callable[[], None] | None = None

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """What a pair costs, roughly: minibatches are made of pairs of like lengths."""
        return self.sources.lengths + self.targets.lengths

    @property
    def n_rows(self) -> int:
        ends = len(self) if self.network.target == "ids" else 0
        return self.targets.n_steps + ends

    @property
    def total_weight(self) -> float:
        return float(self.n_rows)

    def reorder(self, order: NDArray[np.int64] | None) -> Pairs:
        if self.hook is not None:
            self.hook()
        return self if order is None else self.take(order)

    def take(self, numbers: NDArray[np.int64]) -> Pairs:
        """Some of the pairs, in that order."""
        return replace(self, sources=self.sources.take(numbers), targets=self.targets.take(numbers))

    def part(self, begin: int, end: int) -> tuple[PairBatch, NDArray, None]:
        sources, targets = (
            Sequences(side.values, side.starts[begin:end], side.lengths[begin:end])
            for side in (self.sources, self.targets)
        )
        return PairBatch(sources, targets), self.network.expected(targets), None
