"""Dropout of the network's input and output."""

from __future__ import annotations

from numpy.typing import NDArray

from numrnn.direction import Dropout

__all__ = ["INPUT_STREAM", "OUTPUT_STREAM", "drop", "dropout_of"]

# Streams of masks that no recurrent layer uses.
INPUT_STREAM = 0xFFFFFFFF
OUTPUT_STREAM = 0xFFFFFFFE

# Between the seeds of neighbouring windows of time.
_WINDOW_STRIDE = 1_000_003


def drop(values: NDArray, probability: float, dropout_seed: int, stream: int) -> None:
    """Zero elements with that probability and scale the others up, in place; the same seed draws the same mask again.

    Srivastava, N. et al. (2014). Dropout: a simple way to prevent neural networks from overfitting. JMLR 15, 1929-1958.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_columns)
        C-contiguous.
    probability : float
        0 changes nothing.
    dropout_seed : int
        As for `RecurrentStack.forward`: what stands above its low 32 bits tells windows of time from one another.
    stream : int
        Passes with one seed draw different masks from different streams.
    """
    if probability > 0:
        n_rows, n_columns = values.shape
        dropout_of(probability, dropout_seed).apply(values.reshape(-1), n_rows, n_columns, n_columns, stream)


def dropout_of(probability: float, dropout_seed: int) -> Dropout:
    """The masks that belong to a seed with a window of time above its low 32 bits."""
    return Dropout(probability, dropout_seed + _WINDOW_STRIDE * (dropout_seed >> 32))
