r"""A loopback server that speaks the wires of real providers, answers from a script, and breaks as it is told (D16).

For tests of whatever talks to an LLM: the project's own, and yours::

    async with Sandbox(Turn("It is sunny.")) as box:
        message = await complete(box.model("anthropic-messages"), context)
        assert box.requests[0].text == "What is the weather?"

What is answered (:class:`Turn`, :class:`Failure`, :class:`Page`) is one thing, how it is sent (:class:`Delivery`) is
another::

    async with Sandbox() as box:
        box.script(Failure(429, headers={"retry-after": "1"}), Turn("Hello"))
        box.script(Turn("A long story"), delivery=Delivery(tokens_per_second=20, stop_after=5, then="reset"))

It runs on asyncio and on trio, or, for programs without an event loop and for other processes, in a thread::

    with Sandbox(Turn("Hello")).in_thread() as box:
        subprocess.run(["my-program"], env={**os.environ, "OPENAI_BASE_URL": box.base_url("openai-completions")})
        assert box.requests[0].wait_ending() == "served"

Nothing outlives its block. Where the script is empty the sandbox repeats what it was told, or, if it is ``strict``,
says that the script is empty.
"""

from __future__ import annotations

import inspect
import json
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar, cast

import anyio
import attrs
from anyio.from_thread import BlockingPortal, start_blocking_portal

from pi_ai.testing.delivery import Delivery, deliver
from pi_ai.testing.server import Answer, Ending, Received, Server
from pi_ai.testing.turns import Failure, Reply, Turn, as_reply
from pi_ai.testing.wires import WIRES, get_wire
from pi_ai.testing.wires.base import Asked, Rendered, Wire, WireEvent, dumped
from pi_ai.types import JSONObject, Model

T = TypeVar("T")

PROVIDER = "sandbox"
WAIT_S = 10.0
"""How long a thread waits for what should happen."""


@attrs.define(eq=False, kw_only=True)
class SandboxRequest(Asked):
    """A request as the sandbox got it. Its repr shows neither the values of headers nor a URL's query.

    :ivar api: whose wire it speaks; ``""`` for a path that no wire has.
    :ivar path: with the query. ``headers``: by lower-case name, as they came, keys and all.
    :ivar connection: number of the connection that it came on; equal for requests that share one.
    """

    api: str
    path: str = attrs.field(repr=lambda path: repr(path.partition("?")[0]))
    headers: Mapping[str, str] = attrs.field(repr=lambda headers: f"<{', '.join(headers)}>")
    connection: int
    _received: Received = attrs.field(alias="received", repr=False)
    _portal: BlockingPortal | None = attrs.field(alias="portal", repr=False)

    @property
    def ended(self) -> Ending:
        """How its answer ended: ``served``, the ``client left`` first, or we ``closed`` or ``reset``; or ``open``."""
        return self._received.ended

    async def ending(self) -> Ending:
        """Wait until its answer has ended, and how. ``open``: the sandbox was closed first."""
        return self.ended if self._received.gone.is_set() else await _awaited(self._portal, self._ended)

    def wait_ending(self, timeout_s: float = WAIT_S) -> Ending:
        """The same for a sandbox in a thread.

        :raises TimeoutError: it has not ended yet.
        """
        return self.ended if self._received.gone.is_set() else _waited(self._portal, self._ended, timeout_s)

    async def _ended(self) -> Ending:
        await self._received.gone.wait()
        return self._received.ended


Entry: TypeAlias = str | Reply
"""What may answer a request; a text is a turn."""
Answered: TypeAlias = Entry | tuple[Entry, Delivery]
Scripted: TypeAlias = Entry | Callable[[SandboxRequest], Answered | Awaitable[Answered]]
"""An answer, or a function of the request that gives one, sync or async, and with it how to send it, if it wants."""


def echo(request: SandboxRequest) -> Turn:
    """What a sandbox without a script answers."""
    text = request.text if len(request.text) <= 500 else f"{request.text[:500]}…"
    return Turn(f"This is the sandbox, which only repeats what it is told: {text}")


def _script_is_empty(request: SandboxRequest) -> Failure:
    return Failure(400, f"The sandbox's script is empty, and request {request.number} came; box.script(…) adds turns")


class Sandbox:
    """A server on a free port of this machine, for as long as its block runs.

    :param turns: the script's beginning, see :meth:`script`.
    :param delivery: how turns are sent that do not say it themselves.
    :param default: what is answered once the script is empty. Default: what the request said.
    :param strict: what comes once the script is empty is an error instead.
    :ivar requests: what came, in order; what came on a wrong path, too.
    """

    def __init__(
        self,
        *turns: Scripted,
        delivery: Delivery | None = None,
        default: Scripted = echo,
        strict: bool = False,
    ) -> None:
        self.requests: list[SandboxRequest] = []
        self._delivery = delivery or Delivery()
        self._default = _checked(_script_is_empty if strict else default)
        self._script: deque[tuple[Scripted, Delivery | None]] = deque()
        self._server = Server(self._serve)
        self._running = False
        self._portal: BlockingPortal | None = None
        self._errors: list[Exception] = []
        self.script(*turns)

    async def __aenter__(self) -> Self:
        self._news = anyio.Event()
        await self._server.__aenter__()
        self._running = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Close the server.

        :raises Exception: the first error of a function in the script, or of a turn that cannot be written.
        """
        self._running = False
        self._news.set()
        await self._server.__aexit__(None, None, None)  # what the block raises is not the server's: no group around it
        if self._errors and (exc is None or isinstance(exc, Exception)):
            raise self._errors[0] from exc

    @contextmanager
    def in_thread(self) -> Generator[Self]:
        """Run in a thread with an event loop of its own: for sync code, other processes, and any test at all.

        ``await request.ending()`` and ``await box.received()`` work as well, in every event loop.
        """
        with start_blocking_portal() as portal:
            self._portal = portal
            try:
                with portal.wrap_async_context_manager(self):
                    yield self
            finally:
                self._portal = None

    # ── where it is ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def url(self) -> str:
        """Its address, ``http://127.0.0.1:…``.

        :raises RuntimeError: it does not run.
        """
        if not self._running:
            raise RuntimeError("The sandbox does not run; use it in `async with box:` or `with box.in_thread():`")
        return self._server.url

    def base_url(self, api: str = "openai-completions") -> str:
        """The base URL of an API, as its provider's SDK wants it. Any key will do.

        :raises ConfigError: the sandbox does not speak the API.
        """
        return f"{self.url}/{api}{get_wire(api).base}"

    def model(self, api: str = "openai-completions", **fields: Any) -> Model:
        """A model that the sandbox plays.

        :param fields: of the model, in addition to or instead of what the sandbox says.
        :raises ConfigError: the sandbox does not speak the API.
        """
        known: dict[str, Any] = {
            "id": api,
            "name": f"Sandbox ({api})",
            "api": api,
            "provider": PROVIDER,
            "base_url": self.base_url(api),
            "reasoning": True,
            "input": ["text", "image"],
        }
        return Model(**{**known, **fields})

    # ── what it answers ──────────────────────────────────────────────────────────────────────────────────────

    def script(self, *turns: Scripted, delivery: Delivery | None = None) -> None:
        """Add answers to the script; each request takes one.

        An exception that a function raises is told to the client, and leaves the sandbox's block when that ends.

        :param delivery: how these are sent.
        :raises TypeError: one of them is nothing that can be answered.
        """
        self._script.extend([(_checked(turn), delivery) for turn in turns])

    @property
    def pending(self) -> int:
        """How many answers of the script were not asked for yet."""
        return len(self._script)

    # ── what comes ───────────────────────────────────────────────────────────────────────────────────────────

    async def received(self, count: int = 1) -> SandboxRequest:
        """Wait until so many requests have come; returns the last of these.

        :raises RuntimeError: the sandbox was closed first.
        """
        return await _awaited(self._portal, lambda: self._received(count))

    def wait_received(self, count: int = 1, timeout_s: float = WAIT_S) -> SandboxRequest:
        """The same for a sandbox in a thread.

        :raises TimeoutError: they have not come yet.
        """
        return _waited(self._portal, lambda: self._received(count), timeout_s)

    @property
    def connections(self) -> int:
        """How many connections were made."""
        return self._server.connections

    @property
    def open_connections(self) -> int:
        """How many connections there are at the moment."""
        return self._server.open

    # ── the server's side ────────────────────────────────────────────────────────────────────────────────────

    async def _received(self, count: int) -> SandboxRequest:
        while len(self.requests) < count:
            if not self._running:
                raise RuntimeError(f"The sandbox was closed after {len(self.requests)} requests, not {count}")
            await self._news.wait()
        return self.requests[count - 1]

    async def _serve(self, received: Received, answer: Answer) -> None:
        api, _, rest = received.path[1:].partition("/")
        wire = WIRES.get(api)
        found = wire.path.search(f"/{rest}") if wire else None
        body = _json_object(received.body)
        number = len(self.requests) + 1
        asked = wire.read(found, body or {}, number) if wire and found else Asked(number=number)
        request = SandboxRequest(
            **attrs.asdict(asked, recurse=False),
            api=api if found else "",
            path=received.path,
            headers=received.headers,
            connection=received.connection,
            received=received,
            portal=self._portal,
        )
        self.requests.append(request)
        self._news.set()
        self._news = anyio.Event()
        if wire is None or found is None:
            rendered, delivery = _nothing_there(received.path), self._delivery
        else:
            rendered, delivery = await self._rendered(wire, request, well_formed=body is not None)
        await deliver(rendered, delivery, answer)

    async def _rendered(self, wire: Wire, request: SandboxRequest, *, well_formed: bool) -> tuple[Rendered, Delivery]:
        if not well_formed:
            return wire.render(Failure(400, "The body is no JSON object"), request), self._delivery
        try:
            reply, delivery = await self._reply(request)
            return wire.render(reply, request, streamed=request.streamed and delivery.streamed), delivery
        except Exception as error:  # noqa: BLE001 - raised again where the block ends
            self._errors.append(error)
            words = f"The sandbox has no answer: {type(error).__name__}: {error}"
            return wire.render(Failure(400, words), request), self._delivery

    async def _reply(self, request: SandboxRequest) -> tuple[Reply, Delivery]:
        entry, delivery = self._script.popleft() if self._script else (self._default, None)
        if callable(entry):
            answered = entry(request)
            answered = await answered if inspect.isawaitable(answered) else answered
            entry, delivery = answered if isinstance(answered, tuple) else (answered, delivery)
        return as_reply(entry), delivery or self._delivery


@contextmanager
def sandbox_model(api: str = "openai-completions") -> Generator[Model]:
    """A model that repeats what it is told, about as fast as models talk, for as long as the block runs.

    :raises ConfigError: the sandbox does not speak the API.
    """
    get_wire(api)
    with Sandbox(delivery=Delivery(tokens_per_second=50)).in_thread() as box:
        yield box.model(api)


def _checked(turn: Scripted) -> Scripted:
    return turn if callable(turn) else as_reply(turn)


def _json_object(body: bytes) -> JSONObject | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return cast("JSONObject", value) if isinstance(value, dict) else None


def _nothing_there(path: str) -> Rendered:
    path = path.partition("?")[0]
    places = ", ".join(f"/{wire.api}{wire.base}" for wire in WIRES.values())
    words = f"The sandbox has nothing at {path}; its base URLs end with {places}"
    return Rendered(404, {"content-type": "application/json"}, [WireEvent(dumped({"error": {"message": words}}))])


# ── waiting for what happens in another thread ───────────────────────────────────────────────────────────────


async def _awaited(portal: BlockingPortal | None, wait: Callable[[], Awaitable[T]]) -> T:
    """Await in the event loop of the sandbox, from whichever loop."""
    if portal is None:
        return await wait()
    return await anyio.to_thread.run_sync(portal.call, wait, abandon_on_cancel=True)


def _waited(portal: BlockingPortal | None, wait: Callable[[], Awaitable[T]], timeout_s: float) -> T:
    if portal is None:
        raise RuntimeError("This sandbox does not run in a thread: await what it does, or start it with in_thread()")

    async def bounded() -> T:
        with anyio.fail_after(timeout_s):
            return await wait()

    return portal.call(bounded)
