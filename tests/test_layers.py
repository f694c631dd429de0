"""The public layers: arrays in, arrays out. One property per test, over cells, dtypes, shapes and directions."""

from __future__ import annotations

import concurrent.futures
import copy
import pickle

import numpy as np
import oracle
import pytest
from oracle.layer_states import from_layer, pad, to_layer

import numrnn
from numrnn import direction

CELLS = ("rnn_tanh", "rnn_relu", "lstm", "gru")
DTYPES = ("float32", "float64")
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}

every_cell = pytest.mark.parametrize("cell", CELLS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
both_ways = pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])

# (N, T, D, H): batches from 1 to 13 and 64, sizes on both sides of every vector width, one time step and several.
SHAPES = (
    (1, 1, 1, 1),
    (2, 2, 3, 2),
    (3, 5, 2, 3),
    (4, 3, 7, 7),
    (5, 4, 1, 15),
    (6, 2, 16, 16),
    (7, 3, 17, 17),
    (8, 3, 15, 31),
    (9, 2, 33, 33),
    (10, 2, 2, 65),
    (11, 2, 65, 3),
    (12, 1, 31, 17),
    (13, 3, 5, 16),
    (64, 2, 3, 7),
)
# Past the borders at which the kernels cut long sums, wide products and their scratch memory into blocks.
LARGE_SHAPES = ((3, 230, 5, 9), (2, 4, 200, 210), (401, 1, 3, 4))


def make_layer(cell, input_size, hidden_size, num_layers=None, **options):
    kind = {"lstm": numrnn.LSTM, "gru": numrnn.GRU}.get(cell, numrnn.RNN)
    if cell.startswith("rnn"):
        options["nonlinearity"] = cell[4:]
    return kind(input_size, hidden_size, num_layers, **options)


class Problem:
    """A layer with random parameters, ragged input, a state, and gradients to send back."""

    def __init__(
        self, cell, lengths, input_size, hidden_sizes, dtype="float64", bidirectional=False, seed=0, **options
    ):
        rng = np.random.default_rng(seed)
        self.cell, self.hidden_sizes, self.dtype = cell, tuple(hidden_sizes), np.dtype(dtype)
        equal = len(set(hidden_sizes)) == 1
        size, depth = (hidden_sizes[0], len(hidden_sizes)) if equal else (tuple(hidden_sizes), len(hidden_sizes))
        self.layer = make_layer(
            cell, input_size, size, **({"num_layers": depth} if equal else {}),
            dtype=dtype, bidirectional=bidirectional, random_state=0, **options,
        )  # fmt: skip
        shapes = oracle.parameter_shapes(cell, input_size, hidden_sizes, bidirectional)
        self.parameters = oracle.random_parameters(rng, shapes, dtype)
        assert {name: view.shape for name, view in self.layer.parameters.items()} == shapes
        for name, value in self.parameters.items():
            self.layer.parameters[name][...] = value
        self.lengths = np.array(lengths)
        self.sequences = oracle.random_sequences(rng, lengths, input_size, dtype)
        self.states = oracle.random_state(rng, cell, len(lengths), hidden_sizes, bidirectional, dtype)
        self.d_states = [rng.normal(size=s.shape).astype(dtype) for s in self.states]
        width = hidden_sizes[-1] * (2 if bidirectional else 1)
        self.d_outputs = oracle.random_sequences(rng, lengths, width, dtype)
        self.x, self.d_y = pad(self.sequences), pad(self.d_outputs)
        self.state, self.d_state = to_layer(self.states, hidden_sizes), to_layer(self.d_states, hidden_sizes)
        self.n_states = len(self.states[0])

    def split(self, padded):
        return [padded[i, :n] for i, n in enumerate(self.lengths)]

    def flatten(self, state):
        return from_layer(state, self.n_states, self.hidden_sizes)

    def run(self):
        """Everything there is to know: outputs, final state, gradients of parameters, input and initial state."""
        y, after = self.layer.forward(self.x, self.state, lengths=self.lengths, training=True)
        d_x, d_before = self.layer.backward(self.d_y, self.d_state)
        gradient = {f"gradient of {name}": view.copy() for name, view in self.layer.gradients.items()}
        return {"y": y, "d_x": d_x, **named("state", after), **named("d_state", d_before), **gradient}


def named(name, state):
    if isinstance(state, np.ndarray):
        return {name: state}
    return {key: array for i, part in enumerate(state) for key, array in named(f"{name} {i}", part).items()}


def assert_identical(actual, expected):
    assert actual.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)


def lengths_for(n_sequences, n_timesteps):
    """Ragged, in no order, with the longest and (if there are two) a length of 1."""
    lengths = np.random.default_rng(n_sequences).integers(1, n_timesteps + 1, size=n_sequences)
    lengths[0] = 1
    lengths[n_sequences // 2] = n_timesteps
    return lengths


# ----------------------------------------------------------------------------------------------- equal to the reference
def assert_equals_oracle(problem):
    tolerance = TOLERANCE[problem.dtype.name]
    expected = oracle.forward(problem.cell, problem.parameters, problem.sequences, problem.states)
    gradient, d_sequences, d_states = oracle.backward(expected, problem.d_outputs, problem.d_states)
    y, after = problem.layer.forward(problem.x, problem.state, lengths=problem.lengths, training=True)
    assert y.dtype == problem.dtype
    oracle.assert_close(y, pad(expected.outputs), tolerance, "y")
    for mine, theirs in zip(problem.flatten(after), expected.state, strict=True):
        assert mine.dtype == problem.dtype
        oracle.assert_close(mine, theirs, tolerance, "state")
    d_x, d_before = problem.layer.backward(problem.d_y, problem.d_state)
    assert d_x.dtype == problem.dtype
    oracle.assert_close(d_x, pad(d_sequences), tolerance, "d_x")
    for mine, theirs in zip(problem.flatten(d_before), d_states, strict=True):
        oracle.assert_close(mine, theirs, tolerance, "d_state")
    assert set(problem.layer.gradients) == set(gradient)
    for name, theirs in gradient.items():
        oracle.assert_close(problem.layer.gradients[name], theirs, tolerance, name)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "N{}-T{}-D{}-H{}".format(*shape))
@every_cell
@every_dtype
@both_ways
def test_equals_the_oracle(cell, dtype, bidirectional, shape):
    n_sequences, n_timesteps, input_size, hidden_size = shape
    lengths = lengths_for(n_sequences, n_timesteps)
    assert_equals_oracle(Problem(cell, lengths, input_size, (hidden_size,), dtype, bidirectional))


@pytest.mark.parametrize("shape", LARGE_SHAPES, ids=lambda shape: "N{}-T{}-D{}-H{}".format(*shape))
@every_cell
@every_dtype
def test_large_shapes_equal_the_oracle(cell, dtype, shape):
    n_sequences, n_timesteps, input_size, hidden_size = shape
    lengths = lengths_for(n_sequences, n_timesteps)
    assert_equals_oracle(Problem(cell, lengths, input_size, (hidden_size,), dtype))


@pytest.mark.parametrize("hidden_sizes", [(5, 5), (9, 4), (3, 17, 2)], ids=str)
@every_cell
@every_dtype
@both_ways
def test_stacks_equal_the_oracle(cell, dtype, bidirectional, hidden_sizes):
    assert_equals_oracle(Problem(cell, (2, 4, 1, 4, 3), 6, hidden_sizes, dtype, bidirectional))


@every_cell
@both_ways
def test_inference_equals_training(cell, bidirectional):
    problem = Problem(cell, (3, 1, 4), 3, (5, 5), "float32", bidirectional)
    trained = problem.layer.forward(problem.x, problem.state, lengths=problem.lengths, training=True)
    inferred = problem.layer.forward(problem.x, problem.state, lengths=problem.lengths)
    np.testing.assert_array_equal(trained[0], inferred[0])
    assert_identical(named("state", trained[1]), named("state", inferred[1]))


# ------------------------------------------------------------------------------------------------- lengths and padding
@pytest.mark.parametrize("fill", [7.0, -1e30])
@every_cell
@both_ways
def test_what_lies_past_the_end_of_a_sequence_does_not_matter(cell, bidirectional, fill):
    problem = Problem(cell, (2, 5, 1, 4), 3, (4, 4), "float32", bidirectional)
    expected = problem.run()
    for i, n in enumerate(problem.lengths):
        assert not expected["y"][i, n:].any()
        assert not expected["d_x"][i, n:].any()
    problem.x, problem.d_y = pad(problem.sequences, fill=fill), pad(problem.d_outputs, fill=-fill)
    assert_identical(problem.run(), expected)


@every_cell
@both_ways
def test_ragged_equals_one_by_one(cell, bidirectional):
    problem = Problem(cell, (3, 1, 6, 2, 6), 3, (5, 5), "float64", bidirectional)
    together = problem.run()
    totals = {name: np.zeros_like(view) for name, view in problem.layer.gradients.items()}
    for i, x in enumerate(problem.sequences):
        before = to_layer([s[:, i : i + 1] for s in problem.states], problem.hidden_sizes)
        d_after = to_layer([s[:, i : i + 1] for s in problem.d_states], problem.hidden_sizes)
        y, after = problem.layer.forward(x[None], before, training=True)
        np.testing.assert_allclose(y[0], together["y"][i, : len(x)], rtol=1e-12)
        for name, one in named("state", after).items():
            np.testing.assert_allclose(one[:, 0], together[name][:, i], rtol=1e-12)
        d_x, d_before = problem.layer.backward(problem.d_outputs[i][None], d_after)
        np.testing.assert_allclose(d_x[0], together["d_x"][i, : len(x)], rtol=1e-9, atol=1e-12)
        for name, one in named("d_state", d_before).items():
            np.testing.assert_allclose(one[:, 0], together[name][:, i], rtol=1e-9, atol=1e-12)
        for name in totals:
            totals[name] += problem.layer.gradients[name]
    for name, total in totals.items():
        oracle.assert_close(total, together[f"gradient of {name}"], 1e-12, name)


@every_cell
def test_the_order_of_the_sequences_does_not_matter(cell):
    problem = Problem(cell, (1, 2, 3, 4), 3, (5,), "float32", bidirectional=True)
    y, after = problem.layer.forward(problem.x, problem.state, lengths=problem.lengths)
    order = np.array([2, 0, 3, 1])
    state = to_layer([s[:, order] for s in problem.states], problem.hidden_sizes)
    y_other, after_other = problem.layer.forward(problem.x[order], state, lengths=problem.lengths[order])
    np.testing.assert_array_equal(y_other, y[order])
    for mine, theirs in zip(problem.flatten(after_other), problem.flatten(after), strict=True):
        np.testing.assert_array_equal(mine, theirs[:, order])


@every_cell
def test_without_lengths_every_sequence_is_whole(cell):
    problem = Problem(cell, (4, 4, 4), 3, (5,), "float32", bidirectional=True)
    given = problem.layer.forward(problem.x, problem.state, lengths=problem.lengths)
    left_out = problem.layer.forward(problem.x, problem.state)
    np.testing.assert_array_equal(given[0], left_out[0])
    as_list = problem.layer.forward(problem.x, problem.state, lengths=[4, 4, 4])
    np.testing.assert_array_equal(given[0], as_list[0])


@every_cell
@both_ways
def test_no_state_is_a_state_of_zeros(cell, bidirectional):
    problem = Problem(cell, (3, 2), 3, (5, 4), "float32", bidirectional)
    zeros = to_layer([np.zeros_like(s) for s in problem.states], problem.hidden_sizes)
    given, left_out = (problem.layer.forward(problem.x, state, lengths=problem.lengths) for state in (zeros, None))
    np.testing.assert_array_equal(given[0], left_out[0])
    assert_identical(named("state", given[1]), named("state", left_out[1]))


# -------------------------------------------------------------------------------------------------------- carried state
@every_cell
@pytest.mark.parametrize("hidden_sizes", [(5,), (4, 4), (6, 3)], ids=str)
def test_two_halves_with_carried_state_equal_the_whole(cell, hidden_sizes):
    problem = Problem(cell, (6, 6, 6), 3, hidden_sizes, "float64")
    whole = problem.run()
    layer, cut = problem.layer, 2
    _, between = layer.forward(problem.x[:, :cut], problem.state)
    y_2, after = layer.forward(problem.x[:, cut:], between, training=True)
    np.testing.assert_allclose(y_2, whole["y"][:, cut:], rtol=1e-12)
    for name, one in named("state", after).items():
        np.testing.assert_allclose(one, whole[name], rtol=1e-12)
    # Backward the other way round: the second half first, its gradient of the initial state into the first half.
    d_x_2, d_between = layer.backward(problem.d_y[:, cut:], problem.d_state)
    second = {name: view.copy() for name, view in layer.gradients.items()}
    layer.forward(problem.x[:, :cut], problem.state, training=True)
    d_x_1, d_before = layer.backward(problem.d_y[:, :cut], d_between)
    oracle.assert_close(np.concatenate([d_x_1, d_x_2], axis=1), whole["d_x"], 1e-12, "d_x")
    for name, one in named("d_state", d_before).items():
        oracle.assert_close(one, whole[name], 1e-12, name)
    for name, view in layer.gradients.items():
        oracle.assert_close(view + second[name], whole[f"gradient of {name}"], 1e-12, name)


@every_cell
@every_dtype
@pytest.mark.parametrize("hidden_sizes", [(5,), (17, 17), (6, 3)], ids=str)
@pytest.mark.parametrize("n_sequences", [1, 2, 7])
def test_steps_equal_forward(cell, dtype, hidden_sizes, n_sequences):
    problem = Problem(cell, (4,) * n_sequences, 3, hidden_sizes, dtype)
    y, after = problem.layer.forward(problem.x, problem.state)
    state = problem.state
    tolerance = {"float32": 1e-6, "float64": 1e-13}[dtype]
    for t in range(4):
        y_t, state = problem.layer.step(np.ascontiguousarray(problem.x[:, t]), state)
        assert y_t.shape == (n_sequences, hidden_sizes[-1]) and y_t.dtype == dtype
        oracle.assert_close(y_t, y[:, t], tolerance, f"step {t}")
    for mine, theirs in zip(problem.flatten(state), problem.flatten(after), strict=True):
        oracle.assert_close(mine, theirs, tolerance, "state")


@every_cell
def test_a_step_without_state_begins_at_zero_and_keeps_the_callers_arrays(cell):
    problem = Problem(cell, (3, 3), 3, (5,), "float32")
    y, _ = problem.layer.forward(problem.x)
    y_0, state = problem.layer.step(problem.x[:, 0], None)
    oracle.assert_close(y_0, y[:, 0], 1e-6)
    kept, y_kept = copy.deepcopy(state), y_0.copy()
    y_1, _ = problem.layer.step(problem.x[:, 1], state)
    oracle.assert_close(y_1, y[:, 1], 1e-6)
    assert_identical(named("state", state), named("state", kept))
    np.testing.assert_array_equal(y_0, y_kept)


@every_cell
@pytest.mark.parametrize("sizes", [(5, 5, 5), (4, 5, 5)], ids=str)
def test_residual_layers_step_as_they_run(cell, sizes):
    problem = Problem(cell, (4, 4, 4), 5, sizes, "float32", residual=True)
    y, after = problem.layer.forward(problem.x, problem.state)
    plain = Problem(cell, (4, 4, 4), 5, sizes, "float32").layer.forward(problem.x, problem.state)[0]
    assert not np.allclose(y, plain)
    state = problem.state
    for t in range(4):
        y_t, state = problem.layer.step(problem.x[:, t], state)
        np.testing.assert_array_equal(y_t, y[:, t])
    assert_identical(named("state", state), named("state", after))


def test_a_bidirectional_layer_cannot_step():
    layer = numrnn.GRU(3, 4, bidirectional=True)
    with pytest.raises(ValueError, match="bidirectional"):
        layer.step(np.zeros((2, 3), np.float32), None)


# -------------------------------------------------------------------------------------------------- threads and copies
@every_cell
@every_dtype
@both_ways
@pytest.mark.parametrize("by_units", [False, True], ids=["by_sequences", "by_units"])
def test_results_do_not_depend_on_the_number_of_threads(
    many_threads, monkeypatch, cell, dtype, bidirectional, by_units
):
    monkeypatch.setattr(direction, "_LARGE_WEIGHTS", 0 if by_units else 2**62)
    monkeypatch.setattr(direction, "_ENOUGH_SEQUENCES", 2**31)
    expected = Problem(cell, lengths_for(45, 5), 3, (40, 17), dtype, bidirectional, n_jobs=1).run()
    for n_jobs in (2, 3, 6):
        many_threads.most_tasks = 0
        problem = Problem(cell, lengths_for(45, 5), 3, (40, 17), dtype, bidirectional, n_jobs=n_jobs)
        assert_identical(problem.run(), expected)
        # Both directions run at once, and share the threads.
        assert many_threads.most_tasks >= (n_jobs // 2 * 2 if bidirectional else min(n_jobs, 4))
    assert many_threads.together == by_units


@every_cell
def test_layers_used_at_once_do_not_disturb_each_other(many_threads, cell):
    problems = [Problem(cell, lengths_for(9, 6), 3, (11, 5), "float32", seed=seed, n_jobs=2) for seed in range(3)]
    expected = [problem.run() for problem in problems]
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for _ in range(5):
            futures = [pool.submit(problem.run) for problem in problems]
            for future, alone in zip(futures, expected, strict=True):
                assert_identical(future.result(), alone)


@every_cell
def test_one_layer_predicts_from_several_threads(many_threads, cell):
    problems = [Problem(cell, lengths_for(7, 5), 3, (11, 5), "float32", seed=seed, n_jobs=2) for seed in range(4)]
    layer = problems[0].layer

    def infer(problem):
        y, after = layer.forward(problem.x, problem.state, lengths=problem.lengths)
        y_t, state = layer.step(problem.x[:, 0], problem.state)
        return {"y": y, "y_t": y_t, **named("state", after), **named("stepped", state)}

    expected = [infer(problem) for problem in problems]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for _ in range(8):
            for result, alone in zip(pool.map(infer, problems), expected, strict=True):
                assert_identical(result, alone)


@every_cell
def test_inference_between_forward_and_backward_disturbs_nothing(cell):
    problem = Problem(cell, (3, 5, 2), 3, (6, 6), "float32")
    expected = problem.run()
    layer = problem.layer
    layer.forward(problem.x, problem.state, lengths=problem.lengths, training=True)
    layer.forward(2 * problem.x[:1])
    layer.step(problem.x[:, 0], None)
    d_x, _ = layer.backward(problem.d_y, problem.d_state)
    np.testing.assert_array_equal(d_x, expected["d_x"])


@every_cell
def test_pickles_and_copies_are_independent_and_equal(cell):
    problem = Problem(cell, (3, 5, 2), 3, (6, 4), "float32", n_jobs=2)
    expected = problem.run()
    original = problem.layer
    for other in (pickle.loads(pickle.dumps(original)), copy.deepcopy(original)):
        problem.layer = other
        assert_identical(problem.run(), expected)
        other.parameters["weight_hh_l0"][...] = 0
        assert original.parameters["weight_hh_l0"].any()


# ------------------------------------------------------------------------------------------- parameters, gradients
@every_cell
@every_dtype
def test_parameters_are_writable_views(cell, dtype):
    layer = make_layer(cell, 3, 4, num_layers=2, bidirectional=True, dtype=dtype, random_state=0)
    x = np.ones((1, 2, 3), dtype)
    before, _ = layer.forward(x)
    for name in layer.parameters:
        view = layer.parameters[name]
        assert view.dtype == dtype and view.flags.writeable and view.flags.c_contiguous
        view[...] = 0
    assert not any(layer.parameters[name].any() for name in layer.parameters)
    after, _ = layer.forward(x)
    assert before.any() and not after.any()
    assert list(layer.gradients) == list(layer.parameters)


# Ways to change parameters; each gets the layer and what it returned the time before.
def in_place(layer, kept):
    layer.parameters["weight_hh_l0"][...] *= -1


def through_a_kept_view(layer, kept):
    view = layer.parameters["weight_hh_l0"] if kept is None else kept
    view *= -1
    return view


def through_a_slice(layer, kept):
    view = layer.parameters["weight_hh_l0"].T[1:, ::2] if kept is None else kept
    view *= -1
    return view


def through_a_buffer(layer, kept):
    buffer = memoryview(layer.parameters["bias_ih_l0"]) if kept is None else kept
    buffer[0] = 1 - buffer[0]
    return buffer


def through_a_kept_dictionary(layer, kept):
    parameters = layer.parameters if kept is None else kept
    parameters["weight_ih_l0"] *= -1
    return parameters


@pytest.mark.parametrize(
    "change",
    [in_place, through_a_kept_view, through_a_slice, through_a_buffer, through_a_kept_dictionary],
)
@pytest.mark.parametrize("origin", ["new", "pickled", "copied"])
@pytest.mark.parametrize("call", ["forward", "step"])
def test_every_change_of_the_parameters_is_seen(change, origin, call):
    layer = numrnn.GRU(3, 4, dtype="float64", random_state=0)
    if origin != "new":
        layer = pickle.loads(pickle.dumps(layer)) if origin == "pickled" else copy.deepcopy(layer)
    x, state = np.ones((2, 3)), np.full((1, 2, 4), 0.5)

    def run():
        return layer.step(x, state)[0] if call == "step" else layer.forward(x[:, None], state)[0][:, 0]

    kept = change(layer, None)
    run()
    kept = change(layer, kept)
    for _ in range(2):
        again = run()
        parameters = {name: np.array(view) for name, view in layer.parameters.items()}
        expected = oracle.forward("gru", parameters, list(x[:, None]), [state[0][None]])
        oracle.assert_close(again, np.concatenate(expected.outputs), 1e-9)


def test_a_view_kept_from_before_the_copy_changes_the_original_alone():
    original = numrnn.GRU(3, 4, dtype="float64", random_state=0)
    view = original.parameters["weight_hh_l0"]
    other = copy.deepcopy(original)
    x, state = np.ones((2, 3)), np.full((1, 2, 4), 0.5)
    before = original.step(x, state)[0]
    view[...] = 0
    assert (original.step(x, state)[0] != before).any()
    np.testing.assert_array_equal(other.step(x, state)[0], before)


@every_cell
def test_backward_gives_the_gradient_of_the_last_forward_alone(cell):
    problem = Problem(cell, (3, 2), 3, (4,), "float32")
    first = problem.run()
    assert_identical(problem.run(), first)


@every_cell
def test_the_same_seed_gives_the_same_parameters(cell):
    def flat(seed):
        layer = make_layer(cell, 3, 4, bidirectional=True, random_state=seed)
        return np.concatenate([view.ravel() for view in layer.parameters.values()])

    np.testing.assert_array_equal(flat(1), flat(1))
    np.testing.assert_array_equal(flat(np.random.RandomState(3)), flat(np.random.RandomState(3)))
    assert (flat(1) != flat(2)).any()
    assert np.isfinite(flat(1)).all() and flat(1).std() > 0.05


def test_gates_start_as_documented():
    layer = numrnn.LSTM(8, 16, random_state=0)
    total = layer.parameters["bias_ih_l0"] + layer.parameters["bias_hh_l0"]
    np.testing.assert_array_equal(total[16:32], 1)
    assert not total[:16].any() and not total[32:].any()
    recurrent = layer.parameters["weight_hh_l0"].reshape(4, 16, 16)
    for gate in recurrent:
        np.testing.assert_allclose(gate @ gate.T, np.eye(16), atol=1e-5)


# ------------------------------------------------------------------------------------------------------------- dropout
def test_recurrent_dropout_acts_in_training_only_and_survives_copying():
    layer = numrnn.LSTM(3, 16, recurrent_dropout=0.5, random_state=0)
    plain = numrnn.LSTM(3, 16, random_state=0)
    x = np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32)
    np.testing.assert_array_equal(layer.forward(x)[0], plain.forward(x)[0])
    copied = pickle.loads(pickle.dumps(layer))
    first, second = (layer.forward(x, training=True)[0] for _ in range(2))
    assert not np.allclose(first, second)
    np.testing.assert_array_equal(copied.forward(x, training=True)[0], first)
    # The first step comes from a state of zeros, which a mask leaves as it is.
    np.testing.assert_array_equal(first[:, 0], second[:, 0])


def test_dropout_acts_between_layers_in_training_only():
    layer = numrnn.GRU(3, 64, num_layers=2, dropout=0.5, random_state=0)
    x = np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32)
    np.testing.assert_array_equal(layer.forward(x)[0], layer.forward(x)[0])
    trained = layer.forward(x, training=True)[0]
    assert (trained != layer.forward(x)[0]).any()
    assert (trained != layer.forward(x, training=True)[0]).any()
    alone = numrnn.GRU(3, 64, dropout=0.5, random_state=0)
    np.testing.assert_array_equal(alone.forward(x, training=True)[0], alone.forward(x)[0])


# ------------------------------------------------------------------------------------------- how arrays may be laid out
@every_cell
@every_dtype
def test_any_layout_of_the_input(cell, dtype):
    problem = Problem(cell, (4, 2, 3), 5, (6,), dtype, bidirectional=True)
    expected = problem.run()
    x, d_y, state, d_state = problem.x, problem.d_y, problem.state, problem.d_state

    def read_only(a):
        a = a.copy()
        a.flags.writeable = False
        return a

    layouts = {
        "Fortran order": np.asfortranarray,
        "every second": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
        "reversed": lambda a: a[::-1].copy()[::-1],
        "transposed": lambda a: a.transpose(1, 0, 2).copy().transpose(1, 0, 2),
        "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
        "read-only": read_only,
        "a list": lambda a: a.tolist(),
    }
    for name, layout in layouts.items():
        lay_out = layout if name != "a list" else np.asarray
        problem.x, problem.d_y = layout(x), layout(d_y)
        problem.state, problem.d_state = (
            tuple(map(lay_out, s)) if isinstance(s, tuple) else lay_out(s) for s in (state, d_state)
        )
        result = problem.run()
        for key in expected:
            np.testing.assert_array_equal(result[key], expected[key], err_msg=f"{name}: {key}")


@every_cell
def test_nothing_given_is_written(cell):
    problem = Problem(cell, (4, 2, 3), 5, (6, 6), "float64")
    before = copy.deepcopy((problem.x, problem.d_y, problem.lengths, problem.state, problem.d_state))
    problem.run()
    for mine, other in zip((problem.x, problem.d_y, problem.lengths), before[:3], strict=True):
        np.testing.assert_array_equal(mine, other)
    assert_identical(named("s", problem.state), named("s", before[3]))
    assert_identical(named("s", problem.d_state), named("s", before[4]))


def test_outputs_belong_to_the_caller():
    problem = Problem("lstm", (4, 4), 5, (6,), "float64")
    y, after = problem.layer.forward(problem.x, problem.state, training=True)
    kept = y.copy(), copy.deepcopy(after)
    y[...] = 0
    for part in after:
        part[...] = 0
    d_x, _ = problem.layer.backward(problem.d_y, problem.d_state)
    np.testing.assert_array_equal(d_x, problem.run()["d_x"])
    y_again, after_again = problem.layer.forward(problem.x, problem.state)
    np.testing.assert_array_equal(y_again, kept[0])
    assert_identical(named("s", after_again), named("s", kept[1]))


@pytest.mark.parametrize("given", ["float64", "float32", "int64", "bool"])
def test_numbers_of_other_types_are_converted(given):
    layer = numrnn.GRU(2, 3, dtype="float32", random_state=0)
    x = np.array([[[0, 1], [1, 1]]])
    y, _ = layer.forward(x.astype(given))
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, layer.forward(x.astype(np.float32))[0])
