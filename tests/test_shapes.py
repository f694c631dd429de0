"""Any sizes, any lengths: shapes drawn by hypothesis, compared with the reference."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_stack import Problem

pytestmark = pytest.mark.interpreter

cells = st.sampled_from(["rnn_tanh", "rnn_relu", "lstm", "gru"])
hidden = st.lists(st.integers(1, 35), min_size=1, max_size=2).map(tuple)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@settings(max_examples=60)
@given(
    cell=cells,
    lengths=st.lists(st.integers(0, 4), min_size=1, max_size=9).map(tuple),
    n_features=st.integers(1, 35),
    hidden_sizes=hidden,
    bidirectional=st.booleans(),
    pooling=st.sampled_from([None, "last", "mean", "max"]),
    with_state=st.booleans(),
)
def test_any_shape_equals_the_oracle(
    dtype, cell, lengths, n_features, hidden_sizes, bidirectional, pooling, with_state
):
    problem = Problem(cell, lengths, hidden_sizes, dtype, bidirectional, n_features=n_features)
    state = problem.state if with_state else None
    tolerance = {"float32": 1e-4, "float64": 1e-9}[dtype]
    output, *rest = problem.run(pooling, state=state)
    expected = oracle.forward(cell, problem.parameters, problem.arrays, state)
    theirs = np.concatenate(expected.outputs) if pooling is None else oracle.pool(expected, pooling)
    oracle.assert_close(output, theirs, tolerance, "output")
    d_final = [d.astype(np.float64) for d in problem.d_state]
    if pooling is None:
        d_outputs = np.split(problem.d_output(output), np.cumsum(lengths)[:-1])
    else:
        d_outputs, extra = oracle.pool_backward(expected, pooling, problem.d_output(output))
        d_final = [a + b for a, b in zip(d_final, extra, strict=True)]
    gradient, d_sequences, d_states = oracle.backward(expected, d_outputs, d_final)
    count = len(problem.state)
    for mine, other in zip(rest[:count], expected.state, strict=True):
        oracle.assert_close(mine, other, tolerance, "state")
    oracle.assert_close(rest[count], np.concatenate(d_sequences), tolerance, "d_input")
    for mine, other in zip(rest[count + 1 : -1], d_states, strict=True):
        oracle.assert_close(mine, other, tolerance, "d_state")
    for name, other in gradient.items():
        mine = rest[-1][problem.parameters.span(name)].reshape(other.shape)
        oracle.assert_close(mine, other, tolerance, name)


@settings(max_examples=25)
@given(
    cell=cells,
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=12).map(tuple),
    hidden_size=st.integers(1, 20),
    order=st.randoms(use_true_random=False),
)
def test_a_sequence_does_not_see_its_neighbours(cell, lengths, hidden_size, order):
    """Bit for bit: whatever else is in the batch, wherever a sequence stands in it."""
    problem = Problem(cell, lengths, (hidden_size,), "float32", bidirectional=True)
    whole = problem.stack.forward(problem.parameters, problem.sequences, state=problem.state)
    rows = np.split(whole.output, np.cumsum(lengths)[:-1])
    chosen = list(range(len(lengths)))
    order.shuffle(chosen)
    chosen = np.array(chosen[: (len(chosen) + 1) // 2])
    part = problem.stack.forward(
        problem.parameters, problem.sequences.take(chosen), state=[s[:, chosen] for s in problem.state]
    )
    np.testing.assert_array_equal(part.output, np.concatenate([rows[i] for i in chosen]))
    for mine, other in zip(part.state, whole.state, strict=True):
        np.testing.assert_array_equal(mine, other[:, chosen])
