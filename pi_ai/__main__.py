"""``python -m pi_ai``: the same as the command ``pi-ai``."""

from __future__ import annotations

import sys

from pi_ai.cli import main

if __name__ == "__main__":
    sys.exit(main())
