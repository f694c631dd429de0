"""Arrays and containers as wrong as users make them, for the property that nothing but a result or an error comes out.

A `Given` is what a call is given, a clean copy of the same numbers where it has one, and a check that it is unchanged.
"""

from __future__ import annotations

import copy
import math
import mmap
import os
import tempfile
import traceback
import warnings
from collections import UserList
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from hypothesis import strategies as st

import numrnn

__all__ = ["Given", "anything", "arrays", "check", "check_anything", "containers", "flat", "usually"]

# Sizes that fit, and all others in their neighbourhood; an axis too few, or one too many.
sizes = st.sampled_from([0, 1, 2, 3, 4, 5, 10, 17])
NUMBERS = ["<f4", "<f4", "<f4", ">f4", "<f8", ">f8", "<f2", ">f2", "g", "<i8", ">i2", "u1", ">u8", "?"]
OTHERS = ["<c8", ">c16", "O", "<U3", "S3", "M8[s]", "m8[ns]", "<f4,<f4", "V4"]
# True nine times in ten.
usually = st.sampled_from([True] * 9 + [False])
# A value without a clean copy: whoever takes it has read something else than was given.
NOT_NUMBERS = object()


@dataclass
class Given:
    """What a call is given."""

    value: Any
    clean: Any
    untouched: Callable[[], bool]


# ------------------------------------------------------------------------------------------------------------- arrays
@st.composite
def arrays(draw, *fitting, numbers=NUMBERS, low=-3, high=3):
    """An array cut out of a larger one whose other elements are NaN. Most have the fitting shape and good numbers."""
    shape = fitting if draw(usually) else tuple(draw(st.lists(sizes, max_size=5)))
    dtype = np.dtype(draw(st.sampled_from(numbers)) if draw(usually) else draw(st.sampled_from(OTHERS)))
    # Axes in any order of memory, with any step between their elements.
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 1, 1, 2, -1, -3])) for _ in shape]
    if draw(st.booleans()):
        order, steps = list(range(len(shape))), [1] * len(shape)
    sizes_in_memory = [shape[axis] for axis in order]
    room = np.zeros([abs(step) * size + 4 for step, size in zip(steps, sizes_in_memory, strict=True)], dtype)
    cuts = tuple(
        slice(2, 2 + size * step, step) if step > 0 else slice(1 - size * step, 1, step)
        for step, size in zip(steps, sizes_in_memory, strict=True)
    )
    view = np.asarray(room[cuts])
    if dtype.kind in "fiubc" and shape:
        room[...] = np.nan if dtype.kind in "fc" else 1
        least = max(low, 0) if dtype.kind in "ub" else low
        view[...] = np.random.default_rng(draw(st.integers(0, 9))).integers(least, high + 1, view.shape)
        special = None if draw(usually) else draw(st.sampled_from([np.nan, np.inf, -np.inf, 3e38, 1e300, 1e-45]))
        if special is not None and dtype.kind == "f" and view.size:
            with np.errstate(over="ignore"):
                view[(-1,) * view.ndim] = special
    elif shape and dtype.kind in "OUS":
        view[...] = np.random.default_rng(draw(st.integers(0, 9))).integers(max(low, 0), high + 1, view.shape)
    view = view.transpose([order.index(axis) for axis in range(len(shape))])
    assert view.shape == shape
    if not draw(usually) and view.ndim and view.shape[0] > 1:
        view = np.broadcast_to(view[:1], view.shape)
    if draw(st.booleans()):
        view = view.view()
        view.flags.writeable = False
    before = room.tobytes() if dtype.kind != "O" else room.tolist()
    return Given(view, clean_of(view), lambda: (room.tobytes() if dtype.kind != "O" else room.tolist()) == before)


def clean_of(array: np.ndarray, dtype: Any = np.float64) -> Any:
    """A plain copy of the same numbers."""
    if array.dtype.kind in "cmMV":
        return NOT_NUMBERS
    with np.errstate(over="ignore"):
        return np.array(array, dtype=dtype, order="C")


# ---------------------------------------------------------------------------------------------------------- containers
class Subclass(np.ndarray):
    """An array whose slices keep a note, and whose comparisons warn."""

    def __array_finalize__(self, other):
        self.note = getattr(other, "note", None)


class Convertible:
    """What NumPy can make an array of, and nothing else can be done with."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return np.array(self._array, dtype=dtype)


class Broken:
    """What says that it is an array and then fails."""

    shape = (2, 3, 2)
    ndim = 3
    dtype = np.dtype(np.float32)

    def __len__(self):
        return 2

    def __array__(self, dtype=None, copy=None):
        raise ValueError("this array cannot be read")


def _memory_mapped(array):
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(np.ascontiguousarray(array).tobytes())
    mapped = np.memmap(file.name, dtype=array.dtype, mode="r", shape=array.shape) if array.size else array
    os.unlink(file.name)
    return mapped


def _in_anonymous_memory(array):
    room = mmap.mmap(-1, max(array.nbytes, 1))
    made = np.frombuffer(room, dtype=array.dtype, count=array.size).reshape(array.shape)
    made[...] = array
    return made


def _masked(array):
    made = np.ma.masked_array(array, mask=np.zeros(array.shape, dtype=bool))
    if made.size:
        made[(0,) * made.ndim] = np.ma.masked
    return made


def _matrix(array):
    return array.reshape(len(array), math.prod(array.shape[1:])) if array.ndim else array.reshape(1, 1)


def _frame(array, columns=None, dtype=None):
    import pandas as pd

    matrix = _matrix(array)
    columns = range(matrix.shape[1]) if columns is None else columns
    return pd.DataFrame(matrix, columns=list(columns)[: matrix.shape[1]] or None).astype(dtype or matrix.dtype)


def _nullable(array):
    frame = _frame(array, dtype="Float64")
    if frame.size:
        frame.iloc[0, 0] = None
    return frame


def _ragged(array):
    rows = [row for row in array] if array.ndim > 1 else [array]
    return [row[: max(1, len(row) - number % 2)] for number, row in enumerate(rows)]


def _object_array(parts):
    made = np.empty(len(parts), dtype=object)
    for number, part in enumerate(parts):
        made[number] = part
    return made


def _replaced(nested, thing):
    """Nested lists with something else in place of the first number."""
    place = nested
    while isinstance(place, list) and place and isinstance(place[0], list):
        place = place[0]
    if isinstance(place, list) and place:
        place[0] = thing
    return nested


def _rows(array):
    return list(array) if array.ndim else [array]


# What can be done to an array of numbers so that the same numbers are meant.
SAME = {
    "Fortran order": np.asfortranarray,
    "memory-mapped": _memory_mapped,
    "other memory": _in_anonymous_memory,
    "subclass": lambda array: array.view(Subclass),
    "matrix": lambda array: np.matrix(array) if array.ndim == 2 else array,
    "masked nowhere": lambda array: np.ma.masked_array(array),
    "nested lists": lambda array: array.tolist(),
    "nested tuples": lambda array: tuple(map(tuple, array.tolist())) if array.ndim == 2 else array,
    "objects": lambda array: array.astype(object),
    "zero strides": lambda array: np.broadcast_to(array[:1], array.shape) if array.ndim and len(array) else array,
    "list of arrays": _rows,
    "tuple of arrays": lambda array: tuple(_rows(array)),
    "list of arrays of several types": lambda array: [
        row.astype(("<f4", ">f8", "<f2", "g", "O")[number % 5]) for number, row in enumerate(_rows(array))
    ],
    "list of lists and arrays": lambda array: [
        row.tolist() if number % 2 else row for number, row in enumerate(_rows(array))
    ],
    "object array of arrays": lambda array: _object_array(_rows(array)),
    "object array of lists": lambda array: _object_array([row.tolist() for row in _rows(array)]),
    "ragged": _ragged,
    "ragged lists": lambda array: [row.tolist() for row in _ragged(array)],
    "frame": _frame,
    "frame with columns of one name": lambda array: _frame(array, columns=["a"] * 999),
    "frame of objects": lambda array: _frame(array, dtype=object),
    "frame of texts": lambda array: _frame(array, dtype=str),
    "nullable frame": lambda array: _frame(array, dtype="Float64"),
    "list of frames": lambda array: [_frame(row) for row in _rows(array)],
    "series": lambda array: _frame(array).iloc[:, 0] if array.size else array,
    "own list": lambda array: UserList(_rows(array)),
    "convertible": Convertible,
}
# What is taken for texts, symbols or labels, or is none.
TEXTS = {
    "texts": lambda: ["ab ba", "ba", "ab"],
    "text": lambda: "ab ba",
    "empty text": lambda: "",
    "empty texts": lambda: ["", ""],
    "surrogates": lambda: ["a\0b", "\ud800", "\U0001f600" * 3],
    "bytes": lambda: [b"ab", b"b"],
    "tokens": lambda: [["a", "b"], ["b"]],
    "empty sequence": lambda: [[], ["b"]],
    "text and tokens": lambda: ["ab", ["a"]],
    "None among texts": lambda: ["ab", None],
    "NaN among texts": lambda: ["ab", np.nan],
    "number among texts": lambda: ["ab", 1],
    "None among tokens": lambda: [["a", None], ["b"]],
    "number among tokens": lambda: [["a", 1], ["b"]],
    "list among tokens": lambda: [["a", ["b"]], ["b"]],
    "dict among tokens": lambda: [["a", {}], ["b"]],
    "floats": lambda: [[1.5, 2.5], [1.0]],
    "booleans": lambda: [[True, False], [True]],
    "huge ids": lambda: [[10**400, 1], [2]],
    "negative ids": lambda: [[-1, -(10**30)], [1]],
    "unsigned ids": lambda: [np.array([2**64 - 1, 2], "u8")],
    "big-endian ids": lambda: [np.array([1, 2], ">i2"), np.array([2], ">i8")],
    "scalar array": lambda: np.array("ab"),
    "array of texts": lambda: np.array(["ab", "ba"]),
    "array of words": lambda: np.array([["ab", "ba"]]),
    "array of objects": lambda: np.array(["ab", None], object),
    "array of bytes": lambda: np.array([b"ab"]),
    "masked ids": lambda: [np.ma.masked_array([1, 2], [0, 1])],
    "own list of texts": lambda: UserList(["ab", "ba"]),
    "generator of texts": lambda: (text for text in ["ab", "ba"]),
    "list of generators": lambda: [(letter for letter in "ab")],
    "ranges": lambda: [range(3), range(2)],
    "list of an array of dates": lambda: [np.array(["2020-01-01"], "M8[D]")],
    "list of objects": lambda: [[object()]],
    "tags": lambda: [["B-A", "I-A"], ["O"]],
    "wrong tags": lambda: [["X-A"], ["O"]],
    "long text": lambda: ["ab" * 3000],
}
# What no numbers are, or not those that the array had.
OTHER = {
    "masked": _masked,
    "None inside": lambda array: _replaced(array.tolist(), None),
    "text inside": lambda array: _replaced(array.tolist(), "seven"),
    "huge integer inside": lambda array: _replaced(array.tolist(), 10**400),
    "complex inside": lambda array: _replaced(array.tolist(), 1j),
    "list inside": lambda array: _replaced(array.tolist(), [1.0, 2.0]),
    "dict inside": lambda array: _replaced(array.tolist(), {"a": 1}),
    "nullable frame with a missing value": _nullable,
    "sparse": lambda array: scipy.sparse.csr_matrix(_matrix(array)),
    "sparse array": lambda array: scipy.sparse.coo_array(_matrix(array)),
    "list of sparse": lambda array: [scipy.sparse.csr_matrix(_matrix(row)) for row in _rows(array)],
    "None": lambda array: None,
    "number": lambda array: 1.5,
    "text": lambda array: "text",
    "bytes": lambda array: b"bytes",
    "dict": lambda array: {"a": array},
    "set": lambda array: {1.0, 2.0},
    "generator": lambda array: (row for row in _rows(array)),
    "function": lambda array: np.sum,
    "type": lambda array: np.ndarray,
    "broken": lambda array: Broken(),
    "list of broken": lambda array: [Broken(), Broken()],
    "nothing": lambda array: [],
    "list of nothing": lambda array: [[]],
    "list of lists of nothing": lambda array: [[[]]],
    "list of None": lambda array: [None, None],
    "list of dicts": lambda array: [{}, {}],
    "list of texts": lambda array: ["a b", "c"],
    "lists of texts": lambda array: [["a", "b"], ["c"]],
    "list with an empty array": lambda array: [*_rows(array), array[:0] if array.ndim else array],
    "list with a number": lambda array: [*_rows(array), 1.0 if array.ndim > 1 else None],
    "list with a scalar array": lambda array: [*_rows(array), np.array(1.0 if array.ndim > 1 else None)],
    "list with None": lambda array: [*_rows(array), None],
    "list with too many axes": lambda array: [*_rows(array), array[np.newaxis]],
    "list of one array too deep": lambda array: [array[np.newaxis, np.newaxis]],
    "dates": lambda array: np.nan_to_num(array).astype(np.int64).astype("M8[s]"),
    "list of dates": lambda array: [np.nan_to_num(row).astype(np.int64).astype("M8[s]") for row in _rows(array)],
    "list of complex": lambda array: [row.astype(complex) for row in _rows(array)],
    "list of records": lambda array: [np.zeros(2, dtype="<f4,<f4")],
}


def clean_container(value: Any, *, lists: bool = False) -> Any:
    """The clean copy of what an entry of SAME made; if `lists`, that of nested lists is a list of arrays."""
    if hasattr(value, "iloc"):
        value = value.to_numpy(dtype=np.float64)
    if isinstance(value, Convertible):
        value = np.asarray(value)
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "US":
            return value.astype(np.float64)
        if value.dtype == object and value.ndim == 1 and any(np.ndim(part) for part in value):
            return [clean_container(part) for part in value]
        return clean_of(np.ma.getdata(value))
    if isinstance(value, (list, tuple, UserList)):
        if any(getattr(part, "ndim", 0) or (lists and isinstance(part, (list, tuple))) for part in value):
            return [clean_container(part if hasattr(part, "ndim") else np.asarray(part)) for part in value]
        try:
            return np.array(list(value), dtype=np.float64)
        except ValueError:
            return [clean_container(np.asarray(part)) for part in value]
    return np.asarray(value, dtype=np.float64)


def fingerprint(value: Any) -> Any:
    """What is compared to see whether something was changed."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        mask = np.ma.getmaskarray(value).tobytes() if isinstance(value, np.ma.MaskedArray) else b""
        return str(value.dtype), value.shape, value.strides, np.ma.getdata(value).tobytes(), mask
    if hasattr(value, "iloc"):
        return type(value), str(value.dtypes), repr(value.to_numpy(object).tolist()), list(value.index)
    if isinstance(value, np.ndarray):
        return value.shape, [fingerprint(part) for part in value.ravel().tolist()]
    if isinstance(value, (list, tuple, UserList)):
        return type(value), [fingerprint(part) for part in value]
    if isinstance(value, dict):
        return [(key, fingerprint(part)) for key, part in value.items()]
    return type(value), repr(value)


@st.composite
def containers(draw, *fitting, low=-3, high=3, labels=False, lists=False, without=()):
    """Numbers of that shape in any container, right or wrong; or an array of `arrays`.

    Labels may be something else than numbers, too, so that the only wrong ones are those behind a mask.
    Where `lists`, nested lists are lists of arrays. `without` are kinds that mean something else there.
    """
    if draw(st.booleans()):
        made = draw(arrays(*fitting, low=low, high=high))
        return replace(made, clean=made.value) if labels and made.clean is NOT_NUMBERS else made
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    shape = fitting if draw(usually) else tuple(draw(st.lists(sizes, max_size=5)))
    array = rng.integers(low, high + 1, shape).astype(draw(st.sampled_from(["<f4", "<f8", "<i8"])))
    right = draw(usually)
    kind = draw(st.sampled_from(sorted(set(SAME if right else OTHER) - set(without))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = (SAME if right else OTHER)[kind](np.array(array))
        clean = clean_container(value, lists=lists) if right else value if labels and kind != "masked" else NOT_NUMBERS
    before = fingerprint(value)
    return Given(value, clean, lambda: fingerprint(value) == before)


@st.composite
def anything(draw):
    """A text, tokens, or any of the other things that may be passed by mistake."""
    kind = draw(st.sampled_from(sorted({**TEXTS, **SAME, **OTHER})))
    if kind in TEXTS:
        value = TEXTS[kind]()
    else:
        shape, dtype = draw(st.sampled_from([(3, 2), (2,), (2, 2, 2)])), draw(st.sampled_from(["<f8", "<i8"]))
        numbers = np.random.default_rng(draw(st.integers(0, 9))).integers(-1, 4, shape).astype(dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = {**SAME, **OTHER}[kind](numbers)
    before = None if kind.startswith("generator") else fingerprint(value)
    return Given(value, value, lambda: before is None or fingerprint(value) == before)


# -------------------------------------------------------------------------------------------------------------- checks
def flat(results: Any) -> list[np.ndarray]:
    """All arrays of nested results."""
    if isinstance(results, (list, tuple)):
        return [array for part in results for array in flat(part)]
    if isinstance(results, dict):
        return flat(list(results.values()))
    return [np.asarray(results)]


def raised_on_purpose(error: BaseException) -> bool:
    """Whether the error comes from a `raise` of this package, or from scikit-learn's or pandas' checks of its input."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    path = Path(last.filename)
    if path.is_relative_to(Path(numrnn.__file__).parent):
        return (last.line or "").lstrip().startswith("raise")
    # What an object says that was given is as good as any other words.
    return not {"numpy", "numba", "scipy"} & set(path.parts)


def outcome(call: Callable[[], Any]) -> Any:
    """The arrays of a result, or the error; anything but a result or an error that says what is wrong fails."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return flat(call())
        except (ValueError, TypeError) as error:
            if not raised_on_purpose(error):
                raise AssertionError(f"nobody meant to raise {error!r}") from error
            assert len(str(error)) > 15, repr(error)
            return error


def check_anything(call: Callable[[Any], Any], argument: Given) -> None:
    """The call either has a result or says what is wrong, and leaves its argument as it was."""
    outcome(lambda: call(argument.value))
    assert argument.untouched(), "an argument was changed"


def check(call: Callable[..., Any], *given: Given, finite: bool = True, tolerance: float = 0.0) -> None:
    """The call with these arguments, against itself with clean copies of them."""
    mine = outcome(lambda: call(*[argument.value for argument in given]))
    assert all(argument.untouched() for argument in given), "an argument was changed"
    if isinstance(mine, Exception):
        return
    assert not any(argument.clean is NOT_NUMBERS for argument in given), "what is no numbers was taken for numbers"
    expected = outcome(lambda: call(*[copy.deepcopy(argument.clean) for argument in given]))
    assert not isinstance(expected, Exception), f"refused a clean copy: {expected!r}"
    assert len(mine) == len(expected)
    for one, other in zip(mine, expected, strict=True):
        if tolerance:
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
        else:
            np.testing.assert_array_equal(one, other)
        assert not finite or one.dtype.kind != "f" or np.isfinite(one).all()
