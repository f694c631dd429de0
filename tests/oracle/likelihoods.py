"""Losses of probabilistic forecasts as definitions: what raw outputs mean, and the loss of each target.

Densities and probabilities are those of SciPy. Derivatives are left to central differences.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from oracle.cells import Array


def softplus(x: Array) -> Array:
    return np.logaddexp(0.0, x)


def quantiles(raw: Array, levels: Array) -> Array:
    """The quantiles (..., n_levels) of raw numbers (..., n_levels): outwards from the level nearest 1/2."""
    anchor = int(np.argmin(np.abs(np.asarray(levels) - 0.5)))
    result = np.empty(raw.shape)
    result[..., anchor] = raw[..., anchor]
    for j in range(anchor + 1, len(levels)):
        result[..., j] = result[..., j - 1] + softplus(raw[..., j])
    for j in range(anchor - 1, -1, -1):
        result[..., j] = result[..., j + 1] - softplus(raw[..., j])
    return result


def quantile(raw: Array, targets: Array, levels: Array) -> Array:
    """Pinball loss of every target (n_rows, n_targets), mean over the levels; raw (n_rows, n_targets * n_levels)."""
    levels = np.asarray(levels)
    error = targets[..., None] - quantiles(raw.reshape(*targets.shape, len(levels)), levels)
    return np.maximum(levels * error, (levels - 1) * error).mean(axis=-1)


def gaussian(raw: Array, targets: Array) -> Array:
    mean, scale = np.moveaxis(raw.reshape(*targets.shape, 2), -1, 0)
    return -stats.norm.logpdf(targets, mean, softplus(scale) + 1e-3)


def student_t(raw: Array, targets: Array) -> Array:
    mean, scale, freedom = np.moveaxis(raw.reshape(*targets.shape, 3), -1, 0)
    return -stats.t.logpdf(targets, softplus(freedom) + 2, mean, softplus(scale) + 1e-3)


def negative_binomial(raw: Array, targets: Array) -> Array:
    """Targets (n_rows, 2 * n_targets): counts and scales by turns."""
    counts, scales = targets[:, ::2], targets[:, 1::2]
    mean, dispersion = np.moveaxis(raw.reshape(*counts.shape, 2), -1, 0)
    mean, dispersion = scales * (softplus(mean) + 1e-6), softplus(dispersion) + 1e-4
    return -stats.nbinom.logpmf(counts, 1 / dispersion, 1 / (1 + dispersion * mean))


def weighted_mean(values: Array, weights: Array) -> float:
    """sum(w * loss) / sum(w) over the rows; the loss of a row is the mean of its values that are not NaN, if any."""
    rows = [row[~np.isnan(row)] for row in values]
    total = sum(weight * row.mean() for weight, row in zip(weights, rows, strict=True) if len(row))
    return float(total / weights.sum())
