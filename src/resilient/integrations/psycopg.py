"""psycopg 3: connections whose waits end with the deadline, or when their worker is abandoned."""

# pyright: basic
from __future__ import annotations

from asyncio import timeout
from collections.abc import Generator
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, ClassVar, Final, TypeVar

import psycopg

from ..deadline import GRAIN, check, enclosing, on_abandon, remaining
from ..errors import CallTimeoutError
from ..knowledge.error_families import Family
from ..outcomes import Judge
from ..policy.clients.adapter import ClientAdapter
from .common import shut

T = TypeVar("T")

_LATER: Final = 0.02  # seconds after the call's own timer, which acts first if this task has one
_PATIENCE: Final = 0.1  # seconds past the deadline to ask a server to drop a statement


class GaveUpError(psycopg.OperationalError):
    """The connection was closed, because its caller gave up on its statement."""

    gave_up: ClassVar[bool] = True


class Connection(psycopg.Connection[Any]):
    """A psycopg connection that gives up at the deadline of the call that uses it.

    It then asks the server, for at most 0.1 s, to drop the statement, and closes. It checks the
    deadline ten times in the time left, and at least every 0.1 s.

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

    _gave_up = False

    def rollback(self) -> None:
        """Roll back, unless the connection gave up: it is closed then."""
        if self._gave_up:
            self.close()
            raise GaveUpError("the connection was closed at the deadline of a call")
        super().rollback()

    def _cut(self, number: int) -> None:
        self._gave_up = True
        shut(number)

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """Wait for the server's answer, at most until the deadline."""
        left = remaining()
        if left is None:
            return super().wait(gen, *args, **kwargs)
        if not args:
            kwargs["interval"] = min(0.1, max(0.005, left / 10))
        number = self.pgconn.socket
        try:
            with on_abandon(lambda: self._cut(number)):
                return super().wait(_watched(gen), *args, **kwargs)
        except CallTimeoutError:
            self._gave_up = True
            self._stop()
            raise
        except psycopg.OperationalError:
            if self._gave_up:  # its worker was abandoned
                self._stop()
            raise

    def _stop(self) -> None:
        """Ask the server to drop the abandoned statement, and close."""
        if psycopg.capabilities.has_cancel_safe():
            with suppress(Exception):  # the server may not answer this either
                self.cancel_safe(timeout=_PATIENCE)
        self.close()


def _watched(gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
    """Run one of psycopg's generators, and check the deadline whenever it resumes."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            check()
            wanted = gen.send(ready)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        gen.close()  # it closes the connection in the making


class AsyncConnection(psycopg.AsyncConnection[Any]):
    """The same on asyncio, where the timeout cancels waits: at the deadline it gives up soon.

    psycopg asks the server to cancel the statement of a cancelled wait, and waits up to ten
    seconds for that; at the deadline of a call this connection waits 0.1 s.

    Example:
        >>> import psycopg
        >>> from resilient.integrations.psycopg import AsyncConnection
        >>> issubclass(AsyncConnection, psycopg.AsyncConnection)
        True
    """

    _gave_up = False

    @classmethod
    async def connect(cls, *args: Any, **kwargs: Any) -> Any:
        """Connect; if that is cancelled, close the connection in the making."""
        begun: list[Any] = []
        token = _begun.set(begun)
        try:
            return await super().connect(*args, **kwargs)
        except BaseException:
            for gen in begun:
                gen.close()  # it closes its socket
            raise
        finally:
            _begun.reset(token)

    @classmethod
    def _connect_gen(cls, *args: Any, **kwargs: Any) -> Any:
        gen = super()._connect_gen(*args, **kwargs)
        _begun.get([]).append(gen)
        return gen

    async def rollback(self) -> None:
        """Roll back, unless the connection gave up: it is closed then."""
        if self._gave_up:
            await self.close()
            raise GaveUpError("the connection was closed at the deadline of a call")
        await super().rollback()

    async def wait(self, *args: Any, **kwargs: Any) -> Any:
        """Wait for the server's answer; close the connection at the deadline.

        This also holds in a separate task, such as SQLAlchemy's at the end of a block, which the
        caller's cancellation does not reach.
        """
        found, left = enclosing(), remaining()
        if found is None or left is None:
            return await super().wait(*args, **kwargs)
        limit = timeout(left + _LATER)
        try:
            async with limit:
                return await super().wait(*args, **kwargs)
        except TimeoutError:
            if not limit.expired():
                raise
            raise found.error() from None
        finally:
            if self._gave_up:
                self.pgconn.finish()

    async def _try_cancel(self, *, timeout: float = 5.0) -> None:  # noqa: ASYNC109
        if not _is_over():
            await super()._try_cancel(timeout=timeout)
            return
        self._gave_up = True
        await super()._try_cancel(timeout=_PATIENCE)
        self.pgconn.finish()
        raise _GIVEN_UP("the deadline of the call is up")


def _is_over() -> bool:
    found = enclosing()
    return found is not None and found.now() >= found.when - GRAIN


_begun: ContextVar[list[Any]] = ContextVar("resilient_psycopg_begun")
_GIVEN_UP: type[psycopg.Error] = getattr(psycopg.errors, "_WaitTimeout", psycopg.OperationalError)


# The database understood and refused the statement, or it was never sent.
_OWN: Final = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.NotSupportedError,
    psycopg.ProgrammingError,
)
_RACES: Final = ("40", "55P03")  # a serialization failure or a deadlock, a lock not available


def callers_fault(error: Exception) -> bool:
    """Return whether an error is the caller's own doing, not a failure of the database.

    For ``ignore=`` of a guard: a broken constraint, wrong SQL, a lost race. `Policy.wrap` and
    `resilient.patch` apply it by themselves.

    Args:
        error: what a call raised.

    Returns:
        True if the database is not to blame.

    Example:
        >>> import psycopg
        >>> from resilient.integrations.psycopg import callers_fault
        >>> callers_fault(psycopg.IntegrityError()), callers_fault(psycopg.OperationalError())
        (True, False)
    """
    state = getattr(error, "sqlstate", None)
    raced = isinstance(error, psycopg.OperationalError) and str(state or "").startswith(_RACES)
    return raced or isinstance(error, _OWN)


class _Shape:
    """The attributes of the library's errors that their handlers read."""

    sqlstate: ClassVar[None] = None
    _info: ClassVar[None] = None
    _encoding: ClassVar[str] = "utf-8"


class PsycopgClient(ClientAdapter):
    """What `Policy.wrap` knows of a connection, a cursor or a pool of psycopg 3."""

    judge: ClassVar[Judge | None] = Judge(ignore=callers_fault)
    family: ClassVar[Family | None] = Family("psycopg", psycopg.Error, _Shape)


ADAPTER: Final = PsycopgClient()
