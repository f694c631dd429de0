"""Networks inside other compiled code, in functions of C, and step by step: all give what the batch gives."""

from __future__ import annotations

import copy
import ctypes
import pickle

import numpy as np
import pytest
from numba import njit, prange
from scipy import LowLevelCallable, integrate, ndimage
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import numrnn
from numrnn import PerStep
from numrnn.compiled import affine_map
from numrnn.kernels.jit import COMPILED

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

LAYERS = {
    "lstm": numrnn.LSTM,
    "gru": numrnn.GRU,
    "rnn": numrnn.RNN,
}
SIZES = [(1, (1,)), (3, (5,)), (2, (16, 16)), (5, (7, 33, 4))]
rng = np.random.default_rng(0)


@pytest.mark.parametrize(("n_features", "sizes"), SIZES)
@pytest.mark.parametrize(("cell", "dtype"), [*((cell, "float32") for cell in LAYERS), ("lstm", "float64")])
def test_every_step_is_that_of_the_batch_to_the_bit(cell, n_features, sizes, dtype):
    layer = LAYERS[cell](n_features, sizes, dtype=dtype, random_state=1)
    x = rng.normal(size=(9, n_features)).astype(dtype)
    expected = layer.forward(x[None])[0][0]
    compiled = layer.compile()
    assert (compiled.n_features, compiled.n_outputs, compiled.dtype) == (n_features, sizes[-1], np.dtype(dtype))
    every, last = np.empty_like(expected), np.empty_like(expected[0])
    compiled.predict(compiled.parameters, x, every)
    compiled.predict(compiled.parameters, x, last)
    state, one = compiled.initial_state(), np.empty_like(last)
    for t in range(len(x)):
        compiled.step(compiled.parameters, state, x[t], one)
        np.testing.assert_array_equal(one, expected[t])
    np.testing.assert_array_equal(every, expected)
    np.testing.assert_array_equal(last, expected[-1])


def test_a_sequence_of_no_step_leaves_the_output_alone():
    compiled = numrnn.LSTM(2, 3, random_state=0).compile()
    out = np.full(3, 7.0, dtype=np.float32)
    compiled.predict(compiled.parameters, np.empty((0, 2), dtype=np.float32), out)
    assert (out == 7).all()


def test_it_is_a_copy():
    layer = numrnn.GRU(2, 3, random_state=0)
    x = rng.normal(size=(4, 2)).astype(np.float32)
    before = layer.forward(x[None])[0][0]
    compiled = layer.compile()
    layer.parameters["weight_hh_l0"][...] = 0
    out = np.empty_like(before)
    for one in (compiled, pickle.loads(pickle.dumps(compiled)), copy.deepcopy(compiled)):
        out[...] = 0
        one.predict(one.parameters, x, out)
        np.testing.assert_array_equal(out, before)


def test_a_pickle_from_a_machine_with_other_vectors_is_refused(monkeypatch):
    for module in ("numrnn.compiled", "numrnn.seq2seq.compiled"):
        monkeypatch.setattr(f"{module}.VECTOR_BITS", 1024)
    of_layer = pickle.dumps(numrnn.GRU(2, 3, random_state=0).compile())
    translator = numrnn.RNNSeq2Seq((3,), max_iter=1, embedding_dim=2, random_state=0).fit(["a b"] * 4, ["b a"] * 4)
    of_translator = pickle.dumps(translator.compile())
    monkeypatch.undo()
    for pickled in (of_layer, of_translator):
        with pytest.raises(ValueError, match="pickled where vectors have 1024 bits"):
            pickle.loads(pickled)


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
def test_streams_in_a_parallel_loop_of_the_user_and_nothing_is_allocated():
    layer = numrnn.LSTM(3, (8, 5), random_state=0)
    x = rng.normal(size=(6, 20, 3)).astype(np.float32)
    expected = layer.forward(x)[0]
    compiled = layer.compile()
    step, parameters = compiled.step, compiled.parameters

    @njit(parallel=True)
    def walk(parameters, states, x, out):
        for n in prange(len(x)):
            for t in range(x.shape[1]):
                step(parameters, states[n], x[n, t], out[n, t])

    out = np.empty_like(expected)
    walk(parameters, compiled.initial_state(len(x)), x, out)
    np.testing.assert_array_equal(out, expected)

    from numba.core.runtime import _nrt_python, rtsys

    _nrt_python.memsys_enable_stats()

    @njit
    def many(parameters, state, x, out, n_steps):
        for t in range(n_steps):
            step(parameters, state, x[t % len(x)], out)

    predict = compiled.predict

    @njit
    def sequences(parameters, x, out, n_sequences):
        for n in range(n_sequences):
            predict(parameters, x[n % len(x)], out)

    state = compiled.initial_state()
    allocated = []
    for count in (1, 1000):
        before = rtsys.get_allocation_stats().alloc
        many(parameters, state, x[0], out[0, 0], count)
        sequences(parameters, x, out[0, 0], count)
        allocated.append(rtsys.get_allocation_stats().alloc - before)
    _nrt_python.memsys_disable_stats()
    assert allocated[0] == allocated[1], "allocations grow with the number of steps"


@pytest.fixture(params=["last", "mean", "max"])
def pooling(request):
    return request.param


def fitted(kind, pooling="last", dtype="float32", cell="lstm", **settings):
    X = rng.normal(size=(40, 7, 3))
    y = X.sum(axis=(1, 2)) if kind is numrnn.RNNRegressor else np.where(X[:, :, 0].sum(axis=1) > 0, "up", "down")
    settings = {"max_iter": 3, "tol": 0.0, "random_state": 0, **settings}
    return kind((6, 5), cell=cell, pooling=pooling, dtype=dtype, **settings).fit(X, y), X


@pytest.mark.parametrize("cell", LAYERS)
def test_estimators_predict_the_same(pooling, cell):
    # The mean over time is summed in another order.
    close = {"rtol": 2e-6, "atol": 2e-6} if pooling == "mean" else {"rtol": 0, "atol": 0}
    model, X = fitted(numrnn.RNNRegressor, pooling, cell=cell)
    compiled = model.compile()
    out = np.empty(1)
    for x, expected in zip(X.astype(np.float32), model.predict(X), strict=True):
        compiled.predict(compiled.parameters, x, out)
        np.testing.assert_allclose(out[0], expected, **close)
    model, X = fitted(numrnn.RNNClassifier, pooling, cell=cell)
    compiled = model.compile()
    out = np.empty(2)
    for x, expected in zip(X.astype(np.float32), model.predict_proba(X), strict=True):
        compiled.predict(compiled.parameters, x, out)
        np.testing.assert_allclose(out, expected, rtol=2e-6 if pooling == "mean" else 1e-12)


def test_several_outputs_in_the_units_of_the_targets():
    X = rng.normal(size=(30, 5, 2))
    Y = np.stack([X.sum(axis=(1, 2)) * 100 + 7, X[:, -1, 0], -X[:, 0, 1]], axis=1)
    model = numrnn.RNNRegressor((4,), max_iter=2, tol=0.0, random_state=0).fit(X, Y)
    compiled, out = model.compile(), np.empty(3)
    compiled.predict(compiled.parameters, X[0].astype(np.float32), out)
    np.testing.assert_array_equal(out, model.predict(X[:1])[0])
    stream = model.stream()
    for x_t in X[0]:
        made = stream.update(x_t)
    np.testing.assert_array_equal(made, out)


# ------------------------------------------------------------------------------------------------------------ streams
def test_a_stream_predicts_for_the_steps_so_far(pooling):
    model, X = fitted(numrnn.RNNClassifier, pooling)
    stream = model.stream()
    for x in X[:3]:
        for t in range(len(x)):
            assert stream.update(x[t]) == model.predict(x[None, : t + 1])[0]
        stream.reset()


def test_many_streams_each_on_its_own():
    model, X = fitted(numrnn.RNNRegressor)
    stream = model.stream(n_streams=len(X))
    for t in range(X.shape[1]):
        y = stream.update(X[:, t])
        np.testing.assert_array_equal(y, model.predict(X[:, : t + 1]))


def test_states_are_copied_set_and_branched():
    layer = numrnn.LSTM(2, 3, random_state=0)
    x = rng.normal(size=(6, 2)).astype(np.float32)
    one = layer.stream()
    for x_t in x[:3]:
        one.update(x_t)
    kept = one.state
    after = one.update(x[3])
    assert not np.array_equal(kept, one.state)
    other = layer.stream()
    other.state = kept
    np.testing.assert_array_equal(other.update(x[3]), after)
    one.state = kept
    np.testing.assert_array_equal(one.update(x[3]), after)
    one.reset()
    np.testing.assert_array_equal(one.update(x[0]), layer.step(x[:1])[0][0])


def test_bad_input_of_a_stream_changes_nothing():
    layer = numrnn.LSTM(2, 3, random_state=0)
    stream = layer.stream()
    stream.update([1.0, 2.0])
    kept = stream.state
    for bad, message in (
        ([1.0], r"x_t must have the shape \(2,\), got \(1,\)"),
        ([[1.0, 2.0]], r"shape \(2,\), got \(1, 2\)"),
        ([1.0, np.nan], "x_t"),
        (["a", "b"], "x_t"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            stream.update(bad)
    for bad, message in (
        (kept[:-1], "state must have the shape"),
        (np.full_like(kept, np.inf), "state"),
        (layer.stream(2).state, "state must have the shape"),
    ):
        with pytest.raises(ValueError, match=message):
            stream.state = bad
    np.testing.assert_array_equal(stream.state, kept)
    with pytest.raises(ValueError, match="n_streams must be a positive integer or None, got 0"):
        layer.stream(0)


def test_networks_that_need_later_steps_are_refused():
    with pytest.raises(ValueError, match="bidirectional layer cannot be compiled"):
        numrnn.LSTM(2, 3, bidirectional=True).compile()
    model, _ = fitted(numrnn.RNNRegressor, bidirectional=True)
    for method in (model.compile, model.stream):
        with pytest.raises(ValueError, match="bidirectional RNNRegressor cannot be compiled"):
            method()
    words = numrnn.RNNTagger(hidden_layer_sizes=(3,), bidirectional=False, max_iter=1, random_state=0)
    words.fit([["a", "b"], ["b"]], [["x", "y"], ["y"]])
    with pytest.raises(ValueError, match="RNNTagger of words cannot be compiled"):
        words.stream()
    with pytest.raises(NotFittedError):
        numrnn.RNNRegressor().compile()


def test_labels_and_values_of_every_step():
    X = [rng.integers(0, 9, n) for n in (5, 3, 8)]
    tagger = numrnn.RNNTagger(hidden_layer_sizes=(6,), bidirectional=False, embedding_dim=4, max_iter=2, random_state=0)
    tagger.fit(X, [np.where(x > 4, "big", "small") for x in X])
    stream = tagger.stream()
    for x, expected in zip(X, tagger.predict(X), strict=True):
        assert [stream.update([number]) for number in x] == expected.tolist()
        stream.reset()
    X = rng.normal(size=(6, 5, 2))
    regressor = numrnn.RNNRegressor((4,), max_iter=2, tol=0.0, random_state=0, residual=True).fit(X, X[:, :, :1] * 3)
    stream = regressor.stream()
    np.testing.assert_array_equal([stream.update(x_t) for x_t in X[0]], regressor.predict(X[:1])[0])


def test_ids_and_numbers_embeddings_and_residual_layers():
    X = [np.column_stack([rng.integers(0, 7, n), rng.normal(size=n), rng.integers(0, 3, n)]) for n in (5, 3, 8, 4)]
    model = numrnn.RNNClassifier((5, 5), residual=True, embedding_dim=[4, 2], categorical_features=[0, 2], max_iter=2)
    model.set_params(tol=0.0, random_state=0).fit(X, ["a", "b", "a", "b"])
    compiled, out = model.compile(), np.empty(2)
    assert compiled.n_features == 3
    for x, expected in zip(X, model.predict_proba(X), strict=True):
        compiled.predict(compiled.parameters, x.astype(np.float32), out)
        np.testing.assert_allclose(out, expected, rtol=1e-12)
    # An id alone: its part of the first layer stands ready.
    ids = [rng.integers(0, 7, n) for n in (5, 3, 8, 4)]
    for cell in ("lstm", "gru"):
        model = numrnn.RNNClassifier((5,), cell=cell, embedding_dim=4, vocabulary_size=7, max_iter=2, tol=0.0)
        model.set_params(random_state=0).fit(ids, ["a", "b", "a", "b"])
        compiled = model.compile()
        for x, expected in zip(ids, model.predict_proba(ids), strict=True):
            compiled.predict(compiled.parameters, x[:, None], out)
            np.testing.assert_allclose(out, expected, rtol=1e-12)
        compiled.predict(compiled.parameters, np.array([[0], [3]]), out)
        unknown = np.empty(2)
        compiled.predict(compiled.parameters, np.array([[99], [3]]), unknown)
        np.testing.assert_array_equal(unknown, out)


# --------------------------------------------------------------------------------------------------- functions of C
@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_step_as_a_function_of_c(dtype):
    layer = numrnn.GRU(2, 5, dtype=dtype, random_state=0)
    compiled = layer.compile()
    number = ctypes.c_float if dtype == "float32" else ctypes.c_double
    # As a program in another language would see it: an address.
    address = ctypes.cast(compiled.c_step(), ctypes.c_void_p).value
    step = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.POINTER(number)] * 3)(address)
    x = rng.normal(size=(4, 2)).astype(dtype)
    state, out = compiled.initial_state(), np.empty(5, dtype=dtype)
    for t, expected in enumerate(layer.forward(x[None])[0][0]):
        arrays = (np.ascontiguousarray(x[t]), out)
        pointers = [array.ctypes.data_as(ctypes.POINTER(number)) for array in arrays]
        step(compiled.c_network, state.ctypes.data_as(ctypes.POINTER(number)), *pointers)
        np.testing.assert_array_equal(out, expected)


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
def test_scipy_calls_the_network():
    layer = numrnn.LSTM(1, 6, random_state=0)
    compiled = layer.compile()
    signal = rng.normal(size=30)

    def after(values):
        return float(layer.forward(np.asarray(values, dtype=np.float32)[None, :, None])[0][0, -1, 0])

    window = compiled.low_level_callable("window")
    assert isinstance(window, LowLevelCallable)
    made = ndimage.generic_filter(signal, window, size=5, mode="nearest")
    padded = np.pad(signal, 2, mode="edge")
    np.testing.assert_array_equal(made, [after(padded[i : i + 5]) for i in range(30)])

    line = compiled.low_level_callable("line")
    made = ndimage.generic_filter1d(signal, line, 5, origin=2, mode="constant")
    padded = np.pad(signal, (4, 0))
    np.testing.assert_array_equal(made, [after(padded[: i + 5]) for i in range(30)])

    value, _ = integrate.quad(compiled.low_level_callable("integrand"), -1, 2)
    expected, _ = integrate.quad(lambda x: after([x]), -1, 2)
    assert value == pytest.approx(expected, abs=1e-12)

    with pytest.raises(ValueError, match=r"kind must be one of \['integrand', 'window', 'line'\], got 'filter'"):
        compiled.low_level_callable("filter")
    with pytest.raises(ValueError, match="networks of 1 feature, this one has 2"):
        numrnn.LSTM(2, 3).compile().low_level_callable("line")


# -------------------------------------------------------------------------------------------------------- affine maps
def test_affine_maps_are_found_and_others_refused():
    matrix, offset = rng.normal(size=(3, 2)), rng.normal(size=2) * 1e4
    found = affine_map(lambda x: x @ matrix + offset, 3, "it")
    np.testing.assert_allclose(found[0], matrix, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found[1], offset)
    for transform in (np.tanh, np.abs, lambda x: np.clip(x, -50, 50), lambda x: x**2):
        with pytest.raises(ValueError, match="it cannot be folded"):
            affine_map(transform, 3, "it")


def test_a_pipeline_is_folded_into_the_network():
    X = rng.normal(50, 20, size=(40, 6, 4))
    y = X[:, :, 0].mean(axis=1) - X[:, -1, 3]
    model = make_pipeline(
        PerStep(StandardScaler()),
        "passthrough",
        PerStep(PCA(3, whiten=True, random_state=0)),
        numrnn.RNNRegressor((5,), cell="gru", max_iter=3, tol=0.0, random_state=0, dtype="float64"),
    ).fit(X, y)
    compiled = numrnn.compile_pipeline(model)
    assert compiled.n_features == 4
    out = np.empty(1)
    for x, expected in zip(X, model.predict(X), strict=True):
        compiled.predict(compiled.parameters, x, out)
        assert out[0] == pytest.approx(expected, rel=1e-9)


def test_pipelines_that_cannot_be_folded():
    X = rng.normal(size=(20, 6, 2))
    y = X.sum(axis=(1, 2))
    regressor = numrnn.RNNRegressor((3,), max_iter=1, tol=0.0, random_state=0)
    curved = make_pipeline(PerStep(FunctionTransformer(np.tanh)), regressor).fit(X, y)
    with pytest.raises(ValueError, match="FunctionTransformer cannot be folded"):
        numrnn.compile_pipeline(curved)
    columns = make_pipeline(StandardScaler(), regressor).fit(X[:, :, 0], y)
    with pytest.raises(TypeError, match="StandardScaler does not work on single time steps"):
        numrnn.compile_pipeline(columns)
    with pytest.raises(TypeError, match="pipeline that ends in an estimator of numrnn, got LinearRegression"):
        numrnn.compile_pipeline(LinearRegression())
    with pytest.raises(NotFittedError):
        numrnn.compile_pipeline(make_pipeline(PerStep(StandardScaler()), numrnn.RNNRegressor()))
