"""Recurrent networks for numeric Python: RNN, LSTM and GRU as scikit-learn estimators, on kernels of our own."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Where the public names live. They are imported when first used: numrnn itself starts fast.
_HOMES = {
    "GRU": "numrnn.layers",
    "LSTM": "numrnn.layers",
    "RNN": "numrnn.layers",
    "Convolution": "numrnn.estimators",
    "RNNAnomalyDetector": "numrnn.anomaly",
    "RNNClassifier": "numrnn.estimators",
    "RNNLanguageModel": "numrnn.language",
    "RNNRegressor": "numrnn.estimators",
    "RNNForecaster": "numrnn.forecasting",
    "RNNSeq2Seq": "numrnn.estimators",
    "RNNTagger": "numrnn.estimators",
    "ModelFileError": "numrnn.persistence",
    "compile_pipeline": "numrnn.pipelines",
    "load": "numrnn.persistence",
    "PerStep": "numrnn.steps",
    "SequenceEncoder": "numrnn.text",
    "datasets": "numrnn.datasets",
    "inspection": "numrnn.inspection",
    "metrics": "numrnn.metrics",
    "plots": "numrnn.plots",
}

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Convolution",
    "ModelFileError",
    "PerStep",
    "RNNAnomalyDetector",
    "RNNClassifier",
    "RNNForecaster",
    "RNNLanguageModel",
    "RNNRegressor",
    "RNNSeq2Seq",
    "RNNTagger",
    "SequenceEncoder",
    "__version__",
    "compile_pipeline",
    "datasets",
    "inspection",
    "load",
    "metrics",
    "plots",
]

if TYPE_CHECKING:
    from numrnn import datasets, inspection, metrics, plots
    from numrnn.anomaly import RNNAnomalyDetector
    from numrnn.estimators import Convolution, RNNClassifier, RNNRegressor, RNNSeq2Seq, RNNTagger
    from numrnn.forecasting import RNNForecaster
    from numrnn.language import RNNLanguageModel
    from numrnn.layers import GRU, LSTM, RNN
    from numrnn.persistence import ModelFileError, load
    from numrnn.pipelines import compile_pipeline
    from numrnn.steps import PerStep
    from numrnn.text import SequenceEncoder


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'numrnn' has no attribute {name!r}")
    home = import_module(_HOMES[name])
    return home if _HOMES[name] == f"numrnn.{name}" else getattr(home, name)


def __dir__() -> list[str]:
    return sorted(__all__)
