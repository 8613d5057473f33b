"""What type checkers must see of providers. Read by ``test_catalogue_renewal.py``, never run."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
from __future__ import annotations

from collections.abc import AsyncIterator
from typing import assert_type

from pi_ai import (
    Context,
    EventSink,
    EventStream,
    MessageBuilder,
    Model,
    Provider,
    ProviderConfig,
    Registry,
    StreamEvent,
    StreamOptions,
    create_assistant_message_event_stream,
    discover_openai_models,
    get_model,
    register_api,
    register_provider,
)
from pi_ai.providers.extensions import Extensions, ProviderApi

pi = Registry()
name: str = input()

# the ids of the catalogue are completed; any other text is right, too
assert_type(get_model("anthropic", "claude-sonnet-4-5"), Model)
assert_type(pi.get_model("anthropic", "claude-sonnet-4-5"), Model)
assert_type(get_model("my-llm", "large"), Model)
assert_type(get_model("anthropic", name), Model)
assert_type(get_model(name, name), Model)
get_model("anthropic", 5)  # pyright: ignore[reportArgumentType, reportCallIssue]
assert_type(get_model("anthropic/claude-sonnet-4-5"), Model)
get_model()  # pyright: ignore[reportCallIssue]


async def generator(
    model: Model, context: Context, options: StreamOptions
) -> AsyncIterator[StreamEvent | list[StreamEvent]]:
    out = MessageBuilder(model)
    yield out.start()
    yield out.text("Hello")
    yield out.finish("stop")


async def function(model: Model, context: Context, options: StreamOptions) -> EventStream:
    return pi.stream(model, context, options)


def pushed(model: Model, context: Context, options: StreamOptions) -> EventStream:
    async def produce(sink: EventSink) -> None:
        sink.end()

    return create_assistant_message_event_stream(produce, model=model)


assert_type(create_assistant_message_event_stream(), tuple[EventSink, EventStream])

for stream_simple in (generator, function, pushed):
    register_provider("x", stream_simple=stream_simple)

register_provider("x", base_url="https://…", models=[{"id": "m"}], refresh_models=discover_openai_models)
register_provider("x", {"baseUrl": "https://…"}, auth_header=True)
register_provider("x", ProviderConfig(base_url="https://…"))
register_provider("x", base_ulr="https://…")  # pyright: ignore[reportCallIssue]
register_provider("x", base_url=5)  # pyright: ignore[reportArgumentType]
pi.register_provider(Provider("x"))
pi.register_provider(Provider("x"), base_url="https://…")  # pyright: ignore[reportArgumentType]


@register_api("my-api")
async def my_api(
    model: Model, context: Context, options: StreamOptions
) -> AsyncIterator[StreamEvent | list[StreamEvent]]:
    yield MessageBuilder(model).finish("stop")


pi.register_api("my-api", my_api, source_id="here")


def register(api: ProviderApi) -> None:
    api.register_provider("x", base_url="https://…")


Extensions([register, "file.py"]).bind(pi)
