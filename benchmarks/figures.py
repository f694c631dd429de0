"""The headline figures as one table: ``python -m benchmarks.figures``.

How long numrnn takes to start, to compile, to answer once, and how it compares with PyTorch in four sizes. A comparison
is a ratio of medians of one run on one machine; PyTorch runs with one thread and with as many as numrnn uses, and the
faster counts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.peers.contests import contests, is_installed, thread_counts
from benchmarks.peers.report import describe_machine
from benchmarks.peers.timing import OURS, compare
from benchmarks.suite.cold_start import PUBLIC_NAMES, first_fit, seconds_of_import
from benchmarks.suite.machine import describe, fma_peak
from benchmarks.suite.prediction import percentile
from benchmarks.suite.workloads import CELLS, HEADLINE, Size, make_input, make_layer

_SIZE_OF_STEP = Size(1, 1, 16, 32)


def _start(repeats: int) -> Iterator[tuple[str, str]]:
    for statement in ("import numrnn", PUBLIC_NAMES):
        seconds_of_import(statement)
        seconds = statistics.median(seconds_of_import(statement) for _ in range(repeats))
        yield f"`{statement}`", f"{seconds:.2f} s"
    with tempfile.TemporaryDirectory() as cache:
        cold = first_fit(cache)["fit"]
        warm = statistics.median(first_fit(cache)["fit"] for _ in range(repeats))
    yield "first `fit`, nothing compiled yet", f"{cold:.1f} s"
    yield "first `fit` of a later process", f"{warm:.2f} s"


def _steps() -> Iterator[tuple[str, str]]:
    for cell in CELLS:
        layer = make_layer(cell, _SIZE_OF_STEP)
        x = make_input(_SIZE_OF_STEP)[:, 0].copy()
        _, state = layer.step(x)
        microseconds = percentile(lambda layer=layer, x=x, state=state: layer.step(x, state), 50)
        yield f"`step` of one sequence, {cell.upper()} 16 to 32, called from Python", f"{microseconds:.1f} µs"


def _ratios(rounds: int, seconds: float) -> Iterator[tuple[str, str]]:
    for contest in contests(("inference", "training"), ("lstm",), sizes=HEADLINE):
        field = [c for c in contest.contestants if c.name == OURS or c.name.startswith("PyTorch")]
        times = compare(field, rounds=rounds, seconds=seconds)
        ours = times.pop(OURS)
        theirs = min(times.values())
        yield f"LSTM {contest.mode}, {contest.size}", f"{ours:.2f} ms, PyTorch {theirs:.2f} ms: {theirs / ours:.2f}"


def _demo() -> Iterator[tuple[str, str]]:
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        root = str(Path(__file__).resolve().parents[1])
        begin = time.perf_counter()
        command = [sys.executable, "-m", "numrnn.cli", "demo", "--output", folder]
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=root, env=environment)
        yield "`numrnn demo`, nothing compiled yet", f"{time.perf_counter() - begin:.0f} s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; see ``--help``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.figures", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="turns of every contestant, default 7")
    parser.add_argument("--seconds", type=float, default=0.2, help="length of a turn, default 0.2")
    parser.add_argument("--repeats", type=int, default=5, help="processes of a measurement of the start, default 5")
    parser.add_argument("--demo", action="store_true", help="time the demonstration, too")
    options = parser.parse_args(arguments)
    peaks = {count: fma_peak(count) for count in thread_counts()}
    print(describe_machine(describe(), peaks, f"Medians of {options.rounds} rounds, {options.seconds:g} s a turn."))
    print("\n| what | measured |\n|---|---|")
    parts = [_start(options.repeats), _steps()]
    if is_installed("torch"):
        parts.append(_ratios(options.rounds, options.seconds))
    if options.demo:
        parts.append(_demo())
    for part in parts:
        for name, value in part:
            print(f"| {name} | {value} |", flush=True)
    if not is_installed("torch"):
        print("\nNOT COMPARED: PyTorch (pip install torch) is not installed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
