"""RNNForecaster with Series and DataFrames: the forecast has the container and the index that follows."""

from __future__ import annotations

import numpy as np
import pytest

from numrnn import RNNForecaster

pd = pytest.importorskip("pandas")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def quick(**changes):
    default = {
        "hidden_layer_sizes": (4,), "window_length": 5, "horizon": 3, "max_iter": 2, "batch_size": 32,
        "random_state": 0, "n_jobs": 1, "calibration_fraction": 0.3,
    }  # fmt: skip
    return RNNForecaster(**{**default, **changes})


def values(n=90):
    return np.random.default_rng(3).normal(size=n)


INDEXES = {
    "hours": lambda n: pd.date_range("2024-03-30 20:00", periods=n, freq="h"),
    "across a change of the clock": lambda n: pd.date_range(
        "2024-03-30 20:00", periods=n, freq="h", tz="Europe/Berlin"
    ),
    "months": lambda n: pd.date_range("2020-01-01", periods=n, freq="MS"),
    "ends of months": lambda n: pd.date_range("2020-01-31", periods=n, freq="ME"),
    "business days": lambda n: pd.date_range("2024-01-01", periods=n, freq="B"),
    "inferred": lambda n: pd.DatetimeIndex(list(pd.date_range("2024-01-01", periods=n, freq="15min"))),
    "periods": lambda n: pd.period_range("2020-01", periods=n, freq="M"),
    "range": lambda n: pd.RangeIndex(n),
    "every third integer": lambda n: pd.Index(np.arange(10, 10 + 3 * n, 3)),
}


@pytest.mark.parametrize("name", INDEXES)
def test_a_series_and_its_index_go_on(name):
    y = pd.Series(values(), INDEXES[name](90), name="load")
    y.index.name = "when"
    past, future = y[:80], y.index[80:83]
    model = quick().fit(past)
    forecast = model.predict()
    expected = pd.Series(quick().fit(values()[:80]).predict(), future, name="load")
    pd.testing.assert_series_equal(forecast, expected, check_freq=False, check_index_type=False)
    interval = model.predict_interval(coverage=0.5)
    assert list(interval.columns) == ["lower", "upper"]
    assert (interval.index == future).all()
    assert list(model.predict_quantiles(levels=[0.25, 0.5]).columns) == [0.25, 0.5]
    assert model.sample(n_samples=4).shape == (3, 4)
    model.update(y[80:81]).update(y[81:84])
    assert (model.predict().index == y.index[84:87]).all()
    with pytest.raises(ValueError, match="must go on where the series ended: expected"):
        model.update(y[85:87])
    assert np.isfinite(model.score(y[84:86]))


def test_a_wide_frame_has_several_targets():
    index = pd.date_range("2024-01-01", periods=45, freq="D")
    y = pd.DataFrame(values().reshape(45, 2), index, columns=["a", "b"])
    model = quick().fit(y[:40])
    forecast = model.predict()
    pd.testing.assert_frame_equal(
        forecast, pd.DataFrame(quick().fit(y[:40].to_numpy()).predict(), index[40:43], y.columns), check_freq=False
    )
    interval = model.predict_interval(coverage=0.5)
    assert interval.columns.tolist() == [("a", "lower"), ("a", "upper"), ("b", "lower"), ("b", "upper")]
    arrays = quick().fit(y[:40].to_numpy()).predict_interval(coverage=0.5)
    np.testing.assert_array_equal(interval["b"].to_numpy(), arrays[:, 1])
    assert model.update(y[40:]).predict().index[0] == pd.Timestamp("2024-02-15")


def long_frame(order=("x", "y"), n=(50, 40)):
    index = pd.date_range("2024-01-01", periods=50, freq="D")
    parts = [
        pd.DataFrame({"unique_id": name, "ds": index[-length:], "y": values()[:length] + number})
        for number, (name, length) in enumerate(zip(("x", "y"), n, strict=True))
    ]
    frame = pd.concat(parts, ignore_index=True)
    return frame.sort_values(["ds", "unique_id"], ignore_index=True)


def test_long_format_is_one_network_for_all_series():
    frame = long_frame()
    model = quick().fit(frame)
    forecast = model.predict()
    assert forecast.columns.tolist() == ["unique_id", "ds", "y"]
    assert forecast["unique_id"].tolist() == ["x"] * 3 + ["y"] * 3
    assert forecast["ds"].tolist() == 2 * pd.date_range("2024-02-20", periods=3).tolist()
    listed = quick().fit([values()[:50], values()[:40] + 1]).predict()
    np.testing.assert_array_equal(forecast["y"], np.concatenate(listed))
    assert model.predict_interval(coverage=0.5).columns.tolist() == ["unique_id", "ds", "lower", "upper"]
    # The order of the rows of what follows does not matter.
    more = pd.DataFrame({"unique_id": ["y", "x"], "ds": pd.Timestamp("2024-02-20"), "y": [1.5, 0.5]})
    updated = model.update(more).predict()
    np.testing.assert_array_equal(updated["unique_id"].unique(), ["x", "y"])
    with pytest.raises(ValueError, match="same 2 series"):
        model.update(more[:1])
    assert np.isfinite(model.score(pd.DataFrame({"unique_id": ["x", "y"], "ds": pd.Timestamp("2024-02-21"), "y": 1.0})))


def test_covariates_follow_names_and_index():
    index = pd.date_range("2024-01-01", periods=90, freq="h")
    X = pd.DataFrame({"wind": values(), "sun": values() ** 2}, index)
    y = pd.Series(values() + X["wind"], index)
    model = quick(future_covariates=["sun"]).fit(y[:80], X[:80])
    arrays = quick(future_covariates=[1]).fit(y[:80].to_numpy(), X[:80].to_numpy())
    expected = arrays.predict(X=X[80:].to_numpy())
    np.testing.assert_array_equal(model.predict(X=X[80:]), expected)
    np.testing.assert_array_equal(model.predict(X=X.loc[index[80:], ["sun"]]), expected)
    np.testing.assert_array_equal(model.predict(X=X.iloc[80:, ::-1]), expected)
    # The same rows in another order, and more of them, belong to the same times.
    shuffled = quick(future_covariates=["sun"]).fit(y[:80], X.sample(frac=1, random_state=0).sort_index())
    np.testing.assert_array_equal(shuffled.predict(X=X[80:]), expected)
    with pytest.raises(ValueError, match="X has no column 'sun', whose future values"):
        model.predict(X=X.loc[index[80:], ["wind"]])
    with pytest.raises(ValueError, match=r"must begin right after the series .* expected 2024-01-04 08:00:00 at row 0"):
        model.predict(X=X[81:])
    with pytest.raises(ValueError, match="must have the index of y, but has no row for 2024-01-01 00:00:00"):
        quick().fit(y[:80], X[1:81])
    with pytest.raises(ValueError, match="future_covariates names 'rain'"):
        quick(future_covariates=["rain"]).fit(y[:80], X[:80])
    model.update(y[80:82], X[80:82])
    np.testing.assert_array_equal(
        model.predict(X=X[82:]), arrays.update(y[80:82].to_numpy(), X[80:82].to_numpy()).predict(X=X[82:].to_numpy())
    )


def test_covariates_and_static_covariates_in_long_format():
    frame = long_frame()
    X = frame[["unique_id", "ds"]].assign(promotion=np.sin(np.arange(len(frame))))
    static = pd.DataFrame({"size": [5.0, 1.0]}, index=["y", "x"])
    model = quick().fit(frame, X.sample(frac=1, random_state=1).sort_values("ds"), static)
    by_name = {name: X.loc[X["unique_id"] == name, "promotion"].to_numpy() for name in "xy"}
    arrays = quick().fit([values()[:50], values()[:40] + 1], [by_name["x"], by_name["y"]], [[1.0], [5.0]])
    future = pd.DataFrame(
        {"unique_id": ["y"] * 3 + ["x"] * 3, "ds": 2 * list(pd.date_range("2024-02-20", periods=3)), "promotion": 0.5}
    )
    expected = np.concatenate(arrays.predict(X=[np.full((3, 1), 0.5)] * 2))
    np.testing.assert_array_equal(model.predict(X=future)["y"], expected)
    with pytest.raises(ValueError, match="X has no rows for series 'x'"):
        model.predict(X=future[:3])
    with pytest.raises(ValueError, match="static has no row for series 'x'"):
        quick().fit(frame, X, static[:1])
    with pytest.raises(ValueError, match="y was in long format, so X must have"):
        quick().fit(frame, X.drop(columns="unique_id"))


def test_calendar_features_go_on_into_the_future():
    """What depends on the hour alone can be forecast from a window of one step."""
    index = pd.date_range("2024-01-01", periods=24 * 30, freq="h")
    y = pd.Series(np.where(index.hour < 6, 1.0, 5.0), index)
    model = RNNForecaster(
        (16,),
        horizon=24,
        window_length=24,
        calendar=["time_of_day"],
        learning_rate_init=0.01,
        max_iter=40,
        random_state=0,
    )
    assert np.abs(model.fit(y[:-30]).predict() - y[-30:-6]).max() < 1
    zone = quick(calendar=["time_of_day", "time_of_week", "time_of_month", "time_of_year"])
    assert np.isfinite(zone.fit(y.tz_localize("UTC").tz_convert("Asia/Shanghai")).predict(7)).all()
    assert np.isfinite(zone.fit(y.set_axis(pd.period_range("2024-01-01", periods=len(y), freq="h"))).predict(2)).all()
    result = zone.backtest(y, initial=500, step=50)
    again = zone.fit(y[:500]).predict()
    np.testing.assert_allclose(result.forecast[0], again)


def test_gaps_are_missing_values_if_the_frequency_is_given():
    index = pd.date_range("2024-01-01", periods=90, freq="D")
    y = pd.Series(values(), index)
    holes = y.drop(index[[30, 31, 60]])
    with pytest.raises(
        ValueError, match=r"irregular steps: most are 1 days.*, but 2024-01-30 .* by 2024-02-02 .*frequency"
    ):
        quick().fit(holes)
    with pytest.raises(ValueError, match="missing value"):
        quick(frequency="D").fit(holes)
    model = quick(frequency="D", missing="mask").fit(holes)
    whole = y.copy()
    whole.iloc[[30, 31, 60]] = np.nan
    np.testing.assert_array_equal(model.predict(), quick(missing="mask").fit(whole).predict())
    assert model.backtest(holes, initial=60, coverage=0.5).observed.shape == (10, 3)


def test_other_column_types():
    index = pd.date_range("2024-01-01", periods=60, freq="D")
    y = pd.Series(np.arange(60) % 7, index)
    expected = quick().fit(y.astype(float)).predict()
    for dtype in ("int64", "Int64", "float32", "Float64"):
        np.testing.assert_array_equal(quick().fit(y.astype(dtype)).predict(), expected)
    y = y.astype("Int64")
    y.iloc[5] = pd.NA
    assert quick(missing="mask").fit(y).predict().notna().all()
    with pytest.raises(ValueError, match="column 'b' is of type"):
        quick().fit(pd.DataFrame({"a": 1.0, "b": "text"}, index))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda y: pd.concat([y, y[-1:]]), ValueError, "duplicate labels: 2024-03-30 00:00:00 is there twice"),
        (lambda y: y.iloc[[0, 2, 1, *range(3, 90)]], ValueError, r"not sorted: 2024-01-02 00:00:00 \(row 2\)"),
        (lambda y: y[::-1], ValueError, "is not sorted"),
        (lambda y: y.set_axis(pd.DatetimeIndex(list(y.index)))[:2], ValueError, "too few time stamps"),
        (lambda y: y[:0], ValueError, "no time step"),
        (lambda y: pd.DataFrame(index=y.index), ValueError, "no column"),
        (lambda y: y.astype(object), ValueError, "must hold real numbers, .* pandas.to_numeric"),
        (lambda y: y.set_axis(y.index.where(y.index != y.index[4])), ValueError, "missing label at row 4"),
        (lambda y: y.set_axis(y.index.strftime("%d.%m.%Y")), TypeError, "must be a DatetimeIndex"),
        (lambda y: y.reset_index(drop=True).drop(7), ValueError, "irregular steps: 6 is followed by 8"),
        (lambda y: y.to_period("D").drop(pd.Period("2024-01-08", "D")), ValueError, "has gaps: 2024-01-08"),
        (lambda y: pd.concat([y, y], axis=1), ValueError, "two columns of the name 'y'"),
        (lambda y: pd.DataFrame({"unique_id": "a", "ds": y.index}), ValueError, "no column 'y'"),
        (lambda y: pd.DataFrame({"unique_id": "a", "ds": y.index, "y": y, "z": 1}), ValueError, r"got also \['z'\]"),
        (lambda y: pd.DataFrame({"unique_id": None, "ds": y.index, "y": y}), ValueError, "missing unique_id at row 0"),
        (lambda y: pd.DataFrame({"unique_id": "a", "ds": y.index[0], "y": y}), ValueError, "series 'a'.*duplicate"),
        (
            lambda y: pd.concat(
                [
                    pd.DataFrame({"unique_id": "a", "ds": y.index, "y": y}),
                    pd.DataFrame({"unique_id": "b", "ds": y.asfreq("h").index[:90], "y": y.to_numpy()}),
                ]
            ),
            ValueError,
            "must have one frequency, but 'a' has .* and 'b' another",
        ),
    ],
)  # fmt: skip
def test_indexes_that_cannot_be_used(change, error, message):
    y = pd.Series(values(), pd.date_range("2024-01-01", periods=90, freq="D"), name="y")
    with pytest.raises(error, match=message):
        quick().fit(change(y))


def test_a_frequency_that_does_not_fit():
    y = pd.Series(values(), pd.date_range("2024-01-01", periods=90, freq="D"))
    with pytest.raises(ValueError, match="does not fit the frequency 'W-SUN': 2024-01-01 00:00:00"):
        quick(frequency="W").fit(y)


def test_a_table_of_a_backtest():
    result = quick().backtest(values(), initial=60, coverage=0.5)
    table = result.to_frame()
    assert table.index.tolist() == [1, 2, 3]
    assert table.columns.tolist() == ["mae", "rmse", "mase", "smape", "pinball", "coverage", "width"]
