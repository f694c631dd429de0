"""
Anomalies by the errors of a forecast
=====================================

What a forecast does not expect is an anomaly. A series with a daily rhythm is forecast one step ahead; where the error
is larger than any in a part of the series without anomalies, something happened.
"""

# %%
# A machine's temperature, every half hour, with two faults
# ---------------------------------------------------------
import numpy as np

from numrnn import RNNRegressor
from numrnn.datasets import sliding_windows

rng = np.random.default_rng(0)
t = np.arange(48 * 30)
temperature = 60 + 8 * np.sin(2 * np.pi * t / 48) + rng.normal(0, 0.6, len(t))
truth = np.zeros(len(t), dtype=bool)
truth[1000:1008] = truth[1250:1262] = True
temperature[1000:1008] += 6  # a jump
temperature[1250:1262] = temperature[1250]  # stuck

# %%
# Forecast one step ahead, trained on the first half
# --------------------------------------------------
length, half = 48, len(t) // 2
location, scale = temperature[:half].mean(), temperature[:half].std()
windows = sliding_windows((temperature - location) / scale, length)[:-1]
model = RNNRegressor((24,), learning_rate_init=0.01, max_iter=25, tol=0.0, random_state=0)
n_train = half - length
model.fit(windows[:n_train], temperature[length:half])

# %%
# Scores and a threshold
# ----------------------
scores = np.full(len(t), np.nan)
scores[length:] = np.abs(temperature[length:] - model.predict(windows))
threshold = np.nanmax(scores[:half])

from numrnn.plots import AnomalyScoresDisplay

AnomalyScoresDisplay.from_scores(
    temperature[half:], scores[half:], threshold=threshold, truth=truth[half:], time=t[half:], unit="temperature (°C)"
)
