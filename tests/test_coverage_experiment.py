"""Simulated series whose intervals are counted: what is drawn, what is measured, and the table."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from numrnn import RNNForecaster
from numrnn.forecasting import calibration

coverage = pytest.importorskip("benchmarks.experiments.coverage")


def test_series_are_those_of_the_airline_model():
    logarithms = np.log(np.arange(100.0, 130.0))
    y = coverage.simulated(logarithms, 4000, np.random.default_rng(0))
    np.testing.assert_allclose(y[:13], np.arange(100.0, 113.0))
    z = np.log(y)
    twice = z[13:] - z[12:-1] - z[1:-12] + z[:-13]  # (1 - B)(1 - B^12)
    theta, seasonal, deviation = 0.4, 0.6, 0.0367
    variance = deviation**2 * (1 + theta**2) * (1 + seasonal**2)
    np.testing.assert_allclose(twice.var(), variance, rtol=0.1)

    def correlation(lag):
        return np.corrcoef(twice[lag:], twice[:-lag])[0, 1]

    np.testing.assert_allclose(correlation(1), -theta / (1 + theta**2), atol=0.05)
    np.testing.assert_allclose(correlation(12), -seasonal / (1 + seasonal**2), atol=0.05)
    assert abs(correlation(5)) < 0.05


@pytest.mark.filterwarnings("ignore")
def test_ranks_alone_are_narrower_and_become_a_table(monkeypatch, tmp_path):
    univariate = importlib.import_module("benchmarks.experiments.univariate")
    experiments = importlib.import_module("benchmarks.experiments.forecasts")
    model = RNNForecaster((3,), cell="gru", horizon=12, window_length=12, difference=12, max_iter=2,
                          calibration_fraction=0.3)  # fmt: skip
    passengers = np.exp(np.sin(np.arange(144) * np.pi / 6) / 5 + 5)
    task = experiments.Task("airline", "", passengers, None, 108, 1, 12, {"GRU": model}, (1,))
    monkeypatch.setattr(univariate, "tasks", lambda data, quick: [task])
    before = calibration.fewest_errors
    record = coverage.run(tmp_path, 2, lambda text: None, lengths=(144,))
    assert calibration.fewest_errors is before
    (one,) = record["records"]
    as_they_are, ranks = one["intervals"], one["ranks alone"]
    assert as_they_are["width"] > ranks["width"]
    assert np.greater_equal(as_they_are["coverage"], ranks["coverage"]).all()
    assert len(as_they_are["coverage_of_series"].split()) == 2
    assert as_they_are["calibration"] == 22
    lines = coverage.table(record).splitlines()
    assert lines[0].startswith("| months | errors in the calibration")
    assert lines[2].startswith("| 144 | 22 | ranks alone |")
    assert lines[3].startswith("| 144 | 22 | as they are |")
