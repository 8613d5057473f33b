"""A conversation goes on with another model, on any API, in every order of two: each request is one that it takes.

Answers are read by the real parsers from what a provider sends, so they hold what only their own model may get back.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai import (
    AssistantMessage,
    Context,
    ImageContent,
    Message,
    MessageBuilder,
    Model,
    StreamOptions,
    TextContent,
    ThinkingContent,
    Tool,
    ToolCall,
    ToolResultMessage,
    UserMessage,
    get_api,
)
from pi_ai.testing import Turn, wire_events
from pi_ai.testing.wires import WIRES
from pi_ai.text import encode_json
from pi_ai_tests.schemas import REQUESTS

APIS = list(WIRES)
every_order = pytest.mark.parametrize("second", APIS), pytest.mark.parametrize("first", APIS)

IMAGE = b64encode(b"\x89PNG\r\n\x1a\nimage").decode()
LONE = "half \ud83d of it"
ABORTED = "never mind"
TOOLS = [Tool(name, "Does it", {"type": "object", "properties": {"x": {}}}) for name in ("look", "count")]


def model(api: str, **fields: Any) -> Model:
    """A model for which the schema of its API is written."""
    ids = {
        "openai-completions": ("gpt-4o", "openai"),
        "anthropic-messages": ("claude-sonnet-4-5", "anthropic"),
        "openai-responses": ("gpt-5", "openai"),
        "azure-openai-responses": ("gpt-5", "azure"),
        "google-generative-ai": ("gemini-3-pro-preview", "google"),
        "google-vertex": ("gemini-2.5-pro", "google-vertex"),
        "bedrock-converse-stream": ("anthropic.claude-sonnet-4-5-20250929-v1:0", "amazon-bedrock"),
        "mistral-conversations": ("magistral-medium-latest", "mistral"),
    }
    name, provider = ids[api]
    about = {"base_url": "http://127.0.0.1:9", "reasoning": True, "input": ["text", "image"]}
    return Model(**{"id": name, "api": api, "provider": provider, **about, **fields})


def elder(api: str) -> Model:
    """Another model of the same API and provider."""
    return model(api, id=f"{model(api).id}-elder")


# ── what is said ─────────────────────────────────────────────────────────────────────────────────────────────


def thought(who: str, text: str, *, signed: bool = True, hidden: bool = False) -> ThinkingContent:
    """A thought with a mark in its text and in its signature."""
    return ThinkingContent(f"{who} thinks: {text}", seal(who) if signed or hidden else None, hidden or None)


def seal(who: str) -> str:
    """A model's signature."""
    return b64encode(sha256(who.encode()).digest()).decode()


def answered(by: Model, *content: Any, **fields: Any) -> AssistantMessage:
    """An answer as the adapter reads it from the wire."""
    adapter = get_api(by.api)
    options = adapter.options_type()
    builder = MessageBuilder(by)
    decoder, parser = adapter.decoder(options), adapter.parser(by, options, builder, Context(tools=TOOLS))
    for part in [*wire_events(Turn(content, **fields), by.api, model=by.id), None]:
        for event in decoder.close() if part is None else decoder.feed(part):
            payload = parser.decode(event)
            if payload is not None:
                parser.feed(payload)
    parser.close()
    return builder.message


def aborted(by: Model) -> list[Message]:
    """An answer that was broken off in a call, which was run all the same."""
    call = ToolCall("aborted", "look", {"x": ABORTED})
    content = [thought(by.id, ABORTED), TextContent(ABORTED), call]
    broken = AssistantMessage(content, api=by.api, provider=by.provider, model=by.id, stop_reason="aborted")
    return [broken, ToolResultMessage("aborted", "look", [TextContent(ABORTED)])]


def results(answer: AssistantMessage, *contents: Any, is_error: bool = False) -> list[Message]:
    """Results for its calls; where there are fewer of them, the last calls have none."""
    return [
        ToolResultMessage(call.id, call.name, content, is_error=is_error)
        for call, content in zip(answer.tool_calls, contents, strict=False)
    ]


# ── what is checked ──────────────────────────────────────────────────────────────────────────────────────────


@cache
def schema(api: str) -> Any:
    return jsonschema_rs.Draft202012Validator(REQUESTS[api])


def taken_over(to: Model, messages: list[Message]) -> Any:
    """The body as it is sent, once it is known to be one that the API takes."""
    adapter = get_api(to.api)
    context = Context(messages, system_prompt="Be brief.", tools=TOOLS)
    options = adapter.lower(to, context, StreamOptions(api_key="key", reasoning="medium"))
    sent = encode_json(adapter.build_request(to, context, options).body)
    body = json.loads(sent)
    told = json.dumps(body, ensure_ascii=False)
    assert not re.search("[\ud800-\udfff]", told)
    assert ABORTED not in told
    if "image" not in to.input:
        assert IMAGE not in told
    problems = [f"{error.instance_path}: {error.message[:300]}" for error in schema(to.api).iter_errors(body)]
    assert not problems
    assert_answered(STEPS[to.api](body))
    if to.api == "bedrock-converse-stream":
        roles = [message["role"] for message in body["messages"]]
        assert roles == [("user", "assistant")[at % 2] for at in range(len(roles))]
    return body


def mentions(body: Any, who: Model) -> bool:
    """Whether anything that a model thought is in a request."""
    told = json.dumps(body)
    return f"{who.id} thinks" in told or seal(who.id) in told


Step = tuple[str, Any]
"""``call`` and ``result`` with their key, ``user`` for what the user says, ``answer`` for the beginning of one."""


def assert_answered(steps: Iterator[Step]) -> None:
    """Every call has one result, and nobody speaks before it is there."""
    waiting: list[Any] = []
    for kind, key in steps:
        match kind:
            case "call":
                assert key not in waiting or key in ("look", "count")
                waiting.append(key)
            case "result":
                assert key in waiting
                waiting.remove(key)
            case _:
                assert not waiting, kind
    assert not waiting


def _completions(body: Any) -> Iterator[Step]:
    for message in body["messages"]:
        match message["role"]:
            case "assistant":
                yield "answer", None
                yield from (("call", call["id"]) for call in message.get("tool_calls", ()))
            case "tool":
                yield "result", message["tool_call_id"]
            case role:
                yield role, None


def _responses(body: Any) -> Iterator[Step]:
    for item in body["input"]:
        match item.get("type"):
            case "function_call":
                yield "call", item["call_id"]
            case "function_call_output":
                yield "result", item["call_id"]
            case None:
                yield "user", None
            case _:
                pass


def _blocks(body: Any, messages: str, content: str, call: Any, result: Any) -> Iterator[Step]:
    for message in body[messages]:
        blocks = message[content]
        if message["role"] != "user":
            yield "answer", None
        for block in [{"type": "text", "text": blocks}] if isinstance(blocks, str) else blocks:
            if (key := call(block)) is not None:
                yield "call", key
            elif (key := result(block)) is not None:
                yield "result", key
            elif message["role"] == "user":
                yield "user", None


def _messages(body: Any) -> Iterator[Step]:
    return _blocks(
        body,
        "messages",
        "content",
        lambda block: block["id"] if block["type"] == "tool_use" else None,
        lambda block: block["tool_use_id"] if block["type"] == "tool_result" else None,
    )


def _converse(body: Any) -> Iterator[Step]:
    return _blocks(
        body,
        "messages",
        "content",
        lambda block: block.get("toolUse", {}).get("toolUseId"),
        lambda block: block.get("toolResult", {}).get("toolUseId"),
    )


def _gemini(body: Any) -> Iterator[Step]:
    def key(call: Any) -> Any:
        return call and call.get("id", call["name"])

    return _blocks(
        body,
        "contents",
        "parts",
        lambda block: key(block.get("functionCall")),
        lambda block: key(block.get("functionResponse")),
    )


STEPS = {
    "openai-completions": _completions,
    "mistral-conversations": _completions,
    "openai-responses": _responses,
    "azure-openai-responses": _responses,
    "anthropic-messages": _messages,
    "bedrock-converse-stream": _converse,
    "google-generative-ai": _gemini,
    "google-vertex": _gemini,
}


# ── one rich conversation ────────────────────────────────────────────────────────────────────────────────────


def rich(first: Model, second: Model) -> list[Message]:
    """Thoughts, calls, results with images, an error with one, a result that never came, an aborted turn: of both."""
    picture = ImageContent(IMAGE, "image/png")
    messages: list[Message] = [UserMessage([TextContent(f"Look at this, {LONE}"), picture])]
    for who in (first, second):
        calls = [ToolCall(f"callA{n:04}", "look", {"x": [n, LONE, {"y": None}]}) for n in range(4)]
        asked = answered(who, thought(who.id, "first look"), "Let me look.", *calls)
        messages += [asked, *results(asked, [picture], [TextContent(LONE), picture], [])]
        messages += [*aborted(who), UserMessage("Go on")]
        failed = answered(who, thought(who.id, "…", hidden=True), ToolCall("callB0001", "count", {}))
        messages += [failed, *results(failed, [TextContent("It broke"), picture], is_error=True)]
        messages += [answered(who, thought(who.id, "done", signed=False), "It is a cat."), UserMessage("Sure?")]
    return messages


@every_order[0]
@every_order[1]
def test_a_rich_conversation_is_taken_over(first, second):
    begun, now = elder(first), model(second)
    body = taken_over(now, rich(begun, now))
    assert not mentions(body, begun)
    assert mentions(body, now)
    assert IMAGE in json.dumps(body)


@every_order[0]
@every_order[1]
def test_a_model_without_eyes_gets_no_images(first, second):
    blind = model(second, input=["text"])
    body = taken_over(blind, rich(elder(first), blind))
    assert IMAGE not in json.dumps(body)


@every_order[0]
@every_order[1]
def test_a_loop_of_calls_can_be_taken_over_in_its_middle(first, second):
    begun, now = elder(first), model(second)
    asked = answered(begun, thought(begun.id, "look"), ToolCall("c|x y:1", "look", {}), ToolCall("d|x", "count", {}))
    for done in (results(asked, "a cat"), results(asked, "a cat", "1"), []):
        assert not mentions(taken_over(now, [UserMessage("Look"), asked, *done]), begun)


@pytest.mark.parametrize("second", APIS)
def test_calls_whose_ids_differ_in_their_second_part_only_are_told_apart(second):
    """TM6: an id of the Responses API has two parts, of which only the first one ties a result to its call."""
    begun, now = elder("openai-completions"), model(second)
    asked = answered(begun, ToolCall("c|x", "look", {}), ToolCall("c|y", "count", {}))
    taken_over(now, [UserMessage("Look"), asked, *results(asked, "a cat", "1")])


# ── any conversation ─────────────────────────────────────────────────────────────────────────────────────────

TEXTS = st.text(max_size=12) | st.just(LONE) | st.just(" ")
IDS = st.text(st.sampled_from("abcAB019_-|:. é"), min_size=1, max_size=80).filter(lambda call_id: first_part(call_id))
OWN_IDS = st.from_regex("[a-zA-Z0-9]{9}", fullmatch=True)
IMAGES = st.just(ImageContent(IMAGE, "image/png"))
USER_CONTENT = st.lists(st.builds(TextContent, TEXTS) | IMAGES, max_size=3)
USERS = st.builds(UserMessage, TEXTS | USER_CONTENT)
ARGUMENTS = st.dictionaries(st.text(max_size=3), st.none() | st.integers(-9, 9) | TEXTS, max_size=2)


def first_part(call_id: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", call_id.partition("|")[0])[:64].strip("_")


@st.composite
def turns(draw: Any, who: Model, ids: Any) -> list[Message]:
    """An answer with what was done about it."""
    names = draw(st.lists(ids, max_size=3, unique_by=first_part))
    calls = [ToolCall(name, draw(st.sampled_from(("look", "count"))), draw(ARGUMENTS)) for name in names]
    thoughts = st.builds(thought, st.just(who.id), TEXTS, signed=st.booleans(), hidden=st.booleans())
    content = [
        *draw(st.lists(thoughts, max_size=2)),
        *draw(st.lists(st.builds(TextContent, TEXTS), max_size=2)),
        *calls,
    ]
    answer = answered(who, *draw(st.permutations(content)))
    done = results(answer, *draw(st.lists(USER_CONTENT, max_size=3)), is_error=draw(st.booleans()))
    broken = aborted(who) if draw(st.booleans()) else []
    said = draw(st.lists(USERS, max_size=1))
    return [answer, *draw(st.permutations([*done, *said])), *broken]


@st.composite
def conversations(draw: Any, first: Model, second: Model) -> list[Message]:
    makers = draw(st.lists(st.booleans(), min_size=1, max_size=4))
    own = [draw(turns(second, OWN_IDS) if is_own else turns(first, IDS)) for is_own in makers]
    return [draw(USERS), *(message for turn in own for message in turn), UserMessage("Go on")]


@every_order[0]
@every_order[1]
def test_any_conversation_is_taken_over(first, second):
    begun = elder(first)

    @given(st.data(), st.booleans())
    @settings(max_examples=12, deadline=None)
    def check(data: Any, sees: bool) -> None:
        now = model(second, input=["text", "image"] if sees else ["text"])
        assert not mentions(taken_over(now, data.draw(conversations(begun, now))), begun)

    check()
