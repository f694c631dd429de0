"""The reference itself: against central differences, against PyTorch, and standing on nothing of the package."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import oracle
import pytest
from oracle import losses, solvers

CELLS = tuple(oracle.CELLS)
LENGTHS = (3, 1, 4)


def problem(rng, cell, hidden_sizes=(3, 2), bidirectional=False, input_size=2, lengths=LENGTHS):
    shapes = oracle.parameter_shapes(cell, input_size, hidden_sizes, bidirectional)
    parameters = oracle.random_parameters(rng, shapes)
    sequences = oracle.random_sequences(rng, lengths, input_size)
    state = oracle.random_state(rng, cell, len(lengths), hidden_sizes, bidirectional)
    return parameters, sequences, state


def test_it_imports_nothing_from_the_package():
    files = sorted((Path(__file__).parent / "oracle").glob("*.py"))
    assert len(files) >= 8
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "numrnn" for name in names), file


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_backward_agrees_with_central_differences(rng, cell, bidirectional):
    parameters, sequences, state = problem(rng, cell, bidirectional=bidirectional)
    pass_ = oracle.forward(cell, parameters, sequences, state)
    d_outputs = [rng.normal(size=y.shape) for y in pass_.outputs]
    d_final = [rng.normal(size=s.shape) for s in pass_.state]

    def objective():
        again = oracle.forward(cell, parameters, sequences, state)
        return sum((a * b).sum() for a, b in zip(again.outputs + again.state, d_outputs + d_final, strict=True))

    gradient, d_sequences, d_state = oracle.backward(pass_, d_outputs, d_final)
    assert gradient.keys() == parameters.keys()
    for name, array in parameters.items():
        oracle.assert_close(gradient[name], oracle.central_difference(objective, array), 1e-9, name)
    for d_x, x in zip(d_sequences, sequences, strict=True):
        oracle.assert_close(d_x, oracle.central_difference(objective, x), 1e-9, "input")
    for d_s, s in zip(d_state, state, strict=True):
        oracle.assert_close(d_s, oracle.central_difference(objective, s), 1e-9, "initial state")


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("residual", [False, True])
def test_pooling_and_dropout_agree_with_central_differences(rng, pooling, bidirectional, residual):
    sizes = (3, 3, 2) if residual else (3, 2)
    parameters, sequences, state = problem(rng, "gru", sizes, bidirectional=bidirectional)
    factors = [[rng.integers(0, 2, size=(n, 6 if bidirectional else 3)) * 2.0 for n in LENGTHS]] * (
        2 if residual else 1
    )
    recurrent = [rng.integers(0, 2, size=(len(LENGTHS), s.shape[2])) * 2.0 for s in state] if residual else None

    def run():
        return oracle.forward("gru", parameters, sequences, state, factors, recurrent, residual)

    features = oracle.pool(run(), pooling)
    d_features = rng.normal(size=features.shape)
    gradient, d_sequences, _ = oracle.backward(run(), *oracle.pool_backward(run(), pooling, d_features))

    def objective():
        return float((oracle.pool(run(), pooling) * d_features).sum())

    for name in ("weight_ih_l0", "weight_hh_l1", "bias_hh_l0"):
        oracle.assert_close(gradient[name], oracle.central_difference(objective, parameters[name]), 1e-9, name)
    oracle.assert_close(d_sequences[2], oracle.central_difference(objective, sequences[2]), 1e-9, "input")


def test_pooling_by_hand(rng):
    parameters, sequences, _ = problem(rng, "rnn_tanh", (3,), bidirectional=True)
    pass_ = oracle.forward("rnn_tanh", parameters, sequences)
    for i, y in enumerate(pass_.outputs):
        np.testing.assert_array_equal(oracle.pool(pass_, "last")[i], np.concatenate([y[-1, :3], y[0, 3:]]))
        np.testing.assert_allclose(oracle.pool(pass_, "mean")[i], y.sum(axis=0) / len(y))
        np.testing.assert_array_equal(oracle.pool(pass_, "max")[i], y.max(axis=0))


@pytest.mark.parametrize("cell", CELLS)
def test_an_empty_sequence_passes_its_state_through(rng, cell):
    parameters, sequences, state = problem(rng, cell, lengths=(2, 0))
    pass_ = oracle.forward(cell, parameters, sequences, state)
    for before, after in zip(state, pass_.state, strict=True):
        np.testing.assert_array_equal(before[:, 1], after[:, 1])
        assert (before[:, 0] != after[:, 0]).any()


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("hidden_sizes", [(3, 3), (4, 2)])
@pytest.mark.parametrize("cell", CELLS)
def test_it_agrees_with_pytorch(rng, cell, hidden_sizes, bidirectional):
    pytest.importorskip("torch")
    from oracle import torch_stack

    parameters, sequences, state = problem(rng, cell, hidden_sizes, bidirectional)
    pass_ = oracle.forward(cell, parameters, sequences, state)
    d_outputs = [rng.normal(size=y.shape) for y in pass_.outputs]
    d_final = [rng.normal(size=s.shape) for s in pass_.state]
    theirs = torch_stack.run(cell, parameters, sequences, state, d_outputs, d_final)
    gradient, d_sequences, d_state = oracle.backward(pass_, d_outputs, d_final)
    ours = [*pass_.outputs, *pass_.state, *d_sequences, *d_state]
    for mine, other in zip(ours, [*theirs.outputs, *theirs.state, *theirs.d_sequences, *theirs.d_state], strict=True):
        oracle.assert_close(mine, other, 1e-12)
    assert gradient.keys() == theirs.gradient.keys()
    for name in gradient:
        oracle.assert_close(gradient[name], theirs.gradient[name], 1e-12, name)


@pytest.mark.parametrize("loss", [losses.squared_error, losses.absolute_error, losses.huber])
def test_elementwise_losses(rng, loss):
    outputs, targets, weights = rng.normal(size=(5, 3)) * 3, rng.normal(size=(5, 3)), rng.uniform(0.5, 2, size=5)
    value, gradient = losses.weighted_mean(*loss(outputs, targets), weights)
    by_hand = sum(w * row.mean() for w, row in zip(weights, loss(outputs, targets)[0], strict=True)) / weights.sum()
    assert value == pytest.approx(by_hand)

    def objective():
        return losses.weighted_mean(*loss(outputs, targets), weights)[0]

    oracle.assert_close(gradient, oracle.central_difference(objective, outputs), 1e-9)


def test_cross_entropy(rng):
    logits, classes, weights = rng.normal(size=(6, 4)) * 3, np.array([0, 3, 1, 1, 2, 0]), rng.uniform(0.5, 2, size=6)
    values, gradient = losses.cross_entropy(logits, classes)
    np.testing.assert_allclose(values, -np.log(losses.softmax(logits)[np.arange(6), classes]))
    share = weights / weights.sum()

    def objective():
        return float(share @ losses.cross_entropy(logits, classes)[0])

    oracle.assert_close(share[:, None] * gradient, oracle.central_difference(objective, logits), 1e-9)
    assert losses.cross_entropy(np.array([[1000.0, 0.0]]), np.array([1]))[0][0] == 1000.0


@pytest.mark.parametrize(
    ("name", "options", "ours"),
    [
        ("SGD", {}, lambda w, g: solvers.sgd(w, g, 0.05)),
        ("SGD", {"momentum": 0.9}, lambda w, g: solvers.sgd(w, g, 0.05, 0.9)),
        ("SGD", {"momentum": 0.9, "nesterov": True}, lambda w, g: solvers.sgd(w, g, 0.05, 0.9, nesterov=True)),
        ("Adam", {}, lambda w, g: solvers.adam(w, g, 0.05)),
        ("AdamW", {"weight_decay": 0.1}, lambda w, g: solvers.adam(w, g, 0.05, weight_decay=0.1)),
        ("RMSprop", {}, lambda w, g: solvers.rmsprop(w, g, 0.05)),
    ],
)
def test_solvers_agree_with_pytorch(rng, name, options, ours):
    torch = pytest.importorskip("torch")
    start, gradients = rng.normal(size=7), list(rng.normal(size=(9, 7)))
    w = torch.from_numpy(start.copy()).requires_grad_()
    solver = getattr(torch.optim, name)([w], lr=0.05, **options)
    path = ours(start, gradients)
    assert len(path) == 9
    for step, g in zip(path, gradients, strict=True):
        w.grad = torch.from_numpy(g)
        solver.step()
        np.testing.assert_allclose(step, w.detach().numpy(), rtol=1e-12)


def test_clipping():
    gradient = np.array([3.0, 0.0, 4.0])
    np.testing.assert_allclose(solvers.clip_by_global_norm(gradient, 1.0), [0.6, 0.0, 0.8])
    np.testing.assert_array_equal(solvers.clip_by_global_norm(gradient, 5.5), gradient)
    np.testing.assert_array_equal(solvers.clip_by_global_norm(np.zeros(2), 1.0), np.zeros(2))
