"""Weights in bfloat16: rounded as the standard says, and otherwise the network that it was."""

from __future__ import annotations

import copy
import ctypes
import pickle

import numpy as np
import oracle
import pytest
from scipy import integrate, ndimage
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import numrnn
from numrnn import PerStep
from numrnn.bfloat16 import round_to_bfloat16
from numrnn.kernels.jit import COMPILED

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

LAYERS = {
    "lstm": numrnn.LSTM,
    "gru": numrnn.GRU,
    "rnn_tanh": numrnn.RNN,
    "rnn_relu": lambda *sizes, **options: numrnn.RNN(*sizes, nonlinearity="relu", **options),
}
# One unit; less than a vector; whole vectors; an odd number of them, in and without pairs; several panels.
SIZES = [(1, (1,)), (3, (5,)), (2, (16, 16)), (5, (7, 33, 4)), (17, (48,)), (1, (130,))]
rng = np.random.default_rng(0)


# ------------------------------------------------------------------------------------------------------------ rounding
def nearest(x):
    """The bits of the nearest bfloat16, by the distances to its two neighbours."""
    x = np.asarray(x, dtype=np.float32)
    down = x.view(np.uint32) & np.uint32(0xFFFF0000)
    up = down + np.uint32(0x10000)

    def value(bits):
        # The standard rounds as if there were one more power of two above the largest number.
        found = bits.view(np.float32).astype(np.float64)
        return np.where(np.isinf(found), np.copysign(2.0**128, found), found)

    exact = x.astype(np.float64)
    to_down, to_up = np.abs(exact - value(down)), np.abs(value(up) - exact)
    odd = (down >> np.uint32(16)) & np.uint32(1) == 1
    chosen = np.where((to_up < to_down) | ((to_up == to_down) & odd), up, down)
    chosen = np.where(np.isinf(x), x.view(np.uint32), chosen)
    return (chosen >> np.uint32(16)).astype(np.uint16)


def rounded(x):
    """float32 numbers that are bfloat16."""
    return (nearest(x).astype(np.uint32) << np.uint32(16)).view(np.float32)


def test_every_lower_half_is_rounded_to_the_nearest_even():
    low = np.arange(2**16, dtype=np.uint32)
    for high in (0x0000, 0x0001, 0x007F, 0x0080, 0x3F80, 0x3F81, 0x3FFF, 0x7F7E, 0x7F7F):
        for sign in (0, 0x8000):
            x = (low | np.uint32((high | sign) << 16)).view(np.float32)
            np.testing.assert_array_equal(round_to_bfloat16(x), nearest(x))


def test_random_numbers_of_every_exponent():
    bits = rng.integers(0, 2**32, 200_000, dtype=np.uint32)
    x = bits.view(np.float32)
    x = x[~np.isnan(x)]
    np.testing.assert_array_equal(round_to_bfloat16(x), nearest(x))


def test_what_is_no_number_stays_none():
    # The last one would become infinite, and the one before it zero, if only the upper half were kept or rounded.
    bits = np.array([0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC12345, 0xFFFFFFFF, 0x7F800001], dtype=np.uint32)
    made = (round_to_bfloat16(bits.view(np.float32)).astype(np.uint32) << np.uint32(16)).view(np.float32)
    np.testing.assert_array_equal(made[:2], [np.inf, -np.inf])
    assert np.isnan(made[2:]).all()
    np.testing.assert_array_equal(np.signbit(made[2:]), [False, True, True, False])
    largest = np.array([np.finfo(np.float32).max], dtype=np.float32)
    assert round_to_bfloat16(largest)[0] == 0x7F80  # as every number beyond the largest


def test_shapes_and_strides():
    x = rng.normal(size=(6, 8)).astype(np.float32)
    for each in (x, x.T, x[::2, ::-3], x[:0], x[0, 0]):
        np.testing.assert_array_equal(round_to_bfloat16(each), nearest(np.array(each)))


# -------------------------------------------------------------------------------------------------------------- layers
def with_rounded(parameters):
    return {name: rounded(value) if name.startswith("weight_") else value for name, value in parameters.items()}


def walk(compiled, x, dtype=np.float32):
    """The outputs of all steps, by `predict`, which are those of `step`."""
    out = np.empty((len(x), compiled.n_outputs), dtype=dtype)
    compiled.predict(compiled.parameters, x, out)
    state, one = compiled.initial_state(), np.empty(compiled.n_outputs, dtype=dtype)
    for t in range(len(x)):
        compiled.step(compiled.parameters, state, x[t], one)
        np.testing.assert_array_equal(one, out[t])
    return out


@pytest.mark.parametrize(("n_features", "sizes"), SIZES)
@pytest.mark.parametrize("cell", LAYERS)
def test_a_step_is_that_of_the_rounded_matrices(cell, n_features, sizes):
    layer = LAYERS[cell](n_features, sizes, random_state=1)
    for name, value in layer.parameters.items():
        if name.startswith("bias"):
            value[...] = rng.normal(0, 0.3, value.shape)
    x = rng.normal(size=(9, n_features)).astype(np.float32)
    compiled = layer.compile(weights="bfloat16")
    assert (compiled.weights, compiled.dtype, layer.compile().weights) == ("bfloat16", np.float32, "float32")
    made = walk(compiled, x)
    parameters = {name: value.astype(np.float64) for name, value in with_rounded(layer.parameters).items()}
    expected = oracle.forward(cell, parameters, [x]).outputs[0]
    np.testing.assert_allclose(made, expected, rtol=3e-6, atol=3e-6)
    # float32 is not as exact as that: the rounding of the weights is seen.
    assert np.abs(walk(layer.compile(), x) - expected).max() > 3e-5
    # The sums are those of float32, in the same order.
    for name, value in with_rounded(layer.parameters).items():
        layer.parameters[name][...] = value
    np.testing.assert_array_equal(made, layer.forward(x[None])[0][0])
    np.testing.assert_array_equal(walk(layer.compile("bfloat16"), x), made)


def test_weights_beyond_all_numbers_spread():
    layer = numrnn.RNN(2, 3, random_state=0)
    layer.parameters["weight_ih_l0"][1, 0] = np.nan
    made = walk(layer.compile("bfloat16"), np.ones((1, 2), dtype=np.float32))[0]
    assert np.isnan(made).tolist() == [False, True, False]
    layer = numrnn.RNN(2, 3, nonlinearity="relu", random_state=0)
    layer.parameters["weight_ih_l0"][2, 1] = np.inf
    made = walk(layer.compile("bfloat16"), np.ones((1, 2), dtype=np.float32))[0]
    assert np.isinf(made).tolist() == [False, False, True]


def test_streams():
    layer = numrnn.GRU(3, (8, 20), random_state=0)
    x = rng.normal(size=(6, 4, 3)).astype(np.float32)
    compiled = layer.compile("bfloat16")
    stream, many = layer.stream(weights="bfloat16"), layer.stream(4, weights="bfloat16")
    for t in range(len(x)):
        one, four = stream.update(x[t, 0]), many.update(x[t])
        for n in range(4):
            np.testing.assert_array_equal(four[n], walk(compiled, x[: t + 1, n])[-1])
        np.testing.assert_array_equal(one, four[0])
    # A stream goes on with other weights: what it remembers is float32.
    other = layer.stream(4)
    other.state = many.state
    assert np.abs(other.update(x[0]) - many.update(x[0])).max() < 0.01


# ---------------------------------------------------------------------------------------------------------- estimators
def rounded_model(model):
    """A fitted model whose matrices have been rounded."""
    model = copy.deepcopy(model)
    parameters = model._network.parameters
    for name, value in with_rounded(parameters).items():
        parameters[name][...] = value
    return model


def assert_same_walks(model, sequences):
    narrow, wide = model.compile(weights="bfloat16"), rounded_model(model).compile()
    plain = model.compile()
    different = 0.0
    for x in sequences:
        made = walk(narrow, x, np.float64)
        np.testing.assert_array_equal(made, walk(wide, x, np.float64))
        different = max(different, np.abs(made - walk(plain, x, np.float64)).max())
    assert 0 < different < 0.1


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_estimators(pooling, cell):
    X = rng.normal(size=(40, 7, 3)).astype(np.float32)
    settings = {"cell": cell, "pooling": pooling, "max_iter": 3, "tol": 0.0, "random_state": 0}
    regressor = numrnn.RNNRegressor((6, 5), **settings).fit(X, np.stack([X.sum(axis=(1, 2)), X[:, 0, 0]], axis=1))
    assert_same_walks(regressor, X[:3])
    classifier = numrnn.RNNClassifier((6, 5), **settings).fit(X, np.where(X[:, :, 0].sum(axis=1) > 0, "up", "down"))
    assert_same_walks(classifier, X[:3])
    stream = classifier.stream(weights="bfloat16")
    compiled = classifier.compile("bfloat16")
    for t, x_t in enumerate(X[0]):
        expected = classifier.classes_[walk(compiled, X[0, : t + 1], np.float64)[-1].argmax()]
        assert stream.update(x_t) == expected


def test_ids_and_numbers_embeddings_and_residual_layers():
    X = [np.column_stack([rng.integers(0, 7, n), rng.normal(size=n), rng.integers(0, 3, n)]) for n in (5, 3, 8, 4)]
    model = numrnn.RNNClassifier((5, 5), residual=True, embedding_dim=[4, 2], categorical_features=[0, 2], max_iter=2)
    model.set_params(tol=0.0, random_state=0).fit(X, ["a", "b", "a", "b"])
    assert_same_walks(model, [x.astype(np.float32) for x in X])
    # An id alone: its part of the first layer stands ready.
    ids = [rng.integers(0, 7, n) for n in (5, 3, 8, 4)]
    for cell in ("lstm", "gru"):
        model = numrnn.RNNClassifier((5,), cell=cell, embedding_dim=4, vocabulary_size=7, max_iter=2, tol=0.0)
        model.set_params(random_state=0).fit(ids, ["a", "b", "a", "b"])
        assert_same_walks(model, [x[:, None] for x in ids])


def test_language_models():
    model = numrnn.RNNLanguageModel((20,), batch_size=4, bptt_steps=20, max_iter=3, tol=0.0, random_state=0)
    model = model.fit("how much wood would a woodchuck chuck " * 20)
    stream, other = model.stream(weights="bfloat16"), rounded_model(model).stream()
    for symbol in "a woodchuck":
        np.testing.assert_array_equal(stream.update(symbol), other.update(symbol))
    assert model.compile("bfloat16").weights == "bfloat16"


def test_a_pipeline_is_folded_and_then_rounded():
    X = rng.normal(50, 20, size=(40, 6, 4))
    regressor = numrnn.RNNRegressor((5,), max_iter=3, tol=0.0, random_state=0)
    model = make_pipeline(PerStep(StandardScaler()), regressor).fit(X, X[:, :, 0].mean(axis=1))
    compiled = numrnn.compile_pipeline(model, weights="bfloat16")
    out = np.empty(1)
    for x, expected in zip(X, model.predict(X), strict=True):
        compiled.predict(compiled.parameters, x, out)
        assert abs(out[0] - expected) < 0.5
    assert compiled.weights == "bfloat16"
    assert numrnn.compile_pipeline(model[1:], "bfloat16").weights == "bfloat16"


# ------------------------------------------------------------------------------------------------- where it can be used
def test_copies_and_pickles():
    compiled = numrnn.LSTM(3, 20, random_state=0).compile("bfloat16")
    x = rng.normal(size=(4, 3)).astype(np.float32)
    for one in (pickle.loads(pickle.dumps(compiled)), copy.deepcopy(compiled)):
        assert one.weights == "bfloat16"
        np.testing.assert_array_equal(walk(one, x), walk(compiled, x))
    assert repr(compiled) == "CompiledNetwork(cell='lstm', n_features=3, n_outputs=20, weights='bfloat16')"


def test_they_take_half_the_memory():
    layer = numrnn.LSTM(128, 128, random_state=0)
    narrow, wide = (layer.compile(weights).parameters.weights.nbytes for weights in ("bfloat16", None))
    assert wide == 4 * (2 * 4 * 128 * 128 + 4 * 128)
    assert narrow == 2 * 2 * 4 * 128 * 128 + 4 * 4 * 128


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
def test_functions_of_c():
    layer = numrnn.LSTM(1, 6, random_state=0)
    compiled = layer.compile("bfloat16")
    x = rng.normal(size=(30, 1)).astype(np.float32)
    expected = walk(compiled, x)

    def pointer(array):
        return array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))

    network = ctypes.cast(compiled.c_network, ctypes.POINTER(ctypes.c_int64))
    step, state, out = compiled.c_step(), compiled.initial_state(), np.empty(6, dtype=np.float32)
    for t in range(len(x)):
        step(network, pointer(state), pointer(x[t]), pointer(out))
        np.testing.assert_array_equal(out, expected[t])

    signal = x[:, 0].astype(np.float64)
    line = compiled.low_level_callable("line")
    made = ndimage.generic_filter1d(signal, line, 5, origin=2, mode="constant")
    padded = np.pad(signal, (4, 0))[:, None]
    np.testing.assert_array_equal(made, [walk(compiled, padded[: i + 5])[-1, 0] for i in range(30)])
    window = compiled.low_level_callable("window")
    made = ndimage.generic_filter(signal, window, size=3, mode="nearest")
    padded = np.pad(signal, 1, mode="edge")[:, None]
    np.testing.assert_array_equal(made, [walk(compiled, padded[i : i + 3])[-1, 0] for i in range(30)])
    value, _ = integrate.quad(compiled.low_level_callable("integrand"), -1, 2)
    assert value == pytest.approx(integrate.quad(lambda x: walk(compiled, np.array([[x]]))[0, 0], -1, 2)[0], abs=1e-6)


def test_what_is_refused():
    layer = numrnn.LSTM(2, 3, dtype="float64", random_state=0)
    for call in (layer.compile, lambda weights: layer.stream(weights=weights)):
        with pytest.raises(ValueError, match="for networks of float32, this one computes in float64"):
            call("bfloat16")
    assert layer.compile(None).weights == "float64"
    layer = numrnn.LSTM(2, 3, random_state=0)
    for bad in ("float32", "int8", 16, True, np.array(["bfloat16", "bfloat16"])):
        with pytest.raises(ValueError, match=r"weights must be None \(those of the model\) or 'bfloat16', got"):
            layer.compile(bad)
    X = rng.normal(size=(8, 4, 2))
    model = numrnn.RNNRegressor((3,), max_iter=1, tol=0.0, dtype="float64", random_state=0)
    with pytest.raises(NotFittedError):
        model.compile("bfloat16")
    model.fit(X, X.sum(axis=(1, 2)))
    for call in (model.compile, lambda weights: model.stream(weights=weights)):
        with pytest.raises(ValueError, match="this one computes in float64"):
            call("bfloat16")
    with pytest.raises(ValueError, match="bidirectional layer cannot be compiled"):
        numrnn.LSTM(2, 3, bidirectional=True).compile("bfloat16")


def test_no_steps_in_kernels_of_cuda():
    compiled = numrnn.LSTM(2, 3, random_state=0).compile("bfloat16")
    with pytest.raises(ValueError, match="weights in bfloat16 are for steps on the CPU"):
        compiled.cuda_step  # noqa: B018
    with pytest.raises(ValueError, match="weights in bfloat16 are for steps on the CPU"):
        compiled.cuda_parameters()
