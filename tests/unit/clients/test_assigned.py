"""What is put on a client, and put back: by tests, by instrumentation, by mocks."""

from __future__ import annotations

import asyncio
import functools
from typing import Any
from unittest import mock

import pytest

from tests.kit.policies import counts
from tests.unit.clients.kit import guards


class Client:
    def __init__(self, name: str = "x") -> None:
        self.name = name
        self.own = lambda key: f"own {key} of {name}"

    def get(self, key: int) -> str:
        return f"{self.name}{key}"

    async def aget(self, key: int) -> str:
        return f"{self.name}{key}"

    def items(self, key: int) -> Any:
        yield f"{self.name}{key}"

    @classmethod
    def made(cls, key: int) -> str:
        return f"{cls.__name__}{key}"

    @staticmethod
    def plain(key: int) -> str:
        return f"plain{key}"


def called(client: Any, name: str) -> Any:
    value = getattr(client, name)(1)
    if name == "aget":
        return asyncio.run(_awaited(value))
    return list(value) if name == "items" else value


async def _awaited(value: Any) -> Any:
    return await value


NAMES = ("get", "aget", "items", "made", "plain", "own")
names = pytest.mark.parametrize("name", NAMES)


@names
def test_what_was_read_is_put_back(name: str) -> None:
    bare = Client()
    want = called(bare, name)
    client = guards().wrap(bare)
    for _ in range(3):
        before = getattr(client, name)
        setattr(client, name, lambda key: "fake")
        assert client.__wrapped__.__dict__[name](1) == "fake"
        setattr(client, name, before)
        assert called(client, name) == want
        assert called(bare, name) == want


@names
def test_what_was_read_goes_on_as_it_was_read(name: str) -> None:
    client = guards().wrap(Client())
    want = called(Client(), name)
    before = getattr(client, name)
    setattr(client, name, lambda key: "fake")
    value = before(1)
    if name == "aget":
        value = asyncio.run(_awaited(value))
    assert (list(value) if name == "items" else value) == want


@names
def test_it_is_the_same_on_the_bare_client(name: str) -> None:
    ends = []
    for client in (Client(), guards().wrap(Client())):
        before = getattr(client, name)
        seen = []

        @functools.wraps(before)
        def traced(*args: Any, before: Any = before, seen: Any = seen) -> Any:
            seen.append(args)
            return before(*args)

        setattr(client, name, traced)
        ends.append((called(client, name), seen))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("name", ["get", "made", "plain", "own"])
@pytest.mark.parametrize("at", ["proxy", "bare", "class"])
@pytest.mark.parametrize("read", [False, True])
def test_mocks_show_on_no_other_client_and_leave_nothing(name: str, at: str, read: bool) -> None:
    if (name, at) == ("own", "class"):
        return
    of = guards()
    bare, other = Client("a"), of.wrap(Client("b"))
    client = of.wrap(bare)
    wants = called(Client("a"), name), called(Client("b"), name)
    if read:
        assert (called(client, name), called(other, name)) == wants
    held = dict(vars(bare))
    where = {"proxy": client, "bare": bare, "class": Client}[at]
    with mock.patch.object(where, name) as mocked:
        mocked.return_value = "mocked"
        assert getattr(client, name)(1) == "mocked"
        assert getattr(bare, name)(1) == "mocked"
        assert (called(other, name) == "mocked") is (at == "class")
    assert (called(client, name), called(other, name)) == wants
    assert called(bare, name) == wants[0]
    assert vars(bare) == held


def test_a_mock_that_wraps_counts_what_it_is_called_with() -> None:
    client = guards().wrap(Client())
    with mock.patch.object(client, "get", wraps=client.get) as mocked:
        assert client.get(1) == "x1"
    mocked.assert_called_once_with(1)
    assert client.get(2) == "x2"


def test_autospec() -> None:
    of = guards()
    client = of.wrap(Client())
    assert client.get(1) == "x1"
    with mock.patch.object(client, "get", autospec=True) as mocked:
        mocked.return_value = "spec"
        assert client.get(1) == "spec"
        with pytest.raises(TypeError):
            client.get()
    assert client.get(1) == "x1"


def test_deleting_restores() -> None:
    client = guards().wrap(Client())
    assert client.get(1) == "x1"
    client.get = lambda key: "fake"
    assert client.get(1) == "fake"
    del client.get
    assert client.get(1) == "x1"
    with pytest.raises(AttributeError):
        del client.get


def test_a_method_of_one_client_on_another() -> None:
    of = guards()
    one, two = of.wrap(Client("a")), of.wrap(Client("b"))
    two.get = one.get
    assert (one.get(1), two.get(1)) == ("a1", "a1")
    del two.get
    assert (one.get(1), two.get(1)) == ("a1", "b1")
    assert counts(of) == {"success": 4}
