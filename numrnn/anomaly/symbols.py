"""How unusual the symbols of sequences are: by their probability, given those before them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.kernels.cpu.sampling import SYMBOLS
from numrnn.language import RNNLanguageModel
from numrnn.text import UNKNOWN
from numrnn.training.loop import TrainingState

__all__ = ["SymbolScorer", "sequences_of"]

Array = NDArray[np.float64]
Ids = NDArray[np.int64]


def sequences_of(X: Any) -> tuple[list[Any], bool]:
    """Sequences of symbols, and whether X was a single one: a string, or an array or Series of one dimension."""
    if isinstance(X, bytes):
        raise TypeError("X is bytes; decode them first: X.decode('utf-8')")
    if isinstance(X, str):
        return [X], True
    if isinstance(X, (list, tuple)):
        if not X:
            raise ValueError("X must have at least one sequence, got an empty list")
        for number, sequence in enumerate(X):
            if np.ndim(sequence) != 1 and not isinstance(sequence, str):
                raise ValueError(
                    "X must be a string, an array (n_steps,) of symbols, or a list of such; sequence "
                    f"{number} of the list is {sequence!r:.80}"
                )
        return [sequence if isinstance(sequence, str) else _symbols(sequence) for sequence in X], False
    array = np.asarray(X)
    if array.ndim == 1 and len(array):
        return [_symbols(X)], True
    if array.ndim == 2 and array.size:
        return [row.tolist() for row in array], False
    raise ValueError(
        f"X must be a string, an array (n_steps,) of symbols, or a list of such, got an array of shape {array.shape}"
    )


def _symbols(sequence: Any) -> list[Any]:
    """Symbols as Python's own types, which a file can hold."""
    return np.asarray(sequence).tolist() if hasattr(sequence, "dtype") else list(sequence)


class SymbolScorer:
    """A trained language model, one symbol after the other.

    Parameters
    ----------
    model : RNNLanguageModel

    Attributes
    ----------
    unseen : float
        The score of a symbol that the training sequences did not have.
    """

    def __init__(self, model: RNNLanguageModel) -> None:
        self.model = model
        self.unseen = -np.inf

    def start(self) -> tuple[Array, Ids]:
        """The state before a sequence, and the symbol before its first one, if there is such a thing."""
        return self.model._compile().initial_state(), np.array(self.model._vocabulary.boundary, dtype=np.int64)

    def ids(self, sequence: Any) -> Ids:
        vocabulary = self.model._vocabulary
        return vocabulary.ids_or_unknown(vocabulary.split(sequence))

    def log_likelihoods(self, ids: Ids, state: Array, before: Ids) -> Array:
        """Of every symbol, NaN for the first one if none is before it; `state` is changed to that before the last."""
        compiled = self.model._compile()
        read = SYMBOLS[compiled.cell].log_likelihoods
        whole = np.concatenate([before, ids])
        values = np.empty(max(len(whole) - 1, 0))
        if len(values):
            logits, shares = np.empty(compiled.n_outputs), np.empty(compiled.n_outputs)
            read(compiled.parameters, state, whole, logits, shares, np.empty(1), values)
        values = np.concatenate([np.full(len(ids) - len(values), np.nan), values])
        if not self.model._knows_unknown:
            values[ids == UNKNOWN] = self.unseen
        return values

    def plain(self) -> dict[str, Any]:
        """What was learned beside the parameters of the network, in numbers, lists and arrays."""
        model = self.model
        names = ("symbols_", "_several", "_knows_unknown", "_frequencies")
        return {**{name: getattr(model, name) for name in names}, "unseen": float(self.unseen)}

    @classmethod
    def from_plain(cls, model: RNNLanguageModel, network: Any, plain: dict[str, Any]) -> SymbolScorer:
        """The scorer that `plain` was made of; `model` has its parameters."""
        symbols, several = list(plain["symbols_"]), bool(plain["_several"])
        n = len(symbols)
        if network.n_outputs != n or [rows for _, rows, _ in network.embeddings] != [n] or network.pooling is not None:
            raise ValueError("its parts do not fit together")
        model.symbols_, model._several, model._network = symbols, several, network
        model._knows_unknown, model._frequencies = bool(plain["_knows_unknown"]), plain["_frequencies"]
        model.validation_scores_ = None  # the detector has them
        model._restore(TrainingState(), None)
        scorer = cls(model)
        scorer.unseen = float(plain["unseen"])
        return scorer
