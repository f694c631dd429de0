"""On a machine with a CUDA device: check the kernels, time them against cuDNN, and write what was found.

    python -m benchmarks.gpu                checks and times everything, in under 8 minutes
    python -m benchmarks.gpu --sections errors layers    some of it; what an earlier run has found stays in the file
    python -m benchmarks.gpu --quick        fewer sizes
    python -m benchmarks.gpu --write-rule   also writes from which work on device="auto" takes the device
    python -m benchmarks.gpu --dry-run      the same steps with tiny shapes in Numba's simulator, without PyTorch

Every section is a process of its own with a time after which it is ended, for an illegal address leaves a process
without its device, and a kernel that never ends leaves it waiting. Whatever becomes of one, the others follow, and
benchmarks/results/gpu.json is written after each; the section of layers writes every shape, goes on after the one at
which it failed, and comes twice, first for some time and at the end for what is left. What kernels take to compile is
part of all these times. Nothing is downloaded.

Without PyTorch for CUDA the comparison with cuDNN is left out, and the result says so; so is that with FlashRNN.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if "--dry-run" in sys.argv:
    # Before Numba is imported, which the functions below do; processes started from here have it too.
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1"

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "gpu.json"
# Seconds for everything.
LIMIT = 460.0
# What comes after what, and the seconds that each may take of those that are left.
SECTIONS = (
    ("about", 40.0), ("errors", 100.0), ("floors", 40.0), ("layers", 140.0), ("fit", 90.0), ("tests", 120.0),
    ("graphs", 40.0), ("products", 30.0), ("pairs", 60.0), ("rule", 60.0), ("sanitizer", 70.0), ("layers", LIMIT),
)  # fmt: skip
# A process that begins with less than this left would not get beyond its imports.
_LEAST = 10.0


@dataclass
class Ended:
    """How a process that did a section has ended: "done", "failed: ..." or "ended after ... s"."""

    how: str
    found: Any


def write(path: Path, found: Any) -> None:
    """As JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(found, indent=1), encoding="utf-8")
    new.replace(path)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def work(name: str, options: argparse.Namespace, seconds: float, known: dict[str, Any], keep: Any) -> Any:
    """Do one section, in this process. `known` is what other sections have found; `keep` writes a part of a result."""
    from benchmarks import gpu_sections as sections

    dry = options.dry_run
    if name == "about":
        torch = None if dry else sections.find_torch()
        return sections.describe() | {"torch": None if torch is None else torch.__version__}
    if name == "errors":
        return sections.check_layers(dry)
    if name == "tests":
        from benchmarks.gpu_processes import run_tests

        return run_tests(seconds - 5.0, ("tests/cuda/test_cuda_layers.py",) if dry else ("tests/cuda",))
    if name == "sanitizer":
        from benchmarks.gpu_processes import sanitize

        return sanitize(seconds - 5.0, dry)
    if name == "floors":
        from benchmarks.gpu_floors import measure_floors
        from numrnn.kernels.cuda.arrays import new_queue

        return measure_floors(lambda call, queue: sections.event_seconds(call, queue, 5, dry), new_queue(), dry).plain()
    if name == "products":
        return sections.time_products(dry)
    if name == "fit":
        return sections.time_fit(None if dry else sections.find_torch(), dry)
    if name == "pairs":
        return sections.time_pairs(None if dry else sections.find_torch(), dry)
    if name == "graphs":
        from benchmarks.gpu_graphs import probe_graphs

        return probe_graphs(dry)
    if name == "rule":
        from benchmarks.gpu_rule import find_rule, write_rule

        found = find_rule(dry)
        if options.write_rule and not dry:
            found["file"] = write_rule(found, known["about"])
        return found
    assert name == "layers"
    from benchmarks.gpu_floors import Floors

    floors = Floors.of_plain(known["floors"]) if isinstance(known.get("floors"), dict) else None
    entries = known.get("layers") or []
    torch = None if dry else sections.find_torch()
    return sections.time_layers(torch, dry, options.quick, floors, entries, lambda: keep(entries))


def as_process(options: argparse.Namespace) -> int:
    """What a process does that was started for one section: write {"found": ..., "failed": ...}."""
    known = read(options.output)

    def keep(found: Any) -> None:
        write(options.part, {"found": found})

    try:
        found = work(options.section, options, options.seconds, known, keep)
    except Exception as error:
        traceback.print_exc()
        write(options.part, read(options.part) | {"failed": f"{type(error).__name__}: {error}"[:500]})
        return 1
    write(options.part, {"found": found})
    return 0


def in_process(name: str, options: argparse.Namespace, seconds: float) -> Ended:
    """Do a section in a process of its own, for so many seconds at the most."""
    from benchmarks.gpu_processes import end

    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.json"
        command = [sys.executable, "-m", "benchmarks.gpu", "--section", name, "--part", str(part)]
        command += ["--seconds", str(seconds), "--output", str(options.output.resolve())]
        for flag in ("dry_run", "quick", "write_rule"):
            command += [f"--{flag.replace('_', '-')}"] if getattr(options, flag) else []
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        try:
            status: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            end(process)
        result = read(part)
    how = "done"
    if status is None:
        how = f"ended after {seconds:.0f} s"
    elif status:
        how = f"failed: {result.get('failed', f'the process ended with status {status}')}"
    return Ended(how, result.get("found"))


def run(options: argparse.Namespace) -> int:
    """All sections, one after the other; the exit status says whether something failed."""
    begin = time.monotonic()
    results: dict[str, Any] = read(options.output) if options.sections and not options.dry_run else {}
    state: dict[str, str] = results.setdefault("sections", {})
    for name, most in SECTIONS:
        if options.sections and name not in ("about", *options.sections):
            continue
        if options.sections:
            # Some of it has all the time.
            most = options.limit
        if name == "layers" and not (options.sections and results.get("layers")):
            results.setdefault("layers", [])
        while True:
            left = options.limit - (time.monotonic() - begin)
            if left < _LEAST:
                state.setdefault(name, "no time was left")
                break
            before, started = len(results.get("layers") or []), time.monotonic()
            ended = in_process(name, options, min(most, left))
            state[name] = ended.how
            if ended.found is not None:
                results[name] = ended.found
            results["seconds"] = time.monotonic() - begin
            write(options.output, results)
            print(f"{name}: {ended.how}", "" if name == "layers" else ended.found, flush=True)
            most -= time.monotonic() - started
            # Layers go on after the shape that failed.
            if name != "layers" or not ended.how.startswith("failed") or len(results["layers"]) <= before:
                break
            if most < _LEAST:
                break
    return conclude(results, options)


def conclude(results: dict[str, Any], options: argparse.Namespace) -> int:
    """Say in a few lines what was found."""
    from benchmarks.gpu_summary import summary

    print(summary(results), flush=True)
    print(f"{results.get('seconds', 0.0):.0f} s; written to {options.output}")
    failed = [name for name, how in results["sections"].items() if how.startswith("failed")]
    failed += [f"layers: {entry}" for entry in results.get("layers") or [] if "failed" in entry]
    tests = results.get("tests")
    if isinstance(tests, dict) and tests["verdict"] == "FAILED":
        failed.append("tests")
    if str(results.get("sanitizer")).startswith("FAILED"):
        failed.append("sanitizer")
    if failed:
        print("FAILED:", *failed, sep="\n  ")
    return bool(failed)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write-rule", action="store_true", help="write what device='auto' goes by")
    parser.add_argument("--only-layers", action="store_true", help="check layers against the CPU, and nothing else")
    names = sorted({name for name, _ in SECTIONS})
    parser.add_argument("--sections", nargs="+", choices=names, metavar="NAME", help=f"some of {', '.join(names)}")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for everything; %(default).0f by default")
    parser.add_argument("--output", type=Path, help="the file of results")
    # Of the processes that this one starts.
    for hidden, kind in (("--section", str), ("--part", Path), ("--seconds", float)):
        parser.add_argument(hidden, type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.only_layers:
        from benchmarks.gpu_sections import check_layers

        print(check_layers(options.dry_run))
        return 0
    if options.section:
        return as_process(options)
    if not options.dry_run:
        from numrnn.kernels.cuda.availability import why_unavailable

        problem = why_unavailable()
        if problem is not None:
            print(f"there is nothing to measure: {problem}", file=sys.stderr)
            return 2
    # Somebody who ends this process ends what it has started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory() as folder:
        if options.output is None:
            options.output = Path(folder) / "gpu.json" if options.dry_run else RESULTS
        return run(options)


if __name__ == "__main__":
    sys.exit(main())
