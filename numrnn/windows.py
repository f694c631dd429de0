"""Recurrent passes over windows of time, the state carried from each to the next.

A window of k time steps needs the memory of k time steps. Inference by windows computes what one pass computes.
Training by windows is truncated backpropagation through time [1]_: the state enters a window as a constant, and no
gradient flows back through it.

.. [1] Williams, R. J. and Peng, J. (1990). An efficient gradient-based algorithm for on-line training of recurrent
   network trajectories. Neural Computation 2, 490-501.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.packing import Sequences
from numrnn.parameters import Parameters
from numrnn.trunk import Trunk

__all__ = [
    "iterate_windows",
    "last_in_windows",
    "per_step_passes",
    "pooled_backward",
    "pooled_forward",
    "window_seed",
]


def iterate_windows(sequences: Sequences, steps: int) -> Iterator[tuple[int, Sequences]]:
    """The first step and the sequences of the windows [0, steps), [steps, 2 steps), ...; at least one."""
    for begin in range(0, max(sequences.max_length, 1), steps):
        yield begin, sequences.window(begin, begin + steps)


def window_seed(dropout_seed: int, begin: int) -> int:
    """The dropout seed of the window that begins at that time step, in any pass over it.

    Masks between layers are the window's own; those of the recurrent states, which the low bits choose, belong to the
    sequence and stay the same.
    """
    return dropout_seed % 2**32 + (begin << 32)


def last_in_windows(
    trunk: Trunk,
    parameters: Parameters,
    sequences: Sequences,
    steps: int,
    *,
    training: bool = False,
    dropout_seed: int = 0,
) -> Any:
    """The pass over the last window, with its `state` and its pooled `output` those of the whole sequences."""
    pass_: Any = None
    for begin, window in iterate_windows(sequences, steps):
        before = pass_
        pass_ = trunk.forward(
            parameters,
            window,
            state=None if before is None else before.state,
            pooling="last",
            training=training,
            dropout_seed=window_seed(dropout_seed, begin),
        )
        if before is not None:
            # With residual layers the output is more than the state, and belongs to the last step of a sequence.
            ended = window.lengths == 0
            pass_.output[ended] = before.output[ended]
    return pass_


def per_step_passes(
    trunk: Trunk,
    parameters: Parameters,
    sequences: Sequences,
    steps: int,
    *,
    training: bool = False,
    dropout_seed: int = 0,
) -> Iterator[tuple[NDArray[np.int64], int, Any]]:
    """Passes without pooling over all windows: rows of their time steps, sequence after sequence, and their seeds."""
    places = Sequences(sequences.values, np.cumsum(sequences.lengths) - sequences.lengths, sequences.lengths)
    pass_: Any = None
    for begin, window in iterate_windows(sequences, steps):
        seed = window_seed(dropout_seed, begin)
        state = None if pass_ is None else pass_.state
        pass_ = trunk.forward(parameters, window, state=state, training=training, dropout_seed=seed)
        yield places.window(begin, begin + steps).rows(), seed, pass_


def pooled_forward(
    trunk: Trunk,
    parameters: Parameters,
    sequences: Sequences,
    pooling: str | None,
    steps: int,
    *,
    training: bool = False,
    dropout_seed: int = 0,
) -> tuple[NDArray, NDArray | None]:
    """Outputs of the trunk pooled over whole sequences, from windows.

    Returns
    -------
    pooled : ndarray of shape (n_sequences, output_size)
        Without pooling (n_steps, output_size), sequence after sequence.
    winners : ndarray of int64, shape (n_sequences, output_size), or None
        For "max" the first time step of the window in which the maximum lies.

    Notes
    -----
    With "attention" the outputs of all time steps are kept; the adjoint is then that of no pooling.
    """
    if pooling == "last":
        last = last_in_windows(trunk, parameters, sequences, steps, training=training, dropout_seed=dropout_seed)
        return np.array(last.output), None
    if pooling is None:
        outputs = np.empty((sequences.n_steps, trunk.output_size), dtype=parameters.dtype)
        for rows, _, of_window in per_step_passes(
            trunk, parameters, sequences, steps, training=training, dropout_seed=dropout_seed
        ):
            outputs[rows] = of_window.output
        return outputs, None
    if pooling == "attention":
        outputs, _ = pooled_forward(trunk, parameters, sequences, None, steps)
        return trunk.attend(parameters, outputs, sequences.lengths).pooled, None
    shape = (len(sequences), trunk.output_size)
    total = np.zeros(shape, dtype=np.float64)
    winners = np.zeros(shape, dtype=np.int64)
    pass_: Any = None
    for begin, window in iterate_windows(sequences, steps):
        pass_ = trunk.forward(
            parameters,
            window,
            state=None if pass_ is None else pass_.state,
            pooling=pooling,
            training=training,
            dropout_seed=window_seed(dropout_seed, begin),
        )
        if pooling == "mean":
            total += pass_.output * window.lengths[:, None]
        else:
            better = (window.lengths > 0)[:, None] & ((begin == 0) | (pass_.output > total))
            np.copyto(total, pass_.output, where=better)
            winners[better] = begin
    if pooling == "mean":
        return (total / np.maximum(sequences.lengths, 1)[:, None]).astype(parameters.dtype), None
    return total.astype(parameters.dtype), winners


def pooled_backward(
    trunk: Trunk,
    parameters: Parameters,
    sequences: Sequences,
    pooling: str | None,
    steps: int,
    d_pooled: NDArray,
    winners: NDArray | None,
    gradient: Parameters,
    *,
    dropout_seed: int = 0,
    d_values: NDArray | None = None,
) -> None:
    """Add the truncated gradient of a loss of the pooled outputs ("mean", "max" or None), window by window.

    Parameters
    ----------
    d_pooled : ndarray of shape (n_sequences, output_size)
        Gradient of the loss with respect to what `pooled_forward` returned with the same arguments.
    winners : ndarray or None
        What `pooled_forward` returned.
    d_values : ndarray, default=None
        See `Trunk.backward`.
    """
    if pooling is None:
        for rows, _, of_window in per_step_passes(
            trunk, parameters, sequences, steps, training=True, dropout_seed=dropout_seed
        ):
            trunk.backward(of_window, parameters, d_pooled[rows], gradient, d_values=d_values)
        return
    pass_: Any = None
    for begin, window in iterate_windows(sequences, steps):
        pass_ = trunk.forward(
            parameters,
            window,
            state=None if pass_ is None else pass_.state,
            pooling=pooling,
            training=True,
            dropout_seed=window_seed(dropout_seed, begin),
        )
        if pooling == "mean":
            share = window.lengths / np.maximum(sequences.lengths, 1)
            d_window = d_pooled * share.astype(d_pooled.dtype)[:, None]
        else:
            d_window = np.where(winners == begin, d_pooled, d_pooled.dtype.type(0))
        trunk.backward(pass_, parameters, d_window, gradient, d_values=d_values)
