"""The tables of docs/results.md, from the JSON files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.pages import with_table

__all__ = ["PAGE", "RESULTS", "read_records", "render", "table", "update_page", "write_record"]

_ROOT = Path(__file__).resolve().parents[2]
RESULTS = _ROOT / "benchmarks" / "results" / "experiments"
PAGE = _ROOT / "docs" / "results.md"
# With more processes than this at work before the start, times say little.
_QUIET = 0.5


def write_record(record: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write what `run` returned to its file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{record['name']}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def read_records(order: list[str], folder: Path = RESULTS) -> list[dict[str, Any]]:
    """The records of those experiments that have been run, in the given order of names."""
    paths = [folder / f"{name}.json" for name in order]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]


def _number(value: float) -> str:
    if value == 0 or 0.001 <= abs(value) < 100:
        return f"{value:.4f}"
    return f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _disturbed(record: dict[str, Any]) -> str:
    load = record["machine"].get("load_average_before")
    return "*" if load is not None and load > _QUIET else ""


def _scores(side: dict[str, Any] | None) -> str:
    if side is None or side["mean_score"] is None:
        return ""
    known = [score for score in side["scores"] if score is not None]
    if len(known) == 1:
        return _number(known[0])
    return f"{_number(side['mean_score'])} ({_number(min(known))} to {_number(max(known))})"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _cells(record: dict[str, Any]) -> list[str]:
    ours, theirs = record["numrnn"], record["pytorch"]
    mean = ours["mean_score"]
    reached = mean <= record["goal"] if record["lower_is_better"] else mean >= record["goal"]
    metric = "" if record["metric"] == "accuracy" else f", {record['metric']}"
    mark = _disturbed(record)
    folds = f", {record['n_splits']} folds" if record["n_splits"] > 1 else ""
    cells = [
        record["task"],
        f"{record['n_train']:,.0f} / {record['n_test']:,.0f}{folds}",
        f"{record['network']}; {ours['n_parameters'][0]:,} parameters",
        f"{'**' * reached}{_scores(ours)}{'**' * reached}{metric}",
        str(len(record["seeds"])),
        record["literature"],
        f"{_seconds(_mean(ours['fit_seconds']))}{mark}",
        f"{_seconds(_mean(ours['seconds_per_epoch']))}{mark}",
    ]
    if theirs is None:
        cells += ["", "", ""]
    else:
        # The same seeds on both sides.
        same = [ours["seconds_per_epoch"][record["seeds"].index(seed)] for seed in theirs["seeds"]]
        per_epoch = _mean(theirs["seconds_per_epoch"])
        score = _scores(theirs) or f"{theirs['epochs'][0]} epochs only"
        cells += [score, f"{_seconds(per_epoch)}{mark}", f"{per_epoch / _mean(same):.2f}{mark}"]
    return [*cells, f"`{record['name']}`"]


def table(records: list[dict[str, Any]]) -> str:
    """The records in Markdown, and where and with what they were measured."""
    if not records:
        return "Nothing has been run.\n"
    head = [
        "task",
        "training / test",
        "network",
        "numrnn",
        "seeds",
        "goal or literature",
        "fit, s",
        "epoch, s",
        "PyTorch",
        "epoch, s",
        "times as fast",
        "NAME",
    ]
    lines = [head, ["---"] * len(head), *(_cells(record) for record in records)]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    machines: dict[str, list[str]] = {}
    for record in records:
        machine = record["machine"]
        versions = machine["versions"]
        used = ", ".join(f"{name} {versions[name]}" for name in ("numpy", "numba", "torch") if name in versions)
        count = record["threads"]
        where = (
            f"{machine['processor']}, {machine['vector_bits']}-bit vectors, {count} thread{'s'[: count > 1]}, "
            f"{machine['system']}, Python {versions['python']}, {used}"
        )
        machines.setdefault(where, []).append(f"`{record['name']}`")
    for where, names in machines.items():
        text += f"\n\nMeasured on {where}" + (f": {', '.join(names)}." if len(machines) > 1 else ".")
    if any(_disturbed(record) for record in records):
        text += (
            "\n\n\\* Other programs used the machine at the time: these seconds are too many and their ratio is rough."
        )
    return text + "\n"


def render(page: str, records: list[dict[str, Any]]) -> str:
    """The page with its table made anew.

    Raises
    ------
    ValueError
        If the page does not say where the table goes.
    """
    return with_table(page, "results", table(records))


def update_page(order: list[str], page: Path = PAGE, folder: Path = RESULTS) -> None:
    """Write the table into the page."""
    text = render(page.read_text(encoding="utf-8"), read_records(order, folder))
    page.write_text(text, encoding="utf-8")
