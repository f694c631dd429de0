"""RNNForecaster(strategy="encoder_decoder"): a decoder goes through the horizon and reads what is known of it."""

from __future__ import annotations

import json
import pickle

import numpy as np
import oracle.likelihoods
import pytest
from safetensors import safe_open
from safetensors.numpy import save as serialize
from scipy import stats
from seq2seq_problems import Reference
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit

import numrnn
from numrnn import RNNForecaster
from numrnn.forecasting.series import read_panel
from numrnn.forecasting.windows import Prepared, Windows
from numrnn.persistence import ModelFileError, _checksum

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

QUICK = {
    "hidden_layer_sizes": (5,), "window_length": 6, "horizon": 3, "strategy": "encoder_decoder", "max_iter": 2,
    "batch_size": 32, "random_state": 0, "n_jobs": 1,
}  # fmt: skip
ATTENTIONS = {
    "no attention": {},
    "additive": {"attention": "additive"},
    "multiplicative": {"attention": "multiplicative"},
    "multihead": {"attention": "multihead", "n_heads": 5},
}


def quick(**changes):
    return RNNForecaster(**{**QUICK, **changes})


def series(rng, n=120):
    return 20 + 4 * np.sin(2 * np.pi * np.arange(n) / 7) + rng.normal(size=n)


# -------------------------------------------------------------------------------------------------- the reference
def outputs_by_hand(model, y, X, static, X_future, known, past):
    """Raw outputs for every series (horizon, n_outputs): windows and what is known by hand, the rest by the oracle."""

    def standardized(parts):
        whole = np.concatenate(parts)
        return (
            [(part - whole.mean(axis=0)) / whole.std(axis=0) for part in parts],
            whole.mean(axis=0),
            whole.std(axis=0),
        )

    window, horizon = model.window_length, model.horizon
    traits, _, _ = standardized([static])
    inside, location, scale = standardized(X)
    outputs = []
    for number, one in enumerate(y):
        own = np.repeat(traits[0][number : number + 1], window, axis=0)
        ended, values = inside[number][-window:], (one - one.mean()) / one.std()
        read = np.concatenate([values[-window:, np.newaxis], ended[:, past], ended[:, known], own], axis=1)
        # A step to come: how far it is as a share of the horizon, its known covariates, and the series' own.
        distance = np.arange(1, horizon + 1)[:, np.newaxis] / horizon
        coming = ((X_future[number] - location) / scale)[:, known]
        ahead = np.concatenate([distance, coming, np.repeat(own[:1], horizon, axis=0)], axis=1)
        outputs.append(Reference(model._network).follow(read, ahead)[0])
    return outputs


@pytest.mark.parametrize("attention", ATTENTIONS.values(), ids=ATTENTIONS)
@pytest.mark.parametrize(
    "changes",
    [
        {"cell": "lstm"},
        {"cell": "gru", "bidirectional": True, "hidden_layer_sizes": (4, 5)},
        {"cell": "rnn", "horizon": 1},
        {"cell": "gru", "window_length": 1},
        {"horizon": 8, "window_length": 2},
    ],
    ids=["lstm", "deep, both directions", "horizon 1", "window 1", "horizon longer than the window"],
)
def test_forecasts_are_those_of_the_reference(changes, attention, rng):
    y, X = [series(rng), series(rng, 90)], [rng.normal(size=(n, 3)) for n in (120, 90)]
    static, past = rng.normal(size=(2, 2)), [1]
    model = quick(dtype="float64", calibration_fraction=0.0, future_covariates=[2, 0], **{**changes, **attention})
    model.fit(y, X, static)
    X_future = [rng.normal(size=(model.horizon, 3)) for _ in range(2)]
    found = model.predict(X=X_future)
    for one, forecast, outputs in zip(
        y, found, outputs_by_hand(model, y, X, static, X_future, [2, 0], past), strict=True
    ):
        np.testing.assert_allclose(forecast, one.mean() + one.std() * outputs[:, 0], rtol=1e-8)


def test_distributions_are_those_of_the_reference(rng):
    y, X = [np.rint(series(rng))], [rng.normal(size=(120, 1))]
    static, X_future = np.zeros((1, 0)), [rng.normal(size=(3, 1))]
    common = {"dtype": "float64", "calibration_fraction": 0.0}

    def fitted(loss, **changes):
        model = quick(loss=loss, **common, **changes).fit(y, X)
        return model, outputs_by_hand(model, y, X, static, X_future, [0], [])[0]

    location, scale = y[0].mean(), y[0].std()
    model, raw = fitted("quantile", quantile_levels=(0.1, 0.5, 0.7))
    wanted = location + scale * oracle.likelihoods.quantiles(raw, (0.1, 0.5, 0.7))
    np.testing.assert_allclose(model.predict_quantiles(levels=(0.1, 0.5, 0.7), X=X_future)[0], wanted, rtol=1e-8)
    model, raw = fitted("gaussian")
    deviation = oracle.likelihoods.softplus(raw[:, 1]) + 1e-3
    wanted = location + scale * stats.norm.ppf(0.8, raw[:, 0], deviation)
    np.testing.assert_allclose(model.predict_quantiles(levels=0.8, X=X_future)[0][:, 0], wanted, rtol=1e-8)
    model, raw = fitted("student_t")
    deviation, freedom = oracle.likelihoods.softplus(raw[:, 1]) + 1e-3, oracle.likelihoods.softplus(raw[:, 2]) + 2
    wanted = location + scale * stats.t.ppf(0.8, freedom, raw[:, 0], deviation)
    np.testing.assert_allclose(model.predict_quantiles(levels=0.8, X=X_future)[0][:, 0], wanted, rtol=1e-8)


# ------------------------------------------------------------------------------------------------------ behaviour
def test_a_forecast_reads_the_covariates_of_its_own_step_and_of_those_before(rng):
    y, X = series(rng), rng.normal(size=(120, 2))
    model = quick(horizon=5, future_covariates=[1]).fit(y, X)
    X_future = rng.normal(size=(5, 1))
    before = model.predict(X=X_future)
    for step in range(5):
        other = X_future.copy()
        other[step] += 1
        changed = model.predict(X=other)
        np.testing.assert_array_equal(changed[:step], before[:step])
        assert (changed[step:] != before[step:]).all()
    # The first steps alone are the first steps.
    np.testing.assert_array_equal(model.predict(2, X=X_future[:2]), before[:2])


def test_a_target_that_depends_on_a_known_covariate_alone_is_learned_for_every_step(rng):
    """One step's dependence is every step's, for the decoder has one set of weights; not so for a dense output."""
    X = rng.normal(size=(400, 1))
    y = np.sign(X[:, 0]) * np.abs(X[:, 0]) ** 0.5
    common = {
        "horizon": 12,
        "window_length": 4,
        "learning_rate_init": 0.01,
        "max_iter": 15,
        "hidden_layer_sizes": (12,),
    }
    rmse = {
        strategy: quick(strategy=strategy, **common).backtest(y, X, initial=300).metrics["rmse"].max()
        for strategy in ("direct", "encoder_decoder")
    }
    assert rmse["encoder_decoder"] < 0.3 < 0.6 < rmse["direct"]


def test_calendar_features_are_read_step_by_step(rng):
    """The weekday says everything; the window of one value says nothing."""
    pd = pytest.importorskip("pandas")
    levels = np.array([1.0, 5, 2, 7, 3, 9, 4])
    index = pd.date_range("2024-01-01", periods=280, freq="D", name="day")
    y = pd.Series(levels[np.arange(280) % 7], index, name="load")
    model = quick(
        horizon=10, window_length=1, calendar=["time_of_week"], learning_rate_init=0.02, max_iter=60,
        hidden_layer_sizes=(16,),
    )  # fmt: skip
    forecast = model.fit(y[:-10]).predict()
    assert forecast.index.equals(y.index[-10:])
    assert np.abs(forecast - y[-10:]).max() < 0.5


def test_missing_values_count_neither_in_the_loss_nor_beside_it(rng):
    """A value that is missing in y is not learned, whatever is missing around it."""
    y = series(rng, 200)
    gaps = y.copy()
    gaps[rng.uniform(size=200) < 0.2] = np.nan
    gaps[100:112] = np.nan
    model = quick(missing="mask", calibration_fraction=0.2, early_stopping=True).fit(gaps)
    assert np.isfinite(model.predict(7)).all()
    assert np.isfinite(model.predict_interval(coverage=0.5)).all()
    prepared = Prepared(model._preparation, read_panel(gaps, None, "mask"))
    windows = Windows(prepared, np.array([5]), np.array([197]))
    _, targets, weights = windows.part(0, len(windows))
    assert weights.shape == (192 * 3,) == (len(targets),)
    np.testing.assert_array_equal(weights, 1.0 - np.isnan(targets[:, 0]))
    np.testing.assert_allclose(windows.total_weight, weights.sum())
    assert windows.n_rows == len(targets)


def test_windows_are_views(rng):
    y = series(rng, 300)
    prepared = Prepared(quick(window_length=100).fit(y)._preparation, read_panel(y, None, "raise"))
    windows = Windows(prepared, np.array([99]), np.array([297]))
    batch, targets, weights = windows.part(0, 150)
    assert batch.sources.values is prepared.rows
    assert prepared.rows.shape == (303, 1)  # beyond the end there is what the decoder reads
    assert (len(batch.sources), batch.targets.values.shape, targets.shape) == (150, (450, 1), (450, 1))
    assert weights is None


def test_backtest_with_a_shorter_horizon_goes_to_the_end_of_the_series(rng):
    """What the decoder reads beyond the last row does not change the steps before it."""
    y, X = [series(rng, 120), series(rng, 110)], [rng.normal(size=(n, 1)) for n in (120, 110)]
    model = quick(horizon=4).fit([one[:90] for one in y], [one[:90] for one in X])
    model.update([one[90:108] for one in y], [one[90:108] for one in X])
    result = quick(horizon=4).backtest(y, X, initial=90, step=18, horizon=2, coverage=0.5)
    forecast = model.predict(2, [one[108:110] for one in X])
    for number in range(2):
        (row,) = np.flatnonzero((result.series == number) & (result.origins == 108))
        np.testing.assert_allclose(result.forecast[row], forecast[number], rtol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"difference": (1, 7), "transformation": "log"},
        {"scaling": "minmax", "early_stopping": True},
        {"train_on_all": True, "learning_rate": "cosine"},
        {"solver": "lbfgs"},
        {"solver": "lbfgs", "dtype": "float64"},
        {"dropout": 0.3, "hidden_layer_sizes": (4, 3), "attention": "multiplicative"},
    ],
)
def test_ways_to_prepare_and_to_train(changes, rng):
    y = [series(rng), series(rng, 80), 50 * series(rng, 95)]
    model = quick(**changes).fit(y)
    forecasts = model.predict(8)
    assert [one.shape for one in forecasts] == [(8,)] * 3
    assert all(np.isfinite(one).all() for one in forecasts)
    assert forecasts[2].min() > 10 * forecasts[0].max()
    np.testing.assert_array_equal(np.concatenate(clone(model).fit(y).predict(8)), np.concatenate(forecasts))


@pytest.mark.parametrize("attention", [None, "additive"])
def test_threads_and_repetition_change_no_bit(attention, rng):
    y, X = series(rng, 400), rng.normal(size=(400, 2))
    fits = [
        quick(hidden_layer_sizes=(40, 33), attention=attention, dropout=0.2, batch_size=128, n_jobs=n_jobs).fit(y, X)
        for n_jobs in (1, 2, 1)
    ]
    flats = [model._network.parameters.flat.tobytes() for model in fits]
    assert flats[0] == flats[1] == flats[2]
    assert (
        quick(random_state=1).fit(y)._network.parameters.flat.tobytes()
        != quick().fit(y)._network.parameters.flat.tobytes()
    )


def test_an_lbfgs_step_counts_windows(rng):
    model = quick(solver="lbfgs", calibration_fraction=0).fit(series(rng, 60))
    assert model._state.n_samples_seen == model.n_iter_ * model.n_windows_


def test_grid_search(rng):
    y = series(rng, 150)
    search = GridSearchCV(
        quick(),
        {"strategy": ["direct", "encoder_decoder"], "window_length": [3, 5]},
        cv=TimeSeriesSplit(3, test_size=3),
    ).fit(y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


# --------------------------------------------------------------------------------------------------------- keeping
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": "quantile", "attention": "multihead", "n_heads": 5, "bidirectional": True},
        {"loss": "negative_binomial", "dtype": "float64", "cell": "gru", "hidden_layer_sizes": (3, 4)},
    ],
)
def test_files_and_pickles_forecast_and_go_on_alike(changes, rng, tmp_path):
    y, X = np.rint(series(rng)), rng.normal(size=(120, 2))
    model = quick(future_covariates=[1], **changes).fit(y, X)
    model.save(tmp_path / "model.safetensors")
    others = [numrnn.load(tmp_path / "model.safetensors"), pickle.loads(pickle.dumps(model))]
    X_future = rng.normal(size=(3, 1))
    for update in (False, True):
        for one in (model, *others):
            if update:
                one.update(y[:2], X[:2])
        for other in others:
            np.testing.assert_array_equal(model.predict(X=X_future), other.predict(X=X_future))
            intervals = [one.predict_interval(coverage=0.5, X=X_future) for one in (model, other)]
            np.testing.assert_array_equal(*intervals)
            assert other.get_params() == model.get_params()
            assert other.n_parameters_ == model.n_parameters_


@pytest.mark.parametrize("what", ["another strategy", "another decoder", "another loss", "weights"])
def test_files_whose_parts_do_not_fit_together_are_refused(what, rng, tmp_path):
    path = tmp_path / "model.safetensors"
    quick().fit(series(rng)).save(path)
    if what == "another strategy":
        quick(strategy="direct").fit(series(rng)).save(tmp_path / "other.safetensors")
    with safe_open(path, framework="numpy") as file:
        metadata, tensors = dict(file.metadata()), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    model = json.loads(metadata["model"])
    if what == "another strategy":
        with safe_open(tmp_path / "other.safetensors", framework="numpy") as file:
            model["network"] = json.loads(file.metadata()["model"])["network"]
            of_others = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        state = {key: tensor for key, tensor in tensors.items() if key.startswith("parameter:")}
        tensors = {key: tensor for key, tensor in of_others.items() if not key.startswith("parameter:")} | state
    elif what == "another decoder":
        model["network"]["decoder_inputs"] = 2
        for name in ("decoder_weight_ih_l0", "readout_weight_input"):
            tensors[name] = np.repeat(tensors[name], 2, axis=1)
    elif what == "another loss":
        model["parameters"]["loss"] = "huber"
    else:
        tensors["bridge_weight_l0"] = tensors["bridge_weight_l0"][:-1]
    metadata["model"] = json.dumps(model)
    metadata["checksum"] = _checksum(metadata, tensors)
    path.write_bytes(serialize(tensors, metadata))
    with pytest.raises(ModelFileError, match="cannot be read"):
        numrnn.load(path)


# -------------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": "encoder-decoder"}, "The 'strategy' parameter of RNNForecaster must be a str among"),
        (
            {"bptt_steps": 3},
            "The 'bptt_steps' parameter .* must be None for strategy='encoder_decoder'.* Got 3 instead",
        ),
        ({"attention": "dot"}, "The 'attention' parameter of RNNForecaster must be"),
        ({"attention": "multihead"}, "The 'n_heads' parameter .* must divide the 5 units of the last layer. Got 4"),
        (
            {"strategy": "direct", "attention": "additive"},
            "The 'attention' parameter .* must be None for strategy='direct'",
        ),
        ({"strategy": "recursive", "attention": "additive"}, "must be None for strategy='recursive'"),
        ({"n_heads": 0}, "The 'n_heads' parameter of RNNForecaster must be an int in the range"),
        ({"window_length": 200}, "y is too short: window_length=200, difference=None and horizon=3 need at least 203"),
    ],
)
def test_parameters_that_cannot_be_used(changes, message, rng):
    with pytest.raises(ValueError, match=message):
        quick(**changes).fit(series(rng))


def test_covariates_that_cannot_be_used(rng):
    y, X = series(rng), rng.normal(size=(120, 2))
    model = quick(future_covariates=[1]).fit(y, X)
    with pytest.raises(ValueError, match="X must hold the future covariates of the 3 steps to forecast"):
        model.predict()
    with pytest.raises(ValueError, match=r"X is too short: a forecast of 3 steps needs .*, got 2 rows"):
        model.predict(X=X[:2])
    with pytest.raises(ValueError, match=r"at most 3 steps can be forecast without them"):
        model.predict(4, X=X[:4])
