"""A trained encoder and decoder inside other compiled code."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.buffers import laid_out
from numrnn.compiled import compile_network
from numrnn.kernels.cpu.translating import TRANSLATING, TranslatorParameters
from numrnn.kernels.jit import VECTOR_BITS
from numrnn.parameters import Parameters
from numrnn.seq2seq.decoding import readout_of
from numrnn.seq2seq.form import TARGET_TABLE
from numrnn.seq2seq.network import EncoderDecoder

__all__ = ["CompiledTranslator", "compile_translator"]

_OF_A_DIRECTION = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class CompiledTranslator:
    """A trained encoder and decoder for compiled code. Made by `RNNSeq2Seq.compile`.

    The parameters are a named tuple, the function is compiled by Numba: both can be used in your own ``@njit``
    functions. A call does what `RNNSeq2Seq.predict` does for one source, with the beam that the model had when it was
    compiled. It allocates scratch, of which the largest parts are as long as the source and the target; nothing is
    checked: an `out` that is too short is written out of bounds.

    It is a copy: training that goes on does not change it.

    Attributes
    ----------
    parameters : TranslatorParameters
        A named tuple.
    predict : function (parameters, source, out) -> length
        For targets of tokens it writes their ids to `out`, whole numbers (at least max_length,), and returns how many
        there are; the unknown token is id 0 and stays so. For targets of measurements it fills `out` (n_timesteps,
        n_columns), however many time steps it has. The source is an array of ids (n_timesteps,) (of tokens and ids the
        vocabularies tell), of measurements (n_timesteps, n_columns), or a vector (n_features,).
    max_length : int
    n_columns : int or None
        Of targets of measurements.
    dtype : dtype
        Of the weights and of the scratch.

    Examples
    --------
    >>> import numpy as np, numrnn
    >>> from numba import njit
    >>> words = ["one two", "two one", "one one", "two two"] * 5
    >>> model = numrnn.RNNSeq2Seq((8,), analyzer="split", embedding_dim=4, max_iter=40, tol=0.0, random_state=0)
    >>> model = model.set_params(learning_rate_init=0.05)
    >>> compiled = model.fit(words, [text.upper() for text in words]).compile()
    >>> predict, parameters = compiled.predict, compiled.parameters
    >>> @njit
    ... def translate_all(parameters, sources, lengths, out):
    ...     for i in range(len(sources)):
    ...         lengths[i] = predict(parameters, sources[i], out[i])
    >>> sources = np.array([[model.source_vocabulary_[word] for word in ("one", "two")]])
    >>> lengths, out = np.zeros(1, dtype=np.int64), np.zeros((1, compiled.max_length), dtype=np.int64)
    >>> translate_all(parameters, sources, lengths, out)
    >>> tokens = dict(zip(model.target_vocabulary_.values(), model.target_vocabulary_))
    >>> [tokens[i] for i in out[0, : lengths[0]]]
    ['ONE', 'TWO']
    """

    def __init__(
        self, cell: str, parameters: TranslatorParameters, max_length: int, n_columns: int | None, dtype: np.dtype
    ) -> None:
        self.cell = cell
        self.parameters = parameters
        self.predict = getattr(TRANSLATING[cell], "ids" if n_columns is None else "values")
        self.max_length = max_length
        self.n_columns = n_columns
        self.dtype = np.dtype(dtype)

    def __reduce__(self) -> Any:
        return _unpickled, (VECTOR_BITS, self.cell, self.parameters, self.max_length, self.n_columns, self.dtype)

    def __repr__(self) -> str:
        return f"CompiledTranslator(cell={self.cell!r}, max_length={self.max_length}, n_columns={self.n_columns})"


def _unpickled(vector_bits: int, *arguments: Any) -> CompiledTranslator:
    return laid_out(vector_bits, VECTOR_BITS, CompiledTranslator, *arguments)


def compile_translator(
    network: EncoderDecoder,
    *,
    longest: int,
    width: int = 1,
    exponent: float = 0.0,
    coverage: float = 0.0,
    forbidden: tuple[int, ...] = (),
    units: NDArray[np.float64] | None = None,
) -> CompiledTranslator:
    """Lay out a network for `translating`.

    Parameters
    ----------
    network : EncoderDecoder
    longest : int
        Tokens at most.
    width, exponent, coverage, forbidden
        See `EncoderDecoder.beam`: the beam, the length normalisation, the penalty, and ids that are not written.
    units : ndarray of shape (2, n_columns), default=None
        Factor and summand of measurements; None is 1 and 0.

    Raises
    ------
    ValueError
        If the network does not write on its own.
    """
    if network.decoder_inputs is not None:
        raise ValueError("a network with decoder_inputs does not read what it writes and cannot be compiled to write")
    decoder, parameters, dtype = network.decoder, network.parameters, network.dtype
    width = width if network.takes_ids else 1
    layout, ends = decoder.layout(2 * width, width)
    nothing = np.zeros(0, dtype=dtype)
    reads = network.encoder is not None
    one_column = 1 if network.source == "ids" else network.source_size

    def packed(projection: Any) -> tuple[NDArray, NDArray]:
        if projection is None:
            return nothing, nothing
        return projection.pack(parameters), projection.pack_bias(parameters)

    bridges = [packed(bridge) for bridge in decoder.bridges]
    key, value = packed(decoder.key), packed(decoder.value)
    if units is None:
        units = np.stack([np.ones(network.target_size), np.zeros(network.target_size)])
    made = TranslatorParameters(
        directions=_directions(network),
        n_directions=1 + network.bidirectional if reads else 1,
        n_layers=len(network.encoder_sizes),
        state_size=network._state_size,
        source_size=one_column,
        attention=decoder.form(1),
        layout=layout,
        panels=decoder.pack(parameters, layout, ends),
        readout=readout_of(network),
        # A row more of what is saved, as in `Decoder.forward`.
        sizes=np.array([ends[0], ends[1] + max(own.pitch for own in decoder.hidden), max(ends[2], 1)]),
        key=key[0],
        key_bias=key[1],
        value=value[0],
        value_bias=value[1],
        key_pitch=decoder.key.pitch if decoder.key is not None else 0,
        bridge=np.concatenate([panels for panels, _ in bridges]),
        bridge_bias=np.concatenate([bias for _, bias in bridges]),
        table=parameters[TARGET_TABLE].reshape(-1).copy() if network.takes_ids else nothing,
        forbidden=np.unique(np.array(forbidden, dtype=np.int64)),
        end_id=network.end_id,
        width=width,
        longest=longest,
        exponent=float(exponent),
        coverage=float(coverage),
        units=np.array(units, dtype=np.float64),
    )
    return CompiledTranslator(network.cell, made, longest, None if network.takes_ids else network.target_size, dtype)


def _directions(network: EncoderDecoder) -> tuple[Any, ...]:
    """Each direction of each layer of the encoder as a network of its own."""
    if network.encoder is None:
        # Compiled code wants one of the type.
        shapes = {"weight_ih_l0": (4, 1), "weight_hh_l0": (4, 1), "bias_ih_l0": (4,), "bias_hh_l0": (4,)}
        return (compile_network("lstm", 1, (1,), Parameters(shapes, network.dtype)).parameters,)
    made = []
    n_ids = network.source_size
    below = network.source_embedding if network.source == "ids" else network.source_size
    for layer, size in enumerate(network.encoder_sizes):
        for suffix in ("", "_reverse")[: 1 + network.bidirectional]:
            names = {
                f"{name}_l0": f"{name}_l{layer}{suffix}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            }
            looks_up = layer == 0 and network.source == "ids"
            if looks_up:
                names["embedding_0"] = "embedding_0"
            own = Parameters({ours: network.parameters[name].shape for ours, name in names.items()}, network.dtype)
            for ours, name in names.items():
                own[ours][...] = network.parameters[name]
            embeddings = ((0, n_ids, below),) if looks_up else ()
            made.append(compile_network(network.cell, below, (size,), own, embeddings=embeddings).parameters)
        below = size * (1 + network.bidirectional)
    return tuple(made)
