"""A text that is read symbol by symbol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.compiled import CompiledNetwork, Stream
from numrnn.language.symbols import Vocabulary
from numrnn.reading import as_list

__all__ = ["SymbolStream"]


class SymbolStream(Stream):
    """A language model that is given its text one symbol at a time. Made by `RNNLanguageModel.stream`.

    What `update` returns after some symbols is what `predict_proba` returns for the text of these symbols.

    Attributes
    ----------
    state : ndarray of shape (state_size,), or (n_streams, state_size)
        All that is known of the symbols so far. Reading gives a copy; setting it goes on from there, in this stream or
        in another of the same model.
    n_streams : int or None
    """

    def __init__(self, compiled: CompiledNetwork, vocabulary: Vocabulary, n_streams: int | None = None) -> None:
        super().__init__(compiled, n_streams, lambda probabilities: probabilities)
        self._vocabulary = vocabulary
        self.reset()

    def update(self, x_t: Any) -> NDArray[np.float64]:
        """Take the next symbol.

        Parameters
        ----------
        x_t : symbol, or sequence of n_streams symbols

        Returns
        -------
        probabilities : ndarray of float64, shape (n_symbols,) or (n_streams, n_symbols)
            Of the symbol after it, in the order of `symbols_`.

        Raises
        ------
        ValueError
            If a symbol is unknown and training had none, or their number is another one; the state is then as it was.
        """
        symbols: Sequence[Any] = [x_t] if self.n_streams is None else as_list(x_t, "x_t", "a symbol for each stream")
        expected = 1 if self.n_streams is None else self.n_streams
        if len(symbols) != expected:
            raise ValueError(f"x_t must be a symbol for each of {expected} streams, got {len(symbols)}")
        return self._take(self._vocabulary.ids_of(symbols))

    def reset(self) -> None:
        """Begin a new text."""
        super().reset()
        for number in self._vocabulary.boundary:
            self._take(np.full(len(self._states), number, dtype=np.int64))

    def _take(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        return super().update(ids if self.n_streams is None else ids[:, np.newaxis])
