"""Our docstrings for mkdocstrings: reStructuredText's marks as Markdown, and what attrs adds to classes."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from typing import Any

import attrs
import griffe

import pi_ai

_ROLE = re.compile(r":(?:func|class|meth|mod|data|attr|exc):`~?\.?([^`]+)`")
_LITERAL = re.compile(r"::$", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Changes docstrings and classes when a package has been read."""

    def on_object(self, *, obj: griffe.Object, loader: griffe.GriffeLoader, **_: Any) -> None:
        """Called for everything that was read."""
        if obj.docstring is not None:
            obj.docstring.value = _markdown(obj.docstring.value)

    def on_class(self, *, cls: griffe.Class, loader: griffe.GriffeLoader, **_: Any) -> None:
        """Give a class of attrs the ``__init__`` that attrs writes."""
        if "__init__" in cls.members or not any("attrs." in str(mark.value) for mark in cls.decorators):
            return
        found = getattr(importlib.import_module(cls.module.path), cls.name, None)
        if found is None or not attrs.has(found):
            return
        function = griffe.Function("__init__", parameters=griffe.Parameters(*_parameters(found)))
        cls.set_member("__init__", function)


def _markdown(text: str) -> str:
    return _LITERAL.sub(":", _ROLE.sub(_link, text))


def _link(role: re.Match[str]) -> str:
    name = role[1]
    return f"[`{name}`][pi_ai.{name}]" if name in pi_ai.__all__ else f"`{name}`"


def _parameters(cls: type) -> list[griffe.Parameter]:
    given = [griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)]
    for parameter in inspect.signature(cls).parameters.values():
        default = None if parameter.default is parameter.empty else _default(parameter.default)
        kind = griffe.ParameterKind[parameter.kind.name.lower()]
        annotation = None if parameter.annotation is parameter.empty else str(parameter.annotation)
        given.append(griffe.Parameter(parameter.name, annotation=annotation, kind=kind, default=default))
    return given


def _default(value: object) -> str:
    shown = repr(value)
    try:
        ast.parse(shown)
    except SyntaxError:  # what a factory makes, or a function
        return "..."
    return "..." if value is attrs.NOTHING else shown
