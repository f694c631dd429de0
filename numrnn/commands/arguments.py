"""Arguments that several commands have, and what is asked of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

__all__ = [
    "add_command",
    "add_network",
    "add_table",
    "check_figure",
    "check_folder",
    "positive",
    "rate",
    "share",
    "tell",
]


def positive(text: str) -> int:
    """A whole number above zero."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def share(text: str) -> float:
    """A number from 0 up to, but not including, 1."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 0 and below 1, got {text}")
    return number


def rate(text: str) -> float:
    """A number above zero."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0 and finite, got {text}")
    return number


def add_command(commands: Any, name: str, help: str, examples: str) -> argparse.ArgumentParser:
    """A command with examples below its help."""
    return commands.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=examples,
    )


def add_table(parser: argparse.ArgumentParser) -> None:
    """The table that a command reads, and how."""
    parser.add_argument("data", metavar="DATA", help="table: CSV (also .tsv, .csv.gz, - for standard input) or Parquet")
    parser.add_argument(
        "--separator", metavar="C", help="between the cells of CSV (default: as the first line has it: , ; tab or |)"
    )


def add_network(parser: argparse.ArgumentParser, *, units: int, epochs: int, learning_rate: float) -> None:
    """The network and its training."""
    network = parser.add_argument_group("network and training")
    network.add_argument("--cell", choices=("lstm", "gru", "rnn"), default="lstm", help="(default: %(default)s)")
    network.add_argument(
        "--units", type=positive, nargs="+", default=[units], metavar="N", help=f"of each layer (default: {units})"
    )
    network.add_argument("--bidirectional", action="store_true", help="also read sequences from their ends")
    network.add_argument("--dropout", type=share, default=0.0, metavar="P", help="between layers (default: 0)")
    network.add_argument("--epochs", type=positive, default=epochs, metavar="N", help="at most (default: %(default)s)")
    network.add_argument("--batch-size", type=positive, default=32, metavar="N", help="(default: %(default)s)")
    network.add_argument(
        "--learning-rate", type=rate, default=learning_rate, metavar="R", help="(default: %(default)s)"
    )
    network.add_argument("--seed", type=int, default=0, metavar="N", help="(default: %(default)s)")
    network.add_argument("--threads", type=int, metavar="N", help="(default: all; results do not depend on it)")
    network.add_argument("--quiet", action="store_true", help="say nothing on standard error but warnings and errors")


def tell(chosen: argparse.Namespace, text: str) -> None:
    """A line for people, on the standard error stream."""
    if not chosen.quiet:
        print(text, file=sys.stderr)


def check_folder(path: Path | None, option: str) -> None:
    """Before any work: a file can be written there.

    Raises
    ------
    ValueError
        If its folder does not exist, or it is a folder itself.
    """
    if path is None:
        return
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{option} {str(path)!r}: there is no folder {str(path.parent)!r}")
    if path.is_dir():
        raise ValueError(f"{option} {str(path)!r} is a folder, where the name of a file was expected")


def check_figure(path: Path | None, option: str) -> None:
    """Before any work: a figure can be drawn and written there.

    Raises
    ------
    ValueError
        If Matplotlib does not know the ending of the name, or as `check_folder`.
    ImportError
        If Matplotlib is not installed.
    """
    if path is None:
        return
    check_folder(path, option)
    from numrnn.plots.axes import pyplot

    known = pyplot().Figure().canvas.get_supported_filetypes()
    if path.suffix.lower().lstrip(".") not in known:
        raise ValueError(
            f"{option} {str(path)!r} must end in one of {', '.join('.' + ending for ending in sorted(known))}"
        )
