"""Writing: symbols drawn one after the other, given out in pieces."""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numrnn.compiled import CompiledNetwork
from numrnn.kernels.cpu.sampling import SYMBOLS
from numrnn.language.symbols import Vocabulary

__all__ = ["CHUNK", "Manner", "check_arguments", "write"]

# Symbols that are drawn at a time while an end is looked for.
CHUNK = 64


class Manner(NamedTuple):
    """How symbols are drawn, as `sampling.choose` takes it."""

    temperature: float
    top_k: int
    top_p: float


def check_arguments(
    length: int | None,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    stop: str | None,
    at_a_time: int,
    n_symbols: int,
) -> Manner:
    """What the arguments of `RNNLanguageModel.iterate` say of the drawing.

    Raises
    ------
    ValueError
        If one is out of range.
    """
    if not (isinstance(temperature, Real) and 0 <= temperature < math.inf):
        raise ValueError(f"temperature must be a finite number of at least 0, got {temperature!r}")
    if top_k is not None and not (isinstance(top_k, Integral) and top_k >= 1):
        raise ValueError(f"top_k must be a positive integer or None, got {top_k!r}")
    if top_p is not None and not (isinstance(top_p, Real) and 0 < top_p <= 1):
        raise ValueError(f"top_p must be above 0 and at most 1, or None, got {top_p!r}")
    if length is not None and not (isinstance(length, Integral) and length >= 0):
        raise ValueError(f"length must be a whole number of at least 0 or None, got {length!r}")
    if not (isinstance(at_a_time, Integral) and (at_a_time >= 1 or length == 0)):
        raise ValueError(f"at_a_time must be a positive integer, got {at_a_time!r}")
    if stop is not None and (not isinstance(stop, str) or not stop):
        raise ValueError(f"stop must be a string of at least one character or None, got {stop!r}")
    return Manner(float(temperature), int(top_k or n_symbols), float(top_p or 1.0))


def write(
    compiled: CompiledNetwork,
    vocabulary: Vocabulary,
    read: NDArray[np.int64],
    drawn: NDArray[np.int64],
    length: int | None,
    manner: Manner,
    rng: np.random.RandomState,
    stop: str | None,
    at_a_time: int,
) -> Iterator[Any]:
    """Write on, piece by piece.

    Parameters
    ----------
    compiled : CompiledNetwork
        From a symbol's number to the logits of the next one.
    vocabulary : Vocabulary
    read : ndarray of int64
        What has been read before, at least one number.
    drawn : ndarray of int64
        The numbers at the end of `read` that have been drawn already, and begin what is written.
    length : int or None
        Symbols to write at most.
    manner : Manner
    rng : RandomState
    stop : str or None
        End before the first occurrence.
    at_a_time : int
        Symbols of a piece.

    Yields
    ------
    piece : str, or list of symbols
    """
    state, logits, shares = compiled.initial_state(), np.empty(compiled.n_outputs), np.empty(compiled.n_outputs)
    heap, x = np.empty(compiled.n_outputs, dtype=np.int64), np.empty(1)
    functions = SYMBOLS[compiled.cell]
    functions.read(compiled.parameters, state, read[:-1], logits, x)
    before, left = read[-1], math.inf if length is None else length
    ids = drawn[: int(min(left, len(drawn)))]
    end = vocabulary.boundary
    kept = ""  # what may be the beginning of `stop`
    while left > 0:
        if not len(ids):
            ids = np.empty(int(min(at_a_time, left)), dtype=np.int64)
            uniforms = rng.random_sample(len(ids))
            functions.generate(compiled.parameters, state, before, *manner, uniforms, ids, logits, heap, shares, x)
        left -= len(ids)
        before = ids[-1]
        over = False
        if end:
            ends = np.flatnonzero(ids == end[0])
            if len(ends):
                ids, over = ids[: ends[0]], True
        piece = vocabulary.text_of(ids)
        ids = ids[:0]
        if stop is not None:
            kept += piece
            place = kept.find(stop)
            if place >= 0:
                piece, kept, over = kept[:place], "", True
            else:
                open_end = 0 if over or left <= 0 else _overlap(kept, stop)
                piece, kept = kept[: len(kept) - open_end], kept[len(kept) - open_end :]
        if len(piece):
            yield piece
        if over:
            return


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of the text that is a beginning of `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
