"""Scores of label sequences: of the entities that IOB tags mark, and of single tokens."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils._param_validation import Options, StrOptions, validate_params

from numrnn.reading import check_readable

__all__ = [
    "Entity",
    "entity_f1_score",
    "entity_precision_score",
    "entity_recall_score",
    "entity_report",
    "iob_entities",
    "token_accuracy_score",
]


class Entity(NamedTuple):
    """A part of a sequence and its type, such as the person in time steps 0 to 2.

    Attributes
    ----------
    type : str
        What follows "B-" or "I-"; empty if the tags are "B" and "I" alone.
    start : int
        Its first time step.
    stop : int
        The time step after its last one.
    """

    type: str
    start: int
    stop: int


def iob_entities(tags: Sequence[str]) -> list[Entity]:
    """The entities that IOB tags mark, read as the scorer of the CoNLL shared tasks reads them.

    "B-TYPE" begins an entity. "I-TYPE" goes on with one of the same type that ends in the time step before, and begins
    one where there is none. "O" is outside of entities. Both ways of writing are so understood: IOB2, in which every
    entity begins with "B-", and IOB1, in which "B-" is written only to part an entity from another of its type just
    before [1]_. A tagger that leaves out a "B-" where nothing is ambiguous is not punished for it.

    Parameters
    ----------
    tags : sequence of str
        "O", "B-TYPE" or "I-TYPE" of each time step; "B" and "I" are of the type "".

    Returns
    -------
    entities : list of Entity
        In the order of the sequence.

    Raises
    ------
    ValueError
        If a tag is something else.

    References
    ----------
    .. [1] Tjong Kim Sang, E. F. and Veenstra, J. (1999). Representing text chunks. EACL.

    Examples
    --------
    >>> from numrnn.metrics import iob_entities
    >>> iob_entities(["B-PER", "I-PER", "O", "B-LOC", "B-LOC"])
    [Entity(type='PER', start=0, stop=2), Entity(type='LOC', start=3, stop=4), Entity(type='LOC', start=4, stop=5)]
    >>> iob_entities(["I-PER", "I-PER", "I-LOC"])
    [Entity(type='PER', start=0, stop=2), Entity(type='LOC', start=2, stop=3)]
    """
    return _entities(tags, "tags")


def _entities(tags: Sequence[Any], name: str) -> list[Entity]:
    if not _is_sequence(tags, name):
        raise ValueError(f"{name} is {tags!r}; expected a sequence of tags, one for each time step")
    found: list[Entity] = []
    start, current = 0, None  # the entity that is open, by its type
    for step, tag in enumerate(tags):
        text = str(tag)
        prefix, _, kind = text.partition("-")
        if not (text == "O" or (prefix in ("B", "I") and (kind or text == prefix))):
            raise ValueError(f"the tag of time step {step} of {name} is {tag!r}; expected 'O', 'B-TYPE' or 'I-TYPE'")
        goes_on = prefix == "I" and kind == current
        if current is not None and not goes_on:
            found.append(Entity(current, start, step))
            current = None
        if prefix != "O" and not goes_on:
            start, current = step, kind
    if current is not None:
        found.append(Entity(current, start, len(tags)))
    return found


class _Counts(NamedTuple):
    """How many entities of each type there are, were predicted, and were predicted rightly."""

    true: Counter[str]
    predicted: Counter[str]
    right: Counter[str]

    @property
    def types(self) -> list[str]:
        return sorted(self.true.keys() | self.predicted.keys())


def _count(y_true: Any, y_pred: Any) -> _Counts:
    counts = _Counts(Counter(), Counter(), Counter())
    for number, (true, predicted) in enumerate(_checked_pairs(y_true, y_pred)):
        of_true = set(_entities(true, f"sequence {number} of y_true"))
        of_predicted = set(_entities(predicted, f"sequence {number} of y_pred"))
        for counter, entities in zip(counts, (of_true, of_predicted, of_true & of_predicted), strict=True):
            counter.update(entity.type for entity in entities)
    return counts


def _checked_pairs(y_true: Any, y_pred: Any) -> list[tuple[Any, Any]]:
    """The label sequences that belong together."""
    for y, name in ((y_true, "y_true"), (y_pred, "y_pred")):
        if not _is_sequence(y, name):
            raise ValueError(f"{name} is {y!r}; expected a list of sequences of labels")
    if len(y_true) != len(y_pred):
        raise ValueError(f"y_true has {len(y_true)} sequences, but y_pred has {len(y_pred)}")
    pairs = list(zip(y_true, y_pred, strict=True))
    for number, pair in enumerate(pairs):
        for labels, name in zip(pair, ("y_true", "y_pred"), strict=True):
            if not _is_sequence(labels, f"sequence {number} of {name}"):
                raise ValueError(f"sequence {number} of {name} is {labels!r}; expected a sequence of labels")
        if len(pair[0]) != len(pair[1]):
            raise ValueError(f"sequence {number} has {len(pair[0])} labels in y_true, but {len(pair[1])} in y_pred")
    return pairs


def _is_sequence(labels: Any, name: str) -> bool:
    """Whether it has one element after the other; an array that is read wrongly is refused."""
    check_readable(labels, name, numbers=False)
    is_table = hasattr(labels, "columns")  # which iterates over the names of its columns
    return (
        isinstance(labels, Collection)
        and not isinstance(labels, str)
        and not is_table
        and getattr(labels, "ndim", 1) != 0
    )


_CONSTRAINTS = {
    "y_true": "no_validation",
    "y_pred": "no_validation",
    "average": [StrOptions({"micro", "macro", "weighted"}), None],
    "zero_division": [Options(float, {0.0, 1.0}), Options(int, {0, 1}), StrOptions({"warn"})],
}


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def entity_f1_score(
    y_true: Any, y_pred: Any, *, average: str | None = "micro", zero_division: str | float = "warn"
) -> float | NDArray[np.float64]:
    """F1 score of the entities that IOB tags mark: the measure of the CoNLL shared tasks [1]_.

    A predicted entity is right if its type and both of its ends are those of a true one; nothing is given for parts.
    F1 is the harmonic mean of precision, the share of the predicted entities that are right, and recall, the share of
    the true ones that were found. How tags are read says `iob_entities`; IOB1 and IOB2 are both understood.

    Parameters
    ----------
    y_true : list of sequences of str
        The true tags of every sequence.
    y_pred : list of sequences of str
        The predicted ones, of the same lengths.
    average : {"micro", "macro", "weighted"} or None, default="micro"
        "micro" counts all entities together, as the shared tasks do; "macro" is the mean over types, "weighted" that by
        the number of true entities; None gives the score of each type, in alphabetical order.
    zero_division : {"warn", 0, 1}, default="warn"
        The score where there are no entities to divide by; "warn" is 0 with a warning.

    Returns
    -------
    score : float, or ndarray of shape (n_types,)

    Raises
    ------
    ValueError
        If the sequences do not fit each other or a tag is not an IOB tag; the message says where.

    See Also
    --------
    entity_report : All of it as a table.

    References
    ----------
    .. [1] Tjong Kim Sang, E. F. and De Meulder, F. (2003). Introduction to the CoNLL-2003 shared task:
       language-independent named entity recognition. CoNLL.

    Examples
    --------
    >>> from numrnn.metrics import entity_f1_score
    >>> y_true = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-LOC"]]
    >>> y_pred = [["B-PER", "O", "O", "B-LOC"], ["O", "B-LOC"]]
    >>> round(entity_f1_score(y_true, y_pred), 3)  # two of three found, two of three right
    0.667
    >>> entity_f1_score(y_true, y_pred, average=None)  # locations, persons
    array([1., 0.])
    """
    return _scores(_count(y_true, y_pred), average, zero_division, ("f1",))[0]


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def entity_precision_score(
    y_true: Any, y_pred: Any, *, average: str | None = "micro", zero_division: str | float = "warn"
) -> float | NDArray[np.float64]:
    """Share of the predicted entities whose type and both ends are those of a true one.

    Parameters
    ----------
    y_true, y_pred : list of sequences of str
        True and predicted IOB tags, as for `entity_f1_score`.
    average : {"micro", "macro", "weighted"} or None, default="micro"
        Over types, as for `entity_f1_score`.
    zero_division : {"warn", 0, 1}, default="warn"
        The score if no entity was predicted; "warn" is 0 with a warning.

    Returns
    -------
    score : float, or ndarray of shape (n_types,)

    Raises
    ------
    ValueError
        As for `entity_f1_score`.

    Examples
    --------
    >>> from numrnn.metrics import entity_precision_score
    >>> entity_precision_score([["B-PER", "O", "B-LOC"]], [["B-PER", "O", "O"]])
    1.0
    """
    return _scores(_count(y_true, y_pred), average, zero_division, ("precision",))[0]


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def entity_recall_score(
    y_true: Any, y_pred: Any, *, average: str | None = "micro", zero_division: str | float = "warn"
) -> float | NDArray[np.float64]:
    """Share of the true entities that were predicted with their type and both ends.

    Parameters
    ----------
    y_true, y_pred : list of sequences of str
        True and predicted IOB tags, as for `entity_f1_score`.
    average : {"micro", "macro", "weighted"} or None, default="micro"
        Over types, as for `entity_f1_score`.
    zero_division : {"warn", 0, 1}, default="warn"
        The score if there is no true entity; "warn" is 0 with a warning.

    Returns
    -------
    score : float, or ndarray of shape (n_types,)

    Raises
    ------
    ValueError
        As for `entity_f1_score`.

    Examples
    --------
    >>> from numrnn.metrics import entity_recall_score
    >>> entity_recall_score([["B-PER", "O", "B-LOC"]], [["B-PER", "O", "O"]])
    0.5
    """
    return _scores(_count(y_true, y_pred), average, zero_division, ("recall",))[0]


def _scores(counts: _Counts, average: str | None, zero_division: str | float, measures: tuple[str, ...]) -> list[Any]:
    """The measures, each a number or, without an average, an array over types."""
    types = counts.types
    if average == "micro":
        true, predicted, right = (np.array([counter.total()]) for counter in counts)
    else:
        true, predicted, right = (np.array([counter[kind] for kind in types], dtype=float) for counter in counts)
    instead = 0.0 if zero_division == "warn" else float(zero_division)
    divisions = {
        "precision": (right, predicted, "no predicted entities"),
        "recall": (right, true, "no true entities"),
        "f1": (2 * right, true + predicted, "neither true nor predicted entities"),
    }
    results: list[Any] = []
    for measure in measures:
        numerator, denominator, lack = divisions[measure]
        undefined = denominator == 0
        if zero_division == "warn" and (undefined.any() or len(undefined) == 0):
            where = "" if average == "micro" or not types else f" of {[types[i] for i in np.flatnonzero(undefined)]}"
            warnings.warn(
                f"{measure} is ill-defined and set to 0.0: there are {lack}{where}. Use the `zero_division` parameter "
                "to control this behavior.",
                UndefinedMetricWarning,
                stacklevel=4,  # the caller of the score, past its validation of parameters
            )
        values = np.where(undefined, instead, numerator / np.where(undefined, 1, denominator))
        if average is None:
            results.append(values)
        elif len(values) == 0:
            results.append(instead)
        elif average == "weighted":
            results.append(float(np.average(values, weights=true)) if true.any() else instead)
        else:
            results.append(float(values.mean()))
    return results


@validate_params(
    {
        "y_true": "no_validation",
        "y_pred": "no_validation",
        "digits": [int],
        "output_dict": ["boolean"],
        "zero_division": _CONSTRAINTS["zero_division"],
    },
    prefer_skip_nested_validation=True,
)
def entity_report(
    y_true: Any, y_pred: Any, *, digits: int = 3, output_dict: bool = False, zero_division: str | float = "warn"
) -> str | dict[str, dict[str, float]]:
    """Precision, recall and F1 score of each type of entity and of all of them.

    Parameters
    ----------
    y_true, y_pred : list of sequences of str
        True and predicted IOB tags, as for `entity_f1_score`.
    digits : int, default=3
        Decimal places.
    output_dict : bool, default=False
        Whether to return the numbers instead of a text.
    zero_division : {"warn", 0, 1}, default="warn"
        What stands for a score without entities to divide by; "warn" is 0 with a warning.

    Returns
    -------
    report : str, or dict of dict of float
        A row for each type, in alphabetical order, and one for each average; "support" is the number of true entities.

    Raises
    ------
    ValueError
        As for `entity_f1_score`.

    Examples
    --------
    >>> from numrnn.metrics import entity_report
    >>> y_true = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-LOC"]]
    >>> y_pred = [["B-PER", "O", "O", "B-LOC"], ["O", "B-LOC"]]
    >>> print(entity_report(y_true, y_pred))
                  precision  recall  f1-score  support
    LOC               1.000   1.000     1.000        2
    PER               0.000   0.000     0.000        1
    <BLANKLINE>
    micro avg         0.667   0.667     0.667        3
    macro avg         0.500   0.500     0.500        3
    weighted avg      0.667   0.667     0.667        3
    """
    counts = _count(y_true, y_pred)
    measures = ("precision", "recall", "f1")
    columns = ("precision", "recall", "f1-score")
    report: dict[str, dict[str, float]] = {}
    of_types = _scores(counts, None, zero_division, measures)
    for number, kind in enumerate(counts.types):
        row = {column: float(values[number]) for column, values in zip(columns, of_types, strict=True)}
        report[kind] = {**row, "support": counts.true[kind]}
    # What was to be warned of has been said of the types.
    quiet = 0.0 if zero_division == "warn" else zero_division
    for average in ("micro", "macro", "weighted"):
        values = _scores(counts, average, quiet, measures)
        report[f"{average} avg"] = {**dict(zip(columns, values, strict=True)), "support": counts.true.total()}
    if output_dict:
        return report
    width = max(len(name) for name in report)
    lines = [" " * width + "  " + "  ".join([*columns, "support"])]
    for name, row in report.items():
        if name == "micro avg" and counts.types:
            lines.append("")
        cells = [f"{row[column]:{len(column)}.{digits}f}" for column in columns]
        lines.append("  ".join([f"{name:<{width}}", *cells, f"{row['support']:7d}"]))
    return "\n".join(lines)


def token_accuracy_score(y_true: Any, y_pred: Any) -> float:
    """Share of the time steps of all sequences whose label is right.

    Parameters
    ----------
    y_true : list of sequences of labels
        The true labels of every sequence, whatever they are.
    y_pred : list of sequences of labels
        The predicted ones, of the same lengths.

    Returns
    -------
    score : float
        From 0 to 1. Every time step counts the same, so long sequences count more.

    Raises
    ------
    ValueError
        If the sequences do not fit each other, or there is no label.

    Examples
    --------
    >>> from numrnn.metrics import token_accuracy_score
    >>> token_accuracy_score([["DET", "NOUN", "VERB"], ["VERB"]], [["DET", "VERB", "VERB"], ["VERB"]])
    0.75
    """
    pairs = _checked_pairs(y_true, y_pred)
    n_tokens = sum(len(true) for true, _ in pairs)
    if n_tokens == 0:
        raise ValueError(f"the {len(pairs)} sequences of y_true have no label: there is nothing to score")
    right = chain.from_iterable((a == b for a, b in zip(true, predicted, strict=True)) for true, predicted in pairs)
    try:
        return sum(map(bool, right)) / n_tokens
    except ValueError as error:
        raise ValueError(f"labels must be single values, such as strings or integers: {error}") from error
