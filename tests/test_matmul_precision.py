"""Products whose factors are rounded to bfloat16: what they compute, and where they can be asked for."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import oracle
import pytest
from sklearn.base import clone
from test_stack import Problem, assert_identical, both_ways, every_cell

import numrnn
from numrnn.bfloat16 import round_to_bfloat16
from numrnn.buffers import aligned_zeros
from numrnn.kernels.cpu.pairs import pair_columns, pair_rows
from numrnn.kernels.jit import COMPILED
from numrnn.workers import Workers

pytestmark = [
    pytest.mark.interpreter,
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

ROOT = Path(__file__).parent.parent
# Lengths, features, units: single ones and odd ones, less than a vector and more, more rows than a tile; then blocks.
SHAPES = [((2, 1), 1, (1,)), ((3, 1, 5, 5), 3, (6, 3)), ((2, 0, 3), 17, (33,))]
if COMPILED:
    SHAPES += [((40, 3, 61, *[25] * 20), 5, (20, 70)), ((9,) * 70, 33, (48,))]


def pairs_of(numbers):
    """Arrays of uint32 as two numbers each."""
    return (np.ascontiguousarray(numbers).view(np.uint16).astype(np.uint32) << 16).view(np.float32)


# ----------------------------------------------------------------------------------------------------------- the pairs
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 16), (4, 33), (7, 64)], ids=str)
def test_pairs_of_columns(shape):
    matrix = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    pitch = -(-shape[1] // 2)
    pairs = aligned_zeros(shape[0] * pitch + 16, np.uint32)
    pair_columns(matrix, pairs)
    expected = np.zeros((shape[0], 2 * pitch), np.float32)
    expected[:, : shape[1]] = oracle.to_bfloat16(matrix)
    np.testing.assert_array_equal(pairs_of(pairs[: shape[0] * pitch]).reshape(expected.shape), expected)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (4, 2, 16), (3, 5, 33)], ids=str)
def test_pairs_of_rows(shape):
    n_blocks, size, n_columns = shape
    blocks = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    half = -(-size // 2)
    pairs = aligned_zeros(n_blocks * half * n_columns + 16, np.uint32)
    pair_rows(blocks.reshape(-1, n_columns), size, pairs)
    expected = np.zeros((n_blocks, 2 * half, n_columns), np.float32)
    expected[:, :size] = oracle.to_bfloat16(blocks)
    found = pairs_of(pairs[: n_blocks * half * n_columns]).reshape(n_blocks, half, n_columns, 2)
    np.testing.assert_array_equal(found.swapaxes(2, 3).reshape(expected.shape), expected)


def test_what_is_no_ordinary_number_in_a_pair():
    largest = np.finfo(np.float32).max
    special = np.array([0.0, -0.0, np.inf, -np.inf, largest, -largest, np.nan, -np.nan], dtype=np.float32)
    matrix = np.tile(special, 4)[np.newaxis]
    pairs = aligned_zeros(matrix.size // 2 + 16, np.uint32)
    pair_columns(matrix, pairs)
    found = pairs_of(pairs[: matrix.size // 2])
    expected = (round_to_bfloat16(matrix[0]).astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found[~np.isnan(found)]), np.signbit(expected[~np.isnan(found)]))


# ---------------------------------------------------------------------------------------------------------- the engine
def assert_rounds_as(ours, rounding, exact):
    """Ours is far nearer to the reference that rounds its factors than that is to the one that does not.

    Not equal: where a factor lies half-way between two bfloat16, its last bit decides for one of them, and what follows
    is as far from the reference as rounding is.
    """
    distance = np.linalg.norm(np.subtract(rounding, exact))
    error = np.linalg.norm(np.subtract(ours, rounding))
    # Both references agree where units are dead.
    assert error < 0.25 * distance or error <= 1e-6 * np.linalg.norm(exact)
    oracle.assert_close(np.asarray(ours), np.asarray(rounding), 0.02)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"N{len(shape[0])}-D{shape[1]}-H{shape[2]}")
@every_cell
@both_ways
def test_equals_the_oracle_that_rounds_all_factors(cell, bidirectional, shape):
    lengths, n_features, hidden_sizes = shape
    options = {"n_features": n_features, "matmul_precision": "bfloat16"}
    problem = Problem(cell, lengths, hidden_sizes, "float32", bidirectional, **options)
    # Gates that saturate, or units that grow without bound, would be of other magnitudes in both references.
    problem.parameters.flat[:] *= 0.5
    run = problem.run()
    count = len(problem.state)
    output, after, d_input, flat = run[0], run[1 : 1 + count], run[1 + count], run[-1]
    references = []
    for rounded in (oracle.to_bfloat16, np.asarray):
        theirs = oracle.forward(cell, problem.parameters, problem.arrays, problem.state, rounded=rounded)
        d_outputs = np.split(problem.d_output(output), np.cumsum(lengths)[:-1])
        gradient, d_sequences, d_states = oracle.backward(theirs, d_outputs, problem.d_state)
        by_name = [gradient[name] for name in problem.parameters]
        references.append(
            [np.concatenate(theirs.outputs), *theirs.state, np.concatenate(d_sequences), *d_states, *by_name]
        )
    gradient = [flat[problem.parameters.span(name)].reshape(array.shape) for name, array in problem.parameters.items()]
    for mine, rounding, exact in zip(
        [output, *after, d_input, *run[2 + count : -1], *gradient], *references, strict=True
    ):
        assert_rounds_as(mine, rounding, exact)


@pytest.mark.parametrize("by_units", [False, True], ids=["sequences", "units"])
@every_cell
def test_threads_do_not_change_a_bit(cell, by_units, monkeypatch):
    monkeypatch.setattr("numrnn.direction._LARGE_WEIGHTS", 0 if by_units else 2**62)
    monkeypatch.setattr("numrnn.workers.Workers.worth", lambda workers, flops: workers.n)
    results = [
        Problem(
            cell, (9, 4, 1, 6), (40, 5), "float32", n_features=7, matmul_precision="bfloat16", workers=Workers(n)
        ).run()
        for n in (1, 2)
    ]
    assert_identical(*results)


@every_cell
@both_ways
def test_with_dropout_it_stays_near_the_exact_one(cell, bidirectional):
    """The masks are the same ones: results and gradients differ by what rounding does."""
    options = {"dropout": 0.3, "recurrent_dropout": 0.4}
    runs = [
        Problem(cell, (5, 2, 6), (20, 9), "float32", bidirectional, matmul_precision=precision, **options).run(
            dropout_seed=5
        )
        for precision in (None, "bfloat16")
    ]
    for exact, rounding in zip(*runs, strict=True):
        distance = np.linalg.norm(rounding - exact) / np.linalg.norm(exact)
        assert 0 < distance < 0.3


@every_cell
def test_it_can_be_set_at_any_time(cell):
    lengths, sizes = (5, 2, 3), (9, 20)
    exact, rounding = (
        Problem(cell, lengths, sizes, "float32", matmul_precision=precision).run() for precision in (None, "bfloat16")
    )
    problem = Problem(cell, lengths, sizes, "float32")
    for precision, expected in (("bfloat16", rounding), (None, exact), ("bfloat16", rounding)):
        problem.stack.matmul_precision = precision
        assert_identical(problem.run(), expected)


# ---------------------------------------------------------------------------------------------------------- the layers
LAYERS = {
    "lstm": numrnn.LSTM,
    "gru": numrnn.GRU,
    "rnn_tanh": numrnn.RNN,
    "rnn_relu": lambda *sizes, **options: numrnn.RNN(*sizes, nonlinearity="relu", **options),
}


def layers(cell, *sizes, **options):
    return (
        LAYERS[cell](*sizes, random_state=0, matmul_precision=precision, **options) for precision in (None, "bfloat16")
    )


@every_cell
@pytest.mark.parametrize("n_sequences", [1, 3, 12])
def test_inference_is_the_pass_of_training(cell, n_sequences):
    _, layer = layers(cell, 3, 20, num_layers=2)
    x = np.random.default_rng(1).standard_normal((n_sequences, 6, 3)).astype(np.float32)
    y, state = layer.forward(x)
    trained, state_trained = layer.forward(x, training=True)
    np.testing.assert_array_equal(y, trained)
    np.testing.assert_array_equal(np.array(state), np.array(state_trained))
    # Bits do not depend on the batch, either.
    np.testing.assert_array_equal(layer.forward(x[-1:])[0], y[-1:])


@every_cell
def test_steps_and_streams_are_exact(cell):
    exact, layer = layers(cell, 3, (20, 5))
    x = np.random.default_rng(1).standard_normal((2, 6, 3)).astype(np.float32)
    layer.forward(x)  # its packed weights must not be taken for those of a step
    np.testing.assert_array_equal(layer.step(x[:, 0])[0], exact.step(x[:, 0])[0])
    np.testing.assert_array_equal(layer.forward(x[:, :1])[0], exact.forward(x[:, :1])[0])
    layer.step(x[:, 0])
    assert not np.array_equal(layer.forward(x)[0], exact.forward(x)[0])
    ours, theirs = (np.array([stream.update(x[0, t]) for t in range(3)]) for stream in (layer.stream(), exact.stream()))
    np.testing.assert_array_equal(ours, theirs)


def test_a_layer_keeps_it_in_a_pickle():
    _, layer = layers("gru", 3, 20, bidirectional=True)
    x = np.random.default_rng(1).standard_normal((2, 6, 3)).astype(np.float32)
    again = pickle.loads(pickle.dumps(layer))
    assert again.matmul_precision == "bfloat16"
    np.testing.assert_array_equal(again.forward(x)[0], layer.forward(x)[0])


@pytest.mark.parametrize("value", ["float16", "float32", True, 16, b"bfloat16"], ids=repr)
def test_another_precision_is_refused(value):
    with pytest.raises(ValueError, match=r"matmul_precision must be None .* or 'bfloat16', got"):
        numrnn.LSTM(2, 3, matmul_precision=value)


def test_it_is_for_float32_on_the_cpu():
    with pytest.raises(ValueError, match=r"matmul_precision='bfloat16' is for dtype='float32', got 'float64'"):
        numrnn.GRU(2, 3, dtype="float64", matmul_precision="bfloat16")
    with pytest.raises(ValueError, match=r"is for device='cpu', got 'auto': .* NUMRNN_CUDA_PRODUCTS"):
        numrnn.GRU(2, 3, device="auto", matmul_precision="bfloat16")


# ------------------------------------------------------------------------------------------------------ the estimators
def sequences(n=30, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 6, 2)).astype(np.float32)
    return X, (X[:, :, 0].sum(axis=1) > 0).astype(int)


def classifier(**options):
    return numrnn.RNNClassifier((20,), max_iter=8, batch_size=8, learning_rate_init=0.01, random_state=0, **options)


def test_an_estimator_trains_and_predicts_in_it():
    X, y = sequences()
    exact, rounding = classifier().fit(X, y), classifier(matmul_precision="bfloat16").fit(X, y)
    np.testing.assert_allclose(rounding.loss_curve_, exact.loss_curve_, rtol=0.02)
    assert rounding.loss_curve_ != exact.loss_curve_
    np.testing.assert_allclose(rounding.predict_proba(X), exact.predict_proba(X), atol=0.02)
    assert rounding.score(X, y) > 0.8
    # Masters of the weights are float32: an update far below the distance of two bfloat16 is not lost.
    weights = rounding._network.parameters.flat
    assert weights.dtype == np.float32
    assert not np.array_equal(weights, oracle.to_bfloat16(weights))


def test_a_fitted_estimator_can_be_set_to_the_other():
    X, y = sequences()
    model = classifier().fit(X, y)
    exact = model.predict_proba(X)
    rounding = model.set_params(matmul_precision="bfloat16").predict_proba(X)
    assert 0 < np.abs(rounding - exact).max() < 0.02
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(X), rounding)
    np.testing.assert_array_equal(model.set_params(matmul_precision=None).predict_proba(X), exact)
    before = clone(model).set_params(matmul_precision="bfloat16").fit(X, y).predict_proba(X)
    # partial_fit goes on in the present one.
    model.set_params(matmul_precision="bfloat16").partial_fit(X, y)
    assert not np.array_equal(model.predict_proba(X), before)


def test_it_is_saved(tmp_path):
    X, y = sequences()
    model = classifier(matmul_precision="bfloat16").fit(X, y)
    model.save(tmp_path / "model.safetensors")
    again = numrnn.load(tmp_path / "model.safetensors")
    assert again.matmul_precision == "bfloat16"
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_estimators_refuse_it_where_it_is_not_for():
    X, y = sequences()
    with pytest.raises(ValueError, match="matmul_precision"):
        classifier(matmul_precision="float16").fit(X, y)
    with pytest.raises(ValueError, match=r"matmul_precision='bfloat16' is for dtype='float32', got 'float64'"):
        classifier(matmul_precision="bfloat16", dtype="float64").fit(X, y)
    model = classifier(matmul_precision="bfloat16", device="auto").fit(X, y)
    assert model.device_ == "cpu"


def test_a_language_model_trains_in_it():
    text = "how much wood would a woodchuck chuck " * 10
    models = [
        numrnn.RNNLanguageModel(
            (32,), batch_size=4, bptt_steps=20, learning_rate_init=0.01, max_iter=6, random_state=0,
            matmul_precision=precision,
        ).fit(text)
        for precision in (None, "bfloat16")
    ]  # fmt: skip
    exact, rounding = (model.loss_curve_ for model in models)
    assert exact != rounding
    np.testing.assert_allclose(rounding, exact, rtol=0.05)
    with pytest.raises(ValueError, match="is for dtype='float32'"):
        numrnn.RNNLanguageModel(matmul_precision="bfloat16", dtype="float64").fit(text)


def test_a_forecaster_trains_and_forecasts_in_it():
    y = np.sin(np.arange(120) / 3) + 2
    options = {"horizon": 3, "window_length": 12, "max_iter": 5, "random_state": 0}
    exact, rounding = (
        numrnn.RNNForecaster((16,), matmul_precision=precision, **options).fit(y) for precision in (None, "bfloat16")
    )
    np.testing.assert_allclose(rounding.loss_curve_, exact.loss_curve_, rtol=0.05)
    assert rounding.loss_curve_ != exact.loss_curve_
    np.testing.assert_allclose(rounding.predict(), exact.predict(), atol=0.1)
    with pytest.raises(ValueError, match="must be None for strategy='encoder_decoder'"):
        numrnn.RNNForecaster(strategy="encoder_decoder", matmul_precision="bfloat16", **options).fit(y)


@pytest.mark.parametrize("method", ["forecast", "reconstruction"])
def test_a_detector_judges_in_it(method):
    X = np.sin(np.arange(200) / 3)[:, np.newaxis] + np.random.default_rng(0).normal(size=(200, 1)) * 0.1
    options = {"method": method, "window_length": 8, "max_iter": 3, "random_state": 0}
    exact, rounding = (
        numrnn.RNNAnomalyDetector((16,), matmul_precision=precision, **options).fit(X).score_samples(X)
        for precision in (None, "bfloat16")
    )
    known = ~np.isnan(exact)
    distance = np.linalg.norm((rounding - exact)[known]) / np.linalg.norm(exact[known])
    assert 0 < distance < 0.1


# --------------------------------------------------------------------------------------------------- other processors
@pytest.mark.skipif(not COMPILED, reason="is about what LLVM makes of it")
def test_a_processor_without_such_products_computes_the_same(tmp_path):
    """In a process that may use AVX2 alone, or as little as Numba's generic target, where bfloat16 is widened."""
    code = (
        "import sys; sys.path.insert(0, 'tests'); import numpy as np; from test_stack import Problem\n"
        "from numrnn.kernels.simd import _HAS_BFLOAT16\n"
        "run = Problem('lstm', (9, 1, 4), (20, 5), 'float32', n_features=3, matmul_precision='bfloat16').run()\n"
        "assert not _HAS_BFLOAT16\n"
        f"np.savez({str(tmp_path / 'run.npz')!r}, *run)"
    )
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    process = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    own = Problem("lstm", (9, 1, 4), (20, 5), "float32", n_features=3, matmul_precision="bfloat16").run()
    with np.load(tmp_path / "run.npz") as run:
        for mine, other in zip(own, run.values(), strict=True):
            oracle.assert_close(mine, other, 2e-3)
