"""The readers of the experiments on text and DNA."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.experiments import data  # noqa: E402
from benchmarks.experiments.dna import bases_and_places  # noqa: E402

sys.path.remove(str(ROOT))


@pytest.fixture(autouse=True)
def _nothing_is_remembered():
    data.read_imdb.cache_clear()
    yield
    data.read_imdb.cache_clear()


def write(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())


def test_film_reviews(tmp_path):
    write(
        tmp_path / "imdb", "imdb_train.tsv.gz", "label\tid\trating\ttext\n0\t0\t3\tBad\u2028\x85film\n1\t0\t8\tGood\n"
    )
    write(tmp_path / "imdb", "imdb_test.tsv.gz", "label\tid\trating\ttext\n1\t7\t9\tNice\n")
    texts, y, texts_test, y_test = data.read_imdb(tmp_path)
    assert texts == ["Bad\u2028\x85film", "Good"]  # only line feeds end a review
    assert y.tolist() == ["negative", "positive"]
    assert (texts_test, y_test.tolist()) == (["Nice"], ["positive"])


@pytest.mark.parametrize("line", ["0\t0\t3", "2\t0\t3\tfilm", "0\t0\t3\tfilm\tfilm"])
def test_broken_film_reviews(tmp_path, line):
    write(tmp_path / "imdb", "imdb_train.tsv.gz", f"label\tid\trating\ttext\n0\t0\t3\tfilm\n{line}\n")
    with pytest.raises(ValueError, match=r"imdb_train\.tsv\.gz, line 3: expected label, number, rating and text"):
        data.read_imdb(tmp_path)


def test_surnames(tmp_path):
    write(tmp_path / "names", "Polish.txt", "Słowik\n\n  Wójcik \n")
    write(tmp_path / "names", "Czech.txt", "Novák\nNovák")
    write(tmp_path / "names", "SOURCE.txt", "somewhere\n")
    names, languages = data.read_surnames(tmp_path)
    assert names == ["Novák", "Novák", "Słowik", "Wójcik"]
    assert languages.tolist() == ["Czech", "Czech", "Polish", "Polish"]


def test_splice_junctions(tmp_path):
    write(tmp_path / "dna", "splice.data.gz", f"EI,   NAME-1,   {'ACGT' * 15}\n\nN, NAME-2,{'A' * 60}\n")
    bases, y = data.read_splice(tmp_path)
    assert bases == ["ACGT" * 15, "A" * 60]
    assert y.tolist() == ["EI", "N"]
    write(tmp_path / "dna", "splice.data.gz", f"EI, NAME, {'A' * 59}\n")
    with pytest.raises(ValueError, match=r"splice\.data\.gz, line 1: expected a class"):
        data.read_splice(tmp_path)


def test_bases_know_their_places():
    assert bases_and_places("ACA") == ["A0", "C1", "A2"]
