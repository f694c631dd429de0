"""One sequence into another: encoder, attention, decoder."""

from numrnn.seq2seq.network import EncoderDecoder, PairBatch

__all__ = ["EncoderDecoder", "PairBatch"]
