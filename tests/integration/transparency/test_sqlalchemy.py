"""SQLAlchemy's Engine, with its core and its ORM, bare and wrapped."""

from __future__ import annotations

import copy
import itertools
import pickle
import re
import warnings
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, orm

from tests.integration.transparency.harness import (
    MODES,
    Operations,
    Side,
    few,
    inspect_pair,
    play,
    policy_of,
    same,
)
from tests.kit.servers.postgres_server import PostgresServer

operation = Operations()
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]
metadata = sa.MetaData()
items = sa.Table(
    "items", metadata, sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(10), nullable=False, unique=True),
    sa.Column("number", sa.Integer, sa.CheckConstraint("number < 100")),
)  # fmt: skip


class Base(orm.DeclarativeBase):
    metadata = metadata


class Item(Base):
    __table__ = items

    def __repr__(self) -> str:
        return f"<Item {self.id} {self.name}>"


names = st.sampled_from(["a", "b", "c", "much too long for it", None])
numbers = st.sampled_from([1, 2, 100, None, "x"])
errors = st.sampled_from([ValueError("in the body"), KeyError("k"), None])
statements = st.sampled_from([
    "SELECT 1 AS one", "SELEC", "SELECT * FROM nowhere", "SELECT 1/0", "SELECT :x AS x",
    "INSERT INTO items (name) VALUES ('raw')", "SELECT generate_series(1, 5) AS n", "SELECT NULL WHERE false",
    "SET LOCAL lock_timeout = 100", "DO $$ BEGIN RAISE EXCEPTION 'mine' USING ERRCODE = 'P0001'; END $$",
])  # fmt: skip
fetches = st.sampled_from([
    "all", "first", "one", "one_or_none", "scalar", "scalar_one", "scalars", "mappings", "fetchall",
    "fetchone", "fetchmany", "keys", "partitions", "unique", "columns", "close", "tuples", "freeze", "yield_per",
])  # fmt: skip


def fetched(result: Any, how: str) -> Any:
    """Fetch, and say what that came to."""
    seen = result.returns_rows, result.rowcount if how == "close" else None
    if how == "columns":
        got: Any = result.columns(0).all()
    elif how == "yield_per":
        got = list(result.yield_per(2))
    elif how == "freeze":
        got = list(result.freeze()())
    elif how in ("scalars", "mappings", "unique", "tuples"):
        got = getattr(result, how)().all()
    elif how == "partitions":
        got = [list(each) for each in result.partitions(2)]
    elif how == "fetchmany":
        got = result.fetchmany(2), result.fetchmany(2)
    else:
        got = getattr(result, how)()
        got = list(got) if how == "keys" else got
    return seen, got, result.closed, type(got)


@operation(statement=statements, how=fetches, stream=st.booleans())
def executes(side: Side, statement: str, how: str, stream: bool) -> Any:
    with side.client.connect() as connection:
        if stream:
            connection = connection.execution_options(stream_results=True)
        values = {"x": 7} if ":x" in statement else {}
        return fetched(connection.execute(sa.text(statement), values), how)


@operation(name=names, number=numbers)
def inserts(side: Side, name: Any, number: Any) -> Any:
    with side.client.begin() as connection:
        done = connection.execute(items.insert().values(name=name, number=number))
        return done.inserted_primary_key, done.rowcount, done.is_insert, done.lastrowid


@operation(name=names)
def inserts_returning(side: Side, name: Any) -> Any:
    with side.client.begin() as connection:
        return connection.execute(
            items.insert().returning(items.c.id, items.c.name), {"name": name}
        ).one()


@operation(rows=st.lists(st.tuples(names, numbers), max_size=3))
def inserts_many(side: Side, rows: Any) -> Any:
    with side.client.begin() as connection:
        done = connection.execute(items.insert(), [{"name": a, "number": b} for a, b in rows])
        return done.rowcount


@operation(error=errors)
def begun(side: Side, error: Any) -> Any:
    with side.client.begin() as connection:
        connection.execute(items.insert().values(name="begun"))
        if error is not None:
            raise error.with_traceback(None)
        return connection.in_transaction(), connection.get_transaction().is_active


@operation(error=errors, end=st.sampled_from(["commit", "rollback", "nothing", "close"]))
def connected(side: Side, error: Any, end: str) -> Any:
    with side.client.connect() as connection:
        before = connection.in_transaction()
        connection.execute(items.insert().values(name="connected"))
        within = connection.in_transaction(), connection.closed
        if end != "nothing":
            getattr(connection, end)()
        if error is not None:
            raise error.with_traceback(None)
    return before, within, connection.closed, isinstance(connection, sa.Connection)


@operation(error=errors)
def transaction(side: Side, error: Any) -> Any:
    with side.client.connect() as connection:
        trans = connection.begin()
        with trans as inside:
            same_one = (
                inside is trans,
                trans.connection is connection,
                connection.get_transaction() is trans,
            )
            connection.execute(items.insert().values(name="trans"))
            if error is not None:
                raise error.with_traceback(None)
        return same_one, trans.is_active, trans.is_valid, isinstance(trans, sa.Transaction)


@operation(error=errors, inner=st.sampled_from(["commit", "rollback", "close", None]))
def nested(side: Side, error: Any, inner: Any) -> Any:
    with side.client.begin() as connection:
        connection.execute(items.insert().values(name="outer"))
        try:
            with connection.begin_nested() as savepoint:
                connection.execute(items.insert().values(name="inner"))
                if inner is not None:
                    getattr(savepoint, inner)()
                if error is not None:
                    raise error.with_traceback(None)
        except KeyError as caught:
            return type(caught), connection.in_nested_transaction(), savepoint.is_active
        return connection.in_nested_transaction(), savepoint.is_active


@operation()
def two_begins(side: Side) -> Any:
    with side.client.connect() as connection:
        connection.begin()
        connection.begin()


@operation()
def after_an_error(side: Side) -> Any:
    with side.client.connect() as connection:
        try:
            connection.execute(sa.text("SELECT 1/0"))
        except sa.exc.DataError:
            pass
        return connection.scalar(sa.text("SELECT 1"))


@operation()
def after_close(side: Side) -> Any:
    connection = side.client.connect()
    connection.close()
    return connection.closed, connection.close(), connection.scalar(sa.text("SELECT 1"))


@operation()
def result_after_close(side: Side) -> Any:
    with side.client.connect() as connection:
        result = connection.execute(sa.text("SELECT generate_series(1, 3)"))
    return result.closed, result.all()


@operation(stop=st.integers(0, 4))
def iterates(side: Side, stop: int) -> Any:
    with side.client.connect() as connection:
        result = connection.execute(sa.text("SELECT generate_series(1, 5) AS n"))
        got = [(row.n, row._mapping["n"]) for row in itertools.islice(result, stop)]
        rest = result.fetchmany(1), next(result, None), iter(result) is not None
        return got, rest, result.closed


@operation()
def scalars(side: Side) -> Any:
    with side.client.connect() as connection:
        return (
            connection.scalar(sa.select(sa.func.count()).select_from(items)),
            connection.scalars(sa.select(items.c.name).order_by(items.c.id)).all(),
            connection.exec_driver_sql("SELECT %(a)s", {"a": 1}).scalar_one(),
        )


@operation(level=st.sampled_from(["AUTOCOMMIT", "SERIALIZABLE", "nonsense"]))
def options(side: Side, level: str) -> Any:
    clone = side.client.execution_options(isolation_level=level)
    seen = (
        isinstance(clone, sa.Engine), clone is side.client, clone.pool is side.client.pool,
        clone == side.client, clone.get_execution_options(), side.client.get_execution_options(),
    )  # fmt: skip
    with clone.connect() as connection:
        return seen, connection.get_isolation_level(), connection.default_isolation_level


@operation()
def connection_options(side: Side) -> Any:
    with side.client.connect() as connection:
        clone = connection.execution_options(isolation_level="AUTOCOMMIT", mine=1)
        return (
            clone is connection,
            connection.get_execution_options(),
            connection.scalar(sa.text("SHOW transaction_isolation")),
        )


@operation()
def raw(side: Side) -> Any:
    fairy = side.client.raw_connection()
    try:
        cursor = fairy.cursor()
        cursor.execute("SELECT 5")
        said = (
            cursor.fetchone(),
            fairy.is_valid,
            isinstance(fairy.driver_connection, psycopg.Connection),
        )
        cursor.close()
    finally:
        fairy.close()
    return said


@operation(how=st.sampled_from(["invalidate", "detach"]))
def loses(side: Side, how: str) -> Any:
    with side.client.connect() as connection:
        connection.scalar(sa.text("SELECT 1"))
        getattr(connection, how)()
        return connection.invalidated, connection.closed, connection.in_transaction()


@operation()
def killed(side: Side) -> Any:
    with side.client.connect() as connection, side.client.connect() as other:
        pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
        other.scalar(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        try:
            connection.scalar(sa.text("SELECT 1"))
        except sa.exc.OperationalError as error:
            return error.connection_invalidated, connection.invalidated, error


@operation()
def created(side: Side) -> Any:
    extra = sa.Table("extra", sa.MetaData(), sa.Column("a", sa.Integer))
    extra.metadata.create_all(side.client)
    extra.metadata.create_all(side.client)
    try:
        return sa.inspect(side.client).has_table("extra")
    finally:
        extra.metadata.drop_all(side.client, checkfirst=True)


@operation()
def inspected(side: Side) -> Any:
    found = sa.inspect(side.client)
    reflected = sa.Table("items", sa.MetaData(), autoload_with=side.client)
    return (
        sorted(found.get_table_names()), [each["name"] for each in found.get_columns("items")],
        found.get_pk_constraint("items"), sorted(reflected.c.keys()), found.bind is side.client,
        found.engine is side.client, type(found).__name__,
    )  # fmt: skip


@operation()
def inspected_connection(side: Side) -> Any:
    with side.client.connect() as connection:
        found = sa.inspect(connection)
        return found.get_table_names(), found.bind is connection, connection.engine is side.client


@operation()
def reflected(side: Side) -> Any:
    found = sa.MetaData()
    found.reflect(side.client)
    return sorted(found.tables)


@operation()
def attributes(side: Side) -> Any:
    engine = side.client
    return (
        engine.name, engine.driver, str(engine.url), engine.echo, engine.logging_name, engine.hide_parameters,
        type(engine.dialect).__name__, type(engine.pool).__name__, engine.dialect is engine.dialect,
        engine.engine is engine, isinstance(engine, sa.Engine), engine in [engine], {engine: 1}[engine],
        re.sub(r"\d+", "n", engine.pool.status()) and engine.pool.checkedout(), engine == engine,
    )  # fmt: skip


@operation()
def events(side: Side) -> Any:
    seen: list[Any] = []

    def told(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        seen.append((statement, isinstance(connection, sa.Connection)))

    event.listen(side.client, "before_cursor_execute", told)
    try:
        with side.client.connect() as connection:
            connection.execute(sa.text("SELECT 3"))
    finally:
        event.remove(side.client, "before_cursor_execute", told)
    return seen, event.contains(side.client, "before_cursor_execute", told)


@operation()
def connect_events(side: Side) -> Any:
    return len(side.client.dialect.dispatch.do_connect), len(side.client.pool.dispatch.connect)


@operation()
def disposes(side: Side) -> Any:
    return side.client.dispose(), side.client.pool.checkedin()


@operation(first=errors)
def exit_by_hand(side: Side, first: Any) -> Any:
    manager = side.client.begin()
    connection = manager.__enter__()
    connection.execute(items.insert().values(name="by hand"))
    told = manager.__exit__(*((type(first), first, None) if first else (None, None, None)))
    return told, connection.closed


@operation()
def copied(side: Side) -> Any:
    return isinstance(copy.copy(side.client), sa.Engine)


@operation()
def pickled(side: Side) -> Any:
    return type(pickle.loads(pickle.dumps(side.client)))


@operation()
def wrong_arguments(side: Side) -> Any:
    with side.client.connect() as connection:
        return connection.execute("SELECT 1")


@operation()
def wrong_call(side: Side) -> Any:
    return side.client.connect(1, 2, nothing=3)


# -- the ORM ---------------------------------------------


@operation(name=names, end=st.sampled_from(["commit", "rollback", "flush", "close"]))
def adds(side: Side, name: Any, end: str) -> Any:
    with orm.Session(side.client) as session:
        item = Item(name=name)
        session.add(item)
        before = item in session.new, session.in_transaction()
        getattr(session, end)()
        return before, item in session, session.dirty, sa.inspect(item).persistent, item.name


@operation(name=names)
def queries(side: Side, name: Any) -> Any:
    with orm.Session(side.client) as session:
        found = session.scalars(sa.select(Item).where(Item.name == name)).first()
        return (
            found is None, session.query(Item).filter_by(name=name).count(), session.get(Item, 1),
            session.execute(sa.select(Item.name).order_by(Item.id)).all(),
            session.get_bind() is side.client, session.bind is side.client,
            session.connection().engine is side.client,
        )  # fmt: skip


@operation(error=errors)
def session_begun(side: Side, error: Any) -> Any:
    with orm.sessionmaker(side.client).begin() as session:
        session.add(Item(name="session"))
        session.flush()
        with session.begin_nested():
            session.execute(sa.text("SELECT 1"))
        if error is not None:
            raise error.with_traceback(None)


@operation(name=names)
def changes(side: Side, name: Any) -> Any:
    with orm.Session(side.client, expire_on_commit=False) as session:
        item = session.scalars(sa.select(Item).order_by(Item.id)).first()
        if item is None:
            return session.get_one(Item, 77)
        item.name = name
        session.flush()
        session.refresh(item)
        session.expire(item)
        again = session.merge(Item(id=item.id, number=5))
        session.commit()
        return again is item, item.number, item.name


@operation()
def deletes(side: Side) -> Any:
    with orm.Session(side.client) as session:
        for item in session.query(Item):
            session.delete(item)
        session.commit()
        return session.query(Item).all()


@operation()
def session_after_error(side: Side) -> Any:
    with orm.Session(side.client) as session:
        session.add(Item(name=None))
        try:
            session.flush()
        except sa.exc.IntegrityError:
            pass
        return session.execute(sa.text("SELECT 1"))


@operation()
def session_of_a_connection(side: Side) -> Any:
    with side.client.connect() as connection, orm.Session(connection) as session:
        session.add(Item(name="on one"))
        session.commit()
        return session.connection() is connection, connection.in_transaction()


@operation()
def detached(side: Side) -> Any:
    with orm.Session(side.client) as session:
        item = Item(name="gone")
        session.add(item)
        session.commit()
    return item.name


@operation(name=names)
def wrapped_session(side: Side, name: Any) -> Any:
    session = orm.Session(side.more["engine"])
    used = policy_of("session", side.more["mode"]).wrap(session) if side.wrapped else session
    with used as inside:
        item = Item(name=name)
        used.add(item)
        used.flush()
        found = used.query(Item).filter(Item.name == name).one()
        return (
            inside is used, found is item, orm.object_session(item) is not None, used.get(Item, item.id) is item,
            used.scalar(sa.select(sa.func.count()).select_from(Item)), used.in_transaction(),
            isinstance(used, orm.Session), [each.name for each in used.query(Item)], used.identity_map.keys() != [],
            used.commit(),
        )  # fmt: skip


@operation(name=names)
def scoped(side: Side, name: Any) -> Any:
    sessions = orm.scoped_session(orm.sessionmaker(side.client))
    sessions.add(Item(name=name))
    try:
        sessions.commit()
        return sessions.query(Item).count()
    finally:
        sessions.remove()


def scrub(text: str) -> str:
    text = re.sub(r"transparency-\d+", "<policy>", text)
    text = re.sub(r"port \d+", "port", re.sub(r":\d{4,5}/", "/", text))
    text = re.sub(r'"c_\w+"', "<cursor>", text)
    return re.sub(r"'pid': \d+", "pid", text)


def world(server: PostgresServer) -> Any:
    with psycopg.connect(server.conninfo) as control:
        return control.execute("SELECT name, number FROM items ORDER BY name, number").fetchall(), \
            control.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()  # fmt: skip


def fresh(server: PostgresServer) -> None:
    with psycopg.connect(server.conninfo, autocommit=True) as control:
        control.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        control.execute(
            "CREATE TABLE items (id serial PRIMARY KEY, name varchar(10) NOT NULL UNIQUE,"
            " number int CHECK (number < 100))"
        )


def played(server: PostgresServer, steps: Any, mode: str | None) -> Any:
    fresh(server)
    engine = sa.create_engine(server.sqlalchemy_url, pool_size=2)
    used = engine if mode is None else policy_of("sqlalchemy", mode).wrap(engine)
    side = Side(used, mode is not None, more={"engine": engine, "mode": mode})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sa.exc.SAWarning)
        log = play(side, steps, scrub)
    state = engine.pool.checkedin(), engine.pool.checkedout(), sorted(vars(engine))
    engine.dispose()
    log.append(("at the end", {}, state, world(server)))
    return log


@pytest.mark.parametrize("mode", MODES)
@few(max_examples=15)
@given(steps=operation.sequences())
def test_a_sequence_comes_to_the_same(
    postgres_server: PostgresServer, mode: str, steps: Any
) -> None:
    bare = played(postgres_server, steps, None)
    same("sqlalchemy", bare, played(postgres_server, steps, mode))


@pytest.mark.parametrize("mode", MODES)
def test_it_looks_the_same(postgres_server: PostgresServer, mode: str) -> None:
    fresh(postgres_server)
    bare, inner = (sa.create_engine(postgres_server.sqlalchemy_url) for _ in range(2))
    policy = policy_of("sqlalchemy", mode)
    wrapped = policy.wrap(inner)
    found = []
    with bare.connect() as one, wrapped.connect() as other:
        found += inspect_pair("sqlalchemy", bare, wrapped, "Engine")
        found += inspect_pair("sqlalchemy", one, other, "Connection")
        found += inspect_pair("sqlalchemy", one.begin(), other.begin(), "RootTransaction")
        found += inspect_pair(
            "sqlalchemy", one.begin_nested(), other.begin_nested(), "NestedTransaction"
        )
        results = [each.execute(sa.text("SELECT 1 AS one")) for each in (one, other)]
        found += inspect_pair("sqlalchemy", *results, "CursorResult", skip=("context",))
        found += inspect_pair(
            "sqlalchemy",
            bare.execution_options(a=1),
            wrapped.execution_options(a=1),
            "OptionEngine",
        )
        found += inspect_pair("sqlalchemy", bare.begin(), wrapped.begin(), "begin context")
        found += inspect_pair("sqlalchemy", one.execute, other.execute, "method execute")
        sessions = orm.Session(one), policy.wrap(orm.Session(other))
        found += inspect_pair("sqlalchemy", *sessions, "Session")
        found += inspect_pair("sqlalchemy", *(each.query(Item) for each in sessions), "Query")
        for each in sessions:
            each.close()
    bare.dispose()
    inner.dispose()
    assert not found, "\n".join(found)
