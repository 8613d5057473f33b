"""The chat page, in a real browser: text appears as it streams, Stop aborts upstream, a reload resumes."""

from __future__ import annotations

import os
import runpy
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pi_ai.testing import Delivery, Sandbox, Turn
from pi_ai_tests.test_surface import ROOT

uvicorn = pytest.importorskip("uvicorn", reason="the group `examples` is not installed")
pytest.importorskip("starlette", reason="the group `examples` is not installed")
httpx = pytest.importorskip("httpx")

STORY = "Once upon a time there was a stream. " * 30
SLOWLY = Delivery(tokens_per_second=40)


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox().in_thread() as box:
        yield box


@pytest.fixture
def url(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The application on a free port, its model behind our sandbox."""
    names = runpy.run_path(str(ROOT / "examples" / "chat_web" / "app.py"))
    app = names["app"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_level="error", ws="none", timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        until(lambda: server.started)
        app.state.model = box.model("anthropic-messages")
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)
    assert not thread.is_alive()


def until(true: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def asked(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "parts": [{"type": "text", "text": text}]}]}


def test_an_answer_streams_and_can_be_looked_at_again_and_from_the_middle(url: str, box: Sandbox) -> None:
    box.script("One two three.")
    name = httpx.post(f"{url}/answers", json=asked("Hi")).json()["answer"]
    first = httpx.get(f"{url}/answers/{name}").text
    assert first == httpx.get(f"{url}/answers/{name}").text
    assert '"delta":"One"' in first
    assert first.endswith("data: [DONE]\n\n")
    ids = [line.removeprefix("id: ") for line in first.splitlines() if line.startswith("id: ")]
    rest = httpx.get(f"{url}/answers/{name}", headers={"Last-Event-ID": ids[3]}).text
    assert rest
    assert first.endswith(rest)


def test_stop_aborts_upstream(url: str, box: Sandbox) -> None:
    box.script(Turn(STORY), delivery=SLOWLY)
    name = httpx.post(f"{url}/answers", json=asked("Hi")).json()["answer"]
    request = box.wait_received()
    assert httpx.post(f"{url}/answers/{name}/stop").status_code == 204
    assert request.wait_ending() == "client left"
    assert '"type":"abort"' in httpx.get(f"{url}/answers/{name}").text


def test_what_is_no_conversation_is_refused(url: str) -> None:
    for body in ({}, {"messages": 5}, {"messages": [{"role": "system", "parts": []}]}):
        answer = httpx.post(f"{url}/answers", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]
    assert httpx.get(f"{url}/answers/none").status_code == 404


# ── in Chromium ──────────────────────────────────────────────────────────────────────────────────────────────

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=900,700"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("Chromium and its driver are not installed (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


def said(browser: Any) -> str:
    return browser.execute_script("return [...document.querySelectorAll('.assistant')].at(-1)?.textContent ?? ''")


def write(browser: Any, words: str) -> None:
    browser.find_element("id", "text").send_keys(words + "\n")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
@pytest.mark.skipif(sys.platform == "win32", reason="written for Chromium on Linux")
def test_the_page_streams_stops_and_resumes(url: str, box: Sandbox, browser: Any) -> None:
    box.script(Turn(STORY), Turn(STORY), delivery=SLOWLY)
    browser.get(url)
    write(browser, "Tell me a story")
    until(lambda: said(browser))
    begun = said(browser)
    until(lambda: len(said(browser)) > len(begun))
    assert STORY.startswith(said(browser))
    if folder := os.environ.get("PI_AI_SCREENSHOTS"):
        browser.save_screenshot(f"{folder}/streaming.png")

    browser.refresh()  # in the middle of the answer
    until(lambda: len(said(browser)) > len(begun))
    assert STORY.startswith(said(browser))
    assert len(box.requests) == 1
    assert browser.find_element("id", "button").text == "Stop"

    browser.find_element("id", "button").click()
    assert box.requests[0].wait_ending() == "client left"
    until(lambda: browser.find_element("id", "button").text == "Send")
    kept = said(browser)
    assert kept
    assert STORY.startswith(kept)

    write(browser, "And another one")
    until(lambda: len(box.requests) == 2)
    assert [message["role"] for message in box.requests[1].body["messages"]] == ["user", "assistant", "user"]
    if folder := os.environ.get("PI_AI_SCREENSHOTS"):
        until(lambda: len(said(browser)) > 200)
        browser.save_screenshot(f"{folder}/second.png")
    browser.find_element("id", "button").click()
    assert box.requests[1].wait_ending() == "client left"
