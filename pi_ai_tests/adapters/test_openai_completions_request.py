"""The request of the chat completions API: pi-ai's own (goldens), and the rows of the spec's table (section 14)."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from pi_ai.adapters._openai_compat import PROFILES
from pi_ai.adapters.openai_completions import OpenAICompletions, OpenAICompletionsOptions
from pi_ai.errors import AuthError, BadRequest, ConfigError, PiAIError
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
)
from pi_ai_tests.data import goldens

API = "openai-completions"
ADAPTER = OpenAICompletions()
OPENAI = "https://api.openai.com/v1"
LOCAL = "http://localhost:11434/v1"
HELLO = Context([UserMessage("Hello")])
IMAGE = ImageContent("aW1n", "image/png")
WEATHER = Tool("get_weather", "Get the weather.", {"type": "object", "properties": {"city": {"type": "string"}}})


def model(**fields: Any) -> Model:
    return Model(**{"id": "gpt-test", "api": API, "provider": "openai", "base_url": OPENAI, **fields})


def body(model: Model, context: Context = HELLO, **options: Any) -> dict[str, Any]:
    return sent_body(request(model, context, **options))


def request(model: Model, context: Context = HELLO, **options: Any) -> Any:
    return ADAPTER.build_request(model, context, OpenAICompletionsOptions(**{"api_key": "sk-test", **options}))


def messages(model: Model, *history: Message, **options: Any) -> list[dict[str, Any]]:
    return body(model, Context(list(history)), **options)["messages"]


def answer(*content: Any, **fields: Any) -> AssistantMessage:
    """An answer of ``model()`` itself."""
    own = {"api": API, "provider": "openai", "model": "gpt-test", "stop_reason": "stop"}
    return AssistantMessage(list(content), **{**own, **fields})


# ── what pi-ai sends ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("golden", cases(API))
def test_the_request_is_the_one_that_pi_ai_sends(golden: dict[str, Any]) -> None:
    known = of_parts(DIFFERENCES[API].get(golden["name"]), "refused", "url", "headers", "body")
    check(request_differences(ADAPTER, golden), known, golden["name"])


REFUSED = [name for name, (places, _) in DIFFERENCES[API].items() if places == ("refused",)]


@pytest.mark.parametrize(
    "golden", [golden for golden in goldens(API) if golden["name"] in REFUSED], ids=lambda g: g["name"]
)
def test_a_request_that_is_refused_is_pi_ais_once_its_place_is_known(golden: dict[str, Any]) -> None:
    wanted = golden["expected"]["requests"][0]
    account = {"CLOUDFLARE_ACCOUNT_ID": "a/1", "CLOUDFLARE_GATEWAY_ID": "gw"}
    azure = "https://name.openai.azure.com/openai/v1"
    golden = {**golden, "model": {**golden["model"], "baseUrl": golden["model"]["baseUrl"] or azure}}
    call = call_of(ADAPTER, golden)
    call = attrs.evolve(call, options=attrs.evolve(call.options, env=account))
    built = ADAPTER.build_request(call.model, call.context, call.options)
    headers = sent_headers(call, built)
    if "cf-aig-authorization" in headers:
        headers["authorization"] = headers.pop("cf-aig-authorization")
    filled = {"%7BCLOUDFLARE_ACCOUNT_ID%7D": "a%2F1", "%7BCLOUDFLARE_GATEWAY_ID%7D": "gw", OPENAI: azure}
    url = wanted["url"]
    for open_, value in filled.items():
        url = url.replace(open_, value)
    assert built.url == url
    assert not dict(differing("body", sent_body(built), wanted["body"]))
    assert headers == wanted["headers"]


# ── the body (R1-R19) ────────────────────────────────────────────────────────────────────────────────────────


def test_R1_a_plain_model_at_openai_gets_the_plain_body() -> None:
    assert body(model(), max_tokens=100) == {
        "model": "gpt-test",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "store": False,
        "max_completion_tokens": 100,
    }


@pytest.mark.parametrize("base_url", [LOCAL, "http://192.168.1.5:8000/v1", "http://[::1]:1/v1", "http://gpu.local/v1"])
def test_R2_a_local_server_gets_only_what_every_server_understands(base_url: str) -> None:
    sent = body(model(base_url=base_url, reasoning=True), Context([], system_prompt="Be brief."), max_tokens=100)
    assert sent["max_tokens"] == 100
    assert "store" not in sent
    assert "max_completion_tokens" not in sent
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}]


def deepseek(**fields: Any) -> Model:
    return model(provider="deepseek", base_url="https://api.deepseek.com", reasoning=True, **fields)


def test_R3_deepseek_is_told_not_to_think() -> None:
    sent = body(deepseek(), max_tokens=100)
    assert sent["thinking"] == {"type": "disabled"}
    assert sent["max_tokens"] == 100


def test_R4_deepseek_gets_empty_reasoning_back_with_a_call_that_had_none() -> None:
    history = [UserMessage("Hi"), answer(ToolCall("1", "f"), provider="deepseek"), ToolResultMessage("1", "f", "ok")]
    assert messages(deepseek(), *history, reasoning_effort="high")[1]["reasoning_content"] == ""


def openrouter(model_id: str, **fields: Any) -> Model:
    return model(id=model_id, provider="openrouter", base_url="https://openrouter.ai/api/v1", reasoning=True, **fields)


def test_R5_claude_at_openrouter_gets_its_cache_marks_and_the_session() -> None:
    context = Context(
        [UserMessage("Hello")], system_prompt="Be brief.", tools=[WEATHER, attrs.evolve(WEATHER, name="b")]
    )
    built = request(openrouter("anthropic/x"), context, session_id="s1")
    mark = {"type": "ephemeral"}
    assert built.body["messages"] == [
        {"role": "developer", "content": [{"type": "text", "text": "Be brief.", "cache_control": mark}]},
        {"role": "user", "content": [{"type": "text", "text": "Hello", "cache_control": mark}]},
    ]
    assert [tool.get("cache_control") for tool in built.body["tools"]] == [None, mark]
    assert built.headers["x-session-id"] == "s1"


def test_R6_a_model_at_openrouter_that_cannot_stop_thinking_is_not_told_to() -> None:
    assert "reasoning" not in body(openrouter("x/y", thinking_level_map={"off": None}))


def test_R11_an_answer_is_one_string_with_its_thought_and_its_calls() -> None:
    history = answer(
        ThinkingContent("Hm.", "reasoning_content"), TextContent("A"), TextContent("B"), ToolCall("1", "f", {"x": "ä"})
    )
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x":"ä"}'}}
    assert messages(model(), history, ToolResultMessage("1", "f", "ok"))[0] == {
        "role": "assistant",
        "content": "AB",
        "reasoning_content": "Hm.",
        "tool_calls": [call],
    }


def test_R12_an_answer_of_thought_alone_is_left_out() -> None:
    history = [UserMessage("a"), answer(ThinkingContent("Hm.", "reasoning_content")), UserMessage("b")]
    assert [message["role"] for message in messages(model(), *history)] == ["user", "user"]


def calls_and_results(*results: list[Any]) -> list[Message]:
    calls = [ToolCall(str(index), "f") for index in range(len(results))]
    return [answer(*calls), *(ToolResultMessage(str(index), "f", result) for index, result in enumerate(results))]


def test_R13_images_of_results_follow_the_run_of_results() -> None:
    history = calls_and_results([IMAGE], [TextContent("t")])
    sent = messages(model(input=["text", "image"]), *history)[1:]
    url = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aW1n"}}
    assert [message["role"] for message in sent] == ["tool", "tool", "user"]
    assert sent[0]["content"] == "(see attached image)"
    assert sent[2]["content"] == [{"type": "text", "text": "Attached image(s) from tool result:"}, url]


def test_R13_a_bridge_stands_between_results_and_their_images_where_it_must() -> None:
    history = [*calls_and_results([IMAGE]), UserMessage("Go on")]
    seer = model(input=["text", "image"], compat={"requires_assistant_after_tool_result": True})
    assert [message["role"] for message in messages(seer, *history)] == [
        "assistant",
        "tool",
        "assistant",
        "user",
        "user",
    ]


def test_R14_a_model_without_eyes_gets_a_placeholder() -> None:
    sent = messages(model(), *calls_and_results([IMAGE]))
    assert sent[1:] == [
        {"role": "tool", "content": "(tool image omitted: model does not support images)", "tool_call_id": "0"}
    ]


def test_R15_a_blank_result_says_so() -> None:
    assert messages(model(), *calls_and_results([TextContent(" ")]))[1]["content"] == "(no tool output)"


def test_R16_long_ids_of_other_apis_become_short_ones_that_differ() -> None:
    ids = ["call_1|fc_" + "x" * 400, "call_1|fc_" + "y" * 400]
    foreign = answer(*[ToolCall(old, "f") for old in ids], api="openai-responses", model="gpt-5")
    results = [ToolResultMessage(old, "f", "ok") for old in ids]
    sent = messages(model(), foreign, *results)
    short = [call["id"] for call in sent[0]["tool_calls"]]
    assert all(len(new) <= 40 for new in short)
    assert len(set(short)) == 2
    assert [result["tool_call_id"] for result in sent[1:]] == short


def test_R16_openai_takes_no_id_over_40_characters_and_others_do() -> None:
    foreign = answer(ToolCall("x" * 50, "f"), api="other")
    sent = [messages(model(provider=provider), foreign)[0]["tool_calls"][0]["id"] for provider in ("openai", "proxy")]
    assert sent == ["x" * 40, "x" * 50]


def test_R17_sampling_parameters_win_over_named_fields() -> None:
    tuned = model(
        sampling_params={"top_k": 1, "min_p": 0.5},
        sampling_params_by_thinking_level={"off": {"top_k": 2}, "low": {"x": 3}},
    )
    sent = body(tuned, temperature=1, sampling_params={"temperature": 0.1, "min_p": 0.05})
    assert {key: sent[key] for key in ("temperature", "min_p", "top_k")} == {
        "temperature": 0.1,
        "min_p": 0.05,
        "top_k": 2,
    }
    assert "x" not in sent


def test_R18_tools_are_not_mentioned_when_there_are_none_unless_the_server_insists() -> None:
    history = Context(calls_and_results([TextContent("t")]))
    assert "tools" not in body(model(), history)
    insisting = model(compat={"requiresToolsWithToolHistory": True})
    assert body(insisting, history)["tools"] == []
    assert "tools" not in body(insisting)


def test_R19_without_a_key_there_is_no_request() -> None:
    with pytest.raises(AuthError, match=r"^No API key for provider: openai(\n|$)") as caught:
        request(model(), api_key=None)
    assert caught.value.info.kind == "auth"


def test_R19_a_callers_own_header_or_a_server_on_this_machine_needs_no_key() -> None:
    assert "Authorization" not in request(model(base_url=LOCAL), api_key=None).headers
    assert request(model(), api_key=None, headers={"AUTHORIZATION": "Basic x"}).headers["AUTHORIZATION"] == "Basic x"
    for blank in ({"authorization": " "}, {"authorization": None}):
        with pytest.raises(AuthError):
            request(model(), api_key=None, headers=blank)
    with pytest.raises(AuthError):
        request(model(base_url="http://192.168.0.1/v1"), api_key=None)


# ── more of the request ──────────────────────────────────────────────────────────────────────────────────────


def test_a_trailing_slash_is_not_doubled_R63() -> None:
    assert request(model(base_url=OPENAI + "//")).url == OPENAI + "/chat/completions"


def test_a_placeholder_of_the_url_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_ACCOUNT", "from process")
    placed = model(base_url="https://x.example/{SOME_ACCOUNT}/v1")
    assert request(placed).url == "https://x.example/from%20process/v1/chat/completions"
    assert request(placed, env={"SOME_ACCOUNT": "a"}).url == "https://x.example/a/v1/chat/completions"
    monkeypatch.setenv("SOME_ACCOUNT", "")
    with pytest.raises(ConfigError, match="needs SOME_ACCOUNT: set that environment variable"):
        request(placed)


@pytest.mark.parametrize(
    ("base_url", "words"),
    [
        ("", "is empty"),
        ("api.openai.com/v1", "must be http"),
        ("ftp://x.example", "must be http"),
        ("https://", "with a host"),
        ("https://user:secret@x.example/v1", "user or a password"),
        ("https://x.example/v1\nHost: y", "control characters"),
    ],
)
def test_X7_a_base_url_is_checked_and_not_quoted(base_url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        request(model(base_url=base_url))
    assert "secret" not in str(caught.value)


def test_headers_come_in_layers_and_none_removes_H1() -> None:
    built = request(
        model(headers={"X-A": "model", "x-b": "model", "authorization": "Bearer model"}),
        headers={"x-a": "call", "X-B": None, "accept": None},
    )
    assert built.headers == {
        "accept": None,
        "Content-Type": "application/json",
        "authorization": "Bearer model",
        "x-a": "call",
        "X-B": None,
    }


@pytest.mark.parametrize("retention", ["none", "short"])
def test_xai_gets_the_session_in_its_own_header_unless_nothing_is_to_be_kept(retention: Any) -> None:
    grok = model(provider="xai", base_url="https://api.x.ai/v1")
    headers = request(grok, session_id="s", cache_retention=retention).headers
    assert headers.get("x-grok-conv-id") == ("s" if retention == "short" else None)


def test_cloudflares_gateway_gets_the_key_in_its_own_header() -> None:
    gateway = model(provider="cloudflare-ai-gateway", base_url="https://gateway.ai.cloudflare.com/v1/a/g/compat")
    headers = request(gateway).headers
    assert headers["cf-aig-authorization"] == "Bearer sk-test"
    assert "Authorization" not in headers


def test_copilot_learns_who_speaks_and_what_is_seen_H4() -> None:
    copilot = model(
        provider="github-copilot", base_url="https://api.individual.githubcopilot.com", input=["text", "image"]
    )
    assert request(copilot, Context([], system_prompt="x")).headers["X-Initiator"] == "user"
    headers = request(copilot, Context(calls_and_results([IMAGE]))).headers
    assert (headers["X-Initiator"], headers["Copilot-Vision-Request"]) == ("agent", "true")


def test_portable_options_are_lowered_to_what_the_model_can() -> None:
    thinker = model(reasoning=True, max_tokens=1000, thinking_level_map={"low": None})
    options = StreamOptions(
        reasoning="low", tool_choice="any", thinking_budgets={"low": 5}, session_id="s", temperature=0
    )
    lowered = ADAPTER.lower(thinker, HELLO, options)
    assert lowered == OpenAICompletionsOptions(
        reasoning_effort="medium",
        tool_choice="any",
        thinking_budgets={"low": 5},
        session_id="s",
        temperature=0,
        max_tokens=1000,
        identity=options.identity,
    )
    assert ADAPTER.lower(model(), HELLO, options).reasoning_effort is None
    assert ADAPTER.lower(thinker, HELLO, StreamOptions()).reasoning_effort is None


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("any", "required"),
        ("required", "required"),
        ({"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "f"}}),
        ({"type": "tool", "name": "sql"}, {"type": "custom", "custom": {"name": "sql"}}),
    ],
)
def test_a_tool_choice_is_sent_in_the_words_of_the_wire(choice: Any, sent: Any) -> None:
    grammar = {"type": "grammar", "variants": {"openai_lark": "start: /x/"}}
    schema = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
    tools = [Tool("sql", "Run.", schema, constrained_sampling=grammar)]
    speaker = model(compat={"supportsOpenAIGrammarTools": True})
    assert body(speaker, Context([UserMessage("x")], tools=tools), tool_choice=choice)["tool_choice"] == sent


def test_a_tool_that_requires_what_the_model_lacks_is_an_error_before_the_request() -> None:
    strict = attrs.evolve(WEATHER, constrained_sampling={"type": "json_schema", "strict": "require"})
    with pytest.raises(BadRequest, match="strict tools are unsupported"):
        body(model(), Context([], tools=[strict]))


def test_thoughts_become_one_text_where_they_are_replayed_as_text() -> None:
    thinker = model(compat={"requires_thinking_as_text": True})
    history = answer(ThinkingContent("A", "reasoning"), TextContent("x"), ThinkingContent("B", "reasoning"))
    assert messages(thinker, history) == [{"role": "assistant", "content": "A\n\nB\n\nx"}]
    assert messages(thinker, answer(ThinkingContent("A", "reasoning")))[0]["content"] == "A"


def test_reasoning_details_go_back_unchanged_and_instead_of_the_plain_field() -> None:
    details = [
        {"type": "reasoning.text", "text": "Hm", "signature": "c2ln"},
        {"type": "reasoning.encrypted", "data": "x"},
    ]
    history = answer(ThinkingContent("Hm", json.dumps(details)), TextContent("Ok"))
    assert messages(model(), history) == [{"role": "assistant", "content": "Ok", "reasoning_details": details}]


@pytest.mark.parametrize("signature", ["[]", '[{"type":"reasoning.text"}]', "[1", '{"a":1}', "[" * 100_000, "c2ln"])
def test_a_signature_that_is_no_list_of_details_is_not_sent(signature: str) -> None:
    history = answer(ThinkingContent("Hm", signature), TextContent("Ok"))
    assert messages(model(), history) == [{"role": "assistant", "content": "Ok"}]


def test_tools_that_are_only_added_arrive_where_they_are_added() -> None:
    kimi = model(compat={"supportsMidConvoSystemMessages": True, "supportsMidConvoToolAdditions": True})
    later = SystemMessage("Now with b.", tools_added=[attrs.evolve(WEATHER, name="b")])
    sent = body(kimi, Context([UserMessage("Hi"), later], system_prompt="S", tools=[WEATHER]))
    function = {"name": "b", "description": "Get the weather.", "parameters": WEATHER.parameters}
    assert sent["messages"][2:] == [
        {"role": "system", "content": "Now with b."},
        {"role": "system", "tools": [{"type": "function", "function": function}]},
    ]
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["get_weather"]


def test_a_tool_that_changes_later_is_offered_in_its_last_form() -> None:
    kimi = model(compat={"supportsMidConvoSystemMessages": True, "supportsMidConvoToolAdditions": True})
    later = SystemMessage(tools_added=[attrs.evolve(WEATHER, description="New.")])
    sent = body(kimi, Context([UserMessage("Hi"), later], tools=[WEATHER]))
    assert [tool["function"]["description"] for tool in sent["tools"]] == ["New."]
    assert len(sent["messages"]) == 1


def test_vercels_gateway_gets_only_its_own_routing_keys() -> None:
    routed = model(compat={"vercelGatewayRouting": {"only": ["a"], "order": [], "x": 1}})
    assert body(routed)["providerOptions"] == {"gateway": {"only": ["a"]}}
    assert "providerOptions" not in body(model(compat={"vercelGatewayRouting": {}, "openRouterRouting": {}}))
    assert "provider" not in body(model(compat={"openRouterRouting": {}}))


def test_a_cache_mark_goes_to_the_last_message_that_has_text() -> None:
    marked = model(compat={"cacheControlFormat": "anthropic"}, input=["text", "image"])
    sent = messages(marked, UserMessage("a"), answer(TextContent("b")), UserMessage([IMAGE]), cache_retention="long")
    assert sent[1]["content"] == [{"type": "text", "text": "b", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    assert "cache_control" not in json.dumps(sent[0])
    assert "cache_control" not in json.dumps(messages(marked, UserMessage("a"), cache_retention="none"))


def test_a_request_shares_nothing_that_building_it_changes() -> None:
    context = Context([UserMessage("a")], system_prompt="s", tools=[WEATHER])
    before = attrs.evolve(context)
    built = request(openrouter("anthropic/x"), context)
    built.body["messages"].clear()
    assert context == before
    assert PROFILES["openrouter"] == {
        "thinking_format": "openrouter",
        "send_session_affinity_headers": True,
        "session_affinity_format": "openrouter",
    }


@pytest.mark.parametrize("key", ["sk-\nsecret", "sk-secret\r", "sk-\0secret", "sk-secret-\u20ac"])
def test_X8_a_key_that_no_header_can_hold_is_refused_unquoted(key: str) -> None:
    with pytest.raises(PiAIError) as caught:
        request(model(), api_key=key)
    assert caught.value.info.kind == "config"
    assert "secret" not in str(caught.value)
