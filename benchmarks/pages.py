"""Tables in pages of the documentation that commands write."""

from __future__ import annotations

import re

__all__ = ["tables_of", "with_table"]


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def _between(name: str) -> re.Pattern[str]:
    begin, end = map(re.escape, _marks(name))
    return re.compile(rf"(?<={begin}\n).*?(?={end})", flags=re.DOTALL)


def tables_of(page: str, name: str) -> list[str]:
    """What stands between the lines ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->`` of a page."""
    return _between(name).findall(page)


def with_table(page: str, name: str, text: str) -> str:
    """The page with another text there.

    Parameters
    ----------
    page : str
    name : str
    text : str
        Ends with a line break.

    Raises
    ------
    ValueError
        If the page does not say where the table goes.
    """
    if not tables_of(page, name):
        begin, end = _marks(name)
        raise ValueError(f"the page needs the lines {begin} and {end}")
    return _between(name).sub(lambda _: text, page)
