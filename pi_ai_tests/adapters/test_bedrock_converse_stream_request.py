"""The request of Converse: pi-ai's own (goldens), and the rows of the spec's table (bedrock-converse-stream.md 7)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

from pi_ai.adapters import bedrock_converse_stream
from pi_ai.adapters._bedrock_models import caches, caches_long, is_adaptive, is_claude
from pi_ai.adapters.bedrock_converse_stream import BedrockConverseStream, BedrockOptions, place_of
from pi_ai.adapters.sessions import cleanup_session_resources
from pi_ai.auth.env import AUTHENTICATED
from pi_ai.errors import BadRequest, ConfigError, PiAIError
from pi_ai.failures import http_failure
from pi_ai.headers import merge_headers
from pi_ai.text import encode_json
from pi_ai.transport import HttpRequest
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
from pi_ai_tests.adapters.golden import cases, check, of_parts, request_differences, sent_body
from pi_ai_tests.aws_account import NO_BOTOCORE, no_account, no_botocore, profile

pytest.importorskip("botocore", reason=NO_BOTOCORE)

API = "bedrock-converse-stream"
ADAPTER = BedrockConverseStream()
SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
ARN = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc123"
STANDARD = "https://bedrock-runtime.us-east-1.amazonaws.com"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
HELLO = Context([UserMessage("Hello")])
IMAGE = ImageContent("aW1n", "image/png")
IMAGE_BLOCK = {"image": {"format": "png", "source": {"bytes": "aW1n"}}}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = Tool("get_weather", "Get the weather.", SCHEMA)
SPEC = {"toolSpec": {"name": "get_weather", "description": "Get the weather.", "inputSchema": {"json": SCHEMA}}}
POINT = {"cachePoint": {"type": "default"}}
LONG_POINT = {"cachePoint": {"type": "default", "ttl": "1h"}}


@pytest.fixture(autouse=True)
def nothing_set_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    no_account(monkeypatch, tmp_path)
    monkeypatch.delenv("PI_CACHE_RETENTION", raising=False)
    cleanup_session_resources()
    yield
    cleanup_session_resources()


def model(**fields: Any) -> Model:
    own = {"id": SONNET, "api": API, "provider": "amazon-bedrock", "base_url": STANDARD, "max_tokens": 64_000}
    return Model(**{**own, "input": ["text", "image"], "context_window": 200_000, **fields})


def nova(**fields: Any) -> Model:
    return model(**{"id": "amazon.nova-lite-v1:0", "name": "Nova Lite", "max_tokens": 10_000, **fields})


def thinker(**fields: Any) -> Model:
    return model(reasoning=True, **fields)


def body(model: Model, context: Context = HELLO, **options: Any) -> dict[str, Any]:
    return sent_body(ADAPTER.build_request(model, context, BedrockOptions(**options)))


def simple(model: Model, context: Context = HELLO, **options: Any) -> dict[str, Any]:
    """The body for portable options."""
    return sent_body(ADAPTER.build_request(model, context, ADAPTER.lower(model, context, StreamOptions(**options))))


def messages(model: Model, *history: Message, **options: Any) -> list[dict[str, Any]]:
    """The messages of a body, without cache points unless those are asked for."""
    return body(model, Context(list(history)), **{"cache_retention": "none", **options})["messages"]


def answer(*content: Any, of: Model | None = None, **fields: Any) -> AssistantMessage:
    """An answer of ``model()`` itself."""
    of = of or model()
    own = {"api": API, "provider": of.provider, "model": of.id, "stop_reason": "stop"}
    return AssistantMessage(list(content), **{**own, **fields})


def sent(model: Model, **options: Any) -> HttpRequest:
    """What leaves, with its signature."""
    chosen = BedrockOptions(**options)
    built = ADAPTER.build_request(model, HELLO, chosen)
    request = HttpRequest(url=built.url, headers=merge_headers(built.headers), body=encode_json(built.body))
    return anyio.run(ADAPTER.authorize, request, model, chosen)


def headers(model: Model, **options: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in sent(model, **options).headers.items()}


def scope(model: Model, **options: Any) -> str:
    """Whose signature a request has, and for which region."""
    found = headers(model, **options)["authorization"]
    key, _, rest = found.removeprefix("AWS4-HMAC-SHA256 Credential=").partition("/")
    return f"{key} {rest.split('/')[1]}"


def text(said: str) -> TextContent:
    return TextContent(said)


# ── what pi-ai sends ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("golden", cases(API))
def test_the_request_is_the_one_that_pi_ai_sends(golden: dict[str, Any]) -> None:
    known = of_parts(DIFFERENCES[API].get(golden["name"]), "refused", "url", "headers", "body")
    check(request_differences(ADAPTER, golden, authorized=True), known, golden["name"])


def test_every_entry_of_the_table_is_about_a_golden() -> None:
    assert DIFFERENCES[API].keys() <= {case.values[0]["name"] for case in cases(API)}


# ── where it goes ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("model_id", "path"),
    [
        (SONNET, "us.anthropic.claude-sonnet-4-5-20250929-v1%3A0"),
        (ARN, "arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012%3Aapplication-inference-profile%2Fabc123"),
        ("odd ~id-é.%", "odd%20~id-%C3%A9.%25"),
    ],
)
def test_1_the_id_is_in_the_path_encoded_once_BR1_BR2(model_id: str, path: str) -> None:
    request = sent(model(id=model_id), env=KEYS)
    assert request.url.endswith(f".amazonaws.com/model/{path}/converse-stream")
    assert request.method == "POST"
    assert b"modelId" not in request.body
    told = {name.lower(): value for name, value in request.headers.items()}
    assert told["content-type"] == "application/json"
    assert told["accept"] == "application/vnd.amazon.eventstream"


EU, SA, VPC = "https://bedrock-runtime.eu-central-1.amazonaws.com", "sa-east-1", "https://vpce-1.example.com/base"


@pytest.mark.parametrize(
    ("fields", "options", "env", "base_url", "region"),
    [
        # 2, BR3: the id says more than anything else
        ({"id": ARN}, {}, {"AWS_REGION": "us-east-1"}, "https://bedrock-runtime.eu-west-1.amazonaws.com", "eu-west-1"),
        ({"id": ARN}, {}, {}, "https://bedrock-runtime.eu-west-1.amazonaws.com", "eu-west-1"),
        ({"id": ARN, "base_url": VPC}, {}, {"AWS_REGION": "us-east-1"}, VPC, "eu-west-1"),
        (
            {"id": "arn:aws-us-gov:bedrock:us-gov-west-1:1:inference-profile/x"},
            {},
            {},
            "https://bedrock-runtime.us-gov-west-1.amazonaws.com",
            "us-gov-west-1",
        ),
        ({"id": "arn:aws:sagemaker:eu-west-1:1:endpoint/x"}, {}, {}, STANDARD, "us-east-1"),
        # BR3: the option, AWS_REGION, AWS_DEFAULT_REGION
        ({}, {"region": "eu-central-1"}, {"AWS_REGION": SA}, EU, "eu-central-1"),
        ({}, {}, {"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": SA}, EU, "eu-central-1"),
        ({}, {}, {"AWS_DEFAULT_REGION": "eu-central-1"}, EU, "eu-central-1"),
        ({}, {}, {"AWS_REGION": "", "AWS_DEFAULT_REGION": "eu-central-1"}, EU, "eu-central-1"),
        # 3: a catalogue's endpoint does not override the region
        ({"base_url": STANDARD}, {}, {"AWS_REGION": "eu-central-1"}, EU, "eu-central-1"),
        # 4: it is kept while nothing is configured
        ({"base_url": EU}, {}, {}, EU, "eu-central-1"),
        ({"base_url": f"{EU}/"}, {}, {}, EU, "eu-central-1"),
        ({"base_url": ""}, {}, {}, STANDARD, "us-east-1"),
        # 5: an endpoint of one's own is kept always
        ({"base_url": VPC}, {}, {"AWS_REGION": "eu-central-1"}, VPC, "eu-central-1"),
        ({"base_url": VPC}, {}, {}, VPC, "us-east-1"),
        (
            {"base_url": "https://bedrock-runtime.evil.example"},
            {},
            {},
            "https://bedrock-runtime.evil.example",
            "us-east-1",
        ),
        # BR4: suffixes, and endpoints for FIPS
        ({}, {"region": "cn-north-1"}, {}, "https://bedrock-runtime.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        (
            {"base_url": "https://bedrock-runtime.cn-north-1.amazonaws.com.cn"},
            {},
            {},
            "https://bedrock-runtime.cn-north-1.amazonaws.com.cn",
            "cn-north-1",
        ),
        (
            {"base_url": "https://bedrock-runtime-fips.us-east-1.amazonaws.com"},
            {"region": "us-gov-west-1"},
            {},
            "https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com",
            "us-gov-west-1",
        ),
        # BR3: a profile's region, once it is known, else the default
        ({"base_url": EU}, {"profile": "work"}, {}, STANDARD, "us-east-1"),
    ],
)
def test_2_to_5_the_region_and_the_endpoint(
    fields: dict[str, Any], options: dict[str, Any], env: dict[str, str], base_url: str, region: str
) -> None:
    place = place_of(model(**fields), BedrockOptions(env=env, **options))
    assert (place.base_url, place.region) == (base_url, region)


def test_what_the_call_says_wins_over_what_the_process_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "sa-east-1")
    assert place_of(model(), BedrockOptions()).region == "sa-east-1"
    assert place_of(model(), BedrockOptions(env={"AWS_REGION": "eu-central-1"})).region == "eu-central-1"


@pytest.mark.parametrize("region", ["eu west", "evil.example/", "EU-WEST-1", "us-east-1@evil.example"])
def test_a_region_that_is_none_is_refused(region: str) -> None:
    with pytest.raises(ConfigError, match="is no AWS region"):
        place_of(model(), BedrockOptions(region=region))


def test_prefixes_of_inference_profiles_are_part_of_the_id_BR5() -> None:
    for prefix in ("us.", "eu.", "apac.", "global."):
        request = sent(model(id=f"{prefix}anthropic.claude-sonnet-4-5"), env={**KEYS, "AWS_REGION": "eu-west-1"})
        assert f"/model/{prefix}anthropic." in request.url
        assert request.url.startswith("https://bedrock-runtime.eu-west-1.")


@pytest.mark.parametrize("ambient", [True, False])
def test_the_region_of_a_profile_counts_where_nothing_else_tells_one_BR3(
    ambient: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile(tmp_path, region="eu-north-1")
    if ambient:
        monkeypatch.setenv("AWS_PROFILE", "work")
    options = {} if ambient else {"profile": "work"}
    request = sent(model(), **options)
    assert request.url.startswith("https://bedrock-runtime.eu-north-1.amazonaws.com/model/us.anthropic")
    assert scope(model(), **options) == "AKIDW eu-north-1"
    assert scope(model(base_url=VPC), **options) == "AKIDW eu-north-1"
    assert scope(model(), env={"AWS_REGION": "sa-east-1"}, **options) == "AKIDW sa-east-1"
    assert scope(model(id=ARN), **options) == "AKIDW eu-west-1"


# ── who asks ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_6_a_profile_of_the_call_wins_over_the_keys_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile(tmp_path)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    assert scope(model(), env={"AWS_PROFILE": "work"}) == "AKIDW us-east-1"
    assert scope(model(), profile="work") == "AKIDW us-east-1"
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert scope(model()) == "AKIDEXAMPLE us-east-1"


@pytest.mark.parametrize(
    ("options", "authorization"),
    [
        ({"bearer_token": "a", "api_key": "b", "env": {"AWS_BEARER_TOKEN_BEDROCK": "c"}}, "Bearer a"),
        ({"api_key": "b", "env": {"AWS_BEARER_TOKEN_BEDROCK": "c", **KEYS}}, "Bearer b"),
        ({"env": {"AWS_BEARER_TOKEN_BEDROCK": "c", **KEYS}, "profile": "nobody", "region": "us-east-1"}, "Bearer c"),
        ({"api_key": AUTHENTICATED, "env": {"AWS_BEARER_TOKEN_BEDROCK": "c"}}, "Bearer c"),
        ({"bearer_token": "a", "env": {"AWS_BEDROCK_SKIP_AUTH": "1"}}, None),
        ({"env": {"AWS_BEDROCK_SKIP_AUTH": "1", **KEYS}}, None),
    ],
)
def test_7_bearer_tokens_and_no_authentication_BR6(options: dict[str, Any], authorization: str | None) -> None:
    found = headers(model(), **options)
    assert found.get("authorization") == authorization
    assert not any(name.startswith("x-amz-") for name in found)


def test_7_the_marker_for_other_credentials_is_never_sent_BR6() -> None:
    assert scope(model(), api_key=AUTHENTICATED, env=KEYS) == "AKIDEXAMPLE us-east-1"


def test_8_a_request_is_signed_for_the_service_bedrock_BR9() -> None:
    found = headers(model(), env={**KEYS, "AWS_SESSION_TOKEN": "session"})
    assert found["x-amz-security-token"] == "session"
    assert "/us-east-1/bedrock/aws4_request, " in found["authorization"]
    assert "SignedHeaders=accept;content-type;host;x-amz-date;x-amz-security-token, " in found["authorization"]


def test_9_the_callers_headers_are_signed_but_for_the_reserved_ones_BR10() -> None:
    own = {"X-Model": "m", "X-Gone": "g", "X-Both": "model"}
    found = headers(
        model(headers=own),
        env=KEYS,
        headers={
            "X-Foo": "foo",
            "X-Both": "options",
            "X-Gone": None,
            "Authorization": "x",
            "Host": "evil.example",
            "x-amz-date": "y",
            "X-Amz-Thing": "z",
            "User-Agent": "me",
            "X-Latin": "é",
        },
    )
    assert (found["x-foo"], found["x-model"], found["x-both"]) == ("foo", "m", "options")
    assert not {"host", "x-gone", "x-amz-thing"} & found.keys()
    assert found["x-amz-date"] != "y"
    assert found["authorization"].startswith("AWS4-HMAC-SHA256 ")
    assert "SignedHeaders=accept;content-type;host;x-amz-date;x-both;x-foo;x-model, " in found["authorization"]
    assert (found["user-agent"], found["x-latin"]) == ("me", "é")


def test_a_signature_is_of_the_bytes_that_are_sent_S3(monkeypatch: pytest.MonkeyPatch) -> None:
    signed: list[dict[str, Any]] = []

    async def record(credentials: Any, **told: Any) -> dict[str, str]:
        signed.append(told)
        return {}

    monkeypatch.setattr(bedrock_converse_stream, "signed_headers", record)
    request = sent(model(), env=KEYS)
    assert signed[0]["body"] is request.body
    assert signed[0]["url"] == request.url
    assert (signed[0]["service"], signed[0]["region"]) == ("bedrock", "us-east-1")


@pytest.mark.parametrize("host", ["http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:1"])
def test_a_server_on_this_machine_needs_no_credentials(host: str) -> None:
    assert "authorization" not in headers(model(base_url=host))
    assert scope(model(base_url=host), env=KEYS) == "AKIDEXAMPLE us-east-1"


def test_39_without_botocore_tokens_work_and_keys_name_the_extra_F102(monkeypatch: pytest.MonkeyPatch) -> None:
    no_botocore(monkeypatch)
    assert headers(model(), api_key="token")["authorization"] == "Bearer token"
    assert headers(model(), api_key="token", profile="work")["authorization"] == "Bearer token"
    for options in ({"env": KEYS}, {"profile": "work"}, {}):
        with pytest.raises(ConfigError, match=r"pi_ai\[bedrock\]"):
            sent(model(), **options)


def test_secrets_of_the_options_do_not_show_X1() -> None:
    assert "canary" not in repr(BedrockOptions(bearer_token="canary", api_key="canary", env={"A": "canary"}))


# ── the body ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_limits_and_temperature_of_the_answer() -> None:
    assert body(model())["inferenceConfig"] == {"maxTokens": 64_000}
    assert "inferenceConfig" not in body(nova())
    assert body(nova(), max_tokens=10, temperature=0.0)["inferenceConfig"] == {"maxTokens": 10, "temperature": 0.0}
    assert simple(nova())["inferenceConfig"] == {"maxTokens": 10_000}


def test_25_claude_takes_no_temperature_while_it_thinks() -> None:
    thinking = simple(thinker(), reasoning="low", temperature=0.5)
    assert "temperature" not in thinking["inferenceConfig"]
    assert "thinking" in thinking["additionalModelRequestFields"]
    assert simple(thinker(), temperature=0.5)["inferenceConfig"]["temperature"] == 0.5
    gpt = simple(nova(id="openai.gpt-oss-20b-1:0", reasoning=True), reasoning="low", temperature=0.5)
    assert gpt["inferenceConfig"]["temperature"] == 0.5


def test_request_metadata_is_sent_only_when_given() -> None:
    assert body(model(), request_metadata={"team": "a"})["requestMetadata"] == {"team": "a"}
    assert "requestMetadata" not in body(model())


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("content", ["", "  \n", "\ud83d", [], [TextContent("")], [TextContent("\udc00 ")]])
def test_21_nothing_is_said_to_be_nothing_BR16(content: Any) -> None:
    assert messages(model(), UserMessage(content)) == [{"role": "user", "content": [{"text": "<empty>"}]}]


def test_21_texts_are_cleaned_and_blank_ones_left_out_BR16_BR22() -> None:
    said = UserMessage([text("a\ud83db"), text(" "), IMAGE, text("c")])
    assert messages(model(), said) == [{"role": "user", "content": [{"text": "ab"}, IMAGE_BLOCK, {"text": "c"}]}]


def test_22_a_blank_result_is_said_to_be_empty_BR19() -> None:
    call = answer(ToolCall("t1", "get_weather", {}), stop_reason="toolUse")
    [_, _, results] = messages(model(), UserMessage("x"), call, ToolResultMessage("t1", "get_weather", [text(" ")]))
    result = {"toolUseId": "t1", "content": [{"text": "<empty>"}], "status": "success"}
    assert results == {"role": "user", "content": [{"toolResult": result}]}


def test_23_results_and_what_the_user_says_next_are_one_message_BR20() -> None:
    call = answer(ToolCall("t1", "a", {"city": "Oslo"}), ToolCall("t2", "b", {}), stop_reason="toolUse")
    history = [
        UserMessage("One"),
        UserMessage("Two"),
        call,
        ToolResultMessage("t2", "b", [text("2")], is_error=True),
        ToolResultMessage("t1", "a", [text("1")]),
        UserMessage("Thanks"),
    ]
    assert messages(model(), *history, cache_retention="short") == [
        {"role": "user", "content": [{"text": "One"}, {"text": "Two"}]},
        {
            "role": "assistant",
            "content": [
                {"toolUse": {"toolUseId": "t1", "name": "a", "input": {"city": "Oslo"}}},
                {"toolUse": {"toolUseId": "t2", "name": "b", "input": {}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "t2", "content": [{"text": "2"}], "status": "error"}},
                {"toolResult": {"toolUseId": "t1", "content": [{"text": "1"}], "status": "success"}},
                {"text": "Thanks"},
                POINT,
            ],
        },
    ]


def test_answers_in_a_row_are_one_and_an_answer_is_never_first_BR20() -> None:
    assert messages(model(), answer(text("a")), answer(text("b"))) == [
        {"role": "user", "content": [{"text": "<empty>"}]},
        {"role": "assistant", "content": [{"text": "a"}, {"text": "b"}]},
    ]


def test_the_conversation_itself_is_never_changed() -> None:
    said = Context([UserMessage([text("a")]), UserMessage("b"), answer(text("c")), UserMessage("d")], system_prompt="s")
    before = attrs.evolve(said, messages=[attrs.evolve(message) for message in said.messages])
    body(model(), said)
    assert said == before


def test_an_answer_without_content_is_left_out_BR17() -> None:
    assert messages(model(), UserMessage("a"), answer(text(" \n")), UserMessage("b")) == [
        {"role": "user", "content": [{"text": "a"}, {"text": "b"}]}
    ]


def test_30_thoughts_go_back_to_claude_with_what_proves_them_BR18() -> None:
    signed = ThinkingContent("Hm.", "sig")
    [_, back, _] = messages(
        model(),
        UserMessage("a"),
        answer(
            signed,
            ThinkingContent("", "sig2"),
            ThinkingContent("unsigned"),
            ThinkingContent("blank signature", " "),
            ThinkingContent(" "),
            ThinkingContent("[Reasoning redacted]", "b3BhcXVl", redacted=True),
            ThinkingContent("[Reasoning redacted]", "not base64!", redacted=True),
            ThinkingContent("[Reasoning redacted]", None, redacted=True),
            text("Done."),
        ),
        UserMessage("b"),
    )
    assert back["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "sig"}}},
        {"reasoningContent": {"reasoningText": {"text": "", "signature": "sig2"}}},
        {"text": "unsigned"},
        {"text": "blank signature"},
        {"reasoningContent": {"redactedContent": "b3BhcXVl"}},
        {"text": "Done."},
    ]


def test_30_other_models_take_thoughts_without_signatures_BR18() -> None:
    r1 = nova(id="us.deepseek.r1-v1:0", name="DeepSeek R1")
    [_, back, _] = messages(
        r1,
        UserMessage("a"),
        answer(ThinkingContent("Hm.", "sig"), ThinkingContent("", "sig"), ThinkingContent("Ha."), text("x"), of=r1),
        UserMessage("b"),
    )
    assert back["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "Hm."}}},
        {"reasoningContent": {"reasoningText": {"text": "Ha."}}},
        {"text": "x"},
    ]


def test_32_members_without_a_name_are_left_out_of_inputs_BR17() -> None:
    arguments = {"": 1, "ok": {"": 2, "x": [{"": 3, "y": 4}]}}
    call = answer(ToolCall("t1", "a", arguments), stop_reason="toolUse")
    sent = messages(model(), UserMessage("x"), call, ToolResultMessage("t1", "a", [text("r")]))
    assert sent[1]["content"][0]["toolUse"]["input"] == {"ok": {"x": [{"y": 4}]}}
    assert "" in arguments


@pytest.mark.parametrize(
    ("mime_type", "format"),
    [("image/jpeg", "jpeg"), ("image/jpg", "jpeg"), ("image/png", "png"), ("image/gif", "gif"), ("image/webp", "webp")],
)
def test_images_are_told_by_their_format_BR21(mime_type: str, format: str) -> None:  # noqa: A002
    [said] = messages(model(), UserMessage([ImageContent("aW1n", mime_type)]))
    assert said["content"] == [{"image": {"format": format, "source": {"bytes": "aW1n"}}}]


def test_33_other_images_are_refused_BR21() -> None:
    with pytest.raises(BadRequest, match=r"^Unknown image type: image/bmp(\n|$)") as caught:
        messages(model(), UserMessage([ImageContent("aW1n", "image/bmp")]))
    assert "image/png" in caught.value.info.message


@pytest.mark.parametrize("data", ["data:image/png;base64,aW1n", "", "a", "ü"])
def test_33_what_is_not_base64_is_refused_BR21(data: str) -> None:
    with pytest.raises(BadRequest, match=r"ImageContent\.data must be base64"):
        messages(model(), UserMessage([ImageContent(data, "image/png")]))


def test_34_claude_gets_the_images_of_errors_after_all_results_BR19_TM12() -> None:
    def history(of: Model) -> list[Message]:
        call = answer(ToolCall("t1", "a", {}), ToolCall("t2", "b", {}), of=of, stop_reason="toolUse")
        failed = ToolResultMessage("t1", "a", [text("bad"), IMAGE], is_error=True)
        return [UserMessage("x"), call, failed, ToolResultMessage("t2", "b", [IMAGE]), UserMessage("y")]

    moved = [{"text": "bad"}, {"text": "(image attached after the tool results)"}]
    second = {"toolResult": {"toolUseId": "t2", "content": [IMAGE_BLOCK], "status": "success"}}
    assert messages(model(), *history(model()))[2]["content"] == [
        {"toolResult": {"toolUseId": "t1", "content": moved, "status": "error"}},
        second,
        {"text": "Images from the error result of tool call t1 (a):"},
        IMAGE_BLOCK,
        {"text": "y"},
    ]
    assert messages(nova(), *history(nova()))[2]["content"] == [
        {"toolResult": {"toolUseId": "t1", "content": [{"text": "bad"}, IMAGE_BLOCK], "status": "error"}},
        second,
        {"text": "y"},
    ]


def test_there_is_one_prompt_X4() -> None:
    history = [SystemMessage("Base."), UserMessage("a"), SystemMessage("More.", sections={"s": "Section."})]
    sent = body(model(), Context(history), cache_retention="none")
    assert sent["system"] == [{"text": "Base.\n\nMore.\n\nSection."}]
    assert sent["messages"] == [{"role": "user", "content": [{"text": "a"}]}]
    assert "system" not in body(model(), Context([UserMessage("a")], system_prompt=" "))


# ── caching ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("model_id", "name", "short", "long"),
    [
        ("anthropic.claude-sonnet-4-5-20250929-v1:0", "", True, True),
        ("us.anthropic.claude-opus-4-1-20250805-v1:0", "", True, False),
        ("eu.anthropic.claude-sonnet-4-20250514-v1:0", "", True, False),
        ("anthropic.claude-fable-5", "", True, True),
        ("global.anthropic.claude-haiku-5", "", True, True),
        ("anthropic.claude-3-7-sonnet-20250219-v1:0", "", True, False),
        ("anthropic.claude-3-5-haiku-20241022-v1:0", "", True, False),
        ("anthropic.claude-3-5-sonnet-20240620-v1:0", "", False, False),
        (ARN, "Claude Sonnet 4", True, False),
        (ARN, "Claude Opus 4.6 profile", True, True),
        (ARN, "my profile", False, False),
        ("amazon.nova-pro-v1:0", "Nova Pro", False, False),
        ("openai.gpt-4-5", "", False, False),
    ],
)
def test_31_which_models_cache(model_id: str, name: str, short: bool, long: bool) -> None:
    found = model(id=model_id, name=name or model_id)
    assert (caches(found, forced=False), caches_long(found)) == (short, long)


def test_31_where_a_cached_prefix_ends() -> None:
    said = Context([UserMessage("a"), answer(text("b")), UserMessage("c")], system_prompt="s")
    for retention, point in (("short", POINT), ("long", LONG_POINT)):
        sent = body(model(), said, cache_retention=retention)
        assert sent["system"] == [{"text": "s"}, point]
        assert [point in message["content"] for message in sent["messages"]] == [False, False, True]
        assert sent["messages"][-1]["content"][-1] == point
    assert "cachePoint" not in str(body(model(), said, cache_retention="none"))
    assert "cachePoint" not in str(body(nova(), said))
    ended = Context([UserMessage("a"), answer(text("b"))])
    assert "cachePoint" not in str(body(model(), ended))


def test_31_what_may_be_anything_caches_on_demand() -> None:
    opaque, forced = model(id=ARN), {"AWS_BEDROCK_FORCE_CACHE": "1"}
    assert "cachePoint" not in str(body(opaque))
    assert POINT in body(opaque, env=forced)["messages"][-1]["content"]
    assert POINT in body(opaque, env=forced, cache_retention="long")["messages"][-1]["content"]
    old = model(id="anthropic.claude-3-opus-20240229-v1:0")
    assert "cachePoint" not in str(body(old, env=forced))
    assert LONG_POINT in body(model(), env={"PI_CACHE_RETENTION": "long"})["messages"][-1]["content"]


# ── tools ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, None),
        ("auto", {"auto": {}}),
        ("any", {"any": {}}),
        ({"type": "tool", "name": "get_weather"}, {"tool": {"name": "get_weather"}}),
        ({"tool": {"name": "x"}}, {"tool": {"name": "x"}}),
    ],
)
def test_tools_and_the_choice_of_one_BR23(choice: Any, sent: Any) -> None:
    config = body(model(), Context([UserMessage("x")], tools=[WEATHER]), tool_choice=choice)["toolConfig"]
    assert config == {"tools": [SPEC], **({"toolChoice": sent} if sent else {})}


def test_no_tools_no_config_BR23() -> None:
    assert "toolConfig" not in body(model(), tool_choice="any")
    assert "toolConfig" not in body(model(), Context([UserMessage("x")], tools=[WEATHER]), tool_choice="none")
    [spec] = body(model(), Context([UserMessage("x")], tools=[Tool("t", " ", SCHEMA)]))["toolConfig"]["tools"]
    assert spec == {"toolSpec": {"name": "t", "inputSchema": {"json": SCHEMA}}}


def test_24_calls_in_the_history_want_tools_on_offer_BR24() -> None:
    call = answer(ToolCall("t1", "get_weather", {}), ToolCall("t2", "other", {}), stop_reason="toolUse")
    history = [UserMessage("x"), call, ToolResultMessage("t1", "get_weather", [text("r")])]
    stub = {"description": "Not available.", "inputSchema": {"json": {"type": "object", "properties": {}}}}
    assert body(model(), Context(history), tool_choice="any")["toolConfig"] == {
        "tools": [{"toolSpec": {"name": name, **stub}} for name in ("get_weather", "other")]
    }
    kept = body(model(), Context(history, tools=[WEATHER]), tool_choice="none")["toolConfig"]
    assert kept == {"tools": [SPEC]}


def strict(wish: str, schema: dict[str, Any] = SCHEMA, name: str = "s") -> Tool:
    return Tool(name, "d", schema, {"type": "json_schema", "strict": wish})


def test_strict_tools_are_sent_where_the_model_has_them_BR25() -> None:
    context = Context([UserMessage("x")], tools=[strict("prefer"), WEATHER])
    [spec, plain] = body(model(compat={"supportsStrictMode": True}), context)["toolConfig"]["tools"]
    assert spec["toolSpec"]["strict"] is True
    assert spec["toolSpec"]["inputSchema"]["json"]["additionalProperties"] is False
    assert plain == SPEC
    assert "strict" not in str(body(model(), context)["toolConfig"])
    with pytest.raises(BadRequest, match='Tool "s" requires JSON-schema constrained sampling'):
        body(model(), Context([UserMessage("x")], tools=[strict("require")]))


def too_strict() -> PiAIError:
    head = {"x-amzn-errortype": "ValidationException:http://x"}
    said = b'{"message":"Too many strict tools (21)"}'
    return http_failure(400, head, said, provider="amazon-bedrock", api=API, model=SONNET)


def test_too_many_strict_tools_are_sent_once_more_as_ordinary_ones_BR25_CS3() -> None:
    capable = model(compat={"supportsStrictMode": True})
    context = Context([UserMessage("x")], tools=[strict("prefer"), strict("require", name="r")])
    options = BedrockOptions(session_id="s1", env=KEYS)
    refused = ADAPTER.build_request(capable, context, options)
    again = ADAPTER.instead(capable, context, options, refused, too_strict())
    assert again is not None
    plain, required = again.body["toolConfig"]["tools"]
    assert plain == {"toolSpec": {"name": "s", "description": "d", "inputSchema": {"json": SCHEMA}}}
    assert required["toolSpec"]["strict"] is True
    [note] = again.notes
    assert (note.type, note.details) == (
        "bedrock_strict_tools_fallback",
        {"reason": "strict_tool_limits_exceeded"},
    )
    assert note.error is not None
    assert note.error.message == "Too many strict tools (21)"
    assert ADAPTER.instead(capable, context, options, again, too_strict()) is None
    # and the session remembers
    assert ADAPTER.build_request(capable, context, options).body == again.body
    assert ADAPTER.build_request(capable, context, attrs.evolve(options, session_id="s2")).body == refused.body


def test_other_refusals_are_final() -> None:
    built = ADAPTER.build_request(model(), HELLO, BedrockOptions())
    other = http_failure(400, {}, b'{"message":"no"}', provider="p", api=API, model="m")
    assert ADAPTER.instead(model(), HELLO, BedrockOptions(), built, other) is None
    assert ADAPTER.instead(model(), HELLO, BedrockOptions(), built, too_strict()) is None


def expired() -> PiAIError:
    head = {"x-amzn-errortype": "ExpiredTokenException"}
    return http_failure(403, head, b'{"message":"The security token included in the request is expired"}', **ABOUT)


ABOUT: dict[str, Any] = {"provider": "amazon-bedrock", "api": API, "model": SONNET}


def test_expired_credentials_are_looked_for_anew_once_BR12(tmp_path: Path) -> None:
    profile(tmp_path, key="OLD")
    options = BedrockOptions(profile="work", region="us-east-1")
    assert scope(model(), profile="work", region="us-east-1") == "OLD us-east-1"
    profile(tmp_path, key="NEW")
    built = ADAPTER.build_request(model(), HELLO, options)
    assert scope(model(), profile="work", region="us-east-1") == "OLD us-east-1"
    again = ADAPTER.instead(model(), HELLO, options, built, expired())
    assert again is not None
    assert again.body == built.body
    assert [note.type for note in again.notes] == ["bedrock_credentials_renewed"]
    assert scope(model(), profile="work", region="us-east-1") == "NEW us-east-1"
    assert ADAPTER.instead(model(), HELLO, options, again, expired()) is None


@pytest.mark.parametrize("options", [{"env": KEYS}, {"api_key": "token"}], ids=["keys", "token"])
def test_credentials_that_can_only_expire_are_not_tried_again(options: dict[str, Any]) -> None:
    chosen = BedrockOptions(**options)
    built = ADAPTER.build_request(model(), HELLO, chosen)
    assert ADAPTER.instead(model(), HELLO, chosen, built, expired()) is None


# ── thinking ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("model_id", "name", "claude", "adaptive"),
    [
        ("anthropic.claude-opus-4-6-v1", "", True, True),
        ("us.anthropic.claude-sonnet-4-6", "", True, True),
        ("anthropic/claude-opus-4-8", "", True, True),
        (SONNET, "", True, False),
        (ARN, "Claude Opus 4.7 profile", True, True),
        (ARN, "my claude", True, False),
        (ARN, "", False, False),
        ("openai.gpt-opus-5", "", False, False),
    ],
)
def test_27_who_is_claude_and_thinks_by_effort(model_id: str, name: str, claude: bool, adaptive: bool) -> None:
    found = model(id=model_id, name=name or model_id)
    assert (is_claude(found), is_adaptive(found)) == (claude, adaptive)


INTERLEAVED = ["interleaved-thinking-2025-05-14"]
BINDING = {"block_binding": {"prefix_mismatch_behavior": "drop_block"}}
CONTROLS = ["thinking-binding-controls-2026-08-01"]


@pytest.mark.parametrize(
    ("max_tokens", "level", "limit", "budget"),
    [(8192, "high", 8192, 7168), (64_000, "xhigh", 64_000, 16_384), (64_000, "minimal", 64_000, 1024)],
)
def test_26_a_budget_that_fits(max_tokens: int, level: Any, limit: int, budget: int) -> None:
    sent = simple(thinker(max_tokens=max_tokens), reasoning=level)
    assert sent["inferenceConfig"] == {"maxTokens": limit}
    assert sent["additionalModelRequestFields"] == {
        "thinking": {"type": "enabled", "budget_tokens": budget, "display": "summarized"},
        "anthropic_beta": INTERLEAVED,
    }


def test_26_a_budget_that_is_too_small_is_none_T6() -> None:
    assert "additionalModelRequestFields" not in simple(thinker(max_tokens=1024), reasoning="high")
    for budget in (1023, 64_000):
        sent = body(thinker(), reasoning="low", thinking_budgets={"low": budget})
        assert "additionalModelRequestFields" not in sent
    kept = body(thinker(), reasoning="low", thinking_budgets={"low": 63_999}, interleaved_thinking=False)
    assert kept["additionalModelRequestFields"] == {
        "thinking": {"type": "enabled", "budget_tokens": 63_999, "display": "summarized"}
    }


def test_26_the_callers_budget_and_limit_are_for_thought_and_answer_T5() -> None:
    sent = simple(thinker(), reasoning="medium", max_tokens=8000, thinking_budgets={"medium": 3000})
    assert sent["inferenceConfig"] == {"maxTokens": 11_000}
    assert sent["additionalModelRequestFields"]["thinking"]["budget_tokens"] == 3000


@pytest.mark.parametrize(
    ("model_id", "words", "level", "effort", "binding"),
    [
        ("anthropic.claude-opus-4-6-v1", None, "xhigh", "high", False),
        ("anthropic.claude-opus-4-6-v1", {"max": "max"}, "max", "max", False),
        ("anthropic.claude-opus-4-7", None, "xhigh", "xhigh", True),
        ("anthropic.claude-opus-4-7", None, "max", "high", True),
        ("anthropic.claude-opus-4-7", {"low": "tiny"}, "low", "tiny", True),
        ("anthropic.claude-fable-5", None, "minimal", "low", True),
        ("anthropic.claude-fable-5", None, "medium", "medium", True),
    ],
)
def test_27_an_effort_in_the_place_of_a_budget(
    model_id: str, words: Any, level: Any, effort: str, binding: bool
) -> None:
    sent = simple(thinker(id=model_id, thinking_level_map=words), reasoning=level)["additionalModelRequestFields"]
    assert sent["output_config"] == {"effort": effort}
    assert sent["thinking"] == {"type": "adaptive", "display": "summarized", **(BINDING if binding else {})}
    assert sent.get("anthropic_beta") == (CONTROLS if binding else None)


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, {"region": "us-gov-west-1"}),
        ({"id": "us-gov.anthropic.claude-sonnet-4-5"}, {}),
        ({"id": "arn:aws-us-gov:bedrock:us-gov-east-1:1:x/y", "name": "Claude Opus 4.7"}, {}),
        ({"id": "anthropic.claude-fable-5"}, {"env": {"AWS_REGION": "us-gov-east-1"}}),
    ],
)
def test_28_govcloud_knows_older_fields_only(fields: dict[str, Any], options: dict[str, Any]) -> None:
    sent = body(thinker(**fields), reasoning="high", **options)["additionalModelRequestFields"]
    assert sent["thinking"].keys() <= {"type", "budget_tokens"}
    assert sent.get("anthropic_beta") in (None, INTERLEAVED)


@pytest.mark.parametrize(
    ("model_id", "words", "level", "fields"),
    [
        ("openai.gpt-oss-120b-1:0", None, "minimal", {"reasoning_effort": "low"}),
        ("openai.gpt-oss-120b-1:0", None, "medium", {"reasoning_effort": "medium"}),
        ("openai.gpt-oss-120b-1:0", None, "max", {"reasoning_effort": "high"}),
        ("openai.gpt-5-2", None, "minimal", {"reasoning": {"effort": "low"}}),
        ("openai.gpt-5-2", None, "xhigh", {"reasoning": {"effort": "xhigh"}}),
        ("openai.gpt-5-2", {"high": "deep"}, "high", {"reasoning": {"effort": "deep"}}),
        ("amazon.nova-2-lite-v1:0", None, "high", None),
        ("deepseek.r1-v1:0", None, "low", None),
    ],
)
def test_29_other_models_are_told_in_their_own_way(model_id: str, words: Any, level: Any, fields: Any) -> None:
    other = nova(id=model_id, name=model_id, reasoning=True, thinking_level_map=words)
    assert simple(other, reasoning=level).get("additionalModelRequestFields") == fields


def test_a_model_that_does_not_think_is_not_told_to() -> None:
    assert "additionalModelRequestFields" not in simple(model(), reasoning="high")
    assert "additionalModelRequestFields" not in simple(thinker())


def test_thoughts_may_come_without_text() -> None:
    sent = body(thinker(), reasoning="high", thinking_display="omitted")["additionalModelRequestFields"]
    assert sent["thinking"]["display"] == "omitted"


def test_a_flag_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="compat of model amazon-bedrock/"):
        body(model(compat={"supportsStrictMode": "yes"}), Context([UserMessage("x")], tools=[WEATHER]))
