"""aiohttp: what `Policy.wrap` knows of a session. The deadline cancels its calls."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import aiohttp

from ..knowledge.error_families import Family
from ..outcomes import Judge
from ..policy.clients.adapter import ClientAdapter
from .common import FAILED_STATUSES, carry

_OWN: Final = (
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
    aiohttp.ContentTypeError,
    aiohttp.TooManyRedirects,
)


def callers_fault(error: Exception) -> bool:
    """Return whether an error is the caller's own doing, not a failure of the server.

    For ``ignore=`` of a guard: a bad URL, too many redirects, and a status other than
    429, 500, 502, 503 and 504. `Policy.wrap` and `resilient.patch` apply it by
    themselves.

    Args:
        error: what a call raised.

    Returns:
        True if the server is not to blame.

    Example:
        >>> import aiohttp
        >>> from resilient.integrations.aiohttp import callers_fault
        >>> callers_fault(aiohttp.InvalidURL("no host")), callers_fault(aiohttp.ClientError())
        (True, False)
    """
    if isinstance(error, _OWN):
        return True
    # An error with a cause reports an answer that could not be read, whatever its status.
    if not isinstance(error, aiohttp.ClientResponseError) or error.__cause__ is not None:
        return False
    return error.status not in (0, *FAILED_STATUSES)


def failed_response(response: object) -> bool:
    """Return whether a response is a failure of the server: 429, 500, 502, 503 or 504.

    For ``failed_result=`` of a guard; see `callers_fault`.

    Args:
        response: what a call returned. Anything but an `aiohttp.ClientResponse` is not a failure.

    Returns:
        True if the server has failed, though it answered.

    Example:
        >>> from resilient.integrations.aiohttp import failed_response
        >>> failed_response(None)
        False
    """
    return isinstance(response, aiohttp.ClientResponse) and response.status in FAILED_STATUSES


async def _carry(_session: Any, _context: Any, about: aiohttp.TraceRequestStartParams) -> None:
    carry(about.headers)


_CARRYING: Final = aiohttp.TraceConfig()  # the hook that may change a request's headers
_CARRYING.on_request_start.append(_carry)
_CARRYING.freeze()


class AiohttpClient(ClientAdapter):
    """What `Policy.wrap` knows of an `aiohttp.ClientSession`."""

    speaks_http: ClassVar[bool] = True
    judge: ClassVar[Judge | None] = Judge(ignore=callers_fault, failed_result=failed_response)

    family: ClassVar[Family | None] = Family("aiohttp", aiohttp.ClientError)

    # These methods of a response read what is still to come.
    _READS: ClassVar[frozenset[str]] = frozenset({"json", "read", "text"})

    def prepare(self, client: Any) -> None:
        if isinstance(client, aiohttp.ClientSession) and _CARRYING not in client.trace_configs:
            # Another list: theirs may be the user's own.
            client._trace_configs = [*client.trace_configs, _CARRYING]

    def free(self, cls: type, name: str) -> bool:
        if issubclass(cls, aiohttp.ClientResponse):
            return name not in self._READS
        return issubclass(cls, aiohttp.ClientSession) and name in ("__aenter__", "detach")

    def is_part(self, value: Any) -> bool | None:
        return isinstance(value, (aiohttp.ClientResponse, aiohttp.ClientWebSocketResponse)) or None

    def is_data(self, cls: type) -> bool:
        return issubclass(cls, (aiohttp.BaseConnector, aiohttp.StreamReader, aiohttp.TraceConfig))


ADAPTER: Final = AiohttpClient()
