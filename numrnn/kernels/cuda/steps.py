"""One time step of a recurrent layer on the device, for any size, and its adjoint.

Between steps the host launches the products with the recurrent weights. The equations are those of
`numrnn.kernels.equations`, for scalars.

Rows are packed: row ``first + n`` is the present step of the sequence at position n, for the `alive` first positions.
Units are in columns; one thread has one unit of one sequence.

===============  ==============================  ======================================================================
argument         shape                           meaning
===============  ==============================  ======================================================================
z_input          (n_rows, n_gates * size)        x @ weight_ih.T
z_hidden         (n_sequences, n_gates * size)   (masked h) @ weight_hh.T of the present step
parameters       flat                            with bias_ih from `bias_ih` on, bias_hh from `bias_hh` on
h, c             (n_sequences, size)             states by position; read and overwritten by the new ones
seen             (n_sequences, size)             written: the new h as the next recurrent product sees it
before_h, ...c   (n_rows, size)                  written: the states before the step
before_seen      (n_rows, size)                  written: what the recurrent product of the step saw
gates            (n_rows, n_slots * size)        written: activated gates
outputs          (n_rows, pitch)                 columns from `column` on are written: the new h
mask             seed, stream, threshold, scale  of dropout of the recurrent product's input, if `masked`
===============  ==============================  ======================================================================

A cell with one state ignores c and before_c.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from types import FunctionType
from typing import Any, NamedTuple

from numba import cuda

from numrnn.kernels.cuda.grids import device_function, kernel, matrix_grid
from numrnn.kernels.cuda.scalars import adjoint_of, masked, step_of
from numrnn.kernels.equations import CELLS

__all__ = ["STEPS", "Steps", "begin_seen", "mask_gradient"]

# Stand for the functions and numbers of a cell in `_forward` and `_backward`.
N_GATES = N_SLOTS = 0
join: Any = None
read_gates = part = read_states = write_states = masked_value = step = adjoint = join


# How the gates of PyTorch's weights and the slots of the equations belong together: one gate, four, or those of a GRU.
def _join_one(z_input, a, z_hidden, b, parameters, i, k, size):
    return (z_input[a] + z_hidden[b] + parameters[i] + parameters[k],)


def _join_four(z_input, a, z_hidden, b, parameters, i, k, size):
    two, three = 2 * size, 3 * size
    return (
        z_input[a] + z_hidden[b] + parameters[i] + parameters[k],
        z_input[a + size] + z_hidden[b + size] + parameters[i + size] + parameters[k + size],
        z_input[a + two] + z_hidden[b + two] + parameters[i + two] + parameters[k + two],
        z_input[a + three] + z_hidden[b + three] + parameters[i + three] + parameters[k + three],
    )


def _join_gru(z_input, a, z_hidden, b, parameters, i, k, size):
    two = 2 * size
    return (
        z_input[a + two] + parameters[i + two],
        z_input[a] + z_hidden[b] + parameters[i] + parameters[k],
        z_input[a + size] + z_hidden[b + size] + parameters[i + size] + parameters[k + size],
        z_hidden[b + two] + parameters[k + two],
    )


def _kept_one(gates, at, size):
    return (gates[at],)


def _kept_four(gates, at, size):
    return gates[at], gates[at + size], gates[at + 2 * size], gates[at + 3 * size]


def _part_one(d, d_input, d_hidden, at, size):
    d_input[at] = d[0]


def _part_four(d, d_input, d_hidden, at, size):
    for gate in range(4):
        d_input[at + gate * size] = d[gate]


def _part_gru(d, d_input, d_hidden, at, size):
    d_input[at] = d[1]
    d_input[at + size] = d[2]
    d_input[at + 2 * size] = d[0]
    d_hidden[at] = d[1]
    d_hidden[at + size] = d[2]
    d_hidden[at + 2 * size] = d[3]


def _states_one(h, c, at):
    return (h[at],)


def _states_two(h, c, at):
    return h[at], c[at]


def _write_one(h, c, at, state):
    h[at] = state[0]


def _write_two(h, c, at, state):
    h[at] = state[0]
    c[at] = state[1]


def _forward(
    z_input, z_hidden, parameters, bias_ih, bias_hh, first, alive, size, order, h, c, seen, before_h, before_c,
    before_seen, gates, outputs, pitch, column, masked, seed, stream, threshold, scale,
):  # fmt: skip
    begin = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for n in range(begin, alive, cuda.gridDim.x * cuda.blockDim.y):
        row = first + n
        for j in range(cuda.threadIdx.x, size, cuda.blockDim.x):
            here, there = n * size + j, row * size + j
            z = join(
                z_input, row * N_GATES * size + j, z_hidden, n * N_GATES * size + j, parameters, bias_ih + j,
                bias_hh + j, size,
            )  # fmt: skip
            state = read_states(h, c, here)
            write_states(before_h, before_c, there, state)
            if masked:
                before_seen[there] = seen[here]
            kept, new = step(z, state)
            for slot in range(N_SLOTS):
                gates[row * N_SLOTS * size + slot * size + j] = kept[slot]
            write_states(h, c, here, new)
            outputs[row * pitch + column + j] = new[0]
            if masked:
                seen[here] = masked_value(new[0], seed, stream, threshold, scale, order[n], j)


def _backward(gates, before_h, before_c, d_outputs, pitch, column, first, alive, size, d_h, d_c, d_input, d_hidden):
    begin = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for n in range(begin, alive, cuda.gridDim.x * cuda.blockDim.y):
        row = first + n
        for j in range(cuda.threadIdx.x, size, cuda.blockDim.x):
            here, there = n * size + j, row * size + j
            d_h[here] += d_outputs[row * pitch + column + j]
            kept = read_gates(gates, row * N_SLOTS * size + j, size)
            d, d_before = adjoint(kept, read_states(before_h, before_c, there), read_states(d_h, d_c, here))
            part(d, d_input, d_hidden, row * N_GATES * size + j, size)
            write_states(d_h, d_c, here, d_before)


@kernel
def _begin_seen(h, seen, n_sequences, size, order, seed, stream, threshold, scale):
    begin = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for n in range(begin, n_sequences, cuda.gridDim.x * cuda.blockDim.y):
        for j in range(cuda.threadIdx.x, size, cuda.blockDim.x):
            seen[n * size + j] = masked(h[n * size + j], seed, stream, threshold, scale, order[n], j)


def begin_seen(queue, h, seen, n_sequences, size, order, seed, stream, threshold, scale):
    """What the first recurrent product sees of the states."""
    _begin_seen[*matrix_grid(n_sequences), queue](h, seen, n_sequences, size, order, seed, stream, threshold, scale)


@kernel
def _mask_gradient(d_seen, d_h, alive, size, order, seed, stream, threshold, scale):
    begin = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for n in range(begin, alive, cuda.gridDim.x * cuda.blockDim.y):
        for j in range(cuda.threadIdx.x, size, cuda.blockDim.x):
            d_h[n * size + j] += masked(d_seen[n * size + j], seed, stream, threshold, scale, order[n], j)


def mask_gradient(queue, d_seen, d_h, alive, size, order, seed, stream, threshold, scale):
    """d_h += mask * d_seen."""
    _mask_gradient[*matrix_grid(alive), queue](d_seen, d_h, alive, size, order, seed, stream, threshold, scale)


class Steps(NamedTuple):
    """The kernels of a cell. Both are launched with the grid of a matrix of `alive` rows."""

    forward: Any
    backward: Any

    def go_forward(self, queue, alive, *arguments):
        """One time step."""
        self.forward[*matrix_grid(alive), queue](*arguments)

    def go_backward(self, queue, alive, *arguments):
        """Its adjoint."""
        self.backward[*matrix_grid(alive), queue](*arguments)


def _steps_of(name: str) -> Steps:
    cell = CELLS[name]
    join, kept, part = {1: (_join_one, _kept_one, _part_one), 4: (_join_four, _kept_four, _part_four)}.get(
        cell.n_gates, (_join_gru, _kept_four, _part_gru)
    )
    states = (_states_one, _write_one) if cell.n_states == 1 else (_states_two, _write_two)
    names = {
        "N_GATES": cell.n_gates,
        "N_SLOTS": cell.n_slots,
        "join": device_function(join),
        "read_gates": device_function(kept),
        "part": device_function(part),
        "read_states": device_function(states[0]),
        "write_states": device_function(states[1]),
        "masked_value": masked,
        "step": step_of(cell),
        "adjoint": adjoint_of(cell),
    }

    def made(function: FunctionType) -> Any:
        copy = FunctionType(function.__code__, {**function.__globals__, **names}, f"{function.__name__}_{name}")
        copy.__module__ = function.__module__
        return kernel(copy)

    return Steps(made(_forward), made(_backward))


STEPS = {name: _steps_of(name) for name in CELLS}


def examples():
    """The kernels of this file with the types of their arguments."""
    for real in ("f4", "f8"):
        array, mask = f"{real}[::1]", ("u4", "u4", "u4", real)
        for name, steps in STEPS.items():
            numbers = ("i8",) * 5
            forward = (array, array, array, *numbers, "i8[::1]", *(array,) * 8, "i8", "i8", "b1", *mask)
            yield f"step of {name}", steps.forward, forward
            yield f"step back of {name}", steps.backward, (*(array,) * 4, *numbers, *(array,) * 4)
        yield "begin_seen", _begin_seen, (array, array, "i8", "i8", "i8[::1]", *mask)
        yield "mask_gradient", _mask_gradient, (array, array, "i8", "i8", "i8[::1]", *mask)
