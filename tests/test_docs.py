"""What the pages say is so: their examples run, their links lead somewhere, the commands are the ones that exist."""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import io
import re
import runpy
import shlex
import tomllib
import warnings
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import numrnn
from numrnn import cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
NUMBER = re.compile(r"-?\d+\.\d+")


class AlmostEqual(doctest.OutputChecker):
    """Decimal numbers may differ by 0.02: processors round differently, and training magnifies it.

    `relative` is a share by which they may differ in addition.
    """

    def __init__(self, relative: float = 0.0) -> None:
        self.relative = relative

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        numbers = NUMBER.findall(want), NUMBER.findall(got)
        close = len(numbers[0]) == len(numbers[1]) and all(
            abs(float(a) - float(b)) <= 0.02 + self.relative * abs(float(a)) for a, b in zip(*numbers, strict=True)
        )
        return close and super().check_output(NUMBER.sub("#", want), NUMBER.sub("#", got), optionflags)


def fenced(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def examples(page: Path) -> list[tuple[str, str]]:
    """Language and text of all blocks that are run: sessions of Python, and of a terminal with commands of ours."""
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```(pycon|console)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def run_command(line: str) -> str:
    """What a line of a terminal prints: a command of ours, whose output may go to a file, or `head -n N FILE`."""
    words = shlex.split(line)
    if words[0] == "head":
        assert words[1] == "-n"
        return "".join(Path(words[3]).read_text(encoding="utf-8").splitlines(keepends=True)[: int(words[2])])
    assert words[0] == "numrnn", line
    target = words[words.index(">") + 1] if ">" in words else None
    printed, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
        try:
            status = cli.main(words[1 : words.index(">")] if target else words[1:])
        except SystemExit as stopped:
            status = stopped.code
    # Errors are shown where a terminal would show them; progress is not.
    error = "".join(line for line in said.getvalue().splitlines(keepends=True) if line.startswith("numrnn: error"))
    assert status in (0, 1), said.getvalue()
    if target is None:
        return printed.getvalue() + error
    Path(target).write_text(printed.getvalue(), encoding="utf-8")
    return error


def run_session(block: str, what: str) -> list[str]:
    """What a session in a terminal prints otherwise than the page says."""
    # What is printed there was trained on numbers of any size.
    checker, wrong = AlmostEqual(relative=0.2), []
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        end = next(number for number, line in enumerate(lines) if not line.endswith("\\\n"))
        command = "".join(line.removesuffix("\\\n") for line in lines[: end + 1]).strip()
        want, got = "".join(lines[end + 1 :]), run_command(command)
        if not checker.check_output(want, got, 0):
            wrong.append(f"{what}: {command}\nexpected:\n{want}got:\n{got}")
    return wrong


@pytest.mark.parametrize("page", [page for page in PAGES if examples(page)], ids=lambda page: page.name)
def test_examples_run_and_print_what_the_page_says(page, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(AlmostEqual(), optionflags=doctest.REPORT_NDIFF)
    names: dict[str, object] = {}
    for number, (language, block) in enumerate(examples(page)):
        what = f"{page.name}, example {number + 1}"
        optional = set(re.findall(r">>> (?:import|from) (torch|sktime)\b", block))
        if any(importlib.util.find_spec(name) is None for name in optional):
            continue
        if language == "console":
            wrong = run_session(block, what)
            assert not wrong, "\n".join(wrong)
            continue
        test = doctest.DocTestParser().get_doctest(block, names, what, None, 0)
        assert test.examples
        runner.run(test, clear_globs=False)
        names.update(test.globs)
    assert runner.tries > 0
    assert runner.failures == 0, capsys.readouterr().out


@pytest.mark.parametrize("script", sorted((ROOT / "docs" / "examples").glob("plot_*.py")), ids=lambda path: path.stem)
def test_examples_of_the_gallery_run_and_draw(script, monkeypatch, tmp_path):
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runpy.run_path(str(script))
    assert pyplot.get_fignums()
    pyplot.close("all")


def test_readme_and_guide_have_examples():
    assert {page.name for page in PAGES if fenced(page, "pycon")} >= {"README.md", "guide.md"}


def anchors(page: Path) -> set[str]:
    """What a link may have behind its #: the headings, as the pages' readers make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Those within the project to files and headings that are there; others are addresses in due form."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            parts = urlsplit(target)
            assert parts.scheme == "https" and "." in parts.netloc, target
            continue
        name, _, anchor = target.partition("#")
        if name.startswith("gallery/"):  # made from docs/examples when the pages are built
            assert (page.parent / "examples" / name.removeprefix("gallery/").replace(".rst", ".py")).is_file(), target
            continue
        other = page.parent / name if name else page
        assert other.is_file(), target
        assert not anchor or anchor in anchors(other), target


def test_the_table_of_contents_has_every_page():
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    listed = re.findall(r"^([\w/]+)$", "".join(fenced(ROOT / "docs" / "index.md", r"\{toctree\}")), flags=re.MULTILINE)
    assert len(listed) == len(set(listed)), text
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")} - {"index"}
    assert set(listed) == pages | {"gallery/index"}


@pytest.mark.parametrize("name", ["demo", "tests"])
def test_readme_marks_the_commands_that_continuous_integration_runs(name):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(re.findall(rf"^<!-- command: {name} -->\n```bash\n[^\n]+\n```$", text, flags=re.MULTILINE)) == 1


def test_pages_name_no_extra_that_does_not_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    defined = set(project["optional-dependencies"])
    for page in PAGES:
        for extras in re.findall(r'"(?:\.|numrnn)\[([\w,]+)\]"', page.read_text(encoding="utf-8")):
            assert set(extras.split(",")) <= defined, page.name


def test_api_reference_covers_the_public_names():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for name in set(numrnn.__all__) - {"__version__"}:
        assert f"numrnn.{name}" in text, name


def test_changelog_has_the_version():
    assert f"## {numrnn.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_documented_commands_exist(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    commands = capsys.readouterr().out
    for page in PAGES:
        for command in re.findall(r"`numrnn ([a-z][\w-]*)", page.read_text(encoding="utf-8")):
            assert re.search(rf"^\s+{command}\s", commands, flags=re.MULTILINE), command
