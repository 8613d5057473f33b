"""What both Google APIs have in common: Gemini's ``generateContent`` in JSON (google.md sections 2 and 3).

They differ in where a request goes and who may send it; see ``google_generative_ai.py`` and ``google_vertex.py``. The
conversation is made in ``_google_messages.py``, the answer read in ``_google_answer.py``; what generations of models do
differently is data in ``_google_compat.py``.
"""

from __future__ import annotations

from typing import ClassVar, Literal, TypeVar

import attrs

from pi_ai.adapters._google_answer import GoogleDecoder, GoogleParser
from pi_ai.adapters._google_compat import Compat
from pi_ai.adapters._google_messages import contents, tool_fields
from pi_ai.adapters._google_thinking import GoogleThinking, asked_thinking, thinking_config
from pi_ai.adapters._request import lowered
from pi_ai.adapters.base import Adapter
from pi_ai.builder import MessageBuilder
from pi_ai.errors import failure
from pi_ai.history import current_system, current_tools, system_text, transcript
from pi_ai.reasoning import clamp_level
from pi_ai.serialization import camel
from pi_ai.tokens import fit_max_tokens
from pi_ai.types import Context, JSONObject, Model, RequestOptions, StreamOptions, ToolChoice

# ── options ──────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen(kw_only=True)
class GoogleOptions(RequestOptions):
    """Options of both Google APIs.

    :ivar tool_choice: ``"auto"``, ``"none"``, ``"any"`` (or ``"required"``), or one tool by name.
    :ivar thinking: how to think; None: as the model does by itself.
    """

    tool_choice: ToolChoice | Literal["required"] | None = None
    thinking: GoogleThinking | None = None


OptionsT = TypeVar("OptionsT", bound=GoogleOptions)


# ── request ──────────────────────────────────────────────────────────────────────────────────────────────────

HEADERS = {"Accept": "*/*", "Content-Type": "application/json"}
KEY_HEADER = "x-goog-api-key"
METHOD = ":streamGenerateContent?alt=sse"


def body(model: Model, context: Context, options: GoogleOptions) -> JSONObject:
    """The body; sampling parameters become fields of ``generationConfig``, in Google's spelling.

    :raises PiAIError: kind ``bad_request``: there is nothing to answer, or a tool requires what the model does not
        have; ``config``: a wrong compat flag, or a wrong word in the model's map of levels.
    """
    compat = Compat.of(model)
    messages = transcript(context)
    said = contents(model, compat, messages)
    if not said:
        text = "contents are required"
        sentence = f"{text}: the conversation holds nothing that can be sent"
        raise failure("bad_request", sentence, text=text, provider=model.provider, api=model.api, model=model.id)
    fields: JSONObject = {"contents": said}
    system = current_system(messages)
    if prompt := system_text(system) if system else "":
        fields["systemInstruction"] = {"role": "user", "parts": [{"text": prompt}]}
    fields |= tool_fields(current_tools(messages), options.tool_choice, compat)
    config: JSONObject = {
        "temperature": options.temperature,
        "maxOutputTokens": options.max_tokens,
        "thinkingConfig": thinking_config(model, compat, options.thinking),
    }
    sampling = {**(model.sampling_params or {}), **(options.sampling_params or {})}
    config |= {camel(name): value for name, value in sampling.items()}
    if config := {name: value for name, value in config.items() if value is not None}:
        fields["generationConfig"] = config
    return fields


# ── adapter ──────────────────────────────────────────────────────────────────────────────────────────────────


class GoogleAdapter(Adapter[OptionsT]):
    """Gemini, whoever serves it."""

    reads_arrays: ClassVar[bool] = True

    def lower(self, model: Model, context: Context, options: StreamOptions) -> OptionsT:
        """The thinking that the model has, and as long an answer as fits.

        :raises PiAIError: kind ``config``: a wrong compat flag, or a wrong word in the model's map of levels.
        """
        level = clamp_level(model, options.reasoning) if options.reasoning else "off"
        by_level = (model.sampling_params_by_thinking_level or {}).get(level, {})
        return lowered(
            self.options_type,
            options,
            max_tokens=fit_max_tokens(model, context, options.max_tokens),
            sampling_params={**(model.sampling_params or {}), **by_level, **(options.sampling_params or {})},
            tool_choice=options.tool_choice,
            thinking=asked_thinking(model, Compat.of(model), options.reasoning, options.thinking_budgets),
        )

    def decoder(self, options: OptionsT) -> GoogleDecoder:
        """Server-sent events, or JSON."""
        return GoogleDecoder(options.max_event_bytes)

    def parser(self, model: Model, options: OptionsT, builder: MessageBuilder, context: Context) -> GoogleParser:
        """A parser of chunks."""
        return GoogleParser(model, Compat.of(model), builder, self.label)
