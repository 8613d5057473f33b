"""The same scripted answer as three kinds of stream, so that the contract is proved for each (S24).

A script is a list of steps: a ``str`` is a text delta in a read of its own, a ``list`` of them one read, ``HANG``
waits for ever, an exception fails, ``DONE`` ends the answer.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio

from pi_ai import (
    Context,
    EventStream,
    MessageBuilder,
    Model,
    ModelCost,
    Registry,
    StreamEvent,
    Usage,
    UserMessage,
    event_stream,
    open_event_channel,
)
from pi_ai.testing.server import Answer, Received, Server

HANG = object()
DONE = object()
KINDS = ["adapter", "generator", "channel"]
CONTEXT = Context([UserMessage("Say it.", timestamp=1)])
USAGE = Usage(input=5, output=3, total_tokens=8)


def model(base_url: str = "http://127.0.0.1:9/v1", **fields: Any) -> Model:
    """A model of our own at a server on this machine."""
    return Model(
        **{
            "id": "test-model",
            "api": "openai-completions",
            "provider": "test",
            "base_url": base_url,
            "cost": ModelCost(input=1.0, output=10.0),
            **fields,
        }
    )


def chunk(content: str | None = None, finish: str | None = None, **fields: Any) -> bytes:
    """A chunk of the openai-completions wire."""
    delta = {} if content is None else {"content": content}
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: %s\n\n" % json.dumps({"id": "c1", "choices": choices, **fields}).encode()


USAGE_CHUNK = b'data: {"id":"c1","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3}}\n\n'
END = chunk(finish="stop") + USAGE_CHUNK + b"data: [DONE]\n\n"
SSE = {"content-type": "text/event-stream"}


class Rig:
    """Makes streams of one kind, and knows what became of their sources."""

    def __init__(self, kind: str, server: Server | None, registry: Registry | None, tasks: Any) -> None:
        self.kind = kind
        self.server = server
        self.registry = registry
        self.started = 0
        self.released = 0
        self.waiting = 0
        self._tasks = tasks
        self._scripts: list[list[Any]] = []
        self._changed = anyio.Event()

    def stream(self, *script: Any) -> EventStream:
        """A stream that plays a script."""
        if self.kind == "adapter":
            assert self.server is not None and self.registry is not None
            self._scripts.append(list(script))
            url = f"{self.server.url}/v1"
            return self.registry.stream(model(url), CONTEXT, max_retries=0)
        if self.kind == "generator":
            return event_stream(self._generate(list(script)), model=model())
        sink, events = open_event_channel(model())
        self._tasks.start_soon(self._produce, sink, weakref.ref(events), list(script))
        return events

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        with anyio.fail_after(5):
            while not condition():
                await anyio.sleep(0.002)

    async def has_released(self, count: int = 1) -> None:
        """Wait until the sources of that many streams are gone, and their connections with them."""
        await self.until(lambda: self.released >= count)

    async def is_waiting(self, count: int = 1) -> None:
        """Wait until that many sources hang."""
        await self.until(lambda: self.waiting >= count)

    # ── the three kinds ──────────────────────────────────────────────────────────────────────────────────────

    async def _generate(self, script: list[Any]) -> AsyncIterator[StreamEvent | list[StreamEvent]]:
        out = MessageBuilder(model())
        self.started += 1
        try:
            yield out.start()
            for step in script:
                if step is HANG:
                    self.waiting += 1
                    await anyio.sleep_forever()
                elif step is DONE:
                    out.set_usage(USAGE)
                    yield out.finish("stop")
                elif isinstance(step, BaseException):
                    raise step
                else:
                    yield _deltas(out, step)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0)
            self.released += 1

    async def _produce(self, sink: Any, reader: weakref.ref[EventStream], script: list[Any]) -> None:
        out = MessageBuilder(model())
        self.started += 1
        try:
            sink.push(out.start())
            for step in script:
                if step is HANG:
                    self.waiting += 1
                    while (events := reader()) is not None and not events.done:
                        del events
                        await anyio.sleep(0.005)
                    return
                if step is DONE:
                    out.set_usage(USAGE)
                    _push(sink, out.finish("stop"))
                elif isinstance(step, BaseException):
                    raise step
                else:
                    _push(sink, _deltas(out, step))
                    await anyio.sleep(0)
            sink.end()
        except anyio.BrokenResourceError:
            pass
        except Exception as error:
            sink.push(out.fail(str(error)))
        finally:
            self.released += 1

    async def _serve(self, request: Received, answer: Answer) -> None:
        script = self._scripts.pop(0)
        self.started += 1
        try:
            await answer.head(200, SSE)
            for step in script:
                if step is HANG:
                    self.waiting += 1
                    await answer.stall()
                elif step is DONE:
                    await answer.send(END)
                elif isinstance(step, BaseException):
                    await answer.send(b"data: %s\n\n" % json.dumps({"error": {"message": str(step)}}).encode())
                else:
                    texts = [step] if isinstance(step, str) else step
                    await answer.send(b"".join(map(chunk, texts)))
            await answer.end()
        finally:
            self.released += 1


def _deltas(out: MessageBuilder, step: Any) -> list[StreamEvent]:
    texts = [step] if isinstance(step, str) else step
    return [event for text in texts for event in out.text(text)]


def _push(sink: Any, events: list[StreamEvent]) -> None:
    for event in events:
        sink.push(event)


@asynccontextmanager
async def rig(kind: str, **registry: Any) -> AsyncIterator[Rig]:
    """A rig for one test; its server, registry and tasks end with it."""
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(anyio.create_task_group())
        if kind != "adapter":
            made = Rig(kind, None, None, tasks)
        else:
            holder: list[Rig] = []

            async def handle(request: Received, answer: Answer) -> None:
                await holder[0]._serve(request, answer)

            server = await stack.enter_async_context(Server(handle))
            pi = await stack.enter_async_context(Registry(**registry))
            made = Rig(kind, server, pi, tasks)
            holder.append(made)
        yield made
        tasks.cancel_scope.cancel()
