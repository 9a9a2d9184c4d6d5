"""SQLAlchemy: its errors by SQLSTATE, what goes to the database, and psycopg within the deadline.

`Policy.wrap` of a sync engine on psycopg 3 has it make connections whose waits end with the
deadline. Such a connection is closed then, since its server may still be at the statement.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from sqlalchemy import event, exc, inspection
from sqlalchemy.engine import CursorResult, Engine
from sqlalchemy.engine import interfaces as _interfaces

from ..knowledge.error_families import Family
from ..outcomes import Judge
from ..policy.clients.adapter import ClientAdapter

# Of a statement that the database understood and refused, or that never left.
_OWN: Final = (
    exc.ArgumentError,
    exc.CompileError,
    exc.DataError,
    exc.IntegrityError,
    exc.InvalidRequestError,
    exc.NoReferenceError,
    exc.NotSupportedError,
    exc.ProgrammingError,
)
_FAILURES: Final = (exc.DisconnectionError, exc.InterfaceError, exc.InternalError)
# Classes of SQLSTATE that come as OperationalError and are a lost race of the caller's:
# serialization failure and deadlock, lock not available.
_RACES: Final = ("40", "55P03")

# What talks to the database. The rest of an engine's, connection's or session's methods do not.
_TALKS: Final = frozenset({
    "all", "begin_nested", "bulk_insert_mappings", "bulk_save_objects", "bulk_update_mappings",
    "commit", "connect", "count", "delete", "exec_driver_sql", "execute", "fetchall", "fetchmany",
    "fetchone", "first", "flush", "get", "get_one", "merge", "one", "one_or_none", "prepare",
    "raw_connection", "refresh", "run_sync", "scalar", "scalars", "stream", "stream_scalars",
    "update", "__aenter__", "__await__", "__enter__", "__iter__", "__next__",
})  # fmt: skip


def callers_fault(error: Exception) -> bool:
    """Return whether an error is the caller's own doing, and no failure of the database.

    For ``ignore=`` of a guard: a broken constraint, wrong SQL, a lost race. `Policy.wrap` and
    `resilient.patch` go by it without being told.

    Args:
        error: what a call raised.

    Returns:
        True where the database is not to blame.

    Example:
        >>> from sqlalchemy import exc
        >>> from resilient.integrations.sqlalchemy import callers_fault
        >>> callers_fault(exc.InvalidRequestError()), callers_fault(exc.DisconnectionError())
        (True, False)
    """
    if isinstance(error, _FAILURES):
        return False
    if isinstance(error, exc.OperationalError):
        state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None) or ""
        return str(state).startswith(_RACES)
    # A StatementError itself: the statement could not be made, for want of a parameter, say.
    return isinstance(error, _OWN) or type(error) is exc.StatementError


class SqlalchemyClient(ClientAdapter):
    """What `Policy.wrap` knows of engines, connections and sessions."""

    judge: ClassVar[Judge | None] = Judge(ignore=callers_fault)
    family: ClassVar[Family | None] = Family("sqlalchemy", exc.SQLAlchemyError)

    def free(self, cls: type, name: str) -> bool:
        if cls.__module__ == "contextlib":
            return False  # engine.begin(): entering it connects
        if name in ("__enter__", "__aenter__", "begin"):
            return True
        if cls.__name__.endswith("Session") and name == "delete":
            return True  # it waits for the flush
        return name not in _TALKS

    def is_part(self, value: Any) -> bool | None:
        cls = value.__class__
        if not cls.__module__.startswith("sqlalchemy"):
            return None
        if isinstance(value, CursorResult):  # of the others all rows are here already
            return bool(value.context._is_server_side)
        return cls.__name__ in _PARTS or None

    def is_data(self, cls: type) -> bool:
        return cls.__module__.startswith("sqlalchemy")

    def gave_up(self, error: Exception) -> bool:
        return isinstance(error, exc.DBAPIError) and getattr(error.orig, "gave_up", False)

    def passes(self, proxy: type, cls: type) -> None:
        known: dict[type, Any] = getattr(inspection, "_registrars", {})
        found = next((known[base] for base in cls.__mro__ if base in known), None)
        if found is not None:
            known.setdefault(proxy, found)  # what inspect() and reflection look at

    def prepare(self, client: Any) -> None:
        engine = getattr(client, "sync_engine", client)
        if not isinstance(engine, Engine) or engine.dialect.driver != "psycopg":
            return
        connect = _connect if engine is client else _connect_async
        if event.contains(engine, "do_connect", connect):
            return
        event.listen(engine, "do_connect", connect)
        if engine is client:
            engine.dispose()  # what it has in its pool was connected without


_PARTS: Final = frozenset({
    "AsyncConnection", "AsyncEngine", "AsyncSession", "AsyncTransaction", "Connection", "Engine",
    "NestedTransaction", "OptionEngine", "Query", "RootTransaction", "Session",
    "SessionTransaction", "TwoPhaseTransaction", "scoped_session",
})  # fmt: skip


def _connect(dialect: _interfaces.Dialect, record: Any, cargs: Any, cparams: dict[str, Any]) -> Any:
    """Connect by a connection that keeps to the deadline."""
    from .psycopg import Connection

    return Connection.connect(*cargs, **cparams)


def _connect_async(
    dialect: _interfaces.Dialect, record: Any, cargs: Any, cparams: dict[str, Any]
) -> None:
    """Have an async engine make connections that are given up at the deadline."""
    from .psycopg import AsyncConnection

    cparams.setdefault("async_creator_fn", AsyncConnection.connect)


ADAPTER: Final = SqlalchemyClient()
