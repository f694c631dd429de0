"""The command `numrnn`."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from numrnn import __version__
from numrnn.commands import forecast, models, text, versions
from numrnn.commands.arguments import add_command

__all__ = ["main"]

_CONVENTIONS = """
Tables are read from CSV and Parquet files. Results go to the standard output, as CSV or JSON; progress, warnings and
errors go to the standard error stream. Every command has examples: numrnn COMMAND --help

exit status:
  0    it went well
  1    something is wrong with the data, a file or a model; the message says what
  2    something is wrong with the arguments
  130  interrupted
"""
_DEMO_EXAMPLES = """examples:
  numrnn demo
  numrnn demo --output results
"""


def _demo(output: Path) -> None:
    from numrnn.demo import run

    run(output)


def _run(chosen: argparse.Namespace) -> int:
    if chosen.command == "demo":
        _demo(chosen.output)
        return 0
    commands = {"text": text.run, "forecast": forecast.run, "show-versions": versions.run}
    return commands.get(chosen.command, models.run)(chosen)


def _say_once() -> Callable[..., None]:
    """Show each warning in one line, and once. That an epoch was the last one allowed is no news on a command line."""
    said: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: Any) -> None:
        if category.__name__ != "ConvergenceWarning" and str(message) not in said:
            said.add(str(message))
            print(f"numrnn: warning: {message}", file=sys.stderr)

    return show


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str or None, default=None
        The arguments after the command's name; those of the process if None.

    Returns
    -------
    status : int
        0, 1 after an error that has been printed, or 130 after an interrupt. Wrong arguments exit the process with
        status 2, as argparse does.
    """
    parser = argparse.ArgumentParser(
        prog="numrnn",
        description="Recurrent networks for numeric Python.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_CONVENTIONS,
    )
    parser.add_argument("--version", action="version", version=f"numrnn {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    forecast.add(commands)
    models.add(commands)
    text.add(commands)
    demo = add_command(
        commands, "demo", "forecast air pollution and read handwritten digits, in under a minute", _DEMO_EXAMPLES
    )
    demo.add_argument(
        "--output",
        type=Path,
        default=Path("numrnn-demo"),
        metavar="DIR",
        help="where to write the results, figures and models (default: %(default)s)",
    )
    versions.add(commands)
    chosen = parser.parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _say_once()  # type: ignore[assignment]
            status = _run(chosen)
            sys.stdout.flush()
            return status
    except BrokenPipeError:
        # Whoever read the results has seen enough; nothing is left to be written at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("numrnn: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        told = f"{error.strerror}: {error.filename!r}" if error.strerror and error.filename else str(error)
        print(f"numrnn: error: {told}", file=sys.stderr)
        return 1
    except (ValueError, TypeError, FloatingPointError, ImportError) as error:
        print(f"numrnn: error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
