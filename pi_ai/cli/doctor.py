"""``pi-ai doctor``: what is configured, what is missing, and what is in the way; a way out for each finding."""

from __future__ import annotations

import argparse
import logging

import anyio

from pi_ai.cli.auth import auth_file_argument
from pi_ai.cli.terminal import FAILED, OK, escaped
from pi_ai.serialization import dumps


def doctor_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pi-ai doctor``."""
    add = parser.add_argument
    add("--provider", metavar="ID", help="look at this provider; default: at all that are configured")
    add("--offline", action="store_true", help="use no network, and run no command")
    add("--json", action="store_true", help="print one JSON object")
    auth_file_argument(parser)


def doctor(args: argparse.Namespace) -> int:
    """Look at everything.

    :raises PiAIError: there is no such provider.
    """
    from pi_ai.cli.findings import examine  # 50 ms, which no other command needs

    warnings = logging.getLogger("pi_ai.auth")
    level = warnings.level
    warnings.setLevel(logging.ERROR)  # what it warns of is found here, too
    try:
        findings = anyio.run(examine, args)
    finally:
        warnings.setLevel(level)
    healthy = all(finding.status != "problem" for finding in findings)
    if args.json:
        print(escaped(dumps({"ok": healthy, "findings": findings})))
    else:
        for finding in findings:
            print(escaped(f"{finding.status:<8} {finding.check} {finding.subject}: {finding.message}"))
            if finding.way_out:
                print(escaped(f"{'':<8} → {finding.way_out}"))
    return OK if healthy else FAILED
