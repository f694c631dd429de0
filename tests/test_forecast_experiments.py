"""Experiments with forecasts: every method has the same origins, baselines are what they are called, tables say it."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import RidgeCV

from numrnn import RNNForecaster

ROOT = Path(__file__).parent.parent


@pytest.fixture
def forecasts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.syspath_prepend(str(ROOT))
    module = importlib.import_module("benchmarks.experiments.forecasts")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(module, "PAGE", tmp_path / "page.md")
    (tmp_path / "page.md").write_text("before\n<!-- toy: begin -->\nold\n<!-- toy: end -->\nafter\n", encoding="utf-8")
    return module


def toy(forecasts, y, **changes):
    model = RNNForecaster(
        (3,), horizon=2, window_length=4, max_iter=1, calibration_fraction=0.3, random_state=0, **changes
    )
    return forecasts.Task(
        "toy", "A toy", y, None, 80, 3, 6, {"GRU 3": model}, (1, 2), seeds=1, drift=True, statistical=False
    )


def test_a_record_has_every_method_and_becomes_a_table(forecasts, rng, tmp_path):
    y = rng.normal(size=120).cumsum() + 20
    task = toy(forecasts, y)
    assert forecasts.main("toy", lambda data, quick: [task], ["--data", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "results" / "toy.json").read_text(encoding="utf-8"))
    origins = np.arange(80, 119, 3)
    assert record["n_origins"] == len(origins)
    observed = y[origins[:, None] + np.arange(2)]
    unit = np.abs(np.diff(y[:80])).mean()
    naive = record["methods"]["naive: as the last value"]
    np.testing.assert_allclose(naive["mase"], np.abs(observed - y[origins - 1][:, None]).mean(axis=0) / unit)
    seasonal = record["methods"]["seasonal naive, 6 steps"]
    np.testing.assert_allclose(seasonal["mae"], np.abs(observed - y[origins[:, None] - 6 + np.arange(2)]).mean(axis=0))
    drift = y[origins - 1][:, None] + np.arange(1, 3) * (y[79] - y[0]) / 79
    np.testing.assert_allclose(record["methods"]["naive with drift"]["mae"], np.abs(observed - drift).mean(axis=0))
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert page.startswith("before\n<!-- toy: begin -->\n**A toy** (13 forecasts, horizon 2, 1 seed)\n")
    assert "| ridge on the same windows |" in page
    assert "old" not in page
    assert page.endswith("<!-- toy: end -->\nafter\n")


@pytest.mark.parametrize("changes", [{}, {"difference": 1}, {"transformation": "log"}])
def test_ridge_is_fitted_to_the_windows_of_the_training_part(forecasts, changes, rng):
    y = np.exp(rng.normal(size=120) / 5).cumsum() / np.arange(5, 125)
    record = forecasts.run(toy(forecasts, y, **changes), report=lambda text: None)
    level = np.log(y) if "transformation" in changes else y
    if "difference" in changes:
        inputs = np.concatenate([[0], np.diff(y)])
        targets = np.stack([y[i + 1 : i + 3] - y[i] for i in range(118)])
    else:
        inputs = level
        targets = np.stack([level[i + 1 : i + 3] for i in range(118)])
    first = 4 if "difference" in changes else 3
    learned = inputs[first - 3 : 80]
    inputs = (inputs - learned.mean()) / learned.std()
    windows = np.stack([inputs[i - 3 : i + 1] for i in range(3, 118)])
    scaled = (targets - learned.mean()) / learned.std()
    ridge = RidgeCV(np.logspace(-2, 5, 8)).fit(windows[first - 3 : 75], scaled[first:78])
    ends = np.arange(79, 118, 3)
    forecast = ridge.predict(windows[ends - 3]) * learned.std() + learned.mean()
    if "difference" in changes:
        forecast += y[ends][:, None]
    forecast = np.exp(forecast) if "transformation" in changes else forecast
    expected = np.abs(forecast - y[ends[:, None] + [1, 2]]).mean(axis=0)
    np.testing.assert_allclose(record["methods"]["ridge on the same windows"]["mae"], expected, rtol=1e-6)


def test_the_tasks_of_pm25_can_be_made_from_the_package(forecasts, tmp_path):
    module = importlib.import_module("benchmarks.experiments.pm25")
    tasks = module.tasks(tmp_path, True)
    assert [task.name for task in tasks] == [
        "pm25_next_hour",
        "pm25_next_day",
        "pm25_next_hour_one_year",
        "pm25_tutorial_network",
    ]
    y, X = tasks[0].y, tasks[0].X
    assert np.isnan(y).sum() == 2067
    assert tasks[0].initial == 35064
    assert np.isfinite(X).all()
    assert all(model.max_iter == 1 for task in tasks for model in task.models.values())


def test_an_unknown_task_is_an_error(forecasts, tmp_path, capsys):
    with pytest.raises(SystemExit):
        forecasts.main("toy", lambda data, quick: [], ["nothing", "--data", str(tmp_path)])
    assert "there is no task 'nothing'" in capsys.readouterr().err


@pytest.mark.parametrize("anew", [False, True])
def test_statistical_forecasts_are_those_of_each_series_up_to_the_origin(forecasts, anew, rng):
    models = pytest.importorskip("statsforecast.models")
    y = np.exp(rng.normal(size=120) / 5).cumsum() / np.arange(5, 125)
    task = dataclasses.replace(toy(forecasts, y, transformation="log"), statistical=True, anew=anew)
    methods = forecasts.run(task, report=lambda text: None)["methods"]
    label = ", fitted anew every time" if anew else ""
    assert f"AutoARIMA, season of 6{label}" in methods
    measured = methods[f"AutoETS, season of 6{label}"]
    fitted = models.AutoETS(season_length=6).fit(np.log(y[:80]))
    errors, inside = [], []
    for end in range(80, 119, 3):
        known = np.log(y[:end])
        model = models.AutoETS(season_length=6)
        result = model.forecast(known, 2, level=[90]) if anew else fitted.forward(known, 2, level=[90])
        errors.append(np.abs(np.exp(result["mean"]) - y[end : end + 2]))
        inside.append((np.exp(result["lo-90"]) <= y[end : end + 2]) & (y[end : end + 2] <= np.exp(result["hi-90"])))
    np.testing.assert_allclose(measured["mae"], np.mean(errors, axis=0))
    np.testing.assert_allclose(measured["coverage"], np.mean(inside, axis=0))
    assert measured["processor_seconds_of_fit"] > 0


def test_statistical_forecasts_of_the_next_step_come_from_one_pass_over_the_series(forecasts, rng):
    models = pytest.importorskip("statsforecast.models")
    y = rng.normal(size=120).cumsum() + 20
    X = rng.normal(size=(120, 1))
    task = dataclasses.replace(toy(forecasts, y), X=X, statistical=True, shown=(1,))
    task.models["GRU 3"].set_params(horizon=1)
    methods = forecasts.run(task, report=lambda text: None)["methods"]
    for name, make in (("AutoETS", models.AutoETS), ("AutoARIMA", models.AutoARIMA)):
        label = f"{name}, season of 6" + ", with covariates" * (name == "AutoARIMA")
        read = {"X": X[:80]} if name == "AutoARIMA" else {}
        fitted = make(season_length=6).fit(y[:80], **read)
        errors, inside = [], []
        for end in range(80, 120, 3):
            known = {"X": X[:end], "X_future": X[end : end + 1]} if name == "AutoARIMA" else {}
            result = {key: np.asarray(value) for key, value in fitted.forward(y[:end], 1, level=[90], **known).items()}
            errors.append(np.abs(result["mean"] - y[end]))
            inside.append((result["lo-90"] <= y[end]) & (y[end] <= result["hi-90"]))
        np.testing.assert_allclose(methods[label]["mae"], np.mean(errors, axis=0), rtol=2e-3)
        np.testing.assert_allclose(methods[label]["coverage"], np.mean(inside, axis=0))


@pytest.mark.parametrize(
    ("n_series", "n_origins", "step", "horizon", "text"),
    [
        (1, 100, 1, 1, "90.0 % (83 to 94)"),  # statsmodels' proportion_confint(90, 100, method="wilson")
        (1, 1200, 1, 12, "90.0 % (83 to 94)"),  # every value is in 12 forecasts
        (2, 100, 3, 2, "90.0 % (83 to 94)"),  # there are no more draws than forecasts
        (1, 5, 1, 12, "90.0 % (17 to 100)"),  # and one at least
    ],
)
def test_coverage_has_the_interval_of_as_many_draws_as_forecasts_do_not_overlap(
    forecasts, n_series, n_origins, step, horizon, text
):
    record = {"n_series": n_series, "n_origins": n_origins, "step": step, "horizon": horizon}
    assert forecasts._coverage(0.9, record) == text


def test_times_are_those_of_one_network_in_both_libraries(forecasts, rng):
    pytest.importorskip("torch")
    task = toy(forecasts, rng.normal(size=120).cumsum() + 20)
    times = forecasts._times(next(iter(task.models.values())), task, n_epochs=2)
    assert times["numrnn"] > 0 and times["pytorch"] > 0
    assert times["n_windows"] == 80 - 4 - 2 + 1
    quantiles = clone(next(iter(task.models.values()))).set_params(loss="quantile")
    assert forecasts._times(quantiles, task) is None
