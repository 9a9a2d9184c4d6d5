"""SQLAlchemy: its errors by SQLSTATE, its methods that use the database, psycopg with deadlines.

`Policy.wrap` of a sync engine on psycopg 3 makes it open connections whose waits end with the
deadline. Such a connection closes then, since its server may still run the statement.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from sqlalchemy import event, exc, inspection
from sqlalchemy.engine import CursorResult, Engine
from sqlalchemy.engine import interfaces as _interfaces

from ..knowledge.error_families import Family
from ..outcomes import Judge
from ..policy.clients.adapter import ClientAdapter

# The database understood and refused the statement, or it was never sent.
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
# Classes of SQLSTATE in OperationalError for a caller's lost race: serialization failure and
# deadlock, lock not available.
_RACES: Final = ("40", "55P03")

# Only these methods of an engine, connection or session talk to the database.
_TALKS: Final = frozenset({
    "all", "begin_nested", "bulk_insert_mappings", "bulk_save_objects", "bulk_update_mappings",
    "commit", "connect", "count", "delete", "exec_driver_sql", "execute", "fetchall", "fetchmany",
    "fetchone", "first", "flush", "get", "get_one", "merge", "one", "one_or_none", "prepare",
    "raw_connection", "refresh", "run_sync", "scalar", "scalars", "stream", "stream_scalars",
    "update", "__aenter__", "__await__", "__enter__", "__iter__", "__next__",
})  # fmt: skip


def callers_fault(error: Exception) -> bool:
    """Return whether an error is the caller's own doing, not a failure of the database.

    For ``ignore=`` of a guard: a broken constraint, wrong SQL, a lost race. `Policy.wrap` and
    `resilient.patch` apply it by themselves.

    Args:
        error: what a call raised.

    Returns:
        True if the database is not to blame.

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
    # A plain StatementError: the statement could not be made, for example without a parameter.
    return isinstance(error, _OWN) or type(error) is exc.StatementError


class SqlalchemyClient(ClientAdapter):
    """What `Policy.wrap` knows of engines, connections and sessions."""

    judge: ClassVar[Judge | None] = Judge(ignore=callers_fault)
    family: ClassVar[Family | None] = Family("sqlalchemy", exc.SQLAlchemyError)

    def free(self, cls: type, name: str) -> bool:
        if cls.__module__ == "contextlib":
            return False  # engine.begin(): its entry connects
        if name in ("__enter__", "__aenter__", "begin"):
            return True
        if cls.__name__.endswith("Session") and name == "delete":
            return True  # the session defers it to the flush
        return name not in _TALKS

    def is_part(self, value: Any) -> bool | None:
        cls = value.__class__
        if not cls.__module__.startswith("sqlalchemy"):
            return None
        if isinstance(value, CursorResult):  # other results hold all their rows already
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
            known.setdefault(proxy, found)  # inspect() and reflection look the class up here

    def prepare(self, client: Any) -> None:
        engine = getattr(client, "sync_engine", client)
        if not isinstance(engine, Engine) or engine.dialect.driver != "psycopg":
            return
        connect = _connect if engine is client else _connect_async
        if event.contains(engine, "do_connect", connect):
            return
        event.listen(engine, "do_connect", connect)
        if engine is client:
            engine.dispose()  # its pooled connections ignore the deadline


_PARTS: Final = frozenset({
    "AsyncConnection", "AsyncEngine", "AsyncSession", "AsyncTransaction", "Connection", "Engine",
    "NestedTransaction", "OptionEngine", "Query", "RootTransaction", "Session",
    "SessionTransaction", "TwoPhaseTransaction", "scoped_session",
})  # fmt: skip


def _connect(dialect: _interfaces.Dialect, record: Any, cargs: Any, cparams: dict[str, Any]) -> Any:
    """Open a connection that keeps to the deadline."""
    from .psycopg import Connection

    return Connection.connect(*cargs, **cparams)


def _connect_async(
    dialect: _interfaces.Dialect, record: Any, cargs: Any, cparams: dict[str, Any]
) -> None:
    """Make an async engine open connections that give up at the deadline."""
    from .psycopg import AsyncConnection

    cparams.setdefault("async_creator_fn", AsyncConnection.connect)


ADAPTER: Final = SqlalchemyClient()
