"""`numrnn show-versions`: what a report of an error should say of the machine and the packages."""

from __future__ import annotations

import argparse
import platform
from importlib import metadata
from typing import Any

from numrnn import __version__
from numrnn.commands.arguments import add_command
from numrnn.commands.tables import write_json

__all__ = ["add", "run", "versions"]

_PACKAGES = (
    "numpy",
    "numba",
    "llvmlite",
    "scipy",
    "scikit-learn",
    "safetensors",
    "matplotlib",
    "pandas",
    "pyarrow",
    "numba-cuda",
)
_EXAMPLES = """examples:
  numrnn show-versions
  numrnn show-versions --format json
"""


def add(commands: Any) -> None:
    """Add the command to those of the parser."""
    parser = add_command(
        commands, "show-versions", "print the versions, vector width, number of threads and CUDA device", _EXAMPLES
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="(default: %(default)s)")


def run(chosen: argparse.Namespace) -> int:
    """Do what the arguments say; the exit status."""
    result = versions()
    if chosen.format == "json":
        write_json(result)
    else:
        width = max(map(len, result)) + 2
        for name, value in result.items():
            print(f"{name:<{width}}{value}")
    return 0


def versions() -> dict[str, str]:
    """By name: the versions of packages, the machine, the width of vectors, the number of threads, the CUDA device."""
    from numrnn.kernels.cuda.availability import products, why_unavailable
    from numrnn.kernels.simd import VECTOR_BITS
    from numrnn.workers import effective_n_jobs

    return {
        "numrnn": __version__,
        "Python": platform.python_version(),
        **{package: _version_of(package) for package in _PACKAGES},
        "machine": f"{platform.machine()}, {platform.system()}",
        "vector width": f"{VECTOR_BITS} bits",
        "threads": str(effective_n_jobs(None)),
        "CUDA device": why_unavailable() or "there is one",
        "CUDA math": products(),
    }


def _version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
