"""How unusual the time steps of series of numbers are: by the errors of a forecast, or of a reconstruction.

Both read a window of the series. The forecast is that of the next time step. The reconstruction is that of a sequence
autoencoder [1]_: the network reads the window, then as many blank steps, at which it has to write the window, last step
first, from nothing but its state. The two parts share their weights; a flag in the input says which one it is.

.. [1] Srivastava, N., Mansimov, E. and Salakhutdinov, R. (2015). Unsupervised learning of video representations using
   LSTMs. ICML. Malhotra, P. et al. (2016). LSTM-based encoder-decoder for multi-sensor anomaly detection. ICML workshop
   on anomaly detection.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.anomaly.averages import Averages
from numrnn.devices import reader_of
from numrnn.forecasting.preparation import Preparation
from numrnn.forecasting.series import Panel
from numrnn.forecasting.windows import Prepared, Windows
from numrnn.network import Network
from numrnn.packing import Sequences

__all__ = ["Reconstructions", "WindowScorer"]

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

# Windows that are written out at once.
_CHUNK = 1024
# Errors that are smaller than this share of the deviation of the series are noise of the training.
_SMALLEST_SCALE = 1e-3


def _write_and_read(prepared: Prepared, series: Rows, ends: Rows) -> tuple[NDArray, NDArray]:
    """Windows followed by blank steps (n, 2 * window, n_features + 1), and what is to be written: the last step first.

    The latter has the shape (n, window, n_targets), NaN where a value is missing.
    """
    panel, length = prepared.panel, prepared.preparation.settings.window_length
    steps = ends[:, np.newaxis] + np.arange(1 - length, 1)
    rows = prepared.rows[prepared.row_starts[series][:, np.newaxis] + steps]
    x = np.zeros((len(ends), 2 * length, rows.shape[2] + 1), dtype=rows.dtype)
    x[:, :length, :-1] = rows
    x[:, length:, -1] = 1.0
    written = rows[:, ::-1, : panel.n_targets].copy()
    if prepared.has_missing:
        values = panel.values[panel.starts[series][:, np.newaxis] + steps[:, ::-1]]
        written[np.isnan(values)] = np.nan
    return x, written


class Reconstructions(Windows):
    """The windows of prepared series that end in given ranges, each the target of its own reconstruction."""

    @property
    def n_rows(self) -> int:
        return 2 * self.prepared.preparation.settings.window_length * len(self)

    @property
    def lengths(self) -> Rows:
        return np.broadcast_to(np.int64(2 * self.prepared.preparation.settings.window_length), len(self))

    def part(self, begin: int, end: int) -> tuple[Sequences, NDArray, Array]:
        x, written = _write_and_read(self.prepared, *self.places(begin, end))
        n, length, n_targets = written.shape
        targets = np.zeros((n, 2 * length, n_targets), dtype=x.dtype)
        targets[:, length:] = written
        weights = np.zeros((n, 2 * length))
        weights[:, length:] = 1.0 - np.isnan(written).mean(axis=2)
        return Sequences.from_padded(x), targets.reshape(-1, n_targets), weights.reshape(-1)

    def _weigh(self) -> float:
        panel, length = self.prepared.panel, self.prepared.preparation.settings.window_length
        if not self.prepared.has_missing:
            return float(len(self) * length)
        total = 0.0
        for number, size in enumerate(np.diff(self._offsets)):
            observed = (~np.isnan(panel.values[panel.rows(number)])).mean(axis=1)
            before = np.concatenate([[0.0], np.cumsum(observed)])
            ends = self.first[number] + np.arange(size) + 1
            total += float((before[ends] - before[ends - length]).sum())
        return total


class WindowScorer:
    """A trained network, and what its errors usually are.

    Parameters
    ----------
    method : {"forecast", "reconstruction"}
    network : Network
    preparation : Preparation
        Of one series: all have its scales.

    Attributes
    ----------
    location, scale : ndarray
        Mean and standard deviation of the usual errors, of every target; of a reconstruction also of every step of the
        window.
    averages : Averages or None
        By which time steps are judged together with those before them.
    """

    def __init__(self, method: str, network: Network, preparation: Preparation) -> None:
        self.method = method
        self.network = network
        self.preparation = preparation
        self.location: Array = np.zeros(1)
        self.scale: Array = np.ones(1)
        self.averages: Averages | None = None

    @property
    def n_before(self) -> int:
        """Time steps of a series before the first one that is judged."""
        return self.preparation.settings.n_history - (self.method == "reconstruction")

    def prepare(self, panel: Panel) -> Prepared:
        return Prepared(self.preparation.for_series(len(panel)), panel)

    def ranges(self, lengths: Rows) -> tuple[Rows, Rows]:
        """The last rows of the windows by which time steps of series can be judged: the first, and one past the last"""
        first = np.full(len(lengths), self.preparation.settings.n_history - 1, dtype=np.int64)
        return first, np.maximum(lengths - (self.method == "forecast"), first)

    def errors(self, prepared: Prepared, series: Rows, ends: Rows, device: str) -> Array:
        """What was observed, minus what the network says, in scaled units: a row for each window."""
        parts = []
        for begin in range(0, len(ends), _CHUNK):
            which = series[begin : begin + _CHUNK], ends[begin : begin + _CHUNK]
            if self.method == "forecast":
                windows = prepared.windows(*which)
                outputs = reader_of(device, self.network, windows).outputs(windows).astype(np.float64)
                parts.append(prepared.targets(*which, 1)[:, 0] - outputs)
            else:
                x, written = _write_and_read(prepared, *which)
                sequences = Sequences.from_padded(x)
                outputs = reader_of(device, self.network, sequences).outputs(sequences).reshape(*x.shape[:2], -1)
                parts.append((written - outputs[:, x.shape[1] // 2 :].astype(np.float64)).reshape(len(x), -1))
        return np.concatenate(parts) if parts else np.zeros((0, 1))

    def learn_usual_errors(self, prepared: Prepared, series: Rows, ends: Rows, device: str) -> Array:
        """Take the errors of these windows for the usual ones; return how unusual each of them is then."""
        errors = self.errors(prepared, series, ends, device)
        observed = ~np.isnan(errors)
        count = np.maximum(observed.sum(axis=0), 1)
        self.location = np.where(observed, errors, 0.0).sum(axis=0) / count
        spread = np.sqrt(np.where(observed, (errors - self.location) ** 2, 0.0).sum(axis=0) / count)
        self.scale = np.maximum(spread, _SMALLEST_SCALE)
        return self._distances(errors)

    def _distances(self, errors: Array) -> Array:
        """Root mean square of the standardised errors of each row; NaN where all are missing."""
        squares = ((errors - self.location) / self.scale) ** 2
        observed = ~np.isnan(squares)
        with np.errstate(invalid="ignore"):
            return np.sqrt(np.where(observed, squares, 0.0).sum(axis=1) / observed.sum(axis=1))

    def distances(self, panel: Panel, device: str) -> list[Array]:
        """How unusual each time step is, for every series (n_steps,); NaN where that cannot be said."""
        prepared = self.prepare(panel)
        first, last = self.ranges(panel.lengths)
        result = []
        for number, length in enumerate(panel.lengths):
            distances = np.full(int(length), np.nan)
            ends = np.arange(first[number], last[number])
            if len(ends):
                errors = self.errors(prepared, np.full(len(ends), number), ends, device)
                distances[ends + (self.method == "forecast")] = self._distances(errors)
                if prepared.has_missing:
                    # A window may have no error of its last step, and yet errors of others.
                    missing = np.isnan(panel.values[panel.rows(number)]).all(axis=1)
                    distances[missing] = np.nan
            result.append(distances)
        return result

    def plain(self) -> dict[str, Any]:
        """What was learned beside the parameters of the network, in numbers, tuples and arrays."""
        averages = None if self.averages is None else asdict(self.averages)
        learned = {"location": self.location, "scale": self.scale, "averages": averages}
        return {"preparation": self.preparation.plain(), **learned}

    @classmethod
    def from_plain(cls, method: str, network: Network, plain: dict[str, Any]) -> WindowScorer:
        """The scorer that `plain` was made of."""
        preparation = Preparation.from_plain(plain["preparation"])
        scorer = cls(method, network, preparation)
        scorer.location, scorer.scale = plain["location"], plain["scale"]
        if plain.get("averages") is not None:  # earlier versions had none
            scorer.averages = Averages(**plain["averages"])
        blank = method == "reconstruction"
        n_errors = preparation.n_targets * (preparation.settings.window_length if blank else 1)
        if not (
            preparation.n_features + blank == network.input_size
            and network.n_outputs == preparation.n_targets
            and preparation.location.shape == preparation.scale.shape == (1, preparation.n_targets)
            and scorer.location.shape == scorer.scale.shape == (n_errors,)
            and (network.pooling is None) == blank
        ):
            raise ValueError("its parts do not fit together")
        return scorer
