"""Linear-chain conditional random field: a loss over whole sequences of tags, and the best sequence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numrnn.buffers import Buffers, read_only
from numrnn.kernels.cpu.crf import (
    best_tags,
    logarithmic,
    path_scores,
    scaled_backward,
    scaled_forward,
    widest_ranges,
)
from numrnn.kernels.cpu.matmul import SUM_COLUMNS, SUM_PITCH, SUM_ROWS, multiply_transposed, pack_rows
from numrnn.kernels.simd import PANEL_VECTORS, lane_count
from numrnn.packing import Packing

__all__ = ["ConditionalRandomField"]

# Scores of one step that lie within this range of each other: exp(-600) is still far from the smallest float64.
_SCALED_RANGE = 600.0
# Sequences are taken so many at a time that what the forward pass keeps for the backward pass is still in the caches.
_CHUNK_BYTES = 2**20

_DOUBLE = np.dtype(np.float64)


@dataclass
class _Scores:
    """The parameters in float64, and their exponentials as the kernels read them."""

    transitions: NDArray
    start: NDArray
    end: NDArray
    # The range of the scores that a step adds besides the logits, and the largest of each that the exponentials lack.
    range: float
    largest: tuple[float, float, float]
    exponentials: NDArray
    padded_start: NDArray
    padded_end: NDArray
    panels: NDArray
    panels_back: NDArray


class ConditionalRandomField:
    r"""Linear-chain conditional random field over the logits of every time step [1]_.

    The probability of the tags :math:`y` of a sequence with the logits :math:`x` is

    .. math::

        P(y \mid x) = \frac{1}{Z(x)} \exp\Bigl(a_{y_1} + \sum_{t=1}^{T} x_{t, y_t}
            + \sum_{t=2}^{T} A_{y_{t-1}, y_t} + b_{y_T}\Bigr),

    with the learned transitions :math:`A`, start :math:`a` and end :math:`b`; :math:`Z` is the sum over all sequences
    of tags. The loss is :math:`-\log P` of the targets.

    Parameters
    ----------
    n_tags : int
        Number of tags, at least 1.
    dtype : {"float32", "float64"}, default="float32"
        Of the parameters and the logits. Sums over tags and steps are computed in float64.

    Notes
    -----
    Parameters are `crf_transitions` (n_tags, n_tags), from the row's tag to the column's, `crf_start` (n_tags,) and
    `crf_end` (n_tags,). -inf forbids a transition, a first or a last tag.

    Sequences are given as the first row and the number of rows of each in the matrix of logits. A sequence without
    steps counts for nothing; neither does one of weight zero, whatever its logits are. What is computed for a sequence
    depends on no other one.

    References
    ----------
    .. [1] Lafferty, J., McCallum, A. and Pereira, F. (2001). Conditional random fields: probabilistic models for
       segmenting and labeling sequence data. ICML 18.
    .. [2] Rabiner, L. R. (1989). A tutorial on hidden Markov models and selected applications in speech recognition.
       Proceedings of the IEEE 77.

    Examples
    --------
    >>> import numpy as np
    >>> from numrnn.crf import ConditionalRandomField
    >>> crf = ConditionalRandomField(2, dtype="float64")
    >>> parameters = {
    ...     "crf_transitions": np.array([[0.0, -3.0], [-3.0, 0.0]]),
    ...     "crf_start": np.zeros(2),
    ...     "crf_end": np.zeros(2),
    ... }
    >>> logits = np.array([[2.0, 0.0], [0.0, 1.0], [2.0, 0.0]])
    >>> crf.decode(parameters, logits, np.array([0]), np.array([3]))  # to change twice costs more than the logit gains
    array([0, 0, 0])
    >>> crf.marginals(parameters, logits, np.array([0]), np.array([3])).sum(axis=1)
    array([1., 1., 1.])
    """

    def __init__(self, n_tags: int, dtype: DTypeLike = "float32") -> None:
        if n_tags < 1:
            raise ValueError(f"n_tags must be at least 1, got {n_tags}")
        self.n_tags = n_tags
        self.dtype = np.dtype(dtype)
        self._lanes = lane_count(_DOUBLE)
        self._columns = -(-n_tags // self._lanes) * self._lanes
        self._zeros = np.zeros(self._columns)
        self._buffers = Buffers()

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters."""
        return {
            "crf_transitions": (self.n_tags, self.n_tags),
            "crf_start": (self.n_tags,),
            "crf_end": (self.n_tags,),
        }

    def initialize(self, parameters: Mapping[str, NDArray], rng: np.random.RandomState) -> None:
        """Write initial parameters: zeros, with which every step is a softmax of its own."""
        for name in self.parameter_shapes():
            parameters[name][...] = 0.0

    # ------------------------------------------------------------------------------------------------------- public
    def loss(
        self,
        parameters: Mapping[str, NDArray],
        logits: NDArray,
        starts: NDArray,
        lengths: NDArray,
        targets: NDArray,
        weights: NDArray | None = None,
        scale: float = 1.0,
        d_logits: NDArray | None = None,
        gradient: Mapping[str, NDArray] | None = None,
    ) -> float:
        """Sum over the sequences of weight times negative log-likelihood, and its gradient.

        Parameters
        ----------
        parameters : mapping of str to ndarray
        logits : ndarray of shape (n_rows, n_tags)
        starts, lengths : ndarray of int64, shape (n_sequences,)
            First row and number of rows of every sequence.
        targets : ndarray of int64, shape (n_rows,)
            Tags.
        weights : ndarray of float64, shape (n_sequences,), default=None
            None: ones.
        scale : float, default=1.0
            Factor of the gradient, not of the returned sum.
        d_logits : ndarray of shape (n_rows, n_tags), default=None
            Written in the rows of the sequences: scale * weight * (marginal - [tag is the target]). None: only the
            value is computed.
        gradient : mapping of str to ndarray, default=None
            The gradient of the parameters is added to it. Goes with `d_logits`.

        Returns
        -------
        float

        Raises
        ------
        IndexError
            If a target is no tag.
        ValueError
            If shapes or types do not fit.
        """
        self._check(logits, starts, lengths)
        if targets.shape != (len(logits),) or targets.dtype != np.int64:
            raise ValueError(
                f"expected targets of shape {(len(logits),)} in int64, got {targets.shape} in {targets.dtype}"
            )
        if (d_logits is None) != (gradient is None):
            raise ValueError("d_logits and gradient must be given both or neither")
        if weights is None:
            weights = np.ones(len(starts))
        elif weights.shape != (len(starts),):
            raise ValueError(f"expected weights of shape {(len(starts),)}, got {weights.shape}")
        if d_logits is not None and d_logits.shape != logits.shape:
            raise ValueError(f"expected d_logits of shape {logits.shape}, got {d_logits.shape}")
        scores = self._scores(parameters)
        d_scores = (np.zeros(self.n_tags), np.zeros(self.n_tags), np.zeros((self.n_tags, self.n_tags)))
        path, log_z = np.zeros(len(starts)), np.zeros(len(starts))
        factors = weights * scale
        counted = np.flatnonzero((lengths > 0) & (weights != 0.0))
        # Looks at every target, before anything of the caller's is written.
        path_scores(
            read_only(logits), starts, lengths, counted, read_only(targets), scores.transitions, scores.start,
            scores.end, factors, path, *d_scores,
        )  # fmt: skip
        if d_logits is not None:
            for i in np.flatnonzero((lengths > 0) & (weights == 0.0)):
                d_logits[starts[i] : starts[i] + lengths[i]] = 0.0
        self._sums(scores, logits, starts, lengths, counted, targets, factors, log_z, d_logits, d_scores)
        if gradient is not None:
            for name, value in zip(("crf_start", "crf_end", "crf_transitions"), d_scores, strict=True):
                gradient[name][...] += value
        total = 0.0
        for i in counted:
            total += float(weights[i]) * float(log_z[i] - path[i])
        return total

    def marginals(
        self, parameters: Mapping[str, NDArray], logits: NDArray, starts: NDArray, lengths: NDArray
    ) -> NDArray:
        """Probability of every tag at every step, given the whole sequence.

        Returns
        -------
        ndarray of shape (n_steps, n_tags)
            Rows are time steps, sequence after sequence.
        """
        self._check(logits, starts, lengths)
        scores = self._scores(parameters)
        own, places = self._gather(logits, starts, lengths)
        marginals = np.empty((int(lengths.sum()), self.n_tags), dtype=self.dtype)
        targets = np.full(len(own), -1, dtype=np.int64)
        d_scores = (np.zeros(self.n_tags), np.zeros(self.n_tags), np.zeros((self.n_tags, self.n_tags)))
        counted = np.flatnonzero(lengths > 0)
        ones, log_z = np.ones(len(starts)), np.zeros(len(starts))
        self._sums(scores, own, places, lengths, counted, targets, ones, log_z, marginals, d_scores)
        return marginals

    def decode(
        self, parameters: Mapping[str, NDArray], logits: NDArray, starts: NDArray, lengths: NDArray
    ) -> NDArray[np.int64]:
        """The most probable tags of every sequence (Viterbi 1967).

        Of equally probable ones, those with the lowest number at the last step where they differ.

        Returns
        -------
        ndarray of int64, shape (n_steps,)
            Rows are time steps, sequence after sequence.
        """
        self._check(logits, starts, lengths)
        scores = self._scores(parameters)
        columns = self._columns
        transitions = np.zeros((self.n_tags, columns))
        transitions[:, : self.n_tags] = scores.transitions
        start, end = np.zeros(columns), np.zeros(columns)
        start[: self.n_tags], end[: self.n_tags] = scores.start, scores.end
        tags = np.empty(int(lengths.sum()), dtype=np.int64)
        table = np.empty(int(lengths.max(initial=0)) * columns)
        best_tags(read_only(logits), starts, lengths, transitions.reshape(-1), columns, start, end, table, tags)
        return tags

    # ----------------------------------------------------------------------------------------------------- internal
    def _check(self, logits: NDArray, starts: NDArray, lengths: NDArray) -> None:
        if logits.ndim != 2 or logits.shape[1] != self.n_tags or logits.dtype != self.dtype:
            raise ValueError(
                f"expected logits of {self.n_tags} tags in {self.dtype}, got an array of shape {logits.shape} in "
                f"{logits.dtype}"
            )
        if len(starts) != len(lengths):
            raise ValueError(f"expected as many starts as lengths, got {len(starts)} and {len(lengths)}")
        if len(lengths) and (lengths.min() < 0 or starts.min() < 0 or (starts + lengths).max() > len(logits)):
            raise ValueError(f"a sequence has rows outside 0 to {len(logits)}")

    def _gather(self, logits: NDArray, starts: NDArray, lengths: NDArray) -> tuple[NDArray, NDArray]:
        """The rows of all sequences one after the other, and where each begins; nothing is copied if they are."""
        places = np.cumsum(lengths) - lengths
        if np.array_equal(places[lengths > 0], starts[lengths > 0]):
            return logits, places
        rows = np.arange(int(lengths.sum())) + np.repeat(starts - places, lengths)
        return logits[rows], places

    def _scores(self, parameters: Mapping[str, NDArray]) -> _Scores:
        transitions, start, end = (
            np.ascontiguousarray(parameters[name], dtype=np.float64)
            for name in ("crf_transitions", "crf_start", "crf_end")
        )
        largest = (float(start.max()), float(end.max()), float(transitions.max()))
        ranges = [top - float(array.min()) for top, array in zip(largest, (start, end, transitions), strict=True)]
        panels = np.zeros((2, self.n_tags * self._columns))
        padded = np.zeros((2, self._columns))
        exponentials = np.zeros_like(transitions)
        # Infinite ranges and NaN, too, go the way of the logarithms.
        spread = ranges[2] + max(ranges[0], ranges[1]) + np.log(self.n_tags)
        if spread < _SCALED_RANGE:
            padded[0, : self.n_tags] = np.exp(start - largest[0])
            padded[1, : self.n_tags] = np.exp(end - largest[1])
            np.exp(transitions - largest[2], out=exponentials)
            gates = np.zeros(1, dtype=np.int64)
            for matrix, panel in zip((exponentials, np.ascontiguousarray(exponentials.T)), panels, strict=True):
                pack_rows(matrix, gates, self.n_tags, self.n_tags, 0, self._columns, panel)
        return _Scores(transitions, start, end, spread, largest, exponentials, *padded, *panels)

    def _sums(
        self,
        scores: _Scores,
        logits: NDArray,
        starts: NDArray,
        lengths: NDArray,
        counted: NDArray,
        targets: NDArray,
        factors: NDArray,
        log_z: NDArray,
        marginals: NDArray | None,
        d_scores: tuple[NDArray, NDArray, NDArray],
    ) -> None:
        """Add log Z of the counted sequences to log_z; write their marginals, add the expected counts to d_scores."""
        source = read_only(logits)
        ranges = np.full(len(starts), np.nan)
        if scores.range < _SCALED_RANGE:
            widest_ranges(source, starts, lengths, counted, np.empty(lane_count(self.dtype), self.dtype), ranges)
            ranges += scores.range
        narrow = ranges[counted] < _SCALED_RANGE
        for chunk in self._chunks(counted[narrow], lengths):
            self._scaled(scores, source, starts, lengths, chunk, targets, factors, log_z, marginals, d_scores)
        wide = counted[~narrow]
        if not len(wide):
            return
        written = np.empty((1, self.n_tags), dtype=self.dtype) if marginals is None else marginals
        log_alpha = np.empty((int(lengths[wide].max()), self.n_tags))
        log_beta, terms = np.empty((2, self.n_tags)), np.empty(self.n_tags)
        for i in wide:
            log_z[i] += logarithmic(
                source, starts[i], lengths[i], scores.transitions, scores.start, scores.end, factors[i],
                read_only(targets), marginals is not None, log_alpha, log_beta, terms, written, *d_scores,
            )  # fmt: skip

    def _chunks(self, chosen: NDArray, lengths: NDArray) -> Iterator[NDArray]:
        """Consecutive sequences of bounded memory."""
        most_rows = max(1, _CHUNK_BYTES // (2 * 8 * self._columns))
        numbers = (np.cumsum(lengths[chosen]) - 1) // most_rows
        for number in np.unique(numbers):
            yield chosen[numbers == number]

    def _scaled(
        self,
        scores: _Scores,
        logits: NDArray,
        starts: NDArray,
        lengths: NDArray,
        chunk: NDArray,
        targets: NDArray,
        factors: NDArray,
        log_z: NDArray,
        marginals: NDArray | None,
        d_scores: tuple[NDArray, NDArray, NDArray],
    ) -> None:
        """`_sums` of sequences none of whose probabilities can underflow."""
        n_tags, columns = self.n_tags, self._columns
        packing = Packing(lengths[chunk])
        rows = packing.rows(starts[chunk])
        order = chunk[packing.order]
        n_rows, n_sequences, offsets = packing.n_rows, packing.n_sequences, packing.offsets
        identity = np.arange(max(n_sequences, SUM_COLUMNS), dtype=np.int64)
        lease = self._buffers.lease()
        alpha = lease.at_least(("alpha",), n_rows * columns, _DOUBLE)
        emission = lease.at_least(("emission",), n_rows * columns, _DOUBLE)
        inverse = lease.at_least(("inverse",), n_rows, _DOUBLE)
        ends, own_log_z = np.empty(n_sequences), np.empty(n_sequences)
        scaled_forward(
            logits, rows, offsets, scores.padded_start, scores.padded_end, scores.panels, n_tags, columns, identity,
            self._zeros, np.empty(self._lanes), alpha, emission, inverse, ends, own_log_z,
        )  # fmt: skip
        start, end, transition = scores.largest
        log_z[order] += own_log_z + (start + end) + transition * (packing.lengths - 1)
        if marginals is not None:
            beta = lease.at_least(("beta",), n_sequences * columns, _DOUBLE)
            scaled_backward(
                rows, offsets, scores.padded_end, scores.panels_back, n_tags, columns, identity, self._zeros, alpha,
                emission, inverse, ends, factors[order], read_only(targets), beta, marginals, d_scores[0], d_scores[1],
            )  # fmt: skip
            n_pairs = n_rows - n_sequences
            if n_pairs:
                alive = np.diff(offsets)
                # A row less the number of rows of the step before it is the row before it.
                before = np.arange(n_sequences, n_rows, dtype=np.int64) - np.repeat(alive[:-1], alive[1:])
                product = lease.at_least(("product",), n_tags * columns, _DOUBLE)
                multiply_transposed(
                    alpha, 0, before, n_pairs, columns, 0, n_tags, identity, emission, n_sequences * columns, columns,
                    columns, lease.at_least(("panel",), SUM_ROWS * PANEL_VECTORS * self._lanes, _DOUBLE),
                    lease.at_least(("block",), SUM_PITCH * SUM_COLUMNS, _DOUBLE), product, np.empty(columns),
                )  # fmt: skip
                d_scores[2][...] += scores.exponentials * product.reshape(n_tags, columns)[:, :n_tags]
        lease.release()
