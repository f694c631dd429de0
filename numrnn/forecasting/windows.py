"""Windows over prepared series as training data: minibatches are made when they are needed, nothing is copied before.

A training set of all windows of a series is the series itself, and a rule where they begin. In memory there is one row
for each time step, whatever the length of the windows and the horizon are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.forecasting.preparation import Preparation
from numrnn.forecasting.series import Panel
from numrnn.packing import Sequences
from numrnn.seq2seq import PairBatch

__all__ = ["Prepared", "Windows"]

Array = NDArray[np.float64]


class Prepared:
    """Series with the rows that a network reads.

    Attributes
    ----------
    panel : Panel
    levels : ndarray of float64, shape (n_rows, n_targets)
        Transformed values without gaps.
    rows, row_starts : ndarray of shape (n_rows, n_features), (n_series,)
        What the network reads, and where each series begins in it.
    """

    def __init__(
        self, preparation: Preparation, panel: Panel, future: Sequence[Array] | None = None, n_future: int = 0
    ) -> None:
        self.preparation = preparation
        self.panel = panel
        self.levels = preparation.levels(panel)
        if preparation.settings.decoder:
            # It goes through whole blocks, from the last row of a series, too.
            block = preparation.settings.block
            n_future = -(-max(n_future, 1) // block) * block
        self.rows, self.row_starts = preparation.rows(panel, self.levels, future, n_future)
        self.has_missing = bool(np.isnan(panel.values.sum()))

    def windows(self, series: NDArray[np.int64], ends: NDArray[np.int64]) -> Sequences:
        """The windows that end at the rows `ends` of a series; nothing is copied."""
        length = self.preparation.settings.window_length
        starts = self.row_starts[series] + ends - (length - 1)
        return Sequences(self.rows, starts, np.full(len(starts), length, dtype=np.int64))

    def ahead(self, series: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray:
        """What is known beforehand of the steps after the rows `ends` (n_ends, block, n_ahead)."""
        preparation = self.preparation
        steps = np.arange(1, preparation.settings.block + 1)
        rows = (self.row_starts[series] + ends)[:, np.newaxis] + steps
        known = np.empty((*rows.shape, preparation.n_ahead), dtype=self.rows.dtype)
        known[..., 0] = steps / len(steps)
        known[..., 1:] = self.rows[rows, preparation.n_features - preparation.n_ahead + 1 :]
        return known

    def read(
        self, series: NDArray[np.int64], ends: NDArray[np.int64], windows: Sequences | None = None
    ) -> Sequences | PairBatch:
        """What the network reads for a forecast after the rows `ends`, which may lie among those that were added.

        Parameters
        ----------
        series, ends : ndarray of int64, shape (n_ends,)
        windows : Sequences, default=None
            Other windows than those that end there.
        """
        windows = self.windows(series, ends) if windows is None else windows
        if not self.preparation.settings.decoder:
            return windows
        return PairBatch(windows, Sequences.from_padded(self.ahead(series, ends)))

    def baselines(self, series: NDArray[np.int64], ends: NDArray[np.int64], n_steps: int) -> Array:
        """What differences of the steps after the rows `ends` are differences to (n_ends, n_steps, n_targets)."""
        places = self.panel.starts[series] + ends
        result = np.zeros((len(ends), n_steps, self.panel.n_targets))
        for h in range(1, n_steps + 1):
            result[:, h - 1] = self.preparation.baseline(self.levels, places, h)
        return result

    def targets(self, series: NDArray[np.int64], ends: NDArray[np.int64], n_steps: int) -> Array:
        """Scaled differences of the steps after the rows `ends` (n_ends, n_steps, n_targets); NaN where missing."""
        preparation, panel = self.preparation, self.panel
        places = panel.starts[series] + ends
        targets = self.baselines(series, ends, n_steps)
        for h in range(1, n_steps + 1):
            np.subtract(self.levels[places + h], targets[:, h - 1], out=targets[:, h - 1])
        targets -= preparation.location[series][:, np.newaxis]
        targets /= preparation.scale[series][:, np.newaxis]
        if self.has_missing:
            for h in range(1, n_steps + 1):
                targets[:, h - 1][np.isnan(panel.values[places + h])] = np.nan
        return targets


class Windows:
    """The windows of prepared series whose last rows lie in given ranges, as a training set.

    Parameters
    ----------
    prepared : Prepared
    first, last : ndarray of int64, shape (n_series,)
        The first row of each series at which a window ends, and the one after the last.
    counts : bool
        Whether targets are counts with their scales, as the negative binomial distribution takes them.
    order : ndarray of int64 or None
        The order of the windows.
    """

    def __init__(
        self,
        prepared: Prepared,
        first: NDArray[np.int64],
        last: NDArray[np.int64],
        *,
        counts: bool = False,
        order: NDArray[np.int64] | None = None,
    ) -> None:
        self.prepared = prepared
        self.first = np.asarray(first, dtype=np.int64)
        self.counts = counts
        self.order = order
        sizes = np.maximum(np.asarray(last, dtype=np.int64) - self.first, 0)
        self._offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.total_weight = self._weigh()

    def __len__(self) -> int:
        return int(self._offsets[-1])

    @property
    def n_rows(self) -> int:
        """Rows of the loss: one for each window, or with a decoder for each step after it."""
        return len(self) * self._rows_per_window

    @property
    def _rows_per_window(self) -> int:
        settings = self.prepared.preparation.settings
        return settings.block if settings.decoder else 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Time steps of every window."""
        length = np.int64(self.prepared.preparation.settings.window_length)
        return np.broadcast_to(length, len(self))

    @property
    def n_steps(self) -> NDArray[np.int64]:
        """Time steps that the network goes through for every window, those of a decoder included."""
        settings = self.prepared.preparation.settings
        return self.lengths + (settings.block if settings.decoder else 0)

    def reorder(self, order: NDArray[np.int64] | None) -> Windows:
        if order is None:
            return self
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__, order=order)
        return other

    def places(self, begin: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Series, and the row within it at which the window ends, of some windows."""
        numbers = np.arange(begin, end) if self.order is None else self.order[begin:end]
        series = np.searchsorted(self._offsets, numbers, side="right") - 1
        return series, self.first[series] + numbers - self._offsets[series]

    def part(self, begin: int, end: int) -> tuple[Any, NDArray, NDArray[np.float64] | None]:
        """Windows `begin` to `end`, their targets and their weights: the share of the targets that are not missing."""
        prepared = self.prepared
        settings = prepared.preparation.settings
        series, ends = self.places(begin, end)
        targets = prepared.targets(series, ends, settings.block)
        n_rows = len(series) * self._rows_per_window
        weights = None
        if prepared.has_missing:
            weights = 1.0 - np.isnan(targets).reshape(n_rows, -1).mean(axis=1)
        if self.counts:
            scale = np.broadcast_to(prepared.preparation.scale[series][:, np.newaxis], targets.shape)
            targets = np.stack([np.rint(targets * scale), scale], axis=3)
        targets = np.ascontiguousarray(targets.reshape(n_rows, -1), dtype=prepared.rows.dtype)
        return prepared.read(series, ends), targets, weights

    def _weigh(self) -> float:
        """Sum of the shares of targets that are not missing."""
        if not self.prepared.has_missing:
            return float(self.n_rows)
        panel, block = self.prepared.panel, self.prepared.preparation.settings.block
        total = 0.0
        for number, size in enumerate(np.diff(self._offsets)):
            observed = (~np.isnan(panel.values[panel.rows(number)])).mean(axis=1)
            before = np.concatenate([[0.0], np.cumsum(observed)])
            ends = self.first[number] + np.arange(size) + 1
            total += float((before[ends + block] - before[ends]).sum()) / block
        return total * self._rows_per_window
