"""The request of the messages API: pi-ai's own (goldens), and the rows of the spec's table (section 7)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import attrs
import httpx
import pytest

from pi_ai.adapters import _claude, sessions
from pi_ai.adapters.anthropic_messages import OAUTH_BETA, AnthropicMessages, AnthropicOptions
from pi_ai.adapters.sessions import Sessions, cleanup_session_resources
from pi_ai.builder import MessageBuilder
from pi_ai.errors import AuthError, BadRequest, ConfigError, PiAIError
from pi_ai.failures import http_failure
from pi_ai.registry import Registry
from pi_ai.types import (
    AssistantMessage,
    Context,
    ImageContent,
    Message,
    Model,
    StreamOptions,
    SystemMessage,
    TextContent,
    ThinkingContent,
    Tool,
    ToolCall,
    ToolReference,
    ToolResultMessage,
    UserMessage,
)
from pi_ai_tests.adapters.differences import DIFFERENCES
from pi_ai_tests.adapters.golden import cases, check, of_parts, request_differences, sent_body

API = "anthropic-messages"
ADAPTER = AnthropicMessages()
ANTHROPIC = "https://api.anthropic.com"
PROXY = "https://proxy.example/anthropic"
HELLO = Context([UserMessage("Hello")])
IMAGE = ImageContent("aW1n", "image/png")
IMAGE_BLOCK = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aW1n"}}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = Tool("get_weather", "Get the weather.", SCHEMA)
MARK = {"type": "ephemeral"}


@pytest.fixture(autouse=True)
def nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("PI_CACHE_RETENTION", raising=False)
    cleanup_session_resources()
    yield
    cleanup_session_resources()


def model(**fields: Any) -> Model:
    own = {"id": "claude-test", "api": API, "provider": "anthropic", "base_url": ANTHROPIC, "max_tokens": 64_000}
    return Model(**{**own, "input": ["text", "image"], "context_window": 200_000, **fields})


def thinker(**fields: Any) -> Model:
    return model(reasoning=True, **fields)


def request(model: Model, context: Context = HELLO, **options: Any) -> Any:
    return ADAPTER.build_request(model, context, AnthropicOptions(**{"api_key": "sk-test", **options}))


def body(model: Model, context: Context = HELLO, **options: Any) -> dict[str, Any]:
    return sent_body(request(model, context, **options))


def headers(model: Model, context: Context = HELLO, **options: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in request(model, context, **options).headers.items() if value}


def messages(model: Model, *history: Message, **options: Any) -> list[dict[str, Any]]:
    """The messages of a body, without cache marks unless those are asked for."""
    return body(model, Context(list(history)), **{"cache_retention": "none", **options})["messages"]


def simple(model: Model, context: Context = HELLO, **options: Any) -> dict[str, Any]:
    """The body for portable options."""
    lowered = ADAPTER.lower(model, context, StreamOptions(**{"api_key": "sk-test", **options}))
    return sent_body(ADAPTER.build_request(model, context, lowered))


def answer(*content: Any, **fields: Any) -> AssistantMessage:
    """An answer of ``model()`` itself."""
    own = {"api": API, "provider": "anthropic", "model": "claude-test", "stop_reason": "stop"}
    return AssistantMessage(list(content), **{**own, **fields})


def text(said: str) -> TextContent:
    return TextContent(said)


# ── what pi-ai sends ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("golden", [case for case in cases(API) if not case.values[0].get("earlier")])
def test_the_request_is_the_one_that_pi_ai_sends(golden: dict[str, Any]) -> None:
    """Those that come after other calls are in ``test_goldens_end_to_end.py``."""
    known = of_parts(DIFFERENCES[API].get(golden["name"]), "refused", "url", "headers", "body")
    check(request_differences(ADAPTER, golden), known, golden["name"])


def test_every_entry_of_the_table_is_about_a_golden() -> None:
    assert DIFFERENCES[API].keys() <= {case.values[0]["name"] for case in cases(API)}


# ── the spec's table, requests ───────────────────────────────────────────────────────────────────────────────


def test_1_a_plain_request() -> None:
    built = request(model())
    assert built.url == "https://api.anthropic.com/v1/messages"
    assert built.headers == {
        "Accept": "application/json",
        "Content-Type": "application/json",
        "anthropic-version": "2023-06-01",
        "x-api-key": "sk-test",
    }
    assert built.body == {
        "model": "claude-test",
        "max_tokens": 64_000,
        "stream": True,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello", "cache_control": MARK}]}],
    }


def test_2_nothing_is_marked_where_nothing_shall_be_cached() -> None:
    context = Context([UserMessage("Hello")], system_prompt="Be brief.", tools=[WEATHER])
    sent = body(model(), context, cache_retention="none")
    assert sent["messages"] == [{"role": "user", "content": "Hello"}]
    assert "cache_control" not in json.dumps(sent)


def test_3_a_long_retention_has_a_time_to_live_where_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    long = {**MARK, "ttl": "1h"}
    unaware = model(compat={"supportsLongCacheRetention": False})
    assert body(model(), cache_retention="long")["messages"][0]["content"][0]["cache_control"] == long
    assert body(unaware, cache_retention="long")["messages"][0]["content"][0]["cache_control"] == MARK
    monkeypatch.setenv("PI_CACHE_RETENTION", "long")
    assert body(model())["messages"][0]["content"][0]["cache_control"] == long


def test_4_three_marks_end_the_prompt_the_tools_and_the_conversation() -> None:
    tools = [WEATHER, attrs.evolve(WEATHER, name="b")]
    sent = body(model(), Context([UserMessage([text("a"), text("b")])], system_prompt="Be brief.", tools=tools))
    assert sent["system"] == [{"type": "text", "text": "Be brief.", "cache_control": MARK}]
    assert [tool.get("cache_control") for tool in sent["tools"]] == [None, MARK]
    assert [block.get("cache_control") for block in sent["messages"][0]["content"]] == [None, MARK]
    assert json.dumps(sent).count("cache_control") == 3


def test_4_a_server_may_refuse_a_mark_on_tools() -> None:
    sent = body(model(compat={"supportsCacheControlOnTools": False}), Context([UserMessage("x")], tools=[WEATHER]))
    assert "cache_control" not in sent["tools"][0]


def test_5_an_answer_at_the_end_is_not_marked() -> None:
    assert "cache_control" not in json.dumps(body(model(), Context([UserMessage("a"), answer(text("b"))])))
    assert body(model(), Context([]))["messages"] == []


def calls_and_results(*results: Any, is_error: bool = False) -> list[Message]:
    calls = [ToolCall(f"t{index}", "f") for index in range(len(results))]
    return [
        answer(*calls, stop_reason="toolUse"),
        *(ToolResultMessage(f"t{index}", "f", result, is_error=is_error) for index, result in enumerate(results)),
    ]


def result(index: int, content: Any, *, is_error: bool = False) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": f"t{index}", "content": content, "is_error": is_error}


def test_6_all_results_of_a_turn_are_one_message_AN12() -> None:
    sent = messages(model(), *calls_and_results("A", "B"), UserMessage("Go on"))
    assert sent[1:] == [
        {"role": "user", "content": [result(0, "A"), result(1, "B")]},
        {"role": "user", "content": "Go on"},
    ]


@pytest.mark.parametrize(
    ("content", "is_error", "sent"),
    [
        ([IMAGE], False, [{"type": "text", "text": "(see attached image)"}, IMAGE_BLOCK]),
        ([text("A"), IMAGE], False, [{"type": "text", "text": "A"}, IMAGE_BLOCK]),
        ([text(" "), IMAGE], False, [{"type": "text", "text": "(see attached image)"}, IMAGE_BLOCK]),
        ([text("A"), text("B")], False, "A\nB"),
        ([], False, ""),
        ([text(" ")], True, "(no tool output)"),
        ([], True, "(no tool output)"),
    ],
)
def test_7_a_result_is_text_unless_it_holds_images_AN13(content: Any, is_error: bool, sent: Any) -> None:
    history = calls_and_results(content, is_error=is_error)
    assert messages(model(), *history)[1]["content"] == [result(0, sent, is_error=is_error)]


def test_8_images_of_errors_follow_all_results_AN14() -> None:
    history = calls_and_results([text("Bad"), IMAGE], "B", is_error=True)
    caption = {"type": "text", "text": "Images from the error result of tool call t0 (f):"}
    assert messages(model(), *history)[1]["content"] == [
        result(0, "Bad\n(image attached after the tool results)", is_error=True),
        result(1, "B", is_error=True),
        caption,
        IMAGE_BLOCK,
    ]


@pytest.mark.parametrize("blank", ["", " \n", "\ud800", " \ud800 "])
def test_9_what_says_nothing_is_left_out(blank: str) -> None:
    """Also what says nothing once it can be sent: a lone surrogate."""
    history = [
        UserMessage(blank),
        UserMessage([text(blank)]),
        UserMessage([text(blank), text("a")]),
        answer(text(blank)),
        answer(text(blank), text("b"), ThinkingContent(blank)),
        UserMessage("c"),
    ]
    assert messages(model(), *history) == [
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "b"}]},
        {"role": "user", "content": "c"},
    ]


@pytest.mark.parametrize(
    ("thought", "sent"),
    [
        (ThinkingContent("Hm.", "c2ln"), {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}),
        (ThinkingContent("", "c2ln"), {"type": "thinking", "thinking": "", "signature": "c2ln"}),
        (ThinkingContent("Hm."), {"type": "text", "text": "Hm."}),
        (ThinkingContent("Hm.", " "), {"type": "text", "text": "Hm."}),
        (ThinkingContent("[…]", "b3Bh", redacted=True), {"type": "redacted_thinking", "data": "b3Bh"}),
        (ThinkingContent("[…]", redacted=True), None),
        (ThinkingContent(" "), None),
    ],
)
def test_10_thoughts_go_back_as_they_can_be_taken_AN11(thought: ThinkingContent, sent: Any) -> None:
    said = {"type": "text", "text": "So."}
    assert messages(thinker(), answer(thought, text("So.")))[0]["content"] == [*([sent] if sent else []), said]
    assert messages(thinker(id="other"), answer(thought, text("So.")))[0]["content"] == [said]


def test_10_some_servers_take_unsigned_thoughts() -> None:
    lenient = thinker(compat={"allowEmptySignature": True})
    sent = messages(lenient, answer(ThinkingContent("Hm."), ThinkingContent(" ")))
    assert sent[0]["content"] == [{"type": "thinking", "thinking": "Hm.", "signature": ""}]


def test_11_a_budget_of_thought() -> None:
    lowered = ADAPTER.lower(thinker(), HELLO, StreamOptions(reasoning="high", temperature=0.5, api_key="k"))
    built = ADAPTER.build_request(thinker(), HELLO, lowered)
    assert built.body["thinking"] == {"type": "enabled", "budget_tokens": 16_384, "display": "summarized"}
    assert built.headers["anthropic-beta"] == "interleaved-thinking-2025-05-14"
    assert built.body["max_tokens"] == 64_000
    assert "temperature" not in built.body


def test_12_without_room_for_thought_there_is_none() -> None:
    """T6: better than raising the budget above the limit."""
    full = thinker(context_window=4000, max_tokens=2000)
    sent = simple(full, Context([UserMessage("x" * 14_000)]), reasoning="high")
    assert (sent["max_tokens"], sent["thinking"]) == (1, {"type": "disabled"})


@pytest.mark.parametrize(
    ("level", "sent"), [("medium", "medium"), ("xhigh", "very"), ("max", "high"), ("minimal", "low")]
)
def test_13_a_model_without_a_budget_is_told_how_hard_to_think(level: Any, sent: str) -> None:
    adaptive = thinker(compat={"forceAdaptiveThinking": True}, thinking_level_map={"xhigh": "very"})
    built = ADAPTER.build_request(
        adaptive, HELLO, ADAPTER.lower(adaptive, HELLO, StreamOptions(reasoning=level, api_key="k"))
    )
    assert built.body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert built.body["output_config"] == {"effort": sent}
    assert "anthropic-beta" not in built.headers


def test_14_a_model_that_thinks_by_itself_is_told_not_to_where_it_can_stop() -> None:
    assert simple(thinker())["thinking"] == {"type": "disabled"}
    assert "thinking" not in simple(thinker(thinking_level_map={"off": None}))
    assert "thinking" not in simple(model())
    assert "thinking" not in simple(model(), reasoning="high", max_tokens=10)
    assert "thinking" not in body(thinker())


def test_15_temperature_is_sent_where_it_is_taken() -> None:
    assert body(model(), temperature=0)["temperature"] == 0
    assert simple(thinker(), temperature=0.5)["temperature"] == 0.5
    assert "temperature" not in body(model(compat={"supportsTemperature": False}), temperature=0)
    effort = thinker(compat={"supportsMidConvoEffort": True})
    assert "temperature" not in body(effort, temperature=0)


@pytest.mark.parametrize(("metadata", "sent"), [({"user_id": "u", "x": 1}, {"user_id": "u"}), ({"user_id": 5}, None)])
def test_16_only_the_users_id_is_metadata(metadata: Any, sent: Any) -> None:
    assert body(model(), metadata=metadata).get("metadata") == sent


def test_17_the_root_of_a_schema_is_cut_down_to_what_is_taken_AN17() -> None:
    odd = {"anyOf": [{"required": ["a"]}], "$defs": {"A": {"type": "string"}}, "definitions": {}, "title": "T"}
    sent = body(model(), Context([UserMessage("x")], tools=[attrs.evolve(WEATHER, parameters=odd)]))
    assert sent["tools"][0]["input_schema"] == {
        "type": "object",
        "properties": {},
        "required": [],
        "$defs": {"A": {"type": "string"}},
        "definitions": {},
    }


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("any", {"type": "any"}),
        ({"type": "tool", "name": "f"}, {"type": "tool", "name": "f"}),
        ({"type": "auto", "disable_parallel_tool_use": True}, {"type": "auto", "disable_parallel_tool_use": True}),
    ],
)
def test_18_a_tool_choice_is_sent_with_tools_only_AN20(choice: Any, sent: Any) -> None:
    assert body(model(), Context([UserMessage("x")], tools=[WEATHER]), tool_choice=choice)["tool_choice"] == sent
    assert "tool_choice" not in body(model(), tool_choice=choice)


@pytest.mark.parametrize(("given", "sent"), [("a, b,a", "a,b"), ("a", "a"), (None, None), ("", None), (" , ", None)])
def test_19_the_callers_beta_features_replace_ours_AN7(given: str | None, sent: str | None) -> None:
    asked: dict[str, Any] = {"thinking_enabled": True, "headers": {"Anthropic-Beta": given}}
    assert headers(thinker(), **asked).get("anthropic-beta") == sent
    assert headers(thinker(headers={"anthropic-beta": "m"}), **asked).get("anthropic-beta") == sent
    assert headers(thinker(headers={"anthropic-beta": "m"}))["anthropic-beta"] == "m"


@pytest.mark.parametrize(("given", "sent"), [("a", "oauth-2025-04-20,a"), (None, "oauth-2025-04-20")])
def test_19_but_never_what_a_token_needs(given: str | None, sent: str) -> None:
    asked: dict[str, Any] = {"api_key": "sk-ant-oat01-x", "headers": {"anthropic-beta": given}}
    assert headers(model(), **asked)["anthropic-beta"] == sent


def test_20_headers_come_in_layers_and_none_removes_H1() -> None:
    built = request(model(headers={"X": "1", "Y": "1"}), headers={"x": "2", "y": None, "accept": None})
    assert {name: built.headers[name] for name in ("x", "y", "accept")} == {"x": "2", "y": None, "accept": None}
    assert not {"X", "Y", "Accept"} & built.headers.keys()


def test_21_ids_of_other_apis_are_made_fit_AN22() -> None:
    ids = ["call|weird/ä", "call|weird/ö", "x" * 80]
    foreign = answer(*[ToolCall(old, "f") for old in ids], api="openai-responses", stop_reason="toolUse")
    sent = messages(model(), foreign, *[ToolResultMessage(old, "f", "ok") for old in ids])
    new = [block["id"] for block in sent[0]["content"]]
    assert new[0] == "call_weird__"
    assert len(set(new)) == 3
    assert all(len(id_) <= 64 and set(id_) <= set("abcdefghijklmnopqrstuvwxyz0123456789_") for id_ in new)
    assert [block["tool_use_id"] for block in sent[1]["content"]] == new
    assert messages(model(), answer(ToolCall("own|id", "f")))[0]["content"][0]["id"] == "own|id"


def test_22_lone_surrogates_leave_nothing_behind_S2() -> None:
    history = [
        UserMessage("a\ud800b"),
        answer(ToolCall("t0", "f", {"x\ud800": "y\udc00"}), ThinkingContent("z\ud800", "s")),
        ToolResultMessage("t0", "f", "r\ud800"),
    ]
    sent = messages(model(), *history)
    assert sent[0]["content"] == "ab"
    assert sent[1]["content"][0]["input"] == {"x": "y"}
    assert sent[2]["content"][0]["content"] == "r"


def test_24_copilot_gets_a_bearer_token_and_learns_who_speaks() -> None:
    copilot = model(provider="github-copilot", base_url="https://api.individual.githubcopilot.com")
    sent = headers(copilot, Context(calls_and_results([IMAGE])))
    assert sent["authorization"] == "Bearer sk-test"
    assert "x-api-key" not in sent
    assert (sent["x-initiator"], sent["copilot-vision-request"]) == ("agent", "true")


def test_25_without_a_key_there_is_no_request() -> None:
    with pytest.raises(AuthError, match=r"^No API key for provider: anthropic(\n|$)"):
        request(model(), api_key=None)
    with pytest.raises(AuthError):
        request(model(), api_key=None, headers={"x-api-key": " "})


@pytest.mark.parametrize("name", ["Authorization", "X-Api-Key", "cf-aig-authorization"])
def test_25_a_header_of_the_caller_stands_for_a_key_AN2(name: str) -> None:
    built = request(model(), api_key=None, headers={name: "Bearer x"})
    assert built.headers[name] == "Bearer x"
    assert "x-api-key" not in built.headers


def test_26_an_oauth_token_is_a_bearer_token() -> None:
    sent = headers(model(), api_key="sk-ant-oat01-x", thinking_enabled=True)
    assert sent["authorization"] == "Bearer sk-ant-oat01-x"
    assert "x-api-key" not in sent
    assert sent["anthropic-beta"] == "oauth-2025-04-20"


def test_26_and_so_is_one_that_the_caller_brings_in_a_header() -> None:
    sent = headers(model(), api_key=None, headers={"Authorization": "Bearer sk-ant-oat01-x"})
    assert sent["anthropic-beta"] == "oauth-2025-04-20"


VARIABLES = {"ANTHROPIC_AUTH_TOKEN": "token", "ANTHROPIC_OAUTH_TOKEN": "sk-ant-oat01-x", "ANTHROPIC_API_KEY": "key"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("variables", "headers", "sent"),
    [
        (VARIABLES, {}, ("Bearer token", None, None)),
        ({**VARIABLES, "ANTHROPIC_AUTH_TOKEN": "sk-ant-oat01-y"}, {}, ("Bearer sk-ant-oat01-y", None, OAUTH_BETA)),
        ({**VARIABLES, "ANTHROPIC_AUTH_TOKEN": ""}, {}, ("Bearer sk-ant-oat01-x", None, OAUTH_BETA)),
        ({"ANTHROPIC_API_KEY": "key"}, {}, (None, "key", None)),
        (VARIABLES, {"authorization": "Bearer mine"}, ("Bearer mine", None, None)),
    ],
)
async def test_A92_the_environments_token_is_a_bearer_token_and_wins_over_its_keys(
    variables: dict[str, str], headers: dict[str, str], sent: tuple[str | None, ...]
) -> None:
    seen: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(403, json={"error": {"message": "no"}})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        message = await Registry().complete(model(), HELLO, env=variables, headers=headers, http_client=client)
    assert message.stop_reason == "error"
    names = ("authorization", "x-api-key", "anthropic-beta")
    assert [tuple(headers.get(name) for name in names) for headers in seen] == [sent]


# ── endpoint and headers ─────────────────────────────────────────────────────────────────────────────────────


def test_AN1_a_path_of_the_base_url_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        request(model(base_url="https://api.minimax.io/anthropic/")).url
        == "https://api.minimax.io/anthropic/v1/messages"
    )
    monkeypatch.delenv("SOME_ACCOUNT", raising=False)
    placed = model(base_url="https://x.example/{SOME_ACCOUNT}/anthropic")
    assert request(placed, env={"SOME_ACCOUNT": "a"}).url == "https://x.example/a/anthropic/v1/messages"
    with pytest.raises(ConfigError, match="needs SOME_ACCOUNT"):
        request(placed)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"provider": "openrouter", "base_url": "https://openrouter.ai/api"}, "x-session-id"),
        ({"provider": "mine", "base_url": "https://openrouter.ai/api"}, "x-session-id"),
        ({"compat": {"sendSessionAffinityHeaders": True}}, "x-session-affinity"),
        ({"base_url": PROXY}, None),
    ],
)
def test_AN4_the_session_is_told_where_it_is_wanted(fields: dict[str, Any], name: str | None) -> None:
    for retention in ("short", "none"):
        sent = headers(model(**fields), session_id="s", cache_retention=retention)
        found = {key: value for key, value in sent.items() if key.startswith("x-session")}
        assert found == ({name: "s"} if name and retention == "short" else {})


def test_a_wrong_flag_is_told() -> None:
    with pytest.raises(ConfigError, match="compat of model anthropic/claude-test cannot be used"):
        request(model(compat={"supportsTemperature": "yes"}))


# ── tools ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fields", "eager"),
    [
        ({}, True),
        ({"base_url": PROXY}, False),
        ({"base_url": "http://localhost:8080"}, False),
        ({"base_url": PROXY, "compat": {"supportsEagerToolInputStreaming": True}}, True),
        ({"compat": {"supportsEagerToolInputStreaming": False}}, False),
        ({"provider": "fireworks", "base_url": "https://api.fireworks.ai/inference"}, False),
    ],
)
def test_AN18_arguments_come_in_pieces_by_a_field_or_by_a_beta(fields: dict[str, Any], eager: bool) -> None:
    context = Context([UserMessage("x")], tools=[WEATHER])
    beta = "fine-grained-tool-streaming-2025-05-14"
    assert body(model(**fields), context)["tools"][0].get("eager_input_streaming") == (True if eager else None)
    assert headers(model(**fields), context).get("anthropic-beta") == (None if eager else beta)
    assert "anthropic-beta" not in headers(model(**fields))


def strict(wish: str, parameters: Any = SCHEMA, name: str = "s") -> Tool:
    return Tool(name, "S.", parameters, constrained_sampling={"type": "json_schema", "strict": wish})


STRICT = {"supportsStrictTools": True}


def test_AN19_a_strict_tool_has_a_closed_schema() -> None:
    sent = body(model(compat=STRICT), Context([UserMessage("x")], tools=[strict("prefer"), WEATHER]))["tools"]
    assert sent[0]["strict"] is True
    assert sent[0]["input_schema"] == {**SCHEMA, "additionalProperties": False}
    assert "strict" not in sent[1]


@pytest.mark.parametrize(
    "member",
    [
        {"type": "integer", "minimum": 1},
        {"type": "string", "format": "binary"},
        {"type": "array", "items": {"type": "string"}, "minItems": 2},
        {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
    ],
)
def test_AN19_what_strict_mode_does_not_take_makes_an_ordinary_tool_or_an_error(member: Any) -> None:
    parameters = {"type": "object", "properties": {"a": member}, "required": ["a"]}
    sent = body(model(compat=STRICT), Context([UserMessage("x")], tools=[strict("prefer", parameters)]))
    assert "strict" not in sent["tools"][0]
    with pytest.raises(BadRequest, match=r'^Tool "s" requires JSON-schema constrained sampling, but .* unsupported'):
        body(model(compat=STRICT), Context([UserMessage("x")], tools=[strict("require", parameters)]))


@pytest.mark.parametrize(
    "member",
    [{"type": "string", "format": "date-time"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
)
def test_AN19_what_strict_mode_takes_stays(member: Any) -> None:
    parameters = {"type": "object", "properties": {"a": member}, "required": ["a"]}
    sent = body(model(compat=STRICT), Context([UserMessage("x")], tools=[strict("require", parameters)]))
    assert sent["tools"][0]["input_schema"]["properties"]["a"] == member


def refused(message: str, status: int = 400, **error: Any) -> PiAIError:
    told = {"type": "error", "error": {"type": "invalid_request_error", "message": message, **error}}
    return http_failure(status, {}, json.dumps(told).encode(), provider="anthropic", api=API, model="claude-test")


def instead(model: Model, context: Context, error: PiAIError, **options: Any) -> Any:
    asked = AnthropicOptions(**{"api_key": "sk-test", **options})
    first = ADAPTER.build_request(model, context, asked)
    return first, ADAPTER.instead(model, context, asked, first, error)


@pytest.mark.parametrize("words", _claude._TOO_STRICT)
def test_CS3_tools_that_are_too_many_to_be_strict_are_sent_again_as_ordinary_ones(words: str) -> None:
    context = Context([UserMessage("x")], tools=[strict("prefer"), strict("require", name="r")])
    first, second = instead(model(compat=STRICT), context, refused(f"{words}21)"), session_id="s")
    assert [tool.get("strict") for tool in first.body["tools"]] == [True, True]
    assert [tool.get("strict") for tool in second.body["tools"]] == [None, True]
    (note,) = second.notes
    assert (note.type, note.details) == (
        "anthropic_strict_tools_fallback",
        {"reason": "strict_tool_limits_exceeded"},
    )
    assert words in note.error.message
    asked = AnthropicOptions(api_key="k", session_id="s")
    assert ADAPTER.instead(model(compat=STRICT), context, asked, second, refused(words)) is None
    remembered = body(model(compat=STRICT), context, session_id="s")["tools"]
    assert [tool.get("strict") for tool in remembered] == [None, True]
    assert [tool.get("strict") for tool in body(model(compat=STRICT), context)["tools"]] == [True, True]
    cleanup_session_resources("s")
    assert body(model(compat=STRICT), context, session_id="s")["tools"][0]["strict"] is True


ANSWERED = b"""\
data: {"type":"message_start","message":{"id":"msg_1"}}

data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":"Hi"}}

data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}

"""


@pytest.mark.anyio
async def test_CS3_what_was_changed_for_the_second_request_is_told_in_the_message() -> None:
    bodies: list[dict[str, Any]] = []

    def handle(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        if len(bodies) == 1:
            return httpx.Response(400, json={"error": {"message": "Too many strict tools (21)"}})
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=ANSWERED)

    context = Context([UserMessage("x")], tools=[strict("prefer")])
    async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as client:
        message = await Registry().complete(model(compat=STRICT), context, api_key="k", http_client=client)
    assert message.text == "Hi"
    assert [body["tools"][0].get("strict") for body in bodies] == [True, None]
    assert message.attempts is None
    (note,) = message.diagnostics or ()
    assert note.type == "anthropic_strict_tools_fallback"
    assert note.error is not None
    assert note.error.message == '400: {"error":{"message":"Too many strict tools (21)"}}'


def test_CS3_tools_that_must_be_strict_are_not_sent_again() -> None:
    context = Context([UserMessage("x")], tools=[strict("require")])
    words = _claude._TOO_STRICT[0]
    assert instead(model(compat=STRICT), context, refused(words))[1] is None
    assert instead(model(), Context([UserMessage("x")], tools=[WEATHER]), refused("something else"))[1] is None
    prefer = Context([UserMessage("x")], tools=[strict("prefer")])
    assert instead(model(compat=STRICT), prefer, refused(words, 500))[1] is None


# ── thinking ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({}, {"type": "enabled", "budget_tokens": 1024, "display": "summarized"}),
        ({"thinking_budget_tokens": 2000}, {"type": "enabled", "budget_tokens": 2000, "display": "summarized"}),
        ({"thinking_display": "omitted"}, {"type": "enabled", "budget_tokens": 1024, "display": "omitted"}),
        ({"thinking_budget_tokens": 0}, {"type": "disabled"}),
        ({"thinking_budget_tokens": 1023}, {"type": "disabled"}),
        ({"max_tokens": 1024}, {"type": "disabled"}),
        ({"thinking_budget_tokens": 2000, "max_tokens": 2000}, {"type": "disabled"}),
    ],
)
def test_AN21_a_budget_fits_or_there_is_no_thought(options: dict[str, Any], sent: Any) -> None:
    assert body(thinker(), thinking_enabled=True, **options)["thinking"] == sent
    beta = headers(thinker(), thinking_enabled=True, **options).get("anthropic-beta")
    assert beta == ("interleaved-thinking-2025-05-14" if sent["type"] == "enabled" else None)


def test_thought_between_calls_can_be_switched_off() -> None:
    assert "anthropic-beta" not in headers(thinker(), thinking_enabled=True, interleaved_thinking=False)


def test_a_model_without_a_budget_needs_no_effort() -> None:
    sent = body(thinker(compat={"forceAdaptiveThinking": True}), thinking_enabled=True)
    assert sent["thinking"]["type"] == "adaptive"
    assert "output_config" not in sent


SIGNED = ThinkingContent("Hm.", "c2ln")


@pytest.mark.parametrize(
    ("history", "thinks"),
    [
        (calls_and_results("A"), False),
        ([answer(SIGNED, ToolCall("t0", "f")), ToolResultMessage("t0", "f", "A")], True),
        ([answer(SIGNED, ToolCall("t0", "f"), model="other"), ToolResultMessage("t0", "f", "A")], False),
        ([*calls_and_results("A"), UserMessage("Go on")], True),
        ([answer(text("a"))], True),
        ([], True),
        # A thought began the turn, and what followed it needs none.
        ([answer(SIGNED, ToolCall("a", "f")), ToolResultMessage("a", "f", "A"), *calls_and_results("B")], True),
    ],
)
def test_a_turn_of_calls_that_no_thought_began_goes_on_without_thought(history: list[Message], thinks: bool) -> None:
    """Section 3.5 [better]: the API would refuse it."""
    context = Context([UserMessage("Q"), *history])
    expected = "enabled" if thinks else "disabled"
    assert body(thinker(), context, thinking_enabled=True)["thinking"]["type"] == expected
    adaptive = thinker(compat={"forceAdaptiveThinking": True})
    assert body(adaptive, context, thinking_enabled=True)["thinking"]["type"] == "adaptive"


EFFORT = {"supportsMidConvoEffort": True, "forceAdaptiveThinking": True}


def effort(word: str) -> dict[str, Any]:
    return {"role": "system", "content": [], "output_config": {"effort": word}}


def test_each_answer_has_its_own_effort_where_the_server_can_do_that() -> None:
    history = [
        UserMessage("a"),
        answer(text("b"), provider_thinking_level="high"),
        UserMessage("c"),
        answer(text("d"), provider_thinking_level="high", model="other"),
        answer(text("e")),
        UserMessage("f"),
    ]
    sent = body(thinker(compat=EFFORT), Context(history), thinking_enabled=True, effort="max")
    assert [message.get("output_config", message["role"]) for message in sent["messages"]] == [
        "user",
        {"effort": "high"},
        "assistant",
        "user",
        "assistant",
        "assistant",
        "user",
        {"effort": "max"},
    ]
    assert sent["output_config"] == {"effort": "low"}
    assert sent["messages"][-2]["content"][0]["cache_control"] == MARK
    builder = MessageBuilder(thinker(compat=EFFORT))
    ADAPTER.parser(builder.model, AnthropicOptions(effort="max"), builder, Context(history))
    assert builder.message.provider_thinking_level == "max"


def test_efforts_are_not_told_while_the_model_does_not_think() -> None:
    history = Context([UserMessage("a"), answer(text("b"), provider_thinking_level="high"), UserMessage("c")])
    sent = body(thinker(compat=EFFORT), history, thinking_enabled=False)
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
    assert sent["thinking"] == {"type": "disabled"}


# ── later system messages ────────────────────────────────────────────────────────────────────────────────────

IN_PLACE = {"supportsMidConvoSystemMessages": True}
TOOLS_IN_PLACE = {**IN_PLACE, "supportsMidConvoToolChanges": True}


def test_AN15_later_system_messages_stand_before_the_next_answer() -> None:
    history = [
        *calls_and_results("A"),
        SystemMessage("New.", sections={"rules": "R"}),
        UserMessage("b"),
        answer(ThinkingContent(" ")),
        answer(text("c")),
        SystemMessage("Last."),
    ]
    sent = messages(model(compat=IN_PLACE), UserMessage("a"), *history)
    assert [message["role"] for message in sent] == [
        *("user", "assistant", "user", "user", "system", "assistant", "system")
    ]
    assert sent[4]["content"] == [{"type": "text", "text": 'New.\n\nUpdated system prompt section "rules":\n\nR'}]
    collapsed = body(model(), Context([UserMessage("a"), *history], system_prompt="First."))
    assert collapsed["system"][0]["text"] == "First.\n\nNew.\n\nLast.\n\nR"


def test_AN15_a_first_system_message_is_the_prompt() -> None:
    sent = body(model(compat=IN_PLACE), Context([SystemMessage("First."), UserMessage("a"), SystemMessage("")]))
    assert sent["system"][0]["text"] == "First."
    assert [message["role"] for message in sent["messages"]] == ["user"]


def test_tools_may_come_and_go_in_place() -> None:
    late = attrs.evolve(WEATHER, name="late")
    change = SystemMessage("Now.", tools_removed=[ToolReference("get_weather")], tools_added=[late])
    context = Context([UserMessage("a"), change], tools=[WEATHER])
    sent = body(model(compat=TOOLS_IN_PLACE), context)
    definition = {"name": "late", "description": "Get the weather.", "eager_input_streaming": True}
    assert sent["messages"][1]["content"] == [
        {"type": "text", "text": "Now."},
        {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "get_weather"}},
        {
            "type": "tool_addition",
            "tool": {"type": "tool_definition", "definition": {**definition, "input_schema": SCHEMA}},
            "cache_control": MARK,
        },
    ]
    assert [tool["name"] for tool in sent["tools"]] == ["get_weather", "__pi_deferred_placeholder__"]
    assert headers(model(compat=TOOLS_IN_PLACE), context)["anthropic-beta"] == "inline-tools-2026-09-15"
    assert [tool["name"] for tool in body(model(), context)["tools"]] == ["late"]


# ── threads ──────────────────────────────────────────────────────────────────────────────────────────────────

ASKED = Context([UserMessage("One")], system_prompt="Be brief.")
BETA = "message-threads-2026-08-12"


def answered(context: Context, *content: Any, **options: Any) -> AssistantMessage:
    """The answer to a context, as the parser remembers it."""
    asked = AnthropicOptions(**{"api_key": "k", "session_id": "s", **options})
    builder = MessageBuilder(model())
    parser = ADAPTER.parser(model(), asked, builder, context)
    parser.feed({"type": "message_start", "message": {"id": "msg_1", "model": "claude-test", "usage": {}}})
    for index, block in enumerate(content or [{"type": "text", "text": "Hi."}]):
        parser.feed({"type": "content_block_start", "index": index, "content_block": block})
        parser.feed({"type": "content_block_stop", "index": index})
    parser.feed({"type": "message_delta", "delta": {"stop_reason": "end_turn"}})
    parser.close()
    return builder.message


def on(context: Context, *more: Message, **changes: Any) -> Context:
    return attrs.evolve(context, messages=[*context.messages, *more], **changes)


def thread(context: Context, **options: Any) -> Any:
    return body(model(), context, **{"session_id": "s", **options}).get("thread")


CREATE = {"type": "create"}
CONTINUE = {"type": "continue", "previous_message_id": "msg_1"}


def test_a_conversation_goes_on_in_its_thread() -> None:
    assert thread(ASKED) == CREATE
    reply = answered(ASKED)
    more = on(ASKED, reply, UserMessage("Two"))
    sent = body(model(), more, session_id="s")
    assert sent["thread"] == CONTINUE
    assert sent["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Two", "cache_control": MARK}]}]
    assert not {"system", "tools"} & sent.keys()
    assert headers(model(), more, session_id="s")["anthropic-beta"] == BETA


@pytest.mark.parametrize(
    ("compat", "options"),
    [
        ({"supportsMessageThreads": False}, {"session_id": "s"}),
        ({}, {}),
        ({}, {"session_id": "s", "cache_retention": "none"}),
    ],
)
def test_threads_need_a_session_that_is_kept_and_a_server_that_has_them(compat: Any, options: Any) -> None:
    assert "thread" not in body(model(compat=compat), ASKED, **options)
    assert "anthropic-beta" not in headers(model(compat=compat), ASKED, **options)
    assert "thread" not in body(model(base_url=PROXY), ASKED, session_id="s")


def test_what_changed_begins_a_new_thread() -> None:
    reply = answered(ASKED)
    again = UserMessage("Two")
    assert thread(on(ASKED, reply, again)) == CONTINUE
    assert thread(on(ASKED, reply, again, system_prompt="Be long.")) == CREATE
    assert thread(on(ASKED, reply, again, tools=[WEATHER])) == CREATE
    assert thread(on(ASKED, attrs.evolve(reply, content=[text("Ho.")]), again)) == CREATE
    assert thread(Context([UserMessage("Other"), reply, again], system_prompt="Be brief.")) == CREATE
    assert thread(on(ASKED, reply)) == CREATE  # nothing new
    assert thread(on(ASKED, again)) == CREATE
    assert thread(on(ASKED, reply, again), session_id="t") == CREATE
    assert thread(on(ASKED, reply, again), headers={"anthropic-beta": "x"}) == CONTINUE  # not ours to judge
    assert thread(on(ASKED, reply, again), max_tokens=10, temperature=0.5) == CONTINUE
    cleanup_session_resources("s")
    assert thread(on(ASKED, reply, again)) == CREATE


def test_a_thread_goes_on_after_calls() -> None:
    call = {"type": "tool_use", "id": "t0", "name": "f", "input": {"a": 1}}
    reply = answered(ASKED, {"type": "text", "text": "Let me see."}, call)
    sent = body(model(), on(ASKED, reply, ToolResultMessage("t0", "f", "A")), session_id="s")
    assert sent["thread"] == CONTINUE
    assert [block["type"] for block in sent["messages"][0]["content"]] == ["tool_result"]


def test_an_answer_that_was_cut_off_is_no_part_of_a_thread() -> None:
    builder = MessageBuilder(model())
    parser = ADAPTER.parser(model(), AnthropicOptions(api_key="k", session_id="s"), builder, ASKED)
    said = [{"type": "text", "text": "Hi."}]
    parser.feed({"type": "message", "id": "msg_1", "content": said, "stop_reason": "max_tokens"})
    parser.close()
    assert thread(on(ASKED, builder.message, UserMessage("Two"))) == CREATE


def test_an_answer_that_says_nothing_is_the_end_of_a_thread() -> None:
    answered(ASKED)
    empty = answered(ASKED, {"type": "text", "text": " "})
    assert thread(on(ASKED, empty, UserMessage("Two"))) == CREATE


def test_efforts_are_part_of_a_thread() -> None:
    managed = thinker(compat={**EFFORT, "supportsMessageThreads": True})
    asked = AnthropicOptions(api_key="k", session_id="s", thinking_enabled=True, effort="high")
    builder = MessageBuilder(managed)
    parser = ADAPTER.parser(managed, asked, builder, ASKED)
    parser.feed(
        {"type": "message", "id": "msg_1", "content": [{"type": "text", "text": "Hi."}], "stop_reason": "end_turn"}
    )
    parser.close()
    more = on(ASKED, builder.message, UserMessage("Two"))
    sent = ADAPTER.build_request(managed, more, attrs.evolve(asked, effort="low")).body
    assert sent["thread"] == CONTINUE
    assert sent["messages"][1:] == [effort("low")]


@pytest.mark.parametrize(
    ("code", "again"),
    [
        ("thread_not_found", True),
        ("thread_already_continued", True),
        ("thread_continue_in_flight", True),
        ("thread_fingerprint_mismatch", True),
        ("thread_unsupported_request", False),
    ],
)
def test_a_thread_that_is_refused_is_begun_anew_or_done_without(code: str, again: bool) -> None:
    more = on(ASKED, answered(ASKED), UserMessage("Two"))
    first, second = instead(model(), more, refused("no", details={"error_code": code}), session_id="s")
    assert first.body["thread"] == CONTINUE
    assert second.body.get("thread") == (CREATE if again else None)
    assert len(second.body["messages"]) == 3
    assert second.body["system"]
    assert [(note.type, note.details) for note in second.notes] == [("anthropic_thread_fallback", {"reason": code})]
    assert thread(more) == (CREATE if again else None)
    asked = AnthropicOptions(api_key="k", session_id="s")
    error = refused("no", details={"error_code": code})
    assert ADAPTER.instead(model(), more, asked, second, error) is None


def test_a_server_without_threads_is_sent_none_for_the_session() -> None:
    _, second = instead(model(), ASKED, refused("thread: Extra inputs are not permitted"), session_id="s")
    assert "thread" not in second.body
    assert second.notes[0].details == {"reason": "400"}
    assert thread(ASKED) is None
    assert "anthropic-beta" not in headers(model(), ASKED, session_id="s")
    assert thread(ASKED, session_id="t") == CREATE


@pytest.mark.parametrize(
    "error",
    [
        refused("prompt is too long"),
        refused("thread is busy", 500),
        refused("thread problem", details={"error_code": "other_thing"}),
    ],
)
def test_another_failure_is_one_with_or_without_a_thread(error: PiAIError) -> None:
    assert instead(model(), ASKED, error, session_id="s")[1] is None
    assert instead(model(), ASKED, refused("thread: no"))[1] is None  # there was none


# ── memory ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_DI3_sessions_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 2)
    monkeypatch.setattr(sessions, "_all", [])
    memory: Sessions[list[str]] = Sessions(list)
    for name in ("a", "b", "a", "c"):
        memory.of(name).append(name)
    assert [memory.of(name) for name in ("a", "c")] == [["a", "a"], ["c"]]
    assert memory.of("b") == []
    assert memory.of(None) == []


def test_DI3_one_session_or_all_can_be_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_all", [])
    memories: list[Sessions[list[int]]] = [Sessions(list), Sessions(list)]
    for memory in memories:
        memory.of("a").append(1)
        memory.of("b").append(1)
    cleanup_session_resources("a")
    assert [(memory.of("a"), memory.of("b")) for memory in memories] == [([], [1])] * 2
    cleanup_session_resources()
    assert [memory.of("b") for memory in memories] == [[]] * 2


def test_a_request_shares_nothing_that_building_it_changes() -> None:
    """Section 3.6: marks are never set in what is the caller's."""
    history = [UserMessage([text("a"), IMAGE]), *calls_and_results([text("r"), IMAGE]), UserMessage("b")]
    context = Context(history, system_prompt="s", tools=[attrs.evolve(WEATHER, parameters={**SCHEMA})])
    before = repr(context)
    for _ in range(2):
        built = request(model(), context)
        assert json.dumps(built.body).count("cache_control") == 3
    assert repr(context) == before
    assert "cache_control" not in json.dumps(body(model(compat=TOOLS_IN_PLACE), context)["tools"][-1])


def test_portable_options_are_lowered() -> None:
    options = StreamOptions(reasoning="medium", tool_choice="any", session_id="s", temperature=0, max_tokens=100)
    assert ADAPTER.lower(thinker(), HELLO, options) == AnthropicOptions(
        thinking_enabled=True,
        thinking_budget_tokens=7268,
        tool_choice="any",
        session_id="s",
        temperature=0,
        max_tokens=8292,
        identity=options.identity,
    )
    assert ADAPTER.lower(model(), HELLO, options).thinking_enabled is False
    assert ADAPTER.lower(model(), HELLO, options).max_tokens == 100


@pytest.mark.parametrize("key", ["sk-\nsecret", "sk-secret\r", "sk-\0secret"])
def test_X8_a_key_that_no_header_can_hold_is_refused_unquoted(key: str) -> None:
    with pytest.raises(PiAIError) as caught:
        request(model(), api_key=key)
    assert caught.value.info.kind == "config"
    assert "secret" not in str(caught.value)
