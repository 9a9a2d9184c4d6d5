"""What is known of real clients: loaded when a client of theirs is wrapped, or by its own name.

`resilient.integrations.httpx`, ``requests``, ``grpc``, ``asgi``, ``wsgi``, ``flask`` and ``django``
have something of their own to use; what is known of redis, sqlalchemy, aiohttp and boto3 is used
by `Policy.wrap`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final, cast

from ..clients.knowledge import Knowledge, source

_KNOWN: Final = {  # by the package of the client's class
    "aiohttp": "aiohttp",
    "botocore": "boto3",
    "httpx": "httpx",
    "httpx2": "httpx2",
    "psycopg": "psycopg",
    "redis": "redis",
    "requests": "requests",
    "sqlalchemy": "sqlalchemy",
    "urllib3": "urllib3",
}
_NOTHING: Final = Knowledge()


def knowledge_of(cls: type) -> Knowledge:
    """Return what is known of a class of clients."""
    for base in cls.__mro__:
        name = _KNOWN.get(str(base.__module__).partition(".")[0])
        if name is not None:
            module = import_module(f"{__name__}.{name}")
            return cast("Knowledge", module.KNOWLEDGE)
    return _NOTHING


source.of = knowledge_of
