"""Whether the networks learn what they are known to learn."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from numrnn import RNNClassifier, RNNRegressor
from numrnn.datasets import make_adding_problem, make_temporal_order


def test_an_lstm_solves_the_adding_problem_over_100_steps():
    # Hochreiter and Schmidhuber (1997); Le, Jaitly and Hinton (2015). Whoever always answers with the mean has an error
    # of 1/6, and has to keep two numbers in mind for up to 100 steps to have a smaller one.
    X, y = make_adding_problem(10_000, 100, random_state=0)
    X_test, y_test = make_adding_problem(1_000, 100, random_state=1)
    assert abs(np.mean((y_test - y.mean()) ** 2) - 1 / 6) < 0.02
    model = RNNRegressor((32,), learning_rate_init=0.01, batch_size=50, max_iter=6, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    assert np.mean((model.predict(X_test) - y_test) ** 2) < 0.01


def test_a_gru_tells_the_order_of_two_symbols_among_distractors():
    X, y = make_temporal_order(2_000, 30, random_state=0)
    X_test, y_test = make_temporal_order(500, 30, random_state=1)
    model = RNNClassifier((24,), cell="gru", learning_rate_init=0.01, batch_size=50, max_iter=30, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    assert model.score(X_test, y_test) > 0.98
