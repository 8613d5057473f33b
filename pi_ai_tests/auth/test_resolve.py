"""Which credential a request gets, refreshing, logging in and out (A35, A40-A64, D-3, D-4; F86-F90, F92, F95)."""

from __future__ import annotations

import json
import os
import sys
import textwrap
import threading
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import anyio
import anyio.lowlevel
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from pi_ai.auth import refresh as refresh_module
from pi_ai.auth.credentials import Credential
from pi_ai.auth.oauth.flows import DeviceCodeFlow
from pi_ai.auth.resolve import Authenticator, CredentialSynchronizationError
from pi_ai.auth.store import FileCredentialStore, InMemoryCredentialStore
from pi_ai.errors import AuthError, ConfigError, OAuthError, PiAIError
from pi_ai.testing.server import Server
from pi_ai_tests.auth.rigs import CANARY, Flow, Person, Subject, form, ms, oauth

pytestmark = pytest.mark.anyio
KEY = {"type": "api_key", "key": "stored"}


def authenticator(**entries) -> Authenticator:
    return Authenticator(InMemoryCredentialStore(entries))


# ── which source ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_first_source_that_applies_decides_a35_a40_r105():
    auth = authenticator(x=KEY)
    provider = Subject(configured="configured", ambient="ambient")
    auth.set_runtime_api_key("x", "runtime")
    assert (await auth.resolve(provider, api_key="explicit")).api_key == "explicit"
    assert (await auth.resolve(provider, api_key="")).api_key == "runtime"
    auth.remove_runtime_api_key("x")
    assert (await auth.resolve(provider)).api_key == "stored"
    await auth.logout("x")
    assert (await auth.resolve(provider)).api_key == "configured"
    provider.configured = None
    assert (await auth.resolve(provider)).api_key == "ambient"
    provider.ambient = None
    assert await auth.resolve(provider) is None


async def test_a_configured_key_that_cannot_be_resolved_is_an_error_and_not_the_environments_turn_a40(monkeypatch):
    monkeypatch.delenv("PI_AI_T_NONE", raising=False)
    with pytest.raises(ConfigError, match="PI_AI_T_NONE"):
        await authenticator().resolve(Subject(configured="$PI_AI_T_NONE", ambient="ambient"))


async def test_a_stored_key_that_is_not_there_leaves_it_to_the_environment_a41_a3(monkeypatch):
    monkeypatch.delenv("PI_AI_T_NONE", raising=False)
    monkeypatch.setenv("GROQ_API_KEY", "from-env")
    provider = Subject("groq")
    auth = authenticator(groq={"type": "api_key", "key": "$PI_AI_T_NONE"})
    assert (await auth.resolve(provider)).api_key == "from-env"
    auth = authenticator(groq={"type": "api_key", "env": {"GROQ_API_KEY": "own", "REGION": "eu"}})
    resolved = await auth.resolve(provider)
    assert (resolved.api_key, resolved.env["REGION"]) == ("own", "eu")
    assert (await auth.resolve(provider, env={"GROQ_API_KEY": "of the request"})).api_key == "of the request"


@pytest.mark.parametrize(
    ("entry", "provider"),
    [
        (oauth(), Subject(ambient="ambient")),
        (KEY, Subject(ambient="ambient", takes_api_key=False, oauth=Flow().config())),
        ({"type": "future"}, Subject(ambient="ambient")),
    ],
)
async def test_a_stored_credential_that_the_provider_has_no_use_for_leaves_it_unconfigured_a41_f95(entry, provider):
    assert await authenticator(x=entry).resolve(provider) is None


async def test_a_malformed_login_is_an_error_a4():
    with pytest.raises(AuthError, match="Invalid"):
        await authenticator(x={"type": "oauth", "access": "a", "refresh": "r"}).resolve(Subject(oauth=Flow().config()))


# ── refreshing ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("left", "refreshes"), [(240, 1), (360, 0), (-10, 1)])
async def test_a_login_is_refreshed_five_minutes_before_its_end_a43(left, refreshes):
    flow = Flow()
    resolved = await authenticator(x=oauth(expires_in=left)).resolve(Subject(oauth=flow.config()))
    assert len(flow.refreshed) == refreshes
    assert resolved.api_key == f"a{refreshes}"
    assert resolved.is_new == bool(refreshes)


async def test_callers_may_ask_for_more_time_and_are_told_if_it_cannot_be_had_a43():
    flow = Flow(expires_in=1200)
    auth, provider = authenticator(x=oauth(expires_in=1200)), Subject(oauth=flow.config())
    assert (await auth.resolve(provider, min_validity_s=600)).api_key == "a0"
    with pytest.raises(OAuthError, match="OAuth refresh returned a token that expires too soon for x"):
        await auth.resolve(provider, min_validity_s=1800)
    flow.expires_in = 60
    assert (await authenticator(x=oauth(expires_in=0)).resolve(provider)).api_key == "a2"  # accepted without a demand


async def test_many_requests_at_once_cause_one_refresh_a44_f87(tmp_path):
    flow, tokens = Flow(expires_in=60), []
    for store in (InMemoryCredentialStore({"x": oauth(expires_in=0)}), FileCredentialStore(tmp_path / "auth.json")):
        flow.refreshed.clear()
        tokens.clear()

        async def put(_):
            return Credential(oauth(expires_in=0))

        await store.modify("x", put)
        auth = Authenticator(store)

        async def resolve(auth=auth):
            tokens.append((await auth.resolve(Subject(oauth=flow.config()))).api_key)

        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(resolve)
        assert tokens == ["a1"] * 50
        assert flow.refreshed == ["r0"]


async def test_one_look_more_inside_the_lock_finds_what_another_program_has_refreshed_a44_f86(tmp_path):
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"x": oauth(expires_in=0), "other": KEY}))
    path.chmod(0o600)
    store, flow = FileCredentialStore(path), Flow()
    (path.parent / "auth.json.lock").mkdir()
    async with anyio.create_task_group() as tasks:
        resolved = []

        async def resolve():
            resolved.append(await Authenticator(store).resolve(Subject(oauth=flow.config())))

        tasks.start_soon(resolve)
        await anyio.wait_all_tasks_blocked()
        path.write_text(json.dumps({"x": oauth("theirs", "r9"), "other": KEY}))
        (path.parent / "auth.json.lock").rmdir()
    assert (resolved[0].api_key, flow.refreshed, resolved[0].is_new) == ("theirs", [], False)


async def test_a_login_that_was_removed_while_the_lock_was_waited_for_is_not_configured_a44():
    store, flow = InMemoryCredentialStore({"x": oauth(expires_in=0)}), Flow()
    read = store.read

    async def then_gone(provider_id):
        found = await read(provider_id)
        await store.delete(provider_id)
        return found

    store.read = then_gone
    assert await Authenticator(store).resolve(Subject(oauth=flow.config(), ambient="ambient")) is None
    assert flow.refreshed == []


async def test_what_a_refresh_returns_is_stored_but_for_type_and_a_missing_refresh_token_a45_r83_d14():
    store, flow = InMemoryCredentialStore({"x": oauth(expires_in=0, accountId="old")}), Flow()
    flow.result = {"type": "api_key", "access": "new", "refresh": "", "expires": ms(3600), "scope": "s"}
    assert (await Authenticator(store).resolve(Subject(oauth=flow.config()))).api_key == "new"
    stored = dict(await store.read("x"))
    assert stored == {"type": "oauth", "access": "new", "refresh": "r0", "expires": stored["expires"], "scope": "s"}


@pytest.mark.parametrize("sync", [False, True])
async def test_a_refresh_that_fails_leaves_the_login_and_asks_nobody_else_a46_f89_f95(sync):
    flow, store = Flow(), InMemoryCredentialStore({"x": oauth(CANARY, CANARY + "r", 0)})
    flow.error = RuntimeError(f"invalid_grant for {CANARY}")

    def fails(_):
        raise flow.error

    config = flow.config(refresh_token=fails) if sync else flow.config()
    before = dict(await store.read("x"))
    with pytest.raises(
        OAuthError, match=r"^OAuth refresh failed for x: invalid_grant for \[redacted\](\n|$)"
    ) as caught:
        await Authenticator(store).resolve(Subject(oauth=config, configured="configured", ambient="ambient"))
    assert "log in again" in caught.value.info.message
    assert CANARY not in repr(caught.value.info)
    assert dict(await store.read("x")) == before


async def test_a_refresh_that_takes_too_long_fails_a44(monkeypatch):
    monkeypatch.setattr(refresh_module, "REFRESH_TIMEOUT_S", 0.01)
    flow = Flow()
    flow.gate = anyio.Event()
    with pytest.raises(OAuthError, match=r"OAuth refresh failed for x: no answer within 0\.01 s"):
        await authenticator(x=oauth(expires_in=0)).resolve(Subject(oauth=flow.config()))


async def test_of_a_failed_refresh_a_foreign_one_rescues_a46_d3():
    store, flow = InMemoryCredentialStore({"x": oauth(expires_in=0)}), Flow()

    async def fails(_):
        store._entries["x"] = Credential(oauth("theirs"))  # by a program that takes no lock
        raise RuntimeError("invalid_grant")

    resolved = await Authenticator(store).resolve(Subject(oauth=flow.config(refresh_token=fails)))
    assert resolved.api_key == "theirs"


@pytest.mark.parametrize("fails", [lambda _: 1 / 0, None])
async def test_a_login_that_gives_no_key_is_an_error_a47_r82(fails):
    async def later(_):
        raise KeyError("access")

    provider = Subject(oauth=Flow().config(get_api_key=fails or later), ambient="ambient")
    with pytest.raises(OAuthError, match="OAuth auth derivation failed for x: "):
        await authenticator(x=oauth()).resolve(provider)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"access": "a", "expires": ms(60)}, None),
        ({"refresh": "r", "expires": ms(60)}, "refresh of x returned incomplete credentials"),
        ({"access": "a", "refresh": "r"}, "incomplete credentials"),
        ({"access": "a", "refresh": "r", "expires": float("nan")}, "incomplete credentials"),
        ({"access": "a", "refresh": "r", "expires": 1_900_000_000}, "looks like seconds; milliseconds are expected"),
        (None, "incomplete credentials"),
    ],
)
async def test_what_flows_return_is_checked_a71_d6(result, message):
    flow, auth = Flow(), authenticator(x=oauth(expires_in=0))

    async def refresh(_):
        return result

    resolve = auth.resolve(Subject(oauth=flow.config(refresh_token=refresh)))
    if message is None:
        assert (await resolve).api_key == "a"
    else:
        with pytest.raises(OAuthError, match=message):
            await resolve


# ── 401 ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_refused_token_is_refreshed_once_for_all_who_had_it_a48_d4_f92():
    flow, auth = Flow(), authenticator(x=oauth())
    provider = Subject(oauth=flow.config())
    refused = await auth.resolve(provider)
    renewed = []

    async def renew():
        renewed.append(await auth.renewed(provider, refused))

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(renew)
    assert {found.api_key for found in renewed} == {"a1"}
    assert (await auth.renewed(provider, refused)).api_key == "a1"  # who comes later takes what is there
    assert flow.refreshed == ["r0"]
    assert await auth.renewed(provider, renewed[0]) is None  # new, and refused: the login is no good


async def test_a_refused_key_cannot_be_renewed_a48():
    auth, provider = authenticator(x=KEY), Subject(oauth=Flow().config())
    assert await auth.renewed(provider, await auth.resolve(provider)) is None


# ── cancelling ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("native", [False, True])
async def test_a_refresh_that_has_begun_is_saved_though_its_caller_is_cancelled_a50_a51(
    tmp_path, native, anyio_backend
):
    store, flow = FileCredentialStore(tmp_path / "auth.json"), Flow()
    auth, provider = Authenticator(store), Subject(oauth=flow.config())

    async def put(_):
        return Credential(oauth(expires_in=0))

    await store.modify("x", put)
    flow.gate = anyio.Event()
    if native and anyio_backend[0] == "asyncio":
        import asyncio

        task = asyncio.create_task(auth.resolve(provider))
        await flow.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(auth.resolve, provider)
            await flow.begun.wait()
            tasks.cancel_scope.cancel()  # leaves at once, although the gate is still shut
    flow.gate.set()
    await auth.settle()
    assert (await store.read("x")).refresh == "r1"
    assert flow.refreshed == ["r0"]
    assert not (tmp_path / "auth.json.lock").exists()


@pytest.mark.parametrize("steps", range(6))
async def test_a_refresh_that_everybody_leaves_while_it_begins_is_given_up_or_settled_a50_a51(tmp_path, steps):
    """Cancelled before its task has run, or when it has: settling leaves neither a lock nor half a refresh."""
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"x": oauth(expires_in=0)}))
    path.chmod(0o600)
    flow = Flow()
    auth = Authenticator(FileCredentialStore(path))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(auth.resolve, Subject(oauth=flow.config()))
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    await auth.settle()
    assert os.listdir(tmp_path) == ["auth.json"]
    assert json.loads(path.read_text())["x"]["refresh"] == ("r1" if flow.refreshed else "r0")


async def test_who_waits_for_the_lock_leaves_at_once_and_the_others_go_on_a50(tmp_path):
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"x": oauth(expires_in=0)}))
    path.chmod(0o600)
    flow = Flow()
    auth, provider, tokens = Authenticator(FileCredentialStore(path)), Subject(oauth=flow.config()), []

    async def resolve(scope):
        with scope:
            tokens.append((await auth.resolve(provider)).api_key)

    lock = tmp_path / "auth.json.lock"
    lock.mkdir()
    scopes = [anyio.CancelScope() for _ in range(3)]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(resolve, scopes[0])
        await anyio.wait_all_tasks_blocked()
        scopes[0].cancel()
        await anyio.wait_all_tasks_blocked()
        await auth.settle()  # nobody waits any more, and nothing goes on
        for scope in scopes[1:]:
            tasks.start_soon(resolve, scope)
        await anyio.wait_all_tasks_blocked()
        scopes[1].cancel()
        await anyio.wait_all_tasks_blocked()
        lock.rmdir()
    assert tokens == ["a1"]
    assert flow.refreshed == ["r0"]


async def test_event_loops_in_several_threads_share_one_refresh_a26():
    flow, tokens = Flow(), []
    store = InMemoryCredentialStore({"x": oauth(expires_in=0)})
    auth = Authenticator(store)

    async def resolve():
        tokens.append((await auth.resolve(Subject(oauth=flow.config()))).api_key)

    flow.begun = type("NoEvent", (), {"set": lambda self: None})()
    threads = [threading.Thread(target=anyio.run, args=(resolve,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join)
    assert tokens == ["a1"] * 4
    assert len(flow.refreshed) == 1


# ── the lock is lost, the disk is full ───────────────────────────────────────────────────────────────────────


async def test_a_token_whose_lock_was_lost_is_used_and_saved_under_a_fresh_one_a52(tmp_path):
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"x": oauth(expires_in=0)}))
    path.chmod(0o600)
    flow = Flow()

    async def robbed(credential):
        (tmp_path / "auth.json.lock").rmdir()
        return await flow.refresh(credential)

    auth = Authenticator(FileCredentialStore(path))
    assert (await auth.resolve(Subject(oauth=flow.config(refresh_token=robbed)))).api_key == "a1"
    assert json.loads(path.read_text())["x"]["refresh"] == "r1"
    assert flow.refreshed == ["r0"]


async def test_what_is_stored_meanwhile_wins_over_a_token_whose_lock_was_lost_a52(tmp_path):
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"x": oauth(expires_in=0)}))
    path.chmod(0o600)
    flow = Flow()

    async def robbed(credential):
        (tmp_path / "auth.json.lock").rmdir()
        path.write_text(json.dumps({"x": oauth("theirs", "r9")}))
        return await flow.refresh(credential)

    auth = Authenticator(FileCredentialStore(path))
    assert (await auth.resolve(Subject(oauth=flow.config(refresh_token=robbed)))).api_key == "theirs"
    assert json.loads(path.read_text())["x"]["refresh"] == "r9"


async def test_a_token_that_cannot_be_saved_is_used_from_memory_until_it_can_be_f90_a52(tmp_path, monkeypatch, caplog):
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"x": oauth(expires_in=0)}))
    path.chmod(0o600)
    flow, store = Flow(expires_in=400), FileCredentialStore(path)
    auth, provider = Authenticator(store), Subject(oauth=flow.config())
    from pi_ai.auth import store as store_module

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store_module.os, "fsync", full)
        assert (await auth.resolve(provider)).api_key == "a1"
        assert (await auth.resolve(provider)).api_key == "a1"
    assert "kept in memory" in caplog.text
    assert json.loads(path.read_text())["x"]["refresh"] == "r0"
    flow.expires_in = 1200
    assert (await auth.resolve(provider, min_validity_s=600)).api_key == "a2"
    assert flow.refreshed == ["r0", "r1"]  # never the spent one again
    assert json.loads(path.read_text())["x"]["refresh"] == "r2"


# ── status ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_status_says_where_a_key_comes_from_and_nothing_of_it_r101_r103(monkeypatch, tmp_path):
    ran = tmp_path / "ran"
    auth = authenticator(
        x=oauth(expires_in=-1000), groq={"type": "api_key"}, xai={"type": "api_key", "key": f"!touch {ran}"}
    )
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    login = Flow().config()

    async def told(provider):
        status = auth.status(provider)
        return status.configured, status.source, status.label

    assert await told(Subject(oauth=login)) == (True, "stored", "oauth")
    assert await told(Subject(ambient="a")) == (False, "stored", "oauth")
    assert await told(Subject("xai")) == (True, "stored", "api_key")
    assert await told(Subject("xai", takes_api_key=False)) == (False, "stored", "api_key")
    assert (await told(Subject("groq")))[0] is False
    monkeypatch.setenv("GROQ_API_KEY", CANARY)
    assert await told(Subject("groq")) == (True, "environment", "GROQ_API_KEY")
    assert await told(Subject("y", configured="c")) == (True, "configured_key", None)
    assert await told(Subject("y")) == (False, None, None)
    auth.set_runtime_api_key("y", CANARY)
    assert await told(Subject("y")) == (True, "runtime", None)
    assert not ran.exists()


# ── logging in and out ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_login_is_stored_in_the_place_of_what_was_there_a60():
    store, changes = InMemoryCredentialStore({"x": KEY}), []
    auth = Authenticator(store, changed=lambda *change: changes.append(change))
    credential = await auth.login(Subject(oauth=Flow().config()), "oauth", Person())
    assert credential == await store.read("x")
    assert credential.access == "a1"
    assert changes == [("x", credential)]
    await auth.logout("x")
    await auth.logout("x")
    assert await store.read("x") is None
    assert changes[1] == ("x", None)


@pytest.mark.parametrize(
    "result",
    [
        oauth("a1", "r1"),
        {**oauth("a1", "r1"), "expires": float(ms(60)) + 0.5},
        {**oauth("a1", "r1"), "expires": datetime(2100, 1, 1, tzinfo=UTC)},
        type("Result", (), {})(),
    ],
)
async def test_a_login_may_return_a_mapping_or_an_object_and_any_kind_of_time_a71(result):
    if not isinstance(result, dict):
        result.access, result.refresh, result.expires, result.accountId = "a1", "r1", ms(60), "acc"
    flow = Flow()
    flow.result = result
    credential = await authenticator().login(Subject(oauth=flow.config()), "oauth", Person())
    assert (credential.type, credential.access, type(credential.expires)) == ("oauth", "a1", int)
    assert isinstance(result, dict) or credential["accountId"] == "acc"


async def test_what_a_provider_has_no_login_for_is_refused_a60():
    auth = authenticator()
    with pytest.raises(AuthError, match="Example does not support oauth login"):
        await auth.login(Subject(), "oauth", Person())
    with pytest.raises(AuthError, match="Example does not support api_key login"):
        await auth.login(Subject(oauth=Flow().config(), takes_api_key=False), "api_key", Person())


async def test_nothing_is_stored_if_a_login_fails_or_is_cancelled_a60_a69():
    store, flow = InMemoryCredentialStore(), Flow()
    auth = Authenticator(store)
    flow.result = {"access": "a"}
    with pytest.raises(OAuthError, match="login of x returned incomplete credentials"):
        await auth.login(Subject(oauth=flow.config()), "oauth", Person())

    async def asks(callbacks):
        await callbacks.on_prompt(message="?")

    person = Person()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(auth.login, Subject(oauth=flow.config(login=asks)), "oauth", person)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert person.dismissed == 1
    assert await store.list() == []


async def test_a_key_is_asked_for_once_and_trimmed_a61_d5():
    auth, person = authenticator(), Person("  key \n")
    assert dict(await auth.login(Subject(), "api_key", person)) == {"type": "api_key", "key": "key"}
    assert [(prompt.kind, prompt.message) for prompt in person.prompts] == [("secret", "Enter Example API key")]
    with pytest.raises(ValueError, match="must not be empty"):
        await auth.login(Subject(), "api_key", Person("  "))


async def test_what_else_a_provider_needs_is_asked_for_and_kept_with_the_key_a61():
    provider = Subject("cloudflare-workers-ai", "Cloudflare")
    credential = await authenticator().login(provider, "api_key", Person("key", "account"))
    assert credential.env == {"CLOUDFLARE_ACCOUNT_ID": "account"}


async def test_logins_of_one_provider_happen_one_after_the_other_a63():
    store, order = InMemoryCredentialStore(), []
    auth, gate = Authenticator(store), anyio.Event()

    async def slow(callbacks):
        order.append("first")
        await gate.wait()
        return oauth("first")

    async def quick(callbacks):
        order.append("second")
        return oauth("second")

    async with anyio.create_task_group() as tasks:
        for login in (slow, quick):
            tasks.start_soon(auth.login, Subject(oauth=Flow().config(login=login)), "oauth", Person())
            await anyio.wait_all_tasks_blocked()
        tasks.start_soon(auth.logout, "x")
        await anyio.wait_all_tasks_blocked()
        assert order == ["first"]
        gate.set()
    assert order == ["first", "second"]
    assert await store.read("x") is None


async def test_a_stored_login_that_cannot_be_applied_says_that_it_is_stored_a64():
    def fails(*_):
        raise RuntimeError("no models")

    auth = Authenticator(InMemoryCredentialStore(), changed=fails)
    with pytest.raises(CredentialSynchronizationError, match="is saved") as caught:
        await auth.login(Subject(oauth=Flow().config()), "oauth", Person())
    assert (caught.value.provider_id, caught.value.operation) == ("x", "login")
    assert caught.value.credential == await auth.store.read("x")
    assert isinstance(caught.value, PiAIError)


# ── processes ────────────────────────────────────────────────────────────────────────────────────────────────

WORKER = """
    import anyio, sys
    from pi_ai.auth.oauth.flows import DeviceCodeFlow
    from pi_ai.auth.resolve import Authenticator
    from pi_ai.auth.store import FileCredentialStore
    from pi_ai_tests.auth.rigs import Subject

    async def main(path, url):
        flow = DeviceCodeFlow(name="Example", device_url="", token_url=url, client_id="c")
        provider = Subject(oauth=flow.config())
        async def task(auth, tokens):
            tokens.append((await auth.resolve(provider)).api_key)
        print("ready", flush=True)
        while sys.stdin.readline():
            auth, tokens = Authenticator(FileCredentialStore(path)), []
            async with anyio.create_task_group() as tasks:
                for _ in range(8):
                    tasks.start_soon(task, auth, tokens)
            await auth.settle()
            print(*tokens, flush=True)

    anyio.run(main, *sys.argv[1:3], backend=sys.argv[3])
"""
PROCESSES, TASKS, ROUNDS = 8, 8, 50


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": False})], ids=["asyncio and trio"])
async def test_processes_with_one_expired_login_make_one_exchange_and_all_succeed_a44_f86_t15(tmp_path):
    """Again and again, half of the processes on asyncio and half on trio; each refresh token works once."""
    path = tmp_path / "auth.json"
    path.touch(mode=0o600)
    exchanged: list[str] = []

    async def endpoint(request, answer):
        token = form(request.body)["refresh_token"]
        is_first = token not in exchanged
        exchanged.append(token)
        tokens = {"access_token": f"{token}-access", "refresh_token": f"{token}-next", "expires_in": 3600}
        body = tokens if is_first else {"error": "invalid_grant"}
        await answer.whole(200 if is_first else 400, {}, json.dumps(body).encode())

    async with AsyncExitStack() as closing, Server(endpoint) as server:
        running = []
        for number in range(PROCESSES):
            backend = ("asyncio", "trio")[number % 2]
            command = [sys.executable, "-c", textwrap.dedent(WORKER), str(path), server.url, backend]
            running.append(await anyio.open_process(command, stderr=None))
            closing.push_async_callback(running[-1].aclose)
        said = [BufferedByteReceiveStream(process.stdout) for process in running]
        for output in said:
            assert await output.receive_until(b"\n", 1000) == b"ready"
        for number in range(ROUNDS):
            path.write_text(json.dumps({"x": oauth(CANARY, f"r{number}", 0), "other": KEY}, indent=2))
            for process in running:
                await process.stdin.send(b"go\n")
            for output in said:
                tokens = (await output.receive_until(b"\n", 1000)).decode().split()
                assert tokens == [f"r{number}-access"] * TASKS
            entries = json.loads(path.read_text())
            assert entries["other"] == KEY
            assert entries["x"]["refresh"] == f"r{number}-next"
            assert not path.with_name("auth.json.lock").exists()
        for process in running:
            await process.stdin.aclose()
            assert await process.wait() == 0
    assert exchanged == [f"r{number}" for number in range(ROUNDS)]


async def test_a_process_killed_in_an_exchange_holds_up_the_next_one_until_its_lock_is_stale_t15(
    tmp_path, anyio_backend
):
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"x": oauth(CANARY, "r0", 0)}))
    path.chmod(0o600)
    arrived = anyio.Event()

    async def endpoint(request, answer):
        if not arrived.is_set():
            arrived.set()
            await answer.stall()
        tokens = {"access_token": "a1", "refresh_token": "r1"}
        await answer.whole(200, {}, json.dumps(tokens).encode())

    async with Server(endpoint) as server:
        command = [sys.executable, "-c", textwrap.dedent(WORKER), str(path), server.url, anyio_backend[0]]
        process = await anyio.open_process(command)
        await process.stdin.send(b"go\n")
        await arrived.wait()
        process.kill()
        await process.wait()
        await process.aclose()
        os.utime(tmp_path / "auth.json.lock", (0, 0))
        flow = DeviceCodeFlow(name="Example", device_url="", token_url=server.url, client_id="c")
        auth = Authenticator(FileCredentialStore(path))
        assert (await auth.resolve(Subject(oauth=flow.config()))).api_key == "a1"
