"""Differences, scales, the calendar, windows as views, distributions and metrics."""

from __future__ import annotations

import tracemalloc

import numpy as np
import oracle.likelihoods
import pytest
from scipy import stats

from numrnn.forecasting import metrics
from numrnn.forecasting.calibration import ErrorPool, corrections, fewest_errors, independent_errors
from numrnn.forecasting.distributions import distribution, outputs_per_target
from numrnn.forecasting.preparation import Preparation, Settings, calendar_features
from numrnn.forecasting.series import read_panel
from numrnn.forecasting.windows import Prepared, Windows


def settings(**changes):
    default = {
        "window_length": 5,
        "block": 3,
        "horizon": 3,
        "lags": (),
        "transformation": None,
        "scaling": "standard",
        "calendar": (),
        "known": (),
        "past": (),
    }
    return Settings(**{**default, **changes})


def prepare(y, X=None, static=None, dtype="float64", **changes):
    panel = read_panel(y, None, "mask")
    panel.covariates = X
    return Prepared(Preparation(settings(**changes), panel, static, np.dtype(dtype)), panel)


# --------------------------------------------------------------------------------------------------------- differences
def ordinary_difference(y, lags):
    for lag in lags:
        y = np.concatenate([np.full((lag, *y.shape[1:]), np.nan), y[lag:] - y[:-lag]])
    return y


@pytest.mark.parametrize("lags", [(), (1,), (4,), (7,), (1, 4), (4, 4), (2, 3, 5)])
@pytest.mark.parametrize("transformation", [None, "log", "log1p"])
@pytest.mark.parametrize("scaling", [None, "standard", "minmax", "mean"])
def test_targets_are_differences_to_what_is_known_and_turn_back_into_values(lags, transformation, scaling, rng):
    y = rng.gamma(3.0, size=(60, 2)) + 0.1
    steps = 9
    prepared = prepare(y, lags=lags, transformation=transformation, scaling=scaling, horizon=steps)
    preparation = prepared.preparation
    ends = np.arange(preparation.settings.n_history - 1, 60 - steps)
    series = np.zeros(len(ends), dtype=np.int64)
    targets = prepared.targets(series, ends, steps)
    level = {None: y, "log": np.log(y), "log1p": np.log1p(y)}[transformation]
    # One step ahead it is the ordinary difference, and the row of the network has the same number.
    ordinary = ordinary_difference(level, lags)
    scaled = (ordinary - preparation.location[0]) / preparation.scale[0]
    np.testing.assert_allclose(targets[:, 0], scaled[ends + 1], atol=1e-9)
    np.testing.assert_allclose(prepared.rows[ends, :2], scaled[ends], atol=1e-9)
    # Further ahead: nothing after the origin but the value itself takes part.
    differences = targets * preparation.scale[0] + preparation.location[0]
    for h in range(1, steps + 1):
        expected = np.array([anchored(level[: end + 1], level[end + h], h, lags) for end in ends])
        np.testing.assert_allclose(differences[:, h - 1], expected, atol=1e-9)
    restored = preparation.restore(differences + prepared.baselines(series, ends, steps))
    np.testing.assert_allclose(restored, y[ends[:, None] + np.arange(1, steps + 1)], rtol=1e-9)


def anchored(known, value, h, lags):
    """One lag after the other, by the definition, with nothing known after the last element of `known`."""
    future = [None] * (h - 1) + [value]
    line = [*known, *future]  # None where a value is not known
    place = len(line) - 1
    for lag in lags:
        reach = lag * -(-h // lag)
        line = [
            None if i < reach or line[i] is None or line[i - reach] is None else line[i] - line[i - reach]
            for i in range(len(line))
        ]
    return line[place]


@pytest.mark.parametrize("lags", [(), (1,), (6,), (1, 6)])
def test_no_history_is_longer_or_shorter_than_a_forecast_needs(lags, rng):
    shape = settings(lags=lags, horizon=8, block=8, window_length=2)
    y = rng.normal(size=shape.n_history)
    prepared = prepare(y, lags=lags, horizon=8, block=8, window_length=2)
    places = [len(y) - 1 + h - shift for h in range(1, 9) for shift, _ in shape.anchors(h)]
    assert min([0, *places]) >= 0
    assert min([len(y) - shape.window_length - shape.n_lost, *places]) == 0
    assert np.isfinite(prepared.baselines(np.zeros(1, dtype=int), np.array([len(y) - 1]), 8)).all()


# ------------------------------------------------------------------------------------------------------------- scaling
def test_every_series_has_its_own_scale_and_a_constant_one_has_one():
    y = [np.array([1.0, 3.0, 5.0]), np.array([100.0, 300.0, 500.0]), np.full(4, 7.0)]
    prepared = prepare(y)
    np.testing.assert_allclose(prepared.preparation.location[:, 0], [3, 300, 7])
    np.testing.assert_allclose(prepared.preparation.scale[:, 0], [np.std(y[0]), np.std(y[1]), 1])
    np.testing.assert_allclose(prepared.rows[:3], prepared.rows[3:6])
    np.testing.assert_array_equal(prepared.rows[6:], 0)
    assert prepare(y, scaling="mean").preparation.scale[:, 0].tolist() == [3, 300, 7]
    assert prepare(y, scaling="minmax").preparation.scale[:, 0].tolist() == [4, 400, 1]


def test_missing_values_are_filled_by_the_last_one_and_flagged():
    y = np.array([np.nan, 1.0, np.nan, np.nan, 4.0, np.nan])
    prepared = prepare(y, scaling=None)
    np.testing.assert_array_equal(prepared.rows, [[1, 1], [1, 0], [1, 1], [1, 1], [4, 0], [4, 1]])
    targets = prepared.targets(np.zeros(3, dtype=int), np.arange(3), 2)[..., 0]
    np.testing.assert_array_equal(targets, [[1, np.nan], [np.nan, np.nan], [np.nan, 4]])


# ---------------------------------------------------------------------------------------------- covariates and calendar
@pytest.mark.parametrize(("block", "window", "leads"), [(1, 5, [1]), (3, 5, [0, 3]), (7, 3, [0, 7, 4, 1])])
def test_known_covariates_are_read_ahead(block, window, leads, rng):
    X = np.arange(40.0)[:, None] ** 2
    prepared = prepare(rng.normal(size=40), X, known=(0,), block=block, window_length=window, horizon=block)
    preparation = prepared.preparation
    unscaled = prepared.rows[:, 1:] * preparation.covariate_scale + preparation.covariate_location
    for column, lead in enumerate(leads):
        np.testing.assert_allclose(unscaled[: 40 - lead, column], X[lead:, 0], atol=1e-9)
    # Every step of the horizon is read somewhere in the window.
    end = 20
    seen = {end - back + lead for lead in leads for back in range(window)}
    assert set(range(end + 1, end + block + 1)) <= seen


def test_past_covariates_stand_beside_their_values_and_a_missing_one_is_their_mean(rng):
    X = rng.normal(size=(20, 2))
    X[3, 0] = np.nan
    prepared = prepare(rng.normal(size=20), X, past=(0, 1), static=np.array([[4.0]]))
    expected = (X - np.nanmean(X, axis=0)) / np.nanstd(X, axis=0)
    expected[3, 0] = 0
    np.testing.assert_allclose(prepared.rows[:, 1:3], expected, atol=1e-12)
    np.testing.assert_array_equal(prepared.rows[:, 3], 0)  # one series: its static covariate is the mean


def test_calendar_features_are_places_on_circles():
    times = np.array(["2024-02-29T12", "2024-12-31T18", "2023-01-01T00", "2024-04-01T06"], dtype="datetime64[ns]")
    names = ["time_of_day", "time_of_week", "time_of_month", "time_of_year"]
    features = calendar_features(times, names).reshape(4, 4, 2)
    np.testing.assert_allclose((features**2).sum(axis=2), 1)
    fraction = np.arctan2(features[..., 0], features[..., 1]) / (2 * np.pi) % 1
    # 29 February 2024 was a Thursday, 31 December a Tuesday, 1 January 2023 a Sunday, 1 April 2024 a Monday.
    expected = [
        [0.5, 3.5 / 7, 28.5 / 29, 59.5 / 366],
        [0.75, 1.75 / 7, 30.75 / 31, 365.75 / 366],
        [0, 6 / 7, 0, 0],
        [0.25, 0.25 / 7, 0.25 / 30, 91.25 / 366],
    ]
    np.testing.assert_allclose(fraction, expected, atol=1e-9)


# -------------------------------------------------------------------------------------------------------------- windows
def test_windows_are_every_window_of_every_series_once(rng):
    y = [rng.normal(size=n) for n in (12, 9, 20)]
    prepared = prepare(y, scaling=None)
    windows = Windows(prepared, np.full(3, 4), np.array([9, 6, 17]))
    assert len(windows) == windows.n_rows == 5 + 2 + 13 == len(windows.lengths)
    for order in (None, rng.permutation(20)):
        chosen = windows.reorder(order)
        found = set()
        for begin in range(0, 20, 6):
            sequences, targets, weights = chosen.part(begin, min(begin + 6, 20))
            assert weights is None
            assert sequences.values is prepared.rows
            for steps, target in zip(sequences, targets, strict=True):
                found.add((*steps[:, 0], *target))
        expected = {tuple(one[i : i + 8]) for one in y for i in range(len(one) - 7)}
        assert found == expected


def test_weights_are_the_shares_of_targets_that_were_observed(rng):
    y = rng.normal(size=(40, 2))
    y[rng.uniform(size=y.shape) < 0.4] = np.nan
    windows = Windows(prepare(y), np.array([6]), np.array([37]))
    _, targets, weights = windows.part(0, len(windows))
    np.testing.assert_allclose(weights, (~np.isnan(targets)).mean(axis=1))
    np.testing.assert_allclose(weights.sum(), windows.total_weight)


@pytest.mark.parametrize(("window_length", "block"), [(8, 1), (2000, 1), (2000, 500)])
def test_memory_stays_within_twice_the_series_for_any_window(window_length, block, rng):
    y = rng.normal(size=300_000)
    panel = read_panel(y, None, "raise")
    shape = settings(window_length=window_length, block=block, horizon=block)
    tracemalloc.start()
    prepared = Prepared(Preparation(shape, panel, None, np.dtype("float32")), panel)
    windows = Windows(prepared, np.array([shape.n_history - 1]), np.array([len(y) - block]))
    shuffled = windows.reorder(np.random.RandomState(0).permutation(len(windows)))
    for begin in range(0, 64 * 20, 64):
        shuffled.part(begin, begin + 64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert panel.values.base is y
    assert peak < 2 * y.nbytes


# -------------------------------------------------------------------------------------------------------- distributions
LEVELS = np.array([0.05, 0.3, 0.5, 0.9])


def raw_outputs(loss, rng, shape=(4, 3, 2)):
    return rng.normal(size=(*shape, outputs_per_target(loss, LEVELS)))


def test_quantiles_of_the_quantile_loss(rng):
    raw = raw_outputs("quantile", rng)
    one = distribution("quantile", raw.copy(), LEVELS, np.ones(1))
    expected = oracle.likelihoods.quantiles(raw, LEVELS)
    np.testing.assert_allclose(one.quantiles(LEVELS), expected, rtol=1e-12)
    assert (np.diff(one.quantiles(LEVELS)) > 0).all()
    np.testing.assert_allclose(one.point(), expected[..., 2], rtol=1e-12)
    np.testing.assert_allclose(one.quantiles(np.array([0.4]))[..., 0], expected[..., 1:3].mean(axis=-1), rtol=1e-12)
    single = distribution("quantile", raw[..., :1].copy(), np.array([0.9]), np.ones(1))
    np.testing.assert_array_equal(single.quantiles(np.array([0.9]))[..., 0], raw[..., 0])


@pytest.mark.parametrize("loss", ["gaussian", "student_t", "negative_binomial"])
def test_distributions_are_those_of_the_likelihoods(loss, rng):
    """Quantiles and samples against the probabilities by which the oracle of the losses defines them."""
    scale = np.full((4, 1, 1), 30.0)
    raw = raw_outputs(loss, rng)
    one = distribution(loss, raw, LEVELS, scale)
    first = raw[0, 0, 0]
    plus = np.logaddexp(0, first)
    if loss == "gaussian":
        exact = stats.norm(first[0], plus[1] + 1e-3)
    elif loss == "student_t":
        exact = stats.t(plus[2] + 2, first[0], plus[1] + 1e-3)
    else:
        mean, dispersion = 30 * (plus[0] + 1e-6), plus[1] + 1e-4
        exact = stats.nbinom(1 / dispersion, 1 / (1 + dispersion * mean))
    unit = 30.0 if loss == "negative_binomial" else 1.0
    np.testing.assert_allclose(one.quantiles(LEVELS)[0, 0, 0] * unit, exact.ppf(LEVELS), rtol=1e-9)
    np.testing.assert_allclose(one.point()[0, 0, 0] * unit, exact.mean(), rtol=1e-9)
    many = distribution(loss, np.broadcast_to(raw[:1, :1, :1], (1, 20_000, 1, raw.shape[-1])), LEVELS, scale[:1])
    drawn = many.sample(np.random.RandomState(0))[0, :, 0] * unit
    below = [(drawn <= exact.ppf(level)).mean() for level in LEVELS]
    np.testing.assert_allclose(below, exact.cdf(exact.ppf(LEVELS)), atol=0.015)


# ---------------------------------------------------------------------------------------------------------- calibration
def test_corrections_are_ranks_among_the_errors():
    errors = np.arange(1.0, 20.0)[:, None, None, None] * np.ones((19, 2, 1, 3))  # 19 errors: ranks in twentieths
    errors[0, 1] = np.nan
    levels = np.array([0.05, 0.5, 0.95])
    result = corrections(errors, levels)
    np.testing.assert_allclose(result[0, 0], [1, 10, 19])
    np.testing.assert_allclose(result[1, 0], [2, 10.5, 19])  # of 18 errors; beyond the last, the last
    assert [fewest_errors(x) for x in ([0.05, 0.95], [0.5], [0.01])] == [19, 1, 99]


@pytest.mark.filterwarnings("ignore:All-NaN slice")
def test_few_errors_of_points_are_normal_about_zero_and_bounds_lie_at_least_where_ranks_say():
    errors = np.array([1.0, -2.0, 2.0, np.nan])[:, None, None, None] * np.ones((4, 2, 1, 4))
    levels = np.array([0.1, 0.5, 0.9, 0.975])
    result = corrections(errors, levels, of_points=True)
    spread = np.sqrt(3.0)
    # One step ahead three errors are three; two steps ahead neighbours share one of two, and three are worth two.
    for step, independent in enumerate((3.0, 3 / 1.5)):
        exact = stats.t(independent).ppf(levels) * spread
        np.testing.assert_allclose(result[step, 0], [min(exact[0], -2), 1.0, *np.maximum(exact[2:], 2)])
    assert result[0, 0, 3] > 5
    # Outliers among errors near zero are farther out than Student's t.
    far = np.r_[np.zeros(15), np.full(3, 9.0)][:, None, None, None]
    np.testing.assert_allclose(corrections(far, [0.95], of_points=True), [[[9.0]]])
    # Nothing observed gives nothing; enough errors are ranked.
    assert np.isnan(corrections(np.full((3, 1, 1, 1), np.nan), [0.9], of_points=True)).all()
    many = np.random.default_rng(0).normal(size=(500, 12, 1, 1)) * np.ones(2)
    levels = [0.1, 0.9]
    np.testing.assert_array_equal(corrections(many, levels, of_points=True), corrections(many, levels))


def test_overlapping_errors_are_worth_fewer_independent_ones():
    np.testing.assert_allclose(independent_errors(np.full((3, 1), 90))[:, 0], [90, 60, 90 / (1 + 2 * (4 + 1) / 9)])
    # The variance of the mean square of sums over h independent numbers is that of so many independent squares.
    h, n = 6, 60
    noise = np.random.default_rng(0).normal(size=(20_000, n + h - 1))
    sums = np.lib.stride_tricks.sliding_window_view(noise, h, axis=1).sum(axis=-1)
    squares = (sums**2).mean(axis=1) / h
    independent = independent_errors(np.full((h, 1), n))[-1, 0]
    np.testing.assert_allclose(squares.var(), 2 / independent, rtol=0.08)


def test_a_pool_forgets_the_oldest():
    pool = ErrorPool([np.zeros((3, 1, 1, 1))], [np.arange(3.0)[:, None, None]])
    longer = pool.extended([np.zeros((2, 1, 1, 1))], [np.array([[[8.0]], [[9.0]]])])
    assert longer.observed[0].ravel().tolist() == [2, 8, 9]
    assert len(pool) == len(longer) == 3


# -------------------------------------------------------------------------------------------------------------- metrics
def test_metrics_by_hand():
    observed = np.array([[1.0, 2.0], [3.0, np.nan], [0.0, 8.0]])
    forecast = np.array([[2.0, 2.0], [1.0, 5.0], [0.0, 2.0]])
    np.testing.assert_allclose(metrics.mae(observed, forecast, 0), [1, 3])
    np.testing.assert_allclose(metrics.rmse(observed, forecast, 0), [np.sqrt(5 / 3), np.sqrt(18)])
    np.testing.assert_allclose(metrics.smape(observed, forecast, 0), [(200 / 3 + 100) / 3, 60])
    np.testing.assert_allclose(metrics.mase(observed, forecast, np.array([[2.0], [4.0], [0.0]]), 0), [0.5, 0.0])
    np.testing.assert_allclose(metrics.pinball(observed, forecast, 0.9, 0), [(0.1 + 1.8) / 3, 2.7])
    np.testing.assert_allclose(metrics.coverage(observed, forecast - 1, forecast + 1, 0), [2 / 3, 0.5])
    series = np.array([1.0, 2.0, 4.0, np.nan, 8.0])
    np.testing.assert_allclose(metrics.naive_error(series), 1.5)
    np.testing.assert_allclose(metrics.naive_error(series, 2), 3.5)
    assert np.isnan(metrics.naive_error(series, 5))
