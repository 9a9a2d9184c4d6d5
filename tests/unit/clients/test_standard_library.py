"""Clients of the standard library, against what is really there."""

from __future__ import annotations

import sqlite3
import threading
import xmlrpc.client
from collections.abc import Iterator
from typing import Any
from xmlrpc.server import SimpleXMLRPCServer

import pytest

from resilient import CircuitOpenError, circuit_breaker, timeout
from tests.kit.policies import counts, idle, policy, raised
from tests.unit.clients.kit import guards, own_slot


@pytest.fixture
def database() -> Iterator[Any]:
    """A database in memory, for any thread."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.executescript(
        "create table movies(title); insert into movies values ('Heat'), ('Ran')"
    )
    yield connection
    connection.close()


@pytest.mark.parametrize("threaded", [False, True], ids=["here", "thread"])
def test_a_connection_of_c(database: Any, threaded: bool) -> None:
    of = own_slot(timeout(5, sync="thread")) if threaded else own_slot()
    client = of.wrap(database)
    assert isinstance(client, sqlite3.Connection)
    assert client.execute("select title from movies").fetchall() == [("Heat",), ("Ran",)]
    assert [row for row in client.execute("select title from movies")] == [("Heat",), ("Ran",)]  # noqa: C416 - a loop is what is tested
    cursor = client.cursor()
    assert isinstance(cursor, sqlite3.Cursor)
    assert cursor.connection is client
    cursor.execute("select title from movies where title = ?", ("Ran",))
    assert cursor.fetchone() == ("Ran",)
    with client as entered:
        assert entered is client
        client.execute("insert into movies values ('Alien')")
        assert client.in_transaction
    assert not client.in_transaction
    assert client.total_changes >= 1
    client.row_factory = sqlite3.Row
    assert client.execute("select title from movies").fetchone()["title"] == "Heat"
    before = counts(of)
    error = raised(client.execute, "select nope")
    assert (type(error), error.args) == (sqlite3.OperationalError, ("no such column: nope",))
    assert counts(of)["failure"] == before.get("failure", 0) + 1
    idle(of)


def test_a_transaction_that_fails_is_rolled_back_while_the_circuit_is_open(database: Any) -> None:
    of = policy(circuit_breaker(failure_threshold=1))
    client = of.wrap(database)

    def block() -> None:
        with client:
            client.execute("insert into movies values ('Alien')")
            raised(client.execute, "select nope")
            assert of.state == "open"
            client.execute("insert into movies values ('Brazil')")

    assert type(raised(block)) is CircuitOpenError
    assert not database.in_transaction
    assert database.execute("select count(*) from movies").fetchone() == (2,)


def test_c_code_takes_a_wrapped_client_as_its_argument(database: Any) -> None:
    of = guards()
    other = sqlite3.connect(":memory:")
    of.wrap(database).backup(of.wrap(other))
    assert other.execute("select count(*) from movies").fetchone() == (2,)
    other.close()


def test_a_connection_that_is_bound_to_its_thread_says_so_itself() -> None:
    of = own_slot(timeout(5, sync="thread"))
    bare = sqlite3.connect(":memory:")
    try:
        error = raised(of.wrap(bare).execute, "select 1")
        assert type(error) is sqlite3.ProgrammingError
        assert "thread" in str(error)
    finally:
        bare.close()


@pytest.fixture
def server() -> Iterator[str]:
    """An XML-RPC server on loopback."""
    serves = SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False, allow_none=True)
    serves.register_function(pow)
    serves.register_function(lambda a, b: a + b, "math.add")
    serves.register_introspection_functions()

    def fails() -> None:
        raise ValueError("no")

    serves.register_function(fails)
    thread = threading.Thread(target=serves.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{serves.server_address[1]}"
    serves.shutdown()
    serves.server_close()
    thread.join()


def test_a_client_whose_every_name_is_a_method(server: str) -> None:
    of = own_slot()
    with xmlrpc.client.ServerProxy(server, allow_none=True) as bare:
        client = of.wrap(bare)
        assert client.pow(2, 3) == 8
        assert client.pow(2, 4) == 16
        assert counts(of) == {"success": 2}
        assert client.math.add(1, 2) == 3
        assert "pow" in client.system.listMethods()
        assert counts(of) == {"success": 4}
        error = raised(client.fails)
        assert type(error) is xmlrpc.client.Fault
        assert counts(of) == {"success": 4, "failure": 1}
        assert repr(client) == repr(bare)
        with client as entered:
            assert entered is client
            assert entered.pow(2, 5) == 32
        idle(of)


def test_a_server_that_is_gone_opens_the_circuit(server: str) -> None:
    of = policy(circuit_breaker(failure_threshold=3))
    gone = server.rpartition(":")[0] + ":9"
    with xmlrpc.client.ServerProxy(gone) as bare:
        client = of.wrap(bare)
        for _ in range(3):
            assert isinstance(raised(client.pow, 2, 3), OSError)
        assert type(raised(client.math.add, 2, 3)) is CircuitOpenError
