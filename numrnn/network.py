"""A recurrent network with its readout and its loss over one vector of parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numrnn.kernels.cpu.likelihoods import LIKELIHOODS
from numrnn.kernels.cpu.losses import LOSSES, weight_penalty
from numrnn.kernels.cpu.readout import readout, readout_adjoint
from numrnn.kernels.simd import lane_count
from numrnn.packing import Sequences
from numrnn.parameters import Parameters
from numrnn.stack import RecurrentStack
from numrnn.windows import iterate_windows, last_in_windows, pooled_backward, pooled_forward, window_seed
from numrnn.workers import Workers

__all__ = ["Network"]

# Batches are cut so that what the recurrent layers keep stays near these numbers of bytes.
_INFERENCE_BYTES = 2**27
_TRAINING_BYTES = 2**30
# Longer sequences than this are read window by window in inference.
_INFERENCE_STEPS = 4096
# A sequence's steps before its last training window are read in windows of at least this many.
_PREFIX_STEPS = 256


def _range(sequences: Sequences, chunk: slice) -> Sequences:
    """Consecutive sequences; nothing is copied."""
    return Sequences(sequences.values, sequences.starts[chunk], sequences.lengths[chunk])


class Network:
    """Recurrent stack, pooling over time, dense readout and loss; the parameters are one contiguous vector.

    ``outputs = pooled(stack(x)) @ weight_out.T + bias_out``. The loss of a batch is the weighted mean over its rows,
    ``sum(w * l) / sum(w)``; rows are sequences, or time steps where `pooling` is None.

    Parameters
    ----------
    cell : {"lstm", "gru", "rnn_tanh", "rnn_relu"}
    input_size : int
        Number of features of a time step.
    hidden_sizes : tuple of int
        Units of each recurrent layer.
    n_outputs : int
        Raw outputs; for the cross-entropy the number of classes, at least 2.
    bidirectional : bool, default=False
    pooling : {"last", "mean", "max"} or None, default="last"
        How the outputs of the top layer become one vector per sequence. None: one output per time step.
    dropout : float, default=0.0
        Between recurrent layers, in training.
    loss : {"cross_entropy", "squared_error", "absolute_error", "huber", "quantile", "gaussian", "student_t", \
            "negative_binomial"}, default="cross_entropy"
        Defined in `numrnn.kernels.cpu.losses`: softmax cross-entropy of class numbers; mean over the outputs of the
        squared or absolute error, or of Huber's loss with its border at 1. And in `numrnn.kernels.cpu.likelihoods`: the
        pinball loss and negative log-likelihoods, which have several raw outputs for each target.
    quantile_levels : tuple of float, default=()
        For the loss "quantile", and only for it: the levels, between 0 and 1, increasing.
    dtype : {"float32", "float64"}, default="float32"
    workers : Workers or None, default=None
        Threads for the recurrent layers.

    Attributes
    ----------
    parameters : Parameters
        The recurrent layers' (PyTorch's names), `weight_out` (n_outputs, n_features_out) and `bias_out` (n_outputs,).
    gradient : Parameters
        Of the last call of `loss_and_gradient`.
    n_target_columns : int
        Columns of the targets; `n_outputs`, but for the losses that have several raw outputs for a target.
    weight_spans : tuple of two ndarrays of int64
        First and past-the-end elements of the weights (not biases) in `parameters.flat`.

    Notes
    -----
    An output depends on its own sequence and the parameters alone, not on the batch and not on the number of threads.
    """

    def __init__(
        self,
        *,
        cell: str,
        input_size: int,
        hidden_sizes: tuple[int, ...],
        n_outputs: int,
        bidirectional: bool = False,
        pooling: str | None = "last",
        dropout: float = 0.0,
        loss: str = "cross_entropy",
        embeddings: tuple[tuple[int, int, int], ...] = (),
        convolutions: tuple[dict[str, Any], ...] = (),
        residual: bool = False,
        recurrent_dropout: float = 0.0,
        input_dropout: float = 0.0,
        output_dropout: float = 0.0,
        label_smoothing: float = 0.0,
        quantile_levels: tuple[float, ...] = (),
        dtype: DTypeLike = "float32",
        workers: Workers | None = None,
    ) -> None:
        if loss not in (*LOSSES, *LIKELIHOODS, "crf"):
            raise ValueError(f"loss must be one of {sorted([*LOSSES, *LIKELIHOODS, 'crf'])}, got {loss!r}")
        if pooling not in (None, "last", "mean", "max", "attention"):
            raise ValueError(f"pooling must be 'last', 'mean', 'max', 'attention' or None, got {pooling!r}")
        if embeddings or convolutions or input_dropout or output_dropout or label_smoothing:
            raise NotImplementedError("embeddings, convolutions, dropout of input and output, label smoothing")
        if loss == "crf" or pooling == "attention":
            raise NotImplementedError("crf and attention")
        fewest = 2 if loss == "cross_entropy" else 1
        if n_outputs < fewest:
            raise ValueError(f"n_outputs must be at least {fewest} for the loss {loss!r}, got {n_outputs}")
        self.quantile_levels = tuple(float(level) for level in quantile_levels)
        self._levels = np.array(self.quantile_levels, dtype=np.float64)
        self.n_target_columns = self._count_target_columns(loss, n_outputs)
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.dtype("float32"), np.dtype("float64")):
            raise ValueError(f"dtype must be float32 or float64, got {self.dtype}")
        self.cell = cell
        self.input_size = input_size
        self.hidden_sizes = tuple(hidden_sizes)
        self.n_outputs = n_outputs
        self.bidirectional = bidirectional
        self.pooling = pooling
        self.dropout = dropout
        self.loss_name = loss
        self.embeddings = embeddings
        self.convolutions = convolutions
        self.residual = residual
        self.recurrent_dropout = recurrent_dropout
        self.input_dropout = input_dropout
        self.output_dropout = output_dropout
        self.label_smoothing = label_smoothing
        self.workers = workers
        depth: dict[str, Any] = {}
        if residual:
            depth["residual"] = residual
        if recurrent_dropout:
            depth["recurrent_dropout"] = recurrent_dropout
        self.stack = RecurrentStack(
            cell,
            input_size,
            self.hidden_sizes,
            bidirectional=bidirectional,
            dropout=dropout,
            dtype=self.dtype.name,
            workers=workers,
            **depth,
        )
        shapes = dict(self.stack.parameter_shapes())
        shapes["weight_out"] = (n_outputs, self.stack.output_size)
        shapes["bias_out"] = (n_outputs,)
        self.parameters = Parameters(shapes, self.dtype)
        self.gradient = self.parameters.zeros_like()
        weights = [self.parameters.span(name) for name in shapes if name.startswith("weight")]
        self.weight_spans = (
            np.array([span.start for span in weights], dtype=np.int64),
            np.array([span.stop for span in weights], dtype=np.int64),
        )
        self._bytes_per_step = 8 * self.dtype.itemsize * sum(self.hidden_sizes) * (1 + bool(bidirectional))
        self._lanes = lane_count(self.dtype)

    def _count_target_columns(self, loss: str, n_outputs: int) -> int:
        """Columns of the targets that belong to so many raw outputs."""
        levels = self._levels
        if (len(levels) > 0) != (loss == "quantile"):
            raise ValueError(
                f"quantile_levels are for the loss 'quantile' alone, got {self.quantile_levels} for {loss!r}"
            )
        if not ((levels > 0) & (levels < 1)).all() or (np.diff(levels) <= 0).any():
            raise ValueError(f"quantile_levels must lie between 0 and 1 and increase, got {self.quantile_levels}")
        if loss not in LIKELIHOODS:
            return n_outputs
        _, outputs_per_target, columns_per_target = LIKELIHOODS[loss]
        n_targets, rest = divmod(n_outputs, outputs_per_target or len(levels))
        if rest:
            raise ValueError(
                f"n_outputs must be a multiple of {outputs_per_target or len(levels)}, the raw outputs of a target for "
                f"the loss {loss!r}, got {n_outputs}"
            )
        return n_targets * columns_per_target

    @property
    def n_parameters(self) -> int:
        return self.parameters.size

    def _form(self) -> dict[str, Any]:
        """The arguments that this network was made with."""
        return {
            "cell": self.cell,
            "input_size": self.input_size,
            "hidden_sizes": self.hidden_sizes,
            "n_outputs": self.n_outputs,
            "bidirectional": self.bidirectional,
            "pooling": self.pooling,
            "dropout": self.dropout,
            "loss": self.loss_name,
            "embeddings": self.embeddings,
            "convolutions": self.convolutions,
            "residual": self.residual,
            "recurrent_dropout": self.recurrent_dropout,
            "input_dropout": self.input_dropout,
            "output_dropout": self.output_dropout,
            "label_smoothing": self.label_smoothing,
            "quantile_levels": self.quantile_levels,
            "dtype": self.dtype.name,
            "workers": self.workers,
        }

    def __getstate__(self) -> tuple[dict[str, Any], NDArray]:
        return self._form(), self.parameters.flat

    def __setstate__(self, state: tuple[dict[str, Any], NDArray]) -> None:
        form, flat = state
        Network.__init__(self, **form)
        self.parameters.flat[:] = flat

    def with_dtype(self, dtype: DTypeLike) -> Network:
        """A network of the same form and parameter values in another floating-point type."""
        other = Network(**{**self._form(), "dtype": dtype})
        other.parameters.flat[:] = self.parameters.flat
        return other

    def initialize(self, rng: np.random.RandomState) -> None:
        """Write initial parameters: the recurrent layers' own, Glorot-uniform readout weights, readout bias zero.

        Glorot, X. and Bengio, Y. (2010). Understanding the difficulty of training deep feedforward neural networks.
        """
        self.stack.initialize(self.parameters, rng)
        shape = self.parameters["weight_out"].shape
        bound = np.sqrt(6.0 / sum(shape))
        self.parameters["weight_out"][...] = rng.uniform(-bound, bound, shape)
        self.parameters["bias_out"][...] = 0.0

    # -------------------------------------------------------------------------------------------------- inference
    def features(self, sequences: Sequences) -> NDArray:
        """What the readout sees: the pooled outputs of the top recurrent layer.

        Returns
        -------
        ndarray of shape (n_sequences, n_features_out), or (n_steps, n_features_out) where `pooling` is None
        """
        features = np.empty((self._n_rows(sequences), self.stack.output_size), dtype=self.dtype)
        for rows, chunk in self._inference_features(sequences):
            features[rows] = chunk
        return features

    def outputs(self, sequences: Sequences) -> NDArray:
        """Raw outputs, in batches of bounded memory.

        Returns
        -------
        ndarray of shape (n_sequences, n_outputs), or (n_steps, n_outputs) where `pooling` is None
            With the cross-entropy these are logits.
        """
        outputs = np.empty((self._n_rows(sequences), self.n_outputs), dtype=self.dtype)
        for rows, chunk in self._inference_features(sequences):
            if isinstance(rows, slice):
                self._readout(chunk, outputs[rows])
            else:
                outputs[rows] = self._readout(chunk, np.empty((len(chunk), self.n_outputs), dtype=self.dtype))
        return outputs

    def loss(self, sequences: Sequences, targets: NDArray, weights: NDArray | None = None) -> float:
        """Weighted mean loss, without a penalty and without dropout.

        Parameters
        ----------
        sequences : Sequences
        targets : ndarray
            Class numbers, int64 (n_rows,), for the cross-entropy; else values (n_rows, n_target_columns) of the
            network's type, NaN where one is missing. Rows are sequences, or where `pooling` is None the time steps,
            sequence after sequence.
        weights : ndarray of float64, shape (n_rows,), or None
        """
        targets, weights = self._check_targets(sequences, targets, weights)
        outputs = self.outputs(sequences)
        total_weight = float(weights.sum())
        total = self._evaluate_loss(outputs, targets, weights, 0.0, np.empty_like(outputs))
        return total / total_weight if total_weight else 0.0

    def _evaluate_loss(
        self, outputs: NDArray, targets: NDArray, weights: NDArray, scale: float, d_outputs: NDArray
    ) -> float:
        """Sum of weight * loss over the rows; the gradient of the raw outputs is written to `d_outputs`."""
        if self.loss_name in LOSSES:
            return LOSSES[self.loss_name](outputs, targets, weights, scale, d_outputs)
        levels = (self._levels,) if self.loss_name == "quantile" else ()
        return LIKELIHOODS[self.loss_name].kernel(outputs, targets, weights, *levels, scale, d_outputs)

    def _n_rows(self, sequences: Sequences) -> int:
        return sequences.n_steps if self.pooling is None else len(sequences)

    def _readout(self, features: NDArray, outputs: NDArray) -> NDArray:
        lane = np.zeros(self._lanes, dtype=self.dtype)
        readout(features, self.parameters["weight_out"], self.parameters["bias_out"], lane, outputs)
        return outputs

    def _chunks(self, lengths: NDArray, memory: int) -> Iterator[slice]:
        """Consecutive sequences whose time steps together fit into the memory; at least one."""
        limit = max(memory // self._bytes_per_step, 1)
        ends = np.cumsum(lengths)
        begin = 0
        while begin < len(lengths):
            done = ends[begin - 1] if begin else 0
            end = max(int(np.searchsorted(ends, done + limit, side="right")), begin + 1)
            yield slice(begin, end)
            begin = end

    def _inference_features(self, sequences: Sequences) -> Iterator[tuple[Any, NDArray]]:
        """Rows of the result and their features, chunk by chunk."""
        self._check_sequences(sequences)
        windowed = not self.bidirectional and sequences.max_length > _INFERENCE_STEPS
        lengths = np.minimum(sequences.lengths, _INFERENCE_STEPS) if windowed else sequences.lengths
        row_starts = np.cumsum(sequences.lengths) - sequences.lengths
        for chunk in self._chunks(lengths, _INFERENCE_BYTES):
            part = _range(sequences, chunk)
            if not windowed:
                pass_: Any = self.stack.forward(self.parameters, part, pooling=self.pooling)
                if self.pooling is None:
                    first = int(row_starts[chunk.start])
                    yield slice(first, first + part.n_steps), pass_.output
                else:
                    yield chunk, pass_.output
            elif self.pooling is not None:
                yield chunk, pooled_forward(self.stack, self.parameters, part, self.pooling, _INFERENCE_STEPS)[0]
            else:
                pass_ = None
                places = Sequences(sequences.values, row_starts[chunk], part.lengths)
                for begin, window in iterate_windows(part, _INFERENCE_STEPS):
                    state = None if pass_ is None else pass_.state
                    pass_ = self.stack.forward(self.parameters, window, state=state)
                    yield places.window(begin, begin + _INFERENCE_STEPS).rows(), pass_.output

    # --------------------------------------------------------------------------------------------------- training
    def loss_and_gradient(
        self,
        sequences: Sequences,
        targets: NDArray,
        weights: NDArray | None = None,
        *,
        alpha: float = 0.0,
        bptt_steps: int | None = None,
        dropout_seed: int = 0,
    ) -> float:
        """Loss of a batch in training; its gradient is written to `gradient`.

        Parameters
        ----------
        sequences, targets, weights
            As for `loss`.
        alpha : float, default=0.0
            Strength of the L2 penalty ``alpha / 2 * ||W||**2 / sum(w)`` of all weights W (biases are free), which is
            part of the loss, as in scikit-learn's MLPClassifier.
        bptt_steps : int or None, default=None
            Truncated backpropagation: no gradient flows further back than the beginning of a window of so many time
            steps, and memory grows with the window, not with the sequences. With "last" pooling the window is the end
            of each sequence; else windows are laid from its beginning and the state is carried from one to the next.
            A window that holds the longest sequence gives the exact gradient.
        dropout_seed : int, default=0
            Chooses the units that dropout removes.

        Returns
        -------
        float
            The weighted mean loss plus the penalty.

        Raises
        ------
        ValueError
            If `bptt_steps` is given for a bidirectional network or is not positive.
        """
        self._check_sequences(sequences)
        targets, weights = self._check_targets(sequences, targets, weights)
        if bptt_steps is not None:
            if self.bidirectional:
                raise ValueError(
                    "bptt_steps must be None for a bidirectional network: its backward direction starts at the end of "
                    "the sequence, so that no state can be carried from one window of time to the next"
                )
            if bptt_steps < 1:
                raise ValueError(f"bptt_steps must be a positive number of time steps or None, got {bptt_steps}")
            if bptt_steps >= sequences.max_length:
                bptt_steps = None
        total_weight = float(weights.sum())
        scale = 1.0 / total_weight if total_weight else 0.0
        self.gradient.flat.fill(0.0)
        total = 0.0
        kept = sequences.lengths if bptt_steps is None else np.minimum(sequences.lengths, bptt_steps)
        if int(kept.sum()) * self._bytes_per_step <= _TRAINING_BYTES:
            total = self._accumulate(sequences, targets, weights, scale, bptt_steps, dropout_seed)
        else:
            row_ends = np.cumsum(sequences.lengths if self.pooling is None else np.ones(len(sequences), dtype=np.int64))
            first = 0
            for number, chunk in enumerate(self._chunks(kept, _TRAINING_BYTES)):
                rows = slice(first, int(row_ends[chunk.stop - 1]))
                first = rows.stop
                seed = (dropout_seed + 7919 * number) % 2**31
                part = _range(sequences, chunk)
                total += self._accumulate(part, targets[rows], weights[rows], scale, bptt_steps, seed)
        loss = total * scale
        if alpha and total_weight:
            loss += weight_penalty(self.parameters.flat, self.gradient.flat, *self.weight_spans, alpha * scale)
        return loss

    def _accumulate(
        self,
        sequences: Sequences,
        targets: NDArray,
        weights: NDArray,
        scale: float,
        bptt_steps: int | None,
        dropout_seed: int,
    ) -> float:
        """Add a batch to the gradient; return its sum of weight * loss."""
        if bptt_steps is None or bptt_steps >= sequences.max_length:
            pass_ = self._forward(sequences, None, self.pooling, dropout_seed)
            total, d_features = self._read_out_and_back(pass_.output, targets, weights, scale)
            self.stack.backward(pass_, self.parameters, d_features, self.gradient)
            return total
        if self.pooling is None:
            return self._accumulate_per_step(sequences, targets, weights, scale, bptt_steps, dropout_seed)
        # The state that enters a window went through dropout like everything else, if there is any.
        training = self.dropout > 0.0 and len(self.hidden_sizes) > 1
        if self.pooling == "last":
            cut = np.maximum(sequences.lengths - bptt_steps, 0)
            before = last_in_windows(
                self.stack,
                self.parameters,
                sequences.window(0, cut),
                bptt_steps if training else max(bptt_steps, _PREFIX_STEPS),
                training=training,
                dropout_seed=dropout_seed,
            )
            final = sequences.window(cut, sequences.lengths)
            seed = window_seed(dropout_seed, sequences.max_length)
            pass_ = self._forward(final, before.state, "last", seed)
            del before
            total, d_features = self._read_out_and_back(pass_.output, targets, weights, scale)
            self.stack.backward(pass_, self.parameters, d_features, self.gradient)
            return total
        steps = bptt_steps
        arguments = (self.stack, self.parameters, sequences, self.pooling, steps)
        pooled, winners = pooled_forward(*arguments, training=training, dropout_seed=dropout_seed)
        total, d_pooled = self._read_out_and_back(pooled, targets, weights, scale)
        pooled_backward(*arguments, d_pooled, winners, self.gradient, dropout_seed=dropout_seed)
        return total

    def _accumulate_per_step(
        self,
        sequences: Sequences,
        targets: NDArray,
        weights: NDArray,
        scale: float,
        steps: int,
        dropout_seed: int,
    ) -> float:
        total = 0.0
        pass_: Any = None
        places = Sequences(sequences.values, np.cumsum(sequences.lengths) - sequences.lengths, sequences.lengths)
        for begin, window in iterate_windows(sequences, steps):
            rows = places.window(begin, begin + steps).rows()
            state = None if pass_ is None else pass_.state
            pass_ = self._forward(window, state, None, window_seed(dropout_seed, begin))
            window_total, d_features = self._read_out_and_back(pass_.output, targets[rows], weights[rows], scale)
            self.stack.backward(pass_, self.parameters, d_features, self.gradient)
            total += window_total
        return total

    def _forward(self, sequences: Sequences, state: Any, pooling: str | None, dropout_seed: int) -> Any:
        return self.stack.forward(
            self.parameters, sequences, state=state, pooling=pooling, training=True, dropout_seed=dropout_seed
        )

    def _read_out_and_back(
        self, features: NDArray, targets: NDArray, weights: NDArray, scale: float
    ) -> tuple[float, NDArray]:
        """Readout and loss, forward and backward: sum of weight * loss and the gradient of the features."""
        outputs = np.empty((len(features), self.n_outputs), dtype=self.dtype)
        d_outputs = np.empty_like(outputs)
        d_features = np.empty_like(features)
        self._readout(features, outputs)
        total = self._evaluate_loss(outputs, targets, weights, scale, d_outputs)
        gradient = self.gradient
        readout_adjoint(
            d_outputs,
            features,
            self.parameters["weight_out"],
            gradient["weight_out"],
            gradient["bias_out"],
            d_features,
        )
        return total, d_features

    # ------------------------------------------------------------------------------------------------------ checks
    def _check_sequences(self, sequences: Sequences) -> None:
        values = sequences.values
        if values.ndim != 2 or values.shape[1] != self.input_size or values.dtype != self.dtype:
            raise ValueError(
                f"expected sequences of {self.input_size} features in {self.dtype}, got an array of shape "
                f"{values.shape} in {values.dtype}"
            )

    def _check_targets(
        self, sequences: Sequences, targets: NDArray, weights: NDArray | None
    ) -> tuple[NDArray, NDArray]:
        n_rows = self._n_rows(sequences)
        classes = self.loss_name == "cross_entropy"
        expected: tuple[int, ...] = (n_rows,) if classes else (n_rows, self.n_target_columns)
        dtype = np.dtype(np.int64) if classes else self.dtype
        if targets.shape != expected or targets.dtype != dtype:
            raise ValueError(
                f"expected targets of shape {expected} in {dtype} for the loss {self.loss_name!r}, got {targets.shape} "
                f"in {targets.dtype}"
            )
        if weights is None:
            weights = np.ones(n_rows, dtype=np.float64)
        elif weights.shape != (n_rows,) or weights.dtype != np.float64:
            raise ValueError(
                f"expected {n_rows} weights in float64, got an array of shape {weights.shape} in {weights.dtype}"
            )
        return np.ascontiguousarray(targets), np.ascontiguousarray(weights)
