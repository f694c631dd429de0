"""The public layers with device="cuda"."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import numrnn
from numrnn.kernels.cuda.arrays import new_queue, upload


def pair(kind, *sizes, **options):
    host = kind(*sizes, random_state=0, dtype="float64", **options)
    device = kind(*sizes, random_state=0, dtype="float64", device="cuda", **options)
    return host, device


def test_forward_and_backward_equal_those_of_the_cpu():
    rng = np.random.default_rng(1)
    x, lengths = rng.normal(size=(3, 3, 2)), [2, 3, 1]
    host, device = pair(numrnn.LSTM, 2, (3, 2), bidirectional=True)
    results = []
    for layer in (host, device):
        y, state = layer.forward(x, lengths=lengths, training=True)
        d_x, d_state = layer.backward(np.cos(y), state)
        results.append([y, *state[0], *state[1], d_x, *d_state[0], *d_state[1], *layer.gradients.values()])
    for expected, found in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_arrays_on_the_device_stay_there():
    x = np.random.default_rng(2).normal(size=(2, 2, 3))
    host, device = pair(numrnn.GRU, 3, 2)
    on_device = upload(x, new_queue())
    y, state = device.forward(on_device)
    assert type(y) is type(on_device) and y.shape == (2, 2, 2)
    expected, expected_state = host.forward(x)
    np.testing.assert_allclose(y.copy_to_host(), expected, atol=1e-12)
    np.testing.assert_allclose(state, expected_state, atol=1e-12)
    with pytest.raises(ValueError, match="float64"):
        device.forward(upload(x.astype(np.float32), new_queue()))
    with pytest.raises(ValueError, match="shape"):
        device.forward(upload(x[0], new_queue()))


def test_a_layer_is_pickled_with_its_device():
    _, device = pair(numrnn.RNN, 2, 2)
    x = np.ones((1, 2, 2))
    copy = pickle.loads(pickle.dumps(device))
    assert copy.device == "cuda"
    np.testing.assert_array_equal(copy.forward(x)[0], device.forward(x)[0])
