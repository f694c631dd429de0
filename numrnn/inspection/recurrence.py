"""Recurrent layers one at a time and in one direction at a time, so that everything inside them can be seen.

The engine of the package keeps no more than training needs. Here a layer in one direction is a stack of its own, with
the parameters of that layer by other names; a reverse direction is a forward one over reversed sequences. Rows of time
steps are always in sequence order, one sequence after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numrnn.packing import Sequences
from numrnn.stack import RecurrentStack
from numrnn.windows import iterate_windows
from numrnn.workers import Workers

__all__ = ["GATES", "OneDirection", "Recurrence", "Trace", "chunks", "euclidean_norm", "starts_of"]

# Gates by name, and the slot in which the kernels keep the activated gate.
GATES: dict[str, dict[str, int]] = {
    "lstm": {"input": 0, "forget": 1, "candidate": 2, "output": 3},
    "gru": {"reset": 1, "update": 2, "candidate": 0},
}

# What is kept of the time steps of one window, and of the sequences that are looked at together, stays near these.
_WINDOW_BYTES = 2**25
_CHUNK_BYTES = 2**27


def starts_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first row of each sequence."""
    return np.cumsum(lengths) - lengths


def chunks(lengths: NDArray[np.int64], bytes_per_step: int) -> Iterator[slice]:
    """Consecutive sequences whose time steps fit into a bounded memory together; at least one."""
    limit = max(_CHUNK_BYTES // bytes_per_step, 1)
    ends = np.cumsum(lengths)
    begin = 0
    while begin < len(lengths):
        done = ends[begin - 1] if begin else 0
        end = max(int(np.searchsorted(ends, done + limit, side="right")), begin + 1)
        yield slice(begin, end)
        begin = end


def euclidean_norm(rows: NDArray) -> NDArray[np.float64]:
    """Norm of each row; the squares of very small and very large numbers neither vanish nor overflow."""
    largest = np.abs(rows).max(axis=1, initial=0.0)
    scale = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
    return scale * np.sqrt(np.square(rows / scale[:, None]).sum(axis=1))


@dataclass
class Trace:
    """States after every time step, each (n_steps, hidden_size), and the gates that made them."""

    hidden: NDArray
    cell: NDArray | None = None
    gates: dict[str, NDArray] = field(default_factory=dict)

    @property
    def states(self) -> list[NDArray]:
        return [self.hidden] if self.cell is None else [self.hidden, self.cell]


class OneDirection:
    """One layer in one direction.

    Parameters
    ----------
    cell : str
    input_size, hidden_size : int
    reverse : bool
    parameters : mapping of str to ndarray
        By the names of a stack of this layer alone.
    dtype : dtype
    workers : Workers or None
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        reverse: bool,
        parameters: Mapping[str, NDArray],
        dtype: np.dtype,
        workers: Workers | None,
    ) -> None:
        self.cell = cell
        self.hidden_size = hidden_size
        self.reverse = reverse
        self.parameters = parameters
        self.stack = RecurrentStack(cell, input_size, (hidden_size,), dtype=dtype, workers=workers)
        self.dtype = dtype

    def _reversed_rows(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of sequences that are walked from their ends; the same table leads back."""
        last = np.repeat(starts_of(lengths) + lengths - 1, lengths)
        step = np.arange(len(last)) - np.repeat(starts_of(lengths), lengths)
        return last - step

    def _window_steps(self, n_sequences: int) -> int:
        by_step = (self.stack.cell.n_slots + 2 * self.stack.n_states + 1) * self.hidden_size + self.stack.input_size
        return max(_WINDOW_BYTES // (by_step * self.dtype.itemsize * n_sequences), 1)

    def trace(self, values: NDArray, lengths: NDArray[np.int64], *, states: bool, gates: bool = False) -> Trace:
        """Walk the sequences.

        Parameters
        ----------
        values : ndarray of shape (n_steps, input_size)
        lengths : ndarray of int64, shape (n_sequences,)
        states : bool
            Whether to keep the cell states too.
        gates : bool, default=False
            Whether to keep the gates.
        """
        order = self._reversed_rows(lengths) if self.reverse else None
        sequences = Sequences(values if order is None else values[order], starts_of(lengths), lengths)
        shape = (len(values), self.hidden_size)
        trace = Trace(np.empty(shape, dtype=self.dtype))
        training = gates or (states and self.stack.n_states == 2)
        if not training:
            self._forward(sequences, None, trace.hidden, training=False)
        else:
            if self.stack.n_states == 2:
                trace.cell = np.empty(shape, dtype=self.dtype)
            if gates:
                trace.gates = {name: np.empty(shape, dtype=self.dtype) for name in GATES[self.cell]}
            state = None
            for _, window in iterate_windows(sequences, self._window_steps(len(lengths))):
                run = self._forward(window, state, trace.hidden, training=True)
                self._keep(run, window, trace)
                run.lease.release()
                state = run.state
        if order is not None:
            trace.hidden = trace.hidden[order]
            trace.cell = None if trace.cell is None else trace.cell[order]
            trace.gates = {name: gate[order] for name, gate in trace.gates.items()}
        return trace

    def _forward(self, window: Sequences, state: Any, hidden: NDArray, *, training: bool) -> Any:
        return self.stack.forward(
            self.parameters, window, state=state, training=training, output=hidden, output_starts=window.starts
        )

    def _keep(self, run: Any, window: Sequences, trace: Trace) -> None:
        """Copy what the kernels keep for the backward pass: the activated gates, and the states before each step."""
        packing, kept = run.packing, run.directions[0]
        rows = packing.rows(window.starts)
        if trace.cell is not None:
            before = kept.previous.reshape(len(rows), self.stack.n_states, -1)[:, 1, : self.hidden_size]
            first = packing.offsets[1] if packing.n_timesteps else 0
            trace.cell[rows[first:] - 1] = before[first:]
            alive = window.lengths > 0
            trace.cell[(window.starts + window.lengths - 1)[alive]] = run.state[0][1][alive]
        slots = kept.saved.reshape(len(rows), self.stack.cell.n_slots, -1)
        for name, gate in trace.gates.items():
            gate[rows] = slots[:, GATES[self.cell][name], : self.hidden_size]

    def backward(
        self,
        values: NDArray,
        lengths: NDArray[np.int64],
        trace: Trace,
        d_hidden: NDArray,
        norms: Mapping[str, NDArray] | None = None,
    ) -> NDArray:
        """Back through time.

        Parameters
        ----------
        values, lengths
            As for `trace`.
        trace : Trace
            With states, and with gates if the norms of the cell states are wanted.
        d_hidden : ndarray of shape (n_steps, hidden_size)
            Gradient of the hidden states, so far as it does not come through this layer in this direction.
        norms : mapping of str to ndarray of float64, shape (n_steps,), default=None
            By the name of a state ("hidden", "cell"): where to write the norm of the whole gradient of that state.

        Returns
        -------
        d_values : ndarray of shape (n_steps, input_size)
        """
        if self.reverse:
            order = self._reversed_rows(lengths)
            values, d_hidden = values[order], d_hidden[order]
            states = [state[order] for state in trace.states]
        else:
            order, states = None, trace.states
        sequences = Sequences(values, starts_of(lengths), lengths)
        d_values = np.empty(values.shape, dtype=self.dtype)
        d_state = np.zeros((len(states), len(lengths), self.hidden_size), dtype=self.dtype)
        gradient = {name: np.zeros_like(array) for name, array in self.parameters.items()}
        # The gradient of every single state is known where a window begins.
        steps = 1 if norms else self._window_steps(len(lengths))
        for begin in reversed(range(0, sequences.max_length, steps)):
            window = sequences.window(begin, begin + steps)
            alive = np.flatnonzero(window.lengths)
            window = window.take(alive)
            before = None if begin == 0 else [np.stack([state[window.starts - 1] for state in states])]
            run = self.stack.forward(self.parameters, window, state=before, training=True)
            rows = window.rows()
            d_window, d_final = np.ascontiguousarray(d_hidden[rows]), d_state[:, alive]
            if norms:
                originals = rows if order is None else order[rows]
                self._add_norms(norms, originals, trace, d_window + d_final[0], d_final[1:])
            d_input, d_initial = self.stack.backward(
                run, self.parameters, d_window, gradient, d_state=[d_final], need_input=True
            )
            d_values[rows] = d_input
            d_state[:, alive] = d_initial[0]
        return d_values if order is None else d_values[order]

    def _add_norms(
        self, norms: Mapping[str, NDArray], rows: NDArray, trace: Trace, d_hidden: NDArray, d_rest: NDArray
    ) -> None:
        if "hidden" in norms:
            norms["hidden"][rows] = euclidean_norm(d_hidden)
        if "cell" in norms:
            assert trace.cell is not None
            # The cell state also acts through the hidden state of its own time step, h = o tanh(c).
            slope = trace.gates["output"][rows] * (1 - np.tanh(trace.cell[rows]) ** 2)
            norms["cell"][rows] = euclidean_norm(d_rest[0] + d_hidden * slope)


class Recurrence:
    """The recurrent layers of a model, one by one.

    Parameters
    ----------
    stack : RecurrentStack
        Which layers there are.
    parameters : mapping of str to ndarray
    dtype : dtype
        In which to compute.
    """

    def __init__(self, stack: RecurrentStack, parameters: Mapping[str, NDArray], dtype: DTypeLike) -> None:
        self.cell = stack.cell.name
        self.hidden_sizes = stack.hidden_sizes
        self.n_directions = stack.n_directions
        self.is_residual = stack.is_residual
        self.dtype = np.dtype(dtype)
        self.layers: list[list[OneDirection]] = []
        size = stack.input_size
        for number, hidden_size in enumerate(self.hidden_sizes):
            layer = []
            for reverse in (False, True)[: self.n_directions]:
                suffix = f"_l{number}" + ("_reverse" if reverse else "")
                names = RecurrentStack(self.cell, size, (hidden_size,), workers=stack.workers).parameter_shapes()
                mine = {
                    name: np.ascontiguousarray(parameters[name.replace("_l0", suffix)], dtype=self.dtype)
                    for name in names
                }
                layer.append(OneDirection(self.cell, size, hidden_size, reverse, mine, self.dtype, stack.workers))
            self.layers.append(layer)
            size = hidden_size * self.n_directions

    @property
    def bytes_per_step(self) -> int:
        """Memory of one time step with all states and gates of all layers, about."""
        return 8 * self.dtype.itemsize * sum(self.hidden_sizes) * self.n_directions

    def outputs(self, number: int, traces: list[Trace], inputs: NDArray) -> NDArray:
        """The outputs of a layer, which are the inputs of the next: the hidden states of its directions, joined."""
        hidden = traces[0].hidden if len(traces) == 1 else np.concatenate([trace.hidden for trace in traces], axis=1)
        return hidden + inputs if self.is_residual(number) else hidden

    def columns(self, number: int, direction: int) -> slice:
        """Where the units of a direction are in the outputs of a layer."""
        size = self.hidden_sizes[number]
        return slice(direction * size, (direction + 1) * size)
