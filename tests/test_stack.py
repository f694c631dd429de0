"""The recurrent stack: what networks build on, below the public layers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import oracle
import pytest

from numrnn.buffers import Buffers
from numrnn.kernels.jit import COMPILED
from numrnn.packing import Packing, Sequences
from numrnn.parameters import Parameters
from numrnn.stack import RecurrentStack
from numrnn.windows import last_in_windows, window_seed
from numrnn.workers import Workers

CELLS = ("rnn_tanh", "rnn_relu", "lstm", "gru")
POOLINGS = (None, "last", "mean", "max")
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}

every_cell = pytest.mark.parametrize("cell", CELLS)
every_pooling = pytest.mark.parametrize("pooling", POOLINGS)
both_ways = pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])


class Problem:
    """A stack with random parameters, ragged sequences and states."""

    def __init__(
        self, cell, lengths, hidden_sizes, dtype="float64", bidirectional=False, seed=3, n_features=3, **options
    ):
        rng = np.random.default_rng(seed)
        self.cell, self.lengths, self.hidden_sizes = cell, lengths, hidden_sizes
        self.stack = RecurrentStack(cell, n_features, hidden_sizes, bidirectional=bidirectional, dtype=dtype, **options)
        self.parameters = Parameters(self.stack.parameter_shapes(), dtype)
        for name, value in oracle.random_parameters(rng, self.parameters.shapes, dtype).items():
            self.parameters[name][...] = value
        self.arrays = oracle.random_sequences(rng, lengths, n_features, dtype)
        self.sequences = Sequences.from_list(self.arrays)
        self.state = oracle.random_state(rng, cell, len(lengths), hidden_sizes, bidirectional, dtype)
        self.d_state = [rng.normal(size=s.shape).astype(dtype) for s in self.state]
        self.rng, self.dtype = rng, np.dtype(dtype)

    def d_output(self, output):
        return np.random.default_rng(8).normal(size=output.shape).astype(output.dtype)

    def run(self, pooling=None, dropout_seed=0, state="own"):
        state = self.state if isinstance(state, str) else state
        pass_ = self.stack.forward(
            self.parameters, self.sequences, state=state, pooling=pooling, training=True, dropout_seed=dropout_seed
        )
        output, after = np.array(pass_.output), [np.array(s) for s in pass_.state]
        gradient = self.parameters.zeros_like()
        d_input, d_before = self.stack.backward(
            pass_, self.parameters, self.d_output(output), gradient, d_state=self.d_state, need_input=True
        )
        return [output, *after, np.array(d_input), *map(np.array, d_before), gradient.flat]


def assert_identical(ours, theirs):
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("cell", CELLS)
@both_ways
def test_names_shapes_and_sizes(cell, bidirectional):
    stack = RecurrentStack(cell, 3, (5, 2), bidirectional=bidirectional)
    assert stack.parameter_shapes() == oracle.parameter_shapes(cell, 3, (5, 2), bidirectional)
    assert list(stack.parameter_shapes()) == list(oracle.parameter_shapes(cell, 3, (5, 2), bidirectional))
    assert stack.n_states == (2 if cell == "lstm" else 1)
    assert stack.n_directions == (2 if bidirectional else 1)
    assert stack.output_size == 2 * stack.n_directions


# Small enough for kernels that run as plain Python.
SMALL_LENGTHS = (2, 0, 3)


@pytest.mark.parametrize("lengths", [(4, 4), (3, 1, 5, 5), SMALL_LENGTHS, (0, 4), (0, 0)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_cell
@every_pooling
@both_ways
def test_equals_the_oracle(cell, dtype, bidirectional, pooling, lengths):
    problem = Problem(cell, lengths, (6, 3), dtype, bidirectional)
    tolerance = TOLERANCE[dtype]
    output, *rest = problem.run(pooling)
    count = len(problem.state)
    after, d_input, d_before, flat = rest[:count], rest[count], rest[count + 1 : -1], rest[-1]
    expected = oracle.forward(cell, problem.parameters, problem.arrays, problem.state)
    theirs = np.concatenate(expected.outputs) if pooling is None else oracle.pool(expected, pooling)
    oracle.assert_close(output, theirs, tolerance, "output")
    assert output.dtype == dtype
    d_final = [d.astype(np.float64) for d in problem.d_state]
    if pooling is None:
        d_outputs = np.split(problem.d_output(output), np.cumsum(lengths)[:-1])
    else:
        d_outputs, extra = oracle.pool_backward(expected, pooling, problem.d_output(output))
        d_final = [a + b for a, b in zip(d_final, extra, strict=True)]
    gradient, d_sequences, d_states = oracle.backward(expected, d_outputs, d_final)
    for mine, other in zip(after, expected.state, strict=True):
        oracle.assert_close(mine, other, tolerance, "state")
    oracle.assert_close(d_input, np.concatenate(d_sequences), tolerance, "d_input")
    for mine, other in zip(d_before, d_states, strict=True):
        oracle.assert_close(mine, other, tolerance, "d_state")
    for name, other in gradient.items():
        mine = flat[problem.parameters.span(name)].reshape(other.shape)
        oracle.assert_close(mine, other, tolerance, name)


@every_cell
@both_ways
def test_an_empty_sequence_passes_its_state_and_its_gradient_through(cell, bidirectional):
    problem = Problem(cell, (3, 0, 2), (4, 4), "float32", bidirectional)
    pass_ = problem.stack.forward(problem.parameters, problem.sequences, state=problem.state, training=True)
    for before, after in zip(problem.state, pass_.state, strict=True):
        np.testing.assert_array_equal(after[:, 1], before[:, 1])
    gradient = problem.parameters.zeros_like()
    _, d_before = problem.stack.backward(pass_, problem.parameters, None, gradient, d_state=problem.d_state)
    for mine, d_after in zip(d_before, problem.d_state, strict=True):
        np.testing.assert_array_equal(mine[:, 1], d_after[:, 1])


@every_cell
def test_windows_with_carried_state_equal_the_whole(cell):
    problem = Problem(cell, (7, 2, 5, 1), (4, 3), "float64")
    whole = problem.stack.forward(problem.parameters, problem.sequences, state=problem.state)
    rows = np.split(whole.output, np.cumsum(problem.lengths)[:-1])
    state = problem.state
    for begin in range(0, 9, 3):  # the last window has no step at all
        window = problem.sequences.window(begin, begin + 3)
        pass_ = problem.stack.forward(problem.parameters, window, state=state)
        expected = np.concatenate([y[begin : begin + 3] for y in rows])
        np.testing.assert_allclose(pass_.output, expected, rtol=1e-12)
        state = pass_.state
    for mine, other in zip(state, whole.state, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-12)


@every_cell
def test_gradients_are_added(cell):
    problem = Problem(cell, (3, 5), (4, 3), "float64", bidirectional=True)

    def add_to(gradient):
        pass_ = problem.stack.forward(problem.parameters, problem.sequences, training=True)
        problem.stack.backward(pass_, problem.parameters, problem.d_output(pass_.output), gradient)

    once, twice = problem.parameters.zeros_like(), problem.parameters.zeros_like()
    add_to(once)
    twice.flat[:] = 5
    add_to(twice)
    add_to(twice)
    np.testing.assert_allclose(twice.flat, 5 + 2 * once.flat, rtol=1e-10, atol=1e-12)


@every_cell
@every_pooling
def test_no_gradient_of_the_output_is_a_gradient_of_zeros(cell, pooling):
    problem = Problem(cell, (3, 5), (4, 3), "float32", bidirectional=True)
    gradients = []
    for d_output in ("zeros", None):
        pass_ = problem.stack.forward(problem.parameters, problem.sequences, pooling=pooling, training=True)
        gradient = problem.parameters.zeros_like()
        problem.stack.backward(
            pass_,
            problem.parameters,
            None if d_output is None else np.zeros_like(pass_.output),
            gradient,
            d_state=problem.d_state,
        )
        gradients.append(gradient.flat)
    assert gradients[0].any()
    np.testing.assert_array_equal(*gradients)


def test_the_input_gradient_comes_only_when_asked_for():
    problem = Problem("gru", (3, 5), (4,), "float32")
    pass_ = problem.stack.forward(problem.parameters, problem.sequences, training=True)
    d_input, d_state = problem.stack.backward(
        pass_, problem.parameters, problem.d_output(pass_.output), problem.parameters.zeros_like()
    )
    assert d_input is None
    assert [d.shape for d in d_state] == [s.shape for s in problem.state]


@every_cell
@both_ways
def test_sequences_in_any_order_and_from_anywhere(cell, bidirectional):
    """Sequences taken out of a larger matrix, shuffled and cut, are the same as arrays of their own."""
    problem = Problem(cell, (6, 2, 5, 3), (4,), "float32", bidirectional)
    chosen = np.array([2, 0, 3])
    view = problem.sequences.take(chosen).window(1, 4)
    state = [s[:, chosen] for s in problem.state]
    mine = problem.stack.forward(problem.parameters, view, state=state)
    own = Sequences.from_list([problem.arrays[i][1:4] for i in chosen])
    theirs = problem.stack.forward(problem.parameters, own, state=state)
    np.testing.assert_array_equal(mine.output, theirs.output)
    assert_identical(mine.state, theirs.state)


# ------------------------------------------------------------------------------------------------------------- threads
@every_cell
@every_pooling
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_results_do_not_depend_on_the_workers(many_threads, cell, pooling, dropout):
    lengths = np.random.default_rng(2).integers(0, 6, size=37)
    for bidirectional in (False, True):
        results = []
        for n_jobs in (1, 2, 5):
            many_threads.most_tasks = 0
            with Workers(n_jobs) as workers:
                problem = Problem(cell, lengths, (9, 5), "float32", bidirectional, workers=workers, dropout=dropout)
                results.append(problem.run(pooling, dropout_seed=4))
            assert many_threads.most_tasks >= min(n_jobs, 4)
        for result in results[1:]:
            assert_identical(result, results[0])


@every_cell
@both_ways
def test_results_do_not_depend_on_the_scratch_memory(monkeypatch, cell, bidirectional):
    """However many time steps go through the input weights at once."""
    results = []
    for scratch in (1, 1500, 2**20):
        monkeypatch.setattr("numrnn.direction._SCRATCH_BYTES", scratch)
        results.append(Problem(cell, (9, 0, 4, 7, 1, 7), (5, 3), "float32", bidirectional).run())
    assert_identical(results[1], results[0])
    assert_identical(results[2], results[0])


# ------------------------------------------------------------------------------------------------------- few sequences
@pytest.mark.parametrize("sizes", [(16, 16), (48, 144), (17, 32), (16, 9)], ids=str)
@every_cell
def test_what_is_computed_for_few_rows_does_not_depend_on_how_many_there_are(cell, sizes):
    """One to three sequences, and a handful of steps, take other ways through weights and tiles than more do."""
    n_features, hidden_size = sizes
    for n_steps in (1, 2, 4, 5):
        alone = Problem(cell, (n_steps,), (hidden_size,), "float32", n_features=n_features)
        alone_output, *alone_rest = alone.run()
        for n_sequences in (2, 3, 4, 7):
            problem = Problem(cell, (n_steps,) * n_sequences, (hidden_size,), "float32", n_features=n_features)
            problem.parameters.flat[:] = alone.parameters.flat
            arrays = [alone.arrays[0], *problem.arrays[1:]]
            problem.sequences = Sequences.from_list(arrays)
            for mine, theirs in zip((*problem.state, *problem.d_state), (*alone.state, *alone.d_state), strict=True):
                mine[:, 0] = theirs[:, 0]
            d_output = np.concatenate([alone.d_output(alone_output), np.ones_like(alone_output)])
            d_output = np.resize(d_output, (n_steps * n_sequences, hidden_size))
            problem.d_output = lambda output, d=d_output: d
            output, after, d_input, d_before, _ = problem.run()
            np.testing.assert_array_equal(output[:n_steps], alone_output)
            np.testing.assert_array_equal(after[:, 0], alone_rest[0][:, 0])
            np.testing.assert_array_equal(d_input[:n_steps], alone_rest[1])
            np.testing.assert_array_equal(d_before[:, 0], alone_rest[2][:, 0])


@every_cell
@pytest.mark.parametrize("n_sequences", [1, 2, 3, 4])
@pytest.mark.parametrize("n_steps", [1, 4, 5])
def test_few_rows_equal_the_oracle(cell, n_sequences, n_steps):
    problem = Problem(cell, (n_steps,) * n_sequences, (32,), "float64", n_features=16)
    output, after, d_input, d_before, flat = problem.run()
    expected = oracle.forward(cell, problem.parameters, problem.arrays, problem.state)
    oracle.assert_close(output, np.concatenate(expected.outputs), 1e-9, "output")
    d_outputs = np.split(problem.d_output(output), n_sequences)
    gradient, d_sequences, d_states = oracle.backward(expected, d_outputs, problem.d_state)
    oracle.assert_close(after, expected.state[0], 1e-9, "state")
    oracle.assert_close(d_input, np.concatenate(d_sequences), 1e-9, "d_input")
    oracle.assert_close(d_before, d_states[0], 1e-9, "d_state")
    for name, other in gradient.items():
        oracle.assert_close(flat[problem.parameters.span(name)].reshape(other.shape), other, 1e-9, name)


# --------------------------------------------------------------------------------------------------------- kept plans
def test_passes_over_batches_of_one_form_share_their_memory_but_not_at_the_same_time():
    problem = Problem("lstm", (3, 5, 0), (4, 4), "float64", bidirectional=True)
    expected = problem.run()
    passes = [
        problem.stack.forward(problem.parameters, problem.sequences, state=problem.state, training=True)
        for _ in range(3)
    ]
    assert len({id(pass_.plan) for pass_ in passes}) == 3
    for pass_ in reversed(passes):
        gradient = problem.parameters.zeros_like()
        problem.stack.backward(
            pass_, problem.parameters, problem.d_output(pass_.output), gradient, d_state=problem.d_state
        )
        np.testing.assert_array_equal(gradient.flat, expected[-1])
    again = problem.stack.forward(problem.parameters, problem.sequences, state=problem.state, training=True)
    assert any(again.plan is pass_.plan for pass_ in passes)


def test_batches_of_many_forms_leave_few_plans():
    problem = Problem("gru", (3, 5), (4,), "float32")
    rng = np.random.default_rng(0)
    for _ in range(60):
        lengths = rng.integers(0, 9, size=3)
        arrays = oracle.random_sequences(rng, lengths, 3, "float32")
        problem.stack.forward(problem.parameters, Sequences.from_list(arrays))
    kept = problem.stack._buffers._whole
    assert 1 <= len(kept) <= problem.stack._buffers._KINDS
    assert all(plan.lease.n_bytes <= plan.KEPT_BYTES for plans in kept.values() for plan in plans)


def test_large_plans_are_not_kept():
    problem = Problem("gru", (400,) * 30, (8,), "float32")
    problem.run()
    assert not problem.stack._buffers._whole


def test_plans_of_middle_size_are_kept_for_batches_that_follow_each_other():
    problem = Problem("gru", (40,) * 20, (32,), "float32")
    stack = problem.stack
    results = [problem.run()]
    assert not stack._buffers._whole
    results.append(problem.run())
    ((plan,),) = stack._buffers._whole.values()
    assert plan.ALWAYS_KEPT_BYTES < plan.lease.n_bytes <= plan.KEPT_BYTES
    results.append(problem.run())
    assert list(stack._buffers._whole.values()) == [[plan]]
    for result in results[1:]:
        assert_identical(result, results[0])


def test_what_is_kept_has_a_limit_in_bytes():
    buffers = Buffers()
    buffers._BYTES = 3000
    things = [SimpleNamespace(lease=buffers.lease()) for _ in range(5)]
    for number, thing in enumerate(things):
        thing.lease.at_least(("memory", number), 250, "float32")
        assert buffers.keep(number, thing)
    assert [buffers.take(number) for number in range(5)] == [None, None, *things[2:]]


# ------------------------------------------------------------------------------------------------------------- dropout
def dropout_mask(dropout, seed, hidden_size=50, lengths=(30, 1, 25), workers=None):
    """What dropout does to a signal of ones: a first layer that emits 1, a second that copies its input."""
    stack = RecurrentStack("rnn_relu", 1, (hidden_size, hidden_size), dropout=dropout, dtype="float32", workers=workers)
    parameters = Parameters(stack.parameter_shapes(), "float32")
    parameters["bias_ih_l0"][...] = 1
    parameters["weight_ih_l1"][...] = np.eye(hidden_size)
    sequences = Sequences.from_list([np.zeros((n, 1), np.float32) for n in lengths])
    return stack.forward(parameters, sequences, training=True, dropout_seed=seed).output


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.8])
def test_dropout_keeps_the_expected_share_and_scales_it(dropout):
    mask = dropout_mask(dropout, seed=1)
    kept = mask != 0
    np.testing.assert_allclose(mask[kept], 1 / (1 - dropout), rtol=1e-6)
    deviation = np.sqrt(dropout * (1 - dropout) / mask.size)
    assert abs(kept.mean() - (1 - dropout)) < 4 * deviation
    # No unit and no time step is favoured, and neighbours are independent.
    assert kept.mean(axis=0).std() < 1.5 * np.sqrt(dropout * (1 - dropout) / len(mask))
    assert kept.mean(axis=1).std() < 1.5 * np.sqrt(dropout * (1 - dropout) / mask.shape[1])
    for left, right in ((kept[1:], kept[:-1]), (kept[:, 1:], kept[:, :-1])):
        assert abs(np.corrcoef(left.ravel(), right.ravel())[0, 1]) < 4 / np.sqrt(mask.size)


def test_dropout_masks_follow_the_seed():
    np.testing.assert_array_equal(dropout_mask(0.5, 1), dropout_mask(0.5, 1))
    one, other = dropout_mask(0.5, 1) != 0, dropout_mask(0.5, 2) != 0
    assert 0.4 < (one == other).mean() < 0.6


def test_every_layer_has_its_own_mask():
    size = 40
    stack = RecurrentStack("rnn_relu", 1, (size,) * 3, dropout=0.5, dtype="float32")
    parameters = Parameters(stack.parameter_shapes(), "float32")
    parameters["bias_ih_l0"][...] = 1
    parameters["weight_ih_l1"][...] = parameters["weight_ih_l2"][...] = np.eye(size)
    sequences = Sequences.from_list([np.zeros((40, 1), np.float32)])
    output = stack.forward(parameters, sequences, training=True, dropout_seed=3).output
    assert set(np.unique(output)) == {0.0, 4.0}
    assert abs((output != 0).mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / output.size)  # a quarter, not a half


def test_no_dropout_without_training_or_a_layer_above():
    problem = Problem("gru", (3, 5), (4, 3), "float32", dropout=0.5)
    plain = Problem("gru", (3, 5), (4, 3), "float32")
    a, b = (p.stack.forward(p.parameters, p.sequences).output for p in (problem, plain))
    np.testing.assert_array_equal(a, b)
    one, other = (Problem("gru", (3, 5), (4,), "float32", dropout=rate) for rate in (0.5, 0.0))
    assert_identical(one.run(), other.run())


@both_ways
def test_dropout_equals_the_oracle_with_the_same_mask(bidirectional):
    """A probe of the same sizes finds the mask; it must multiply the signal on its way up and the gradient down."""
    size, lengths = 6, (4, 1, 3)
    probe = RecurrentStack("rnn_relu", 3, (size, size), bidirectional=bidirectional, dropout=0.4, dtype="float64")
    width = size * probe.n_directions
    parameters = Parameters(probe.parameter_shapes(), "float64")
    problem = Problem("lstm", lengths, (size, size), "float64", bidirectional, dropout=0.4)
    for name in parameters:
        if name.startswith("bias_ih_l0"):
            parameters[name][...] = 1
    factors = np.zeros((sum(lengths), width))
    for column in range(width):  # the second layer's first unit copies one column of the first layer
        parameters["weight_ih_l1"][...] = 0
        parameters["weight_ih_l1"][0, column] = 1
        factors[:, column] = probe.forward(parameters, problem.sequences, training=True, dropout_seed=9).output[:, 0]
    assert 0.2 < (factors == 0).mean() < 0.6
    split = np.split(factors, np.cumsum(lengths)[:-1])
    expected = oracle.forward("lstm", problem.parameters, problem.arrays, problem.state, [split])
    output, *rest = problem.run(dropout_seed=9)
    oracle.assert_close(output, np.concatenate(expected.outputs), 1e-9, "output")
    d_outputs = np.split(problem.d_output(output), np.cumsum(lengths)[:-1])
    gradient, d_sequences, _ = oracle.backward(expected, d_outputs, problem.d_state)
    oracle.assert_close(rest[len(problem.state)], np.concatenate(d_sequences), 1e-9, "d_input")
    for name, other in gradient.items():
        oracle.assert_close(rest[-1][problem.parameters.span(name)].reshape(other.shape), other, 1e-9, name)


# -------------------------------------------------------------------------------- recurrent dropout and residual layers
def recurrent_masks(problem, seed):
    """The masks, one array (n_sequences, hidden_size) for each layer and direction.

    A stack of the same form whose cells copy their hidden state shows them after one step from a state of ones.
    """
    stack = problem.stack
    probe = RecurrentStack(
        "rnn_relu",
        1,
        problem.hidden_sizes,
        bidirectional=stack.n_directions == 2,
        recurrent_dropout=stack.recurrent_dropout,
        dtype=problem.dtype,
        workers=Workers(1),
    )
    parameters = Parameters(probe.parameter_shapes(), problem.dtype)
    for name in parameters:
        if name.startswith("weight_hh"):
            parameters[name][...] = np.eye(len(parameters[name]))
    sequences = Sequences.from_list([np.zeros((1, 1), problem.dtype) for _ in problem.lengths])
    ones = [np.ones((1, len(problem.lengths), s.shape[2]), problem.dtype) for s in problem.state]
    pass_ = probe.forward(parameters, sequences, state=ones, training=True, dropout_seed=seed)
    return [after[0] for after in pass_.state]


@pytest.mark.parametrize("rate", [0.0, 0.4], ids=["no dropout", "recurrent dropout"])
@pytest.mark.parametrize("hidden_sizes", [(6, 6, 6), (5, 3, 3)], ids=str)
@every_cell
@every_pooling
@both_ways
def test_residual_layers_and_recurrent_dropout_equal_the_oracle(cell, bidirectional, pooling, hidden_sizes, rate):
    lengths = SMALL_LENGTHS
    problem = Problem(cell, lengths, hidden_sizes, "float64", bidirectional, recurrent_dropout=rate, residual=True)
    factors = recurrent_masks(problem, 9) if rate else None
    expected = oracle.forward(cell, problem.parameters, problem.arrays, problem.state, None, factors, residual=True)
    output, *rest = problem.run(pooling, dropout_seed=9)
    count = len(problem.state)
    after, d_input, d_before, flat = rest[:count], rest[count], rest[count + 1 : -1], rest[-1]
    d_final = [d.astype(np.float64) for d in problem.d_state]
    if pooling is None:
        oracle.assert_close(output, np.concatenate(expected.outputs), 1e-9, "output")
        d_outputs = np.split(problem.d_output(output), np.cumsum(lengths)[:-1])
    else:
        oracle.assert_close(output, oracle.pool(expected, pooling), 1e-9, "output")
        d_outputs, extra = oracle.pool_backward(expected, pooling, problem.d_output(output))
        d_final = [a + b for a, b in zip(d_final, extra, strict=True)]
    gradient, d_sequences, d_states = oracle.backward(expected, d_outputs, d_final)
    for mine, other in zip(after, expected.state, strict=True):
        oracle.assert_close(mine, other, 1e-9, "state")
    oracle.assert_close(d_input, np.concatenate(d_sequences), 1e-9, "d_input")
    for mine, other in zip(d_before, d_states, strict=True):
        oracle.assert_close(mine, other, 1e-9, "d_state")
    for name, other in gradient.items():
        oracle.assert_close(flat[problem.parameters.span(name)].reshape(other.shape), other, 1e-9, name)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_recurrent_masks_are_fair_scaled_and_independent(rate):
    problem = Problem("gru", (1,) * 60, (50, 50), "float64", bidirectional=True, recurrent_dropout=rate)
    masks = np.array(recurrent_masks(problem, 3))
    kept = masks != 0
    np.testing.assert_allclose(masks[kept], 1 / (1 - rate), rtol=1e-12)
    assert abs(kept.mean() - (1 - rate)) < 4 * np.sqrt(rate * (1 - rate) / kept.size)
    # Sequences, units, layers and directions have masks that tell nothing of one another.
    pairs = [
        (kept[:, 1:], kept[:, :-1]),
        (kept[:, :, 1:], kept[:, :, :-1]),
        *((kept[i], kept[i - 1]) for i in range(4)),
    ]
    for left, right in pairs:
        assert abs(np.corrcoef(left.ravel(), right.ravel())[0, 1]) < 4 / np.sqrt(left.size)
    other = np.array(recurrent_masks(problem, 4)) != 0
    assert abs(np.corrcoef(kept.ravel(), other.ravel())[0, 1]) < 4 / np.sqrt(kept.size)


@every_cell
def test_recurrent_masks_stay_the_same_over_windows_of_time(cell):
    """Seeds that agree in their low bits give one pass and many windows the same masks, though sequences end."""
    problem = Problem(cell, (2, 7, 0, 5), (4, 4), "float64", recurrent_dropout=0.5, residual=True)
    whole = problem.stack.forward(problem.parameters, problem.sequences, training=True, dropout_seed=5)
    rows = np.split(whole.output, np.cumsum(problem.lengths)[:-1])
    state = None
    for begin in range(0, 7, 3):
        window = problem.sequences.window(begin, begin + 3)
        pass_ = problem.stack.forward(
            problem.parameters, window, state=state, training=True, dropout_seed=window_seed(5, begin)
        )
        np.testing.assert_allclose(
            pass_.output, np.concatenate([y[begin : begin + 3] for y in rows]), rtol=1e-12, atol=1e-15
        )
        state = pass_.state


def test_masks_between_layers_differ_from_window_to_window():
    first, second = (dropout_mask(0.5, window_seed(3, begin)) != 0 for begin in (0, 10))
    assert 0.4 < (first == second).mean() < 0.6


def test_the_last_output_of_windows_is_that_of_the_whole():
    problem = Problem("lstm", (2, 7, 0, 5), (4, 4), "float64", residual=True)
    whole = problem.stack.forward(problem.parameters, problem.sequences, pooling="last").output
    last = last_in_windows(problem.stack, problem.parameters, problem.sequences, 2).output
    np.testing.assert_allclose(last, whole, rtol=1e-12)


@every_cell
@pytest.mark.parametrize("by_units", [False, True], ids=["by sequences", "by units"])
def test_recurrent_dropout_does_not_depend_on_the_workers(many_threads, monkeypatch, cell, by_units):
    if by_units:
        monkeypatch.setattr("numrnn.direction._LARGE_WEIGHTS", 1)
        monkeypatch.setattr("numrnn.direction._ENOUGH_SEQUENCES", 2**31)
    lengths = np.random.default_rng(2).integers(0, 6, size=37)
    for bidirectional in (False, True):
        results = []
        for n_jobs in (1, 2, 4):
            with Workers(n_jobs) as workers:
                options = {"recurrent_dropout": 0.3, "dropout": 0.2, "residual": True, "workers": workers}
                problem = Problem(cell, lengths, (70, 70), "float32", bidirectional, **options)
                results.append(problem.run("last", dropout_seed=4))
        for result in results[1:]:
            assert_identical(result, results[0])
    assert many_threads.together == (by_units and COMPILED)


@pytest.mark.parametrize(
    ("lengths", "by_units"), [([4] * 5, True), ([4] * 15, True), ([4] * 16, False), ([8] + [3] * 30, True)]
)
def test_only_few_sequences_through_large_layers_are_divided_by_units(monkeypatch, lengths, by_units):
    monkeypatch.setattr("numrnn.direction._LARGE_WEIGHTS", 1)
    ((direction,),) = RecurrentStack("lstm", 3, (70,)).directions
    shares = direction.shares(Packing(lengths), 2)
    assert len(shares) == 2
    together = {share.n_threads for share in shares}
    assert together == ({2} if by_units and COMPILED else {1})
    assert sum(share.units for share in shares) == direction.padded * (1 if by_units and COMPILED else 2)


@every_cell
def test_no_recurrent_dropout_without_training(cell):
    problem = Problem(cell, (3, 5), (4, 3), "float32", recurrent_dropout=0.5)
    plain = Problem(cell, (3, 5), (4, 3), "float32")
    a, b = (p.stack.forward(p.parameters, p.sequences, dropout_seed=3).output for p in (problem, plain))
    np.testing.assert_array_equal(a, b)


# ------------------------------------------------------------------------------------------------------- initial values
@every_cell
def test_initial_values(cell):
    stack = RecurrentStack(cell, 8, (16, 12), bidirectional=True, dtype="float64")
    parameters = Parameters(stack.parameter_shapes(), "float64")
    stack.initialize(parameters, np.random.RandomState(0))
    again = parameters.zeros_like()
    stack.initialize(again, np.random.RandomState(0))
    np.testing.assert_array_equal(parameters.flat, again.flat)
    for name, array in parameters.items():
        if name.startswith("weight_hh"):
            size = array.shape[1]
            for gate in array.reshape(-1, size, size):
                np.testing.assert_allclose(gate @ gate.T, np.eye(size), atol=1e-10)
                assert (gate == np.eye(size)).all() == (cell == "rnn_relu")
        elif name.startswith("weight_ih"):
            hidden_size = 16 if "_l0" in name else 12
            bound = np.sqrt(6 / (array.shape[1] + hidden_size))
            assert 0.9 * bound < np.abs(array).max() <= bound
            assert abs(array.mean()) < 0.15 * bound
    if cell == "lstm":
        for suffix in ("_l0", "_l0_reverse", "_l1", "_l1_reverse"):
            forget = (parameters["bias_ih" + suffix] + parameters["bias_hh" + suffix]).reshape(4, -1)
            np.testing.assert_array_equal(forget[1], 1)
            assert not np.delete(forget, 1, axis=0).any()


def test_an_unknown_cell_is_refused():
    with pytest.raises(ValueError, match="lstm") as error:
        RecurrentStack("transformer", 3, (4,))
    assert "transformer" in str(error.value)


def test_the_mean_of_many_steps_does_not_lose_digits():
    # 100,000 equal outputs: summed in float32 their mean would be wrong in the fourth digit.
    stack = RecurrentStack("rnn_tanh", 1, (1,))
    parameters = Parameters(stack.parameter_shapes(), "float32")
    parameters["bias_ih_l0"][...] = 0.3
    sequences = Sequences.from_padded(np.zeros((1, 100_000, 1), np.float32))
    pooled = stack.forward(parameters, sequences, pooling="mean").output
    np.testing.assert_allclose(pooled, np.tanh(np.float32(0.3)), rtol=1e-6)


def test_a_table_of_rows_stays_long_enough_while_others_change_it():
    stack = RecurrentStack("lstm", 1, (1,))

    class Shrinking(np.ndarray):
        def __len__(self):
            # What another thread may do between the look at the table and its use.
            stack._identity = np.arange(4, dtype=np.int64)
            return super().__len__()

    stack._identity = np.arange(8, dtype=np.int64).view(Shrinking)
    assert len(stack._rows(100_000)) >= 100_000
