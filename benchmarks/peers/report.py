"""What came out, as a table for people and as JSON for programs."""

from __future__ import annotations

import math
from typing import Any

from benchmarks.peers.contests import Contest
from benchmarks.peers.timing import OURS

__all__ = ["describe_machine", "result_of", "summary", "table"]


def result_of(contest: Contest, times: dict[str, float], peak: float) -> dict[str, Any]:
    """One row: times in milliseconds, and ratios to the fastest peer.

    Parameters
    ----------
    contest : Contest
    times : dict of str to float
        Of `compare`.
    peak : float
        GFLOP/s that the machine can do.
    """
    ours = times[OURS]
    peers = {name: time for name, time in times.items() if name != OURS}
    best = min(peers, key=peers.__getitem__, default=None)
    gflops = None if contest.flops is None else contest.flops / ours / 1e6
    return {
        "mode": contest.mode,
        "cell": contest.cell,
        "size": contest.size,
        "numrnn_ms": ours,
        "peers_ms": peers,
        "fastest_peer": best,
        "ratio": None if best is None else peers[best] / ours,
        "gflops": gflops,
        "fraction_of_peak": None if gflops is None else gflops / peak,
        "losses": None if contest.losses is None else contest.losses(),
    }


def _milliseconds(value: float) -> str:
    digits = 4 if value < 0.1 else 3 if value < 1 else 2 if value < 100 else 0
    return f"{value:.{digits}f}"


def _cells(row: dict[str, Any], names: list[str]) -> list[str]:
    peers = [_milliseconds(row["peers_ms"][name]) if name in row["peers_ms"] else "" for name in names]
    ratio = "" if row["ratio"] is None else f"**{row['ratio']:.2f}**"
    cells = [row["cell"], row["size"], _milliseconds(row["numrnn_ms"]), *peers, ratio]
    if row["gflops"] is not None:
        cells += [f"{row['gflops']:.1f}", f"{100 * row['fraction_of_peak']:.0f} %"]
    if row["losses"] is not None:
        cells.append(", ".join(f"{name} {loss:.4f}" for name, loss in row["losses"].items()))
    return cells


def table(rows: list[dict[str, Any]]) -> str:
    """The rows of one mode in Markdown."""
    names = list(dict.fromkeys(name for row in rows for name in row["peers_ms"]))
    head = ["cell", "(N, T, D, H)" if rows[0]["mode"] != "fit" else "data", "numrnn, ms", *names, "ratio"]
    head += ["GFLOP/s", "of FMA peak"] if rows[0]["gflops"] is not None else []
    head += ["final training loss"] if rows[0]["losses"] is not None else []
    lines = [head, ["---"] * len(head), *(_cells(row, names) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def summary(rows: list[dict[str, Any]]) -> str:
    """Smallest ratio and geometric mean, for every cell, or why there are none."""
    parts = []
    for cell in dict.fromkeys(row["cell"] for row in rows):
        ratios = [row["ratio"] for row in rows if row["cell"] == cell and row["ratio"] is not None]
        if ratios:
            mean = math.exp(sum(math.log(ratio) for ratio in ratios) / len(ratios))
            parts.append(f"{cell}: at least {min(ratios):.2f}, geometric mean {mean:.2f}")
    return "Ratios. " + "; ".join(parts) + "." if parts else "No peer is installed: no ratios."


def describe_machine(machine: dict[str, Any], peaks: dict[int, float], settings: str) -> str:
    """Where and how the numbers were measured."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    rates = ", ".join(f"{rate:.0f} GFLOP/s with {count} thread{'s'[: count > 1]}" for count, rate in peaks.items())
    load = machine["load_average_before"]
    return "\n".join(
        [
            f"{machine['processor']}, {machine['processors_available']} processors for this process, "
            f"{machine['vector_bits']}-bit vectors, {machine['system']}",
            f"float32 fused multiply-adds in registers: {rates}",
            versions,
            "numrnn with its default threads; peers with each of the numbers of threads named, the fastest one counts. "
            + settings,
            *(
                [f"NOTE: load average {load} before the start: other work disturbs these times."]
                if load and load > 0.5
                else []
            ),
        ]
    )
