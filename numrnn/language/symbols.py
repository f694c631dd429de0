"""What a symbol is: texts to numbers and back."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.reading import as_list
from numrnn.text import UNKNOWN

__all__ = ["Splitter", "Vocabulary", "texts_of"]

# A word with the blank before it, or what is neither word nor blank: joined they are the text again.
_WORD = re.compile(r" ?\w+| ?[^\w\s]+|\s")
# Symbols that an error names.
_SHOWN = 30


class Splitter:
    """A text as a list of symbols.

    Parameters
    ----------
    analyzer : {"char", "word"} or callable
        See `RNNLanguageModel`.
    """

    def __init__(self, analyzer: str | Callable[[str], Any]) -> None:
        self._analyzer = analyzer

    def by_character(self, text: Any) -> bool:
        """Whether the symbols of a text are its characters."""
        return isinstance(text, str) and self._analyzer == "char"

    def __call__(self, text: Any) -> list[Any]:
        if not isinstance(text, str):
            return as_list(text, "a text", "a string or a sequence of symbols")
        if self._analyzer == "char":
            return list(text)
        return _WORD.findall(text) if self._analyzer == "word" else list(self._analyzer(text))  # type: ignore[operator]


class Vocabulary:
    """The symbols of a model, and their numbers.

    Parameters
    ----------
    symbols : list
        ``symbols[i]`` has the number i. The first one stands for unknown symbols, with `several` the last one for the
        boundary between texts.
    several : bool
        Whether the model knows how texts begin and end.
    knows_unknown : bool
        Whether unknown symbols have a meaning; else they are an error.
    split : Splitter
    """

    def __init__(self, symbols: list[Any], several: bool, knows_unknown: bool, split: Splitter) -> None:
        self.symbols = symbols
        self.knows_unknown = knows_unknown
        self.split = split
        self.boundary = [len(symbols) - 1] if several else []
        known = symbols[1 : len(symbols) - len(self.boundary)]
        self._numbers = {symbol: 1 + i for i, symbol in enumerate(known)}
        # The number of every character up to one beyond the last that is known, made when first needed.
        self._by_code_point: NDArray[np.int64] | None = None

    def ids_of(self, text: Any) -> NDArray[np.int64]:
        """Numbers of a text's symbols.

        Raises
        ------
        ValueError
            If one is unknown, and unknown symbols have no meaning.
        """
        if self.split.by_character(text):
            symbols, ids = text, self._ids_of_characters(text)
        else:
            symbols = self.split(text)
            ids = self.ids_or_unknown(symbols)
        if not self.knows_unknown:
            unknown = np.flatnonzero(ids == UNKNOWN)
            if len(unknown):
                raise ValueError(
                    f"symbol {unknown[0]} of the text, {symbols[unknown[0]]!r}, is not one of the {len(self._numbers)} "
                    f"symbols of the training text, such as {list(self._numbers)[:_SHOWN]}; training with min_df or "
                    "max_features makes a model that knows unknown symbols"
                )
        return ids

    def _ids_of_characters(self, text: str) -> NDArray[np.int64]:
        """As `ids_or_unknown` of the characters, many times as fast."""
        table = self._by_code_point
        if table is None:
            codes = {ord(s): number for s, number in self._numbers.items() if isinstance(s, str) and len(s) == 1}
            table = np.full(max(codes, default=0) + 2, UNKNOWN, dtype=np.int64)
            table[list(codes)] = list(codes.values())
            self._by_code_point = table
        code_points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        return table[np.minimum(code_points, len(table) - 1)]

    def ids_or_unknown(self, symbols: Any) -> NDArray[np.int64]:
        """Numbers of symbols, `UNKNOWN` for those that are unknown."""
        try:
            return np.array([self._numbers.get(symbol, UNKNOWN) for symbol in symbols], dtype=np.int64)
        except TypeError as error:
            raise TypeError(f"symbols of texts are strings or integers: {error}") from error

    def text_of(self, ids: NDArray[np.int64]) -> Any:
        """A string if the symbols are strings, else a list."""
        symbols = [self.symbols[number] for number in ids]
        return "".join(symbols) if all(isinstance(symbol, str) for symbol in symbols) else symbols

    def beginning(self, prompt: Any) -> NDArray[np.int64]:
        """Numbers to read before the next symbol is asked for.

        Raises
        ------
        ValueError
            If there are none.
        """
        ids = np.array([*self.boundary, *self.ids_of(prompt)], dtype=np.int64)
        if not len(ids):
            raise ValueError(
                "there must be a beginning: the model knows one text, not how texts begin; got an empty one"
            )
        return ids

    def joined(self, parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
        """Texts one after the other, with a boundary before, between and after them, if there is any."""
        border = np.array(self.boundary, dtype=np.int64)
        pieces = [border]
        for part in parts:
            pieces += [part, border]
        return np.concatenate(pieces).astype(np.int64, copy=False)


def texts_of(X: Any) -> tuple[list[Any], bool]:
    """Texts, and whether there are several of them (be it by their type alone).

    Raises
    ------
    TypeError, ValueError
        If there is none.
    """
    if isinstance(X, bytes):
        raise TypeError("X is bytes; decode them first: X.decode('utf-8')")
    if isinstance(X, str):
        return [X], False
    texts = as_list(X, "X", "a text or a list of texts")
    if not texts:
        raise ValueError("X must have at least one text, got an empty list")
    return texts, True
