"""What every test shares: a seeded generator, and settings under which compiled code can be tested."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import hypothesis
import numpy as np
import pytest

# The first example of a property pays for compilation, so no example has a deadline. Derandomised, so that a run that
# passes here passes elsewhere.
hypothesis.settings.register_profile("compiled", deadline=None, derandomize=True, max_examples=40, print_blob=True)
# Looks further, other ways every time: `python -m pytest tests/test_hostile_input.py --hypothesis-profile=deep`.
hypothesis.settings.register_profile("deep", deadline=None, max_examples=2000, print_blob=True)
hypothesis.settings.load_profile("compiled")


@pytest.fixture(autouse=True)
def _guarded_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With NUMRNN_GUARDED_MEMORY=after (or before), to reach beside an array of a test is a segmentation fault."""
    side = os.environ.get("NUMRNN_GUARDED_MEMORY")
    if side is None:
        yield
        return
    from guarded import guarded

    from numrnn import buffers

    # No room between an array and the page behind it.
    monkeypatch.setattr(buffers, "_ALIGNMENT", 1 if side == "after" else 64)
    with guarded(side):
        yield


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240229)


@pytest.fixture
def many_threads(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Batches of any size are divided among threads, and `most_tasks` says into how many parts at most.

    `together` says whether threads went through time together, each with some of the units.
    """
    from numrnn import workers

    seen = SimpleNamespace(most_tasks=0, together=False)
    run = workers.Workers.run

    def counting(self: workers.Workers, tasks: list, *, counters: tuple = ()) -> None:
        seen.most_tasks = max(seen.most_tasks, len(tasks))
        seen.together = seen.together or bool(counters)
        run(self, tasks, counters=counters)

    monkeypatch.setattr(workers, "_FLOPS_PER_THREAD", 1)
    monkeypatch.setattr(workers.Workers, "run", counting)
    return seen


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    """PyTorch, if some test imported it, leaves the cores to the code under test."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
