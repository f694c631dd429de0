"""The public layers beside PyTorch's, on the same weights. Skipped where PyTorch is not installed."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
import oracle  # noqa: E402
from oracle import torch_stack  # noqa: E402
from oracle.layer_states import pad  # noqa: E402
from test_layers import CELLS, DTYPES, TOLERANCE, Problem  # noqa: E402


@pytest.mark.parametrize("lengths", [(5, 5, 5), (2, 6, 1, 4)], ids=["even", "ragged"])
@pytest.mark.parametrize("hidden_sizes", [(9,), (8, 8), (20, 6)], ids=str)
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_agrees_with_pytorch(cell, dtype, bidirectional, hidden_sizes, lengths):
    problem = Problem(cell, lengths, 7, hidden_sizes, dtype, bidirectional)
    theirs = torch_stack.run(
        cell, problem.parameters, problem.sequences, problem.states, problem.d_outputs, problem.d_states
    )
    y, after = problem.layer.forward(problem.x, problem.state, lengths=problem.lengths, training=True)
    d_x, d_before = problem.layer.backward(problem.d_y, problem.d_state)
    tolerance = TOLERANCE[dtype]
    oracle.assert_close(y, pad(theirs.outputs), tolerance, "y")
    oracle.assert_close(d_x, pad(theirs.d_sequences), tolerance, "d_x")
    for mine, other in zip(problem.flatten(after), theirs.state, strict=True):
        oracle.assert_close(mine, other, tolerance, "state")
    for mine, other in zip(problem.flatten(d_before), theirs.d_state, strict=True):
        oracle.assert_close(mine, other, tolerance, "d_state")
    assert set(problem.layer.gradients) == set(theirs.gradient)
    for name, other in theirs.gradient.items():
        oracle.assert_close(problem.layer.gradients[name], other, tolerance, name)


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])
@pytest.mark.parametrize("cell", CELLS)
def test_state_dicts_are_interchangeable(cell, bidirectional):
    """Names, shapes, order and the form of the state are those of torch.nn, so that code moves without thought."""
    problem = Problem(cell, (4, 4, 4), 5, (6, 6), "float32", bidirectional)
    theirs = torch_stack.module(cell, 5, 6, 2, bidirectional)
    state_dict = theirs.state_dict()
    assert list(state_dict) == list(problem.layer.parameters)
    for name, weight in state_dict.items():
        problem.layer.parameters[name][...] = weight.numpy()
    before = tuple(map(torch.from_numpy, problem.state)) if cell == "lstm" else torch.from_numpy(problem.state)
    with torch.no_grad():
        y, after = theirs(torch.from_numpy(problem.x), before)
    mine, mine_after = problem.layer.forward(problem.x, problem.state)
    np.testing.assert_allclose(mine, y.numpy(), rtol=1e-4, atol=1e-6)
    for one, other in zip(
        mine_after if cell == "lstm" else [mine_after], after if cell == "lstm" else [after], strict=True
    ):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-4, atol=1e-6)
