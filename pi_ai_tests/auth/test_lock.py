"""pi's directory lock (A20-A28), and the real ``proper-lockfile`` on the other side of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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
def _node_modules() -> str:
    """A folder with ``proper-lockfile`` in it, installed once for the run."""
    import tempfile

    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("needs Node and npm, which are not installed")
    folder = tempfile.mkdtemp(prefix="pi-ai-node-")
    try:
        subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent", "proper-lockfile@4"],
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=60,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        shutil.rmtree(folder)
        pytest.skip("needs the npm package proper-lockfile, which could not be installed")
    import atexit

    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def node(script: str, path: str) -> subprocess.Popen[str]:
    program = f"const lockfile = require('proper-lockfile'); const file = process.argv[1];\n{script}"
    return subprocess.Popen(
        ["node", "-e", program, path],
        cwd=_node_modules(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


HOLD = """
lockfile.lock(file, {stale: 30000}).then(async release => {
  console.log('held');
  await new Promise(go => process.stdin.once('data', go));
  await release();
  process.exit(0);
});
"""
TRY = """
lockfile.lock(file, {stale: +process.argv[2] || 30000, retries: 0}).then(
  release => release().then(() => console.log('taken')), error => console.log(error.code));
"""


async def test_what_proper_lockfile_holds_we_do_not_take(path, monkeypatch):
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
            holder.communicate("go")
    assert not os.path.exists(path + ".lock")


async def test_what_we_hold_proper_lockfile_does_not_take(path):
    async with FileLock(path) as lock:
        assert node(TRY, path).communicate()[0] == "ELOCKED\n"
        lock.check()
    assert node(TRY, path).communicate()[0] == "taken\n"
    async with FileLock(path):
        pass


async def test_proper_lockfile_takes_over_what_a_dead_process_of_ours_held(path):
    program = f"""
        import anyio, os, signal
        from pi_ai.auth.lock import FileLock
        anyio.run(FileLock({path!r}).__aenter__)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    await anyio.run_process([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert os.path.isdir(path + ".lock")
    assert node(TRY, path).communicate()[0] == "ELOCKED\n"
    age(path + ".lock", 31)
    assert node(TRY, path).communicate()[0] == "taken\n"


async def test_we_take_over_what_a_dead_proper_lockfile_held(path):
    with node(HOLD, path) as holder:
        assert holder.stdout.readline() == "held\n"
        holder.kill()
    assert os.path.isdir(path + ".lock")
    age(path + ".lock", 31)
    async with FileLock(path) as lock:
        lock.check()


async def test_our_heartbeat_keeps_a_reader_with_ten_seconds_of_staleness_away_a23(path, monkeypatch):
    """The lock was taken long ago and is fresh: seen by proper-lockfile with its shortest staleness, two seconds."""
    monkeypatch.setattr(lock_module, "HEARTBEAT_S", 0.02)
    async with FileLock(path) as lock:
        script = """
        setTimeout(() => lockfile.lock(file, {stale: 2000}).then(
          () => console.log('stolen'), error => console.log(error.code)), 2500);
        """
        process = node(script, path)
        assert (await anyio.to_thread.run_sync(process.communicate))[0] == "ELOCKED\n"
        lock.check()


async def test_a_file_of_ours_is_read_by_node_as_it_was_meant_a11(path):
    store = FileCredentialStore(path)
    from pi_ai.auth.credentials import NEVER, Credential

    async def login(_):
        return Credential({"type": "oauth", "access": "ä\ud800\n", "refresh": "", "expires": NEVER, "more": [1.5]})

    await store.modify("openrouter", login)
    script = "console.log(JSON.stringify(JSON.parse(require('fs').readFileSync(file, 'utf8')), null, 2))"
    echoed = node(script, path).communicate()[0]
    assert Path(path).read_text(encoding="utf-8") + "\n" == echoed
