"""The host that a call of an HTTP client goes to, by its arguments."""

# pyright: basic
from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit


def host_over_http(client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return the host, with its port where the URL says one.

    The URL is that of a request among the arguments, or one of them; a relative one belongs to the
    base URL, or the one host, of the client.

    Raises:
        ValueError: no URL is there.
    """
    for given in (kwargs.get("url"), *args):
        found = _host_in(getattr(given, "url", given))
        if found:
            return found
    for name in ("base_url", "_base_url"):
        found = _host_in(getattr(client, name, None))
        if found:
            return found
    host = getattr(client, "host", None)  # of a pool of connections to one host
    if isinstance(host, str) and host:
        port = getattr(client, "port", None)
        return f"{host}:{port}" if port else host
    raise ValueError("no URL among the arguments names a host")


def _host_in(url: Any) -> str:
    """Return the host of an absolute URL, a str or an object of a library; else ""."""
    if isinstance(url, bytes):
        url = url.decode("latin-1")
    elif not isinstance(url, str) and "URL" not in type(url).__name__:
        return ""
    parts = urlsplit(str(url))
    if not (parts.scheme and parts.hostname):
        return ""
    return parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"
