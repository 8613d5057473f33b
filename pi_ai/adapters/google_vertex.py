"""The API ``google-vertex``: Gemini on Vertex AI, in a project and a location of one's own.

Who has a key needs neither (express mode); everybody else sends a token of Google's own credentials, which
``pi_ai.auth.google`` gets. What it shares with Gemini's own API is in ``_google.py``. Rules: google.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

import attrs

from pi_ai.adapters._google import HEADERS, KEY_HEADER, METHOD, GoogleAdapter, GoogleOptions, body
from pi_ai.adapters._google_thinking import GoogleThinking as GoogleThinking  # for those who set the options
from pi_ai.adapters._request import endpoint, environment
from pi_ai.adapters.base import Request
from pi_ai.auth.google import forget_google_token, google_access
from pi_ai.errors import PiAIError, failure
from pi_ai.headers import layer_headers, merge_headers
from pi_ai.transport import HttpRequest
from pi_ai.types import Context, Model
from pi_ai.urls import host_of, is_loopback

# ── options ──────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen(kw_only=True)
class GoogleVertexOptions(GoogleOptions):
    """Options of this API.

    :ivar project: default: ``GOOGLE_CLOUD_PROJECT``, then ``GCLOUD_PROJECT``, then the one of the credentials.
    :ivar location: ``global``, ``us``, ``eu``, or a region such as ``europe-west4``; default:
        ``GOOGLE_CLOUD_LOCATION``. Nothing else is assumed: where data is processed is for the caller to say.
    """

    project: str | None = None
    location: str | None = None


# ── request ──────────────────────────────────────────────────────────────────────────────────────────────────

VERSION = "v1"
GLOBAL_HOST = "https://aiplatform.googleapis.com"

NO_PROJECT = "Vertex AI requires a project ID. Set GOOGLE_CLOUD_PROJECT/GCLOUD_PROJECT or pass project in options."
NO_LOCATION = "Vertex AI requires a location. Set GOOGLE_CLOUD_LOCATION or pass location in options."

_HOSTS = {
    "global": GLOBAL_HOST,
    "us": "https://aiplatform.us.rep.googleapis.com",
    "eu": "https://aiplatform.eu.rep.googleapis.com",
}
_LOCATION = re.compile(r"[a-z][a-z0-9-]*")
_VERSIONED = re.compile(r"(?<!/)/v[0-9]+((alpha|beta)[0-9]*)?(/|$)")

_NO_KEY = "gcp-vertex-credentials"
"""What stands for a key where credentials are meant; and so does anything in angle brackets."""

_OPEN_PROJECT = "{project}"
"""Stands in the URL until the credentials have told their project."""


def _key(options: GoogleVertexOptions) -> str | None:
    key = (options.api_key or "").strip()
    return None if key == _NO_KEY or re.fullmatch(r"<.*>", key) else key or None


def _url(model: Model, options: GoogleVertexOptions) -> str:
    """Where the request goes (1.2); the version comes once, and a base URL of one's own is taken as it is."""
    base = model.base_url.strip()
    if "{location}" in base:
        base = ""
    if not base and _key(options):
        base = GLOBAL_HOST
    if base:
        prefix = "" if _VERSIONED.search(base) else f"/{VERSION}"
    else:
        project, location = _place(model, options)
        base = _HOSTS.get(location, f"https://{location}-aiplatform.googleapis.com")
        prefix = f"/{VERSION}/projects/{project}/locations/{location}"
    place = attrs.evolve(model, base_url=base)
    return endpoint(place, f"{prefix}/{_model_path(model.id)}{METHOD}", options.env)


def _place(model: Model, options: GoogleVertexOptions) -> tuple[str, str]:
    """Project and location, as they stand in the URL."""
    project = options.project or _first(("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"), options.env)
    location = (options.location or _first(("GOOGLE_CLOUD_LOCATION",), options.env) or "").strip()
    if not location:
        raise _lacks(model, NO_LOCATION) if project else _lacks(model, NO_PROJECT, f" {NO_LOCATION}")
    if not _LOCATION.fullmatch(location):  # it becomes part of the host's name
        text = f"{location!r} is no location of Vertex AI: such as 'global', 'eu' or 'europe-west4'"
        raise failure("config", text, provider=model.provider, api=model.api, model=model.id)
    return quote(project, safe=":") if project else _OPEN_PROJECT, location


def _first(names: tuple[str, ...], env: Mapping[str, str] | None) -> str | None:
    return next((value for name in names if (value := environment(name, env))), None)


def _model_path(name: str) -> str:
    """``publisher/model`` for models that are not Google's own."""
    publisher, _, model = name.removeprefix("models/").rpartition("/")
    return f"publishers/{quote(publisher or 'google')}/models/{quote(model)}"


def _lacks(model: Model, text: str, more: str = "") -> PiAIError:
    return failure("config", text + more, text=text, provider=model.provider, api=model.api, model=model.id)


def _headers(model: Model, options: GoogleVertexOptions) -> dict[str, str | None]:
    """All headers but the client's identity and the token."""
    key = _key(options)
    return layer_headers(HEADERS, {KEY_HEADER: key} if key else None, model.headers, options.headers)


# ── adapter ──────────────────────────────────────────────────────────────────────────────────────────────────


class GoogleVertex(GoogleAdapter[GoogleVertexOptions]):
    """Vertex AI."""

    api = "google-vertex"
    label = "Google Vertex"
    options_type = GoogleVertexOptions

    def build_request(self, model: Model, context: Context, options: GoogleVertexOptions) -> Request:
        """The request (section 3), without the token.

        :raises PiAIError: no project, no location, a wrong compat flag, header or base URL (``config``); nothing to
            answer, or a tool requires what the model does not have (``bad_request``).
        """
        return Request(url=_url(model, options), headers=_headers(model, options), body=body(model, context, options))

    async def authorize(self, request: HttpRequest, model: Model, options: GoogleVertexOptions) -> HttpRequest:
        """The request with a token of Google's credentials, unless it has a credential already or needs none.

        :raises PiAIError: of :func:`~pi_ai.auth.google.google_access`; the credentials tell no project (``config``).
        """
        if _has_credential(request.headers) or is_loopback(host_of(request.url)):
            if _OPEN_PROJECT in request.url:
                raise _lacks(model, NO_PROJECT)
            return request
        access = await google_access(options.env)
        url = request.url
        if _OPEN_PROJECT in url:
            if not access.project:
                raise _lacks(model, NO_PROJECT)
            url = url.replace(_OPEN_PROJECT, quote(access.project, safe=":"))
        given = {"Authorization": f"Bearer {access.token}", "x-goog-user-project": access.quota_project}
        return attrs.evolve(request, url=url, headers=merge_headers(given, request.headers))

    def may_renew(self, request: HttpRequest, model: Model, options: GoogleVertexOptions) -> bool:
        """Whether it was a token of ours that the server refused: it may have been withdrawn."""
        sent = request.headers.get("Authorization")
        if sent is None or _has_credential(_headers(model, options)):
            return False
        forget_google_token(sent.removeprefix("Bearer "), options.env)
        return True


def _has_credential(headers: Mapping[str, str | None]) -> bool:
    return any(value and name.lower() in (KEY_HEADER, "authorization") for name, value in headers.items())
