"""One secret that is looked for everywhere it must not be: logs at debug, reprs, JSON, tracebacks with locals.

X1, X2, X29, T14; A5.
"""

from __future__ import annotations

import gc
import io
import json
import logging
import traceback
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest

from pi_ai import Registry, dumps, to_json
from pi_ai.auth.credentials import Credential
from pi_ai.auth.store import FileCredentialStore, InMemoryCredentialStore
from pi_ai.errors import PiAIError
from pi_ai.oauth import Auth, AuthorizationCodeFlow, DeviceCodeFlow, Secret
from pi_ai.testing.server import Server
from pi_ai_tests.auth.rigs import Flow, Person, form, oauth
from pi_ai_tests.auth.test_registry import CONTEXT, Guarded

pytestmark = pytest.mark.anyio


class Canaries:
    """Collects whatever people and programs could see."""

    def __init__(self) -> None:
        self.log = io.StringIO()
        self.seen: list[str] = []

    def look(self, *things: object) -> None:
        for thing in things:
            self.seen += [repr(thing), str(thing)]
            if isinstance(thing, BaseException):
                self.trace(thing)

    def trace(self, error: BaseException) -> None:
        lines = traceback.TracebackException.from_exception(error, capture_locals=True).format()
        ours = [line for line in lines if "/pi_ai_tests/" not in line]
        self.seen += ours
        context = error.__context__
        if context is not None and context is not error.__cause__:
            self.trace(context)


@pytest.mark.parametrize("status", [200, 400, 401, 500, "reset"])
async def test_a_secret_shows_nowhere_but_where_it_is_sent_x1_x2_t14(tmp_path, status, caplog):
    """Refreshing over HTTP, using, failing, listing: with all loggers at debug and tracebacks with locals."""
    caplog.set_level(logging.DEBUG)
    canaries, path = Canaries(), tmp_path / "auth.json"
    secrets = [f"canary-{name}-7f3a" for name in ("refresh", "access", "newrefresh", "newaccess", "key", "client")]
    refresh, access, new_refresh, new_access, key, client = secrets
    path.write_text(json.dumps({"corp": oauth(access, refresh, 0), "keyed": {"type": "api_key", "key": key}}))
    path.chmod(0o600)
    tokens = {"access_token": new_access, "refresh_token": new_refresh, "expires_in": 3600}

    async def endpoint(request, answer):
        if status == "reset":
            await answer.reset()
        echoed = {"error": "invalid_grant", "error_description": f"token={form(request.body)['refresh_token']}"}
        await answer.whole(status, {}, json.dumps(tokens if status == 200 else echoed).encode())

    guarded = Guarded(new_access)
    async with Server(endpoint) as server, guarded.server:
        flow = DeviceCodeFlow(
            name="Corp", device_url="", token_url=server.url, client_id="mine", client_secret=Secret(client)
        )
        store = FileCredentialStore(path)
        pi = Registry(models_path=None, credentials=store)
        fields = {"base_url": guarded.server.url, "api": "openai-completions", "models": [{"id": "m"}]}
        pi.register_provider("corp", {**fields, "oauth": flow.config()})
        pi.register_provider("keyed", {**fields, "auth_header": True})
        for name in ("corp", "keyed"):
            model = pi.get_model(name, "m")
            stream = pi.stream(model, CONTEXT)
            async for event in stream:
                canaries.look(event)
            message = stream.message
            canaries.look(stream, message, message.error_info, to_json(message), pi.get_provider(name))
            if message.error_info is not None:
                canaries.look(message.error_info.exception())
                if message.error_info.cause is not None:
                    canaries.look(message.error_info.cause)
            try:
                canaries.look(await pi.get_auth(name))
            except PiAIError as error:
                canaries.look(error)
            canaries.look(pi.get_provider_auth_status(name), await store.list(), await store.read(name))
        canaries.look(store, pi, flow, flow.config(), Credential(oauth(access, refresh)))
        sent = [request.body for request in server.requests]
    gc.collect()
    assert any(refresh.encode() in body for body in sent) or status == "reset"
    shown = "\n".join([*canaries.seen, caplog.text, canaries.log.getvalue()])
    for secret in secrets:
        assert secret not in shown, [line for line in shown.splitlines() if secret in line][:3]


# ── wherever a key comes from ────────────────────────────────────────────────────────────────────────────────

SHOWN = "opaque-5e1f7a90-canary"
"""Looks like no vendor's key, so that nothing can know it by its looks. No local variable of a test holds it."""


def by_option(pi, monkeypatch, tmp_path):
    return {"api_key": SHOWN}


def by_header(pi, monkeypatch, tmp_path):
    return {"headers": {"Authorization": f"Bearer {SHOWN}"}}


def by_runtime_key(pi, monkeypatch, tmp_path):
    pi.set_runtime_api_key("corp", SHOWN)


def by_registration(pi, monkeypatch, tmp_path):
    pi.register_provider("corp", api_key=SHOWN)


def by_registered_header(pi, monkeypatch, tmp_path):
    pi.register_provider("corp", headers={"Authorization": f"Bearer {SHOWN}"})


def by_variable(pi, monkeypatch, tmp_path):
    monkeypatch.setenv("PI_AI_T_CANARY", SHOWN)
    pi.register_provider("corp", api_key="$PI_AI_T_CANARY", auth_header=True)


def by_command(pi, monkeypatch, tmp_path):
    (tmp_path / "key").write_text(SHOWN)
    pi.register_provider("corp", api_key=f"!cat {tmp_path / 'key'}")


def by_env_of_the_call(pi, monkeypatch, tmp_path):
    pi.register_provider("corp", api_key="$PI_AI_T_CANARY")
    return {"env": {"PI_AI_T_CANARY": SHOWN}}


def by_login(pi, monkeypatch, tmp_path):
    pi.register_provider("corp", oauth=Flow().config())
    pi.credentials._entries["corp"] = Credential(oauth(SHOWN))


def by_a_logins_header(pi, monkeypatch, tmp_path):
    use = Flow().config(request_auth=lambda login: Auth(headers={"Authorization": f"Bearer {login.access}"}))
    pi.register_provider("corp", oauth=use)
    pi.credentials._entries["corp"] = Credential(oauth(SHOWN))


def by_stored_key(pi, monkeypatch, tmp_path):
    pi.credentials._entries["corp"] = Credential.api_key("$PI_AI_T_CANARY", {"PI_AI_T_CANARY": SHOWN})


SOURCES = [given for name, given in globals().items() if name.startswith("by_")]


@pytest.mark.parametrize("given", SOURCES, ids=lambda given: given.__name__)
async def test_a_key_shows_nowhere_wherever_it_comes_from_x1_x2_x29(given, monkeypatch, tmp_path, caplog):
    """Used with success, and refused by a server that quotes what it got."""
    caplog.set_level(logging.DEBUG)
    canaries, guarded = Canaries(), Guarded("")
    guarded.good = SHOWN
    async with guarded.server:
        pi = Registry(models_path=None, credentials=InMemoryCredentialStore())
        fields = {"base_url": guarded.server.url, "api": "openai-completions", "models": [{"id": "m"}]}
        pi.register_provider("corp", fields)
        options = given(pi, monkeypatch, tmp_path) or {}
        for expected in ("stop", "error"):
            stream = pi.stream(pi.get_model("corp", "m"), CONTEXT, **options)
            async for event in stream:
                canaries.look(event)
            message = stream.message
            assert message.stop_reason == expected, message.error_message
            canaries.look(stream, message, to_json(message), dumps(message), pi.get_model("corp", "m"))
            guarded.good = "another"
        try:
            message.raise_for_error()
        except PiAIError as error:
            canaries.look(error, error.info)
        canaries.look(pi, pi.get_provider("corp"), pi.get_provider_auth_status("corp"), pi.get_error())
        if not options:
            canaries.look(await pi.get_auth("corp"), await pi.credentials.read("corp"), await pi.credentials.list())
    assert any(SHOWN in request.headers["authorization"] for request in guarded.server.requests)
    shown = "\n".join([*canaries.seen, caplog.text])
    assert SHOWN not in shown, [line for line in shown.splitlines() if SHOWN in line][:3]


@pytest.mark.parametrize("how", ["browser", "paste"])
@pytest.mark.parametrize("status", [200, 400])
async def test_nothing_of_a_login_shows_x1_x2_x14(status, how, caplog):
    """The code, the verifier and the tokens of a login with a browser; the server's refusal quotes its request."""
    caplog.set_level(logging.DEBUG)
    canaries, secrets, pages = Canaries(), [], []
    person = Person(*(["code-3b7d-canary"] if how == "paste" else []))

    async def endpoint(request, answer):
        sent = form(request.body)
        secrets.extend([sent["code"], sent["code_verifier"]])
        tokens = {"access_token": SHOWN, "refresh_token": SHOWN + "-next", "expires_in": 60, "error": str(sent)}
        await answer.whole(status, {}, json.dumps(tokens).encode())

    async def browser():
        await person.seen.wait()
        query = parse_qs(urlsplit(person.events[0].url).query)
        back = urlsplit(query["redirect_uri"][0])
        target = f"{back.path}?code=code-3b7d-canary&state={query['state'][0]}"
        async with await anyio.connect_tcp(back.hostname, back.port) as stream:
            await stream.send(f"GET {target} HTTP/1.1\r\nHost: {back.netloc}\r\n\r\n".encode())
            try:
                while True:
                    pages.append((await stream.receive()).decode())
            except anyio.EndOfStream:
                pass

    async with Server(endpoint) as server:
        flow = AuthorizationCodeFlow(
            name="Corp", authorize_url="https://login.example/", token_url=server.url, client_id="mine"
        )
        pi = Registry(models_path=None, credentials=InMemoryCredentialStore())
        pi.register_provider("corp", base_url=server.url, api="openai-completions", oauth=flow.config())
        async with anyio.create_task_group() as tasks:
            if how == "browser":
                tasks.start_soon(browser)
            try:
                canaries.look(await pi.login("corp", "oauth", person))
            except PiAIError as error:
                assert status == 400
                canaries.look(error, error.info, error.__cause__)
    canaries.look(pi, flow, pi.get_provider("corp"), pi.get_provider_auth_status("corp"))
    assert secrets[0] == "code-3b7d-canary"
    shown = "\n".join([*canaries.seen, *pages, caplog.text])
    for secret in (*secrets, SHOWN):
        assert secret not in shown, [line for line in shown.splitlines() if secret in line][:3]
