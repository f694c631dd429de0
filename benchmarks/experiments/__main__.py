"""Run experiments: ``python -m benchmarks.experiments``."""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.experiments import SCRIPTS
from benchmarks.experiments.data import DataNotFound, data_folder
from benchmarks.experiments.experiment import Experiment, find, run
from benchmarks.experiments.report import PAGE, read_records, table, update_page, write_record


def scripts() -> dict[str, tuple[Experiment, ...]]:
    """The experiments of every script."""
    return {name: importlib.import_module(f"benchmarks.experiments.{name}").EXPERIMENTS for name in SCRIPTS}


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected PARAMETER=VALUE, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value


def _arguments(arguments: Sequence[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"a script ({', '.join(SCRIPTS)}) or one experiment")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the data sets; default: $NUMRNN_DATA")
    parser.add_argument("--seeds", type=int, default=3, help="how many: 0, 1, ...; default 3")
    parser.add_argument("--n-jobs", type=int, default=None, help="threads; default: one for each processor")
    parser.add_argument("--quick", action="store_true", help="few samples, one epoch, one seed, nothing written")
    parser.add_argument("--peer", action="store_true", help="train the same network in PyTorch, too")
    parser.add_argument("--peer-seeds", type=int, default=1, help="with how many of the seeds; default 1")
    parser.add_argument("--validation", action="store_true", help="hold out training data to judge by; nothing written")
    parser.add_argument("--set", type=_setting, action="append", default=[], metavar="PARAMETER=VALUE", dest="settings",
                        help="another parameter of the estimator; with --validation or --quick")  # fmt: skip
    parser.add_argument("--report", action="store_true", help="write the table of docs/results.md from the results")
    return parser, parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for and print it; see ``--help``."""
    parser, options = _arguments(arguments)
    trial = options.quick or options.validation
    if not options.names and not options.report:
        parser.error("name an experiment or ask for --report")
    if options.settings and not trial:
        parser.error("--set goes with --validation or --quick: what is written is measured with the script's settings")
    if options.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {options.seeds}")
    peer = options.peer and importlib.util.find_spec("torch") is not None
    if options.peer and not peer:
        print("NOT COMPARED: PyTorch (pip install torch) is not installed.")
    all_scripts = scripts()
    order = [experiment.name for group in all_scripts.values() for experiment in group]
    try:
        chosen = list(find(options.names, all_scripts))
        data = data_folder(options.data) if any(experiment.needs_data for experiment in chosen) else None
        seeds = range(1 if options.quick else options.seeds)
        records = []
        for experiment in chosen:
            record = run(
                experiment,
                data,
                seeds=seeds,
                n_jobs=options.n_jobs,
                quick=options.quick,
                validation=options.validation,
                settings=dict(options.settings),
                peer_seeds=seeds[: options.peer_seeds] if peer else (),
                report=lambda text: print(text, flush=True),
            )
            records.append(record)
            if not trial:
                if not peer:
                    _say_what_is_lost(record)
                print(f"Written: {write_record(record)}", flush=True)
    except (DataNotFound, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if records:
        print(f"\n{table(records)}")
    if options.report:
        update_page(order)
        print(f"Written: {PAGE}")
    return 0


def _say_what_is_lost(record: dict[str, Any]) -> None:
    """A record without a peer replaces one that has it."""
    earlier = read_records([record["name"]])
    if earlier and earlier[0]["pytorch"] is not None:
        print(f"The results of PyTorch of {earlier[0]['date']} are left out: run with --peer to have both.")


if __name__ == "__main__":
    sys.exit(main())
