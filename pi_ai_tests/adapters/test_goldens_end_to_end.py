"""Every golden through ``stream()`` itself, with the transport replaced below the HTTP client.

The client is a real one, its network is not: URL detection sees the real hosts, and requests are compared as they
would leave. What differs is explained in ``differences.py``, plus here where it is about HTTP errors.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import AsyncIterator
from typing import Any

import anyio
import attrs
import httpx
import pytest

from pi_ai import AssistantMessage, Context, Model, StreamOptions, from_json, get_api, stream, to_json
from pi_ai.adapters import _ADAPTERS
from pi_ai.adapters.sessions import cleanup_session_resources
from pi_ai.errors import PiAIError
from pi_ai_tests.adapters.differences import DIFFERENCES
from pi_ai_tests.adapters.golden import (
    EVENT_FIELDS,
    OURS,
    check,
    differing,
    environment,
    kept,
    loosened,
    normal_url,
    of_parts,
    unlisted,
)
from pi_ai_tests.data import GOLDENS, goldens

pytestmark = pytest.mark.anyio
APIS = [api for api in _ADAPTERS if (GOLDENS / f"{api}.jsonl").exists()]
PARTS = ("requests", "url", "headers", "body", "events", "message")
_CLOUD = re.compile("AWS_|GOOGLE_|GCLOUD_").match
CASES = [pytest.param(golden, id=f"{api}-{golden['name']}") for api in APIS for golden in goldens(api)]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Two loops are enough here: the contract runs on three."""
    return request.param


class Replay(httpx.AsyncBaseTransport):
    """Answers requests with a golden's responses, in order; who asks more often gets the last one again."""

    def __init__(self, responses: list[dict[str, Any]]) -> None:
        self.responses = responses
        self.requests: list[dict[str, Any]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append(
            {
                "method": request.method,
                "url": str(request.url),
                "headers": kept(headers),
                "body": json.loads(request.content),
            }
        )
        response = self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]
        return httpx.Response(response["status"], headers=response.get("headers"), stream=Body(response))


class Body(httpx.AsyncByteStream):
    """A golden's body in its pieces, and how it ends."""

    def __init__(self, response: dict[str, Any]) -> None:
        encoded = response.get("bodyBase64")
        self.body = base64.b64decode(encoded) if encoded is not None else response.get("body", "").encode()
        self.sizes = [*response.get("chunkSizes", []), len(self.body)]
        self.end = response.get("end")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        at = 0
        for size in self.sizes:
            if piece := self.body[at : at + size]:
                yield piece
            at += size
        if self.end == "hang":
            await anyio.sleep_forever()
        if self.end == "drop":
            raise httpx.ReadError("the connection was lost")


@attrs.define
class Played:
    requests: list[dict[str, Any]]
    events: list[dict[str, Any]]
    message: AssistantMessage


async def play(golden: dict[str, Any]) -> Played:
    """One golden, as a user would make the call."""
    control = golden.get("control") or {}
    given = golden["options"]
    model, context = from_json(Model, golden["model"]), from_json(Context, golden["context"])
    options_type = StreamOptions if golden["mode"] == "streamSimple" else get_api(model.api).options_type
    transport = Replay(list(golden["responses"]))
    seen: list[dict[str, Any]] = []
    async with httpx.AsyncClient(transport=transport, headers={"accept": "*/*"}) as client:
        options = attrs.evolve(
            from_json(options_type, {"maxRetries": 0, **given}),  # pi-ai's own default; ours is 2 (D10)
            api_key=given.get("apiKey"),
            env=environment(given),
            http_client=client,
            allow_insecure=True,  # pi-ai sends a key over plain http, too
            on_payload=lambda payload, _: {**payload, **control.get("mergePayload", {})},
            on_response=lambda response, _: seen.append({"status": response.status, "headers": dict(response.headers)}),
        )
        events = stream(model, context, options)
        if control.get("abort") == "before":
            events.abort()
        shown = []
        with anyio.fail_after(20):
            async for event in events:
                data = to_json(event)
                shown.append({key: data[key] for key in EVENT_FIELDS if key in data})
                if control.get("abort") == len(shown):
                    events.abort()
    if control.get("observeResponse"):
        expected = golden["expected"].get("onResponse", {"status": 200})  # google.md section 3 [+]: there, too
        assert [{**entry, "headers": {}} for entry in seen] == [
            {"status": entry["status"], "headers": {}}
            for entry in (expected if isinstance(expected, list) else [expected])
        ]
    return Played(transport.requests, shown, await events.result())


@pytest.mark.parametrize("golden", CASES)
async def test_a_golden_is_met_end_to_end(golden: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    cleanup_session_resources()
    for earlier in golden.get("earlier", ()):
        await play({**golden, **earlier, "control": None})
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "PI_CACHE_RETENTION", *filter(_CLOUD, os.environ)):
        monkeypatch.delenv(name, raising=False)
    api, expected = golden["api"], golden["expected"]
    known = DIFFERENCES[api].get(golden["name"])
    try:
        played = await play(golden)
    except PiAIError as error:  # the lowering of options happens in the stream: nothing raises
        pytest.fail(f"stream() raised {error!r}")
    found: dict[str, str] = {}
    if known and "refused" in known[0]:
        assert not played.requests
        assert played.message.stop_reason == "error"
        return
    if "throws" in expected:  # core E12: what pi-ai throws at once is the stream's only event here
        assert (played.requests, played.message.error_message) == ([], expected["throws"])
        assert [event["type"] for event in played.events] == ["error"]
        return
    wanted = dict(expected["message"]) if "message" in expected else None
    requests = expected.get("requests", [])
    if len(played.requests) != len(requests):
        found["requests"] = f"{len(played.requests)} requests, not {len(requests)}"
    for ours, theirs in zip(played.requests, requests, strict=False):
        found |= differing("url", normal_url(ours["url"]), normal_url(theirs["url"]))
        found |= differing("headers", ours["headers"], kept(theirs["headers"]))
        found |= differing("body", ours["body"], theirs["body"])
    assert wanted is not None
    message = {key: value for key, value in to_json(played.message).items() if key not in OURS}
    message["timestamp"] = 0
    notes = [note for note in message.pop("diagnostics", ()) if note["type"] != "history"]  # F83: pi-ai is silent
    if notes:
        message["diagnostics"] = [{**note, "timestamp": 0} for note in notes]
    loose = "errorMessage" in golden.get("loose", ())
    failed = (
        any(response.get("status", 200) >= 400 for response in golden["responses"]) and wanted["stopReason"] == "error"
    )
    if loose or failed:
        # core ET1: the status and the body as it was received, where pi-ai has an SDK's words for them.
        assert known or bool(message.get("errorMessage")) == bool(wanted.get("errorMessage"))
        if failed:
            same = message["errorMessage"] == wanted["errorMessage"]
            assert same or str(golden["responses"][-1]["status"]) in message["errorMessage"]
            message.pop("diagnostics", None)
            wanted.pop("diagnostics", None)
        message["errorMessage"] = wanted.get("errorMessage")
    found |= differing("message", loosened(golden, message), loosened(golden, wanted))
    events = [{key: event[key] for key in EVENT_FIELDS if key in event} for event in expected["events"]]
    found |= differing("events", loosened(golden, played.events), loosened(golden, events))
    check(unlisted(golden, found), of_parts(known, *PARTS), golden["name"])
