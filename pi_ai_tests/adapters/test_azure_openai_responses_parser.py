"""The answer of the Responses API at Azure, as pi-ai reads it; what is in it is tested with OpenAI's own API."""

from __future__ import annotations

from typing import Any

import pytest

from pi_ai.adapters.azure_openai_responses import AzureOpenAIResponses
from pi_ai_tests.adapters.differences import DIFFERENCES
from pi_ai_tests.adapters.golden import answer_differences, cases, check, of_parts, streamed

API = "azure-openai-responses"


@pytest.mark.parametrize("golden", [case for case in cases(API) if streamed(case.values[0])])
def test_the_answer_is_read_as_pi_ai_reads_it(golden: dict[str, Any]) -> None:
    known = of_parts(DIFFERENCES[API].get(golden["name"]), "events", "message")
    check(answer_differences(AzureOpenAIResponses(), golden), known, golden["name"])


def test_every_entry_of_the_table_is_about_a_golden() -> None:
    names = {case.values[0]["name"] for case in cases(API)}
    assert DIFFERENCES[API].keys() <= names
