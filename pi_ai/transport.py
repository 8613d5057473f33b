"""HTTP: open, clocks, limits, retries, close. The only importer of httpx, httpcore and tenacity, all on first use.

One call is one :class:`Exchange`: ``connections.open(...)`` sends a request and returns it at the response's head;
``read()`` gives the next bytes of the body; ``aclose()`` releases the connection, inside out. Every wait is bounded by
the clocks of the call (reliability section 3 D), and every foreign exception becomes a :class:`PiAIError` here.

The pool is ours (D6): a last-in-first-out list of httpcore's single connections, because its pool loses slots when
requests are cancelled while they wait and rescans all its connections at every request. Our connections run over a
network stream of our own, so that clocks and ``abort()`` cost something only where a read really waits: most chunks
of a fast answer are in a buffer already.
"""

from __future__ import annotations

import math
import os
import random
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio
import attrs
from anyio import CancelScope
from anyio.lowlevel import RunVar

from pi_ai.errors import ErrorInfo, ErrorKind, Phase, PiAIError, failure
from pi_ai.types import UNSET, HttpClient, Timeouts

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

MAX_ERROR_BYTES = 1024 * 1024
"""Most that is read of the body of an error (reliability F30)."""
CLOSE_TIMEOUT_S = 1.0
"""Longest that closing a connection may take (F58)."""
DRAIN_TIMEOUT_S = 0.1
"""How long the end of the body is waited for after the answer's end, so that the connection can be reused (F25)."""
MAX_IDLE = 100
"""Most idle connections that a pool keeps."""
MAX_IDLE_AGE_S = 60.0
"""How long an idle connection is kept."""


@attrs.frozen(kw_only=True)
class HttpRequest:
    """A request as it goes out. The body is encoded once, so that what is signed is what is sent."""

    url: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=lambda body: f"<{len(body)} bytes>")
    method: str = "POST"


# ── clocks ───────────────────────────────────────────────────────────────────────────────────────────────────

_Clock: TypeAlias = Literal["first_event", "idle", "progress", "completion_grace", "total"]


class Clocks:
    """The clocks of one call.

    They count only while a read waits, so that a slow consumer never trips one (F43), on the event loop's monotonic
    clock, so that a test's clock drives them. Three run at a time: ``total``; a slow one, which counts all waiting
    since the last meaningful event; and ``idle``, once there was an event, which counts the present read only.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        self.limits: dict[str, float] = {
            name.removesuffix("_ms"): math.inf if value is None or value is UNSET else value / 1000
            for name, value in attrs.asdict(timeouts).items()
        }
        self.connect_s = self.limits["connect"]
        self._total_at = anyio.current_time() + self.limits["total"]
        self._idle_s = math.inf
        self._scope: CancelScope | None = None
        self._aborted = False
        self._run("first_event")

    def _run(self, slow: _Clock) -> None:
        self._slow: _Clock = slow
        self._slow_s = self.limits[slow]
        self._waited = 0.0

    def restart(self) -> None:
        """A new attempt: everything but ``total`` begins anew."""
        self._idle_s = math.inf
        self._run("first_event")

    def progressed(self) -> None:
        """A meaningful event came."""
        self._idle_s = self.limits["idle"]
        self._run("progress")

    def content_ended(self) -> None:
        """The last block of content has ended; only the proof of completion, or the end of the body, is missing."""
        if self._slow != "completion_grace":
            self._idle_s = math.inf
            self._run("completion_grace")

    async def wait(self, read: Callable[[], Awaitable[T]], *, phase: Phase) -> T:
        """Await one read of the network within the clocks that run.

        :raises PiAIError: the nearest of them ran out, or ``abort()`` was called (kind ``aborted``).
        """
        if self._aborted:
            raise failure("aborted", "The request was aborted.", phase=phase)
        began = anyio.current_time()
        left, clock = self._total_at - began, cast("_Clock", "total")
        if self._slow_s - self._waited < left:
            left, clock = self._slow_s - self._waited, self._slow
        if self._idle_s < left:
            left, clock = self._idle_s, "idle"
        try:
            with CancelScope(deadline=began + left) as self._scope:
                return await read()
        finally:
            self._scope = None
            self._waited += anyio.current_time() - began
        raise (
            failure("aborted", "The request was aborted.", phase=phase)
            if self._aborted
            else self._ran_out(clock, phase)
        )

    def abort(self) -> None:
        """End the read that waits now, and refuse all further ones."""
        self._aborted = True
        if self._scope is not None:
            self._scope.cancel()

    def _ran_out(self, clock: _Clock, phase: Phase) -> PiAIError:
        limit = f"{self.limits[clock]:g} s"
        kind, happened = _RAN_OUT[clock]
        advice = f"set timeouts=Timeouts({clock}_ms=…) to wait longer"
        return failure(
            kind,
            f"{happened} within {limit}; {advice}.",
            text=f"Request timed out: {happened[0].lower()}{happened[1:]} within {limit}",
            phase=phase,
            retryable=kind != "timeout_total",
        )


_RAN_OUT: dict[_Clock, tuple[ErrorKind, str]] = {
    "first_event": ("timeout_first", "No event of the answer came"),
    "idle": ("timeout_idle", "Not one byte came"),
    "progress": ("timeout_progress", "Nothing but keep-alives came"),
    "completion_grace": ("truncated", "The content was whole, but its proof of completion did not come"),
    "total": ("timeout_total", "The request did not end"),
}


# ── sending again ────────────────────────────────────────────────────────────────────────────────────────────


class RetryBudget:
    """Keeps an outage from tripling the load: a client may retry 10 % of its requests, ten in a burst (section 4.3)."""

    def __init__(self) -> None:
        self._tokens = 10.0

    def earn(self) -> None:
        """A request was made."""
        self._tokens = min(10.0, self._tokens + 0.1)

    def spend(self) -> bool:
        """Whether one more retry may be made now."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """When a failed attempt is made again, and after how long (D10, reliability section 4).

    :ivar max_delay_s: longest wait that a server may ask for; infinite: no cap.
    :ivar unknown_delivery: also send again what was sent whole and got no byte of an answer.
    :ivar random: in [0, 1); given by tests.
    """

    max_retries: int = 2
    max_delay_s: float = 60.0
    unknown_delivery: bool = False
    budget: RetryBudget | None = None
    random: Callable[[], float] = random.random

    async def run(self, attempt: Callable[[], Awaitable[T]], failed: Callable[[PiAIError, float], None]) -> T:
        """Make attempts until one succeeds or none may follow.

        :param failed: told of each failed attempt that is followed by another: its error, and the wait in seconds.
        :raises PiAIError: of the last attempt; above ``max_delay_s`` with the server's wish in its text (core R4).
        """
        import tenacity  # 20 ms, so on first use

        if self.budget is not None:
            self.budget.earn()
        engine = tenacity.AsyncRetrying(
            sleep=anyio.sleep,
            stop=tenacity.stop_after_attempt(self.max_retries + 1),
            wait=self._wait,
            retry=tenacity.retry_if_exception(self._may_follow),
            before_sleep=lambda state: failed(*_outcome(state)),
            reraise=True,
        )

        async def once() -> T:  # tenacity awaits only what it recognises as a coroutine function
            return await attempt()

        try:
            return await engine(once)
        except PiAIError as error:
            raise self._explained(error) from error.__cause__

    def _wait(self, state: Any) -> float:
        """At least what the server asked for; else full jitter from 0.5 s to 8 s."""
        error = state.outcome.exception()
        jitter = self.random() * min(8.0, 0.5 * 2 ** (state.attempt_number - 1))
        return max(jitter, error.info.retry_after or 0.0)

    def _may_follow(self, error: BaseException) -> bool:
        if not isinstance(error, PiAIError) or not error.info.retryable:
            return False
        info = error.info
        if _unknown_delivery(info) and not self.unknown_delivery:
            return False
        if (info.retry_after or 0.0) > self.max_delay_s:
            return False
        return self.budget is None or self.budget.spend()

    def _explained(self, error: PiAIError) -> PiAIError:
        wish = error.info.retry_after
        if wish is None or wish <= self.max_delay_s or not error.info.retryable:
            return error
        text = f"Server requested {-(-wish // 1):.0f}s retry delay (max: {self.max_delay_s:.0f}s). {error.text}"
        return error.info.exception(text)


def _outcome(state: Any) -> tuple[PiAIError, float]:
    return state.outcome.exception(), state.next_action.sleep


def _unknown_delivery(info: ErrorInfo) -> bool:
    """Sent whole, and not one byte came back: it may have run, and been billed (section 4.2)."""
    return info.status is None and info.phase == "headers"


# ── connections ──────────────────────────────────────────────────────────────────────────────────────────────


@cache
def _tls() -> ssl.SSLContext:
    """One verifying context for the process: building one blocks for 37 ms."""
    import httpx

    return httpx.create_ssl_context()


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for a URL: ``HTTP(S)_PROXY``, ``ALL_PROXY``, ``NO_PROXY`` (core H5)."""
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
    that the clocks of the call that has it now apply (F42).
    """

    def __init__(self, url: httpx.URL, proxy: str | None, key: _Key) -> None:
        import httpcore

        self.key = key
        self.reused = False
        self.clocks: Clocks
        self.connecting_until = math.inf
        self._network: Any = httpcore.AnyIOBackend()
        tls = _tls() if url.scheme == "https" else None
        if proxy is None:
            origin = httpcore.Origin(url.raw_scheme, url.raw_host, url.port or (443 if tls else 80))
            self.http: Any = httpcore.AsyncHTTPConnection(origin, ssl_context=tls, network_backend=self)  # pyright: ignore[reportArgumentType] - by structure
        else:
            import httpx

            via = httpx.Proxy(proxy)
            self.http = httpcore.AsyncHTTPProxy(
                httpcore.URL(str(via.url)),
                proxy_auth=via.raw_auth,
                proxy_ssl_context=_tls() if via.url.scheme == "https" else None,
                ssl_context=tls,
                max_connections=1,
                network_backend=self,  # pyright: ignore[reportArgumentType] - by structure
            )

    @property
    def broken(self) -> bool:
        """Whether an idle connection cannot be used again: the server has closed it."""
        return getattr(self.http, "has_expired", bool)()

    async def aclose(self) -> None:
        await _quietly(self.http.aclose)

    # httpcore's AsyncNetworkBackend

    async def connect_tcp(self, host: str, port: int, timeout: Any = None, **more: Any) -> _NetworkStream:
        return _NetworkStream(await self._network.connect_tcp(host, port, timeout=self._left(), **more), self)

    async def start_tls(self, stream: Any, context: ssl.SSLContext, host: str | None) -> _NetworkStream:
        return _NetworkStream(await stream.start_tls(context, host, self._left()), self)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    def _left(self) -> float | None:
        left = max(0.0, self.connecting_until - anyio.current_time())
        return None if left == math.inf else left


class _NetworkStream:
    """A network stream for httpcore: reads and writes wait within the clocks of the call."""

    def __init__(self, stream: Any, connection: _Connection) -> None:
        self._stream = stream
        self._connection = connection

    async def read(self, max_bytes: int, timeout: Any = None) -> bytes:
        return await self._connection.clocks.wait(partial(self._stream.read, max_bytes), phase="stream")

    async def write(self, buffer: bytes, timeout: Any = None) -> None:
        await self._connection.clocks.wait(partial(self._stream.write, buffer), phase="send")

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: Any = None
    ) -> Any:
        return await self._connection.start_tls(self._stream, ssl_context, server_hostname)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Pool:
    """The connections of one event loop in one process (F64-F66)."""

    def __init__(self, limit: float) -> None:
        self.pid = os.getpid()
        self.limiter = anyio.CapacityLimiter(limit)
        self.idle: list[tuple[_Connection, float]] = []


class Connections:
    """Makes connections, and keeps them for the next request where it may.

    :param max_connections: most at the same time in one event loop; a request waits for a free one within ``connect``.
    :param max_idle: most that are kept idle; 0: each is closed after its request.
    :param budget: shared by all calls.
    """

    def __init__(
        self, *, max_connections: int | None = None, max_idle: int = MAX_IDLE, budget: RetryBudget | None = None
    ) -> None:
        self.max_connections = max_connections
        self.max_idle = max_idle
        self.budget = budget
        self._pools: RunVar[_Pool] = RunVar(f"pi_ai_pool_{id(self)}")

    def _pool(self) -> _Pool:
        pool = self._pools.get(None)
        if pool is None or pool.pid != os.getpid():  # after a fork the parent's sockets are not ours to touch
            pool = _Pool(math.inf if self.max_connections is None else self.max_connections)
            self._pools.set(pool)
        return pool

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
        :raises PiAIError: no connection, a clock ran out, or the peer broke the protocol.
        """
        if client is not None:
            return await _open_with(client, request, clocks)
        while True:
            connection = await self._lease(request.url, clocks, proxy)
            try:
                response = await _send(connection, request)
            except BaseException as error:
                await self._release(connection, intact=False)
                if connection.reused and isinstance(error, PiAIError) and error.info.kind == "disconnected":
                    continue  # the server had closed an idle connection: not an attempt, a fresh one follows (F49)
                raise
            return Exchange(
                response.status,
                {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers},
                _decoded(response),
                read=None,
                close=response.aclose,
                release=partial(self._release, connection),
            )

    async def aclose(self) -> None:
        """Close the idle connections of this event loop."""
        pool = self._pool()
        while pool.idle:
            await pool.idle.pop()[0].aclose()

    async def _lease(self, url: str, clocks: Clocks, proxy: str | None) -> _Connection:
        """A connection to the URL's server: the idle one that was used last, or a new one, not yet connected."""
        import httpx

        parsed = httpx.URL(url)
        proxy = proxy_for(url) if proxy is None else proxy or None
        key = (parsed.scheme, parsed.host, parsed.port, proxy)
        pool = self._pool()
        until = anyio.current_time() + clocks.connect_s
        connection = await self._idle(pool, key) or _Connection(parsed, proxy, key)
        connection.clocks, connection.connecting_until = clocks, until
        with CancelScope(deadline=until):
            try:
                await pool.limiter.acquire_on_behalf_of(connection)
            except BaseException:
                await connection.aclose()
                raise
            return connection
        limit = self.max_connections
        raise failure(
            "timeout_connect",
            f"All {limit} connections of the pool were busy for {clocks.connect_s:g} s; raise max_connections.",
            text=f"Request timed out: no free connection (limit {limit})",
            phase="connect",
            retryable=True,
        )

    async def _idle(self, pool: _Pool, key: _Key) -> _Connection | None:
        """The fitting connection that was used last; what is too old or broken is closed on the way."""
        now = anyio.current_time()
        while pool.idle and now - pool.idle[0][1] > MAX_IDLE_AGE_S:
            await pool.idle.pop(0)[0].aclose()
        for index in range(len(pool.idle) - 1, -1, -1):
            if pool.idle[index][0].key == key:
                connection, _ = pool.idle.pop(index)
                if not connection.broken:
                    connection.reused = True
                    return connection
                await connection.aclose()
                return await self._idle(pool, key)
        return None

    async def _release(self, connection: _Connection, intact: bool) -> None:
        pool = self._pool()
        try:
            if intact and len(pool.idle) < self.max_idle:
                pool.idle.append((connection, anyio.current_time()))
            else:
                await connection.aclose()
        finally:
            pool.limiter.release_on_behalf_of(connection)


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
        self._body = aiter(body)
        self._guard = read
        self._close = close
        self._release = release
        self._closed = False

    async def read(self) -> bytes:
        """The next bytes of the body, ``b""`` at its end; bounded by the clocks of the call.

        :raises PiAIError: a clock ran out, or the connection broke.
        """
        try:
            data = await (anext(self._body) if self._guard is None else self._guard(self._next))
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
        return await anext(self._body)

    async def read_all(self, limit: int) -> bytes:
        """The whole body.

        :raises PiAIError: kind ``too_large`` above ``limit`` bytes.
        """
        body = await self.read_up_to(limit + 1)
        if len(body) > limit:
            raise failure(
                "too_large", f"The answer is larger than {limit} bytes; raise max_body_bytes.", phase="stream"
            )
        return body

    async def read_up_to(self, limit: int) -> bytes:
        """The body, or its first ``limit`` bytes."""
        pieces: list[bytes] = []
        room = limit
        while room > 0 and (data := await self.read()):
            pieces.append(data[:room])
            room -= len(data)
        return b"".join(pieces)

    async def aclose(self) -> None:
        """Release the connection: kept where the body was read to its end, else closed. Idempotent, bounded."""
        if self._closed:
            return
        self._closed = True
        with CancelScope(shield=True, deadline=anyio.current_time() + CLOSE_TIMEOUT_S):
            try:
                if self.complete and not self.at_end:
                    with anyio.move_on_after(DRAIN_TIMEOUT_S):
                        while not self.at_end:
                            await self.read()
            except PiAIError:
                pass
            if not self.at_end:
                await self._unwind()
            await _quietly(self._close)
        if self._release is not None:
            await self._release(self.at_end)

    async def _unwind(self) -> None:
        """End the nested generators of the HTTP library from the inside out (S18).

        ``aclose()`` on the outermost would drop the others un-exhausted, for the event loop to complain about.
        Advancing under a cancelled scope makes the innermost read raise, and every frame unwinds in order.
        """
        with CancelScope(shield=True) as scope:
            scope.cancel()
            try:
                while True:
                    await anext(self._body)
            except Exception:  # noqa: BLE001, S110 - the end of the body, or the connection's
                pass


async def _send(connection: _Connection, request: HttpRequest) -> Any:
    """Send a request; httpcore's response to it, at its head."""
    import httpcore
    import httpx

    # Host, Content-Length and the encoding of names are httpx's business.
    outgoing = httpx.Request(request.method, request.url, headers=dict(request.headers), content=request.body)
    url = outgoing.url
    try:
        return await connection.http.handle_async_request(
            httpcore.Request(
                request.method,
                httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=outgoing.headers.raw,
                content=request.body,
            )
        )
    except PiAIError as error:
        phase = "headers" if error.info.phase == "stream" else error.info.phase
        raise attrs.evolve(error.info, phase=phase).exception(error.text) from error.__cause__
    except Exception as error:
        raise _mapped(error, phase="headers") from error


def _decoded(response: Any) -> AsyncIterable[bytes]:
    """The body of httpcore's response, its content encoding undone where it has one."""
    import httpx

    headers = httpx.Headers(response.headers)
    if headers.get("content-encoding", "identity") == "identity":
        return response.stream

    class Body(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for data in response.stream:
                yield data

    return httpx.Response(response.status, headers=headers, stream=Body()).aiter_bytes()


async def _open_with(client: HttpClient, request: HttpRequest, clocks: Clocks) -> Exchange:
    """Send with a client of the caller's. Its reads cannot be looked into, so that each is guarded as a whole."""
    connect = None if clocks.connect_s == math.inf else clocks.connect_s
    outgoing = client.build_request(
        request.method,
        request.url,
        headers=dict(request.headers),
        content=request.body,
        timeout=(connect, None, None, connect),
    )
    try:
        send = partial(client.send, outgoing, stream=True, follow_redirects=False)
        response = await clocks.wait(send, phase="headers")
    except PiAIError:
        raise
    except Exception as error:
        raise _mapped(error, phase="headers") from error
    headers = {name.lower(): value for name, value in response.headers.items()}
    # The stream itself where nothing has to be decoded: two layers of generators less per chunk.
    encoded = headers.get("content-encoding", "identity") != "identity" or response.is_stream_consumed
    return Exchange(
        response.status_code,
        headers,
        response.aiter_bytes() if encoded else response.stream,
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
_RETRYABLE = frozenset({"timeout_connect", "timeout_idle", "timeout_first", "connect", "disconnected"})
_ADVICE: dict[ErrorKind, str] = {
    "timeout_connect": "No connection could be made in time; check the network, or raise Timeouts(connect_ms=…).",
    "timeout_idle": "The connection was silent for too long; raise the client's read timeout.",
    "timeout_first": "The request could not be sent in time.",
    "connect": "No connection could be made; check the base URL, the network and the proxy.",
    "config": "The request cannot be sent as it is; check the base URL and the headers.",
    "disconnected": "The connection broke; try again.",
    "protocol": "The answer could not be decoded.",
}


def _mapped(error: Exception, *, phase: Phase) -> PiAIError:
    """A foreign exception as ours (core ET2)."""
    names = [cls.__name__ for cls in type(error).__mro__]
    known = next((name for name in names if name in _FOREIGN), None)
    if known is None:
        return failure("internal", f"The HTTP client raised {type(error).__name__}: {error}", phase=phase, cause=error)
    kind, own_phase = _FOREIGN[known]
    if kind.startswith("timeout"):
        text = f"Request timed out: {known.removesuffix('Timeout').lower()}"
    else:
        text = f"Connection error: {_deepest(error)}"
    return failure(
        kind,
        f"{_ADVICE[kind]} ({_deepest(error)})",
        text=text,
        phase=own_phase or phase,
        retryable=kind in _RETRYABLE,
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
