"""What one fit of a forecaster costs beside the same network in a plain loop of PyTorch: processor time and memory.

``python -m benchmarks.experiments.fit_costs NAME --data DIR --write`` fits the forecasters of a task of `univariate`,
`stocks` and `pm25` to its training part, and trains networks of the same form, first parameters, windows, minibatches,
epochs, learning rates and clipping in PyTorch: each in a process of its own, which uses one thread. Neither stops early
nor holds anything out. Ours is `RNNForecaster.fit`, from the series on; PyTorch is given the rows that the network
reads, prepared, and makes its minibatches from them. Compiled code is loaded, and one minibatch trained on, before
anything counts.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from benchmarks.experiments.data import data_folder
from benchmarks.experiments.forecasts import Task, has_twin, training_of
from benchmarks.pages import with_table
from benchmarks.peers.one_fit import measured
from benchmarks.suite.machine import describe
from numrnn import RNNForecaster

__all__ = ["main", "run", "table"]

_ROOT = Path(__file__).resolve().parents[2]
RESULT = _ROOT / "benchmarks" / "results" / "fit_costs.json"
PAGE = _ROOT / "docs" / "results.md"
_SCRIPTS = ("univariate", "stocks", "pm25")


def _tasks(data: Path, quick: bool) -> dict[str, tuple[str, Task]]:
    """By name: the script that makes it, and the task."""
    modules = {script: importlib.import_module(f"benchmarks.experiments.{script}") for script in _SCRIPTS}
    return {
        task.name: (script, task)
        for script, module in modules.items()
        for task in module.tasks(data, quick)
    }  # fmt: skip


def _plain(model: RNNForecaster) -> RNNForecaster:
    """A forecaster that trains for all of its epochs on all windows."""
    return clone(model).set_params(
        n_jobs=1,
        missing="mask",
        random_state=0,
        early_stopping=False,
        calibration_fraction=0.0,
        train_on_all=False,
        tol=0.0,
        n_iter_no_change=model.max_iter,
    )


def _ours(task: Task, model: RNNForecaster) -> dict[str, float]:
    """In this process: the fit of the training part."""

    def first(n_steps: int) -> tuple[Any, Any]:
        if isinstance(task.y, list):
            return [part[:n_steps] for part in task.y], None if task.X is None else [part[:n_steps] for part in task.X]
        return task.y[:n_steps], None if task.X is None else task.X[:n_steps]

    one = _plain(model)
    batch_size = one.batch_size if isinstance(one.batch_size, int) else 64
    needed = one.window_length + one.horizon + int(np.sum(one.difference or 0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        clone(one).set_params(max_iter=1, n_iter_no_change=1).fit(*first(needed + batch_size))
        y, X = first(task.initial)
        return measured(lambda: one.fit(y, X))


def _write_for_pytorch(path: Path, task: Task, model: RNNForecaster) -> dict[str, int]:
    """What PyTorch's process trains; how much there is of it."""
    import torch

    from benchmarks.peers.pytorch_training import TorchNetwork

    training = training_of(_plain(model), task)
    sequences, targets = training.arrays()
    settings = {**vars(training.plain)}
    schedule = settings.pop("learning_rate")
    kept = {
        "network": TorchNetwork(training.network),
        "rates": [float(schedule(epoch)) for epoch in range(training.plain.n_epochs)],
        "sequences": (sequences.values, np.array(sequences.starts), np.array(sequences.lengths)),
        "targets": targets,
        "settings": settings,
    }
    torch.save(kept, path)
    return {
        "n_windows": len(training.windows),
        "n_epochs": training.plain.n_epochs,
        "batch_size": training.plain.batch_size,
        "n_parameters": training.network.n_parameters,
    }


def _in_a_process(*arguments: str) -> dict[str, float]:
    """What a process prints when it is done."""
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _median(measures: list[dict[str, float]]) -> dict[str, float]:
    """The one whose time is the median; of two in the middle, the longer."""
    return sorted(measures, key=lambda one: one["seconds"])[len(measures) // 2]


def run(
    names: Sequence[str],
    data: Path | None,
    *,
    quick: bool = False,
    repeats: int = 3,
    report: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Measure the forecasters of some tasks whose loss PyTorch has.

    Parameters
    ----------
    names : sequence of str
    data : Path or None
        Folder of the data sets.
    quick : bool, default=False
        One epoch.
    repeats : int, default=3
        Processes of each kind, in turns; the one with the median time counts, and the memory that goes with it.
    report : callable, default: nothing
        Gets a line after every process.

    Returns
    -------
    list of dict
        A record for each forecaster, as they are written to the JSON file.
    """
    tasks = _tasks(data_folder(data), quick)
    folder = [] if data is None else ["--data", str(data)]
    records = []
    for name in names:
        script, task = tasks[name]
        for label, model in task.models.items():
            if not has_twin(model):
                report(f"{name}, {label}: NOT COMPARED: PyTorch is not installed, or its loop has no such loss")
                continue
            runs: dict[str, list[dict[str, float]]] = {"numrnn": [], "pytorch": []}
            with tempfile.TemporaryDirectory() as place:
                path = Path(place) / "training.pt"
                machine = describe()
                sizes = _write_for_pytorch(path, task, model)
                ours = ["benchmarks.experiments.fit_costs", name, "--only", label, *folder, *["--quick"][:quick]]
                for _ in range(repeats):
                    for who, command in (("numrnn", ours), ("pytorch", ["benchmarks.peers.one_fit", str(path)])):
                        one = _in_a_process(*command)
                        runs[who].append(one)
                        report(f"{name}, {label}, {who}: {one['seconds']:.3g} s, {one['memory']:.0f} MiB")
            records.append(
                {
                    "name": name,
                    "script": script,
                    "title": task.title,
                    "model": label,
                    "date": datetime.now(UTC).isoformat(timespec="seconds"),
                    "machine": machine,
                    **sizes,
                    **{who: _median(measures) for who, measures in runs.items()},
                    "repeats": repeats,
                    "seconds_of_all": {who: [one["seconds"] for one in measures] for who, measures in runs.items()},
                }
            )
    return records


def table(records: list[dict[str, Any]]) -> str:
    """The records in Markdown, and on which machine they were measured."""
    head = [
        "task",
        "network",
        "windows, epochs",
        "numrnn, s",
        "PyTorch, s",
        "times as fast",
        "numrnn, MiB",
        "PyTorch, MiB",
    ]
    lines = [head, ["---", "---", *["---:"] * (len(head) - 2)]]
    for one in records:
        ours, theirs = one["numrnn"], one["pytorch"]
        memory = [f"{side['memory']:.0f} ({side['memory'] - side['memory_before']:.0f})" for side in (ours, theirs)]
        lines.append(
            [
                f"`{one['name']}`",
                f"{one['model']}; {one['n_parameters']:,} parameters",
                f"{one['n_windows']:,}, {one['n_epochs']}",
                f"{ours['seconds']:.3g}",
                f"{theirs['seconds']:.3g}",
                f"{theirs['seconds'] / ours['seconds']:.1f}",
                *memory,
            ]
        )
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    where = dict.fromkeys(
        f"{one['machine']['processor']}, {one['machine']['vector_bits']}-bit vectors, "
        f"numba {one['machine']['versions']['numba']}, torch {one['machine']['versions']['torch']}"
        for one in records
    )
    repeats = min(one["repeats"] for one in records)
    return (
        f"{text}\n\nProcessor seconds on one thread, the median of {repeats}; memory is the most that the process "
        f"held, in brackets without what it held before the fit. Measured on {'; '.join(where)}.\n"
    )


def _merged(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With those of earlier runs, in the order of the scripts."""
    earlier = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else []
    newer = {(one["name"], one["model"]): one for one in [*earlier, *records]}
    return sorted(newer.values(), key=lambda one: (_SCRIPTS.index(one["script"]), one["name"], one["model"]))


def _write_page(text: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_table(page, "fit costs", text), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for and print it; see ``--help``."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments.fit_costs", description=__doc__.split("\n")[0]
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="tasks of univariate, stocks and pm25")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the data sets; default: $NUMRNN_DATA")
    parser.add_argument("--quick", action="store_true", help="one epoch")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="processes of each kind (default: 3)")
    parser.add_argument("--only", metavar="NETWORK", help="fit this one here, and print what it took as JSON")
    parser.add_argument("--write", action="store_true", help="write the JSON file and the table of docs/results.md")
    options = parser.parse_args(arguments)
    if options.quick and options.write:
        parser.error("--quick is no measurement: it does not go with --write")
    tasks = _tasks(data_folder(options.data), options.quick)
    unknown = [name for name in options.names if name not in tasks]
    if unknown:
        parser.error(f"there is no task {unknown[0]!r}; there are {', '.join(tasks)}")
    if options.only is not None:
        task = tasks[options.names[0]][1]
        print(json.dumps(_ours(task, task.models[options.only])))
        return 0
    measured_any = False
    for name in options.names:
        records = run(
            [name],
            options.data,
            quick=options.quick,
            repeats=options.repeats,
            report=lambda text: print(text, file=sys.stderr, flush=True),
        )
        if not records:
            continue
        measured_any = True
        print(table(records), flush=True)
        if options.write:
            everything = _merged(records)
            RESULT.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
            _write_page(table(everything))
    return 0 if measured_any else 1


if __name__ == "__main__":
    sys.exit(main())
