"""One key through every fault, and everything that can be seen of it afterwards (T14): the key must not be there."""

from __future__ import annotations

import json
import logging
import traceback
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from pi_ai import Registry, StreamEvent, Timeouts, dumps, to_json
from pi_ai.retries import RetryPolicy
from pi_ai.testing import Delivery, Failure, Page, Sandbox, SandboxRequest, Turn
from pi_ai.testing.sandbox import Answered
from pi_ai_tests.reliability.rigs import CONTEXT, TURN, Stepped, every_api_in_turn

pytestmark = pytest.mark.anyio

CANARY = "sk-canary-5f2c91d0e7b34a"
KEYS: dict[str, dict[str, Any]] = {"option": {"api_key": CANARY}, "runtime key": {}}
"""No local variable of a test may hold it: that would be seen in tracebacks."""
SHAPES = (CANARY, CANARY[5:20], b64encode(CANARY.encode()).decode().rstrip("="))
"""The key, a part of it, and what a header of some kinds would hold."""


def echoing(status: int) -> Callable[[SandboxRequest], Answered]:
    """A server that says the key it got."""
    return lambda request: Failure(status, f"Wrong key {CANARY}, sent as {request.headers}")


ANSWERS: dict[str, Any] = {
    "an answer": TURN,
    "401": Failure(401),
    "401 with the key": echoing(401),
    "400 with the key": echoing(400),
    "503 with the key": echoing(503),
    "429": Failure(429, headers={"retry-after": "1000"}),
    "a page with the key": Page(f"<title>Wrong key {CANARY}</title>"),
    "text with the key": Page(f"Wrong key {CANARY}", "text/plain", status=502),
    "an error event with the key": Turn("It is", failure=Failure(529, f"Wrong key {CANARY}")),
    "no JSON": Page("data: {nonsense\n\n", "text/event-stream"),
    "nothing": Page("", "text/event-stream"),
    "cut in the head": (TURN, Delivery(cut_at=0, then="close")),
    "cut": (TURN, Delivery(stop_after=2, then="close")),
    "reset": (TURN, Delivery(stop_after=2, then="reset")),
    "stalled": (TURN, Delivery(stop_after=2, then="stall")),
    "never answered": (TURN, Delivery(head_delay_s=1e6)),
}


@pytest.fixture(autouse=True)
def every_attempt_is_made_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryPolicy, "_wait", lambda policy, state: 0.0)


def answer(what: str) -> Callable[[SandboxRequest], Any]:
    found = ANSWERS[what]
    return lambda request: found(request) if callable(found) else found


class Seen:
    """Everything that a program could show, log or store."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def note(self, where: str, value: object) -> None:
        self.texts[where] = value if isinstance(value, str) else f"{value!r} {value!s}"

    def error(self, where: str, error: BaseException | None) -> None:
        """An exception with all that hangs on it, and the locals of every frame."""
        if error is not None:
            told = traceback.TracebackException.from_exception(error, capture_locals=True)
            self.note(where, "".join(told.format()) + repr(error) + str(vars(error)))

    def check(self, what: str) -> None:
        for where, text in self.texts.items():
            for shape in SHAPES:
                at = text.find(shape)
                assert at < 0, f"{what}: {where} has the key: …{text[max(0, at - 300) : at + 60]}"


@every_api_in_turn
@pytest.mark.parametrize("given", ["option", "runtime key"])
async def test_the_key_is_nowhere_after_any_fault_X1_X2_X23_X24_X29(
    api: str, given: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    async with Sandbox() as box, Registry() as pi:
        if given == "runtime key":
            pi.set_runtime_api_key("sandbox", CANARY)
        for what in ANSWERS:
            box._default = answer(what)
            seen = Seen()
            await call(pi, box, api, given, seen)
            seen.note("the logs", caplog.text + "".join(map(str, (record.__dict__ for record in caplog.records))))
            seen.note("the output", str(capsys.readouterr()))
            seen.note("the registry", pi)
            seen.note("the requests", repr(box.requests))
            seen.check(what)
            if what != "an answer":
                sent = [str(request.headers) for request in box.requests]
                assert any(CANARY in text for text in sent) or api == "bedrock-converse-stream", (
                    "the key was never sent"
                )
            box.requests.clear()
            caplog.clear()


async def call(pi: Registry, box: Sandbox, api: str, given: str, seen: Seen) -> None:
    """One call, and all that comes of it."""
    clocks = Timeouts(first_event_ms=100, idle_ms=30)
    events = pi.stream(box.model(api), CONTEXT, timeouts=clocks, max_retries=1, **KEYS[given])
    async for event in events:
        note_event(seen, event)
    message = events.message
    seen.note("the stream", events)
    seen.note("the message", message)
    seen.note("its JSON", json.dumps(to_json(message)) + dumps(message))
    seen.note("the context", dumps(CONTEXT))
    seen.note("the attempts", message.attempts)
    seen.note("its diagnostics", message.diagnostics)
    if message.error_info is not None:
        seen.error("its cause", message.error_info.cause)
    for attempt in message.attempts or ():
        seen.error("the cause of an attempt", attempt.error.cause)
    try:
        message.raise_for_error()
    except Exception as error:
        seen.error("the exception", error)


def note_event(seen: Seen, event: StreamEvent) -> None:
    seen.note(f"event {event.type}", event)
    seen.note(f"event {event.type} as JSON", json.dumps(to_json(event)))


class Broken(Exception):
    """What a hook of the user's raises."""


def broken(*_: Any) -> None:
    raise Broken


@every_api_in_turn
@pytest.mark.parametrize("hook", ["on_payload", "transform_headers", "on_response", "on_provider_stream_event"])
async def test_a_hook_that_raises_is_named_and_its_traceback_has_no_key_F100_X2(api: str, hook: str) -> None:
    async with Sandbox(TURN, default=lambda request: TURN) as box, Registry() as pi:
        pi.set_runtime_api_key("sandbox", CANARY)
        message = await pi.complete(box.model(api), CONTEXT, **{hook: broken})
        assert message.error_info is not None
        assert message.error_info.kind == "internal"
        assert hook in message.error_info.message
        seen = Seen()
        seen.error("its cause", message.error_info.cause)
        seen.note("the message", message)
        seen.note("its JSON", dumps(message))
        try:
            message.raise_for_error()
        except Exception as error:
            seen.error("the exception", error)
        seen.check(hook)


@every_api_in_turn
async def test_the_traceback_of_a_cancellation_has_no_key_X2(api: str) -> None:
    """It goes through all the frames of a call, and deadlines of asyncio's own are raised from it."""
    at, cancelled = 0, True
    async with Sandbox(default=lambda request: TURN) as box, Registry() as pi:
        pi.set_runtime_api_key("sandbox", CANARY)
        while cancelled:
            at += 1
            seen = Seen()
            with anyio.CancelScope() as scope:
                try:
                    await Stepped(pi.complete(box.model(api), CONTEXT), at, scope.cancel)
                except anyio.get_cancelled_exc_class() as error:
                    seen.error(f"the cancellation of wait number {at}", error)
                    raise
            cancelled = bool(seen.texts)
            seen.check("cancelled")
    assert at > 4
