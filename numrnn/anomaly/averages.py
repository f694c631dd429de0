"""Whether time steps have been unusual of late, compared with how unusual they are in the long run.

A single error says little: some series are noisy for a while, and a network may be worse everywhere on a regime that it
has not seen. The anomaly likelihood [1]_ compares the average of the last few distances with the mean and the standard
deviation of many before. Both averages are exponential here, so that a stream needs three numbers of memory, and a
series is judged by the same additions whether it comes at once or step by step.

.. [1] Lavin, A. and Ahmad, S. (2015). Evaluating real-time anomaly detection algorithms: the Numenta anomaly benchmark.
   ICMLA.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

__all__ = ["Averages", "gaussian_level"]

Array = NDArray[np.float64]

# Distances that vary less than this, in units of a usual error, vary by nothing that matters.
_SMALLEST_SPREAD = 0.1


@dataclass(frozen=True)
class Averages:
    """Two exponential averages of distances.

    Attributes
    ----------
    short, long : int
        Spans: a step has the weight 2 / (span + 1) when it comes.
    mean, variance : float
        Of the usual distances, from which every series sets out.
    n_usual : int
        How many distances that knowledge is worth.
    """

    short: int
    long: int
    mean: float
    variance: float
    n_usual: int

    @classmethod
    def of(cls, spans: tuple[int, int], usual: Array) -> Averages:
        """Averages that set out from these distances."""
        return cls(*spans, float(usual.mean()), float(usual.var()), len(usual))

    def start(self) -> Array:
        """The state before the first distance: short average, mean, variance, and how many distances they are of."""
        return np.array([self.mean, self.mean, self.variance, min(self.n_usual, (self.long + 1) / 2)])

    def follow(self, distances: Array, state: Array) -> Array:
        """Scores of distances that follow a state, which is changed: 0 is usual, 2 is two standard deviations worse.

        A distance that is NaN has the score NaN and changes nothing.
        """
        weight, most = 2.0 / (self.short + 1), (self.long + 1) / 2
        level, mean, variance, count = state.tolist()
        scores = np.full(len(distances), np.nan)
        for place, distance in enumerate(distances.tolist()):
            if distance != distance:
                continue
            level += weight * (distance - level)
            # Compared with what was before: a jump does not excuse itself.
            scores[place] = (level - mean) / max(variance**0.5, _SMALLEST_SPREAD)
            count = min(count + 1.0, most)
            change = distance - mean
            mean += change / count
            variance = (1.0 - 1.0 / count) * (variance + change * change / count)
        state[:] = level, mean, variance, count
        return scores


def gaussian_level(rate: float) -> float:
    """The standard deviations that a Gaussian variable exceeds with this probability."""
    return float(-ndtri(rate))
