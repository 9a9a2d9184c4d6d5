"""What says that a dependency has too much to do: a time-out, or an answer that asks for less."""

from __future__ import annotations

from typing import Any, Final

from ..errors import RefusedError
from .libraries import is_answer
from .retry_after import asked_wait

_TIMEOUTS: Final = frozenset({"TimeoutException", "Timeout", "TimeoutError", "ReadTimeoutError"})
_STATUSES: Final = (429, 503)
_CODES: Final = frozenset({"RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED"})


def is_overload(error: Exception) -> bool:
    """Return whether an error says so: a time-out, a refusal, or a server that is too busy."""
    if isinstance(error, (TimeoutError, RefusedError)):
        return True
    if any(kind.__name__ in _TIMEOUTS for kind in type(error).__mro__):
        return True
    return asked_wait(error, None) is not None or _is_busy(error)


def is_overloaded_answer(value: object) -> bool:
    """Return whether the answer of a known library says so."""
    return is_answer(value) and _is_busy(value)


def _is_busy(subject: Any) -> bool:
    """Return whether a status or code says that the server is too busy."""
    for where in (subject, getattr(subject, "response", None)):
        for name in ("status_code", "status"):
            if getattr(where, name, None) in _STATUSES:
                return True
    code = getattr(subject, "code", None)
    try:
        return callable(code) and getattr(code(), "name", "") in _CODES
    except Exception:  # another thing that is called so
        return False
