"""The experiments with language models go through, on little data of our own."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.experiments.language import __main__ as command  # noqa: E402
from benchmarks.experiments.language import report  # noqa: E402
from benchmarks.experiments.language.labelled import MarkovChain  # noqa: E402

sys.path.remove(str(ROOT))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name in ("tinyshakespeare", "names", "dna"):
        (folder / name).mkdir()
    text = "ROMEO:\nWhat light through yonder window breaks?\n\nKING:\nIt is the east, and Juliet is the sun.\n\n"
    with gzip.open(folder / "tinyshakespeare" / "input.txt.gz", "wt", encoding="utf-8") as file:
        file.write(text * 300)
    rng = np.random.default_rng(0)
    for language, letters in (("Polish", "kiwsz"), ("Greek", "aeops")):
        names = {"".join(rng.choice(list(letters), rng.integers(3, 8))) for _ in range(60)}
        (folder / "names" / f"{language}.txt").write_text("\n".join(sorted(names)))
    pieces = [(kind, "".join(rng.choice(list("ACGT"), 60))) for kind in ("EI", "IE", "N") for _ in range(8)]
    lines = [f"{kind}, NAME-{number}, {piece}" for number, (kind, piece) in enumerate(pieces)]
    lines.append(f"EI, NAME, {'ACGN' * 15}")
    (folder / "dna" / "splice.data.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return folder


@pytest.mark.parametrize("name", ["small", "best", "words", "surnames", "dna"])
def test_quick_runs(folder, name, capsys, monkeypatch):
    # The networks of the real runs take their time to compile for nothing but a test.
    monkeypatch.setitem(command.characters.NETWORKS, "small", ((8,), 0.0, 1))
    monkeypatch.setitem(command.characters.BEST, "hidden_layer_sizes", (8, 8))
    assert command.main([name, "--data", str(folder), "--quick", "--n-jobs", "1"]) == 0
    shown = capsys.readouterr().out
    expected = {
        "small": "numrnn writes",
        "best": "parameters, 0.",
        "words": "(frequencies alone",
        "surnames": "of the written names are new",
        "dna": "(Markov chain of order 1",
    }
    assert expected[name] in shown


def test_what_is_written_and_what_is_refused(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    path = report.write({"name": "language_small", "numrnn": {"epochs": []}})
    assert json.loads(path.read_text()) == {"name": "language_small", "numrnn": {"epochs": []}}
    with pytest.raises(SystemExit):
        command.main(["small", "--data", str(folder), "--quick", "--write"])
    assert command.main(["small", "--data", str(tmp_path)]) == 1
    assert "there is no data set 'tinyshakespeare'" in capsys.readouterr().err


def test_a_markov_chain_is_a_distribution():
    chain = MarkovChain(2).fit(["a", "a", "b"], ["xy", "xxy", "y"])
    # All sequences of at most 14 symbols have nearly all of the probability. (Three symbols and one never seen.)
    total = sum(
        math.exp(chain.log_likelihood("a", sequence))
        for length in range(15)
        for sequence in itertools.product("xy", repeat=length)
    )
    assert 0.8 < total < 1
    assert chain.log_likelihood("a", "xy") > chain.log_likelihood("b", "xy")
    # By hand: "y" as the first symbol of kind "b", by contexts of 0, 1 and 2 symbols, and the end likewise.
    first, end = 1 / 4, 1 / 4
    for counted_first, n_first, kinds in ((1, 2, 2), (1, 1, 1), (1, 1, 1)):
        first = (counted_first + kinds * first) / (n_first + kinds)
        end = (counted_first + kinds * end) / (n_first + kinds)
    assert chain.log_likelihood("b", "y") == pytest.approx(math.log(first) + math.log(end))
