"""aiohttp: what `Policy.wrap` knows of a session. Its calls are cancelled at the deadline."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import aiohttp

from ..clients.knowledge import Knowledge
from ..outcomes import Judge
from .common import FAILED_STATUSES

_OWN: Final = (
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
    aiohttp.ContentTypeError,
    aiohttp.TooManyRedirects,
)


def callers_own(error: Exception) -> bool:
    """Tell whether an error is no failure of the server: a bad URL, a status of the caller's."""
    if isinstance(error, _OWN):
        return True
    # With a cause it tells of an answer that could not be read, whatever status it has.
    if not isinstance(error, aiohttp.ClientResponseError) or error.__cause__ is not None:
        return False
    return error.status not in (0, *FAILED_STATUSES)


def failed(response: object) -> bool:
    """Tell whether a response is a failure of the server: 429, 500, 502, 503 or 504."""
    return isinstance(response, aiohttp.ClientResponse) and response.status in FAILED_STATUSES


class AiohttpKnowledge(Knowledge):
    """What `Policy.wrap` knows of an `aiohttp.ClientSession`."""

    judge: ClassVar[Judge | None] = Judge(ignore=callers_own, failed_result=failed)

    # Of a response these read what has yet to come.
    _READS: ClassVar[frozenset[str]] = frozenset({"json", "read", "text"})

    def free(self, cls: type, name: str) -> bool:
        if issubclass(cls, aiohttp.ClientResponse):
            return name not in self._READS
        return issubclass(cls, aiohttp.ClientSession) and name in ("__aenter__", "detach")

    def is_part(self, value: Any) -> bool | None:
        return isinstance(value, (aiohttp.ClientResponse, aiohttp.ClientWebSocketResponse)) or None

    def is_data(self, cls: type) -> bool:
        return issubclass(cls, (aiohttp.BaseConnector, aiohttp.StreamReader, aiohttp.TraceConfig))


KNOWLEDGE: Final = AiohttpKnowledge()
