"""Every derivative of the engine against central differences of its own values, in float64.

Independent of the reference: were both wrong in the same way, this would still show it.
"""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from test_layers import CELLS, Problem, named

from numrnn.packing import Sequences
from numrnn.parameters import Parameters
from numrnn.stack import RecurrentStack
from numrnn.workers import Workers

TOLERANCE = 1e-8


def central_difference(cell, objective, array):
    # A rectified unit has a kink, and the smaller the step, the fewer units have theirs inside it.
    return oracle.central_difference(objective, array, step=1e-6 if cell == "rnn_relu" else 1e-4)


every_cell = pytest.mark.parametrize("cell", CELLS)
both_ways = pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])


@pytest.mark.parametrize(
    ("lengths", "hidden_sizes"),
    [((3, 3), (5,)), ((2, 4, 1), (3, 3)), ((2, 1), (4, 2)), ((1,), (9,))],
    ids=["even", "ragged stack", "ragged narrowing", "one step"],
)
@every_cell
@both_ways
def test_layers(cell, bidirectional, lengths, hidden_sizes):
    problem = Problem(cell, lengths, 2, hidden_sizes, "float64", bidirectional, n_jobs=1)
    layer = problem.layer
    result = problem.run()
    mask = np.arange(problem.x.shape[1]) < problem.lengths[:, None]
    weights = named("state", problem.d_state)

    def objective():
        y, after = layer.forward(problem.x, problem.state, lengths=problem.lengths)
        value = (y * problem.d_y)[mask].sum()
        return value + sum((one * weights[name]).sum() for name, one in named("state", after).items())

    for name in layer.parameters:
        expected = central_difference(cell, objective, layer.parameters[name])
        oracle.assert_close(result[f"gradient of {name}"], expected, TOLERANCE, name)
    oracle.assert_close(result["d_x"], central_difference(cell, objective, problem.x), TOLERANCE, "d_x")
    for name, one in named("d_state", problem.state).items():
        oracle.assert_close(result[name], central_difference(cell, objective, one), TOLERANCE, name)


@pytest.mark.parametrize("pooling", [None, "last", "mean", "max"])
@every_cell
@both_ways
@pytest.mark.parametrize("residual", [False, True], ids=["plain", "residual"])
def test_stacks_with_pooling_and_dropout(rng, cell, bidirectional, pooling, residual):
    lengths, hidden_sizes = (3, 1, 4), (3, 3) if residual else (3, 2)
    stack = RecurrentStack(
        cell,
        2,
        hidden_sizes,
        bidirectional=bidirectional,
        dropout=0.4,
        recurrent_dropout=0.4 if residual else 0.0,
        residual=residual,
        dtype="float64",
        workers=Workers(1),
    )
    parameters = Parameters(stack.parameter_shapes(), "float64")
    parameters.flat[:] = rng.normal(size=parameters.size) * 0.5
    sequences = Sequences.from_list(oracle.random_sequences(rng, lengths, 2))
    state = oracle.random_state(rng, cell, len(lengths), hidden_sizes, bidirectional)

    def run():
        return stack.forward(parameters, sequences, state=state, pooling=pooling, training=True, dropout_seed=11)

    pass_ = run()
    d_output = rng.normal(size=pass_.output.shape)
    d_final = [rng.normal(size=s.shape) for s in state]
    gradient = parameters.zeros_like()
    d_input, d_state = stack.backward(pass_, parameters, d_output, gradient, d_state=d_final, need_input=True)

    def objective():
        again = run()
        return (again.output * d_output).sum() + sum((a * b).sum() for a, b in zip(again.state, d_final, strict=True))

    expected = central_difference(cell, objective, parameters.flat)
    for name in parameters:
        oracle.assert_close(gradient[name].ravel(), expected[parameters.span(name)], TOLERANCE, name)
    oracle.assert_close(d_input, central_difference(cell, objective, sequences.values), TOLERANCE, "d_input")
    for mine, array in zip(d_state, state, strict=True):
        oracle.assert_close(mine, central_difference(cell, objective, array), TOLERANCE, "d_state")
