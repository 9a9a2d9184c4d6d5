"""SQLAlchemy on psycopg and PostgreSQL, sync and async, wrapped."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

import resilient
from tests.integration.clients.kit import (
    LIMIT,
    MODES,
    AsyncLoad,
    Left,
    Load,
    async_outcome,
    check_at_rest,
    check_released,
    counted,
    interrupted,
    life_story,
    make_policy,
    outcome,
    plain,
    timed,
)
from tests.kit.servers.postgres_server import PostgresServer
from tests.kit.waiting import until

SLACK = {"cooperative": 0.5, "thread": 0.5, "async": 0.5}  # seconds over a call's limit

mode = pytest.mark.parametrize("mode", MODES)


def connections(server: PostgresServer) -> Callable[[], int]:
    """Return what counts the connections of others to a server."""

    def count() -> int:
        with psycopg.connect(server.conninfo, connect_timeout=5) as connection:
            found = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
                " AND pid <> pg_backend_pid()"
            ).fetchone()
        return int(found[0])

    return count


def make(server: PostgresServer, policy: resilient.Policy, **options: Any) -> sa.Engine:
    """Return a guarded engine."""
    options = {"pool_size": 10, "max_overflow": 10, "pool_timeout": 5, **options}
    return policy.wrap(sa.create_engine(server.sqlalchemy_url, **options))


def make_async(server: PostgresServer, policy: resilient.Policy, **options: Any) -> Any:
    """Return a guarded async engine."""
    options = {"pool_size": 10, "max_overflow": 10, "pool_timeout": 5, **options}
    return policy.wrap(create_async_engine(server.sqlalchemy_url, **options))


class Base(DeclarativeBase):
    """The tables."""


class Thing(Base):
    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(unique=True)


@pytest.fixture(autouse=True)
def psycopg_tells_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """What it logs are exceptions, and what pytest keeps of them holds their connections."""
    caplog.set_level(logging.CRITICAL, logger="psycopg")


# -- the life story ---------------------------------------------


@pytest.mark.parametrize(
    ("how", "mode"), [("core", "cooperative"), ("core", "thread"), ("orm", "thread")]
)
def test_life_story(postgres_server: PostgresServer, mode: str, how: str) -> None:
    left = Left(connections(postgres_server))
    policy = make_policy(mode, name="postgres")
    engine = make(postgres_server, policy)

    def core() -> object:
        with engine.connect() as connection:
            return connection.execute(sa.text("SELECT 1")).scalar_one()

    def orm() -> object:
        with Session(engine) as session:
            return session.execute(sa.text("SELECT 1")).scalar_one()

    # Each of these is several calls of the policy: to connect, and to execute.
    life_story(
        postgres_server, policy, Load(core if how == "core" else orm), slack=LIMIT + SLACK[mode],
        allowed=(sa.exc.OperationalError,),
    )  # fmt: skip
    engine.dispose()
    left.check()


def test_life_story_of_asyncio(postgres_server: PostgresServer, caplog: Any) -> None:
    left = Left(connections(postgres_server))
    policy = make_policy(name="postgres")

    @asynccontextmanager
    async def calls() -> Any:
        engine = make_async(postgres_server, policy)

        async def one() -> object:
            async with engine.connect() as connection:
                return (await connection.execute(sa.text("SELECT 1"))).scalar_one()

        yield one
        await engine.dispose()

    life_story(
        postgres_server, policy, AsyncLoad(calls), slack=LIMIT + SLACK["async"],
        allowed=(sa.exc.OperationalError,),
    )  # fmt: skip
    caplog.clear()  # psycopg's records hold its exceptions, and those the sockets
    left.check(collect=True)


# -- whose fault ---------------------------------------------


def tables(server: PostgresServer) -> None:
    """Make the table, with a row in it."""
    with psycopg.connect(server.conninfo, autocommit=True) as connection:
        connection.execute("CREATE TABLE thing (id int PRIMARY KEY, name text UNIQUE)")
        connection.execute("INSERT INTO thing VALUES (1, 'one'), (2, 'two')")


OWN = {
    "INSERT INTO thing VALUES (1, 'x')": sa.exc.IntegrityError,
    "INSERT INTO thing VALUES (NULL, 'x')": sa.exc.IntegrityError,
    "SELEKT 1": sa.exc.ProgrammingError,
    "SELECT * FROM nowhere": sa.exc.ProgrammingError,
    "SELECT 1/0": sa.exc.DataError,
    "SELECT 'x'::int": sa.exc.DataError,
    "SELECT :missing": sa.exc.StatementError,
    "DO $$ BEGIN RAISE EXCEPTION 'mine'; END $$": sa.exc.DBAPIError,
}


@mode
@pytest.mark.parametrize("statement", OWN)
def test_the_callers_own_errors(postgres_server: PostgresServer, mode: str, statement: str) -> None:
    tables(postgres_server)
    policy = make_policy(mode, limit=5.0)
    engine = make(postgres_server, policy)
    bare = engine.__wrapped__
    with bare.connect() as connection, pytest.raises(OWN[statement]) as alone:
        connection.execute(sa.text(statement))
    with counted(policy) as found:
        for _ in range(20):
            with engine.connect() as connection, pytest.raises(OWN[statement]) as raised:
                connection.execute(sa.text(statement))
            assert type(raised.value) is type(alone.value)
            assert str(raised.value) == str(alone.value)
    assert set(found) <= {"ignored", "success"}, found
    assert policy.state == "closed"
    check_at_rest(policy)
    engine.dispose()


@mode
def test_a_deadlock_is_a_lost_race(postgres_server: PostgresServer, mode: str) -> None:
    tables(postgres_server)
    policy = make_policy(mode, limit=5.0)
    engine = make(postgres_server, policy)
    wait = sa.text("SET LOCAL deadlock_timeout = '100ms'")
    lock = sa.text("UPDATE thing SET name = name || '!' WHERE id = :id")
    both = threading.Barrier(2)
    seen: list[Any] = []

    def one(first: int, second: int) -> None:
        try:
            with engine.begin() as connection:
                connection.execute(wait)
                connection.execute(lock, {"id": first})
                both.wait(5)
                connection.execute(lock, {"id": second})
        except sa.exc.OperationalError as error:
            seen.append(error.orig.sqlstate)

    with counted(policy) as found:
        threads = [threading.Thread(target=one, args=pair) for pair in ((1, 2), (2, 1))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert seen == ["40P01"]
    assert found["ignored"] >= 1
    assert "failure" not in found
    check_at_rest(policy)
    engine.dispose()


@mode
def test_failures_of_the_database(postgres_server: PostgresServer, mode: str) -> None:
    policy = make_policy(mode, limit=5.0, failures=100)
    engine = make(postgres_server, policy)
    # Its session is ended: by an operator, or since the server goes down.
    with engine.connect() as connection:
        pid = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
        with psycopg.connect(postgres_server.conninfo, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 2000)", (pid,))
        found, error = outcome(policy, lambda: connection.execute(sa.text("SELECT 1")))
        assert isinstance(error, sa.exc.OperationalError), error
        assert found == {"failure": 1}
    # A statement that is stopped by a limit of the server's.
    with engine.connect() as connection:
        connection.execute(sa.text("SET statement_timeout = 50"))
        found, error = outcome(policy, lambda: connection.execute(sa.text("SELECT pg_sleep(5)")))
        assert isinstance(error, sa.exc.OperationalError), error
        assert found == {"failure": 1}
        connection.rollback()
        connection.execute(sa.text("RESET statement_timeout"))
    engine.dispose()
    postgres_server.kill()
    found, error = outcome(policy, lambda: engine.connect())
    assert isinstance(error, sa.exc.OperationalError), error
    assert found == {"failure": 1}
    # The pool has no connection to give: of this engine, and still no service for the caller.
    postgres_server.revive()
    check_at_rest(policy)
    engine.dispose()


# -- transactions ---------------------------------------------


@mode
def test_transactions(postgres_server: PostgresServer, mode: str) -> None:
    tables(postgres_server)
    left = Left(connections(postgres_server))
    policy = make_policy(mode, limit=5.0)
    engine = make(postgres_server, policy)
    add, count = (
        sa.text("INSERT INTO thing VALUES (:id, :id)"),
        sa.text("SELECT count(*) FROM thing"),
    )
    with engine.begin() as connection:
        connection.execute(add, {"id": 10})
        with connection.begin_nested():
            connection.execute(add, {"id": 11})
        with suppress(ZeroDivisionError), connection.begin_nested():
            connection.execute(add, {"id": 12})
            raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), engine.begin() as connection:
        connection.execute(add, {"id": 13})
        raise ZeroDivisionError
    with engine.connect() as connection:
        with connection.begin() as transaction:
            connection.execute(add, {"id": 14})
            transaction.rollback()
        connection.execute(add, {"id": 15})
        connection.commit()
        connection.execute(add, {"id": 16})
    with Session(engine) as session, session.begin():
        session.add(Thing(id=20, name="twenty"))
    with sessionmaker(engine)() as session:
        session.add(Thing(id=21, name="twenty-one"))
        session.flush()
        session.rollback()
        assert session.get(Thing, 20).name == "twenty"
        assert session.scalars(sa.select(Thing.id).order_by(Thing.id)).all() == [
            1,
            2,
            10,
            11,
            15,
            20,
        ]
        session.add(Thing(id=1, name="again"))
        with pytest.raises(sa.exc.IntegrityError):
            session.commit()
        session.rollback()
    with engine.connect() as connection:
        assert connection.execute(count).scalar_one() == 6
    assert policy.snapshot()["calls"]["failure"] == 0
    check_at_rest(policy)
    engine.dispose()
    left.check()


@mode
@pytest.mark.parametrize("at", ["execute", "commit", "rollback", "begin"])
def test_a_transaction_under_freeze(postgres_server: PostgresServer, mode: str, at: str) -> None:
    tables(postgres_server)
    left = Left(connections(postgres_server))
    policy = make_policy(mode, failures=100)
    engine = make(postgres_server, policy)
    add = sa.text("INSERT INTO thing VALUES (10, 'ten')")
    with engine.connect() as connection:  # a connection is in the pool
        connection.execute(sa.text("SELECT 1"))
    try:
        # What is given back at the end has a time limit of its own.
        # A rollback that fails takes the place of what it was for, as with the bare engine.
        own = (ZeroDivisionError,) if at == "rollback" else ()
        with (
            timed(3 * (LIMIT + SLACK[mode])),
            pytest.raises((resilient.CallTimeoutError, *own)),
            engine.begin() as connection,
        ):
            if at == "begin":
                postgres_server.stop()
            connection.execute(add)
            postgres_server.stop()
            if at == "execute":
                connection.execute(add)
            if at == "rollback":
                raise ZeroDivisionError
    finally:
        postgres_server.cont()
    check_released(policy)
    # A connection whose answer nobody has read must not be used again.
    for _ in range(4):
        with engine.connect() as connection:
            assert connection.execute(sa.text("SELECT 7")).scalar_one() == 7
    engine.dispose()
    left.check()


@mode
def test_a_session_under_freeze(postgres_server: PostgresServer, mode: str) -> None:
    tables(postgres_server)
    left = Left(connections(postgres_server))
    policy = make_policy(mode, failures=100)
    engine = make(postgres_server, policy)
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
    try:
        with timed(3 * (LIMIT + SLACK[mode])), pytest.raises(resilient.CallTimeoutError):
            with Session(engine) as session, session.begin():
                session.add(Thing(id=10, name="ten"))
                session.flush()
                postgres_server.stop()
                session.add(Thing(id=11, name="eleven"))
    finally:
        postgres_server.cont()
    check_released(policy)
    with Session(engine) as session:
        assert session.scalars(sa.select(Thing.id).order_by(Thing.id)).all() == [1, 2]
    engine.dispose()
    left.check()


# -- deadlines ---------------------------------------------


@mode
def test_a_stuck_query(postgres_server: PostgresServer, mode: str) -> None:
    left = Left(connections(postgres_server))
    policy = make_policy(mode, failures=100)
    engine = make(postgres_server, policy)
    for _ in range(3):
        with engine.connect() as connection, timed(LIMIT + SLACK[mode], 0.25):
            found, error = outcome(
                policy, lambda: connection.execute(sa.text("SELECT pg_sleep(10)"))
            )
        assert (found, plain(error)) == ({"failure": 1}, resilient.CallTimeoutError)
    check_released(policy)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT 7")).scalar_one() == 7
    engine.dispose()
    # The server learns only at the end of its statement that nobody waits any more.
    with psycopg.connect(postgres_server.conninfo, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(10)%'"
            " AND pid <> pg_backend_pid()"
        )
    left.check()


@mode
def test_an_enclosing_deadline_is_kept(postgres_server: PostgresServer, mode: str) -> None:
    outer, policy = make_policy("cooperative", limit=0.2), make_policy(mode, limit=5.0)
    engine = make(postgres_server, policy)
    with engine.connect() as connection:
        with timed(0.2 + SLACK[mode], 0.15), pytest.raises(resilient.CallTimeoutError) as raised:
            outer.call(lambda: connection.execute(sa.text("SELECT pg_sleep(3)")))
    assert raised.value.policy == outer.name
    postgres_server.stop()
    engine.dispose()
    with timed(0.2 + SLACK[mode], 0.15), pytest.raises(resilient.CallTimeoutError) as raised:
        outer.call(engine.connect)
    postgres_server.cont()
    check_released(policy)
    engine.dispose()


@mode
def test_a_shorter_limit_of_its_own_stays(postgres_server: PostgresServer, mode: str) -> None:
    policy = make_policy(mode, limit=5.0)
    engine = make(postgres_server, policy, connect_args={"options": "-c statement_timeout=100"})
    with engine.connect() as connection, timed(0.1 + SLACK[mode], 0.05):
        with pytest.raises(sa.exc.OperationalError, match="statement timeout"):
            connection.execute(sa.text("SELECT pg_sleep(3)"))
    engine.dispose()


@mode
def test_a_pool_of_one(postgres_server: PostgresServer, mode: str) -> None:
    left = Left(connections(postgres_server))
    policy = make_policy(mode, failures=100)
    engine = make(postgres_server, policy, pool_size=1, max_overflow=0, pool_timeout=1.0)
    with engine.connect() as first:
        first.execute(sa.text("SELECT 1"))
        # The pool of SQLAlchemy waits by a limit of its own, which only a worker cuts short.
        most = LIMIT if mode == "thread" else 1.0
        with (
            timed(most + SLACK[mode], 0.25),
            pytest.raises((resilient.CallTimeoutError, sa.exc.TimeoutError)),
        ):
            engine.connect()
    # One that was got for a caller who had left must go back to the pool.
    check_released(policy)
    for _ in range(3):
        with engine.connect() as connection:
            assert connection.execute(sa.text("SELECT 7")).scalar_one() == 7
        with engine.connect() as connection, pytest.raises(resilient.CallTimeoutError):
            connection.execute(sa.text("SELECT pg_sleep(2)"))
        check_released(policy)
    engine.dispose()
    time.sleep(0.4)
    left.check()


@mode
def test_a_connection_for_a_caller_who_left_goes_back(
    postgres_server: PostgresServer, mode: str
) -> None:
    policy = make_policy(mode, failures=100, limit=0.2)
    engine = make(postgres_server, policy, pool_size=1, max_overflow=0, pool_timeout=3.0)
    first = engine.connect()
    first.execute(sa.text("SELECT 1"))
    threading.Timer(0.5, first.close).start()
    with suppress(resilient.CallTimeoutError):
        engine.connect().close()
    check_released(policy)
    policy.update(timeout={"seconds": 60})
    engine.connect().close()
    engine.dispose()


@mode
def test_streaming_results(postgres_server: PostgresServer, mode: str) -> None:
    left = Left(connections(postgres_server))
    policy = make_policy(mode, limit=2.0)
    engine = make(postgres_server, policy)
    many = sa.text("SELECT generate_series(1, 5000)")
    with engine.connect().execution_options(stream_results=True, max_row_buffer=100) as connection:
        assert sum(row[0] for row in connection.execute(many)) == 12502500
        pages = [len(page) for page in connection.execute(many).partitions(1000)]
        assert pages == [1000] * 5
        assert connection.execute(many).first() == (1,)
    check_at_rest(policy)
    engine.dispose()
    left.check()


@mode
@pytest.mark.filterwarnings("ignore:.*ServerCursor:pytest.PytestUnraisableExceptionWarning")
def test_a_stream_of_rows_under_freeze(postgres_server: PostgresServer, mode: str) -> None:
    policy = make_policy(mode, failures=100)
    engine = make(postgres_server, policy)
    many = sa.text("SELECT generate_series(1, 500000)")
    connection = engine.connect().execution_options(stream_results=True, max_row_buffer=100)
    rows = connection.execute(many)
    next(rows)
    postgres_server.stop()
    thaw = threading.Timer(2.0, postgres_server.cont)  # or it would hang for ever
    thaw.start()
    try:
        with timed(LIMIT + SLACK[mode]), pytest.raises(resilient.CallTimeoutError):
            for _ in rows:
                pass
    finally:
        thaw.cancel()
        thaw.join()
        postgres_server.cont()
    rows.close()
    connection.close()
    check_released(policy)
    engine.dispose()
    del rows, connection
    gc.collect()  # here, and not in a test after this: psycopg warns of an open cursor


# -- release ---------------------------------------------


def test_the_worker_of_an_interrupted_caller_ends_at_once(postgres_server: PostgresServer) -> None:
    # Its own limits are far away: only that its socket was shut down can end it.
    policy = make_policy("thread", limit=30.0)
    engine = make(postgres_server, policy)
    with suppress(sa.exc.OperationalError), engine.connect() as connection, timed(2.0):
        interrupted(lambda: connection.execute(sa.text("SELECT pg_sleep(20)")))
        check_released(policy)  # while the caller still has the connection
    engine.dispose()


def test_abandoned_workers_end_while_the_server_is_frozen(postgres_server: PostgresServer) -> None:
    left = Left()
    policy = make_policy("thread", failures=100)
    engine = make(postgres_server, policy)

    def ask() -> None:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))

    with Load(ask, 6) as load:
        until(lambda: load.good(0) >= 12)
        postgres_server.stop()
        until(lambda: load.kinds()["CallTimeoutError"] >= 12)  # in execute, then in connect
    check_released(policy)
    postgres_server.cont()
    until(lambda: outcome(policy, ask)[1] is None)
    engine.dispose()
    left.check()


# -- asyncio ---------------------------------------------


def test_asyncio(postgres_server: PostgresServer, caplog: Any) -> None:
    tables(postgres_server)

    async def main() -> None:
        policy = make_policy(failures=100)
        engine = make_async(postgres_server, policy, pool_size=1, max_overflow=0)
        async with engine.begin() as connection:
            await connection.execute(sa.text("INSERT INTO thing VALUES (10, 'ten')"))
        with pytest.raises(ZeroDivisionError):
            async with engine.begin() as connection:
                await connection.execute(sa.text("INSERT INTO thing VALUES (11, 'x')"))
                raise ZeroDivisionError
        async with AsyncSession(engine) as session, session.begin():
            session.add(Thing(id=12, name="twelve"))
        async with AsyncSession(engine) as session:
            ids = (await session.scalars(sa.select(Thing.id).order_by(Thing.id))).all()
            assert ids == [1, 2, 10, 12]
        async with engine.connect() as connection:
            rows = await connection.stream(sa.text("SELECT generate_series(1, 3)"))
            assert [row[0] async for row in rows] == [1, 2, 3]
            for statement, error in OWN.items():
                found, raised = await async_outcome(
                    policy, lambda: connection.execute(sa.text(statement))
                )
                assert isinstance(raised, error), raised
                assert found == {"ignored": 1}, (statement, found)
                await connection.rollback()
        with timed(2 * LIMIT + SLACK["async"], 0.25), pytest.raises(resilient.CallTimeoutError):
            async with engine.connect() as connection:
                await connection.execute(sa.text("SELECT pg_sleep(10)"))
        async with engine.connect() as connection:
            with timed(LIMIT + SLACK["async"], 0.25), pytest.raises(resilient.CallTimeoutError):
                async with engine.connect():
                    pass
            assert (await connection.execute(sa.text("SELECT 7"))).scalar_one() == 7
            postgres_server.stop()
            try:
                with timed(LIMIT + SLACK["async"], 0.25), pytest.raises(resilient.CallTimeoutError):
                    await connection.execute(sa.text("SELECT 1"))
            finally:
                postgres_server.cont()
        async with engine.connect() as connection:
            assert (await connection.execute(sa.text("SELECT 7"))).scalar_one() == 7
        await engine.dispose()
        check_at_rest(policy)

    left = Left(connections(postgres_server))
    anyio.run(main)
    caplog.clear()  # psycopg's records hold its exceptions, and those the sockets
    left.check(collect=True)


@pytest.mark.parametrize("how", ["connect", "begin", "session"])
def test_the_end_of_a_block_is_bounded_in_asyncio(
    postgres_server: PostgresServer, how: str
) -> None:
    # It rolls back or commits, which is a question to the server too.
    async def main() -> None:
        policy = make_policy(failures=100)
        engine = make_async(postgres_server, policy)
        opens = {
            "connect": engine.connect,
            "begin": engine.begin,
            "session": lambda: policy.wrap(AsyncSession(engine)),
        }
        thaw = threading.Timer(2.0, postgres_server.cont)  # or it would hang for ever
        with timed(2 * (LIMIT + SLACK["async"])), suppress(resilient.CallTimeoutError):
            async with opens[how]() as connection:
                await connection.execute(sa.text("SELECT 1"))
                postgres_server.stop()
                thaw.start()
        thaw.cancel()
        thaw.join()
        postgres_server.cont()
        async with engine.connect() as connection:
            assert (await connection.execute(sa.text("SELECT 7"))).scalar_one() == 7
        await engine.dispose()
        check_at_rest(policy)

    anyio.run(main)
