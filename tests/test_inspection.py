"""What inspection shows is what a network written from the definitions does."""

from __future__ import annotations

import warnings
from itertools import pairwise, product

import numpy as np
import pytest
from oracle import assert_close, central_difference, losses, random_parameters, random_sequences
from oracle.inspection import look
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from numrnn import GRU, LSTM, RNN, Convolution, RNNClassifier, RNNRegressor, RNNTagger
from numrnn.inspection import (
    ablate_units,
    attention_weights,
    attributions,
    cell_states,
    gate_activations,
    gradient_norms,
    hidden_states,
    unit_importance,
)
from numrnn.inspection import recurrence as recurrence_module

EXACT = 1e-9
LENGTHS = (4, 1, 6)
LAYERS = {"lstm": LSTM, "gru": GRU, "rnn_tanh": RNN, "rnn_relu": RNN}


def make_layer(cell, sizes, *, bidirectional=False, dtype="float64", input_size=3):
    options = {"nonlinearity": cell[4:]} if cell.startswith("rnn_") else {}
    layer = LAYERS[cell](
        input_size, sizes, bidirectional=bidirectional, dtype=dtype, random_state=0, n_jobs=1, **options
    )
    for view in layer.parameters.values():
        view += np.random.RandomState(view.size).normal(scale=0.3, size=view.shape)
    return layer


def make_model(kind, rng, X, y, *, cell="lstm", sizes=(4, 3), **options):
    """A fitted estimator in float64 with random parameters: trained weights would be close to the initial ones."""
    if cell.startswith("rnn_"):
        options["activation"] = cell[4:]
    options = {"random_state": 0, "max_iter": 1, "n_jobs": 1, "dtype": "float64", **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = kind(sizes, cell=cell[:3] if cell.startswith("rnn_") else cell, **options).fit(X, y)
    parameters = model._network.parameters
    for name, values in random_parameters(rng, parameters.shapes).items():
        parameters[name][...] = values
    return model


def look_at(model, X, **options):
    network = model._network
    return look(network.cell, network.parameters, X, network.pooling, **options)


def joined(of_layer, sequence, name):
    parts = [direction[sequence] for direction in of_layer]
    return np.concatenate([getattr(p, name) if hasattr(p, name) else p.gates[name] for p in parts], axis=1)


# ------------------------------------------------------------------------------------------------------ activations
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", LAYERS)
def test_states_and_gates_of_layers_are_those_of_the_definition(cell, bidirectional, rng):
    layer = make_layer(cell, (5, 4), bidirectional=bidirectional)
    X = random_sequences(rng, LENGTHS, 3)
    expected = look(cell, layer.parameters, X)
    for number in range(2):
        for i, states in enumerate(hidden_states(layer, X, layer=number)):
            assert_close(states, joined(expected.seen[number], i, "hidden"), EXACT)
        if cell == "lstm":
            for i, states in enumerate(cell_states(layer, X, layer=number)):
                assert_close(states, joined(expected.seen[number], i, "cell"), EXACT)
        if cell in ("lstm", "gru"):
            gates = gate_activations(layer, X, layer=number)
            assert set(gates) == set(expected.seen[number][0][0].gates)
            for name, lists in gates.items():
                for i, gate in enumerate(lists):
                    assert_close(gate, joined(expected.seen[number], i, name), EXACT, name)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_one_direction_is_its_columns_of_both(direction, rng):
    layer = make_layer("lstm", 5, bidirectional=True)
    X = rng.normal(size=(3, 6, 3))
    columns = slice(0, 5) if direction == "forward" else slice(5, 10)
    for function in (hidden_states, cell_states):
        np.testing.assert_array_equal(function(layer, X, direction=direction), function(layer, X)[..., columns])
    both = gate_activations(layer, X)
    for name, gate in gate_activations(layer, X, direction=direction).items():
        np.testing.assert_array_equal(gate, both[name][..., columns])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_hidden_states_of_the_top_layer_are_the_layers_outputs_to_the_bit(dtype, rng):
    layer = make_layer("gru", (9, 17), bidirectional=True, dtype=dtype)
    X = rng.normal(size=(5, 7, 3)).astype(dtype)
    states = hidden_states(layer, X)
    assert states.dtype == dtype
    np.testing.assert_array_equal(states, layer.forward(X)[0])


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_an_array_and_a_list_of_its_rows_are_the_same_sequences(cell, rng):
    layer = make_layer(cell, 4)
    X = rng.normal(size=(3, 5, 3))
    np.testing.assert_array_equal(hidden_states(layer, X), np.stack(hidden_states(layer, list(X))))
    for name, gate in gate_activations(layer, X).items():
        assert gate.shape == (3, 5, 4)
        np.testing.assert_array_equal(gate, np.stack(gate_activations(layer, list(X))[name]))


def test_states_of_estimators_follow_the_container_of_X(rng):
    X = rng.normal(size=(6, 5))
    y = np.arange(6) % 2
    model = make_model(RNNClassifier, rng, X, y)
    expected = look_at(model, X[:, :, None])
    states = hidden_states(model, X)
    assert states.shape == (6, 5, 3)
    assert_close(states[2], expected.seen[1][0][2].hidden, EXACT)
    ragged = [X[0], X[1, :2]]
    assert [part.shape for part in hidden_states(model, ragged, layer=0)] == [(5, 4), (2, 4)]
    np.testing.assert_array_equal(hidden_states(model, ragged)[1], states[1, :2])
    np.testing.assert_array_equal(hidden_states(model, X[:, :, None]), states)
    # What is pooled is the last of them.
    np.testing.assert_array_equal(states[:, -1], model.transform(X))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_windows_and_chunks_do_not_change_a_bit(cell, rng, monkeypatch):
    layer = make_layer(cell, (4, 3), bidirectional=True)
    X = random_sequences(rng, (13, 1, 9, 13), 3)

    def everything():
        result = [hidden_states(layer, X), *gate_activations(layer, X, layer=0).values()]
        return [*result, cell_states(layer, X)] if cell == "lstm" else result

    whole = everything()
    monkeypatch.setattr(recurrence_module, "_WINDOW_BYTES", 1)
    monkeypatch.setattr(recurrence_module, "_CHUNK_BYTES", 1)
    for before, after in zip(whole, everything(), strict=True):
        for one, other in zip(before, after, strict=True):
            np.testing.assert_array_equal(one, other)


# ------------------------------------------------------------------------------------------------------ gradient norms
def nudged_norms(model_loss, layers, n_directions, hidden_sizes, lengths, state):
    """Norms of central differences of a loss by nudges of the states: [sequence][t, layer, direction]."""
    norms = [np.zeros((length, len(layers), n_directions)) for length in lengths]
    for number, length in enumerate(lengths):
        for layer in layers:
            for direction in range(n_directions):
                for t in range(length):
                    nudge = np.zeros(hidden_sizes[layer])
                    key = (layer, direction, number, t, state)
                    gradient = central_difference(lambda k=key, n=nudge: model_loss({k: n}), nudge, step=1e-3)
                    norms[number][t, layer, direction] = np.linalg.norm(gradient)
    return norms


@pytest.mark.parametrize(
    ("cell", "bidirectional", "pooling", "state"),
    [
        ("lstm", False, "last", "hidden"),
        ("lstm", False, "last", "cell"),
        ("lstm", True, "mean", "cell"),
        ("gru", True, "last", "hidden"),
        ("rnn_tanh", True, "max", "hidden"),
        ("rnn_relu", False, "mean", "hidden"),
    ],
)
def test_gradient_norms_are_those_of_finite_differences(cell, bidirectional, pooling, state, rng):
    lengths = (4, 1, 3)
    X, y = random_sequences(rng, lengths, 2), np.array(["b", "a", "c"])
    model = make_model(RNNClassifier, rng, X, y, cell=cell, sizes=(3, 2), bidirectional=bidirectional, pooling=pooling)
    classes = np.array([1, 0, 2])

    def loss(nudges):
        return losses.cross_entropy(look_at(model, X, nudges=nudges).outputs, classes)[0].sum()

    n_directions = 1 + bidirectional
    expected = nudged_norms(loss, range(2), n_directions, (3, 2), lengths, ("hidden", "cell").index(state))
    norms = gradient_norms(model, X, y, state=state)
    for actual, parts in zip(norms, expected, strict=True):
        assert_close(actual, np.linalg.norm(parts, axis=2), 1e-7)
    if bidirectional:
        for place, direction in enumerate(("forward", "reverse")):
            for actual, parts in zip(
                gradient_norms(model, X, y, state=state, direction=direction), expected, strict=True
            ):
                assert_close(actual, parts[:, :, place], 1e-7)


def test_gradient_norms_of_a_regressor_with_several_outputs(rng):
    lengths = (3, 2)
    X, y = random_sequences(rng, lengths, 2), rng.normal(size=(2, 2))
    model = make_model(RNNRegressor, rng, X, y, sizes=(3,), loss="huber")
    scaled = (y - model.target_mean_) / model.target_scale_

    def loss(nudges):
        return losses.huber(look_at(model, X, nudges=nudges).outputs, scaled)[0].mean(axis=1).sum()

    expected = nudged_norms(loss, range(1), 1, (3,), lengths, 0)
    for actual, parts in zip(gradient_norms(model, X, y), expected, strict=True):
        assert_close(actual, parts[:, :, 0], 1e-7)


def test_gradient_norms_with_targets_for_every_time_step(rng):
    lengths = (3, 2)
    X, y = random_sequences(rng, lengths, 2), random_sequences(rng, lengths, 1)
    model = make_model(RNNRegressor, rng, X, y, sizes=(3,), cell="gru")
    scaled = (np.concatenate(y) - model.target_mean_) / model.target_scale_

    def loss(nudges):
        # The oracle's is half of the squared error.
        return 2 * losses.squared_error(look_at(model, X, nudges=nudges).outputs, scaled)[0].sum()

    expected = nudged_norms(loss, range(1), 1, (3,), lengths, 0)
    for actual, parts in zip(gradient_norms(model, X, y), expected, strict=True):
        assert_close(actual, parts[:, :, 0], 1e-7)
    with pytest.raises(ValueError, match="y has one target for every sequence, but RNNRegressor was first fitted with"):
        gradient_norms(model, X, [1.0, 2.0])


def test_gradient_norms_of_a_layer(rng):
    layer = make_layer("gru", (3, 4))
    X = random_sequences(rng, (4, 2), 3)
    d_y = [rng.normal(size=(4, 4)), rng.normal(size=(2, 4))]

    def loss(nudges):
        top = look("gru", layer.parameters, X, nudges=nudges).top
        return sum((d * y).sum() for d, y in zip(d_y, top, strict=True))

    expected = nudged_norms(loss, range(2), 1, (3, 4), (4, 2), 0)
    for actual, parts in zip(gradient_norms(layer, X, d_y), expected, strict=True):
        assert_close(actual, parts[:, :, 0], 1e-7)


def test_a_vanishing_gradient_is_measured_far_below_the_smallest_number_of_float32(rng):
    layer = RNN(1, 4, random_state=0)
    layer.parameters["weight_hh_l0"][...] = 0.25 * np.eye(4)
    layer.parameters["weight_ih_l0"][...] = 0
    d_y = np.zeros((1, 200, 4))
    d_y[:, -1] = 1
    norms = gradient_norms(layer, np.zeros((1, 200, 1)), d_y)[0, :, 0]
    np.testing.assert_allclose(norms, 2 * 0.25 ** np.arange(199.0, -1, -1), rtol=1e-12)
    assert norms[0] < 1e-110


def test_gradient_norms_do_not_depend_on_the_batch(rng, monkeypatch):
    X, y = random_sequences(rng, (5, 3, 7), 2), [0, 1, 0]
    model = make_model(RNNClassifier, rng, X, y, bidirectional=True, pooling="max")
    together = gradient_norms(model, X, y)
    monkeypatch.setattr(recurrence_module, "_CHUNK_BYTES", 1)
    for one, other in zip(together, gradient_norms(model, X, y), strict=True):
        assert_close(one, other, 1e-12)


# ------------------------------------------------------------------------------------------------------ attributions
@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradient_x_input_is_that_of_finite_differences(pooling, bidirectional, rng):
    X, y = random_sequences(rng, (4, 1, 3), 2), np.array([0.5, -1.0, 2.0])
    model = make_model(RNNRegressor, rng, X, y, pooling=pooling, bidirectional=bidirectional)
    values = attributions(model, X, method="gradient_x_input")
    for number, x in enumerate(X):
        gradient = central_difference(lambda n=number: look_at(model, X).outputs[n, 0] * model.target_scale_[0], x)
        assert_close(values[number], x * gradient, 1e-7)


@pytest.mark.parametrize("output", ["raw", "probability"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_integrated_gradients_are_complete(cell, output, rng):
    X, y = rng.normal(size=(5, 6, 3)), ["a", "b", "c", "a", "b"]
    model = make_model(RNNClassifier, rng, X, y, cell=cell, bidirectional=True)
    baseline = rng.normal(size=3)
    values, delta = attributions(
        model, X, "b", output=output, baseline=baseline, tol=1e-10, return_convergence_delta=True
    )
    assert values.shape == X.shape
    outputs = [look_at(model, np.broadcast_to(x, X.shape)).outputs for x in (X, baseline)]
    if output == "probability":
        outputs = [losses.softmax(logits) for logits in outputs]
    assert_close(values.sum(axis=(1, 2)), outputs[0][:, 1] - outputs[1][:, 1], 1e-8)
    assert np.abs(delta).max() < 1e-8


def test_integrated_gradients_are_the_integral(rng):
    """Against finite differences at the points of another quadrature."""
    X = random_sequences(rng, (3, 2), 2)
    model = make_model(RNNClassifier, rng, X, [0, 1], sizes=(3,))
    values = attributions(model, X, 1, output="probability", steps=40)
    t = np.linspace(0, 1, 41)
    simpson = np.where(np.arange(41) % 2, 4, 2) / 120
    simpson[[0, -1]] = 1 / 120
    for number, x in enumerate(X):
        mean = np.zeros_like(x)
        for weight, point in zip(simpson, t, strict=True):
            scaled = [point * other for other in X]
            mean += weight * central_difference(
                lambda s=scaled, n=number: losses.softmax(look_at(model, s).outputs)[n, 1], scaled[number]
            )
        assert_close(values[number], x * mean, 1e-6)


@pytest.mark.parametrize("per_step", [False, True])
def test_integrated_gradients_find_a_sudden_change(per_step, rng):
    """A unit that switches from -1 to 1 within a few thousandths of the way, between the points of one quadrature."""
    X = rng.uniform(1, 2, size=(4, 3, 1))
    model = make_model(RNNRegressor, rng, X, X if per_step else X[:, 0, 0], cell="rnn_tanh", sizes=(1,))
    parameters = model._network.parameters
    parameters["weight_ih_l0"][...] = 3000.0
    parameters["weight_hh_l0"][...] = 1.0
    parameters["bias_ih_l0"][...] = -1000.0
    values, delta = attributions(model, X, steps=8, tol=1e-4, return_convergence_delta=True)
    expected = 2 * parameters["weight_out"][0, 0] * model.target_scale_[0] * (3 if per_step else 1)
    assert_close(values.sum(axis=(1, 2)), np.full(4, expected), 1e-3)
    assert np.abs(delta).max() < 1e-3 * abs(expected)
    _, delta = attributions(model, X, steps=8, tol=np.inf, return_convergence_delta=True)
    assert np.abs(delta).min() > 0.05 * abs(expected)


def test_attributions_follow_the_container_and_the_predicted_class(rng):
    X = rng.normal(size=(4, 5))
    model = make_model(RNNClassifier, rng, X, ["a", "b", "c", "a"])
    predicted = model.predict(X)
    values = attributions(model, X)
    assert values.shape == X.shape
    np.testing.assert_array_equal(values, attributions(model, X, predicted))
    np.testing.assert_array_equal(values, attributions(model, X[:, :, None])[:, :, 0])
    np.testing.assert_array_equal(values, np.stack(attributions(model, list(X))))
    one_by_one = [attributions(model, X[i : i + 1], str(predicted[i]))[0] for i in range(4)]
    assert_close(values, np.stack(one_by_one), 1e-12)


def test_an_input_equal_to_the_baseline_has_no_attribution(rng):
    X = rng.normal(size=(3, 5, 2))
    model = make_model(RNNRegressor, rng, X, rng.normal(size=3))
    baseline = X.copy()
    baseline[1, 2, 1] += 1
    values = attributions(model, X, baseline=baseline)
    assert values[1, 2, 1] != 0
    values[1, 2, 1] = 0
    assert (values == 0).all()


def test_attributions_of_one_time_step_of_many(rng):
    X, y = random_sequences(rng, (3, 2), 2), random_sequences(rng, (3, 2), 2)
    model = make_model(RNNRegressor, rng, X, y, sizes=(3,), bidirectional=True)
    for number, x in enumerate(X):
        steps = []
        for t in range(-2, 0):
            gradient = central_difference(
                lambda n=number, t=t: look_at(model, [X[n]]).outputs[t, 1] * model.target_scale_[1], x
            )
            values = attributions(model, X, 1, method="gradient_x_input", time_step=t)
            assert_close(values[number], x * gradient, 1e-7)
            steps.append(attributions(model, [x[-2:]], 1, time_step=t)[0])
        total, delta = attributions(model, [x[-2:]], 1, return_convergence_delta=True)
        assert_close(total[0], steps[0] + steps[1], 1e-10)
        assert np.abs(delta).max() < 1e-9
    for time_step in (2, -3):
        with pytest.raises(ValueError, match="time_step must lie in every sequence, the shortest of which has 2"):
            attributions(model, X, 0, time_step=time_step)
    with pytest.raises(ValueError, match=r"time_step must be an integer or None, got 1\.0"):
        attributions(model, X, 0, time_step=1.0)


def test_attributions_of_a_model_in_float32_are_complete(rng):
    X = rng.normal(size=(3, 5, 2)).astype(np.float32)
    model = make_model(RNNRegressor, rng, X, rng.normal(size=(3, 2)), dtype="float32", dropout=0.5)
    _, delta = attributions(model, X, 1, return_convergence_delta=True)
    assert np.abs(delta).max() < 1e-9


# ------------------------------------------------------------------------------------------------------ ablation
@pytest.mark.parametrize("cell", LAYERS)
@pytest.mark.parametrize(
    ("layer", "bidirectional", "pooling"), [(0, False, "last"), (1, True, "max"), (0, True, "mean")]
)
def test_ablated_units_are_constant_wherever_they_are_read(cell, layer, bidirectional, pooling, rng):
    X, y = random_sequences(rng, LENGTHS, 3), np.array([0.0, 1.0, 3.0])
    model = make_model(RNNRegressor, rng, X, y, cell=cell, sizes=(4, 3), bidirectional=bidirectional, pooling=pooling)
    size = model._network.hidden_sizes[layer]
    units, constants = [1, size - 1 + (size if bidirectional else 0)], np.array([0.3, -0.2])
    if cell == "rnn_relu":
        constants = np.abs(constants)
    before = model._network.parameters.flat.copy()
    for value in (0.0, constants):
        holds: dict = {}
        for unit, constant in zip(units, np.broadcast_to(value, 2), strict=True):
            holds.setdefault((layer, unit // size), {})[unit % size] = constant
        ablated = ablate_units(model, units, layer=layer, value=value)
        expected = look_at(model, X, holds=holds).outputs[:, 0] * model.target_scale_ + model.target_mean_
        assert_close(ablated.predict(X), expected, 1e-8)
    np.testing.assert_array_equal(model._network.parameters.flat, before)


def test_units_held_at_their_mean(rng):
    X, y = random_sequences(rng, (4, 2), 2), np.array([0.0, 1.0])
    model = make_model(RNNRegressor, rng, X, y, sizes=(3,))
    mean = np.concatenate(hidden_states(model, X)).mean(axis=0)
    one = ablate_units(model, 2, value="mean", X=X)
    other = ablate_units(model, [2], value=mean[2])
    np.testing.assert_array_equal(one.predict(X), other.predict(X))
    assert not np.array_equal(one.predict(X), model.predict(X))


def test_unit_importance_is_the_drop_of_the_score(rng):
    X, y = rng.normal(size=(40, 4, 2)), rng.integers(0, 2, 40)
    model = make_model(RNNClassifier, rng, X, y, sizes=(3, 5), bidirectional=True)
    for replacement, value in (("mean", "mean"), ("zero", 0.0)):
        importance = unit_importance(model, X, y, layer=0, direction="reverse", replacement=replacement)
        expected = [
            model.score(X, y) - ablate_units(model, 3 + unit, layer=0, value=value, X=X).score(X, y)
            for unit in range(3)
        ]
        np.testing.assert_allclose(importance, expected, atol=1e-12)
    by_name = unit_importance(model, X, y, scoring="accuracy")
    assert by_name.shape == (10,)
    by_function = unit_importance(model, X, y, scoring=lambda m, X, y: accuracy_score(y, m.predict(X)))
    np.testing.assert_array_equal(by_name, by_function)
    log_loss = unit_importance(model, X, y, scoring="neg_log_loss")
    assert (log_loss != 0).all()


def test_a_unit_that_nobody_reads_is_not_important(rng):
    X, y = rng.normal(size=(30, 4, 2)), rng.normal(size=30)
    model = make_model(RNNRegressor, rng, X, y, sizes=(4,))
    model._network.parameters["weight_out"][:, 2] = 0
    model._network.parameters["weight_hh_l0"][:, 2] = 0
    importance = unit_importance(model, X, y)
    assert abs(importance[2]) < 1e-12
    assert (np.abs(np.delete(importance, 2)) > 1e-6).all()


# ------------------------------------------------------------------------------------------------------ residual layers
@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_networks_with_residual_layers(pooling, bidirectional, rng):
    X, y = random_sequences(rng, (3, 1, 2), 2), np.array([0.0, 1.0, 3.0])
    options = {"sizes": (2, 3, 3, 3), "pooling": pooling, "bidirectional": bidirectional, "cell": "gru"}
    model = make_model(RNNRegressor, rng, X, y, residual=True, **options)

    def predictions(**options):
        return look_at(model, X, residual=True, **options).outputs[:, 0] * model.target_scale_ + model.target_mean_

    assert_close(model.predict(X), predictions(), EXACT)
    expected = look_at(model, X, residual=True)
    for layer in range(4):
        for i, states in enumerate(hidden_states(model, X, layer=layer)):
            assert_close(states, joined(expected.seen[layer], i, "hidden"), EXACT)
    values = attributions(model, X, method="gradient_x_input")
    for number, x in enumerate(X):
        assert_close(values[number], x * central_difference(lambda n=number: predictions()[n], x), 1e-7)
    for layer in range(4):
        ablated = ablate_units(model, [0, 1], layer=layer, value=[0.5, -0.25])
        assert_close(ablated.predict(X), predictions(holds={(layer, 0): {0: 0.5, 1: -0.25}}), 1e-8)


# ------------------------------------------------------------------------------------------------------ bad input
@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6, 5, 2))
    return make_model(RNNClassifier, rng, X, np.array(list("abcabc"))), X, np.array(list("abcabc"))


@pytest.mark.parametrize("function", [hidden_states, cell_states, gate_activations])
def test_states_refuse_what_is_not_there(function, fitted):
    model, X, _ = fitted
    for layer in (2, -3, 0.0, True):
        with pytest.raises(ValueError, match=r"layer must be an integer from -2 to 1, since the model has 2 recurrent"):
            function(model, X, layer=layer)
    with pytest.raises(ValueError, match="direction must be 'forward', 'reverse' or None, got 'backward'"):
        function(model, X, direction="backward")
    with pytest.raises(ValueError, match="direction='reverse' needs a bidirectional model"):
        function(model, X, direction="reverse")
    with pytest.raises(ValueError, match="X has 3 features, but RNNClassifier is expecting 2"):
        function(model, np.zeros((1, 4, 3)))
    with pytest.raises(NotFittedError):
        function(RNNClassifier(), X)
    with pytest.raises(
        TypeError, match=r"needs an estimator of numrnn, such as RNNClassifier, or a layer.*StandardSca"
    ):
        function(StandardScaler(), X)
    with pytest.raises(TypeError, match="of a pipeline, pass the last step"):
        function(make_pipeline(StandardScaler(), model), X)


def test_cells_without_cell_state_or_gates():
    X = np.zeros((1, 3, 3))
    with pytest.raises(ValueError, match="cell_states needs an LSTM; a model with the cell 'gru' has no cell state"):
        cell_states(make_layer("gru", 2), X)
    with pytest.raises(ValueError, match="gate_activations needs an LSTM or a GRU; a model with the cell 'rnn_tanh'"):
        gate_activations(make_layer("rnn_tanh", 2), X)
    with pytest.raises(ValueError, match="state='cell' needs an LSTM"):
        gradient_norms(make_layer("gru", 2), X, np.zeros((1, 3, 2)), state="cell")
    with pytest.raises(ValueError, match="state must be 'hidden' or 'cell', got 'c'"):
        gradient_norms(make_layer("lstm", 2), X, np.zeros((1, 3, 2)), state="c")


def test_layers_refuse_other_sequences():
    layer = make_layer("lstm", 2)
    with pytest.raises(ValueError, match=r"X must have the shape \(n_sequences, n_timesteps, input_size\)"):
        hidden_states(layer, np.zeros((3, 3)))
    with pytest.raises(ValueError, match="X must have at least one sequence, got an empty list"):
        hidden_states(layer, [])
    with pytest.raises(ValueError, match=r"sequence 1 of X must have the shape \(n_timesteps, 3\) with at least one"):
        hidden_states(layer, [np.zeros((2, 3)), np.zeros((0, 3))])
    with pytest.raises(ValueError, match="sequence 0 of X must be finite, got NaN"):
        hidden_states(layer, [np.full((2, 3), np.nan)])
    with pytest.raises(ValueError, match=r"y must be the gradient of the layer's outputs, an array .*\(1, 4, 2\)"):
        gradient_norms(layer, np.zeros((1, 4, 3)), np.zeros(1))
    with pytest.raises(ValueError, match=r"gradient 0 of y must have the shape \(4, 2\), got \(3, 2\)"):
        gradient_norms(layer, [np.zeros((4, 3))], [np.zeros((3, 2))])
    with pytest.raises(ValueError, match="y must be a list of 1 gradients"):
        gradient_norms(layer, [np.zeros((4, 3))], np.zeros((1, 4, 2)))


def test_gradient_norms_refuse_wrong_targets(fitted):
    model, X, y = fitted
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        gradient_norms(model, X, y[:-1])
    with pytest.raises(ValueError, match="not among the classes"):
        gradient_norms(model, X, np.array(list("abcabz")))


def test_embedded_ids_and_numbers(rng):
    """A network with vectors in the place of ids, and the same network without, on the vectors."""
    X = [np.column_stack([rng.integers(0, 5, length), rng.normal(size=length)]) for length in LENGTHS]
    y = np.array([0.0, 1.0, 3.0])
    options = {"embedding_dim": 3, "vocabulary_size": 5, "categorical_features": [0]}
    model = make_model(RNNRegressor, rng, X, y, bidirectional=True, **options)
    parameters = model._network.parameters
    vectors = [np.column_stack([parameters["embedding_0"][x[:, 0].astype(int)], x[:, 1]]) for x in X]

    def predictions():
        return look_at(model, vectors).outputs[:, 0] * model.target_scale_ + model.target_mean_

    assert_close(model.predict(X), predictions(), EXACT)
    for i, states in enumerate(hidden_states(model, X, layer=0)):
        assert_close(states, joined(look_at(model, vectors).seen[0], i, "hidden"), EXACT)
    shares = attributions(model, X, method="gradient_x_input")
    for number, x in enumerate(vectors):
        products = x * central_difference(lambda n=number: predictions()[n], x)
        assert_close(shares[number], np.column_stack([products[:, :3].sum(axis=1), products[:, 3]]), 1e-7)

    def loss(nudges):
        scaled = (y[:, None] - model.target_mean_) / model.target_scale_
        return 2 * losses.squared_error(look_at(model, vectors, nudges=nudges).outputs, scaled)[0].sum()

    expected = nudged_norms(loss, range(2), 2, (4, 3), LENGTHS, 0)
    for actual, parts in zip(gradient_norms(model, X, y), expected, strict=True):
        assert_close(actual, np.linalg.norm(parts, axis=2), 1e-7)
    # Without a baseline the vectors of ids are compared with zero; else with the vector of another id.
    before, output = predictions(), {}
    for name, baseline, empty in (("zero", None, 0.0), ("id", [4, 0.5], [*parameters["embedding_0"][4], 0.5])):
        values, delta = attributions(model, X, baseline=baseline, tol=1e-10, return_convergence_delta=True)
        assert np.abs(delta).max() < 1e-8
        kept, vectors[:] = list(vectors), [np.broadcast_to(empty, x.shape).astype(float) for x in vectors]
        output[name] = predictions()
        vectors[:] = kept
        assert_close(np.array([part.sum() for part in values]), before - output[name], 1e-7)
    with pytest.raises(ValueError, match="column 0 must hold whole numbers from 0 to 4"):
        attributions(model, X, baseline=[7, 0.0])


def test_attention(rng):
    X, y = random_sequences(rng, LENGTHS, 2), np.array([0.0, 1.0, 3.0])
    model = make_model(RNNRegressor, rng, X, y, pooling="attention", bidirectional=True)
    parameters = model._network.parameters

    def weights_and_predictions(**options):
        tops = look(model._network.cell, parameters, X, None, **options).top
        weights = []
        for h in tops:
            scores = np.tanh(h @ parameters["attention_weight"].T + parameters["attention_bias"])
            weights.append(losses.softmax((scores @ parameters["attention_vector"])[None])[0])
        pooled = np.array([a @ h for a, h in zip(weights, tops, strict=True)])
        outputs = pooled @ parameters["weight_out"].T + parameters["bias_out"]
        return weights, outputs[:, 0] * model.target_scale_ + model.target_mean_

    for actual, expected in zip(attention_weights(model, X), weights_and_predictions()[0], strict=True):
        assert_close(actual, expected, EXACT)
    shares = attributions(model, X, method="gradient_x_input")
    for number, x in enumerate(X):
        gradient = central_difference(lambda n=number: weights_and_predictions()[1][n], x)
        assert_close(shares[number], x * gradient, 1e-7)

    def loss(nudges):
        return (((weights_and_predictions(nudges=nudges)[1] - y) / model.target_scale_) ** 2).sum()

    expected = nudged_norms(loss, range(2), 2, (4, 3), LENGTHS, 0)
    for actual, parts in zip(gradient_norms(model, X, y), expected, strict=True):
        assert_close(actual, np.linalg.norm(parts, axis=2), 1e-7)
    ablated = ablate_units(model, [1, 5], value=[0.5, -0.25])
    holds = {(1, 0): {1: 0.5}, (1, 1): {2: -0.25}}
    assert_close(ablated.predict(X), weights_and_predictions(holds=holds)[1], 1e-8)


def test_convolutions_before_the_layers(rng):
    X, y = random_sequences(rng, (5, 3, 8), 2), np.array([0.0, 1.0, 3.0])
    convolution = Convolution(filters=3, kernel_size=3, pool_size=2)
    model = make_model(RNNRegressor, rng, X, y, convolution=convolution)
    states = hidden_states(model, X)
    assert [part.shape for part in states] == [(3, 3), (2, 3), (4, 3)]
    np.testing.assert_array_equal(np.array([part[-1] for part in states]), model.transform(X))
    assert [part.shape for part in gradient_norms(model, X, y)] == [(3, 2), (2, 2), (4, 2)]
    shares = attributions(model, X, method="gradient_x_input")
    for number, x in enumerate(X):
        gradient = central_difference(lambda n=number: model.predict(X)[n], x)
        assert_close(shares[number], x * gradient, 1e-6)
    _, delta = attributions(model, X, tol=1e-6, return_convergence_delta=True)
    assert np.abs(delta).max() < 1e-4
    padded = np.zeros((2, 8, 2))
    assert hidden_states(model, padded).shape == (2, 4, 3)


def test_padding_is_zero_in_results(rng):
    X = np.array([[1, 2, 3, 0, 0], [0, 0, 4, 1, 0], [3, 3, 1, 2, 2]])
    options = {"embedding_dim": 3, "vocabulary_size": 5, "padding_id": 0, "bidirectional": True}
    model = make_model(RNNClassifier, rng, X, [0, 1, 0], **options)
    ragged = [np.array([1, 2, 3]), np.array([4, 1]), X[2]]
    kept = X != 0
    for whole, parts in (
        (hidden_states(model, X), hidden_states(model, ragged)),
        (attributions(model, X, 1), attributions(model, ragged, 1)),
        (gradient_norms(model, X, [0, 1, 0]), gradient_norms(model, ragged, [0, 1, 0])),
    ):
        assert whole.shape[:2] == X.shape
        np.testing.assert_array_equal(whole[kept], np.concatenate(parts))
        assert (whole[~kept] == 0).all()


@pytest.mark.parametrize("output", ["softmax", "crf"])
def test_words_with_tags(output, rng):
    X = [["the", "dog", "barks"], ["a", "cat"], ["cats", "sleep"]]
    y = [["D", "N", "V"], ["D", "N"], ["N", "V"]]
    model = make_model(RNNTagger, rng, X, y, output=output, bidirectional=True, embedding_dim=4, word_feature_dim=2)
    assert [part.shape for part in hidden_states(model, X)] == [(3, 6), (2, 6), (2, 6)]
    assert [part.shape for part in hidden_states(model, X[1:])] == [(2, 6), (2, 6)]
    norms = gradient_norms(model, X, y)
    assert [part.shape for part in norms] == [(3, 2), (2, 2), (2, 2)]
    # Sequences have their own losses, and a batch does not change them.
    assert_close(norms[0], gradient_norms(model, X[:1], y[:1])[0], 1e-10)
    shares, delta = attributions(model, X, "N", time_step=1, tol=1e-8, return_convergence_delta=True)
    assert [part.shape for part in shares] == [(3,), (2,), (2,)]
    assert np.abs(delta).max() < 1e-6
    raw = model._network.outputs(model._sequences(X))
    column = list(model.classes_).index("N")
    zero = attributions(model, X, "N", time_step=1, tol=1e-8, baseline=[["the"] * 3, ["the"] * 2, ["the"] * 2])
    without = model._network.outputs(model._sequences([["the"] * 3, ["the"] * 2, ["the"] * 2]))
    for number, row in enumerate((1, 4, 6)):
        assert zero[number].sum() == pytest.approx(raw[row, column] - without[row, column], abs=1e-6)
    if output == "crf":
        with pytest.raises(ValueError, match="output='probability' needs a model with a softmax output"):
            attributions(model, X, "N", output="probability")


def test_the_gradient_of_a_random_field_is_that_of_finite_differences(rng):
    X = random_sequences(rng, (3, 2), 2)
    y = [["a", "b", "a"], ["b", "a"]]
    model = make_model(RNNTagger, rng, X, y, output="crf", sizes=(3,))
    network, tags = model._network, [[0, 1, 0], [1, 0]]

    def loss(nudges):
        logits = np.split(look_at(model, X, nudges=nudges).outputs, [3])
        return sum(_path_loss(network.parameters, part, path) for part, path in zip(logits, tags, strict=True))

    expected = nudged_norms(loss, range(1), 1, (3,), (3, 2), 0)
    for actual, parts in zip(gradient_norms(model, X, y), expected, strict=True):
        assert_close(actual, parts[:, :, 0], 1e-6)


def _path_loss(parameters, logits, path):
    """Negative log-likelihood of a path of tags, by brute force over all paths."""

    def score(tags):
        steps = sum(logits[t, tag] for t, tag in enumerate(tags))
        between = sum(parameters["crf_transitions"][a, b] for a, b in pairwise(tags))
        return steps + between + parameters["crf_start"][tags[0]] + parameters["crf_end"][tags[-1]]

    return np.log(sum(np.exp(score(tags)) for tags in product(range(2), repeat=len(logits)))) - score(path)


def test_attributions_refuse_what_is_not_there(fitted):
    model, X, _ = fitted
    for message, options in (
        ("method must be 'integrated_gradients' or 'gradient_x_input', got 'saliency'", {"method": "saliency"}),
        ("baseline is for method='integrated_gradients'", {"method": "gradient_x_input", "baseline": 0}),
        (
            "return_convergence_delta is for method='integrated_gradients'",
            {"method": "gradient_x_input", "return_convergence_delta": True},
        ),
        ("steps must be a positive integer, got 0", {"steps": 0}),
        ("tol must be positive, got 0", {"tol": 0}),
        ("output must be 'raw' or 'probability', got 'logit'", {"output": "logit"}),
        ("target must be among the classes .*, got 'z'", {"target": "z"}),
        ("target must be one label, or one for each of the 6 sequences of X, got 2 labels", {"target": ["a", "b"]}),
        ("time_step is for models with an output at every time step", {"time_step": 0}),
        ("baseline must be a number, one for each of the 2 features, or sequences like X", {"baseline": [1, 2, 3]}),
        ("baseline must have sequences of the lengths of those of X", {"baseline": X[:, :-1]}),
        ("baseline must be finite, got nan", {"baseline": np.nan}),
    ):
        with pytest.raises(ValueError, match=message):
            attributions(model, X, **options)
    with pytest.raises(TypeError, match="attributions needs an estimator of numrnn, such as RNNClassifier, got LSTM"):
        attributions(LSTM(2, 3), X)


def test_regressors_refuse_other_targets(rng):
    X = rng.normal(size=(4, 3, 2))
    model = make_model(RNNRegressor, rng, X, rng.normal(size=(4, 2)))
    for target in (None, 2, -1, "a"):
        with pytest.raises(ValueError, match="target must be the number of the output to explain, from 0 to 1, got"):
            attributions(model, X, target)
    with pytest.raises(ValueError, match="output='probability' needs a classifier"):
        attributions(model, X, 0, output="probability")


def test_ablation_refuses_what_is_not_there(fitted):
    model, X, y = fitted
    for message, units, options in (
        ("units must be from 0 to 2, got 3", 3, {}),
        ("units must be from 0 to 2, got -1", -1, {}),
        (r"units must be different, got \[1, 1\]", [1, 1], {}),
        ("units must be an integer or a sequence of integers, got 0.5", 0.5, {}),
        ("value='mean' needs X", 0, {"value": "mean"}),
        ("value must be a number, one for each unit, or 'mean', got 'zero'", 0, {"value": "zero"}),
        ("value must be a finite number, or one for each of the 1 units", 0, {"value": [1, 2]}),
        ("layer must be an integer from -2 to 1", 0, {"layer": 7}),
    ):
        with pytest.raises(ValueError, match=message):
            ablate_units(model, units, **options)
    with pytest.raises(ValueError, match="replacement must be 'mean' or 'zero', got 'median'"):
        unit_importance(model, X, y, replacement="median")
    with pytest.raises(NotFittedError):
        ablate_units(RNNClassifier(), 0)


def test_attention_weights_need_attention(fitted):
    model, X, _ = fitted
    with pytest.raises(ValueError, match=r"needs a model with pooling=.attention., got pooling='last'"):
        attention_weights(model, X)
    with pytest.raises(TypeError, match="attention_weights needs an estimator of numrnn"):
        attention_weights(LSTM(2, 3), X)
