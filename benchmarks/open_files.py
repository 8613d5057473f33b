"""How many files a process may have open: a thousand streams are as many, and some systems allow 256."""

from __future__ import annotations


def raise_file_limit() -> None:
    """To 10,000, or as near as the system lets it."""
    try:
        import resource
    except ImportError:
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 10_000) if most > 0 else 10_000, most))
