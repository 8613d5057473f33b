"""The loopback callback server and what races with it (A80-A83, X12-X14, X32, F93, T16)."""

from __future__ import annotations

import socket
from base64 import urlsafe_b64encode
from hashlib import sha256

import anyio
import pytest
from anyio.abc import SocketAttribute

from pi_ai.auth.oauth import callback as callback_module
from pi_ai.auth.oauth.callback import OAuthCallbackServer, Pasted, wait_for_callback_or_manual_input
from pi_ai.auth.oauth.interaction import LoginCancelled
from pi_ai.auth.oauth.pkce import generate_pkce, generate_state, parse_authorization_input, pasted_code
from pi_ai.errors import OAuthError
from pi_ai_tests.auth.rigs import Person

pytestmark = pytest.mark.anyio


def port_of(server: OAuthCallbackServer) -> int:
    return int(server.redirect_uri.rpartition(":")[2].partition("/")[0])


async def ask(server, target, *, method="GET", host=None, headers="", raw=None) -> tuple[int, str]:
    """Status and whole answer of a request; status 0: the connection was closed without one."""
    port = port_of(server)
    data = raw or f"{method} {target} HTTP/1.1\r\nHost: {host or f'127.0.0.1:{port}'}\r\n{headers}\r\n".encode()
    answer = b""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        try:
            await stream.send(data)
            while True:
                answer += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass
    return (int(answer.split()[1]) if answer else 0), answer.decode()


# ── small things ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_proof_key_is_what_rfc_7636_says_a80():
    pkce = generate_pkce()
    assert len(pkce.verifier) == 43
    digest = sha256(pkce.verifier.encode("ascii")).digest()
    assert pkce.challenge == urlsafe_b64encode(digest).decode().rstrip("=")
    assert pkce.method == "S256"
    assert pkce.verifier not in repr(pkce)
    assert generate_pkce().verifier != pkce.verifier
    assert len(generate_state()) == 43


@pytest.mark.parametrize(
    ("text", "code", "state"),
    [
        ("", None, None),
        ("  \n", None, None),
        (" abc ", "abc", None),
        ("abc#xyz", "abc", "xyz"),
        ("http://localhost:1/cb?code=c&state=s", "c", "s"),
        ("http://localhost:1/cb?state=s", None, "s"),
        ("http://[::1/cb?code=c", None, None),
        ("code=c&state=s", "c", "s"),
        ("?code=c%2B", "c+", None),
        ("code=first&code=second", "first", None),
    ],
)
def test_what_people_paste_is_understood_a83(text, code, state):
    assert parse_authorization_input(text) == (code, state)


def test_a_pasted_state_that_differs_or_a_missing_code_is_refused_a83_x32():
    assert pasted_code("c#s", "s") == "c"
    assert pasted_code("c", "s") == "c"
    with pytest.raises(OAuthError, match="OAuth state mismatch"):
        pasted_code("c#other", "s")
    with pytest.raises(OAuthError, match="Missing authorization code"):
        pasted_code(" ", "s")


# ── the server ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_answers_to_requests_and_what_they_do_a81_x14():
    async def complete(code):
        return f"made of {code}"

    async with OAuthCallbackServer("Ex<b>ample", state="s", complete=complete) as server:
        for method, target, status in [
            ("POST", "/callback?code=c&state=s", 404),
            ("HEAD", "/callback?code=c&state=s", 404),
            ("GET", "/", 404),
            ("GET", "/callback/?code=c&state=s", 404),
            ("GET", "/callback?code=c", 400),
            ("GET", "/callback?code=c&state=t", 400),
            ("GET", "/callback?error=access_denied", 400),
            ("GET", "/callback?state=s", 400),
            ("GET", "/callback?code=&state=s", 400),
        ]:
            assert (await ask(server, target, method=method))[0] == status, target
            assert not server.is_claimed
        status, page = await ask(server, "/callback?code=c&state=s&more=1")
        assert status == 200
        assert await server.wait() == "made of c"
        assert server.parameters == {"code": "c", "state": "s", "more": "1"}
        assert (await ask(server, "/callback?code=d&state=s"))[0] == 409
        for header in [
            "Content-Type: text/html; charset=utf-8",
            "Cache-Control: no-store",
            "Referrer-Policy: no-referrer",
            "Content-Security-Policy: default-src 'none'",
            "Connection: close",
        ]:
            assert header in page
        assert "Ex&lt;b&gt;ample" in page
        assert "<b>" not in page


async def test_the_provider_may_say_no_a81():
    async with OAuthCallbackServer("Example", state="s") as server:
        target = "/callback?state=s&error=access_denied&error_description=%3Cscript%3Eno"
        status, page = await ask(server, target)
        assert status == 400
        assert "&lt;script&gt;no" in page
        with pytest.raises(OAuthError, match="Example authorization failed: <script>no"):
            await server.wait()


async def test_a_completion_that_fails_is_told_to_browser_and_flow_a81():
    async def complete(code):
        raise RuntimeError("canary")

    async with OAuthCallbackServer("Example", complete=complete) as server:
        status, page = await ask(server, "/callback?code=c")
        assert status == 502
        assert "canary" not in page
        with pytest.raises(RuntimeError, match="canary"):
            await server.wait()


async def test_nobody_else_can_deliver_while_a_callback_is_completed_a81():
    gate, begun = anyio.Event(), anyio.Event()

    async def complete(code):
        begun.set()
        await gate.wait()
        return code

    async with OAuthCallbackServer("Example", complete=complete) as server, anyio.create_task_group() as tasks:
        tasks.start_soon(ask, server, "/callback?code=first")
        await begun.wait()
        assert (await ask(server, "/callback?code=second"))[0] == 409
        gate.set()
        assert await server.wait() == "first"


@pytest.mark.parametrize(
    ("headers", "host", "status"),
    [
        ("", "evil.example", 400),
        ("", "127.0.0.1:1", 400),
        ("Origin: https://evil.example\r\n", None, 403),
        ("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n", None, 403),
        ("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n", None, 403),
        ("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n", None, 200),
    ],
)
async def test_names_and_pages_that_are_not_ours_are_refused_x13(headers, host, status):
    async with OAuthCallbackServer("Example") as server:
        assert (await ask(server, "/callback?code=c", headers=headers, host=host))[0] == status


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x00\x00\r\n\r\n",
        b"GET http://x/callback HTTP/1.1\r\n\r\n",
        b"GET //[ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /callback HTTP/1.1\r\n" + b"a: " + b"b" * 20_000 + b"\r\n\r\n",
        b"x" * 20_000,
    ],
)
async def test_what_is_no_request_is_answered_400_and_forgotten(raw):
    async with OAuthCallbackServer("Example") as server:
        assert (await ask(server, "", raw=raw))[0] == 400
        assert (await ask(server, "/callback?code=c"))[0] == 200


async def test_the_address_is_loopback_and_never_all_of_the_machine_x13(monkeypatch):
    monkeypatch.setenv("PI_OAUTH_CALLBACK_HOST", "0.0.0.0")
    async with OAuthCallbackServer("Example", path="/p", redirect_host="localhost") as server:
        assert server.redirect_uri == f"http://localhost:{port_of(server)}/p"
        assert (await ask(server, "/p?code=c", host=f"localhost:{port_of(server)}"))[0] == 200
    for host in ("0.0.0.0", "::", ""):
        with pytest.raises(ValueError, match="one address"):
            OAuthCallbackServer("Example", host=host)
    if socket.has_ipv6:
        async with OAuthCallbackServer("Example", host="::1") as server:
            assert server.redirect_uri.startswith("http://[::1]:")


async def test_a_taken_port_is_an_os_error_and_closing_frees_it_a81():
    async with OAuthCallbackServer("Example") as server:
        port = port_of(server)
        with pytest.raises(OSError):
            async with OAuthCallbackServer("Example", port=port):
                pytest.fail("two servers on one port")
    async with OAuthCallbackServer("Example", port=port):
        pass


async def test_a_spare_connection_does_not_outlive_the_server_a81():
    async with OAuthCallbackServer("Example") as server:
        spare = await anyio.connect_tcp("127.0.0.1", port_of(server))
        await ask(server, "/nothing")
    async with spare:
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await spare.send(b"GET /callback?code=c HTTP/1.1\r\n\r\n")
            await spare.receive()


async def test_waiting_ends_in_time_a81():
    async with OAuthCallbackServer("Example", timeout=0.01) as server:
        with pytest.raises(OAuthError, match="Example sign-in timed out"):
            await server.wait()


async def test_an_exception_in_the_block_comes_out_as_it_is_and_the_server_is_closed():
    with pytest.raises(KeyError):
        async with OAuthCallbackServer("Example") as server:
            raise KeyError
    with pytest.raises(OSError):
        await anyio.connect_tcp("127.0.0.1", port_of(server))


async def test_cancelling_the_wait_closes_the_server_a69():
    servers, listening = [], anyio.Event()

    async def login():
        async with OAuthCallbackServer("Example") as server:
            servers.append(server)
            listening.set()
            await server.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(login)
        await listening.wait()
        tasks.cancel_scope.cancel()
    with pytest.raises(OSError):
        await anyio.connect_tcp("127.0.0.1", port_of(servers[0]))


async def test_a_thousand_hostile_requests_and_then_the_right_one_t16_x13():
    """Wrong paths, states and hosts, other origins, garbage, and a hundred that say nothing and stay."""
    hostile = [
        {"target": "/"},
        {"target": "/callback?code=evil&state=wrong"},
        {"target": "/callback?error=access_denied"},
        {"target": "/callback?code=evil&state=s", "host": "evil.example"},
        {"target": "/callback?code=evil&state=s", "headers": "Origin: https://evil.example\r\n"},
        {"target": "/callback?code=evil&state=s", "method": "POST"},
        {"target": "", "raw": b"\0" * 20_000},
        {"target": "", "raw": b"GET / HTTP/1.1\r\n\r\n"},
        {"target": "/callback?state=s"},
    ]
    async with OAuthCallbackServer("Example", state="s") as server:
        silent = []
        for _ in range(100):
            stream = await anyio.connect_tcp("127.0.0.1", port_of(server))
            await stream.send(b"GET /callback?code=c")  # and never the rest
            silent.append(stream)

        async def attack(number):
            status, _ = await ask(server, **hostile[number % len(hostile)])
            assert status in (0, 400, 403, 404)

        for start in range(0, 900, 30):
            async with anyio.create_task_group() as tasks:
                for number in range(start, start + 30):
                    tasks.start_soon(attack, number)
        assert not server.is_claimed
        assert (await ask(server, "/callback?code=right&state=s"))[0] == 200
        assert await server.wait() == "right"
        for stream in silent:
            await stream.aclose()


async def test_a_silent_connection_is_dropped_in_time(monkeypatch):
    monkeypatch.setattr(callback_module, "READ_TIMEOUT_S", 0.01)
    async with (
        OAuthCallbackServer("Example") as server,
        await anyio.connect_tcp("127.0.0.1", port_of(server)) as stream,
    ):
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()
        assert stream.extra(SocketAttribute.remote_port) == port_of(server)


# ── a browser, or a paste ────────────────────────────────────────────────────────────────────────────────────


async def test_the_browser_wins_and_the_question_disappears_a82():
    person = Person()
    async with OAuthCallbackServer("Example") as server, anyio.create_task_group() as tasks:
        tasks.start_soon(ask, server, "/callback?code=c")
        assert await wait_for_callback_or_manual_input(person, server, "Paste", "http://…") == "c"
    assert person.dismissed == 1
    assert (person.prompts[0].kind, person.prompts[0].placeholder) == ("manual_code", "http://…")


async def test_a_paste_wins_and_the_browser_is_too_late_a82():
    async with OAuthCallbackServer("Example") as server:
        assert await wait_for_callback_or_manual_input(Person("pasted"), server) == Pasted("pasted")
        assert (await ask(server, "/callback?code=c"))[0] == 409


async def test_a_callback_that_is_being_completed_wins_over_a_paste_a82():
    begun, pasted = anyio.Event(), anyio.Event()

    async def complete(code):
        begun.set()
        await pasted.wait()
        return f"made of {code}"

    class Slow(Person):
        async def prompt(self, prompt):
            await begun.wait()
            pasted.set()
            return "pasted"

    async with OAuthCallbackServer("Example", complete=complete) as server, anyio.create_task_group() as tasks:
        tasks.start_soon(ask, server, "/callback?code=c")
        assert await wait_for_callback_or_manual_input(Slow(), server) == "made of c"


@pytest.mark.parametrize("answer", [None, RuntimeError("no terminal")])
@pytest.mark.parametrize("with_server", [True, False])
async def test_a_question_that_is_dismissed_or_fails_cancels_the_login_a82(answer, with_server):
    async with OAuthCallbackServer("Example") as server:
        with pytest.raises(LoginCancelled, match="Login cancelled"):
            await wait_for_callback_or_manual_input(Person(answer), server if with_server else None)


async def test_without_a_server_there_is_only_the_paste_a82_f93():
    assert await wait_for_callback_or_manual_input(Person("pasted"), None) == Pasted("pasted")


async def test_what_the_server_says_no_to_ends_the_race_a82():
    async with OAuthCallbackServer("Example") as server, anyio.create_task_group() as tasks:
        tasks.start_soon(ask, server, "/callback?error=access_denied")
        with pytest.raises(OAuthError, match="Example authorization failed: access_denied"):
            await wait_for_callback_or_manual_input(Person(), server)
