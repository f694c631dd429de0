"""Named views of one vector."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from numrnn.parameters import Parameters

SHAPES = {"weight": (3, 2), "bias": (3,), "nothing": (0, 4), "scalar": ()}


@pytest.fixture(params=["float32", "float64"])
def parameters(request):
    parameters = Parameters(SHAPES, request.param)
    parameters.flat[:] = np.arange(10)
    return parameters


def test_views_lie_one_after_the_other(parameters):
    assert parameters.size == 10
    np.testing.assert_array_equal(parameters["weight"], [[0, 1], [2, 3], [4, 5]])
    np.testing.assert_array_equal(parameters["bias"], [6, 7, 8])
    assert parameters["nothing"].shape == (0, 4)
    assert parameters["scalar"] == 9
    assert parameters.span("bias") == slice(6, 9)
    np.testing.assert_array_equal(parameters.flat[parameters.span("bias")], parameters["bias"])


def test_views_are_writable_contiguous_and_of_the_dtype(parameters):
    for name, view in parameters.items():
        assert view.dtype == parameters.dtype == parameters.flat.dtype
        assert view.flags.c_contiguous and view.flags.writeable
        assert view.shape == SHAPES[name]
        assert view.size == 0 or np.shares_memory(view, parameters.flat)
    parameters["weight"][1, 1] = -7
    parameters["bias"][...] = 2
    np.testing.assert_array_equal(parameters.flat, [0, 1, 2, -7, 4, 5, 2, 2, 2, 9])


def test_it_is_a_mapping(parameters):
    assert list(parameters) == list(SHAPES)
    assert len(parameters) == 4
    assert "bias" in parameters and "other" not in parameters
    with pytest.raises(KeyError):
        parameters["other"]


def test_copies_are_independent(parameters):
    other, zeros = parameters.copy(), parameters.zeros_like()
    np.testing.assert_array_equal(other.flat, parameters.flat)
    assert not zeros.flat.any()
    assert other.shapes == zeros.shapes == parameters.shapes
    assert other.dtype == zeros.dtype == parameters.dtype
    other.flat[:] = -1
    assert parameters["bias"][0] == 6


@pytest.mark.parametrize("through", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_views_of_copies_share_the_vector_of_the_copy(parameters, through):
    other = through(parameters)
    other.flat[:] = 5
    np.testing.assert_array_equal(other["weight"], np.full((3, 2), 5))


def test_no_parameters_at_all():
    assert Parameters({}, "float32").size == 0
