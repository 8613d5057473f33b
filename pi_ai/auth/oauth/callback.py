"""The page of this machine that a browser is sent to at the end of a login (auth A81, A82; reliability X13, X14).

Everything that knocks is hostile until it shows the right state: other pages of the browser, port scanners, other
users of the machine. A wrong request is told so and changes nothing. One that says nothing is dropped when others
want its place, so that no number of silent connections keeps the right one out.
"""

from __future__ import annotations

import html
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar
from urllib.parse import parse_qsl, urlsplit

import anyio
import attrs
from anyio import CancelScope
from anyio.abc import SocketAttribute, SocketStream

from pi_ai.auth.oauth.interaction import AuthInteraction, AuthPrompt, LoginCancelled
from pi_ai.auth.oauth.pkce import is_same
from pi_ai.auth.tasks import spawn
from pi_ai.errors import PiAIError, failure
from pi_ai.failures import redact

T = TypeVar("T")

MAX_HEAD_BYTES = 16 * 1024
MAX_CONNECTIONS = 50
"""Most at the same time; the oldest one that has not said anything gives way."""
READ_TIMEOUT_S = 10.0
LINGER_S = 0.5
"""How long the browser has to take the page before the connection is closed."""

_PHRASES = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 409: "Conflict", 502: "Bad Gateway"}
_PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
    "<body><h1>{title}</h1><p>{text}</p></body></html>"
)

_Reply: TypeAlias = tuple[int, str, str]


class OAuthCallbackServer(Generic[T]):
    """Waits for a browser to come back with a code: ``async with OAuthCallbackServer("Example") as server: …``.

    :param provider_name: for pages and errors.
    :param host: the address to listen on; never all of the machine's. ``port``: 0: any free one.
    :param path: the path that counts; the others are unknown.
    :param redirect_host: the host in :attr:`redirect_uri`, where the provider knows it by name.
    :param state: what the callback's ``state`` has to be; None: there is none, and the path is the secret.
    :param complete: makes of the code what :meth:`wait` returns, before the browser is answered; default: the code.
    :param timeout: seconds from the beginning until :meth:`wait` gives up.
    :ivar parameters: all parameters of the callback that counted.
    """

    def __init__(
        self,
        provider_name: str,
        host: str = "127.0.0.1",
        port: int = 0,
        path: str = "/callback",
        redirect_host: str | None = None,
        state: str | None = None,
        complete: Callable[[str], Awaitable[T]] | None = None,
        timeout: float | None = None,
    ) -> None:
        if host in ("", "0.0.0.0", "::", "*"):  # noqa: S104 - refused
            raise ValueError("host must be one address, such as 127.0.0.1, not all of the machine's")
        self.parameters: Mapping[str, str] = {}
        self._name = provider_name
        self._host, self._port, self._path = host, port, path
        self._redirect_host = redirect_host or host
        self._state = state
        self._complete = complete
        self._timeout = math.inf if timeout is None else timeout
        self._claimed = False
        self._settled = anyio.Event()
        self._result: Any = None
        self._error: Exception | None = None
        self._scope = CancelScope()
        self._closed = anyio.Event()
        self._silent: OrderedDict[SocketStream, CancelScope] = OrderedDict()

    def __repr__(self) -> str:
        return f"<OAuthCallbackServer for {self._name}>"

    async def __aenter__(self) -> Self:
        """Listen.

        :raises OSError: the port is taken.
        """
        listeners = [await anyio.create_tcp_listener(local_host=self._host, local_port=self._port)]
        self._port = listeners[0].extra(SocketAttribute.local_port)
        if self._redirect_host == "localhost" and self._host == "127.0.0.1":
            try:  # browsers may try the newer address first
                listeners.append(await anyio.create_tcp_listener(local_host="::1", local_port=self._port))
            except OSError:
                pass
        self._ends_at = anyio.current_time() + self._timeout

        async def serve() -> None:
            try:
                with self._scope:
                    async with anyio.create_task_group() as tasks:
                        for listener in listeners:
                            tasks.start_soon(listener.serve, self._serve)
            finally:
                with CancelScope(shield=True):
                    for listener in listeners:
                        await listener.aclose()
                self._closed.set()

        spawn(serve)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._scope.cancel()
        with CancelScope(shield=True):
            await self._closed.wait()

    @property
    def redirect_uri(self) -> str:
        """Where the provider is to send the browser."""
        return f"http://{_bracketed(self._redirect_host)}:{self._port}{self._path}"

    @property
    def is_claimed(self) -> bool:
        """Whether the right callback has come; it may still be on its way to :meth:`wait`."""
        return self._claimed

    async def wait(self) -> T:
        """What ``complete`` has made of the code.

        :raises PiAIError: kind ``oauth``: the provider said no, or the time is over.
        """
        with CancelScope(deadline=self._ends_at) as scope:
            await self._settled.wait()
        if scope.cancelled_caught:
            raise failure("oauth", f"{self._name} sign-in timed out; log in again", phase="auth")
        if self._error is not None:
            raise self._error
        return self._result

    def stop(self) -> None:
        """From now on every callback is too late."""
        self._claimed = True

    # ── one connection ───────────────────────────────────────────────────────────────────────────────────────

    async def _serve(self, stream: SocketStream) -> None:
        try:
            async with stream:
                request = await self._listen(stream)
                if request is not None:
                    await self._send(stream, *await self._answer(*request))
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, ValueError):
            pass  # it has left, or speaks something else

    async def _listen(self, stream: SocketStream) -> tuple[str, dict[str, str]] | None:
        """First line and headers of a request; None: none comes."""
        if len(self._silent) >= MAX_CONNECTIONS:
            _, oldest = self._silent.popitem(last=False)
            oldest.cancel()
        head = b""
        with CancelScope(deadline=anyio.current_time() + READ_TIMEOUT_S) as scope:
            self._silent[stream] = scope
            try:
                while b"\r\n\r\n" not in head and len(head) <= MAX_HEAD_BYTES:
                    head += await stream.receive()
            finally:
                self._silent.pop(stream, None)
        if scope.cancelled_caught:
            return None
        if len(head) > MAX_HEAD_BYTES:
            return "", {}
        first, *lines = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        return first, {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }

    async def _send(self, stream: SocketStream, status: int, title: str, text: str) -> None:
        page = _PAGE.format(title=html.escape(title), text=html.escape(text)).encode()
        head = (
            f"HTTP/1.1 {status} {_PHRASES[status]}\r\n"
            "Content-Type: text/html; charset=utf-8\r\n"
            f"Content-Length: {len(page)}\r\n"
            "Cache-Control: no-store\r\n"
            "Referrer-Policy: no-referrer\r\n"
            "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n"
            "X-Content-Type-Options: nosniff\r\n"
            "Connection: close\r\n\r\n"
        )
        with anyio.move_on_after(LINGER_S):
            await stream.send(head.encode() + page)
            await stream.send_eof()
            while await stream.receive():
                pass

    async def _answer(self, first: str, headers: Mapping[str, str]) -> _Reply:
        method, _, rest = first.partition(" ")
        target, _, version = rest.rpartition(" ")
        if not version.startswith("HTTP/1.") or not target.startswith("/"):
            return 400, "Not understood", "This is no request of a browser."
        if refusal := self._refusal(headers):
            return refusal
        url = urlsplit("http://host" + target)
        if method != "GET" or url.path != self._path:
            return 404, "Not found", "There is nothing here."
        return await self._callback(dict(reversed(parse_qsl(url.query, keep_blank_values=True))))

    def _refusal(self, headers: Mapping[str, str]) -> _Reply | None:
        """Requests under another name (DNS rebinding), and those that another page makes behind the user's back."""
        hosts = {self._host, self._redirect_host, "127.0.0.1", "localhost", "::1"}
        own = {f"{_bracketed(host)}:{self._port}" for host in hosts}
        if headers.get("host", "").lower() not in own:
            return 400, "Wrong host", "This page is known by another name."
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() not in own:
            return 403, "Refused", "Another page has asked for this one."
        navigates = headers.get("sec-fetch-mode", "navigate") == "navigate"
        if headers.get("sec-fetch-site") == "cross-site" and not (
            navigates and headers.get("sec-fetch-dest", "document") == "document"
        ):
            return 403, "Refused", "Another page has asked for this one."
        return None

    async def _callback(self, parameters: Mapping[str, str]) -> _Reply:
        """A request for our path (A81): the state comes first, so that a stray page cannot end the login."""
        if self._state is not None and not is_same(parameters.get("state", ""), self._state):
            return 400, "Wrong login", "This belongs to another login. The right one is still waited for."
        if self._claimed:
            return 409, "Already done", "This login is over. You can close this window."
        code, error = parameters.get("code"), parameters.get("error")
        if error:
            self._claimed = True
            reason = redact(parameters.get("error_description") or error)[:500]
            self._settle(error=failure("oauth", f"{self._name} authorization failed: {reason}", phase="auth"))
            return 400, "Login failed", f"{self._name}: {reason}"
        if not code:
            return 400, "No code", "The login is still waited for."
        self._claimed = True
        self.parameters = parameters
        return await self._completed(code)

    async def _completed(self, code: str) -> _Reply:
        try:
            self._settle(code if self._complete is None else await self._complete(code))
        except Exception as error:  # noqa: BLE001 - raised by wait()
            frames = error.__traceback__ and error.__traceback__.tb_next  # this frame holds the code (X2)
            self._settle(error=error.with_traceback(None if isinstance(error, PiAIError) else frames))
            return 502, "Login failed", f"{self._name} did not accept it. The program that you came from says more."
        return 200, "Logged in", f"You are logged in to {self._name}. You can close this window."

    def _settle(self, result: Any = None, error: Exception | None = None) -> None:
        self._result, self._error = result, error
        self._settled.set()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


# ── a browser, or a paste ────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen
class Pasted:
    """What was pasted, where that came first."""

    text: str = attrs.field(repr=False)


async def wait_for_callback_or_manual_input(
    interaction: AuthInteraction,
    server: OAuthCallbackServer[T] | None,
    message: str = "Paste the code, or the URL that the browser shows at the end",
    placeholder: str | None = None,
) -> T | Pasted:
    """Wait for the browser or for a paste, whichever comes first (A82).

    :param server: None: there is only the paste.
    :raises LoginCancelled: the question was dismissed.
    :raises PiAIError: what ``server.wait()`` raises.
    """
    prompt = AuthPrompt("manual_code", message, placeholder)
    if server is None:
        return Pasted(await _asked(interaction, prompt))
    race = _Race()
    async with anyio.create_task_group() as tasks:

        async def browser() -> None:
            try:
                race.result = await server.wait()
            except Exception as error:  # noqa: BLE001 - raised below
                race.error = error
            tasks.cancel_scope.cancel()

        async def paste() -> None:
            try:
                pasted = Pasted(await _asked(interaction, prompt))
            except LoginCancelled as error:
                race.error = error
            else:
                if server.is_claimed:
                    return  # the browser's callback is being completed, and wins
                race.result = pasted
            server.stop()
            tasks.cancel_scope.cancel()

        tasks.start_soon(browser)
        tasks.start_soon(paste)
    if race.error is not None:
        raise race.error
    return race.result


@attrs.define
class _Race:
    result: Any = attrs.field(default=None, repr=False)
    error: Exception | None = None


async def _asked(interaction: AuthInteraction, prompt: AuthPrompt) -> str:
    try:
        return await interaction.prompt(prompt)
    except LoginCancelled:
        raise
    except Exception as error:
        raise LoginCancelled from error
