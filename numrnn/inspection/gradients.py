"""How far gradients reach back in time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_consistent_length

from numrnn.checks import finite_array
from numrnn.inspection.differentiation import Differentiation, back_through_layers, through_layers
from numrnn.inspection.models import Container, check_direction, is_layer, prepared, recurrence_of
from numrnn.inspection.recurrence import Recurrence, chunks, euclidean_norm
from numrnn.packing import Sequences
from numrnn.reading import plain_array

__all__ = ["gradient_norms"]


def gradient_norms(model: Any, X: Any, y: Any, *, state: str = "hidden", direction: str | None = None) -> Any:
    r"""Norm of the gradient of the loss by the states of every time step and layer.

    Over a sequence with one target at its end, a norm that falls towards the first time steps is a vanishing gradient,
    one that grows an exploding one [1]_ [2]_. The gradient is the whole derivative, through this time step's outputs
    and through all time steps that follow: :math:`\partial L / \partial h_t`, or
    :math:`\partial L / \partial c_t` where the new cell state acts through the hidden state of its time step too.

    Parameters
    ----------
    model : fitted estimator, or RNN, LSTM or GRU
    X : array-like or list of arrays
        Sequences as the model takes them; for a layer also a list of arrays (n_timesteps_i, input_size).
    y : array-like
        The targets, as for `fit`; every sequence has its own loss, without weights and penalty. For a layer the
        gradient of its outputs in the container of X: an array (n_sequences, n_timesteps, n_units) or a list.
    state : {"hidden", "cell"}, default="hidden"
        The states to take the gradient by; only an LSTM has cell states.
    direction : {"forward", "reverse"} or None, default=None
        Of a bidirectional model the units of one direction; None is the norm over the units of both.

    Returns
    -------
    norms : ndarray of float64, shape (n_samples, n_timesteps, n_layers), or list of arrays (n_timesteps_i, n_layers)
        A list if X is one. Layers are counted from the input. Computed in float64 whatever the type of the model, since
        small gradients are the point.

    Raises
    ------
    ValueError
        If X or y is not what the model takes, there is no such direction, or `state` is "cell" and there is none.
    TypeError
        If the model is neither an estimator of this package nor a layer.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    Notes
    -----
    The backward pass goes one time step at a time, and is slower than in training.

    References
    ----------
    .. [1] Bengio, Y., Simard, P. and Frasconi, P. (1994). Learning long-term dependencies with gradient descent is
       difficult. IEEE Transactions on Neural Networks 5, 157-166.
    .. [2] Pascanu, R., Mikolov, T. and Bengio, Y. (2013). On the difficulty of training recurrent neural networks.
       ICML.

    Examples
    --------
    A simple recurrent network forgets what a forget gate near one keeps:

    >>> import numpy as np
    >>> from numrnn import LSTM, RNN
    >>> from numrnn.inspection import gradient_norms
    >>> X = np.random.RandomState(0).standard_normal((1, 100, 2))
    >>> d_y = np.zeros((1, 100, 8))
    >>> d_y[:, -1] = 1  # the loss is the sum of the last outputs
    >>> lstm, rnn = LSTM(2, 8, random_state=0), RNN(2, 8, random_state=0)
    >>> lstm.parameters["bias_ih_l0"][8:16] = 5
    >>> for layer in (lstm, rnn):
    ...     norms = gradient_norms(layer, X, d_y)[0, :, 0]
    ...     print(norms[0] > 1e-3 * norms[-1])
    True
    False
    """
    sequences, container = prepared(model, X, "gradient_norms")
    if state not in ("hidden", "cell"):
        raise ValueError(f"state must be 'hidden' or 'cell', got {state!r}")
    if is_layer(model):
        layers = recurrence_of(model, np.float64)
        d_rows = _gradient_of_outputs(model, y, container)
    else:
        differentiation = Differentiation(model._network)
        layers = differentiation.recurrence
        targets = targets_of(model, y, sequences)
    if state == "cell" and layers.cell != "lstm":
        raise ValueError(f"state='cell' needs an LSTM; a model with the cell {layers.cell!r} has no cell state")
    chosen = check_direction(direction, layers.n_directions)

    rows, lengths = [], []
    begin, first = 0, 0
    for part in chunks(sequences.lengths, layers.bytes_per_step):
        some = Sequences(sequences.values, sequences.starts[part], sequences.lengths[part])
        if is_layer(model):
            values, end = some.values[some.rows()].astype(np.float64), begin + some.n_steps
            norms = _empty_norms(layers, some.n_steps, state)
            inputs, traces, _ = through_layers(layers, values, some.lengths, gates=state == "cell")
            back_through_layers(layers, inputs, traces, some.lengths, d_rows[begin:end], norms)
            begin, of_layers = end, some.lengths
        else:
            run = differentiation.forward(differentiation.embed(some), some.lengths, gates=state == "cell")
            norms = _empty_norms(layers, len(run.top), state)
            end = first + len(run.outputs)
            differentiation.backward(run, differentiation.gradient_of_loss(run, targets[first:end]), norms)
            first, of_layers = end, run.lengths
        lengths.append(of_layers)
        by_layer = [euclidean_norm(np.stack([mine[d][state] for d in chosen], axis=1)) for mine in norms]
        rows.append(np.stack(by_layer, axis=1))
    return container.of_layers(np.concatenate(lengths)).fill(np.concatenate(rows))


def targets_of(model: Any, y: Any, sequences: Sequences) -> NDArray:
    """Targets of an estimator as its network takes them, in rows.

    Raises
    ------
    ValueError
        If they do not fit the estimator or the sequences.
    """
    targets = model._check_y(y)
    check_consistent_length(sequences, targets)
    model._check_kind_of_targets(targets)
    targets.check_steps(sequences)
    rows = model._network_targets(model._encode(targets, reset=False, classes=None).rows())
    if rows.dtype.kind != "i":
        rows = rows.astype(np.float64, copy=False).reshape(len(rows), -1)
    return np.ascontiguousarray(rows)


def _empty_norms(recurrence: Recurrence, n_steps: int, state: str) -> list[list[dict[str, NDArray]]]:
    return [[{state: np.empty(n_steps, dtype=np.float64)} for _ in layer] for layer in recurrence.layers]


def _gradient_of_outputs(layer: Any, d_y: Any, container: Container) -> NDArray[np.float64]:
    """The rows of a gradient of a layer's outputs.

    Raises
    ------
    ValueError
        If it does not fit the sequences or is not finite.
    """
    width = layer._stack.output_size
    if container.is_list:
        parts = list(d_y) if isinstance(d_y, (list, tuple)) else []
        if len(parts) != len(container.lengths):
            raise ValueError(
                f"y must be a list of {len(container.lengths)} gradients of the layer's outputs, one for each sequence "
                "of X"
            )
    else:
        d_y = plain_array(d_y, "y")
        if d_y.ndim != 3 or len(d_y) != len(container.lengths):
            raise ValueError(
                "y must be the gradient of the layer's outputs, an array (n_sequences, n_timesteps, n_units) = "
                f"{(len(container.lengths), int(container.lengths[0]), width)}, got shape {d_y.shape}"
            )
        parts = list(d_y)
    rows = []
    for number, (part, length) in enumerate(zip(parts, container.lengths, strict=True)):
        array = finite_array(part, f"gradient {number} of y", np.dtype(np.float64))
        if array.shape != (length, width):
            raise ValueError(f"gradient {number} of y must have the shape {(int(length), width)}, got {array.shape}")
        rows.append(array)
    return np.concatenate(rows)
