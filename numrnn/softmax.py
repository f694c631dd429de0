"""The softmax over many outputs: its loss without ever having all of them, and from samples of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from numrnn.kernels.cpu.losses import add_to_softmax, softmax_gradient, softmax_loss
from numrnn.kernels.simd import lane_count
from numrnn.readout import Readout, Weights

__all__ = ["BLOCK_BYTES", "OutputSampler", "blocked_cross_entropy", "hide_from_other_rows"]

# Outputs, or gradients of them, that are there at once: as many as stay in the second-level cache.
BLOCK_BYTES = 2**20
# The rows of a block whose outputs have to be computed twice, and the outputs that a block is a multiple of: whole
# panels of a product.
_BLOCK_ROWS = 768
_BLOCK_STEP = 64
# All outputs of so many rows, which need not be computed twice, may be as many as stay in the third-level cache. With
# fewer rows it would take longer to go through the weights and their gradient for them.
_WHOLE_BYTES = 2**22
_FEWEST_WHOLE_ROWS = 96
_WHOLE_ROWS_STEP = 32
# Floating-point operations that one output takes beside the products.
_FLOPS_OF_SOFTMAX = 64


def blocked_cross_entropy(
    readout: Readout,
    weights: Weights,
    features: NDArray,
    targets: NDArray[np.int64],
    row_weights: NDArray[np.float64],
    *,
    smoothing: float = 0.0,
    scale: float = 0.0,
    gradient: Weights | None = None,
    d_features: NDArray | None = None,
    for_their_rows: NDArray[np.int64] | None = None,
) -> float:
    """Softmax cross-entropy of a readout, and its gradient, with a block of outputs in memory at a time.

    A block is some rows with all their outputs, or, where these are very many, with some of them. Then a first way
    through the blocks of the rows finds their normalizers, and a second one computes each block once more, turns it
    into its gradient, and multiplies that by weights and features while it is in the caches: a product more than with
    all outputs in memory takes no more time than to write and read these. The second way begins with the block that
    the first has ended with: rows that have one block cost no product twice.

    Parameters
    ----------
    readout : Readout
    weights : Weights
    features : ndarray of shape (n_rows, n_features)
    targets : ndarray of int64, shape (n_rows,)
    row_weights : ndarray of float64, shape (n_rows,)
    smoothing : float, default=0.0
        Of the labels.
    scale : float, default=0.0
        Factor of the gradient.
    gradient : Weights or None, default=None
        The gradient of the weights is added to it. None: the value is all that is wanted.
    d_features : ndarray of shape (n_rows, n_features), or None
        The gradient of the features is written to it, if there is a `gradient`.
    for_their_rows : ndarray of int64, or None, default=None
        Outputs, in increasing order, that count for a row only if they are its target.

    Returns
    -------
    float
        Sum of weight * loss over the rows, not scaled.
    """
    if len(targets) and (targets.min() < 0 or targets.max() >= len(weights.weight)):
        raise IndexError("a class number is negative or not below the number of outputs")
    n_rows, width = _block_shape(len(features), len(weights.weight), readout.dtype, gradient is not None)
    memory = np.empty(min(n_rows, len(features)) * width, dtype=readout.dtype)
    total = 0.0
    for first in range(0, len(features), n_rows):
        own = slice(first, first + n_rows)
        of_rows = (features[own], targets[own], row_weights[own])
        rows = _Rows(readout, weights, width, memory, *of_rows, smoothing, for_their_rows)
        total += rows.loss()
        if gradient is not None:
            assert d_features is not None
            rows.backward(scale, gradient, d_features[own])
    return total


class _Rows:
    """Some rows, and one block of their outputs; see `blocked_cross_entropy`."""

    def __init__(
        self,
        readout: Readout,
        weights: Weights,
        width: int,
        memory: NDArray,
        features: NDArray,
        targets: NDArray[np.int64],
        row_weights: NDArray[np.float64],
        smoothing: float,
        for_their_rows: NDArray[np.int64] | None,
    ) -> None:
        self._readout, self._weights, self._features = readout, weights, features
        self._targets, self._row_weights, self._smoothing = targets, row_weights, smoothing
        self._for_their_rows = for_their_rows
        self._width, self._memory = width, memory
        # The first block is the narrow one: the last must lie as wide ones do.
        ends = range(len(weights.weight), 0, -width)
        self._blocks = [slice(max(end - width, 0), end) for end in reversed(ends)]
        # See `add_to_softmax`.
        self._state = np.zeros((len(features), 4))
        self._state[:, 0] = np.finfo(readout.dtype).min

    def _compute(self, block: slice, rows: slice, outputs: NDArray) -> None:
        """Write some rows of a block."""
        self._readout.outputs_of_rows(self._features[rows], self._weights.part(block), outputs)
        if self._for_their_rows is None:
            return
        first, stop = np.searchsorted(self._for_their_rows, (block.start, block.stop))
        hidden = self._for_their_rows[first:stop] - block.start
        hide_from_other_rows(outputs, self._targets[rows] - block.start, hidden)

    def _divide(self, n_products: int, width: int, task: Callable[[slice], None]) -> None:
        flops = self._features.size * width * 2 * n_products + len(self._features) * width * _FLOPS_OF_SOFTMAX
        self._readout.workers.divide(len(self._features), flops, lambda begin, end: task(slice(begin, end)))

    def loss(self) -> float:
        """The first way: sum of weight * loss over the rows."""

        def normalize(rows: slice) -> None:
            one_vector = np.empty(lane_count(self._readout.dtype), dtype=self._readout.dtype)
            for block in self._blocks:
                # Rows that are another thread's may be those of another block: none of them is where these are.
                shape = (rows.stop - rows.start, block.stop - block.start)
                first = rows.start * self._width
                outputs = self._memory[first : first + shape[0] * shape[1]].reshape(shape)
                self._compute(block, rows, outputs)
                add_to_softmax(
                    outputs, block.start, self._targets[rows], self._row_weights[rows], self._smoothing, one_vector,
                    self._state[rows],
                )  # fmt: skip

        self._divide(1, len(self._weights.weight), normalize)
        return softmax_loss(self._state, len(self._weights.weight), self._row_weights, self._smoothing)

    def backward(self, scale: float, gradient: Weights, d_features: NDArray) -> None:
        """The second way."""
        for block in reversed(self._blocks):
            shape = (len(self._features), block.stop - block.start)
            outputs = self._memory[: shape[0] * shape[1]].reshape(shape)
            n_products = 1 if block is self._blocks[-1] else 2
            self._divide(n_products, shape[1], partial(self._rows_backward, block, outputs, scale, d_features))
            self._readout.weights_gradient(self._features, outputs, gradient.part(block))

    def _rows_backward(self, block: slice, outputs: NDArray, scale: float, d_features: NDArray, rows: slice) -> None:
        """Turn some rows of a block into their gradient, and add the features'."""
        is_last = block is self._blocks[-1]
        if not is_last:
            self._compute(block, rows, outputs[rows])
        softmax_gradient(
            outputs[rows], block.start, len(self._weights.weight), self._targets[rows], self._row_weights[rows],
            self._smoothing, scale, self._state[rows],
        )  # fmt: skip
        self._readout.features_gradient_of_rows(
            outputs[rows], self._weights.part(block), d_features[rows], add=not is_last
        )


def hide_from_other_rows(outputs: NDArray, targets: NDArray[np.int64], hidden: NDArray[np.int64]) -> None:
    """Take some outputs out of the softmax of all rows but those whose targets they are."""
    rows = np.flatnonzero((targets >= 0) & (targets < outputs.shape[1]))
    of_targets = outputs[rows, targets[rows]]
    outputs[:, hidden] = -np.inf
    outputs[rows, targets[rows]] = of_targets


def _block_shape(n_rows: int, n_outputs: int, dtype: np.dtype, has_gradient: bool) -> tuple[int, int]:
    """Rows and outputs of a block."""
    whole = _WHOLE_BYTES // (n_outputs * dtype.itemsize) // _WHOLE_ROWS_STEP * _WHOLE_ROWS_STEP
    if has_gradient and whole >= _FEWEST_WHOLE_ROWS:
        return whole, n_outputs
    rows = max(min(n_rows, _BLOCK_ROWS), 1)
    fitting = BLOCK_BYTES // (rows * dtype.itemsize)
    return rows, min(max(fitting // _BLOCK_STEP, 1) * _BLOCK_STEP, n_outputs)


class OutputSampler:
    """Which of many outputs a sampled softmax looks at (Bengio and Senecal 2008; Jean et al. 2015).

    A row's target competes with outputs drawn once for all rows of a minibatch, not with all outputs. From each logit
    the logarithm of the probability that its output was drawn is subtracted, so that the expected gradient nears that
    of the softmax as the draws get more. Output i is drawn with a probability that falls like 1 / (i + 1): outputs are
    in the order of their frequency, which in texts falls like that.

    Parameters
    ----------
    n_outputs : int
    n_samples : int
        Draws; what is drawn twice counts once.
    """

    def __init__(self, n_outputs: int, n_samples: int) -> None:
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1, got {n_samples}")
        self._n_samples = int(n_samples)
        self._log_range = float(np.log(n_outputs + 1))
        self._n_outputs = n_outputs
        ranks = np.arange(n_outputs)
        share = np.log1p(1 / (ranks + 1)) / self._log_range
        # Of being among the draws.
        self._log_probability = np.log(-np.expm1(n_samples * np.log1p(-share)))

    def draw(self, targets: NDArray, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        """Outputs for rows with these targets.

        Returns
        -------
        chosen : ndarray of int64
            The outputs, targets included, in increasing order.
        offsets : ndarray of float64
            What is to be subtracted from their logits.
        own : ndarray of int64
            The places in `chosen` of those that are there because they are targets, and were not drawn.
        """
        uniform = np.random.default_rng(seed).random(self._n_samples)
        drawn = np.minimum(np.exp(uniform * self._log_range).astype(np.int64) - 1, self._n_outputs - 1)
        chosen = np.union1d(drawn, targets)
        return chosen, self._log_probability[chosen], np.flatnonzero(~np.isin(chosen, drawn))
