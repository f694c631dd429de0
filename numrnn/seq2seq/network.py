"""Encoder and decoder over one vector of parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numrnn.dropout import drop
from numrnn.embedding import Embedding
from numrnn.heads import Head
from numrnn.kernels.cpu.likelihoods import LIKELIHOODS
from numrnn.kernels.cpu.losses import weight_penalty
from numrnn.kernels.equations import CELLS
from numrnn.packing import Sequences
from numrnn.parameters import Parameters, Reach
from numrnn.seq2seq.decoder import ATTENTIONS, INPUT_STREAM, Decoder, DecoderPass, Source
from numrnn.seq2seq.decoding import Hypotheses, beam, draw, unroll
from numrnn.stages import StagePass
from numrnn.trunk import TrunkPass, build_trunk
from numrnn.workers import Workers

__all__ = ["EncoderDecoder", "PairBatch"]

_TARGET_TABLE = "target_embedding_0"
# Batches are cut so that what the recurrent layers and the attention keep stays near these numbers of bytes.
_INFERENCE_BYTES = 2**27
_TRAINING_BYTES = 2**30
_LOSSES_OF_VALUES = ("squared_error", "absolute_error", "huber", *LIKELIHOODS)
# Rows whose probabilities are computed at once.
_AT_ONCE = 256


class PairBatch(NamedTuple):
    """Sources and as many targets, without the symbol that ends a target.

    Attributes
    ----------
    sources, targets : Sequences
        Ids are one column of the network's type. A network with `decoder_inputs` has these in the place of targets.
    """

    sources: Sequences
    targets: Sequences


class _Pass(NamedTuple):
    """What a forward pass of both sides leaves behind."""

    encoded: TrunkPass | None
    embedded: StagePass | None
    decoded: DecoderPass
    seed: int


def _is_weight(name: str) -> bool:
    return "weight" in name or name == "attention_vector"


class EncoderDecoder:
    """A recurrent encoder, a recurrent decoder and attention between them; the parameters are one contiguous vector.

    The encoder is that of `Network` without pooling; for the decoder see `Decoder`. Its summary of a source is the last
    hidden state of its top layer, of both directions. A decoder begins with the vector of the symbol that ends a
    target, or with a row of zeros.

    Parameters
    ----------
    cell : {"gru", "lstm", "rnn_tanh", "rnn_relu"}
        Of both.
    source : {"ids", "values", "vector"}
        What a source is: ids of symbols, rows of numbers, or one row of numbers that starts the decoder; then there is
        no encoder.
    source_size : int
        Number of ids, or of columns.
    target : {"ids", "values"}
    target_size : int
        Number of ids, without the symbol that ends a target, which is the one after them; or of columns.
    decoder_inputs : int or None, default=None
        Columns of what the decoder reads at every step, where this is given and does not come from the targets: no
        output is read again, so that all steps are one pass in training and in use. For targets that are values. None:
        the decoder reads its targets, one step later.
    loss : str or None, default=None
        One of `LOSS_NAMES` for targets that are values; None is "squared_error". Losses with several raw outputs for a
        target need `decoder_inputs`.
    quantile_levels : tuple of float, default=()
        For the loss "quantile".
    encoder_sizes, decoder_sizes : tuple of int
        Units of each layer.
    bidirectional : bool, default=True
        Whether the encoder reads from both ends.
    attention : {"additive", "multiplicative", "multihead"} or None, default="additive"
    n_heads : int, default=1
        For "multihead".
    attention_size : int or None, default=None
        Units of the additive attention, or of all heads together; None is those of the decoder's last layer.
    source_embedding, target_embedding : int, default=256
        Length of the vectors of ids.
    readout_size : int or None, default=None
        Features from which the outputs are computed; None is `target_embedding` with tied embeddings, else the units of
        the decoder's last layer.
    input_feeding : bool, default=True
        Whether the next step sees what the attention found.
    tied_embeddings : bool, default=False
        Whether the weights of the outputs are the vectors of the target's ids (Press and Wolf, 2017).
    dropout, input_dropout, output_dropout : float, default=0.0
        Between layers, of both inputs, and of the features.
    label_smoothing : float, default=0.0
    dtype : {"float32", "float64"}, default="float32"
    workers : Workers or None, default=None

    Attributes
    ----------
    parameters, gradient : Parameters
    loss_name : str
    sampling_share : float
        Share of the decoder's inputs in training that are its own predictions (Bengio et al., 2015).
    end_id : int
        The id that ends a target.
    """

    pooling = None
    final_state = None

    def __init__(
        self,
        *,
        cell: str,
        source: str,
        source_size: int,
        target: str,
        target_size: int,
        decoder_inputs: int | None = None,
        loss: str | None = None,
        quantile_levels: tuple[float, ...] = (),
        encoder_sizes: tuple[int, ...],
        decoder_sizes: tuple[int, ...],
        bidirectional: bool = True,
        attention: str | None = "additive",
        n_heads: int = 1,
        attention_size: int | None = None,
        source_embedding: int = 256,
        target_embedding: int = 256,
        readout_size: int | None = None,
        input_feeding: bool = True,
        tied_embeddings: bool = False,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        output_dropout: float = 0.0,
        label_smoothing: float = 0.0,
        dtype: DTypeLike = "float32",
        workers: Workers | None = None,
    ) -> None:
        self.cell = cell
        self.source = source
        self.source_size = int(source_size)
        self.target = target
        self.target_size = int(target_size)
        self.decoder_inputs = None if decoder_inputs is None else int(decoder_inputs)
        self.loss_name = ("cross_entropy" if target == "ids" else "squared_error") if loss is None else loss
        self.quantile_levels = tuple(float(level) for level in quantile_levels)
        self.encoder_sizes = tuple(int(size) for size in encoder_sizes)
        self.decoder_sizes = tuple(int(size) for size in decoder_sizes)
        self.bidirectional = bool(bidirectional)
        self.attention = attention
        self.n_heads = int(n_heads)
        self.source_embedding = int(source_embedding)
        self.target_embedding = int(target_embedding)
        self.input_feeding = bool(input_feeding)
        self.tied_embeddings = bool(tied_embeddings)
        self.dropout = float(dropout)
        self.input_dropout = float(input_dropout)
        self.output_dropout = float(output_dropout)
        self.label_smoothing = float(label_smoothing)
        self.dtype = np.dtype(dtype)
        self.workers = workers
        self._check_form()
        top = self.decoder_sizes[-1]
        self.attention_size = top if attention_size is None else int(attention_size)
        default = self.target_embedding if tied_embeddings else top
        self.readout_size = default if readout_size is None else int(readout_size)
        self._check_sizes()
        self.sampling_share = 0.0
        self.takes_ids = target == "ids"
        self.end_id = self.target_size
        self.n_outputs = self.target_size + 1 if self.takes_ids else self.target_size * self._outputs_per_target()
        threads = Workers() if workers is None else workers

        reads = source != "vector"
        self.encoder = (
            build_trunk(
                cell=cell,
                input_size=1 if source == "ids" else self.source_size,
                hidden_sizes=self.encoder_sizes,
                bidirectional=self.bidirectional,
                pooling=None,
                residual=False,
                dropout=self.dropout,
                recurrent_dropout=0.0,
                input_dropout=self.input_dropout,
                embeddings=((0, self.source_size, self.source_embedding),) if source == "ids" else (),
                convolutions=(),
                dtype=self.dtype,
                workers=threads,
            )
            if reads
            else None
        )
        self._state_size = self.encoder.output_size if self.encoder is not None else 0
        self._embedding = (
            Embedding(1, ((0, self.n_outputs, self.target_embedding),), self.dtype, prefix="target_embedding")
            if self.takes_ids
            else None
        )
        self.decoder = Decoder(
            cell,
            self.decoder_sizes,
            input_size=self.target_embedding if self.takes_ids else self._target_columns,
            summary_size=self._state_size if reads else self.source_size,
            state_size=self._state_size,
            readout_size=self.readout_size,
            attention=attention,
            n_heads=self.n_heads,
            attention_size=self.attention_size,
            input_feeding=self.input_feeding,
            dropout=self.dropout,
            output_dropout=self.output_dropout,
            dtype=self.dtype,
            workers=threads,
        )
        self.head = Head(
            self.loss_name,
            self.readout_size,
            self.n_outputs,
            label_smoothing=self.label_smoothing,
            quantile_levels=self.quantile_levels,
            dtype=self.dtype,
            workers=threads,
        )
        # Tables whose gradients are sparse come first in the vector; one that is the output's weight, too, is not one.
        shapes: dict[str, tuple[int, ...]] = {}
        encoder = {} if self.encoder is None else self.encoder.parameter_shapes()
        own = {} if self._embedding is None else self._embedding.parameter_shapes()
        self._tables = [embedding for embedding in (self._source_table, self._target_table) if embedding is not None]
        for embedding in self._tables:
            shapes |= embedding.parameter_shapes()
        shapes |= own | {name: shape for name, shape in encoder.items() if name not in shapes}
        shapes |= self.decoder.parameter_shapes()
        shapes |= {
            name: shape
            for name, shape in self.head.parameter_shapes().items()
            if not (self.tied_embeddings and name == "weight_out")
        }
        self.parameters = Parameters(shapes, self.dtype)
        self.gradient = self.parameters.zeros_like()
        weights = [self.parameters.span(name) for name in shapes if _is_weight(name)]
        self.weight_spans = (
            np.array([span.start for span in weights], dtype=np.int64),
            np.array([span.stop for span in weights], dtype=np.int64),
        )
        self._dense = self.parameters.span(self._tables[-1].names[-1]).stop if self._tables else 0

    def _check_form(self) -> None:
        if self.cell not in CELLS:
            raise ValueError(f"cell must be one of {', '.join(map(repr, CELLS))}, got {self.cell!r}")
        if self.source not in ("ids", "values", "vector"):
            raise ValueError(f"source must be 'ids', 'values' or 'vector', got {self.source!r}")
        if self.target not in ("ids", "values"):
            raise ValueError(f"target must be 'ids' or 'values', got {self.target!r}")
        if self.attention not in (None, *ATTENTIONS):
            raise ValueError(f"attention must be one of {ATTENTIONS} or None, got {self.attention!r}")
        if self.source == "vector" and (self.attention is not None or self.encoder_sizes):
            raise ValueError("a source that is one vector has no encoder: attention must be None, encoder_sizes ()")
        if self.target != "ids" and self.tied_embeddings:
            raise ValueError("tied_embeddings are for targets that are ids")
        if self.target == "ids" and self.decoder_inputs is not None:
            raise ValueError(f"decoder_inputs are for targets that are values, got {self.decoder_inputs} for ids")
        losses = ("cross_entropy",) if self.target == "ids" else _LOSSES_OF_VALUES
        if self.loss_name not in losses:
            raise ValueError(f"loss must be one of {losses} for targets that are {self.target}, got {self.loss_name!r}")
        if self.loss_name in LIKELIHOODS and self.decoder_inputs is None:
            raise ValueError(
                f"loss={self.loss_name!r} has several raw outputs for a target, of which none can be the next input: "
                "it needs decoder_inputs"
            )
        if self.dtype not in (np.dtype("float32"), np.dtype("float64")):
            raise ValueError(f"dtype must be float32 or float64, got {self.dtype}")
        for name in ("encoder_sizes", "decoder_sizes"):
            sizes = getattr(self, name)
            if any(size < 1 for size in sizes) or (not sizes and (name == "decoder_sizes" or self.source != "vector")):
                raise ValueError(f"{name} must be one or more positive numbers, got {sizes}")
        for name in ("dropout", "input_dropout", "output_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")

    def _check_sizes(self) -> None:
        for name in ("source_size", "target_size", "attention_size", "readout_size", "n_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.decoder_inputs is not None and self.decoder_inputs < 1:
            raise ValueError(f"decoder_inputs must be at least 1 or None, got {self.decoder_inputs}")
        if self.attention == "multihead" and self.attention_size % self.n_heads:
            raise ValueError(
                f"n_heads must divide attention_size, got {self.n_heads} heads and {self.attention_size} units"
            )
        if self.tied_embeddings and self.readout_size != self.target_embedding:
            raise ValueError(
                f"readout_size must be target_embedding with tied_embeddings, got {self.readout_size} and "
                f"{self.target_embedding}"
            )

    def _outputs_per_target(self) -> int:
        if self.loss_name not in LIKELIHOODS:
            return 1
        return LIKELIHOODS[self.loss_name].outputs_per_target or max(len(self.quantile_levels), 1)

    @property
    def _target_columns(self) -> int:
        """Columns of `PairBatch.targets`."""
        if self.takes_ids:
            return 1
        return self.target_size if self.decoder_inputs is None else self.decoder_inputs

    @property
    def _source_table(self) -> Embedding | None:
        return None if self.encoder is None else self.encoder.embedding

    @property
    def _target_table(self) -> Embedding | None:
        return None if self.tied_embeddings else self._embedding

    @property
    def embeddings(self) -> tuple[str, ...]:
        """Names of the tables whose gradients are sparse."""
        return tuple(name for table in self._tables for name in table.names)

    @property
    def uses_random_numbers(self) -> bool:
        """Whether training needs random numbers."""
        return max(self.dropout, self.input_dropout, self.output_dropout, self.sampling_share) > 0

    @property
    def n_parameters(self) -> int:
        return self.parameters.size

    def _form(self) -> dict[str, Any]:
        """The arguments that this network was made with."""
        names = (
            "cell", "source", "source_size", "target", "target_size", "decoder_inputs", "quantile_levels",
            "encoder_sizes", "decoder_sizes", "bidirectional", "attention", "n_heads", "attention_size",
            "source_embedding", "target_embedding", "readout_size", "input_feeding", "tied_embeddings", "dropout",
            "input_dropout", "output_dropout", "label_smoothing",
        )  # fmt: skip
        form = {name: getattr(self, name) for name in names}
        return form | {"loss": self.loss_name, "dtype": self.dtype.name, "workers": self.workers}

    def __getstate__(self) -> tuple[dict[str, Any], NDArray]:
        return self._form(), self.parameters.flat

    def __setstate__(self, state: tuple[dict[str, Any], NDArray]) -> None:
        form, flat = state
        EncoderDecoder.__init__(self, **form)
        self.parameters.flat[:] = flat

    def with_dtype(self, dtype: DTypeLike) -> EncoderDecoder:
        """A network of the same form and parameter values in another floating-point type."""
        other = EncoderDecoder(**{**self._form(), "dtype": dtype})
        other.parameters.flat[:] = self.parameters.flat
        return other

    def initialize(self, rng: np.random.RandomState) -> None:
        """Write initial parameters, each part its own: see `Trunk`, `Decoder` and `Head`.

        Vectors of target ids that are weights of the output, too, are Glorot-uniform.
        """
        if self.encoder is not None:
            self.encoder.initialize(self.parameters, rng)
        if self._embedding is not None:
            self._embedding.initialize(self.parameters, rng)
        self.decoder.initialize(self.parameters, rng)
        if self.tied_embeddings:
            table = self.parameters[_TARGET_TABLE]
            bound = np.sqrt(6.0 / sum(table.shape))
            table[...] = rng.uniform(-bound, bound, table.shape)
            self.parameters["bias_out"][...] = 0
        else:
            self.head.initialize(self.parameters, rng)

    def _head_view(self, values: Parameters) -> dict[str, NDArray]:
        """The parameters of the head, or their gradients."""
        return {
            "weight_out": values[_TARGET_TABLE if self.tied_embeddings else "weight_out"],
            "bias_out": values["bias_out"],
        }

    # ------------------------------------------------------------------------------------------------------- passes
    def expected(self, targets: Sequences) -> NDArray:
        """What the decoder should put out, sequence after sequence.

        Returns
        -------
        ndarray
            int64 (n_tokens + n_sequences,): the ids of each target, and the end; or the rows of the targets.
        """
        if self.decoder_inputs is not None:
            raise ValueError("what a network with decoder_inputs should put out is not in its targets")
        rows = targets.rows()
        if not self.takes_ids:
            return np.ascontiguousarray(targets.values[rows])
        expected = np.full(len(rows) + len(targets), self.end_id, dtype=np.int64)
        expected[np.arange(len(rows)) + np.repeat(np.arange(len(targets)), targets.lengths)] = targets.values[rows, 0]
        return expected

    def _inputs(self, targets: Sequences) -> Sequences:
        """What the decoder reads: the targets, one step later, or what is given in their place; an array of its own."""
        if self.decoder_inputs is not None:
            starts = np.cumsum(targets.lengths) - targets.lengths
            return Sequences(targets.values[targets.rows()], starts, targets.lengths)
        if self.takes_ids:
            lengths = targets.lengths + 1
            starts = np.cumsum(lengths) - lengths
            shifted = np.empty((int(lengths.sum()), 1), dtype=self.dtype)
            shifted[1:, 0] = self.expected(targets)[:-1]
            shifted[starts] = self.end_id
            return Sequences(shifted, starts, lengths)
        lengths = targets.lengths
        starts = np.cumsum(lengths) - lengths
        values = self.expected(targets)
        shifted = np.zeros((len(values), self.target_size), dtype=self.dtype)
        shifted[1:] = values[:-1]
        shifted[starts[lengths > 0]] = 0
        return Sequences(shifted, starts, lengths)

    def _read(self, sources: Sequences, *, training: bool, seed: int) -> tuple[Source, TrunkPass | None]:
        """Run the encoder."""
        n = len(sources)
        if self.encoder is None:
            nothing = np.zeros(n, dtype=np.int64)
            return Source(np.ascontiguousarray(sources.values[sources.rows()]), None, nothing, nothing), None
        run = self.encoder.forward(self.parameters, sources, training=training, dropout_seed=seed)
        directions = run.state[-self.encoder.stack.n_directions :]
        summary = np.concatenate([state[0] for state in directions], axis=1)
        starts = np.cumsum(sources.lengths) - sources.lengths
        return Source(summary, run.output, starts, sources.lengths), run

    def _forward(self, batch: PairBatch, *, training: bool, seed: int, keep: bool) -> _Pass:
        """Both sides, with given inputs of the decoder."""
        source, encoded = self._read(batch.sources, training=keep, seed=seed)
        inputs = self._inputs(batch.targets)
        if training and self.sampling_share > 0:
            inputs = self._sampled_inputs(batch, inputs, seed)
        embedded: StagePass | None = None
        values = inputs.values
        if self._embedding is not None:
            embedded = self._embedding.forward(self.parameters, inputs, training=training)
            values = embedded.sequences.values
        if training:
            drop(values, self.input_dropout, seed, INPUT_STREAM)
        decoded = self.decoder.forward(
            self.parameters, source, values, inputs.lengths, training=training, dropout_seed=seed
        )
        return _Pass(encoded, embedded, decoded, seed)

    def _sampled_inputs(self, batch: PairBatch, inputs: Sequences, seed: int) -> Sequences:
        """Inputs some of which are what the decoder predicts after those before it, without dropout."""
        rng = np.random.RandomState(seed)
        lengths, starts, values = inputs.lengths, inputs.starts, inputs.values.copy()
        own = rng.random_sample(len(values)) < self.sampling_share
        # The first input is not a prediction. Input i + 1 is the output of step i.
        own[starts[lengths > 0]] = False
        if not self.takes_ids:
            marks = np.ones(len(values), dtype=np.uint8)
            marks[:-1] = ~own[1:]
            following = np.zeros_like(values)
            following[:-1] = values[1:]
            found, _ = unroll(self, batch.sources, lengths, with_attention=False, given=following, takes_given=marks)
            values[1:][own[1:]] = found[:-1][own[1:]]
            return Sequences(values, starts, lengths)
        most = lengths - 1
        columns = np.arange(int(most.max(initial=0)))
        inside = columns < most[:, np.newaxis]
        rows = (starts + 1)[:, np.newaxis] + columns
        given = np.full(inside.shape, -1, dtype=np.int64)
        given[inside] = np.where(own[rows[inside]], -1, values[rows[inside], 0])
        found_ids = draw(
            self, batch.sources, most, np.zeros(given.shape), temperature=0.0, top_k=self.n_outputs, top_p=1.0,
            forbidden=(), with_attention=False, given=given,
        )  # fmt: skip
        values[rows[inside], 0] = found_ids.tokens[:, 0][inside]
        return Sequences(values, starts, lengths)

    # ----------------------------------------------------------------------------------------------------- training
    def loss(self, batch: PairBatch, expected: NDArray, weights: NDArray | None = None) -> float:
        """Weighted mean loss of the rows of `expected`, without dropout.

        Parameters
        ----------
        batch : PairBatch
        expected : ndarray
            As the method `expected` makes it of the targets; with `decoder_inputs` the targets of all steps, sequence
            after sequence, in the columns that the loss takes, NaN where one is missing.
        weights : ndarray of float64, shape (n_rows,), or None
        """
        expected, weights = self._check(batch, expected, weights)
        total = 0.0
        for _, own, run in self._passes(batch):
            rows = self._rows(run)
            total += self._head_loss(run, expected[own][rows], weights[own][rows])[0]
        total_weight = float(weights.sum())
        return total / total_weight if total_weight else 0.0

    @staticmethod
    def _rows(run: _Pass) -> NDArray[np.int64]:
        """Where each packed row of the decoder stands, sequence after sequence."""
        return run.decoded.inputs.table

    def _head_loss(
        self, run: _Pass, expected: NDArray, weights: NDArray, scale: float = 0.0, gradient: Any = None
    ) -> tuple[float, NDArray | None]:
        lengths = np.zeros(0, dtype=np.int64)
        return self.head.loss(
            self._head_view(self.parameters), run.decoded.features, lengths, expected, weights, scale, gradient
        )

    def loss_and_gradient(
        self,
        batch: PairBatch,
        expected: NDArray,
        weights: NDArray | None = None,
        *,
        alpha: float = 0.0,
        bptt_steps: int | None = None,
        dropout_seed: int = 0,
        state: None = None,
    ) -> float:
        """Loss of a batch in training; its gradient is written to `gradient`.

        Parameters
        ----------
        batch, expected, weights
            As for `loss`.
        alpha : float, default=0.0
            Strength of the L2 penalty, as of `Network.loss_and_gradient`.
        bptt_steps, state : None
            Time is not cut into windows here.
        dropout_seed : int, default=0
            Chooses what dropout removes, and which inputs are sampled.

        Returns
        -------
        float
            The weighted mean loss plus the penalty.
        """
        if bptt_steps is not None or state is not None:
            raise ValueError(
                "an encoder and a decoder are trained on whole sequences: bptt_steps and state must be None"
            )
        expected, weights = self._check(batch, expected, weights)
        total_weight = float(weights.sum())
        scale = 1.0 / total_weight if total_weight else 0.0
        self._clear_gradient()
        total, first = 0.0, 0
        for number, chunk in enumerate(self._chunks(batch.sources.lengths, batch.targets.lengths, _TRAINING_BYTES)):
            part = _part(batch, chunk)
            rows = slice(first, first + self._n_expected(part.targets))
            first = rows.stop
            seed = (dropout_seed + 7919 * number) % 2**31
            total += self._accumulate(part, expected[rows], weights[rows], scale, seed)
        loss = total * scale
        if alpha and total_weight:
            loss += weight_penalty(self.parameters.flat, self.gradient.flat, *self.weight_spans, alpha * scale)
        return loss

    def _n_expected(self, targets: Sequences) -> int:
        """Rows of what `expected` makes of these targets."""
        return targets.n_steps + (len(targets) if self.takes_ids else 0)

    def _chunks(self, sources: NDArray, targets: NDArray, memory: int) -> Iterator[slice]:
        """Consecutive pairs of these lengths that together fit into the memory; at least one."""
        encoder = (
            8 * sum(self.encoder_sizes) * (1 + self.bidirectional) + 3 * self._state_size + 4 * self.attention_size
        )
        decoder = 8 * sum(self.decoder_sizes) + 6 * max(self._state_size, self.attention_size) + 4 * self.readout_size
        # The weights of the attention are as long as the longest source.
        longest = self.n_heads * int(sources.max(initial=0)) if self.attention is not None else 0
        costs = self.dtype.itemsize * (sources * encoder + (targets + 1) * (decoder + longest))
        ends = np.cumsum(costs)
        begin = 0
        while begin < len(costs):
            done = ends[begin - 1] if begin else 0
            end = max(int(np.searchsorted(ends, done + memory, side="right")), begin + 1)
            yield slice(begin, end)
            begin = end

    def _accumulate(self, batch: PairBatch, expected: NDArray, weights: NDArray, scale: float, seed: int) -> float:
        """Sum of the losses of a part of a batch; its gradient, times `scale`, is added."""
        parameters, gradient = self.parameters, self.gradient
        run = self._forward(batch, training=True, seed=seed, keep=True)
        rows = self._rows(run)
        total, d_features = self._head_loss(run, expected[rows], weights[rows], scale, self._head_view(gradient))
        assert d_features is not None
        d_inputs, d_summary, d_states = self.decoder.backward(run.decoded, parameters, d_features, gradient)
        if self._embedding is not None:
            assert run.embedded is not None
            drop(d_inputs, self.input_dropout, run.seed, INPUT_STREAM)
            self._embedding.backward(run.embedded, parameters, d_inputs, gradient, need_input=False)
        if self.encoder is not None:
            assert run.encoded is not None
            self._encoder_backward(run.encoded, d_summary, d_states)
        return total

    def _encoder_backward(self, run: TrunkPass, d_summary: NDArray, d_states: NDArray | None) -> None:
        assert self.encoder is not None
        d_final = [np.zeros_like(state) for state in run.state]
        size = self.encoder_sizes[-1]
        n_directions = self.encoder.stack.n_directions
        for number, d_state in enumerate(d_final[-n_directions:]):
            d_state[0] = d_summary[:, number * size : (number + 1) * size]
        if d_states is None:
            d_states = np.zeros_like(run.output)
        self.encoder.backward(run, self.parameters, d_states, self.gradient, d_state=d_final)

    def _clear_gradient(self) -> None:
        """Zero what the last call has written, and not the rows of tables that it has not."""
        for table in self._tables:
            table.forget(self.gradient)
        if self._embedding is not None and self.tied_embeddings:
            self._embedding.forget(self.gradient)
        self.gradient.flat[self._dense :] = 0.0

    def reach(self, batch: PairBatch | None = None) -> Reach:
        """The parts of `gradient` that the last call of `loss_and_gradient` can have made other than zero.

        With a batch, those that a call with it would. As its own predictions are inputs of the decoder, too, scheduled
        sampling reaches every vector of the targets.
        """
        if not self._tables:
            return Reach.all_of(self.parameters.size)
        found = []
        for table in self._tables:
            if batch is None:
                found += table.reached
            elif table is self._source_table:
                found += table.rows_of(batch.sources)
            elif self.sampling_share > 0:
                found.append(np.arange(self.n_outputs))
            else:
                found += table.rows_of(self._inputs(batch.targets))
        return self._reach_of_rows(found)

    def whole_reach(self) -> Reach:
        """All parts of `gradient`: every row of every table."""
        if not self._tables:
            return Reach.all_of(self.parameters.size)
        return self._reach_of_rows([np.arange(table.tables[0][1]) for table in self._tables])

    def _reach_of_rows(self, rows_of_tables: list[NDArray[np.int64]]) -> Reach:
        begins, ends, rows = [np.array([self._dense])], [np.array([self.parameters.size])], []
        n_rows = 0
        for table, reached in zip(self._tables, rows_of_tables, strict=True):
            _, n_entries, dimension = table.tables[0]
            begins.append(self.parameters.span(table.names[0]).start + reached * dimension)
            ends.append(begins[-1] + dimension)
            rows.append(n_rows + reached)
            n_rows += n_entries
        return Reach(
            np.concatenate(begins, dtype=np.int64), np.concatenate(ends, dtype=np.int64), np.concatenate(rows), n_rows
        )

    # ----------------------------------------------------------------------------------------------------- decoding
    def greedy(
        self,
        sources: Sequences,
        max_lengths: NDArray[np.int64],
        *,
        forbidden: Iterable[int] = (),
        return_attention: bool = False,
    ) -> Hypotheses:
        """The most probable token after those before it, again and again: `beam` of width 1, ranked by nothing."""
        return self.beam(
            sources,
            max_lengths,
            width=1,
            length_normalization=0.0,
            forbidden=forbidden,
            return_attention=return_attention,
        )

    def beam(
        self,
        sources: Sequences,
        max_lengths: NDArray[np.int64],
        *,
        width: int = 5,
        n_best: int = 1,
        length_normalization: float = 1.0,
        coverage_penalty: float = 0.0,
        forbidden: Iterable[int] = (),
        return_attention: bool = False,
    ) -> Hypotheses:
        """Beam search: of all continuations the `width` most probable ones are kept at every step.

        The search in a source ends when `width` hypotheses have ended, or when no other one can get among the best.

        Parameters
        ----------
        sources : Sequences
        max_lengths : ndarray of int64, shape (n_sources,)
            Tokens at most, the end not counted, which is forced then.
        width, n_best : int, default=5, 1
        length_normalization : float, default=1.0
            The score is the log-likelihood divided by (tokens + 1) to this power.
        coverage_penalty : float, default=0.0
            Factor of ``-sum_j log(min(1, a_j))``, which is subtracted from the score; a_j is the attention that row j
            of the source got in all steps together (Wu et al., 2016, arXiv:1609.08144).
        forbidden : iterable of int, default=()
            Ids that are not written.
        return_attention : bool, default=False

        Returns
        -------
        Hypotheses
        """
        most = self._check_decoding(sources, max_lengths, "ids")
        if width < 1 or n_best < 1 or n_best > width:
            raise ValueError(f"width must be at least 1, and n_best from 1 to width, got {width} and {n_best}")
        if length_normalization < 0 or coverage_penalty < 0:
            raise ValueError(
                "length_normalization and coverage_penalty must not be negative, got "
                f"{length_normalization} and {coverage_penalty}"
            )
        return beam(
            self, sources, most, width=width, n_best=n_best, exponent=length_normalization, coverage=coverage_penalty,
            forbidden=tuple(forbidden), with_attention=return_attention,
        )  # fmt: skip

    def sample(
        self,
        sources: Sequences,
        max_lengths: NDArray[np.int64],
        uniforms: NDArray[np.float64],
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        forbidden: Iterable[int] = (),
        return_attention: bool = False,
    ) -> Hypotheses:
        """Draw one target for every source, token by token.

        Parameters
        ----------
        sources, max_lengths, forbidden, return_attention
            As for `beam`.
        uniforms : ndarray of float64, shape (n_sources, at least the largest of max_lengths)
            From 0 to 1, one for every token.
        temperature, top_k, top_p : float, int or None, float
            See `choose`.

        Returns
        -------
        Hypotheses
            With one hypothesis for every source, whose score is its log-likelihood at temperature 1.
        """
        most = self._check_decoding(sources, max_lengths, "ids")
        if uniforms.ndim != 2 or len(uniforms) != len(sources) or uniforms.shape[1] < most.max(initial=0):
            raise ValueError(
                f"expected uniforms of shape ({len(sources)}, at least {most.max(initial=0)}), got {uniforms.shape}"
            )
        if temperature < 0 or (top_k is not None and top_k < 1) or not 0 < top_p <= 1:
            raise ValueError(
                "temperature must not be negative, top_k at least 1 and top_p above 0 and at most 1, got "
                f"{temperature}, {top_k} and {top_p}"
            )
        return draw(
            self, sources, most, np.asarray(uniforms, dtype=np.float64), temperature=temperature,
            top_k=self.n_outputs if top_k is None else top_k, top_p=top_p, forbidden=tuple(forbidden),
            with_attention=return_attention,
        )  # fmt: skip

    def predict_values(
        self, sources: Sequences, lengths: NDArray[np.int64], *, return_attention: bool = False
    ) -> tuple[NDArray, list[NDArray] | None]:
        """Targets that are numbers: every output is the next input.

        Parameters
        ----------
        sources : Sequences
        lengths : ndarray of int64, shape (n_sources,)
            Time steps of every target.
        return_attention : bool, default=False

        Returns
        -------
        values : ndarray of shape (n_steps, target_size)
            Target after target.
        attention : list of ndarray of shape (length, length of the source), or None
        """
        steps = self._check_decoding(sources, lengths, "values")
        return unroll(self, sources, steps, with_attention=return_attention)

    def _check_decoding(self, sources: Sequences, lengths: NDArray, target: str) -> NDArray[np.int64]:
        self._check_sources(sources)
        if self.target != target:
            raise ValueError(f"this is for targets that are {target}, got a network for {self.target}")
        if self.decoder_inputs is not None:
            raise ValueError("a network with decoder_inputs does not read what it writes: see outputs_of")
        lengths = np.ascontiguousarray(lengths, dtype=np.int64)
        if lengths.shape != (len(sources),) or (lengths < 0).any():
            raise ValueError(f"expected one length, not negative, for each of {len(sources)} sources, got {lengths}")
        return lengths

    # --------------------------------------------------------------------------------------------------- inspection
    def _passes(self, batch: PairBatch) -> Iterator[tuple[PairBatch, slice, _Pass]]:
        """Forward passes of bounded size, and the rows of `expected` that each stands for."""
        first = 0
        for chunk in self._chunks(batch.sources.lengths, batch.targets.lengths, _INFERENCE_BYTES):
            part = _part(batch, chunk)
            run = self._forward(part, training=False, seed=0, keep=False)
            rows = slice(first, first + run.decoded.packing.n_rows)
            first = rows.stop
            yield part, rows, run
            self.decoder.release(run.decoded)

    def log_likelihoods(self, batch: PairBatch) -> NDArray[np.float64]:
        """Logarithm of the probability of every id that is expected, given those before it."""
        if not self.takes_ids:
            raise ValueError("log_likelihoods are for targets that are ids")
        expected = self.expected(batch.targets)
        self._check(batch, expected, None)
        found = np.empty(len(expected), dtype=np.float64)
        for _, rows, run in self._passes(batch):
            table, own = self._rows(run), expected[rows]
            for begin in range(0, len(table), _AT_ONCE):
                chosen = table[begin : begin + _AT_ONCE]
                logits = self.head.outputs(
                    self._head_view(self.parameters), run.decoded.features[begin : begin + _AT_ONCE]
                ).astype(np.float64)
                logits -= logits.max(axis=1, keepdims=True)
                denominators = np.log(np.exp(logits).sum(axis=1))
                found[rows][chosen] = logits[np.arange(len(chosen)), own[chosen]] - denominators
        return found

    def outputs_of(self, batch: PairBatch) -> NDArray:
        """Raw outputs for the rows of `expected`, the decoder reading the targets: (n_rows, n_outputs)."""
        self._check_batch(batch)
        outputs = np.empty((self._n_expected(batch.targets), self.n_outputs), dtype=self.dtype)
        for _, rows, run in self._passes(batch):
            outputs[rows][self._rows(run)] = self.head.outputs(self._head_view(self.parameters), run.decoded.features)
        return outputs

    def attention_weights(self, batch: PairBatch) -> list[NDArray]:
        """What every step looks at when the decoder reads the targets, the mean over heads.

        Returns
        -------
        list of ndarray of shape (steps of the decoder, length of the source)
        """
        if self.attention is None:
            raise ValueError("attention_weights need a network with attention")
        self._check_batch(batch)
        maps: list[NDArray] = []
        for part, _, run in self._passes(batch):
            table, weights = self._rows(run), run.decoded.weights
            in_order = np.empty((len(table), weights.shape[2]))
            in_order[table] = weights.mean(axis=1, dtype=np.float64)
            lengths = part.targets.lengths + int(self.takes_ids)
            ends = np.cumsum(lengths)
            for end, length, size in zip(ends, lengths, part.sources.lengths, strict=True):
                maps.append(in_order[end - length : end, :size].copy())
        return maps

    def encode(self, sources: Sequences) -> tuple[NDArray, NDArray]:
        """What the decoder is given of every source.

        Returns
        -------
        states : ndarray of shape (n_steps, n_units)
            Of the encoder's top layer, sequence after sequence; of both directions.
        summary : ndarray of shape (n_sources, n_units)
            Its last hidden states; without an encoder, the source.
        """
        self._check_sources(sources)
        states = [np.empty((0, self._state_size), dtype=self.dtype)]
        summaries = [np.empty((0, self._state_size or self.source_size), dtype=self.dtype)]
        for chosen in self._chunks(sources.lengths, np.zeros_like(sources.lengths), _INFERENCE_BYTES):
            part = Sequences(sources.values, sources.starts[chosen], sources.lengths[chosen])
            source, _ = self._read(part, training=False, seed=0)
            summaries.append(source.summary)
            if source.states is not None:
                states.append(source.states)
        return np.concatenate(states), np.concatenate(summaries)

    # ------------------------------------------------------------------------------------------------------- checks
    def _check_sources(self, sources: Sequences) -> None:
        columns = 1 if self.source == "ids" else self.source_size
        values = sources.values
        if values.ndim != 2 or values.shape[1] != columns or values.dtype != self.dtype:
            raise ValueError(
                f"expected sources of {columns} columns in {self.dtype}, got an array of shape {values.shape} in "
                f"{values.dtype}"
            )
        if self.encoder is None and not (sources.lengths == 1).all():
            raise ValueError("a source that is one vector must be a sequence of one row")

    def _check_batch(self, batch: PairBatch) -> None:
        self._check_sources(batch.sources)
        values, columns = batch.targets.values, self._target_columns
        if values.ndim != 2 or values.shape[1] != columns or values.dtype != self.dtype:
            raise ValueError(
                f"expected targets of {columns} columns in {self.dtype}, got an array of shape {values.shape} in "
                f"{values.dtype}"
            )
        if len(batch.sources) != len(batch.targets):
            raise ValueError(f"got {len(batch.sources)} sources, but {len(batch.targets)} targets")

    def _check(self, batch: PairBatch, expected: NDArray, weights: NDArray | None) -> tuple[NDArray, NDArray]:
        self._check_batch(batch)
        n_rows = self._n_expected(batch.targets)
        shape = (n_rows,) if self.takes_ids else (n_rows, self.head.n_target_columns)
        dtype = np.dtype(np.int64) if self.takes_ids else self.dtype
        if expected.shape != shape or expected.dtype != dtype:
            raise ValueError(f"expected outputs of shape {shape} in {dtype}, got {expected.shape} in {expected.dtype}")
        if weights is None:
            weights = np.ones(n_rows, dtype=np.float64)
        elif weights.shape != (n_rows,) or weights.dtype != np.float64:
            raise ValueError(
                f"expected {n_rows} weights in float64, got an array of shape {weights.shape} in {weights.dtype}"
            )
        return expected, weights


def _part(batch: PairBatch, chunk: slice) -> PairBatch:
    """Some pairs of a batch; nothing is copied."""
    return PairBatch(*(Sequences(side.values, side.starts[chunk], side.lengths[chunk]) for side in batch))
