"""Recurrent networks as scikit-learn estimators."""

from __future__ import annotations

from numrnn.estimators.classifier import RNNClassifier
from numrnn.estimators.regressor import RNNRegressor

__all__ = ["RNNClassifier", "RNNRegressor"]
