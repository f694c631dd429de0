"""The classic synthetic tasks: what a recurrent network must remember, and for how long, is known exactly."""

from __future__ import annotations

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from sklearn.utils import check_random_state

__all__ = ["make_adding_problem", "make_copy_memory", "make_temporal_order"]

Random = int | RandomState | None


def _at_least(name: str, value: int, minimum: int) -> None:
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")


def _one_hot(codes: NDArray, n_codes: int) -> NDArray:
    return np.eye(n_codes, dtype=np.float32)[codes]


def make_adding_problem(
    n_samples: int = 1000, n_timesteps: int = 100, *, random_state: Random = None
) -> tuple[NDArray, NDArray]:
    """Adding problem: the sum of two marked numbers in a sequence of random ones.

    The first feature is uniform in [0, 1); the second is 1 at two time steps and 0 elsewhere. The target is the sum of
    the two marked numbers. Always answering 1 has a mean squared error of 1/6. The task is that of [1]_ in the form of
    [2]_.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of sequences.
    n_timesteps : int, default=100
        Length of each sequence, at least 2.
    random_state : int, RandomState or None, default=None
        Seed or generator of the sequences.

    Returns
    -------
    X : ndarray of float32, shape (n_samples, n_timesteps, 2)
        The numbers and the marks.
    y : ndarray of float32, shape (n_samples,)
        The sum of the two marked numbers, between 0 and 2.

    References
    ----------
    .. [1] S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1735-1780, 1997.
    .. [2] Q. V. Le, N. Jaitly and G. E. Hinton, "A simple way to initialize recurrent networks of rectified linear
       units", arXiv:1504.00941, 2015.

    Examples
    --------
    >>> from numrnn.datasets import make_adding_problem
    >>> X, y = make_adding_problem(n_samples=3, n_timesteps=50, random_state=0)
    >>> X.shape, y.shape
    ((3, 50, 2), (3,))
    >>> bool(abs((X[:, :, 0] * X[:, :, 1]).sum(axis=1) - y).max() < 1e-6)
    True
    """
    _at_least("n_samples", n_samples, 1)
    _at_least("n_timesteps", n_timesteps, 2)
    random = check_random_state(random_state)
    X = np.zeros((n_samples, n_timesteps, 2), dtype=np.float32)
    X[:, :, 0] = random.uniform(size=(n_samples, n_timesteps))
    # Two different positions, every pair equally likely: the second skips the place of the first.
    first = random.randint(n_timesteps, size=n_samples)
    second = random.randint(n_timesteps - 1, size=n_samples)
    second += second >= first
    sample = np.arange(n_samples)
    X[sample, first, 1] = X[sample, second, 1] = 1
    return X, X[sample, first, 0] + X[sample, second, 0]


def make_copy_memory(
    n_samples: int = 1000,
    delay: int = 100,
    *,
    n_symbols: int = 8,
    n_memory: int = 10,
    random_state: Random = None,
) -> tuple[NDArray, NDArray]:
    """Copy memory: repeat, after a long delay, the symbols at the beginning.

    A sequence has `n_memory` random symbols, `delay - 1` blanks, a signal, and `n_memory` blanks. The target is blank
    up to and including the signal; in the last `n_memory` time steps it is the symbols of the beginning, in order. The
    sequences have `delay + 2 * n_memory` time steps. A model without memory has at best a cross-entropy of
    ``n_memory * log(n_symbols) / (delay + 2 * n_memory)`` per time step. The task is that of [1]_ in the form of [2]_.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of sequences.
    delay : int, default=100
        Time steps from the last symbol to the signal, at least 1.
    n_symbols : int, default=8
        Size of the alphabet, at least 2. Blank and signal come on top.
    n_memory : int, default=10
        Number of symbols to remember, at least 1.
    random_state : int, RandomState or None, default=None
        Seed or generator of the sequences.

    Returns
    -------
    X : ndarray of float32, shape (n_samples, delay + 2 * n_memory, n_symbols + 2)
        One-hot codes: the symbols, then blank (code `n_symbols`), then the signal (code `n_symbols + 1`).
    y : ndarray of int64, shape (n_samples, delay + 2 * n_memory)
        The code to answer at each time step.

    References
    ----------
    .. [1] S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1735-1780, 1997.
    .. [2] M. Arjovsky, A. Shah and Y. Bengio, "Unitary evolution recurrent neural networks", ICML 2016.

    Examples
    --------
    >>> from numrnn.datasets import make_copy_memory
    >>> X, y = make_copy_memory(n_samples=1, delay=4, n_symbols=3, n_memory=2, random_state=0)
    >>> X[0].argmax(axis=1)
    array([0, 1, 3, 3, 3, 4, 3, 3])
    >>> y[0]
    array([3, 3, 3, 3, 3, 3, 0, 1])
    """
    _at_least("n_samples", n_samples, 1)
    _at_least("delay", delay, 1)
    _at_least("n_symbols", n_symbols, 2)
    _at_least("n_memory", n_memory, 1)
    random = check_random_state(random_state)
    symbols = random.randint(n_symbols, size=(n_samples, n_memory))
    codes = np.full((n_samples, delay + 2 * n_memory), n_symbols, dtype=np.int64)
    y = codes.copy()
    codes[:, :n_memory] = symbols
    codes[:, n_memory + delay - 1] = n_symbols + 1
    y[:, -n_memory:] = symbols
    return _one_hot(codes, n_symbols + 2), y


def make_temporal_order(
    n_samples: int = 1000, n_timesteps: int = 100, *, n_markers: int = 2, random_state: Random = None
) -> tuple[NDArray, NDArray]:
    """Temporal order: in which order did the rare symbols X and Y appear?

    A sequence is E (start), then random symbols among a, b, c, d, and at its last time step B (end). At `n_markers`
    time steps far from each other stands an X or a Y instead; the class is their order. The task is number 6 of [1]_,
    with sequences of one length. The marked time steps are uniform within a tenth of the sequence: from 10 and 50
    percent of its length (two marks) or from 10, 33 and 66 percent (three marks).

    Parameters
    ----------
    n_samples : int, default=1000
        Number of sequences.
    n_timesteps : int, default=100
        Length of each sequence, at least 10.
    n_markers : {2, 3}, default=2
        Number of marks: four or eight classes.
    random_state : int, RandomState or None, default=None
        Seed or generator of the sequences.

    Returns
    -------
    X : ndarray of float32, shape (n_samples, n_timesteps, 8)
        One-hot codes of E, B, a, b, c, d, X, Y.
    y : ndarray of int64, shape (n_samples,)
        The marks read as binary digits, first mark first, X as 0 and Y as 1: for two marks 0 is XX, 1 is XY, 2 is YX
        and 3 is YY.

    References
    ----------
    .. [1] S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1735-1780, 1997.

    Examples
    --------
    >>> from numrnn.datasets import make_temporal_order
    >>> X, y = make_temporal_order(n_samples=2, n_timesteps=12, random_state=0)
    >>> ["".join("EBabcdXY"[code] for code in sequence.argmax(axis=1)) for sequence in X]
    ['EXbaddYdbdbB', 'EYcaaaYbcddB']
    >>> y
    array([1, 3])
    """
    _at_least("n_samples", n_samples, 1)
    _at_least("n_timesteps", n_timesteps, 10)
    if n_markers not in (2, 3):
        raise ValueError(f"n_markers must be 2 or 3, got {n_markers}")
    random = check_random_state(random_state)
    codes = random.randint(2, 6, size=(n_samples, n_timesteps))
    codes[:, 0] = 0
    codes[:, -1] = 1
    marks = random.randint(2, size=(n_samples, n_markers))
    for number, begin in enumerate((0.10, 0.50) if n_markers == 2 else (0.10, 0.33, 0.66)):
        earliest = int(begin * n_timesteps)
        position = earliest + random.randint(max(n_timesteps // 10, 1), size=n_samples)
        codes[np.arange(n_samples), position] = 6 + marks[:, number]
    y = marks @ (1 << np.arange(n_markers)[::-1])
    return _one_hot(codes, 8), y.astype(np.int64)
