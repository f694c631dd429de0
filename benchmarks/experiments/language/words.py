"""Words of tiny Shakespeare: a word with the blank before it, or a mark, is a symbol.

Words that the training part has once are unknown; the probability of the unknown symbol counts like any other's, so
that bits per character are too few by what it takes to spell them. The share of unknown symbols says how many they are.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.experiments.language.characters import read_text
from benchmarks.experiments.language.report import epoch_row, say
from numrnn import RNNLanguageModel
from numrnn.language.symbols import Splitter

__all__ = ["words"]

_EPOCHS = 12


def words(data: Path, *, epochs: int | None, n_jobs: int | None, quick: bool) -> dict[str, Any]:
    training, held_out = read_text(data, quick)
    split = Splitter("word")
    counts = Counter(split(training))
    seen_twice = sum(count > 1 for count in counts.values())
    symbols = split(held_out)
    planned = epochs or (1 if quick else _EPOCHS)
    model = RNNLanguageModel(
        (256,),
        analyzer="word",
        max_features=seen_twice,
        embedding_dim=128,
        tied_weights=True,
        sampled_softmax=1000,
        input_dropout=0.3,
        output_dropout=0.5,
        recurrent_dropout=0.2,
        batch_size=32,
        bptt_steps=35,
        learning_rate_init=3e-3,
        learning_rate="cosine",
        max_iter=planned,
        random_state=0,
        n_jobs=n_jobs,
    )
    rows = []
    for epoch in range(planned):
        begin = time.perf_counter()
        model.partial_fit(training)
        rate = sum(counts.values()) / (time.perf_counter() - begin)
        rows.append(epoch_row("numrnn", epoch, model.loss_curve_[-1], -model.score(held_out), rate, "words"))
    # What counting alone would know.
    known = {symbol for symbol, count in counts.items() if count > 1}
    unknown = sum(count for symbol, count in counts.items() if symbol not in known)
    total = sum(counts.values())
    unigram = -float(
        np.mean([math.log((counts[symbol] if symbol in known else max(unknown, 1)) / total) for symbol in symbols])
    )
    share = sum(symbol not in known for symbol in symbols) / len(symbols)
    result = {
        "n_symbols": len(model.symbols_),
        "n_parameters": model.n_parameters_,
        "epochs": rows,
        "perplexity": model.perplexity(held_out),
        "perplexity_of_frequencies": math.exp(unigram),
        "unknown_share": share,
        "bits_per_character": model.bits_per_character(held_out),
        "sample": model.generate("KING", 60, temperature=0.8, random_state=0),
    }
    say(
        f"{result['n_symbols']:,} symbols, perplexity {result['perplexity']:.1f} (frequencies alone "
        f"{result['perplexity_of_frequencies']:.1f}), {100 * share:.1f} % unknown"
    )
    return result
