"""The sizes, layers and data sets that are measured, the same in the asv suite and in the comparison with peers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import numrnn

__all__ = [
    "CELLS",
    "DEVICES",
    "GRID",
    "HEADLINE",
    "QUICK",
    "RAGGED",
    "Size",
    "data_set",
    "few",
    "flops",
    "make_input",
    "make_layer",
    "pollution_windows",
    "ragged_lengths",
    "skip_without_engine",
]

# NUMRNN_BENCHMARKS=quick leaves a few parameters of every benchmark: enough to see that all of them work.
QUICK = os.environ.get("NUMRNN_BENCHMARKS") == "quick"

CELLS = ("lstm", "gru", "rnn")
DEVICES = ("cpu", "cuda")
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
_LAYERS = {"lstm": numrnn.LSTM, "gru": numrnn.GRU, "rnn": numrnn.RNN}


class Size(NamedTuple):
    """Sequences of a batch, their time steps, inputs, and hidden units."""

    n_sequences: int
    n_timesteps: int
    input_size: int
    hidden_size: int

    def __str__(self) -> str:
        return f"({', '.join(map(str, self))})"

    @classmethod
    def parse(cls, text: str) -> Size:
        """The size that `str` wrote."""
        return cls(*(int(number) for number in text.strip("()").split(",")))


GRID = tuple(
    Size(*numbers)
    for numbers in (
        (1, 1, 16, 32),
        (1, 1, 128, 128),
        (1, 100, 16, 32),
        (1, 100, 64, 64),
        (32, 100, 16, 64),
        (32, 100, 128, 128),
        (64, 50, 256, 256),
        (128, 28, 28, 128),
        (32, 100, 512, 512),
    )
)
HEADLINE = tuple(GRID[place] for place in (3, 4, 5, 6))
RAGGED = HEADLINE[1:]


def few(parameters: Sequence[Any]) -> tuple[Any, ...]:
    """The values of a parameter of a benchmark: all, or in a quick run the first alone."""
    return tuple(parameters[:1]) if QUICK else tuple(parameters)


def flops(cell: str, size: Size, *, training: bool = False, n_rows: int | None = None, n_directions: int = 1) -> float:
    """Floating-point operations of the matrix products: two per multiply-add, gate equations not counted.

    Backward computes the gradients of both factors of every product of forward, so that training has three times as
    many. `n_rows` is the number of time steps of all sequences, where they differ in length.
    """
    rows = size.n_sequences * size.n_timesteps if n_rows is None else n_rows
    forward = 2.0 * rows * GATES[cell] * size.hidden_size * (size.input_size + size.hidden_size) * n_directions
    return 3 * forward if training else forward


def make_layer(cell: str, size: Size, **options: Any) -> Any:
    """One recurrent layer, always with the same weights."""
    return _LAYERS[cell](size.input_size, size.hidden_size, **{"random_state": 0, **options})


def make_input(size: Size) -> NDArray[np.float32]:
    """Standard normal numbers (n_sequences, n_timesteps, input_size)."""
    return np.random.default_rng(0).standard_normal(size[:3], dtype=np.float32)


def ragged_lengths(size: Size) -> NDArray[np.int64]:
    """Lengths uniform in [T / 10, T], the longest T."""
    lengths = np.random.default_rng(1).integers(max(1, size.n_timesteps // 10), size.n_timesteps + 1, size.n_sequences)
    lengths[0] = size.n_timesteps
    return lengths


def skip_without_engine(device: str) -> None:
    """Leave a benchmark of a device that is not there: asv reports it as not available."""
    try:
        numrnn.RNN(1, 1, device=device)
    except RuntimeError as error:
        raise NotImplementedError(str(error)) from None


def pollution_windows(n_windows: int | None = None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The training windows of the Beijing series (n, 24, 16) and the next hour (n,), both standardised."""
    part = numrnn.datasets.load_beijing_pm25(subset="train")
    windows, target = part.data[:n_windows], part.target[:n_windows]
    rows = windows.reshape(-1, windows.shape[2])
    scale = rows.std(axis=0)
    scaled = (windows - rows.mean(axis=0)) / np.where(scale > 0, scale, 1)
    return scaled.astype(np.float32), ((target - target.mean()) / target.std()).astype(np.float32)


def data_set(name: str) -> tuple[NDArray[np.float32], NDArray]:
    """A data set to fit: "digits" (1797, 8, 8) with classes, or "pollution" (8192, 24, 16) with numbers."""
    if name == "digits":
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        return (images.reshape(-1, 8, 8) / 16).astype(np.float32), labels
    return pollution_windows(8192)
