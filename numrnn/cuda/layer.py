"""One recurrent layer on the device: where its parameters lie, and what a pass over a stack of layers leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from numrnn.cuda.batches import Plan
from numrnn.direction import Direction, Dropout
from numrnn.kernels.cuda.recurrent import columns_of
from numrnn.kernels.cuda.steps import STEPS
from numrnn.parameters import Parameters

__all__ = ["DeviceLayer", "StackPass", "States", "no_mask", "whole_mask"]

# The states of each layer and direction: a device array and the element at which they begin in it, (n_sequences,
# n_states, size) in the caller's order of the sequences.
States = list[tuple[Any, int]]


@dataclass
class StackPass:
    """What one forward pass leaves behind.

    Attributes
    ----------
    output : device array
        (n_rows * output_size,), packed rows of the top layer.
    state : list of tuple of device arrays
        Final states; valid until the pass after the next one.
    """

    plan: Plan
    output: Any
    state: States
    inputs: list[Any]
    between: Dropout | None
    masks: dict[tuple[int, bool], tuple[Any, ...]]
    d_initial: States | None = None


class DeviceLayer:
    """One layer in one direction: sizes, and where its parameters lie in the flat vector.

    Parameters
    ----------
    direction : Direction
    names : Parameters
    prefix : str, default=""
        Of the names of the parameters.
    """

    def __init__(self, direction: Direction, names: Parameters, prefix: str = "") -> None:
        self.direction = direction
        self.key = direction.key
        self.cell = direction.cell
        self.input_size = direction.input_size
        self.size = direction.hidden_size
        self.gates = self.cell.n_gates * self.size
        self.slots = self.cell.n_slots * self.size
        # A GRU has gradients of its own for what comes from the hidden state.
        self.has_own_hidden = self.cell.n_slots > self.cell.n_gates
        self.column = self.size if direction.reverse else 0
        self.kernels = STEPS[self.cell.name]
        self.weight_ih = names.span(prefix + direction.weight_ih).start
        self.weight_hh = names.span(prefix + direction.weight_hh).start
        self.bias_ih = names.span(prefix + direction.bias_ih).start
        self.bias_hh = names.span(prefix + direction.bias_hh).start
        # Of weight_hh the first gate, the block of columns of its gradients, and how many follow in both.
        columns = columns_of(self.cell)[-len(self.cell.hidden_gates) :]
        self.hidden_runs: list[tuple[int, int, int]] = []
        for gate, column in sorted(zip(self.cell.hidden_gates, columns, strict=True)):
            if self.hidden_runs:
                first, block, count = self.hidden_runs[-1]
                if (gate, column) == (first + count, block + count):
                    self.hidden_runs[-1] = first, block, count + 1
                    continue
            self.hidden_runs.append((gate, column, 1))


def whole_mask(mask: tuple[Any, ...] | None, dtype: np.dtype) -> tuple[Any, ...]:
    return (False, *no_mask(dtype)) if mask is None else (True, *mask)


def no_mask(dtype: np.dtype) -> tuple[Any, ...]:
    return np.uint32(0), np.uint32(0), np.uint32(0), dtype.type(1)
