"""The command line."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import numrnn
from numrnn import cli, demo


def test_version_is_quick_to_print():
    """Nothing heavy is imported for it."""
    code = (
        "import sys; from numrnn.cli import main\ntry: main(['--version'])\nfinally: sys.exit('numba' in sys.modules)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.stdout == f"numrnn {numrnn.__version__}\n"
    assert finished.returncode == 0


def test_info_names_versions_vectors_and_threads(capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert cli.main(["info"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.replace("vector ", "vector_").splitlines())
    assert lines["numrnn"] == numrnn.__version__
    assert lines["Python"] == platform.python_version()
    assert lines["numpy"] == np.__version__
    assert lines["vector_width"] in {"128 bits", "256 bits", "512 bits"}
    assert lines["threads"] == "1"


def test_info_says_what_is_not_installed(capsys, monkeypatch):
    def version(name):
        if name == "matplotlib":
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(metadata, "version", version)
    cli.main(["info"])
    assert "matplotlib    not installed\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "output"), [(["demo"], Path("numrnn-demo")), (["demo", "--output", "here"], Path("here"))]
)
def test_demo_is_given_its_folder(arguments, output, monkeypatch):
    folders = []
    monkeypatch.setattr(demo, "run", folders.append)
    assert cli.main(arguments) == 0
    assert folders == [output]


@pytest.mark.parametrize("arguments", [[], ["train"], ["demo", "here"]])
def test_wrong_arguments_exit_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert "usage: numrnn" in capsys.readouterr().err
