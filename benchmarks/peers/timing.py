"""Medians over rounds in which all contestants take turns, so that a slow moment of the machine meets all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

__all__ = ["OURS", "Contestant", "compare"]

OURS = "numrnn"
_SHORTEST_SAMPLE = 200e-6


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Contestant:
    """One way to do the work.

    Attributes
    ----------
    name : str
    call : callable
        Does the work once.
    prepare : callable
        Called before every turn, not timed: sets the number of threads.
    """

    name: str
    call: Callable[[], Any]
    prepare: Callable[[], Any] = _nothing


def _turn(contestant: Contestant, seconds: float) -> float:
    """Median time of a call, warmed up, in seconds."""
    contestant.prepare()
    # Threads of the one before may still spin in wait of work.
    time.sleep(0.002)
    start = perf_counter()
    contestant.call()
    once = perf_counter() - start
    if once < seconds / 10:
        start = perf_counter()
        contestant.call()
        once = perf_counter() - start
    number = max(1, round(_SHORTEST_SAMPLE / max(once, 1e-9)))
    samples: list[float] = []
    end = perf_counter() + seconds
    while not samples or perf_counter() < end:
        start = perf_counter()
        for _ in range(number):
            contestant.call()
        samples.append((perf_counter() - start) / number)
    return statistics.median(samples)


def compare(contestants: Sequence[Contestant], *, rounds: int, seconds: float) -> dict[str, float]:
    """Time the contestants against each other.

    Parameters
    ----------
    contestants : sequence of Contestant
    rounds : int
        In each of them every contestant has one turn; who begins changes.
    seconds : float
        Length of a turn after its warm-up; at least one call.

    Returns
    -------
    dict of str to float
        Median over the rounds of the median time of a call, in milliseconds.
    """
    turns: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for number in range(rounds):
        first = number % len(contestants)
        for contestant in (*contestants[first:], *contestants[:first]):
            turns[contestant.name].append(_turn(contestant, seconds))
    return {name: 1e3 * statistics.median(times) for name, times in turns.items()}
