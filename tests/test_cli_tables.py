"""Tables in files, and what is said of those that are none."""

from __future__ import annotations

import gzip
import io
import sys

import numpy as np
import pytest

from numrnn.commands.sequences import read_samples, read_targets
from numrnn.commands.tables import read_table


@pytest.fixture
def table(tmp_path):
    def write(text: str, name: str = "table.csv", **options):
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_table(str(path), **options)

    return write


def test_cells_become_numbers_and_texts(table):
    read = table('a, b ,"c d"\n1,x,"3,5"\n\n-2.5e3, y ,\n')
    assert list(read.columns) == ["a", "b", "c d"]
    assert len(read) == 2
    assert read.numbers("a").tolist() == [1.0, -2500.0]
    assert read.texts("b") == ["x", "y"]
    assert read.is_missing("c d").tolist() == [False, True]
    assert read.is_numeric("a")
    assert not read.is_numeric("b")
    assert read.place(1) == "row 2 (line 4)"


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_the_separator_is_that_of_the_first_line(table, separator):
    read = table(f"a{separator}b\n1{separator}2\n")
    assert read.numbers("b").tolist() == [2.0]


def test_a_separator_can_be_given(table):
    assert table("a:b,c\n1:2\n", separator=":").numbers("b,c").tolist() == [2.0]


def test_marks_compressed_files_and_the_standard_input(table, tmp_path, monkeypatch):
    assert table("\ufeffa\n1\n").numbers("a").tolist() == [1.0]
    assert table(gzip.compress(b"a\n1\n"), "table.csv.gz").numbers("a").tolist() == [1.0]
    monkeypatch.setattr(sys, "stdin", io.StringIO("a\n1\n"))
    assert read_table("-").numbers("a").tolist() == [1.0]


def test_empty_cells_are_nan(table):
    read = table("a,b\n1,0\nNA,0\n nan ,0\n,0\nNone,0\n")
    np.testing.assert_array_equal(read.numbers("a"), [1.0, *[np.nan] * 4])
    with pytest.raises(ValueError, match=r"the column 'a' is empty in row 2 \(line 3\)"):
        read.complete_numbers("a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty, or its first line is"),
        ("a,b\n", "has no row below the names"),
        ("1,2\n3,4\n", "must hold the names of the columns, but holds numbers: 1, 2"),
        ("a,a\n1,2\n", "two columns have the name 'a'"),
        ("a,\n1,2\n", "no name for column 2"),
        ("a,b\n1,2\n3\n", "line 3 has 1 cell, but the first line names 2 columns"),
        ('a,b\n1,"2\n', "is not CSV"),
        (b"a\n\xff\n", "is not text in UTF-8"),
    ],
)
def test_what_is_no_table(table, text, message):
    with pytest.raises(ValueError, match=message):
        table(text)


def test_wrong_names_of_files(table, tmp_path):
    with pytest.raises(ValueError, match=r"ending that is not known: tables are read from \.csv"):
        table("a\n1\n", "table.xlsx")
    with pytest.raises(FileNotFoundError):
        read_table(str(tmp_path / "nothing.csv"))
    with pytest.raises(ValueError, match="is not a gzip file"):
        table("a\n1\n", "table.csv.gz")


def test_a_cell_that_is_no_number_is_named_with_its_row(table):
    read = table("pm25,b\n1,0\n2,0\nhigh,0\ninf,0\n")
    with pytest.raises(ValueError, match=r"the column 'pm25' has 'high' in row 3 \(line 4\), where a number"):
        read.numbers("pm25")
    with pytest.raises(ValueError, match=r"has no column 'pm2.5'; did you mean 'pm25'\? Its columns are: pm25, b"):
        read.numbers("pm2.5")
    with pytest.raises(ValueError, match="infinite in row 2"):
        table("a\n1\ninf\n").numbers("a")


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = str(tmp_path / "table.parquet")
    times = np.array(["2024-01-01", "2024-01-02"], dtype="datetime64[s]")
    parquet.write_table(pyarrow.table({"n": [1, None], "x": [0.5, 1.5], "s": ["a", None], "t": times}), path)
    read = read_table(path)
    np.testing.assert_array_equal(read.numbers("n"), [1.0, np.nan])
    assert read.numbers("x").tolist() == [0.5, 1.5]
    assert read.column("t").dtype.kind == "M"
    assert read.place(1) == "row 2"
    with pytest.raises(ValueError, match="the column 's' is empty in row 2"):
        read.texts("s")
    with pytest.raises(ValueError, match="holds times, where numbers were expected"):
        read.numbers("t")
    (tmp_path / "other.parquet").write_text("a\n1\n")
    with pytest.raises(ValueError, match="is not a Parquet file"):
        read_table(str(tmp_path / "other.parquet"))


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    (tmp_path / "table.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r'pip install "numrnn\[tables\]"'):
        read_table(str(tmp_path / "table.parquet"))


# --------------------------------------------------------------------------------------------------------- sequences
def test_wide_rows_are_sequences(table):
    read = table("y,t1,t2,t3\n0,1,2,3\n1,4,5,6\n")
    samples = read_samples(read, id=None, time=None, features=None, apart=["y"])
    assert samples.X.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert samples.names == [1, 2]
    assert samples.features == ["t1", "t2", "t3"]


def test_wide_rows_may_end_early_but_have_no_holes(table):
    samples = read_samples(table("t1,t2,t3\n1,2,\n4,5,6\n7,,\n"), id=None, time=None, features=None)
    assert [sequence.ravel().tolist() for sequence in samples.X] == [[1, 2], [4, 5, 6], [7]]
    with pytest.raises(ValueError, match=r"'t2' is empty in row 2 \(line 3\), but later columns are not"):
        read_samples(table("t1,t2,t3\n1,2,3\n4,,6\n"), id=None, time=None, features=None)
    with pytest.raises(ValueError, match=r"row 1 .* has no value at all"):
        read_samples(table("t1,t2\n,\n"), id=None, time=None, features=None)


@pytest.mark.parametrize("times", [("2", "1", "10"), ("2024-01-02", "2024-01-01 23:00", "2024-02-01Z")])
def test_long_rows_are_time_steps(table, times):
    second, first, third = times
    read = table(f"id,t,a,b\nx,{second},1,2\ny,{first},9,9\nx,{first},3,4\nx,{third},5,6\n")
    samples = read_samples(read, id="id", time="t", features=None)
    assert samples.names == ["x", "y"]
    assert [sequence.tolist() for sequence in samples.X] == [[[3, 4], [1, 2], [5, 6]], [[9, 9]]]
    unsorted = read_samples(read, id="id", time=None, features=["b"])
    assert [sequence.tolist() for sequence in unsorted.X] == [[[2], [4], [6]], [[9]]]


def test_long_tables_with_faults(table):
    read = table("id,t,a\nx,1,1\nx,1,2\n")
    with pytest.raises(ValueError, match=r"row 1 \(line 2\) and row 2 \(line 3\) of 'x' have the same time"):
        read_samples(read, id="id", time="t", features=None)
    with pytest.raises(ValueError, match="the column 't' cannot be a feature"):
        read_samples(read, id="id", time="t", features=["t"])
    with pytest.raises(ValueError, match="has no column left"):
        read_samples(read, id="id", time="t", features=None, apart=["a"])
    with pytest.raises(ValueError, match="which --id must name"):
        read_samples(read, id=None, time="t", features=None)
    with pytest.raises(ValueError, match=r"time 't' is 'noon' in row 2"):
        read_samples(table("id,t,a\nx,2024-01-01,1\nx,noon,2\n"), id="id", time="t", features=None)


@pytest.mark.parametrize(
    ("cells", "task", "expected"),
    [
        (("no", "none"), "classification", ["no", "none"]),
        (("1", "2"), "classification", [1, 2]),
        (("1", "2.5"), "regression", [1.0, 2.5]),
    ],
)
def test_targets_tell_the_task(table, cells, task, expected):
    read = table(f"id,a,y\nx,1,{cells[0]}\nx,2,{cells[0]}\nz,3,{cells[1]}\n")
    samples = read_samples(read, id="id", time=None, features=None, apart=["y"])
    found, y = read_targets(read, samples, "y", None)
    assert found == task
    assert y.tolist() == expected


def test_a_sequence_has_one_target(table):
    read = table("id,a,y\nx,1,no\nx,2,yes\n")
    samples = read_samples(read, id="id", time=None, features=None, apart=["y"])
    with pytest.raises(ValueError, match=r"'y' of 'x' is no in row 1 \(line 2\), but yes in row 2 \(line 3\)"):
        read_targets(read, samples, "y", None)
    with pytest.raises(ValueError, match=r"the column 'y' has 'no' in row 1 \(line 2\), where a number"):
        read_targets(read, samples, "y", "regression")
