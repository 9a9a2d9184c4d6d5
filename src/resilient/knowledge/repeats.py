"""Whether a call of a client may be made again: by its HTTP method, and by its body.

GET, HEAD, OPTIONS, TRACE, PUT and DELETE are idempotent (RFC 9110, section 9.2.2). A body that is
read once, such as a generator or a file, can't be sent a second time.
"""

# pyright: basic
from __future__ import annotations

from typing import Any, Final

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110, section 9.2.1
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_OTHERS: Final = frozenset({"POST", "PATCH", "CONNECT"})
UNKNOWN: Final = "nothing says that it may be repeated (retry(idempotent=True) would)"
_METHODS: Final = (
    ("request", "method"),  # of httpx, requests
    ("method",),  # of aiohttp
    ("_original_response", "_method"),  # of urllib3, which says it nowhere else
)
_REPEATABLE: Final = (str, bytes, bytearray, memoryview, set, frozenset)
READ_ONCE: Final = "its body can't be sent again"


def unknown(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return why a call of an unknown client must not be made again."""
    return UNKNOWN


def once_over_http(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return why a call of an HTTP client must not be made again; "" if it may.

    Args:
        fn: the method, by whose name it is known.
        args: without the client itself.
        kwargs: as they were given.
    """
    request, method = _asked(fn, args, kwargs)
    if method not in IDEMPOTENT:
        return f"{method} is not idempotent" if method in _OTHERS else UNKNOWN
    if request is not None:
        return READ_ONCE if _is_read_once(_body_of(request)) else ""
    return READ_ONCE if _is_read_once([*args, *kwargs.values()]) else ""


def once_answered(answer: Any) -> str:
    """Return why the request that an HTTP client's answer came of must not be made again, or "".

    Of an answer that followed redirects the first request counts: it would be made again. Its body
    plays no part: the function that made it makes it anew.
    """
    method = _method_of(answer)
    if method in IDEMPOTENT:
        return ""
    if not method:
        return f"{UNKNOWN}, and its answer names no method"
    return f"{method} is not idempotent, and failed_result= does not name it"


def _method_of(answer: Any) -> str:
    """Return the method of the request that an answer came of; "" where nothing says it."""
    before, tried = _found(answer, ("history",)), _found(answer, ("retries", "history"))
    if isinstance(before, (list, tuple)) and before:
        answer = before[0]
    elif isinstance(tried, tuple) and any(_found(each, ("status",)) == 303 for each in tried):
        return ""  # urllib3 has forgotten what it asked first
    found = (_found(answer, path) for path in _METHODS)
    return next((each.upper() for each in found if isinstance(each, str)), "")


def _found(value: Any, path: tuple[str, ...]) -> Any:
    """Return an attribute of an attribute; None where there is none."""
    try:
        for name in path:
            value = getattr(value, name)
    except Exception:  # an answer of another library, or one without a request
        return None
    return value


def writes_over_http(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether a call of an HTTP client is known to change something, by its method."""
    method = _asked(fn, args, kwargs)[1]
    return method != "" and method not in SAFE


def read_once(args: tuple[Any, ...], kwargs: dict[str, Any], skip: int) -> bool:
    """Return whether an argument, or a request's body, can be read only once.

    Args:
        args: of a call.
        kwargs: as they were given.
        skip: how many of args are a client's proxy. Without one only iterators and files are
            known: any object may have a method `read`.
    """
    try:
        if not skip:
            types = [type(each) for each in (*args, *kwargs.values())]
            return any(hasattr(it, "__next__") or hasattr(it, "__anext__") for it in types)
        request = next(
            (it for it in args[skip:] if isinstance(getattr(it, "method", None), str)), None
        )
        if request is not None:
            return _is_read_once(_body_of(request))
        return _is_read_once([*args[skip:], *kwargs.values()])
    except Exception:  # an argument may be anything
        return True


def _asked(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, str]:
    """Return the request among some arguments, if there is one, and the HTTP method, or ""."""
    request = next((each for each in args if isinstance(getattr(each, "method", None), str)), None)
    return request, _method(fn, args, kwargs) if request is None else str(request.method).upper()


def _method(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    named = str(getattr(fn, "__name__", "")).upper()
    if named in IDEMPOTENT | _OTHERS:  # get(url): what is given besides is no method
        return named
    said = kwargs.get("method", args[0] if args else "")
    if isinstance(said, bytes):
        said = said.decode("latin-1")
    return said.upper() if isinstance(said, str) else ""


def _body_of(request: Any) -> Any:
    if hasattr(request, "_content"):  # of httpx, and read
        return None
    stream = getattr(request, "stream", None)
    if hasattr(stream, "__iter__") or hasattr(stream, "__aiter__"):  # of httpx, and not read
        return iter(())
    return getattr(request, "body", None)


def _is_read_once(body: Any) -> bool:
    if isinstance(body, (dict, list, tuple)):
        return any(map(_is_read_once, body.values() if isinstance(body, dict) else body))
    if any(hasattr(body, each) for each in ("__next__", "__anext__", "read", "aread")):
        return True
    iterable = hasattr(body, "__iter__") or hasattr(body, "__aiter__")
    return iterable and not (isinstance(body, _REPEATABLE) or hasattr(body, "keys"))
