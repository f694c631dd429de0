"""Work that other programs do, ended after some time: pytest on a device, and compute-sanitizer."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["end", "run_tests", "sanitize"]

ROOT = Path(__file__).parent.parent
# Compiling takes most of the time of the tests, and one processor of each process.
_MOST_SHARDS = 8


def end(process: subprocess.Popen[Any]) -> None:
    """End a process that was started as the leader of a group, and all that it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run_tests(seconds: float, paths: Sequence[str] = ("tests/cuda",)) -> dict[str, Any]:
    """Tests, shared out among a few processes; what is not done after so many seconds is ended and named.

    Returns
    -------
    dict
        "verdict": "passed", "FAILED" or "not finished"; "counts" of outcomes; "failures" and "hanging", names of tests.
    """
    deadline = time.monotonic() + seconds
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no"]
    try:
        listed = subprocess.run(
            [*pytest, "--collect-only", "-q", *paths], cwd=ROOT, capture_output=True, text=True, check=False,
            timeout=seconds,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"verdict": "not finished", "counts": {}, "failures": [], "hanging": ["the collection of the tests"]}
    names = [line for line in listed.stdout.splitlines() if "::" in line]
    if listed.returncode or not names:
        return {"verdict": "FAILED", "counts": {}, "failures": [(listed.stdout + listed.stderr)[-1000:]], "hanging": []}
    n_shards = min(_MOST_SHARDS, os.cpu_count() or 1, len(names))
    found: dict[str, Any] = {"counts": {}, "failures": [], "hanging": []}
    shards: list[tuple[subprocess.Popen[str], Path]] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for number in range(n_shards):
                path = Path(folder) / str(number)
                with path.open("w", encoding="utf-8") as file:
                    command = [*pytest, "-v", "--tb=short", *names[number::n_shards]]
                    shards.append(
                        (subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, text=True,
                                          start_new_session=True), path)
                    )  # fmt: skip
            for process, _ in shards:
                try:
                    process.wait(max(deadline - time.monotonic(), 0.0))
                except subprocess.TimeoutExpired:
                    end(process)
        finally:
            for process, _ in shards:
                end(process)
        for process, path in shards:
            text = path.read_text(encoding="utf-8", errors="replace")
            _add_outcomes(found, text, process.returncode)
            if process.returncode > 0:
                print(text[-4000:])
    failed = found["failures"] or any(process.returncode > 0 for process, _ in shards)
    ended = any(process.returncode < 0 for process, _ in shards)
    return {"verdict": "FAILED" if failed else "not finished" if ended else "passed", **found}


def _add_outcomes(found: dict[str, Any], text: str, status: int) -> None:
    """Count the outcomes in what `pytest -v` has written, and name what failed and what was never done."""
    last = ""
    for line in text.splitlines():
        match = re.match(r"(\S.*::.*?)(?: (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b.*)?$", line)
        if match is None or line.startswith(("FAILED", "ERROR")):
            continue
        name, outcome = match.groups()
        last = "" if outcome else name.strip()
        if outcome:
            found["counts"][outcome.lower()] = found["counts"].get(outcome.lower(), 0) + 1
        if outcome in ("FAILED", "ERROR"):
            found["failures"].append(name)
    if status < 0:
        # What it did last, whether it was ended for taking too long or has died.
        found["hanging"].append(last or "between two tests")


def sanitize(seconds: float, dry: bool) -> str:
    """Layers under compute-sanitizer's memcheck."""
    tool = shutil.which("compute-sanitizer")
    if dry or tool is None:
        return "not in a dry run" if dry else "compute-sanitizer is not installed"
    command = [
        tool, "--tool", "memcheck", "--error-exitcode", "9", sys.executable, "-m", "benchmarks.gpu", "--only-layers",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"not finished within {seconds:.0f} s"
    finally:
        end(process)
    if process.returncode:
        print(output[-6000:])
        return f"FAILED with status {process.returncode}"
    return "clean"
