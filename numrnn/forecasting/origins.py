"""Forecasts from origins: pairs of a series and its last row that is known.

There are as many as it takes: one for each series in a forecast, thousands in a calibration or a backtest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.devices import reader_of
from numrnn.forecasting.calibration import ErrorPool, corrections
from numrnn.forecasting.distributions import POINT_LOSSES, Distribution, distribution
from numrnn.forecasting.preparation import Preparation
from numrnn.forecasting.windows import Prepared
from numrnn.network import Network
from numrnn.packing import Sequences
from numrnn.seq2seq import EncoderDecoder, PairBatch

__all__ = ["Predictor"]

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

# Values that a step-by-step forecast of many origins or paths holds at once.
_LARGEST_CHUNK = 2**22


@dataclass(frozen=True)
class Predictor:
    """A trained network, and what is needed to read its outputs as values of series.

    Attributes
    ----------
    network : Network or EncoderDecoder
    preparation : Preparation
    loss : str
    levels : ndarray of shape (n_levels,)
        Of the loss "quantile".
    n_paths : int
        Sample paths that make a quantile.
    seed : int
        Of these paths.
    device : str
        Where the network is computed.
    """

    network: Network | EncoderDecoder
    preparation: Preparation
    loss: str
    levels: Array
    n_paths: int
    seed: int
    device: str = "cpu"

    def raw(self, prepared: Prepared, series: Rows, ends: Rows, steps: int) -> Array:
        """Raw outputs for the steps after the origins (n_origins, steps, n_targets, n_raw).

        Beyond the steps of one output of the network, for losses of a point alone: the others have no distribution
        there but that of `sample_levels`.
        """
        settings, shape = self.preparation.settings, (len(ends), -1, prepared.panel.n_targets)
        if steps <= settings.block:
            outputs = self._outputs(prepared.read(series, ends))
            return outputs.reshape(len(ends), settings.block, shape[2], -1)[:, :steps]
        levels = self.roll(prepared, series, ends, steps, lambda one: one.point())
        baselines = prepared.baselines(series, ends, steps)
        return self.scaled(series, levels - baselines)[..., np.newaxis]

    def _outputs(self, read: Sequences | PairBatch) -> Array:
        """Raw outputs, those of one origin after those of the other."""
        if isinstance(read, PairBatch):
            assert isinstance(self.network, EncoderDecoder)
            return reader_of(self.device, self.network, read).outputs_of(read).astype(np.float64)
        assert isinstance(self.network, Network)
        return reader_of(self.device, self.network, read).outputs(read).astype(np.float64)

    def scaled(self, series: Rows, differences: Array) -> Array:
        location, scale = self.preparation.location[series], self.preparation.scale[series]
        return (differences - location[:, np.newaxis]) / scale[:, np.newaxis]

    def distribution(self, raw: Array, series: Rows) -> Distribution:
        """Distributions of scaled differences, from raw outputs (n_origins, n_steps, n_targets, n_raw)."""
        return distribution(self.loss, raw, self.levels, self.preparation.scale[series][:, np.newaxis])

    def values(self, prepared: Prepared, series: Rows, ends: Rows, scaled: Array) -> Array:
        """Scaled differences (n_origins, n_steps, n_targets, ...) in the units of y."""
        preparation = self.preparation
        extra = (1,) * (scaled.ndim - 3)
        location = preparation.location[series].reshape(len(series), 1, -1, *extra)
        scale = preparation.scale[series].reshape(len(series), 1, -1, *extra)
        baselines = prepared.baselines(series, ends, scaled.shape[1])
        return self.in_units(
            preparation.restore(baselines.reshape(*baselines.shape, *extra) + location + scale * scaled)
        )

    def in_units(self, values: Array) -> Array:
        return np.rint(values) if self.loss == "negative_binomial" and values.ndim > 3 else values

    def roll(
        self, prepared: Prepared, series: Rows, ends: Rows, steps: int, choose: Callable[[Distribution], Array]
    ) -> Array:
        """Levels of the steps after the origins (n_origins, steps, n_targets), each block read for the next one.

        `choose` takes a value from each distribution.
        """
        preparation = self.preparation
        settings, panel = preparation.settings, prepared.panel
        block, window, n_targets = settings.block, settings.window_length, panel.n_targets
        history = settings.n_history
        result = np.empty((len(ends), steps, n_targets))
        size = max(_LARGEST_CHUNK // ((history + steps + window) * preparation.n_features), 1)
        for begin in range(0, len(ends), size):
            chosen, last = series[begin : begin + size], ends[begin : begin + size]
            past = (panel.starts[chosen] + last)[:, np.newaxis] + np.arange(1 - history, 1)
            n_blocks = -(-steps // block)
            levels = np.empty((len(last), history + n_blocks * block, n_targets))
            levels[:, :history] = prepared.levels[past]
            missing = np.zeros(levels.shape, dtype=bool)
            missing[:, :history] = np.isnan(panel.values[past])
            location = preparation.location[chosen][:, np.newaxis]
            scale = preparation.scale[chosen][:, np.newaxis]
            for number in range(n_blocks):
                end = history + number * block
                x = np.empty((len(last), window, preparation.n_features), dtype=prepared.rows.dtype)
                rows = (prepared.row_starts[chosen] + last + number * block)[:, np.newaxis] + np.arange(1 - window, 1)
                x[..., preparation.n_target_columns :] = prepared.rows[rows, preparation.n_target_columns :]
                seen = levels[:, end - window - settings.n_lost : end]
                preparation.write_targets(x, seen, missing[:, end - window : end], chosen)
                raw = self._outputs(prepared.read(chosen, last + number * block, Sequences.from_padded(x)))
                scaled = choose(self.distribution(raw.reshape(len(last), block, n_targets, -1), chosen))
                for h in range(1, block + 1):
                    difference = location[:, 0] + scale[:, 0] * scaled[:, h - 1]
                    levels[:, end + h - 1] = difference + preparation.baseline(levels, end - 1, h)
            result[begin : begin + size] = levels[:, history : history + steps]
        return result

    def sample_levels(
        self, prepared: Prepared, series: Rows, ends: Rows, steps: int, n_samples: int, rng: np.random.RandomState
    ) -> Array:
        """Levels along sample paths (n_origins, steps, n_targets, n_samples)."""
        levels = self.roll(
            prepared, np.repeat(series, n_samples), np.repeat(ends, n_samples), steps, lambda one: one.sample(rng)
        )
        return np.moveaxis(levels.reshape(len(ends), n_samples, steps, -1), 1, -1)

    def quantiles(
        self, prepared: Prepared, series: Rows, ends: Rows, steps: int, levels: Array, correction: Array | None
    ) -> Array:
        """Quantiles of the values after the origins (n_origins, steps, n_targets, n_levels).

        `correction`, of shape (..., steps, n_targets, n_levels), is in scaled units.
        """
        preparation = self.preparation
        if steps <= preparation.settings.block or self.loss in POINT_LOSSES:
            scaled = self.distribution(self.raw(prepared, series, ends, steps), series).quantiles(levels)
            if correction is not None:
                # Corrections of neighbouring levels may differ by more than the quantiles: they are put in order.
                scaled = np.sort(scaled + correction, axis=-1)
            return self.values(prepared, series, ends, scaled)
        rng = np.random.RandomState(self.seed)
        result = np.empty((len(ends), steps, prepared.panel.n_targets, len(levels)))
        for number in range(len(ends)):  # one origin after the other: paths of all would fill the memory
            one = slice(number, number + 1)
            paths = self.sample_levels(prepared, series[one], ends[one], steps, self.n_paths, rng)
            values = self.in_units(preparation.restore(paths))[0]
            method: Any = "inverted_cdf" if self.loss == "negative_binomial" else "linear"  # counts stay whole
            result[number] = np.moveaxis(np.quantile(values, levels, axis=-1, method=method), 0, -1)
        return result

    def forecasts_and_outcomes(self, prepared: Prepared, ends: Sequence[Rows]) -> tuple[list[Array], list[Array]]:
        """Raw outputs and what was observed, scaled, after the rows `ends` of every series."""
        raw, observed = [], []
        horizon = self.preparation.settings.horizon
        for number, rows in enumerate(ends):
            series = np.full(len(rows), number, dtype=np.int64)
            raw.append(self.raw(prepared, series, rows, horizon))
            observed.append(prepared.targets(series, rows, horizon))
        return raw, observed

    def errors(self, pool: ErrorPool, levels: Array) -> list[Array]:
        """Errors of earlier quantile forecasts, by series (n_forecasts, n_steps, n_targets, n_levels)."""

        def quantiles_of(raw: Array, number: int, levels: Array) -> Array:
            return self.distribution(raw, np.full(len(raw), number)).quantiles(levels)

        return pool.errors(quantiles_of, levels)

    def correction(self, pool: ErrorPool | None, steps: int, levels: Array) -> Array | None:
        """What is added to quantiles of scaled differences (steps, n_targets, n_levels)."""
        if pool is None:
            return None
        errors = np.concatenate(self.errors(pool, levels))[:, :steps]
        return corrections(errors, levels, of_points=self.loss in POINT_LOSSES)

    def points(self, prepared: Prepared, series: Rows, ends: Rows, steps: int) -> Array:
        """Point forecasts of the values after the origins (n_origins, steps, n_targets)."""
        if steps <= self.preparation.settings.block:
            scaled = self.distribution(self.raw(prepared, series, ends, steps), series).point()
            return self.values(prepared, series, ends, scaled)
        levels = self.roll(prepared, series, ends, steps, lambda one: one.point())
        return self.preparation.restore(levels)
