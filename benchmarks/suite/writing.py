"""Models that write: epochs and generation of sequence-to-sequence and language models, on made-up words and text."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np

from numrnn import RNNLanguageModel, RNNSeq2Seq

from .prediction import percentile
from .training import fit as fit_model
from .workloads import CELLS, DEVICES, few, skip_without_engine

_LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))
_N_PAIRS = 2048
_N_CHARACTERS = 100_000
_N_WRITTEN = 200


def reversed_words(n_pairs: int) -> tuple[list[str], list[str]]:
    """Words of 5 to 12 letters, and the same backwards."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(_LETTERS, length)) for length in rng.integers(5, 13, n_pairs)]
    return words, [word[::-1] for word in words]


def made_up_text(n_characters: int) -> str:
    """Text of 500 words, the frequent ones as frequent as words are (Zipf's law)."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(_LETTERS, length)) for length in rng.integers(1, 10, 500)]
    weights = 1 / np.arange(1, 501)
    return " ".join(rng.choice(words, n_characters // 2, p=weights / weights.sum()))[:n_characters]


def _rate(call: Any, amount: int) -> float:
    """How much is done in a second, in the middle of three calls."""
    times = []
    for _ in range(3):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return amount / float(np.median(times))


class Seq2Seq:
    """Both directions of 128 units, additive attention, a decoder of 128 units; its network runs on the CPU alone."""

    params = (few(CELLS), few((1, 4)))
    param_names = ("cell", "beam_width")
    timeout = 300.0

    def setup(self, cell: str, beam_width: int) -> None:
        self.X, self.y = reversed_words(_N_PAIRS)
        self.model = RNNSeq2Seq(
            (128,), cell=cell, analyzer="char", batch_size=64, beam_width=beam_width, max_iter=1, random_state=0
        )
        fit_model(self.model, self.X, self.y)
        self.model.predict(self.X[:64])
        self.model.predict(self.X[:1])

    def track_pairs_per_second_of_fit(self, cell: str, beam_width: int) -> float:
        if beam_width > 1:
            raise NotImplementedError("training does not search")
        return _rate(lambda: fit_model(self.model, self.X, self.y), _N_PAIRS)

    def time_predict_64(self, cell: str, beam_width: int) -> None:
        self.model.predict(self.X[:64])

    def track_median_of_one(self, cell: str, beam_width: int) -> float:
        return percentile(lambda: self.model.predict(self.X[:1]), 50)

    def track_percentile_99_of_one(self, cell: str, beam_width: int) -> float:
        return percentile(lambda: self.model.predict(self.X[:1]), 99)

    track_pairs_per_second_of_fit.unit = "pairs/s"  # type: ignore[attr-defined]
    track_median_of_one.unit = "us"  # type: ignore[attr-defined]
    track_percentile_99_of_one.unit = "us"  # type: ignore[attr-defined]


class LanguageModelEpoch:
    """One epoch over 100,000 characters: 32 streams, windows of 64 steps, 128 units."""

    params = (few(DEVICES), few(CELLS))
    param_names = ("device", "cell")
    timeout = 300.0

    def setup(self, device: str, cell: str) -> None:
        skip_without_engine(device)
        self.text = made_up_text(_N_CHARACTERS)
        self.model = RNNLanguageModel(
            (128,), cell=cell, device=device, batch_size=32, bptt_steps=64, max_iter=1, random_state=0
        )
        fit_model(self.model, self.text, None)

    def track_characters_per_second(self, device: str, cell: str) -> float:
        return _rate(lambda: fit_model(self.model, self.text, None), _N_CHARACTERS)

    track_characters_per_second.unit = "characters/s"  # type: ignore[attr-defined]


class Generation:
    """Writing 200 characters; always on the CPU."""

    params = (few(CELLS), few((128, 512)))
    param_names = ("cell", "n_units")
    timeout = 300.0

    def setup(self, cell: str, n_units: int) -> None:
        self.model = RNNLanguageModel((n_units,), cell=cell, batch_size=32, bptt_steps=64, max_iter=1, random_state=0)
        fit_model(self.model, made_up_text(_N_CHARACTERS // 10), None)
        self._write()

    def _write(self) -> None:
        self.model.generate("a", length=_N_WRITTEN, random_state=0)

    def track_characters_per_second(self, cell: str, n_units: int) -> float:
        return _rate(self._write, _N_WRITTEN)

    track_characters_per_second.unit = "characters/s"  # type: ignore[attr-defined]
