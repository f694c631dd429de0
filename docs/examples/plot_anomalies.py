"""
Anomalies by the errors of a forecast
=====================================

What a forecast does not expect is an anomaly. A series with a daily rhythm is forecast one step ahead; where the error
is larger than the usual ones in a part of the series without anomalies, something happened.
"""

# %%
# A machine's temperature, every half hour, with two faults
# ---------------------------------------------------------
import numpy as np

rng = np.random.default_rng(0)
t = np.arange(48 * 30)
temperature = 60 + 8 * np.sin(2 * np.pi * t / 48) + rng.normal(0, 0.6, len(t))
truth = np.zeros(len(t), dtype=bool)
truth[1000:1008] = truth[1250:1262] = True
temperature[1000:1008] += 6  # a jump
temperature[1250:1262] = temperature[1250]  # stuck

# %%
# What is usual: the first half
# -----------------------------
# The threshold needs no labels: one in a thousand time steps of that half may lie beyond it.
from numrnn import RNNAnomalyDetector

half = len(t) // 2
detector = RNNAnomalyDetector(
    (24,), window_length=48, contamination=0.001, learning_rate_init=0.01, max_iter=25, tol=0.0, random_state=0
)
detector.fit(temperature[:half])

# %%
# Scores and a threshold
# ----------------------
from numrnn.plots import AnomalyScoresDisplay

AnomalyScoresDisplay.from_estimator(detector, temperature, truth=truth, time=t, unit="temperature (°C)")
