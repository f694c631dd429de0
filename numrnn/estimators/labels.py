"""Class labels as numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from numrnn.estimators.targets import Targets
from numrnn.estimators.validation import check_targets
from numrnn.packing import Sequences
from numrnn.reading import check_readable

__all__ = ["encode_labels", "to_labels"]


def to_labels(estimator: Any, y: Any) -> Targets:
    """Sequences of labels as targets, one for each time step.

    Parameters
    ----------
    estimator : RNNTagger
    y : list of sequences of labels
        Arrays or lists of strings, whole numbers or booleans; or an array (n_samples, n_timesteps).

    Raises
    ------
    ValueError
        If y is something else, or the labels are of different kinds.
    """
    check_readable(y, "y", numbers=False)
    if isinstance(y, (str, Mapping)) or not isinstance(y, Collection) or getattr(y, "ndim", 1) == 0:
        raise ValueError(f"y must be a list of sequences of labels, one label for each time step, got {y!r}")
    parts = []
    kind = None
    for number, labels in enumerate(y):
        part = labels if isinstance(labels, np.ndarray) else None
        if part is None:
            if isinstance(labels, (str, Mapping)) or not isinstance(labels, Collection):
                raise ValueError(
                    f"y of sample {number} is {labels!r}, expected a sequence of labels, one for each time step"
                )
            labels = list(labels)
            try:
                part = np.array(labels, dtype=object) if _are_mixed(labels) else np.asarray(labels)
            except ValueError as error:
                raise ValueError(
                    f"y of sample {number} cannot be read as a sequence of labels, one for each time step: {error}"
                ) from error
        if part.ndim != 1:
            raise ValueError(
                f"y of sample {number} has {part.ndim} dimensions, expected a sequence of labels, one for each time "
                "step"
            )
        if part.dtype == object:
            strings = {isinstance(label, str) for label in part}
            if len(strings) > 1:
                raise ValueError(f"y of sample {number} holds strings and other labels")
            part = part.astype(str) if strings == {True} else np.asarray(part.tolist())
        if not len(part):
            part = np.empty(0, dtype="U1" if kind == "U" else np.int64)
        elif kind is None:
            kind = part.dtype.kind
        elif (kind == "U") != (part.dtype.kind == "U"):
            raise ValueError(
                f"y of sample {number} holds labels of type {part.dtype}, but others are "
                f"{'strings' if kind == 'U' else 'numbers'}"
            )
        parts.append(part)
    lengths = np.array([len(part) for part in parts], dtype=np.int64)
    rows = check_targets(estimator, np.concatenate(parts) if parts else np.empty(0), None)
    if len(rows):
        check_classification_targets(rows)
    return Targets(Sequences(rows, np.cumsum(lengths) - lengths, lengths), True)


def _are_mixed(labels: list[Any]) -> bool:
    """Whether NumPy would turn numbers into strings."""
    return len({isinstance(label, str) for label in labels}) > 1


def encode_labels(estimator: Any, targets: Targets, *, reset: bool, classes: Any) -> Targets:
    """Numbers of the labels in `classes_`.

    Parameters
    ----------
    estimator : RNNClassifier or RNNTagger
        Receives `classes_` if `reset` is true.
    targets : Targets
        Labels.
    reset : bool
    classes : array-like or None
        All labels, if the user said so. None: those of the first call.

    Raises
    ------
    ValueError
        If there are fewer than two classes, or labels that are not among them.
    """
    rows = targets.rows()
    given = None if classes is None else np.unique(column_or_1d(check_targets(estimator, classes, None)))
    if reset:
        estimator.classes_ = np.unique(rows) if given is None else given
        if len(estimator.classes_) < 2:
            raise ValueError(
                f"{type(estimator).__name__} needs samples of at least 2 classes, but the data contains only 1 class: "
                f"{estimator.classes_[:1].tolist()[0]!r}"
            )
    elif given is not None and not np.array_equal(given, estimator.classes_):
        raise ValueError(f"`classes={classes!r}` is not the same as in the call before: {estimator.classes_!r}")
    unseen = np.setdiff1d(rows, estimator.classes_)
    if len(unseen):
        raise ValueError(f"y contains labels that are not among the classes {estimator.classes_!r}: {unseen!r}")
    return targets.with_rows(np.searchsorted(estimator.classes_, rows).astype(np.int64, copy=False))
