"""A service account that nobody has, and the server that gives it tokens: below google-auth everything is real."""

from __future__ import annotations

import atexit
import json
import threading
from contextlib import ExitStack
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self
from urllib.parse import parse_qs

import pytest

TOKEN = "test-access-token"
NO_GOOGLE_AUTH = "google-auth is not installed (extra vertex)"


class TokenServer:
    """Answers every request for a token: the n-th one with ``answers[n]``, the last of them for ever.

    :ivar asked: the grants that were asked for.
    :ivar open: while it is not set, nobody gets an answer.
    """

    def __init__(self, *answers: tuple[int, dict[str, Any]]) -> None:
        self.answers = list(answers) or [(200, token())]
        self.asked: list[dict[str, list[str]]] = []
        self.open = threading.Event()
        self.open.set()
        self.arrived = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/token"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.open.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def account(self, folder: Path, **fields: Any) -> str:
        """Write the file of a service account that gets its tokens here."""
        return service_account(folder, token_uri=self.url, **fields)


def token(value: str = TOKEN, lifetime_s: int = 3600) -> dict[str, Any]:
    return {"access_token": value, "expires_in": lifetime_s, "token_type": "Bearer"}


def service_account(folder: Path, **fields: Any) -> str:
    """Write the file of a service account."""
    account = {
        "type": "service_account",
        "client_email": "tester@own-project.iam.gserviceaccount.com",
        "private_key_id": "1",
        "private_key": _private_key(),
        "project_id": "own-project",
        **fields,
    }
    path = folder / "account.json"
    path.write_text(json.dumps({name: value for name, value in account.items() if value is not None}))
    return str(path)


@cache
def service_account_file() -> str:
    """One whose tokens are all ``TOKEN``, for as long as the process lives."""
    pytest.importorskip("google.auth", reason=NO_GOOGLE_AUTH)
    resources = ExitStack()
    atexit.register(resources.close)
    server = resources.enter_context(TokenServer())
    return server.account(Path(resources.enter_context(TemporaryDirectory())))


@cache
def _private_key() -> str:
    reason = "cryptography is not installed (extra vertex)"
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization", reason=reason)
    rsa = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.rsa", reason=reason)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _handler(server: TokenServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            server.asked.append(parse_qs(body.decode()))
            server.arrived.set()
            server.open.wait(10)
            status, answer = server.answers[min(len(server.asked), len(server.answers)) - 1]
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    return Handler
