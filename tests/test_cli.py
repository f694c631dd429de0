"""The command line."""

from __future__ import annotations

import json
import platform
import re
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


@pytest.mark.parametrize("command", ["info", "show-versions"])
def test_versions_vectors_and_threads(command, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert cli.main([command]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.replace("vector ", "vector_").splitlines())
    assert lines["numrnn"] == numrnn.__version__
    assert lines["Python"] == platform.python_version()
    assert lines["numpy"] == np.__version__
    assert lines["vector_width"] in {"128 bits", "256 bits", "512 bits"}
    assert lines["threads"] == "1"


def test_versions_as_json(capsys):
    assert cli.main(["show-versions", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["numrnn"] == numrnn.__version__


def test_versions_say_what_is_not_installed(capsys, monkeypatch):
    def version(name):
        if name == "matplotlib":
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(metadata, "version", version)
    cli.main(["show-versions"])
    assert "matplotlib    not installed\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "output"), [(["demo"], Path("numrnn-demo")), (["demo", "--output", "here"], Path("here"))]
)
def test_demo_is_given_its_folder(arguments, output, monkeypatch):
    folders = []
    monkeypatch.setattr(demo, "run", folders.append)
    assert cli.main(arguments) == 0
    assert folders == [output]


@pytest.mark.parametrize("command", ["forecast", "fit", "predict", "info", "text", "demo", "show-versions"])
def test_help_of_every_command_has_examples(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert re.search(rf"^examples:\n  numrnn {command}", shown, flags=re.MULTILINE)


def test_help_tells_the_exit_status(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"\n  {status} " in shown for status in (0, 1, 2, 130))


def test_an_interrupt_has_its_own_status(capsys, monkeypatch):
    def interrupted(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run", interrupted)
    assert cli.main(["demo"]) == 130
    assert capsys.readouterr().err == "numrnn: interrupted\n"


def test_a_reader_that_has_seen_enough_is_no_error():
    """As in `numrnn show-versions | head -n 0`."""
    command = f"{sys.executable} -m numrnn.cli show-versions | {sys.executable} -c pass; echo ${{PIPESTATUS[0]}}"
    finished = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (finished.stdout, finished.stderr) == ("0\n", "")


@pytest.mark.parametrize("arguments", [[], ["train"], ["demo", "here"]])
def test_wrong_arguments_exit_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert "usage: numrnn" in capsys.readouterr().err
