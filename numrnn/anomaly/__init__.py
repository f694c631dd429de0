"""Anomalies in time series and in sequences of symbols."""

from __future__ import annotations

from numrnn.anomaly.detector import RNNAnomalyDetector

__all__ = ["RNNAnomalyDetector"]
