"""pi's directory lock (A20-A28), and the real ``proper-lockfile`` on the other side of it."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from functools import cache, partial
from pathlib import Path

import anyio
import pytest

from pi_ai.auth import lock as lock_module
from pi_ai.auth.lock import FileLock, LockLost
from pi_ai.auth.store import FileCredentialStore
from pi_ai.errors import AuthError

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path) -> str:
    file = tmp_path.resolve() / "auth.json"
    file.write_text("{}")
    return str(file)


def age(directory: str, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(directory, (then, then))


async def test_a_held_lock_is_a_directory_named_after_the_file_and_goes_on_release_a20_a25(path):
    async with FileLock(path) as lock:
        assert os.path.isdir(path + ".lock")
        lock.check()
    assert not os.path.exists(path + ".lock")


async def test_a_held_lock_keeps_others_out_until_it_is_released_a21(path):
    order = []

    async def other():
        async with FileLock(path):
            order.append("other")

    async with anyio.create_task_group() as tasks, FileLock(path):
        tasks.start_soon(other)
        await anyio.wait_all_tasks_blocked()
        order.append("first")
    assert order == ["first", "other"]


async def test_waiting_ends_with_an_error_that_names_the_lock_a21(path, monkeypatch):
    monkeypatch.setattr(lock_module, "WAIT_S", 0.05)
    os.mkdir(path + ".lock")
    with pytest.raises(AuthError, match=r"auth\.json is locked by another process \(.*auth\.json\.lock\)"):
        async with FileLock(path):
            pytest.fail("it was taken")
    assert os.path.isdir(path + ".lock")


async def test_a_stale_lock_is_taken_over_and_a_fresh_one_is_not_a21(path, monkeypatch):
    monkeypatch.setattr(lock_module, "WAIT_S", 0.05)
    os.mkdir(path + ".lock")
    age(path + ".lock", 29)
    with pytest.raises(AuthError):
        async with FileLock(path):
            pytest.fail("it was taken")
    age(path + ".lock", 31)
    async with FileLock(path):
        assert time.time() - os.stat(path + ".lock").st_mtime < 5


async def test_of_two_that_take_over_the_same_stale_lock_one_notices_a21(path, monkeypatch):
    """Another process may remove what we have just made in a stale lock's place: the second look tells."""
    os.mkdir(path + ".lock")
    age(path + ".lock", 31)
    sleeps = []

    async def rob(seconds):
        sleeps.append(seconds)
        if len(sleeps) == 1:  # the second look is about to follow
            os.rmdir(path + ".lock")
            os.mkdir(path + ".lock")
        elif len(sleeps) == 2:
            os.rmdir(path + ".lock")

    monkeypatch.setattr(lock_module.anyio, "sleep", rob)
    async with FileLock(path):
        assert len(sleeps) == 2


async def test_a_file_in_the_place_of_the_lock_is_reported_at_once_a22(path):
    Path(path + ".lock").write_text("")
    with pytest.raises(AuthError, match=r"auth\.json\.lock cannot be taken: .*no folder.*can be deleted"):
        async with FileLock(path):
            pytest.fail("it was taken")
    assert os.path.isfile(path + ".lock")


async def test_a_held_lock_is_kept_fresh_though_the_event_loop_is_blocked_a23(path, monkeypatch):
    assert lock_module.HEARTBEAT_S <= 4
    monkeypatch.setattr(lock_module, "HEARTBEAT_S", 0.01)
    beaten = threading.Event()
    touch = FileLock._touch

    def counted(self):
        touch(self)
        if threading.current_thread().name == "pi_ai auth lock":
            beaten.set()

    monkeypatch.setattr(FileLock, "_touch", counted)
    async with FileLock(path) as lock:
        before = os.stat(path + ".lock").st_mtime_ns
        assert beaten.wait(10)  # blocks the event loop
        assert os.stat(path + ".lock").st_mtime_ns > before
        lock.check()


@pytest.mark.parametrize("robbery", ["removed", "replaced", "touched"])
async def test_a_lock_that_was_taken_from_us_forbids_writing_and_is_left_alone_a24_a25(path, robbery):
    with pytest.raises(LockLost, match="taken over while it was held"):
        async with FileLock(path) as lock:
            if robbery == "touched":
                age(path + ".lock", 5)
            else:
                os.rmdir(path + ".lock")
            if robbery == "replaced":
                os.mkdir(path + ".lock")
            lock.run(partial(pytest.fail, "it was written"))
    assert os.path.exists(path + ".lock") == (robbery != "removed")


async def test_held_locks_are_released_when_the_interpreter_ends_a25(path):
    program = f"""
        import anyio
        from pi_ai.auth.lock import FileLock
        lock = FileLock({path!r})
        anyio.run(lock.__aenter__)
        import os; assert os.path.isdir({path!r} + ".lock")
    """
    result = await anyio.run_process([sys.executable, "-c", textwrap.dedent(program)])
    assert result.returncode == 0
    assert not os.path.exists(path + ".lock")


async def test_all_event_loops_and_threads_of_the_process_wait_in_one_line_a26(path):
    inside = []

    async def work():
        for _ in range(3):
            async with FileLock(path):
                inside.append(1)
                assert len(inside) == 1
                await anyio.sleep(0)
                inside.pop()

    threads = [threading.Thread(target=anyio.run, args=(work,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    await work()
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join)
    assert not os.path.exists(path + ".lock")


async def test_waiting_can_be_cancelled_in_the_line_and_at_the_directory_a27(path):
    os.mkdir(path + ".lock")
    async with anyio.create_task_group() as tasks:
        for _ in range(2):  # the first one waits for the directory, the second one for the first
            tasks.start_soon(FileLock(path).__aenter__)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    os.rmdir(path + ".lock")
    async with FileLock(path):
        pass


async def test_a_pending_deletion_is_waited_for_but_not_for_ever_a28(path, monkeypatch):
    refusals = [PermissionError(13, "Permission denied")] * 4
    mkdir = os.mkdir

    def refused(*args):
        if refusals:
            raise refusals.pop()
        mkdir(*args)

    monkeypatch.setattr(lock_module.os, "mkdir", refused)
    async with FileLock(path):
        pass
    refusals += [PermissionError(13, "Permission denied")] * 5
    with pytest.raises(AuthError, match="Permission denied"):
        async with FileLock(path):
            pytest.fail("it was taken")


# ── the real thing ───────────────────────────────────────────────────────────────────────────────────────────


@cache
def _proper_lockfile() -> tuple[str, str]:
    """A folder with the npm package ``proper-lockfile`` in it, made once for the run; else why there is none."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "", "needs Node and npm, which are not installed"
    folder = tempfile.mkdtemp(prefix="pi-ai-node-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    quiet = ["--no-audit", "--no-fund", "--no-update-notifier", "--ignore-scripts", "--silent"]
    try:
        command = ["npm", "install", *quiet, "proper-lockfile@4.1.2"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=120)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        return "", f"needs the npm package proper-lockfile, which could not be installed ({type(error).__name__})"
    return folder, ""


def node(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Node with a program that knows ``lockfile``, and its arguments as ``args``."""
    folder, reason = _proper_lockfile()
    if reason:
        pytest.skip(reason)
    program = f"const lockfile = require('proper-lockfile'); const args = process.argv.slice(1);\n{script}"
    command = ["node", "-e", program, *map(str, arguments)]
    return subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def node_says(script: str, *arguments: object) -> str:
    with node(script, *arguments) as process:
        return process.communicate(timeout=120)[0].strip()


def mtime_ms(directory: str) -> int:
    return os.stat(directory).st_mtime_ns // 1_000_000


HOLD = """
lockfile.lock(args[0], {stale: 30000}).then(async release => {
  console.log('held');
  await new Promise(go => process.stdin.once('data', go));
  await release();
  process.exit(0);
});
"""
TRY = """
const [file, stale, now] = [args[0], +args[1], +args[2]];
if (now) Date.now = () => now;
lockfile.lock(file, {stale, retries: 0}).then(
  release => release().then(() => console.log('taken')), error => console.log(error.code));
"""


async def test_what_proper_lockfile_holds_we_do_not_take_a20_a21(path, monkeypatch):
    with node(HOLD, path) as holder:
        assert holder.stdout.readline() == "held\n"
        monkeypatch.setattr(lock_module, "WAIT_S", 0.1)
        with pytest.raises(AuthError, match="locked by another process"):
            async with FileLock(path):
                pytest.fail("it was taken")
        monkeypatch.undo()
        async with anyio.create_task_group() as tasks:

            async def waits():
                async with FileLock(path) as lock:
                    lock.check()

            tasks.start_soon(waits)
            await anyio.wait_all_tasks_blocked()
            holder.communicate("go", timeout=120)
    assert not os.path.exists(path + ".lock")


async def test_what_we_hold_proper_lockfile_does_not_take_a20(path):
    async with FileLock(path) as lock:
        assert node_says(TRY, path, 30_000) == "ELOCKED"
        lock.check()
    assert node_says(TRY, path, 30_000) == "taken"
    async with FileLock(path):
        pass


async def test_proper_lockfile_takes_over_what_a_dead_process_of_ours_held_and_not_before_a21(path):
    program = f"""
        import anyio, os, signal
        from pi_ai.auth.lock import FileLock
        anyio.run(FileLock({path!r}).__aenter__)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    await anyio.run_process([sys.executable, "-c", textwrap.dedent(program)], check=False)
    died_at = mtime_ms(path + ".lock")
    assert node_says(TRY, path, 30_000, died_at + 29_000) == "ELOCKED"
    assert node_says(TRY, path, 30_000, died_at + 31_000) == "taken"


async def test_we_take_over_what_a_dead_proper_lockfile_held_and_not_before_a21(path, monkeypatch):
    with node(HOLD, path) as holder:
        assert holder.stdout.readline() == "held\n"
        holder.kill()
    assert os.path.isdir(path + ".lock")
    monkeypatch.setattr(lock_module, "WAIT_S", 0.05)
    age(path + ".lock", 25)
    with pytest.raises(AuthError, match="locked by another process"):
        async with FileLock(path):
            pytest.fail("it was taken")
    age(path + ".lock", 31)
    async with FileLock(path) as lock:
        lock.check()


async def test_our_heartbeat_keeps_a_reader_with_ten_seconds_of_staleness_away_a23(path, monkeypatch):
    """At a time at which a lock is stale that was not freshened since it was taken, and ours is not."""
    monkeypatch.setattr(lock_module, "HEARTBEAT_S", 0.01)
    async with FileLock(path) as lock:
        taken_at = mtime_ms(path + ".lock")
        while mtime_ms(path + ".lock") <= taken_at + 2:
            await anyio.sleep(0.005)
        assert node_says(TRY, path, 10_000, taken_at + 10_002) == "ELOCKED"
        lock.check()
    os.mkdir(path + ".lock")
    os.utime(path + ".lock", (taken_at / 1000, taken_at / 1000))
    assert node_says(TRY, path, 10_000, taken_at + 10_002) == "taken"


async def test_a_file_of_ours_is_read_by_node_as_it_was_meant_a11(path):
    store = FileCredentialStore(path)
    from pi_ai.auth.credentials import NEVER, Credential

    async def login(_):
        return Credential({"type": "oauth", "access": "ä\ud800\n", "refresh": "", "expires": NEVER, "more": [1.5]})

    await store.modify("openrouter", login)
    script = "console.log(JSON.stringify(JSON.parse(require('fs').readFileSync(args[0], 'utf8')), null, 2))"
    assert node_says(script, path) == Path(path).read_text(encoding="utf-8").strip()
