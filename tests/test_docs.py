"""What the pages say is so: their examples run, their links lead somewhere, the commands are the ones that exist."""

from __future__ import annotations

import doctest
import re
import tomllib
from pathlib import Path

import pytest

import numrnn
from numrnn import cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
NUMBER = re.compile(r"-?\d+\.\d+")


class AlmostEqual(doctest.OutputChecker):
    """Decimal numbers may differ by 0.02: processors round differently, and training magnifies it."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        numbers = NUMBER.findall(want), NUMBER.findall(got)
        close = len(numbers[0]) == len(numbers[1]) and all(
            abs(float(a) - float(b)) <= 0.02 for a, b in zip(*numbers, strict=True)
        )
        return close and super().check_output(NUMBER.sub("#", want), NUMBER.sub("#", got), optionflags)


def fenced(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if fenced(page, "pycon")], ids=lambda page: page.name)
def test_examples_run_and_print_what_the_page_says(page, capsys):
    runner = doctest.DocTestRunner(AlmostEqual(), optionflags=doctest.REPORT_NDIFF)
    names: dict[str, object] = {}
    for number, block in enumerate(fenced(page, "pycon")):
        test = doctest.DocTestParser().get_doctest(block, names, f"{page.name}, example {number + 1}", None, 0)
        assert test.examples
        runner.run(test, clear_globs=False)
        names.update(test.globs)
    assert runner.tries > 0
    assert runner.failures == 0, capsys.readouterr().out


def test_readme_and_guide_have_examples():
    assert {page.name for page in PAGES if fenced(page, "pycon")} >= {"README.md", "guide.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith("https://"):
            assert (page.parent / target).is_file(), target


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
        for command in re.findall(r"`numrnn (\w+)", page.read_text(encoding="utf-8")):
            assert re.search(rf"^\s+{command}\s", commands, flags=re.MULTILINE), command
