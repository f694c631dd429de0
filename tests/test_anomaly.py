"""RNNAnomalyDetector: what is found, and that streams, batches and files agree."""

from __future__ import annotations

import pickle
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_outlier_detector
from sklearn.exceptions import NotFittedError

import numrnn
from numrnn import RNNAnomalyDetector

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("method", ["forecast", "reconstruction"])
def test_a_jump_is_found_and_streams_and_files_give_the_scores_of_the_batch(method, rng, tmp_path):
    x = np.sin(2 * np.pi * np.arange(400) / 20) + 0.05 * rng.normal(size=400)
    x[370] += 2
    detector = RNNAnomalyDetector((16,), method=method, window_length=20, max_iter=15, random_state=0, n_jobs=1)
    scores = detector.fit(x[:350]).score_samples(x)
    assert 370 <= np.argmin(scores) < 390
    assert detector.predict(x)[np.argmin(scores)] == -1
    assert np.mean(detector.predict(x[:350]) == -1) == pytest.approx(0.01, abs=0.003)
    detector.save(tmp_path / "detector.safetensors")
    read = numrnn.load(tmp_path / "detector.safetensors")
    np.testing.assert_array_equal(read.score_samples(x), scores)
    np.testing.assert_array_equal([read.update([value])[0] for value in x[350:]], scores[350:])


def test_a_symbol_out_of_order_and_one_never_seen_are_improbable_and_streams_and_files_agree(tmp_path):
    detector = RNNAnomalyDetector((16,), method="likelihood", max_iter=20, batch_size=4, random_state=0, n_jobs=1)
    text = "abcdabXdabcd"
    scores = detector.fit("abcd" * 100).score_samples(text)
    assert np.argmin(scores) == 6
    assert np.argmin(detector.score_samples("abcdabdcabcd")) in (6, 7)
    detector.save(tmp_path / "detector.safetensors")
    read = numrnn.load(tmp_path / "detector.safetensors").reset()
    np.testing.assert_array_equal(np.concatenate([read.update(symbol) for symbol in text]), scores)


def detector_of(**changes):
    settings = {"window_length": 8, "max_iter": 2, "tol": 0.0, "random_state": 0, "n_jobs": 1, **changes}
    return RNNAnomalyDetector((4,), **settings)


@pytest.fixture
def wave(rng):
    return np.sin(2 * np.pi * np.arange(120) / 8) + 0.1 * rng.normal(size=120)


# ------------------------------------------------------------------------------------------------------- containers
@pytest.mark.parametrize("method", ["forecast", "reconstruction"])
def test_several_series_of_any_lengths_are_judged_as_each_of_them_alone(method, wave):
    several = [wave[:60], wave[60:63], wave[63:]]
    detector = detector_of(method=method).fit(several)
    scores, labels = detector.score_samples(several), detector.predict(several)
    assert [len(part) for part in scores] == [60, 3, 57]
    for series, part, label, decision in zip(several, scores, labels, detector.decision_function(several), strict=True):
        np.testing.assert_array_equal(detector.score_samples(series), part)
        np.testing.assert_array_equal(label, np.where(part < detector.offset_, -1, 1))
        np.testing.assert_array_equal(decision, part - detector.offset_)
    # Too short for a window: nothing can be said, and nothing is alarming.
    np.testing.assert_array_equal(scores[1], detector.normal_score_)
    np.testing.assert_array_equal(scores[0][: detector.n_unjudged_], detector.normal_score_)
    assert (scores[0][detector.n_unjudged_ :] != detector.normal_score_).sum() >= 60 - detector.n_unjudged_ - 1
    new = [wave[:2], wave[2:5], wave[5:6]]
    for old, more, streamed in zip(several, new, detector.update(new), strict=True):
        np.testing.assert_array_equal(streamed, detector.score_samples(np.concatenate([old, more]))[len(old) :])


def test_an_array_of_three_dimensions_is_as_many_series(wave):
    X = np.stack([wave, wave[::-1]], axis=1).reshape(4, 30, 2)
    detector = detector_of().fit(X)
    assert detector.n_features_in_ == 2
    scores = detector.score_samples(X)
    assert scores.shape == detector.predict(X).shape == (4, 30)
    for series, part in zip(X, scores, strict=True):
        np.testing.assert_array_equal(detector.score_samples(series), part)


@pytest.mark.parametrize("index", [
    pd.date_range("2024-03-01", periods=120, freq="h", name="hour"),
    pd.period_range("2015-01", periods=120, freq="M"),
    pd.RangeIndex(5, 125),
], ids=["times", "periods", "numbers"])  # fmt: skip
def test_scores_of_pandas_data_have_its_index(index, wave):
    series = pd.Series(wave, index, name="load")
    frame = pd.DataFrame({"a": wave, "b": wave[::-1]}, index)
    detector = detector_of().fit(series.iloc[:100])
    for result in (detector.score_samples(series), detector.predict(series), detector.decision_function(series)):
        assert isinstance(result, pd.Series)
        pd.testing.assert_index_equal(result.index, index)
    np.testing.assert_array_equal(detector.score_samples(series), detector.score_samples(wave))
    assert set(detector.predict(series)) <= {-1, 1}
    streamed = detector.update(series.iloc[100:103])
    pd.testing.assert_series_equal(streamed, detector.score_samples(series).iloc[100:103], check_freq=False)
    with pytest.raises(ValueError):
        detector.update(series.iloc[110:])  # 103 follows
    pd.testing.assert_series_equal(
        detector.update(series.iloc[103:]), detector.score_samples(series).iloc[103:], check_freq=False
    )
    wide = detector_of().fit(frame)
    assert list(wide.feature_names_in_) == ["a", "b"]
    pd.testing.assert_index_equal(wide.score_samples(frame).index, index)
    np.testing.assert_array_equal(
        wide.score_samples(frame), detector_of().fit(frame.to_numpy()).score_samples(frame.to_numpy())
    )
    with pytest.raises(ValueError, match="feature names"):
        wide.score_samples(frame[["b", "a"]])


def test_long_format_comes_back_as_long_format(wave, tmp_path):
    days = pd.date_range("2024-01-01", periods=60)
    long = pd.DataFrame({"unique_id": ["b"] * 60 + ["a"] * 60, "ds": [*days, *days], "y": wave})
    detector = detector_of().fit(long)
    scores = detector.score_samples(long)
    assert {"unique_id", "ds"} <= set(scores.columns)
    assert len(scores) == 120
    for name, part in (("b", wave[:60]), ("a", wave[60:])):
        mine = scores[scores["unique_id"] == name]
        assert list(mine["ds"]) == list(days)
        np.testing.assert_array_equal(mine["score"], detector.score_samples(part))
    later = pd.DataFrame({"unique_id": ["a", "b"], "ds": [days[-1] + pd.Timedelta(days=1)] * 2, "y": [9.0, 0.0]})
    detector.save(tmp_path / "detector.safetensors")
    streamed = detector.update(later).set_index("unique_id")["score"]
    assert streamed["a"] == detector.score_samples(np.append(wave[60:], 9.0))[-1]
    assert streamed["b"] == detector.score_samples(np.append(wave[:60], 0.0))[-1]
    read = numrnn.load(tmp_path / "detector.safetensors")
    pd.testing.assert_series_equal(read.update(later).set_index("unique_id")["score"], streamed)
    whole = detector_of(level="sequence").fit(long).score_samples(long)
    assert set(whole.index) == {"a", "b"}


@pytest.mark.parametrize("method", ["forecast", "reconstruction"])
def test_missing_values_are_not_judged_and_alarm_nobody(method, wave):
    holes = wave.copy()
    holes[[3, 50, 51, 90]] = np.nan
    detector = detector_of(method=method, missing="mask").fit(holes)
    scores = detector.score_samples(holes)
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores[[50, 51, 90]], detector.normal_score_)
    assert (detector.predict(holes)[[3, 50, 51, 90]] == 1).all()
    detector.reset()
    np.testing.assert_array_equal([detector.update([value])[0] for value in holes], scores)
    with pytest.raises(ValueError, match="time step 3"):
        detector_of(method=method).fit(pd.Series(holes))
    # Times that are not there are missing, too.
    hours = pd.date_range("2024-01-01", periods=120, freq="h")
    gap = pd.Series(wave, hours).drop(hours[[40, 41]])
    regular = detector_of(method=method, missing="mask", frequency="h").fit(gap)
    result = regular.score_samples(gap)
    pd.testing.assert_index_equal(result.index, hours, check_names=False)
    np.testing.assert_array_equal(result.iloc[[40, 41]], regular.normal_score_)


@pytest.mark.parametrize("method", ["forecast", "reconstruction", "likelihood"])
def test_whole_sequences_are_samples(method, rng):
    if method == "likelihood":
        X = ["abcabcabc"] * 9 + ["aaccbbcab"]
    else:
        X = np.sin(2 * np.pi * (np.arange(40) + np.arange(10)[:, None]) / 8)[..., None] + rng.normal(
            0, 0.05, (10, 40, 1)
        )
        X[9] = rng.normal(size=(40, 1))
    detector = detector_of(method=method, level="sequence", contamination=0.1, max_iter=20).fit(X[:9])
    scores = detector.score_samples(X)
    assert scores.shape == (10,)
    assert np.argmin(scores) == 9
    assert detector.predict(X)[9] == -1
    assert detector.predict(X[:9]).tolist().count(-1) == (0 if method == "likelihood" else 1)
    steps = detector_of(method=method, max_iter=20).fit(X[:9])
    judged = [part[steps.n_unjudged_ :] for part in steps.score_samples(X)]
    expected = [part.mean() if method == "likelihood" else -np.sqrt((part**2).mean()) for part in judged]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


# -------------------------------------------------------------------------------------------------------- threshold
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("method", ["forecast", "reconstruction"])
def test_contamination_is_the_share_of_anomalies_of_fit(method, share, wave):
    labels = detector_of(method=method, contamination=share).fit_predict(wave)
    # Steps that cannot be judged share one score, which may be the threshold.
    assert np.mean(labels == -1) == pytest.approx(share, abs=0.1 * (share == 0.5) + 1 / 120)


def test_automatic_threshold_is_alarmed_at_about_its_rate(rng):
    x = rng.normal(size=6000)
    detector = detector_of(contamination="auto", alarm_rate=1e-3, validation_fraction=0.5).fit(x[:3000])
    # Errors of independent normal numbers are normal: beyond 3.29 deviations with this probability.
    assert 2.9 < -detector.offset_ < 3.9
    assert np.mean(detector.predict(x[3000:]) == -1) < 4e-3
    rare = detector_of(contamination="auto", alarm_rate=1e-6, validation_fraction=0.5).fit(x[:3000])
    assert rare.offset_ < detector.offset_


# -------------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("changes", "X", "message"),
    [
        ({}, np.arange(8.0), "X is too short: window_length=8 and difference=None need at least 9 time steps, got 8"),
        ({"difference": 3}, np.arange(11.0), "need at least 12 time steps, got 11"),
        ({"method": "reconstruction"}, np.arange(7.0), "need at least 8 time steps, got 7"),
        ({"method": "reconstruction", "difference": 1}, np.arange(50.0), "must be None for method='reconstruction'"),
        ({"difference": 0}, np.arange(50.0), "difference"),
        ({"difference": [1, 0]}, np.arange(50.0), "must be positive lags"),
        ({"averages": (10, 5)}, np.arange(50.0), r"\(short, long\), the first at least 1 and less than the second"),
        ({"averages": [10, 20, 30]}, np.arange(50.0), "two numbers of time steps"),
        ({"averages": (2, 9), "level": "sequence"}, np.arange(50.0), "must be None for method='likelihood' and level"),
        ({"early_stopping": True}, np.arange(12.0), "X is too short for early_stopping"),
        ({"contamination": 0.6}, np.arange(50.0), "contamination"),
        ({"contamination": "some"}, np.arange(50.0), "contamination"),
        ({"method": "guess"}, np.arange(50.0), "method"),
        ({"window_length": 0}, np.arange(50.0), "window_length"),
        ({}, np.zeros((2, 3, 4, 5)), r"n_series, n_steps, n_features\), got \(2, 3, 4, 5\)"),
        ({}, np.append(np.arange(50.0), np.nan), "X contains NaN"),
        ({"missing": "mask"}, np.append(np.arange(50.0), np.inf), "X contains infinity"),
        ({"missing": "mask"}, np.full(50, np.nan), "no observed value: all are missing"),
        ({}, [np.arange(50.0), np.arange(50.0).reshape(25, 2)], "series 1"),
        ({}, [], r"minimum of 1 is required|at least one"),
        ({"method": "likelihood"}, [], "at least one sequence"),
        ({"method": "likelihood"}, [1.0, 2.0], "sequence 0 of the list is 1.0"),
    ],
)  # fmt: skip
def test_bad_input_is_named(changes, X, message):
    with pytest.raises(ValueError, match=message):
        detector_of(**changes).fit(X)


def test_times_out_of_order_are_refused(wave):
    hours = pd.date_range("2024-01-01", periods=120, freq="h")
    for times, message in (
        (hours[::-1], "sorted|ascending|order"),
        (hours[[0, *range(119)]], "twice|double|duplicate"),
    ):
        with pytest.raises(ValueError, match=message):
            detector_of().fit(pd.Series(wave, times))


def test_bad_input_to_a_fitted_detector_changes_nothing(wave):
    detector = detector_of().fit(wave[:100])
    for call in (detector.score_samples, detector.update):
        with pytest.raises(ValueError, match="2 features, but RNNAnomalyDetector is expecting 1 features"):
            call(np.zeros((30, 2)))
    with pytest.raises(ValueError, match=r"1 series of X in such a container, got 2; reset\(\) begins"):
        detector.update([wave[:3], wave[:3]])
    np.testing.assert_array_equal(detector.update(wave[100:]), detector.score_samples(wave)[100:])


def test_a_constant_series_alarms_when_it_changes():
    detector = detector_of(contamination="auto", max_iter=20).fit(np.full(100, 5.0))
    x = np.full(50, 5.0)
    x[30] = 6.0
    assert np.isfinite(detector.score_samples(x)).all()
    assert np.flatnonzero(detector.predict(x) == -1)[:1].tolist() == [30]


# ------------------------------------------------------------------------------------------ conventions of scikit-learn
def test_it_is_an_outlier_detector_whose_parameters_can_be_set_and_cloned():
    detector = detector_of(method="reconstruction", contamination="auto")
    assert is_outlier_detector(detector)
    parameters = detector.get_params()
    assert set(parameters) == {field.name for field in fields(RNNAnomalyDetector)}
    assert RNNAnomalyDetector(**parameters).get_params() == parameters
    copy = clone(detector.set_params(cell="gru"))
    assert copy is not detector
    assert copy.get_params() == {**parameters, "cell": "gru"}
    assert "method='reconstruction'" in repr(detector)
    with pytest.raises(ValueError, match="Invalid parameter 'units'"):
        detector.set_params(units=3)


@pytest.mark.parametrize("method", ["forecast", "reconstruction", "likelihood"])
def test_fit_predict_is_fit_and_predict_and_changes_neither_data_nor_parameters(method, wave):
    x = "abcdabce" * 20 if method == "likelihood" else wave
    before = wave.copy()
    detector = detector_of(method=method)
    parameters = detector.get_params()
    labels = detector.fit_predict(x)
    np.testing.assert_array_equal(wave, before)
    assert detector.get_params() == parameters
    assert labels.shape == (len(x),)
    assert set(labels) <= {-1, 1}
    np.testing.assert_array_equal(labels, detector_of(method=method).fit(x).predict(x))
    np.testing.assert_array_equal(detector.decision_function(x), detector.score_samples(x) - detector.offset_)
    np.testing.assert_array_equal(labels == -1, detector.decision_function(x) < 0)
    assert detector.n_features_in_ == 1
    assert detector.n_iter_ == len(detector.loss_curve_) == 2
    assert detector.validation_scores_ is None
    # A second fit forgets the first.
    np.testing.assert_array_equal(detector.fit(x[: len(x) // 2]).fit_predict(x), labels)


def test_before_fit_everything_else_says_so(wave, tmp_path):
    detector = detector_of()
    calls = {
        "score_samples": (wave,),
        "decision_function": (wave,),
        "predict": (wave,),
        "update": (wave,),
        "reset": (),
        "save": (tmp_path / "detector.safetensors",),
    }
    for name, arguments in calls.items():
        with pytest.raises(NotFittedError, match="RNNAnomalyDetector instance is not fitted yet"):
            getattr(detector, name)(*arguments)
    for attribute in ("offset_", "n_features_in_", "n_unjudged_"):
        with pytest.raises((AttributeError, NotFittedError)):
            getattr(detector, attribute)


@pytest.mark.parametrize("method", ["forecast", "reconstruction", "likelihood"])
def test_pickles_judge_and_stream_the_same_and_clones_know_nothing(method, wave):
    x, new = ("abcdabce" * 20, "aabbc") if method == "likelihood" else (wave[:100], wave[100:])
    detector = detector_of(method=method).fit(x)
    read = pickle.loads(pickle.dumps(detector))
    for attribute in ("offset_", "normal_score_", "n_features_in_", "n_iter_", "n_parameters_", "n_unjudged_"):
        assert getattr(read, attribute) == getattr(detector, attribute)
    np.testing.assert_array_equal(read.score_samples(x), detector.score_samples(x))
    np.testing.assert_array_equal(read.update(new), detector.update(new))
    with pytest.raises(NotFittedError):
        clone(detector).predict(x)


def test_changed_parameters_act_at_the_next_fit(wave):
    detector = detector_of().fit(wave)
    scores = detector.score_samples(wave)
    detector.set_params(method="reconstruction", window_length=20)
    np.testing.assert_array_equal(detector.score_samples(wave), scores)
    assert detector.n_unjudged_ == 8
    assert detector.fit(wave).n_unjudged_ == 19


def test_averages_compare_the_last_steps_with_the_long_run_and_streams_and_files_agree(rng, tmp_path):
    x = np.sin(np.arange(700) * 0.4) + 0.1 * rng.normal(size=700)
    x[560] += 0.4  # a single outlier
    x[620:640] = rng.normal(size=20)  # a rhythm that is lost
    settings = {"window_length": 16, "max_iter": 15, "random_state": 0, "contamination": "auto", "alarm_rate": 1e-3}
    alone = RNNAnomalyDetector((12,), **settings).fit(x[:500])
    detector = RNNAnomalyDetector((12,), averages=(10, 300), **settings).fit(x[:500])
    scores = detector.score_samples(x)
    # By hand, from how unusual each step is by itself.
    distances = -alone.score_samples(x)
    usual = detector._scorer.averages
    level, mean, variance, count = usual.mean, usual.mean, usual.variance, min(usual.n_usual, 150.5)
    expected = np.full(700, detector.normal_score_)
    for n in range(detector.n_unjudged_, 700):
        level = level * 9 / 11 + distances[n] * 2 / 11
        expected[n] = (mean - level) / max(np.sqrt(variance), 0.1)
        count = min(count + 1, 150.5)
        deviation = distances[n] - mean
        mean = mean * (1 - 1 / count) + distances[n] / count
        variance = (variance + deviation**2 / count) * (1 - 1 / count)
    np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-9)
    assert detector.offset_ == pytest.approx(-3.090232, abs=1e-6)  # a Gaussian falls below it once in a thousand
    labels = detector.predict(x)
    assert (labels[621:640] == -1).any()
    assert (labels[560:575] == 1).all()
    detector.save(tmp_path / "detector.safetensors")
    loaded = numrnn.load(tmp_path / "detector.safetensors")
    for one in (detector, loaded, pickle.loads(pickle.dumps(loaded))):
        parts = [one.update(part) for part in np.split(x[500:], [1, 2, 77, 150])]
        np.testing.assert_array_equal(np.concatenate(parts), scores[500:])
    np.testing.assert_array_equal(detector.reset().update(x[:300]), scores[:300])


def test_averages_skip_what_is_missing_and_adapt_to_a_new_level(wave):
    from numrnn.anomaly.averages import Averages

    averages = Averages(5, 100, 1.0, 0.25, 50)
    distances = np.concatenate([np.full(40, 1.0), [np.nan] * 3, np.full(1000, 3.0)])
    scores = averages.follow(distances, averages.start())
    assert np.isnan(scores[40:43]).all()
    np.testing.assert_allclose(scores[:40], 0.0, atol=1e-12)
    assert scores[43:60].max() > 1.5
    assert abs(scores[-1]) < 1e-3  # it is usual by now
