"""Who is measured. To add one, write how it reads a stream, and put it in the table at the end.

Imports of libraries stand inside the functions: a contestant is measured by an interpreter of its own, which may lack
the other contestants' libraries, and even this package (``pi-ai-python`` has the same import name).
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

Seen = Callable[[], None]
"""Called at every piece of text."""
Read = Callable[[Seen], Awaitable[None]]
"""Asks once, and reads the answer to its end."""
Open = Callable[[str, str], AbstractAsyncContextManager[Read]]
"""Makes a client, given the URL up to what an SDK appends to it, and the wire."""

CHAT, MESSAGES, RESPONSES, GEMINI, BEDROCK = (
    "openai-completions",
    "anthropic-messages",
    "openai-responses",
    "google-generative-ai",
    "bedrock-converse-stream",
)
EVERY_SSE = (CHAT, MESSAGES, RESPONSES, GEMINI)


@dataclass(frozen=True)
class Contestant:
    """One way to read streams.

    :ivar kind: the package itself, what no client can do without, or another package.
    :ivar imports: the statement whose time is the price of the import.
    :ivar needs: distributions that must be installed; the first one's version is the contestant's.
    :ivar counts: it tells pieces of text, not just bytes or lines.
    """

    name: str
    kind: Literal["ours", "limit", "other"]
    open: Open
    wires: tuple[str, ...]
    imports: str
    needs: tuple[str, ...]
    counts: bool = True
    backend: str = "asyncio"
    backend_options: dict[str, Any] = field(default_factory=dict[str, Any])


# ── what no client can do without ────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def _socket(url: str, wire: str) -> AsyncGenerator[Read]:
    """Bytes from a socket; idle sockets are used again."""
    import anyio

    host, _, path = url.removeprefix("http://").partition("/")
    address, port = host.split(":")
    request = f"POST /{path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 2\r\n\r\n{{}}".encode()
    idle: list[Any] = []

    async def read(seen: Seen) -> None:
        stream = idle.pop() if idle else await anyio.connect_tcp(address, int(port))
        await stream.send(request)
        data = b""
        while not data.endswith(b"\n0\r\n\r\n") and data != b"0\r\n\r\n":
            data = await stream.receive()
            for _ in range(data.count(b"\ndata: ")):
                seen()
        idle.append(stream)

    try:
        yield read
    finally:
        for stream in idle:
            await stream.aclose()


_HAS_TEXT: dict[str, Callable[[Any], object]] = {
    CHAT: lambda data: data["choices"] and data["choices"][0]["delta"].get("content"),
    MESSAGES: lambda data: data["type"] == "content_block_delta",
    RESPONSES: lambda data: data["type"] == "response.output_text.delta",
    GEMINI: lambda data: data["candidates"][0]["content"].get("parts"),
    BEDROCK: lambda data: data.get("delta"),
}
"""Wire → whether a piece of its JSON has text."""


@asynccontextmanager
async def _httpx(read: Callable[[str, str, Any, Seen], Awaitable[None]], url: str, wire: str) -> AsyncGenerator[Read]:
    import httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    async with httpx.AsyncClient(timeout=None, limits=limits) as client:
        yield lambda seen: read(url, wire, client, seen)


async def _raw(url: str, wire: str, client: Any, seen: Seen) -> None:
    async with client.stream("POST", url, json={}) as response:
        async for _ in response.aiter_raw():
            seen()


async def _sse_json(url: str, wire: str, client: Any, seen: Seen) -> None:
    from httpx_sse import aconnect_sse

    has_text = _HAS_TEXT[wire]
    async with aconnect_sse(client, "POST", url, json={}) as source:
        async for event in source.aiter_sse():
            if event.data != "[DONE]" and has_text(json.loads(event.data)):
                seen()


async def _frames_json(url: str, wire: str, client: Any, seen: Seen) -> None:
    from botocore.eventstream import EventStreamBuffer

    has_text = _HAS_TEXT[wire]
    async with client.stream("POST", url, json={}) as response:
        frames = EventStreamBuffer()
        async for data in response.aiter_raw():
            frames.add_data(data)
            for frame in frames:
                if has_text(json.loads(frame.payload)):
                    seen()


# ── ours ─────────────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def _pi_ai(url: str, wire: str, *, speed: bool = True) -> AsyncGenerator[Read]:
    from pi_ai import Context, Model, Registry, TextDeltaEvent, UserMessage

    if not speed:  # there is no switch: the fast decoder is used where it is installed
        from pi_ai import transport
        from pi_ai.wire.chunked import ChunkedDecoder

        transport._chunked_decoder = lambda: ChunkedDecoder
    model = Model(id="gpt-test", api=wire, provider="bench", base_url=url)
    context = Context([UserMessage("Go.")])

    async with Registry() as pi:

        async def read(seen: Seen) -> None:
            stream = pi.stream(model, context, api_key="bench")
            async for event in stream:
                if isinstance(event, TextDeltaEvent):
                    seen()
            stream.message.raise_for_error()

        yield read


# ── others ───────────────────────────────────────────────────────────────────────────────────────────────────

_ASKED: list[Any] = [{"role": "user", "content": "Go."}]


@asynccontextmanager
async def _openai(url: str, wire: str) -> AsyncGenerator[Read]:
    from openai import AsyncOpenAI

    async with AsyncOpenAI(api_key="bench", base_url=url, max_retries=0) as client:

        async def chat(seen: Seen) -> None:
            async for chunk in await client.chat.completions.create(
                model="gpt-test", messages=_ASKED, stream=True, stream_options={"include_usage": True}
            ):
                if chunk.choices and chunk.choices[0].delta.content:
                    seen()

        async def responses(seen: Seen) -> None:
            async for event in await client.responses.create(model="gpt-test", input="Go.", stream=True):
                if event.type == "response.output_text.delta":
                    seen()

        yield chat if wire == CHAT else responses


@asynccontextmanager
async def _anthropic(url: str, wire: str) -> AsyncGenerator[Read]:
    from anthropic import AsyncAnthropic

    async with AsyncAnthropic(api_key="bench", base_url=url, max_retries=0) as client:

        async def read(seen: Seen) -> None:
            async for event in await client.messages.create(
                model="claude-test", max_tokens=1024, messages=_ASKED, stream=True
            ):
                if event.type == "content_block_delta" and event.delta.type == "text_delta":
                    seen()

        yield read


@asynccontextmanager
async def _google_genai(url: str, wire: str) -> AsyncGenerator[Read]:
    from google.genai import Client
    from google.genai.types import HttpOptions

    client = Client(api_key="bench", http_options=HttpOptions(base_url=url)).aio

    async def read(seen: Seen) -> None:
        async for chunk in await client.models.generate_content_stream(model="gemini-test", contents="Go."):
            if chunk.text:
                seen()

    try:
        yield read
    finally:
        await client.aclose()


@asynccontextmanager
async def _litellm(url: str, wire: str) -> AsyncGenerator[Read]:
    import litellm

    model, base = (
        ("anthropic/claude-sonnet-4-5", f"{url}/v1/messages") if wire == MESSAGES else ("openai/gpt-4o", url)
    )  # names that it knows: others it does not stream

    async def read(seen: Seen) -> None:
        answer: Any = await litellm.acompletion(
            model=model, messages=_ASKED, stream=True, api_base=base, api_key="bench", num_retries=0
        )
        async for chunk in answer:
            if chunk.choices and chunk.choices[0].delta.content:
                seen()

    async def responses(seen: Seen) -> None:
        answer: Any = await litellm.aresponses(
            model=model, input="Go.", stream=True, api_base=base, api_key="bench", num_retries=0
        )
        async for event in answer:
            if event.type == "response.output_text.delta":
                seen()

    yield responses if wire == RESPONSES else read


@asynccontextmanager
async def _pydantic_ai(url: str, wire: str) -> AsyncGenerator[Read]:
    from pydantic_ai.direct import model_request_stream
    from pydantic_ai.messages import ModelRequest, PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta

    model = _pydantic_model(url, wire)
    asked = [ModelRequest.user_text_prompt("Go.")]

    async def read(seen: Seen) -> None:
        async with model_request_stream(model, asked) as events:
            async for event in events:
                if isinstance(event, PartDeltaEvent):
                    if isinstance(event.delta, TextPartDelta):
                        seen()
                elif isinstance(event, PartStartEvent) and isinstance(event.part, TextPart) and event.part.content:
                    seen()

    async with model:
        yield read


def _pydantic_model(url: str, wire: str) -> Any:
    if wire == MESSAGES:
        from pydantic_ai.models.anthropic import AnthropicModel
        from pydantic_ai.providers.anthropic import AnthropicProvider

        return AnthropicModel("claude-test", provider=AnthropicProvider(api_key="bench", base_url=url))
    if wire == GEMINI:
        from pydantic_ai.models.google import GoogleModel
        from pydantic_ai.providers.google import GoogleProvider

        return GoogleModel("gemini-test", provider=GoogleProvider(api_key="bench", base_url=url))
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    kind = OpenAIChatModel if wire == CHAT else OpenAIResponsesModel
    return kind("gpt-test", provider=OpenAIProvider(api_key="bench", base_url=url))


@asynccontextmanager
async def _pi_ai_python(url: str, wire: str) -> AsyncGenerator[Read]:
    """The package of that name on the index, which is imported as ``pi_ai``, too."""
    from pi_ai.providers.all import builtin_models

    from pi_ai import Context, Model, UserMessage

    pi: Any = builtin_models()
    providers = {CHAT: "groq", MESSAGES: "anthropic", RESPONSES: "openai", GEMINI: "google"}
    model = Model(id="gpt-test", api=wire, provider=providers[wire], base_url=url)  # pyright: ignore[reportCallIssue] - theirs
    context = Context(messages=[UserMessage("Go.")])

    async def read(seen: Seen) -> None:
        stream = pi.stream(model, context, api_key="bench")
        async for event in stream:
            if event.type == "text_delta":
                seen()
        message = await stream.result()
        assert message.stop_reason == "stop", message.error_message

    yield read


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────

_OURS = partial(Contestant, kind="ours", open=_pi_ai, wires=(*EVERY_SSE, BEDROCK), imports="import pi_ai")
_LIMIT = partial(Contestant, kind="limit", imports="import httpx")
_OTHER = partial(Contestant, kind="other")

CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        _LIMIT(
            name="raw socket",
            open=_socket,
            wires=(*EVERY_SSE, BEDROCK),
            imports="import anyio",
            needs=("anyio",),
            counts=False,
        ),
        _LIMIT(
            name="httpx raw", open=partial(_httpx, _raw), wires=(*EVERY_SSE, BEDROCK), needs=("httpx",), counts=False
        ),
        _LIMIT(
            name="httpx + httpx-sse + json",
            open=partial(_httpx, _sse_json),
            wires=EVERY_SSE,
            needs=("httpx-sse", "httpx"),
        ),
        _LIMIT(
            name="httpx + botocore + json",
            open=partial(_httpx, _frames_json),
            wires=(BEDROCK,),
            needs=("botocore", "httpx"),
        ),
        _OURS(name="pi_ai", needs=("pi_ai",)),
        _OURS(name="pi_ai, uvloop", needs=("pi_ai", "uvloop"), backend_options={"use_uvloop": True}),
        _OURS(name="pi_ai, trio", needs=("pi_ai", "trio"), backend="trio"),
        _OURS(name="pi_ai without speed", needs=("pi_ai", "httptools"), open=partial(_pi_ai, speed=False)),
        _OTHER(
            name="openai",
            open=_openai,
            wires=(CHAT, RESPONSES),
            imports="from openai import AsyncOpenAI",
            needs=("openai",),
        ),
        _OTHER(
            name="anthropic",
            open=_anthropic,
            wires=(MESSAGES,),
            imports="from anthropic import AsyncAnthropic",
            needs=("anthropic",),
        ),
        _OTHER(
            name="google-genai",
            open=_google_genai,
            wires=(GEMINI,),
            imports="from google.genai import Client",
            needs=("google-genai",),
        ),
        _OTHER(
            name="litellm",
            open=_litellm,
            wires=(CHAT, MESSAGES, RESPONSES),
            imports="import litellm",
            needs=("litellm",),
        ),
        _OTHER(
            name="pydantic-ai",
            open=_pydantic_ai,
            wires=EVERY_SSE,
            imports="from pydantic_ai.direct import model_request_stream",
            needs=("pydantic-ai-slim",),
        ),
        _OTHER(
            name="pi-ai-python",
            open=_pi_ai_python,
            wires=EVERY_SSE,
            imports="import pi_ai",
            needs=("pi-ai-python",),
        ),
    )
}
"""Name → contestant, in the order of the tables."""
BARE = dict.fromkeys(EVERY_SSE, "httpx + httpx-sse + json") | {BEDROCK: "httpx + botocore + json"}
"""Wire → the loop that one would write by hand, by which the others are measured (L4)."""
