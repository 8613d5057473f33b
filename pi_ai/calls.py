"""The module-level door: ``stream``, ``complete``, ``get_model`` and what else needs no registry of one's own.

They use the registry that is open in the current context, else the default one (D7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar, Unpack, overload

import anyio

from pi_ai.adapters.custom import StreamFunction
from pi_ai.providers.base import Provider
from pi_ai.providers.catalogue import completing_ids
from pi_ai.providers.config import ProviderConfig, ProviderKeywords
from pi_ai.registry import current
from pi_ai.streams import EventStream
from pi_ai.types import AssistantMessage, Context, Model, RequestOptions, StreamKeywords

StreamFunctionT = TypeVar("StreamFunctionT", bound=StreamFunction)


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


def stream_api(
    model: Model,
    context: Context,
    options: RequestOptions | None = None,
    **keywords: Unpack[StreamKeywords],
) -> EventStream:
    """Stream from a model's API itself: endpoint, key and headers are those of the arguments, no provider is asked.

    For stream functions that change a request and leave the rest to an API::

        async def stream_simple(model, context, options):
            return stream_api(attrs.evolve(model, base_url=await gateway()), context, options)
    """
    return current().stream_api(model, context, options, **keywords)


@completing_ids
def get_model(provider: str, id: str | None = None) -> Model:  # noqa: A002 - pi's name
    """A model by provider and id: ``get_model("anthropic", "claude-sonnet-4-5")``.

    Or by both in one, as the command line has them: ``get_model("anthropic/claude-sonnet-4-5")``.

    :raises LookupError: there is none; the message names the closest ones.
    """
    return current().get_model(provider, id)


def get_models(provider: str | None = None) -> list[Model]:
    """All models, or those of one provider."""
    return current().get_models(provider)


def get_providers() -> list[str]:
    """The ids of all providers."""
    return current().get_providers()


def get_available() -> list[Model]:
    """The models of all providers that are configured. Cheap: no network, no command is run."""
    return current().get_available()


def get_provider(name: str) -> Provider | None:
    """A provider as it is now; None: there is none."""
    return current().get_provider(name)


@overload
def register_provider(provider: Provider, /) -> None: ...
@overload
def register_provider(
    name: str, config: ProviderConfig | Mapping[str, Any] | None = None, /, **fields: Unpack[ProviderKeywords]
) -> None: ...
def register_provider(name: Any, config: ProviderConfig | Mapping[str, Any] | None = None, /, **fields: Any) -> None:
    """Register a provider, or change one that there is::

        register_provider("anthropic", base_url="https://proxy.example.com")  # its models stay
        register_provider("my-llm", base_url="https://…/v1", api_key="$MY_KEY", api="openai-completions",
                          models=[{"id": "large", "context_window": 200_000}])

    Without ``models`` those of the provider stay, and are changed; with it they are replaced. What is registered again
    is merged. Requests that have begun are not disturbed, the next one sees the change.

    :param name: the provider's id; or a :class:`Provider`, which is registered as it is.
    :param config: a :class:`ProviderConfig`, or a mapping with its fields in snake_case or camelCase.
    :param fields: its fields, instead of it or on top of it.
    :raises ProviderConfigError: it cannot be; nothing has changed.
    :raises TypeError: a field is unknown or of the wrong kind; nothing has changed.
    """
    current().register_provider(name, config, **fields)


def unregister_provider(name: str) -> None:
    """Take back all registrations of a provider: what was there before is there again, exactly.

    Requests that have begun go on. An unknown id is no error.
    """
    current().unregister_provider(name)


@overload
def register_api(api: str, /, *, source_id: str | None = None) -> Callable[[StreamFunctionT], StreamFunctionT]: ...
@overload
def register_api(api: str, function: StreamFunctionT, /, *, source_id: str | None = None) -> StreamFunctionT: ...
def register_api(api: str, function: StreamFunction | None = None, /, *, source_id: str | None = None) -> Any:
    """Register a stream function as an API, for the models of all providers that have it; also as a decorator::

        @register_api("my-api")
        async def my_api(model, context, options):
            out = MessageBuilder(model)
            yield out.start()
            async for piece in somewhere(context):
                yield out.text(piece)
            yield out.finish("stop")

    Its events are under the whole contract of :class:`EventStream`. Rules for its author: no ``yield`` inside a task
    group, cancel scope or timeout; let cancellation pass; raise for failures.

    :param api: what ``Model.api`` says; an API that there is already is replaced.
    :param source_id: for :func:`unregister_apis`.
    """
    register = current().register_api
    return register(api, function, source_id=source_id) if function else register(api, source_id=source_id)


def unregister_apis(source_id: str) -> None:
    """Take back the APIs of a source; those that they replaced are there again."""
    current().unregister_apis(source_id)
