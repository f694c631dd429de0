"""What an experiment is, and how one is run: fits with several seeds, scores, times, the peer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state

from benchmarks.suite.machine import describe
from numrnn.metrics import token_accuracy_score as token_accuracy
from numrnn.training.schedules import make_schedule
from numrnn.workers import effective_n_jobs

__all__ = ["Experiment", "Split", "every", "run", "standardised", "token_accuracy", "without_test"]

# Samples of each part in a quick run.
_QUICK_SAMPLES = 48
_VALIDATION_SHARE = 0.2


@dataclass(frozen=True)
class Split:
    """Data to learn from and data to be judged by; X and y are arrays or lists.

    An official part for early stopping, if there is one, goes to `fit` as `X_val` and `y_val`.
    """

    X_train: Any
    y_train: Any
    X_test: Any
    y_test: Any
    X_val: Any = None
    y_val: Any = None


@dataclass(frozen=True)
class Experiment:
    """One line of the table.

    Attributes
    ----------
    name : str
        Of the command and of the file with the results.
    task : str
        What is learned from which data, in a few words.
    network : str
        In a few words.
    literature : str
        What others report, with its source, or what is asked for.
    goal : float
        Score that is asked for.
    splits : callable
        ``splits(data_folder, seed)`` -> list of Split. The folder is None for an experiment that needs no data.
    estimator : callable
        Returns a new estimator or a Pipeline that ends in one.
    metric : str, default="accuracy"
    score : callable, default=accuracy_score
        ``score(y_true, y_pred) -> float``.
    lower_is_better : bool, default=False
    needs_data : bool, default=True
    peer_epochs : int or None, default=None
        Epochs of the peer where all of them would take too long: its seconds per epoch are compared then, and its score
        is left out. 0 if PyTorch has no layers for the network.
    judge : callable or None, default=None
        ``judge(model, split) -> float``, for scores that are not those of predictions.
    peer : callable or None, default=None
        ``peer(experiment, splits, models, seed, n_jobs)`` -> row of one seed, in the place of the plain loop that
        serves most networks.
    details : callable or None, default=None
        ``details(model, split)`` -> what else is of interest, such as samples or speeds; measured after the fit.
    """

    name: str
    task: str
    network: str
    literature: str
    goal: float
    splits: Callable[[Any, int], list[Split]]
    estimator: Callable[[], Any]
    metric: str = "accuracy"
    score: Callable[[Any, Any], float] = field(default=accuracy_score)
    lower_is_better: bool = False
    needs_data: bool = True
    peer_epochs: int | None = None
    judge: Callable[[Any, Split], float] | None = None
    peer: Callable[..., dict[str, Any]] | None = None
    details: Callable[[Any, Split], dict[str, Any]] | None = None


def _take(rows: Any, numbers: NDArray) -> Any:
    return rows[numbers] if isinstance(rows, np.ndarray) else [rows[number] for number in numbers]


def every(split: Split, n_samples: int) -> Split:
    """At most so many samples of each part, evenly spaced, so that data sorted by class keeps all of its classes."""

    def few(n_rows: int) -> NDArray:
        return np.unique(np.linspace(0, n_rows - 1, min(n_samples, n_rows)).astype(np.int64))

    train, test = few(len(split.y_train)), few(len(split.y_test))
    parts = [(split.X_train, train), (split.y_train, train), (split.X_test, test), (split.y_test, test)]
    if split.X_val is not None:
        parts += [(part, few(len(part))) for part in (split.X_val, split.y_val)]
    return Split(*(_take(*part) for part in parts))


def without_test(split: Split, seed: int) -> Split:
    """The training data alone, a fifth of it, or its own part for validation, in the place of the test data."""
    if split.X_val is not None:
        return replace(split, X_test=split.X_val, y_test=split.y_val)
    y = split.y_train
    stratify = None
    if isinstance(y, np.ndarray) and y.ndim == 1 and y.dtype.kind in "iuU":
        counts = np.unique(y, return_counts=True)[1]
        stratify = y if _VALIDATION_SHARE * counts.min() >= 1 else None
    train, held_out = train_test_split(
        np.arange(len(y)), test_size=_VALIDATION_SHARE, random_state=seed, stratify=stratify
    )
    X = split.X_train
    return Split(_take(X, train), _take(y, train), _take(X, held_out), _take(y, held_out))


def standardised(split: Split) -> Split:
    """Features of mean 0 and variance 1 over all time steps of the training data."""
    steps = np.concatenate([np.asarray(x, dtype=np.float64) for x in split.X_train])
    mean, scale = steps.mean(axis=0), steps.std(axis=0)
    scale[scale == 0] = 1.0

    def scaled(X: Any) -> Any:
        if isinstance(X, np.ndarray):
            return ((X - mean) / scale).astype(np.float32)
        return [((x - mean) / scale).astype(np.float32) for x in X]

    return Split(scaled(split.X_train), split.y_train, scaled(split.X_test), split.y_test)


def _network_part(model: Any) -> Any:
    """The estimator of ours at the end of a pipeline, or alone."""
    return model[-1] if isinstance(model, Pipeline) else model


def _fit(model: Any, split: Split) -> float:
    """Fit and return the seconds; that the epochs end before the training converges is meant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        begin = perf_counter()
        held_out = {} if split.X_val is None else {"X_val": split.X_val, "y_val": split.y_val}
        model.fit(split.X_train, split.y_train, **held_out)
        return perf_counter() - begin


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _ours(experiment: Experiment, splits: list[Split], make: Callable[[], Any]) -> tuple[dict[str, Any], list[Any]]:
    """Scores and times of one seed, and the fitted estimators."""
    models, scores, seconds = [], [], []
    for split in splits:
        model = make()
        seconds.append(_fit(model, split))
        if experiment.judge is None:
            scores.append(experiment.score(split.y_test, model.predict(split.X_test)))
        else:
            scores.append(experiment.judge(model, split))
        models.append(model)
    final = _network_part(models[0])
    epochs = sum(_network_part(model).n_iter_ for model in models)
    return {
        "score": _mean(scores),
        "fit_seconds": sum(seconds),
        "epochs": epochs,
        "seconds_per_epoch": sum(seconds) / epochs,
        "n_parameters": int(final.n_parameters_),
        **({} if experiment.details is None else {"details": experiment.details(models[0], splits[0])}),
    }, models


def _network_targets(estimator: Any, y: Any) -> NDArray:
    """Targets as the network is trained on them."""
    per_step = estimator._network.pooling is None
    rows = np.concatenate([np.asarray(part) for part in y]) if per_step else np.asarray(y)
    if hasattr(estimator, "classes_"):
        return np.searchsorted(estimator.classes_, rows).astype(np.int64)
    values = (rows.reshape(len(rows), -1) - estimator.target_mean_) / estimator.target_scale_
    return values.astype(estimator._network.dtype)


def _predictions(estimator: Any, outputs: NDArray, lengths: NDArray, y: Any) -> Any:
    """Outputs of the network in the form of y."""
    if hasattr(estimator, "classes_"):
        rows = estimator.classes_[outputs.argmax(axis=1)]
    else:
        rows = outputs * estimator.target_scale_ + estimator.target_mean_
    if estimator._network.pooling is not None:
        return rows.reshape(np.shape(y))
    ends = np.cumsum(lengths)
    return [rows[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def _check_peer_can_follow(estimator: Any) -> None:
    """Raise an error for what the plain loop has not."""
    for name in ("early_stopping", "class_weight", "bptt_steps", "embedding_weights"):
        if getattr(estimator, name, None):
            raise ValueError(f"the loop of the peer has no {name}: leave it out, or set peer_epochs=0")


def _peer(experiment: Experiment, splits: list[Split], models: list[Any], seed: int, n_jobs: int) -> dict[str, Any]:
    """The same networks in PyTorch: scores and times of one seed."""
    from benchmarks.peers.pytorch_training import (
        TorchNetwork,
        TrainingSettings,
        fastest_thread_count,
        outputs_of,
        train,
    )

    scores, seconds, threads = [], [], []
    epochs = 0
    for split, model in zip(splits, models, strict=True):
        estimator = _network_part(model)
        _check_peer_can_follow(estimator)
        transform = model[:-1].transform if isinstance(model, Pipeline) else lambda X: X
        network = estimator._network.with_dtype(estimator._network.dtype)
        rng = check_random_state(seed)
        network.initialize(rng)
        sequences = estimator._for_training(estimator._sequences(transform(split.X_train)))
        targets = _network_targets(estimator, split.y_train)
        batch_size = estimator.batch_size
        if isinstance(batch_size, str):
            from numrnn.estimators.base import automatic_batch_size

            batch_size = automatic_batch_size(len(sequences))
        n_epochs = min(estimator.n_iter_, experiment.peer_epochs or estimator.n_iter_)
        settings = TrainingSettings(
            loss=network.loss_name,
            solver=estimator.solver,
            learning_rate=make_schedule(
                estimator.learning_rate, float(estimator.learning_rate_init), int(estimator.max_iter)
            ),
            batch_size=batch_size,
            n_epochs=n_epochs,
            alpha=float(estimator.alpha),
            max_grad_norm=estimator.max_grad_norm,
            shuffle=estimator.shuffle,
            label_smoothing=network.label_smoothing,
        )
        threads.append(fastest_thread_count(network, sequences, targets, settings, (1, n_jobs)))
        import torch

        torch.manual_seed(seed)
        twin = TorchNetwork(network)
        begin = perf_counter()
        train(twin, sequences, targets, settings, rng)
        seconds.append(perf_counter() - begin)
        epochs += n_epochs
        test = estimator._sequences(transform(split.X_test))
        predictions = _predictions(estimator, outputs_of(twin, test), test.lengths, split.y_test)
        scores.append(experiment.score(split.y_test, predictions))
    complete = epochs == sum(_network_part(model).n_iter_ for model in models)
    return {
        "score": _mean(scores) if complete else None,
        "fit_seconds": sum(seconds),
        "epochs": epochs,
        "seconds_per_epoch": sum(seconds) / epochs,
        "threads": max(threads),
    }


def _joined(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Records of single seeds as one of lists."""
    joined: dict[str, Any] = {key: [row[key] for row in rows] for key in rows[0]}
    scores = [score for score in joined["score"] if score is not None]
    joined["scores"] = joined.pop("score")
    joined["mean_score"] = _mean(scores) if scores else None
    return joined


def run(
    experiment: Experiment,
    data: Path | None,
    *,
    seeds: Sequence[int],
    n_jobs: int | None = None,
    quick: bool = False,
    validation: bool = False,
    settings: dict[str, Any] | None = None,
    peer_seeds: Sequence[int] = (),
    report: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Run an experiment.

    Parameters
    ----------
    experiment : Experiment
    data : Path or None
        Folder of the data sets.
    seeds : sequence of int
        One fit for each (and each split).
    n_jobs : int or None, default=None
        Threads of ours, and the most that the peer gets.
    quick : bool, default=False
        A few samples and one epoch, to see that it works.
    validation : bool, default=False
        Judge by a part of the training data that is held out; the test data is not used.
    settings : dict, default=None
        Parameters of the estimator that replace its own.
    peer_seeds : sequence of int, default=()
        Those of the seeds with which PyTorch trains the network, too.
    report : callable, default: nothing
        Gets a line after every fit.

    Returns
    -------
    dict
        The record, as it is written to the JSON file.
    """
    before = describe()
    chosen = {**(settings or {}), **({"max_iter": 1} if quick else {})}
    ours: list[dict[str, Any]] = []
    peers: list[dict[str, Any]] = []
    sizes: list[tuple[int, int]] = []
    for seed in seeds:
        splits = experiment.splits(data, seed)
        if quick:
            splits = [every(split, _QUICK_SAMPLES) for split in splits[:2]]
        if validation:
            splits = [without_test(split, seed) for split in splits]
        make = partial(_make, experiment, chosen, seed, n_jobs)
        if seed == seeds[0]:
            # Kernels are compiled, or read from the disk, before anything is timed.
            warm = make()
            _network_part(warm).set_params(max_iter=1)
            _fit(warm, every(splits[0], _QUICK_SAMPLES))
            sizes = [(len(split.y_train), len(split.y_test)) for split in splits]
        row, models = _ours(experiment, splits, make)
        ours.append(row)
        report(_line("numrnn", seed, row, experiment))
        if seed in peer_seeds and experiment.peer_epochs != 0:
            peer = (experiment.peer or _peer)(experiment, splits, models, seed, effective_n_jobs(n_jobs))
            peers.append(peer)
            report(_line("PyTorch", seed, peer, experiment))
    return {
        "name": experiment.name,
        "task": experiment.task,
        "network": experiment.network,
        "metric": experiment.metric,
        "goal": experiment.goal,
        "lower_is_better": experiment.lower_is_better,
        "literature": experiment.literature,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": before,
        "threads": effective_n_jobs(n_jobs),
        "n_train": sum(train for train, _ in sizes) / len(sizes),
        "n_test": sum(test for _, test in sizes) / len(sizes),
        "n_splits": len(sizes),
        "seeds": list(seeds),
        "numrnn": _joined(ours),
        "pytorch": {**_joined(peers), "seeds": list(peer_seeds)} if peers else None,
    }


def _make(experiment: Experiment, settings: dict[str, Any], seed: int, n_jobs: int | None) -> Any:
    model = clone(experiment.estimator())
    _network_part(model).set_params(**settings, random_state=seed, n_jobs=n_jobs)
    return model


def _line(who: str, seed: int, row: dict[str, Any], experiment: Experiment) -> str:
    score = "" if row["score"] is None else f"{experiment.metric} {row['score']:.4f}, "
    threads = f", {row['threads']} threads" if "threads" in row else ""
    return (
        f"{experiment.name}, seed {seed}, {who}: {score}{row['epochs']} epochs in {row['fit_seconds']:.1f} s, "
        f"{row['seconds_per_epoch']:.2f} s each{threads}"
    )


def find(names: Sequence[str], scripts: dict[str, tuple[Experiment, ...]]) -> Iterator[Experiment]:
    """Experiments by their own names or by those of their scripts, each once.

    Raises
    ------
    ValueError
        If there is none of a name.
    """
    experiments = {experiment.name: experiment for group in scripts.values() for experiment in group}
    found: dict[str, Experiment] = {}
    for name in names:
        if name not in scripts and name not in experiments:
            raise ValueError(
                f"there is no experiment {name!r}; there are the scripts {', '.join(scripts)} and the experiments "
                f"{', '.join(experiments)}"
            )
        for experiment in scripts.get(name) or (experiments[name],):
            found[experiment.name] = experiment
    yield from found.values()
