"""Connections to Redis whose every operation has one deadline and one limit on what it reads."""

from __future__ import annotations

import importlib
import socket
import time
from typing import Any, Final, cast

from redis import connection
from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool, SSLConnection
from redis.retry import Retry

importlib.import_module("encodings.idna")  # for host names: no fork may happen during its import

DEADLINE: Final = 0.5  # seconds that one operation may take
LARGEST: Final = 32 * 2**20  # bytes that one operation may read


class Budget:
    """The time and the bytes that the operation in progress may still use."""

    def __init__(self) -> None:
        self.until: float = 0.0
        self.bytes: int = 0

    def begin(self, seconds: float) -> None:
        self.until, self.bytes = time.monotonic() + seconds, LARGEST

    def left(self) -> float:
        seconds = self.until - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("the operation took too long")
        return seconds

    def took(self, number: int) -> None:
        self.bytes -= number
        if self.bytes < 0:
            raise OSError("the reply is too large")


class _Socket:
    """A socket whose waits all end with the operation that they are part of."""

    def __init__(self, inner: Any, budget: Budget) -> None:
        self._inner = inner
        self._budget = budget
        self._timeout: float | None = None

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds
        self._inner.settimeout(seconds)

    def _bound(self) -> None:
        left = self._budget.left()
        self._inner.settimeout(left if self._timeout is None else min(left, self._timeout))

    def recv(self, size: int, *flags: int) -> Any:
        self._bound()
        data = self._inner.recv(size, *flags)
        self._budget.took(len(data))
        return data

    def recv_into(self, buffer: Any, *more: int) -> int:
        self._bound()
        number = int(self._inner.recv_into(buffer, *more))
        self._budget.took(number)
        return number

    def sendall(self, data: Any, *flags: int) -> None:
        self._bound()
        self._inner.sendall(data, *flags)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _connected(host: str, port: int, budget: Budget) -> socket.socket:
    """Return a connection to the first address of a host that answers in time."""
    failed: Exception = OSError(f"{host} has no address")
    for family, kind, number, _, address in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM):
        sock = socket.socket(family, kind, number)
        try:
            sock.settimeout(budget.left())
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            failed = error
        else:
            return sock
    raise failed


def pool(url: str, budget: Budget) -> ConnectionPool:
    class Plain(Connection):
        def _connect(self) -> Any:
            return _Socket(_connected(self.host, self.port, budget), budget)

    class Encrypted(SSLConnection):
        def _connect(self) -> Any:
            sock = _connected(self.host, self.port, budget)
            try:
                sock.settimeout(budget.left())
                return _Socket(cast("Any", self)._wrap_socket_with_ssl(sock), budget)
            except BaseException:
                sock.close()
                raise

    options: dict[str, Any] = cast("Any", connection).parse_url(url)
    encrypted = options.pop("connection_class", None) is not None
    return ConnectionPool(
        connection_class=Encrypted if encrypted else Plain,
        socket_timeout=DEADLINE,
        socket_connect_timeout=DEADLINE,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
        health_check_interval=0,
        protocol=2,
        **options,
    )
