"""Pooling over time by attention: a weighted mean of the steps, with weights that are learned."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numrnn.buffers import Buffers, Lease, read_only
from numrnn.kernels.cpu.attention import attend, attend_adjoint
from numrnn.kernels.cpu.matmul import (
    SUM_COLUMNS,
    SUM_PITCH,
    SUM_ROWS,
    multiply_kernel,
    multiply_transposed,
    pack_columns,
    pack_rows,
)
from numrnn.kernels.simd import PANEL_VECTORS, lane_count
from numrnn.packing import Sequences, balanced_ranges
from numrnn.workers import Workers

__all__ = ["AttentionPass", "AttentionPooling"]


class AttentionPass:
    """What one forward pass leaves behind.

    Attributes
    ----------
    pooled : ndarray of shape (n_sequences, input_size)
    weights : ndarray of shape (n_steps,)
        Attention of every time step, sequence after sequence; those of a sequence sum to 1.
    """

    def __init__(self, hidden: NDArray, rows: NDArray, offsets: NDArray, lease: Lease) -> None:
        self.hidden = hidden
        self.rows = rows
        self.offsets = offsets
        self.lease = lease
        self.activations: NDArray
        self.pooled: NDArray
        self.weights: NDArray


class AttentionPooling:
    r"""Additive attention over the time steps of each sequence [1]_, with a learned query.

    .. math::

        s_t = v^\top \tanh(W h_t + b), \qquad
        a_t = \frac{e^{s_t}}{\sum_{\tau} e^{s_\tau}}, \qquad
        \text{pooled} = \sum_t a_t h_t

    Parameters
    ----------
    input_size : int
        Features of :math:`h_t`.
    attention_size : int
        Rows of :math:`W`.
    dtype : {"float32", "float64"}, default="float32"
    workers : Workers or None, default=None
        The threads to use. None: the calling one. Results do not depend on it.

    Notes
    -----
    Parameters are `attention_weight` (attention_size, input_size), `attention_bias` (attention_size,) and
    `attention_vector` (attention_size,). A sequence without steps pools to zeros. What is computed for a sequence
    depends on no other one, bit for bit.

    References
    ----------
    .. [1] Bahdanau, D., Cho, K. and Bengio, Y. (2015). Neural machine translation by jointly learning to align and
       translate. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from numrnn.attention import AttentionPooling
    >>> attention = AttentionPooling(1, 1, dtype="float64")
    >>> parameters = {
    ...     "attention_weight": np.array([[10.0]]),
    ...     "attention_bias": np.array([0.0]),
    ...     "attention_vector": np.array([5.0]),
    ... }
    >>> hidden = np.array([[-1.0], [2.0], [-3.0]])
    >>> run = attention.forward(parameters, hidden, np.array([0]), np.array([3]))
    >>> run.weights.round(3)  # only the second step is positive
    array([0., 1., 0.])
    >>> run.pooled.round(3)
    array([[2.]])
    """

    def __init__(
        self, input_size: int, attention_size: int, dtype: DTypeLike = "float32", *, workers: Workers | None = None
    ) -> None:
        if input_size < 1 or attention_size < 1:
            raise ValueError(f"input_size and attention_size must be at least 1, got {input_size} and {attention_size}")
        self.input_size = input_size
        self.attention_size = attention_size
        self.dtype = np.dtype(dtype)
        self.workers = workers
        self._lanes = lane_count(self.dtype)
        self._columns = -(-attention_size // self._lanes) * self._lanes
        self._padded_input = -(-input_size // self._lanes) * self._lanes
        self._buffers = Buffers()
        self._gates = np.zeros(1, dtype=np.int64)
        self._identity = np.arange(max(SUM_COLUMNS, self._columns), dtype=np.int64)

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters."""
        return {
            "attention_weight": (self.attention_size, self.input_size),
            "attention_bias": (self.attention_size,),
            "attention_vector": (self.attention_size,),
        }

    def initialize(self, parameters: Mapping[str, NDArray], rng: np.random.RandomState) -> None:
        """Write initial parameters: Glorot-uniform weight and vector, bias zero.

        Glorot, X. and Bengio, Y. (2010). Understanding the difficulty of training deep feedforward neural networks.
        """
        for name, fans in (("attention_weight", self.attention_size + self.input_size), ("attention_vector", None)):
            bound = np.sqrt(6.0 / (self.attention_size + 1 if fans is None else fans))
            parameters[name][...] = rng.uniform(-bound, bound, parameters[name].shape)
        parameters["attention_bias"][...] = 0.0

    def forward(
        self, parameters: Mapping[str, NDArray], hidden: NDArray, starts: NDArray, lengths: NDArray
    ) -> AttentionPass:
        """Pool every sequence.

        Parameters
        ----------
        parameters : mapping of str to ndarray
        hidden : ndarray of shape (n_rows, input_size)
            C-contiguous. Kept for `backward`, not copied.
        starts, lengths : ndarray of int64, shape (n_sequences,)
            First row and number of rows of every sequence.

        Returns
        -------
        AttentionPass
            With the attributes `pooled` and `weights`.
        """
        if hidden.ndim != 2 or hidden.shape[1] != self.input_size or hidden.dtype != self.dtype:
            raise ValueError(
                f"expected rows of {self.input_size} features in {self.dtype}, got an array of shape {hidden.shape} in "
                f"{hidden.dtype}"
            )
        lease = self._buffers.lease()
        rows = Sequences(hidden, starts, lengths).rows()
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64, copy=False)
        n_rows, n_sequences, columns = len(rows), len(lengths), self._columns
        run = AttentionPass(hidden, rows, offsets, lease)
        run.activations = lease.at_least(("activations",), n_rows * columns, self.dtype)
        run.weights = np.empty(n_rows, dtype=self.dtype)
        run.pooled = np.empty((n_sequences, self.input_size), dtype=self.dtype)
        panels = lease.exact(("panels",), self.input_size * columns, self.dtype)
        pack_columns(
            np.ascontiguousarray(parameters["attention_weight"]), self._gates, self.attention_size, 0, columns,
            self._identity, panels,
        )  # fmt: skip
        bias, vector = self._padded(parameters["attention_bias"]), self._padded(parameters["attention_vector"])
        flat = read_only(hidden.reshape(-1))

        def part(begin: int, end: int) -> None:
            first, last = int(offsets[begin]), int(offsets[end])
            multiply_kernel(
                flat, 0, rows, first, last - first, self.input_size, panels, 0, self.input_size, columns,
                bias, 0, 0, run.activations, first * columns, columns,
            )  # fmt: skip
            attend(
                flat, rows, self.input_size, offsets, begin, end, columns, vector,
                np.empty(self._lanes, dtype=self.dtype), run.activations, run.weights, run.pooled.reshape(-1),
            )  # fmt: skip

        self._run(part, lengths)
        return run

    def backward(
        self,
        run: AttentionPass,
        parameters: Mapping[str, NDArray],
        d_pooled: NDArray,
        gradient: Mapping[str, NDArray],
    ) -> NDArray:
        """Add the gradients of the parameters to `gradient`. A pass goes backward once.

        Parameters
        ----------
        run : AttentionPass
        parameters : mapping of str to ndarray
            As in the forward pass.
        d_pooled : ndarray of shape (n_sequences, input_size)
        gradient : mapping of str to ndarray

        Returns
        -------
        ndarray of shape (n_steps, input_size)
            Gradient of the rows of the sequences, sequence after sequence.
        """
        rows, offsets, lease = run.rows, run.offsets, run.lease
        n_rows, size, columns, pitch = len(rows), self.input_size, self._columns, self._padded_input
        n_sequences = len(offsets) - 1
        vector = self._padded(parameters["attention_vector"])
        panels = lease.exact(("panels back",), self.attention_size * pitch, self.dtype)
        pack_rows(
            np.ascontiguousarray(parameters["attention_weight"]), self._gates, self.attention_size,
            self.attention_size, 0, pitch, panels,
        )  # fmt: skip
        whole = size == pitch
        d_hidden = np.empty((n_rows, size), dtype=self.dtype)
        padded = d_hidden.reshape(-1) if whole else lease.at_least(("d_hidden",), n_rows * pitch, self.dtype)
        d_vector = lease.at_least(("d_vector",), n_sequences * columns, self.dtype)
        product = lease.at_least(("product",), size * columns, self.dtype)
        column_sums = lease.at_least(("column sums",), columns, self.dtype)
        flat = read_only(run.hidden.reshape(-1))
        d_flat = read_only(np.ascontiguousarray(d_pooled, dtype=self.dtype).reshape(-1))
        identity = np.arange(max(n_rows, SUM_COLUMNS), dtype=np.int64)

        def part(begin: int, end: int) -> None:
            first, last = int(offsets[begin]), int(offsets[end])
            attend_adjoint(
                flat, rows, size, offsets, begin, end, columns, vector, np.empty(self._lanes, dtype=self.dtype),
                run.weights, d_flat, run.activations, d_vector, padded, pitch,
            )  # fmt: skip
            multiply_kernel(
                read_only(run.activations), 0, identity, first, last - first, columns, panels, 0, self.attention_size,
                pitch, padded, first * pitch, pitch, padded, first * pitch, pitch,
            )  # fmt: skip
            if not whole:
                d_hidden[first:last] = padded.reshape(n_rows, pitch)[first:last, :size]

        self._run(part, np.diff(offsets))

        def sums(begin: int, end: int) -> None:
            own = self._buffers.lease()
            multiply_transposed(
                flat, 0, rows, n_rows, size, begin, end, identity, run.activations, 0, columns, columns,
                own.at_least(("panel",), SUM_ROWS * PANEL_VECTORS * self._lanes, self.dtype),
                own.at_least(("block",), SUM_PITCH * SUM_COLUMNS, self.dtype), product, column_sums,
            )  # fmt: skip
            own.release()

        # By features of the input: every sum over rows is the work of one thread.
        self._run(sums, np.full(size, -(-n_rows // size), dtype=np.int64))
        gradient["attention_weight"][...] += product.reshape(size, columns)[:, : self.attention_size].T
        gradient["attention_bias"][...] += column_sums[: self.attention_size]
        by_sequence = d_vector.reshape(n_sequences, columns)[:, : self.attention_size]
        gradient["attention_vector"][...] += by_sequence.sum(axis=0, dtype=np.float64)
        lease.release()
        return d_hidden

    def _padded(self, values: NDArray) -> NDArray:
        padded = np.zeros(self._columns, dtype=self.dtype)
        padded[: self.attention_size] = values
        return padded

    def _run(self, part, sizes: NDArray) -> None:
        """Call `part` for ranges of about equal size, in as many threads as the work is worth."""
        n_threads = 1
        if self.workers is not None:
            flops = 2 * int(sizes.sum()) * self.input_size * self._columns
            n_threads = self.workers.worth(flops)
        tasks = [partial(part, begin, end) for begin, end in balanced_ranges(sizes, n_threads)]
        if self.workers is None:
            tasks[0]()
        else:
            self.workers.run(tasks)
