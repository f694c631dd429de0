"""No call of a layer, however wrong its arrays, reads or writes outside of them.

Arrays are cut out of larger ones whose other elements are NaN. A call either says what is wrong, or its results are
those for a clean copy of the same numbers, all finite (nothing beside the array was read), and what lies around it is
untouched. Under ``NUMBA_DISABLE_JIT=1`` `simd_interpreted` checks every address besides.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import numrnn

INPUTS, UNITS = 3, 5
REFUSED = (ValueError, TypeError, RuntimeError)
LAYERS = {
    cell: getattr(numrnn, cell)(INPUTS, UNITS, bidirectional=both, random_state=0, n_jobs=1)
    for cell, both in (("LSTM", True), ("GRU", False))
}
cells = pytest.mark.parametrize("cell", LAYERS)
# Sizes that fit, and all others in their neighbourhood; an axis too few, or one too many.
sizes = st.sampled_from([0, 1, 2, 3, 4, 5, 10, 17])
NUMBERS = ["<f4", "<f4", "<f4", ">f4", "<f8", ">f8", "<f2", "<i8", ">i2", "?"]
OTHERS = ["<c8", "O", "<U3", "M8[s]", "<f4,<f4"]
# True nine times in ten.
usually = st.sampled_from([True] * 9 + [False])


@st.composite
def arrays(draw, *fitting):
    """An array, and a check that nothing around it has changed. Most have the fitting shape and good numbers."""
    shape = fitting if draw(usually) else tuple(draw(st.lists(sizes, max_size=4)))
    dtype = np.dtype(draw(st.sampled_from(NUMBERS)) if draw(usually) else draw(st.sampled_from(OTHERS)))
    # Axes in any order of memory, with any step between their elements.
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 1, 1, 2, -1, -3])) for _ in shape]
    if draw(st.booleans()):
        order, steps = list(range(len(shape))), [1] * len(shape)
    sizes_in_memory = [shape[axis] for axis in order]
    room = np.zeros([abs(step) * size + 4 for step, size in zip(steps, sizes_in_memory, strict=True)], dtype)
    cuts = tuple(
        slice(2, 2 + size * step, step) if step > 0 else slice(1 - size * step, 1, step)
        for step, size in zip(steps, sizes_in_memory, strict=True)
    )
    view = np.asarray(room[cuts])
    if dtype.kind in "fiubc" and shape:
        room[...] = np.nan if dtype.kind in "fc" else 1
        view[...] = np.random.default_rng(draw(st.integers(0, 9))).integers(-3, 4, view.shape)
        special = None if draw(usually) else draw(st.sampled_from([np.nan, np.inf, -np.inf, 3e38, 1e-45]))
        if special is not None and dtype.kind == "f" and view.size:
            with np.errstate(over="ignore"):
                view[(-1,) * view.ndim] = special
    view = view.transpose([order.index(axis) for axis in range(len(shape))])
    assert view.shape == shape
    if not draw(usually) and view.ndim and view.shape[0] > 1:
        view = np.broadcast_to(view[:1], view.shape)
    if draw(st.booleans()):
        view = view.view()
        view.flags.writeable = False
    before = room.tobytes() if dtype.kind != "O" else None

    def untouched():
        return before is None or room.tobytes() == before

    return view, untouched


def flat(results):
    """All arrays of nested results."""
    if isinstance(results, np.ndarray):
        return [results]
    return [array for part in results for array in flat(part)]


def answer(call):
    with np.errstate(all="ignore"):
        try:
            return flat(call())
        except REFUSED as error:
            assert str(error)
            return None


def clean(array):
    return None if array is None else np.array(array, dtype=np.float32, order="C")


def check(call, *given_arrays):
    """The call with these arrays, against itself with clean copies of them."""
    mine = answer(lambda: call(*[array for array, _ in given_arrays]))
    assert all(untouched() for _, untouched in given_arrays)
    if mine is None:
        return
    expected = answer(lambda: call(*[clean(array) for array, _ in given_arrays]))
    assert expected is not None
    for one, other in zip(mine, expected, strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.isfinite(one).all()


def state_of(cell, part):
    return (part, part) if cell == "LSTM" else part


@cells
@given(data=st.data())
def test_forward(cell, data):
    layer = LAYERS[cell]
    n, t = data.draw(st.sampled_from([1, 2, 4])), data.draw(st.sampled_from([1, 2, 5]))
    places = 2 if layer.bidirectional else 1
    x, state = data.draw(arrays(n, t, INPUTS)), data.draw(arrays(places, n, UNITS))
    if data.draw(st.booleans()):
        check(lambda x, state: layer.forward(x, state_of(cell, state)), x, state)
    else:
        lengths = data.draw(st.lists(st.integers(-1, t + 1), min_size=n - 1, max_size=n))
        check(lambda x: layer.forward(x, lengths=lengths), x)


@given(data=st.data())
def test_step(data):
    n = data.draw(st.sampled_from([1, 3]))
    x, state = data.draw(arrays(n, INPUTS)), data.draw(arrays(1, n, UNITS))
    check(lambda x, state: LAYERS["GRU"].step(x, state), x, state)


@given(data=st.data())
def test_stream(data):
    n = data.draw(st.sampled_from([None, 3]))
    x = data.draw(arrays(INPUTS) if n is None else arrays(n, INPUTS))
    check(lambda x: LAYERS["GRU"].stream(n).update(x), x)


@cells
@given(data=st.data())
def test_backward(cell, data):
    layer = LAYERS[cell]
    n, t = data.draw(st.sampled_from([1, 2, 4])), data.draw(st.sampled_from([1, 2, 5]))
    places = 2 if layer.bidirectional else 1
    d_y, d_state = data.draw(arrays(n, t, UNITS * places)), data.draw(arrays(places, n, UNITS))
    x = np.random.default_rng(0).normal(size=(n, t, INPUTS)).astype(np.float32)

    def call(d_y, d_state):
        layer.forward(x, training=True)
        return layer.backward(d_y, state_of(cell, d_state)), list(layer.gradients.values())

    # A gradient may be as large as a float32 can be, and its sums larger.
    if not any(a.dtype.kind == "f" and (np.abs(a.astype(np.float64)) > 1e30).any() for a, _ in (d_y, d_state)):
        check(call, d_y, d_state)
