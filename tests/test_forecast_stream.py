"""Forecasters one time step at a time: the same as updates and predictions of whole containers."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from numrnn import RNNForecaster

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

QUICK = {
    "hidden_layer_sizes": (5,), "window_length": 6, "horizon": 3, "max_iter": 2, "batch_size": 32, "random_state": 0,
    "n_jobs": 1,
}  # fmt: skip


def quick(**changes):
    return RNNForecaster(**{**QUICK, **changes})


def series(rng, *shape):
    return (
        20
        + 4 * np.sin(2 * np.pi * np.arange(shape[0]) / 7).reshape(-1, *[1] * (len(shape) - 1))
        + rng.normal(size=shape)
    )


@pytest.mark.parametrize("strategy", ["direct", "recursive", "encoder_decoder"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"difference": (1, 7), "transformation": "log"},
        {"loss": "gaussian", "scaling": "minmax"},
        {"loss": "quantile", "cell": "gru", "bidirectional": True},
        {"missing": "mask", "difference": 2},
        {"loss": "negative_binomial", "window_length": 1, "horizon": 1},
    ],
)
@pytest.mark.parametrize("n_targets", [None, 2])
def test_forecasts_are_bit_for_bit_those_after_an_update(strategy, changes, n_targets, rng):
    y = np.rint(series(rng, *((160,) if n_targets is None else (160, n_targets))))
    if "missing" in changes:
        y[rng.uniform(size=y.shape) < 0.3] = np.nan
        y[-12:-4] = np.nan  # longer than what a forecast reads
    model = quick(strategy=strategy, **changes).fit(y[:140])
    one, several = model.stream(), model.stream(5)
    for row in y[140:]:
        forecast, five = one.update(row), several.update(row)
        wanted = model.update(row[np.newaxis]).predict(5)
        np.testing.assert_array_equal(five, wanted)
        np.testing.assert_array_equal(forecast, model.predict(1)[0])
        assert np.shape(forecast) == row.shape


@pytest.mark.parametrize("strategy", ["direct", "recursive", "encoder_decoder"])
def test_several_series_with_covariates_of_all_kinds(strategy, rng):
    """Known covariates may be foreseen differently from step to step; those of the past are read when they come."""
    lengths = (130, 90)
    y, X = [series(rng, n) for n in lengths], [rng.normal(size=(n, 3)) for n in lengths]
    known = [2, 0] if strategy != "recursive" else [2, 0, 1]
    model = quick(strategy=strategy, future_covariates=known).fit(y, X, rng.normal(size=(2, 2)))
    stream = model.stream(2)
    for step in range(8):
        y_t, x_t = rng.normal(20, 2, size=2), rng.normal(size=(2, 3))
        X_future = rng.normal(size=(2, 4, 3))
        # All columns, or those that are known; if these are all, they are in the order of X.
        found = stream.update(y_t, x_t, X_future if step % 2 or len(known) == 3 else X_future[..., known])
        model.update([[value] for value in y_t], list(x_t[:, np.newaxis]))
        np.testing.assert_array_equal(found, np.stack(model.predict(2, X=list(X_future))))
    assert found.shape == (2, 2)
    assert stream.n_series == 2


@pytest.mark.parametrize("strategy", ["direct", "encoder_decoder"])
@pytest.mark.parametrize("kind", ["times", "zone", "periods", "long"])
def test_calendars_go_on(strategy, kind, rng):
    pd = pytest.importorskip("pandas")
    index = {
        "zone": pd.date_range("2024-03-29", periods=90, freq="h", tz="Europe/Berlin"),
        "periods": pd.period_range("2020-01", periods=90, freq="M"),
    }.get(kind, pd.date_range("2020-01-31", periods=90, freq="ME", name="when"))
    y = pd.Series(series(rng, 90), index, name="load")
    past = y[:80]
    if kind == "long":
        past = pd.DataFrame({"unique_id": "x", "ds": past.index, "y": past.to_numpy()})
    model = quick(strategy=strategy, calendar=["time_of_year", "time_of_day"]).fit(past)
    stream = model.stream(3)
    for number in range(80, 90):
        new = y[number : number + 1]
        if kind == "long":
            new = pd.DataFrame({"unique_id": "x", "ds": new.index, "y": new.to_numpy()})
        found = stream.update([y.iloc[number]] if kind == "long" else y.iloc[number])
        wanted = model.update(new).predict(3)
        wanted = wanted["y"] if kind == "long" else wanted
        np.testing.assert_array_equal(np.ravel(found), wanted)
        if number == 84:
            kept, after = stream.state, found
    # A state of another time knows its date.
    other = pickle.loads(pickle.dumps(model)).stream(3)
    stream.state = kept
    np.testing.assert_array_equal(stream.state, kept)
    row = [25.0] if kind == "long" else 25.0
    found = stream.update(row)
    other.reset()
    stream.reset()
    for number in range(80, 85):
        last = stream.update([y.iloc[number]] if kind == "long" else y.iloc[number])
    np.testing.assert_array_equal(last, after)
    np.testing.assert_array_equal(stream.update(row), found)


def test_a_stream_and_its_forecaster_do_not_change_each_other(rng):
    y = series(rng, 120)
    model = quick(missing="mask").fit(y)
    before, stream = model.predict(), model.stream()
    first = [stream.update(value) for value in (21.0, np.nan, 23.0)]
    np.testing.assert_array_equal(model.predict(), before)
    model.update([0.0])
    branch = stream.state
    onward = stream.update(24.0)
    branch_copy = branch.copy()
    stream.state = branch
    assert stream.update(24.0) == onward
    np.testing.assert_array_equal(branch, branch_copy)
    stream.reset()
    assert [stream.update(value) for value in (21.0, np.nan, 23.0)] == first
    assert isinstance(first[0], float)


def test_a_step_that_cannot_be_used_changes_nothing(rng):
    y, X = series(rng, 120), rng.normal(size=(120, 3))
    model = quick(future_covariates=[1], transformation="log").fit(y, X)
    stream = model.stream()
    state = stream.state
    good, x_t, future = 20.0, np.zeros(3), np.zeros((1, 1))
    for arguments, message in [
        (([good], x_t, future), r"y_t must have the shape \(\), got \(1,\)"),
        ((np.nan, x_t, future), "y_t contains a missing value; a forecaster with missing='mask' takes them"),
        ((np.inf, x_t, future), "y_t contains an infinite value"),
        ((-1.0, x_t, future), "transformation='log' needs values above 0, got -1"),
        (("a", x_t, future), "y_t must hold real numbers"),
        ((good, None, future), "x_t must hold the 3 covariates of the time step, got None"),
        ((good, np.zeros(2), future), r"x_t must have the shape \(3,\), got \(2,\)"),
        ((good, np.full(3, np.inf), future), "x_t contains an infinite value"),
        ((good, x_t, None), r"X_future must hold the covariates of the 1 steps to forecast \(columns \[1\]"),
        ((good, x_t, np.zeros(1)), r"X_future must have the shape \(at least 1, 1 or 3\), got \(1,\)"),
        ((good, x_t, np.zeros((0, 1))), r"X_future must have the shape \(at least 1, 1 or 3\), got \(0, 1\)"),
        ((good, x_t, np.zeros((1, 2))), r"X_future must have the shape \(at least 1, 1 or 3\), got \(1, 2\)"),
        ((good, x_t, np.full((1, 1), np.inf)), "X_future contains an infinite value"),
    ]:
        with pytest.raises(ValueError, match=message):
            stream.update(*arguments)
        np.testing.assert_array_equal(stream.state, state)
    for wrong in (state[:-1], np.append(state[:-1], 0.5), np.append(state[:-1], np.nan)):
        with pytest.raises(ValueError, match="state must"):
            stream.state = wrong
    plain = quick().fit(y).stream()
    with pytest.raises(ValueError, match="x_t must be None"):
        plain.update(20.0, np.zeros(3))
    with pytest.raises(ValueError, match="X_future must be None"):
        plain.update(20.0, None, np.zeros((1, 3)))


def test_streams_that_cannot_be_made(rng):
    with pytest.raises(NotFittedError):
        quick().stream()
    model = quick(future_covariates=()).fit(series(rng, 120), rng.normal(size=(120, 1)))
    for steps in (0, 1.5, True):
        with pytest.raises(ValueError, match="steps must be a positive integer or None"):
            model.stream(steps)
    with pytest.raises(ValueError, match="at most 3 steps can be forecast without them"):
        model.stream(4)
    assert model.stream(3).update(20.0, [0.0]).shape == (3,)
