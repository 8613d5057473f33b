r"""Cassettes: real answers of real providers, recorded once as the bytes that came, and played back ever after.

    async with Cassette("weather.jsonl", mode="once") as cassette, cassette.registry():
        message = await complete(model, context)

The first run asks the provider and writes the file; later ones need neither key nor network. What is played goes
through the real adapters, in the pieces in which it came. A :class:`Playback` plays it in other pieces, at another
pace, or broken; times are on the event loop's clock, so that trio's ``MockClock`` skips them.

The file has one JSON object a line: a request, the head of its answer, and then each chunk with the milliseconds at
which it came. It holds no key, token or cookie: of the headers only harmless ones are written, and what was sent in
the others is blotted out wherever a line has it whole, and in the frames of AWS; not where a model spells it out over
several events. It does hold prompts and answers.
"""

from __future__ import annotations

import base64
import difflib
import json
import math
import os
import re
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from itertools import accumulate, islice
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, cast
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit
from zlib import crc32

import anyio
import attrs

from pi_ai.auth.base import Auth
from pi_ai.auth.credentials import Credential, CredentialInfo
from pi_ai.auth.store import Change
from pi_ai.errors import failure
from pi_ai.failures import redact
from pi_ai.providers.base import OptionsT
from pi_ai.providers.local import LocalProvider
from pi_ai.registry import Registry
from pi_ai.testing.wires import get_wire
from pi_ai.types import HttpClient, JSONObject, Model

Mode: TypeAlias = Literal["replay", "once", "record"]
_MODES: tuple[Mode, ...] = ("replay", "once", "record")
VERSION = 1

_TOLD_OF_REQUESTS = frozenset({"accept", "anthropic-beta", "anthropic-version", "content-type", "openai-beta"})
_TOLD_OF_ANSWERS = frozenset(
    {
        *{"content-type", "retry-after", "retry-after-ms", "x-should-retry", "x-amzn-errortype"},
        *{"x-ratelimit-reset", "x-ratelimit-reset-after"},
        *{"x-request-id", "request-id", "x-amzn-requestid", "apim-request-id", "x-ms-request-id", "x-goog-request-id"},
        *{"x-ds-trace-id", "mistral-correlation-id", "cf-ray"},
    }
)
"""What the adapters look at, so that a failure is played as the one that it was."""
_HARMLESS = _TOLD_OF_REQUESTS | {"accept-encoding", "connection", "content-length", "host", "user-agent"}
_TOLD_IN_QUERIES = frozenset({"alt", "api-version", "beta"})


@attrs.frozen(kw_only=True)
class Playback:
    """How recorded answers are played. Combine at will; the default is whole, in the recorded pieces, at once.

    :ivar speed: 1: as it came; 10: ten times as fast; default: without any waiting.
    :ivar bytes_per_read: cut into pieces of so many bytes.
    :ivar stop_after: play no more than so many of the recorded chunks.
    :ivar cut_at: play no more than so many bytes of the body.
    :ivar then: what follows, there or after everything: the proper ``end``, a ``close`` in the middle of the body, a
        broken connection (``reset``), or silence for ever (``stall``).
    """

    speed: float = attrs.field(default=math.inf, validator=attrs.validators.gt(0.0))
    bytes_per_read: int | None = attrs.field(default=None, validator=attrs.validators.optional(attrs.validators.ge(1)))
    cut_at: int | None = attrs.field(default=None, validator=attrs.validators.optional(attrs.validators.ge(0)))
    stop_after: int | None = attrs.field(default=None, validator=attrs.validators.optional(attrs.validators.ge(0)))
    then: Literal["end", "close", "reset", "stall"] = attrs.field(
        default="end", validator=attrs.validators.in_(("end", "close", "reset", "stall"))
    )


@attrs.define(eq=False)
class _Exchange:
    """A request and what came back.

    :ivar chunks: milliseconds since the request was sent, and bytes.
    :ivar error: name and words of the exception that ended it.
    """

    method: str
    url: str
    body: bytes
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])
    status: int = 0
    answer_headers: Mapping[str, str] = attrs.field(factory=dict[str, str])
    head_ms: float = 0.0
    chunks: list[tuple[float, bytes]] = attrs.field(factory=list[tuple[float, bytes]])
    error: tuple[str, str] | None = None
    secrets: tuple[str, ...] = attrs.field(default=(), repr=False)
    played: bool = False

    def asks(self, other: _Exchange) -> bool:
        """Whether both ask the same: method, path and body; the host may be another one."""
        mine, theirs = (urlsplit(each.url) for each in (self, other))
        same = (self.method, _path(mine.path), _query(mine.query)) == (
            other.method,
            _path(theirs.path),
            _query(theirs.query),
        )
        return same and _canonical(self.body) == _canonical(other.body)


class Cassette:
    """An HTTP client that records, or plays what was recorded; :meth:`registry` has all calls use it.

    Several streams may use it at once. A recorded answer is played once; requests that are alike, such as retries, get
    theirs in the recorded order.

    :ivar requests: what was asked while it was open, as recorded: URL and body.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        mode: Mode = "replay",
        playback: Playback | None = None,
        client: Callable[[], Any] | None = None,
        scrub: Callable[[str], str] | None = None,
    ) -> None:
        """Name the file.

        :param mode: ``replay``: only play; ``once``: record if there is no file, else play; ``record``: always anew.
        :param client: makes the ``httpx.AsyncClient`` that a recording sends with; default: one without more ado.
        :param scrub: takes out of every written text what else must not be in the file.
        :raises ValueError: an unknown mode.
        :raises ConfigError: there is no recording to play, or it cannot be read.
        """
        if mode not in _MODES:
            raise ValueError(f"mode must be one of {', '.join(_MODES)}, not {mode!r}")
        self.path = Path(path)
        self.playback = playback or Playback()
        self.recording = mode == "record" or (mode == "once" and not self.path.exists())
        self.requests: list[tuple[str, bytes]] = []
        self._client = client
        self._scrub = scrub
        self._exchanges = [] if self.recording else _read(self.path)

    def registry(self, **fields: Any) -> Registry:
        """A registry whose calls are recorded, or played: ``async with cassette.registry() as pi:``.

        In its block the module-level functions use it as well. Where it plays, no key is needed, none is read, and the
        local model's server is not started.

        :param fields: of :class:`pi_ai.Registry`.
        """
        if self.recording:
            return Registry(http_client=self, **fields)
        replaced: Any = {"http_client": self, "credentials": _NoCredentials(), **fields}
        pi = Registry(**replaced)
        for name in pi.get_providers():
            provider = pi.get_provider(name)
            if provider is not None and not provider.takes_api_key:
                pi.set_runtime_api_key(name, _NO_KEY)
        pi.register_provider(_NotStarted())
        return pi

    def build_request(self, method: str, url: str, **kwargs: Any) -> _Outgoing:
        """A request, as ``httpx.AsyncClient`` makes one."""
        return _Outgoing(method, url, dict(kwargs.get("headers") or {}), kwargs.get("content") or b"", kwargs)

    async def send(self, request: _Outgoing, **kwargs: Any) -> _Played | _Recorded:
        """The answer: the recorded one, or the provider's, which is recorded.

        :raises ConfigError: nothing was recorded for this request; tells what is different.
        """
        asked = self._asked(request)
        self.requests.append((asked.url, asked.body))
        if not self.recording:
            return await self._found(asked).play(self.playback)
        self._exchanges.append(asked)
        return await _record(asked, request, kwargs, self._client or _default_client)

    def save(self) -> None:
        """Write what was recorded, even of answers that were left in the middle; nothing if nothing was."""
        if self.recording and self._exchanges:
            lines = [
                {"pi_ai_cassette": VERSION},
                *(line for each in self._exchanges for line in _lines(each, self._scrub)),
            ]
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self.path)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if exc is None:  # else an answer to forget would be played ever after
            self.save()

    def _asked(self, request: _Outgoing) -> _Exchange:
        url, hidden = _told_url(request.url)
        for name, value in request.headers.items():
            if name.lower() not in _HARMLESS:
                hidden |= {value, value.partition(" ")[2]}
        secrets = tuple(sorted((secret for secret in hidden if len(secret) >= 6), key=len, reverse=True))
        shown = {name.lower(): value for name, value in request.headers.items() if name.lower() in _TOLD_OF_REQUESTS}
        body = request.content
        if self._scrub is not None:
            url = self._scrub(url)
        text = _text(body)
        if text is not None:
            body = self._clean(text, secrets).encode()
        return _Exchange(request.method, url, body, shown, secrets=secrets)

    def _clean(self, text: str, secrets: Sequence[str]) -> str:
        text = redact(text, secrets)
        return self._scrub(text) if self._scrub else text

    def _found(self, asked: _Exchange) -> _Playing:
        for exchange in self._exchanges:
            if not exchange.played and exchange.asks(asked):
                exchange.played = True
                return _Playing(exchange)
        raise failure("config", _unknown(asked, self._exchanges, self.path), phase="send")


@attrs.frozen
class _Outgoing:
    method: str
    url: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    content: bytes = attrs.field(repr=False)
    arguments: Mapping[str, Any] = attrs.field(repr=False)


# ── playing ──────────────────────────────────────────────────────────────────────────────────────────────────


class _Playing:
    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange

    async def play(self, how: Playback) -> _Played:
        exchange = self._exchange
        await _wait(exchange.head_ms, how)
        if not exchange.status:
            raise _foreign(exchange.error or ("ConnectError", "nothing was recorded"))
        return _Played(exchange.status, exchange.answer_headers, self._body(how))

    async def _body(self, how: Playback) -> AsyncIterator[bytes]:
        exchange, left, before = self._exchange, math.inf if how.cut_at is None else how.cut_at, self._exchange.head_ms
        for at, chunk in islice(exchange.chunks, how.stop_after):
            await _wait(at - before, how)
            before = at
            chunk = chunk[: int(min(left, len(chunk)))]
            left -= len(chunk)
            size = how.bytes_per_read or len(chunk) or 1
            for start in range(0, len(chunk), size):
                yield chunk[start : start + size]
            if not left:
                break
        if how.then == "stall":
            await anyio.sleep_forever()
        if how.then in _BROKEN:
            raise _foreign(_BROKEN[how.then])
        if exchange.error is not None and left and how.stop_after is None:
            raise _foreign(exchange.error)


_BROKEN = {
    "close": ("RemoteProtocolError", "peer closed connection without sending complete message body"),
    "reset": ("ReadError", "the connection was reset, as the playback wants it"),
}


class _Played:
    """An answer, as far as ``pi_ai`` looks at one of ``httpx``."""

    is_stream_consumed = False

    def __init__(self, status: int, headers: Mapping[str, str], body: AsyncIterator[bytes]) -> None:
        self.status_code = status
        self.headers = headers
        self.stream = body

    async def aclose(self) -> None:
        await cast("Any", self.stream).aclose()


async def _wait(milliseconds: float, how: Playback) -> None:
    if milliseconds > 0 and how.speed != math.inf:
        await anyio.sleep(milliseconds / 1000 / how.speed)


def _foreign(error: tuple[str, str]) -> Exception:
    """An exception of an HTTP client; the transport knows them by name."""
    name, words = error
    return type(name, (Exception,), {})(words)


# ── recording ────────────────────────────────────────────────────────────────────────────────────────────────


def _default_client() -> HttpClient:
    import httpx

    return httpx.AsyncClient(timeout=None)  # noqa: S113 - the call's clocks hold


async def _record(
    exchange: _Exchange, request: _Outgoing, arguments: Mapping[str, Any], make: Callable[[], Any]
) -> _Recorded:
    client = make()
    try:
        began = anyio.current_time()
        # Compressed bytes could be neither read in the file nor compared.
        headers = {**request.headers, "accept-encoding": "identity"}
        outgoing = client.build_request(request.method, request.url, **{**request.arguments, "headers": headers})
        response = await client.send(outgoing, **arguments)
        exchange.head_ms = _since(began)
        exchange.status = response.status_code
        named = {name.lower(): value for name, value in response.headers.items()}
        told = {**_encoding(named), **{name: value for name, value in named.items() if name in _TOLD_OF_ANSWERS}}
        exchange.answer_headers = told
        return _Recorded(client, response, exchange, began)
    except BaseException as error:
        if isinstance(error, Exception):
            exchange.error = type(error).__name__, str(error)
        with anyio.CancelScope(shield=True):
            await client.aclose()
        raise


def _encoding(headers: Mapping[str, str]) -> dict[str, str]:
    encoding = headers.get("content-encoding")
    return {} if encoding is None else {"content-encoding": encoding}


class _Recorded:
    """An answer of the provider's; each of its chunks is kept."""

    is_stream_consumed = False

    def __init__(self, client: Any, response: Any, exchange: _Exchange, began: float) -> None:
        self.status_code: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.stream = self
        self._client = client
        self._response = response
        self._source = aiter(response.stream)
        self._exchange = exchange
        self._began = began

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk: bytes = await anext(self._source)
        except StopAsyncIteration:
            raise
        except Exception as error:
            self._exchange.error = type(error).__name__, str(error)
            raise
        self._exchange.chunks.append((_since(self._began), chunk))
        return chunk

    async def aclose(self) -> None:
        try:
            if hasattr(self._source, "aclose"):
                await self._source.aclose()
            await self._response.aclose()
        finally:
            with anyio.CancelScope(shield=True):
                await self._client.aclose()


def _since(began: float) -> float:
    return round((anyio.current_time() - began) * 1000, 1)


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────


def _lines(exchange: _Exchange, scrub: Callable[[str], str] | None) -> list[JSONObject]:
    asked = {
        "method": exchange.method,
        "url": exchange.url,
        "headers": exchange.headers,
        **_data(exchange.body, "body"),
    }
    lines: list[JSONObject] = [{"request": asked}]
    if exchange.status:
        head = {"status": exchange.status, "headers": exchange.answer_headers}
        lines.append({"response": head, "ms": exchange.head_ms})
    lines += [{"ms": at, **_data(chunk, "text")} for at, chunk in _blotted(exchange, scrub)]
    if exchange.error is not None:
        name, words = exchange.error
        lines.append({"error": {"name": name, "message": redact(words, exchange.secrets)}})
    return lines


def _blotted(exchange: _Exchange, scrub: Callable[[str], str] | None) -> list[tuple[float, bytes]]:
    """The chunks without what must not be told, wherever it stands, across two of them, too."""

    def clean(text: str) -> str:
        text = redact(text, exchange.secrets)
        return scrub(text) if scrub else text

    whole = b"".join(chunk for _, chunk in exchange.chunks)
    text = _text(whole)
    changes = list(_changed_frames(whole, clean) if text is None else _changed_lines(whole, clean))
    if text is not None and _spliced(exchange.chunks, changes, whole)[1] != clean(text).encode():
        changes = [(0, len(whole), clean(text).encode())]  # what it takes out has more than a line
    return _spliced(exchange.chunks, changes, whole)[0]


_Change: TypeAlias = tuple[int, int, bytes]
"""Where it begins and ends, and what is there from now on."""


def _changed_lines(whole: bytes, clean: Callable[[str], str]) -> Iterator[_Change]:
    at = 0
    for line in whole.splitlines(keepends=True):
        new = clean(line.decode()).encode()
        if new != line:
            yield at, at + len(line), new
        at += len(line)


def _changed_frames(whole: bytes, clean: Callable[[str], str]) -> Iterator[_Change]:
    """The same for frames of AWS, with lengths and checksums made anew; from what is no frame on, byte by byte."""
    at = 0
    while (frame := whole[at : at + int.from_bytes(whole[at : at + 4])]) and _is_frame(frame):
        head = 12 + int.from_bytes(frame[4:8])
        headers, payload = frame[12:head], frame[head:-4]
        new = clean(payload.decode(errors="surrogateescape")).encode(errors="surrogateescape")
        if new != payload:
            prelude = (16 + len(headers) + len(new)).to_bytes(4) + frame[4:8]
            begun = prelude + crc32(prelude).to_bytes(4) + headers + new
            yield at, at + len(frame), begun + crc32(begun).to_bytes(4)
        at += len(frame)
    rest = whole[at:]
    new = clean(rest.decode(errors="surrogateescape")).encode(errors="surrogateescape")
    if new != rest:
        yield at, len(whole), new


def _is_frame(data: bytes) -> bool:
    whole = len(data) >= 16 and int.from_bytes(data[:4]) == len(data) and 16 + int.from_bytes(data[4:8]) <= len(data)
    return whole and crc32(data[:8]) == int.from_bytes(data[8:12]) and crc32(data[:-4]) == int.from_bytes(data[-4:])


def _spliced(
    chunks: Sequence[tuple[float, bytes]], changes: Sequence[_Change], whole: bytes
) -> tuple[list[tuple[float, bytes]], bytes]:
    """The chunks with the changes, each in the chunk where it begins, at the times that they came; and all of it."""
    ends = list(accumulate(len(chunk) for _, chunk in chunks))
    made = [bytearray() for _ in chunks]
    at = 0
    for start, stop, new in [*changes, (len(whole), len(whole), b"")]:
        while at < start:
            index = bisect_right(ends, at)
            until = min(start, ends[index])
            made[index] += whole[at:until]
            at = until
        if new:
            made[bisect_right(ends, start)] += new
        at = stop
    pieces = [(when, bytes(piece)) for (when, _), piece in zip(chunks, made, strict=True) if piece]
    return pieces, b"".join(piece for _, piece in pieces)


def _data(data: bytes, name: str) -> JSONObject:
    """Bytes as JSON: a document as it is, a text as text, anything else in base64."""
    text = _text(data)
    if text is None:
        return {"base64": base64.b64encode(data).decode()}
    if name == "body":
        try:
            return {"json": json.loads(text)}
        except ValueError:
            pass
    return {name: text}


def _bytes(line: Mapping[str, Any]) -> bytes:
    if "base64" in line:
        return base64.b64decode(line["base64"])
    if "json" in line:
        return json.dumps(line["json"], ensure_ascii=False).encode()
    return (line.get("text") or line.get("body") or "").encode()


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _read(path: Path) -> list[_Exchange]:
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
        version = lines[0]["pi_ai_cassette"]
    except FileNotFoundError:
        text = f'There is no recording {path}. Record it: Cassette(…, mode="once"), or pytest --pi-ai-record=once.'
        raise failure("config", text) from None
    except (ValueError, LookupError, TypeError) as error:
        raise failure("config", f"{path} is no cassette, or a broken one: {error}") from None
    if version != VERSION:
        raise failure(
            "config", f"{path} is a cassette of version {version!r}; this pi_ai reads {VERSION}. Record it anew."
        )
    exchanges: list[_Exchange] = []
    for line in lines[1:]:
        match line:
            case {"request": {"method": method, "url": url} as asked}:
                exchanges.append(_Exchange(method, url, _bytes(asked), asked.get("headers", {})))
            case {"response": {"status": status, "headers": headers}, "ms": at}:
                exchanges[-1].status, exchanges[-1].answer_headers, exchanges[-1].head_ms = status, headers, at
            case {"ms": at}:
                exchanges[-1].chunks.append((at, _bytes(line)))
            case {"error": {"name": name, "message": words}}:
                exchanges[-1].error = name, words
            case _:
                raise failure("config", f"{path}: a line that is no part of a cassette: {str(line)[:80]}")
    return exchanges


# ── telling apart ────────────────────────────────────────────────────────────────────────────────────────────


_ACCOUNT = re.compile(r"(?<=/)(?:[0-9a-f]{32}|\d{12})(?=/)|(?<=/projects/)[^/]+|(?<=:)\d{12}(?=:)")
"""What names an account in a path: at Cloudflare, in AWS's names of resources, at Google Cloud."""


def _told_url(url: str) -> tuple[str, set[str]]:
    """A URL without what may be a secret: user, fragment, unknown parameters, ids of accounts; and what these were."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    asked, path = parse_qsl(parts.query), unquote(parts.path)
    hidden = {
        *user.split(":"),
        *_ACCOUNT.findall(path),
        *(value for name, value in asked if name not in _TOLD_IN_QUERIES),
    }
    query = urlencode([(name, value if name in _TOLD_IN_QUERIES else "[redacted]") for name, value in asked])
    return f"{parts.scheme}://{host}{_ACCOUNT.sub('[redacted]', path)}" + (f"?{query}" if query else ""), hidden


def _path(path: str) -> str:
    """A path without the place at Google Cloud: with a key there is none in it."""
    return re.sub(r"/projects/[^/]+/locations/[^/]+(?=/)", "", path)


def _query(query: str) -> list[tuple[str, str]]:
    return sorted(parse_qsl(query))


def _canonical(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return body


_ANEW = "Record anew (pytest --pi-ai-record=all, or without the file)"


def _unknown(asked: _Exchange, exchanges: Sequence[_Exchange], path: Path) -> str:
    """What is said of a request that was not recorded: how the nearest one differs."""
    words = f"{asked.method} {asked.url} was not recorded in {path}"
    free = [each for each in exchanges if not each.played and urlsplit(each.url).path == urlsplit(asked.url).path]
    if not free:
        count = sum(each.played for each in exchanges)
        return f"{words}: {count} of its {len(exchanges)} answers were played, and no other is for this path. {_ANEW}"
    before, after = _pretty(free[0].body), _pretty(asked.body)
    changes = list(difflib.unified_diff(before, after, "recorded", "asked", lineterm="", n=1))[:60]
    return f"{words}; the next one recorded for this path differs. {_ANEW}, or ask the same:\n" + "\n".join(changes)


def _pretty(body: bytes) -> list[str]:
    found = _canonical(body)
    text = str(found) if isinstance(found, bytes) else json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False)
    return text.splitlines()


# ── playing without a key ────────────────────────────────────────────────────────────────────────────────────

_NO_KEY = "no-key-is-needed-here"


class _NoCredentials:
    """A store that has a key for everybody: what is recorded can be played where nobody is logged in."""

    async def read(self, provider_id: str) -> Credential | None:
        place = {"AZURE_OPENAI_RESOURCE_NAME": "recorded", "CLOUDFLARE_ACCOUNT_ID": "0" * 32}
        return Credential.api_key(_NO_KEY, {name: value for name, value in place.items() if name not in os.environ})

    async def list(self) -> Sequence[CredentialInfo]:
        return []

    async def modify(self, provider_id: str, fn: Change) -> Credential | None:
        return await fn(await self.read(provider_id))

    async def delete(self, provider_id: str) -> None:
        """There is nothing to forget."""


class _NotStarted(LocalProvider):
    """The local model, whose answers are there already."""

    async def resolve(self, model: Model, options: OptionsT, auth: Auth | None = None) -> tuple[Model, OptionsT]:
        if not model.base_url:
            model = attrs.evolve(model, base_url=f"http://127.0.0.1:9{get_wire(model.api).base}")
        return await super().resolve(model, options, auth)
