"""The requests of both Google APIs: pi-ai's own (goldens), and the rows of the spec's table (section 12)."""

from __future__ import annotations

from typing import Any

import anyio
import attrs
import pytest

from pi_ai.adapters import get_api
from pi_ai.adapters._google_messages import UNSIGNED, as_enums
from pi_ai.adapters.google_generative_ai import GoogleGenerativeAIOptions, GoogleThinking
from pi_ai.adapters.google_vertex import GoogleVertexOptions
from pi_ai.errors import AuthError, BadRequest, ConfigError
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

GEMINI, VERTEX = "google-generative-ai", "google-vertex"
HOME = "https://generativelanguage.googleapis.com/v1beta"
PLACE = {"project": "p", "location": "us-central1"}
HELLO = Context([UserMessage("Hello")])
IMAGE = ImageContent("aW1n", "image/png")
INLINE = {"inlineData": {"mimeType": "image/png", "data": "aW1n"}}
SIGNATURE = "c2lnbmF0dXJl"
LEVELS = {"off": None, "minimal": None, "low": "low", "medium": "medium", "high": "high"}
both = pytest.mark.parametrize("api", [GEMINI, VERTEX])


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION"):
        monkeypatch.delenv(name, raising=False)


def model(name: str = "gemini-2.5-flash", api: str = GEMINI, **fields: Any) -> Model:
    provider, base_url = ("google", HOME) if api == GEMINI else (VERTEX, "https://{location}-aiplatform.googleapis.com")
    images = {"input": ["text", "image"]}
    return Model(**{"id": name, "api": api, "provider": provider, "base_url": base_url, **images, **fields})


def request(model: Model, context: Context = HELLO, **options: Any) -> Any:
    if model.api == GEMINI:
        made: Any = GoogleGenerativeAIOptions(**{"api_key": "k", **options})
    else:
        made = GoogleVertexOptions(**{"api_key": "k", **options})
    return get_api(model.api).build_request(model, context, made)


def body(model: Model, context: Context = HELLO, **options: Any) -> dict[str, Any]:
    return sent_body(request(model, context, **options))


def contents(model: Model, *history: Message, **options: Any) -> list[dict[str, Any]]:
    return body(model, Context(list(history)), **options)["contents"]


def simple(model: Model, context: Context = HELLO, **options: Any) -> dict[str, Any]:
    """The ``generationConfig`` for portable options."""
    adapter = get_api(model.api)
    lowered = adapter.lower(model, context, StreamOptions(**{"api_key": "k", **options}))
    return sent_body(adapter.build_request(model, context, lowered))["generationConfig"]


def thinking(name: str, reasoning: Any = None, **fields: Any) -> Any:
    budgets = fields.pop("budgets", None)
    asked = {"reasoning": reasoning, "thinking_budgets": budgets}
    return simple(model(name, reasoning=True, **fields), **asked).get("thinkingConfig")


def answer(*content: Any, of: Model | None = None, **fields: Any) -> AssistantMessage:
    """An answer of a model, by default of ``model()``."""
    of = of or model()
    own = {"api": of.api, "provider": of.provider, "model": of.id, "stop_reason": "toolUse"}
    return AssistantMessage(list(content), **{**own, **fields})


# ── what pi-ai sends ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("golden", [*cases(GEMINI), *cases(VERTEX)])
def test_the_request_is_the_one_that_pi_ai_sends(golden: dict[str, Any]) -> None:
    known = of_parts(DIFFERENCES[golden["api"]].get(golden["name"]), "refused", "url", "headers", "body")
    found = request_differences(get_api(golden["api"]), golden, authorized=True)
    check(found, known, golden["name"])


@both
def test_every_entry_of_the_table_is_about_a_golden(api: str) -> None:
    assert DIFFERENCES[api].keys() <= {case.values[0]["name"] for case in cases(api)}


# ── where it goes, and with what (A1-A6) ─────────────────────────────────────────────────────────────────────


def test_A1_the_key_goes_in_a_header_and_never_in_the_query() -> None:
    """X3."""
    built = request(model(), api_key="secret-key")
    assert built.url == f"{HOME}/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
    assert built.headers["x-goog-api-key"] == "secret-key"
    assert "secret-key" not in repr(built)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("models/gemini-x", "gemini-x"),
        ("a b?c", "a%20b%3Fc"),
        ("family/gemini-x", "family/gemini-x"),
    ],
)
def test_the_id_is_quoted_in_the_path(name: str, path: str) -> None:
    assert request(model(name)).url == f"{HOME}/models/{path}:streamGenerateContent?alt=sse"


def test_A2_the_version_is_part_of_the_base_url() -> None:
    assert request(model(base_url="https://p.example/v1/")).url.startswith("https://p.example/v1/models/gemini")
    assert request(model(base_url=" ")).url.startswith(f"{HOME}/models/")


def test_without_a_key_nothing_is_sent() -> None:
    with pytest.raises(AuthError) as raised:
        request(model(), api_key=None)
    assert raised.value.text == "No API key for provider: google"


@pytest.mark.parametrize("header", ["X-Goog-Api-Key", "Authorization"])
def test_a_key_may_come_in_a_header_of_the_callers(header: str) -> None:
    built = request(model(headers={"X-Model": "m"}), api_key=None, headers={header: "own"})
    assert merge_headers(built.headers) == {
        "Accept": "*/*",
        "Content-Type": "application/json",
        "X-Model": "m",
        header: "own",
    }


def test_headers_of_the_caller_win_and_can_be_removed() -> None:
    built = request(model(headers={"X-A": "model"}), headers={"x-a": "call", "x-goog-api-key": None})
    assert merge_headers(built.headers) == {"Accept": "*/*", "Content-Type": "application/json", "x-a": "call"}


def test_a_server_on_this_machine_needs_no_key() -> None:
    assert "x-goog-api-key" not in request(model(base_url="http://127.0.0.1:1/v1beta"), api_key=None).headers


@pytest.mark.parametrize("key", ["<authenticated>", "gcp-vertex-credentials", " ", "", None, "<your key>"])
def test_A3_what_is_no_key_means_credentials(key: str | None) -> None:
    built = request(model(api=VERTEX), api_key=key, **PLACE)
    assert "/v1/projects/p/locations/us-central1/publishers/google/models/" in built.url
    assert "x-goog-api-key" not in built.headers


def test_A3_a_key_means_express_mode() -> None:
    built = request(model(api=VERTEX), api_key=" express ", **PLACE)
    assert built.url == (
        "https://aiplatform.googleapis.com/v1/publishers/google/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
    )
    assert built.headers["x-goog-api-key"] == "express"


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("global", "aiplatform.googleapis.com"),
        ("us", "aiplatform.us.rep.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
        ("europe-west4", "europe-west4-aiplatform.googleapis.com"),
    ],
)
@pytest.mark.parametrize("base_url", ["https://{location}-aiplatform.googleapis.com", "", " "])
def test_A4_the_location_tells_the_host(location: str, host: str, base_url: str) -> None:
    place = {"GOOGLE_CLOUD_PROJECT": "p", "GOOGLE_CLOUD_LOCATION": location}
    built = request(model(api=VERTEX, base_url=base_url), api_key=None, env=place)
    assert built.url.startswith(f"https://{host}/v1/projects/p/locations/{location}/publishers/google/models/gemini")


@pytest.mark.parametrize("location", ["evil.example/", "us central1", "a@b", "US", "-", "a.b"])
def test_A4_a_location_cannot_lead_to_another_host(location: str) -> None:
    """X7: the token would go there."""
    with pytest.raises(ConfigError, match="no location of Vertex AI"):
        request(model(api=VERTEX), api_key=None, project="p", location=location)


def test_a_project_is_one_segment_of_the_path() -> None:
    built = request(model(api=VERTEX), api_key=None, project="example.com:p/../x", location="eu")
    assert "/v1/projects/example.com:p%2F..%2Fx/locations/eu/" in built.url


def test_options_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "process")
    monkeypatch.setenv("GOOGLE_CLOUD_LOCATION", "eu")
    env = {"GOOGLE_CLOUD_PROJECT": "scoped", "GCLOUD_PROJECT": "other"}
    assert "/projects/scoped/locations/eu/" in request(model(api=VERTEX), api_key=None, env=env).url
    assert "/projects/p/locations/us-central1/" in request(model(api=VERTEX), api_key=None, env=env, **PLACE).url


@pytest.mark.parametrize(
    ("base_url", "prefix"),
    [
        ("https://p.example", "https://p.example/v1"),
        ("https://p.example/x/", "https://p.example/x/v1"),
        ("https://p.example/v1", "https://p.example/v1"),
        ("https://p.example/v1beta1/x", "https://p.example/v1beta1/x"),
        ("https://v1.example/x", "https://v1.example/x/v1"),
    ],
)
def test_A5_a_base_url_of_ones_own_is_taken_as_it_is(base_url: str, prefix: str) -> None:
    for key in ("k", None):
        built = request(model(api=VERTEX, base_url=base_url), api_key=key)
        assert built.url.startswith(f"{prefix}/publishers/google/models/gemini-2.5-flash:")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("meta/llama-4", "publishers/meta/models/llama-4"),
        ("models/gemini-x", "publishers/google/models/gemini-x"),
    ],
)
def test_models_of_others_have_a_publisher(name: str, path: str) -> None:
    assert f"/v1/{path}:stream" in request(model(name, api=VERTEX)).url


def test_A6_project_and_location_are_not_guessed() -> None:
    for env, missing in ({}, "project ID"), ({"GOOGLE_CLOUD_PROJECT": "p"}, "location"):
        with pytest.raises(ConfigError) as raised:
            request(model(api=VERTEX), api_key=None, env=env)
        assert raised.value.text.startswith(f"Vertex AI requires a {missing}. Set ")


def test_a_request_with_a_credential_of_its_own_gets_no_token() -> None:
    own = {"headers": {"authorization": "Bearer own"}, **PLACE}
    for options in ({"api_key": "k"}, {"api_key": None, **own}):
        built = request(model(api=VERTEX), **options)
        sent = HttpRequest(url=built.url, headers=merge_headers(built.headers), body=encode_json(built.body))
        adapter, made = get_api(VERTEX), GoogleVertexOptions(**options)
        assert anyio.run(adapter.authorize, sent, model(api=VERTEX), made) is sent
        assert not adapter.may_renew(sent, model(api=VERTEX), made)


def test_a_token_of_the_callers_needs_a_project_of_the_callers() -> None:
    options = {"api_key": None, "headers": {"authorization": "Bearer own"}, "location": "eu"}
    built = request(model(api=VERTEX), **options)
    sent = HttpRequest(url=built.url, headers=merge_headers(built.headers), body=b"")
    with pytest.raises(ConfigError, match="requires a project ID"):
        anyio.run(get_api(VERTEX).authorize, sent, model(api=VERTEX), GoogleVertexOptions(**options))


# ── the body (R1, R6) ────────────────────────────────────────────────────────────────────────────────────────


@both
def test_R1_the_plain_body(api: str) -> None:
    context = Context([UserMessage("Hello")], system_prompt="Be brief.")
    assert body(model(api=api), context, temperature=0, max_tokens=50) == {
        "contents": [{"role": "user", "parts": [{"text": "Hello"}]}],
        "systemInstruction": {"role": "user", "parts": [{"text": "Be brief."}]},
        "generationConfig": {"temperature": 0, "maxOutputTokens": 50},
    }


@both
def test_R6_without_thinking_options_the_model_thinks_as_it_likes(api: str) -> None:
    assert body(model(api=api, reasoning=True)) == {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}


def test_a_conversation_without_anything_to_say_is_refused() -> None:
    for context in (Context(), Context([UserMessage([])], system_prompt="p"), Context([answer(TextContent(" "))])):
        with pytest.raises(BadRequest, match="contents are required"):
            request(model(), context)


def test_later_system_messages_are_folded_into_the_prompt() -> None:
    history = [UserMessage("a"), SystemMessage("Later."), UserMessage("b")]
    sent = body(model(), Context(history, system_prompt="First."))
    assert sent["systemInstruction"]["parts"] == [{"text": "First.\n\nLater."}]
    assert [content["parts"] for content in sent["contents"]] == [[{"text": "a"}], [{"text": "b"}]]


def test_sampling_parameters_are_fields_of_the_generation_config() -> None:
    thinker = model(
        reasoning=True,
        sampling_params={"top_k": 40, "seed": 1},
        sampling_params_by_thinking_level={"low": {"seed": 2, "topP": 0.5}, "off": {"seed": 3}},
    )
    config = simple(thinker, reasoning="low", sampling_params={"topP": 0.9})
    assert {key: config[key] for key in ("topK", "topP", "seed")} == {"topK": 40, "topP": 0.9, "seed": 2}
    assert simple(thinker)["seed"] == 3
    assert body(thinker)["generationConfig"] == {"topK": 40, "seed": 1}
    assert body(thinker, temperature=1, sampling_params={"temperature": 0})["generationConfig"]["temperature"] == 0


# ── thinking (R2-R5) ─────────────────────────────────────────────────────────────────────────────────────────

GEMMA = {"off": None, "minimal": "MINIMAL", "low": None, "medium": None, "high": "HIGH"}


@pytest.mark.parametrize(
    ("name", "words", "config"),
    [
        ("gemini-2.5-flash", None, {"thinkingBudget": 0}),
        ("gemini-2.5-flash-lite", None, {"thinkingBudget": 0}),
        ("gemini-2.5-pro", None, {"thinkingBudget": 128}),
        ("gemini-3.1-pro-preview", LEVELS, {"thinkingLevel": "LOW"}),
        ("gemma-4-31b-it", GEMMA, {"thinkingLevel": "MINIMAL"}),
        ("gemini-3-x", None, {"thinkingBudget": 0}),
        ("other", None, {"thinkingBudget": 0}),
    ],
)
def test_R2_a_model_that_shall_not_think_thinks_as_little_as_it_can(name: str, words: Any, config: Any) -> None:
    assert thinking(name, thinking_level_map=words) == config


@pytest.mark.parametrize(
    ("name", "budgets"),
    [
        ("gemini-2.5-pro", (128, 2048, 8192, 32768)),
        ("gemini-2.5-flash-lite-preview", (512, 2048, 8192, 24576)),
        ("gemini-2.5-flash", (128, 2048, 8192, 24576)),
        ("unknown", (-1, -1, -1, -1)),
    ],
)
def test_R3_budgets_by_family(name: str, budgets: tuple[int, ...]) -> None:
    for level, budget in zip(("minimal", "low", "medium", "high"), budgets, strict=True):
        assert thinking(name, level) == {"includeThoughts": True, "thinkingBudget": budget}
    assert thinking(name, "max")["thinkingBudget"] == budgets[3]
    assert thinking(name, "max", thinking_level_map={"max": "max"})["thinkingBudget"] == budgets[3]


@pytest.mark.parametrize(
    ("name", "asked", "sent"),
    [
        ("gemini-2.5-pro", 1, 128),
        ("gemini-2.5-pro", 99_999, 32_768),
        ("gemini-2.5-pro", 0, 128),
        ("gemini-2.5-flash", 0, 0),
        ("gemini-2.5-flash", 1, 1),
        ("gemini-2.5-flash", 99_999, 24_576),
        ("gemini-2.5-flash-lite", 1, 512),
        ("gemini-2.5-flash-lite", 0, 0),
        ("gemini-2.5-pro", -1, -1),
        ("unknown", 7, 7),
    ],
)
def test_budgets_of_the_caller_are_kept_within_what_the_family_takes(name: str, asked: int, sent: int) -> None:
    assert thinking(name, "low", budgets={"low": asked})["thinkingBudget"] == sent


def test_a_budget_for_high_is_one_for_the_levels_above() -> None:
    words = {"xhigh": "xhigh"}
    assert thinking("gemini-2.5-flash", "xhigh", budgets={"high": 7}, thinking_level_map=words)["thinkingBudget"] == 7
    both = {"high": 7, "xhigh": 8}
    assert thinking("gemini-2.5-flash", "xhigh", budgets=both, thinking_level_map=words)["thinkingBudget"] == 8


def test_R4_R5_levels_are_clamped_to_those_that_the_model_has() -> None:
    assert thinking("gemini-3-flash", "medium") == {"includeThoughts": True, "thinkingLevel": "MEDIUM"}
    assert thinking("gemma-4-31b-it", "medium", thinking_level_map=GEMMA)["thinkingLevel"] == "HIGH"
    assert thinking("gemini-3-pro", "minimal", thinking_level_map=LEVELS)["thinkingLevel"] == "LOW"


@pytest.mark.parametrize(
    ("name", "control"),
    [
        ("gemini-3-pro-preview", "Level"),
        ("gemini-3.1-flash-lite", "Level"),
        ("Gemini-4-Argon", "Level"),
        ("gemini-12-x", "Level"),
        ("gemini-live-3-x", "Level"),
        ("google/gemini-3.5-flash", "Level"),
        ("gemini-flash-latest", "Level"),
        ("gemini-pro-latest", "Level"),
        ("gemma4-x", "Level"),
        ("gemini-2.5-pro", "Budget"),
        ("gemini-2.0-flash", "Budget"),
        ("my-gemini-flash-latest", "Budget"),
        ("gemma-3-27b", "Budget"),
        ("gemini-exp-1206", "Budget"),
    ],
)
def test_the_id_tells_how_a_model_is_told_to_think(name: str, control: str) -> None:
    assert f"thinking{control}" in thinking(name, "high")


def test_the_model_can_say_how_it_is_told_to_think() -> None:
    assert thinking("mine", "high", compat={"thinkingControl": "level"})["thinkingLevel"] == "HIGH"
    assert thinking("gemini-3-x", "high", compat={"thinking_control": "budget"})["thinkingBudget"] == -1
    with pytest.raises(ConfigError, match="thinkingControl"):
        thinking("mine", "high", compat={"thinkingControl": "dial"})


def test_a_level_that_google_does_not_have_is_a_mistake_of_the_map() -> None:
    for reasoning, words in ("medium", {"medium": "ultra"}), (None, {"off": None, "minimal": "tiny"}):
        with pytest.raises(ConfigError, match="Unsupported Google thinking level mapping for google/gemini-3-x"):
            thinking("gemini-3-x", reasoning, thinking_level_map=words)


def test_thinking_can_be_told_in_googles_own_words() -> None:
    def config(**options: Any) -> Any:
        return body(model(reasoning=True), thinking=GoogleThinking(**options))["generationConfig"]["thinkingConfig"]

    assert config(enabled=True) == {"includeThoughts": True}
    assert config(enabled=True, budget_tokens=7) == {"includeThoughts": True, "thinkingBudget": 7}
    assert config(enabled=True, level="LOW", budget_tokens=7) == {"includeThoughts": True, "thinkingLevel": "LOW"}
    assert "generationConfig" not in body(model(), thinking=GoogleThinking(enabled=True))


# ── history (R7-R14) ─────────────────────────────────────────────────────────────────────────────────────────


@both
def test_R7_signatures_go_back_with_the_parts_that_they_came_with(api: str) -> None:
    own = model(api=api)
    said = answer(
        ThinkingContent("Hm.", SIGNATURE),
        ThinkingContent(" ", SIGNATURE),
        ThinkingContent("Unsigned."),
        TextContent("", SIGNATURE),
        TextContent(" "),
        TextContent("Text."),
        ToolCall("1", "f", {"a": 1}, thought_signature=SIGNATURE),
        of=own,
    )
    sent = contents(own, UserMessage("a"), said, ToolResultMessage("1", "f", "ok"))
    signed = {"thoughtSignature": SIGNATURE}
    assert sent[1] == {
        "role": "model",
        "parts": [
            {"thought": True, "text": "Hm.", **signed},
            {"thought": True, "text": " ", **signed},
            {"thought": True, "text": "Unsigned."},
            {"text": "", **signed},
            {"text": "Text."},
            {"functionCall": {"name": "f", "args": {"a": 1}}, **signed},
        ],
    }


@pytest.mark.parametrize("signature", ["not_base64=", "abcde", "", "a===", "=", "ab=c", "c2ln\n"])
def test_R8_what_is_no_signature_is_not_sent(signature: str) -> None:
    said = answer(TextContent("x", signature), ThinkingContent("y", signature), TextContent("", signature))
    sent = contents(model(), UserMessage("a"), said)
    assert sent[1]["parts"] == [{"text": "x"}, {"thought": True, "text": "y"}]


FOREIGN = model("gemini-2.5-pro")


def turn(*, of: Model = FOREIGN) -> list[Message]:
    """The user asks, and a model makes two calls, which are answered."""
    return [
        UserMessage("Go"),
        answer(ToolCall("1", "f", thought_signature="c2ln"), ToolCall("2", "g"), of=of),
        ToolResultMessage("1", "f", "one"),
        ToolResultMessage("2", "g", "two"),
    ]


def signatures(content: dict[str, Any]) -> list[str | None]:
    return [part.get("thoughtSignature") for part in content["parts"]]


def test_R9_the_first_unsigned_call_of_the_present_turn_gets_the_escape_value() -> None:
    sent = contents(model("gemini-3-pro"), *turn(), answer(ToolCall("3", "f"), of=FOREIGN))
    assert signatures(sent[1]) == [UNSIGNED, None]
    assert signatures(sent[3]) == [UNSIGNED]
    earlier = contents(model("gemini-3-pro"), *turn(), UserMessage("Thanks"))
    assert signatures(earlier[1]) == [None, None]


def test_R9_real_signatures_win() -> None:
    own = model("gemini-3-pro")
    assert signatures(contents(own, *turn(of=own))[1]) == ["c2ln", None]


@pytest.mark.parametrize(
    ("name", "api"), [("gemini-3-pro", VERTEX), ("gemini-2.5-flash", GEMINI), ("claude-x", GEMINI)]
)
def test_R10_others_get_no_escape_value(name: str, api: str) -> None:
    assert signatures(contents(model(name, api), *turn())[1]) == [None, None]


def test_the_model_can_say_whether_it_wants_the_escape_value() -> None:
    def sent(name: str, api: str, wish: str) -> list[str | None]:
        return signatures(contents(model(name, api, compat={"unsignedToolCallSignature": wish}), *turn())[1])

    assert sent("gemini-3-pro", GEMINI, "omit") == [None, None]
    assert sent("gemini-3-pro", VERTEX, "sentinel") == [UNSIGNED, None]
    assert sent("gemini-3-pro", GEMINI, "auto") == [UNSIGNED, None]
    assert sent("gemini-3-pro", VERTEX, "auto") == [None, None]


@pytest.mark.parametrize(
    ("name", "api", "ids"),
    [
        ("gemini-3-pro", GEMINI, True),
        ("claude-x", GEMINI, True),
        ("gpt-oss-20b", GEMINI, True),
        ("gemini-2.5-pro", GEMINI, False),
        ("gemini-flash-latest", GEMINI, False),
        ("gemini-3-pro", VERTEX, False),
        ("claude-x", VERTEX, False),
    ],
)
def test_R11_ids_are_sent_where_they_are_taken(name: str, api: str, ids: bool) -> None:
    _, said, results = contents(model(name, api), *turn())
    for parts, key in (said["parts"], "functionCall"), (results["parts"], "functionResponse"):
        assert [part[key].get("id") for part in parts] == (["1", "2"] if ids else [None, None])


def test_ids_of_other_models_are_made_fit_and_results_follow() -> None:
    long = "call|" + "x" * 100
    history = [
        answer(ToolCall(long, "f"), ToolCall("a b", "g"), of=FOREIGN),
        ToolResultMessage("a b", "g", "2"),
        ToolResultMessage(long, "f", "1"),
    ]
    said, results = contents(model("gemini-3-pro"), *history)
    assert [part["functionCall"]["id"] for part in said["parts"]] == ["call_" + "x" * 59, "a_b"]
    assert [part["functionResponse"]["id"] for part in results["parts"]] == ["a_b", "call_" + "x" * 59]


def results(*contents: list[Any]) -> list[Message]:
    calls = [ToolCall(str(at), f"f{at}") for at in range(len(contents))]
    return [answer(*calls), *(ToolResultMessage(str(at), f"f{at}", content) for at, content in enumerate(contents))]


@both
def test_R12_images_of_older_models_follow_the_run_of_results(api: str) -> None:
    history = results([IMAGE], [TextContent("t"), IMAGE, IMAGE], [TextContent("u")])
    sent = contents(model(api=api), *history, UserMessage("Go on"))[1:]
    assert sent[0]["role"] == "user"
    assert [part["functionResponse"]["response"] for part in sent[0]["parts"]] == [
        {"output": "(see attached image)"},
        {"output": "t"},
        {"output": "u"},
    ]
    follow = {"text": "Tool result image:"}
    assert [content["parts"] for content in sent[1:]] == [
        [follow, INLINE],
        [follow, INLINE, INLINE],
        [{"text": "Go on"}],
    ]


@pytest.mark.parametrize("name", ["gemini-3-pro", "gemini-flash-latest", "claude-x"])
def test_R13_newer_models_take_images_inside_of_results(name: str) -> None:
    _, run = contents(model(name), *results([IMAGE], [TextContent("t")]))
    first, second = (part["functionResponse"] for part in run["parts"])
    assert (first["response"], first["parts"]) == ({"output": "(see attached image)"}, [INLINE])
    assert "parts" not in second


def test_R14_errors_are_told_as_errors() -> None:
    history = results([TextContent("Not found")])
    history[-1] = attrs.evolve(history[-1], is_error=True)
    assert contents(model(), *history)[1]["parts"][0]["functionResponse"] == {
        "name": "f0",
        "response": {"error": "Not found"},
    }


def test_a_result_that_says_nothing_is_empty() -> None:
    assert contents(model(), *results([]))[1]["parts"][0]["functionResponse"]["response"] == {"output": ""}
    blank = contents(model(), *results([TextContent(" \n")]))
    assert blank[1]["parts"][0]["functionResponse"]["response"] == {"output": ""}


def test_users_say_texts_and_images() -> None:
    sent = contents(model(), UserMessage([TextContent("See"), IMAGE]), UserMessage([]), UserMessage("b"))
    assert sent == [
        {"role": "user", "parts": [{"text": "See"}, INLINE]},
        {"role": "user", "parts": [{"text": "b"}]},
    ]


def test_results_share_a_content_only_within_their_run() -> None:
    history = [*results([TextContent("1")]), *results([TextContent("2")])]
    assert [content["role"] for content in contents(model(), *history)] == ["model", "user", "model", "user"]


# ── tools (R15, R16) ─────────────────────────────────────────────────────────────────────────────────────────


def test_R15_a_const_becomes_an_enum_but_not_in_data() -> None:
    literal = {"const": "a", "enum": [1]}
    schema = {
        "type": "object",
        "properties": {
            "kind": {"const": "a"},
            "const": {"const": 1.5},
            "default": {"anyOf": [{"const": "x"}, {"const": True}, {"const": None}]},
            "given": {"type": "object", "default": literal, "examples": [literal], "enum": [literal]},
            "already": {"const": "a", "enum": ["a", "b"]},
            "object": {"const": {"const": "a"}},
        },
        "$defs": {"enum": {"items": [{"const": "b"}], "not": {"const": 0}}},
        "patternProperties": {"^x": {"const": "c"}},
        "dependentSchemas": {"kind": {"properties": {"k": {"const": "d"}}}},
        "required": ["const"],
        "additionalProperties": False,
    }
    original = str(schema)
    assert as_enums(schema) == {
        "type": "object",
        "properties": {
            "kind": {"enum": ["a"]},
            "const": {"enum": [1.5]},
            "default": {"anyOf": [{"enum": ["x"]}, {"const": True}, {"const": None}]},
            "given": {"type": "object", "default": literal, "examples": [literal], "enum": [literal]},
            "already": {"enum": ["a", "b"]},
            "object": {"const": {"const": "a"}},
        },
        "$defs": {"enum": {"items": [{"enum": ["b"]}], "not": {"enum": [0]}}},
        "patternProperties": {"^x": {"enum": ["c"]}},
        "dependentSchemas": {"kind": {"properties": {"k": {"enum": ["d"]}}}},
        "required": ["const"],
        "additionalProperties": False,
    }
    assert str(schema) == original


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
PLAIN = Tool("plain", "A tool.", SCHEMA)


def strict(wish: str = "prefer", schema: dict[str, Any] | None = None) -> Tool:
    return Tool("strict", "A tool.", schema or SCHEMA, {"type": "json_schema", "strict": wish})


def tools(model: Model, *offered: Tool, choice: Any = None) -> dict[str, Any]:
    sent = body(model, Context([UserMessage("Hello")], tools=list(offered) or None), tool_choice=choice)
    return {key: sent[key] for key in ("tools", "toolConfig") if key in sent}


def mode(model: Model, *offered: Tool, choice: Any = None) -> Any:
    return tools(model, *offered, choice=choice).get("toolConfig", {}).get("functionCallingConfig")


def test_tools_are_declared_with_their_whole_schema() -> None:
    assert tools(model(), PLAIN) == {
        "tools": [
            {"functionDeclarations": [{"name": "plain", "description": "A tool.", "parametersJsonSchema": SCHEMA}]}
        ]
    }
    assert tools(model(), choice="any") == {}


@both
def test_R16_strict_tools_are_validated_where_the_model_can(api: str) -> None:
    new, old = model("gemini-3-pro", api), model("gemini-2.5-pro", api)
    assert mode(new, PLAIN, strict()) == {"mode": "VALIDATED"}
    assert mode(new, strict(), choice="auto") == {"mode": "VALIDATED"}
    (declaration,) = tools(new, strict())["tools"][0]["functionDeclarations"]
    assert declaration["parametersJsonSchema"]["required"] == ["city"]
    assert mode(old, strict()) is None
    assert tools(old, strict())["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"] == SCHEMA
    with pytest.raises(BadRequest, match="strict tools are unsupported"):
        tools(old, strict("require"))
    with pytest.raises(BadRequest, match=r'Tool "strict" requires JSON-schema constrained sampling, but '):
        tools(new, strict("require", {"type": "object", "properties": {"a": {"$ref": "#"}}}))


@pytest.mark.parametrize(
    ("choice", "plain", "strict_too"),
    [
        ("none", {"mode": "NONE"}, {"mode": "NONE"}),
        ("any", {"mode": "ANY"}, {"mode": "ANY"}),
        ("required", {"mode": "ANY"}, {"mode": "ANY"}),
        ({"type": "tool", "name": "f"}, *2 * ({"mode": "ANY", "allowedFunctionNames": ["f"]},)),
        ("auto", {"mode": "AUTO"}, {"mode": "VALIDATED"}),
        (None, None, {"mode": "VALIDATED"}),
        ("whatever", {"mode": "AUTO"}, {"mode": "VALIDATED"}),
    ],
)
def test_the_choice_of_tools_is_a_mode(choice: Any, plain: Any, strict_too: Any) -> None:
    new = model("gemini-3-pro")
    assert mode(new, PLAIN, choice=choice) == plain
    assert mode(new, PLAIN, strict(), choice=choice) == strict_too
