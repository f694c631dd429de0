"""Surnames of a language: the decoder starts from a vector that says which. Beside it a model that is told nothing.

Every name of a language is taken once; the score is what the model knows of names that it has not seen, in nats for a
character (the end of a name counts as one).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import train_test_split

from benchmarks.experiments.data import read_surnames
from benchmarks.experiments.experiment import Experiment, Split
from numrnn import RNNSeq2Seq

__all__ = ["EXPERIMENTS"]

_SAMPLES = 5


def _splits(data: Path, seed: int) -> list[Split]:
    """One split, the same for every seed; the vectors have a 1 in the place of the language."""
    pairs = list(dict.fromkeys(zip(*read_surnames(data), strict=True)))
    names = [name for name, _ in pairs]
    languages, codes = np.unique([language for _, language in pairs], return_inverse=True)
    X = np.eye(len(languages))[codes]
    X_train, X_test, y_train, y_test = train_test_split(X, names, test_size=0.1, stratify=codes, random_state=0)
    return [Split(X_train, y_train, X_test, y_test)]


def _nats_per_character(model: Any, split: Split) -> float:
    """What a character of the test names costs, their ends included."""
    nats = -model.log_likelihood(split.X_test, split.y_test).sum()
    return float(nats / sum(len(name) + 1 for name in split.y_test))


def _beside_an_unconditioned_model(model: Any, split: Split) -> dict[str, Any]:
    """The same model that sees the same vector for every name, and samples of some languages."""
    blind = Split(np.ones((len(split.X_train), 1)), split.y_train, np.ones((len(split.X_test), 1)), split.y_test)
    other = clone(model).fit(blind.X_train, blind.y_train)
    languages = np.eye(split.X_train.shape[1])
    return {
        "nats_per_character_unconditioned": _nats_per_character(other, blind),
        "loss_curve": [float(loss) for loss in model.loss_curve_],
        "samples": model.sample(languages, _SAMPLES, temperature=0.7, random_state=0),
        "samples_unconditioned": other.sample(np.ones((1, 1)), _SAMPLES, temperature=0.7, random_state=0),
    }


def _peer(experiment: Experiment, splits: list[Split], models: list[Any], seed: int, n_jobs: int) -> dict[str, Any]:
    """The same network from the same first parameters in a plain PyTorch loop."""
    from benchmarks.peers.pytorch_seq2seq import run_vector_peer

    (split,), (model,) = splits, models
    n_epochs = model.n_iter_
    found = run_vector_peer(model, split.X_train, split.y_train, split.X_test, split.y_test, n_epochs, seed, n_jobs)
    return {
        "score": -found["log_likelihood"] / sum(len(name) + 1 for name in split.y_test),
        "fit_seconds": found["fit_seconds"],
        "epochs": n_epochs,
        "seconds_per_epoch": found["fit_seconds"] / n_epochs,
        "threads": found["threads"],
        "details": {"loss_curve": found["losses"]},
    }


EXPERIMENTS = (
    Experiment(
        name="surname_generation",
        task="surnames of 18 languages, written from a vector that says which language",
        network="embedding of 32, GRU, 128 units, started from the vector",
        literature="below the same network without the vector, 2.08",
        goal=2.08,
        metric="nats a character",
        lower_is_better=True,
        splits=_splits,
        estimator=partial(
            RNNSeq2Seq,
            (128,),
            analyzer="char",
            embedding_dim=32,
            input_dropout=0.1,
            output_dropout=0.3,
            batch_size=64,
            learning_rate_init=3e-3,
            learning_rate="cosine",
            max_iter=12,
            tol=0.0,
            n_iter_no_change=np.inf,
            max_length=40,
        ),
        judge=_nats_per_character,
        peer=_peer,
        details=_beside_an_unconditioned_model,
    ),
)
