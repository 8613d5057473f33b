"""The module-level door: ``stream``, ``complete``, ``get_model`` and what else needs no registry of one's own.

They use the registry that is open in the current context, else the default one (D7).
"""

from __future__ import annotations

from functools import partial
from typing import Unpack

import anyio

from pi_ai.registry import current
from pi_ai.streams import EventStream
from pi_ai.types import AssistantMessage, Context, Model, RequestOptions, StreamKeywords


def stream(
    model: Model,
    context: Context,
    options: RequestOptions | None = None,
    **keywords: Unpack[StreamKeywords],
) -> EventStream:
    """Stream a model's answer as typed events::

        async for event in stream(model, context, reasoning="high"):
            match event:
                case TextDeltaEvent(delta=text):
                    print(text, end="")

    An ordinary function: nothing happens before the first await. Use ``async with stream(…) as s`` where the loop may
    be left early. Failures do not raise: they are the last event, ``error`` (S5).

    :param options: :class:`StreamOptions` (portable), or an API's own class such as ``OpenAICompletionsOptions``.
    :param keywords: fields of the options, instead of or on top of them.
    :raises TypeError: a wrong Python type, or a keyword that is no option.
    """
    return current().stream(model, context, options, **keywords)


async def complete(
    model: Model,
    context: Context,
    options: RequestOptions | None = None,
    *,
    raise_on_error: bool = False,
    **keywords: Unpack[StreamKeywords],
) -> AssistantMessage:
    """``stream()`` to its end, without keeping the events.

    :param raise_on_error: raise what ended the answer instead of returning it.
    :returns: the message; ``stop_reason`` tells how it ended.
    :raises PiAIError: only with ``raise_on_error``: the class of ``error_info.kind``.
    """
    return await current().complete(model, context, options, raise_on_error=raise_on_error, **keywords)


def complete_sync(
    model: Model,
    context: Context,
    options: RequestOptions | None = None,
    *,
    raise_on_error: bool = False,
    **keywords: Unpack[StreamKeywords],
) -> AssistantMessage:
    """``complete()`` for programs without an event loop; runs one of its own.

    :raises RuntimeError: an event loop runs in this thread already; await ``complete()`` there.
    """
    return anyio.run(partial(complete, model, context, options, raise_on_error=raise_on_error, **keywords))


stream_simple = stream
complete_simple = complete


def get_model(provider: str, id: str) -> Model:  # noqa: A002 - pi's name
    """A model by provider and id: ``get_model("anthropic", "claude-sonnet-4-5")``.

    :raises LookupError: there is none; the message names the closest ones.
    """
    return current().get_model(provider, id)


def get_models(provider: str | None = None) -> list[Model]:
    """All models, or those of one provider."""
    return current().get_models(provider)


def get_providers() -> list[str]:
    """The ids of all providers."""
    return current().get_providers()
