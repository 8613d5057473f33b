"""The documentation site: every block of Python on its pages runs, and prints what it says.

Requests to other machines go to a sandbox, whatever their host; on the page it is ``sandbox``, for hidden blocks that
script it. Chapters that come from the README are run by ``test_readme.py``.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import pytest

import pi_ai
from pi_ai import bridges, get_api, oauth, testing
from pi_ai.providers import local
from pi_ai.testing import Sandbox
from pi_ai.types import KnownApi
from pi_ai_tests.documents import Document, reroute
from pi_ai_tests.test_surface import ROOT

DOCS = ROOT / "docs"
PAGES = {path.relative_to(DOCS).as_posix(): Document(path) for path in sorted(DOCS.rglob("*.md"))}
ASYNCIO: Any = ("asyncio", {"use_uvloop": False})
TRIO: Any = ("trio", {})
RUNS = [(name, ASYNCIO) for name, page in PAGES.items() if page.blocks("python")] + [("tutorial.md", TRIO)]

_WIRES = {
    "/chat/completions": "openai-completions",
    "/v1/messages": "anthropic-messages",
    "/responses": "openai-responses",
}
"""Which wire a path belongs to, by where the part of it begins that follows the base URL."""
_OTHERS = re.compile(r'title="(openai|anthropic|LiteLLM|pi|examples/\w+\.py)"')
"""What blocks that are not run may be: another library's, or a file that has tests of its own."""


def sandbox_url(sandbox: Sandbox, url: str) -> str:
    path = urlsplit(url).path
    begin, api = next((path.index(mark), api) for mark, api in _WIRES.items() if mark in path)
    return sandbox.base_url(api) + path[begin:]


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Sandbox]:
    """All machines of the world are this sandbox, and every key is set."""
    with Sandbox().in_thread() as box:
        reroute(monkeypatch, lambda url: sandbox_url(box, url))
        endpoint = local.Endpoint(base_url=box.base_url("openai-completions"), api_key="key")
        monkeypatch.setattr(local, "endpoint", lambda _: endpoint)
        for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENROUTER_API_KEY"):
            monkeypatch.setenv(name, "sk-key")  # as keys of OpenAI begin; others are tokens of logins
        monkeypatch.chdir(tmp_path)
        yield box
        assert box.pending == 0, "the page scripted answers that nobody asked for"


@pytest.mark.parametrize(("name", "backend"), RUNS, ids=[f"{name}-{backend[0]}" for name, backend in RUNS])
def test_every_block_runs_and_prints_what_it_says(
    name: str, backend: Any, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"__name__": "page", "sandbox": sandbox}
    for line, text in PAGES[name].blocks("python"):
        PAGES[name].play_and_check(line, text, names, backend, capsys)


def test_code_that_is_not_run_says_whose_it_is() -> None:
    for name, page in PAGES.items():
        for fence in re.findall(r"^``` *(\S.*)$", page.text, re.MULTILINE):
            if fence not in ("python", "sh", "console", "json", "text"):
                assert _OTHERS.search(fence), f"{name}: {fence}"
        for line, text in page.blocks(r'\{\.py title="(?:openai|anthropic|LiteLLM)"\}'):
            compile("\n" * line + text, page.path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_names_of_the_reference_are_all_public_names() -> None:
    """Nothing public is without a place in the reference, and nothing else has one."""
    listed = [
        found
        for name, page in PAGES.items()
        if name.startswith("reference/")
        for found in re.findall(r"^::: (\S+)", page.text, re.MULTILINE)
        if not found.endswith(".Compat")  # their names are data, not Python
    ]
    assert len(listed) == len(set(listed))
    public = {
        *(f"pi_ai.{name}" for name in pi_ai.__all__ if name != "__version__"),
        *(
            f"{module.__name__}.{name}"
            for module in (bridges, oauth, testing)
            for name in module.__all__
            if name not in pi_ai.__all__
        ),
        *(
            f"{options.__module__}.{options.__name__}"
            for api in get_args(KnownApi)
            if (options := get_api(api).options_type)
        ),
        "pi_ai.telemetry.instrument",
        "pi_ai.telemetry.uninstrument",
    }
    assert set(listed) == public


def chapters() -> Any:
    spec = importlib.util.spec_from_file_location("chapters", DOCS / "chapters.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_chapter_that_is_included_is_in_the_readme() -> None:
    module = chapters()
    readme = module.README.read_text(encoding="utf-8")
    titles = [title for page in PAGES.values() for title in module.MARK.findall(page.text)]
    for title in titles:
        assert module.chapter(readme, title)
    with pytest.raises(KeyError):
        module.chapter(readme, "No such chapter")


def test_every_chapter_of_the_readme_is_on_one_page() -> None:
    """But those that are told elsewhere: the tutorial says how trio is used, and what is left is for contributors."""
    module = chapters()
    there = [title for page in PAGES.values() for title in module.MARK.findall(page.text)]
    headings = module.headings(module.README.read_text(encoding="utf-8"))
    assert sorted(there) == sorted({title for level, title in headings if level == 2} - {"trio", "Development"})


def test_a_chapter_ends_with_the_next_heading_of_its_level_and_code_has_no_headings() -> None:
    readme = "# A\n\n## B\none\n```sh\n# no heading\n```\n### C\ntwo\n\n## D\nthree\n"
    module = chapters()
    assert module.chapter(readme, "B") == "one\n```sh\n# no heading\n```\n### C\ntwo"
    assert module.chapter(readme, "C") == "two"
    assert module.chapter(readme, "D") == "three"
