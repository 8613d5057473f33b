"""Cassettes: recorded from a real server over a socket, played through the real adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from pi_ai import ConfigError, Context, Model, Registry, ThinkingContent, Tool, ToolCall, UserMessage
from pi_ai.testing import Cassette, Delivery, Failure, Playback, Sandbox, Turn
from pi_ai.testing.wires import WIRES
from pi_ai_tests.adapters.reading import check_grammar

pytestmark = pytest.mark.anyio
KEY = "canary-key-of-the-test"
CONTEXT = Context([UserMessage("How is the weather in Zürich?")], tools=[Tool("look", "Looks", {"type": "object"})])
STORY = Turn([ThinkingContent("Hm. "), "It is sünny. " * 20, ToolCall("call_1", "look", {"where": "out"})])


def keyed(api: str) -> dict[str, Any]:
    return {"env": {"AWS_REGION": "eu-west-1"}, "api_key": KEY} if "bedrock" in api else {"api_key": KEY}


async def ask(model: Model, cassette: Cassette, context: Context = CONTEXT, **options: Any) -> list[Any]:
    async with Registry() as pi:
        events = pi.stream(model, context, http_client=cassette, **{**keyed(model.api), **options})
        with anyio.fail_after(30):
            return [event async for event in events]


async def recorded(path: Path, model: Model, **options: Any) -> list[Any]:
    async with Cassette(path, mode="record") as cassette:
        return await ask(model, cassette, **options)


def content(events: list[Any]) -> Any:
    message = events[-1].message
    return message.content, message.stop_reason, message.usage, [event.type for event in events]


@pytest.mark.parametrize("api", sorted(WIRES))
async def test_what_was_recorded_is_played_the_same_without_a_server(tmp_path: Path, api: str) -> None:
    path = tmp_path / "cassettes" / "story.jsonl"
    async with Sandbox() as box:
        box.script(STORY)
        model = box.model(api)
        first = await recorded(path, model)
    assert first[-1].type == "done"
    again = await ask(model, Cassette(path))
    check_grammar(again, ended=True)
    assert content(again) == content(first)
    assert KEY not in path.read_text()


@pytest.mark.parametrize("api", ["anthropic-messages", "google-generative-ai", "bedrock-converse-stream"])
async def test_it_plays_in_other_pieces(tmp_path: Path, box: Sandbox, api: str) -> None:
    box.script(STORY)
    first = await recorded(tmp_path / "c.jsonl", box.model(api))
    again = await ask(box.model(api), Cassette(tmp_path / "c.jsonl", playback=Playback(bytes_per_read=1)))
    assert content(again) == content(first)


async def test_it_plays_as_fast_as_wanted(tmp_path: Path, box: Sandbox) -> None:
    box.script(Turn("one two three four five six"), delivery=Delivery(tokens_per_second=20))
    await recorded(tmp_path / "c.jsonl", box.model())
    took: dict[float, float] = {}
    for speed in (1, 1000):
        began = anyio.current_time()
        await ask(box.model(), Cassette(tmp_path / "c.jsonl", playback=Playback(speed=speed)))
        took[speed] = anyio.current_time() - began
    assert took[1] > 0.25
    assert took[1000] < took[1]


async def test_it_plays_what_no_test_waits_for_on_a_clock_that_jumps(tmp_path: Path) -> None:
    import trio.testing

    async with Sandbox() as box:
        box.script(Turn("one two"))
        await recorded(tmp_path / "c.jsonl", box.model())
        model = box.model()
    lines = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    for number, line in enumerate(line for line in lines if "text" in line):
        line["ms"] = 50_000.0 * number  # the better part of a minute between two chunks
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, lines)))
    playback = Playback(speed=1)

    async def main() -> Any:
        async with Registry() as pi:
            cassette = Cassette(tmp_path / "c.jsonl", playback=playback)
            return await pi.complete(model, CONTEXT, http_client=cassette, api_key=KEY)

    def run() -> Any:
        return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.01))

    message = await anyio.to_thread.run_sync(run)
    assert (message.text, message.error_message) == ("one two", None)


@pytest.mark.parametrize("then", ["reset", "stall", "end"])
async def test_it_breaks_where_it_is_told(tmp_path: Path, box: Sandbox, then: Any) -> None:
    box.script(Turn("one two three four"))
    await recorded(tmp_path / "c.jsonl", box.model("anthropic-messages"))
    lines = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    cut = "".join(line.get("text", "") for line in lines).index("three")
    tape = Cassette(tmp_path / "c.jsonl", playback=Playback(cut_at=cut, then=then))
    events = await ask(box.model("anthropic-messages"), tape, timeout_ms=200)
    message = events[-1].error
    kinds = {"reset": "disconnected", "stall": "timeout_idle", "end": "truncated"}
    assert message.error_info.kind == kinds[then]
    assert message.text.startswith("one")


async def test_retries_are_recorded_and_played_in_order(tmp_path: Path, box: Sandbox) -> None:
    box.script(Failure(503, headers={"retry-after-ms": "1"}), Turn("At last."))
    first = await recorded(tmp_path / "c.jsonl", box.model())
    again = await ask(box.model(), Cassette(tmp_path / "c.jsonl"))
    for events in first, again:
        assert events[-1].message.text == "At last."
        assert [attempt.error.status for attempt in events[-1].message.attempts] == [503]


async def test_a_broken_answer_breaks_again(tmp_path: Path, box: Sandbox) -> None:
    box.script(Turn("one two three"), delivery=Delivery(stop_after=2, then="reset"))
    first = await recorded(tmp_path / "c.jsonl", box.model())
    again = await ask(box.model(), Cassette(tmp_path / "c.jsonl"))
    for events in first, again:
        assert (events[-1].error.error_info.kind, events[-1].error.text) == ("disconnected", "one two")


async def test_a_server_that_was_not_there_is_not_there_again(tmp_path: Path) -> None:
    async with Sandbox() as box:
        model = box.model()
    first = await recorded(tmp_path / "c.jsonl", model, max_retries=0)
    again = await ask(model, Cassette(tmp_path / "c.jsonl"), max_retries=0)
    assert [events[-1].error.error_info.kind for events in (first, again)] == ["connect", "connect"]


# httpx's own generators are left behind on trio, whoever uses it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:Async generator:ResourceWarning")
async def test_an_answer_left_in_the_middle_is_recorded_as_far_as_it_came(tmp_path: Path, box: Sandbox) -> None:
    box.script(Turn("one two three"), delivery=Delivery(stop_after=2, then="stall"))
    async with Cassette(tmp_path / "c.jsonl", mode="record") as tape, Registry(http_client=tape) as pi:
        events = pi.stream(box.model(), CONTEXT)
        async for event in events:
            if event.type == "text_delta" and event.partial.text == "one two":
                break
        await events.aclose()
        assert await box.requests[0].ending() == "client left"
    again = await ask(box.model(), Cassette(tmp_path / "c.jsonl"))
    assert (again[-1].error.text, again[-1].error.error_info.kind) == ("one two", "truncated")


async def test_streams_at_the_same_time_get_their_own(tmp_path: Path, box: Sandbox) -> None:
    texts = {number: f"Number {number}" for number in range(8)}

    async def all_at_once(tape: Cassette) -> dict[int, str]:
        found: dict[int, str] = {}

        async def one(pi: Registry, number: int) -> None:
            found[number] = (await pi.complete(box.model(), Context([UserMessage(texts[number])]))).text

        async with Registry(http_client=tape) as pi, anyio.create_task_group() as tasks:
            for number in texts:
                tasks.start_soon(one, pi, number)
        return found

    async with Cassette(tmp_path / "c.jsonl", mode="record") as tape:
        first = await all_at_once(tape)
    assert all(texts[number] in text for number, text in first.items())
    assert await all_at_once(Cassette(tmp_path / "c.jsonl")) == first


async def test_once_records_only_where_there_is_no_file(tmp_path: Path, box: Sandbox) -> None:
    for _ in range(2):
        async with Cassette(tmp_path / "c.jsonl", mode="once") as tape:
            await ask(box.model(), tape)
    assert len(box.requests) == 1
    assert not tape.recording
    assert tape.requests[0][0].endswith("/chat/completions")


async def test_another_host_is_played_the_same(tmp_path: Path, box: Sandbox) -> None:
    first = await recorded(tmp_path / "c.jsonl", box.model())
    path = box.base_url("openai-completions").removeprefix(box.url)
    moved = box.model(base_url=f"http://127.0.0.1:9{path}")
    assert content(await ask(moved, Cassette(tmp_path / "c.jsonl"))) == content(first)


async def test_a_request_that_was_not_recorded_is_told_with_what_is_different(tmp_path: Path, box: Sandbox) -> None:
    await recorded(tmp_path / "c.jsonl", box.model())
    tape = Cassette(tmp_path / "c.jsonl")
    [event] = await ask(box.model(), tape, Context([UserMessage("How is the weather in Oslo?")]))
    info = event.error.error_info
    assert info.kind == "config"
    assert '-   "content": "How is the weather in Zürich?",' in info.message
    assert '+   "content": "How is the weather in Oslo?",' in info.message
    await ask(box.model(), tape)
    [event] = await ask(box.model(), tape)
    assert "1 of its 1 answers were played" in event.error.error_info.message


async def test_nothing_secret_is_written(tmp_path: Path, box: Sandbox) -> None:
    """Not in headers, nor where the server or the prompt repeat it in one piece."""
    box.script(
        Turn(f"You sent {KEY} and 4111-1111", piece_size=1000),
        delivery=Delivery(headers={"Set-Cookie": "session=canary-cookie", "X-Account": "canary-account"}),
    )
    model = box.model()
    context = Context([UserMessage(f"My key is {KEY}.")])
    headers = {"X-Team": "canary-team"}
    async with Cassette(
        tmp_path / "c.jsonl", mode="record", scrub=lambda text: text.replace("4111-1111", "<card>")
    ) as tape:
        await ask(model, tape, context, headers=headers)
    text = (tmp_path / "c.jsonl").read_text()
    assert "canary" not in text
    assert "4111-1111" not in text
    # The words are there in one piece, so that they can be blotted out; and what is sent again is recognised.
    again = Cassette(tmp_path / "c.jsonl", scrub=lambda text: text.replace("4111-1111", "<card>"))
    assert (await ask(model, again, context, headers=headers))[-1].type == "done"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (
            "https://me:canary@a.example/v1/x?key=canary&alt=sse#canary",
            "https://a.example/v1/x?key=%5Bredacted%5D&alt=sse",
        ),
        (f"https://a.example/accounts/{'c0ffee' * 5}00/ai", "https://a.example/accounts/[redacted]/ai"),
        ("https://a.example/arn/123456789012/m", "https://a.example/arn/[redacted]/m"),
    ],
)
async def test_an_url_is_written_without_what_may_be_secret(url: str, told: str) -> None:
    tape = Cassette("never written", mode="record", client=lambda: pytest.fail("nothing is sent"))
    with pytest.raises(pytest.fail.Exception):
        await tape.send(tape.build_request("GET", url))
    assert tape.requests == [(told, b"")]


async def test_a_client_of_ones_own_records(tmp_path: Path, box: Sandbox) -> None:
    made: list[httpx.AsyncClient] = []

    def client() -> httpx.AsyncClient:
        made.append(httpx.AsyncClient(headers={"X-Mine": "1"}))
        return made[-1]

    async with Cassette(tmp_path / "c.jsonl", mode="record", client=client) as tape:
        await ask(box.model(), tape)
    assert box.requests[0].headers["x-mine"] == "1"
    assert [each.is_closed for each in made] == [True]


def test_files_that_are_none_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no recording.*--pi-ai-record=once"):
        Cassette(tmp_path / "none.jsonl")
    for text, words in [
        ("no JSON", "is no cassette"),
        ("{}", "is no cassette"),
        ('{"pi_ai_cassette": 2}', "version 2"),
        ('{"pi_ai_cassette": 1}\n{"what": 1}', "no part of a cassette"),
    ]:
        (tmp_path / "c.jsonl").write_text(text)
        with pytest.raises(ConfigError, match=words):
            Cassette(tmp_path / "c.jsonl")
    with pytest.raises(ValueError, match="mode must be one of"):
        Cassette(tmp_path / "c.jsonl", mode="both")  # type: ignore[arg-type]
