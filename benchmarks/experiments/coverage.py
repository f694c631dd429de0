"""Whether intervals cover what they say, on simulated series: a real one has one future only.

``python -m benchmarks.experiments.coverage --data DIR --write``.

Monthly series are drawn from the model that Box and Jenkins made of the airline passengers: twofold differences of the
logarithms, by 1 and by 12 months, are moving averages of noise, with the coefficients and the variance of their book.
They begin with the first 13 months of the real one. The forecaster is that of the airline passengers in `univariate`,
fitted to three quarters of a series; it forecasts the rest from every month of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from benchmarks.experiments import univariate
from benchmarks.experiments.data import data_folder
from benchmarks.pages import with_table
from benchmarks.suite.machine import describe
from numrnn import RNNForecaster
from numrnn.forecasting import calibration

__all__ = ["main", "run", "simulated", "table"]

_ROOT = Path(__file__).resolve().parents[2]
RESULT = _ROOT / "benchmarks" / "results" / "coverage.json"
PAGE = _ROOT / "docs" / "forecasting.md"

# Box and Jenkins (1976), Time Series Analysis, section 9.2.
_MONTHLY, _YEARLY, _DEVIATION = 0.4, 0.6, 0.0367
_LENGTHS = (144, 240, 480)
_SHOWN = (1, 6, 12)


def simulated(logarithms: NDArray[np.float64], n_months: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A series of the airline model that begins with 13 given logarithms."""
    noise = rng.normal(0, _DEVIATION, n_months)
    moving = np.convolve(noise, np.r_[1, -_MONTHLY, np.zeros(10), -_YEARLY, _MONTHLY * _YEARLY])
    values = [float(value) for value in logarithms[:13]]
    for month in range(13, n_months):
        values.append(values[-1] + values[-12] - values[-13] + float(moving[month]))
    return np.exp(values)


def _measures(model: RNNForecaster, y: NDArray[np.float64]) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        result = model.backtest(y, initial=3 * len(y) // 4, step=1)
    return {
        "coverage": result.metrics["coverage"].tolist(),
        "width": float(np.mean(result.metrics["width"]) / np.mean(y)),
        "calibration": round(float(model.calibration_fraction) * (3 * len(y) // 4 - 35)),
    }


def _joined(measures: list[dict[str, Any]]) -> dict[str, Any]:
    """The measures of several series: means, and of each series the coverage of all steps."""
    shares = np.array([one["coverage"] for one in measures])
    return {
        "coverage": shares.mean(axis=0).round(6).tolist(),
        "coverage_of_series": " ".join(f"{share:.3f}" for share in shares.mean(axis=1)),
        "width": round(float(np.mean([one["width"] for one in measures])), 6),
        "calibration": measures[0]["calibration"],
    }


def run(data: Path, n_series: int, report: Callable[[str], None], lengths: Sequence[int] = _LENGTHS) -> dict[str, Any]:
    """Coverage for every length, with the intervals as they are and as they would be by ranks alone."""
    task = univariate.tasks(data, False)[0]
    model = clone(next(iter(task.models.values()))).set_params(n_jobs=1)
    logarithms = np.log(task.y)
    records = []
    for length in lengths:
        found: dict[str, list[dict[str, Any]]] = {"intervals": [], "ranks alone": []}
        for number in range(n_series):
            y = simulated(logarithms, length, np.random.default_rng(number))
            one = clone(model).set_params(random_state=number)
            found["intervals"].append(_measures(one, y))
            needed = calibration.fewest_errors
            try:
                calibration.fewest_errors = lambda levels: 0  # any number of errors is ranked
                found["ranks alone"].append(_measures(one, y))
            finally:
                calibration.fewest_errors = needed
        records.append({"length": length, **{name: _joined(measures) for name, measures in found.items()}})
        for name, measures in found.items():
            share = np.mean([np.mean(each["coverage"]) for each in measures])
            report(f"{length} months, {name}: coverage {share:.3f} of {n_series} series")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        "n_series": n_series,
        "records": records,
    }


def table(record: dict[str, Any]) -> str:
    """The record in Markdown."""
    head = [
        "months",
        "errors in the calibration",
        "quantiles",
        *(f"{step} ahead" for step in _SHOWN),
        "all steps",
        "width",
    ]
    lines = [head, ["---:", "---:", "---", *["---:"] * (len(head) - 3)]]
    for one in record["records"]:
        for name in ("ranks alone", "intervals"):
            measures = one[name]
            means = np.array(measures["coverage_of_series"].split(), dtype=float)
            error = means.std(ddof=1) / np.sqrt(len(means)) if len(means) > 1 else np.nan
            lines.append(
                [
                    str(one["length"]),
                    str(measures["calibration"]),
                    name if name == "ranks alone" else "as they are",
                    *(f"{100 * measures['coverage'][step - 1]:.1f} %" for step in _SHOWN),
                    f"{100 * means.mean():.1f} % ± {100 * error:.1f}",
                    f"{100 * measures['width']:.0f} %",
                ]
            )
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (
        f"{rows}\n\nIntervals of 90 %, {record['n_series']} simulated series of each length, with the standard error "
        "of the mean. The width is in\nshares of the mean of a series.\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it and print the table; see ``--help``."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments.coverage", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the data sets; default: $NUMRNN_DATA")
    parser.add_argument("--series", type=int, default=100, metavar="N", help="of each length (default: 100)")
    parser.add_argument("--write", action="store_true", help="write the JSON file and the table of docs/forecasting.md")
    options = parser.parse_args(arguments)
    record = run(data_folder(options.data), options.series, lambda text: print(text, file=sys.stderr, flush=True))
    print(table(record), flush=True)
    if options.write:
        RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(with_table(page, "coverage", table(record)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
