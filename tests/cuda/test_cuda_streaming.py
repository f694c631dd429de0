"""A network in every thread of a kernel of one's own: the steps of the CPU."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numba import cuda

import numrnn
from numrnn.kernels.stream_layout import REMEMBERED

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
rng = np.random.default_rng(0)

LAYERS = {"lstm": numrnn.LSTM, "gru": numrnn.GRU, "rnn": numrnn.RNN}
N_STREAMS = 5


def walk_on_both(compiled, x, out_dtype=None):
    """Outputs and last states of all streams of x (n_streams, n_timesteps, n_features), CPU and device."""
    n_streams, n_timesteps = x.shape[:2]
    shape = n_streams, n_timesteps, compiled.n_outputs
    expected, made = (np.full(shape, np.nan, dtype=out_dtype or compiled.dtype) for _ in range(2))
    states = compiled.initial_state(n_streams)
    for n in range(n_streams):
        for t in range(n_timesteps):
            compiled.step(compiled.parameters, states[n], x[n, t], expected[n, t])
    step = compiled.cuda_step

    @cuda.jit
    def walk(parameters, states, x, out):
        stream = cuda.grid(1)
        if stream < x.shape[0]:
            for t in range(x.shape[1]):
                step(parameters, states[:, stream], x[stream, t], out[stream, t])

    device_states = cuda.to_device(np.ascontiguousarray(compiled.initial_state(n_streams).T))
    out = cuda.to_device(made)
    walk[3, 2](compiled.cuda_parameters(), device_states, cuda.to_device(x), out)
    remembered = compiled.parameters.layout[REMEMBERED]
    return expected, out.copy_to_host(), states[:, :remembered], device_states.copy_to_host().T[:, :remembered]


def assert_equal_steps(compiled, x, tolerance, out_dtype=None):
    expected, made, states, device_states = walk_on_both(compiled, x, out_dtype)
    np.testing.assert_allclose(made, expected, rtol=tolerance, atol=tolerance)
    # A stream that begins on one device goes on on the other.
    np.testing.assert_allclose(device_states, states, rtol=tolerance, atol=tolerance)
    assert np.ptp(made, axis=1).max() > 1e-3


@pytest.mark.parametrize(("cell", "dtype"), [*((cell, "float32") for cell in LAYERS), ("lstm", "float64")])
@pytest.mark.parametrize(("n_features", "sizes"), [(1, (1,)), (3, (7, 18, 4))])
def test_layers(cell, dtype, n_features, sizes):
    compiled = LAYERS[cell](n_features, sizes, dtype=dtype, random_state=1).compile()
    x = rng.normal(size=(N_STREAMS, 4, n_features)).astype(dtype)
    assert_equal_steps(compiled, x, 2e-6 if dtype == "float32" else 1e-13)


def test_units_beyond_a_panel():
    # 67 units and more outputs than a panel has columns.
    compiled = numrnn.GRU(2, (67, 3), random_state=0).compile()
    assert_equal_steps(compiled, rng.normal(size=(1, 2, 2)).astype(np.float32), 3e-6)


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
@pytest.mark.parametrize("residual", [False, True])
def test_regressors_in_the_units_of_y(pooling, residual):
    X = rng.normal(size=(30, 4, 3)).astype(np.float32)
    model = numrnn.RNNRegressor((6, 6), cell="lstm", pooling=pooling, residual=residual, max_iter=2, random_state=0)
    compiled = model.fit(X, 3 + 2 * X.sum(axis=(1, 2))).compile()
    assert_equal_steps(compiled, X[:N_STREAMS], 4e-6, out_dtype=np.float64)


def test_classifiers_with_ids():
    X = rng.normal(size=(60, 4, 3)).astype(np.float32)
    X[:, :, 1] = rng.integers(0, 6, size=(60, 4))
    y = rng.integers(0, 9, size=60)
    settings = {"cell": "gru", "embedding_dim": 3, "categorical_features": [1], "max_iter": 2, "random_state": 0}
    model = numrnn.RNNClassifier((5,), **settings)
    compiled = model.fit(X, y).compile()
    X[0, 1, 1] = 99  # unknown
    assert_equal_steps(compiled, X[:N_STREAMS], 2e-6)


def test_characters_whose_pre_activations_are_ready():
    model = numrnn.RNNLanguageModel((6, 5), cell="gru", max_iter=1, random_state=0).fit("the quick brown fox " * 20)
    compiled = model.compile()
    x = rng.integers(0, 12, size=(N_STREAMS, 4, 1)).astype(np.float32)
    assert_equal_steps(compiled, x, 2e-6)


def test_input_and_output_may_be_the_same():
    compiled = numrnn.LSTM(3, 3, random_state=0).compile()
    step = compiled.cuda_step

    @cuda.jit
    def run(parameters, state, x, n_steps):
        for _ in range(n_steps):
            step(parameters, state, x, x)

    x = np.ones(3, dtype=np.float32)
    state = compiled.initial_state()
    device_x = cuda.to_device(x)
    run[1, 1](compiled.cuda_parameters(), cuda.to_device(compiled.initial_state()), device_x, 5)
    for _ in range(5):
        compiled.step(compiled.parameters, state, x, x)
    np.testing.assert_allclose(device_x.copy_to_host(), x, rtol=1e-5)


def test_the_example_of_the_page_runs():
    page = Path(__file__).parents[2] / "docs" / "gpu.md"
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    names = {}
    for block in blocks:
        exec(compile(block, str(page), "exec"), names)
    # Every path has moved, and no two alike.
    assert len(np.unique(names["prices"])) == len(names["prices"]) > 1
    # The same on the CPU.
    compiled, walk = names["signal"], names["shocks"][0]
    state, seen, forecast = compiled.initial_state(), np.zeros(1, np.float32), np.zeros(1, np.float32)
    price = np.float32(0)
    for shock in walk:
        compiled.step(compiled.parameters, state, seen, forecast)
        seen[0] = forecast[0] + shock
        price += seen[0]
    np.testing.assert_allclose(names["prices"][0], price, rtol=1e-4, atol=1e-5)
