"""The experiment with the series of NAB: what counts as found and as a false alarm, and that the page says it."""

from __future__ import annotations

import gzip
import importlib
import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def nab(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.experiments.nab")


@pytest.fixture
def data(tmp_path, rng):
    """A folder with two series of the benchmark's format; the second has a jump in its window."""
    labels = {}
    for number, name in enumerate(("artificial/calm.csv", "real/jump.csv")):
        path = tmp_path / "nab" / "data" / f"{name}.gz"
        path.parent.mkdir(parents=True)
        times = np.datetime64("2024-01-01") + np.arange(800) * np.timedelta64(300, "s")
        values = np.sin(np.arange(800) / 4) + 0.1 * rng.normal(size=800)
        values[700] += 20 * number
        rows = [f"{str(time).replace('T', ' ')},{value!r}" for time, value in zip(times, values.tolist(), strict=True)]
        path.write_bytes(gzip.compress("\n".join(["timestamp,value", *rows, ""]).encode()))
        window = [f"{str(times[i]).replace('T', ' ')}.000000" for i in (690, 710)]
        labels[name] = [window] * number
    (tmp_path / "nab" / "labels").mkdir()
    (tmp_path / "nab" / "labels" / "combined_windows.json").write_text(json.dumps(labels), encoding="utf-8")
    return tmp_path


def test_counts(nab):
    times = np.datetime64("2024-01-01T00:00:00") + np.arange(300) * np.timedelta64(60, "s")
    windows = [(times[5], times[9]), (times[100], times[110]), (times[200], times[200])]
    series = nab.NabSeries(times, np.zeros(300), windows)
    alarms = np.zeros(300, dtype=bool)
    # Before the first judged step; false, false within an episode, found at its last step, a new episode.
    alarms[[3, 7, 20, 60, 110, 111, 250]] = True
    result = nab.count(alarms, series, first=10)
    chance = sum(1 - (1 - 4 / 278) * np.exp(-3 / 278 * length) for length in (11, 1))
    assert result.by_chance == pytest.approx(chance)
    found = nab.Counts(found=1, windows=2, false_alarms=3, false_steps=4, normal_steps=278, by_chance=result.by_chance)
    assert result == found
    assert nab.n_probationary(4032) == 604
    assert nab.n_probationary(22695) == 750


def test_rolling_z_scores(nab, rng):
    x = rng.normal(size=60)
    scores = nab.rolling_z_scores(x, 7)
    np.testing.assert_array_equal(scores[:7], 0)
    for t in (7, 30, 59):
        np.testing.assert_allclose(scores[t], abs(x[t] - x[t - 7 : t].mean()) / x[t - 7 : t].std())
    np.testing.assert_array_equal(nab.rolling_z_scores(np.full(20, 3.0), 5), 0)


def test_quick_run_judges_every_method_and_writes_nothing(nab, data, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(nab, "RESULT", tmp_path / "nab.json")
    assert nab.main(["--data", str(data), "--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")][1:]
    # Two tables: of all series, and of those by which nothing was chosen.
    n_methods = len(nab._methods(1))
    assert len(rows) == n_methods + 1 + n_methods
    rows = rows[:n_methods]
    assert {row[1] for row in rows if "z-score" in row[0]} == {"1 of 1"}
    assert any("forecast" in row[0] and row[1] == "1 of 1" for row in rows)
    assert not (tmp_path / "nab.json").exists()
    with pytest.raises(SystemExit):
        nab.main(["--data", str(data), "--quick", "--write"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit):
        nab.main(["--data", str(tmp_path / "empty")])
    assert "no data set 'nab'" in capsys.readouterr().err


def test_the_page_has_the_table_of_the_file(nab):
    record = json.loads(nab.RESULT.read_text(encoding="utf-8"))
    pages = importlib.import_module("benchmarks.pages")
    assert pages.tables_of(nab.PAGE.read_text(encoding="utf-8"), "nab") == [nab.table(record)]
