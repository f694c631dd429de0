"""Cross-entropy over many outputs, a block of which is in memory at a time."""

from __future__ import annotations

import tracemalloc

import numpy as np
import oracle
import oracle.losses
import pytest

from numrnn import softmax
from numrnn.heads import Head
from numrnn.readout import Readout, Weights
from numrnn.softmax import blocked_cross_entropy
from numrnn.workers import Workers

interpreter = pytest.mark.interpreter

# (n_rows, n_features, n_outputs)
SHAPES = [(1, 1, 2), (5, 3, 130), (9, 20, 64), (7, 16, 65), (13, 5, 300), (40, 2, 97)]
# What fits into a block: all outputs of all rows, of some rows, some outputs of all rows, some of some.
BLOCKS = {
    "one": {},
    "some rows": {"_WHOLE_BYTES": 1, "_BLOCK_ROWS": 4},
    "some outputs": {"_WHOLE_BYTES": 1, "BLOCK_BYTES": 1},
    "some of both": {"_WHOLE_BYTES": 1, "BLOCK_BYTES": 1, "_BLOCK_ROWS": 4},
    "all outputs of some rows": {"_WHOLE_BYTES": 2**13, "_FEWEST_WHOLE_ROWS": 2, "_WHOLE_ROWS_STEP": 2},
}
TOLERANCE = {"float32": 4e-6, "float64": 1e-13}


@pytest.fixture(params=BLOCKS)
def blocks(request, monkeypatch):
    for name, value in BLOCKS[request.param].items():
        monkeypatch.setattr(softmax, name, value)


class Problem:
    def __init__(self, rng, shape, dtype="float64", n_jobs=1):
        n_rows, n_features, n_outputs = shape
        self.features = rng.normal(size=(n_rows, n_features)).astype(dtype)
        self.weights = Weights(
            (rng.normal(size=(n_outputs, n_features)) / np.sqrt(n_features)).astype(dtype),
            rng.normal(size=n_outputs).astype(dtype),
        )
        self.targets = rng.integers(0, n_outputs, n_rows)
        self.targets[0] = n_outputs - 1
        self.row_weights = rng.uniform(0.1, 3.0, n_rows)
        self.readout = Readout(dtype, Workers(n_jobs))

    def loss(self, scale=None, **options):
        gradient = Weights(*(np.ones_like(own) for own in self.weights))
        d_features = np.full_like(self.features, np.nan)
        with_gradient = {} if scale is None else {"scale": scale, "gradient": gradient, "d_features": d_features}
        arguments = (self.readout, self.weights, self.features, self.targets, self.row_weights)
        total = blocked_cross_entropy(*arguments, **with_gradient, **options)
        return total if scale is None else (total, gradient, d_features)

    def expected(self, scale, smoothing=0.0):
        """From the definition, in float64."""
        x, w, b = (array.astype(np.float64) for array in (self.features, *self.weights))
        logits = x @ w.T + b
        values, d = oracle.losses.cross_entropy(logits, self.targets)
        log_p = logits - logits.max(axis=1, keepdims=True)
        log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
        own = d - oracle.losses.softmax(logits)
        values = (1 - smoothing) * values - smoothing * log_p.mean(axis=1)
        d = oracle.losses.softmax(logits) + (1 - smoothing) * own - smoothing / len(b)
        d *= scale * self.row_weights[:, np.newaxis]
        return self.row_weights @ values, Weights(1 + d.T @ x, 1 + d.sum(axis=0)), d @ w


@interpreter
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradients_follow_the_definition(shape, smoothing, dtype, blocks, rng):
    problem = Problem(rng, shape, dtype)
    total, gradient, d_features = problem.loss(0.7, smoothing=smoothing)
    expected, expected_gradient, expected_d_features = problem.expected(0.7, smoothing)
    assert total == pytest.approx(expected, rel=TOLERANCE[dtype])
    assert problem.loss(smoothing=smoothing) == pytest.approx(expected, rel=TOLERANCE[dtype])
    oracle.assert_close(gradient.weight, expected_gradient.weight, TOLERANCE[dtype])
    oracle.assert_close(gradient.bias, expected_gradient.bias, TOLERANCE[dtype])
    oracle.assert_close(d_features, expected_d_features, TOLERANCE[dtype])


def test_gradients_are_derivatives_of_the_value(blocks, rng):
    problem = Problem(rng, (6, 3, 70))
    _, gradient, d_features = problem.loss(1.0, smoothing=0.1)
    for array, own in ((problem.features, d_features), *zip(problem.weights, (g - 1 for g in gradient), strict=True)):
        oracle.assert_close(own, oracle.central_difference(lambda: problem.loss(smoothing=0.1), array), 1e-7)


@interpreter
def test_a_row_of_weight_zero_counts_for_nothing_whatever_it_is(blocks, rng):
    problem = Problem(rng, (9, 4, 150))
    problem.row_weights[4] = 0
    total, gradient, _ = problem.loss(0.5)
    problem.features[4] = np.nan
    again, _, d_features = problem.loss(0.5)
    assert again == total == pytest.approx(problem.loss(), rel=1e-14)
    np.testing.assert_array_equal(d_features[4], 0)
    others = [0, 1, 2, 3, 5, 6, 7, 8]
    for name in ("features", "targets", "row_weights"):
        setattr(problem, name, getattr(problem, name)[others])
    total, without, _ = problem.loss(0.5)
    assert total == pytest.approx(again, rel=1e-14)
    oracle.assert_close(gradient.weight, without.weight, 1e-13)


@interpreter
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_outputs_neither_overflow_nor_lose_the_small_ones(dtype, blocks):
    problem = Problem(np.random.default_rng(0), (3, 1, 200), dtype)
    problem.weights.weight[...] = 0
    problem.weights.weight[[3, 150], 0] = [1, -1]
    problem.weights.bias[...] = 0
    problem.features[:, 0] = [1000, -1000, 0]
    problem.targets[:] = [3, 3, 7]
    problem.row_weights[:] = 1
    total, gradient, _ = problem.loss(1.0)
    assert total == pytest.approx(2000 + np.log(200), rel=1e-7)
    share = 1 / 200
    oracle.assert_close(gradient.bias[[3, 150, 7, 8]], 1 + np.array([share - 1, 1 + share, share - 1, share]), 1e-6)


@interpreter
def test_an_output_that_is_not_a_number_shows(blocks, rng):
    problem = Problem(rng, (4, 2, 140))
    problem.features[2] = np.nan
    total, _, d_features = problem.loss(1.0)
    assert np.isnan(total)
    assert np.isnan(d_features[2]).all()
    assert np.isfinite(d_features[[0, 1, 3]]).all()
    problem.features[2] = np.inf
    problem.weights.weight[...] = 1
    assert np.isnan(problem.loss())


@pytest.mark.parametrize("wrong", [-1, 70])
def test_class_numbers_outside_the_outputs_are_refused(wrong, rng):
    problem = Problem(rng, (5, 2, 70))
    problem.targets[3] = wrong
    with pytest.raises(IndexError, match="class number"):
        problem.loss()


@interpreter
def test_no_rows(blocks, rng):
    problem = Problem(rng, (1, 2, 70))
    problem.features, problem.targets, problem.row_weights = problem.features[:0], problem.targets[:0], np.zeros(0)
    total, gradient, _ = problem.loss(1.0)
    assert total == 0 == problem.loss()
    np.testing.assert_array_equal(gradient.weight, 1)


@interpreter
def test_outputs_that_only_some_rows_know(blocks, rng):
    problem = Problem(rng, (8, 3, 90))
    problem.targets[2], problem.targets[5] = 5, 64
    hidden = np.array([5, 6, 63, 64, 88])
    total, gradient, d_features = problem.loss(1.0, for_their_rows=hidden)
    logits = problem.features @ problem.weights.weight.T + problem.weights.bias
    for row, target in enumerate(problem.targets):
        logits[row, hidden[hidden != target]] = -np.inf
    values, d = oracle.losses.cross_entropy(logits, problem.targets)
    d *= problem.row_weights[:, np.newaxis]
    assert total == pytest.approx(problem.row_weights @ values, rel=1e-13)
    oracle.assert_close(gradient.weight, 1 + d.T @ problem.features, 1e-13)
    oracle.assert_close(d_features, d @ problem.weights.weight, 1e-13)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_threads_change_no_bit(smoothing, blocks, many_threads):
    found = []
    for n_jobs in (1, 2, 3):
        problem = Problem(np.random.default_rng(0), (29, 18, 333), "float32", n_jobs)
        total, gradient, d_features = problem.loss(1.0, smoothing=smoothing)
        found.append((total, problem.loss(smoothing=smoothing), *(own.tobytes() for own in (*gradient, d_features))))
        problem.readout.workers.close()
    assert many_threads.most_tasks == 3
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("loss", ["value", "gradient"])
def test_memory_does_not_grow_with_rows_and_outputs(loss, rng):
    """A head's scratch: no more than a block, of outputs that would take 12, 80, 100 and 137 million bytes."""
    bound = softmax._WHOLE_BYTES + 2**20
    for n_rows, n_outputs in ((50_000, 60), (20_000, 1000), (500, 50_000), (4000, 8600)):
        head = Head("cross_entropy", 2, n_outputs, dtype=np.dtype("float32"), workers=Workers(1))
        parameters = {name: np.ones(shape, np.float32) for name, shape in head.parameter_shapes().items()}
        gradient = {name: np.zeros_like(own) for name, own in parameters.items()}
        features = rng.normal(size=(n_rows, 2)).astype(np.float32)
        arguments = (parameters, features, np.array([n_rows]), rng.integers(0, n_outputs, n_rows), np.ones(n_rows), 1.0)
        tracemalloc.start()
        head.loss(*arguments, gradient if loss == "gradient" else None)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < bound + features.nbytes, (n_rows, n_outputs)
