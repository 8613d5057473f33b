# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""What type checkers see of the public surface. Checked by pyright, never run.

Every ``pyright: ignore`` here says that the line must be an error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import assert_never, assert_type

from pi_ai import (
    AssistantMessage,
    Context,
    DoneEvent,
    ErrorEvent,
    EventStream,
    ImageContent,
    Message,
    MessageBuilder,
    Model,
    Registry,
    StartEvent,
    StreamEvent,
    StreamOptions,
    SystemMessage,
    TextContent,
    TextDeltaEvent,
    TextEndEvent,
    TextStartEvent,
    ThinkingContent,
    ThinkingDeltaEvent,
    ThinkingEndEvent,
    ThinkingStartEvent,
    ToolCall,
    ToolCallDeltaEvent,
    ToolCallEndEvent,
    ToolCallStartEvent,
    ToolResultMessage,
    UserMessage,
    complete,
    event_stream,
    from_json,
    get_model,
    stream,
)


def events_by_class(event: StreamEvent) -> str:
    """The union is closed: a match on the classes is exhaustive."""
    match event:
        case StartEvent():
            return event.type
        case TextStartEvent() | ThinkingStartEvent() | ToolCallStartEvent():
            return str(event.content_index)
        case TextDeltaEvent(delta=delta) | ThinkingDeltaEvent(delta=delta) | ToolCallDeltaEvent(delta=delta):
            return delta
        case TextEndEvent(content=content) | ThinkingEndEvent(content=content):
            return content
        case ToolCallEndEvent(tool_call=call):
            return call.name
        case DoneEvent(message=message):
            return message.text
        case ErrorEvent(error=message):
            return message.error_message or ""
        case _:
            assert_never(event)


def events_by_type(event: StreamEvent) -> str:
    """The literal ``type`` narrows as well."""
    if event.type == "text_delta":
        assert_type(event, TextDeltaEvent)
        return event.delta
    if event.type == "done":
        assert_type(event, DoneEvent)
        return event.reason
    return ""


def an_incomplete_match_is_found(event: DoneEvent | ErrorEvent) -> None:
    match event:
        case DoneEvent():
            pass
        case _:
            assert_never(event)  # pyright: ignore[reportArgumentType]


def messages(message: Message) -> None:
    """The same for messages and what is in them."""
    match message:
        case SystemMessage() | UserMessage() | ToolResultMessage():
            pass
        case AssistantMessage():
            for block in message.content:
                match block:
                    case TextContent() | ThinkingContent() | ToolCall():
                        pass
                    case _:
                        assert_never(block)
        case _:
            assert_never(message)


async def calls(model: Model, context: Context) -> None:
    """Options are checked, whichever way they are given."""
    assert_type(stream(model, context, reasoning="high", max_tokens=5), EventStream)
    assert_type(await complete(model, context, StreamOptions(temperature=0.5)), AssistantMessage)
    stream(model, context, reasoning="hgih")  # pyright: ignore[reportArgumentType]
    stream(model, context, resoning="high")  # pyright: ignore[reportCallIssue]
    stream(model, context, max_tokens="5")  # pyright: ignore[reportArgumentType]
    stream("openai/gpt-5", context)  # pyright: ignore[reportArgumentType]
    StreamOptions(reasoning="hgih")  # pyright: ignore[reportArgumentType]
    UserMessage([ImageContent("…", "image/png"), TextContent("What is it?")])
    UserMessage([ThinkingContent("…")])  # pyright: ignore[reportArgumentType]
    async for event in stream(model, context):
        assert_type(event, StreamEvent)
    async with Registry() as pi, pi.stream(pi.get_model("groq", "openai/gpt-oss-120b"), context) as answer:
        assert_type(answer.message, AssistantMessage)


def json() -> None:
    """Reading gives what was asked for."""
    assert_type(from_json(Context, {}), Context)
    assert_type(from_json(Model, {}), Model)


async def a_custom_stream(model: Model) -> AsyncIterator[StreamEvent | list[StreamEvent]]:
    """The builder's events are what a source may yield."""
    out = MessageBuilder(model)
    yield out.start()
    yield out.text("Hello")
    yield out.tool_call("call_1", "get_time", {"zone": "UTC"})
    yield out.finish("toolUse")
    out.finish("because")  # pyright: ignore[reportArgumentType]


assert_type(event_stream(a_custom_stream(get_model("local", "smollm2-135m"))), EventStream)
