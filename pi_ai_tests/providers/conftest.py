"""Every test has an agent folder and a set of warnings of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from pi_ai.auth import config_values


@pytest.fixture(autouse=True)
def agent_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that is shared with pi, empty."""
    folder = tmp_path / "agent"
    folder.mkdir()
    monkeypatch.setenv("PI_CODING_AGENT_DIR", str(folder))
    monkeypatch.setattr(config_values, "_warned", set())
    monkeypatch.setattr(config_values, "_outputs", {})
    return folder
