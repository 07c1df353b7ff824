"""Tells this server's own web pages from those of other sites, open in a browser on the server's machine.

A browser lets the pages of any site send requests, and from an operator's browser they come from an address that may do
everything. Such a page may also have its own name lead here (DNS rebinding). But it cannot hide its ``Origin``.
"""

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit


def is_asked_at_loopback(headers: Mapping[str, str]) -> bool:
    """Whether who asks calls the server by an address of this machine for itself, or localhost."""
    return _is_loopback(f"http://{headers.get('host', '')}")


def is_own_page(headers: Mapping[str, str], *, any_name: bool) -> bool:
    """Whether what sends a request with these headers is a page of this server, or no page at all.

    Without ``any_name`` the page has to have the server by an address of this machine for itself.
    """
    origin = headers.get("origin")
    if origin is None:
        return True
    if origin.partition("://")[2].lower() != headers.get("host", "").lower():
        return False
    return any_name or _is_loopback(origin)


def _is_loopback(url: str) -> bool:
    try:
        name = urlsplit(url).hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False
