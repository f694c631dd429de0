"""One sequence into another: encoder, attention, decoder."""

from numrnn.seq2seq.decoding import Hypotheses
from numrnn.seq2seq.network import EncoderDecoder, PairBatch

__all__ = ["EncoderDecoder", "Hypotheses", "PairBatch"]
