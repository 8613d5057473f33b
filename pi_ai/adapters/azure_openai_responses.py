"""The API ``azure-openai-responses``: OpenAI's Responses API in a resource of one's own at Azure.

Only where the request goes, the key, and the model's name differ. Rules: openai-responses.md section 10.
"""

from __future__ import annotations

from typing import ClassVar
from urllib.parse import quote, urlsplit, urlunsplit

import attrs

from pi_ai.adapters._request import KEY_HEADERS, credential, endpoint, environment
from pi_ai.adapters._responses import PATH, Responses, ResponsesOptions, response_body
from pi_ai.adapters.base import Request
from pi_ai.errors import failure
from pi_ai.headers import layer_headers
from pi_ai.types import Context, JSONObject, Model
from pi_ai.urls import host_of, is_host

# ── options ──────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen(kw_only=True)
class AzureOpenAIResponsesOptions(ResponsesOptions):
    """Options of this API; each has a variable of the environment that it goes before.

    :ivar azure_api_version: ``AZURE_OPENAI_API_VERSION``; default: ``v1``.
    :ivar azure_base_url: ``AZURE_OPENAI_BASE_URL``: the endpoint.
    :ivar azure_resource_name: ``AZURE_OPENAI_RESOURCE_NAME``, instead of an endpoint that is the usual one.
    :ivar azure_deployment_name: what the model is called there; ``AZURE_OPENAI_DEPLOYMENT_NAME_MAP`` tells it for
        several models: ``model=deployment,model2=deployment2``.
    """

    azure_api_version: str | None = None
    azure_base_url: str | None = None
    azure_resource_name: str | None = None
    azure_deployment_name: str | None = None


# ── request ──────────────────────────────────────────────────────────────────────────────────────────────────

API_VERSION = "v1"
HOSTS = ("openai.azure.com", "cognitiveservices.azure.com", "ai.azure.com")
"""Azure's own hosts, on which the path of the API is known."""

_BASE_PATH = "/openai/v1"
_SAME_PATHS = ("", "/openai", _BASE_PATH, f"{_BASE_PATH}{PATH}")


def _url(model: Model, options: AzureOpenAIResponsesOptions) -> str:
    version = options.azure_api_version or environment("AZURE_OPENAI_API_VERSION", options.env) or API_VERSION
    parts = urlsplit(endpoint(attrs.evolve(model, base_url=_base(model, options)), "", options.env))
    query = "&".join(filter(None, (parts.query, f"api-version={quote(version, safe='')}")))
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + PATH, query=query))


def _base(model: Model, options: AzureOpenAIResponsesOptions) -> str:
    """The base URL: given, made of the resource's name, or the model's."""
    base = options.azure_base_url or environment("AZURE_OPENAI_BASE_URL", options.env)
    name = options.azure_resource_name or environment("AZURE_OPENAI_RESOURCE_NAME", options.env)
    if not base and name:
        base = f"https://{name}.openai.azure.com{_BASE_PATH}"
    base = (base or model.base_url).strip().rstrip("/")
    about = {"provider": model.provider, "api": model.api, "model": model.id}
    if not base:
        settings = "AZURE_OPENAI_BASE_URL or AZURE_OPENAI_RESOURCE_NAME"
        text = f"Azure OpenAI base URL is required. Set {settings}, or pass azure_base_url or azure_resource_name"
        raise failure("config", f"{text}, or give the model a base_url.", text=text, **about)
    if not host_of(base):
        raise failure("config", f"Invalid Azure OpenAI base URL: {base}", **about)
    parts = urlsplit(base)
    if is_host(host_of(base), HOSTS) and parts.path.rstrip("/") in _SAME_PATHS:
        return urlunsplit((parts.scheme, parts.netloc, _BASE_PATH, "", ""))
    return base


def _deployment(model: Model, options: AzureOpenAIResponsesOptions) -> str:
    """What the model is called in the resource."""
    entries = (environment("AZURE_OPENAI_DEPLOYMENT_NAME_MAP", options.env) or "").split(",")
    names = {name.strip(): told.strip() for name, _, told in (entry.partition("=") for entry in entries)}
    return options.azure_deployment_name or names.get(model.id) or model.id


def _headers(model: Model, options: AzureOpenAIResponsesOptions) -> dict[str, str | None]:
    """All headers but the client's identity. Who signs in with Entra ID gives ``Authorization`` instead of a key."""
    key = credential(model, options, KEY_HEADERS | {"api-key"})
    return layer_headers(
        {"Accept": "application/json", "Content-Type": "application/json", **({"api-key": key} if key else {})},
        model.headers,
        options.headers,
    )


# ── adapter ──────────────────────────────────────────────────────────────────────────────────────────────────


class AzureOpenAIResponses(Responses[AzureOpenAIResponsesOptions]):
    """The Responses API at Azure."""

    api = "azure-openai-responses"
    label = "Azure OpenAI Responses"
    options_type = AzureOpenAIResponsesOptions
    defaults: ClassVar[JSONObject] = {"supports_strict_mode": True}

    def build_request(self, model: Model, context: Context, options: AzureOpenAIResponsesOptions) -> Request:
        """The request.

        :raises PiAIError: no key (``auth``); a tool requires what the model does not have (``bad_request``); no or a
            wrong base URL, a wrong compat flag or header (``config``).
        """
        return Request(
            url=_url(model, options),
            headers=_headers(model, options),
            body=response_body(model, self.compat(model), context, options, {"model": _deployment(model, options)}),
        )
