"""Forecasts of time series by recurrent networks."""

from __future__ import annotations

from numrnn.forecasting.forecaster import RNNForecaster

__all__ = ["RNNForecaster"]
