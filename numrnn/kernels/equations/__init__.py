"""The mathematics of the cells, and nothing else.

A cell is one file with two functions of values, which may be SIMD vectors or scalars:

``step(z, state)``
    From the pre-activations `z` of one unit and its previous states to the activated gates (what the gradient needs)
    and the new states. The hidden state is the first state.
``adjoint(gates, state, d_state)``
    From the activated gates, the previous states and the gradients of the new states to the gradients of the
    pre-activations and of the previous states, so far as these do not pass through the recurrent weights.

The pre-activations stand in slots. The product of the input with `weight_ih` fills the first slots, the product of the
previous hidden state with `weight_hh` adds to the last ones; where a slot belongs to both, they are summed. `CELLS`
says which gate of PyTorch's weights belongs to which slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

from numrnn.kernels.equations import gru, lstm, rnn_relu, rnn_tanh

__all__ = ["CELLS", "Cell"]


@dataclass(frozen=True)
class Cell:
    """What the loops over time need to know of a cell.

    Attributes
    ----------
    name : str
    equations : module
        Offers `step` and `adjoint`.
    n_gates : int
        Blocks of `hidden_size` rows in `weight_ih` and `weight_hh`.
    n_slots : int
        Pre-activations of one unit.
    n_states : int
        States of one unit, the hidden state first.
    input_gates : tuple of int
        The gates of `weight_ih` in the order of the slots they fill, which are the first ones.
    hidden_gates : tuple of int
        The gates of `weight_hh` in the order of the slots they add to, which are the last ones.
    forget_gate : int or None
        The gate whose bias starts at one, so that a new network remembers (Gers, Schmidhuber and Cummins, 2000).
    """

    name: str
    equations: ModuleType
    n_gates: int
    n_slots: int
    n_states: int
    input_gates: tuple[int, ...]
    hidden_gates: tuple[int, ...]
    forget_gate: int | None = None


CELLS = {
    cell.name: cell
    for cell in (
        Cell("rnn_tanh", rnn_tanh, 1, 1, 1, (0,), (0,)),
        Cell("rnn_relu", rnn_relu, 1, 1, 1, (0,), (0,)),
        Cell("lstm", lstm, 4, 4, 2, (0, 1, 2, 3), (0, 1, 2, 3), forget_gate=1),
        Cell("gru", gru, 3, 4, 1, (2, 0, 1), (0, 1, 2)),
    )
}
