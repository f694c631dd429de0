"""Print numrnn's times beside those of its peers: ``python -m benchmarks.peers``."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.peers.contests import MODES, Contest, contests, is_installed, thread_counts
from benchmarks.peers.report import describe_machine, result_of, summary, table
from benchmarks.peers.timing import compare
from benchmarks.suite.machine import describe, fma_peak
from benchmarks.suite.workloads import CELLS

RESULTS = Path(__file__).resolve().parents[1] / "results"


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), help="default: all")
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=["lstm"], help="default: lstm")
    parser.add_argument("--quick", action="store_true", help="few short rounds, up to 256 units: to see that it works")
    parser.add_argument("--rounds", type=int, default=None, help="turns of every contestant; default 7, quick 3")
    parser.add_argument("--seconds", type=float, default=None, help="length of a turn; default 0.1, quick 0.02")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to FILE")
    parser.add_argument("--save", action="store_true", help="write them to benchmarks/results/PROCESSOR-DATE.json")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them (needs Matplotlib)")
    return parser.parse_args(arguments)


def _absent() -> list[str]:
    needed = {
        "PyTorch (pip install torch)": ("torch",),
        "ONNX Runtime (pip install onnxruntime onnx)": ("onnxruntime", "onnx"),
        "skorch (pip install skorch)": ("skorch",),
    }
    return [text for text, packages in needed.items() if not is_installed(*packages)]


def _measure(contest: Contest, rounds: int, seconds: float, peak: float) -> dict[str, Any]:
    turn = seconds if contest.turn_seconds is None else contest.turn_seconds
    times = compare(contest.contestants, rounds=rounds, seconds=turn)
    return result_of(contest, times, peak)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison and print it; see ``--help``."""
    options = _arguments(arguments)
    rounds = options.rounds or (3 if options.quick else 7)
    seconds = options.seconds or (0.02 if options.quick else 0.1)
    settings = f"Medians of {rounds} rounds, {seconds:g} s a turn."
    machine = describe()
    peaks = {count: fma_peak(count) for count in thread_counts()}
    print(describe_machine(machine, peaks, settings))
    for text in _absent():
        print(f"NOT COMPARED: {text} is not installed.")
    rows: list[dict[str, Any]] = []
    part: list[dict[str, Any]] = []

    def finish_part() -> None:
        if part:
            sys.stderr.write("\n")
            print(f"\n### {part[0]['mode']}\n\n{table(part)}\n\n{summary(part)}", flush=True)
            part.clear()

    for contest in contests(tuple(options.modes), tuple(options.cells), quick=options.quick):
        if part and part[0]["mode"] != contest.mode:
            finish_part()
        sys.stderr.write(".")
        sys.stderr.flush()
        row = _measure(contest, rounds, seconds, max(peaks.values()))
        rows.append(row)
        part.append(row)
    finish_part()
    results = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "threads": {"numrnn": "default", "peers": list(thread_counts())},
        "settings": {"rounds": rounds, "seconds": seconds, "quick": options.quick},
        "fma_peak_gflops": {str(count): rate for count, rate in peaks.items()},
        "rows": rows,
    }
    paths = [options.json] if options.json else []
    if options.save:
        name = re.sub(r"[^a-z0-9]+", "-", machine["processor"].lower()).strip("-")
        paths.append(RESULTS / f"{name}-{results['date'][:10]}.json")
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(f"\nWritten: {path}")
    if options.plot:
        from benchmarks.peers.plot import save_plot

        save_plot(results, options.plot)
        print(f"\nDrawn: {options.plot}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
