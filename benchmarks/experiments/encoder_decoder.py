"""What the experiments with encoders and decoders share: scores, speeds of writing, the peer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.experiments.experiment import Experiment, Split

__all__ = ["BEAM", "bleu", "exact_match", "peer", "speeds_and_samples"]

BEAM = 5
# Sources that are timed, and samples that are written to the record.
_TIMED, _SHOWN = 1000, 8


def exact_match(y_true: Sequence[str], y_pred: Sequence[str]) -> float:
    """The share of texts that are right to the last character."""
    return float(np.mean([true == predicted for true, predicted in zip(y_true, y_pred, strict=True)]))


def bleu(y_true: Sequence[str], y_pred: Sequence[str]) -> float:
    """BLEU of texts that are tokenised already, by sacrebleu.

    Post, M. (2018). A call for clarity in reporting BLEU scores. WMT.
    """
    try:
        import sacrebleu
    except ImportError as error:
        raise ImportError("BLEU needs sacrebleu, which is not installed: pip install sacrebleu") from error
    return float(sacrebleu.corpus_bleu(list(y_pred), [list(y_true)], tokenize="none", force=True).score)


def rate(write: Callable[[Any], Any], X: Sequence[Any]) -> float:
    """Sources that are worked off in a second."""
    begin = perf_counter()
    write(X)
    return len(X) / (perf_counter() - begin)


def speeds_and_samples(model: Any, split: Split) -> dict[str, Any]:
    """Sentences per second of greedy decoding and of a beam, the losses, and what the model writes."""
    X = split.X_test[:_TIMED]
    width = model.beam_width
    per_second = {}
    for name, beam_width in (("greedy", 1), (f"beam {BEAM}", BEAM)):
        model.set_params(beam_width=beam_width)
        model.predict(X[:2])
        per_second[name] = rate(model.predict, X)
    model.set_params(beam_width=width)
    shown = X[:_SHOWN]
    written = model.predict(shown)
    return {
        "sentences_per_second": per_second,
        "loss_curve": [float(loss) for loss in model.loss_curve_],
        "validation_scores": model.validation_scores_,
        "samples": [list(each) for each in zip(shown, written, split.y_test[:_SHOWN], strict=True)],
    }


def peer(experiment: Experiment, splits: list[Split], models: list[Any], seed: int, n_jobs: int) -> dict[str, Any]:
    """The same network from the same first parameters in a plain PyTorch loop: scores and times of one seed."""
    from benchmarks.peers.pytorch_seq2seq import run_peer

    (split,), (model,) = splits, models
    n_epochs = min(model.n_iter_, experiment.peer_epochs or model.n_iter_)
    found = run_peer(model, split.X_train, split.y_train, split.X_test[:_TIMED], n_epochs, seed, n_jobs, BEAM)
    complete = n_epochs == model.n_iter_
    return {
        "score": experiment.score(split.y_test[:_TIMED], found["predictions"]) if complete else None,
        "fit_seconds": found["fit_seconds"],
        "epochs": n_epochs,
        "seconds_per_epoch": found["fit_seconds"] / n_epochs,
        "threads": found["threads"],
        "details": {
            "loss_curve": found["losses"],
            "sentences_per_second": {"greedy": found["greedy"], f"beam {BEAM}": found["beam"]},
        },
    }
