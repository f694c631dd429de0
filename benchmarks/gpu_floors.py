"""What a device can do at best: bytes and operations in a second, and the shortest time step of a recurrence.

Measured on the device itself, in the same run as what is compared with it. The floor of a layer is the largest of
three times: its bytes at the bandwidth of a copy, its operations at the rate of independent multiply-adds, and its time
steps one after the other, each a barrier of one block and a chain of hidden_size / 32 multiply-adds (a warp shares a
dot product).
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda

__all__ = ["Floors", "fraction_of_floor", "measure_floors"]

_LANES = 32


@cuda.jit
def _copy(source, target):
    for i in range(cuda.grid(1), source.shape[0], cuda.gridsize(1)):
        target[i] = source[i]


@cuda.jit
def _multiply_adds(values, result, repeats):
    i = cuda.grid(1)
    x = values[i]
    a, b, c, d, e, f, g, h = x, x, x, x, x, x, x, x
    for _ in range(repeats):
        a, b, c, d = a * x + x, b * x + x, c * x + x, d * x + x
        e, f, g, h = e * x + x, f * x + x, g * x + x, h * x + x
    result[i] = a + b + c + d + e + f + g + h


@cuda.jit
def _steps(values, result, repeats, depth):
    i = cuda.threadIdx.x
    x = values[i]
    a = x
    for _ in range(repeats):
        for _ in range(depth):
            a = a * x + x
        cuda.syncthreads()
    result[i] = a


class Floors:
    """What was measured.

    Attributes
    ----------
    bytes_per_second, operations_per_second : float
    step_seconds : function of int
        Of a time step, by the hidden units.
    """

    def __init__(self, bandwidth: float, rate: float, barrier: float, chain: float) -> None:
        self.bytes_per_second = bandwidth
        self.operations_per_second = rate
        self._barrier, self._chain = barrier, chain

    def step_seconds(self, hidden_size: int) -> float:
        """A barrier, and a chain of hidden_size / 32 multiply-adds."""
        return self._barrier + self._chain * -(-hidden_size // _LANES)

    def plain(self) -> dict[str, float]:
        """For the file of results."""
        return {
            "bytes_per_second": self.bytes_per_second,
            "operations_per_second": self.operations_per_second,
            "barrier_seconds": self._barrier,
            "multiply_add_latency_seconds": self._chain,
        }

    @classmethod
    def of_plain(cls, numbers: dict[str, float]) -> Floors:
        """From what `plain` has written."""
        return cls(*numbers.values())


def measure_floors(seconds_of: Callable[[Callable[[], None], Any], float], queue: Any, dry: bool) -> Floors:
    """Measure on the device.

    Parameters
    ----------
    seconds_of : callable
        Median seconds of a call that launches on a queue.
    queue
    dry : bool
        Tiny sizes.
    """
    size = 64 if dry else 2**27
    source = cuda.to_device(np.full(size, 0.5, dtype=np.float32), stream=queue)
    target = cuda.device_array(size, np.float32)
    blocks, width = (2, 2) if dry else (1056, 256)
    copying = seconds_of(lambda: _copy[blocks, width, queue](source, target), queue)
    repeats = 2 if dry else 20_000
    computing = seconds_of(lambda: _multiply_adds[blocks, width, queue](source, target, repeats), queue)
    # The difference of two numbers of steps, and of two depths, leaves launches out.
    few, many, depth = (1, 3, 2) if dry else (1000, 11_000, 64)
    threads = 2 if dry else 128

    def walk(count: int, of_depth: int) -> float:
        return seconds_of(lambda: _steps[1, threads, queue](source, target, count, of_depth), queue)

    short = max(walk(many, 1) - walk(few, 1), 1e-12) / (many - few)
    deep = max(walk(many, depth) - walk(few, depth), 1e-12) / (many - few)
    chain = max(deep - short, 0.0) / (depth - 1)
    return Floors(8 * size / copying, 16.0 * blocks * width * repeats / computing, max(short - chain, 0.0), chain)


def fraction_of_floor(
    floors: Floors, seconds: float, n_gates: int, n: int, t: int, size: int, n_inputs: int, training: bool
) -> dict[str, float]:
    """Seconds of each floor of one layer in float32, and the share of the time taken that the highest of them is.

    In training the gates are written and read again, and there are three products of the size of one.
    """
    rows, weights = n * t, n_gates * size * (n_inputs + size)
    numbers = rows * (n_inputs + size) + weights
    operations = 2.0 * rows * weights
    if training:
        numbers = 2 * numbers + rows * (2 * n_gates + 2) * size
        operations *= 3
    found = {
        "bytes": 4.0 * numbers / floors.bytes_per_second,
        "operations": operations / floors.operations_per_second,
        "steps": (2 if training else 1) * t * floors.step_seconds(size),
    }
    return found | {"fraction": max(found.values()) / seconds}
