"""SQLAlchemy: its errors by SQLSTATE, what goes to the database, and psycopg within the deadline.

`Policy.wrap` of a sync engine on psycopg 3 has it make connections whose waits end with the
deadline. Such a connection is closed then, since its server may still be at the statement.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from sqlalchemy import event, exc, inspection
from sqlalchemy.engine import Engine
from sqlalchemy.engine import interfaces as _interfaces

from ..clients.knowledge import Knowledge
from ..outcomes import Judge

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
    "commit", "connect", "count", "delete", "exec_driver_sql", "execute", "first", "flush", "get",
    "get_one", "merge", "one", "one_or_none", "prepare", "raw_connection", "refresh", "run_sync",
    "scalar", "scalars", "stream", "stream_scalars", "update", "__aenter__", "__await__",
    "__enter__", "__iter__",
})  # fmt: skip


def callers_own(error: Exception) -> bool:
    """Tell whether an error is no failure of the database: a broken constraint, a lost race."""
    if isinstance(error, _FAILURES):
        return False
    if isinstance(error, exc.OperationalError):
        state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None) or ""
        return str(state).startswith(_RACES)
    return isinstance(error, _OWN)


class SqlalchemyKnowledge(Knowledge):
    """What `Policy.wrap` knows of engines, connections and sessions."""

    judge: ClassVar[Judge | None] = Judge(ignore=callers_own)

    def free(self, cls: type, name: str) -> bool:
        if cls.__module__ == "contextlib":
            return False  # engine.begin(): entering it connects
        if name in ("__enter__", "__aenter__", "begin"):
            return True
        if cls.__name__.endswith("Session") and name == "delete":
            return True  # it waits for the flush
        return name not in _TALKS

    def is_part(self, cls: type) -> bool:
        return cls.__module__.startswith("sqlalchemy") and cls.__name__ in _PARTS

    def is_data(self, cls: type) -> bool:
        return cls.__module__.startswith("sqlalchemy") and cls.__name__ not in _PARTS

    def passes(self, proxy: type, cls: type) -> None:
        known: dict[type, Any] = getattr(inspection, "_registrars", {})
        found = next((known[base] for base in cls.__mro__ if base in known), None)
        if found is not None:
            known.setdefault(proxy, found)  # what inspect() and reflection look at

    def prepare(self, client: Any) -> None:
        engine = getattr(client, "sync_engine", client)
        if not isinstance(engine, Engine) or engine.dialect.driver != "psycopg":
            return
        if engine is not client or event.contains(engine, "do_connect", _connect):
            return  # an async engine's are cancelled
        event.listen(engine, "do_connect", _connect)
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


KNOWLEDGE: Final = SqlalchemyKnowledge()
