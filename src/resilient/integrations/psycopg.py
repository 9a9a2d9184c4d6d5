"""psycopg 3: a connection whose waits end with the deadline, and with their abandoned worker."""

# pyright: basic
from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

import psycopg

from ..deadline import check, on_abandon, remaining
from ..errors import CallTimeoutError
from .common import shut

T = TypeVar("T")


class Connection(psycopg.Connection[Any]):
    """A psycopg connection that gives up at the deadline of the call that uses it.

    It is closed then: its server may still be at the statement, and nobody waits for the answer.
    The deadline is looked at ten times in the time that is left, but at least every 0.1 s.

    Example:
        >>> import psycopg
        >>> from resilient.integrations.psycopg import Connection
        >>> issubclass(Connection, psycopg.Connection)
        True
    """

    @classmethod
    def _connect_gen(cls, *args: Any, **kwargs: Any) -> Any:
        # psycopg's own connect_timeout is at least two seconds.
        gen = super()._connect_gen(*args, **kwargs)
        return gen if remaining() is None else _watched(gen)

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """Wait for an answer of the server, at most until the deadline."""
        left = remaining()
        if left is None:
            return super().wait(gen, *args, **kwargs)
        if not args:
            kwargs["interval"] = min(0.1, max(0.005, left / 10))
        number = self.pgconn.socket
        try:
            with on_abandon(lambda: shut(number)):
                return super().wait(_watched(gen), *args, **kwargs)
        except CallTimeoutError:
            self.close()
            raise


def _watched(gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
    """Run a generator of psycopg's, and look at the deadline whenever it is resumed."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            check()
            wanted = gen.send(ready)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
