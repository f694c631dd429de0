"""Sequences of several kinds by one model: the kind is the first symbol, so that it writes and judges each kind.

By Bayes' rule the most probable kind of a sequence is the one with which the sequence is most probable. A model that
has learned to write is so a classifier, too, and what it knows can be held against networks that were trained to
classify, and against Markov chains, which count.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold, train_test_split

from benchmarks.experiments.data import read_splice, read_surnames
from benchmarks.experiments.dna import bases_and_places
from benchmarks.experiments.language.report import say
from numrnn import RNNLanguageModel

__all__ = ["MarkovChain", "dna", "surnames"]

_QUICK = 300


class MarkovChain:
    """Probabilities of symbols given their kind and the last few symbols, by counting, for comparison.

    Those of shorter contexts fill in what longer ones have not seen (Witten and Bell 1991).
    """

    def __init__(self, order: int) -> None:
        self._order = order
        self._counts: dict[tuple[str, ...], Counter[str]] = {}
        self._symbols: set[str] = set()

    def fit(self, kinds: Sequence[str], sequences: Sequence[Sequence[str]]) -> MarkovChain:
        for kind, sequence in zip(kinds, sequences, strict=True):
            padded = self._padded(sequence)
            self._symbols.update(padded[self._order :])
            for i in range(self._order, len(padded)):
                for order in range(self._order + 1):
                    self._counts.setdefault((kind, *padded[i - order : i]), Counter())[padded[i]] += 1
        return self

    def _padded(self, sequence: Sequence[str]) -> list[str]:
        return ["<"] * self._order + list(sequence) + [">"]

    def log_likelihood(self, kind: str, sequence: Sequence[str]) -> float:
        padded, total = self._padded(sequence), 0.0
        for i in range(self._order, len(padded)):
            p = 1.0 / (len(self._symbols) + 1)
            for order in range(self._order + 1):
                counts = self._counts.get((kind, *padded[i - order : i]))
                if counts is not None:
                    n = counts.total()
                    p = (counts[padded[i]] + len(counts) * p) / (n + len(counts))
            total += math.log(p)
        return total


def _with_kind(kind: str, sequence: Sequence[str]) -> list[str]:
    return [kind, *sequence]


def _named(kind: str, sequence: Sequence[str]) -> list[str]:
    return [kind, *(kind + symbol for symbol in sequence)]


def _by_bayes(
    model: RNNLanguageModel,
    kinds: list[str],
    sequences: Sequence[Sequence[str]],
    labelled: Callable[[str, Sequence[str]], list[str]] = _with_kind,
) -> NDArray[np.float64]:
    """Log-likelihood of every sequence as one of every kind: (n_sequences, n_kinds)."""
    return np.column_stack([model.log_likelihood([labelled(kind, each) for each in sequences]) for kind in kinds])


def _of_chain(chain: MarkovChain, prior: dict[str, float], kinds: list[str], sequences: Any) -> NDArray[np.float64]:
    return np.array([[prior[kind] + chain.log_likelihood(kind, s) for kind in kinds] for s in sequences])


def _prior(y: NDArray) -> dict[str, float]:
    return {kind: math.log(count / len(y)) for kind, count in zip(*np.unique(y, return_counts=True), strict=True)}


def _judged(
    joint: NDArray, y: NDArray, kinds: list[str], prior: dict[str, float], n_symbols: int
) -> tuple[float, float]:
    """Accuracy by Bayes' rule, and nats per symbol (the end included) of the sequences given their own kind."""
    index = {kind: number for number, kind in enumerate(kinds)}
    own = np.array([index[kind] for kind in y])
    given = joint[np.arange(len(y)), own] - np.array([prior[kind] for kind in y])
    return float((joint.argmax(axis=1) == own).mean()), float(-given.sum() / n_symbols)


def surnames(data: Path, *, epochs: int | None, n_jobs: int | None, quick: bool) -> dict[str, Any]:
    """A generator of the surnames of 18 languages; every name of a language once, a tenth held out."""
    names, languages = read_surnames(data)
    pairs = list(dict.fromkeys(zip(names, languages.tolist(), strict=True)))
    names, y = [name for name, _ in pairs], np.array([language for _, language in pairs])
    X, X_test, y, y_test = train_test_split(names, y, test_size=0.1, stratify=y, random_state=0)
    if quick:
        X, y, X_test, y_test = X[:_QUICK], y[:_QUICK], X_test[:20], y_test[:20]
    kinds = sorted(set(y.tolist()))
    keep = np.isin(y_test, kinds)
    X_test, y_test = [name for name, kept in zip(X_test, keep, strict=True) if kept], y_test[keep]
    planned = epochs or (1 if quick else 15)
    model = RNNLanguageModel(
        (256,),
        embedding_dim=64,
        # Letters that occur in one name only are unknown.
        min_df=2,
        dropout=0.0,
        output_dropout=0.4,
        recurrent_dropout=0.2,
        learning_rate_init=3e-3,
        learning_rate="cosine",
        batch_size=64,
        max_iter=planned,
        tol=0.0,
        random_state=0,
        n_jobs=n_jobs,
    )
    model.fit([[language, *name] for language, name in zip(y.tolist(), X, strict=True)])
    prior, n_letters = _prior(y), sum(len(name) + 1 for name in X_test)
    accuracy, nats = _judged(_by_bayes(model, kinds, X_test), y_test, kinds, prior, n_letters)
    chain = MarkovChain(4).fit(y.tolist(), X)
    of_chain, nats_of_chain = _judged(_of_chain(chain, prior, kinds, X_test), y_test, kinds, prior, n_letters)
    known = set(X)
    written = {}
    n_new = n_written = 0
    rng = np.random.RandomState(0)
    for language in kinds:
        made = [model.generate([language], 30, temperature=0.8, random_state=rng) for _ in range(20)]
        n_written += len(made)
        n_new += sum(name not in known for name in made)
        written[language] = made[:4]
        say(f"{language:12}{', '.join(made[:4])}")
    say(
        f"nats per letter {nats:.4f} (Markov chain of order 4 {nats_of_chain:.4f}), language by Bayes' rule "
        f"{accuracy:.4f} ({of_chain:.4f}), {100 * n_new / n_written:.0f} % of the written names are new"
    )
    return {
        "n_train": len(X),
        "n_test": len(X_test),
        "n_parameters": model.n_parameters_,
        "epochs": planned,
        "nats_per_letter": nats,
        "accuracy": accuracy,
        "markov_chain": {"order": 4, "nats_per_letter": nats_of_chain, "accuracy": of_chain},
        "new_share": n_new / n_written,
        "sample": written,
    }


def dna(data: Path, *, epochs: int | None, n_jobs: int | None, quick: bool) -> dict[str, Any]:
    """Pieces of primate DNA around splice junctions of two kinds, and others: 60 bases each, ten folds.

    A symbol is a base with its place, as in the experiment `dna` (a junction is always in the middle, and networks do
    not count well), and with the kind, which matters at few places and would be forgotten on the way there. What a kind
    never has at a place is an unknown symbol, of which each model knows a little. A few pieces, of whose bases some are
    not known, are left out.
    """
    bases, y = read_splice(data)
    known = np.array([set(piece) <= set("ACGT") for piece in bases])
    pieces, y = [bases_and_places(piece) for piece, kept in zip(bases, known, strict=True) if kept], y[known]
    y = np.array([f"<{kind}>" for kind in y])
    if quick:
        chosen = np.linspace(0, len(y) - 1, _QUICK).astype(np.int64)
        pieces, y = [pieces[i] for i in chosen], y[chosen]
    kinds = sorted(set(y.tolist()))
    planned = epochs or (1 if quick else 12)
    rows: list[tuple[float, ...]] = []
    for train, test in StratifiedKFold(2 if quick else 10, shuffle=True, random_state=0).split(pieces, y):
        X, X_test = [pieces[i] for i in train], [pieces[i] for i in test]
        made = [_named(kind, piece) for kind, piece in zip(y[train].tolist(), X, strict=True)]
        model = RNNLanguageModel(
            (64,),
            cell="gru",
            embedding_dim=16,
            output_dropout=0.3,
            recurrent_dropout=0.2,
            # The rarest symbol is unknown.
            max_features=len({symbol for piece in made for symbol in piece}) - 1,
            learning_rate_init=5e-3,
            learning_rate="cosine",
            batch_size=32,
            max_iter=planned,
            tol=0.0,
            random_state=0,
            n_jobs=n_jobs,
        )
        model.fit(made)
        prior, n_bases = _prior(y[train]), sum(len(piece) + 1 for piece in X_test)
        ours = _judged(_by_bayes(model, kinds, X_test, _named), y[test], kinds, prior, n_bases)
        chain = MarkovChain(1).fit(y[train].tolist(), X)
        rows.append(ours + _judged(_of_chain(chain, prior, kinds, X_test), y[test], kinds, prior, n_bases))
        say(f"fold {len(rows)}: accuracy {rows[-1][0]:.4f}, {rows[-1][1]:.4f} nats a base")
    accuracy, nats, of_chain, nats_of_chain = np.mean(rows, axis=0).tolist()
    say(
        f"kind by Bayes' rule {accuracy:.4f} (Markov chain of order 1 {of_chain:.4f}), nats a base {nats:.4f} "
        f"({nats_of_chain:.4f})"
    )
    return {
        "n_samples": len(y),
        "n_parameters": model.n_parameters_,
        "epochs": planned,
        "accuracy": accuracy,
        "nats_per_base": nats,
        "markov_chain": {"order": 1, "accuracy": of_chain, "nats_per_base": nats_of_chain},
        "sample": {kind: re.sub("<.*?>|[0-9]", "", model.generate([kind], 60, random_state=0)) for kind in kinds},
    }
