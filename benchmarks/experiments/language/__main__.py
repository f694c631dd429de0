"""Run a language model: ``python -m benchmarks.experiments.language``."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sklearn.exceptions import ConvergenceWarning

from benchmarks.experiments.data import DataNotFound, data_folder
from benchmarks.experiments.language import characters
from benchmarks.experiments.language.labelled import dna, surnames
from benchmarks.experiments.language.report import say, write
from benchmarks.experiments.language.words import words
from benchmarks.suite.machine import describe

_OTHERS = {"words": words, "surnames": surnames, "dna": dna}
_QUICK_WRITTEN = 200


def _characters(data: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    training, held_out = characters.read_text(data, chosen.quick)
    few = {"n_written": _QUICK_WRITTEN} if chosen.quick else {}
    if chosen.name == "best":
        epochs = 1 if chosen.quick else chosen.epochs
        return {"numrnn": characters.best(training, held_out, chosen.minutes, epochs, chosen.n_jobs, **few)}
    epochs = 1 if chosen.quick else chosen.epochs or characters.NETWORKS[chosen.name][2]
    record = {"numrnn": characters.ours(training, held_out, chosen.name, epochs, chosen.n_jobs, **few)}
    if chosen.peer and importlib.util.find_spec("torch") is None:
        say("NOT COMPARED: PyTorch (pip install torch) is not installed.")
    elif chosen.peer:
        epochs = 1 if chosen.quick else chosen.peer_epochs or epochs
        record["pytorch"] = characters.peer(training, held_out, chosen.name, epochs, chosen.n_jobs or 2, **few)
    return record


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for and print it; see ``--help``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments.language", description=__doc__)
    parser.add_argument("name", choices=(*characters.NETWORKS, "best", *_OTHERS), help="which one")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the data sets; default: $NUMRNN_DATA")
    parser.add_argument("--epochs", type=int, help="default: its own")
    parser.add_argument("--minutes", type=float, default=15.0, help="of `best`, all included; default 15")
    parser.add_argument("--n-jobs", type=int, help="threads; default: one for each processor")
    parser.add_argument("--peer", action="store_true", help="`small` and `large` in PyTorch, too, with two threads")
    parser.add_argument("--peer-epochs", type=int)
    parser.add_argument("--quick", action="store_true", help="little data, one epoch")
    parser.add_argument("--write", action="store_true", help="write the result to benchmarks/results/experiments")
    chosen = parser.parse_args(arguments)
    if chosen.quick and chosen.write:
        parser.error("--quick shows that it works; its results are not worth a file")
    warnings.simplefilter("ignore", ConvergenceWarning)
    try:
        data = data_folder(chosen.data)
        if chosen.name in _OTHERS:
            run = _OTHERS[chosen.name]
            found = {"numrnn": run(data, epochs=chosen.epochs, n_jobs=chosen.n_jobs, quick=chosen.quick)}
        else:
            found = _characters(data, chosen)
    except DataNotFound as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if chosen.write:
        say(f"Written: {write({'name': f'language_{chosen.name}', 'machine': describe(), **found})}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
