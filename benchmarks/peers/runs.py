"""Several runs of the comparison as one table, for the page on benchmarks: ``python -m benchmarks.peers.runs FILES``.

A ratio is that of one run, in which all contestants took turns; of several runs the median counts, and the smallest and
the largest one are given with it.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.pages import with_table
from benchmarks.suite.workloads import CELLS

__all__ = ["main", "tables"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
# What is measured at every size of the grid.
_GRID_MODES = ("inference", "training")
_NARROW_MODES = ("bfloat16 inference", "bfloat16 training")

Runs = dict[tuple[str, str, str], list[dict[str, Any]]]


def _read(paths: Sequence[Path]) -> tuple[Runs, list[dict[str, Any]]]:
    """The rows of all files by mode, cell and size, and what else the files say."""
    rows: Runs = {}
    about = []
    for path in paths:
        results = json.loads(path.read_text(encoding="utf-8"))
        about.append({key: value for key, value in results.items() if key != "rows"})
        for row in results["rows"]:
            if row["ratio"] is not None:
                rows.setdefault((row["mode"], row["cell"], row["size"]), []).append(row)
    return rows, about


def _ratio(rows: list[dict[str, Any]]) -> float:
    return median(row["ratio"] for row in rows)


def _cell(rows: list[dict[str, Any]] | None) -> str:
    """Median, and in brackets the range and the share of the peak where it means something."""
    if not rows:
        return ""
    ratios = [row["ratio"] for row in rows]
    digits = 2 if max(ratios) < 10 else 1
    notes = [f"{min(ratios):.{digits}f}-{max(ratios):.{digits}f}"] if len(rows) > 1 else []
    share = median(row["fraction_of_peak"] or 0.0 for row in rows)
    # One sequence at a time waits for itself.
    if share and not rows[0]["size"].startswith("(1,"):
        notes.append(f"{100 * share:.0f} %")
    return f"**{_ratio(rows):.{digits}f}** ({', '.join(notes)})" if notes else f"**{_ratio(rows):.{digits}f}**"


def _geometric_mean(groups: list[list[dict[str, Any]]]) -> str:
    if not groups:
        return ""
    return f"{math.exp(sum(math.log(_ratio(rows)) for rows in groups) / len(groups)):.2f}"


def _grid(runs: Runs, modes: Sequence[str]) -> list[str]:
    """Sizes as rows; modes and cells as columns."""
    found = {(mode, cell) for mode, cell, _ in runs if mode in modes}
    columns = [(mode, cell) for mode in modes for cell in CELLS if (mode, cell) in found]
    sizes = list(dict.fromkeys(size for mode, _, size in runs if mode in modes))
    if not columns:
        return []
    head = ["N, T, D, H", *(f"{cell.upper()} {mode}" for mode, cell in columns)]
    lines = [head, ["---", *["---:"] * len(columns)]]
    lines += [[size.strip("()"), *(_cell(runs.get((*column, size))) for column in columns)] for size in sizes]
    means = [[rows for (mode, cell, _), rows in runs.items() if (mode, cell) == column] for column in columns]
    lines.append(["geometric mean", *map(_geometric_mean, means)])
    return [f"| {' | '.join(line)} |" for line in lines]


def _others(runs: Runs) -> list[str]:
    """Everything that is not of the grid, a row each."""
    lines = [
        ["", "our time, ms", "fastest peer", "its time, ms", "times as fast"],
        ["---", "---:", "---", "---:", "---:"],
    ]
    for (mode, cell, size), rows in runs.items():
        if mode not in (*_GRID_MODES, *_NARROW_MODES):
            best = rows[0]["fastest_peer"]
            theirs = median(min(row["peers_ms"].values()) for row in rows)
            ours = median(row["numrnn_ms"] for row in rows)
            what = re.sub(r"^\(([^)]*)\)", r"\1", size)
            lines.append([f"{mode}, {cell.upper()}, {what}", f"{ours:.3g}", best, f"{theirs:.3g}", _cell(rows)])
    return [f"| {' | '.join(line)} |" for line in lines] if len(lines) > 2 else []


def tables(paths: Sequence[Path], machine: str | None = None) -> str:
    """What the files have found, as Markdown.

    Parameters
    ----------
    paths : sequence of Path
        Files that ``python -m benchmarks.peers --json`` wrote on one machine.
    machine : str, default=None
        What it is, where the processor does not say its name. None is the name in the files.

    Raises
    ------
    ValueError
        If there is no file, or they are of different machines.
    """
    if not paths:
        raise ValueError("there must be at least one file of results")
    runs, about = _read(paths)
    processors = sorted({entry["machine"]["processor"] for entry in about})
    if len(processors) > 1:
        raise ValueError(f"the files must be of one machine, they are of {', '.join(processors)}")
    versions = about[0]["machine"]["versions"]
    names = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime", "skorch": "skorch"}
    peers = ", ".join(f"{name} {versions[key]}" for key, name in names.items() if versions.get(key))
    peaks = {count: [entry["fma_peak_gflops"][count] for entry in about] for count in about[0]["fma_peak_gflops"]}
    peak = ", ".join(f"{median(rates):.0f} with {count}" for count, rates in peaks.items())
    bits = about[0]["machine"]["vector_bits"]
    text = f"{machine or processors[0]}, vectors of {bits} bits; {peers}.\n"
    text += f"Peak of fused multiply-adds in GFLOP/s, by threads: {peak}."
    parts = [text, "\n".join(_grid(runs, _GRID_MODES)), "\n".join(_others(runs))]
    narrow = "\n".join(_grid(runs, _NARROW_MODES))
    if narrow:
        parts += [
            'With `matmul_precision="bfloat16"`; the peer is the fastest of PyTorch with `torch.autocast`, with a '
            "layer in bfloat16, and in float32. The share is that of the peak in float32.",
            narrow,
        ]
    return "\n\n".join(part for part in parts if part)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, and put them into the page if asked to; see ``--help``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.runs", description=__doc__)
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="written by python -m benchmarks.peers --json"
    )
    parser.add_argument("--machine", metavar="TEXT", help="what to call it; default: the name of its processor")
    parser.add_argument("--write", action="store_true", help="put them into docs/benchmarks.md")
    parser.add_argument("--page", type=Path, default=PAGE, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    text = tables(options.files, options.machine)
    print(text)
    if options.write:
        page = options.page.read_text(encoding="utf-8")
        options.page.write_text(with_table(page, "peers", f"\n{text}\n\n"), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
