"""Whether a call of a client may be made again: by its HTTP method, and by its body.

GET, HEAD, OPTIONS, TRACE, PUT and DELETE are idempotent (RFC 9110, section 9.2.2). A body that is
read once, such as a generator or a file, can't be sent a second time.
"""

from __future__ import annotations

from typing import Any, Final

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_OTHERS: Final = frozenset({"POST", "PATCH", "CONNECT"})
_BODIES: Final = ("data", "content", "body", "files", "fields")
UNKNOWN: Final = "nothing says that it may be repeated (retry(idempotent=True) would)"


def unknown(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return why a call of an unknown client must not be made again."""
    return UNKNOWN


def once_over_http(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return why a call of an HTTP client must not be made again; "" if it may."""
    request = next((each for each in args if isinstance(getattr(each, "method", None), str)), None)
    method = _method(fn, args, kwargs) if request is None else request.method.upper()
    if method not in IDEMPOTENT:
        return f"{method} is not idempotent" if method in _OTHERS else UNKNOWN
    bodies = [kwargs.get(name) for name in _BODIES]
    if request is not None:
        bodies += [getattr(request, "body", None), _stream_of(request)]
    if any(_is_read_once(body) for body in bodies):
        return "its body can't be sent again"
    return ""


def _method(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    named = kwargs.get("method")
    words = [named, *args[:2], getattr(fn, "__name__", "")]
    known = IDEMPOTENT | _OTHERS
    return next((w.upper() for w in words if isinstance(w, str) and w.upper() in known), "")


def _stream_of(request: Any) -> Any:
    """Return the body of an httpx.Request that has not been read."""
    return None if hasattr(request, "_content") else getattr(request, "stream", None)


def _is_read_once(body: Any) -> bool:
    kind: type[Any] = type(body)
    if issubclass(kind, (dict, list, tuple)):
        return any(map(_is_read_once, body.values() if issubclass(kind, dict) else body))
    return any(hasattr(body, each) for each in ("__next__", "__anext__", "read", "aread"))
