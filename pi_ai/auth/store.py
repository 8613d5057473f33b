"""Where credentials are kept: pi's ``auth.json``, memory, or a store of the application's own (auth A10-A34).

The file is shared with pi, which may use it at the same time. Reading takes no lock and makes no file (A30); each
change is read-modify-write under pi's lock, and replaces the file as a whole (A13, A14). What cannot be read is never
overwritten (A15).
"""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeAlias, cast

import anyio
from anyio import CancelScope, to_thread

from pi_ai.auth.config_values import ConfigValues
from pi_ai.auth.credentials import Credential, CredentialInfo
from pi_ai.auth.env import agent_dir
from pi_ai.auth.lock import FileLock, Queue
from pi_ai.errors import PiAIError, failure
from pi_ai.text import decode_json

READ_ATTEMPTS = 6
"""How often a file that is no JSON is read: somebody may be writing it in place."""
READ_PAUSE_S = 0.05

_log = logging.getLogger("pi_ai.auth")

Change: TypeAlias = Callable[[Credential | None], Awaitable[Credential | None]]
"""Gets the present credential and returns the new one; None: it stays as it is."""


class CredentialStore(Protocol):
    """What keeps credentials. Implementations for a key ring or a database need these four.

    One that can may also have ``peek(provider_id) -> Credential | None``: what it holds, at once, with nothing
    resolved. It serves lists and status; without it they know what was read before.
    """

    async def read(self, provider_id: str) -> Credential | None:
        """A provider's credential, an ``api_key`` one with its key resolved (A34).

        :raises PiAIError: kind ``auth``: it cannot be read, or is malformed (A4).
        """
        ...

    async def list(self) -> Sequence[CredentialInfo]:
        """Which credentials there are; resolves nothing."""
        ...

    async def modify(self, provider_id: str, fn: Change) -> Credential | None:
        """Change a provider's credential while nobody else can, in this process or another (A33).

        :returns: the credential after it. What ``fn`` raises is raised, and nothing is written.
        :raises PiAIError: kind ``auth``: the store cannot be read or written.
        """
        ...

    async def delete(self, provider_id: str) -> None:
        """Forget a provider's credential, if there is one."""
        ...


async def _resolved(provider_id: str, credential: Credential | None, values: ConfigValues) -> Credential | None:
    """A credential as a request needs it (A4, A34)."""
    if credential is None:
        return None
    if not credential.is_usable:
        raise invalid_credential(provider_id)
    if credential.type != "api_key" or credential.key is None:
        return credential
    try:
        what = f'API key for provider "{provider_id}"'
        return credential.replaced(key=await values.resolve(credential.key, what, credential.env, keep=True))
    except PiAIError:
        return credential.replaced(key=None)


def invalid_credential(provider_id: str) -> PiAIError:
    """The error for a credential whose members are wrong (A4)."""
    text = f'Invalid auth.json credential for provider "{provider_id}"'
    way_out = "its members lack, or have the wrong type; log in again, or correct the file"
    return failure("auth", f"{text}: {way_out}", text=text, phase="auth")


# ── memory ───────────────────────────────────────────────────────────────────────────────────────────────────


class InMemoryCredentialStore:
    """Credentials of this process.

    :param initial: provider id → members of a credential.
    """

    def __init__(
        self, initial: Mapping[str, Mapping[str, Any]] | None = None, *, values: ConfigValues | None = None
    ) -> None:
        self._entries = {name: Credential(members) for name, members in (initial or {}).items()}
        self._queues: dict[str, Queue] = {}
        self._values = values or ConfigValues()

    async def read(self, provider_id: str) -> Credential | None:
        """See :class:`CredentialStore`."""
        return await _resolved(provider_id, self._entries.get(provider_id), self._values)

    def peek(self, provider_id: str) -> Credential | None:
        """See :class:`CredentialStore`."""
        return self._entries.get(provider_id)

    async def list(self) -> Sequence[CredentialInfo]:
        """See :class:`CredentialStore`."""
        return [CredentialInfo(name, credential.type) for name, credential in self._entries.items()]

    async def modify(self, provider_id: str, fn: Change) -> Credential | None:
        """See :class:`CredentialStore`."""
        queue = self._queues.setdefault(provider_id, Queue())
        ticket = await queue.enter()
        try:
            with CancelScope(shield=True):
                new = await fn(self._entries.get(provider_id))
                if new is not None:
                    self._entries[provider_id] = new
            return self._entries.get(provider_id)
        finally:
            queue.leave(ticket)

    async def delete(self, provider_id: str) -> None:
        """See :class:`CredentialStore`."""
        queue = self._queues.setdefault(provider_id, Queue())
        ticket = await queue.enter()
        try:
            self._entries.pop(provider_id, None)
        finally:
            queue.leave(ticket)


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────

_Entries: TypeAlias = dict[str, Any]


class _CredentialFile:
    """Reading ``auth.json``."""

    def __init__(self, path: str | os.PathLike[str] | None = None, *, values: ConfigValues | None = None) -> None:
        self.path = os.path.abspath(os.path.expanduser(path or agent_dir() / "auth.json"))
        self._values = values or ConfigValues()
        self._known: tuple[tuple[int, ...], _Entries] | None = None
        self._warned = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"

    async def read(self, provider_id: str) -> Credential | None:
        """See :class:`CredentialStore`."""
        return await _resolved(provider_id, _entry(await self._entries(), provider_id), self._values)

    def peek(self, provider_id: str) -> Credential | None:
        """See :class:`CredentialStore`. A file that cannot be read holds nothing new."""
        try:
            entries = self._parsed(fresh=False)
        except (OSError, ValueError):
            entries = self._known[1] if self._known is not None else {}
        return _entry(entries, provider_id)

    async def list(self) -> Sequence[CredentialInfo]:
        """See :class:`CredentialStore`."""
        entries = await self._entries()
        return [CredentialInfo(name, found.type) for name in entries if (found := _entry(entries, name)) is not None]

    async def _entries(self) -> _Entries:
        """What the file says; what it said last, where it cannot be understood now (A15)."""
        try:
            return await self._load()
        except PiAIError as error:
            if self._known is None:
                raise
            _log.warning("%s Using what was read before.", error.info.message)
            return self._known[1]

    async def _load(self, *, fresh: bool = False) -> _Entries:
        reason = ""
        for attempt in range(READ_ATTEMPTS):
            if attempt:
                await anyio.sleep(READ_PAUSE_S)
            try:
                return self._parsed(fresh=fresh)
            except ValueError as error:
                reason = str(error)
            except OSError as error:
                reason = str(error.strerror)
                break
        message = f"{self.path} cannot be read: {reason}. It is left as it is; correct it, or move it away."
        raise failure("auth", message, phase="auth")

    def _parsed(self, *, fresh: bool) -> _Entries:
        """The content, read only if it is another file than last time (A31)."""
        try:
            if not fresh and self._known is not None and _identity(os.stat(self.path)) == self._known[0]:
                return self._known[1]
            with open(self.path, "rb") as file:
                status = os.fstat(file.fileno())
                data = file.read()
        except FileNotFoundError:
            return {}
        if len(data) < status.st_size:
            raise ValueError("it is being written")
        self._warn_of_readers(status)
        entries = _understood(data)
        self._known = _identity(status), entries
        return entries

    def _warn_of_readers(self, status: os.stat_result) -> None:
        if os.name != "nt" and status.st_mode & 0o077 and not self._warned:
            self._warned = True
            _log.warning("Other users can read the credentials in %s; chmod 600 it.", self.path)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _understood(data: bytes) -> _Entries:
    """:raises ValueError: it is no JSON object; quotes nothing of it."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is no UTF-8") from None
    if not text.strip():
        return {}
    value = decode_json(text)
    if not isinstance(value, dict):
        raise ValueError(f"it must hold a JSON object, not {type(value).__name__}")
    return cast("_Entries", value)


def _entry(entries: _Entries, provider_id: str) -> Credential | None:
    members = entries.get(provider_id)
    return Credential(cast("_Entries", members)) if isinstance(members, dict) else None


class FileCredentialStore(_CredentialFile):
    """pi's ``auth.json``, for any number of programs at a time.

    :param path: default: ``auth.json`` in the folder that is shared with pi (A10).
    :param values: how keys such as ``$NAME`` are read.
    """

    async def modify(self, provider_id: str, fn: Change) -> Credential | None:
        """See :class:`CredentialStore`. Waiting for the lock can be cancelled; what follows cannot (A27, A50)."""
        async with FileLock(self._prepared()) as lock:
            with CancelScope(shield=True):
                current = _entry(await self._load(fresh=True), provider_id)
                lock.check()
                new = await fn(current)
                if new is None:
                    return current
                await self._put(lock, provider_id, dict(new))
                return new

    async def delete(self, provider_id: str) -> None:
        """See :class:`CredentialStore`."""
        if provider_id not in await self._load(fresh=True):
            return
        async with FileLock(self._prepared()) as lock:
            with CancelScope(shield=True):
                await self._put(lock, provider_id, None)

    def _prepared(self) -> str:
        """The path of the file with links followed; folder and file are made if they are not there (A12)."""
        try:
            path = os.path.realpath(self.path)
            _make_folder(os.path.dirname(path))
            with suppress(FileExistsError), open(path, "xb", opener=_private) as file:
                file.write(b"{}")
        except OSError as error:
            raise self._unwritable(error) from None
        return path

    async def _put(self, lock: FileLock, provider_id: str, members: _Entries | None) -> None:
        """Write one entry, in a thread that ends its work even where the caller is torn away."""

        def write() -> None:
            entries = {**self._parsed(fresh=True)}  # others may have added something, with a lock or without
            if members is None:
                entries.pop(provider_id, None)
            else:
                entries[provider_id] = members
            _replace(os.path.realpath(self.path), _written(entries))

        try:
            await to_thread.run_sync(lock.run, write)
        except OSError as error:
            raise self._unwritable(error) from None
        except ValueError as error:
            raise failure("auth", f"{self.path} was not changed: {error}.", phase="auth") from None

    def _unwritable(self, error: OSError) -> PiAIError:
        message = f"Credentials cannot be saved to {self.path}: {error.strerror}."
        return failure("auth", message, phase="auth")


class ReadOnlyCredentialStore(_CredentialFile):
    """A file of credentials that somebody else manages. All of it must be right (A34).

    :param path: the file.
    """

    def __init__(self, path: str | os.PathLike[str], *, values: ConfigValues | None = None) -> None:
        super().__init__(path, values=values)

    async def _entries(self) -> _Entries:
        entries = await super()._entries()
        for name in entries:
            credential = _entry(entries, name)
            if credential is None or credential.type not in ("api_key", "oauth") or not credential.is_usable:
                raise invalid_credential(name)
        return entries

    async def modify(self, provider_id: str, fn: Change) -> Credential | None:
        """Refuse.

        :raises PiAIError: kind ``auth``.
        """
        raise self._refused()

    async def delete(self, provider_id: str) -> None:
        """Refuse.

        :raises PiAIError: kind ``auth``.
        """
        raise self._refused()

    def _refused(self) -> PiAIError:
        return failure("auth", f"{self.path} is read only here; FileCredentialStore can write.", phase="auth")


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _make_folder(path: str) -> None:
    """Make a folder and those above it, for this user only (A12)."""
    if not os.path.isdir(path):
        _make_folder(os.path.dirname(path))
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)


def _written(entries: _Entries) -> bytes:
    """As JavaScript writes it (A11): two blanks, no ASCII escapes but for lone surrogates, no newline at the end.

    :raises ValueError: something in it is no JSON.
    """
    try:
        text = json.dumps(entries, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the credential cannot be written as JSON ({type(error).__name__})") from None
    return text.encode("utf-8", "backslashreplace")


def _replace(path: str, data: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one (A14). The lock of the file is held."""
    import tempfile  # 2 ms, and seldom needed

    folder, name = os.path.split(path)
    prefix = f".{name}."
    try:
        for leftover in os.listdir(folder):  # of whoever was killed at this point
            if leftover.startswith(prefix) and leftover.endswith(".tmp"):
                os.unlink(os.path.join(folder, leftover))
        descriptor, temporary = tempfile.mkstemp(prefix=prefix, suffix=".tmp", dir=folder)
    except PermissionError:
        _overwrite(path, data)
        return
    try:
        old, new = os.stat(path), os.fstat(descriptor)
        same_owner = (old.st_uid, old.st_gid) == (new.st_uid, new.st_gid)
        with open(descriptor, "wb") as file:
            if os.name != "nt":
                os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        if same_owner:
            os.replace(temporary, path)
        else:
            _overwrite(path, data)
            os.unlink(temporary)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def _overwrite(path: str, data: bytes) -> None:
    """Write in place, where the folder or the owner of the file leaves no other way."""
    with open(path, "r+b") as file:
        file.write(data)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: str) -> None:
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # not every file system can
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
