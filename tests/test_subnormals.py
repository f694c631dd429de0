"""Numbers below the smallest normal one: taken as zero within the recurrence, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

import numrnn
from numrnn.kernels.jit import COMPILED, CPU_FEATURES

pytestmark = pytest.mark.skipif(
    not COMPILED or not {"sse2", "neon"} & CPU_FEATURES, reason="the processor is not told to flush subnormal numbers"
)

TINY = np.finfo(np.float32).tiny
X = np.random.default_rng(0).normal(size=(5, 150, 2)).astype(np.float32)


def subnormal(array):
    return (array != 0) & (np.abs(array) < TINY)


def vanishing(n_jobs=1):
    """A layer whose gradients vanish on their way back: through all subnormal numbers, if these exist."""
    layer = numrnn.LSTM(2, 20, random_state=0, n_jobs=n_jobs)
    layer.parameters["weight_hh_l0"][...] *= 0.1
    layer.parameters["bias_ih_l0"][20:40] = 0
    _, state = layer.forward(X, training=True)
    d_state = tuple(np.full_like(part, 1e-10) for part in state)
    d_x, d_initial = layer.backward(np.zeros((*X.shape[:2], 20), np.float32), d_state)
    return d_x, d_initial, {name: array.copy() for name, array in layer.gradients.items()}


def test_vanishing_gradients_become_zero():
    d_x, d_initial, gradients = vanishing()
    assert d_x[:, -1].all()
    assert not d_x[:, 0].any()
    for array in (d_x, *d_initial, *gradients.values()):
        assert not subnormal(array).any()


def test_every_thread_flushes():
    alone, divided = vanishing(), vanishing(n_jobs=2)
    np.testing.assert_array_equal(divided[0], alone[0])
    for name, array in alone[2].items():
        np.testing.assert_array_equal(divided[2][name], array)


@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_all_ways_forward_flush_alike(cell):
    # Inputs so small that the recurrence lives on subnormal numbers.
    layer = getattr(numrnn, cell)(3, 17, random_state=0)
    layer.parameters["weight_ih_l0"][...] *= 1e-38
    for name in ("bias_ih_l0", "bias_hh_l0"):
        layer.parameters[name][...] = 0
    x = np.random.default_rng(1).normal(size=(2, 6, 3)).astype(np.float32)
    y, _ = layer.forward(x)
    assert not subnormal(y).any()
    streams, state = layer.stream(2), None
    for t in range(6):
        y_t, state = layer.step(x[:, t], state)
        np.testing.assert_array_equal(y_t, y[:, t])
        np.testing.assert_array_equal(streams.update(x[:, t]), y[:, t])


def test_the_caller_computes_as_before():
    small, half = np.full(64, TINY), np.float32(0.5)
    layer = numrnn.LSTM(2, 20, random_state=0)
    stream = layer.stream()
    for call in (vanishing, lambda: layer.step(X[:, 0]), lambda: stream.update(X[0, 0])):
        call()
        assert (small * half > 0).all()
