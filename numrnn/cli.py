"""The command `numrnn`."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from numrnn import __version__
from numrnn.commands import text

__all__ = ["main"]

_PACKAGES = ("numpy", "numba", "llvmlite", "scipy", "scikit-learn", "safetensors", "matplotlib", "numba-cuda")


def _version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _info() -> None:
    from numrnn.kernels.cuda.availability import why_unavailable
    from numrnn.kernels.simd import VECTOR_BITS
    from numrnn.workers import effective_n_jobs

    lines = {
        "numrnn": __version__,
        "Python": platform.python_version(),
        **{package: _version_of(package) for package in _PACKAGES},
        "machine": f"{platform.machine()}, {platform.system()}",
        "vector width": f"{VECTOR_BITS} bits",
        "threads": str(effective_n_jobs(None)),
        "CUDA device": why_unavailable() or "there is one",
    }
    for name, value in lines.items():
        print(f"{name:<14}{value}")


def _demo(output: Path) -> None:
    from numrnn.demo import run

    run(output)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str or None, default=None
        The arguments after the command's name; those of the process if None.

    Returns
    -------
    status : int
        0, or 1 after an error that has been printed. Wrong arguments exit the process with status 2, as argparse does.
    """
    parser = argparse.ArgumentParser(prog="numrnn", description="Recurrent networks for numeric Python.")
    parser.add_argument("--version", action="version", version=f"numrnn {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    demo = commands.add_parser("demo", help="forecast air pollution and read handwritten digits, in under a minute")
    demo.add_argument(
        "--output",
        type=Path,
        default=Path("numrnn-demo"),
        metavar="DIR",
        help="where to write the results, figures and models (default: %(default)s)",
    )
    text.add(commands)
    commands.add_parser("info", help="print the versions, vector width and number of threads in use")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "demo":
            _demo(chosen.output)
        elif chosen.command == "text":
            return text.run(chosen)
        else:
            _info()
    except (OSError, ValueError, TypeError, FloatingPointError) as error:
        print(f"numrnn: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
