"""Plots as displays in the manner of scikit-learn.

======================  ===========================================================
display                 shows
======================  ===========================================================
TrainingCurveDisplay    loss and validation score of every epoch
HiddenStateDisplay      states or gates of all units over time
GradientFlowDisplay     how far gradients reach back in time
AttentionDisplay        the weights of attention over time steps or tokens
AttentionMapDisplay     source tokens against target tokens
AttributionDisplay      the share of every input value in an output
ForecastDisplay         a forecast with its intervals, beside what came true
ResidualsDisplay        forecast errors: over time, distribution, autocorrelation
ErrorPerHorizonDisplay  the error of forecasts so many steps ahead
AnomalyScoresDisplay    a series with its anomaly scores
======================  ===========================================================

A display is made by one of its class methods from a model or from arrays, draws on the axes it is given or on a new
figure, and keeps what it drew in `ax_`, `figure_` and further attributes. Matplotlib is imported when something is
drawn, not before: ``pip install "numrnn[plot]"``.
"""

from __future__ import annotations

from numrnn.plots.anomalies import AnomalyScoresDisplay
from numrnn.plots.attention_map import AttentionMapDisplay
from numrnn.plots.forecasts import ErrorPerHorizonDisplay, ForecastDisplay, ResidualsDisplay
from numrnn.plots.inspection import AttentionDisplay, AttributionDisplay, GradientFlowDisplay, HiddenStateDisplay
from numrnn.plots.training import TrainingCurveDisplay

__all__ = [
    "AnomalyScoresDisplay",
    "AttentionDisplay",
    "AttentionMapDisplay",
    "AttributionDisplay",
    "ErrorPerHorizonDisplay",
    "ForecastDisplay",
    "GradientFlowDisplay",
    "HiddenStateDisplay",
    "ResidualsDisplay",
    "TrainingCurveDisplay",
]
