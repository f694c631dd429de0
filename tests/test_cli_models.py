"""`numrnn fit`, `numrnn predict` and `numrnn info` as somebody at a terminal uses them."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

import numrnn
from numrnn import cli

QUICK = ["--units", "4", "--epochs", "3", "--quiet"]


def long_table(n: int = 40) -> str:
    """Runs that heat up or do not, far from zero and of very different scales."""
    rng = np.random.default_rng(0)
    lines = ["run,second,heat,noise,fault,cost"]
    for run in range(n):
        fault, length = run % 2, int(rng.integers(3, 9))
        heat = 800 + rng.normal(0, 2, length) + fault * np.linspace(0, 80, length)
        for second in range(length):
            noise = rng.normal(0, 0.01)
            lines.append(f"r{run},{second},{heat[second]:.2f},{noise:.4f},{'leak' if fault else 'none'},{length}.5")
    return "\n".join(lines) + "\n"


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs.csv").write_text(long_table())


def run(capsys, *arguments: str) -> str:
    status = cli.main(list(arguments))
    shown = capsys.readouterr()
    assert status == 0, shown.err
    return shown.out


def fails(capsys, *arguments: str) -> str:
    assert cli.main(list(arguments)) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("numrnn: error: ")
    assert shown.err.count("\n") == 1
    return shown.err


FIT = ["fit", "runs.csv", "--id", "run", "--time", "second", "--features", "heat", "noise", "--save", "m"]


def test_a_classifier_learns_what_the_table_says(capsys):
    arguments = [*FIT, "--target", "fault", "--units", "8", "--epochs", "40", "--quiet", "--cell", "gru"]
    result = json.loads(run(capsys, *arguments))
    assert result["task"] == "classification"
    assert result["sequences"] == 32
    assert result["test"]["sequences"] == 8
    assert result["test"]["accuracy"] == 1.0
    assert result["test"]["accuracy_of_most_frequent_class"] == 0.5
    rows = list(csv.DictReader(io.StringIO(run(capsys, "predict", "m", "runs.csv", "--id", "run", "--probabilities"))))
    assert [row["run"] for row in rows] == [f"r{number}" for number in range(40)]
    assert [row["prediction"] for row in rows] == ["none", "leak"] * 20
    for row in rows:
        assert float(row["probability_leak"]) + float(row["probability_none"]) == pytest.approx(1, abs=1e-5)
    said = dict(line.split(maxsplit=1) for line in run(capsys, "info", "m").splitlines())
    assert said["model"] == "RNNClassifier"
    assert said["cell"] == "gru"
    assert said["columns"] == "heat, noise"
    assert said["classes"] == "leak, none"
    described = json.loads(run(capsys, "info", "m", "--format", "json"))
    assert described["units"] == [8]


def test_a_tagger_of_words_labels_the_rows_of_a_table_in_their_order(capsys, tmp_path):
    sentences = [(["the", "dog", "barks"], "DNV"), (["a", "cat", "sleeps"], "DNV"), (["dogs", "sleep"], "NV")] * 8
    lines = ["sentence,word,tag"]
    for place in range(3):  # word by word of all sentences: rows of a sentence do not lie together
        for number, (words, tags) in enumerate(sentences):
            if place < len(words):
                lines.append(f"s{number},{words[place]},{tags[place]}")
    (tmp_path / "words.csv").write_text("\n".join(lines) + "\n")
    fit = ["fit", "words.csv", "--id", "sentence", "--target", "tag", "--per-step", "--save", "m", "--quiet"]
    result = json.loads(run(capsys, *fit, "--units", "8", "--epochs", "30", "--bidirectional", "--batch-size", "4"))
    assert result["sequences"] == 19 and result["test"]["sequences"] == 5
    assert result["test"]["accuracy"] == 1.0
    assert 10 <= result["test"]["time_steps"] <= 15
    shown = run(capsys, "predict", "m", "words.csv", "--id", "sentence", "--probabilities")
    rows = list(csv.DictReader(io.StringIO(shown)))
    assert [f"{row['sentence']},{row['word']},{row['prediction']}" for row in rows] == lines[1:]
    for row in rows:
        shares = {tag: float(row[f"probability_{tag}"]) for tag in "DNV"}
        assert max(shares, key=shares.get) == row["prediction"]
    assert "RNNTagger" in run(capsys, "info", "m")
    assert "--id must name" in fails(capsys, "predict", "m", "words.csv")
    assert "is a tagger, for which there is no --plot" in fails(capsys, "predict", "m", "words.csv", "--plot", "a.png")


def test_numbers_for_every_time_step_are_those_of_the_estimator(capsys):
    columns = ["--id", "run", "--features", "second", "noise", "--target", "heat", "--per-step"]
    fit = ["fit", "runs.csv", *columns, "--save", "m", *QUICK]
    result = json.loads(run(capsys, *fit))
    assert result["task"] == "regression"
    assert set(result["test"]) >= {"time_steps", "mean_absolute_error", "mean_absolute_error_of_median"}
    rows = list(csv.DictReader(io.StringIO(run(capsys, "predict", "m", "runs.csv", "--id", "run"))))
    table = list(csv.DictReader(io.StringIO(long_table())))
    assert [row["run"] for row in rows] == [row["run"] for row in table]
    model = numrnn.load("m")
    X = [[float(row["second"]), float(row["noise"])] for row in table if row["run"] == "r3"]
    expected = model.predict([np.array(X)])[0]
    shown = [float(row["prediction"]) for row in rows if row["run"] == "r3"]
    np.testing.assert_allclose(shown, expected, rtol=1e-5)
    assert "a sequence has one target, unless --per-step" in fails(
        capsys, "fit", "runs.csv", "--id", "run", "--features", "noise", "--target", "heat", "--save", "m"
    )
    assert "--id must name the column of their sequences" in fails(
        capsys, "fit", "runs.csv", "--target", "heat", "--per-step", "--save", "m"
    )
    assert "--pooling max joins all time steps" in fails(capsys, *fit, "--pooling", "max")


@pytest.mark.parametrize("options", [["--cell", "lstm", "--units", "5", "3"], ["--cell", "gru", "--bidirectional"]])
def test_scales_are_part_of_the_weights(capsys, options):
    """The file reads features as they are and predicts what a network of scaled features would."""
    arguments = [*FIT, "--target", "cost", "--test", "0", "--quiet", "--epochs", "2", "--units", "4", *options]
    result = json.loads(run(capsys, *arguments))
    assert result["task"] == "regression"
    assert "test" not in result
    rows = [line.split(",") for line in long_table().splitlines()[1:]]
    names = list(dict.fromkeys(row[0] for row in rows))
    X = [np.array([[float(row[2]), float(row[3])] for row in rows if row[0] == name]) for name in names]
    y = np.array([next(float(row[5]) for row in rows if row[0] == name) for name in names])
    values = np.concatenate(X)
    X = [(sequence - values.mean(axis=0)) / values.std(axis=0) for sequence in X]
    model = numrnn.RNNRegressor(**numrnn.load("m").get_params()).set_params(verbose=False)
    with pytest.warns(match="Maximum iterations"):
        expected = model.fit(X, y).predict(X)
    found = [
        float(row["prediction"])
        for row in csv.DictReader(io.StringIO(run(capsys, "predict", "m", "runs.csv", "--id", "run")))
    ]
    np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_rows_as_sequences(capsys, tmp_path):
    rng = np.random.default_rng(1)
    rows = [
        ",".join(["up" if k % 2 else "down", *(f"{500 + (2 * (k % 2) - 1) * t + rng.normal():.2f}" for t in range(6))])
        for k in range(20)
    ]
    (tmp_path / "wide.csv").write_text("\n".join(["way,a,b,c,d,e,f", *rows]) + "\n")
    result = json.loads(
        run(capsys, "fit", "wide.csv", "--target", "way", "--save", "m", "--epochs", "30", "--units", "8", "--quiet")
    )
    assert result["test"]["accuracy"] == 1.0
    predicted = json.loads(run(capsys, "predict", "m", "wide.csv", "--format", "json"))["predictions"]
    assert predicted[:2] == [{"row": 1, "prediction": "down"}, {"row": 2, "prediction": "up"}]
    (tmp_path / "short.csv").write_text("a,b,c,d,e,f\n1,2,3,,,\n")
    assert "row 1 (line 2) has 3 time steps, but 'm' was fitted on sequences of 6" in fails(
        capsys, "predict", "m", "short.csv"
    )
    # Of different lengths.
    (tmp_path / "wide.csv").write_text("\n".join(["way,a,b,c,d,e,f", *rows, "up,1,2,,,,"]) + "\n")
    run(capsys, "fit", "wide.csv", "--target", "way", "--save", "m", *QUICK)
    assert len(run(capsys, "predict", "m", "wide.csv").splitlines()) == 22
    assert len(run(capsys, "predict", "m", "short.csv").splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "runs.csv", "--target", "faults", "--save", "m"], "did you mean 'fault'?"),
        (["fit", "runs.csv", "--target", "fault", "--save", "m"], "the column 'run' has 'r0' in row 1 (line 2)"),
        (["fit", "runs.csv", "--target", "fault", "--save", "m", "--id", "r"], "has no column 'r'"),
        (["fit", "runs.csv", "--target", "second", "--save", "m", "--id", "run", "--features", "heat"],
         "'second' of 'r0' is 0 in row 1"),
        (["fit", "runs.csv", "--target", "fault", "--save", "no/m", "--id", "run"], "there is no folder 'no'"),
        (["fit", "runs.txt", "--target", "fault", "--save", "m"], "No such file"),
        (["fit", "runs.xls", "--target", "fault", "--save", "m"], "has an ending that is not known"),
        (["predict", "runs.csv", "runs.csv"], "is not a model file"),
        (["info", "nothing"], "No such file"),
        (["info", "runs.csv"], "is not a model file"),
    ],
)  # fmt: skip
def test_errors_say_what_and_where(capsys, arguments, message):
    assert message in fails(capsys, *arguments)


def test_models_that_do_not_fit_the_question(capsys, tmp_path):
    run(capsys, *FIT, "--target", "cost", *QUICK)
    assert "reads 2 features in every time step, a row for each: --id must name" in fails(
        capsys, "predict", "m", "runs.csv"
    )
    assert "is a regressor, for which there is no --probabilities" in fails(
        capsys, "predict", "m", "runs.csv", "--id", "run", "--probabilities"
    )
    assert "is a regressor, for which there is no --horizon" in fails(
        capsys, "predict", "m", "runs.csv", "--horizon", "2"
    )
    (tmp_path / "other.csv").write_text("run,heat\nr,1\n")
    assert "has no column 'noise'" in fails(capsys, "predict", "m", "other.csv", "--id", "run")
    model = numrnn.RNNLanguageModel((4,), max_iter=1, tol=0.0, random_state=0)
    with pytest.warns(match="Maximum number of epochs"):
        model.fit("abab" * 100)
    model.save("language")
    assert "or numrnn text" in fails(capsys, "predict", "language", "runs.csv")
    assert "symbols" in run(capsys, "info", "language")
