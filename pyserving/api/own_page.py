"""Keeps pages of other sites, open in a browser on the server's machine, from what administrators may do without keys.

Such a page can send any request that browsers call simple, and have its own name lead to the server. It can neither
hide its Origin nor add a key.
"""

from collections.abc import Mapping
from ipaddress import ip_address

from pyserving.core.errors import Code, ServingError


def is_asked_at_loopback(headers: Mapping[str, str]) -> bool:
    """Whether who asks calls the server by a name of this machine for itself."""
    return _is_loopback(_host_of(headers.get("host", "")))


def check_own_page(headers: Mapping[str, str]) -> None:
    """Raises PERMISSION_DENIED where a page of another site asks. Who shows a key, or is no page, may."""
    origin = headers.get("origin")
    if origin is None or "authorization" in headers or "x-api-key" in headers:
        return
    if origin.partition("://")[2] != headers.get("host") or not is_asked_at_loopback(headers):
        raise ServingError(
            Code.PERMISSION_DENIED,
            f"Without API keys, a page may ask for this only if it is this server's own, at localhost, got {origin}",
        )


def _host_of(authority: str) -> str:
    """Without the port: ``localhost:8501``, ``[::1]:8501``."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
