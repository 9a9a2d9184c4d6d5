"""The exceptions by which frameworks steer: how a task or a request goes on, not what failed.

They are recognised by the names of their classes, so that no framework is imported.
"""

from __future__ import annotations

from typing import Any, Final
from weakref import WeakKeyDictionary

_ALWAYS: Final = ""
_WEBSOCKET: Final = "websocket"
# Module and name of a class, and its attribute with the answer's status.
_CLASSES: Final[dict[tuple[str, str], str]] = {
    ("celery.exceptions", "Retry"): _ALWAYS,
    ("celery.exceptions", "Ignore"): _ALWAYS,
    ("celery.exceptions", "Reject"): _ALWAYS,
    ("starlette.exceptions", "HTTPException"): "status_code",  # FastAPI's too
    ("starlette.exceptions", "WebSocketException"): _WEBSOCKET,
    ("starlette.websockets", "WebSocketDisconnect"): _ALWAYS,
    ("starlette.requests", "ClientDisconnect"): _ALWAYS,
    ("fastapi.exceptions", "RequestValidationError"): _ALWAYS,
    ("fastapi.exceptions", "WebSocketRequestValidationError"): _ALWAYS,
    ("django.http.response", "Http404"): _ALWAYS,
    ("django.core.exceptions", "PermissionDenied"): _ALWAYS,
    ("django.core.exceptions", "SuspiciousOperation"): _ALWAYS,
    ("django.core.exceptions", "BadRequest"): _ALWAYS,
    ("django.http.multipartparser", "MultiPartParserError"): _ALWAYS,
    ("rest_framework.exceptions", "APIException"): "status_code",
    ("werkzeug.exceptions", "HTTPException"): "code",
    ("aiohttp.web_exceptions", "HTTPException"): "status_code",
    ("click.exceptions", "Exit"): _ALWAYS,
}
# Below 500, but the server, or a service behind it, could not answer in time.
_NOT_THE_CALLERS: Final = frozenset({408, 425, 429})
_OF_THE_SERVER: Final = frozenset({1011, 1012, 1013, 1014})  # codes that close a websocket

_known: Final[WeakKeyDictionary[type, str | None]] = WeakKeyDictionary()


def steers(error: BaseException) -> bool:
    """Return whether an exception steers a framework: Celery's, click's, or an HTTP error < 500."""
    kind = type(error)
    try:
        try:
            attribute = _known[kind]
        except KeyError:
            attribute = _known[kind] = _attribute_of(kind)
        if not attribute:
            return attribute is not None
        if attribute == _WEBSOCKET:
            return getattr(error, "code", None) not in _OF_THE_SERVER
        status: Any = getattr(error, attribute, None)
        if status is None:  # Werkzeug's, with a whole response
            status = getattr(getattr(error, "response", None), "status_code", None)
    except RecursionError:
        raise
    except Exception:  # a class or property that raises: treat as unknown
        return False
    return isinstance(status, int) and 100 <= status < 500 and status not in _NOT_THE_CALLERS


def _attribute_of(kind: type) -> str | None:
    for base in kind.__mro__:
        found = _CLASSES.get((base.__module__, base.__qualname__))
        if found is not None:
            return found
    return None


def may_steer(kind: type) -> bool:
    """Return whether exceptions of a class may steer a framework; True if it can't be examined."""
    try:
        return _attribute_of(kind) is not None
    except Exception:
        return True
