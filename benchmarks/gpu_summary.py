"""What benchmarks/gpu.py has found, against what is aimed at."""

from __future__ import annotations

from statistics import geometric_mean, median
from typing import Any

__all__ = ["TARGETS", "summary"]

# How many times as long cuDNN is to take, by the largest number of hidden units for which that holds.
TARGETS = ((128, 2.0), (512, 1.2), (1024, 0.9))


def summary(results: dict[str, Any]) -> str:
    """A table of hidden sizes: cuDNN's time over numrnn's, and the share of the floors."""
    entries = [entry for entry in results.get("layers") or [] if "training" in entry]
    lines = [f"{name}: {how}" for name, how in results.get("sections", {}).items() if how != "done"]
    if entries and all("cudnn_training" in entry for entry in entries):
        lines.append("cuDNN's time over numrnn's, the geometric mean and the worst of all shapes:")
        for size in sorted({entry["H"] for entry in entries}):
            of_size = [entry for entry in entries if entry["H"] == size]
            told = []
            for kind in ("forward", "training"):
                ratios = [entry[f"cudnn_{kind}"] / entry[kind] for entry in of_size]
                told.append(f"{kind} {geometric_mean(ratios):5.2f} and {min(ratios):5.2f}")
            goal = next((ratio for most, ratio in TARGETS if size <= most), 0.0)
            lines.append(f"  H={size:<5d} {'  '.join(told)}  aimed at {goal}  ({len(of_size)} shapes)")
    shares = [entry["floors"]["training"]["fraction"] for entry in entries if "floors" in entry]
    if shares:
        lines.append(
            f"share of the floor in training: median {100 * median(shares):.0f}%, worst {100 * min(shares):.0f}%"
        )
    return "\n".join(lines)
