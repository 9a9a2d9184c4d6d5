"""gRPC's calls: which errors are the caller's own, and call details with a time limit."""

# pyright: basic
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import grpc
import grpc.aio

from ..outcomes import Judge
from ..priority_levels import HEADER as PRIORITY
from ..priority_levels import carried
from .common import shorter

# The other statuses are about the request: INVALID_ARGUMENT, NOT_FOUND, UNAUTHENTICATED ...
_FAILURES: Final = frozenset({
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
})  # fmt: skip


def callers_fault(error: Exception) -> bool:
    """Return whether an error is the caller's own doing, not a failure of the server.

    For ``ignore=`` of a guard: any status but UNAVAILABLE, DEADLINE_EXCEEDED,
    RESOURCE_EXHAUSTED, INTERNAL, UNKNOWN and DATA_LOSS. The interceptors apply it by
    themselves.

    Args:
        error: what a call raised.

    Returns:
        True if the server is not to blame.

    Example:
        >>> import grpc
        >>> from resilient.integrations.grpc import callers_fault
        >>> callers_fault(grpc.RpcError())
        False
    """
    code: Callable[[], Any] | None = getattr(error, "code", None)
    return isinstance(error, grpc.RpcError) and code is not None and code() not in _FAILURES


JUDGE: Final = Judge(ignore=callers_fault)


class _Details(NamedTuple):
    method: Any
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: Any
    compression: Any = None


class SyncDetails(_Details, grpc.ClientCallDetails):
    pass


class AsyncDetails(_Details, grpc.aio.ClientCallDetails):
    pass


def _shorter(timeout: Any) -> Any:
    """Return a shortened time limit; leave one that is not a number for grpc to reject."""
    given = timeout is None or isinstance(timeout, (int, float))
    return shorter(timeout) if given else timeout


def _carrying(kind: type[_Details], metadata: Any) -> Any:
    level = carried()
    if level is None:
        return metadata
    pairs: list[Any] = list(metadata or ())
    if not any(key == PRIORITY for key, _ in pairs):
        pairs.append((PRIORITY, level))
    return grpc.aio.Metadata(*pairs) if kind is AsyncDetails else tuple(pairs)


def in_time(kind: type[_Details], details: Any) -> _Details:
    """Return the details of a call that ends with the deadline, and says its priority."""
    return kind(
        details.method,
        _shorter(details.timeout),
        _carrying(kind, details.metadata),
        details.credentials,
        details.wait_for_ready,
        getattr(details, "compression", None),
    )
