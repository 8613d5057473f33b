"""Functions of the caller that a request calls on its way: ``on_payload`` and its like (core E12, F100)."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pi_ai.errors import failure

T = TypeVar("T")


async def call_hook(name: str, hook: Callable[..., Awaitable[T] | T] | None, *arguments: Any) -> T | None:
    """Call a hook, sync or async, if there is one.

    :raises PiAIError: kind ``internal``: it raised; what it raised is the cause.
    """
    if hook is None:
        return None
    try:
        result = hook(*arguments)
        return await result if inspect.isawaitable(result) else result
    except Exception as error:
        text = str(error) or type(error).__name__
        raise failure("internal", f"The hook {name} raised {type(error).__name__}: {text}", text=text) from error
