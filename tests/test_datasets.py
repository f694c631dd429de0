"""The data are what was published, windows are what was measured, synthetic tasks are what the papers define."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from numrnn.datasets import (
    load_beijing_pm25,
    make_adding_problem,
    make_copy_memory,
    make_temporal_order,
    sliding_windows,
)
from numrnn.datasets.beijing import FIRST_HOUR, read_columns

PUBLISHED_SHA256 = "4127f868775e31b3956522adc0ec75af8937dde6a3896e8beed3a376c6d27f1c"


@pytest.fixture(scope="module")
def pollution():
    return load_beijing_pm25()


def published_file() -> str:
    """The CSV file of the UCI repository, written back from the packaged columns."""
    columns = read_columns()
    lines = ["No,year,month,day,hour,pm2.5,DEWP,TEMP,PRES,cbwd,Iws,Is,Ir"]
    for number, pm25 in enumerate(columns["pm25"]):
        date, hour = str(FIRST_HOUR + number).split("T")
        cells = [
            str(number + 1),
            *(str(int(part)) for part in date.split("-")),
            str(int(hour)),
            "NA" if pm25 < 0 else str(pm25),
            str(columns["dew_point"][number]),
            f"{columns['temperature'][number]:.15g}",
            f"{columns['pressure'][number]:.15g}",
            ("NE", "NW", "SE", "cv")[columns["wind_direction"][number]],
            f"{columns['wind_speed'][number] / 100:g}",
            str(columns["snow"][number]),
            str(columns["rain"][number]),
        ]
        lines.append(",".join(cells))
    return "".join(line + "\r\n" for line in lines)


def test_packaged_pollution_is_the_published_file_byte_for_byte():
    assert hashlib.sha256(published_file().encode()).hexdigest() == PUBLISHED_SHA256


def test_pollution_shapes_and_types(pollution):
    assert pollution.hourly.shape == (43824, 16)
    assert pollution.data.shape == (41543, 24, len(pollution.feature_names))
    assert pollution.data.dtype == pollution.target.dtype == np.float32
    assert len(pollution.target) == len(pollution.time) == len(pollution.data)
    assert np.isfinite(pollution.data).all()


def test_pollution_windows_end_one_hour_before_a_measured_target(pollution):
    measured = read_columns()["pm25"]
    target_hour = (pollution.time - pollution.hours[0]).astype(int)
    np.testing.assert_array_equal(pollution.target, measured[target_hour])
    np.testing.assert_array_equal(pollution.data[:, -1, 0], measured[target_hour - 1])
    for window in (0, 1000, 41542):
        rows = slice(target_hour[window] - 24, target_hour[window])
        np.testing.assert_array_equal(pollution.data[window], pollution.hourly[rows])


def test_pollution_never_scores_on_a_missing_value(pollution):
    missing = pollution.feature_names.index("pm25_missing")
    assert (pollution.target >= 0).all()
    assert (pollution.data[:, -1, missing] == 0).all()
    assert pollution.hourly[:, missing].sum() == 2067
    # Inside the windows missing values do occur, and carry the value of the hour before.
    hourly = pollution.hourly
    filled = np.flatnonzero(hourly[1:, missing]) + 1
    filled = filled[filled >= 24]
    np.testing.assert_array_equal(hourly[filled, 0], hourly[filled - 1, 0])
    assert pollution.data[:, :, missing].any()


def test_pollution_is_split_in_time(pollution):
    train, test = (load_beijing_pm25(subset=subset) for subset in ("train", "test"))
    assert train.time.max() < np.datetime64("2014-01-01") <= test.time.min()
    assert len(train.time) + len(test.time) == len(pollution.time)
    assert (np.diff(pollution.time.astype(int)) > 0).all()


def test_pollution_calendar_features(pollution):
    noon = pollution.hours == np.datetime64("2012-07-01T12")
    names = pollution.feature_names
    row = dict(zip(names, pollution.hourly[noon][0], strict=True))
    assert row["day_sin"] == pytest.approx(0, abs=1e-6)
    assert row["day_cos"] == pytest.approx(-1)
    # 2012-07-01 noon is day 182.5 of 366.
    assert row["year_cos"] == pytest.approx(np.cos(2 * np.pi * 182.5 / 366), abs=1e-6)
    winds = [name for name in names if name.startswith("wind_") and name != "wind_speed"]
    np.testing.assert_array_equal(pollution.hourly[:, [names.index(name) for name in winds]].sum(axis=1), 1)


def test_pollution_as_arrays_and_other_lengths():
    X, y = load_beijing_pm25(n_timesteps=3, subset="test", return_X_y=True)
    assert X.shape == (len(y), 3, 16)


def test_pollution_describes_its_licence(pollution):
    assert "CC BY 4.0" in pollution.DESCR
    assert "10.24432/C5JS49" in pollution.DESCR


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"subset": "valid"}, "subset must be 'all', 'train' or 'test', got 'valid'"), ({"n_timesteps": 0}, "got 0")],
)
def test_pollution_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_beijing_pm25(**arguments)


def test_sliding_windows_are_views():
    series = np.arange(20.0).reshape(10, 2)
    windows = sliding_windows(series, 4)
    assert windows.shape == (7, 4, 2)
    assert np.shares_memory(windows, series)
    assert not windows.flags.writeable
    for start in range(7):
        np.testing.assert_array_equal(windows[start], series[start : start + 4])


@pytest.mark.parametrize("n_timesteps", [0, 11])
def test_sliding_windows_refuse_lengths(n_timesteps):
    with pytest.raises(ValueError, match=f"between 1 and the 10 time steps of the series, got {n_timesteps}"):
        sliding_windows(np.zeros(10), n_timesteps)


def test_sliding_windows_refuse_three_dimensions():
    with pytest.raises(ValueError, match=r"got 3 dimensions: \(2, 3, 4\)"):
        sliding_windows(np.zeros((2, 3, 4)), 1)


@pytest.mark.parametrize("make", [make_adding_problem, make_copy_memory, make_temporal_order])
def test_synthetic_tasks_repeat_with_their_seed(make):
    X, y = make(20, random_state=3)
    X_again, y_again = make(20, random_state=np.random.RandomState(3))
    X_other, _ = make(20, random_state=4)
    np.testing.assert_array_equal(X, X_again)
    np.testing.assert_array_equal(y, y_again)
    assert not np.array_equal(X, X_other)
    assert X.dtype == np.float32


def test_adding_problem_is_the_sum_of_two_marked_numbers():
    X, y = make_adding_problem(20_000, 7, random_state=0)
    values, marks = X[:, :, 0], X[:, :, 1]
    assert set(np.unique(marks)) == {0, 1}
    assert (marks.sum(axis=1) == 2).all()
    np.testing.assert_allclose((values * marks).sum(axis=1), y, rtol=1e-6)
    assert 0 <= values.min() < 0.001 < 0.999 < values.max() < 1
    assert np.mean((y - 1) ** 2) == pytest.approx(1 / 6, rel=0.03)
    # Every time step is marked equally often.
    np.testing.assert_allclose(marks.mean(axis=0), 2 / 7, rtol=0.05)


def test_adding_problem_of_two_steps_marks_both():
    X, _ = make_adding_problem(5, 2, random_state=0)
    assert (X[:, :, 1] == 1).all()


def test_copy_memory_layout():
    delay, n_memory, blank, signal = 30, 10, 8, 9
    X, y = make_copy_memory(200, delay, random_state=0)
    assert X.shape == (200, delay + 20, 10)
    assert (X.sum(axis=2) == 1).all()
    codes = X.argmax(axis=2)
    symbols = codes[:, :n_memory]
    assert set(np.unique(symbols)) == set(range(8))
    assert (codes[:, n_memory : n_memory + delay - 1] == blank).all()
    assert (codes[:, n_memory + delay - 1] == signal).all()
    assert (codes[:, n_memory + delay :] == blank).all()
    assert (y[:, :-n_memory] == blank).all()
    np.testing.assert_array_equal(y[:, -n_memory:], symbols)


@pytest.mark.parametrize(("n_markers", "n_classes"), [(2, 4), (3, 8)])
def test_temporal_order_classes_follow_the_marks(n_markers, n_classes):
    X, y = make_temporal_order(2000, 100, n_markers=n_markers, random_state=0)
    assert X.shape == (2000, 100, 8)
    letters = np.array(list("EBabcdXY"))[X.argmax(axis=2)]
    assert (letters[:, 0] == "E").all()
    assert (letters[:, -1] == "B").all()
    marked = np.isin(letters, ["X", "Y"])
    assert (marked.sum(axis=1) == n_markers).all()
    digits = (letters[marked] == "Y").reshape(-1, n_markers)
    np.testing.assert_array_equal(digits @ 2 ** np.arange(n_markers)[::-1], y)
    assert set(y) == set(range(n_classes))
    positions = np.nonzero(marked)[1].reshape(-1, n_markers)
    begins = [10, 50] if n_markers == 2 else [10, 33, 66]
    np.testing.assert_array_equal(positions.min(axis=0), begins)
    np.testing.assert_array_equal(positions.max(axis=0), [begin + 9 for begin in begins])


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (make_adding_problem, {"n_timesteps": 1}, "n_timesteps must be at least 2, got 1"),
        (make_adding_problem, {"n_samples": 0}, "n_samples must be at least 1, got 0"),
        (make_copy_memory, {"delay": 0}, "delay must be at least 1, got 0"),
        (make_copy_memory, {"n_symbols": 1}, "n_symbols must be at least 2, got 1"),
        (make_temporal_order, {"n_timesteps": 9}, "n_timesteps must be at least 10, got 9"),
        (make_temporal_order, {"n_markers": 4}, "n_markers must be 2 or 3, got 4"),
    ],
)
def test_synthetic_tasks_refuse(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)
