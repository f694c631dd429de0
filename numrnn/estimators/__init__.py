"""Recurrent networks as scikit-learn estimators."""

from __future__ import annotations

from numrnn.estimators.classifier import RNNClassifier
from numrnn.estimators.convolution import Convolution
from numrnn.estimators.regressor import RNNRegressor
from numrnn.estimators.seq2seq import RNNSeq2Seq
from numrnn.estimators.tagger import RNNTagger

__all__ = ["Convolution", "RNNClassifier", "RNNRegressor", "RNNSeq2Seq", "RNNTagger"]
