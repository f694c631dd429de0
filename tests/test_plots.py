"""The displays draw what they are given, and say what to install when they cannot."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from numrnn.plots import ForecastDisplay, TrainingCurveDisplay


@pytest.fixture(autouse=True)
def _close_figures():
    pyplot.switch_backend("agg")
    yield
    pyplot.close("all")


class LastValue:
    """An estimator that forecasts the last value of each window."""

    def predict(self, X):
        return X[:, -1, 0]


def test_training_curve_of_an_estimator():
    estimator = SimpleNamespace(loss_curve_=[3.0, 2.0, 1.5])
    display = TrainingCurveDisplay.from_estimator(estimator, color="red")
    (line,) = display.lines_
    np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(line.get_ydata(), [3.0, 2.0, 1.5])
    assert line.get_color() == "red"
    assert display.ax_.get_title() == "SimpleNamespace"
    assert display.figure_ is display.ax_.figure


def test_training_curve_with_validation_scores_on_given_axes():
    ax = Figure().add_subplot()
    estimator = SimpleNamespace(loss_curve_=[3.0, 2.0], validation_scores_=[0.5, 0.75])
    display = TrainingCurveDisplay.from_estimator(estimator, name="model", ax=ax)
    assert display.ax_ is ax
    assert not pyplot.get_fignums()
    np.testing.assert_array_equal(display.lines_[1].get_ydata(), [0.5, 0.75])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["loss", "validation score"]


def test_training_curve_needs_a_fitted_estimator():
    with pytest.raises(ValueError, match="LastValue has no loss_curve_: fit it first"):
        TrainingCurveDisplay.from_estimator(LastValue())


def test_forecast_of_an_estimator_over_time():
    X = np.arange(24.0).reshape(4, 3, 2)
    y = np.array([4.0, 11.0, 15.0, 23.0])
    time = np.datetime64("2014-01-01T00") + np.arange(4)
    display = ForecastDisplay.from_estimator(LastValue(), X, y, time=time)
    truth, forecast = display.lines_
    np.testing.assert_array_equal(truth.get_ydata(), y)
    np.testing.assert_array_equal(forecast.get_ydata(), [4, 10, 16, 22])
    np.testing.assert_array_equal(forecast.get_xdata(), time)
    assert display.ax_.get_title() == "LastValue"


@pytest.mark.parametrize(
    ("y_true", "y_pred", "time"),
    [(np.zeros(3), np.zeros(4), None), (np.zeros((3, 2)), np.zeros((3, 2)), None), (np.zeros(3), np.zeros(3), [0, 1])],
)
def test_forecast_refuses_other_shapes(y_true, y_pred, time):
    with pytest.raises(ValueError, match=r"must have one and the same shape \(n_samples,\), got \("):
        ForecastDisplay.from_predictions(y_true, y_pred, time=time)


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "numrnn\[plot\]"'):
        TrainingCurveDisplay([1.0]).plot()


def test_importing_the_module_does_not_import_matplotlib():
    code = "import sys, numrnn.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
