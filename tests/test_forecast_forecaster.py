"""RNNForecaster: forecasts, intervals, samples, streaming and backtests, on arrays."""

from __future__ import annotations

import gc
import pickle
import tracemalloc
import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score

from numrnn import RNNForecaster

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

QUICK = {"window_length": 6, "max_iter": 3, "batch_size": 32, "random_state": 0, "n_jobs": 1}
STRATEGIES = ["direct", "recursive", "encoder_decoder"]
LOSSES = ["squared_error", "absolute_error", "huber", "quantile", "gaussian", "student_t", "negative_binomial"]


def series(rng, n=160, n_targets=None):
    shape = (n,) if n_targets is None else (n, n_targets)
    season = np.sin(2 * np.pi * np.arange(n) / 7).reshape(-1, *[1] * (len(shape) - 1))
    return 20 + 4 * season + rng.normal(size=shape)


def quick(**changes):
    return RNNForecaster(**{"hidden_layer_sizes": (5,), **QUICK, **changes})


# ---------------------------------------------------------------------------------------------------------- forecasts
def test_a_network_that_says_nothing_is_the_seasonal_naive_forecast(rng):
    """With all parameters zero the scaled difference is 0: the forecast is the season before, plus the mean change."""
    y = series(rng)
    for strategy in ("direct", "recursive", "encoder_decoder"):
        model = quick(difference=7, horizon=10, strategy=strategy, calibration_fraction=0).fit(y)
        model._network.parameters.flat[:] = 0
        drift = (y[7:] - y[:-7]).mean()
        np.testing.assert_allclose(model.location_, [[drift]])
        seasons = np.array([1] * 7 + ([2] if strategy == "recursive" else [1]) * 3)
        np.testing.assert_allclose(model.predict(), [*y[-7:], *y[-7:-4]] + seasons * drift, rtol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"difference": 1},
        {"difference": (1, 7), "transformation": "log"},
        {"scaling": "minmax", "loss": "gaussian"},
        {"loss": "quantile", "quantile_levels": (0.2, 0.4, 0.9)},
        {"loss": "negative_binomial"},
        {"bidirectional": True, "cell": "rnn"},
    ],
)
@pytest.mark.parametrize("n_targets", [None, 2])
def test_recursion_is_forecasting_one_step_and_taking_it_for_observed(changes, n_targets, rng):
    y = series(rng, n_targets=n_targets)
    if changes.get("loss") == "negative_binomial":
        y = np.rint(y)
    model = quick(strategy="recursive", horizon=1, dtype="float64", **changes).fit(y)
    at_once = model.predict(9)
    one_by_one = []
    for _ in range(9):
        one_by_one.append(model.predict(1)[0])
        model.update(np.array(one_by_one[-1:]))
    np.testing.assert_allclose(at_once, one_by_one, rtol=1e-9)


@pytest.mark.parametrize("strategy", ["direct", "encoder_decoder"])
def test_beyond_the_horizon_forecasts_are_taken_for_observed(strategy, rng):
    y = series(rng)
    model = quick(horizon=4, difference=1, strategy=strategy, dtype="float64").fit(y)
    at_once = model.predict(10)
    first = model.predict()
    second = model.update(first).predict()
    third = model.update(second).predict(2)
    np.testing.assert_allclose(at_once, np.concatenate([first, second, third]), rtol=1e-9)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("horizon", [1, 5])
def test_known_covariates_of_the_future_are_used(strategy, horizon, rng):
    X = rng.normal(size=(500, 1))
    y = 3 + 2 * X[:, 0]
    model = RNNForecaster(
        (12,), horizon=horizon, window_length=6, strategy=strategy, learning_rate_init=0.01, max_iter=40, random_state=0
    )
    model.fit(y[:480], X[:480])
    forecast = model.predict(horizon, X[480:])
    assert np.abs(forecast - y[480 : 480 + horizon]).max() < 0.8  # the deviation of y is 2


def test_past_covariates_are_used(rng):
    X = rng.normal(size=(400, 2))
    y = np.concatenate([[0], 2 * X[:-1, 1]])
    model = RNNForecaster(
        (8,), window_length=4, learning_rate_init=0.01, max_iter=30, future_covariates=(), random_state=0
    )
    result = model.backtest(y, X, initial=300)
    assert result.metrics["rmse"][0] < 0.4


def test_static_covariates_tell_series_apart(rng):
    """From the last value alone the next one cannot be told: only the static covariate says which sign it has."""
    y = [np.zeros(300), np.zeros(300)]
    for one, sign in zip(y, (-1, 1), strict=True):
        for t in range(1, 300):
            one[t] = 0.95 * sign * one[t - 1] + rng.normal()
    static = np.array([[0.0], [1.0]])
    model = RNNForecaster((12,), window_length=1, learning_rate_init=0.02, max_iter=15, random_state=0)
    with_static = model.backtest(y, initial=240, static=static).metrics["rmse"][0]
    without = model.backtest(y, initial=240).metrics["rmse"][0]
    assert with_static < 1.4 < 1.7 < without


def test_a_list_of_one_series_is_that_series_and_series_of_any_length_share_a_network(rng):
    y = series(rng)
    alone = quick().fit(y)
    listed = quick().fit([y])
    np.testing.assert_array_equal(alone.predict(3), listed.predict(3)[0])
    several = quick(horizon=2).fit([y, series(rng, 40), 1000 * y[:90]])
    forecasts = several.predict()
    assert [len(one) for one in forecasts] == [2, 2, 2]
    # The third series is the first ninety steps of the first in another unit.
    beginning = quick(horizon=2).fit([y, series(rng, 40), y[:90]])
    assert several.n_series_ == 3
    np.testing.assert_allclose(several.scale_[2], 1000 * beginning.scale_[2])


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("n_targets", [None, 2])
def test_every_loss_gives_points_quantiles_intervals_and_samples(loss, strategy, n_targets, rng):
    y = np.rint(series(rng, n_targets=n_targets))
    model = quick(loss=loss, strategy=strategy, horizon=3, n_paths=60).fit(y)
    middle = () if n_targets is None else (n_targets,)
    assert model.predict().shape == (3, *middle)
    quantiles = model.predict_quantiles(levels=(0.75, 0.1, 0.5))
    assert quantiles.shape == (3, *middle, 3)
    assert (quantiles[..., 0] >= quantiles[..., 2]).all()
    assert (quantiles[..., 2] >= quantiles[..., 1]).all()
    interval = model.predict_interval(coverage=0.8)
    np.testing.assert_array_equal(interval, model.predict_quantiles(levels=(0.1, 0.9)))
    np.testing.assert_array_equal(interval, model.predict_interval(3, 0.8))
    paths = model.sample(n_samples=50, random_state=1)
    assert paths.shape == (3, *middle, 50)
    np.testing.assert_array_equal(paths, model.sample(n_samples=50, random_state=1))
    if loss == "negative_binomial":
        for counts in (quantiles, interval, paths):
            np.testing.assert_array_equal(counts, np.rint(counts))
    assert np.isfinite(paths).all()


def test_sample_paths_of_a_random_walk_spread_like_one(rng):
    """With constant outputs every step is an independent draw: the variance after k steps is k times that of one."""
    y = np.cumsum(rng.normal(size=300))
    model = quick(difference=1, strategy="recursive", loss="gaussian", scaling=None).fit(y)
    model._network.parameters.flat[:] = 0
    sigma = np.log(2) + 1e-3
    paths = model.sample(16, n_samples=4000, random_state=0)
    np.testing.assert_allclose(paths.std(axis=1), sigma * np.sqrt(np.arange(1, 17)), rtol=0.05)
    np.testing.assert_allclose(model.predict(16), y[-1])
    interval = model.predict_interval(4, 0.9)
    np.testing.assert_allclose(interval[:, 1] - interval[:, 0], 2 * 1.645 * sigma * np.sqrt(np.arange(1, 5)), rtol=0.15)


# ----------------------------------------------------------------------------------------------------------- intervals
@pytest.mark.parametrize("loss", ["squared_error", "quantile", "gaussian"])
@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_intervals_cover_what_they_say(loss, coverage, rng):
    """Noise whose deviation changes along the series: held-out coverage within three points."""
    n = 3000
    spread = 1 + 0.8 * np.sin(2 * np.pi * np.arange(n) / 50)
    y = rng.gamma(4.0, size=n) * spread
    levels = (0.05, 0.25, 0.5, 0.75, 0.95)
    model = RNNForecaster(
        (6,), window_length=10, loss=loss, quantile_levels=levels, calibration_fraction=0.3, max_iter=5, random_state=0
    )
    result = model.backtest(y, initial=1500, coverage=coverage)
    assert abs(result.metrics["coverage"][0] - coverage) < 0.03


def test_calibration_is_by_the_errors_of_a_tail_that_is_not_trained_on(rng):
    y = series(rng, 200)
    model = quick(horizon=3, calibration_fraction=0.25, dtype="float64").fit(y)
    n = round(0.25 * (200 - 3 - 5))
    assert len(model._pool) == n
    # The errors by hand: a forecast from every origin, each after an update.
    again = pickle.loads(pickle.dumps(model))
    first = 200 - 3 - n + 1
    again._history = quick(horizon=3, calibration_fraction=0.25, dtype="float64").fit(y[:first])._history
    errors = []
    for origin in range(first, 198):
        errors.append(y[origin : origin + 3] - again.predict())
        again._pool = None
        again.update(y[origin : origin + 1])
    points = model.predict()
    # 48 errors can be ranked for 90 % also 3 steps ahead, where three forecasts overlap; for 95 % only 1 step ahead.
    for coverage, n_ranked in ((0.9, 3), (0.95, 1)):
        tail = (1 - coverage) / 2
        bounds = np.quantile(errors, [tail, 1 - tail], axis=0, method="weibull")
        for step in range(n_ranked, 3):
            overlap = 1 + 2 * sum((1 - k / (step + 1)) ** 2 for k in range(1, step + 1))
            normal = stats.t(n / overlap).ppf(1 - tail) * np.sqrt(np.mean(np.square(np.array(errors)[:, step])))
            bounds[:, step] = min(bounds[0, step], -normal), max(bounds[1, step], normal)
        np.testing.assert_allclose(model.predict_interval(coverage=coverage), points[:, None] + bounds.T, rtol=1e-9)
    # Windows that are trained on end before the first value of the tail, which the scales do not know either.
    assert model.n_windows_ == first - 3 - 5
    np.testing.assert_allclose(model.location_, y[:first].mean())


def test_too_few_errors_for_a_level_are_reported(rng):
    model = quick(loss="quantile", calibration_fraction=0.1).fit(series(rng, 100))
    with pytest.warns(UserWarning, match="9 errors of the calibration are too few .* take 19.*increase calibration"):
        model.predict_interval()
    model = quick(horizon=12, calibration_fraction=0.05).fit(series(rng, 100))
    with pytest.warns(UserWarning, match=r"errors of 4 forecasts 12 steps ahead.* as 0.5 independent ones.*increase"):
        model.predict_interval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict_interval(steps=3)  # 4 errors that overlap by three are little, but Student's t knows
        model.predict_quantiles(levels=[0.5])


def test_intervals_of_different_coverage_are_nested_where_some_are_by_ranks(rng):
    model = quick(horizon=3, calibration_fraction=0.25).fit(series(rng, 200))
    intervals = np.stack([model.predict_interval(coverage=coverage) for coverage in np.linspace(0.1, 0.98, 23)])
    assert (np.diff(intervals[..., 0], axis=0) <= 0).all()
    assert (np.diff(intervals[..., 1], axis=0) >= 0).all()


def test_corrected_quantiles_do_not_cross(rng):
    y = series(rng, 120)
    model = quick(loss="quantile", calibration_fraction=0.3, horizon=4).fit(y)
    quantiles = model.predict_quantiles(levels=np.linspace(0.06, 0.94, 30))
    assert (np.diff(quantiles) >= 0).all()


def test_training_on_all_keeps_the_errors_of_what_was_held_out(rng):
    y = series(rng)
    split = quick(horizon=2, early_stopping=True).fit(y)
    whole = quick(horizon=2, early_stopping=True, train_on_all=True).fit(y)
    for one, other in zip(split._pool.raw + split._pool.observed, whole._pool.raw + whole._pool.observed, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(split.scale_, whole.scale_)
    assert whole.n_windows_ == 160 - 2 - 5 > split.n_windows_
    assert whole.n_iter_ == np.argmax(split.validation_scores_) + 1
    assert not np.array_equal(whole.predict(), split.predict())
    # The last window that is trained on now forecasts the last value: without it the network is another one.
    y[-1] += 1
    assert not np.array_equal(
        quick(horizon=2, early_stopping=True, train_on_all=True).fit(y)._network.parameters.flat,
        whole._network.parameters.flat,
    )


# ------------------------------------------------------------------------------------------------- missing values
def test_missing_values_are_left_out_of_loss_and_metrics(rng):
    y = series(rng, 200, n_targets=2)
    y[rng.uniform(size=y.shape) < 0.2] = np.nan
    y[50:70] = np.nan
    model = quick(missing="mask", horizon=3, loss="gaussian", calibration_fraction=0.2).fit(y)
    assert np.isfinite(model.predict(5)).all()
    assert np.isfinite(model.predict_interval()).all()
    result = quick(missing="mask", horizon=3).backtest(y, initial=150, coverage=0.5)
    assert np.isnan(result.observed).any()
    assert all(np.isfinite(values).all() for values in result.metrics.values())
    assert np.isfinite(model.update(y[-2:]).predict()).all()


def test_what_stands_in_place_of_a_missing_value_does_not_matter(rng):
    """Values after a long gap are the same whatever the series would have been in it."""
    y = series(rng, 100)
    y[40:60] = np.nan
    one = quick(missing="mask").fit(y)
    np.testing.assert_array_equal(one.predict(3), quick(missing="mask").fit(y.copy()).predict(3))
    assert one.n_windows_ == quick(missing="mask").fit(series(rng, 100)).n_windows_


# ---------------------------------------------------------------------------------------------------------- streaming
def test_update_step_by_step_is_update_at_once(rng):
    y = series(rng, 200)
    one = quick(horizon=2, difference=7).fit(y[:150])
    two = clone(one).fit(y[:150])
    for value in y[150:]:
        one.update([value])
    two.update(y[150:170]).update(y[170:])
    np.testing.assert_array_equal(one.predict(), two.predict())
    np.testing.assert_allclose(one.predict_interval(coverage=0.5), two.predict_interval(coverage=0.5), rtol=1e-6)


def test_update_that_cannot_be_used_changes_nothing(rng):
    y = [series(rng), series(rng)]
    model = quick().fit(y)
    before = model.predict(3)
    for wrong in (y[0][:3], [y[0][:3]], [y[0][:3], np.ones((3, 2))], [y[0][:3], [np.inf]], [y[0][:3], [np.nan]]):
        with pytest.raises(ValueError):
            model.update(wrong)
    np.testing.assert_array_equal(model.predict(3), before)


# ---------------------------------------------------------------------------------------------------------- backtests
@pytest.mark.parametrize(
    "changes",
    [{}, {"strategy": "recursive"}, {"loss": "gaussian"}, {"loss": "quantile"}, {"strategy": "encoder_decoder"}],
)
def test_backtest_is_fitting_once_and_updating(changes, rng):
    y = [series(rng, 130), series(rng, 120)]
    X = [rng.normal(size=(len(one), 1)) for one in y]
    share = 0.0 if changes.get("loss") == "gaussian" else 0.4
    model = quick(horizon=3, difference=1, calibration_fraction=share, dtype="float64", **changes)
    result = model.backtest(y, X, initial=90, step=4, horizon=2, coverage=0.8)
    assert not hasattr(model, "loss_curve_")
    other = clone(model).fit([one[:90] for one in y], [one[:90] for one in X])
    for origin in range(90, 118, 4):
        if origin > 90:
            other.update([one[origin - 4 : origin] for one in y], [one[origin - 4 : origin] for one in X])
        future = [one[origin : origin + 3] for one in X]
        forecast, interval = other.predict(2, future), other.predict_interval(2, 0.8, future)
        for number in range(2):
            (row,) = np.flatnonzero((result.series == number) & (result.origins == origin))
            np.testing.assert_allclose(result.forecast[row], forecast[number], rtol=1e-9)
            np.testing.assert_allclose(result.lower[row], interval[number][:, 0], rtol=1e-9)
            np.testing.assert_allclose(result.upper[row], interval[number][:, 1], rtol=1e-9)
            np.testing.assert_array_equal(result.observed[row], y[number][origin : origin + 2])
    inside = (result.observed >= result.lower) & (result.observed <= result.upper)
    np.testing.assert_allclose(result.metrics["coverage"], inside.mean(axis=0))
    np.testing.assert_allclose(result.metrics["mae"], np.abs(result.observed - result.forecast).mean(axis=0))
    assert str(result).splitlines()[2].split()[0] == "2"


def test_backtest_that_fits_anew_at_every_origin(rng):
    y = series(rng, 120)
    model = quick(horizon=2)
    result = model.backtest(y, initial=90, step=10, coverage=0.5, refit=True)
    assert result.origins.tolist() == [90, 100, 110]
    for row, origin in enumerate(result.origins):
        np.testing.assert_array_equal(result.forecast[row], clone(model).fit(y[:origin]).predict())


# ------------------------------------------------------------------------------------------------------- scikit-learn
def test_grid_search_over_time_series_splits(rng):
    y = series(rng, 150)
    search = GridSearchCV(
        quick(), {"difference": [None, 7], "window_length": [3, 5]}, cv=TimeSeriesSplit(3, test_size=7)
    )
    search.fit(y)
    assert search.best_params_["difference"] == 7
    assert search.best_estimator_.predict(2).shape == (2,)
    X = rng.normal(size=(150, 2))
    scores = cross_val_score(quick(), y, X, cv=TimeSeriesSplit(3, test_size=7))
    assert np.isfinite(scores).all()


def test_score_is_minus_the_mean_absolute_scaled_error(rng):
    y = series(rng, 120)
    model = quick(seasonality=7).fit(y[:110])
    unit = np.abs(y[7:110] - y[:103]).mean()
    np.testing.assert_allclose(model.score(y[110:]), -np.abs(model.predict(10) - y[110:]).mean() / unit)


def test_clone_pickle_and_threads(rng):
    y = series(rng)
    model = quick(horizon=2, loss="quantile").fit(y)
    other = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(model.predict(5), other.predict(5))
    np.testing.assert_array_equal(model.update(y[:3]).predict(), other.update(y[:3]).predict())
    np.testing.assert_array_equal(clone(model).set_params(n_jobs=2).fit(y).predict(), clone(model).fit(y).predict())
    assert set(RNNForecaster().get_params()) >= {"horizon", "loss", "cell"}
    assert len(pickle.dumps(model)) < 20_000


@pytest.mark.parametrize("changes", [{"solver": "lbfgs"}, {"early_stopping": True}, {"hidden_layer_sizes": (4, 3)}])
def test_other_ways_to_train(changes, rng):
    y = series(rng)
    model = quick(**changes).fit(y)
    assert np.isfinite(model.predict(3)).all()
    assert (model.validation_scores_ is not None) == ("early_stopping" in changes)
    if "early_stopping" in changes:
        assert len(model.validation_scores_) == model.n_iter_


def test_learns_a_season(rng):
    t = np.arange(240)
    y = 5 + np.sin(2 * np.pi * t / 12) + 0.3 * np.cos(2 * np.pi * t / 6)
    model = RNNForecaster((16,), horizon=12, window_length=12, learning_rate_init=0.01, max_iter=60, random_state=0)
    forecast = model.fit(y[:228]).predict()
    assert np.abs(forecast - y[228:]).max() < 0.15


def test_memory_of_training_grows_by_less_than_twice_the_series(rng):
    """What a minibatch takes is the same for both; windows as copies would take 300 times the series.

    Python keeps some small objects of every minibatch for a while. So there are as many minibatches in both: 246 in one
    epoch, and 27 in nine.
    """
    y = rng.normal(size=16_000)
    model = quick(window_length=300, hidden_layer_sizes=(1,), batch_size=64, calibration_fraction=0)

    def peak(series, n_epochs):
        model.set_params(max_iter=n_epochs, n_iter_no_change=n_epochs)
        gc.collect()
        tracemalloc.start()
        model.fit(series)
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert model.n_iter_ == n_epochs
        return taken

    peak(y[:800], 1)  # compiled, and buffers made, before anything is measured
    longer, shorter = peak(y, 1), peak(y[:2000], 9)
    assert longer - shorter < 2 * (y.nbytes - y[:2000].nbytes)


def test_a_covariate_that_is_missing_throughout_says_nothing(rng):
    y, X = series(rng, 60), np.stack([np.arange(60.0), np.full(60, np.nan)], axis=1)
    constant = np.where(np.isnan(X), 0.0, X)
    forecasts = [quick().fit(y, one).predict(1, one[:1]) for one in (X, constant)]
    np.testing.assert_array_equal(*forecasts)


# ----------------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("y", "changes", "message"),
    [
        (None, {}, "y must be one or several series, got None"),
        (np.ones((3, 3, 3)), {}, r"must be of the shape \(n_steps,\) or \(n_steps, n_targets\), got \(3, 3, 3\)"),
        ([], {}, "y has no time step"),
        (np.ones((0, 2)), {}, "y has no time step"),
        (np.ones((30, 0)), {}, "y has no column"),
        ([np.ones(30), []], {}, "series 1 of y has no time step"),
        ([np.ones(30), np.ones((30, 2))], {}, "series 1 of y has 2 targets, but the first series has 1"),
        (np.ones(7), {}, "y is too short: window_length=6, .* need at least 7|nothing is left to train on"),
        (np.ones(6), {}, "y is too short: window_length=6, difference=None and horizon=1 need at least 7"),
        ([np.ones(30), np.ones(5)], {}, "series 1 of y is too short"),
        (np.ones(20), {"difference": (1, 12)}, "y is too short: .* need at least 20|nothing is left"),
        (["a"] * 30, {}, "y must hold real numbers"),
        (np.ones(30) * 1j, {}, "complex"),
        ([1.0] * 20 + [np.nan] + [1.0] * 20, {}, "y contains a missing value .*: time step 20"),
        ([1.0] * 20 + [np.inf] + [1.0] * 20, {"missing": "mask"}, "y contains an infinite value.*: time step 20"),
        (np.full(30, np.nan), {"missing": "mask"}, "y has no observed value: all are missing"),
        (
            np.stack([np.ones(30), np.full(30, np.nan)], axis=1),
            {"missing": "mask"},
            "column 1 of y has no observed value",
        ),
        ([np.nan] * 28 + [1.0] * 2, {"missing": "mask"}, "has no observed value in the part that is trained on"),
        (np.zeros(30), {"transformation": "log"}, "transformation='log' needs values above 0, but y contains 0"),
        (np.full(30, 0.5), {"loss": "negative_binomial"}, "needs counts 0, 1, 2, ..., but y contains 0.5"),
        (np.ones(30), {"calendar": ["time_of_day"]}, "calendar features need series with time stamps"),
    ],
)
def test_series_that_cannot_be_used(y, changes, message):
    with pytest.raises(ValueError, match=message):
        quick(**changes).fit(y)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizon": 0}, "'horizon' parameter"),
        ({"difference": 0}, "'difference' parameter"),
        ({"difference": (1, -2)}, "'difference' parameter"),
        ({"hidden_layer_sizes": ()}, "'hidden_layer_sizes' parameter"),
        ({"loss": "poisson"}, "'loss' parameter"),
        ({"loss": "quantile", "quantile_levels": (0.5, 0.2)}, "'quantile_levels' parameter"),
        ({"loss": "quantile", "quantile_levels": ()}, "'quantile_levels' parameter"),
        ({"calendar": "time_of_day"}, "'calendar' parameter"),
        ({"calendar": ["easter"]}, "'calendar' parameter"),
        ({"loss": "negative_binomial", "difference": 1}, "counts as they are"),
        ({"loss": "negative_binomial", "scaling": "standard"}, "counts as they are"),
        ({"n_jobs": 0}, "'n_jobs' parameter"),
        ({"calibration_fraction": 1.0}, "'calibration_fraction' parameter"),
        (
            {"loss": "gaussian", "strategy": "recursive", "horizon": 2, "calibration_fraction": 0.1},
            "calibration_fraction must be 0",
        ),
        ({"solver": "lbfgs", "early_stopping": True}, "'early_stopping' parameter"),
        ({"bptt_steps": 3, "bidirectional": True}, "'bptt_steps' parameter"),
        ({"frequency": "fortnightly"}, "frequency must be one that pandas knows"),
    ],
)
def test_parameters_that_cannot_be_used(changes, message, rng):
    with pytest.raises(ValueError, match=message):
        quick(**changes).fit(series(rng))


def test_covariates_that_cannot_be_used(rng):
    y, X = series(rng, 60), rng.normal(size=(60, 2))
    with pytest.raises(ValueError, match="a row for each of the 60 steps of y, got 59"):
        quick().fit(y, X[:59])
    with pytest.raises(ValueError, match="infinite value: row 3, column 1"):
        quick().fit(y, np.where(np.arange(120).reshape(60, 2) == 7, np.inf, X))
    with pytest.raises(ValueError, match=r"future_covariates names 2, .* its columns are \[0, 1\]"):
        quick(future_covariates=[2]).fit(y, X)
    with pytest.raises(ValueError, match="use strategy='direct'"):
        quick(future_covariates=[0], strategy="recursive", horizon=2).fit(y, X)
    with pytest.raises(ValueError, match="for each of the 2 series, got those of 1"):
        quick().fit([y, y], [X])
    with pytest.raises(ValueError, match="one row for each of the 2 series"):
        quick().fit([y, y], static=np.ones((3, 1)))
    with pytest.raises(ValueError, match="all static covariates must be known"):
        quick().fit([y, y], static=[[1.0], [np.nan]])
    model = quick(horizon=3).fit(y, X)
    with pytest.raises(ValueError, match="X must hold the future covariates of the 3 steps"):
        model.predict()
    with pytest.raises(ValueError, match=r"X is too short: a forecast of 3 steps .* got 2 rows"):
        model.predict(X=X[:2])
    with pytest.raises(ValueError, match="X must have the 2 columns"):
        model.predict(X=np.ones((3, 5)))
    with pytest.raises(ValueError, match="X_new must hold the 2 covariates"):
        model.update(y[:3])
    with pytest.raises(ValueError, match="X_new must have 2 columns, got 1"):
        model.update(y[:3], X[:3, :1])
    past = quick(future_covariates=[1], horizon=2).fit(y, X)
    np.testing.assert_array_equal(past.predict(X=X[:2]), past.predict(X=X[:2, 1:]))
    with pytest.raises(ValueError, match=r"columns \[0\] of X are not in future_covariates; at most 2 steps"):
        past.predict(3, X=X[:3])
    with pytest.raises(ValueError, match="fitted without covariates"):
        quick().fit(y).predict(X=X)


def test_questions_that_cannot_be_answered(rng):
    y = series(rng, 80)
    with pytest.raises(NotFittedError):
        quick().predict()
    with pytest.raises(NotFittedError):
        quick().predict_interval()
    model = quick(horizon=2).fit(y)
    for steps in (0, -1, 1.5, True, "three"):
        for ask in (model.predict, model.predict_interval, model.sample):
            with pytest.raises(ValueError, match="steps must be a positive integer"):
                ask(steps)
    for coverage in (0, 1, "wide"):
        with pytest.raises(ValueError, match="coverage must be a number between 0 and 1"):
            model.predict_interval(coverage=coverage)
    with pytest.raises(ValueError, match="levels must lie between 0 and 1"):
        model.predict_quantiles(levels=[0.5, 1.5])
    with pytest.raises(ValueError, match="calibrated for the horizon of 2 steps, but 3"):
        model.predict_interval(3)
    with pytest.raises(ValueError, match="n_samples must be a positive integer"):
        model.sample(n_samples=0)
    with pytest.raises(ValueError, match="only by a calibration"):
        quick(calibration_fraction=0).fit(y).predict_interval()
    with pytest.raises(ValueError, match=r"within the quantile_levels of the loss, 0.05 to 0.95"):
        quick(loss="quantile").fit(y).predict_interval(coverage=0.99)
    for arguments, message in (
        ({"initial": 79}, "need 81 time steps of every series, got 80"),
        ({"initial": 0}, "initial must be a positive integer"),
        ({"initial": 50, "step": 0}, "step must be a positive integer"),
        ({"initial": 50, "horizon": 3}, "horizon must be at most that of the forecaster, 2"),
    ):
        with pytest.raises(ValueError, match=message):
            model.backtest(y, **arguments)


def test_a_constant_series_is_forecast_as_it_is():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        model = quick(horizon=2).fit(np.full(60, 7.0))
        assert np.abs(model.predict() - 7).max() < 0.3
        assert np.isnan(model.score([7.0]))


def test_a_fit_that_cannot_be_done_leaves_what_was_learned(rng):
    model = quick().fit(series(rng))
    before = model.predict(3)
    with pytest.raises(ValueError):
        model.fit(np.ones(3))
    np.testing.assert_array_equal(model.predict(3), before)
