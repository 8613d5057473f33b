"""Request headers: layers, refusals, and who is asking (core H1-H4, reliability X8)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi_ai import Registry, __version__
from pi_ai.errors import ConfigError
from pi_ai.headers import copilot_headers, identity_headers, layer_headers, merge_headers, user_agent
from pi_ai.testing import Delivery, Sandbox, Turn
from pi_ai.types import (
    AssistantMessage,
    Attribution,
    Context,
    Identity,
    ImageContent,
    Message,
    Model,
    TextContent,
    ToolResultMessage,
    UserMessage,
)


def model(provider: str = "p", base_url: str = "https://x.example") -> Model:
    return Model(id="m", api="a", provider=provider, base_url=base_url)


def test_H1_a_higher_layer_wins_in_its_own_spelling() -> None:
    assert merge_headers({"X-P": "low", "x-both": "low"}, {"X-BOTH": "mid"}, {"X-both": "top"}) == {
        "X-P": "low",
        "X-both": "top",
    }


def test_H1_none_removes_and_a_higher_layer_may_set_again() -> None:
    assert merge_headers({"a": "1", "b": "1"}, {"A": None, "B": None}, {"b": "2"}, None) == {"b": "2"}


def test_a_removed_header_stays_known_for_the_layers_that_come_below() -> None:
    assert layer_headers({"User-Agent": None}) == {"User-Agent": None}
    assert merge_headers({"user-agent": "pi"}, layer_headers({"User-Agent": None})) == {}


NAMES = st.sampled_from(["a", "A", "x-b", "X-B", "X-b", "c"])
LAYERS = st.lists(st.dictionaries(NAMES, st.none() | st.sampled_from("123")), max_size=4)


@settings(deadline=None)
@given(LAYERS, st.integers(0, 4))
def test_layers_may_be_merged_in_any_grouping(layers: list[dict[str, str | None]], split: int) -> None:
    grouped = merge_headers(layer_headers(*layers[:split]), layer_headers(*layers[split:]))
    assert grouped == merge_headers(*layers)
    assert len({name.lower() for name in grouped}) == len(grouped)


@pytest.mark.parametrize("value", ["se\ncret", "se\rcret", "se\0cret", "secret\n", "secret-\u20ac", "se\x7fcret"])
def test_X8_a_value_that_no_header_can_hold_is_refused_and_not_quoted(value: str) -> None:
    with pytest.raises(ConfigError, match="'X-Key' cannot be sent") as caught:
        layer_headers({"X-Key": value})
    message = str(caught.value)
    assert "secret" not in message
    assert "cret" not in message
    assert re.search(r"U\+[0-9A-F]{4} at position \d+", message)


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\n", "ä", "x" * 100 + "\r\n"])
def test_X8_a_name_that_no_header_can_have_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be sent because of its name"):
        merge_headers({name: "1"})


def test_a_value_of_the_wrong_kind_is_refused_and_not_quoted() -> None:
    with pytest.raises(ConfigError, match="must be a str, or None to remove the header, not int") as caught:
        layer_headers({"a": 12345})  # type: ignore[dict-item]
    assert "12345" not in str(caught.value)


def test_latin_text_and_tabs_may_stand_in_a_value() -> None:
    assert merge_headers({"a": "b\tc \u00e4"}) == {"a": "b\tc \u00e4"}


def test_H2_the_user_agent_says_as_much_as_is_wanted() -> None:
    assert re.fullmatch(
        rf"pi-ai-python/{re.escape(__version__)} \([a-z]+; python/3\.\d+\.\d+\S*; \w+\)", user_agent(Identity())
    )
    assert user_agent(Identity(version="9")).startswith("pi-ai-python/9 (")
    assert user_agent(Identity(user_agent="short")) == "pi-ai-python"
    assert user_agent(Identity(user_agent="my app/1")) == "my app/1"


APP = Identity(user_agent="x", attribution=Attribution(name="myApp", url="https://app.example", categories=("a", "b")))


@pytest.mark.parametrize(
    ("to", "headers"),
    [
        (
            model("openrouter"),
            {
                "HTTP-Referer": "https://app.example",
                "X-OpenRouter-Title": "myApp",
                "X-OpenRouter-Categories": "a,b",
            },
        ),
        (model(base_url="https://integrate.api.nvidia.com/v1"), {"X-BILLING-INVOKE-ORIGIN": "MyApp"}),
        (model("opencode-go"), {"x-opencode-client": "myApp", "x-opencode-session": "s"}),
        (model("openai"), {}),
    ],
)
def test_H3_attribution_is_told_to_those_who_take_it_when_it_is_given(to: Model, headers: dict[str, str]) -> None:
    assert identity_headers(to, APP, "s") == {"User-Agent": "x", **headers}
    assert identity_headers(to, Identity(user_agent="x"), "s") == {"User-Agent": "x"}


def test_H3_what_is_empty_is_not_told() -> None:
    plain = Identity(attribution=Attribution(name="a", url="https://a.example"))
    assert "X-OpenRouter-Categories" not in identity_headers(model("openrouter"), plain)
    assert "x-opencode-session" not in identity_headers(model("opencode"), plain)


IMAGE = ImageContent("aW1n", "image/png")


@pytest.mark.parametrize(
    ("messages", "initiator", "vision"),
    [
        ([], "user", None),
        ([UserMessage("a")], "user", None),
        ([UserMessage([IMAGE]), AssistantMessage([TextContent("b")])], "agent", "true"),
        ([UserMessage("a"), ToolResultMessage("1", "f", [IMAGE])], "agent", "true"),
    ],
)
def test_H4_copilot_is_told_who_speaks_and_whether_there_are_images(
    messages: list[Message], initiator: str, vision: str | None
) -> None:
    headers = copilot_headers(model("github-copilot"), messages)
    assert headers.pop("Openai-Intent") == "conversation-edits"
    assert (headers["X-Initiator"], headers.get("Copilot-Vision-Request")) == (initiator, vision)
    assert copilot_headers(model(base_url="https://api.business.githubcopilot.com"), messages)
    assert copilot_headers(model(), messages) == {}


@pytest.mark.anyio
async def test_a_cookie_that_the_server_sets_is_not_shown_to_hooks_X30():
    seen = []
    async with Sandbox() as box, Registry() as pi:
        box.script(Turn("Hello."), delivery=Delivery(headers={"Set-Cookie": "session=canary", "X-Request-Id": "r-1"}))
        hook = lambda response, _: seen.append(response.headers)  # noqa: E731
        await pi.complete(box.model(), Context([UserMessage("Hi")]), on_response=hook)
    [headers] = seen
    assert (headers["set-cookie"], headers["x-request-id"]) == ("[redacted]", "r-1")
