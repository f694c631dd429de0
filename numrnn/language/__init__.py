"""Language models: the estimator, what a symbol is, and writing."""

from numrnn.language.model import RNNLanguageModel

__all__ = ["RNNLanguageModel"]
