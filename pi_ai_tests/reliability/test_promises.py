"""Faults and promises that concern no module in particular."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import pi_ai
from pi_ai import Context, Model, Registry, UserMessage, event_stream
from pi_ai.builder import MessageBuilder
from pi_ai.testing import Delivery, Sandbox
from pi_ai.testing.server import Answer, Received, Server
from pi_ai_tests.conftest import BACKENDS
from pi_ai_tests.reliability.rigs import CONTEXT, TURN, every_api, said
from pi_ai_tests.test_surface import ROOT

SOURCES = sorted(Path(pi_ai.__file__).parent.rglob("*.py"))


def test_every_async_test_runs_on_asyncio_and_trio_and_where_there_is_uvloop_on_that_F67() -> None:
    assert {"asyncio", "trio"} <= {backend.id for backend in BACKENDS} <= {"asyncio", "uvloop", "trio"}


def test_there_is_a_security_policy_with_a_private_way_to_report_X34() -> None:
    policy = (ROOT / "SECURITY.md").read_text(encoding="utf-8").lower()
    assert "report" in policy
    assert "private" in policy


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(SOURCES[0].parent).as_posix())
def test_nothing_that_comes_from_outside_is_run_or_unpickled_X18_X25(source: Path) -> None:
    """No pickle, no YAML, no eval, nothing that writes or connects while it is imported."""
    tree = ast.parse(source.read_bytes())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name.partition(".")[0] for name in imported} & {"pickle", "marshal", "shelve", "yaml", "dill"}
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & {"eval", "exec"}


@every_api
@pytest.mark.anyio
async def test_a_url_in_a_message_is_not_fetched_X19(api: str) -> None:
    async def nobody(request: Received, answer: Answer) -> None:
        await answer.whole(200, {}, b"")

    async with Server(nobody) as elsewhere, Sandbox(f"Look at {elsewhere.url}/a.png") as box, Registry() as pi:
        link = f"![a picture]({elsewhere.url}/b.png) <img src='{elsewhere.url}/c.png'>"
        message = await pi.complete(box.model(api), Context([UserMessage(link)]))
        assert elsewhere.url in message.text
        assert elsewhere.connections == 0


@pytest.mark.anyio
async def test_a_model_that_the_catalogue_does_not_know_is_usable_and_costs_nothing_F98() -> None:
    async with Sandbox(TURN) as box, Registry() as pi:
        with pytest.raises(LookupError):
            pi.get_model("sandbox", "of-my-own")
        message = await pi.complete(box.model(id="of-my-own"), CONTEXT)
        assert message.stop_reason == "toolUse"
        assert message.usage.total_tokens
        assert message.usage.cost.total == 0


@pytest.mark.anyio
async def test_who_is_registered_twice_is_the_last_one_and_a_stream_keeps_its_own_F101() -> None:
    async with Sandbox(TURN, "the second", delivery=Delivery(events_per_write=2)) as box, Registry() as pi:
        first, second = box.model(provider="mine", id="one"), box.model(provider="mine", id="two")
        key: dict[str, Any] = {"api": first.api, "base_url": first.base_url, "api_key": "k"}
        pi.register_provider("mine", models=[first], **key)
        events = pi.stream(pi.get_model("mine", "one"), CONTEXT)
        await anext(events)
        pi.register_provider("mine", models=[second], **key)
        pi.unregister_provider("mine")
        message = await events.result()
        assert message.stop_reason == "toolUse"
        assert len(said(message)) == 3
        pi.register_provider("mine", models=[first], **key)
        pi.register_provider("mine", models=[second], **key)
        assert [model.id for model in pi.get_models("mine")] == ["two"]


@pytest.mark.anyio
@pytest.mark.parametrize("way", ["raises", "yields nothing", "goes on after its end", "says no event"])
async def test_a_source_that_breaks_the_rules_is_an_error_or_is_cut_F99(way: str) -> None:
    model = Model(id="m", api="mine", provider="mine", base_url="")

    async def source() -> Any:
        out = MessageBuilder(model)
        if way == "yields nothing":
            return
        yield out.start()
        yield out.text("It is")
        if way == "raises":
            raise ZeroDivisionError
        if way == "says no event":
            yield "sunny"
        yield out.finish("stop")
        yield out.start()

    events = event_stream(source(), model=model)
    seen = [event.type async for event in events]
    message = events.message
    if way == "goes on after its end":
        assert seen[-1] == "done"
        assert message.stop_reason == "stop"
    else:
        assert seen[-1] == "error"
        assert message.error_info is not None
        assert message.error_info.kind == ("truncated" if way == "yields nothing" else "internal")
        assert message.error_info.provider == "mine"
        assert message.text == ("" if way == "yields nothing" else "It is")
    assert seen.count("done") + seen.count("error") == 1
