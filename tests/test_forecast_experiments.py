"""Experiments with forecasts: every method has the same origins, baselines are what they are called, tables say it."""

from __future__ import annotations

import dataclasses
import importlib
import json
import subprocess
import sys
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


@pytest.fixture
def fit_costs(forecasts):
    return importlib.import_module("benchmarks.experiments.fit_costs")


@pytest.mark.parametrize("changes", [{}, {"difference": (1, 5), "early_stopping": True}, {"train_on_all": True}])
def test_a_fit_and_its_twin_have_the_same_windows_epochs_and_first_parameters(forecasts, fit_costs, changes, rng):
    pytest.importorskip("torch")
    task = toy(forecasts, rng.normal(size=120).cumsum() + 20, learning_rate="cosine", **changes)
    task.models["GRU 3"].set_params(max_iter=4)
    plain = fit_costs._plain(task.models["GRU 3"])
    training = forecasts.training_of(plain, task)
    with pytest.warns(match="Maximum iterations"):
        fitted = clone(plain).fit(task.y[: task.initial])
    assert fitted.n_windows_ == len(training.windows)
    assert fitted.n_iter_ == training.plain.n_epochs == 4
    assert fitted.n_parameters_ == training.network.n_parameters
    # The same loss in the first epoch, before the order of the minibatches makes a difference: a full batch.
    whole = clone(plain).set_params(batch_size=len(training.windows), max_iter=1)
    with pytest.warns(match="Maximum iterations"):
        loss = whole.fit(task.y[: task.initial]).loss_curve_[0]
    sequences, targets = training.arrays()
    outputs = training.network.outputs(sequences)
    assert loss == pytest.approx(float(np.mean((outputs - targets) ** 2)), rel=1e-5)


def test_one_fit_in_a_process_loads_no_compiler_and_says_what_it_took(forecasts, fit_costs, rng, tmp_path):
    pytest.importorskip("torch")
    task = toy(forecasts, rng.normal(size=120).cumsum() + 20)
    sizes = fit_costs._write_for_pytorch(tmp_path / "one.pt", task, task.models["GRU 3"])
    assert sizes["n_windows"] == 80 - 4 - 2 + 1 and sizes["n_epochs"] == 1
    code = (
        "import sys; from benchmarks.peers.one_fit import main; main(sys.argv[1]); "
        "assert not {'numba', 'sklearn', 'pandas'} & set(sys.modules), 'memory is not that of PyTorch'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "one.pt")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["seconds"] > 0
    assert 0 < said["memory_before"] <= said["memory"]


def test_memory_is_the_most_that_was_held_at_once(forecasts):
    one_fit = importlib.import_module("benchmarks.peers.one_fit")
    before = one_fit.resident()[1]
    size = int(before + 100) * 2**17  # float64: 100 MiB more than ever before
    said = one_fit.measured(lambda: np.ones(size))
    assert said["memory"] - before > 90


def test_costs_become_a_table_that_later_runs_replace_in_part(fit_costs, monkeypatch, tmp_path):
    side = {"seconds": 2.0, "memory_before": 100.0, "memory": 130.0}
    record = {
        "name": "toy", "script": "pm25", "title": "A toy", "model": "GRU 3", "n_windows": 1234, "n_epochs": 8,
        "batch_size": 32, "n_parameters": 5678, "numrnn": side, "pytorch": {**side, "seconds": 5.0}, "repeats": 3,
        "machine": {"processor": "P", "vector_bits": 512, "versions": {"numba": "1", "torch": "2"}},
    }  # fmt: skip
    text = fit_costs.table([record])
    assert "| `toy` | GRU 3; 5,678 parameters | 1,234, 8 | 2 | 5 | 2.5 | 130 (30) | 130 (30) |" in text
    assert "Measured on P, 512-bit vectors, numba 1, torch 2." in text
    monkeypatch.setattr(fit_costs, "RESULT", tmp_path / "costs.json")
    earlier = [record, {**record, "name": "first", "script": "univariate"}]
    (tmp_path / "costs.json").write_text(json.dumps(earlier), encoding="utf-8")
    merged = fit_costs._merged([{**record, "n_epochs": 9}])
    assert [(one["name"], one["n_epochs"]) for one in merged] == [("first", 8), ("toy", 9)]
