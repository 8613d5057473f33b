"""The code in Markdown files is run as it stands: what the tests of the README and of ``docs/`` share.

The blocks of a page that are marked ``python`` run one after the other, with the names of those before. What they await
runs in an event loop of its own, and ``# → text`` in a block says what it prints. Blocks in an HTML comment are run,
too, and not shown.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import attrs
import pytest

from pi_ai.transport import Connections

_PROMISE = re.compile(r"# → (.+)$", re.MULTILINE)


@attrs.frozen
class Document:
    """A Markdown file."""

    path: Path
    text: str = attrs.field(init=False, repr=False)

    @text.default
    def _read(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def blocks(self, language: str) -> list[tuple[int, str]]:
        """(line, text) of every block of code in a language."""
        found = re.finditer(rf"^```{language}\n(.*?)^```", self.text, re.MULTILINE | re.DOTALL)
        return [(self.text.count("\n", 0, match.start(1)), match[1]) for match in found]

    def play(self, line: int, text: str, names: dict[str, Any], backend: tuple[str, dict[str, Any]]) -> None:
        """Run one block of Python."""
        padded = "\n" * line + text  # so that a traceback names the line of the page
        code = compile(padded, self.path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        if not code.co_flags & inspect.CO_COROUTINE:
            exec(code, names)
            return

        async def run() -> None:
            await eval(code, names)

        anyio.run(run, backend=backend[0], backend_options=backend[1])

    def play_and_check(
        self,
        line: int,
        text: str,
        names: dict[str, Any],
        backend: tuple[str, dict[str, Any]],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Run one block, which has to print what it says."""
        self.play(line, text, names, backend)
        printed = capsys.readouterr().out
        assert printed or "print(" not in text, f"{self.path.name}, line {line}: nothing was printed"
        for promised in _PROMISE.findall(text):
            assert promised in printed, f"{self.path.name}, block in line {line}"


def reroute(monkeypatch: pytest.MonkeyPatch, to: Callable[[str], str]) -> None:
    """Send all requests to other machines to this one.

    :param to: gives the URL for an URL.
    """
    open_connection = Connections.open

    def rerouted(self: Connections, request: Any, *arguments: Any, **keywords: Any) -> Any:
        if urlsplit(request.url).hostname != "127.0.0.1":
            request = attrs.evolve(request, url=to(request.url))
        return open_connection(self, request, *arguments, **keywords)

    monkeypatch.setattr(Connections, "open", rerouted)
