"""A network with everything inside it in sight, and with states that can be nudged or held.

One sequence, one direction and one time step after another, as in `oracle.recurrent`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from oracle.cells import CELLS, Array
from oracle.recurrent import suffixes

# (layer, direction, sequence, time step, number of the state) to what is added to that state after that time step.
Nudges = Mapping[tuple[int, int, int, int, int], Array]
# (layer, direction) to the units whose output is a constant, and the constants.
Holds = Mapping[tuple[int, int], Mapping[int, float]]


class Seen(NamedTuple):
    """One direction of one layer over one sequence: (T, H) each, in the order of the time steps."""

    hidden: Array
    cell: Array | None
    gates: dict[str, Array]


class Looked(NamedTuple):
    seen: list[list[list[Seen]]]  # by layer, direction and sequence
    top: list[Array]  # outputs of the top layer, by sequence
    outputs: Array


def _gates(cell: str, tape: object) -> dict[str, Array]:
    if cell == "lstm":
        return dict(zip(("input", "forget", "candidate", "output"), tape, strict=False))
    if cell == "gru":
        return dict(zip(("reset", "update", "candidate"), tape, strict=False))
    return {}


def look(
    cell: str,
    parameters: Mapping[str, NDArray],
    sequences: Sequence[NDArray],
    pooling: str | None = None,
    *,
    nudges: Nudges | None = None,
    holds: Holds | None = None,
    residual: bool = False,
) -> Looked:
    """Run a network; outputs only if `parameters` has a readout."""
    kind, nudges, holds = CELLS[cell], nudges or {}, holds or {}
    recurrent = {name: value for name, value in parameters.items() if "_l" in name}
    inputs, seen = [np.asarray(x, dtype=np.float64) for x in sequences], []
    for layer, names in enumerate(suffixes(recurrent)):
        of_layer, outputs = [], [[] for _ in inputs]
        for direction, suffix in enumerate(names):
            weight = {n: np.asarray(parameters[n + suffix]) for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
            hidden_size = weight["weight_hh"].shape[1]
            held = holds.get((layer, direction), {})
            of_direction = []
            for number, x in enumerate(inputs):
                state = np.zeros((kind.n_states, hidden_size))
                for unit, value in held.items():
                    state[0, unit] = value
                states, tapes = np.zeros((len(x), kind.n_states, hidden_size)), [{}] * len(x)
                for t in reversed(range(len(x))) if suffix.endswith("_reverse") else range(len(x)):
                    x_projection = weight["weight_ih"] @ x[t] + weight["bias_ih"]
                    h_projection = weight["weight_hh"] @ state[0] + weight["bias_hh"]
                    state, tape = kind.step(x_projection, h_projection, state)
                    gates = _gates(cell, tape)
                    if (layer, direction, number, t, 1) in nudges:
                        state[1] += nudges[layer, direction, number, t, 1]
                        state[0] = gates["output"] * np.tanh(state[1])
                    if (layer, direction, number, t, 0) in nudges:
                        state[0] += nudges[layer, direction, number, t, 0]
                    for unit, value in held.items():
                        state[0, unit] = value
                    states[t], tapes[t] = state, gates
                by_name = {name: np.array([gates[name] for gates in tapes]) for name in tapes[0]}
                cells = states[:, 1] if kind.n_states == 2 else None
                of_direction.append(Seen(states[:, 0], cells, by_name))
                outputs[number].append(states[:, 0])
            of_layer.append(of_direction)
        seen.append(of_layer)
        joined = [np.concatenate(parts, axis=1) for parts in outputs]
        if residual and layer > 0 and joined[0].shape[1] == inputs[0].shape[1]:
            joined = [y + x for y, x in zip(joined, inputs, strict=True)]
        inputs = joined
    if "weight_out" not in parameters:
        return Looked(seen, inputs, np.empty((0, 0)))
    if pooling is None:
        features = np.concatenate(inputs)
    elif pooling == "last":
        size = inputs[0].shape[1] // len(names)
        features = np.array([np.concatenate([y[-1, :size], y[0, size:]]) for y in inputs])
    else:
        features = np.array([y.mean(axis=0) if pooling == "mean" else y.max(axis=0) for y in inputs])
    return Looked(seen, inputs, features @ parameters["weight_out"].T + parameters["bias_out"])
