"""
A forecast and its errors
=========================

Hourly air pollution in Beijing: a network reads the 48 hours before, and forecasts the next 12 with intervals. The data
are inside the package; here are the last 200 days.
"""

# %%
# The series, with the times as its index
# ---------------------------------------

import pandas as pd

from numrnn import RNNForecaster
from numrnn.datasets import load_beijing_pm25

data = load_beijing_pm25()
hours = pd.DatetimeIndex(data.hours[-4800:].astype("datetime64[ns]"), name="hour")
pm25 = pd.Series(data.hourly[-4800:, 0].astype("float64"), hours, name="PM2.5")
known, future = pm25[:-12], pm25[-12:]

# %%
# The forecast
# ------------
# Differences to the last value are forecast: most of the next hour is the last one. The tail of the series is held out,
# and the intervals are made from the errors there.

forecaster = RNNForecaster(
    (32,),
    horizon=12,
    window_length=48,
    difference=1,
    learning_rate_init=2e-3,
    batch_size=64,
    max_iter=4,
    tol=0.0,
    random_state=0,
)
forecaster.fit(known)

# %%
from numrnn.plots import ErrorPerHorizonDisplay, ForecastDisplay, ResidualsDisplay

display = ForecastDisplay.from_forecaster(
    forecaster, y_true=future, history=known[-60:], coverages=(0.5, 0.8, 0.95), unit="PM2.5 (µg/m³)"
)

# %%
# How good is it, many times over?
# --------------------------------
# A rolling backtest forecasts from one origin after another, with what was known there. The naive forecast, the last
# value, stands beside it.

import numpy as np

result = forecaster.backtest(pm25, initial=4000, step=12)
naive = np.stack([np.full(12, pm25.iloc[origin - 1]) for origin in result.origins])
ErrorPerHorizonDisplay.from_predictions(
    result.observed, {"as the last value": naive, "LSTM 32": result.forecast}, unit="µg/m³", name="PM2.5 in Beijing"
)

# %%
# The errors one hour ahead should have no pattern left.

one_ahead = result.observed[:, 0], result.forecast[:, 0]
ResidualsDisplay.from_predictions(*one_ahead, kind="distribution", unit="µg/m³", name="one hour ahead")

# %%
ResidualsDisplay.from_predictions(*one_ahead, kind="autocorrelation", name="one hour ahead, every twelfth hour")
