"""No call of a layer, however wrong its arrays, reads or writes outside of them.

Arrays are cut out of larger ones whose other elements are NaN. A call either says what is wrong, or its results are
those for a clean copy of the same numbers, all finite (nothing beside the array was read), and what lies around it is
untouched. Under ``NUMBA_DISABLE_JIT=1`` `simd_interpreted` checks every address besides.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hostile import arrays, flat
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
    mine = answer(lambda: call(*[argument.value for argument in given_arrays]))
    assert all(argument.untouched() for argument in given_arrays)
    if mine is None:
        return
    expected = answer(lambda: call(*[clean(argument.value) for argument in given_arrays]))
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
    sizes = [np.abs(a.value.astype(np.float64)).max(initial=0) for a in (d_y, d_state) if a.value.dtype.kind == "f"]
    if not any(size > 1e30 for size in sizes):
        check(call, d_y, d_state)


# ----------------------------------------------------------------------------------------------------- guarded memory
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
@pytest.mark.parametrize(("side", "place"), [("after", 5), ("before", -1)])
@pytest.mark.parametrize("wrong", [False, True], ids=["within", "beside"])
def test_guarded_memory(side, place, wrong):
    """Memory that ends where an array does tells what reads beside it, even if nothing is done with what was read."""
    program = f"""if True:
        import ctypes, numpy as np
        from guarded import guarded
        with guarded("{side}"):
            array = np.ones(5, dtype=np.float32)
        ctypes.string_at(array.ctypes.data + 4 * {place if wrong else 0}, 4)
    """
    done = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parent, capture_output=True, timeout=120)
    assert done.returncode == (-signal.SIGSEGV if wrong else 0), done.stderr.decode()
