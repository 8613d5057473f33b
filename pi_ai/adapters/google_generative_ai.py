"""The API ``google-generative-ai``: ``POST {base_url}/models/{id}:streamGenerateContent``, answered by chunks.

Gemini's own API, for which a key is enough. What it shares with Vertex is in ``_google.py``. Rules: google.md.
"""

from __future__ import annotations

from urllib.parse import quote

import attrs

from pi_ai.adapters._google import HEADERS, KEY_HEADER, METHOD, GoogleAdapter, GoogleOptions, body
from pi_ai.adapters._google_thinking import GoogleThinking as GoogleThinking  # for those who set the options
from pi_ai.adapters._request import KEY_HEADERS, credential, endpoint
from pi_ai.adapters.base import Request
from pi_ai.headers import layer_headers
from pi_ai.types import Context, Model

# ── options ──────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen(kw_only=True)
class GoogleGenerativeAIOptions(GoogleOptions):
    """Options of this API: those of both Google APIs."""


# ── request ──────────────────────────────────────────────────────────────────────────────────────────────────

BASE_URL = "https://generativelanguage.googleapis.com/v1beta"


def _url(model: Model, options: GoogleGenerativeAIOptions) -> str:
    """The version is part of the base URL (1.1)."""
    place = attrs.evolve(model, base_url=model.base_url.strip() or BASE_URL)
    name = quote(model.id.removeprefix("models/"))
    return endpoint(place, f"/models/{name}{METHOD}", options.env)


def _headers(model: Model, options: GoogleGenerativeAIOptions) -> dict[str, str | None]:
    """All headers but the client's identity; the key is one of them, since URLs get logged (X3)."""
    key = credential(model, options, KEY_HEADERS | {KEY_HEADER})
    return layer_headers(HEADERS, {KEY_HEADER: key} if key else None, model.headers, options.headers)


# ── adapter ──────────────────────────────────────────────────────────────────────────────────────────────────


class GoogleGenerativeAI(GoogleAdapter[GoogleGenerativeAIOptions]):
    """The Gemini API."""

    api = "google-generative-ai"
    label = "Google"
    options_type = GoogleGenerativeAIOptions

    def build_request(self, model: Model, context: Context, options: GoogleGenerativeAIOptions) -> Request:
        """The request (section 3).

        :raises PiAIError: no key (``auth``); nothing to answer, or a tool requires what the model does not have
            (``bad_request``); a wrong compat flag, header or base URL (``config``).
        """
        return Request(url=_url(model, options), headers=_headers(model, options), body=body(model, context, options))
