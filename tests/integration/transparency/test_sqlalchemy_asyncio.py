"""SQLAlchemy's AsyncEngine and AsyncSession, bare and wrapped."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext import asyncio as saio

from tests.integration.transparency.harness import (
    Operations,
    Side,
    aplay,
    few,
    inspect_pair,
    policy_of,
    run,
    same,
)
from tests.integration.transparency.test_sqlalchemy import (
    Item,
    errors,
    fetched,
    fetches,
    fresh,
    items,
    names,
    numbers,
    scrub,
    statements,
    world,
)
from tests.kit.servers.postgres_server import PostgresServer

operation = Operations()
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"), pytest.mark.usefixtures("collected"),
]  # fmt: skip


@operation(statement=statements, how=fetches)
async def executes(side: Side, statement: str, how: str) -> Any:
    async with side.client.connect() as connection:
        values = {"x": 7} if ":x" in statement else {}
        return fetched(await connection.execute(sa.text(statement), values), how)


@operation(statement=statements, stop=st.integers(0, 4))
async def streams(side: Side, statement: str, stop: int) -> Any:
    async with side.client.connect() as connection:
        values = {"x": 7} if ":x" in statement else {}
        result = await connection.stream(sa.text(statement), values)
        got = []
        async for row in result:
            got.append(tuple(row))
            if len(got) >= stop:
                break
        return (
            got,
            await result.fetchmany(1),
            await result.all(),
            isinstance(result, saio.AsyncResult),
        )


@operation()
async def stream_block(side: Side) -> Any:
    async with side.client.connect() as connection, \
            connection.stream(sa.text("SELECT generate_series(1, 3)")) as result:  # fmt: skip
        return await result.scalars().all()


@operation(name=names, number=numbers)
async def inserts(side: Side, name: Any, number: Any) -> Any:
    async with side.client.begin() as connection:
        done = await connection.execute(items.insert().values(name=name, number=number))
        return done.inserted_primary_key, done.rowcount


@operation(error=errors)
async def begun(side: Side, error: Any) -> Any:
    async with side.client.begin() as connection:
        await connection.execute(items.insert().values(name="begun"))
        if error is not None:
            raise error.with_traceback(None)
        return connection.in_transaction(), isinstance(connection, saio.AsyncConnection)


@operation(error=errors, end=st.sampled_from(["commit", "rollback", "nothing", "close"]))
async def connected(side: Side, error: Any, end: str) -> Any:
    async with side.client.connect() as connection:
        before = connection.in_transaction()
        await connection.execute(items.insert().values(name="connected"))
        within = connection.in_transaction(), connection.closed
        if end != "nothing":
            await getattr(connection, end)()
        if error is not None:
            raise error.with_traceback(None)
    return before, within, connection.closed


@operation()
async def awaited(side: Side) -> Any:
    connection = await side.client.connect()
    try:
        return await connection.scalar(sa.text("SELECT 1")), isinstance(
            connection, saio.AsyncConnection
        )
    finally:
        await connection.close()


@operation(error=errors)
async def transaction(side: Side, error: Any) -> Any:
    async with side.client.connect() as connection:
        trans = connection.begin()
        async with trans as inside:
            same_one = (
                inside is trans,
                trans.connection is connection,
                connection.get_transaction() is trans,
            )
            await connection.execute(items.insert().values(name="trans"))
            if error is not None:
                raise error.with_traceback(None)
        return same_one, trans.is_active, trans.is_valid


@operation(error=errors)
async def nested(side: Side, error: Any) -> Any:
    async with side.client.begin() as connection:
        await connection.execute(items.insert().values(name="outer"))
        try:
            async with connection.begin_nested():
                await connection.execute(items.insert().values(name="inner"))
                if error is not None:
                    raise error.with_traceback(None)
        except KeyError as caught:
            return type(caught), connection.in_nested_transaction()
        return connection.in_nested_transaction()


@operation()
async def run_sync(side: Side) -> Any:
    def within(connection: Any, more: int) -> Any:
        found = sa.inspect(connection)
        return found.get_table_names(), more, isinstance(connection, sa.Connection)

    async with side.client.connect() as connection:
        return await connection.run_sync(within, 5)


@operation()
async def created(side: Side) -> Any:
    extra = sa.Table("extra", sa.MetaData(), sa.Column("a", sa.Integer))
    async with side.client.begin() as connection:
        await connection.run_sync(extra.metadata.create_all)
        await connection.run_sync(extra.metadata.drop_all)


@operation()
async def run_sync_fails(side: Side) -> Any:
    def within(connection: Any) -> Any:
        raise LookupError("in run_sync")

    async with side.client.connect() as connection:
        return await connection.run_sync(within)


@operation(level=st.sampled_from(["AUTOCOMMIT", "SERIALIZABLE"]))
async def options(side: Side, level: str) -> Any:
    clone = side.client.execution_options(isolation_level=level)
    seen = isinstance(clone, saio.AsyncEngine), clone == side.client, clone.get_execution_options()
    async with clone.connect() as connection:
        return seen, await connection.get_isolation_level()


@operation()
async def raw(side: Side) -> Any:
    fairy = await side.client.raw_connection()
    try:
        return type(fairy).__name__, fairy.is_valid
    finally:
        fairy.close()


@operation()
async def after_an_error(side: Side) -> Any:
    async with side.client.connect() as connection:
        try:
            await connection.execute(sa.text("SELECT 1/0"))
        except sa.exc.DataError:
            pass
        return await connection.scalar(sa.text("SELECT 1"))


@operation()
async def attributes(side: Side) -> Any:
    engine = side.client
    return (
        engine.name, engine.driver, str(engine.url), engine.echo, type(engine.dialect).__name__,
        type(engine.pool).__name__, isinstance(engine, saio.AsyncEngine), engine in [engine],
        {engine: 1}[engine], isinstance(engine.sync_engine, sa.Engine), engine == engine,
        engine.sync_engine is engine.sync_engine,
    )  # fmt: skip


@operation()
async def inspected(side: Side) -> Any:
    return sa.inspect(side.client)


@operation()
async def sync_entered(side: Side) -> Any:
    with side.client.connect():
        pass


@operation()
async def disposes(side: Side) -> Any:
    return await side.client.dispose()


@operation()
async def pickled(side: Side) -> Any:
    return type(pickle.loads(pickle.dumps(side.client)))


@operation(name=names, end=st.sampled_from(["commit", "rollback", "flush", "close"]))
async def adds(side: Side, name: Any, end: str) -> Any:
    async with saio.AsyncSession(side.client) as session:
        item = Item(name=name)
        session.add(item)
        before = item in session.new, session.in_transaction()
        await getattr(session, end)()
        return before, item in session, session.dirty


@operation(name=names)
async def queries(side: Side, name: Any) -> Any:
    async with saio.AsyncSession(side.client) as session:
        found = (await session.scalars(sa.select(Item).where(Item.name == name))).first()
        rows = await session.stream_scalars(sa.select(Item.name).order_by(Item.id))
        return found is None, await rows.all(), session.bind is side.client


@operation(error=errors)
async def session_begun(side: Side, error: Any) -> Any:
    async with saio.async_sessionmaker(side.client).begin() as session:
        session.add(Item(name="session"))
        await session.flush()
        if error is not None:
            raise error.with_traceback(None)


@operation(name=names, error=errors)
async def wrapped_session(side: Side, name: Any, error: Any) -> Any:
    session = saio.AsyncSession(side.more)
    used = policy_of("async-session").wrap(session) if side.wrapped else session
    async with used as inside:
        item = Item(name=name)
        used.add(item)
        await used.flush()
        count = await used.scalar(sa.select(sa.func.count()).select_from(Item))
        async with used.begin_nested():
            again = await used.get(Item, item.id)
            if error is not None:
                raise error.with_traceback(None)
        return inside is used, count, again is item, used.in_transaction(), await used.commit()


def played(server: PostgresServer, steps: Any, wrapped: bool) -> Any:
    fresh(server)

    async def main() -> Any:
        engine = saio.create_async_engine(server.sqlalchemy_url, pool_size=2)
        used = policy_of("sqlalchemy-async").wrap(engine) if wrapped else engine
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", sa.exc.SAWarning)
            log = await aplay(Side(used, wrapped, more=engine), steps, scrub)
        state = engine.pool.checkedin(), engine.pool.checkedout(), sorted(vars(engine.sync_engine))
        await engine.dispose()
        log.append(("at the end", {}, state, world(server)))
        return log

    return run(main)


@few(max_examples=20)
@given(steps=operation.sequences())
def test_a_sequence_comes_to_the_same(postgres_server: PostgresServer, steps: Any) -> None:
    bare = played(postgres_server, steps, False)
    same("sqlalchemy-async", bare, played(postgres_server, steps, True))


def test_it_looks_the_same(postgres_server: PostgresServer) -> None:
    async def main() -> list[str]:
        bare, inner = (saio.create_async_engine(postgres_server.sqlalchemy_url) for _ in range(2))
        policy = policy_of("sqlalchemy-async")
        wrapped = policy.wrap(inner)
        library = "sqlalchemy-async"
        found = inspect_pair(library, bare, wrapped, "AsyncEngine")
        async with bare.connect() as one, wrapped.connect() as other:
            found += inspect_pair(library, one, other, "AsyncConnection")
            found += inspect_pair(library, one.begin(), other.begin(), "AsyncTransaction")
            found += inspect_pair(library, bare.begin(), wrapped.begin(), "begin context")
            found += inspect_pair(library, one.execute, other.execute, "method execute")
            sessions = saio.AsyncSession(bare), policy.wrap(saio.AsyncSession(inner))
            found += inspect_pair(library, *sessions, "AsyncSession")
        await bare.dispose()
        await inner.dispose()
        return found

    found = run(main)
    assert not found, "\n".join(found)
