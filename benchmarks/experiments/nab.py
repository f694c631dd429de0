"""Anomalies in the series of the Numenta Anomaly Benchmark: windows found and false alarms.

``python -m benchmarks.experiments.nab --data DIR`` reads the series in ``DIR/nab``, all of those that are there. As in
NAB [1]_, a detector learns from the first 15 % of a series (of its first 5,000 time steps), which are not judged, and
reads the rest as a stream. No threshold has seen a label. A window that somebody marked is found if there is an alarm
in it. Alarms outside all windows are false; those that come within `EPISODE` time steps after another one count as one
false alarm with it, since nobody would be woken twice. Windows are long, so that many are found by chance: beside the
number stands how many would be if the alarms in them were as frequent as those outside.

The spans of `averages` and its `alarm_rate` were chosen by every second series, among spans of 5 to 20 and 1,000 to
4,000 steps and four rates; the second table has the others alone.

.. [1] Lavin, A. and Ahmad, S. (2015). Evaluating real-time anomaly detection algorithms. ICMLA.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from benchmarks.experiments.data import DataNotFound, NabSeries, data_folder, read_nab
from benchmarks.pages import with_table
from benchmarks.suite.machine import describe
from numrnn import RNNAnomalyDetector
from numrnn.anomaly.averages import Averages, gaussian_level

__all__ = ["Counts", "count", "main", "n_probationary", "rolling_z_scores", "run", "table"]

Array = NDArray[np.float64]

_ROOT = Path(__file__).resolve().parents[2]
RESULT = _ROOT / "benchmarks" / "results" / "anomalies" / "nab.json"
PAGE = _ROOT / "docs" / "anomalies.md"
# Time steps that the networks, and the shorter of the rolling windows, see.
WINDOW = 48
EPISODE = 48
SEEDS = 3
# What time steps are judged by together with those before them, and how many alarms a Gaussian would give.
SPANS, RATE = (10, 2000), 0.01


@dataclass(frozen=True)
class Counts:
    """What came of the alarms in one series."""

    found: int
    windows: int
    false_alarms: int
    false_steps: int
    normal_steps: int
    # Windows that false alarms, which come as often and last as long as those outside, would find.
    by_chance: float


def n_probationary(n_steps: int) -> int:
    """Time steps at the beginning of a series that may be learned from."""
    return int(0.15 * min(n_steps, 5000))


def count(alarms: NDArray[np.bool_], series: NabSeries, first: int) -> Counts:
    """Compare the alarms from time step `first` on with the windows."""
    inside = np.zeros(len(alarms), dtype=bool)
    found, lengths = 0, []
    for begin, end in series.windows:
        window = (series.times >= begin) & (series.times <= end)
        inside |= window
        window[:first] = False
        if window.any():
            lengths.append(int(window.sum()))
        found += bool(alarms[window].any())
    inside[:first] = True
    wrong = np.flatnonzero(alarms & ~inside)
    episodes = int((np.diff(wrong, prepend=-EPISODE - 1) > EPISODE).sum())
    normal = int((~inside).sum())
    # A window has none if it does not begin within one, and none begins in it.
    missed = [(1.0 - len(wrong) / normal) * np.exp(-episodes / normal * length) for length in lengths]
    return Counts(found, len(lengths), episodes, len(wrong), normal, float(len(lengths) - sum(missed)))


def rolling_z_scores(values: Array, window: int) -> Array:
    """How many standard deviations of the `window` values before it a value is away from their mean; at first 0."""
    scores = np.zeros(len(values))
    if len(values) > window:
        past = np.lib.stride_tricks.sliding_window_view(values, window)[:-1]
        spread = np.maximum(past.std(axis=1), 1e-9 * max(np.abs(values).max(), 1e-300))
        scores[window:] = np.abs(values[window:] - past.mean(axis=1)) / spread
    return scores


def _rolling(window: int) -> Callable[[Array, int, int], NDArray[np.bool_]]:
    return lambda values, first, seed: rolling_z_scores(values, window) > 3.0


def _averaged(window: int) -> Callable[[Array, int, int], NDArray[np.bool_]]:
    """The rolling z-score, judged as the detector judges its own distances."""

    def alarms(values: Array, first: int, seed: int) -> NDArray[np.bool_]:
        distances = rolling_z_scores(values, window)
        averages = Averages.of(SPANS, distances[first - (first - WINDOW) // 5 : first])
        return averages.follow(distances, averages.start()) > gaussian_level(RATE)

    return alarms


def _network(max_iter: int, **settings: Any) -> Callable[[Array, int, int], NDArray[np.bool_]]:
    def alarms(values: Array, first: int, seed: int) -> NDArray[np.bool_]:
        detector = RNNAnomalyDetector(
            (32,), cell="gru", window_length=WINDOW, max_iter=max_iter, random_state=seed, n_jobs=1, **settings
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            detector.fit(values[:first])
        labels: NDArray[np.int64] = detector.predict(values)
        return labels == -1

    return alarms


def _methods(max_iter: int) -> dict[str, tuple[Callable[[Array, int, int], NDArray[np.bool_]], bool]]:
    """By name: the alarms in a series, and whether they depend on the seed."""
    auto: dict[str, Any] = {"contamination": "auto", "alarm_rate": 1e-4}
    averages: dict[str, Any] = {"contamination": "auto", "alarm_rate": RATE, "averages": SPANS}
    of = f"averages={SPANS}"
    return {
        f"rolling z-score, {WINDOW} steps, above 3": (_rolling(WINDOW), False),
        "rolling z-score, 288 steps, above 3": (_rolling(288), False),
        f"rolling z-score, {WINDOW} steps, `{of}`": (_averaged(WINDOW), False),
        f"rolling z-score, 288 steps, `{of}`": (_averaged(288), False),
        'GRU 32, `"forecast"`, `"auto"`': (_network(max_iter, **auto), True),
        'GRU 32, `"forecast"`, `difference=1`, `"auto"`': (_network(max_iter, difference=1, **auto), True),
        f'GRU 32, `"forecast"`, `{of}`, `alarm_rate={RATE}`': (_network(max_iter, **averages), True),
        'GRU 32, `"forecast"`, `contamination=0.01`': (_network(max_iter, contamination=0.01), True),
        'GRU 32, `"reconstruction"`, `"auto"`': (_network(max_iter, method="reconstruction", **auto), True),
    }


def run(
    data: Path, *, quick: bool = False, only: str = "", report: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Judge all series by all methods.

    Parameters
    ----------
    data : Path
        Folder of the data sets.
    quick : bool, default=False
        One series of each folder, one epoch and one seed, to see that it works.
    only : str, default=""
        Methods whose name has this in it.
    report : callable, default: nothing
        Gets a line for each series and method.

    Returns
    -------
    dict
        The record, as it is written to the JSON file.
    """
    machine, everything = describe(), read_nab(data)
    if quick:
        everything = {name: everything[name] for name in {name.split("/")[0]: name for name in everything}.values()}
    methods: dict[str, list[dict[str, dict[str, float]]]] = {}
    for method, (alarms, random) in _methods(1 if quick else 50).items():
        if only not in method:
            continue
        methods[method] = []
        for seed in range(SEEDS if random and not quick else 1):
            counts: dict[str, dict[str, float]] = {}
            for name, series in everything.items():
                first = n_probationary(len(series.values))
                result = count(alarms(series.values, first, seed), series, first)
                counts[name] = dict(result.__dict__)
                report(
                    f"{method}, seed {seed}, {name}: {result.found} of {result.windows} windows, "
                    f"{result.false_alarms} false alarms ({result.false_steps} of {result.normal_steps} time steps)"
                )
            methods[method].append(counts)
    return {
        "name": "nab",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "series": list(everything),
        "methods": methods,
    }


def table(record: dict[str, Any]) -> str:
    """The record in Markdown: all series, then those by which nothing was chosen."""
    return "\n".join(
        [
            _table(record, record["series"]),
            "Without the series by which `averages` and `alarm_rate` were chosen:",
            "",
            _table(record, record["series"][1::2]),
        ]
    )


def _table(record: dict[str, Any], series: Sequence[str]) -> str:
    lines = [
        "| method | windows found | by chance | false alarms | time steps in false alarm |",
        "|---|---:|---:|---:|---:|",
    ]
    for method, runs in record["methods"].items():
        total = {
            key: float(np.mean([sum(counts[name][key] for name in series) for counts in runs]))
            for key in ("found", "windows", "false_alarms", "false_steps", "normal_steps", "by_chance")
        }
        lines.append(
            f"| {method} | {total['found']:.3g} of {total['windows']:.0f} | {total['by_chance']:.1f} | "
            f"{total['false_alarms']:.0f} | {100 * total['false_steps'] / max(total['normal_steps'], 1):.2f} % |"
        )
    seeds = max(len(runs) for runs in record["methods"].values())
    one = next(iter(record["methods"].values()))[0]
    n_steps = sum(one[name]["normal_steps"] for name in series)
    return "\n".join(
        [
            *lines,
            "",
            f"{len(series)} series, {n_steps:,} time steps outside the windows; networks are means of "
            f"{seeds} seed{'s' if seeds > 1 else ''}.",
            "",
        ]
    )


def _joined(record: dict[str, Any]) -> dict[str, Any]:
    """With the methods of the earlier record that were left out, in the usual order."""
    earlier = json.loads(RESULT.read_text(encoding="utf-8"))["methods"] if RESULT.is_file() else {}
    known = {**earlier, **record["methods"]}
    return {**record, "methods": {name: known[name] for name in _methods(50) if name in known}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for and print it; see ``--help``."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments.nab", description="Windows found and false alarms in the series of NAB."
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the data sets; default: $NUMRNN_DATA")
    parser.add_argument("--quick", action="store_true", help="two series, one epoch, one seed, to see that it works")
    parser.add_argument("--only", default="", metavar="TEXT", help="methods that have this in their name")
    parser.add_argument("--write", action="store_true", help="write the JSON file and the table of docs/anomalies.md")
    options = parser.parse_args(arguments)
    if options.quick and options.write:
        parser.error("--quick is no measurement: it does not go with --write")
    try:
        record = run(
            data_folder(options.data),
            quick=options.quick,
            only=options.only,
            report=lambda text: print(text, file=sys.stderr, flush=True),
        )
    except DataNotFound as error:
        parser.error(str(error))
    if options.write:
        record = _joined(record)
    print(table(record))
    if options.write:
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(with_table(page, "nab", table(record)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
