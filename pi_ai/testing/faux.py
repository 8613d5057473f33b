"""A provider that answers from a script, without a server and without a wire (core section 21).

For tests of what is done *with* answers::

    with Faux("It is sunny.") as faux:
        message = await complete(faux.model(), context)
        assert faux.calls[0].context.messages == context.messages

Under the name of a provider that there is, with a model of the same id, it stands in for that one, so that code which
asks for ``get_model("groq", "openai/gpt-oss-120b")`` gets the script. It is a custom provider like anybody's: the whole
streaming contract holds. Where requests and bytes matter, use the :class:`~pi_ai.testing.Sandbox`.
"""

from __future__ import annotations

import inspect
import itertools
import json
import math
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeAlias, cast

import anyio
import attrs

from pi_ai.builder import MessageBuilder
from pi_ai.errors import PiAIError, failure
from pi_ai.events import ErrorEvent, StreamEvent
from pi_ai.failures import ProviderWords, stream_failure
from pi_ai.registry import Registry, current
from pi_ai.serialization import dumps
from pi_ai.types import (
    AssistantMessage,
    Context,
    JSONObject,
    Model,
    StopReason,
    StreamOptions,
    TextContent,
    ThinkingContent,
    ToolCall,
    Usage,
)

CHARACTERS_PER_TOKEN = 4
Block: TypeAlias = TextContent | ThinkingContent | ToolCall
FauxContent: TypeAlias = str | Block | Sequence[str | Block]


@attrs.frozen
class FauxCall:
    """A call that was made.

    :ivar context: as it was then; what is added to its lists later is not in here.
    """

    model: Model
    context: Context
    options: StreamOptions


FauxFunction: TypeAlias = Callable[[Context, StreamOptions, "Faux", Model], Any]
FauxResponse: TypeAlias = AssistantMessage | FauxContent | FauxFunction
"""An answer, or a function of the call that returns or awaits one."""

_numbers = itertools.count(1)


class Faux:
    """A scripted provider; registered for as long as its block runs.

    :ivar calls: all calls, oldest first.
    """

    def __init__(
        self,
        *script: FauxResponse,
        provider: str = "faux",
        models: Sequence[JSONObject] = ({},),
        registry: Registry | None = None,
        tokens_per_second: float = math.inf,
        piece_tokens: tuple[int, int] = (3, 5),
        seed: int = 0,
    ) -> None:
        """Make a provider.

        :param script: the answers, one a call; see also :meth:`script`.
        :param models: fields of its models, in addition to or instead of F1's: ``{"id": "faux-2", "reasoning": True}``.
        :param registry: where it is registered; default: the one that is open when the block begins (D7).
        :param tokens_per_second: of four characters each.
        :param piece_tokens: the smallest and the largest delta.
        :param seed: chooses the sizes of the deltas; the same ones every time (F7).
        """
        self.provider = provider
        self.api = f"faux-{next(_numbers)}"
        self.calls: list[FauxCall] = []
        self._models = [{**_MODEL, **fields} for fields in models]
        self._script: deque[FauxResponse] = deque()
        self._wanted, self._registry = registry, registry
        self._pace = tokens_per_second
        self._piece_tokens = piece_tokens
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._prompts: dict[str, str] = {}
        self.script(*script)

    def script(self, *responses: FauxResponse) -> None:
        """Append answers: a text, blocks, a message, or a function of the call (F2)."""
        self._script.extend(responses)

    @property
    def pending(self) -> int:
        """How many answers are left."""
        return len(self._script)

    @property
    def call_count(self) -> int:
        """How many calls were made."""
        return len(self.calls)

    def model(self, id: str = "faux-1") -> Model:  # noqa: A002 - pi's name
        """One of its models, while it is registered.

        :raises LookupError: there is none.
        """
        return (self._registry or current()).get_model(self.provider, id)

    def __enter__(self) -> Self:
        self._registry = self._wanted or current()
        self._registry.register_provider(
            self.provider,
            api=self.api,
            base_url="http://localhost",
            api_key="faux",
            models=self._models,
            stream_simple=self._stream,
        )
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._registry is not None
        self._registry.unregister_provider(self.provider)
        self._registry = self._wanted

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(exc_type, exc, tb)

    async def _stream(
        self, model: Model, context: Context, options: StreamOptions
    ) -> AsyncIterator[StreamEvent | list[StreamEvent]]:
        then = attrs.evolve(context, messages=list(context.messages), tools=context.tools and list(context.tools))
        self.calls.append(FauxCall(model, then, options))
        if not self._script:
            raise failure("config", "No more faux responses queued. Give the Faux one for each call.")
        answer = await self._answer(self._script.popleft(), model, context, options)
        out = MessageBuilder(model)
        usage = self._usage(answer, context, options)
        out.set_usage(attrs.evolve(usage, output=0, total_tokens=usage.total_tokens - usage.output))
        yield out.start()
        for content in answer.content:
            text, block = _opened(out, content)
            yield block.start()
            for piece in self._pieces(text):
                if self._pace != math.inf:
                    await anyio.sleep(len(piece) / CHARACTERS_PER_TOKEN / self._pace)
                yield block.delta(piece)
            yield block.end()
        out.set_usage(usage)
        reason = answer.stop_reason
        if reason == "pending":
            raise failure("protocol", "Faux response ended without a stop reason")
        if reason == "error":
            raise _failed(answer, model)
        if reason == "aborted":
            left = out.interrupt()
            left.error_message, left.error_info = answer.error_message, answer.error_info
            yield ErrorEvent(reason, left)
        else:
            yield out.finish(reason)

    async def _answer(
        self, response: FauxResponse, model: Model, context: Context, options: StreamOptions
    ) -> AssistantMessage:
        if callable(response):
            response = response(context, options, self, model)
            if inspect.isawaitable(response):
                response = await cast("Awaitable[FauxResponse]", response)
        return response if isinstance(response, AssistantMessage) else faux_assistant_message(cast("Any", response))

    def _pieces(self, text: str) -> Iterable[str]:
        at = 0
        while at < len(text):
            size = self._random.randint(*self._piece_tokens) * CHARACTERS_PER_TOKEN
            yield text[at : at + size]
            at += size

    def _usage(self, answer: AssistantMessage, context: Context, options: StreamOptions) -> Usage:
        """The answer's own, or an estimate; the second prompt of a session finds what it shares cached (F5)."""
        if answer.usage.total_tokens:
            return answer.usage
        prompt = dumps(context)
        usage = Usage(output=_tokens(dumps(answer.content)))
        session = options.session_id
        if session is None or options.cache_retention == "none":
            usage.input = _tokens(prompt)
        else:
            before = self._prompts.get(session, "")
            shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(before, prompt)))  # noqa: B905
            usage.cache_read = shared // CHARACTERS_PER_TOKEN
            usage.cache_write = _tokens(prompt) - usage.cache_read
            self._prompts[session] = prompt
        usage.total_tokens = usage.input + usage.output + usage.cache_read + usage.cache_write
        return usage


_MODEL: JSONObject = {
    "id": "faux-1",
    "input": ["text", "image"],
    "context_window": 128_000,
    "max_tokens": 16_384,
    "reasoning": False,
}


def _failed(answer: AssistantMessage, model: Model) -> PiAIError:
    """The failure that an answer tells; its kind is what the words mean, as they would from a provider."""
    text = answer.error_message or "The faux answer failed"
    if answer.error_info is not None:
        return answer.error_info.exception(text)
    words = ProviderWords(message=text)
    return stream_failure(words, provider=model.provider, api=model.api, model=model.id, text=text)


def _tokens(text: str) -> int:
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)


def _opened(out: MessageBuilder, content: Block) -> tuple[str, Any]:
    """The text of a block, and a block to write it to."""
    match content:
        case TextContent():
            block = out.add_text()
            block.content.text_signature = content.text_signature
            return content.text, block
        case ThinkingContent():
            return content.thinking, out.add_thinking(
                signature=content.thinking_signature, redacted=bool(content.redacted)
            )
        case ToolCall():
            return json.dumps(content.arguments, ensure_ascii=False), out.add_tool_call(content.id, content.name)


# ── what people coming from pi look for (F6) ─────────────────────────────────────────────────────────────────

_calls = itertools.count(1)


def faux_text(text: str) -> TextContent:
    """A block of text."""
    return TextContent(text)


def faux_thinking(thinking: str) -> ThinkingContent:
    """A block of thinking."""
    return ThinkingContent(thinking)


def faux_tool_call(name: str, arguments: JSONObject, id: str | None = None) -> ToolCall:  # noqa: A002 - the field's name
    """A call of a tool.

    :param id: default: a new one.
    """
    return ToolCall(id or f"faux_call_{next(_calls)}", name, arguments)


def faux_assistant_message(
    content: FauxContent, *, stop_reason: StopReason | None = None, error_message: str | None = None, **fields: Any
) -> AssistantMessage:
    """A message of text, or of blocks.

    :param stop_reason: default: ``error`` where there is an error message, ``toolUse`` where there are calls, ``stop``.
    :param fields: of the message.
    """
    parts = [content] if isinstance(content, (str, TextContent, ThinkingContent, ToolCall)) else content
    blocks = [TextContent(part) if isinstance(part, str) else part for part in parts]
    if stop_reason is None:
        calls = any(isinstance(block, ToolCall) for block in blocks)
        stop_reason = "error" if error_message is not None else "toolUse" if calls else "stop"
    return AssistantMessage(blocks, stop_reason=stop_reason, error_message=error_message, **fields)
