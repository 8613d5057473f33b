"""What was recorded with a key is played where there is none: real providers' models, at their own addresses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from pi_ai import Context, Registry, UserMessage, complete
from pi_ai.providers import local
from pi_ai.registry import current
from pi_ai.testing import Cassette, Sandbox, Turn
from pi_ai.testing.wires import WIRES

pytestmark = pytest.mark.anyio
CONTEXT = Context([UserMessage("Why is the sky blue?")])
KEY = "canary-key-of-the-test"
PLACE = {
    "GOOGLE_CLOUD_PROJECT": "canary-project",
    "GOOGLE_CLOUD_LOCATION": "europe-west4",
    "AZURE_OPENAI_RESOURCE_NAME": "somewhere",
    "CLOUDFLARE_ACCOUNT_ID": "c0ffee" * 5 + "00",
}
PROVIDERS = {
    "anthropic-messages": "anthropic",
    "azure-openai-responses": "azure-openai-responses",
    "bedrock-converse-stream": "amazon-bedrock",
    "google-generative-ai": "google",
    "google-vertex": "google-vertex",
    "mistral-conversations": "mistral",
    "openai-completions": "groq",
    "openai-responses": "openai",
}


@pytest.fixture(autouse=True)
def _nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PLACE, "GROQ_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)


class Rerouted(httpx.AsyncHTTPTransport):
    """The providers are the sandbox."""

    def __init__(self, box: Sandbox, api: str) -> None:
        super().__init__()
        self._place = httpx.URL(f"{box.url}/{api}")

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path
        if path.endswith(b"/chat/completions"):
            path = b"/v1/chat/completions"  # what is before it is each provider's own
        request.url = self._place.copy_with(raw_path=self._place.raw_path + path)
        return await super().handle_async_request(request)


def cassette(path: Path, box: Sandbox, api: str) -> Cassette:
    return Cassette(path, mode="record", client=lambda: httpx.AsyncClient(transport=Rerouted(box, api)))


def model_of(pi: Registry, provider: str, api: str) -> Any:
    return next(model for model in pi.get_models(provider) if model.api == api)


def test_every_wire_has_a_provider_here() -> None:
    assert PROVIDERS.keys() == WIRES.keys()


@pytest.mark.parametrize(("api", "provider"), PROVIDERS.items())
async def test_a_recording_needs_a_key_and_playing_it_does_not(tmp_path: Path, api: str, provider: str) -> None:
    path = tmp_path / "c.jsonl"
    async with (
        Sandbox(Turn("Blue light scatters.")) as box,
        cassette(path, box, api) as tape,
        tape.registry() as pi,
    ):
        first = await complete(model_of(pi, provider, api), CONTEXT, api_key=KEY, env=PLACE, max_retries=0)
    assert (first.text, first.error_message) == ("Blue light scatters.", None)
    assert "canary" not in path.read_text()
    async with Cassette(path).registry() as pi:
        again = await complete(model_of(pi, provider, api), CONTEXT)
    assert (again.text, again.error_message, again.usage) == (first.text, None, first.usage)


async def test_a_project_of_google_cloud_is_not_written_and_not_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    async with Sandbox(Turn("Hello.")) as box, cassette(path, box, "google-vertex") as tape, tape.registry() as pi:
        model = model_of(pi, "google-vertex", "google-vertex")
        headers = {"Authorization": f"Bearer {KEY}"}
        first = await pi.complete(model, CONTEXT, headers=headers, env=PLACE, max_retries=0)
        assert "/projects/canary-project/" in box.requests[0].path
    assert first.error_message is None
    assert "canary" not in path.read_text()
    async with Cassette(path).registry() as pi:
        assert (await pi.complete(model, CONTEXT)).text == "Hello."


async def test_the_id_of_an_account_in_an_address_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    api, provider = "openai-completions", "cloudflare-workers-ai"
    account = PLACE["CLOUDFLARE_ACCOUNT_ID"]
    turn = Turn(f"You are {account}.", piece_size=100)
    async with Sandbox(turn) as box, cassette(path, box, api) as tape, tape.registry() as pi:
        live = await pi.complete(model_of(pi, provider, api), CONTEXT, api_key=KEY, env=PLACE, max_retries=0)
    assert account in live.text
    assert account not in path.read_text()
    async with Cassette(path).registry() as pi:
        assert (await pi.complete(model_of(pi, provider, api), CONTEXT)).text == "You are [redacted]."


async def test_the_local_model_is_played_where_it_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.jsonl"
    async with Sandbox(Turn("Hello.")) as box:
        there = local.Endpoint(base_url=box.base_url("openai-completions"), api_key=KEY)
        monkeypatch.setattr(local, "endpoint", lambda _: there)
        async with Cassette(path, mode="record") as tape, tape.registry() as pi:
            model = pi.get_model("local", "smollm2-135m")
            assert (await complete(model, CONTEXT)).text == "Hello."
    text = path.read_text()
    assert KEY not in text
    path.write_text(text.replace("/openai-completions/v1/", "/v1/"))  # llama.cpp has its APIs at the server's root
    monkeypatch.setattr(local, "endpoint", lambda _: pytest.fail("a server is started"))
    async with Cassette(path).registry() as pi:
        message = await complete(model, CONTEXT)
        assert (message.text, message.error_message) == ("Hello.", None)


async def test_the_modules_own_functions_use_the_registry_in_its_block(tmp_path: Path, sandbox: Sandbox) -> None:
    async with Cassette(tmp_path / "c.jsonl", mode="once") as tape:
        async with tape.registry() as pi:
            assert current() is pi
            sandbox.script(Turn("Hello."))
            assert (await complete(sandbox.model(), CONTEXT)).text == "Hello."
        assert current() is not pi
    async with Cassette(tmp_path / "c.jsonl").registry(max_connections=1) as pi:
        pi.register_provider("mine", base_url=f"{sandbox.base_url()}", api="openai-completions", models=[{"id": "m"}])
        assert pi.get_provider_auth_status("mine").configured is False
        assert (await complete(sandbox.model(), CONTEXT)).text == "Hello."


async def test_what_was_recorded_by_a_block_that_failed_is_not_kept(tmp_path: Path, sandbox: Sandbox) -> None:
    with pytest.raises(KeyError):
        async with Cassette(tmp_path / "c.jsonl", mode="once") as tape, tape.registry():
            await complete(sandbox.model(), CONTEXT)
            raise KeyError
    assert not (tmp_path / "c.jsonl").exists()
