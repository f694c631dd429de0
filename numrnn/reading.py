"""What comes from outside, before anything is made of it: NumPy reads almost everything, and some of it wrongly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["as_list", "check_readable", "plain_array"]

# What the elements of long lists are, and nothing to look at.
_HARMLESS = frozenset((str, int, float, bool, list))


def check_readable(data: Any, name: str, *, numbers: bool = True) -> None:
    """Refuse what NumPy would read as something else than was given.

    Parameters
    ----------
    data : object
        An array or a list; of a list, its elements are looked at, too.
    name : str
    numbers : bool, default=True
        Whether numbers are expected; else dates are fine.

    Raises
    ------
    ValueError
        If an array has masked values: NumPy would read what lies under the mask.
    TypeError
        If it is sparse, a class, or of dates or durations, which NumPy would count in some unit.
    """
    _check_one(data, name, numbers)
    if isinstance(data, (list, tuple)) or (isinstance(data, np.ndarray) and data.dtype.kind == "O" and data.ndim == 1):
        for number, element in enumerate(data):
            if type(element) not in _HARMLESS:
                _check_one(element, f"sequence {number} of {name}", numbers)


def _check_one(data: Any, name: str, numbers: bool) -> None:
    if type(data) is np.ndarray and data.dtype.kind in "biufcU":
        return
    if isinstance(data, type):
        raise TypeError(f"{name} is the class {data.__name__}; expected an array or a list")
    if hasattr(data, "tocsr"):
        raise TypeError(
            f"Sparse data was passed as {name}, but dense data is required. Use '.toarray()' to convert to a dense "
            "numpy array."
        )
    if isinstance(data, np.ma.MaskedArray) and np.ma.is_masked(data):
        raise ValueError(f"{name} must not have masked values: fill them, or leave these time steps out")
    if numbers:
        dtypes = np.atleast_1d(data.dtypes) if hasattr(data, "columns") else [getattr(data, "dtype", None)]
        for dtype in dtypes:
            if getattr(dtype, "kind", None) in ("m", "M"):
                raise TypeError(f"{name} must hold real numbers, got {dtype}, dates or durations: make numbers of them")


def as_list(data: Any, name: str, expected: str) -> list[Any]:
    """The elements of whatever can be iterated over.

    Parameters
    ----------
    data : object
    name : str
    expected : str
        What it should be, for the error.

    Raises
    ------
    ValueError, TypeError
        If it has none, or they are not what is meant: a table iterates over the names of its columns.
    """
    check_readable(data, name, numbers=False)
    if hasattr(data, "columns"):
        raise ValueError(
            f"{name} is a table with the shape {data.shape}; expected {expected}, such as one column of it"
        )
    if not isinstance(data, Iterable) or getattr(data, "ndim", 1) == 0:
        raise TypeError(f"{name} is {data!r} ({type(data).__name__}); expected {expected}")
    return list(data)


def plain_array(data: Any, name: str) -> NDArray:
    """NumPy's array of data, which may be of any type.

    Raises
    ------
    ValueError, TypeError
        If there is none, or it would say something else than the data.
    """
    check_readable(data, name, numbers=False)
    try:
        return np.asarray(data)
    except (ValueError, TypeError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} cannot be read as an array: {error}") from error
