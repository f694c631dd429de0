"""What an encoder and a decoder are made of, and the one vector of their parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numrnn.embedding import Embedding
from numrnn.heads import Head
from numrnn.kernels.cpu.likelihoods import LIKELIHOODS
from numrnn.kernels.equations import CELLS
from numrnn.parameters import Parameters
from numrnn.seq2seq.decoder import ATTENTIONS, Decoder
from numrnn.trunk import build_trunk
from numrnn.workers import Workers

__all__ = ["TARGET_TABLE", "Form"]

TARGET_TABLE = "target_embedding_0"
_LOSSES_OF_VALUES = ("squared_error", "absolute_error", "huber", *LIKELIHOODS)


def _is_weight(name: str) -> bool:
    return "weight" in name or name == "attention_vector"


class Form:
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
        Form.__init__(self, **form)
        self.parameters.flat[:] = flat

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
            table = self.parameters[TARGET_TABLE]
            bound = np.sqrt(6.0 / sum(table.shape))
            table[...] = rng.uniform(-bound, bound, table.shape)
            self.parameters["bias_out"][...] = 0
        else:
            self.head.initialize(self.parameters, rng)

    def _head_view(self, values: Parameters) -> dict[str, NDArray]:
        """The parameters of the head, or their gradients."""
        return {
            "weight_out": values[TARGET_TABLE if self.tied_embeddings else "weight_out"],
            "bias_out": values["bias_out"],
        }
