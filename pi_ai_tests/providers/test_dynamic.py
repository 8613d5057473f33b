"""Models that a provider finds at run time, and what is kept of them (R85-R88)."""

from __future__ import annotations

import json

import anyio
import attrs
import pytest

from pi_ai import (
    AuthError,
    Context,
    OAuthConfig,
    Provider,
    ProviderConfigError,
    ProviderModelConfig,
    RateLimited,
    Registry,
    UserMessage,
    discover_openai_models,
)
from pi_ai.oauth import InMemoryCredentialStore
from pi_ai.testing.server import Server

pytestmark = pytest.mark.anyio
URL = "https://llm.example/v1"
CHAT = "openai-completions"
WHOLE = {"base_url": URL, "api": CHAT, "api_key": "k"}


def ids(pi, provider="x"):
    return [model.id for model in pi.get_models(provider)]


def finds(*names):
    return lambda context: [{"id": name} for name in names]


async def test_R85_what_is_found_takes_the_place_of_the_registered_models():
    pi = Registry()
    pi.register_provider("x", **WHOLE, models=[{"id": "old"}], refresh_models=finds("a", "b"))
    assert ids(pi) == ["old"]
    result = await pi.refresh()
    assert (ids(pi), result.errors, result.aborted) == (["a", "b"], {}, False)
    assert pi.get_model("x", "a").base_url == URL


@pytest.mark.parametrize(
    ("found", "error"),
    [
        ([{"id": ""}], ProviderConfigError),
        ([{"id": "m", "max_tokens": 0}], ProviderConfigError),
        ([{"id": "m"}, {"id": "m"}], ProviderConfigError),
        ([{"id": "m", "colour": "red"}], TypeError),
        (OSError("no network"), OSError),
    ],
)
async def test_R85_a_failure_keeps_the_list_and_is_told_not_raised(found, error):
    async def refresh_models(context):
        if isinstance(found, Exception):
            raise found
        return found

    pi = Registry()
    pi.register_provider("x", **WHOLE, models=[{"id": "old"}], refresh_models=refresh_models)
    pi.register_provider("y", **WHOLE, models=[{"id": "old"}], refresh_models=finds("new"))
    result = await pi.refresh()
    assert list(result.errors) == ["x"]
    assert isinstance(result.errors["x"], error)
    assert (ids(pi), ids(pi, "y")) == (["old"], ["new"])


async def test_R85_none_leaves_the_models_as_they_are():
    pi = Registry()
    pi.register_provider("x", **WHOLE, models=[{"id": "old"}], refresh_models=lambda _: None)
    await pi.refresh()
    assert ids(pi) == ["old"]


async def test_R38_the_files_overrides_come_after_what_was_found_and_after_what_a_login_made_of_it(agent_dir):
    override = {"name": "of the file", "contextWindow": 7}
    (agent_dir / "models.json").write_text(json.dumps({"providers": {"x": {"modelOverrides": {"a": override}}}}))
    names = []

    def modify_models(models, credential):
        names.extend(model.name for model in models)
        return [attrs.evolve(model, name="of the login", max_tokens=5) for model in models]

    login = OAuthConfig(
        name="L", login=print, refresh_token=print, get_api_key=lambda _: "k", modify_models=modify_models
    )
    stored = {"x": {"type": "oauth", "access": "a", "refresh": "r", "expires": 4_000_000_000_000}}
    pi = Registry(credentials=InMemoryCredentialStore(stored))
    pi.register_provider("x", base_url=URL, api=CHAT, models=[], refresh_models=finds("a", "b"), oauth=login)
    result = await pi.refresh()
    assert (result.errors, pi.get_error()) == ({}, None)
    assert [(model.name, model.context_window, model.max_tokens) for model in pi.get_models("x")] == [
        ("of the file", 7, 5),
        ("of the login", 128_000, 5),
    ]
    assert set(names) == {"a", "b"}


async def test_R86_what_the_function_is_given(monkeypatch):
    monkeypatch.setenv("X_HOST", "host.example")
    seen = []

    async def refresh_models(context):
        seen.append(context)
        return [{"id": "m"}]

    pi = Registry()
    pi.register_provider(
        "x", api=CHAT, base_url="https://$X_HOST/v1", api_key="!echo key", models=[], refresh_models=refresh_models
    )
    await pi.refresh(force=True)
    assert [(each.provider, each.base_url, each.force, each.stored) for each in seen] == [
        ("x", "https://host.example/v1", True, None)
    ] * 2
    assert [each.allow_network for each in seen] == [False, True]
    assert [each.credential and each.credential.api_key for each in seen] == [None, "key"]
    assert "key" not in repr(seen[1])


async def test_R87_all_providers_are_refreshed_at_the_same_time_and_first_without_the_network():
    calls, both = [], anyio.Event()

    async def refresh_models(context):
        calls.append((context.provider, context.allow_network))
        if context.allow_network:
            if len(calls) == 4:
                both.set()
            await both.wait()
        return [{"id": "m"}]

    pi = Registry()
    for name in ("x", "y"):
        pi.register_provider(name, **WHOLE, refresh_models=refresh_models)
    with anyio.fail_after(5):
        await pi.refresh()
    assert sorted(calls[:2]) == [("x", False), ("y", False)]
    assert sorted(calls[2:]) == [("x", True), ("y", True)]


async def test_R87_a_provider_that_is_not_configured_is_only_asked_without_the_network():
    calls = []
    pi = Registry()
    pi.register_provider(
        "x", base_url=URL, api=CHAT, refresh_models=lambda context: calls.append(context.allow_network)
    )
    await pi.refresh()
    assert calls == [False]
    pi.set_runtime_api_key("x", "k")
    await pi.refresh()
    assert calls == [False, False, True]
    await pi.refresh(allow_network=False)
    assert calls == [False, False, True, False]


async def test_R87_only_the_named_providers_are_refreshed():
    pi = Registry()
    for name in ("x", "y"):
        pi.register_provider(name, **WHOLE, models=[], refresh_models=finds("new"))
    await pi.refresh(["y", "openai"])
    assert (ids(pi), ids(pi, "y")) == ([], ["new"])
    await pi.refresh("x")
    assert ids(pi) == ["new"]
    with pytest.raises(LookupError):
        await pi.refresh(["nobody"])


async def test_R87_what_could_only_be_had_over_the_network_is_no_error():
    def refresh_models(context):
        if not context.allow_network:
            raise OSError("no network")
        return [{"id": "m"}]

    pi = Registry()
    pi.register_provider("x", **WHOLE, refresh_models=refresh_models)
    assert (await pi.refresh()).errors == {}
    assert list((await pi.refresh(allow_network=False)).errors) == ["x"]
    assert ids(pi) == ["m"]


async def test_R87_a_newer_refresh_supersedes_an_older_one():
    begun, gates, done = ([anyio.Event(), anyio.Event()] for _ in range(3))
    published, results = {}, {}

    async def refresh_models(context):
        if not context.allow_network:
            return None
        number = 1 if begun[0].is_set() else 0
        begun[number].set()
        await gates[number].wait()
        published[number] = context.publish([{"id": f"run {number}"}])
        return [{"id": f"run {number}"}]

    pi = Registry()
    pi.register_provider("x", **WHOLE, models=[{"id": "old"}], refresh_models=refresh_models)

    async def refresh(number):
        results[number] = await pi.refresh()
        done[number].set()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for number in (0, 1):
                tasks.start_soon(refresh, number)
                await begun[number].wait()
            gates[1].set()
            await done[1].wait()
            assert ids(pi) == ["run 1"]
            gates[0].set()
    assert ids(pi) == ["run 1"]
    assert published == {0: False, 1: True}
    assert (results[0].aborted, results[1].aborted) == (True, False)


@pytest.mark.parametrize("change", ["unregister", "register"])
async def test_R87_a_registration_supersedes_a_refresh_too(change):
    begun, gate = anyio.Event(), anyio.Event()

    async def refresh_models(context):
        begun.set()
        await gate.wait()
        return [{"id": "late"}]

    pi = Registry()
    pi.register_provider("x", **WHOLE, refresh_models=refresh_models)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pi.refresh)
            await begun.wait()
            if change == "unregister":
                pi.unregister_provider("x")
            else:
                pi.register_provider("x", models=[{"id": "by hand"}])
            gate.set()
    if change == "unregister":
        assert pi.get_provider("x") is None
    else:
        assert ids(pi) == ["by hand"]


async def test_R87_cancelling_a_refresh_cancels_the_functions():
    ended = []

    async def refresh_models(context):
        try:
            tasks.cancel_scope.cancel()
            await anyio.sleep_forever()
        finally:
            ended.append(context.provider)

    pi = Registry()
    pi.register_provider("x", **WHOLE, models=[{"id": "old"}], refresh_models=refresh_models)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            await pi.refresh()
    assert (ended, ids(pi)) == (["x"], ["old"])


async def test_a_whole_provider_may_find_its_models_too():
    class Mine(Provider):
        id = "mine"
        base_url = URL

        def models(self):
            return []

        def refresh_models(self, context):
            return [ProviderModelConfig("m", api=CHAT, base_url=URL)]

        def auth_status(self, env=None):
            return super().auth_status(env)

    pi = Registry()
    pi.register_provider(Mine())
    await pi.refresh()
    assert ids(pi, "mine") == ["m"]


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_R88_a_list_lives_in_memory_unless_it_is_to_be_kept(agent_dir):
    pi = Registry()
    pi.register_provider("x", **WHOLE, refresh_models=finds("a"))
    await pi.refresh()
    assert not (agent_dir / "models-store.json").exists()


async def test_R88_a_list_that_is_kept_is_there_the_next_time_without_the_network(agent_dir):
    async def refresh_models(context):
        if not context.allow_network:
            return context.stored and context.stored.models
        context.publish(persist=True)
        return [{"id": "a", "context_window": 7, "headers": {"X": "$NOT"}, "cost": {"input": 1}}, {"id": "b"}]

    (agent_dir / "models-store.json").write_text('{"other": {"models": [], "kept": "as it is"}}')
    pi = Registry()
    pi.register_provider("x", **WHOLE, models=[], refresh_models=refresh_models)
    await pi.refresh()
    found = pi.get_models("x")
    stored = json.loads((agent_dir / "models-store.json").read_text())
    assert stored["other"] == {"models": [], "kept": "as it is"}
    assert [model["id"] for model in stored["x"]["models"]] == ["a", "b"]
    assert stored["x"]["models"][0]["contextWindow"] == 7

    later = Registry()
    later.register_provider("x", **WHOLE, models=[], refresh_models=refresh_models)
    assert later.get_models("x") == []
    await later.refresh(allow_network=False)
    assert later.get_models("x") == found
    assert sorted(file.name for file in agent_dir.iterdir()) == ["models-store.json"]


async def test_R88_models_may_be_published_before_the_function_returns(agent_dir):
    early = []

    async def refresh_models(context):
        if context.allow_network:
            assert context.publish([{"id": "a"}], persist=True)
            early.append(ids(pi))
            return [{"id": "a"}, {"id": "b"}]
        return None

    pi = Registry()
    pi.register_provider("x", **WHOLE, refresh_models=refresh_models)
    await pi.refresh()
    assert (early, ids(pi)) == ([["a"]], ["a", "b"])
    assert len(json.loads((agent_dir / "models-store.json").read_text())["x"]["models"]) == 2


@pytest.mark.parametrize("text", ["{", "[]", '{"x": 1}', '{"x": {"models": [{"id": 5}]}}', '{"x": {}}'])
async def test_R88_a_store_that_cannot_be_read_has_kept_nothing(agent_dir, text):
    (agent_dir / "models-store.json").write_text(text)
    seen = []
    pi = Registry()
    pi.register_provider("x", **WHOLE, refresh_models=lambda context: seen.append(context.stored))
    result = await pi.refresh()
    assert (seen, result.errors) == ([None, None], {})


async def test_R88_many_lists_are_kept_at_the_same_time(agent_dir):
    def refresh_models(context):
        context.publish([{"id": context.provider}], persist=True)

    pi = Registry()
    for number in range(8):
        pi.register_provider(f"p{number}", **WHOLE, refresh_models=refresh_models)
    result = await pi.refresh()
    assert result.errors == {}
    assert len(json.loads((agent_dir / "models-store.json").read_text())) == 8


async def test_R88_a_store_that_cannot_be_written_is_told_and_left_as_it_was(agent_dir, monkeypatch):
    def refuses(*_):
        raise PermissionError("read-only")

    (agent_dir / "models-store.json").write_text('{"other": {}}')
    monkeypatch.setattr("os.replace", refuses)
    pi = Registry()
    pi.register_provider(
        "x", **WHOLE, refresh_models=lambda context: context.publish([{"id": "a"}], persist=True) and None
    )
    result = await pi.refresh()
    assert isinstance(result.errors["x"], PermissionError)
    assert ids(pi) == ["a"]
    assert [(file.name, file.read_text()) for file in agent_dir.iterdir()] == [("models-store.json", '{"other": {}}')]


async def test_R88_without_a_models_file_nothing_is_kept(agent_dir):
    pi = Registry(models_path=None)
    pi.register_provider(
        "x", **WHOLE, refresh_models=lambda context: context.publish([{"id": "a"}], persist=True) and None
    )
    assert (await pi.refresh()).errors == {}
    assert ids(pi) == ["a"]
    assert list(agent_dir.iterdir()) == []


# ── servers that list their models ───────────────────────────────────────────────────────────────────────────

LISTS = {
    "Ollama": (
        {"object": "list", "data": [{"id": "qwen3:4b", "object": "model", "owned_by": "library"}]},
        [("qwen3:4b", 128_000, 16_384, ["text"], False)],
    ),
    "vLLM": (
        {"data": [{"id": "Qwen/Qwen3", "max_model_len": 8192, "root": "Qwen/Qwen3"}]},
        [("Qwen/Qwen3", 8192, 8192, ["text"], False)],
    ),
    "llama.cpp": (
        {"data": [{"id": "smol", "meta": {"n_ctx_train": 4096, "n_params": 1}}], "models": [{}]},
        [("smol", 4096, 4096, ["text"], False)],
    ),
    "LM Studio": (
        {"data": [{"id": "gemma"}, {"id": "text-embedding-nomic-embed-text-v1.5"}]},
        [("gemma", 128_000, 16_384, ["text"], False)],
    ),
    "a gateway": (
        {
            "data": [
                {
                    "id": "a/b",
                    "name": "B",
                    "context_length": 200_000,
                    "top_provider": {"max_completion_tokens": 64_000},
                    "architecture": {"input_modalities": ["text", "image"]},
                    "supported_parameters": ["tools", "reasoning"],
                }
            ]
        },
        [("a/b", 200_000, 64_000, ["text", "image"], True)],
    ),
    "a plain list": ([{"id": "m", "context_length": 9}], [("m", 9, 9, ["text"], False)]),
    "nonsense": ({"data": ["m", None, {"id": 5}, {"name": "no id"}]}, []),
    "nothing": ({"data": None}, []),
}


async def serve_list(answer, content, status=200):
    await answer.whole(status, {"content-type": "application/json"}, json.dumps(content).encode())


@pytest.mark.parametrize("server", LISTS)
async def test_a_servers_own_list_becomes_its_models(server):
    content, expected = LISTS[server]

    async def handler(request, answer):
        await serve_list(answer, content)

    async with Server(handler) as box, Registry() as pi:
        pi.register_provider(
            "x",
            base_url=f"{box.url}/v1/",
            api=CHAT,
            api_key="k",
            headers={"X-P": "prov"},
            refresh_models=discover_openai_models,
        )
        result = await pi.refresh()
        assert result.errors == {}
        (request,) = box.requests
        assert (request.method, request.path) == ("GET", "/v1/models")
        assert (request.headers["authorization"], request.headers["x-p"]) == ("Bearer k", "prov")
        assert [
            (model.id, model.context_window, model.max_tokens, model.input, model.reasoning)
            for model in pi.get_models("x")
        ] == expected
        later = Registry()
        later.register_provider(
            "x", base_url=URL, api=CHAT, api_key="k", models=[], refresh_models=discover_openai_models
        )
        await later.refresh(allow_network=False)
        assert ids(later) == [model[0] for model in expected]


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (401, b'{"error": {"message": "Invalid key very-secret"}}', AuthError, "401"),
        (429, b"", RateLimited, "429"),
        (200, b"<html>", Exception, "no JSON"),
    ],
)
async def test_a_server_that_has_no_list_is_told_of(status, body, error, words):
    async def handler(request, answer):
        await answer.whole(status, {}, body)

    async with Server(handler) as box, Registry() as pi:
        pi.register_provider(
            "x", base_url=box.url, api=CHAT, api_key="very-secret", models=[{"id": "old"}],
            refresh_models=discover_openai_models,
        )  # fmt: skip
        result = await pi.refresh()
        assert isinstance(result.errors["x"], error)
        assert words in str(result.errors["x"])
        assert "very-secret" not in str(result.errors["x"])
        assert ids(pi) == ["old"]


async def test_D19_a_list_from_the_network_can_name_neither_commands_nor_variables(monkeypatch, tmp_path):
    monkeypatch.setenv("MY_SECRET", "secret")

    def refresh_models(context):
        return [
            {
                "id": "m",
                "base_url": "http://127.0.0.1:9/$MY_SECRET",
                "headers": {"X-A": f"!touch {tmp_path}/trace", "X-B": "$MY_SECRET"},
            }
        ]

    seen = []

    async def stream_simple(model, context, options):
        seen.append((model.base_url, options.headers))
        return 5

    pi = Registry()
    pi.register_provider("x", **WHOLE, stream_simple=stream_simple, refresh_models=refresh_models)
    await pi.refresh()
    await pi.complete(pi.get_model("x", "m"), Context([UserMessage("Hi")]))
    assert seen == [("http://127.0.0.1:9/$MY_SECRET", {"X-A": f"!touch {tmp_path}/trace", "X-B": "$MY_SECRET"})]
    assert not (tmp_path / "trace").exists()
