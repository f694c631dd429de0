"""Attention over time: definition, derivatives, ragged batches, threads."""

from __future__ import annotations

import numpy as np
import oracle
import oracle.attention
import pytest

from numrnn.attention import AttentionPooling
from numrnn.packing import balanced_ranges
from numrnn.workers import Workers

pytestmark = pytest.mark.interpreter

TOLERANCE = {"float32": 5e-6, "float64": 1e-13}
NAMES = ("attention_weight", "attention_bias", "attention_vector")


class Problem:
    """Ragged sequences in rows that lie apart and out of order."""

    def __init__(self, lengths, size=5, attention_size=4, dtype="float64", seed=0, workers=None):
        rng = np.random.default_rng(seed)
        self.pooling = AttentionPooling(size, attention_size, dtype, workers=workers)
        self.lengths = np.array(lengths, dtype=np.int64)
        order = rng.permutation(len(lengths))
        self.starts = np.empty(len(lengths), dtype=np.int64)
        self.starts[order] = 1 + np.cumsum(self.lengths[order] + 1) - (self.lengths[order] + 1)
        self.hidden = rng.normal(size=(int(self.lengths.sum()) + len(lengths) + 1, size)).astype(dtype)
        self.d_pooled = rng.normal(size=(len(lengths), size)).astype(dtype)
        self.parameters = {
            name: rng.normal(size=shape).astype(dtype) for name, shape in self.pooling.parameter_shapes().items()
        }

    def forward(self):
        return self.pooling.forward(self.parameters, self.hidden, self.starts, self.lengths)

    def run(self):
        """Pooled, weights, gradient of the rows, gradients of the parameters."""
        run = self.forward()
        gradient = {name: np.ones_like(value) for name, value in self.parameters.items()}
        d_hidden = self.pooling.backward(run, self.parameters, self.d_pooled, gradient)
        return run.pooled, run.weights, d_hidden, *(gradient[name] - 1 for name in NAMES)

    def expected(self):
        parameters = [self.parameters[name].astype(np.float64) for name in NAMES]
        pooled, weights, d_hidden, sums = [], [], [], [np.zeros(p.shape) for p in parameters]
        for start, length, d in zip(self.starts, self.lengths, self.d_pooled.astype(np.float64), strict=True):
            h = self.hidden[start : start + length].astype(np.float64)
            one, own_weights = oracle.attention.attention(h, *parameters)
            pooled.append(one)
            weights.append(own_weights)
            d_h, *rest = oracle.attention.attention_backward(h, *parameters, d)
            d_hidden.append(d_h)
            sums = [a + b for a, b in zip(sums, rest, strict=True)]
        return np.array(pooled), np.concatenate(weights), np.concatenate(d_hidden), *sums


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size, attention_size", [(1, 1), (5, 4), (16, 16), (37, 19), (64, 3)])
def test_equals_the_definition(size, attention_size, dtype):
    problem = Problem((3, 1, 0, 20, 7), size, attention_size, dtype)
    results, expected = problem.run(), problem.expected()
    for name, mine, other in zip(("pooled", "weights", "d_hidden", *NAMES), results, expected, strict=True):
        assert mine.dtype == dtype
        oracle.assert_close(mine, other, 10 * TOLERANCE[dtype], name)


def test_gradients_are_the_derivatives_of_the_value():
    problem = Problem((3, 1, 0, 6), 3, 2)
    _, _, d_hidden, *gradients = problem.run()
    rows = np.concatenate([np.arange(s, s + n) for s, n in zip(problem.starts, problem.lengths, strict=True)])
    value = lambda: float((problem.forward().pooled * problem.d_pooled).sum())  # noqa: E731
    oracle.assert_close(d_hidden, oracle.central_difference(value, problem.hidden)[rows], 1e-8)
    for name, gradient in zip(NAMES, gradients, strict=True):
        oracle.assert_close(gradient, oracle.central_difference(value, problem.parameters[name]), 1e-8, name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_sequence_does_not_see_its_neighbours(dtype):
    problem = Problem((5, 17, 1, 0, 8, 40), 21, 13, dtype)
    pooled, weights, d_hidden, *_ = problem.run()
    ends = np.cumsum(problem.lengths)
    for i, (start, length) in enumerate(zip(problem.starts, problem.lengths, strict=True)):
        own = slice(ends[i] - length, ends[i])
        run = problem.pooling.forward(
            problem.parameters, problem.hidden[start : start + length], np.zeros(1, np.int64), np.array([length])
        )
        np.testing.assert_array_equal(run.pooled[0], pooled[i])
        np.testing.assert_array_equal(run.weights, weights[own])
        unused = {name: np.zeros_like(value) for name, value in problem.parameters.items()}
        alone = problem.pooling.backward(run, problem.parameters, problem.d_pooled[i : i + 1], unused)
        np.testing.assert_array_equal(alone, d_hidden[own])


def test_threads_change_nothing(monkeypatch):
    monkeypatch.setattr("numrnn.workers._FLOPS_PER_THREAD", 1)
    lengths = (9, 30, 1, 0, 0, 17, 23, 5)
    one = Problem(lengths, 19, 7, "float32").run()
    with Workers(3) as workers:
        for mine, other in zip(Problem(lengths, 19, 7, "float32", workers=workers).run(), one, strict=True):
            np.testing.assert_array_equal(mine, other)


def test_weights_are_a_distribution_and_large_scores_do_not_overflow():
    problem = Problem((6, 4), dtype="float32")
    problem.parameters["attention_vector"] *= 1e4
    run = problem.forward()
    np.testing.assert_allclose([run.weights[:6].sum(), run.weights[6:].sum()], 1, rtol=1e-6)
    assert (run.weights >= 0).all() and np.isfinite(run.pooled).all()
    assert all(np.isfinite(array).all() for array in problem.run())


def test_what_is_not_a_number_shows_in_its_own_sequence_only():
    problem = Problem((4, 3))
    problem.hidden[problem.starts[0] + 1] = np.nan
    run = problem.forward()
    assert np.isnan(run.pooled[0]).all() and np.isfinite(run.pooled[1]).all()


def test_equal_scores_are_the_mean():
    problem = Problem((4, 3), size=18)
    problem.parameters["attention_vector"][...] = 0
    for start, length, pooled in zip(problem.starts, problem.lengths, problem.forward().pooled, strict=True):
        np.testing.assert_allclose(pooled, problem.hidden[start : start + length].mean(axis=0))


@pytest.mark.parametrize("lengths", [(), (0,), (0, 0)])
def test_nothing_to_look_at_pools_to_zeros(lengths):
    pooled, weights, d_hidden, *gradients = Problem(lengths).run()
    assert pooled.shape == (len(lengths), 5) and not pooled.any()
    assert weights.shape == (0,) and d_hidden.shape == (0, 5)
    assert not any(gradient.any() for gradient in gradients)


def test_initial_parameters_are_small_and_repeat():
    pooling, values = AttentionPooling(7, 5), []
    for _ in range(2):
        parameters = {name: np.full(shape, 9.0) for name, shape in pooling.parameter_shapes().items()}
        pooling.initialize(parameters, np.random.RandomState(3))
        values.append(np.concatenate([array.ravel() for array in parameters.values()]))
        assert not parameters["attention_bias"].any() and np.abs(parameters["attention_weight"]).max() <= np.sqrt(0.5)
    np.testing.assert_array_equal(*values)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 5 and 0"):
        AttentionPooling(5, 0)
    problem = Problem((3,), dtype="float32")
    for wrong in (problem.hidden.astype("float64"), problem.hidden[:, :3].copy()):
        with pytest.raises(ValueError, match="rows of 5 features in float32"):
            problem.pooling.forward(problem.parameters, wrong, problem.starts, problem.lengths)


@pytest.mark.parametrize(
    "sizes, n_parts, expected",
    [
        ([], 3, [(0, 0)]),
        ([5], 3, [(0, 1)]),
        ([1, 1, 1, 1], 2, [(0, 2), (2, 4)]),
        ([10, 1, 1], 3, [(0, 1), (1, 3)]),
        ([0, 0, 0], 2, [(0, 1), (1, 3)]),
        ([1, 2, 3], 1, [(0, 3)]),
    ],
)
def test_ranges_cover_everything_once(sizes, n_parts, expected):
    assert balanced_ranges(np.array(sizes, dtype=np.int64), n_parts) == expected
