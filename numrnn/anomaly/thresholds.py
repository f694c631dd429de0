"""Where anomalies begin: a share of the scores, or a level beyond all of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["level_by_extremes", "level_by_share"]

Array = NDArray[np.float64]

# The largest hundredths of what was seen are the tail by which what lies beyond it is judged, if they are so many.
_TAIL, _FEWEST = 0.02, 10
# A tail heavier than this has no mean, and the estimate no meaning.
_HEAVIEST = 0.9


def level_by_share(scores: Array, share: float) -> float:
    """The level below which lies this share of the scores."""
    return float(np.percentile(scores, 100.0 * share))


def level_by_extremes(scores: Array, rate: float) -> float:
    """The level that scores like these fall short of with this probability, which may be less than one in all of them.

    Peaks over threshold [1]_: what exceeds a high threshold has about a generalised Pareto distribution; it is fitted
    to the lowest 2 % of the scores by probability-weighted moments [2]_. With fewer than ten of them, or if they are
    all the same, it is the lowest score.

    .. [1] Siffer, A., Fouque, P.-A., Termier, A. and Largouët, C. (2017). Anomaly detection in streams with extreme
       value theory. KDD.
    .. [2] Hosking, J. R. M. and Wallis, J. R. (1987). Parameter and quantile estimation for the generalized Pareto
       distribution. Technometrics 29, 339-349.
    """
    badness = -np.sort(scores)[::-1]  # ascending
    threshold = float(np.quantile(badness, 1.0 - _TAIL))
    peaks = badness[badness > threshold] - threshold
    if len(peaks) < _FEWEST or peaks[-1] <= 1e-9 * max(abs(threshold), 1.0):
        return -float(badness[-1])
    n = len(peaks)
    mean = float(peaks.mean())
    # The mean of the peaks, each weighted by the probability that another one is larger.
    weighted = float((peaks * (1.0 - (np.arange(1, n + 1) - 0.35) / n)).mean())
    shape = min(2.0 - mean / (mean - 2.0 * weighted), _HEAVIEST)
    scale = mean * (1.0 - shape)
    ratio = n / (rate * len(badness))
    beyond = np.log(ratio) if abs(shape) < 1e-6 else (ratio**shape - 1.0) / shape
    return -(threshold + scale * float(beyond))
