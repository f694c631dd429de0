"""The demonstration, small: what it computes, prints and writes."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import numrnn
from numrnn import demo
from numrnn.datasets import load_beijing_pm25

SMALL = {"pollution_settings": {"max_iter": 1, "n_train": 3000}, "digits_epochs": 1}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One small run: its folder and what it printed."""
    import contextlib
    import io

    folder = tmp_path_factory.mktemp("demo") / "made" / "on the way"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        demo.run(folder, **SMALL)
    return folder, printed.getvalue()


def test_writes_figures_models_and_results(finished):
    folder, printed = finished
    written = {path.name for path in folder.iterdir()}
    assert written == {
        "pm25_learning_curve.png",
        "digits_learning_curve.png",
        "forecast.png",
        "pm25.safetensors",
        "digits.safetensors",
        "results.json",
    }
    assert all(f"     {name}\n" in printed for name in written)
    for path in folder.glob("*.png"):
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_prints_what_it_writes(finished):
    folder, printed = finished
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    for error in results["pm25_mean_absolute_error"].values():
        assert f"{error:6.2f}  " in printed
    assert f"test accuracy {results['digits_accuracy']:.3f}" in printed


def test_persistence_is_the_last_measured_value(finished):
    folder, _ = finished
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    test = load_beijing_pm25(subset="test")
    expected = np.abs(test.data[:, -1, 0] - test.target).mean()
    assert results["pm25_mean_absolute_error"]["persistence"] == pytest.approx(expected, rel=1e-6)


def test_saved_models_take_the_demonstrated_inputs(finished):
    folder, _ = finished
    assert numrnn.load(folder / "pm25.safetensors").predict(np.zeros((2, 24, 16), dtype=np.float32)).shape == (2,)
    assert set(numrnn.load(folder / "digits.safetensors").classes_) == set(range(10))


def test_a_few_epochs_beat_persistence_and_ridge():
    result = demo.forecast_pollution(max_iter=3, n_train=20_000)
    assert result.error["network"] < min(result.error["persistence"], result.error["ridge"])
    assert result.error["network"] == pytest.approx(np.abs(result.measured - result.forecast).mean())
    assert (result.forecast >= 0).all()


def test_change_of_root_is_undone_exactly():
    windows, target = load_beijing_pm25(n_timesteps=3, subset="test", return_X_y=True)
    view = demo._ChangeOfRoot(windows)
    inputs, change = view.inputs(windows), view.targets(windows, target)
    np.testing.assert_allclose(view.concentrations(windows, change), target, rtol=1e-4, atol=1e-3)
    assert inputs.shape == windows.shape
    steps = inputs.reshape(-1, 16)
    varies = windows.reshape(-1, 16).std(axis=0) > 0
    np.testing.assert_allclose(steps.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(steps[:, varies].std(axis=0), 1, atol=1e-3)
    # No change is the forecast of persistence.
    np.testing.assert_allclose(view.concentrations(windows, np.zeros(len(target))), windows[:, -1, 0], rtol=1e-5)


def test_without_matplotlib_it_says_so_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    demo.run(tmp_path, pollution_settings={"max_iter": 1, "n_train": 500}, digits_epochs=1)
    printed = capsys.readouterr().out
    assert 'no figures: plots need Matplotlib, which is not installed: pip install "numrnn[plot]"' in printed
    assert "Done in" in printed
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}
