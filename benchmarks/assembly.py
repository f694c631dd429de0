"""What the hot loops are made of, counted in the generated assembly: ``python -m benchmarks.assembly``.

One line for each innermost loop of a kernel: how many instructions, and how many of them are fused multiply-adds,
other vector arithmetic, divisions and reciprocal estimates, read memory, write memory. A tile of a product is good
if it has many multiply-adds for each read; a loop over units shows what the equations of a cell cost. It explains
times and is none: nothing here runs.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

__all__ = ["Loop", "innermost_loops", "kernels_of"]

CELLS = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
_LABEL = re.compile(r"^(\.?\w+):")
_X86_MEMORY = re.compile(r"\([^)]*%\w+[^)]*\)|\w+\(%rip\)")
_VECTOR = re.compile(r"%[xyz]mm|\bv\d+\.\d")


class Loop(NamedTuple):
    """Counts of instructions of one loop."""

    label: str
    instructions: int
    fma: int
    arithmetic: int
    divisions: int
    estimates: int
    reads: int
    writes: int


def _classify(line: str) -> tuple[str, bool, bool]:
    """The kind of one instruction (x86 in AT&T syntax, or AArch64), and whether it reads and writes memory."""
    name, _, operands = line.partition("\t")
    name = name.strip()
    memory = _X86_MEMORY.search(operands)
    reads = writes = False
    if memory and not name.startswith(("lea", "nop", "prefetch", "j")):
        # The target is the last operand; what is computed into memory does not occur in these loops.
        is_target = operands.rstrip().endswith(memory.group()) and operands.count(memory.group()) == 1
        writes = is_target and "mov" in name
        reads = not writes
    elif name.startswith(("ldr", "ldp", "ld1")):
        reads = True
    elif name.startswith(("str", "stp", "st1")):
        writes = True
    if name.startswith(("vfmadd", "vfnmadd", "vfmsub", "vfnmsub", "fmla", "fmls", "fmadd")):
        kind = "fma"
    elif name.startswith(("vdiv", "div", "fdiv")):
        kind = "divisions"
    elif name.startswith(("vrcp", "rcp", "frecpe")):
        kind = "estimates"
    elif _VECTOR.search(operands) and "mov" not in name and not name.startswith(("vbroadcast", "ld", "st", "dup")):
        kind = "arithmetic"
    else:
        kind = "other"
    return kind, reads, writes


def innermost_loops(assembly: str) -> Iterator[Loop]:
    """The loops of a function in which there is no other, in the order of the assembly.

    A loop is what lies between a label and a jump back to it.
    """
    lines = [line.split("#")[0].rstrip() for line in assembly.splitlines()]
    places = {match.group(1): at for at, line in enumerate(lines) if (match := _LABEL.match(line))}
    backward: dict[int, int] = {}
    for at, line in enumerate(lines):
        if re.match(r"\s+(j\w+|b\.?\w*|cbn?z|tbn?z)\s", line):
            start = places.get(line.split()[-1])
            if start is not None and start < at:
                backward[start] = max(at, backward.get(start, 0))
    for start, end in sorted(backward.items()):
        if any(start < other and backward[other] <= end for other in backward):
            continue
        counts = dict.fromkeys(("fma", "arithmetic", "divisions", "estimates", "other"), 0)
        reads = writes = instructions = 0
        for line in lines[start : end + 1]:
            text = line.strip()
            if not text or text.endswith(":") or text.startswith("."):
                continue
            kind, reading, writing = _classify(text)
            instructions += 1
            counts[kind] += 1
            reads += reading
            writes += writing
        label = _LABEL.match(lines[start])
        assert label is not None
        yield Loop(
            label.group(1),
            instructions,
            counts["fma"],
            counts["arithmetic"],
            counts["divisions"],
            counts["estimates"],
            reads,
            writes,
        )


def kernels_of(cell: str) -> dict[str, Any]:
    """The kernels of a layer of that cell, compiled in this process for float32."""
    import numpy as np

    import numrnn
    from numrnn.kernels.cpu import gradients, matmul
    from numrnn.kernels.cpu.recurrent import RECURRENT

    layer = getattr(numrnn, CELLS[cell])(8, 16, random_state=0, n_jobs=1)
    y, _ = layer.forward(np.zeros((8, 5, 8), dtype=np.float32), training=True)
    layer.backward(np.zeros_like(y))
    mine = RECURRENT["rnn_tanh" if cell == "rnn" else cell]
    return {
        f"forward, {cell}": mine.forward,
        f"backward, {cell}": mine.backward,
        "product": matmul.multiply_kernel,
        "weight gradients": gradients._add_products,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; see ``--help``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.assembly", description=__doc__)
    parser.add_argument("--cell", choices=sorted(CELLS), default="lstm")
    parser.add_argument("--least", type=int, default=4, metavar="FMA", help="leave out loops with fewer; default 4")
    parser.add_argument("--source", metavar="KERNEL", help="print the assembly of this kernel of the table instead")
    options = parser.parse_args(arguments)
    # Code that was loaded from the cache has no assembly: everything is compiled here.
    with tempfile.TemporaryDirectory() as cache:
        os.environ["NUMBA_CACHE_DIR"] = cache
        kernels = kernels_of(options.cell)
        assemblies = {name: next(iter(kernel.inspect_asm().values())) for name, kernel in kernels.items()}
    if options.source:
        if options.source not in assemblies:
            parser.error(f"KERNEL must be one of {', '.join(map(repr, assemblies))}, got {options.source!r}")
        print(assemblies[options.source])
        return 0
    print("| kernel | loop | instructions | fma | other vector arithmetic | div | rcp | reads | writes | fma / read |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, assembly in assemblies.items():
        for loop in innermost_loops(assembly):
            # Blocks of the kernel itself; those of the functions that it calls follow in the same text.
            if loop.fma >= options.least and not re.match(r"\.LBB[1-9]", loop.label):
                ratio = f"{loop.fma / loop.reads:.1f}" if loop.reads else ""
                print(f"| {name} | {' | '.join(map(str, loop))} | {ratio} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
