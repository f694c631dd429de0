"""Words in pieces: byte-pair encoding by the sentencepiece library, an extra."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

__all__ = ["SubwordPieces"]


def _library() -> Any:
    try:
        import sentencepiece
    except ImportError as error:
        raise ImportError(
            'analyzer="subword" needs sentencepiece, which is not installed: pip install "numrnn[subword]"'
        ) from error
    return sentencepiece


class SubwordPieces:
    """Splits texts into pieces of words, and puts them together again.

    Sennrich, R., Haddow, B. and Birch, A. (2016). Neural machine translation of rare words with subword units. ACL.
    Kudo, T. and Richardson, J. (2018). SentencePiece: a simple and language independent subword tokenizer. EMNLP.

    Parameters
    ----------
    model : bytes
        A serialized model of sentencepiece. It is data, which is parsed; nothing in it is executed.
    """

    def __init__(self, model: bytes) -> None:
        self.model = model

    @classmethod
    def learn(cls, texts: Iterable[str], n_pieces: int) -> SubwordPieces:
        """Pieces of these texts, at most so many: fewer where the texts have not as many."""
        library, writer = _library(), io.BytesIO()
        library.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=writer,
            model_type="bpe",
            vocab_size=n_pieces,
            hard_vocab_limit=False,
            character_coverage=1.0,
            bos_id=-1,
            eos_id=-1,
            num_threads=1,
            minloglevel=2,
        )
        return cls(writer.getvalue())

    @cached_property
    def _processor(self) -> Any:
        return _library().SentencePieceProcessor(model_proto=self.model)

    def __call__(self, text: str) -> list[str]:
        return self._processor.encode(text, out_type=str)

    def join(self, pieces: Sequence[str]) -> str:
        """The text that the pieces make."""
        return self._processor.decode(list(pieces))

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model}

    def to_text(self) -> str:
        """The model in printable characters, for files."""
        return base64.b64encode(self.model).decode("ascii")

    @classmethod
    def from_text(cls, text: str) -> SubwordPieces:
        """What `to_text` was called for."""
        return cls(base64.b64decode(text.encode("ascii"), validate=True))
