"""What says that a dependency has too much to do: a time-out, or an answer that asks for less."""

from __future__ import annotations

from typing import Any, Final, cast

from ..errors import FlagOffError, RefusedError
from .libraries import is_answer
from .retry_after import asked_wait

_TIMEOUTS: Final = frozenset({
    "TimeoutException", "Timeout", "TimeoutError", "ReadTimeoutError", "ConnectTimeoutError",
    "ConnectionTimeout", "QueryCanceled",
})  # fmt: skip
_STATUSES: Final = (429, 503, 529)  # 529: too many, as Anthropic and others say it
_CODES: Final = frozenset({"RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED"})
_BUSY: Final = frozenset({"BusyLoadingError"})
_THROTTLED: Final = frozenset({  # codes of AWS, with the status 400
    "ProvisionedThroughputExceededException", "RequestLimitExceeded", "SlowDown", "Throttling",
    "ThrottledException", "ThrottlingException", "TooManyRequestsException",
})  # fmt: skip
_DEEPEST: Final = 4  # errors that wrap each other


def is_overload(error: Exception) -> bool:
    """Return whether an error says so: a time-out, a refusal, or a server that is too busy."""
    try:
        return _says_so(error, _DEEPEST)
    except Exception:  # an attribute of it raises: it is nothing that we know
        return False


def _says_so(error: BaseException, depth: int) -> bool:
    if isinstance(error, (TimeoutError, RefusedError)):
        return not isinstance(error, FlagOffError)  # somebody turned it off: it is not too much
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & _TIMEOUTS or names & _BUSY or (asked_wait(_plain(error), None) or 0) > 0:
        return True
    if _is_busy(error):
        return True
    inner = getattr(error, "reason", None), *error.args[:1]  # as urllib3 and requests wrap them
    wrapped = [each for each in inner if isinstance(each, BaseException)]
    return depth > 0 and any(_says_so(each, depth - 1) for each in wrapped)


def _plain(error: BaseException) -> Exception | None:
    return error if isinstance(error, Exception) else None


def is_overloaded_answer(value: object) -> bool:
    """Return whether the answer of a known library says so."""
    try:
        return is_answer(value) and _is_busy(value)
    except Exception:
        return False


def _is_busy(subject: Any) -> bool:
    """Return whether a status or code says that the server is too busy."""
    response = getattr(subject, "response", None)
    if isinstance(response, dict):  # botocore's
        said = cast("dict[str, Any]", response)
        about: Any = said.get("ResponseMetadata") or {}
        error: Any = said.get("Error") or {}
        return about.get("HTTPStatusCode") in _STATUSES or error.get("Code") in _THROTTLED
    for where in (subject, response):
        for name in ("status_code", "status"):
            status = getattr(where, name, None)
            if type(status) is int and status in _STATUSES:
                return True
    code: Any = getattr(subject, "code", None)
    return hasattr(subject, "details") and callable(code) and _name_of(code()) in _CODES


def _name_of(code: Any) -> Any:
    """Return the name of a status code of gRPC."""
    return getattr(code, "name", "")
