"""Thoughts that a server left in the text, between ``<think>`` and ``</think>`` (openai-completions.md section 9.4)."""

from __future__ import annotations

_OPEN, _CLOSE = "<think>", "</think>"


class ThinkTags:
    """Splits text into thought and answer, in whatever pieces it comes.

    Only a tag at the very beginning (blanks may stand before it) counts. A piece that may be half a tag waits.
    """

    def __init__(self) -> None:
        self._held = ""
        self._state = self._before

    def feed(self, text: str) -> tuple[str, str]:
        """More text: what of it is thought, and what is answer."""
        self._held += text
        return self._state()

    def close(self) -> tuple[str, str]:
        """The end: what still waits, as what it is then."""
        held, self._held = self._held, ""
        return (held, "") if self._state == self._inside else ("", held)

    def _before(self) -> tuple[str, str]:
        text = self._held.lstrip()
        if text.startswith(_OPEN):
            self._held = text[len(_OPEN) :]
            self._state = self._inside
            return self._inside()
        if _OPEN.startswith(text):
            return "", ""
        self._state = self._after
        return self._after()

    def _inside(self) -> tuple[str, str]:
        thought, tag, answer = self._held.partition(_CLOSE)
        if tag:
            self._held = answer
            self._state = self._between
            return thought, self._between()[1]
        keep = next((size for size in range(len(_CLOSE) - 1, 0, -1) if thought.endswith(_CLOSE[:size])), 0)
        self._held = thought[len(thought) - keep :]
        return thought[: len(thought) - keep], ""

    def _between(self) -> tuple[str, str]:
        self._held = self._held.lstrip("\r\n")
        if not self._held:
            return "", ""
        self._state = self._after
        return self._after()

    def _after(self) -> tuple[str, str]:
        text, self._held = self._held, ""
        return "", text
