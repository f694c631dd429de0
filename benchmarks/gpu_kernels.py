"""Compile every CUDA kernel for two generations of devices, without a device: registers, shared memory, spills.

    python -m benchmarks.gpu_kernels            the table, printed
    python -m benchmarks.gpu_kernels --write    and put into docs/gpu.md; with --only, the rows of these kernels alone
    python -m benchmarks.gpu_kernels --all      the recurrent kernels of every size of benchmarks/gpu.py

A kernel passes if it compiles, if none of its registers go to memory, and if it has no instruction of float64 where all
its numbers are float32. PTX is made by numba-cuda; machine code by the `ptxas` of the package nvidia-cuda-nvcc, or by
one on the path that is new enough for this PTX. Without one the table has no registers, and says so.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "gpu.md"
BEGIN, END = "<!-- kernels: begin -->", "<!-- kernels: end -->"
CAPABILITIES = ((8, 0), (9, 0))
# Multiprocessors and shared memory of a block: A100 and H100.
DEVICES = {(8, 0): (108, 162 * 1024), (9, 0): (132, 226 * 1024)}
CELLS = ("rnn_tanh", "lstm", "gru")

# Gradients of tables are summed in whole numbers of 64 bits, which float64 scales exactly.
MAY_USE_DOUBLE = ("embedding: scatter", "embedding: finish")


@dataclass
class Kernel:
    """What is compiled: a Python function, the types of its arguments, and the threads it is compiled for."""

    name: str
    function: Any
    types: tuple[Any, ...]
    threads: int | None = None
    dynamic: int = 0

    @property
    def is_single(self) -> bool:
        """Whether all its floating-point numbers are float32."""
        return "float64" not in str(self.types)


@dataclass
class Compiled:
    """What came out of it; -1 for what is not known."""

    kernel: Kernel
    capability: tuple[int, int]
    double: int
    registers: int = -1
    shared: int = -1
    spilled: int = -1

    @property
    def problem(self) -> str:
        if self.kernel.is_single and self.double and not self.kernel.name.startswith(MAY_USE_DOUBLE):
            return f"{self.double} float64 instructions"
        return f"{self.spilled} bytes spilled" if self.spilled > 0 else ""


def stand_in(capability: tuple[int, int]) -> None:
    """Typing of some of Numba's own functions asks for a device; here is one that only has a compute capability."""
    import numba.cuda.dispatcher as dispatcher

    class Device:
        compute_capability = capability

    dispatcher.get_current_device = lambda: Device


def surrounding_kernels() -> Iterator[Kernel]:
    """Those that the modules of kernels name with the types they are used with."""
    from numba.core import types

    import numrnn.kernels.cuda as package

    names = {
        "f4": types.float32, "f8": types.float64, "i4": types.int32, "i8": types.int64, "u4": types.uint32,
        "u8": types.uint64, "u1": types.uint8, "b1": types.boolean, "boolean": types.boolean,
    }  # fmt: skip

    def parse(text: Any) -> Any:
        if not isinstance(text, str):
            return text
        base, _, form = text.partition("[")
        return names[base] if not form else types.Array(names[base], form.count(":") - 1, "C")

    for module in pkgutil.iter_modules(package.__path__):
        examples = getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "examples", None)
        for name, compiled, arguments in examples() if examples else ():
            types_ = tuple(parse(argument) for argument in arguments)
            yield Kernel(f"{module.name}: {name.strip('_')}", compiled.py_func, types_)


def recurrent_kernels(capability: tuple[int, int], everything: bool) -> Iterator[Kernel]:
    """The recurrent kernels of every cell, as the rule chooses them."""
    from numrnn.kernels.cuda.geometry import Device, choose_geometry
    from numrnn.kernels.cuda.recurrent import kernel_function, kernel_types, register_budget

    sizes, batches = ((32, 64, 128, 256, 512, 1024), (1, 32, 128, 512)) if everything else ((32, 256), (1, 128))
    seen = set()
    for cell in CELLS:
        for dtype in ("float32", "float64"):
            for size in sizes if dtype == "float32" else sizes[:1]:
                for n in batches if dtype == "float32" else batches[-1:]:
                    for backward in (False, True):
                        device = Device(*DEVICES[capability], *register_budget(capability))
                        item = np.dtype(dtype).itemsize
                        choice = choose_geometry(cell, backward, size, item, n, 1, device)
                        key = cell, dtype, size, backward, choice and choice[0]
                        if choice is None or key in seen:
                            continue
                        seen.add(key)
                        function = kernel_function(cell, size, dtype, backward, choice[0])
                        yield Kernel(
                            f"recurrent: {function.__name__}", function, kernel_types(np.dtype(dtype), backward),
                            choice[0].threads, shared_bytes(cell, backward, item, *choice),
                        )  # fmt: skip


def shared_bytes(cell: str, backward: bool, item: int, geometry: Any, slice_size: int) -> int:
    """Of a launch of a recurrent kernel."""
    from numrnn.kernels.equations import CELLS

    of = CELLS[cell]
    return geometry.shared_size(slice_size, 1 if backward else of.n_gates, of.n_states, of.n_slots) * item


def find_ptxas() -> str | None:
    """An assembler: that of the package, which matches, before one on the path."""
    for folder in map(Path, sys.path):
        for path in sorted(folder.glob("nvidia/cu*/bin/ptxas")) + sorted(folder.glob("nvidia/cuda_nvcc/bin/ptxas")):
            return str(path)
    return shutil.which("ptxas")


def compile_kernel(kernel: Kernel, capability: tuple[int, int], ptxas: str | None) -> Compiled:
    """PTX, and if there is an assembler what it reports."""
    from numba import cuda

    bounds = None if kernel.threads is None else (kernel.threads, 1)
    ptx, _ = cuda.compile(
        kernel.function, kernel.types, cc=capability, output="ptx", abi="numba", device=False, launch_bounds=bounds
    )
    result = Compiled(kernel, capability, len(re.findall(r"\.f64\b", ptx)))
    # Arrays of fixed size are declared in the PTX, others are part of a launch.
    result.shared = kernel.dynamic + sum(map(int, re.findall(r"^\S*\s*\.shared .*\[(\d+)\];", ptx, re.MULTILINE)))
    if ptxas is None:
        return result
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx, encoding="utf-8")
        target = f"-arch=sm_{capability[0]}{capability[1]}"
        command = [ptxas, target, "-c", "-v", str(source), "-o", str(source.with_suffix(".cubin"))]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise RuntimeError(f"ptxas does not take {kernel.name}: {process.stderr[-1000:]}")
    report = process.stderr

    def largest(pattern: str) -> int:
        return max(map(int, re.findall(pattern, report)), default=0)

    result.registers = largest(r"Used (\d+) registers")
    result.spilled = largest(r"(\d+) bytes spill stores")
    return result


def table(results: list[Compiled]) -> str:
    """One line for each kernel, with the numbers of every capability."""
    heads = " | ".join(f"registers {a}.{b} | shared bytes | spilled bytes" for a, b in CAPABILITIES)
    lines = [f"| kernel | types | {heads} |", "|---|---|" + "---|" * (3 * len(CAPABILITIES))]
    rows: dict[tuple[str, str], dict[tuple[int, int], Compiled]] = {}
    for result in results:
        kind = "float32" if result.kernel.is_single else "float64"
        name = result.kernel.name
        key = name, kind
        extra = 2
        while result.capability in rows.get(key, {}):
            key = f"{name} ({extra})", kind
            extra += 1
        rows.setdefault(key, {})[result.capability] = result
    for (name, kind), of in rows.items():
        numbers = []
        for capability in CAPABILITIES:
            one = of.get(capability)
            numbers += ["", "", ""] if one is None else [str(one.registers), str(one.shared), str(one.spilled)]
        lines.append(f"| {name} | {kind} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def renewed(old: str, new: str, only: str) -> str:
    """A table with the rows of some kernels in the place of those it has, which may be other ones by now."""

    def place(line: str) -> tuple[bool, str]:
        # Recurrent kernels, whose names depend on the rule, come last; modules are in the order of their names.
        return "_float" in line, line[2:].partition(":")[0]

    lines = new.splitlines()
    rows = [line for line in old.strip().splitlines()[2:] if only not in line.partition(" |")[0]]
    return "\n".join([*lines[:2], *sorted(rows + lines[2:], key=place)])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/gpu.md")
    parser.add_argument("--all", action="store_true", help="recurrent kernels of all sizes of benchmarks/gpu.py")
    parser.add_argument("--only", default="", help="kernels whose name has this in it")
    options = parser.parse_args(arguments)
    ptxas = find_ptxas()
    results = []
    for capability in CAPABILITIES:
        stand_in(capability)
        for kernel in [*surrounding_kernels(), *recurrent_kernels(capability, options.all)]:
            if options.only in kernel.name:
                result = compile_kernel(kernel, capability, ptxas)
                results.append(result)
                numbers = f"{result.registers:4d} registers, {result.shared:6d} bytes shared"
                kind = "float32" if kernel.is_single else "float64"
                print(
                    f"{capability[0]}.{capability[1]}  {kernel.name:60s} {kind} {numbers}  {result.problem}", flush=True
                )
    if ptxas is None:
        print("no ptxas was found: registers, shared memory and spills are not known")
    text = table(results)
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        old, _, after = rest.partition(END)
        if options.only:
            text = renewed(old, text, options.only)
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
    failed = [result for result in results if result.problem]
    print(f"{len(results)} kernels compiled, {len(failed)} with a problem")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
