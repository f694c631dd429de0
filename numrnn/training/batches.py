"""How the sequences of one epoch are divided into minibatches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["divide"]

# So many minibatches are filled from sequences sorted by length: enough for their lengths to be alike, few enough for
# an epoch of a large data set to stay well mixed.
_BATCHES_PER_BUCKET = 16


def divide(
    lengths: NDArray[np.int64], batch_size: int, *, shuffle: bool, rng: np.random.RandomState
) -> tuple[NDArray[np.int64] | None, list[tuple[int, int]]]:
    """Minibatches of one epoch.

    Shuffled sequences are cut into buckets of several minibatches, sorted by length within each, and the minibatches
    are visited in random order. If one minibatch holds all sequences, they keep their order: the sum over a full batch
    should not depend on a random number.

    Parameters
    ----------
    lengths : ndarray of int64, shape (n_sequences,)
    batch_size : int
    shuffle : bool
        If false, the sequences are taken in their order.
    rng : RandomState

    Returns
    -------
    order : ndarray of int64, shape (n_sequences,), or None
        A permutation of the sequences. None for their own order.
    bounds : list of tuple of int
        Minibatches, as ranges of that permutation.
    """
    n_sequences = len(lengths)
    bounds = [(begin, min(begin + batch_size, n_sequences)) for begin in range(0, n_sequences, batch_size)]
    if not shuffle or len(bounds) < 2:
        return None, bounds
    order = rng.permutation(n_sequences)
    if (lengths == lengths[0]).all():
        return order, bounds
    bucket = batch_size * _BATCHES_PER_BUCKET
    for begin in range(0, n_sequences, bucket):
        part = order[begin : begin + bucket]
        order[begin : begin + bucket] = part[np.argsort(lengths[part], kind="stable")]
    return order, [bounds[i] for i in rng.permutation(len(bounds))]
