"""Chapters of the README as parts of pages, so that nothing is written twice (a hook of MkDocs).

``<!-- README: Tools -->`` in a page is replaced by what stands in the README under that heading. Links to code that the
reference shows lead there; those to other files of the repository become their text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

README = Path(__file__).parents[1] / "README.md"
MARK = re.compile(r"^<!-- README: (.+) -->$", re.MULTILINE)
_PARTS = re.compile(r"^```.*?^```$|^(#+) ([^\n]+)$", re.MULTILINE | re.DOTALL)
REFERENCE = {"pi_ai/oauth.py": "logins.md", "pi_ai/adapters/_openai_compat.py": "options.md#openai-completions"}
_FILE_LINK = re.compile(r"\[([^\]]+)\]\((?!https?://)([^)]+)\)")


def chapter(readme: str, title: str) -> str:
    """What stands under a heading, with the headings below it.

    :raises KeyError: there is no such heading.
    """
    marks = _headings(readme)
    for number, mark in enumerate(marks):
        if mark[2] == title:
            later = (found.start() for found in marks[number + 1 :] if len(found[1]) <= len(mark[1]))
            return readme[mark.end() : next(later, len(readme))].strip()
    raise KeyError(title)


def headings(readme: str) -> list[tuple[int, str]]:
    """(level, text) of every heading."""
    return [(len(found[1]), found[2]) for found in _headings(readme)]


def _headings(readme: str) -> list[re.Match[str]]:
    return [found for found in _PARTS.finditer(readme) if found[1]]


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by MkDocs for every page."""
    readme = README.read_text(encoding="utf-8")
    reference = "../" * page.file.src_uri.count("/") + "reference/"

    def link(found: re.Match[str]) -> str:
        there = REFERENCE.get(found[2])
        return f"[{found[1]}]({reference}{there})" if there else found[1]

    return MARK.sub(lambda mark: _FILE_LINK.sub(link, chapter(readme, mark[1])), markdown)
