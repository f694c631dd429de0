"""Activations over time: hidden states, cell states, gates, attention."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.inspection.models import (
    check_direction,
    check_layer,
    fitted_estimator,
    input_of_layers,
    prepared,
    recurrence_of,
)
from numrnn.inspection.recurrence import GATES, chunks
from numrnn.packing import Sequences

__all__ = ["attention_weights", "cell_states", "gate_activations", "hidden_states"]


def hidden_states(model: Any, X: Any, *, layer: int = -1, direction: str | None = None) -> Any:
    """Hidden state of every unit of a recurrent layer after every time step.

    Parameters
    ----------
    model : fitted estimator, or RNN, LSTM or GRU
    X : array-like or list of arrays
        Sequences as the model takes them; for a layer also a list of arrays (n_timesteps_i, input_size).
    layer : int, default=-1
        The recurrent layer, counted from 0 at the input; -1 is the top one.
    direction : {"forward", "reverse"} or None, default=None
        Of a bidirectional model the units of one direction; None is both, joined as the layer above sees them. What
        belongs to a time step stands at that time step, whatever the direction.

    Returns
    -------
    states : ndarray of shape (n_samples, n_timesteps, n_units), or list of ndarray of shape (n_timesteps_i, n_units)
        A list if X is one. Of the type of the model. They are those of inference: without dropout.

    Raises
    ------
    ValueError
        If there is no such layer or direction, or X is not what the model takes.
    TypeError
        If the model is neither an estimator of this package nor a layer.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from numrnn import LSTM
    >>> from numrnn.inspection import hidden_states
    >>> lstm = LSTM(2, 8, num_layers=2, bidirectional=True, random_state=0)
    >>> X = np.random.RandomState(0).standard_normal((3, 10, 2))
    >>> hidden_states(lstm, X).shape
    (3, 10, 16)
    >>> bool(np.array_equal(hidden_states(lstm, X), lstm.forward(X)[0]))
    True
    >>> [states.shape for states in hidden_states(lstm, [X[0], X[1, :4]], layer=0, direction="reverse")]
    [(10, 8), (4, 8)]
    """
    return _collect(model, X, layer, direction, "hidden_states", lambda trace: {"": trace.hidden})[""]


def cell_states(model: Any, X: Any, *, layer: int = -1, direction: str | None = None) -> Any:
    """Cell state of every unit of a layer of an LSTM after every time step: its memory, before the output gate.

    Parameters
    ----------
    model : fitted estimator with ``cell="lstm"``, or LSTM
    X : array-like or list of arrays
        Sequences as the model takes them; for a layer also a list of arrays (n_timesteps_i, input_size).
    layer : int, default=-1
        The recurrent layer, counted from 0 at the input; -1 is the top one.
    direction : {"forward", "reverse"} or None, default=None
        Of a bidirectional model the units of one direction; None is both, joined.

    Returns
    -------
    states : ndarray of shape (n_samples, n_timesteps, n_units), or list of ndarray of shape (n_timesteps_i, n_units)

    Raises
    ------
    ValueError
        If the model is no LSTM, there is no such layer or direction, or X is not what the model takes.
    TypeError
        If the model is neither an estimator of this package nor a layer.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    Examples
    --------
    The final cell states are those that the layer returns:

    >>> import numpy as np
    >>> from numrnn import LSTM
    >>> from numrnn.inspection import cell_states
    >>> lstm = LSTM(2, 8, random_state=0)
    >>> X = np.random.RandomState(0).standard_normal((3, 10, 2))
    >>> _, (h, c) = lstm.forward(X)
    >>> bool(np.array_equal(cell_states(lstm, X)[:, -1], c[0]))
    True
    """
    return _collect(model, X, layer, direction, "cell_states", lambda trace: {"": trace.cell}, cell="lstm")[""]


def gate_activations(model: Any, X: Any, *, layer: int = -1, direction: str | None = None) -> dict[str, Any]:
    """Gates of every unit of a layer at every time step.

    Parameters
    ----------
    model : fitted estimator with ``cell="lstm"`` or ``cell="gru"``, or LSTM or GRU
    X : array-like or list of arrays
        Sequences as the model takes them; for a layer also a list of arrays (n_timesteps_i, input_size).
    layer : int, default=-1
        The recurrent layer, counted from 0 at the input; -1 is the top one.
    direction : {"forward", "reverse"} or None, default=None
        Of a bidirectional model the units of one direction; None is both, joined.

    Returns
    -------
    gates : dict of str to ndarray of shape (n_samples, n_timesteps, n_units), or to list of ndarray
        Of an LSTM "input", "forget", "candidate" and "output", with c' = forget * c + input * candidate and
        h' = output * tanh(c'); of a GRU "reset", "update" and "candidate", with
        h' = (1 - update) * candidate + update * h. Candidates lie between -1 and 1, the others between 0 and 1.

    Raises
    ------
    ValueError
        If the model has no gates, there is no such layer or direction, or X is not what the model takes.
    TypeError
        If the model is neither an estimator of this package nor a layer.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from numrnn import LSTM
    >>> from numrnn.inspection import cell_states, gate_activations, hidden_states
    >>> lstm = LSTM(2, 8, random_state=0)
    >>> X = np.random.RandomState(0).standard_normal((3, 10, 2))
    >>> gates = gate_activations(lstm, X)
    >>> sorted(gates)
    ['candidate', 'forget', 'input', 'output']
    >>> h, c = hidden_states(lstm, X), cell_states(lstm, X)
    >>> bool(np.allclose(h, gates["output"] * np.tanh(c), atol=1e-6))
    True
    """
    return _collect(model, X, layer, direction, "gate_activations", lambda trace: trace.gates, cell="gated")


def attention_weights(model: Any, X: Any) -> Any:
    """Weight of every time step in the pooled features of an estimator with ``pooling="attention"``.

    Parameters
    ----------
    model : fitted estimator with ``pooling="attention"``
    X : array-like or list of arrays
        Sequences as for `predict`.

    Returns
    -------
    weights : ndarray of shape (n_samples, n_timesteps), or list of ndarray of shape (n_timesteps_i,)
        Positive; those of one sequence sum to one.

    Raises
    ------
    ValueError
        If the estimator pools in another way, or X is not what it takes.
    TypeError
        If the model is not an estimator of this package.
    sklearn.exceptions.NotFittedError
        If it is not fitted.

    References
    ----------
    Bahdanau, D., Cho, K. and Bengio, Y. (2015). Neural machine translation by jointly learning to align and translate.
    ICLR.
    """
    network = fitted_estimator(model, "attention_weights")._network
    if network.pooling != "attention":
        raise ValueError(f'attention_weights needs a model with pooling="attention", got pooling={network.pooling!r}')
    sequences, container = prepared(model, X, "attention_weights")
    lengths = network.embedded(sequences).lengths if network.convolutions else sequences.lengths
    return container.of_layers(lengths).fill(network.attention_weights(sequences))


def _collect(
    model: Any, X: Any, layer: int, direction: str | None, what: str, choose: Any, cell: str | None = None
) -> dict[str, Any]:
    """Chosen arrays of the traces of one layer, by name, in the container of X."""
    sequences, container = prepared(model, X, what)
    recurrence = recurrence_of(model)
    number = check_layer(layer, len(recurrence.layers))
    chosen = check_direction(direction, recurrence.n_directions)
    if cell == "lstm" and recurrence.cell != "lstm":
        raise ValueError(f"{what} needs an LSTM; a model with the cell {recurrence.cell!r} has no cell state")
    if cell == "gated" and recurrence.cell not in GATES:
        raise ValueError(f"{what} needs an LSTM or a GRU; a model with the cell {recurrence.cell!r} has no gates")
    rows: dict[str, list[NDArray]] = {}
    lengths = []
    for part in chunks(sequences.lengths, recurrence.bytes_per_step):
        some = Sequences(sequences.values, sequences.starts[part], sequences.lengths[part])
        values, of_layers = input_of_layers(model, some)
        lengths.append(of_layers)
        for below, directions in enumerate(recurrence.layers[:number]):
            traces = [one.trace(values, of_layers, states=False) for one in directions]
            values = recurrence.outputs(below, traces, values)
        wanted = {"states": cell == "lstm", "gates": cell == "gated"}
        arrays = [choose(recurrence.layers[number][d].trace(values, of_layers, **wanted)) for d in chosen]
        for name in arrays[0]:
            rows.setdefault(name, []).append(np.concatenate([by_name[name] for by_name in arrays], axis=1))
    container = container.of_layers(np.concatenate(lengths))
    return {name: container.fill(np.concatenate(parts)) for name, parts in rows.items()}
