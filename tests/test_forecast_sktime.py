"""The forecaster behind sktime's interface: what it forecasts is what `RNNForecaster` forecasts; sktime's checks."""

from __future__ import annotations

import doctest
import importlib.util
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone

from numrnn import RNNForecaster

ROOT = Path(__file__).parent.parent
needs_sktime = pytest.mark.skipif(importlib.util.find_spec("sktime") is None, reason="sktime is not installed")
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:The default of config:FutureWarning"),
]


@pytest.fixture
def sales():
    pd = pytest.importorskip("pandas")
    t = np.arange(60)
    noise = np.random.default_rng(0).normal(0, 0.1, size=60)
    return pd.Series(10 + np.sin(t / 2) + noise, pd.period_range("2015-01", periods=60, freq="M"), name="sales")


@pytest.fixture
def adapter():
    pytest.importorskip("sktime")
    from numrnn.forecasting.sktime import SktimeRNNForecaster

    return SktimeRNNForecaster


def tiny(**changes):
    settings = {"cell": "rnn", "window_length": 4, "max_iter": 3, "n_jobs": 1, "random_state": 0, "horizon": 3}
    return RNNForecaster((3,), **{**settings, **changes})


def test_forecasts_are_those_of_the_forecaster(adapter, sales):
    forecaster = tiny(horizon=5)
    forecast = adapter(clone(forecaster)).fit(sales[:50], fh=[2, 5]).predict()
    expected = clone(forecaster).fit(sales[:50]).predict(5)
    assert list(forecast.index) == [sales.index[51], sales.index[54]] and forecast.name == "sales"
    np.testing.assert_array_equal(forecast, expected.iloc[[1, 4]])


def test_the_network_is_made_for_the_farthest_step_that_fit_knows(adapter, sales):
    forecaster = tiny()
    assert adapter(forecaster).fit(sales, fh=[7]).forecaster_.horizon == 7
    assert adapter(forecaster).fit(sales, fh=[1]).forecaster_.horizon == 3
    assert adapter(forecaster).fit(sales).forecaster_.horizon == 3
    assert forecaster.horizon == 3


def test_quantiles_of_several_targets_stand_under_their_names(adapter, sales):
    y = sales.to_frame("a").assign(b=-3 * sales)
    forecaster = tiny(loss="gaussian")
    quantiles = adapter(forecaster).fit(y).predict_quantiles(fh=[1, 3], alpha=[0.9, 0.1])
    expected = clone(forecaster).fit(y).predict_quantiles(3, [0.9, 0.1])
    assert list(quantiles.columns) == [("a", 0.9), ("a", 0.1), ("b", 0.9), ("b", 0.1)]
    for name in "ab":
        for level in (0.9, 0.1):
            np.testing.assert_array_equal(quantiles[name, level], expected[name, level].iloc[[0, 2]])
    assert (quantiles["b", 0.9] > quantiles["b", 0.1]).all()


def test_update_goes_on_without_training_and_windows_may_overlap(adapter, sales):
    forecaster = tiny()
    forecast = adapter(forecaster).fit(sales[:40]).update(sales[30:50], update_params=False).predict(fh=[1, 2])
    expected = clone(forecaster).fit(sales[:40]).update(sales[40:50]).predict(2)
    np.testing.assert_array_equal(forecast, expected)
    assert forecast.index[0] == sales.index[50]


def test_covariates_are_taken_from_a_table_of_all_times(adapter, sales):
    X = sales.to_frame("x").shift(1, fill_value=0.0)
    forecaster = tiny()
    fitted = adapter(forecaster).fit(sales[:40], X=X[:40]).update(sales[40:45], X=X[40:45])
    expected = clone(forecaster).fit(sales[:40], X[:40]).update(sales[40:45], X[40:45]).predict(3, X[45:48])
    np.testing.assert_array_equal(fitted.predict(fh=[1, 2, 3], X=X), expected)
    with pytest.raises(ValueError, match="future covariates"):
        fitted.predict(fh=[1])


def test_there_are_no_forecasts_within_the_series(adapter, sales):
    with pytest.raises(NotImplementedError, match="in-sample"):
        adapter(tiny()).fit(sales).predict(fh=[-2, 1])


def test_parameters_are_nested_and_missing_values_follow_the_forecaster(adapter):
    forecaster = adapter(tiny())
    assert not forecaster.get_tag("capability:missing_values")
    changed = forecaster.clone().set_params(forecaster__window_length=9, forecaster__missing="mask")
    assert changed.get_params()["forecaster__window_length"] == 9
    assert forecaster.forecaster.window_length == 4


@needs_sktime
def test_the_example_runs():
    from numrnn.forecasting import sktime as module

    runner = doctest.DocTestRunner()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for test in doctest.DocTestFinder().find(module.SktimeRNNForecaster, module.__name__):
            runner.run(test)
    assert runner.tries > 5 and runner.failures == 0


@needs_sktime
def test_checks_of_sktime(adapter):
    """The quick ones; `check_estimator(SktimeRNNForecaster)` runs all."""
    from sktime.utils.estimator_checks import check_estimator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(
            adapter,
            tests_to_run=[
                "test_predict_interval",
                "test_update_predict_single",
                "test_constructor",
                "test_valid_estimator_class_tags",
                "test_random_tags",
            ],
            raise_exceptions=True,
            verbose=False,
        )
    assert len(results) > 20 and set(results.values()) == {"PASSED"}


def test_without_sktime_the_error_says_what_to_install():
    program = """
import sys
sys.modules["sktime"] = None
import numrnn.forecasting
try:
    import numrnn.forecasting.sktime
except ImportError as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.run(
        [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True, timeout=120
    )
    assert "needs the package sktime" in process.stdout and "numrnn[sktime]" in process.stdout
