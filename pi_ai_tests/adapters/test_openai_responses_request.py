"""The request of the Responses API: pi-ai's own (goldens), and the rows of the spec's table (section 13)."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai.adapters.openai_responses import OpenAIResponses, OpenAIResponsesOptions
from pi_ai.errors import AuthError, BadRequest, ConfigError
from pi_ai.text import short_hash
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
from pi_ai_tests.adapters.golden import (
    call_of,
    cases,
    check,
    differing,
    of_parts,
    request_differences,
    sent_body,
    sent_headers,
    unlisted,
)
from pi_ai_tests.data import goldens

API = "openai-responses"
ADAPTER = OpenAIResponses()
OPENAI = "https://api.openai.com/v1"
HELLO = Context([UserMessage("Hello")])
IMAGE = ImageContent("aW1n", "image/png")
SEEN = {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,aW1n"}
WEATHER = Tool("get_weather", "Get the weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
SQL = Tool(
    "sql",
    "Run.",
    {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]},
    constrained_sampling={"type": "grammar", "variants": {"openai_lark": "start: /x/"}},
)
ENCRYPTED = '{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"Hm"}],"encrypted_content":"enc"}'


def model(**fields: Any) -> Model:
    return Model(**{"id": "gpt-test", "api": API, "provider": "openai", "base_url": OPENAI, **fields})


def request(model: Model, context: Context = HELLO, **options: Any) -> Any:
    return ADAPTER.build_request(model, context, OpenAIResponsesOptions(**{"api_key": "sk-test", **options}))


def body(model: Model, context: Context = HELLO, **options: Any) -> dict[str, Any]:
    return sent_body(request(model, context, **options))


def items(model: Model, *history: Message, tools: list[Tool] | None = None, **options: Any) -> list[dict[str, Any]]:
    return body(model, Context(list(history), tools=tools), **options)["input"]


def answer(*content: Any, **fields: Any) -> AssistantMessage:
    """An answer of ``model()`` itself."""
    own = {"api": API, "provider": "openai", "model": "gpt-test", "stop_reason": "stop"}
    return AssistantMessage(list(content), **{**own, **fields})


def said(text: str, told: str, **more: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "role": "assistant", "status": "completed", "id": told, "content": content, **more}


# ── what pi-ai sends ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("golden", cases(API))
def test_the_request_is_the_one_that_pi_ai_sends(golden: dict[str, Any]) -> None:
    known = of_parts(DIFFERENCES[API].get(golden["name"]), "refused", "url", "headers", "body")
    check(request_differences(ADAPTER, golden), known, golden["name"])


@pytest.mark.parametrize("golden", [case for case in cases(API) if case.values[0]["expected"]["requests"]])
def test_thoughts_are_asked_for_encrypted_whenever_the_model_thinks_at_all(golden: dict[str, Any]) -> None:
    """Section 2 [+]: pi-ai does so only while thinking is on."""
    call = call_of(ADAPTER, golden)
    call = attrs.evolve(call, options=attrs.evolve(call.options, env=ACCOUNT))
    sent = ADAPTER.build_request(call.model, call.context, call.options).body
    assert sent.get("include") == (["reasoning.encrypted_content"] if call.model.reasoning else None)


ACCOUNT = {"CLOUDFLARE_ACCOUNT_ID": "acct", "CLOUDFLARE_GATEWAY_ID": "gw"}
REFUSED = [golden for golden in goldens(API) if DIFFERENCES[API].get(golden["name"], ((),))[0] == ("refused",)]


@pytest.mark.parametrize("golden", REFUSED, ids=lambda golden: golden["name"])
def test_a_request_that_is_refused_is_pi_ais_once_its_place_is_known(golden: dict[str, Any]) -> None:
    wanted = golden["expected"]["requests"][0]
    call = call_of(ADAPTER, golden)
    call = attrs.evolve(call, options=attrs.evolve(call.options, env=ACCOUNT))
    built = ADAPTER.build_request(call.model, call.context, call.options)
    headers = sent_headers(call, built)
    # openai-compatible-servers.md section 2: Authorization is for the server behind Cloudflare's gateway.
    headers["authorization"] = headers.pop("cf-aig-authorization")
    assert headers == wanted["headers"]
    assert not unlisted(golden, dict(differing("body", sent_body(built), wanted["body"])))
    assert built.url == "https://gateway.ai.cloudflare.com/v1/acct/gw/openai/responses"


# ── the body (R1-R6) ─────────────────────────────────────────────────────────────────────────────────────────


def test_R1_a_plain_model_gets_the_plain_body() -> None:
    context = Context([UserMessage("Hello")], system_prompt="Be brief.")
    assert body(model(), context, session_id="s" * 70) == {
        "model": "gpt-test",
        "input": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
        ],
        "stream": True,
        "store": False,
        "prompt_cache_key": "s" * 64,
    }


def thinker(**fields: Any) -> Model:
    return model(reasoning=True, **fields)


def test_R2_a_thinking_model_gets_its_prompt_as_a_developer_and_an_effort() -> None:
    sent = body(thinker(), Context([], system_prompt="x"), reasoning_effort="high")
    assert sent["input"] == [{"role": "developer", "content": "x"}]
    assert sent["reasoning"] == {"effort": "high", "summary": "auto"}
    assert sent["include"] == ["reasoning.encrypted_content"]
    prompted = Context([], system_prompt="x")
    assert body(thinker(compat={"supports_developer_role": False}), prompted)["input"][0]["role"] == "system"


@pytest.mark.parametrize(
    ("fields", "reasoning"),
    [
        ({"thinking_level_map": {"off": "minimal"}}, {"effort": "minimal"}),
        ({"thinking_level_map": {"off": None}}, None),
        ({}, {"effort": "none"}),
        ({"provider": "github-copilot"}, None),
        ({"compat": {"supports_no_effort": False}}, None),
    ],
)
def test_R3_thinking_is_switched_off_in_the_words_of_the_model(fields: Any, reasoning: Any) -> None:
    sent = body(thinker(**fields))
    assert sent.get("reasoning") == reasoning
    assert sent["include"] == ["reasoning.encrypted_content"]


def test_R4_a_summary_alone_means_medium_effort_in_the_models_word_for_it() -> None:
    assert body(thinker(), reasoning_summary="detailed")["reasoning"] == {"effort": "medium", "summary": "detailed"}
    mapped = thinker(thinking_level_map={"medium": "normal"})
    assert body(mapped, reasoning_summary="concise")["reasoning"]["effort"] == "normal"
    assert "reasoning" not in body(model(), reasoning_summary="detailed", reasoning_effort="high")


@pytest.mark.parametrize(("limit", "sent"), [(5, 16), (16, 16), (1000, 1000), (0, None), (-1, None), (None, None)])
def test_R5_a_limit_is_never_below_what_the_api_takes(limit: int | None, sent: int | None) -> None:
    assert body(model(), max_tokens=limit).get("max_output_tokens") == sent
    assert "max_output_tokens" not in body(model(compat={"supportsMaxOutputTokens": False}), max_tokens=limit)


EXPLICIT = {"supportsExplicitPromptCacheMode": True}


@pytest.mark.parametrize(
    ("retention", "fields", "sent"),
    [
        ("long", {}, {"prompt_cache_retention": "24h"}),
        ("short", {}, {}),
        ("none", {}, {}),
        ("long", {"base_url": "https://x.example/v1"}, {}),
        (
            "long",
            {"base_url": "https://x.example/v1", "compat": {"supportsLongCacheRetention": True}},
            {"prompt_cache_retention": "24h"},
        ),
        ("long", {"compat": {"supportsLongCacheRetention": False}}, {}),
        ("none", {"compat": EXPLICIT}, {"prompt_cache_options": {"mode": "explicit"}}),
        ("short", {"compat": EXPLICIT}, {}),
        ("long", {"compat": EXPLICIT}, {"prompt_cache_options": {"ttl": "30m"}}),
        ("long", {"compat": {**EXPLICIT, "supportsLongCacheRetention": False}}, {}),
    ],
)
def test_R6_the_cache_lives_as_long_as_it_was_asked_to_where_that_is_understood(
    retention: Any, fields: Any, sent: Any
) -> None:
    found = body(model(**fields), session_id="s", cache_retention=retention)
    key = {} if retention == "none" else {"prompt_cache_key": "s"}
    assert {name: value for name, value in found.items() if name.startswith("prompt_cache")} == {**key, **sent}
    headers = request(model(**fields), session_id="s", cache_retention=retention).headers
    assert ("session-id" in headers) is (retention != "none")


def test_the_long_retention_may_come_from_the_environment() -> None:
    assert body(model(), env={"PI_CACHE_RETENTION": "long"})["prompt_cache_retention"] == "24h"


def test_a_cache_key_is_not_sent_where_that_is_switched_off() -> None:
    assert "prompt_cache_key" not in body(model(compat={"promptCacheKeyMode": "disabled"}), session_id="s")
    assert body(model(compat={"promptCacheKeyMode": "enabled"}), session_id="s")["prompt_cache_key"] == "s"


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, {"session-id", "x-client-request-id"}),
        ({"compat": {"sessionAffinityFormat": "openai-nosession"}}, {"x-client-request-id"}),
        ({"provider": "openrouter"}, {"x-session-id"}),
        ({"base_url": "https://openrouter.ai/api/v1"}, {"x-session-id"}),
        ({"base_url": "https://not-openrouter.ai/api/v1"}, {"session-id", "x-client-request-id"}),
    ],
)
def test_the_session_is_told_in_the_headers_that_the_server_knows(fields: Any, names: set[str]) -> None:
    headers = request(model(**fields), session_id="s").headers
    assert {name for name, value in headers.items() if value == "s"} == names


def test_sampling_parameters_of_model_level_and_call_win_over_fields() -> None:
    given = {"temperature": 0.3, "top_p": 0.9}
    sampled = thinker(
        sampling_params={"top_k": 1, "top_p": 0.1}, sampling_params_by_thinking_level={"low": {"top_k": 2}}
    )
    sent = body(sampled, temperature=0.7, reasoning_effort="low", sampling_params=given)
    assert (sent["temperature"], sent["top_p"], sent["top_k"]) == (0.3, 0.9, 2)


def test_a_service_tier_is_sent_as_it_is() -> None:
    assert body(model(), service_tier="flex")["service_tier"] == "flex"
    assert "service_tier" not in body(model())


def test_a_chatgpt_login_leaves_out_what_its_servers_refuse() -> None:
    limited = {"max_tokens": 100, "temperature": 0.0, "cache_retention": "long", "session_id": "s"}
    sent = body(model(), api_key="eyJ-token", **limited)
    assert sent.keys() == {"model", "input", "stream", "store", "prompt_cache_key"}
    assert body(model(base_url=f"{OPENAI}/"), api_key="eyJ-token", **limited)["temperature"] == 0.0
    assert body(model(provider="other"), api_key="eyJ-token", **limited)["max_output_tokens"] == 100


def test_portable_options_are_lowered_to_what_the_model_can() -> None:
    clamped = thinker(max_tokens=1000, thinking_level_map={"low": None})
    options = StreamOptions(reasoning="low", tool_choice="any", session_id="s", temperature=0)
    assert ADAPTER.lower(clamped, HELLO, options) == OpenAIResponsesOptions(
        reasoning_effort="medium",
        tool_choice="any",
        session_id="s",
        temperature=0,
        max_tokens=1000,
        identity=options.identity,
    )
    assert ADAPTER.lower(model(), HELLO, options).reasoning_effort is None
    assert ADAPTER.lower(clamped, HELLO, StreamOptions()).reasoning_effort is None


# ── headers ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_callers_headers_win_and_none_removes() -> None:
    headers = request(
        model(headers={"X-A": "model", "X-B": "model"}),
        headers={"x-a": "call", "X-B": None, "session-id": "own"},
        session_id="s",
    ).headers
    assert (headers["x-a"], headers["X-B"], headers["session-id"]) == ("call", None, "own")


def test_without_a_key_there_is_no_request_unless_a_header_stands_for_it_or_the_server_is_here() -> None:
    with pytest.raises(AuthError, match="No API key for provider: openai"):
        request(model(), api_key=None)
    assert "Authorization" not in request(model(base_url="http://127.0.0.1:1/v1"), api_key=None).headers
    own = {"authorization": "Bearer own"}
    assert request(model(), api_key=None, headers=own).headers["authorization"] == "Bearer own"


def test_copilot_learns_who_speaks_and_what_is_seen_H4() -> None:
    copilot = model(provider="github-copilot", input=["text", "image"])
    headers = request(copilot, Context([UserMessage([IMAGE])])).headers
    assert (headers["X-Initiator"], headers["Copilot-Vision-Request"]) == ("user", "true")


def test_a_compat_flag_with_a_wrong_value_is_told() -> None:
    with pytest.raises(ConfigError, match=r"compat of model openai/gpt-test .*supportsStrictMode"):
        request(model(compat={"supportsStrictMode": "yes"}))
    assert body(model(compat={"supportsStrictMode": None, "unknown": 1}))


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        ("Unknown parameter: 'max_output_tokens'", "supportsMaxOutputTokens"),
        ("Unknown parameter: 'prompt_cache_key'", "promptCacheKeyMode"),
        ("role must be one of `system`, not `developer`", "supportsDeveloperRole"),
        ("Unknown parameter: 'prompt_cache_retention'", None),  # was not sent
        ("bad", None),
    ],
)
def test_a_refused_field_names_the_flag_to_set(text: str, flag: str | None) -> None:
    sent = body(thinker(), Context([], system_prompt="x"), max_tokens=20, session_id="s")
    hint = ADAPTER.hint(sent, text)
    assert (flag in hint) if flag and hint else hint is flag


# ── answers of the model (R7-R14, R16) ───────────────────────────────────────────────────────────────────────

TURN = (
    ThinkingContent("Hm", ENCRYPTED),
    TextContent("Look", '{"v":1,"id":"msg_1","phase":"commentary"}'),
    ToolCall("call_1|fc_1", "f", {"a": 1}),
)


def test_R7_an_answer_of_the_same_model_goes_back_item_by_item() -> None:
    assert items(thinker(), answer(*TURN))[:3] == [
        json.loads(ENCRYPTED),
        said("Look", "msg_1", phase="commentary"),
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": '{"a":1}'},
    ]


def test_R8_another_model_of_the_provider_gets_no_thoughts_and_no_ids_that_belong_to_them() -> None:
    assert items(thinker(), UserMessage("x"), answer(*TURN, model="gpt-other"))[1:3] == [
        said("Look", "msg_pi_1"),
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"a":1}'},
    ]


def test_R9_calls_of_other_apis_keep_their_own_id() -> None:
    foreign = answer(ToolCall("toolu_1", "f", {}), provider="anthropic", api="anthropic-messages")
    assert items(model(), foreign)[0] == {"type": "function_call", "call_id": "toolu_1", "name": "f", "arguments": "{}"}


def test_R10_items_of_another_provider_get_a_short_id() -> None:
    long = "x" * 400
    foreign = answer(ToolCall(f"call_1|{long}", "f", {}), provider="github-copilot")
    call, result = items(model(), foreign)
    assert call["id"] == f"fc_{short_hash(long)}"
    assert len(call["id"]) <= 64
    assert (call["call_id"], result["call_id"]) == ("call_1", "call_1")


@pytest.mark.parametrize(
    ("provider", "source", "told", "sent"),
    [
        ("openai", {"provider": "xai"}, "call_1|ctc_a", ("call_1", f"fc_{short_hash('ctc_a')}")),
        ("openai", {"provider": "xai", "api": "x"}, "a/b:c__|fc_1", ("a_b_c", f"fc_{short_hash('fc_1')}")),
        ("openai", {"model": "other"}, "call_1|fc_/x_", ("call_1", None)),
        ("openai", {"provider": "anthropic"}, "toolu_1__", ("toolu_1", None)),
        ("openai", {"provider": "x"}, "a" * 70, ("a" * 64, None)),
        ("other", {"provider": "x"}, "call_1|fc_1", ("call_1_fc_1", None)),
    ],
)
def test_ids_of_other_models_become_such_as_the_provider_takes(
    provider: str, source: Any, told: str, sent: tuple[str, str | None]
) -> None:
    call = items(model(provider=provider), answer(ToolCall(told, "f", {}), **source))[0]
    assert (call["call_id"], call.get("id")) == sent


def test_two_calls_never_get_the_same_id_by_being_cut_TM6() -> None:
    calls = [ToolCall("a/b", "f", {}), ToolCall("a:b", "g", {}), ToolCall("", "h", {})]
    found = items(model(), answer(*calls, provider="x"))
    told = [item["call_id"] for item in found if item["type"] == "function_call"]
    assert len(set(told)) == 3
    assert all(told)
    assert told == [item["call_id"] for item in found if item["type"] == "function_call_output"]


@pytest.mark.parametrize(
    ("signature", "told", "phase"),
    [
        ("msg_abc", "msg_abc", None),  # R11
        ("x" * 80, f"msg_{short_hash('x' * 80)}", None),  # R12
        ('{"v":1,"id":"msg_1"}', "msg_1", None),
        ('{"v":1,"id":"msg_1","phase":"final_answer"}', "msg_1", "final_answer"),
        ('{"v":1,"id":"msg_1","phase":"other"}', "msg_1", None),
        ('{"v":1,"id":""}', "msg_pi_0", None),
        ('{"v":2,"id":"a"}', '{"v":2,"id":"a"}', None),
        ('{"v":1', '{"v":1', None),
        ("", "msg_pi_0", None),
        (None, "msg_pi_0", None),
    ],
)
def test_a_texts_signature_is_its_id_and_phase(signature: str | None, told: str, phase: str | None) -> None:
    more = {} if phase is None else {"phase": phase}
    assert items(model(), answer(TextContent("A", signature))) == [said("A", told, **more)]


@pytest.mark.parametrize(
    "signature",
    [
        "reasoning_content",
        "{}",
        "[]",
        '{"type":"message","encrypted_content":"x"}',
        '{"type":"reasoning","id":"rs_1","summary":[]}',
        '{"type":"reasoning","encrypted_content":null}',
        '{"type":"reasoning","encrypted_content":"x"',
        '{"a":' * 1000,
    ],
)
def test_R13_a_thought_that_the_server_could_not_use_is_left_out_and_so_are_ids_of_its_calls(signature: str) -> None:
    sent = items(thinker(), answer(ToolCall("c0|fc_0", "f", {}), ThinkingContent("Hm", signature), *TURN[1:]))
    assert [item["type"] for item in sent[:3]] == ["function_call", "message", "function_call"]
    assert [item.get("id") for item in sent[:3]] == ["fc_0", "msg_1", None]


def test_R14_texts_without_a_signature_get_ids_of_their_own() -> None:
    history = [UserMessage("x"), answer(TextContent("A"), TextContent("B")), UserMessage("y"), answer(TextContent("C"))]
    context = Context(history, system_prompt="S")
    found = [item["id"] for item in body(model(), context)["input"] if item.get("type") == "message"]
    assert found == ["msg_pi_1", "msg_pi_1_1", "msg_pi_3"]


def test_R16_messages_that_say_nothing_are_left_out_and_not_counted() -> None:
    history = [UserMessage([]), answer(ThinkingContent("unsigned")), UserMessage("x"), answer(TextContent("A"))]
    assert [item.get("id") for item in items(thinker(), *history)] == [None, "msg_pi_1"]


def test_a_namespace_goes_back_to_the_same_model_only() -> None:
    call = ToolCall("call_1|fc_1", "f", {}, namespace="ns")
    assert items(model(), answer(call))[0]["namespace"] == "ns"
    assert "namespace" not in items(model(), answer(call, model="other"))[0]


# ── tools and results (R15, sections 3.4 and 4) ──────────────────────────────────────────────────────────────


def result(*content: Any) -> list[dict[str, Any]]:
    call = ToolCall("call_1|fc_1", "f", {})
    return items(model(input=["text", "image"]), answer(call), ToolResultMessage("call_1|fc_1", "f", list(content)))


@pytest.mark.parametrize(
    ("content", "output"),
    [
        ([TextContent("a"), TextContent("b")], "a\nb"),
        ([], "(no tool output)"),
        ([TextContent(" ")], "(no tool output)"),
        ([IMAGE], [SEEN]),
        ([TextContent("a"), IMAGE, TextContent("b")], [{"type": "input_text", "text": "a\nb"}, SEEN]),
        ([TextContent(" "), IMAGE], [SEEN]),
    ],
)
def test_R15_images_stand_inside_of_a_tools_output(content: list[Any], output: Any) -> None:
    assert result(*content)[1] == {"type": "function_call_output", "call_id": "call_1", "output": output}


def test_R15_a_model_without_eyes_gets_text() -> None:
    history = [answer(ToolCall("c", "f", {})), ToolResultMessage("c", "f", [TextContent("a"), IMAGE])]
    assert items(model(), *history)[1]["output"] == "a\n(tool image omitted: model does not support images)"


def test_tools_are_flat_and_strict_only_where_that_is_known() -> None:
    plain = {"type": "function", "name": "get_weather", "description": "Get the weather."}
    strict = attrs.evolve(WEATHER, constrained_sampling={"type": "json_schema", "strict": "prefer"})
    knows = model(compat={"supportsStrictMode": True})
    assert body(model(), Context([], tools=[WEATHER]))["tools"] == [{**plain, "parameters": WEATHER.parameters}]
    assert body(knows, Context([], tools=[WEATHER]))["tools"][0]["strict"] is False
    sent = body(knows, Context([], tools=[strict]))["tools"][0]
    assert (sent["strict"], sent["parameters"]["additionalProperties"]) == (True, False)
    assert "strict" not in body(model(), Context([], tools=[strict]))["tools"][0]
    with pytest.raises(BadRequest, match="strict tools are unsupported"):
        required = attrs.evolve(WEATHER, constrained_sampling={"type": "json_schema", "strict": "require"})
        body(model(), Context([], tools=[required]))


GRAMMARS = {"supportsOpenAIGrammarTools": True}


def test_a_tool_with_a_grammar_is_called_with_plain_text() -> None:
    knows = model(compat=GRAMMARS)
    call = ToolCall("call_1|ctc_1", "sql", {"q": "x"})
    history = [answer(call), ToolResultMessage("call_1|ctc_1", "sql", "1")]
    sent = body(knows, Context(history, tools=[SQL]))
    rule = {"type": "grammar", "syntax": "lark", "definition": "start: /x/"}
    assert sent["tools"] == [{"type": "custom", "name": "sql", "description": "Run.", "format": rule}]
    assert sent["input"] == [
        {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_1", "name": "sql", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "call_1", "output": "1"},
    ]
    elsewhere = body(model(), Context(history, tools=[SQL]))
    assert elsewhere["tools"][0]["type"] == "function"
    assert [item["type"] for item in elsewhere["input"]] == ["function_call", "function_call_output"]
    assert "id" not in elsewhere["input"][0]


def test_a_call_whose_argument_is_no_text_is_a_function_call_and_so_is_its_result() -> None:
    history = [answer(ToolCall("c|fc_1", "sql", {"q": 5})), ToolResultMessage("c|fc_1", "sql", "1")]
    sent = items(model(compat=GRAMMARS), *history, tools=[SQL])
    assert [item["type"] for item in sent] == ["function_call", "function_call_output"]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("any", "required"),
        ("required", "required"),
        ({"type": "tool", "name": "f"}, {"type": "function", "name": "f"}),
        ({"type": "tool", "name": "sql"}, {"type": "custom", "name": "sql"}),
        ({"type": "function", "name": "f"}, {"type": "function", "name": "f"}),
    ],
)
@pytest.mark.parametrize("compat", [{}, {"supportsAdditionalTools": True}])
def test_a_tool_choice_is_sent_in_the_words_of_the_wire(choice: Any, sent: Any, compat: Any) -> None:
    knows = model(compat={**GRAMMARS, **compat})
    assert body(knows, Context([], tools=[SQL]), tool_choice=choice)["tool_choice"] == sent


# ── later system messages (section 9) ────────────────────────────────────────────────────────────────────────

IN_PLACE = {"supportsMidConvoSystemMessages": True}
OTHER = attrs.evolve(WEATHER, name="other")


def test_later_system_messages_are_part_of_the_prompt_where_they_cannot_stay() -> None:
    later = SystemMessage("Now.", tools_added=[OTHER])
    sent = body(model(), Context([UserMessage("x"), later], system_prompt="S", tools=[WEATHER]))
    assert [item["role"] for item in sent["input"]] == ["system", "user"]
    assert sent["input"][0]["content"] == "S\n\nNow."
    assert [tool["name"] for tool in sent["tools"]] == ["get_weather", "other"]


def test_later_system_messages_stay_where_they_are_where_they_can() -> None:
    later = SystemMessage("Now.", sections={"a": "A", "b": None}, tools_added=[OTHER])
    sent = body(thinker(compat=IN_PLACE), Context([UserMessage("x"), later, SystemMessage("")], tools=[WEATHER]))
    updated = 'Updated system prompt section "a":\n\nA\n\nRemoved system prompt section "b".'
    assert sent["input"][1:] == [{"role": "developer", "content": f"Now.\n\n{updated}"}]
    assert [tool["name"] for tool in sent["tools"]] == ["get_weather", "other"]


def test_tools_may_be_declared_in_the_conversation() -> None:
    knows = thinker(compat={**IN_PLACE, "supportsAdditionalTools": True, "supportsToolSearch": True})
    history = [
        SystemMessage("S", tools_added=[WEATHER]),
        SystemMessage("", tools_removed=[ToolReference("get_weather")], tools_added=[OTHER]),
        SystemMessage("T", tools_removed=[ToolReference("other")], tools_added=[OTHER]),
    ]
    sent = body(knows, Context(history))
    assert "tools" not in sent
    declared = [item["tools"][0]["name"] for item in sent["input"] if item.get("type") == "additional_tools"]
    assert declared == ["get_weather", "other", "other"]
    texts = [item["content"] for item in sent["input"] if "content" in item]
    assert texts[:2] == [
        "S",
        "The following tools are no longer available. Do not call them:\n- get_weather",
    ]
    assert texts[2].endswith("\nStill unavailable: get_weather.")
    assert texts[3] == texts[2]
    assert texts[4] == "T"


def test_the_first_tools_may_be_declared_late_and_without_a_notice() -> None:
    knows = model(compat={**IN_PLACE, "supportsAdditionalTools": True})
    sent = items(knows, UserMessage("x"), SystemMessage("", tools_added=[WEATHER]))
    assert [item.get("type") for item in sent] == [None, "additional_tools"]


def test_tools_are_declared_also_where_the_prompt_is_one() -> None:
    sent = body(model(compat={"supportsAdditionalTools": True}), Context([UserMessage("x")], tools=[WEATHER]))
    assert [item.get("type") for item in sent["input"]] == ["additional_tools", None]
    assert "tools" not in sent


def test_added_tools_may_appear_as_found() -> None:
    knows = model(compat={**IN_PLACE, "supportsToolSearch": True})
    first = Context([UserMessage("x"), SystemMessage(tools_added=[OTHER, SQL])], tools=[WEATHER])
    sent = body(knows, first)
    assert [tool["name"] for tool in sent["tools"]] == ["get_weather"]
    call, output = sent["input"][1:]
    assert call["arguments"] == {"query": "other sql", "limit": 2}
    assert call["call_id"] == output["call_id"] == f"pi_tool_load_{short_hash('system:1:other,sql')}"
    assert all(tool["defer_loading"] for tool in output["tools"])
    changed = Context([UserMessage("x"), SystemMessage(tools_added=[WEATHER])], tools=[WEATHER])
    assert [tool["name"] for tool in body(knows, changed)["tools"]] == ["get_weather"]
    assert len(body(knows, changed)["input"]) == 1


def test_each_answer_may_have_an_effort_of_its_own() -> None:
    knows = thinker(compat={"supportsMidConvoEffort": True}, thinking_level_map={"high": "most"})
    history = [
        UserMessage("a"),
        answer(TextContent("b"), provider_thinking_level="low"),
        answer(TextContent("c"), provider_thinking_level="low", model="other"),
        answer(TextContent("d")),
    ]
    sent = body(knows, Context(history), reasoning_effort="high")
    assert sent["reasoning"] == {"effort": "medium", "summary": "auto"}
    efforts = {n: item["reasoning"]["effort"] for n, item in enumerate(sent["input"]) if "reasoning" in item}
    assert efforts == {1: "low", 5: "most"}
    assert body(knows, Context(history))["reasoning"] == {"effort": "none"}
    assert "configuration_update" not in json.dumps(body(thinker(), Context(history), reasoning_effort="high"))


# ── whatever is said ─────────────────────────────────────────────────────────────────────────────────────────

TEXT = st.text(st.sampled_from("ab|_/ \ud83d\ude48é"), max_size=6)
ASCII = st.text(st.sampled_from("ab_/ "), max_size=6)


def spoken(ids: st.SearchStrategy[str], **source: Any) -> st.SearchStrategy[Message]:
    """Answers whose calls have ids of their own."""
    block = st.one_of(
        st.builds(TextContent, TEXT, st.none() | ASCII),
        st.builds(ThinkingContent, TEXT, st.none() | TEXT | st.just(ENCRYPTED)),
        st.builds(ToolCall, ids, st.sampled_from(["f", "sql"]), st.just({"q": "x"})),
    )
    return st.builds(lambda content: answer(*content, **source), st.lists(block, max_size=4, unique_by=ident))


def ident(block: Any) -> Any:
    return block.id if isinstance(block, ToolCall) else object()


SERVERS = st.from_regex(r"call_[abc]\|fc_1|call_[def]", fullmatch=True)
ANSWERS = st.one_of(
    spoken(SERVERS), spoken(SERVERS, model="other"), spoken(SERVERS, provider="x"), spoken(ASCII, api="y", provider="z")
)
SPOKEN = st.lists(ANSWERS | st.builds(UserMessage, TEXT) | st.builds(SystemMessage, TEXT), max_size=5)


@settings(max_examples=150, deadline=None)
@given(SPOKEN, st.sampled_from([{}, GRAMMARS, {**IN_PLACE, "supportsAdditionalTools": True}]))
def test_every_call_is_answered_once_and_right_behind_its_turn(history: list[Message], compat: Any) -> None:
    waiting: dict[str, str] = {}
    for item in items(thinker(compat=compat), *history, tools=[SQL]):
        kind = item.get("type", "")
        if kind.endswith("_call"):
            waiting[item["call_id"]] = kind
            assert item.get("id", "fc_").startswith(("fc_", "ctc_"))
        elif kind.endswith("_output"):
            assert f"{waiting.pop(item['call_id'])}_output" == kind
        elif kind == "message":
            assert 0 < len(item["id"]) <= 64
        elif "role" in item:
            assert not waiting
    assert not waiting
