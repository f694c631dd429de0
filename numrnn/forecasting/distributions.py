"""What raw outputs of the network say about the value to come, in scaled units.

One class for each loss, all with the same four methods. The meaning of raw outputs is defined in
`numrnn.kernels.cpu.likelihoods`.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from numrnn.kernels.cpu.likelihoods import LIKELIHOODS, SMALLEST_DISPERSION, SMALLEST_MEAN, SMALLEST_SCALE

__all__ = ["DISTRIBUTIONS", "POINT_LOSSES", "Distribution", "Point", "distribution", "outputs_per_target"]

Array = NDArray[np.float64]

POINT_LOSSES = ("squared_error", "absolute_error", "huber")


def _softplus(x: Array) -> Array:
    return np.logaddexp(0.0, x)


class Distribution(Protocol):
    """Distributions of values of the shape (...)."""

    def point(self) -> Array:
        """The forecast in one number."""

    def quantiles(self, levels: Array) -> Array:
        """Quantiles (..., n_levels)."""

    def sample(self, rng: np.random.RandomState) -> Array:
        """One value of each."""


class Point:
    """A forecast without a distribution: every quantile is the point itself."""

    def __init__(self, raw: Array) -> None:
        self.value = raw[..., 0]

    def point(self) -> Array:
        return self.value

    def quantiles(self, levels: Array) -> Array:
        return np.repeat(self.value[..., np.newaxis], len(levels), axis=-1)

    def sample(self, rng: np.random.RandomState) -> Array:
        return self.value


class Quantiles:
    """Quantiles at some levels, linear between them.

    The point is the median. Beyond the outermost levels nothing is known: samples stay within them.
    """

    def __init__(self, raw: Array, levels: Array) -> None:
        self.levels = np.asarray(levels, dtype=np.float64)
        anchor = int(np.argmin(np.abs(self.levels - 0.5)))
        steps = _softplus(raw)
        steps[..., anchor] = 0.0
        above = np.cumsum(steps[..., anchor:], axis=-1)
        below = np.cumsum(steps[..., anchor::-1], axis=-1)[..., ::-1]
        center = raw[..., anchor : anchor + 1]
        self.values = np.concatenate([(center - below)[..., :-1], center + above], axis=-1)

    def point(self) -> Array:
        return self._at(np.clip(0.5, self.levels[0], self.levels[-1]))

    def quantiles(self, levels: Array) -> Array:
        return np.stack([self._at(level) for level in levels], axis=-1)

    def _at(self, level: Any) -> Array:
        """The quantile at one level, or at a level for each distribution."""
        level = np.broadcast_to(np.clip(level, self.levels[0], self.levels[-1]), self.values.shape[:-1])
        if len(self.levels) == 1:
            return self.values[..., 0]
        right = np.clip(np.searchsorted(self.levels, level, side="left"), 1, len(self.levels) - 1)
        share = (level - self.levels[right - 1]) / (self.levels[right] - self.levels[right - 1])
        low = np.take_along_axis(self.values, right[..., np.newaxis] - 1, axis=-1)[..., 0]
        high = np.take_along_axis(self.values, right[..., np.newaxis], axis=-1)[..., 0]
        return low + share * (high - low)

    def sample(self, rng: np.random.RandomState) -> Array:
        return self._at(rng.uniform(size=self.values.shape[:-1]))


class Gaussian:
    """Normal distributions."""

    def __init__(self, raw: Array) -> None:
        self.mean, self.scale = raw[..., 0], _softplus(raw[..., 1]) + SMALLEST_SCALE

    def point(self) -> Array:
        return self.mean

    def quantiles(self, levels: Array) -> Array:
        return self.mean[..., np.newaxis] + self.scale[..., np.newaxis] * special.ndtri(levels)

    def sample(self, rng: np.random.RandomState) -> Array:
        return rng.normal(self.mean, self.scale)


class StudentT:
    """Student's t with location and scale."""

    def __init__(self, raw: Array) -> None:
        self.location, self.scale = raw[..., 0], _softplus(raw[..., 1]) + SMALLEST_SCALE
        self.freedom = _softplus(raw[..., 2]) + 2.0

    def point(self) -> Array:
        return self.location

    def quantiles(self, levels: Array) -> Array:
        standard = special.stdtrit(self.freedom[..., np.newaxis], levels)
        return self.location[..., np.newaxis] + self.scale[..., np.newaxis] * standard

    def sample(self, rng: np.random.RandomState) -> Array:
        return self.location + self.scale * rng.standard_t(self.freedom)


class NegativeBinomial:
    """Counts, divided by their scale; the point is the mean."""

    def __init__(self, raw: Array, scale: Array) -> None:
        self.count_scale = np.broadcast_to(scale, raw.shape[:-1])
        self.mean = _softplus(raw[..., 0]) + SMALLEST_MEAN
        dispersion = _softplus(raw[..., 1]) + SMALLEST_DISPERSION
        self.size = 1.0 / dispersion
        self.probability = 1.0 / (1.0 + dispersion * self.mean * self.count_scale)

    def point(self) -> Array:
        return self.mean

    def quantiles(self, levels: Array) -> Array:
        counts = stats.nbinom.ppf(levels, self.size[..., np.newaxis], self.probability[..., np.newaxis])
        return counts / self.count_scale[..., np.newaxis]

    def sample(self, rng: np.random.RandomState) -> Array:
        # A Poisson variable whose mean is a gamma variable.
        mean = rng.gamma(self.size, self.mean * self.count_scale / self.size)
        return rng.poisson(mean) / self.count_scale


DISTRIBUTIONS: dict[str, Any] = {"gaussian": Gaussian, "student_t": StudentT}


def outputs_per_target(loss: str, levels: Array) -> int:
    """Raw outputs that the network has for each value to forecast."""
    if loss in POINT_LOSSES:
        return 1
    return LIKELIHOODS[loss].outputs_per_target or len(levels)


def distribution(loss: str, raw: Array, levels: Array, scale: Array) -> Distribution:
    """The distributions that raw outputs (..., n_raw) stand for.

    Parameters
    ----------
    loss : str
    raw : ndarray of float64, shape (..., n_raw)
    levels : ndarray of shape (n_levels,)
        Of the loss "quantile".
    scale : ndarray
        Scale of the series, to be broadcast to (...): what counts were divided by.
    """
    if loss in POINT_LOSSES:
        return Point(raw)
    if loss == "quantile":
        return Quantiles(raw, levels)
    if loss == "negative_binomial":
        return NegativeBinomial(raw, scale)
    return DISTRIBUTIONS[loss](raw)
