"""Every example runs as it stands, without a key and without the network, and prints what it says."""

from __future__ import annotations

import re
import runpy

import anyio
import attrs
import pytest

from pi_ai import (
    AssistantMessage,
    Context,
    ImageContent,
    Registry,
    TextContent,
    ThinkingContent,
    Tool,
    ToolCall,
    ToolResultMessage,
    Usage,
    UserMessage,
    cli,
)
from pi_ai.testing import Failure, Sandbox, Turn
from pi_ai_tests.numbers import TESTS
from pi_ai_tests.test_surface import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LENGTHS = {"anthropic_with_oauth": 330}
"""How many lines an example may have that is a whole program."""
APART = "".join(path.read_text(encoding="utf-8") for path in TESTS.glob("test_example_*.py"))
PROGRAMS = [
    path
    for path in EXAMPLES
    if re.search(r"# →(.|\n)*(anyio|trio)\.run\(main", path.read_text(encoding="utf-8"))
    and f'"{path.name}"' not in APART
]
"""Those that say what they print, and have no tests of their own."""
NEEDS = {"batch_on_ray": "ray"}
"""What an example needs that is not installed with the tests."""


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """A process that nobody has configured anything in."""
    monkeypatch.setenv("PI_CODING_AGENT_DIR", str(tmp_path))
    monkeypatch.setattr("pi_ai.registry._default", None)
    for name in ("TEAM_TOKEN", "MY_LLM_KEY", "CUSTOM_ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "")  # so that what an example sets is taken back


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_an_example_prints_what_it_says(path, anyio_backend, capsys):
    backend, options = anyio_backend
    if path.stem in NEEDS:
        pytest.importorskip(NEEDS[path.stem], reason=f"{NEEDS[path.stem]} is not installed")
    if (path.stem == "trio_service" and backend != "trio") or (path.stem == "batch_on_ray" and options):
        pytest.skip("the example is about another event loop")
    main = runpy.run_path(str(path))["main"]
    anyio.run(main, backend=backend, backend_options=options)
    printed = capsys.readouterr().out.splitlines()
    promised = re.findall(r"# → (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert promised
    assert [line.rstrip() for line in printed if line.rstrip() in promised] == promised


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_what_it_is(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith('"""')
    assert len(text.splitlines()) <= LENGTHS.get(path.stem, 120)


def test_the_extension_runs_on_the_command_line(capsys):
    assert cli.main(["-e", str(ROOT / "examples" / "extension.py"), "stream", "--model", "echo/parrot", "Hello"]) == 0
    assert capsys.readouterr().out == "Hello\n"


# ── the complete one ─────────────────────────────────────────────────────────────────────────────────────────

CUSTOM, BUILT_IN = "custom-anthropic", "built-in"
TURN = Turn(
    [
        ThinkingContent("Hm.", "sig"),
        "Let me look: ☃",
        ToolCall("a", "weather", {"city": "Oslo"}),
        ToolCall("b", "now", {}),
    ],
    usage=Usage(input=100, output=40, cache_read=7, cache_write=5, total_tokens=152),
)
TOOLS = [Tool("weather", "The weather in a city", {"type": "object", "properties": {"city": {"type": "string"}}})]
PICTURE = ImageContent("aGk=", "image/png")


def both(box):
    """The provider of the example and one that speaks the same API with what is built in."""
    pi = Registry(models_path=None)
    url = box.base_url("anthropic-messages")
    runpy.run_path(str(ROOT / "examples" / "anthropic_with_oauth.py"))["register"](pi, url)
    models = [attrs.evolve(model, api="anthropic-messages") for model in pi.get_models(CUSTOM)]
    pi.register_provider(BUILT_IN, base_url=url, api="anthropic-messages", models=models)
    return pi


async def answers(turn, context, **options):
    """What each of them makes of an answer, and what it asked."""
    async with Sandbox(turn, turn) as box:
        pi = both(box)
        messages = [
            await pi.complete(
                pi.get_model(provider, "claude-sonnet-4-5"), context, api_key="k", max_retries=0, **options
            )
            for provider in (CUSTOM, BUILT_IN)
        ]
        return messages, [request.body for request in box.requests]


@pytest.mark.anyio
@pytest.mark.parametrize("turn", [TURN, Turn("Short."), Turn("", stop_reason="length")], ids=["all", "text", "nothing"])
async def test_the_stream_function_of_the_complete_example_reads_what_the_built_in_api_reads(turn):
    (ours, built_in), _ = await answers(turn, Context([UserMessage("Hello")]), reasoning="low")
    assert ours.content == built_in.content
    assert ours.stop_reason == built_in.stop_reason
    assert ours.usage.cost == built_in.usage.cost
    assert ours.usage.cost.total > 0


@pytest.mark.anyio
async def test_it_asks_what_the_built_in_api_asks():
    before = AssistantMessage([ThinkingContent("Hm.", "sig"), TextContent("Look."), *TURN.content[2:]])
    results = [ToolResultMessage("a", "weather", "Sun"), ToolResultMessage("b", "now", "gone", is_error=True)]
    question = UserMessage([TextContent("What is this?"), PICTURE])
    context = Context([question, before, *results, UserMessage("And?")], system_prompt="Be brief.", tools=TOOLS)
    _, (ours, built_in) = await answers(TURN, context)
    assert [turn["role"] for turn in ours["messages"]] == ["user", "assistant", "user"]
    assert ours["messages"][0]["content"] == built_in["messages"][0]["content"]
    assert ours["messages"][1] == built_in["messages"][1]
    told = [block["type"] for block in ours["messages"][2]["content"]]
    assert told == ["tool_result", "tool_result", "text"]
    assert ours["system"] == built_in["system"]
    assert [tool["name"] for tool in ours["tools"]] == ["weather"]


@pytest.mark.anyio
async def test_its_key_may_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("CUSTOM_ANTHROPIC_API_KEY", "sk-ant-api-secret")
    async with Sandbox() as box:
        pi = both(box)
        await pi.complete(pi.get_model(CUSTOM, "claude-opus-4-5"), Context([UserMessage("Hello")]))
        assert box.requests[0].headers["x-api-key"] == "sk-ant-api-secret"
        assert "authorization" not in box.requests[0].headers


@pytest.mark.anyio
@pytest.mark.parametrize("turn", [Failure(529), Turn("It is", failure=Failure(529))], ids=["status", "event"])
async def test_what_goes_wrong_in_it_ends_the_stream_and_keeps_what_came(turn):
    (ours, built_in), _ = await answers(turn, Context([UserMessage("Hello")]))
    assert (ours.stop_reason, ours.text) == (built_in.stop_reason, built_in.text)
    assert ours.stop_reason == "error"


@pytest.mark.parametrize(("command", "shows"), [("list", "Custom Anthropic"), ("models", "claude-opus-4-5")])
def test_it_is_an_extension_too(capsys, command, shows):
    path = str(ROOT / "examples" / "anthropic_with_oauth.py")
    assert cli.main(["-e", path, command]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "custom-anthropic" in line]
    assert any(shows in line for line in lines)
