"""The displays draw what they are given, and say what to install when they cannot."""

from __future__ import annotations

import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from numrnn import LSTM, RNNAnomalyDetector, RNNClassifier, RNNForecaster, inspection
from numrnn.plots import (
    AnomalyScoresDisplay,
    AttentionDisplay,
    AttributionDisplay,
    ErrorPerHorizonDisplay,
    ForecastDisplay,
    GradientFlowDisplay,
    HiddenStateDisplay,
    ResidualsDisplay,
    TrainingCurveDisplay,
)


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
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "loss",
        "validation score",
        "best epoch (2)",
    ]
    assert display.best_epoch_line_.get_xdata()[0] == 2


def test_a_single_epoch_and_a_single_horizon_are_points_with_one_whole_number():
    curve = TrainingCurveDisplay([0.5], [0.8]).plot()
    assert [line.get_marker() for line in curve.lines_] == ["o", "o"]
    assert curve.ax_.get_xticks().tolist() == [1]
    errors = ErrorPerHorizonDisplay({"naive": [2.0]}).plot()
    assert errors.lines_["naive"].get_marker() == "o"
    assert errors.ax_.get_xticks().tolist() == [1]
    assert all(tick == round(tick) for tick in TrainingCurveDisplay([3.0, 2.0, 1.0]).plot().ax_.get_xticks())


def test_a_legend_has_one_row_where_it_fits_and_never_leaves_the_axes():
    intervals = {coverage: ([0.0, 0.0], [2.0, 2.0]) for coverage in (0.5, 0.8, 0.9, 0.95, 0.99)}
    for chosen, one_row in ((0.5, 0.9), True), (tuple(intervals), False):
        some = {coverage: intervals[coverage] for coverage in chosen}
        display = ForecastDisplay.from_predictions([1.0, 1.0], [1.0, 1.0], intervals=some)
        display.figure_.draw_without_rendering()
        legend, axes = display.ax_.get_legend(), display.ax_.get_window_extent()
        heights = {round(text.get_window_extent().y0) for text in legend.get_texts()}
        assert (len(heights) == 1) == one_row
        assert legend.get_window_extent().x1 <= axes.x1 + 1
        assert legend.get_window_extent().y0 >= axes.y1 - 1


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


def test_forecast_with_a_fan_of_intervals_after_its_history():
    intervals = {0.9: ([0.0, -1.0], [4.0, 6.0]), 0.5: ([1.0, 1.0], [3.0, 4.0])}
    display = ForecastDisplay.from_predictions(
        [2.5, 2.0], [2.0, 2.5], intervals=intervals, history=[1.0, 3.0, 2.0], unit="sales (1000 €)", name="shop"
    )
    assert list(display.bands_) == [0.5, 0.9]
    for coverage, band in display.bands_.items():
        vertices = band.get_paths()[0].vertices
        for time, low, high in zip([0, 1], *intervals[coverage], strict=True):
            at = vertices[vertices[:, 0] == time, 1]
            assert (at.min(), at.max()) == (low, high)
    # The narrowest is darkest and lies on top.
    assert display.bands_[0.5].get_zorder() > display.bands_[0.9].get_zorder()
    assert display.bands_[0.5].get_facecolor().sum() < display.bands_[0.9].get_facecolor().sum()
    np.testing.assert_array_equal(display.history_line_.get_xdata(), [-3, -2, -1, 0])
    np.testing.assert_array_equal(display.history_line_.get_ydata(), [1.0, 3.0, 2.0, 2.5])
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["measured", "forecast", "50 % interval", "90 % interval"]
    assert (display.ax_.get_ylabel(), display.ax_.get_title()) == ("sales (1000 €)", "shop")


def test_forecast_of_what_is_not_known_yet_has_the_index_of_its_series():
    index = pd.date_range("2024-01-01", periods=6, freq="D")
    history, future = pd.Series(np.arange(4.0), index[:4]), pd.Series([4.0, 5.0], index[4:])
    display = ForecastDisplay.from_predictions(None, future, history=history)
    (line,) = display.lines_
    np.testing.assert_array_equal(line.get_xdata(), index[4:].to_numpy())
    np.testing.assert_array_equal(display.history_line_.get_xdata(), index[:4].to_numpy())
    monthly = pd.Series([1.0, 2.0], pd.period_range("2024-01", periods=2, freq="M"))
    times = ForecastDisplay.from_predictions(None, monthly).time
    np.testing.assert_array_equal(times, np.array(["2024-01-01", "2024-02-01"], dtype="datetime64[D]"))


def test_forecast_refuses_intervals_that_are_none():
    for message, intervals in (
        ("coverages between 0 and 1, got 90", {90: ([0], [1])}),
        (r"coverage 0.9 must have the shape \(1,\) of the forecast, got \(2,\) and \(1,\)", {0.9: ([0, 1], [1])}),
        ("lower ends of the intervals of coverage 0.9 must not be above", {0.9: ([2], [1])}),
    ):
        with pytest.raises(ValueError, match=message):
            ForecastDisplay(None, [1.0], intervals=intervals)


def test_forecast_of_a_forecaster_with_its_own_intervals():
    index = pd.date_range("2024-01-01", periods=80, freq="D", name="day")
    y = pd.Series(np.sin(np.arange(80.0)), index, name="level")
    settings = {"horizon": 4, "window_length": 6, "max_iter": 1, "calibration_fraction": 0.5, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = RNNForecaster((3,), **settings).fit(y)
        several = RNNForecaster((3,), **settings).fit([y.to_numpy(), y.to_numpy()[::-1]])
        long = pd.concat([pd.DataFrame({"unique_id": name, "ds": index, "y": y.to_numpy()}) for name in "ab"])
        named = RNNForecaster((3,), **settings).fit(long)
        targets = RNNForecaster((3,), **settings).fit(np.stack([y, y, y], axis=1))
    display = ForecastDisplay.from_forecaster(one, 3, history=y[-10:], coverages=(0.5,))
    np.testing.assert_array_equal(display.lines_[0].get_ydata(), one.predict(3))
    np.testing.assert_array_equal(display.intervals[0.5][1], one.predict_interval(3, 0.5)["upper"])
    assert display.time[0] == np.datetime64("2024-03-21")
    assert display.ax_.get_title() == "RNNForecaster"
    display = ForecastDisplay.from_forecaster(several, series=1, y_true=[0, 0, 0, 0])
    np.testing.assert_array_equal(display.y_pred, several.predict()[1])
    np.testing.assert_array_equal(display.intervals[0.9][0], several.predict_interval()[1][:, 0])
    display = ForecastDisplay.from_forecaster(named, series="b")
    np.testing.assert_array_equal(display.y_pred, named.predict()["y"][4:])
    for forecaster, series, message in (
        (one, 0, "series must be None"),
        (several, None, "one of the 2 series, got None"),
        (named, "c", "series must be one of 'a', 'b', got 'c'"),
        (targets, None, "the forecaster has several"),
    ):
        with pytest.raises(ValueError, match=message):
            ForecastDisplay.from_forecaster(forecaster, series=series)


def test_residuals_over_time():
    display = ResidualsDisplay.from_estimator(LastValue(), np.ones((3, 2, 1)), [1.0, 3.0, np.nan], unit="m")
    np.testing.assert_array_equal(display.artists_[0].get_ydata(), [0.0, 2.0, np.nan])
    assert display.ax_.get_ylabel() == "residual (m)"


def test_distribution_of_residuals(rng):
    residuals = rng.normal(loc=2, scale=3, size=1000)
    display = ResidualsDisplay(residuals, kind="distribution").plot()
    *bars, normal = display.artists_
    heights = np.array([bar.get_height() * bar.get_width() for bar in bars])
    assert heights.sum() == pytest.approx(1)
    x, density = normal.get_data()
    assert x[density.argmax()] == pytest.approx(residuals.mean(), abs=0.1)
    assert density.max() == pytest.approx(1 / (residuals.std() * np.sqrt(2 * np.pi)), rel=1e-3)
    constant = ResidualsDisplay(np.ones(5), kind="distribution").plot()
    assert all(hasattr(artist, "get_height") for artist in constant.artists_)


def test_autocorrelation_of_residuals(rng):
    residuals = np.cumsum(rng.normal(size=200))
    display = ResidualsDisplay(residuals, kind="autocorrelation").plot()
    centred = residuals - residuals.mean()
    expected = [(centred[lag:] * centred[:-lag]).sum() / (centred**2).sum() for lag in range(1, 41)]
    np.testing.assert_allclose(display.autocorrelation_, expected)
    np.testing.assert_allclose([bar.get_height() for bar in display.artists_], expected)
    assert ResidualsDisplay(np.ones(5), kind="autocorrelation").plot().autocorrelation_.tolist() == [0, 0, 0]


def test_residuals_refuse_what_they_cannot_show():
    for message, options in (
        ("kind must be 'time', 'distribution' or 'autocorrelation', got 'scatter'", {"kind": "scatter"}),
        ("kind='autocorrelation' needs at least 3 residuals that are not NaN", {"kind": "autocorrelation"}),
    ):
        with pytest.raises(ValueError, match=message):
            ResidualsDisplay([1.0, 2.0, np.nan], **options)
    with pytest.raises(ValueError, match=r"y_true and y_pred must have the same shape, got \(2,\) and \(1,\)"):
        ResidualsDisplay.from_predictions([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match=r"residuals must have 1 dimension, got shape \(1, 1\)"):
        ResidualsDisplay([[1.0]])


def test_error_per_horizon(rng):
    y, forecast = rng.normal(size=(2, 50, 3))
    y[0, 0] = np.nan
    display = ErrorPerHorizonDisplay.from_predictions(y, {"a": forecast, "b": 0 * forecast}, metric="rmse", unit="m")
    np.testing.assert_allclose(display.lines_["a"].get_ydata(), np.sqrt(np.nanmean((forecast - y) ** 2, axis=0)))
    np.testing.assert_array_equal(display.lines_["b"].get_xdata(), [1, 2, 3])
    assert display.ax_.get_ylim()[0] == 0
    assert display.ax_.get_ylabel() == "root mean square error (m)"
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["a", "b"]
    assert ErrorPerHorizonDisplay.from_predictions(y, forecast).ax_.get_legend() is None
    for message, arguments, options in (
        ("metric must be one of 'mae', 'rmse', got 'mape'", (y, forecast), {"metric": "mape"}),
        (r"the forecast 'forecast' must have the shape of y_true, \(50, 3\)", (y, forecast[1:]), {}),
    ):
        with pytest.raises(ValueError, match=message):
            ErrorPerHorizonDisplay.from_predictions(*arguments, **options)
    with pytest.raises(ValueError, match=r"the same number of horizons, got \{'a': 1, 'b': 2\}"):
        ErrorPerHorizonDisplay({"a": [1.0], "b": [1.0, 2.0]})
    with pytest.raises(ValueError, match="at least one method"):
        ErrorPerHorizonDisplay({})


def test_anomaly_scores():
    values, scores = np.array([1.0, 5.0, 1.0, 1.0, 2.0]), np.array([0.0, 9.0, np.nan, 1.0, 4.0])
    truth = np.array([False, True, True, False, True])
    time = np.datetime64("2024-01-01") + np.arange(5)
    display = AnomalyScoresDisplay.from_scores(values, scores, threshold=3.0, truth=truth, time=time, unit="°C")
    above, below = display.axes_
    np.testing.assert_array_equal(display.lines_[0].get_ydata(), values)
    np.testing.assert_array_equal(display.lines_[1].get_ydata(), scores)
    assert display.lines_[1].axes is below
    np.testing.assert_array_equal(display.anomalies_.get_offsets()[:, 1], [5.0, 2.0])
    assert len(display.shades_) == 2
    texts = [text.get_text() for text in above.get_legend().get_texts()]
    assert texts == ["known anomaly", "°C", "above the threshold (2)", "threshold"]
    figure, axes = pyplot.subplots(2)
    assert AnomalyScoresDisplay(values, scores).plot(ax=axes).figure_ is figure
    for message, arguments, options in (
        ("values and scores must have the same shape", (values, scores[1:]), {}),
        ("truth must be an array of bool of the shape of values", (values, scores), {"truth": truth.astype(int)}),
        ("time must have one entry for each of the 5 values", (values, scores), {"time": time[1:]}),
    ):
        with pytest.raises(ValueError, match=message):
            AnomalyScoresDisplay.from_scores(*arguments, **options)
    with pytest.raises(ValueError, match="ax must be two axes"):
        AnomalyScoresDisplay(values, scores).plot(ax=axes[0])


def test_anomaly_scores_of_a_detector(rng):
    x = np.sin(2 * np.pi * np.arange(120) / 10) + 0.05 * rng.normal(size=120)
    x[100] += 3
    detector = RNNAnomalyDetector((4,), window_length=10, max_iter=2, tol=0.0, random_state=0, n_jobs=1)
    with pytest.raises(NotFittedError):
        AnomalyScoresDisplay.from_estimator(detector, x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        detector.fit(x)
    display = AnomalyScoresDisplay.from_estimator(detector, x, unit="°C")
    assert display.axes_[0].get_title() == "RNNAnomalyDetector"
    drawn = display.lines_[1].get_ydata()
    assert np.isnan(drawn[:10]).all()
    np.testing.assert_array_equal(drawn[10:], -detector.score_samples(x)[10:])
    found = np.flatnonzero(detector.predict(x) == -1)
    assert len(found)
    np.testing.assert_array_equal(display.anomalies_.get_offsets()[:, 0], found)
    series = pd.Series(x, pd.date_range("2024-01-01", periods=120, freq="h"))
    display = AnomalyScoresDisplay.from_estimator(detector, series, name="a sensor")
    np.testing.assert_array_equal(display.time, series.index.to_numpy())
    assert display.axes_[0].get_title() == "a sensor"
    # Times that are missing in the series have a place in the plot, as they have in the scores.
    gap = series.drop(series.index[[50, 51]]).to_frame("load")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        regular = detector.set_params(missing="mask", frequency="h").fit(gap)
    display = AnomalyScoresDisplay.from_estimator(regular, gap)
    np.testing.assert_array_equal(display.time, series.index.to_numpy())
    assert np.flatnonzero(np.isnan(display.lines_[0].get_ydata())).tolist() == [50, 51]
    for several in (x.reshape(4, 30, 1), [x[:50], x[50:]], [x[:60], x[60:]]):
        with pytest.raises(ValueError, match="one series of one number per time step"):
            AnomalyScoresDisplay.from_estimator(detector, several)
    with pytest.raises(ValueError, match=r'a detector with level="step"'):
        AnomalyScoresDisplay.from_estimator(detector.set_params(level="sequence"), x)


# ------------------------------------------------------------------------------------------------------- inspection
@pytest.fixture(scope="module")
def classifier():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(8, 6, 2)), np.arange(8) % 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return RNNClassifier((5, 4), max_iter=2, random_state=0, n_jobs=1).fit(X, y), X, y


def test_hidden_states_of_a_sequence(classifier):
    model, X, _ = classifier
    display = HiddenStateDisplay.from_estimator(model, X, sample=3)
    states = inspection.hidden_states(model, X)[3]
    np.testing.assert_array_equal(display.image_.get_array(), states.T)
    assert display.image_.get_clim() == pytest.approx((-np.abs(states).max(), np.abs(states).max()))
    assert display.colorbar_.ax.get_ylabel() == "hidden state"
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("time step", "unit")
    frame = pd.DataFrame(X[:, :, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        univariate = RNNClassifier((3,), max_iter=1, n_jobs=1).fit(frame, [0, 1] * 4)
    assert HiddenStateDisplay.from_estimator(univariate, frame, sample=-1).image_.get_array().shape == (3, 6)


def test_gates_of_a_sequence_in_the_order_of_their_peaks(classifier):
    model, X, _ = classifier
    ragged, labels = [X[0], X[1][:3]], ["a", "b", "c"]
    display = HiddenStateDisplay.from_estimator(
        model, ragged, sample=1, layer=0, quantity="forget", labels=labels, sort=True
    )
    gate = inspection.gate_activations(model, ragged, layer=0)["forget"][1]
    peaks = gate.argmax(axis=0)
    assert (np.diff(peaks[display.order_]) >= 0).all()
    np.testing.assert_array_equal(display.image_.get_array(), gate.T[display.order_])
    display.figure_.draw_without_rendering()
    places, texts = display.ax_.get_yticks(), [text.get_text() for text in display.ax_.get_yticklabels()]
    ticks = {round(place): text for place, text in zip(places, texts, strict=True) if text}
    assert ticks
    assert all(text == str(display.order_[place]) for place, text in ticks.items())
    assert display.image_.get_clim() == (0, 1)
    assert [text.get_text() for text in display.ax_.get_xticklabels()] == labels
    assert display.ax_.get_title() == "RNNClassifier, layer 0"


def test_heat_maps_refuse_what_is_not_there(classifier):
    model, X, _ = classifier
    with pytest.raises(ValueError, match="sample must be the number of one of the 8 sequences of X, got 8"):
        HiddenStateDisplay.from_estimator(model, X, sample=8)
    with pytest.raises(ValueError, match=r"quantity must be one of 'hidden', 'cell', .*, got 'gate'"):
        HiddenStateDisplay(np.zeros((2, 2)), quantity="gate")
    with pytest.raises(ValueError, match="for this model, got 'reset'"):
        HiddenStateDisplay.from_estimator(model, X, quantity="reset")
    with pytest.raises(ValueError, match="labels must have one entry for each of the 2 time steps, got 3"):
        HiddenStateDisplay(np.zeros((2, 2)), labels="abc").plot()


def test_long_labels_are_thinned_out_and_upright():
    labels = [f"word{i}" for i in range(100)]
    display = AttentionDisplay(np.full(100, 0.01), labels=labels).plot()
    ticks = display.ax_.get_xticklabels()
    assert len(ticks) <= 40
    for tick in ticks:
        assert tick.get_text() == labels[round(tick.get_position()[0])]
        assert tick.get_rotation() == 90


def test_gradient_flow_of_several_sequences(classifier):
    model, X, y = classifier
    display = GradientFlowDisplay.from_estimator(model, X, y, state="cell")
    norms = inspection.gradient_norms(model, X, y, state="cell")
    assert [line.get_label() for line in display.lines_] == ["RNNClassifier, layer 0", "RNNClassifier, layer 1"]
    for layer, line in enumerate(display.lines_):
        np.testing.assert_allclose(line.get_ydata(), np.median(norms[:, :, layer], axis=0))
        vertices = display.bands_[layer].get_paths()[0].vertices
        assert vertices[:, 1].max() == pytest.approx(np.quantile(norms[:, :, layer], 0.9, axis=0).max())
    assert display.ax_.get_yscale() == "log"
    assert "c_t" in display.ax_.get_ylabel()


def test_gradient_flow_aligns_ragged_sequences_at_their_ends():
    norms = [np.array([[1.0], [2.0], [4.0]]), np.array([[3.0]])]
    (line,) = GradientFlowDisplay(norms).plot().lines_
    np.testing.assert_array_equal(line.get_xdata(), [-2, -1, 0])
    np.testing.assert_array_equal(line.get_ydata(), [1.0, 2.0, 3.5])


def test_gradient_flow_of_one_sequence_and_a_second_model_on_the_same_axes():
    X, d_y = np.ones((1, 4, 2)), np.zeros((1, 4, 3))
    d_y[0, 1] = 1
    first = GradientFlowDisplay.from_estimator(LSTM(2, 3, random_state=0), X, d_y, name="one")
    second = GradientFlowDisplay.from_estimator(LSTM(2, 3, random_state=1), X, d_y, name="two", ax=first.ax_)
    assert second.ax_ is first.ax_
    # Nothing comes after the second time step: these norms are zero, and not on the scale.
    np.testing.assert_array_equal(np.isnan(first.lines_[0].get_ydata()), [False, False, True, True])
    assert first.lines_[0].get_color() != second.lines_[0].get_color()
    single = GradientFlowDisplay(inspection.gradient_norms(LSTM(2, 3), X, d_y)[0]).plot()
    assert single.bands_ == []


def test_attention_over_tokens():
    display = AttentionDisplay([0.5, 0.3, 0.2], labels=["not", "bad", "."]).plot()
    assert [bar.get_height() for bar in display.bars_] == [0.5, 0.3, 0.2]
    assert display.uniform_line_.get_ydata()[0] == pytest.approx(1 / 3)
    assert display.ax_.get_ylim()[0] == 0
    assert [text.get_text() for text in display.ax_.get_xticklabels()] == ["not", "bad", "."]


def test_attributions_as_bars_and_as_a_heat_map(classifier):
    model, X, _ = classifier
    display = AttributionDisplay.from_estimator(
        model, X, 1, sample=2, steps=10, feature_names=["wind", "rain"], name="why"
    )
    values = inspection.attributions(model, X[2:3], 1, steps=10)[0]
    np.testing.assert_array_equal(display.image_.get_array(), values.T)
    assert display.bars_ is None
    assert [text.get_text() for text in display.ax_.get_yticklabels()] == ["wind", "rain"]
    bars = AttributionDisplay([0.5, -1.0]).plot().bars_
    assert [bar.get_height() for bar in bars] == [0.5, -1.0]
    assert bars[0].get_facecolor() != bars[1].get_facecolor()
    with pytest.raises(ValueError, match="feature_names must have one entry for each of the 2 features, got 1"):
        AttributionDisplay(values, feature_names=["wind"])


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "numrnn\[plot\]"'):
        TrainingCurveDisplay([1.0]).plot()


def test_importing_the_module_does_not_import_matplotlib():
    code = "import sys, numrnn.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
