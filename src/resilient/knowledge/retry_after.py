"""Read how long a server asks its clients to wait: from an error, or from an answer that failed.

``Retry-After`` is seconds or a date (RFC 9110, section 10.2.3); ``Retry-After-Ms`` is Azure's, and
finer; gRPC's servers push back by ``grpc-retry-pushback-ms`` (gRFC A6). Nothing is imported before
there is such a date.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf, isfinite
from typing import Any, Final, cast

from .. import validation

NEVER: Final = inf
"""What a server says that wants no other attempt."""

_PUSHBACK: Final = "grpc-retry-pushback-ms"


def asked_wait(error: Exception | None, value: object) -> float | None:
    """Return the seconds that a server asks for, `NEVER`, or None if it says nothing.

    What is said may be anything: what is no number and no date says nothing, and less than nothing
    is 0. `error` may be of any library that keeps the answer, or its headers, on its errors.
    """
    subject: Any = value if error is None else error
    own = _seconds(getattr(subject, "retry_after", None))
    if own is not None:
        return own
    pushed = _pushback(subject)
    if pushed is not None:
        return pushed
    headers = _headers(subject)
    finer = _seconds(_header(headers, "retry-after-ms"))
    if finer:
        return finer / 1000
    said = _header(headers, "retry-after")
    if said is None:
        return None
    seconds = _seconds(said)
    return _until(said, _header(headers, "date")) if seconds is None else seconds


def _seconds(said: object) -> float | None:
    """Return a number of seconds, never below 0; None for what is none."""
    total = getattr(said, "total_seconds", None)
    try:
        if total is not None:
            number = float(total())
        elif isinstance(said, (int, float, str)) and not isinstance(said, bool):
            number = float(said)
        else:
            return None
    except (ValueError, OverflowError, TypeError):
        return None
    return max(0.0, number) if isfinite(number) else None


def _headers(subject: Any) -> Any:
    """Return the headers of an error or an answer, as its library keeps them."""
    response = getattr(subject, "response", None)
    if isinstance(response, dict):  # botocore's
        about = cast("dict[str, Any]", response).get("ResponseMetadata")
        return cast("dict[str, Any]", about).get("HTTPHeaders") if isinstance(about, dict) else None
    found = getattr(response, "headers", None)
    return getattr(subject, "headers", None) if found is None else found


def _header(headers: Any, name: str) -> str | None:
    """Return a header by its name in lower case."""
    if headers is None:
        return None
    for spelled in (name, name.title()):  # a plain dict knows one spelling
        try:
            said = headers.get(spelled)
        except Exception:
            return None
        if isinstance(said, str):
            return said.strip()
    return None


def _pushback(subject: Any) -> float | None:
    trailing = getattr(subject, "trailing_metadata", None)
    if not callable(trailing):
        return None
    for pair in cast("Iterable[tuple[str, Any]]", trailing() or ()):
        if pair[0] == _PUSHBACK:
            try:
                left = int(pair[1])
            except ValueError:
                return NEVER
            return left / 1000 if left >= 0 else NEVER
    return None


def _until(said: str, date: str | None) -> float | None:
    """Return the seconds until a date by the answer's own clock; without it by ours."""
    from email.utils import parsedate_to_datetime  # clients that speak HTTP have loaded it

    try:
        then = parsedate_to_datetime(said).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    try:
        now = parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError, OverflowError):
        import time

        now = time.time()
    return max(0.0, then - now)


def checked_wait(seconds: object) -> float | None:
    """Return what a function for `retry_after` gave, as seconds."""
    if seconds is None:
        return None
    return validation.number("the wait that retry_after gave", seconds, least=0, most=1e9)
