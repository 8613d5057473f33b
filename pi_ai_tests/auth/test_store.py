"""Credential stores (A1-A16, A30-A34), and what a credential shows of itself (A5, X1, X2)."""

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import anyio
import pytest

from pi_ai.auth import store as store_module
from pi_ai.auth.config_values import ConfigValues
from pi_ai.auth.credentials import NEVER, Credential, Secret
from pi_ai.auth.lock import LockLost
from pi_ai.auth.store import FileCredentialStore, InMemoryCredentialStore, ReadOnlyCredentialStore
from pi_ai.errors import AuthError

CANARY = "canary-7f3a-secret"
OAUTH = {"type": "oauth", "access": CANARY, "refresh": CANARY, "expires": NEVER, "accountId": "a"}


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path.resolve() / "agent" / "auth.json"


def given(path: Path, content: object) -> FileCredentialStore:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    path.chmod(0o600)
    return FileCredentialStore(path)


def becomes(members):
    async def change(_):
        return members if members is None else Credential(members)

    return change


# ── what is shown ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_secret_gives_its_text_to_who_reveals_it_and_to_nobody_else_x1():
    secret = Secret(CANARY)
    assert secret.reveal() == CANARY
    assert secret == Secret(CANARY)
    assert secret != Secret("other")
    assert secret != CANARY
    assert bool(secret)
    assert not Secret("")
    assert copy.deepcopy(copy.copy(secret)) is secret
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret:>40}", "%s %r" % (secret, secret)):  # noqa: UP031
        assert CANARY not in shown
    with pytest.raises(TypeError, match="reveal"):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        hash(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)


def test_a_credential_is_a_mapping_that_shows_names_only_a5():
    credential = Credential(OAUTH)
    assert dict(credential) == OAUTH
    assert credential == OAUTH
    assert (credential.access, credential.refresh, credential.expires) == (CANARY, CANARY, NEVER)
    assert repr(credential) == "<Credential oauth: access, accountId, expires, refresh>"
    assert CANARY not in f"{credential} {Credential({'type': CANARY})!r}"
    with pytest.raises(TypeError):
        pickle.dumps(credential)
    with pytest.raises(TypeError):
        json.dumps(credential)
    assert credential.replaced(access="x", accountId=None) == {
        k: v for k, v in {**OAUTH, "access": "x"}.items() if k != "accountId"
    }


def test_a_credential_does_not_change_with_the_mapping_it_was_made_of():
    env = {"A": "1"}
    credential = Credential({"type": "api_key", "env": env})
    env["A"] = "2"
    assert credential.env == {"A": "1"}


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────

pytestmark = pytest.mark.anyio


async def test_the_default_path_is_pis_a10(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PI_CODING_AGENT_DIR", raising=False)
    assert FileCredentialStore().path == str(tmp_path / ".pi/agent/auth.json")
    monkeypatch.setenv("PI_CODING_AGENT_DIR", "~/elsewhere")
    assert FileCredentialStore().path == str(tmp_path / "elsewhere/auth.json")


async def test_reading_makes_no_file_and_takes_no_lock_a30(path):
    store = FileCredentialStore(path)
    assert await store.read("x") is None
    assert await store.list() == []
    await store.delete("x")
    assert not path.parent.exists()
    store = given(path, {"x": OAUTH})
    os.mkdir(f"{path}.lock")
    assert await store.read("x") == OAUTH


@pytest.mark.parametrize(
    ("content", "ids"),
    [("", []), ("  \n", []), ("\ufeff{}", []), ('\ufeff{"x": {"type": "api_key", "key": "k"}}', ["x"])],
)
async def test_a_byte_order_mark_is_dropped_and_an_empty_file_holds_nothing_a11(path, content, ids):
    assert [info.provider_id for info in await given(path, content).list()] == ids


async def test_unknown_types_and_what_is_no_credential_are_kept_and_ignored_a2(path):
    content = {"a": {"type": "future", "x": 1}, "b": 5, "c": {"type": "api_key", "key": "k", "note": "n"}}
    store = given(path, content)
    assert [(info.provider_id, info.type) for info in await store.list()] == [("a", "future"), ("c", "api_key")]
    assert await store.read("b") is None
    await store.modify("c", lambda c: becomes({**c, "key": "new"})(c))
    assert json.loads(path.read_text()) == {**content, "c": {"type": "api_key", "key": "new", "note": "n"}}


@pytest.mark.parametrize(
    "broken",
    [
        {"type": "oauth", "access": "a", "refresh": "r"},
        {"type": "oauth", "access": "a", "refresh": "r", "expires": "soon"},
        {"type": "oauth", "access": "a", "refresh": "r", "expires": True},
        {"type": "oauth", "access": None, "refresh": "r", "expires": 1},
        {"type": "api_key", "key": 5},
        {"type": "api_key", "key": "k", "env": {"A": 1}},
    ],
)
async def test_a_malformed_credential_is_reported_and_never_changed_a4(path, broken):
    store = given(path, {"x": broken})
    before = path.read_bytes()
    with pytest.raises(AuthError, match=r'^Invalid auth\.json credential for provider "x"(\n|$)') as caught:
        await store.read("x")
    assert "log in again" in caught.value.info.message
    assert len(await store.list()) == 1
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("members", "usable"),
    [
        ({"type": "api_key"}, True),
        ({"type": "api_key", "key": "k", "env": {"REGION": "eu"}}, True),
        ({"type": "api_key", "key": ["k"]}, False),
        ({"type": "api_key", "env": ["REGION"]}, False),
        ({"type": "oauth", "access": "a", "refresh": "", "expires": 1, "accountId": "id", "scopes": ["s"]}, True),
        ({"type": "oauth", "access": "a", "expires": 1}, False),
        ({"type": "oauth", "refresh": "r", "expires": 1}, False),
        ({"type": "oauth", "access": "a", "refresh": "r"}, False),
    ],
)
def test_there_are_two_types_of_credentials_with_members_of_their_own_a1(members, usable):
    credential = Credential(members)
    assert credential.is_usable is usable
    assert dict(credential) == members


async def test_the_key_of_a_credential_is_resolved_with_its_own_env_first_a3_a34(path, monkeypatch):
    monkeypatch.setenv("PI_AI_T_A", "process")
    monkeypatch.delenv("PI_AI_T_B", raising=False)
    store = given(
        path,
        {
            "own": {"type": "api_key", "key": "k-$PI_AI_T_A", "env": {"PI_AI_T_A": "own"}},
            "process": {"type": "api_key", "key": "$PI_AI_T_A"},
            "missing": {"type": "api_key", "key": "$PI_AI_T_B"},
            "none": {"type": "api_key"},
        },
    )
    keys = {name: (await store.read(name)).key for name in ("own", "process", "missing", "none")}
    assert keys == {"own": "k-own", "process": "process", "missing": None, "none": None}
    seen = []

    async def look(credential):
        seen.append(credential["key"])

    await store.modify("own", look)
    assert seen == ["k-$PI_AI_T_A"]


async def test_a_command_is_run_for_reading_only_and_not_where_commands_are_off_a32_d19(path, tmp_path):
    ran = tmp_path / "ran"
    content = {"x": {"type": "api_key", "key": f"!touch {ran}; echo out-{tmp_path.name}"}}
    assert (await given(path, content).list())[0].type == "api_key"
    off = FileCredentialStore(path, values=ConfigValues(allow_commands=False))
    assert (await off.read("x")).key is None
    assert not ran.exists()
    assert (await FileCredentialStore(path).read("x")).key == f"out-{tmp_path.name}"
    ran.unlink()
    assert (await FileCredentialStore(path).read("x")).key == f"out-{tmp_path.name}"  # kept for the process (R57)
    assert not ran.exists()


async def test_a_file_is_parsed_once_and_again_when_it_has_changed_a31(path, monkeypatch):
    store = given(path, {"x": OAUTH})
    parsed = []
    understood = store_module._understood
    monkeypatch.setattr(store_module, "_understood", lambda data: parsed.append(1) or understood(data))
    for _ in range(3):
        assert await store.read("x") == OAUTH
    assert len(parsed) == 1
    path.write_text(json.dumps({"x": {**OAUTH, "accountId": "b"}}))
    assert (await store.read("x"))["accountId"] == "b"


async def test_a_file_that_is_being_written_in_place_is_read_again_a30(path, monkeypatch):
    store = given(path, '{"x": {"type": "oauth", "acc')
    pauses = []

    async def pause(seconds):
        pauses.append(seconds)
        given(path, {"x": OAUTH})

    monkeypatch.setattr(store_module.anyio, "sleep", pause)
    assert await store.read("x") == OAUTH
    assert len(pauses) == 1
    assert store_module.READ_PAUSE_S * (store_module.READ_ATTEMPTS - 1) <= 0.25


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(store_module, "READ_PAUSE_S", 0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{bad", "line 1 column 2"),
        ("[]", "object, not list"),
        (f'{{"x": "{CANARY}', "line 1 column"),
        ('{"x": NaN}', ""),
    ],
)
async def test_a_file_that_is_no_json_object_fails_reads_and_writes_and_stays_as_it_is_a15_f91(
    path, content, reason, hasty
):
    store = given(path, content)
    for use in (store.read("x"), store.list(), store.modify("x", becomes(OAUTH)), store.delete("x")):
        with pytest.raises(AuthError) as caught:
            await use
        assert str(path) in str(caught.value)
        assert reason in str(caught.value)
        assert CANARY not in str(caught.value)
    assert path.read_text() == content
    assert not os.path.exists(f"{path}.lock")


async def test_what_was_read_before_is_used_while_the_file_is_broken_a15(path, hasty, caplog):
    store = given(path, {"x": OAUTH})
    assert await store.read("x") == OAUTH
    path.write_bytes(b'{"x": \xff')
    with caplog.at_level(logging.WARNING, "pi_ai.auth"):
        assert await store.read("x") == OAUTH
    assert "no UTF-8" in caplog.text
    with pytest.raises(AuthError):
        await store.modify("x", becomes(OAUTH))


async def test_a_file_that_others_can_read_is_used_with_one_warning_a12_d19(path, caplog):
    store = given(path, {"x": OAUTH})
    path.chmod(0o640)
    with caplog.at_level(logging.WARNING, "pi_ai.auth"):
        assert await store.read("x") == OAUTH
        path.write_text("{}")
        assert await store.read("x") is None
    assert len(caplog.records) == 1
    assert "chmod 600" in caplog.text
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_folder_and_file_are_made_for_this_user_only_a12_x10(path):
    path = path.parent / "deeper" / path.name
    old = os.umask(0)
    try:
        await FileCredentialStore(path).modify("x", becomes(None))
        assert path.read_bytes() == b"{}"
        await FileCredentialStore(path).modify("x", becomes(OAUTH))
    finally:
        os.umask(old)
    modes = [stat.S_IMODE(part.stat().st_mode) for part in (path.parent.parent, path.parent, path)]
    assert modes == [0o700, 0o700, 0o600]
    assert os.listdir(path.parent) == ["auth.json"]


async def test_the_file_is_written_as_javascript_writes_it_a11(path):
    store = given(path, {"z": {"type": "api_key", "key": "ü"}, "a": OAUTH})
    await store.modify("new", becomes({"type": "api_key", "key": "lone \ud800 €", "env": {}}))
    await store.modify("z", becomes({"type": "api_key", "key": "ö"}))
    assert (
        path.read_bytes()
        == (
            '{\n  "z": {\n    "type": "api_key",\n    "key": "ö"\n  },\n'
            f'  "a": {{\n    "type": "oauth",\n    "access": "{CANARY}",\n    "refresh": "{CANARY}",\n'
            '    "expires": 9007199254740991,\n    "accountId": "a"\n  },\n'
            '  "new": {\n    "type": "api_key",\n    "key": "lone \\ud800 €",\n    "env": {}\n  }\n}'
        ).encode()
    )


async def test_modify_gives_the_present_credential_and_returns_the_one_after_it_a33(path):
    for store in (given(path, {"x": OAUTH}), InMemoryCredentialStore({"x": OAUTH})):
        assert await store.modify("x", becomes(None)) == OAUTH
        assert await store.modify("y", becomes(None)) is None
        new = {**OAUTH, "access": "new"}
        assert await store.modify("x", becomes(new)) == new
        assert await store.read("x") == new
        await store.delete("x")
        await store.delete("x")
        assert await store.read("x") is None

        async def fails(_):
            raise RuntimeError("no")

        with pytest.raises(RuntimeError, match="no"):
            await store.modify("y", fails)
        assert await store.list() == []


async def test_what_others_add_while_a_change_is_made_is_kept_a13(path):
    store = given(path, {"x": OAUTH})

    async def slowly(credential):
        path.write_text(json.dumps({"x": OAUTH, "theirs": OAUTH}))
        return credential.replaced(access="new")

    await store.modify("x", slowly)
    assert json.loads(path.read_text()) == {"x": {**OAUTH, "access": "new"}, "theirs": OAUTH}


async def test_a_link_stays_a_link_and_mode_and_lock_are_those_of_its_target_a14_a20(path, tmp_path):
    given(path, {"x": OAUTH})
    path.chmod(0o640)
    link = tmp_path / "link.json"
    link.symlink_to(path)
    store = FileCredentialStore(link)
    locks = []

    async def look(credential):
        locks.append(sorted(os.listdir(path.parent)))
        return credential.replaced(access="new")

    await store.modify("x", look)
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert locks == [["auth.json", "auth.json.lock"]]
    assert json.loads(path.read_text())["x"]["access"] == "new"


async def test_where_the_owner_would_change_the_file_is_written_in_place_a14(path, monkeypatch):
    store = given(path, {"x": OAUTH, "filler": {"type": "api_key", "key": "x" * 500}})
    inode = path.stat().st_ino
    fstat = os.fstat

    def other_owner(descriptor):
        found = list(fstat(descriptor))
        found[4] += 1
        return os.stat_result(found)

    monkeypatch.setattr(store_module.os, "fstat", other_owner)
    await store.delete("filler")
    assert path.stat().st_ino == inode
    assert json.loads(path.read_text()) == {"x": OAUTH}
    assert os.listdir(path.parent) == ["auth.json"]


async def test_leftovers_of_a_killed_writer_are_swept_away(path):
    store = given(path, {"x": OAUTH})
    (path.parent / ".auth.json.abc.tmp").write_text("half")
    await store.modify("x", becomes({**OAUTH, "access": "new"}))
    assert os.listdir(path.parent) == ["auth.json"]


async def test_a_credential_that_is_no_json_is_refused_without_being_quoted(path):
    store = given(path, {"x": OAUTH})
    with pytest.raises(AuthError, match="cannot be written as JSON") as caught:
        await store.modify("x", becomes({"type": "oauth", "access": {CANARY}}))
    assert CANARY not in str(caught.value)
    assert json.loads(path.read_text()) == {"x": OAUTH}


async def test_a_full_disk_is_an_error_that_names_the_file_and_the_old_file_stays_f90(path, monkeypatch):
    store = given(path, {"x": OAUTH})

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module.os, "fsync", full)
    with pytest.raises(AuthError, match=r"cannot be saved to .*auth\.json: No space left"):
        await store.modify("x", becomes({**OAUTH, "access": "new"}))
    assert json.loads(path.read_text()) == {"x": OAUTH}
    assert os.listdir(path.parent) == ["auth.json"]


async def test_nothing_is_written_once_the_lock_is_lost_a24(path):
    store = given(path, {"x": OAUTH})

    async def robbed(credential):
        os.rmdir(f"{path}.lock")
        return credential.replaced(access="new")

    with pytest.raises(LockLost):
        await store.modify("x", robbed)
    assert json.loads(path.read_text()) == {"x": OAUTH}


async def test_changes_of_one_file_by_many_tasks_threads_and_stores_are_all_kept_a26_a33_x11(path):
    store = given(path, {})

    async def add(name, store=None):
        await (store or FileCredentialStore(path)).modify(name, becomes(OAUTH))

    thread = threading.Thread(target=lambda: [anyio.run(add, f"thread{n}") for n in range(5)])
    thread.start()
    async with anyio.create_task_group() as tasks:
        for n in range(10):
            tasks.start_soon(add, f"task{n}", store if n % 2 else None)
    await anyio.to_thread.run_sync(thread.join)
    assert len(json.loads(path.read_text())) == 15


async def test_a_change_that_has_begun_is_finished_though_its_caller_is_cancelled_a50(path):
    for store in (given(path, {}), InMemoryCredentialStore()):
        begun, go_on = anyio.Event(), anyio.Event()

        async def slowly(_, begun=begun, go_on=go_on):
            begun.set()
            await go_on.wait()
            return Credential(OAUTH)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.modify, "x", slowly)
            await begun.wait()
            tasks.cancel_scope.cancel()
            go_on.set()
        assert await store.read("x") == OAUTH
    assert not os.path.exists(f"{path}.lock")


STEPS = ["os.mkdir", "os.open", "tempfile.mkstemp", "os.fchmod", "os.fsync", "os.replace", "os.rmdir"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_process_killed_at_any_step_of_a_write_leaves_a_whole_file_a14_t15_f91(path, step, when, loop):
    given(path, {"x": OAUTH})
    program = f"""
        import anyio, json, os, signal, tempfile
        from pi_ai.auth.credentials import Credential
        from pi_ai.auth.store import FileCredentialStore
        original = {step}
        def kill(*args, **more):
            if {when!r} == "after": original(*args, **more)
            os.kill(os.getpid(), signal.SIGKILL)
        async def main():
            store = FileCredentialStore({str(path)!r})
            async def change(credential):
                if {step!r} != "os.mkdir": setattr({step.split(".")[0]}, {step.split(".")[1]!r}, kill)
                return credential.replaced(access="new")
            if {step!r} == "os.mkdir": os.mkdir = kill
            await store.modify("x", change)
        anyio.run(main, backend={loop!r})
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert result.returncode == -signal.SIGKILL
    access = json.loads(path.read_text())["x"]["access"]
    assert access in (CANARY, "new")
    if os.path.isdir(f"{path}.lock"):
        os.utime(f"{path}.lock", (0, 0))  # half a minute passes
    anyio.run(FileCredentialStore(path).modify, "x", becomes({**OAUTH, "access": "next"}))
    assert json.loads(path.read_text())["x"]["access"] == "next"
    assert os.listdir(path.parent) == ["auth.json"]


# ── read only ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_read_only_store_reads_and_refuses_to_write_a34(path):
    given(path, {"x": OAUTH})
    store = ReadOnlyCredentialStore(path)
    assert await store.read("x") == OAUTH
    for use in (store.modify("x", becomes(OAUTH)), store.delete("x")):
        with pytest.raises(AuthError, match="read only"):
            await use


@pytest.mark.parametrize("broken", [5, {"type": "future"}, {"type": "oauth"}])
async def test_a_read_only_store_wants_all_of_the_file_to_be_right_a34(path, broken):
    given(path, {"x": OAUTH, "y": broken})
    with pytest.raises(AuthError, match='provider "y"'):
        await ReadOnlyCredentialStore(path).read("x")
