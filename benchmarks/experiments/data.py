"""Readers of the data sets: files to arrays, nothing scaled, official splits."""

from __future__ import annotations

import csv
import gzip
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DataNotFound",
    "NabSeries",
    "data_folder",
    "folder_of",
    "read_conllu",
    "read_idx",
    "read_imdb",
    "read_mnist",
    "read_multi30k",
    "read_nab",
    "read_splice",
    "read_surnames",
    "read_ts",
    "read_ucr_uea",
]

_BESIDE_THE_REPOSITORY = Path(__file__).resolve().parents[3] / "shared" / "data"
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


class DataNotFound(FileNotFoundError):
    """The data of an experiment is not on this machine."""


def data_folder(given: str | os.PathLike[str] | None = None) -> Path:
    """The folder that holds the data sets.

    Parameters
    ----------
    given : path-like, default=None
        None is the environment variable NUMRNN_DATA, and without it ``shared/data`` beside the repository.

    Raises
    ------
    DataNotFound
        If there is no such folder.
    """
    asked = given if given is not None else os.environ.get("NUMRNN_DATA")
    folder = Path(asked) if asked else _BESIDE_THE_REPOSITORY
    if not folder.is_dir():
        raise DataNotFound(
            f"there is no folder {folder}; expected one that holds the data sets (mnist, ucr_uea, ...): name it by "
            "--data DIR or by the environment variable NUMRNN_DATA"
        )
    return folder


def folder_of(data: Path, name: str) -> Path:
    """The folder of one data set.

    Raises
    ------
    DataNotFound
        If it is not there.
    """
    folder = data / name
    if not folder.is_dir():
        there = sorted(path.name for path in data.iterdir() if path.is_dir())
        raise DataNotFound(f"there is no data set {name!r} in {data}, which holds {', '.join(there) or 'nothing'}")
    return folder


def read_idx(path: Path) -> NDArray:
    """An array from a file in the idx format of MNIST, compressed by gzip.

    Raises
    ------
    ValueError
        If the file is not of that format, or is not complete.
    """
    content = gzip.decompress(path.read_bytes())
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise ValueError(f"{path} is no idx file: it begins with {content[:4]!r}, expected 0, 0, type, rank")
    rank = content[3]
    shape = tuple(int(size) for size in np.frombuffer(content, dtype=">u4", count=rank, offset=4))
    values = np.frombuffer(content, dtype=_IDX_TYPES[content[2]], offset=4 + 4 * rank)
    if values.size != int(np.prod(shape)):
        raise ValueError(f"{path} has {values.size} values, expected {int(np.prod(shape))} of an array {shape}")
    return values.reshape(shape)


@lru_cache(maxsize=1)
def read_mnist(data: Path) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Handwritten digits.

    Returns
    -------
    X_train, y_train, X_test, y_test
        60,000 and 10,000 images (n, 28, 28) with values from 0 (paper) to 1 (ink), and their digits.
    """
    folder = folder_of(data, "mnist")
    parts: list[NDArray] = []
    for part in ("train", "t10k"):
        parts.append(read_idx(folder / f"{part}-images-idx3-ubyte.gz").astype(np.float32) / np.float32(255))
        parts.append(read_idx(folder / f"{part}-labels-idx1-ubyte.gz").astype(np.int64))
    return parts[0], parts[1], parts[2], parts[3]


def _text(path: Path) -> str:
    """The text of a file in UTF-8, compressed by gzip or not; only line feeds end a line."""
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")


def read_ts(path: Path) -> tuple[list[NDArray[np.float64]], NDArray]:
    """Time series and class labels from a file in the ts format of the UCR/UEA archive, compressed by gzip or not.

    Returns
    -------
    X : list of ndarray of shape (n_timesteps_i, n_dimensions)
    y : ndarray of str, shape (n_samples,)

    Raises
    ------
    ValueError
        If a case has no label, another number of dimensions than the others, or dimensions of different lengths.
    """
    X: list[NDArray[np.float64]] = []
    labels: list[str] = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        line = line.strip()
        if not line or line[0] in "#@":
            continue
        *dimensions, label = line.split(":")
        if not dimensions:
            raise ValueError(f"{path}, line {number}: expected dimensions and a label with ':' between them")
        columns = [np.array(dimension.split(","), dtype=np.float64) for dimension in dimensions]
        if len({len(column) for column in columns}) > 1 or (X and len(columns) != X[0].shape[1]):
            raise ValueError(f"{path}, line {number}: dimensions that are not like those of the other cases")
        X.append(np.column_stack(columns))
        labels.append(label)
    return X, np.array(labels)


def read_ucr_uea(
    data: Path, name: str
) -> tuple[list[NDArray[np.float64]], NDArray, list[NDArray[np.float64]], NDArray]:
    """Training and test part of a data set of the UCR/UEA archive: X_train, y_train, X_test, y_test as of `read_ts`."""
    folder = folder_of(folder_of(data, "ucr_uea"), name)
    return (*read_ts(folder / f"{name}_TRAIN.ts.gz"), *read_ts(folder / f"{name}_TEST.ts.gz"))


@lru_cache(maxsize=1)
def read_imdb(data: Path) -> tuple[list[str], NDArray, list[str], NDArray]:
    """Film reviews and whether they are "positive" or "negative".

    Returns
    -------
    texts_train, y_train, texts_test, y_test
        25,000 reviews each, as many of one kind as of the other.

    Raises
    ------
    ValueError
        If a line is not label, number, rating and text with tabs between them.
    """
    parts: list[Any] = []
    for part in ("train", "test"):
        path = folder_of(data, "imdb") / f"imdb_{part}.tsv.gz"
        texts, labels = [], []
        for number, line in enumerate(_text(path).split("\n")[1:], start=2):
            if not line:
                continue
            fields = line.split("\t")
            if len(fields) != 4 or fields[0] not in ("0", "1"):
                raise ValueError(
                    f"{path}, line {number}: expected label, number, rating and text with tabs between them"
                )
            labels.append(("negative", "positive")[int(fields[0])])
            texts.append(fields[3])
        parts += [texts, np.array(labels)]
    return parts[0], parts[1], parts[2], parts[3]


def read_multi30k(data: Path, part: str, language: str) -> list[str]:
    """Captions of Multi30k, tokenised and in lower case, one for each line of the file of the other language.

    Parameters
    ----------
    data : Path
    part : {"train", "val", "test_2016_flickr"}
    language : {"de", "en"}
    """
    lines = _text(folder_of(data, "multi30k") / f"{part}.lc.norm.tok.{language}.gz").split("\n")
    return [line.strip() for line in (lines[:-1] if not lines[-1] else lines)]


def read_surnames(data: Path) -> tuple[list[str], NDArray]:
    """Surnames in the order of the files, and their languages, which are the names of the files."""
    names, languages = [], []
    for path in sorted(folder_of(data, "names").glob("[A-Z]*.txt")):
        if path.name == "SOURCE.txt":
            continue
        found = [line.strip() for line in _text(path).split("\n") if line.strip()]
        names += found
        languages += [path.stem] * len(found)
    return names, np.array(languages)


def read_splice(data: Path) -> tuple[list[str], NDArray]:
    """Pieces of DNA, 60 bases each, and the kind of their middle.

    Returns
    -------
    bases : list of str
        Of A, C, G and T; rarely D, N, R or S, which stand for one of several.
    y : ndarray of str
        "EI": the end of an exon, at which splicing begins; "IE": that of an intron; "N": neither.

    Raises
    ------
    ValueError
        If a line is not class, name and 60 bases.
    """
    path = folder_of(data, "dna") / "splice.data.gz"
    bases, labels = [], []
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != 3 or fields[0] not in ("EI", "IE", "N") or len(fields[2]) != 60:
            raise ValueError(f"{path}, line {number}: expected a class (EI, IE, N), a name and 60 bases")
        labels.append(fields[0])
        bases.append(fields[2])
    return bases, np.array(labels)


def read_conllu(path: Path) -> tuple[list[list[str]], list[list[str]]]:
    """Words and universal part-of-speech tags from a file in the CoNLL-U format, compressed by gzip.

    Multiword tokens (``3-4``) and empty nodes (``5.1``) are left out: the words they stand for or beside have lines
    of their own.

    Returns
    -------
    words, tags : list of list of str
        Of every sentence.

    Raises
    ------
    ValueError
        If a line has not ten columns.
    """
    words: list[list[str]] = [[]]
    tags: list[list[str]] = [[]]
    for number, line in enumerate(gzip.decompress(path.read_bytes()).decode("utf-8").split("\n"), start=1):
        if line.startswith("#"):
            continue
        if not line:
            if words[-1]:
                words.append([])
                tags.append([])
            continue
        columns = line.split("\t")
        if len(columns) != 10:
            raise ValueError(f"{path}, line {number}: expected 10 columns, found {len(columns)}")
        if columns[0].isdecimal():
            words[-1].append(columns[1])
            tags[-1].append(columns[3])
    return (words, tags) if words[-1] else (words[:-1], tags[:-1])


@dataclass(frozen=True)
class NabSeries:
    """A series of the Numenta Anomaly Benchmark, and the windows of time (both ends included) marked as anomalous."""

    times: NDArray[np.datetime64]
    values: NDArray[np.float64]
    windows: list[tuple[np.datetime64, np.datetime64]]


def read_nab(data: Path) -> dict[str, NabSeries]:
    """The series that are there, by their names in the benchmark, such as "realKnownCause/nyc_taxi.csv".

    Their order is that of the rows, times may be doubled or missing.

    Raises
    ------
    DataNotFound
        If there is no series.
    """
    folder = folder_of(data, "nab")
    windows = json.loads((folder / "labels" / "combined_windows.json").read_text(encoding="utf-8"))
    found = {}
    for path in sorted((folder / "data").glob("*/*.csv.gz")):
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        name = f"{path.parent.name}/{path.name.removesuffix('.gz')}"
        marked = [(np.datetime64(begin), np.datetime64(end)) for begin, end in windows[name]]
        times = np.array([row["timestamp"] for row in rows], dtype="datetime64[s]")
        found[name] = NabSeries(times, np.array([float(row["value"]) for row in rows]), marked)
    if not found:
        raise DataNotFound(f"there is no series data/*/*.csv.gz in {folder}")
    return found
