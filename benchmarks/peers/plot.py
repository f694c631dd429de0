"""The comparison as a figure: ratios to the fastest peer, and our arithmetic rate against the peak."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["save_plot"]


def save_plot(results: dict[str, Any], path: str | Path) -> None:
    """Draw what `python -m benchmarks.peers --json` wrote.

    Parameters
    ----------
    results : dict
    path : str or Path
        The suffix chooses the format.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [row for row in results["rows"] if row["ratio"] is not None]
    modes = list(dict.fromkeys(row["mode"] for row in rows))
    heights = [max(2, sum(row["mode"] == mode for row in rows)) for mode in modes]
    rated = [row for row in results["rows"] if row["gflops"]]
    n_parts = len(modes) + bool(rated)
    figure, axes = plt.subplots(
        n_parts,
        1,
        figsize=(8, 0.26 * sum(heights) + 0.8 * len(modes) + (4 if rated else 0)),
        gridspec_kw={"height_ratios": [*heights, *([14] if rated else [])]},
        squeeze=False,
        layout="constrained",
    )
    for mode, axis in zip(modes, axes[:, 0], strict=False):
        part = [row for row in rows if row["mode"] == mode]
        labels = [f"{row['cell']} {row['size']}" for row in part]
        bars = axis.barh(range(len(part)), [row["ratio"] for row in part], color="#3b7dd8")
        axis.bar_label(bars, [f"{row['ratio']:.2f}  ({row['fastest_peer']})" for row in part], padding=3, fontsize=7)
        axis.set_yticks(range(len(part)), labels, fontsize=7)
        axis.invert_yaxis()
        axis.axvline(1, color="black", linewidth=0.8)
        axis.margins(x=0.35)
        axis.set_title(f"{mode}: time of the fastest peer / time of numrnn", fontsize=9, loc="left")
    if rated:
        axis = axes[-1, 0]
        for mode in dict.fromkeys(row["mode"] for row in rated):
            part = [row for row in rated if row["mode"] == mode]
            axis.scatter([row["numrnn_ms"] for row in part], [row["gflops"] for row in part], label=mode, s=18)
        for count, rate in results["fma_peak_gflops"].items():
            axis.axhline(rate, color="gray", linestyle="--", linewidth=0.8)
            axis.annotate(
                f"FMA peak, threads: {count}", (0.01, rate), xycoords=("axes fraction", "data"), fontsize=7, va="bottom"
            )
        axis.set(xscale="log", yscale="log", xlabel="time of a call, ms", ylabel="GFLOP/s of the matrix products")
        axis.legend(fontsize=7, loc="lower right")
    figure.suptitle(results["machine"]["processor"], fontsize=9)
    figure.savefig(path, dpi=130)
    plt.close(figure)
