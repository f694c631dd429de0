"""Small encoders and decoders for tests: networks, ragged pairs, and the reference for them."""

from __future__ import annotations

import numpy as np
import oracle.seq2seq
from oracle.seq2seq import Form

from numrnn.packing import Sequences
from numrnn.seq2seq import EncoderDecoder, PairBatch
from numrnn.workers import Workers

FORM = {
    "cell": "gru",
    "source": "ids",
    "source_size": 7,
    "target": "ids",
    "target_size": 5,
    "encoder_sizes": (5,),
    "decoder_sizes": (6,),
    "source_embedding": 3,
    "target_embedding": 4,
    "dtype": "float64",
}


def make_network(n_jobs=1, spread=0.3, **form):
    network = EncoderDecoder(**{**FORM, **form}, workers=Workers(n_jobs))
    network.initialize(np.random.RandomState(0))
    rng = np.random.default_rng(1)
    network.parameters.flat[:] += spread * rng.normal(size=network.parameters.size)
    return network


def make_side(kind, size, lengths, dtype, seed):
    """Sequences that lie apart and out of order."""
    rng = np.random.default_rng(seed)
    lengths = np.array(lengths, dtype=np.int64)
    starts = np.empty(len(lengths), dtype=np.int64)
    order = rng.permutation(len(lengths))
    starts[order] = 1 + np.cumsum(lengths[order] + 1) - (lengths[order] + 1)
    n_rows = int(lengths.sum()) + len(lengths) + 1
    values = rng.integers(0, size, (n_rows, 1)) if kind == "ids" else rng.normal(size=(n_rows, size))
    return Sequences(np.ascontiguousarray(values.astype(dtype)), starts, lengths)


def make_batch(network, source_lengths, target_lengths):
    if network.source == "vector":
        source_lengths = [1] * len(target_lengths)
    return PairBatch(
        make_side(network.source, network.source_size, source_lengths, network.dtype, 2),
        make_side(network.target, network.decoder_inputs or network.target_size, target_lengths, network.dtype, 3),
    )


class Reference:
    """The network's parameters and the oracle."""

    def __init__(self, network):
        self.network = network
        self.form = Form(
            network.cell,
            network.attention,
            network.n_heads if network.attention == "multihead" else 1,
            network.input_feeding,
        )
        self.parameters = {name: np.array(value, dtype=np.float64) for name, value in network.parameters.items()}
        if network.tied_embeddings:
            self.parameters["weight_out"] = self.parameters["target_embedding_0"]
        self.table = self.parameters.get("target_embedding_0")

    def read(self, rows):
        """Summary and states of one source."""
        rows = np.asarray(rows, dtype=np.float64)
        if self.network.source == "vector":
            return rows[0], None
        if self.network.source == "ids":
            rows = self.parameters["embedding_0"][rows[:, 0].astype(int)]
        memory, summary = oracle.seq2seq.encode(self.network.cell, self.parameters, rows)
        return summary, memory

    def follow(self, source, target):
        """Outputs and attention of one pair, the decoder reading the target."""
        target = np.asarray(target, dtype=np.float64)
        if self.network.takes_ids:
            inputs = self.table[[self.network.end_id, *target[:, 0].astype(int)]]
        elif self.network.decoder_inputs is not None:
            inputs = target
        else:
            inputs = np.concatenate([np.zeros((1, target.shape[1])), target[:-1]])[: len(target)]
        return oracle.seq2seq.follow(self.form, self.parameters, *self.read(source), inputs)
