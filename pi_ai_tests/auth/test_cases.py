"""The case table of credentials (auth section 3), row by row, as a program sees it: a registry, its files, a server."""

from __future__ import annotations

import json
from typing import Any

import anyio
import attrs
import pytest

from pi_ai import Context, Registry, UserMessage
from pi_ai.auth import store as store_module
from pi_ai.auth.store import FileCredentialStore
from pi_ai.errors import PiAIError
from pi_ai.testing.server import Server
from pi_ai_tests.auth.rigs import Flow, Person, oauth
from pi_ai_tests.rigs import END, SSE, chunk

pytestmark = pytest.mark.anyio
CONTEXT = Context([UserMessage("Hi")])
STORED = {"type": "api_key", "key": "stored"}


@pytest.fixture
async def place(tmp_path, monkeypatch):
    """A program with the provider ``groq`` (no login of its own) and a server in its place."""
    monkeypatch.setenv("GROQ_API_KEY", "environment")
    monkeypatch.delenv("PI_AI_T_NOT_SET", raising=False)

    async def answer(request, answer):
        await answer.whole(200, SSE, chunk("Hello") + END)

    async with Server(answer) as server:
        yield Place(tmp_path, server)


class Place:
    def __init__(self, folder, server) -> None:
        self.folder, self.server = folder, server
        self.path = folder / "auth.json"
        self.pi: Any = None

    def registry(self, stored: Any = None, *, file: str | None = None, **registered: Any) -> Registry:
        """A program that was started with what is stored for ``groq``, and with a ``models.json``.

        :param file: the key that ``models.json`` has.
        """
        models = {"groq": {"baseUrl": self.server.url, **({"apiKey": file} if file else {})}}
        (self.folder / "models.json").write_text(json.dumps({"providers": models}))
        if stored is not None:
            self.path.write_text(stored if isinstance(stored, str) else json.dumps({"groq": stored, "other": STORED}))
            self.path.chmod(0o600)
        self.pi = Registry(models_path=self.folder / "models.json", credentials=FileCredentialStore(self.path))
        if registered:
            self.pi.register_provider("groq", registered)
        return self.pi

    async def ask(self) -> str:
        """The key that a request was sent with; else the error that it ended with."""
        message = await self.pi.complete(self.pi.get_models("groq")[0], CONTEXT)
        if message.error_message is not None:
            return message.error_message
        return self.server.requests[-1].headers["authorization"].removeprefix("Bearer ")

    def entries(self) -> Any:
        return json.loads(self.path.read_text())


async def test_of_a_stored_key_one_in_a_file_and_a_variable_the_stored_one_a40(place):
    pi = place.registry(STORED, file="from the file")
    assert await place.ask() == "stored"
    await pi.logout("groq")
    assert await place.ask() == "from the file"
    place.registry()
    assert await place.ask() == "environment"


async def test_a_registered_key_is_above_the_files_and_a_runtime_key_above_all_a40_a35(place):
    pi = place.registry(STORED, file="from the file", api_key="registered")
    pi.set_runtime_api_key("groq", "runtime")
    assert await place.ask() == "runtime"
    pi.remove_runtime_api_key("groq")
    await pi.logout("groq")
    assert await place.ask() == "registered"


async def test_a_stored_key_whose_variable_is_not_set_leaves_it_to_the_providers_variable_a41(place):
    place.registry({"type": "api_key", "key": "$PI_AI_T_NOT_SET"})
    assert await place.ask() == "environment"


async def test_a_stored_login_of_a_provider_without_one_is_not_configured_a41_a42(place):
    place.registry(oauth())
    assert await place.ask() == "Provider is not configured: groq"
    assert place.server.requests == []


async def test_an_unknown_provider_is_said_to_be_unknown_a42(place):
    pi = place.registry()
    model = attrs.evolve(pi.get_models("groq")[0], provider="nobody", base_url="https://nobody.example")
    with pytest.raises(LookupError, match="nobody"):
        await pi.get_auth("nobody")
    assert (await pi.complete(model, CONTEXT)).error_info.kind == "auth"


@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
async def test_a_variable_that_is_blank_is_not_set_a42(place, monkeypatch, blank):
    monkeypatch.setenv("GROQ_API_KEY", blank)
    pi = place.registry()
    assert not pi.has_configured_auth("groq")
    assert await pi.get_auth("groq") is None


@pytest.mark.parametrize(("left_s", "key"), [(240, "a1"), (360, "a0"), (-5, "a1")])
async def test_a_login_with_four_minutes_left_is_refreshed_and_one_with_six_is_not_a43(place, left_s, key):
    place.registry(oauth(expires_in=left_s), oauth=Flow().config())
    assert await place.ask() == key


async def test_four_requests_with_an_expired_login_cause_one_refresh_a44(place):
    flow, keys = Flow(), []
    place.registry(oauth(expires_in=0), oauth=flow.config())

    async def ask():
        keys.append(await place.ask())

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(ask)
    assert keys == ["a1"] * 4
    assert flow.refreshed == ["r0"]
    assert place.entries()["other"] == STORED  # what is another's stays


async def test_a_refresh_that_raises_is_an_error_though_a_key_is_configured_a46(place):
    flow = Flow()
    flow.error = RuntimeError("out of order")
    place.registry(oauth(expires_in=0), oauth=flow.config(), api_key="configured")
    before = place.path.read_bytes()
    assert await place.ask() == "OAuth refresh failed for groq: out of order"
    assert place.path.read_bytes() == before


async def test_a_caller_who_is_cancelled_in_a_refresh_leaves_the_new_token_in_the_file_a50(place):
    flow = Flow()
    flow.gate = anyio.Event()
    pi = place.registry(oauth(expires_in=0), oauth=flow.config())
    came_back = []

    async def ask():
        came_back.append(await place.ask())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await flow.begun.wait()
        tasks.cancel_scope.cancel()
    flow.gate.set()
    await pi.settle_credential_writes()
    assert came_back == []
    assert place.entries()["groq"]["refresh"] == "r1"


async def test_a_login_that_cannot_say_its_key_is_an_error_a47(place):
    place.registry(oauth(), oauth=Flow().config(get_api_key=lambda credential: credential["no such"]))
    assert (await place.ask()).startswith("OAuth auth derivation failed for groq: ")


async def test_a_file_that_is_broken_is_left_alone_by_requests_logins_and_logouts_a15(place, monkeypatch):
    monkeypatch.setattr(store_module, "READ_PAUSE_S", 0)
    pi = place.registry("{bad", oauth=Flow().config())
    assert "cannot be read" in await place.ask()
    for use in (pi.login("groq", "oauth", Person()), pi.logout("groq"), pi.get_auth("groq")):
        with pytest.raises(PiAIError) as caught:
            await use
        assert caught.value.info.kind == "auth"
    assert place.path.read_text() == "{bad"


async def test_files_of_old_versions_are_neither_read_nor_changed_a16(place, monkeypatch):
    """Moving them is pi's business."""
    monkeypatch.setenv("PI_CODING_AGENT_DIR", str(place.folder))
    monkeypatch.delenv("GROQ_API_KEY")
    old = {
        "oauth.json": json.dumps({"groq": {"access": "old", "refresh": "old", "expires": 9007199254740991}}),
        "settings.json": json.dumps({"apiKeys": {"groq": "old"}}),
    }
    for name, content in old.items():
        (place.folder / name).write_text(content)
    pi = Registry(models_path=None)
    assert await pi.get_auth("groq") is None
    assert pi.get_provider_auth_status("groq").configured is False
    await pi.login("groq", "api_key", Person("new"))
    assert {name: (place.folder / name).read_text() for name in old} == old
    assert place.entries() == {"groq": {"type": "api_key", "key": "new"}}
