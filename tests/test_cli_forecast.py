"""`numrnn forecast`, and `numrnn predict` by a forecaster, as somebody at a terminal uses them."""

from __future__ import annotations

import csv
import io
import json
import sys

import numpy as np
import pytest

import numrnn
from numrnn import cli

pd = pytest.importorskip("pandas")

QUICK = ["--units", "4", "--window", "12", "--epochs", "2", "--quiet"]


def daily(n: int = 120) -> pd.DataFrame:
    """A weekly season with holidays that double it."""
    times = pd.date_range("2024-01-01", periods=n, freq="D")
    holiday = (np.arange(n) % 10 == 3).astype(int)
    sales = 50 + 10 * np.sin(2 * np.pi * np.arange(n) / 7) + 20 * holiday
    return pd.DataFrame({"date": times.strftime("%Y-%m-%d"), "sales": sales.round(3), "holiday": holiday})


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    daily().to_csv("sales.csv", index=False)


def run(capsys, *arguments: str) -> tuple[list[dict[str, str]], str]:
    status = cli.main(list(arguments))
    shown = capsys.readouterr()
    assert status == 0, shown.err
    return list(csv.DictReader(io.StringIO(shown.out))), shown.err


def fails(capsys, *arguments: str) -> str:
    assert cli.main(list(arguments)) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("numrnn: error: ")
    assert shown.err.count("\n") == 1
    return shown.err


def test_the_forecast_is_that_of_the_class_with_the_times_that_follow(capsys):
    rows, said = run(capsys, "forecast", "sales.csv", "--column", "sales", "--horizon", "3", *QUICK, "--save", "m")
    assert said == ""
    assert list(rows[0]) == ["date", "forecast", "lower_90", "upper_90"]
    assert [row["date"] for row in rows] == ["2024-04-30", "2024-05-01", "2024-05-02"]
    model = numrnn.load("m")
    np.testing.assert_allclose([float(row["forecast"]) for row in rows], model.predict(3), rtol=1e-6)
    bounds = model.predict_interval(3, 0.9)
    np.testing.assert_allclose([float(row["upper_90"]) for row in rows], bounds["upper"], rtol=1e-6)
    assert model.window_length == 12
    assert model.difference == (1,)


def test_progress_and_backtest_go_to_standard_error_and_into_json(capsys):
    arguments = ["forecast", "sales.csv", "--column", "sales", "--horizon", "2", "--units", "4", "--epochs", "2"]
    assert cli.main([*arguments, "--backtest", "10", "--format", "json", "--coverage", "0.5", "0.8"]) == 0
    shown = capsys.readouterr()
    assert "120 time steps of 'sales', 2024-01-01 to 2024-04-29" in shown.err
    assert "training:" in shown.err
    assert "naive forecast" in shown.err
    result = json.loads(shown.out)
    assert list(result["forecast"][0])[2:] == ["lower_50", "upper_50", "lower_80", "upper_80"]
    scores = result["backtest"]
    assert scores["forecasts"] == 5
    # The naive forecasts by hand.
    y = daily()["sales"].to_numpy()
    error = [y[origin + step] - y[origin - 1] for origin in range(110, 120, 2) for step in range(2)]
    assert scores["naive"]["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-6)
    assert scores["naive"]["rmse"] == pytest.approx(np.sqrt(np.square(error).mean()), rel=1e-6)


def test_a_seasonal_naive_backtest_of_an_exact_season_has_no_error(capsys):
    arguments = ["forecast", "sales.csv", "--column", "sales", "--horizon", "20", *QUICK, "--format", "json"]
    table = daily(200)
    table["sales"] -= 20 * table["holiday"]
    table.to_csv("sales.csv", index=False)
    assert cli.main([*arguments, "--backtest", "40", "--seasonality", "7"]) == 0
    assert json.loads(capsys.readouterr().out)["backtest"]["naive"]["mae"] == pytest.approx(0, abs=1e-3)


def test_known_covariates_go_on_after_the_series(capsys):
    table = daily()
    table.loc[table.index[-5:], "sales"] = np.nan
    table.to_csv("sales.csv", index=False)
    arguments = ["forecast", "sales.csv", "--column", "sales", "--known", "holiday", *QUICK, "--save", "m"]
    rows, _ = run(capsys, *arguments, "--horizon", "5")
    assert [row["date"] for row in rows] == table["date"].iloc[-5:].tolist()
    model = numrnn.load("m")
    future = table.set_index(pd.DatetimeIndex(table["date"]))[["holiday"]].iloc[-5:]
    np.testing.assert_allclose([float(row["forecast"]) for row in rows], model.predict(5, future), rtol=1e-6)
    assert "has 5 rows after the last value of 'sales'" in fails(capsys, *arguments, "--horizon", "6")
    # A table of later days: the forecaster goes on without training.
    later = daily(130)
    later.loc[later.index[-6:], "sales"] = np.nan
    later.iloc[100:].to_csv("later.csv", index=False)
    rows, _ = run(capsys, "predict", "m", "later.csv", "--horizon", "4", "--quiet")
    assert rows[0]["date"] == later["date"].iloc[124]
    times = pd.DatetimeIndex(later["date"], name="date")
    new, ahead = slice(115, 124), slice(124, 130)
    model.update(pd.Series(later["sales"].to_numpy()[new], times[new]), later.set_index(times)[["holiday"]][new])
    expected = model.predict(4, later.set_index(times)[["holiday"]][ahead])
    np.testing.assert_allclose([float(row["forecast"]) for row in rows], expected, rtol=1e-6)


def test_several_series(capsys):
    one, other = daily(), daily(100)
    other["sales"] *= 3
    both = pd.concat([one.assign(shop="a"), other.assign(shop="b")])
    both.to_csv("shops.csv", index=False)
    pytest.importorskip("matplotlib").use("agg")
    arguments = ["shops.csv", "--column", "sales", "--id", "shop", "--covariates", "holiday"]
    rows, _ = run(capsys, "forecast", *arguments[:-2], "--horizon", "2", *QUICK, "--plot", "shops.png", "--save", "m")
    assert [(row["shop"], row["date"]) for row in rows] == [
        ("a", "2024-04-30"),
        ("a", "2024-05-01"),
        ("b", "2024-04-10"),
        ("b", "2024-04-11"),
    ]
    assert rows[2]["forecast"] != rows[0]["forecast"]
    with open("shops.png", "rb") as file:
        assert file.read(4) == b"\x89PNG"
    again, said = run(capsys, "predict", "m", *arguments[:-2])
    assert again == rows
    assert said == "220 time steps of 'sales' in 2 series\n0 time steps after those of the forecaster's training\n"
    assert "--id and --column must name" in fails(capsys, "predict", "m", "shops.csv")


def test_other_forms_of_time(capsys):
    hours = pd.date_range("2024-02-28 20:00", periods=80, freq="h")
    parts = {"Year": hours.year, "month": hours.month, "day": hours.day, "hour": hours.hour}
    pd.DataFrame({**parts, "x": np.arange(80) % 6}).to_csv("parts.csv", index=False)
    rows, _ = run(capsys, "forecast", "parts.csv", "--column", "x", "--horizon", "1", *QUICK)
    assert rows[0]["time"] == "2024-03-03 04:00:00"
    rows, _ = run(capsys, "forecast", "parts.csv", "--column", "x", "--horizon", "1", *QUICK, "--no-time")
    assert rows[0]["row"] == "81"
    table = pd.DataFrame({"day": hours[:60].strftime("%d.%m.%Y %H"), "x": np.arange(60) % 6})
    table.to_csv("german.csv", index=False, sep=";")
    arguments = ["forecast", "german.csv", "--column", "x", "--horizon", "1", *QUICK]
    assert "'28.02.2024 20' in row 1 (line 2), where a time was expected as in ISO 8601" in fails(capsys, *arguments)
    rows, _ = run(capsys, *arguments, "--time-format", "%d.%m.%Y %H")
    assert rows[0]["day"] == "2024-03-02 08:00:00"


def test_months_and_business_days_are_regular_steps(capsys):
    for frequency, following in (("MS", "2030-01-01"), ("B", "2020-04-06")):
        times = pd.date_range("2020-01-01", periods=120 if frequency == "MS" else 68, freq=frequency)
        pd.DataFrame({"when": times, "x": np.arange(len(times)) % 6}).to_csv("x.csv", index=False)
        rows, _ = run(capsys, "forecast", "x.csv", "--column", "x", "--horizon", "1", *QUICK)
        assert rows[0]["when"] == following


def test_parquet_is_the_same_table(capsys):
    pytest.importorskip("pyarrow")
    table = daily()
    table["date"] = pd.DatetimeIndex(table["date"])
    table.to_parquet("sales.parquet")
    arguments = ["--column", "sales", "--horizon", "2", *QUICK]
    first, _ = run(capsys, "forecast", "sales.csv", *arguments)
    assert run(capsys, "forecast", "sales.parquet", *arguments)[0] == first


def test_missing_values_and_gaps(capsys):
    table = daily()
    table.loc[50, "sales"] = np.nan
    table.to_csv("sales.csv", index=False)
    arguments = ["forecast", "sales.csv", "--column", "sales", "--horizon", "2"]
    _, said = run(capsys, *arguments, *QUICK[:-1])
    assert "1 of them empty" in said
    assert "missing" in fails(capsys, *arguments, *QUICK, "--missing", "raise")
    table.drop(index=[70, 71]).to_csv("sales.csv", index=False)
    error = fails(capsys, *arguments, *QUICK)
    assert (
        "have a gap: 2024-03-13 in row 71 (line 72) follows 2024-03-10, but most steps are 1 days. --frequency D takes"
        in error
    )
    assert "--frequency" in error
    rows, _ = run(capsys, *arguments, *QUICK, "--frequency", "D")
    assert len(rows) == 2
    table.iloc[[*range(0, 60, 2), *range(66, 100, 2)]].to_csv("sales.csv", index=False)
    assert "most steps are 2 days. --frequency 2D takes" in fails(capsys, *arguments, *QUICK)


def test_a_gap_in_whole_numbers_has_no_frequency(capsys):
    table = daily().assign(date=np.arange(len(daily()))).drop(index=[70, 71])
    table.to_csv("sales.csv", index=False)
    error = fails(capsys, "forecast", "sales.csv", "--column", "sales", "--horizon", "2", *QUICK)
    assert "have a gap: 72 in row 71 (line 72) follows 69, but most steps are 1. --no-time rows" in error


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda text: text, ["--column", "sale"], "has no column 'sale'; did you mean 'sales'?"),
        (lambda text: text, ["--column", "sales", "--covariates", "rain"], "has no column 'rain'"),
        (lambda text: text.replace("50.0,0", "much,0", 1), ["--column", "sales"], "has 'much' in row 1 (line 2)"),
        (lambda text: text, ["--column", "date"], "has '2024-01-01' in row 1 (line 2), where a number"),
        (
            lambda text: text.replace("01-02", "01-01", 1),
            ["--column", "sales"],
            "2024-01-01 in row 2 (line 3) is there twice",
        ),
        (
            lambda text: text.replace("01-03", "01-01", 1),
            ["--column", "sales"],
            "row 3 (line 4) comes after 2024-01-02",
        ),
        (lambda text: text.replace("01-03", "13-03", 1), ["--column", "sales"], "'2024-13-03' in row 3 (line 4)"),
        (lambda text: text[:200], ["--column", "sales"], "is too short"),
        (lambda text: text, ["--column", "sales", "--plot", "a.doc"], "must end in one of"),
        (lambda text: text, ["--column", "sales", "--save", "no/m"], "there is no folder 'no'"),
        (lambda text: text, ["--column", "sales", "--backtest", "1"], "--backtest 1 must be at least the horizon of 2"),
        (lambda text: text, ["--column", "sales", "--no-time", "--calendar", "time_of_week"], "needs time stamps"),
        (lambda text: text, ["--column", "sales", "--frequency", "often"], "frequency must be one that pandas knows"),
    ],
)
def test_errors_say_what_and_where(capsys, tmp_path, change, arguments, message):
    path = tmp_path / "sales.csv"
    text = change(path.read_text())
    path.write_text(text[: text.rindex("\n") + 1])
    assert message in fails(capsys, "forecast", "sales.csv", "--horizon", "2", *arguments, *QUICK)


def test_missing_files_and_packages(capsys, monkeypatch):
    arguments = ["--column", "sales", "--horizon", "2"]
    assert "No such file" in fails(capsys, "forecast", "nothing.csv", *arguments)
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert 'needs pandas, which is not installed: pip install "numrnn[tables]"' in fails(
        capsys, "forecast", "sales.csv", *arguments
    )


def test_the_horizon_is_a_positive_number(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["forecast", "sales.csv", "--column", "sales", "--horizon", "0"])
    assert stopped.value.code == 2
    assert "must be at least 1, got 0" in capsys.readouterr().err
