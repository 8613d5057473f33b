"""A machine without any AWS account, and one without botocore."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pi_ai.auth import aws

NO_BOTOCORE = "botocore is not installed (extra bedrock)"


def no_account(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """No credentials, no settings, and no memory of any; what is set up then is set up in ``folder``."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    aws._chains.clear()


def profile(folder: Path, name: str = "work", *, key: str = "AKIDW", region: str | None = None) -> None:
    """Set up a profile with keys, and with a region if it shall have one."""
    (folder / "credentials").write_text(f"[{name}]\naws_access_key_id={key}\naws_secret_access_key=w\n")
    if region:
        (folder / "config").write_text(f"[profile {name}]\nregion={region}\n")


def no_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were not installed."""
    for name in [name for name in sys.modules if name.startswith("botocore.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "botocore", None)
    aws._botocore.cache_clear()
