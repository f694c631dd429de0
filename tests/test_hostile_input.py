"""No argument of an estimator, however wrong, gets further than the checks.

A call with it either returns what it returns for a clean copy of the same numbers, or says what is wrong in a
ValueError or TypeError that was raised on purpose. What was given is never changed.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hostile import check, containers
from hypothesis import given
from hypothesis import strategies as st

import numrnn

SAMPLES, STEPS, FEATURES = 4, 3, 2
TINY = {"hidden_layer_sizes": (5,), "max_iter": 1, "random_state": 0, "n_jobs": 1}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(SAMPLES, STEPS, FEATURES)).astype(np.float32)
Y = {
    numrnn.RNNClassifier: np.array([0, 1, 1, 2]),
    numrnn.RNNRegressor: RNG.normal(size=SAMPLES),
    numrnn.RNNTagger: RNG.integers(0, 3, size=(SAMPLES, STEPS)),
}
KINDS = list(Y)
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def fitted(model, *data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(*data)


FITTED = {kind: fitted(kind(**TINY), X, Y[kind]) for kind in KINDS}
METHODS = {
    numrnn.RNNClassifier: ["predict", "predict_proba", "predict_log_proba", "transform"],
    numrnn.RNNRegressor: ["predict", "transform"],
    numrnn.RNNTagger: ["predict", "predict_proba", "transform"],
}


@kinds
@given(data=st.data())
def test_predict(kind, data):
    method = getattr(FITTED[kind], data.draw(st.sampled_from(METHODS[kind])))
    check(method, data.draw(containers(SAMPLES, STEPS, FEATURES)))


@kinds
@given(data=st.data())
def test_fit_X(kind, data):
    method = data.draw(st.sampled_from(["fit", "partial_fit"]))

    def call(given_X):
        model = kind(**TINY)
        more = {"classes": [0, 1, 2]} if method == "partial_fit" and kind is not numrnn.RNNRegressor else {}
        getattr(model, method)(given_X, Y[kind], **more)
        return model._network.parameters.flat.copy()

    check(call, data.draw(containers(SAMPLES, STEPS, FEATURES)))


@kinds
@given(data=st.data())
def test_fit_y(kind, data):
    shape = Y[kind].shape if data.draw(st.booleans()) else (SAMPLES, 1)

    def call(given_y):
        model = kind(**TINY).fit(X, given_y)
        return model._network.parameters.flat.copy()

    check(call, data.draw(containers(*shape, low=0, high=2)))
