"""Answers that are values: an attrs class, a dataclass, a list of them …, read from what the model says.

One means for every API: the model is made to call a tool whose parameters are the type, held to the schema where the
provider can (core CS1). What it writes instead is taken, too, if it is the JSON that was asked for. An answer that does
not fit goes back to the model with what is wrong, as often as ``retries`` says.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack, cast, overload

import attrs

from pi_ai.events import DoneEvent, ErrorEvent, ToolCallDeltaEvent
from pi_ai.functions import names_around
from pi_ai.pricing import sum_usage
from pi_ai.registry import Registry, checked_options, current
from pi_ai.shapes import Shapes
from pi_ai.streams import EventStream
from pi_ai.text import decode_json
from pi_ai.tools import ToolValidationError, validate_tool_arguments
from pi_ai.types import (
    AssistantMessage,
    Context,
    JSONObject,
    Message,
    Model,
    RequestOptions,
    StreamKeywords,
    Tool,
    ToolCall,
    ToolResultMessage,
    Usage,
    UserMessage,
)

T = TypeVar("T")
_NAME = "answer"
_WRAPPED = "value"
_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)


class StructuredOutputError(ValueError):
    """A model's answer is not what was asked for; ``str()`` says why, and shows what it said.

    :ivar message: the answer. ``text``: what it said, words or arguments.
    """

    def __init__(self, reason: str, message: AssistantMessage) -> None:
        super().__init__(reason)
        self.message = message
        calls = [str(call.arguments) for call in message.tool_calls]
        self.text = message.text or "\n".join(calls)


@overload
def stream_as(
    model: Model,
    context: Context,
    answer: type[T],
    options: RequestOptions | None = None,
    *,
    retries: int = 1,
    registry: Registry | None = None,
    **keywords: Unpack[StreamKeywords],
) -> TypedStream[T]: ...
@overload
def stream_as(
    model: Model,
    context: Context,
    answer: Any,
    options: RequestOptions | None = None,
    *,
    retries: int = 1,
    registry: Registry | None = None,
    **keywords: Unpack[StreamKeywords],
) -> TypedStream[Any]: ...
def stream_as(
    model: Model,
    context: Context,
    answer: Any,
    options: RequestOptions | None = None,
    *,
    retries: int = 1,
    registry: Registry | None = None,
    **keywords: Unpack[StreamKeywords],
) -> TypedStream[Any]:
    """Stream an answer that is a value of a type::

        async with stream_as(model, context, Recipe) as answer:
            async for partial in answer:  # {"title": "Panca"}, {"title": "Pancakes", "steps": []}, …
                show(partial)
            recipe = await answer.result()  # a Recipe

    The context is left alone; its tools are not offered. While the model thinks (``reasoning``) it cannot be forced to
    call a tool and is only asked to. Your own ``tool_choice`` stands.

    :param answer: an attrs class, a dataclass, a TypedDict, ``list[…]``, a union … of what :func:`pi_ai.tool` takes.
    :param retries: how often a wrong answer is sent back to the model.
    :param options: for each request, and ``keywords``; see :func:`pi_ai.stream`.
    :param registry: where it is streamed from; default: the current one.
    :raises TypeError: a wrong type, an unknown option, or a type without a schema.
    """
    checked = checked_options(model, context, options, keywords)
    return TypedStream(registry or current(), model, context, checked, _Answer(answer, names_around()), retries)


@overload
async def complete_as(
    model: Model,
    context: Context,
    answer: type[T],
    options: RequestOptions | None = None,
    *,
    retries: int = 1,
    registry: Registry | None = None,
    **keywords: Unpack[StreamKeywords],
) -> T: ...
@overload
async def complete_as(
    model: Model,
    context: Context,
    answer: Any,
    options: RequestOptions | None = None,
    *,
    retries: int = 1,
    registry: Registry | None = None,
    **keywords: Unpack[StreamKeywords],
) -> Any: ...
async def complete_as(
    model: Model,
    context: Context,
    answer: Any,
    options: RequestOptions | None = None,
    *,
    retries: int = 1,
    registry: Registry | None = None,
    **keywords: Unpack[StreamKeywords],
) -> Any:
    """:func:`stream_as` to its end: the value.

    :raises StructuredOutputError: the answer does not fit, the last one that was asked for.
    :raises PiAIError: the request failed.
    """
    checked = checked_options(model, context, options, keywords)
    wanted = _Answer(answer, names_around())
    async with TypedStream[Any](registry or current(), model, context, checked, wanted, retries) as stream:
        return await stream.result()


class _Answer:
    """A type as the tool whose call is the answer. What is no object is its one argument."""

    def __init__(self, annotation: Any, names: dict[str, Any]) -> None:
        self.name = getattr(annotation, "__name__", str(annotation))
        shapes = Shapes(names, defaults=False)
        shape = shapes.of(annotation, "the answer")
        schema = shapes.complete(shape.schema)
        self._load = shape.load
        self._wrapped = schema.get("type") != "object"
        if self._wrapped:
            one: JSONObject = {"type": "object", "properties": {_WRAPPED: shape.schema}, "required": [_WRAPPED]}
            schema = shapes.complete(one | {"additionalProperties": False})
        self.tool = Tool(
            _NAME,
            "Gives your answer. Call it exactly once, with all of it, instead of writing a text.",
            schema,
            {"type": "json_schema", "strict": "prefer"},
        )

    def partial(self, arguments: JSONObject) -> Any:
        """What can be read so far; None: nothing."""
        return (arguments.get(_WRAPPED) if self._wrapped else arguments) or None

    def read(self, message: AssistantMessage) -> Any:
        """The value that a message gives.

        :raises ToolValidationError: it gives none; the text is for the model.
        """
        call = _the_call(message)
        arguments = validate_tool_arguments(self.tool, call or ToolCall("", _NAME, self._said(message.text)))
        try:
            return self._load(arguments[_WRAPPED] if self._wrapped else arguments)
        except ValueError as error:
            raise ToolValidationError(f'Invalid arguments for tool "{_NAME}": {error}') from error

    def _said(self, text: str) -> JSONObject:
        """The arguments in a text that should have been a call: JSON, alone or fenced."""
        fenced = _FENCED.search(text)
        try:
            value = decode_json(fenced[1] if fenced else text)
        except ValueError:
            raise ToolValidationError(f'Give your answer by calling the tool "{_NAME}", not as text.') from None
        if self._wrapped and not (isinstance(value, dict) and _WRAPPED in value):
            return {_WRAPPED: value}
        if not isinstance(value, dict):
            raise ToolValidationError(f'Give your answer by calling the tool "{_NAME}" with an object.')
        return cast("JSONObject", value)


def _the_call(message: AssistantMessage) -> ToolCall | None:
    """The call that is the answer; models may make several, whatever they are told."""
    return next((call for call in message.tool_calls if call.name == _NAME), None)


class TypedStream(AsyncIterator[Any], Generic[T]):
    """An answer that becomes a value; made by :func:`stream_as`.

    Iterate it for what can be read so far, as JSON (a new object each time, of a new answer after a retry), or not;
    ``await result()`` for the value. Leaving, aborting and cancelling are as for :class:`EventStream`.
    """

    def __init__(
        self,
        registry: Registry,
        model: Model,
        context: Context,
        options: RequestOptions,
        answer: _Answer,
        retries: int,
    ) -> None:
        choice = getattr(options, "tool_choice", None) or getattr(options, "reasoning", None)
        if choice is None and hasattr(options, "tool_choice"):
            options = attrs.evolve(cast("Any", options), tool_choice={"type": "tool", "name": _NAME})
        self._registry = registry
        self._model = model
        self._options = options
        self._answer = answer
        self._retries = retries
        self._context = attrs.evolve(context, messages=list(context.messages), tools=[answer.tool])
        self._seen: Any = None
        self._usage = Usage()
        self._read = False
        self._value: Any = None
        self._error: StructuredOutputError | None = None
        self._stream: EventStream = self._ask()

    @property
    def message(self) -> AssistantMessage:
        """The model's answer as far as it has come; the last one, after retries."""
        return self._stream.message

    @property
    def usage(self) -> Usage:
        """Tokens and cost of all answers."""
        return sum_usage(self._usage, self._stream.message.usage)

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        return self._read or self._error is not None or self.message.stop_reason in ("error", "aborted")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        """What can be read so far, once there is more of it.

        :raises StreamBusyError: another task is iterating.
        """
        while True:
            event = await anext(self._stream)
            if isinstance(event, ToolCallDeltaEvent):
                call = _the_call(event.partial)
                answering = call is event.partial.content[event.content_index]
                seen = self._answer.partial(call.arguments) if call and answering else None
                if seen is not None and seen is not self._seen:
                    self._seen = seen
                    return seen
            elif isinstance(event, DoneEvent):
                self._judge(event.message)
            elif isinstance(event, ErrorEvent):
                raise StopAsyncIteration

    async def result(self) -> T:
        """Drive the stream to its end, and return the value. May be awaited again.

        :raises StructuredOutputError: the answer does not fit, and there are no retries left.
        :raises PiAIError: the request failed, or was aborted.
        :raises StreamBusyError: another task is iterating.
        """
        async for _ in self:
            pass
        if self._error is not None:
            raise self._error
        if not self._read:
            self.message.raise_for_error()
        return self._value

    def abort(self) -> None:
        """End it; ``result()`` raises :class:`Aborted` then (S7)."""
        self._stream.abort()

    async def aclose(self) -> None:
        """Abort, release the connection, wait for both (S9)."""
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def _ask(self) -> EventStream:
        return self._registry.stream(self._model, self._context, self._options)

    def _judge(self, message: AssistantMessage) -> None:
        """Take the value, or ask once more, or give up."""
        try:
            self._value, self._read = self._answer.read(message), True
        except ToolValidationError as error:
            cut = message.stop_reason == "length"
            if self._retries > 0 and not cut:
                self._retries -= 1
                self._usage = sum_usage(self._usage, message.usage)
                self._context.messages += [message, *_complaints(message, str(error))]
                self._stream = self._ask()
                return
            why = "it was cut off; raise max_tokens" if cut else str(error)
            said = f"\n\nThe model said:\n{message.text}" if message.text else ""
            self._error = StructuredOutputError(f"the answer is no {self._answer.name}: {why}{said}", message)


def _complaints(message: AssistantMessage, error: str) -> list[Message]:
    """What is wrong, in the place where the model looks for it."""
    results: list[Message] = [
        ToolResultMessage(call.id, call.name, error, is_error=True) for call in message.tool_calls
    ]
    return results or [UserMessage(error)]
