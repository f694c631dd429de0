"""A recurrent network: stages, recurrent layers, pooling and a head over one vector of parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numrnn.dropout import OUTPUT_STREAM, drop
from numrnn.embedding import Embedding
from numrnn.heads import LOSS_NAMES, Head
from numrnn.kernels.cpu.losses import weight_penalty
from numrnn.packing import Sequences
from numrnn.parameters import Parameters, Reach
from numrnn.stack import RecurrentStack
from numrnn.stages import Stage
from numrnn.trunk import Trunk
from numrnn.windows import last_in_windows, per_step_passes, pooled_backward, pooled_forward, window_seed
from numrnn.workers import Workers

__all__ = ["Network"]

# Batches are cut so that what the recurrent layers keep stays near these numbers of bytes.
_INFERENCE_BYTES = 2**27
_TRAINING_BYTES = 2**30
# Longer sequences than this are read window by window in inference.
_INFERENCE_STEPS = 4096
# A sequence's steps before its last training window are read in windows of at least this many.
_PREFIX_STEPS = 256

_POOLINGS = ("last", "mean", "max")


def _range(sequences: Sequences, chunk: slice) -> Sequences:
    """Consecutive sequences; nothing is copied."""
    return Sequences(sequences.values, sequences.starts[chunk], sequences.lengths[chunk])


class Network:
    """Stages, recurrent layers, pooling over time, dense readout and loss; the parameters are one contiguous vector.

    ``outputs = pooled(layers(stages(x))) @ weight_out.T + bias_out``. The loss of a batch is the weighted mean over its
    rows, ``sum(w * l) / sum(w)``; rows are sequences, or time steps where `pooling` is None.

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
    embeddings : tuple of (int, int, int), default=()
        Column of the input, number of rows and dimension for every categorical column: its values, row numbers held as
        floating-point numbers, are replaced by learned vectors `embedding_0`, `embedding_1`, ... The recurrent layers
        see these vectors in the order given here, and then the other columns.
    residual : bool, default=False
        Whether the input of a recurrent layer is added to its output, see `RecurrentStack`.
    recurrent_dropout : float, default=0.0
        Of the hidden states that go into the recurrent product, one mask for a sequence, see `RecurrentStack`.
    input_dropout, output_dropout : float, default=0.0
        Elementwise, of the input of the first recurrent layer and of what the readout sees, in training.
    label_smoothing : float, default=0.0
        For the cross-entropy: the share of every label that is spread over all classes. It is part of the loss, in
        training and out of it.
    quantile_levels : tuple of float, default=()
        For the loss "quantile", and only for it: the levels, between 0 and 1, increasing.
    dtype : {"float32", "float64"}, default="float32"
    workers : Workers or None, default=None
        Threads for the recurrent layers.

    Attributes
    ----------
    parameters : Parameters
        Embeddings first, then the recurrent layers' (PyTorch's names), `weight_out` (n_outputs, n_features_out) and
        `bias_out` (n_outputs,).
    gradient : Parameters
        Of the last call of `loss_and_gradient`; `reach` says which parts of it can be other than zero.
    n_target_columns : int
        Columns of the targets; `n_outputs`, but for the losses that have several raw outputs for a target.
    weight_spans : tuple of two ndarrays of int64
        First and past-the-end elements of the weights (not biases, not embeddings) in `parameters.flat`.
    takes_classes : bool
        Whether targets are class numbers.

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
        if loss not in LOSS_NAMES:
            raise ValueError(f"loss must be one of {sorted(LOSS_NAMES)}, got {loss!r}")
        if pooling not in (None, *_POOLINGS, "attention"):
            raise ValueError(f"pooling must be 'last', 'mean', 'max', 'attention' or None, got {pooling!r}")
        if convolutions or pooling == "attention":
            raise NotImplementedError("convolutions and attention")
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.dtype("float32"), np.dtype("float64")):
            raise ValueError(f"dtype must be float32 or float64, got {self.dtype}")
        for name, probability in (
            ("dropout", dropout),
            ("recurrent_dropout", recurrent_dropout),
            ("input_dropout", input_dropout),
            ("output_dropout", output_dropout),
        ):
            if not 0 <= probability < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {probability}")
        self.cell = cell
        self.input_size = input_size
        self.hidden_sizes = tuple(hidden_sizes)
        self.n_outputs = n_outputs
        self.bidirectional = bidirectional
        self.pooling = pooling
        self.dropout = dropout
        self.loss_name = loss
        self.embeddings = tuple((int(column), int(rows), int(size)) for column, rows, size in embeddings)
        self.convolutions = tuple(dict(form) for form in convolutions)
        self.residual = residual
        self.recurrent_dropout = recurrent_dropout
        self.input_dropout = input_dropout
        self.output_dropout = output_dropout
        self.label_smoothing = label_smoothing
        self.quantile_levels = tuple(float(level) for level in quantile_levels)
        self.workers = workers
        self.takes_classes = loss == "cross_entropy"
        self.trunk = self._build_trunk(dropout, recurrent_dropout, input_dropout, workers)
        self.stack = self.trunk.stack
        self.head = Head(
            loss,
            self.trunk.output_size,
            n_outputs,
            label_smoothing=label_smoothing,
            quantile_levels=self.quantile_levels,
            dtype=self.dtype,
            workers=self.stack.workers,
        )
        self.n_target_columns = self.head.n_target_columns
        shapes = self.trunk.parameter_shapes() | self.head.parameter_shapes()
        self.parameters = Parameters(shapes, self.dtype)
        self.gradient = self.parameters.zeros_like()
        weights = [self.parameters.span(name) for name in shapes if name.startswith("weight")]
        self.weight_spans = (
            np.array([span.start for span in weights], dtype=np.int64),
            np.array([span.stop for span in weights], dtype=np.int64),
        )
        self._everything = Reach.all_of(self.parameters.size)
        # What a time step costs in a window, and what it costs for as long as its sequence is worked on.
        layers = 8 * sum(self.hidden_sizes) * (1 + bool(bidirectional))
        copies = 3 * self.stack.input_size if self.embeddings or input_dropout else 0
        self._bytes_per_step = self.dtype.itemsize * (layers + copies)

    def _build_trunk(
        self, dropout: float, recurrent_dropout: float, input_dropout: float, workers: Workers | None
    ) -> Trunk:
        stages: list[Stage] = []
        size = self.input_size
        if self.embeddings:
            stages.append(Embedding(size, self.embeddings, self.dtype))
            size = stages[-1].output_size
        stack = RecurrentStack(
            self.cell,
            size,
            self.hidden_sizes,
            bidirectional=self.bidirectional,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            residual=self.residual,
            dtype=self.dtype.name,
            workers=workers,
        )
        return Trunk(stages, stack, input_dropout=input_dropout)

    @property
    def uses_dropout(self) -> bool:
        """Whether training needs random numbers."""
        return max(self.dropout, self.recurrent_dropout, self.input_dropout, self.output_dropout) > 0

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
        """Write initial parameters, each part its own: see `Embedding`, `RecurrentStack` and `Head`.

        Readout weights are Glorot-uniform, its bias is zero.

        Glorot, X. and Bengio, Y. (2010). Understanding the difficulty of training deep feedforward neural networks.
        """
        self.trunk.initialize(self.parameters, rng)
        self.head.initialize(self.parameters, rng)

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
            outputs[rows] = self.head.outputs(self.parameters, chunk)
        return outputs

    def embedded(self, sequences: Sequences) -> Sequences:
        """What the first recurrent layer sees of the input, sequence after sequence."""
        self._check_sequences(sequences)
        embedded = self.trunk.embed(self.parameters, sequences)
        return Sequences.from_list(list(embedded)) if embedded is sequences else embedded

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
        total_weight = float(weights.sum())
        total = 0.0
        for rows, chunk in self._inference_features(sequences):
            total += self.head.loss(self.parameters, chunk, targets[rows], weights[rows])[0]
        return total / total_weight if total_weight else 0.0

    def _n_rows(self, sequences: Sequences) -> int:
        return sequences.n_steps if self.pooling is None else len(sequences)

    def _cost(self, lengths: NDArray, steps: int | None) -> NDArray:
        """Bytes that sequences of these lengths need in windows of so many steps (None for one window)."""
        return (lengths if steps is None else np.minimum(lengths, steps)) * self._bytes_per_step

    @staticmethod
    def _chunks(costs: NDArray, memory: int) -> Iterator[slice]:
        """Consecutive sequences that together fit into the memory; at least one."""
        ends = np.cumsum(costs)
        begin = 0
        while begin < len(costs):
            done = ends[begin - 1] if begin else 0
            end = max(int(np.searchsorted(ends, done + memory, side="right")), begin + 1)
            yield slice(begin, end)
            begin = end

    def _inference_features(self, sequences: Sequences) -> Iterator[tuple[Any, NDArray]]:
        """Rows of the result and their features, chunk by chunk."""
        self._check_sequences(sequences)
        steps = None if self.bidirectional else _INFERENCE_STEPS
        row_starts = np.cumsum(sequences.lengths) - sequences.lengths
        for chunk in self._chunks(self._cost(sequences.lengths, steps), _INFERENCE_BYTES):
            part, _ = self.trunk.prepare(self.parameters, _range(sequences, chunk))
            if self.pooling is not None:
                yield chunk, self._inference_pass(part, self.pooling)
            elif steps is None or part.max_length <= steps:
                first = int(row_starts[chunk.start])
                yield slice(first, first + part.n_steps), self._inference_pass(part, None)
            else:
                first = int(row_starts[chunk.start])
                for rows, _, pass_ in per_step_passes(self.trunk, self.parameters, part, steps):
                    yield first + rows, pass_.output

    def _inference_pass(self, prepared: Sequences, pooling: str | None) -> NDArray:
        """Features of sequences, read at once or in windows."""
        if self.bidirectional or prepared.max_length <= _INFERENCE_STEPS:
            return self.trunk.forward(self.parameters, prepared, pooling=pooling).output
        return pooled_forward(self.trunk, self.parameters, prepared, pooling, _INFERENCE_STEPS)[0]

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
        self._clear_gradient()
        total = 0.0
        costs = self._cost(sequences.lengths, bptt_steps)
        if int(costs.sum()) <= _TRAINING_BYTES:
            total = self._accumulate(sequences, targets, weights, scale, bptt_steps, dropout_seed)
        else:
            row_ends = np.cumsum(sequences.lengths if self.pooling is None else np.ones(len(sequences), dtype=np.int64))
            first = 0
            for number, chunk in enumerate(self._chunks(costs, _TRAINING_BYTES)):
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
        prepared, passes = self.trunk.prepare(self.parameters, sequences, training=True)
        d_prepared = self.trunk.gradient_of_prepared(passes)
        arguments = (prepared, targets, weights, scale, dropout_seed, d_prepared)
        if bptt_steps is None or bptt_steps >= prepared.max_length:
            total = self._accumulate_at_once(*arguments)
        else:
            total = self._accumulate_in_windows(*arguments, bptt_steps)
        self.trunk.prepare_backward(passes, self.parameters, d_prepared, self.gradient)
        return total

    def _accumulate_at_once(
        self,
        sequences: Sequences,
        targets: NDArray,
        weights: NDArray,
        scale: float,
        dropout_seed: int,
        d_values: NDArray | None,
        state: Any = None,
    ) -> float:
        run = self.trunk.forward(
            self.parameters, sequences, state=state, pooling=self.pooling, training=True, dropout_seed=dropout_seed
        )
        total, d_features = self._read_out_and_back(run.output, targets, weights, scale, dropout_seed)
        self.trunk.backward(run, self.parameters, d_features, self.gradient, d_values=d_values)
        return total

    def _accumulate_in_windows(
        self,
        sequences: Sequences,
        targets: NDArray,
        weights: NDArray,
        scale: float,
        dropout_seed: int,
        d_values: NDArray | None,
        steps: int,
    ) -> float:
        trunk, parameters, gradient = self.trunk, self.parameters, self.gradient
        if self.pooling is None:
            total = 0.0
            for rows, seed, run in per_step_passes(
                trunk, parameters, sequences, steps, training=True, dropout_seed=dropout_seed
            ):
                of_window, d_features = self._read_out_and_back(run.output, targets[rows], weights[rows], scale, seed)
                trunk.backward(run, parameters, d_features, gradient, d_values=d_values)
                total += of_window
            return total
        # The state that enters a window went through dropout like everything else, if there is any.
        between_layers = self.dropout if len(self.hidden_sizes) > 1 else 0.0
        training = max(between_layers, self.recurrent_dropout, self.input_dropout) > 0
        if self.pooling == "last":
            cut = np.maximum(sequences.lengths - steps, 0)
            state = last_in_windows(
                trunk,
                parameters,
                sequences.window(0, cut),
                steps if training else max(steps, _PREFIX_STEPS),
                training=training,
                dropout_seed=dropout_seed,
            ).state
            final = sequences.window(cut, sequences.lengths)
            seed = window_seed(dropout_seed, sequences.max_length)
            return self._accumulate_at_once(final, targets, weights, scale, seed, d_values, state)
        arguments = (trunk, parameters, sequences, self.pooling, steps)
        pooled, winners = pooled_forward(*arguments, training=training, dropout_seed=dropout_seed)
        total, d_pooled = self._read_out_and_back(pooled, targets, weights, scale, dropout_seed)
        pooled_backward(*arguments, d_pooled, winners, gradient, dropout_seed=dropout_seed, d_values=d_values)
        return total

    def _read_out_and_back(
        self, features: NDArray, targets: NDArray, weights: NDArray, scale: float, dropout_seed: int
    ) -> tuple[float, NDArray]:
        """Readout and loss, forward and backward: sum of weight * loss and the gradient of the features.

        The features are overwritten by what dropout leaves of them.
        """
        drop(features, self.output_dropout, dropout_seed, OUTPUT_STREAM)
        total, d_features = self.head.loss(self.parameters, features, targets, weights, scale, self.gradient)
        assert d_features is not None
        drop(d_features, self.output_dropout, dropout_seed, OUTPUT_STREAM)
        return total, d_features

    def reach(self) -> Reach:
        """The parts of `gradient` that the last call of `loss_and_gradient` can have made other than zero."""
        embedding = self.trunk.embedding
        if embedding is None:
            return self._everything
        dense = self.parameters.span(embedding.names[-1]).stop
        begins, ends, rows = [np.array([dense])], [np.array([self.parameters.size])], []
        n_rows = 0
        for name, (_, n_entries, dimension), reached in zip(
            embedding.names, embedding.tables, embedding.reached, strict=True
        ):
            begins.append(self.parameters.span(name).start + reached * dimension)
            ends.append(begins[-1] + dimension)
            rows.append(n_rows + reached)
            n_rows += n_entries
        return Reach(
            np.concatenate(begins, dtype=np.int64), np.concatenate(ends, dtype=np.int64), np.concatenate(rows), n_rows
        )

    def _clear_gradient(self) -> None:
        """Zero what the last call has written, and not the rows of embeddings that it has not."""
        embedding, first = self.trunk.embedding, 0
        if embedding is not None:
            embedding.forget(self.gradient)
            first = self.parameters.span(embedding.names[-1]).stop
        self.gradient.flat[first:] = 0.0

    def input_gradient(self, sequences: Sequences, d_outputs: NDArray) -> NDArray:
        """Gradient of ``sum(d_outputs * outputs(sequences))`` with respect to what the first recurrent layer sees.

        Parameters
        ----------
        sequences : Sequences
        d_outputs : ndarray
            Of the shape of `outputs`.

        Returns
        -------
        ndarray of shape (n_steps, size of the first layer's input)
            Rows are the time steps of `embedded`, sequence after sequence. There is no dropout, and no truncation.
        """
        self._check_sequences(sequences)
        expected = (self._n_rows(sequences), self.n_outputs)
        if d_outputs.shape != expected:
            raise ValueError(f"expected d_outputs of shape {expected}, got {d_outputs.shape}")
        d_outputs = np.ascontiguousarray(d_outputs, dtype=self.dtype)
        trunk = self._build_trunk(0.0, 0.0, 0.0, self.stack.workers) if self.uses_dropout else self.trunk
        # The gradients of the parameters have to go somewhere.
        unused = Parameters(trunk.stack.parameter_shapes(), self.dtype)
        parts: list[NDArray] = []
        first = 0
        for chunk in self._chunks(self._cost(sequences.lengths, None), _TRAINING_BYTES):
            part = _range(sequences, chunk)
            rows = slice(first, first + self._n_rows(part))
            first = rows.stop
            inner = trunk.embed(self.parameters, part)
            run = trunk.stack.forward(self.parameters, inner, pooling=self.pooling, training=True)
            d_features = self.head.features_gradient(self.parameters, d_outputs[rows])
            d_input, _ = trunk.stack.backward(run, self.parameters, d_features, unused, need_input=True)
            assert d_input is not None
            parts.append(d_input)
        return np.concatenate(parts) if parts else np.zeros((0, self.stack.input_size), dtype=self.dtype)

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
        expected: tuple[int, ...] = (n_rows,) if self.takes_classes else (n_rows, self.n_target_columns)
        dtype = np.dtype(np.int64) if self.takes_classes else self.dtype
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
