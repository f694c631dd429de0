"""A recurrent network: stages, recurrent layers, pooling and a head over one vector of parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numrnn.backpropagation import Backpropagation
from numrnn.crf import ConditionalRandomField
from numrnn.heads import LOSS_NAMES, RandomFieldHead, build_head
from numrnn.kernels.cpu.losses import weight_penalty
from numrnn.packing import Sequences
from numrnn.parameters import Parameters, Reach
from numrnn.stack import States
from numrnn.trunk import build_trunk
from numrnn.windows import per_step_passes, pooled_forward
from numrnn.workers import Workers

__all__ = ["Network"]

# Batches are cut so that what the recurrent layers keep stays near these numbers of bytes.
_INFERENCE_BYTES = 2**27
_TRAINING_BYTES = 2**30
# Longer sequences than this are read window by window in inference.
_INFERENCE_STEPS = 4096

_POOLINGS = ("last", "mean", "max")


def _is_weight(name: str) -> bool:
    """Whether a parameter is one that a penalty is meant for: neither a bias nor an embedding."""
    return "weight" in name or name in ("attention_vector", "crf_transitions")


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
    pooling : {"last", "mean", "max", "attention"} or None, default="last"
        How the outputs of the top layer become one vector per sequence; "attention" is `AttentionPooling` with as many
        units as there are outputs. None: one output per time step.
    dropout : float, default=0.0
        Between recurrent layers, in training.
    loss : {"cross_entropy", "squared_error", "absolute_error", "huber", "quantile", "gaussian", "student_t", \
            "negative_binomial", "crf"}, default="cross_entropy"
        Defined in `numrnn.kernels.cpu.losses`: softmax cross-entropy of class numbers; mean over the outputs of the
        squared or absolute error, or of Huber's loss with its border at 1. And in `numrnn.kernels.cpu.likelihoods`: the
        pinball loss and negative log-likelihoods, which have several raw outputs for each target.
        "crf" is the negative log-likelihood of a sequence of tags by a linear-chain conditional random field over the
        outputs of all time steps, which are its logits. Like every loss it is a mean over rows, here time steps: what a
        sequence has, divided by the sum of the weights of all time steps. Those of one sequence must have one weight.
    embeddings : tuple of (int, int, int), default=()
        Column of the input, number of rows and dimension for every categorical column: its values, row numbers held as
        floating-point numbers, are replaced by learned vectors `embedding_0`, `embedding_1`, ... The recurrent layers
        see these vectors in the order given here, and then the other columns.
    convolutions : tuple of dict, default=()
        Settings of convolutions after the embedding and before the recurrent layers, see `convolutions_from`. With
        max-pooling over time the recurrent layers have fewer time steps than the input.
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
    tied_weights : bool, default=False
        Whether the readout's weights are the vectors of the embedding, see `TiedHead`. For a loss of class numbers
        without "crf", and a single embedding with as many rows as there are outputs.
    n_samples : int or None, default=None
        Train with a sampled softmax: outputs drawn for a minibatch, see `OutputSampler`. For the cross-entropy.
    dtype : {"float32", "float64"}, default="float32"
    matmul_precision : {None, "bfloat16"}, default=None
        Of the recurrent layers on the CPU, see `RecurrentStack`. Can be set to the other at any time.
    workers : Workers or None, default=None
        Threads for the recurrent layers.

    Attributes
    ----------
    parameters : Parameters
        Embeddings first, then those of convolutions, of the recurrent layers (PyTorch's names), of the attention,
        `weight_out` (n_outputs, n_features_out) (with tied weights the projection) and `bias_out` (n_outputs,), those
        of the random field.
    gradient : Parameters
        Of the last call of `loss_and_gradient`; `reach` says which parts of it can be other than zero.
    n_target_columns : int
        Columns of the targets; `n_outputs`, but for the losses that have several raw outputs for a target.
    final_state : list of ndarray or None
        Of the recurrent layers after the last batch in `loss_and_gradient`, if that was one window of time.
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
        tied_weights: bool = False,
        n_samples: int | None = None,
        dtype: DTypeLike = "float32",
        matmul_precision: str | None = None,
        workers: Workers | None = None,
    ) -> None:
        if loss not in LOSS_NAMES:
            raise ValueError(f"loss must be one of {sorted(LOSS_NAMES)}, got {loss!r}")
        if pooling not in (None, *_POOLINGS, "attention"):
            raise ValueError(f"pooling must be 'last', 'mean', 'max', 'attention' or None, got {pooling!r}")
        if loss == "crf" and pooling is not None:
            raise ValueError(
                f"pooling must be None for the loss 'crf', which is one of every time step, got {pooling!r}"
            )
        if pooling is None and any(form.get("pool_size", 1) != 1 for form in convolutions):
            raise ValueError(
                "pool_size must be 1 in all convolutions if pooling is None: an output belongs to a time step of the "
                f"input, which max-pooling over time merges with others; got {convolutions}"
            )
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
        self.n_samples = n_samples
        self.tied_weights = bool(tied_weights)
        if self.tied_weights and (
            loss != "cross_entropy" or len(self.embeddings) != 1 or self.embeddings[0][1] != n_outputs
        ):
            raise ValueError(
                "tied_weights needs the loss 'cross_entropy' and one embedding with a row for each output, got "
                f"{loss!r}, {n_outputs} outputs and embeddings of {[rows for _, rows, _ in self.embeddings]} rows"
            )
        self.takes_classes = loss in ("cross_entropy", "crf")
        threads = Workers() if workers is None else workers
        self.trunk = build_trunk(
            cell=cell,
            input_size=input_size,
            hidden_sizes=self.hidden_sizes,
            bidirectional=bidirectional,
            pooling=pooling,
            residual=residual,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            input_dropout=input_dropout,
            embeddings=self.embeddings,
            convolutions=self.convolutions,
            dtype=self.dtype,
            matmul_precision=matmul_precision,
            workers=threads,
        )
        self.stack = self.trunk.stack
        self.head = build_head(
            loss,
            self.trunk.output_size,
            n_outputs,
            label_smoothing=label_smoothing,
            quantile_levels=self.quantile_levels,
            n_samples=n_samples,
            tied_to=("embedding_0", self.embeddings[0][2]) if self.tied_weights else None,
            dtype=self.dtype,
            workers=threads,
        )
        self.n_target_columns = self.head.n_target_columns
        shapes = self.trunk.parameter_shapes() | self.head.parameter_shapes()
        self.parameters = Parameters(shapes, self.dtype)
        self.gradient = self.parameters.zeros_like()
        weights = [self.parameters.span(name) for name in shapes if _is_weight(name)]
        self.weight_spans = (
            np.array([span.start for span in weights], dtype=np.int64),
            np.array([span.stop for span in weights], dtype=np.int64),
        )
        self._everything = Reach.all_of(self.parameters.size)
        self.final_state: States | None = None
        # What a time step costs in a window, and what it costs for as long as its sequence is worked on.
        layers = 8 * sum(self.hidden_sizes) * (1 + bool(bidirectional))
        copies = 3 * self.stack.input_size if self.embeddings or input_dropout else 0
        self._bytes_per_step = self.dtype.itemsize * (layers + copies)
        outputs = 3 * self.stack.output_size if pooling == "attention" or self.head.reads_whole_sequences else 0
        stages = 4 * sum(stage.output_size for stage in self.trunk.stages) if self.convolutions else 0
        self._bytes_per_whole_step = self.dtype.itemsize * (outputs + stages)

    @property
    def matmul_precision(self) -> str | None:
        """See the parameter."""
        return self.trunk.matmul_precision

    @matmul_precision.setter
    def matmul_precision(self, precision: str | None) -> None:
        self.trunk.matmul_precision = precision

    @property
    def uses_random_numbers(self) -> bool:
        """Whether training needs random numbers: for dropout, or for a sampled softmax."""
        dropout = max(self.dropout, self.recurrent_dropout, self.input_dropout, self.output_dropout)
        return dropout > 0 or self.n_samples is not None

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
            "tied_weights": self.tied_weights,
            "n_samples": self.n_samples,
            "dtype": self.dtype.name,
            "matmul_precision": self.matmul_precision,
            "workers": self.workers,
        }

    def __getstate__(self) -> tuple[dict[str, Any], NDArray]:
        return self._form(), self.parameters.flat

    def __setstate__(self, state: tuple[dict[str, Any], NDArray]) -> None:
        form, flat = state
        Network.__init__(self, **form)
        self.parameters.flat[:] = flat

    def with_dtype(self, dtype: DTypeLike) -> Network:
        """A network of the same form and parameter values in another floating-point type, and products in it."""
        other = Network(**{**self._form(), "dtype": dtype, "matmul_precision": None})
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
        for rows, _, chunk in self._inference_features(sequences):
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
        for rows, _, chunk in self._inference_features(sequences):
            outputs[rows] = self.head.outputs(self.parameters, chunk)
        return outputs

    def embedded(self, sequences: Sequences) -> Sequences:
        """What the first recurrent layer sees of the input, sequence after sequence."""
        self._check_sequences(sequences)
        embedded = self.trunk.embed(self.parameters, sequences)
        return Sequences.from_list(list(embedded)) if embedded is sequences else embedded

    def attention_weights(self, sequences: Sequences) -> NDArray:
        """What share each time step of the recurrent layers has in the pooled features.

        Returns
        -------
        ndarray of shape (n_steps,)
            Sequence after sequence; those of one sequence sum to 1.

        Raises
        ------
        ValueError
            If `pooling` is not "attention".
        """
        if self.pooling != "attention":
            raise ValueError(f"attention_weights needs a network with pooling='attention', got {self.pooling!r}")
        self._check_sequences(sequences)
        steps = None if self.bidirectional else _INFERENCE_STEPS
        parts = [np.zeros(0, dtype=self.dtype)]
        for chunk in self._chunks(self._cost(sequences.lengths, steps), _INFERENCE_BYTES):
            part, _ = self.trunk.prepare(self.parameters, _range(sequences, chunk))
            hidden = self._inference_pass(part, None)
            parts.append(self.trunk.attend(self.parameters, hidden, part.lengths).weights)
        return np.concatenate(parts)

    def decode(self, sequences: Sequences) -> NDArray[np.int64]:
        """The most probable sequences of tags, for the loss "crf": (n_steps,), sequence after sequence."""
        field, logits, starts = self._random_field(sequences)
        return field.decode(self.parameters, logits, starts, sequences.lengths)

    def marginals(self, sequences: Sequences) -> NDArray:
        """Probability of every tag at every time step given the whole sequence, for the loss "crf".

        Returns
        -------
        ndarray of shape (n_steps, n_outputs)
            Sequence after sequence.
        """
        field, logits, starts = self._random_field(sequences)
        return field.marginals(self.parameters, logits, starts, sequences.lengths)

    def _random_field(self, sequences: Sequences) -> tuple[ConditionalRandomField, NDArray, NDArray]:
        if not isinstance(self.head, RandomFieldHead):
            raise ValueError(f"tags of whole sequences need a network with loss='crf', got {self.loss_name!r}")
        return self.head.field, self.outputs(sequences), np.cumsum(sequences.lengths) - sequences.lengths

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
        for rows, lengths, chunk in self._inference_features(sequences):
            total += self.head.loss(self.parameters, chunk, lengths, targets[rows], weights[rows])[0]
        return total / total_weight if total_weight else 0.0

    def _n_rows(self, sequences: Sequences) -> int:
        return sequences.n_steps if self.pooling is None else len(sequences)

    def _cost(self, lengths: NDArray, steps: int | None) -> NDArray:
        """Bytes that sequences of these lengths need in windows of so many steps (None for one window)."""
        at_once = lengths if steps is None else np.minimum(lengths, steps)
        return at_once * self._bytes_per_step + lengths * self._bytes_per_whole_step

    def fits_at_once(self, n_sequences: int, n_steps: int) -> bool:
        """Whether training takes so many sequences of that length in one pass."""
        return int(self._cost(np.full(n_sequences, n_steps), None).sum()) <= _TRAINING_BYTES

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

    def _inference_features(self, sequences: Sequences) -> Iterator[tuple[Any, NDArray, NDArray]]:
        """Rows of the result, lengths of the sequences that they belong to, and features, chunk by chunk."""
        self._check_sequences(sequences)
        steps = None if self.bidirectional else _INFERENCE_STEPS
        per_step = self.pooling is None and not self.head.reads_whole_sequences
        first = 0
        for chunk in self._chunks(self._cost(sequences.lengths, steps), _INFERENCE_BYTES):
            part = _range(sequences, chunk)
            lengths = part.lengths
            part, _ = self.trunk.prepare(self.parameters, part)
            if per_step and steps is not None and part.max_length > steps:
                for rows, _, run in per_step_passes(self.trunk, self.parameters, part, steps):
                    yield first + rows, lengths, run.output
                first += part.n_steps
            else:
                features = self._inference_pass(part, self.pooling)
                yield slice(first, first + len(features)), lengths, features
                first += len(features)

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
        state: States | None = None,
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
        state : list of ndarray, default=None
            Initial states of the recurrent layers, such as the `final_state` after the window of time before this
            batch, into which no gradient flows. The batch is then one window, whatever memory it takes.

        Returns
        -------
        float
            The weighted mean loss plus the penalty.

        Raises
        ------
        ValueError
            If `bptt_steps` is given for a bidirectional network or is not positive, or beside a state.
        """
        self._check_sequences(sequences)
        targets, weights = self._check_targets(sequences, targets, weights)
        if state is not None and (self.bidirectional or bptt_steps is not None):
            raise ValueError("a state is for a batch that is one window, and for networks of one direction")
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
        backpropagation = Backpropagation(
            self.trunk, self.head, self.pooling, self.output_dropout, self.parameters, self.gradient
        )
        total = 0.0
        costs = self._cost(sequences.lengths, bptt_steps)
        if state is not None or int(costs.sum()) <= _TRAINING_BYTES:
            total = backpropagation.accumulate(sequences, targets, weights, scale, bptt_steps, dropout_seed, state)
        else:
            row_ends = np.cumsum(sequences.lengths if self.pooling is None else np.ones(len(sequences), dtype=np.int64))
            first = 0
            for number, chunk in enumerate(self._chunks(costs, _TRAINING_BYTES)):
                rows = slice(first, int(row_ends[chunk.stop - 1]))
                first = rows.stop
                seed = (dropout_seed + 7919 * number) % 2**31
                part = _range(sequences, chunk)
                total += backpropagation.accumulate(part, targets[rows], weights[rows], scale, bptt_steps, seed)
        self.final_state = backpropagation.final_state
        loss = total * scale
        if alpha and total_weight:
            loss += weight_penalty(self.parameters.flat, self.gradient.flat, *self.weight_spans, alpha * scale)
        return loss

    def reach(self, sequences: Sequences | None = None) -> Reach:
        """The parts of `gradient` that the last call of `loss_and_gradient` can have made other than zero.

        Parameters
        ----------
        sequences : Sequences, default=None
            If given, those that a call with these sequences would.
        """
        embedding = self.trunk.embedding
        if embedding is None or self.tied_weights:
            return self._everything
        return self._reach_of_rows(embedding.reached if sequences is None else embedding.rows_of(sequences))

    def whole_reach(self) -> Reach:
        """All parts of `gradient`: every row of every table."""
        embedding = self.trunk.embedding
        if embedding is None or self.tied_weights:
            return self._everything
        return self._reach_of_rows([np.arange(n_rows) for _, n_rows, _ in embedding.tables])

    def _reach_of_rows(self, rows_of_tables: list[NDArray[np.int64]]) -> Reach:
        embedding = self.trunk.embedding
        assert embedding is not None
        dense = self.parameters.span(embedding.names[-1]).stop
        begins, ends, rows = [np.array([dense])], [np.array([self.parameters.size])], []
        n_rows = 0
        for name, (_, n_entries, dimension), reached in zip(
            embedding.names, embedding.tables, rows_of_tables, strict=True
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
            # With tied weights every row has a gradient.
            first = 0 if self.tied_weights else self.parameters.span(embedding.names[-1]).stop
        self.gradient.flat[first:] = 0.0

    def readout_parameters(self) -> tuple[NDArray, NDArray]:
        """Weight (n_outputs, n_features_out) and bias (n_outputs,) of the readout: of tied weights what they amount to.

        They may be the parameters themselves.
        """
        parameters = self.parameters
        bias = parameters["bias_out"]
        if not self.tied_weights:
            return parameters["weight_out"], bias
        table = parameters["embedding_0"]
        if "weight_projection" not in parameters:
            return table, bias
        exact = table.astype(np.float64)
        weight = exact @ parameters["weight_projection"]
        bias = bias + exact @ parameters["bias_projection"]
        return weight.astype(self.dtype), bias.astype(self.dtype)

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
        layers = self.trunk.layers()
        stages = {name for stage in self.trunk.stages for name in stage.parameter_shapes()}
        # The gradients of the parameters have to go somewhere.
        unused = Parameters(
            {name: shape for name, shape in self.parameters.shapes.items() if name not in stages}, self.dtype
        )
        parts = [np.zeros((0, self.stack.input_size), dtype=self.dtype)]
        first = 0
        for chunk in self._chunks(self._cost(sequences.lengths, None), _TRAINING_BYTES):
            part = _range(sequences, chunk)
            rows = slice(first, first + self._n_rows(part))
            first = rows.stop
            inner = self.trunk.embed(self.parameters, part)
            run = layers.forward(self.parameters, inner, pooling=self.pooling, training=True)
            d_features = self.head.features_gradient(self.parameters, d_outputs[rows])
            parts.append(layers.backward(run, self.parameters, d_features, unused, need_input=True))
        return np.concatenate(parts)

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
