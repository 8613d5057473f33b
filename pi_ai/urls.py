"""Which server a base URL means. Vendors are told apart by host name, never by a piece of text in the URL."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import urlsplit

LOCAL_NAMES = ("localhost", "local", "host.docker.internal")
"""Names of this machine and its network; names below them count, too."""


@lru_cache(maxsize=256)
def host_of(url: str) -> str:
    """The host name of a URL in lower case, ``""`` if it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # an unclosed IPv6 bracket
        return ""


def is_host(host: str, names: Iterable[str]) -> bool:
    """Whether a host is one of ``names`` or below one of them.

    :param names: domains; one that ends in a dot matches all hosts that begin with it (``api.moonshot.``).
    """
    return any(
        host.startswith(name) if name.endswith(".") else host == name or host.endswith("." + name) for name in names
    )


def is_loopback(host: str) -> bool:
    """Whether a host is this very machine."""
    address = _address(host)
    return address.is_loopback if address else is_host(host, ("localhost",))


def is_local(host: str) -> bool:
    """Whether a host is on this machine or on its private network: somebody's own server, no vendor's."""
    address = _address(host)
    if address:
        return address.is_loopback or address.is_link_local or address.is_private
    return is_host(host, LOCAL_NAMES)


@lru_cache(maxsize=256)
def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
