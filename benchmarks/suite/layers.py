"""Layers: forward, forward and backward, one step. Arrays in, arrays out, so that a GPU's copies count, too."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np

from .machine import fma_peak
from .workloads import (
    CELLS,
    DEVICES,
    GRID,
    Size,
    few,
    flops,
    make_input,
    make_layer,
    ragged_lengths,
    skip_without_engine,
)

_SIZES = few([str(size) for size in GRID])
_BIG_SIZES = few(["(1, 100, 64, 64)", "(32, 100, 128, 128)", "(64, 50, 256, 256)"])
_DEVICES = few(DEVICES)
_CELLS = few(CELLS)


class _Layer:
    """A layer and its input; the first calls compile."""

    timeout = 300.0

    def _prepare(self, device: str, cell: str, size: str, **options: Any) -> None:
        skip_without_engine(device)
        self.size = Size.parse(size)
        self.layer = make_layer(cell, self.size, device=device, **options)
        self.x = make_input(self.size)
        self.d_y = np.ones((*self.size[:2], self.size.hidden_size), dtype=np.float32)

    def _train(self, lengths: Any = None) -> None:
        self.layer.forward(self.x, lengths=lengths, training=True)
        self.layer.backward(self.d_y)


class Forward(_Layer):
    """Inference."""

    params = (DEVICES, CELLS, _SIZES)
    param_names = ("device", "cell", "(N, T, D, H)")

    def setup(self, device: str, cell: str, size: str) -> None:
        self._prepare(device, cell, size)
        self.layer.forward(self.x)

    def time_forward(self, device: str, cell: str, size: str) -> None:
        self.layer.forward(self.x)


class ForwardBackward(_Layer):
    """What one update of training costs, without the solver."""

    params = (_DEVICES, _CELLS, _SIZES)
    param_names = ("device", "cell", "(N, T, D, H)")

    def setup(self, device: str, cell: str, size: str) -> None:
        self._prepare(device, cell, size)
        self._train()

    def time_forward_backward(self, device: str, cell: str, size: str) -> None:
        self._train()


class Narrow(_Layer):
    """Products in bfloat16."""

    params = (_CELLS, _BIG_SIZES)
    param_names = ("cell", "(N, T, D, H)")

    def setup(self, cell: str, size: str) -> None:
        self._prepare("cpu", cell, size, matmul_precision="bfloat16")
        self._train()
        self.layer.forward(self.x)

    def time_forward(self, cell: str, size: str) -> None:
        self.layer.forward(self.x)

    def time_forward_backward(self, cell: str, size: str) -> None:
        self._train()


class Ragged(_Layer):
    """Lengths uniform in [T / 10, T], one and two directions."""

    params = (_DEVICES, (False, True), few(["(32, 100, 16, 64)", "(32, 100, 128, 128)", "(64, 50, 256, 256)"]))
    param_names = ("device", "bidirectional", "(N, T, D, H)")

    def setup(self, device: str, bidirectional: bool, size: str) -> None:
        self._prepare(device, "lstm", size)
        self.lengths = ragged_lengths(self.size)
        self.layer = make_layer("lstm", self.size, device=device, bidirectional=bidirectional)
        self.d_y = np.repeat(self.d_y, 1 + bidirectional, axis=2)
        self._train(self.lengths)
        self.layer.forward(self.x, lengths=self.lengths)

    def time_forward(self, device: str, bidirectional: bool, size: str) -> None:
        self.layer.forward(self.x, lengths=self.lengths)

    def time_forward_backward(self, device: str, bidirectional: bool, size: str) -> None:
        self._train(self.lengths)


class Step(_Layer):
    """One time step of streams, called from Python."""

    params = (_DEVICES, _CELLS, few(["(1, 1, 16, 32)", "(1, 1, 128, 128)", "(16, 1, 16, 32)"]))
    param_names = ("device", "cell", "(N, T, D, H)")

    def setup(self, device: str, cell: str, size: str) -> None:
        self._prepare(device, cell, size)
        self.x_t = self.x[:, 0].copy()
        _, self.state = self.layer.step(self.x_t)

    def time_step(self, device: str, cell: str, size: str) -> None:
        self.layer.step(self.x_t, self.state)


class Throughput(_Layer):
    """Rates of one layer; the peak is that of fused multiply-adds in registers, measured on this machine."""

    params = (_DEVICES, _CELLS, _BIG_SIZES, ("forward", "forward_backward"))
    param_names = ("device", "cell", "(N, T, D, H)", "mode")

    def setup_cache(self) -> float:
        return fma_peak()

    def setup(self, peak: float, device: str, cell: str, size: str, mode: str) -> None:
        self._prepare(device, cell, size)
        training = mode == "forward_backward"
        run = self._train if training else lambda: self.layer.forward(self.x)
        run()
        times = []
        begin = perf_counter()
        while len(times) < 5 or perf_counter() - begin < 0.1:
            start = perf_counter()
            run()
            times.append(perf_counter() - start)
        self.seconds = float(np.median(times))
        self.flops = flops(cell, self.size, training=training)

    def track_sequences_per_second(self, peak: float, device: str, cell: str, size: str, mode: str) -> float:
        return self.size.n_sequences / self.seconds

    def track_gflops(self, peak: float, device: str, cell: str, size: str, mode: str) -> float:
        return self.flops / self.seconds / 1e9

    def track_fraction_of_peak(self, peak: float, device: str, cell: str, size: str, mode: str) -> float:
        if device != "cpu":
            raise NotImplementedError("the peak is measured on the CPU alone")
        return self.flops / self.seconds / 1e9 / peak

    track_sequences_per_second.unit = "sequences/s"  # type: ignore[attr-defined]
    track_gflops.unit = "GFLOP/s"  # type: ignore[attr-defined]
    track_fraction_of_peak.unit = "of the FMA peak"  # type: ignore[attr-defined]


def track_fma_peak() -> float:
    """What the fractions are of."""
    return fma_peak()


track_fma_peak.unit = "GFLOP/s"  # type: ignore[attr-defined]
