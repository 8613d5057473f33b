"""Fuzzing of all that reads bytes from outside (reliability T10): no exception but the library's own.

A target is a function of bytes that fails by raising. The tests feed them from hypothesis
(``reliability/test_fuzz.py``); by hand, and for hours, they are fed by libFuzzer, which is guided by coverage::

    pip install atheris                         # needs a Python that it has a wheel for
    python -m pi_ai_tests.fuzz sse              # until it finds something, or Ctrl-C
    python -m pi_ai_tests.fuzz openai-responses -max_total_time=3600 -timeout=5 my_corpus

It begins from the answers of the goldens; an input that fails is written to a file, and
``python -m pi_ai_tests.fuzz TARGET FILE`` runs it again.

The targets that are named like an API read lines: the name of an event, a blank, its data. The framing around them,
checksums included, is made here, so that what is tried are the answers and not the checksums.
"""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from httpx_sse import ServerSentEvent

from pi_ai.adapters import get_api
from pi_ai.adapters.base import Decoder
from pi_ai.errors import PiAIError
from pi_ai.testing.wires import WIRES
from pi_ai.types import Model
from pi_ai.wire.aws_event_stream import EventStreamDecoder, Frame
from pi_ai.wire.json_documents import JSONDocuments
from pi_ai.wire.partial_json import PartialArguments
from pi_ai.wire.sse import SSEDecoder
from pi_ai_tests.adapters.golden import streamed
from pi_ai_tests.adapters.reading import Read, read
from pi_ai_tests.data import goldens
from pi_ai_tests.wire import frames

Target: TypeAlias = Callable[[bytes], None]

BEDROCK = "bedrock-converse-stream"
MAX_EVENT_BYTES = 4096
"""Small, so that the limit is met as well."""


def decoder(make: Callable[[int], Decoder[Any]], data: bytes) -> None:
    """However a body is cut, it means the same, and how it fails is ours."""
    whole = decoded(make(MAX_EVENT_BYTES), [data[1:]])
    assert decoded(make(MAX_EVENT_BYTES), cut(data)) == whole


def decoded(reader: Decoder[Any], parts: Iterable[bytes]) -> tuple[list[object], str | None]:
    """The events of a body, and how it failed."""
    events: list[object] = []
    try:
        for part in parts:
            events += map(_plain, reader.feed(part))
        events += map(_plain, reader.close())
    except PiAIError as error:
        return events, f"{error.info.kind}: {error}"
    return events, None


def _plain(event: object) -> object:
    return (event.event, event.data, event.id, event.retry) if isinstance(event, ServerSentEvent) else event


def cut(data: bytes) -> list[bytes]:
    """A body in pieces of the size that its first byte tells."""
    size, body = (data[0] if data else 0) or len(data) or 1, data[1:]
    return [body[at : at + size] for at in range(0, len(body), size)]


def partial_json(data: bytes) -> None:
    """A call's arguments can be read at any moment, whatever comes, and their pieces do not matter."""
    arguments, at_once = PartialArguments(), PartialArguments()
    pieces = [piece.decode("utf-8", "surrogatepass" if piece.isascii() else "replace") for piece in cut(data)]
    for piece in pieces:
        arguments.append(piece)
        assert isinstance(arguments.value, dict)
    at_once.append("".join(pieces))
    assert repr(arguments.finish()) == repr(at_once.finish())  # by repr: a NaN is not itself
    assert arguments.interrupted()


def answer(api: str, data: bytes) -> None:
    """Whatever a server says, the events are in order and the failure is ours, however the bytes came."""
    head, lines = data[:1], data[1:]
    body = framed(api, lines)
    whole = _read(api, [body])
    again = _read(api, cut(head + body))
    assert (again.types, again.deltas, again.proven) == (whole.types, whole.deltas, whole.proven)
    assert _words(again.error) == _words(whole.error)
    assert repr(whole.message)


def _words(error: PiAIError | None) -> str:
    return re.sub("call_[a-z0-9]{12}", "an id that we made up", str(error))


def _read(api: str, parts: Iterable[bytes]) -> Read:
    model = Model(id="test", api=api, provider="test", base_url="https://x.example/v1")
    return read(get_api(api), model, parts)


def framed(api: str, lines: bytes) -> bytes:
    """Lines of events as an API's wire has them."""
    events = [line.partition(b" ") for line in lines.split(b"\n") if line]
    if api == BEDROCK:
        return b"".join(_frame(name.decode("utf-8", "replace")[:99], payload) for name, _, payload in events)
    return b"".join(
        (b"event: %s\n" % name if name else b"") + b"data: %s\n\n" % payload.replace(b"\r", b"")
        for name, _, payload in events
    )


def _frame(name: str, payload: bytes) -> bytes:
    return frames.exception(name, payload) if name.endswith("Exception") else frames.event(name, payload)


def lines(api: str, body: bytes) -> bytes:
    """The body of an answer as lines of events."""
    reader: Decoder[Any] = EventStreamDecoder() if api == BEDROCK else SSEDecoder()
    try:
        events = reader.feed(body) + reader.close()
    except PiAIError:
        return b""
    return b"\n".join(_line(event) for event in events)


def _line(event: ServerSentEvent | Frame) -> bytes:
    if isinstance(event, Frame):
        name = event.headers.get(":event-type") or event.headers.get(":exception-type")
        return f"{name} ".encode() + event.payload.replace(b"\n", b" ")
    name = "" if event.event == "message" else event.event
    return f"{name} {event.data}".replace("\n", " ").encode()


TARGETS: dict[str, Target] = {
    "sse": partial(decoder, SSEDecoder),
    "aws-event-stream": partial(decoder, EventStreamDecoder),
    "json-documents": partial(decoder, JSONDocuments),
    "partial-json": partial_json,
    **{api: partial(answer, api) for api in WIRES},
}


def bodies(api: str) -> list[bytes]:
    """The bodies of the answers in the goldens of an API, each once."""
    answers = [golden["responses"][-1] for golden in goldens(api) if streamed(golden)]
    return list(dict.fromkeys(_body(response) for response in answers))


def _body(response: dict[str, Any]) -> bytes:
    encoded = response.get("bodyBase64")
    return response.get("body", "").encode() if encoded is None else base64.b64decode(encoded)


def corpus(target: str) -> list[bytes]:
    """Inputs of a target to begin from: all in pieces of 7 bytes."""
    if target in WIRES:
        found = [lines(target, body) for body in bodies(target)]
    elif target == "partial-json":
        found = [b'{"city": "Paris", "days": [1, 2.5e3, null], "deep": {"\\u00e9\\ud83d\\ude00": true}}', b'{"a": "b']
    else:
        api = {"aws-event-stream": BEDROCK, "json-documents": "google-generative-ai"}.get(target, "anthropic-messages")
        found = bodies(api)
    return [b"\7" + body for body in dict.fromkeys(found) if body]


def main(arguments: list[str]) -> None:
    """Fuzz the target that is named first; what follows is libFuzzer's."""
    if not arguments or arguments[0] not in TARGETS:
        sys.exit(f"usage: python -m pi_ai_tests.fuzz TARGET [libFuzzer's options]\ntargets: {', '.join(TARGETS)}")
    target, *rest = arguments
    files = [Path(name) for name in rest if Path(name).is_file()]
    for file in files:
        TARGETS[target](file.read_bytes())
    if files:
        return
    import atheris

    with atheris.instrument_imports(include=["pi_ai"]):
        _load_again()
    function = sys.modules["pi_ai_tests.fuzz"].TARGETS[target]
    with TemporaryDirectory() as folder:
        for number, data in enumerate(corpus(target)):
            Path(folder, str(number)).write_bytes(data)
        atheris.Setup([sys.argv[0], *rest, folder], function)
        atheris.Fuzz()


def _load_again() -> None:
    """Import what is fuzzed anew, so that it is instrumented."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("pi_ai", "pi_ai_tests")]:
        del sys.modules[name]
    import pi_ai_tests.fuzz

    assert pi_ai_tests.fuzz.TARGETS.keys() == TARGETS.keys()


if __name__ == "__main__":
    main(sys.argv[1:])
