"""Adapters for real clients, loaded when a client of their library is wrapped, or by name.

`Policy.wrap` and `resilient.patch` use them. For your own guards each library's module also has
``callers_fault`` and, if its answers have a status, ``failed_response``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final, cast

from ..knowledge.libraries import Found, Predicates
from ..policy.clients.adapter import ClientAdapter, source

_KNOWN: Final = {  # by the package of the client's class
    "aiohttp": "aiohttp",
    "botocore": "boto3",
    "grpc": "grpc",
    "httpx": "httpx",
    "httpx2": "httpx2",
    "psycopg": "psycopg",
    "redis": "redis",
    "requests": "requests",
    "sqlalchemy": "sqlalchemy",
    "urllib3": "urllib3",
}
_NOTHING: Final = ClientAdapter()


def knowledge_of(cls: type) -> ClientAdapter:
    """Return the adapter for a class of clients."""
    found = (knowledge_in(str(base.__module__)) for base in cls.__mro__)
    return next((each for each in found if each is not _NOTHING), _NOTHING)


def knowledge_in(module: str) -> ClientAdapter:
    """Return the adapter for the library of a module."""
    name = _KNOWN.get(module.partition(".")[0])
    if name is None:
        return _NOTHING
    return cast("ClientAdapter", import_module(f"{__name__}.{name}").ADAPTER)


def _predicates_in(module: str) -> Predicates | None:
    """Return the predicates of a module's library: the caller's own errors, and failed answers."""
    name = _KNOWN.get(module.partition(".")[0])
    if name is None:
        return None
    found = import_module(f"{__name__}.{name}")
    return found.callers_fault, getattr(found, "failed_response", None)


Found.of = _predicates_in
source.of = knowledge_of
source.knows = _KNOWN.__contains__
source.within = knowledge_in
