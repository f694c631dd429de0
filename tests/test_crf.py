"""The conditional random field: all tag sequences listed, derivatives, extreme scores, independence of the batch."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import oracle
import oracle.crf
import pytest

from numrnn.crf import ConditionalRandomField

interpreter = pytest.mark.interpreter
TOLERANCE = {"float32": 2e-6, "float64": 1e-12}
both_types = pytest.mark.parametrize("dtype", ["float32", "float64"])
NAMES = ("crf_transitions", "crf_start", "crf_end")


class Problem:
    """Ragged sequences in rows that lie apart and out of order, with rows that belong to none of them."""

    def __init__(self, n_tags, lengths, dtype="float64", seed=0, spread=2.0):
        rng = np.random.default_rng(seed)
        self.crf = ConditionalRandomField(n_tags, dtype)
        self.lengths = np.array(lengths, dtype=np.int64)
        order = rng.permutation(len(lengths))
        self.starts = np.empty(len(lengths), dtype=np.int64)
        self.starts[order] = 1 + np.cumsum(self.lengths[order] + 1) - (self.lengths[order] + 1)
        n_rows = int(self.lengths.sum()) + len(lengths) + 1
        self.logits = (spread * rng.normal(size=(n_rows, n_tags))).astype(dtype)
        self.targets = rng.integers(0, n_tags, n_rows)
        self.weights = rng.uniform(0.2, 2.0, len(lengths))
        self.parameters = {
            name: (spread * rng.normal(size=shape)).astype(dtype) for name, shape in self.crf.parameter_shapes().items()
        }

    def sequences(self):
        """Logits and targets of each sequence, in float64."""
        for start, length in zip(self.starts, self.lengths, strict=True):
            rows = slice(start, start + length)
            yield rows, self.logits[rows].astype(np.float64), self.targets[rows]

    @property
    def scores(self):
        return tuple(self.parameters[name].astype(np.float64) for name in NAMES)

    def loss(self, scale=1.0, weights=None, gradients=True):
        weights = self.weights if weights is None else weights
        arguments = (self.parameters, self.logits, self.starts, self.lengths, self.targets, weights, scale)
        if not gradients:
            return self.crf.loss(*arguments)
        d_logits = np.full_like(self.logits, 99)
        gradient = {name: np.ones_like(value) for name, value in self.parameters.items()}
        total = self.crf.loss(*arguments, d_logits, gradient)
        return total, d_logits, {name: value - 1 for name, value in gradient.items()}

    def call(self, method):
        return getattr(self.crf, method)(self.parameters, self.logits, self.starts, self.lengths)


@interpreter
@both_types
@pytest.mark.parametrize("n_tags", [1, 2, 3])
def test_equals_the_sum_over_all_tag_sequences(n_tags, dtype):
    problem = Problem(n_tags, (3, 1, 5, 0, 2, 4), dtype)
    total, d_logits, gradient = problem.loss(scale=0.7)
    expected, d_start, d_end = 0.0, np.zeros(n_tags), np.zeros(n_tags)
    d_transitions, wanted = np.zeros((n_tags, n_tags)), np.full(d_logits.shape, 99.0)
    for (rows, logits, tags), weight in zip(problem.sequences(), problem.weights, strict=True):
        if not len(tags):
            continue
        expected += weight * oracle.crf.negative_log_likelihood(logits, tags, *problem.scores)
        difference = oracle.crf.marginals(logits, *problem.scores) - np.eye(n_tags)[tags]
        wanted[rows] = 0.7 * weight * difference
        d_start += wanted[rows][0]
        d_end += wanted[rows][-1]
        d_transitions += 0.7 * weight * oracle.crf.expected_transitions(logits, *problem.scores)
        np.subtract.at(d_transitions, (tags[:-1], tags[1:]), 0.7 * weight)
    np.testing.assert_allclose(total, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(problem.loss(gradients=False), expected, rtol=1e-12, atol=1e-12)
    oracle.assert_close(d_logits, wanted, TOLERANCE[dtype])
    for name, value in zip(NAMES, (d_transitions, d_start, d_end), strict=True):
        np.testing.assert_allclose(gradient[name], value, atol=20 * TOLERANCE[dtype], err_msg=name)


@interpreter
@both_types
def test_marginals_and_decoding_equal_those_of_all_tag_sequences(dtype):
    problem = Problem(3, (4, 1, 0, 5, 2), dtype)
    marginals, tags = problem.call("marginals"), problem.call("decode")
    assert marginals.dtype == dtype and tags.dtype == np.int64
    arrays = [logits for _, logits, _ in problem.sequences() if len(logits)]
    wanted = np.concatenate([oracle.crf.marginals(logits, *problem.scores) for logits in arrays])
    np.testing.assert_allclose(marginals, wanted, atol=TOLERANCE[dtype])
    np.testing.assert_array_equal(
        tags, np.concatenate([oracle.crf.best_path(logits, *problem.scores) for logits in arrays])
    )


@interpreter
def test_equally_good_paths_are_decided_from_the_last_step_for_the_lowest_tag(rng):
    problem = Problem(3, (4,) * 30)
    problem.logits[...] = rng.integers(0, 2, problem.logits.shape)
    for name in NAMES:
        problem.parameters[name][...] = rng.integers(0, 2, problem.parameters[name].shape)
    paths = [oracle.crf.best_path(logits, *problem.scores) for _, logits, _ in problem.sequences()]
    np.testing.assert_array_equal(problem.call("decode"), np.concatenate(paths))
    for array in (problem.logits, *problem.parameters.values()):
        array[...] = 0
    assert not problem.call("decode").any()


@pytest.mark.parametrize("n_tags", [1, 4, 9, 17])
@pytest.mark.parametrize("offset", [0.0, 900.0], ids=["scaled", "logarithmic"])
def test_gradients_are_the_derivatives_of_the_value(n_tags, offset):
    problem = Problem(n_tags, (3, 6, 1), seed=n_tags)
    # Scores so far apart that probabilities cannot be represented; still they decide which tags may follow.
    problem.logits[:, -1] -= offset
    problem.targets[...] = np.where(problem.targets == n_tags - 1, 0, problem.targets)
    _, d_logits, gradient = problem.loss(scale=0.7)
    used = np.concatenate([np.arange(rows.start, rows.stop) for rows, *_ in problem.sequences()])
    for array, analytic, rows in [
        (problem.logits, d_logits, used),
        *((problem.parameters[name], gradient[name], slice(None)) for name in NAMES),
    ]:
        numeric = oracle.central_difference(lambda: 0.7 * problem.loss(gradients=False), array)
        np.testing.assert_allclose(analytic[rows], numeric[rows], atol=2e-7)


@pytest.mark.parametrize("n_tags", [2, 8, 17])
def test_both_recursions_agree(n_tags, monkeypatch):
    problem = Problem(n_tags, (5, 0, 9, 1, 7), seed=4)
    results = [problem.loss(), problem.call("marginals")]
    monkeypatch.setattr("numrnn.crf._SCALED_RANGE", -1.0)
    others = [problem.loss(), problem.call("marginals")]
    np.testing.assert_allclose(results[0][0], others[0][0], rtol=1e-13)
    np.testing.assert_allclose(results[0][1], others[0][1], atol=1e-13)
    np.testing.assert_allclose(results[1], others[1], atol=1e-13)
    for name in NAMES:
        np.testing.assert_allclose(results[0][2][name], others[0][2][name], atol=1e-12)


@pytest.mark.parametrize("spread", [1.0, 20.0, 400.0])
def test_long_sequences_of_many_tags_neither_overflow_nor_underflow(spread):
    n_steps = 2000
    problem = Problem(50, (n_steps, 3), spread=spread)
    for name in NAMES:
        problem.parameters[name] /= spread
    total, d_logits, gradient = problem.loss(weights=np.ones(2))
    expected = sum(
        oracle.crf.log_forward(logits, *problem.scores) - oracle.crf.path_score(logits, tags, *problem.scores)
        for _, logits, tags in problem.sequences()
    )
    np.testing.assert_allclose(total, expected, rtol=1e-12)
    used = np.concatenate([np.arange(rows.start, rows.stop) for rows, *_ in problem.sequences()])
    np.testing.assert_allclose(d_logits[used].sum(axis=1), 0, atol=1e-9)
    np.testing.assert_allclose(gradient["crf_transitions"].sum(), 0, atol=1e-9)
    np.testing.assert_allclose(problem.call("marginals").sum(axis=1), 1, atol=1e-9)


@interpreter
def test_what_is_tiny_now_but_wins_in_the_end_is_not_lost():
    """A tag 700 behind at the first step and 40 ahead at each of the 29 that follow, where tags cannot change."""
    crf = ConditionalRandomField(2, "float64")
    parameters = {"crf_transitions": np.array([[0, -np.inf], [-np.inf, 0]]), "crf_start": np.zeros(2)}
    parameters["crf_end"] = np.zeros(2)
    logits = np.array([[0.0, -700.0]] + [[0.0, 40.0]] * 29)
    rows = (np.array([0]), np.array([30]))
    assert crf.decode(parameters, logits, *rows).tolist() == [1] * 30
    np.testing.assert_allclose(crf.marginals(parameters, logits, *rows)[:, 1], 1)
    targets = np.ones(30, dtype=np.int64)
    np.testing.assert_allclose(crf.loss(parameters, logits, *rows, targets), np.log1p(np.exp(-460.0)), atol=1e-12)
    targets[:] = 0
    np.testing.assert_allclose(crf.loss(parameters, logits, *rows, targets), 460)
    parameters["crf_transitions"][...] = [[0, -800], [-800, 0]]
    assert crf.decode(parameters, logits, *rows).tolist() == [1] * 30
    np.testing.assert_allclose(crf.loss(parameters, logits, *rows, targets), 460)


@interpreter
def test_forbidden_transitions_are_never_taken(rng):
    problem = Problem(4, (7, 9, 1), seed=3)
    problem.parameters["crf_transitions"][0, 1] = problem.parameters["crf_start"][2] = -np.inf
    problem.targets[...] = 3
    total, d_logits, gradient = problem.loss()
    assert np.isfinite(total)
    assert gradient["crf_transitions"][0, 1] == 0 and gradient["crf_start"][2] == 0
    assert np.isfinite(gradient["crf_transitions"]).all()
    rows = [rows for rows, *_ in problem.sequences()]
    assert all(d_logits[r.start, 2] == 0 and np.isfinite(d_logits[r]).all() for r in rows)
    tags = np.split(problem.call("decode"), np.cumsum(problem.lengths)[:-1])
    for sequence in tags:
        assert sequence[0] != 2 and (0, 1) not in pairwise(sequence)


@interpreter
@both_types
def test_a_sequence_does_not_see_its_neighbours(dtype):
    """Bit for bit, whatever else is in the batch, beside extreme sequences too."""
    problem = Problem(11, (5, 12, 1, 8, 0, 12, 3), dtype, seed=8)
    problem.logits[problem.starts[3]] *= 1000
    _, d_logits, _ = problem.loss()
    marginals, tags = problem.call("marginals"), problem.call("decode")
    ends = np.cumsum(problem.lengths)
    for i, (rows, *_) in enumerate(problem.sequences()):
        one = slice(i, i + 1)
        own = (problem.parameters, problem.logits[rows], np.zeros(1, dtype=np.int64), problem.lengths[one])
        places = slice(ends[i] - problem.lengths[i], ends[i])
        np.testing.assert_array_equal(problem.crf.marginals(*own), marginals[places])
        np.testing.assert_array_equal(problem.crf.decode(*own), tags[places])
        alone = np.empty_like(problem.logits[rows])
        unused = {name: np.zeros_like(value) for name, value in problem.parameters.items()}
        problem.crf.loss(*own, problem.targets[rows], problem.weights[one], 1.0, alone, unused)
        np.testing.assert_array_equal(alone, d_logits[rows])


@interpreter
def test_memory_in_parts_changes_nothing_but_rounding(monkeypatch):
    problem = Problem(5, (4, 9, 1, 6, 6, 2))
    whole = problem.loss()
    monkeypatch.setattr("numrnn.crf._CHUNK_BYTES", 16 * 8 * 10)
    parts = problem.loss()
    assert parts[0] == whole[0]
    np.testing.assert_array_equal(parts[1], whole[1])
    for name in NAMES:
        np.testing.assert_allclose(parts[2][name], whole[2][name], atol=1e-13)


def test_runs_repeat_bit_for_bit():
    results = [Problem(17, (20, 31, 5), "float32").loss() for _ in range(2)]
    assert results[0][0] == results[1][0]
    for name in NAMES:
        np.testing.assert_array_equal(results[0][2][name], results[1][2][name])


@interpreter
def test_a_weight_of_zero_counts_for_nothing_and_nan_shows():
    problem = Problem(3, (4, 5), seed=1)
    rows = [rows for rows, *_ in problem.sequences()]
    problem.logits[rows[1]] = np.nan
    total, d_logits, gradient = problem.loss(weights=np.array([2.0, 0.0]))
    assert np.isfinite(total) and np.isfinite(d_logits[rows[0]]).all() and not d_logits[rows[1]].any()
    assert all(np.isfinite(value).all() for value in gradient.values())
    total, d_logits, _ = problem.loss()
    assert np.isnan(total) and np.isnan(d_logits[rows[1]]).all() and np.isfinite(d_logits[rows[0]]).all()


@interpreter
def test_initial_parameters_make_every_step_a_softmax_of_its_own(rng):
    problem = Problem(6, (5, 2))
    problem.crf.initialize(problem.parameters, np.random.RandomState(0))
    used = np.concatenate([logits for _, logits, _ in problem.sequences()])
    exponentials = np.exp(used)
    np.testing.assert_allclose(problem.call("marginals"), exponentials / exponentials.sum(axis=1, keepdims=True))
    np.testing.assert_array_equal(problem.call("decode"), used.argmax(axis=1))


@interpreter
def test_no_sequences_at_all():
    problem = Problem(3, (0, 0))
    total, _, gradient = problem.loss()
    assert total == 0 and not any(value.any() for value in gradient.values())
    assert problem.call("decode").shape == (0,) and problem.call("marginals").shape == (0, 3)


@pytest.mark.parametrize("wrong", [-1, 3])
def test_tags_outside_their_range_are_refused_before_anything_is_written(wrong):
    problem = Problem(3, (4, 2))
    problem.targets[problem.starts[1] + 1] = wrong
    d_logits, gradient = (
        np.ones_like(problem.logits),
        {name: np.ones(s.shape) for name, s in problem.parameters.items()},
    )
    with pytest.raises(IndexError, match="a tag is negative or not below the number of tags"):
        problem.crf.loss(
            problem.parameters, problem.logits, problem.starts, problem.lengths, problem.targets, problem.weights, 1.0,
            d_logits, gradient,
        )  # fmt: skip
    assert (d_logits == 1).all() and all((value == 1).all() for value in gradient.values())


def test_what_does_not_fit_is_refused():
    problem = Problem(3, (4, 2))
    good = dict(
        parameters=problem.parameters, logits=problem.logits, starts=problem.starts, lengths=problem.lengths,
        targets=problem.targets,
    )  # fmt: skip
    for wrong, match in [
        ({"logits": problem.logits[:, :2].copy()}, "logits of 3 tags"),
        ({"logits": problem.logits.astype("float32")}, "float64"),
        ({"targets": problem.targets[:-1]}, "targets of shape"),
        ({"targets": problem.targets.astype("int32")}, "int32"),
        ({"weights": np.ones(3)}, "weights of shape"),
        ({"starts": problem.starts + 100}, "rows outside"),
        ({"starts": problem.starts[:1]}, "as many starts"),
        ({"d_logits": problem.logits}, "both or neither"),
    ]:
        with pytest.raises(ValueError, match=match):
            problem.crf.loss(**{**good, **wrong})
    with pytest.raises(ValueError, match="n_tags must be at least 1, got 0"):
        ConditionalRandomField(0)
