"""`numrnn text` as somebody at a terminal uses it."""

from __future__ import annotations

import json

import pytest

import numrnn
from numrnn import cli

RHYME = "peter piper picked a peck of pickled peppers.\n"
SMALL = ["--units", "16", "--batch-size", "4", "--bptt-steps", "20", "--learning-rate", "0.02"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    (folder / "rhyme.txt").write_text(RHYME * 30, encoding="utf-8")
    (folder / "names.txt").write_text("anna\nhanna\n\njohanna\n" * 20, encoding="utf-8")
    arguments = ["text", "train", str(folder / "rhyme.txt"), "--output", str(folder / "model"), *SMALL]
    assert cli.main([*arguments, "--epochs", "6", "--checkpoint", str(folder / "latest"), "--sample", "30"]) == 0
    return folder


def test_training_tells_what_it_does_and_writes_the_model(folder, capsys):
    arguments = ["text", "train", str(folder / "rhyme.txt"), "--output", str(folder / "again"), *SMALL]
    assert cli.main([*arguments, "--epochs", "2", "--sample", "30"]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert lines[0].startswith("1,242 characters to learn from, 138 others")
    assert "parameters, " in lines[1]
    assert lines[2].startswith("epoch 1/2, loss ")
    for word in ("validation", "bits", "characters/s", "s left"):
        assert word in lines[2]
    assert lines[3].startswith("p")
    assert numrnn.load(folder / "again").hidden_layer_sizes == (16,)


def test_a_checkpoint_goes_on_where_it_was(folder, capsys):
    arguments = ["text", "train", str(folder / "rhyme.txt"), "--output", str(folder / "other"), *SMALL]
    assert cli.main([*arguments, "--epochs", "8", "--resume", str(folder / "latest")]) == 0
    assert "epoch 7/8" in capsys.readouterr().err
    assert len(numrnn.load(folder / "other").loss_curve_) in (7, 8)


def test_writing(folder, capsys):
    arguments = ["text", "sample", str(folder / "model"), "--prompt", "peter", "--length", "40"]
    assert cli.main([*arguments, "--temperature", "0"]) == 0
    first = capsys.readouterr()
    assert len(first.out) == 41
    assert first.err == ""
    assert cli.main([*arguments, "--seed", "1", "--number", "3"]) == 0
    assert len(capsys.readouterr().out) == 3 * 41
    assert cli.main([*arguments, "--temperature", "0", "--stop", first.out[10]]) == 0
    assert len(capsys.readouterr().out) <= 11


def test_judgement_is_json(folder, capsys):
    assert cli.main(["text", "score", str(folder / "model"), str(folder / "rhyme.txt")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["perplexity"] > 1
    assert result["bits_per_character"] > 0
    assert result["log_likelihood_per_symbol"] < 0


def test_lines_are_texts(folder, capsys):
    arguments = ["text", "train", str(folder / "names.txt"), "--output", str(folder / "names"), "--lines", *SMALL]
    assert cli.main([*arguments, "--epochs", "2", "--validation", "0", "--sample", "10"]) == 0
    assert cli.main(["text", "sample", str(folder / "names"), "--seed", "0"]) == 0
    assert cli.main(["text", "score", str(folder / "names"), str(folder / "names.txt")]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "{}/nothing.txt", "--output", "{}/m"], "No such file"),
        (["train", "{}/empty.txt", "--output", "{}/m"], "has no text in it"),
        (["sample", "{}/rhyme.txt"], "is not a model file"),
        (["sample", "{}/model", "--temperature", "-1"], "temperature must be"),
        (["sample", "{}/model", "--prompt", "Z"], "'Z', is not one of"),
        (["sample", "{}/model", "--top-p", "2"], "top_p must be"),
        (["score", "{}/classifier", "{}/rhyme.txt"], "is a RNNClassifier, not a language model"),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_errors_are_one_line(folder, capsys, arguments, message):
    (folder / "empty.txt").write_text(" \n")
    if "{}/classifier" in arguments:
        model = numrnn.RNNClassifier((2,), max_iter=1, tol=0.0)
        model.fit([[0.0, 1.0], [1.0, 0.0]], [0, 1]).save(folder / "classifier")
    assert cli.main(["text", *(argument.format(folder) for argument in arguments)]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("numrnn: error: ")
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["text", "--help"])
    assert end.value.code == 0
    assert "numrnn text sample book.model" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        cli.main(["text", "train", "x", "--output", "y", "--dropout", "1"])
    assert end.value.code == 2
