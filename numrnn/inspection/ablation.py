"""What a network is without some of its units."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import check_scoring

from numrnn.checks import real_array
from numrnn.inspection.models import check_direction, check_layer, fitted_estimator
from numrnn.inspection.states import hidden_states
from numrnn.reading import plain_array

__all__ = ["ablate_units", "unit_importance"]

# The gate, in the order of the weights, whose pre-activation is zero where the unit's state stays zero.
_CANDIDATE = {"lstm": 2, "gru": 2, "rnn_tanh": 0, "rnn_relu": 0}


def ablate_units(
    model: Any,
    units: int | Iterable[int],
    *,
    layer: int = -1,
    direction: str | None = None,
    value: float | ArrayLike | str = 0.0,
    X: Any = None,
) -> Any:
    """A copy of a model in which some units always have the same output.

    The output of such a unit is that constant from before the first time step on, for the layer above, for the readout
    and in the recurrence of its own layer. Only weights and biases differ, so that everything else about the copy works
    as before.

    Parameters
    ----------
    model : fitted estimator
        It is not changed.
    units : int or sequence of int
        Numbers of the units, as the columns of `hidden_states` with the same layer and direction.
    layer : int, default=-1
        The recurrent layer, counted from 0 at the input; -1 is the top one.
    direction : {"forward", "reverse"} or None, default=None
        Of a bidirectional model the direction whose units are numbered; None numbers those of both, forward first.
    value : float, array-like of shape (n_units,), or "mean", default=0.0
        The constant, or one for each unit. "mean" is the mean of each unit over all time steps of X.
    X : array-like or list of arrays, default=None
        For ``value="mean"``, sequences as for `predict`.

    Returns
    -------
    model : object
        A fitted estimator of the same class.

    Raises
    ------
    ValueError
        If there is no such unit, layer or direction, `value` is not as described, or X is missing.
    TypeError
        If the model is not an estimator of this package.
    sklearn.exceptions.NotFittedError
        If it is not fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from numrnn import RNNRegressor
    >>> from numrnn.inspection import ablate_units, hidden_states
    >>> X = np.random.RandomState(0).standard_normal((100, 6, 2))
    >>> model = RNNRegressor((4,), max_iter=5, tol=0.0, random_state=0).fit(X, X[:, -1, 0])
    >>> ablated = ablate_units(model, [1, 3])
    >>> states = hidden_states(ablated, X)
    >>> [bool((states[..., unit] == 0).all()) for unit in range(4)]
    [False, True, False, True]
    """
    network = fitted_estimator(model, "ablate_units")._network
    layer = check_layer(layer, len(network.hidden_sizes))
    columns = _columns(network, layer, direction)
    numbers = _unit_numbers(units, len(columns))
    if isinstance(value, str):
        if value != "mean":
            raise ValueError(f"value must be a number, one for each unit, or 'mean', got {value!r}")
        if X is None:
            raise ValueError("value='mean' needs X, over whose time steps the mean is taken")
        constants = _means(model, X, layer)[columns[numbers]]
    else:
        constants = real_array(value, "value", np.dtype(np.float64))
        if constants.shape not in ((), (len(numbers),)) or not np.isfinite(constants).all():
            raise ValueError(
                f"value must be a finite number, or one for each of the {len(numbers)} units, got {value!r}"
            )
        constants = np.broadcast_to(constants, (len(numbers),))
    ablated = deepcopy(model)
    _hold(ablated._network, layer, columns[numbers], constants)
    return ablated


def unit_importance(
    model: Any,
    X: Any,
    y: Any,
    *,
    layer: int = -1,
    direction: str | None = None,
    replacement: str = "mean",
    scoring: str | Callable[[Any, Any, Any], float] | None = None,
) -> NDArray[np.float64]:
    """How much lower the score is without each unit of a layer.

    Parameters
    ----------
    model : fitted estimator
    X : array-like or list of arrays
        Sequences as for `predict`, preferably not those of training.
    y : array-like
        Their targets.
    layer : int, default=-1
        The recurrent layer, counted from 0 at the input; -1 is the top one.
    direction : {"forward", "reverse"} or None, default=None
        Of a bidirectional model the units of one direction; None is both, forward first.
    replacement : {"mean", "zero"}, default="mean"
        What the output of a unit is held at, as by `ablate_units`: its mean over all time steps of X, which takes away
        what varies and nothing else, or zero.
    scoring : str, callable or None, default=None
        As in scikit-learn: the name of a scorer or a function ``scorer(estimator, X, y)``. None is the estimator's
        `score`.

    Returns
    -------
    importance : ndarray of float64, shape (n_units,)
        Score of the model minus score without the unit. Units that stand in for one another can all look unimportant.

    Raises
    ------
    ValueError
        If an option is unknown, there is no such layer or direction, or X or y is not what the model takes.
    TypeError
        If the model is not an estimator of this package.
    sklearn.exceptions.NotFittedError
        If it is not fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from numrnn import RNNRegressor
    >>> from numrnn.inspection import unit_importance
    >>> X = np.random.RandomState(0).standard_normal((400, 6, 2))
    >>> y = X[:, 2, 1]
    >>> model = RNNRegressor((16,), learning_rate_init=0.01, max_iter=30, tol=0.0, random_state=0).fit(X, y)
    >>> importance = unit_importance(model, X, y)
    >>> importance.shape
    (16,)
    >>> bool(importance.max() > 0.1)
    True
    """
    network = fitted_estimator(model, "unit_importance")._network
    layer = check_layer(layer, len(network.hidden_sizes))
    columns = _columns(network, layer, direction)
    if replacement not in ("mean", "zero"):
        raise ValueError(f"replacement must be 'mean' or 'zero', got {replacement!r}")
    score = check_scoring(model, scoring=scoring)
    n_outputs = network.hidden_sizes[layer] * network.stack.n_directions
    constants = _means(model, X, layer) if replacement == "mean" else np.zeros(n_outputs)
    intact = score(model, X, y)
    ablated = deepcopy(model)
    importance = np.empty(len(columns), dtype=np.float64)
    for number, column in enumerate(columns):
        ablated._network.parameters.flat[:] = network.parameters.flat
        _hold(ablated._network, layer, [column], constants[[column]])
        importance[number] = intact - score(ablated, X, y)
    return importance


def _columns(network: Any, layer: int, direction: str | None) -> NDArray[np.int64]:
    """The columns of the units of a direction among the outputs of a layer."""
    size = network.hidden_sizes[layer]
    directions = check_direction(direction, network.stack.n_directions)
    return np.concatenate([np.arange(d * size, (d + 1) * size) for d in directions])


def _unit_numbers(units: Any, n_units: int) -> NDArray[np.int64]:
    iterates = isinstance(units, Iterable) and not hasattr(units, "__array__")
    numbers = np.atleast_1d(plain_array(list(units) if iterates else units, "units"))
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise ValueError(f"units must be an integer or a sequence of integers, got {units!r}")
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < n_units:
        raise ValueError(f"units must be from 0 to {n_units - 1}, got {units!r}")
    if len(np.unique(numbers)) < len(numbers):
        raise ValueError(f"units must be different, got {units!r}")
    return numbers.astype(np.int64)


def _means(model: Any, X: Any, layer: int) -> NDArray[np.float64]:
    """Mean of every unit of a layer over all time steps."""
    states = hidden_states(model, X, layer=layer)
    rows = np.concatenate(states) if isinstance(states, list) else states.reshape(-1, states.shape[-1])
    return rows.mean(axis=0, dtype=np.float64)


def _hold(network: Any, layer: int, columns: Sequence[int] | NDArray, constants: NDArray[np.float64]) -> None:
    """Let units be zero, by the weights that lead to them, and give the constants to the biases of what reads them."""
    parameters, size = network.parameters, network.hidden_sizes[layer]
    suffixes = ("", "_reverse")[: network.stack.n_directions]
    gate = _CANDIDATE[network.cell]
    for column, constant in zip(columns, constants, strict=True):
        direction, unit = divmod(int(column), size)
        own = f"_l{layer}{suffixes[direction]}"
        parameters["bias_hh" + own][...] += constant * parameters["weight_hh" + own][:, unit]
        last = layer
        while last + 1 < len(network.hidden_sizes):
            last += 1
            for suffix in suffixes:
                name = f"_l{last}{suffix}"
                parameters["bias_ih" + name][...] += constant * parameters["weight_ih" + name][:, column]
            if not network.stack.is_residual(last):
                break
        else:
            # Pooling over time leaves a constant as it is.
            parameters["bias_out"][...] += constant * parameters["weight_out"][:, column]
            if network.pooling == "attention":
                parameters["attention_bias"][...] += constant * parameters["attention_weight"][:, column]
    for column in columns:
        direction, unit = divmod(int(column), size)
        own = f"_l{layer}{suffixes[direction]}"
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            parameters[name + own][gate * size + unit] = 0
