"""The README: every example in it runs, and what it lists is what there is.

The examples run as they stand, one after the other. Only the network is replaced: every request goes to a scripted
server on this machine, whatever its URL, and ``# → text`` in an example says what it prints.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
from typing import get_args
from urllib.parse import urlsplit

import anyio
import attrs
import pytest
from anyio.from_thread import start_blocking_portal

from pi_ai import ErrorKind, get_model
from pi_ai import cli as cli_module
from pi_ai.adapters import get_api
from pi_ai.cli import models
from pi_ai.errors import ConfigError
from pi_ai.events import TerminalEvent, UpdateEvent
from pi_ai.providers import local
from pi_ai.providers.catalogue import get_models
from pi_ai.testing import Sandbox
from pi_ai.testing.server import Server
from pi_ai.types import DEFAULT_TIMEOUTS, KnownApi
from pi_ai_tests.documents import Document, reroute
from pi_ai_tests.rigs import END, SSE, chunk
from pi_ai_tests.test_cli import PIXEL
from pi_ai_tests.test_surface import ROOT

DOCUMENT = Document(ROOT / "README.md")
README, blocks = DOCUMENT.text, DOCUMENT.blocks


def rows(heading):
    """The cells of the table whose first column has this heading."""
    table = README[README.index(f"| {heading} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


def chapter(title):
    """What stands under a heading of the second level."""
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def words(cell):
    return re.findall(r"`([^`]+)`", cell)


# ── the examples ─────────────────────────────────────────────────────────────────────────────────────────────


def delta(**fields):
    return b"data: %s\n\n" % json.dumps({"id": "c1", "choices": [{"index": 0, "delta": fields}]}).encode()


def tool_call(name, arguments):
    return [{"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}]


async def provider(request, answer):
    """Refuses a wrong key, calls the first tool that it is offered, thinks when asked to, and explains."""
    body = request.json
    if request.headers.get("authorization") == "Bearer wrong":
        await answer.whole(401, {"content-type": "application/json"}, b'{"error": {"message": "Invalid API key"}}')
        return
    await answer.head(200, SSE)
    if body.get("tools") and body["messages"][-1]["role"] != "tool":  # a forced call of the local model is begun
        await answer.send(delta(tool_calls=tool_call(body["tools"][0]["function"]["name"], '{"zone": "Asia/Tokyo"}')))
        await answer.send(chunk(finish="tool_calls") + b"data: [DONE]\n\n")
    else:
        await answer.send(delta(reasoning_content="Hm. "))
        for word in ("An ", "adiabatic ", "process ", "exchanges ", "no ", "heat."):
            await answer.send(chunk(word))
        with anyio.move_on_after(0.05):  # what comes in one read with the end is an answer that nobody can leave early
            await request.gone.wait()
        await answer.send(END)
    await answer.end()


@pytest.fixture
def world(monkeypatch, tmp_path):
    """A world in which every server is ours, every key is set, and there is a picture of a cat."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(Server(provider)) as server:
        reroute(monkeypatch, lambda url: server.url + urlsplit(url).path)
        monkeypatch.setattr(local, "endpoint", lambda _: local.Endpoint(base_url=f"{server.url}/v1", api_key="key"))
        for name in ("OPENROUTER_API_KEY", "GROQ_API_KEY"):
            monkeypatch.setenv(name, "key")
        (tmp_path / "cat.png").write_bytes(PIXEL)
        monkeypatch.chdir(tmp_path)
        yield server


def test_every_example_runs_and_prints_what_it_says(world, anyio_backend, capsys):
    names = {"__name__": "readme"}
    for line, text in blocks("python"):
        before = names.get("message")
        DOCUMENT.play_and_check(line, text, names, anyio_backend, capsys)
        if (message := names.get("message")) is not before:
            assert (message.error_info is None) == ("wrong" not in text)
    assert len(world.requests) > 15
    assert {request.headers["host"] for request in world.requests} == {urlsplit(world.url).netloc}


@pytest.mark.live
@pytest.mark.skipif(not local.is_available(), reason="the local model is not installed")
def test_the_quick_start_runs_on_the_real_model(capsys):
    DOCUMENT.play(*blocks("python")[0], {"__name__": "readme"}, ("asyncio", {}))
    assert len(capsys.readouterr().out.split()) > 3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_web_applications_stream_and_refuse_what_is_no_conversation():
    client_of = pytest.importorskip("starlette.testclient", reason="starlette is not installed").TestClient
    plain, resuming = re.findall(r"^```py\n(.*?)^```", chapter("To the browser: bridges"), re.MULTILINE | re.DOTALL)
    posted = {"id": "1", "messages": [{"role": "user", "parts": [{"type": "text", "text": "Hi"}]}]}
    with Sandbox().in_thread() as box:
        for code in (plain, f"{plain}\n{resuming}"):
            names = {"__name__": "app"}
            exec(code, names)
            names["model"] = box.model()
            with client_of(names["app"]) as client:
                answer = client.post("/api/chat", json=posted)
                assert answer.headers["content-type"].startswith("text/event-stream")
                assert answer.text.endswith("data: [DONE]\n\n")
                assert client.post("/api/chat", json={"messages": []}).status_code == 400
                assert client.post("/api/chat", content=b"?").status_code == 400
                if code is plain:
                    assert '"text-delta"' in client.get("/ask?prompt=Hi").text
                else:
                    assert client.get("/api/chat/1/stream").text == answer.text
                    assert client.get("/api/chat/2/stream").status_code == 204
                    assert client.delete("/api/chat/1").status_code == 204


# ── the commands ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_command_lines_are_command_lines(monkeypatch):
    monkeypatch.delenv("PI_AI_MODEL", raising=False)
    texts = [text for _, text in [*blocks("console"), *blocks("sh")]]
    commands = [match for text in texts for match in re.findall(r"pi-ai ((?:stream|chat|doctor) [^|>\n]*)", text)]
    assert len(commands) > 5
    for command in commands:
        parsed = cli_module._parser().parse_args(shlex.split(command))
        assert isinstance(parsed, argparse.Namespace)


def test_ci_runs_the_tests_as_the_readme_says():
    (command,) = [text for _, text in blocks("sh") if "pytest" in text]
    *_, install, test = command.strip().split(" && ")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").replace(" --quiet", "").splitlines()
    assert install in ci
    assert ci[-1] == test == "pytest"


# ── the tables and the figures ───────────────────────────────────────────────────────────────────────────────


def test_the_table_of_events_is_complete():
    listed = [name for row in rows("event") for name in words(row[0])]
    assert sorted(listed) == sorted(event.__name__ for event in (*get_args(UpdateEvent), *get_args(TerminalEvent)))


def test_the_table_of_kinds_is_complete():
    listed = [name for row in rows("kind") for name in words(row[0])]
    assert sorted(listed) == sorted(get_args(ErrorKind))


def test_the_table_of_clocks_gives_the_defaults():
    given = {
        words(row[0])[0]: None if row[1] == "none" else int(row[1].replace(",", ""))
        for row in rows("clock of `Timeouts`")
    }
    assert given == attrs.asdict(DEFAULT_TIMEOUTS)


def test_the_table_of_apis_tells_the_truth():
    table = {api: row[1] for row in rows("API") for api in words(row[0])}
    assert {api for api, status in table.items() if status == "works"} == set(get_args(KnownApi))
    assert table.keys() == {model.api for model in get_models()}
    for api, status in table.items():
        if status == "works":
            assert get_api(api).api == api
        else:
            with pytest.raises(ConfigError):
                get_api(api)


def test_the_number_of_models_is_right():
    assert f"{len(get_models()):,} models" in README


def test_the_default_models_are_listed_in_their_order():
    place = README.index("Without `--model`")
    listed = [word for word in words(README[place:].split("\n\n")[0]) if "/" in word]
    assert listed == list(models.DEFAULT_MODELS)
    assert all(get_model(*models.provider_and_id(name)) for name in listed)
