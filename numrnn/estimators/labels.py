"""Class labels as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import column_or_1d

from numrnn.estimators.targets import Targets
from numrnn.estimators.validation import check_targets

__all__ = ["encode_labels"]


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
                f"{estimator.classes_[0]!r}"
            )
    elif given is not None and not np.array_equal(given, estimator.classes_):
        raise ValueError(f"`classes={classes!r}` is not the same as in the call before: {estimator.classes_!r}")
    unseen = np.setdiff1d(rows, estimator.classes_)
    if len(unseen):
        raise ValueError(f"y contains labels that are not among the classes {estimator.classes_!r}: {unseen!r}")
    return targets.with_rows(np.searchsorted(estimator.classes_, rows).astype(np.int64, copy=False))
