"""How much memory training on the device takes, known before it begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from numrnn.cuda.head import OUTPUT_BYTES
from numrnn.cuda.trunk import DeviceTrunk
from numrnn.network import Network
from numrnn.training.data import TrainingData, TrainingSource
from numrnn.training.solvers import Solver

__all__ = ["MemoryNeed", "check_memory", "memory_need"]

# Of what is free; the rest is for code, contexts and rounding to pages.
_USABLE = 0.9
# Tables of row numbers, int64.
_TABLES = 5


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that training needs.

    Attributes
    ----------
    parameters : int
        For parameters, gradient and what the solver remembers.
    step : int
        For each time step of a minibatch (of its window, with truncated backpropagation).
    whole_step : int
        For each time step of a minibatch, whatever the window.
    outputs : int
        For raw outputs and their gradient, and for the numbers under the kernels of convolutions.
    n_steps, n_whole_steps : int
        Time steps of the largest minibatch, in one window and altogether.
    data : int
        For the training set, if it stays on the device.
    """

    parameters: int
    step: int
    whole_step: int
    outputs: int
    n_steps: int
    n_whole_steps: int
    data: int

    @property
    def total(self) -> int:
        """Without the data, which can stay on the host."""
        return self.parameters + self.outputs + self.step * self.n_steps + self.whole_step * self.n_whole_steps


def memory_need(
    network: Network,
    data: TrainingSource,
    lengths: NDArray[np.int64],
    solver: Solver | None,
    batch_size: int,
    bptt_steps: int | None,
    stack_step_bytes: int,
    trunk: DeviceTrunk | None = None,
) -> MemoryNeed:
    """What training a network on this data needs.

    Parameters
    ----------
    network, data, solver, batch_size, bptt_steps
        As for the engine.
    lengths : ndarray of int64
        Of all sequences of which `batch_size` are in a minibatch.
    stack_step_bytes : int
        Bytes of the recurrent layers for a time step.
    trunk : DeviceTrunk, default=None
        Its convolutions run over whole sequences; None: there are none.
    """
    item = network.dtype.itemsize
    n_moments = 0 if solver is None else len(solver.moment_names)
    tables = () if network.trunk.embedding is None else network.trunk.embedding.tables
    parameters = network.n_parameters * (item * (2 + n_moments) + 1) + sum(8 * rows * size for _, rows, size in tables)
    size = network.stack.output_size
    # Inputs and their gradient, gradient of the outputs, features and their gradient.
    step = stack_step_bytes + item * (network.stack.input_size * (2 if tables else 1) + size) + 8 * _TABLES
    if network.pooling is None:
        step += item * size * (2 if network.output_dropout else 1)
    if network.loss_name == "crf":
        # Logits and their gradient, logarithms of probabilities.
        step += network.n_outputs * (2 * item + 8)
    whole_step = item * (3 * size + 2) if network.pooling == "attention" else 0
    lengths = np.sort(np.asarray(lengths))[::-1][:batch_size]
    patches = 0
    if trunk is not None and trunk.convolutions:
        whole_step += trunk.row_bytes(training=True) + item * size
        patches = trunk.patch_bytes(int(lengths.sum()))
    windows = lengths if bptt_steps is None else np.minimum(lengths, bptt_steps)
    n_rows = int(windows.sum()) if network.pooling is None else len(windows)
    at_once = n_rows * network.n_outputs * item * (1 if network.loss_name == "cross_entropy" else 2)
    return MemoryNeed(
        parameters=int(parameters),
        step=int(step),
        whole_step=int(whole_step),
        outputs=int(min(at_once, OUTPUT_BYTES)) + patches,
        n_steps=int(windows.sum()),
        n_whole_steps=int(lengths.sum()),
        data=_bytes_of(data),
    )


def _bytes_of(data: TrainingSource) -> int:
    if not isinstance(data, TrainingData):
        return 0
    weights = 0 if data.weights is None else data.weights.nbytes
    return int(data.sequences.values.nbytes + data.targets.nbytes + weights)


def check_memory(
    need_of: Callable[[int, int | None], MemoryNeed],
    free: float,
    longest: int,
    batch_size: int,
    bptt_steps: int | None,
    truncates: bool,
) -> MemoryNeed:
    """See that a minibatch fits; what it needs.

    Parameters
    ----------
    need_of : callable
        What training needs with a batch size and a number of steps of truncated backpropagation.
    free : float
        Bytes that are free on the device.
    longest : int
        Time steps of the longest sequence.
    batch_size, bptt_steps
        What they are.
    truncates : bool
        Whether `bptt_steps` could be (another) number.

    Raises
    ------
    MemoryError
        It says how much is needed, how much there is, and what would fit.
    """
    usable = free * _USABLE
    need = need_of(batch_size, bptt_steps)
    if need.total <= usable:
        return need
    remedies = []
    fitting = _largest(batch_size - 1, lambda size: need_of(size, bptt_steps).total <= usable)
    if fitting:
        remedies.append(f"batch_size={fitting}")
    shorter = min(longest, longest if bptt_steps is None else bptt_steps) - 1
    steps = _largest(shorter, lambda steps: need_of(batch_size, steps).total <= usable) if truncates else 0
    if steps:
        remedies.append(f"bptt_steps={steps}")
    advice = f"{' or '.join(remedies)} would fit" if remedies else "no batch_size would fit; use device='cpu'"
    raise MemoryError(
        f"training needs about {_readable(need.total)} on the CUDA device, but {_readable(usable)} are available: "
        f"{_readable(need.parameters)} for parameters and solver, {_readable(need.step)} for each of the "
        f"{need.n_steps} time steps that the largest minibatch has in memory at a time; {advice}"
    )


def _largest(limit: int, fits: Callable[[int], bool]) -> int:
    """The largest of 1, ..., limit that fits, if all below it do as well; 0 if none does."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _readable(n_bytes: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if abs(n_bytes) < 1024:
            return f"{n_bytes:.0f} {unit}" if unit == "bytes" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} GiB"
