"""Latency of one time step inside compiled code, and beside ONNX Runtime and PyTorch called from Python.

    python -m benchmarks.embedded

The step is called from an ``@njit`` loop, which reads the clock before and after every single call. Reading it takes
part of the time shown; how much is shown, too.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from benchmarks.peers.timing import Contestant, compare
from benchmarks.suite.embedded import SIZES, embedded_step_times
from benchmarks.suite.workloads import make_layer


def _from_python(layer: Any, cell: str, n_features: int) -> dict[str, float]:
    """Microseconds of a step called from Python: ours, and those of the libraries that are here."""
    x_t = np.random.default_rng(0).normal(size=(1, n_features)).astype(np.float32)
    stream = layer.stream()
    contestants = [Contestant("stream", lambda: stream.update(x_t[0]))]
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        from benchmarks.peers import onnx_runtime

        contestants.append(Contestant("ONNX Runtime", onnx_runtime.step(layer, cell, x_t, 1)))
    if importlib.util.find_spec("torch"):
        from benchmarks.peers import pytorch

        contestants += pytorch.contestants("PyTorch", pytorch.step(pytorch.torch_layer(layer, cell), x_t), (1,))
    return {name: 1e3 * t for name, t in compare(contestants, rounds=7, seconds=0.05).items()}


def main() -> None:
    print("microseconds per step, batch 1, float32")
    print(f"{'':16}{'from @njit':>12}{'99 %':>8}{'clock':>8}   called from Python")
    for cell in ("lstm", "gru"):
        for size in SIZES:
            layer = make_layer(cell, size, n_jobs=1)
            times, alone = embedded_step_times(layer, 200_000)
            median, slow, clock = np.median(times), np.percentile(times, 99), np.median(alone)
            others = ", ".join(f"{name} {t:.2f}" for name, t in _from_python(layer, cell, size.input_size).items())
            name = f"{cell} {size.input_size}, {size.hidden_size}"
            print(f"{name:16}{median / 1e3:12.2f}{slow / 1e3:8.2f}{clock / 1e3:8.2f}   {others}")


if __name__ == "__main__":
    main()
