"""redis-py: its errors, its pipelines and locks, and connections that keep to the deadline.

For sync clients `Policy.wrap` makes the waits of the pool's connections, and the client's retries,
end with the deadline of the call. Async clients are cancelled and do not need this.
"""

# pyright: basic
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final

import redis
from redis.backoff import AbstractBackoff
from redis.client import Pipeline
from redis.connection import AbstractConnection
from redis.exceptions import (
    ClusterDownError,
    LockError,
    MasterDownError,
    TryAgainError,
)

from ..deadline import check, enclosing, on_abandon, raise_if_up, remaining
from ..knowledge.error_families import Family
from ..outcomes import Judge
from ..policy.clients.adapter import ClientAdapter
from .common import overran, shorter, shut

# A command that the server refused with these is the caller's own fault. A server that is loading,
# full, read-only or busy reports that by subclasses, which are failures.
_OWN: Final = (redis.ResponseError, redis.DataError, redis.WatchError, redis.InvalidResponse)
_UNWELL: Final = (
    ClusterDownError,
    MasterDownError,
    TryAgainError,
    redis.BusyLoadingError,
    redis.OutOfMemoryError,
    redis.ReadOnlyError,
    redis.ConnectionError,
    redis.TimeoutError,
)
_UNWELL_WORDS: Final = (
    "BUSY ", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "TRYAGAIN",
)  # fmt: skip


def callers_fault(error: Exception) -> bool:
    """Return whether an error is the caller's own doing, not a failure of the server.

    For ``ignore=`` of a guard: a wrong type, a lost race, a held lock, and any other answer of
    a healthy server. `Policy.wrap` and `resilient.patch` apply it by
    themselves.

    Args:
        error: what a call raised.

    Returns:
        True if the server is not to blame.

    Example:
        >>> import redis
        >>> from resilient.integrations.redis import callers_fault
        >>> callers_fault(redis.WatchError()), callers_fault(redis.TimeoutError())
        (True, False)
    """
    if isinstance(error, _UNWELL):
        return False
    if isinstance(error, LockError):
        return True
    # A pipeline's errors read "Command # 1 (GET a) of pipeline caused error: BUSY ..."
    said = str(error).rpartition("caused error: ")[2]
    return isinstance(error, _OWN) and not said.startswith(_UNWELL_WORDS)


if TYPE_CHECKING:
    _Base = redis.Connection
else:
    _Base = object


def _is_pipeline(cls: type) -> bool:
    return issubclass(cls, Pipeline)


def _is_watching(pipeline: Any) -> bool:
    """Return whether a pipeline sends its commands at once: after WATCH, before MULTI."""
    return bool(pipeline.watching) and not pipeline.explicit_transaction


class RedisClient(ClientAdapter):
    """What `Policy.wrap` knows of redis-py."""

    judge: ClassVar[Judge | None] = Judge(ignore=callers_fault)
    family: ClassVar[Family | None] = Family("redis", redis.RedisError)
    timeouts: ClassVar[tuple[type[Exception], ...]] = (redis.TimeoutError,)

    _FACTORIES: ClassVar[frozenset[str]] = frozenset({
        "bf", "cf", "client", "cms", "from_pool", "from_url", "ft", "get_connection_kwargs",
        "get_encoder", "get_retry", "json", "load_external_module", "lock", "monitor", "multi",
        "parse_response", "pipeline", "pubsub", "register_script", "reset", "set_response_callback",
        "set_retry", "tdigest", "timeseries", "topk", "vset", "__enter__", "__aenter__",
    })  # fmt: skip
    # These wait for messages, not for an answer.
    _WAITS: ClassVar[frozenset[str]] = frozenset(
        {"get_message", "listen", "parse_response", "run", "run_in_thread"}
    )
    # Of a pipeline only these contact the server; it queues all other commands.
    _PIPELINE: ClassVar[frozenset[str]] = frozenset({"execute", "load_scripts", "unwatch", "watch"})

    def asks_again(self, client: Any) -> str:
        pool = getattr(client, "connection_pool", None)
        given = getattr(pool, "connection_kwargs", {}).get("retry")
        total = getattr(given, "_retries", 0)
        return f"{total} times (retry=)" if total else ""

    def free(self, cls: type, name: str) -> bool:
        if _is_pipeline(cls):
            return name not in self._PIPELINE
        if cls.__name__ == "PubSub" and name in self._WAITS:
            return True
        return name in self._FACTORIES

    def at_once(self, cls: type, name: str) -> Callable[[Any], bool] | None:
        return _is_watching if _is_pipeline(cls) and name not in self._FACTORIES else None

    def is_data(self, cls: type) -> bool:
        return cls.__name__ in ("ConnectionPool", "BlockingConnectionPool", "Encoder")

    def prepare(self, client: Any) -> None:
        pool: Any = getattr(client, "connection_pool", None)
        made = getattr(pool, "connection_class", None)
        # An async connection is cancelled; a mock's is not a class.
        if not isinstance(made, type) or not issubclass(made, AbstractConnection):
            return
        if issubclass(made, _Bound):
            return
        passing = {"__module__": made.__module__, "__qualname__": made.__qualname__}
        pool.connection_class = type(made.__name__, (_Bound, made), passing)
        # Existing connections do not keep to the deadline: drop them.
        pool.disconnect(inuse_connections=False)
        if not getattr(pool, "_in_use_connections", ()):
            pool.reset()


class _Bound(_Base):
    """A connection whose waits end with the deadline; mixed into the pool's own class."""

    _sock: Any
    socket_timeout: float | None
    socket_connect_timeout: float | None
    retry: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        backoff = getattr(getattr(self, "retry", None), "_backoff", None)
        if backoff is not None and not isinstance(backoff, _Backoff):
            self.retry._backoff = _Backoff(backoff)

    def _connect(self) -> Any:
        usual = self.socket_connect_timeout, self.socket_timeout
        self.socket_connect_timeout = shorter(usual[0])
        try:
            sock = super()._connect()  # type: ignore[no-untyped-call]
        finally:
            self.socket_connect_timeout, self.socket_timeout = usual
        return sock

    def send_packed_command(self, *args: Any, **kwargs: Any) -> Any:
        return self._within(super().send_packed_command, *args, **kwargs)

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        return self._within(super().read_response, *args, **kwargs)

    def _within(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        deadline = enclosing()
        if deadline is None:
            return work(*args, **kwargs)
        check()  # the client may loop: over retries, or in a lock
        sock: Any = getattr(self, "_sock", None)
        if not hasattr(sock, "settimeout"):  # it connects first; or it is a fake without a socket
            try:
                return work(*args, **kwargs)
            finally:
                overran(deadline, type(self))
        sock.settimeout(shorter(self.socket_timeout))
        with on_abandon(lambda: shut(sock)):
            try:
                return work(*args, **kwargs)
            finally:
                if self._sock is sock:
                    sock.settimeout(self.socket_timeout)


class _Backoff(AbstractBackoff):
    """A pause before a retry, unless the deadline would come first."""

    def __init__(self, inner: AbstractBackoff) -> None:
        self._inner = inner

    def reset(self) -> None:
        self._inner.reset()  # type: ignore[no-untyped-call]

    def compute(self, failures: int) -> float:
        pause = self._inner.compute(failures)
        check()
        left = remaining()
        if left is not None and pause >= left:
            raise_if_up()
            raise  # noqa: PLE0704 - the error to be retried: redis-py calls this in its handler
        return pause

    def __eq__(self, other: object) -> bool:
        return self._inner == (other._inner if isinstance(other, _Backoff) else other)

    def __hash__(self) -> int:
        return hash(self._inner)


ADAPTER: Final = RedisClient()
