"""One sequence into another: a recurrent encoder, a recurrent decoder, attention between them, and how they write."""

from numrnn.seq2seq.compiled import CompiledTranslator, compile_translator
from numrnn.seq2seq.decoding import Hypotheses
from numrnn.seq2seq.network import EncoderDecoder, PairBatch
from numrnn.seq2seq.pairs import Pairs

__all__ = ["CompiledTranslator", "EncoderDecoder", "Hypotheses", "PairBatch", "Pairs", "compile_translator"]
