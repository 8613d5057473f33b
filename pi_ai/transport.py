"""HTTP: open, limits, close. The only importer of httpx and httpcore, both on first use.

One call is one :class:`Exchange`: ``connections.open(...)`` sends a request and returns it at the response's head;
``read()`` gives the next bytes of the body; ``aclose()`` releases the connection, inside out. Every wait is bounded by
the clocks of the call (reliability section 3 D), and every foreign exception becomes a :class:`PiAIError` here.

The pool is ours (D6): a last-in-first-out list of httpcore's single connections, because its pool loses slots when
requests are cancelled while they wait and rescans all its connections at every request. Our connections run over a
network stream of our own, at which clocks and ``abort()`` are armed. It gives httpcore the head of an answer and not a
byte more, so that a chunked body can be read past it: httpcore takes it chunk by chunk, and ten times as long.
"""

from __future__ import annotations

import math
import os
import re
import selectors
import ssl
import sys
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from functools import cache, lru_cache, partial
from socket import socket
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, getproxies_environment, proxy_bypass
from weakref import WeakKeyDictionary

import anyio
import attrs
from anyio import CancelScope
from anyio.abc import SocketAttribute
from anyio.lowlevel import current_token

from pi_ai.clocks import Clocks
from pi_ai.errors import ErrorKind, Phase, PiAIError, failure
from pi_ai.retries import RetryBudget
from pi_ai.types import HttpClient
from pi_ai.urls import host_of, is_loopback
from pi_ai.wire.chunked import ChunkedDecoder

if TYPE_CHECKING:
    import httpx
    from anyio.abc import ByteStream

T = TypeVar("T")
BaseErrorT = TypeVar("BaseErrorT", bound=BaseException)

CREDENTIAL_HEADERS = frozenset(
    {
        "api-key",
        "authorization",
        "cf-aig-authorization",
        "cookie",
        "proxy-authorization",
        "x-amz-security-token",
        "x-api-key",
        "x-goog-api-key",
    }
)
"""Names of headers that hold a credential."""
MAX_ERROR_BYTES = 1024 * 1024
"""Most that is read of the body of an error (reliability F30)."""
CLOSE_TIMEOUT_S = 1.0
"""Longest that closing a connection may take (F58)."""
DRAIN_TIMEOUT_S = 0.1
"""How long the end of the body is waited for after the answer's end, so that the connection can be reused (F25)."""
MAX_INFLATED_BYTES = 1024 * 1024
"""Most that one step of decompression makes of what came (F70)."""
MAX_READ_BYTES = 64 * 1024
"""Most that one read takes from the network."""
MAX_IDLE = 100
"""Most idle connections that a pool keeps."""
MAX_IDLE_AGE_S = 60.0
"""How long an idle connection is kept."""


@attrs.frozen(kw_only=True)
class HttpRequest:
    """A request as it goes out. The body is encoded once, so that what is signed is what is sent.

    :ivar allow_insecure: a credential in it may go over plain ``http``, wherever it goes.
    """

    url: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=lambda body: f"<{len(body)} bytes>")
    method: str = "POST"
    allow_insecure: bool = False

    def check_secrecy(self) -> None:
        """See to it that nobody on the way can read a credential (X6).

        :raises PiAIError: kind ``config``: one would go to another machine over plain ``http``.
        """
        if self.allow_insecure or self.url[:5].lower() != "http:" or is_loopback(host_of(self.url)):
            return
        for name, value in self.headers.items():
            if value and name.lower() in CREDENTIAL_HEADERS:
                host = host_of(self.url)
                raise failure(
                    "config",
                    f"Header {name} holds a credential, which everybody on the way to {host} could read: use https, "
                    "or allow it with allow_insecure=True",
                    text=f"A credential is not sent over plain http to {host}",
                    phase="auth",
                )


# ── connections ──────────────────────────────────────────────────────────────────────────────────────────────


@cache
def _tls() -> ssl.SSLContext:
    """One verifying context for the process: building one blocks for 37 ms."""
    import httpx

    return httpx.create_ssl_context()


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for a URL: ``HTTP(S)_PROXY``, ``ALL_PROXY``, ``NO_PROXY`` (core H5)."""
    if getproxies is getproxies_environment and not any(name.lower().endswith("_proxy") for name in os.environ):
        return None  # as nearly everywhere, and seen in a fifth of the time
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or not parts.hostname or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


_Key: TypeAlias = tuple[str, str, int | None, str | None]


class _Connection:
    """One connection, idle or lent to a call.

    It is also the network backend of its own httpcore connection: every wait for the network passes through here, so
    that the clocks of the call that has it now apply (F42), and that it is known how far the request has come.

    :ivar slot: what the pool's limiter knows it by.
    :ivar reused: it has served before.
    :ivar phase: ``connect`` until it stands, ``send`` until the request is out, then ``headers``.
    """

    slot: object
    clocks: Clocks
    connect_by: float
    phase: Phase

    def __init__(self, url: httpx.URL, proxy: str | None, key: _Key) -> None:
        """Prepare a connection; nothing is sent yet.

        :raises PiAIError: the proxy's URL is none (kind ``config``).
        """
        import httpcore

        self.key = key
        self.reused = False
        self._stream: _NetworkStream | None = None
        self._secure = url.scheme == "https"
        tls = _tls() if self._secure else None
        origin = httpcore.Origin(url.raw_scheme, url.raw_host, url.port or (443 if tls else 80))
        if proxy is None:
            self.http: Any = httpcore.AsyncHTTPConnection(origin, ssl_context=tls, network_backend=self)  # pyright: ignore[reportArgumentType] - by structure
        else:
            via = _proxy(proxy)
            maker = httpcore.AsyncHTTPProxy(
                httpcore.URL(str(via.url)),
                proxy_auth=via.raw_auth,
                proxy_ssl_context=_tls() if via.url.scheme == "https" else None,
                ssl_context=tls,
                network_backend=self,  # pyright: ignore[reportArgumentType] - by structure
            )
            self.http = maker.create_connection(origin)

    def lend(self, slot: object, clocks: Clocks, connect_by: float) -> None:
        """From now on it serves a call.

        :param connect_by: when it has to stand, on the event loop's clock.
        """
        self.slot, self.clocks, self.connect_by = slot, clocks, connect_by
        self.phase = "send" if self.reused else "connect"

    @property
    def usable(self) -> bool:
        """Whether it can serve another request; not if either side has closed it, or if the server said more than its
        answer: the next one would begin with that (F25).
        """
        return self.http.is_available() and not self.http.has_expired() and not self._holds_more()

    def _holds_more(self) -> bool:
        inner = getattr(self.http, "_connection", None)
        h11_state = getattr(getattr(inner, "_connection", inner), "_h11_state", None)  # a tunnel has one more layer
        return h11_state is not None and bool(h11_state.trailing_data[0])

    async def aclose(self) -> None:
        await _quietly(self.http.aclose)

    def body(self, request: httpx.Request, response: Any) -> AsyncIterable[bytes]:
        """The body of an answer, whose head has come."""
        stream = self._stream
        assert stream is not None
        stream.in_head = False
        if response.status in (204, 304) or request.method == "HEAD":  # they have none, whatever their heads say
            return response.stream
        chunked = any(name.lower() == b"transfer-encoding" for name, _ in response.headers)  # no other is accepted
        return _Chunked(stream, response.stream) if chunked else response.stream

    # httpcore's AsyncNetworkBackend

    async def connect_tcp(self, host: str, port: int, timeout: Any = None, **more: Any) -> _NetworkStream:
        return await self._connected(partial(anyio.connect_tcp, host, port), inside=not self._secure)

    async def start_tls(self, stream: ByteStream, context: ssl.SSLContext, host: str | None) -> _NetworkStream:
        from anyio.streams.tls import TLSStream

        self.phase = "connect"
        wrap = partial(TLSStream.wrap, stream, hostname=host, ssl_context=context, standard_compatible=False)
        try:
            return await self._connected(wrap, inside=True)
        except BaseException:
            await _quietly(stream.aclose)  # nobody else has it if the handshake failed or was cancelled
            raise

    async def _connected(self, connect: Callable[[], Awaitable[ByteStream]], *, inside: bool) -> _NetworkStream:
        import httpcore

        async def in_time() -> ByteStream:
            with anyio.fail_after(max(0.0, self.connect_by - anyio.current_time())):
                return await connect()

        try:
            stream = await self.clocks.wait(in_time, phase="connect")
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except (OSError, *_LOST) as error:  # what is wrong with TLS is an OSError, too
            raise httpcore.ConnectError(str(error)) from error
        self._stream = _NetworkStream(stream, self, inside=inside)
        return self._stream


_LOST = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)
_END_OF_HEAD = re.compile(rb"\n\r?\n")


class _NetworkStream:
    """A network stream for httpcore: reads and writes wait within the clocks of the call.

    :param inside: what is written goes to the server itself, not to a proxy that has yet to make the tunnel.
    :ivar in_head: reads stop behind an empty line, where a head ends.
    """

    def __init__(self, stream: ByteStream, connection: _Connection, *, inside: bool) -> None:
        self._stream = stream
        self._connection = connection
        self._inside = inside
        self.in_head = True
        self._sending = False
        self._unsent = b""  # the head of a request, which goes out with its body
        self._read = b""  # the last bytes of the head so far
        self._ahead = b""  # came behind the head

    async def read(self, max_bytes: int, timeout: Any = None) -> bytes:
        self._sending = False
        data = await self.receive()
        if self.in_head:
            head = self._read + data
            end = _END_OF_HEAD.search(head)
            if end is None:
                self._read = head[-2:]
            else:
                cut = end.end() - len(self._read)
                data, self._ahead, self._read = data[:cut], data[cut:], b""
        return data

    async def receive(self) -> bytes:
        """The next bytes that came, ``b""`` at their end."""
        if self._ahead:
            data, self._ahead = self._ahead, b""
            return data
        try:
            return await self._connection.clocks.wait(self._receive, phase="stream")
        except anyio.EndOfStream:
            return b""
        except _LOST as error:
            import httpcore

            raise httpcore.ReadError(str(error)) from error

    def _receive(self) -> Awaitable[bytes]:
        return self._stream.receive(MAX_READ_BYTES)

    def put_back(self, data: bytes) -> None:
        """Let the next read give this."""
        self._ahead = data

    async def write(self, buffer: bytes, timeout: Any = None) -> None:
        """Called with the head of a request, with its body, and with the end of that, which may be empty."""
        if not self._sending:
            self._sending, self._unsent = True, buffer
            return
        data, self._unsent = self._unsent + buffer, b""
        if not data:
            return
        connection = self._connection
        if self._inside:
            connection.phase = "send"
        self.in_head = True
        try:
            await connection.clocks.wait(partial(self._stream.send, data), phase=connection.phase)
        except _LOST as error:
            import httpcore

            raise httpcore.WriteError(str(error)) from error
        if self._inside:
            connection.phase = "headers"

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: Any = None
    ) -> Any:
        return await self._connection.start_tls(self._stream, ssl_context, server_hostname)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        from anyio.streams.tls import TLSAttribute

        if info == "is_readable":  # of an idle connection: its end has come, or what nobody asked for
            return bool(self._ahead) or _is_readable(self._stream.extra(SocketAttribute.raw_socket, None))
        return self._stream.extra(TLSAttribute.ssl_object, None) if info == "ssl_object" else None


def _is_readable(raw: socket | None) -> bool:
    """Whether a read would not wait, of a socket that may be closed or, in a test, none at all."""
    if raw is None or raw.fileno() < 0:
        return raw is not None
    with _Selector() as selector:
        selector.register(raw, selectors.EVENT_READ)
        return bool(selector.select(0))


_Selector: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)
"""The default one takes two more calls of the system."""


@cache
def _chunked_decoder() -> type[ChunkedDecoder]:
    """The one in C where the extra ``speed`` is installed."""
    try:
        from pi_ai.wire.fast_chunked import FastChunkedDecoder
    except ImportError:
        return ChunkedDecoder
    return FastChunkedDecoder


class _Chunked:
    """A chunked body, read past httpcore, which is told of its end alone."""

    def __init__(self, stream: _NetworkStream, unread: AsyncIterable[bytes]) -> None:
        self._stream = stream
        self._unread: AsyncIterable[bytes] | None = unread
        self._decoder = _chunked_decoder()()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        decoder = self._decoder
        while not decoder.ended:
            if decoder.failure is not None:
                raise _no_http(decoder.failure)
            data = await self._stream.receive()
            if not data:
                raise _no_http("peer closed connection without sending complete message body (incomplete chunked read)")
            if body := decoder.feed(data):
                return body
        unread, self._unread = self._unread, None
        if unread is not None and not decoder.surplus:  # else httpcore goes without, and closes the connection (F25)
            self._stream.put_back(b"0\r\n\r\n")
            async for _ in unread:
                pass
        raise StopAsyncIteration


def _no_http(words: str) -> Exception:
    import httpcore

    return httpcore.RemoteProtocolError(words)


def _proxy(url: str) -> httpx.Proxy:
    import httpx

    try:
        proxy = httpx.Proxy(url if "://" in url else f"http://{url}")
        if proxy.url.scheme in ("http", "https") and proxy.url.host:
            return proxy
    except (ValueError, httpx.InvalidURL):
        pass  # and is not quoted: it may hold a password
    raise failure("config", "The proxy must be given as http://… or https://…", phase="connect")


class _Pool:
    """The connections of one event loop in one process (F64-F66).

    :ivar users: how many ``async with`` blocks keep connections in this event loop.
    """

    def __init__(self, limit: float) -> None:
        self.pid = os.getpid()
        self.users = 0
        self._limit = limit
        self._slots = anyio.CapacityLimiter(limit)
        self._idle: list[tuple[_Connection, float]] = []

    async def lease(self, url: httpx.URL, proxy: str | None, clocks: Clocks, *, fresh: bool) -> _Connection:
        """A connection to the URL's server: the idle one that was used last, or a new one, not yet connected.

        :param fresh: only a new one will do.
        :raises PiAIError: none was free within ``connect``.
        """
        slot, connect_by = object(), anyio.current_time() + clocks.connect_s
        with CancelScope(deadline=connect_by):
            await clocks.pause(partial(self._slots.acquire_on_behalf_of, slot))
            try:
                key = (url.scheme, url.host, url.port, proxy)
                connection = (None if fresh else await self._find(key)) or await self._make(url, proxy, key)
            except BaseException:
                self._slots.release_on_behalf_of(slot)
                raise
            connection.lend(slot, clocks, connect_by)
            return connection
        raise failure(
            "timeout_connect",
            f"All {self._limit} connections of the pool were busy for {clocks.connect_s:g} s; raise max_connections.",
            text=f"Request timed out: no free connection (limit {self._limit})",
            phase="connect",
        )

    async def _find(self, key: _Key) -> _Connection | None:
        """The fitting connection that was used last; what is too old or broken is closed on the way."""
        now = anyio.current_time()
        while self._idle and now - self._idle[0][1] > MAX_IDLE_AGE_S:
            await self._close_oldest()
        for index in range(len(self._idle) - 1, -1, -1):
            if self._idle[index][0].key == key:
                connection, _ = self._idle.pop(index)
                if connection.usable:
                    connection.reused = True
                    return connection
                await connection.aclose()
                return await self._find(key)
        return None

    async def _make(self, url: httpx.URL, proxy: str | None, key: _Key) -> _Connection:
        """A new connection; an idle one to another server gives way where the limit asks for it."""
        while self._idle and len(self._idle) + self._slots.borrowed_tokens > self._limit:
            await self._close_oldest()
        return _Connection(url, proxy, key)

    async def _close_oldest(self) -> None:
        await self._idle.pop(0)[0].aclose()

    async def release(self, connection: _Connection, intact: bool) -> None:
        """Take a connection back; it is kept if it is intact and anybody keeps connections here."""
        try:
            if intact and self.users and len(self._idle) < MAX_IDLE and connection.usable:
                self._idle.append((connection, anyio.current_time()))
            else:
                await connection.aclose()
        finally:
            self._slots.release_on_behalf_of(connection.slot)

    async def clear(self) -> None:
        """Close what is idle."""
        while self._idle:
            await self._close_oldest()


class Connections:
    """Makes connections. In an event loop that is inside of ``async with`` it keeps them for the next request.

    :param max_connections: most at the same time in one event loop, idle ones included; a request waits for a free one
        within ``connect``.
    :param budget: shared by all calls.
    """

    def __init__(self, *, max_connections: int | None = None, budget: RetryBudget | None = None) -> None:
        self.budget = budget
        self._limit = math.inf if max_connections is None else max_connections
        self._pools: WeakKeyDictionary[object, _Pool] = WeakKeyDictionary()

    def _pool(self) -> _Pool:
        loop = current_token().native_token
        pool = self._pools.get(loop)
        if pool is None or pool.pid != os.getpid():  # after a fork the parent's sockets are not ours to touch
            pool = self._pools[loop] = _Pool(self._limit)
        return pool

    async def __aenter__(self) -> Self:
        self._pool().users += 1
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        pool = self._pool()
        pool.users = max(0, pool.users - 1)
        if not pool.users:
            await pool.clear()

    async def open(
        self,
        request: HttpRequest,
        clocks: Clocks,
        *,
        client: HttpClient | None = None,
        proxy: str | None = None,
    ) -> Exchange:
        """Send a request and wait for the head of the answer, whatever its status.

        :param client: send with this one instead of our own connections.
        :param proxy: URL of a proxy; ``""``: none; None: what the environment says.
        :raises PiAIError: no connection, a clock ran out, or the peer broke the protocol; or a credential would go
            over plain ``http`` (X6).
        """
        import httpx

        request.check_secrecy()
        if client is not None:
            return await _open_with(client, request, clocks)
        try:
            # Host, Content-Length and the encoding of names are httpx's business.
            outgoing = httpx.Request(request.method, _url(request.url), headers=_headers(request), content=request.body)
        except Exception as error:
            raise _mapped(error, phase="connect") from error
        proxy = proxy_for(request.url) if proxy is None else proxy or None
        pool = self._pool()
        again = False
        while True:
            connection = await pool.lease(outgoing.url, proxy, clocks, fresh=again)
            try:
                response = await _send(connection, outgoing, request.body)
            except BaseException as error:
                await pool.release(connection, intact=False)
                gone = connection.reused and isinstance(error, PiAIError) and error.info.kind == "disconnected"
                if again or not gone:
                    raise
                again = True  # the server had closed an idle connection: this was no attempt yet (F49)
                continue
            return Exchange(
                response.status,
                {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers},
                connection.body(outgoing, response),
                read=None,
                close=response.aclose,
                release=partial(pool.release, connection),
            )


@lru_cache
def _url(text: str) -> httpx.URL:
    """Parsed once: most calls go where the last one went."""
    import httpx

    return httpx.URL(text)


async def _quietly(close: Callable[[], Awaitable[None]]) -> None:
    """Close within the bound, shielded; what goes wrong then concerns nobody."""
    with CancelScope(shield=True, deadline=anyio.current_time() + CLOSE_TIMEOUT_S):
        try:
            await close()
        except Exception:  # noqa: BLE001, S110 - see above
            pass


# ── one exchange ─────────────────────────────────────────────────────────────────────────────────────────────


class Exchange:
    """The answer to one request, from its head to the release of its connection.

    :ivar status: the HTTP status. ``headers``: by lower-case name.
    :ivar bytes_seen: bytes of the body so far.
    :ivar complete: set by the reader when it has all it needs; ``aclose`` then tries to keep the connection.
    """

    def __init__(
        self,
        status: int,
        headers: dict[str, str],
        body: AsyncIterable[bytes],
        *,
        read: Callable[[Callable[[], Awaitable[bytes]]], Awaitable[bytes]] | None,
        close: Callable[[], Awaitable[None]],
        release: Callable[[bool], Awaitable[None]] | None = None,
    ) -> None:
        self.status = status
        self.headers = headers
        self.bytes_seen = 0
        self.complete = False
        self.at_end = False
        self._ahead = b""
        self._raw = aiter(body)
        encoding = headers.get("content-encoding", "identity").strip().lower()
        self._body = self._raw if encoding in ("", "identity") else _Inflated(self._raw, encoding)
        self._advance = self._body.__anext__ if read is None else partial(read, self._next)
        self._close = close
        self._release = release
        self._closed = False

    async def read(self) -> bytes:
        """The next bytes of the body, ``b""`` at its end; bounded by the clocks of the call.

        :raises PiAIError: a clock ran out, or the connection broke.
        """
        if self._ahead:
            data, self._ahead = self._ahead, b""
            return data
        try:
            data = await self._advance()
        except StopAsyncIteration:
            self.at_end = True
            return b""
        except PiAIError:
            raise
        except Exception as error:
            raise _mapped(error, phase="stream") from error
        self.bytes_seen += len(data)
        return data

    async def _next(self) -> bytes:
        while not (data := await anext(self._body)):  # a transport of the caller's may give nothing
            pass
        return data

    async def peek(self) -> bytes:
        """The first bytes of the body that are not blank, and what was before them; ``read`` gives them again."""
        ahead = b""
        while not ahead.strip() and (data := await self.read()):
            ahead += data
        self._ahead = ahead
        return ahead

    async def read_all(self, limit: int) -> bytes:
        """The whole body.

        :raises PiAIError: kind ``too_large`` above ``limit`` bytes.
        """
        body = bytearray()
        while data := await self.read():
            body += data
            if len(body) > limit:
                raise failure(
                    "too_large", f"The answer is larger than {limit} bytes; raise max_body_bytes.", phase="stream"
                )
        return bytes(body)

    async def read_up_to(self, limit: int) -> bytes:
        """The first ``limit`` bytes of the body, or what can be had of them."""
        body = bytearray()
        try:
            while len(body) < limit and (data := await self.read()):
                body += data
        except PiAIError:
            pass
        return bytes(body[:limit])

    async def aclose(self) -> None:
        """Release the connection: kept where the body was read to its end, else closed. Idempotent, bounded."""
        if self._closed:
            return
        self._closed = True
        with CancelScope(shield=True, deadline=anyio.current_time() + CLOSE_TIMEOUT_S):
            try:
                if self.complete:
                    until = anyio.current_time() + DRAIN_TIMEOUT_S
                    with CancelScope(deadline=until):
                        while not self.at_end and anyio.current_time() < until:
                            await self.read()
            except PiAIError:
                pass
            await _quietly(self._close)
            if not self.at_end:
                await self._unwind()
        if self._release is not None:
            await self._release(self.at_end)

    async def _unwind(self) -> None:
        """End the nested generators of the HTTP library from the inside out (S18).

        ``aclose()`` on the outermost would drop the others un-exhausted, for the event loop to complain about.
        Advancing makes the innermost read raise, and every frame unwinds in order: the connection is closed, and where
        a transport of the caller's reads on all the same, the scope is cancelled.
        """
        with CancelScope(shield=True) as scope:
            scope.cancel()
            try:
                while True:
                    await anext(self._raw)
            except Exception:  # noqa: BLE001, S110 - the end of the body, or the connection's
                pass


class _Inflated:
    """A compressed body, decompressed as far as it was flushed (F9), in steps of bounded size (F70).

    None is ever asked for: what compresses an event stream on its way tends to hold events back.
    """

    def __init__(self, body: AsyncIterator[bytes], encoding: str) -> None:
        self._body = body
        self._encoding = encoding
        self._inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip or zlib, as its head says
        self._rest = b""
        self._full = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._encoding not in ("gzip", "x-gzip", "deflate"):
            raise self._broken("was not asked for")
        while True:
            data = self._rest if self._full else await anext(self._body)
            try:
                piece = self._inflate.decompress(data, MAX_INFLATED_BYTES)
            except zlib.error as error:
                raise self._broken(f"is broken ({error})") from error
            self._rest = self._inflate.unconsumed_tail
            self._full = len(piece) == MAX_INFLATED_BYTES
            if piece:
                return piece

    def _broken(self, how: str) -> PiAIError:
        return failure("protocol", f"The compression of the answer ({self._encoding!r}) {how}.", phase="stream")


def _headers(request: HttpRequest) -> dict[str, str]:
    given = dict(request.headers)
    return given if "accept-encoding" in map(str.lower, given) else {**given, "accept-encoding": "identity"}


class _Outgoing:
    """A body for httpcore. Its own is a generator, which is left un-exhausted where sending is cut short (S18)."""

    def __init__(self, body: bytes) -> None:
        self._left = [body]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


async def _send(connection: _Connection, request: httpx.Request, body: bytes) -> Any:
    """Send a request; httpcore's response to it, at its head."""
    import httpcore

    url, outer = request.url, sys.exception()
    try:
        return await connection.http.handle_async_request(
            httpcore.Request(
                request.method,
                httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=_Outgoing(body),
            )
        )
    except PiAIError as error:
        raise attrs.evolve(error.info, phase=connection.phase).exception(error.text) from error.__cause__
    except Exception as error:
        raise _mapped(_frameless(error, outer), phase=connection.phase) from error
    except BaseException as error:
        _frameless(error, outer)
        raise


def _frameless(error: BaseErrorT, outer: BaseException | None) -> BaseErrorT:
    """An error without the frames that it came through: those of the HTTP library hold what is sent, the key included
    (X2).

    :param outer: what was being handled already, which is not ours to change.
    """
    link: BaseException | None = error
    while link is not None and link is not outer:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error


async def _open_with(client: HttpClient, request: HttpRequest, clocks: Clocks) -> Exchange:
    """Send with a client of the caller's. Its reads cannot be looked into, so that each is guarded as a whole."""
    connect, outer = None if clocks.connect_s == math.inf else clocks.connect_s, sys.exception()
    try:
        outgoing = client.build_request(
            request.method,
            request.url,
            headers=_headers(request),
            content=request.body,
            timeout=(connect, None, None, connect),
        )
        send = partial(client.send, outgoing, stream=True, follow_redirects=False)
        response = await clocks.wait(send, phase="headers")
    except PiAIError:
        raise
    except Exception as error:
        raise _mapped(_frameless(error, outer), phase="headers") from error
    except BaseException as error:
        _frameless(error, outer)
        raise
    headers = {name.lower(): value for name, value in response.headers.items()}
    body = response.stream
    if response.is_stream_consumed:  # as of a transport that is no network
        headers.pop("content-encoding", None)
        body = response.aiter_bytes()
    return Exchange(
        response.status_code,
        headers,
        body,
        read=partial(clocks.wait, phase="stream"),
        close=response.aclose,
    )


# By name, not by class: httpx2 has the same tree, and a caller may bring either (D6).
_FOREIGN: dict[str, tuple[ErrorKind, Phase | None]] = {
    "ConnectTimeout": ("timeout_connect", "connect"),
    "PoolTimeout": ("timeout_connect", "connect"),
    "ReadTimeout": ("timeout_idle", None),
    "WriteTimeout": ("timeout_first", "send"),
    "ProxyError": ("connect", "connect"),
    "ConnectError": ("connect", "connect"),
    "UnsupportedProtocol": ("config", "connect"),
    "InvalidURL": ("config", "connect"),
    "LocalProtocolError": ("config", "send"),
    "WriteError": ("disconnected", "send"),
    "RemoteProtocolError": ("disconnected", None),
    "ReadError": ("disconnected", None),
    "CloseError": ("disconnected", None),
    "DecodingError": ("protocol", None),
    "TransportError": ("disconnected", None),
}
_PEER_LEFT = re.compile("closed connection|disconnected|ConnectionTerminated|StreamReset")
"""A ``RemoteProtocolError`` that says so is a lost connection; the others are bytes that are no HTTP (F76)."""
_ADVICE: dict[ErrorKind, str] = {
    "timeout_connect": "No connection could be made in time; check the network, or raise Timeouts(connect_ms=…).",
    "timeout_idle": "The connection was silent for too long; raise the client's read timeout.",
    "timeout_first": "The request could not be sent in time.",
    "connect": "No connection could be made; check the base URL, the network and the proxy.",
    "config": "The request cannot be sent as it is; check the base URL and the headers.",
    "disconnected": "The connection broke; try again.",
    "protocol": "What came back is no valid HTTP; check the base URL and the proxy.",
}


def _mapped(error: Exception, *, phase: Phase) -> PiAIError:
    """A foreign exception as ours (core ET2)."""
    names = [cls.__name__ for cls in type(error).__mro__]
    known = next((name for name in names if name in _FOREIGN), None)
    if known is None:
        return failure("internal", f"The HTTP client raised {type(error).__name__}: {error}", phase=phase, cause=error)
    kind, own_phase = _FOREIGN[known]
    if known == "RemoteProtocolError" and not _PEER_LEFT.search(str(error)):
        kind = "protocol"
    if kind.startswith("timeout"):
        text = f"Request timed out: {known.removesuffix('Timeout').lower()}"
    else:
        text = f"{'Invalid answer' if kind == 'protocol' else 'Connection error'}: {_deepest(error)}"
    return failure(
        kind,
        f"{_ADVICE[kind]} ({_deepest(error)})",
        text=text,
        phase=own_phase or phase,
        cause=error,
    )


def _deepest(error: BaseException) -> str:
    """The words of the innermost cause, with the system's error code if they lack it."""
    for _ in range(5):
        inner = error.__cause__ or error.__context__
        if inner is None:
            break
        error = inner
    text = str(error) or type(error).__name__
    code = getattr(error, "errno", None)
    return text if code is None or str(code) in text else f"{text} (errno {code})"
