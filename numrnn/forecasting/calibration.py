"""Intervals that have been right before: quantiles corrected by what happened after earlier forecasts.

Forecasts of times that the network was not trained on are compared with what was observed. A quantile forecast q(p) at
level p becomes ``q(p) + c(p)``, where c(p) is the quantile at level p of the observed errors ``y - q(p)``, by the rank
p * (n + 1) among n of them. For a forecast that is only a point these are the quantiles of its residuals. Were the
errors exchangeable with those to come, each quantile would be exceeded with exactly its probability, whatever the model
is worth: this is split-conformal prediction [1]_, one-sided for every level [2]_. Errors of time series are
exchangeable only approximately; as new values are observed, the oldest errors make room for the newest.

Errors are in scaled units, so that series of different size can share them, and kept for each step of the horizon.

Forecasts h steps ahead from neighbouring origins miss the same values. The error of such a forecast is a sum over the h
steps; the sums that begin k steps apart share h - k of them, and so are correlated by 1 - k/h. That n of them tell no
more of their spread than ``n / (1 + 2 * sum((1 - k/h)**2))`` independent ones would is long known of returns over
periods that overlap [3]_. Where these are too few for the rank of a level to lie among them, the most extreme errors
say little of the tail. The errors of a forecast of a point are then taken to be normal about zero with a variance that
is estimated, which makes the correction a quantile of Student's t, times their root mean square, or what their ranks
give where that is farther out.

.. [1] Papadopoulos, H., Proedrou, K., Vovk, V. and Gammerman, A. (2002). Inductive confidence machines for regression.
   ECML.
.. [2] Romano, Y., Patterson, E. and Candès, E. (2019). Conformalized quantile regression. NeurIPS.
.. [3] Lo, A. and MacKinlay, A. C. (1989). The size and power of the variance ratio test in finite samples. Journal of
   Econometrics 40.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

__all__ = ["LARGEST_POOL", "ErrorPool", "corrections", "fewest_errors", "independent_errors"]

Array = NDArray[np.float64]

# So many forecasts of all series together are remembered: a quantile at 1% then still has ten errors beyond it.
LARGEST_POOL = 1000


class ErrorPool:
    """Forecasts and what was observed after them, oldest first, for every series.

    Parameters
    ----------
    raw : list of ndarray, each (n_forecasts, n_steps, n_targets, n_raw)
        Raw outputs of the network.
    observed : list of ndarray, each (n_forecasts, n_steps, n_targets)
        In scaled units; NaN where missing.
    size : int or None
        Forecasts of each series that are kept. None: as many as there are, `LARGEST_POOL` of all series at most.
    """

    def __init__(self, raw: Sequence[Array], observed: Sequence[Array], size: int | None = None) -> None:
        if size is None:
            size = min(
                max((len(part) for part in observed), default=0), math.ceil(LARGEST_POOL / max(len(observed), 1))
            )
        self.size = size
        self.raw = [part[len(part) - min(size, len(part)) :] for part in raw]
        self.observed = [part[len(part) - min(size, len(part)) :] for part in observed]

    def __len__(self) -> int:
        return sum(len(part) for part in self.observed)

    def extended(self, raw: Sequence[Array], observed: Sequence[Array]) -> ErrorPool:
        """With newer forecasts, and without as many of the oldest."""
        return ErrorPool(
            [np.concatenate(pair) for pair in zip(self.raw, raw, strict=True)],
            [np.concatenate(pair) for pair in zip(self.observed, observed, strict=True)],
            self.size,
        )

    def errors(self, quantiles_of: Callable[[Array, int, Array], Array], levels: Array) -> list[Array]:
        """Errors of the quantile forecasts: for each series (n_forecasts, n_steps, n_targets, n_levels).

        `quantiles_of(raw, number of the series, levels)` gives the quantiles.
        """
        return [
            observed[..., np.newaxis] - quantiles_of(raw, number, levels)
            for number, (raw, observed) in enumerate(zip(self.raw, self.observed, strict=True))
        ]


def corrections(errors: Array, levels: Array, *, of_points: bool = False) -> Array:
    """The quantile at each level of its errors (n, n_steps, n_targets, n_levels), without those that are NaN.

    `errors` are those of forecasts from consecutive origins. With `of_points` they are the residuals of a forecast, the
    same at every level, and those too few to be ranked are taken to be normal about zero.
    """
    result = np.empty(errors.shape[1:])
    for j, level in enumerate(levels):
        column = errors[..., j]
        if np.isnan(column.sum()):
            with np.errstate(invalid="ignore"):
                result[..., j] = np.nanquantile(column, level, axis=0, method="weibull")
        else:
            result[..., j] = np.quantile(column, level, axis=0, method="weibull")
        if of_points and level != 0.5:
            seen = np.isfinite(column)
            counts = seen.sum(axis=0)
            independent = independent_errors(counts)
            few = (independent < fewest_errors([level])) & (counts > 0)
            spread = np.sqrt(np.sum(np.where(seen, column, 0.0) ** 2, axis=0) / np.maximum(counts, 1))
            # Less than one is no distribution at all; `Prediction` warns of it.
            normal = spread * stdtrit(np.maximum(independent, 1.0), level)
            outer = np.maximum if level > 0.5 else np.minimum
            result[few, j] = outer(normal, result[..., j])[few]
    return result


def independent_errors(counts: NDArray[np.int64]) -> Array:
    """As many independent errors as tell of their spread what these do (n_steps, n_targets), from consecutive origins.

    `counts` are numbers of errors 1, 2, ... steps ahead.
    """
    shares = [np.arange(1, h) / h for h in range(1, len(counts) + 1)]
    return counts / np.array([1.0 + 2.0 * np.sum(share**2) for share in shares])[:, np.newaxis]


def fewest_errors(levels: Any) -> int:
    """How many errors there must be for the ranks of the levels to lie among them."""
    outermost = min(min(level, 1.0 - level) for level in levels)
    return math.ceil(1.0 / outermost - 1e-9) - 1
