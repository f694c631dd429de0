"""Pairs of texts that are generated: digits to reverse, numbers to add, dates to write in the one standard form."""

from __future__ import annotations

import calendar
from collections.abc import Callable
from datetime import date, timedelta

import numpy as np

__all__ = ["DATE_FORMATS", "additions", "dates", "distinct_pairs", "reversals", "write_date"]

Pair = tuple[str, str]

# Two figures of a year stand for one of these hundred years.
_FIRST_YEAR, _LAST_YEAR = 1970, 2069
_ORDINALS = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd", 31: "st"}


def reversals(rng: np.random.Generator) -> Pair:
    """1 to 20 digits, and the same backwards."""
    text = "".join(map(str, rng.integers(10, size=rng.integers(1, 21))))
    return text, text[::-1]


def additions(rng: np.random.Generator) -> Pair:
    """Two numbers of four digits and their sum: "4821+1377", "6198"."""
    one, other = (int(number) for number in rng.integers(1000, 10_000, size=2))
    return f"{one}+{other}", str(one + other)


def _ordinal(day: int) -> str:
    return f"{day}{_ORDINALS.get(day, 'th')}"


def _month(day: date) -> str:
    return calendar.month_name[day.month]


def _short_month(day: date) -> str:
    return calendar.month_abbr[day.month]


def _weekday(day: date) -> str:
    return calendar.day_name[day.weekday()]


def _short_weekday(day: date) -> str:
    return calendar.day_abbr[day.weekday()]


# Day before month with dots and hyphens, month before day with slashes, and the year first in four figures only: what
# is written tells which is which.
DATE_FORMATS: tuple[Callable[[date], str], ...] = (
    lambda d: f"{d.day} {_month(d)} {d.year}",
    lambda d: f"{d.day} {_short_month(d)} {d.year}",
    lambda d: f"{d.day:02} {_short_month(d)} {d.year % 100:02}",
    lambda d: f"{_ordinal(d.day)} {_month(d)} {d.year}",
    lambda d: f"{_ordinal(d.day)} of {_month(d)}, {d.year}",
    lambda d: f"the {_ordinal(d.day)} of {_month(d)} {d.year}",
    lambda d: f"{_month(d)} {d.day}, {d.year}",
    lambda d: f"{_month(d)} {_ordinal(d.day)}, {d.year}",
    lambda d: f"{_short_month(d)} {d.day} {d.year}",
    lambda d: f"{_short_month(d)}. {d.day}, '{d.year % 100:02}",
    lambda d: f"{_weekday(d)}, {_month(d)} {d.day}, {d.year}",
    lambda d: f"{_weekday(d)} {d.day} {_month(d)} {d.year}",
    lambda d: f"{_short_weekday(d)}, {d.day:02} {_short_month(d)} {d.year}",
    lambda d: f"{_short_weekday(d)} {_short_month(d)} {d.day:2} {d.year}",
    lambda d: f"{d.month}/{d.day}/{d.year}",
    lambda d: f"{d.month:02}/{d.day:02}/{d.year % 100:02}",
    lambda d: f"{d.day}.{d.month}.{d.year}",
    lambda d: f"{d.day:02}.{d.month:02}.{d.year % 100:02}",
    lambda d: f"{d.day:02}-{d.month:02}-{d.year}",
    lambda d: f"{d.day}-{_short_month(d)}-{d.year % 100:02}",
    lambda d: f"{d.year}/{d.month:02}/{d.day:02}",
    lambda d: f"{d.year}{d.month:02}{d.day:02}",
    lambda d: f"{d.year} {_month(d)} {d.day}",
)


def write_date(day: date, rng: np.random.Generator) -> str:
    """A date in one of the forms, in capitals, small letters or both."""
    text = DATE_FORMATS[rng.integers(len(DATE_FORMATS))](day)
    return (text, text, text.lower(), text.upper())[rng.integers(4)]


def dates(rng: np.random.Generator) -> Pair:
    """A date in one of many forms, and in that of ISO 8601: "3rd of May, 1979", "1979-05-03"."""
    first = date(_FIRST_YEAR, 1, 1)
    day = first + timedelta(days=int(rng.integers((date(_LAST_YEAR, 12, 31) - first).days + 1)))
    return write_date(day, rng), day.isoformat()


def distinct_pairs(make: Callable[[np.random.Generator], Pair], n_pairs: int, seed: int) -> list[Pair]:
    """So many pairs, no two of the same source."""
    rng, found = np.random.default_rng(seed), dict[str, str]()
    while len(found) < n_pairs:
        source, target = make(rng)
        found[source] = target
    return list(found.items())
