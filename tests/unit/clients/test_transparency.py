"""Apart from its calls a wrapped client behaves as the bare one."""

from __future__ import annotations

import collections.abc
import copy
import functools
import gc
import inspect
import pickle
import weakref
from typing import Any, Protocol, runtime_checkable
from unittest import mock

import pytest

from resilient import bulkhead
from tests.kit.policies import counts, policy, raised
from tests.unit.clients.kit import Client, guards, own_slot


def pair() -> tuple[Client, Client]:
    """Return a bare client and a wrapped one, alike."""
    return Client(), own_slot().wrap(Client())


def same_error(fn: Any, *, addresses: bool = False) -> None:
    bare, client = pair()
    want, got = raised(fn, bare), raised(fn, client)
    assert type(got) is type(want)
    assert str(got) == str(want)


def test_types() -> None:
    bare, client = pair()
    assert isinstance(client, Client)
    assert client.__class__ is Client
    assert issubclass(client.__class__, Client)
    assert isinstance(client.sub, type(bare.sub))
    assert not isinstance(client, dict)
    for abc in (
        "Iterable",
        "Iterator",
        "Sized",
        "Callable",
        "Hashable",
        "Container",
        "Mapping",
        "Awaitable",
    ):
        kind = getattr(collections.abc, abc)
        assert isinstance(client, kind) == isinstance(bare, kind), abc
        assert isinstance(client.sub, kind) == isinstance(bare.sub, kind), abc
    assert callable(client)
    assert not callable(client.sub)


def test_protocols() -> None:
    @runtime_checkable
    class Finds(Protocol):
        def find(self, title: str) -> str: ...

    @runtime_checkable
    class Loses(Protocol):
        def lose(self, title: str) -> str: ...

    _, client = pair()
    assert isinstance(client, Finds)
    assert not isinstance(client, Loses)


def test_missing_attributes_say_what_the_bare_client_says() -> None:
    for look in (lambda c: c.nothing, lambda c: c.sub.nothing, lambda c: delattr(c, "nothing"),
                 lambda c: delattr(c.sub, "nothing")):  # fmt: skip
        same_error(look)
    _, client = pair()
    assert not hasattr(client, "nothing")
    assert not hasattr(client.sub, "nothing")
    assert getattr(client, "nothing", 7) == 7
    assert hasattr(client, "do_anything")
    assert hasattr(client, "sub")


def test_attributes_are_set_and_deleted_on_the_client() -> None:
    _, client = pair()
    client.timeout = 3
    assert (client.timeout, client.__wrapped__.timeout) == (3, 3)
    client.__wrapped__.timeout = 4
    assert client.timeout == 4
    del client.timeout
    assert not hasattr(client, "timeout")
    assert not hasattr(client.__wrapped__, "timeout")
    client.sub.rows = [1]
    assert client.__wrapped__.sub.rows == [1]
    client.sub = client.sub
    assert type(client.__wrapped__.sub).__name__ == "Part"
    assert type(client.__wrapped__.sub) is client.sub.__class__


def test_a_property_with_a_setter() -> None:
    class Settable:
        _size = 1

        @property
        def size(self) -> int:
            return self._size

        @size.setter
        def size(self, value: int) -> None:
            if value < 0:
                raise ValueError("too small")
            self._size = value

        def find(self) -> None: ...

    client = own_slot().wrap(Settable())
    client.size = 5
    assert client.size == client._size == 5
    assert raised(setattr, client, "size", -1).args == ("too small",)
    assert type(raised(delattr, client, "size")) is AttributeError


def test_another_policys_client_that_is_set_as_an_attribute_stays_guarded() -> None:
    outer, inner = own_slot(), own_slot()
    client = outer.wrap(Client())
    backend = inner.wrap(Client())
    client.backend = backend
    assert client.__wrapped__.backend is backend
    client.__wrapped__.backend.find("x")
    assert counts(inner) == {"success": 1}


def test_vars_dir_and_words() -> None:
    bare, client = pair()
    assert vars(client) is vars(client.__wrapped__)
    assert dir(client) == dir(client.__wrapped__)
    assert (repr(client), str(client), f"{client}") == (
        repr(client.__wrapped__), str(client.__wrapped__), f"{client.__wrapped__}",
    )  # fmt: skip
    assert client.__doc__ == bare.__doc__
    assert client.__module__ == bare.__module__
    assert not hasattr(client, "__name__")


def test_comparing_hashing_and_membership() -> None:
    _, client = pair()
    bare = client.__wrapped__
    assert client == bare
    assert bare == client
    assert not client != bare
    assert not bare != client
    assert client != Client()
    assert hash(client) == hash(bare)
    assert {client: 1}[bare] == 1
    assert {bare: 1}[client] == 1
    assert client in [bare]
    assert bare in {client}
    assert len({client, bare}) == 1
    assert raised(lambda: client < bare).args == (
        "'<' not supported between instances of 'Client' and 'Client'",
    )


class Number:
    """A client with every operator."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: int) -> None:
        self.value = value

    def find(self) -> int:
        return self.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Number) and other.value == self.value

    def __lt__(self, other: Number) -> bool:
        return self.value < other.value

    def __add__(self, other: Any) -> Number:
        if not isinstance(other, Number):
            return NotImplemented
        return Number(self.value + other.value)

    def __radd__(self, other: int) -> Number:
        return Number(other + self.value)

    def __iadd__(self, other: Number) -> Number:
        self.value += other.value
        return self

    def __neg__(self) -> Number:
        return Number(-self.value)

    def __bool__(self) -> bool:
        return self.value != 0

    def __len__(self) -> int:
        return self.value

    def __iter__(self) -> Any:
        return iter(range(self.value))

    def __reversed__(self) -> Any:
        return reversed(range(self.value))

    def __contains__(self, what: int) -> bool:
        return what < self.value

    def __int__(self) -> int:
        return self.value

    def __index__(self) -> int:
        return self.value

    def __float__(self) -> float:
        return float(self.value)

    def __round__(self, digits: int = 0) -> int:
        return self.value

    def __matmul__(self, other: Any) -> str:
        return "at"

    def __divmod__(self, other: int) -> tuple[int, int]:
        return divmod(self.value, other)

    def __format__(self, spec: str) -> str:
        return f"Number {self.value}{spec}"

    def __bytes__(self) -> bytes:
        return b"number"

    def __fspath__(self) -> str:
        return "/number"

    def __length_hint__(self) -> int:
        return 9

    def __dir__(self) -> list[str]:
        return ["a", "b"]


OPERATIONS = [
    lambda n: (n + Number(1)).value, lambda n: (Number(1) + n).value, lambda n: (n + n).value,
    lambda n: (2 + n).value, lambda n: (-n).value, bool, len, list, lambda n: list(reversed(n)),
    lambda n: 2 in n, lambda n: 9 in n, int, float, round, lambda n: n @ 1, lambda n: divmod(n, 2),
    lambda n: f"{n:!}", format, bytes, lambda n: __import__("os").fspath(n), lambda n: [0] * 9 if n else [],
    lambda n: list(range(9))[n], dir, lambda n: n == Number(3), lambda n: Number(3) == n, lambda n: n != Number(3),
    lambda n: n < Number(4), lambda n: n > Number(4), lambda n: sorted([Number(9), n])[0].value,  # noqa: FURB192 - sorted() is what is tested
    lambda n: n + "x", lambda n: n - 1, lambda n: n <= n, hash, lambda n: {n}, lambda n: n[0], lambda n: n(),
    lambda n: n.__len__(), lambda n: isinstance(n, collections.abc.Hashable), lambda n: next(n), abs,
    lambda n: n.__init__(8) or n.value,
]  # fmt: skip


@pytest.mark.parametrize("place", range(len(OPERATIONS)))
def test_operators(place: int) -> None:
    ends = []
    for number in (Number(3), own_slot().wrap(Number(3))):
        try:
            ends.append(("value", OPERATIONS[place](number)))
        except Exception as error:
            ends.append((type(error), str(error)))
    assert ends[0] == ends[1]


def test_an_augmented_assignment_keeps_the_proxy() -> None:
    client = own_slot().wrap(Number(3))
    before = client
    client += Number(4)
    assert client is before
    assert client.find() == 7


def test_identity() -> None:
    _, client = pair()
    assert client.sub is client.sub
    assert client.sub is client.users
    assert client.sub.parent is client
    assert client.called is client.called
    first = client.clone()
    assert first.sub.parent is first
    assert client.find == client.find


def test_copies() -> None:
    of = own_slot()
    client = of.wrap(Client())
    for made in (copy.copy(client), copy.deepcopy(client)):
        assert isinstance(made, Client)
        assert made.__wrapped__ is not client.__wrapped__
        made.noted = []
        made.find("x")
        assert client.noted == []
    assert counts(of) == {"success": 2}
    deep = copy.deepcopy(client)
    assert deep.sub.parent is deep
    held = copy.deepcopy({"client": client, "bare": client.__wrapped__})
    assert held["client"].__wrapped__ is held["bare"]


def test_pickling_is_refused_with_the_way_out() -> None:
    _, client = pair()
    for refuse in (pickle.dumps, lambda c: c.__reduce_ex__(4), lambda c: pickle.dumps({"c": [c]})):
        error = raised(refuse, client)
        assert type(error) is TypeError
        assert "__wrapped__" in str(error)
        assert "Client" in str(error)


def test_weak_references() -> None:
    _, client = pair()
    seen = weakref.WeakKeyDictionary({client: 1})
    assert seen[client] == 1
    ref = weakref.ref(client)
    assert ref() is client


METHODS = [
    "find",
    "afind",
    "later",
    "items",
    "aitems",
    "lent",
    "alent",
    "named",
    "doubled",
    "clone",
    "close",
]
QUESTIONS = [
    inspect.signature, inspect.iscoroutinefunction, inspect.isgeneratorfunction,
    inspect.isasyncgenfunction, inspect.ismethod, inspect.isfunction, inspect.getdoc, callable,
    lambda m: m.__name__, lambda m: m.__qualname__, lambda m: m.__module__, lambda m: m.__doc__,
    lambda m: inspect.unwrap(m).__name__, lambda m: m.__annotations__,
]  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("options", [{}, {"only": "find"}, {"unless": "find"}], ids=str)
def test_inspect_sees_the_method(name: str, options: dict[str, Any]) -> None:
    bare = Client()
    client = own_slot().wrap(Client(), **options)
    for _ in range(2):
        for ask in QUESTIONS:
            assert ask(getattr(client, name)) == ask(getattr(bare, name)), ask


def test_inspect_sees_the_client() -> None:
    bare, client = pair()
    assert inspect.signature(client) == inspect.signature(bare)
    assert inspect.signature(client.called) == inspect.signature(bare.called)
    assert inspect.isclass(client) is False
    names = {name for name, _ in inspect.getmembers(client)}
    assert names >= {"find", "afind", "sub", "users"}


def test_dunder_attributes_are_the_clients() -> None:
    class Annotated:
        size: int

        def __init__(self, size: int) -> None:
            self.size = size

        def find(self) -> int:
            return self.size

    bare, client = Annotated(1), own_slot().wrap(Annotated(1))
    assert client.__annotations__ == bare.__annotations__
    assert hasattr(client, "__slots__") == hasattr(bare, "__slots__")
    assert client.__getstate__() == bare.__getstate__()
    client.__init__(7)
    assert client.find() == 7


def test_attributes_of_methods() -> None:
    class Cached:
        calls = 0

        @functools.lru_cache(maxsize=4)  # noqa: B019 - a cached method is what is tested
        def find(self, number: int) -> int:
            self.calls += 1
            return number

        def tagged(self) -> int:
            return 1

        @classmethod
        def made(cls) -> int:
            return 2

        tagged.tag = "t"  # type: ignore[attr-defined]
        made.__func__.tag = "c"  # type: ignore[attr-defined]

    client = own_slot().wrap(Cached())
    assert client.find(1) == client.find(1) == 1
    assert client.calls == 1
    assert client.find.cache_info().hits == 1
    client.find.cache_clear()
    assert client.find.cache_info().hits == 0
    assert client.tagged.tag == "t"
    assert client.made.tag == "c"


# -- mocks ---------------------------------------------


@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
@pytest.mark.parametrize("name", ["find", "function", "named"])
@pytest.mark.parametrize("where", ["proxy", "bare"])
def test_patch_object_on_an_instance(where: str, name: str, used: bool) -> None:
    client = guards().wrap(Client())
    bare = client.__wrapped__
    before = dict(vars(bare))
    if used:
        getattr(client, name)("x")
    with mock.patch.object(
        client if where == "proxy" else bare, name, return_value="mocked"
    ) as mocked:
        assert getattr(client, name)("y") == "mocked"
        assert getattr(bare, name)("z") == "mocked"
        assert mocked.mock_calls == [mock.call("y"), mock.call("z")]
        if (
            where == "proxy" or not used
        ):  # else the proxy has a method, which calls what is there now
            getattr(client, name).assert_called_with("z")
            assert getattr(client, name).call_count == 2
    assert getattr(client, name)("x") == getattr(Client(), name)("x")
    assert vars(bare).keys() == before.keys()


@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
@pytest.mark.parametrize("autospec", [False, True], ids=["mock", "autospec"])
def test_patch_object_on_the_class(used: bool, autospec: bool) -> None:
    of = guards()
    client = of.wrap(Client())
    if used:
        client.find("x")
    with mock.patch.object(Client, "find", autospec=autospec, return_value="mocked") as mocked:
        assert client.find("y") == "mocked"
        want = (client.__wrapped__, "y") if autospec else ("y",)
        assert mocked.mock_calls == [mock.call(*want)]
        if not used:
            client.find.assert_called_once()
        assert counts(of)["success"] == 1 + used
    assert client.find("x") == "x"


@pytest.mark.parametrize(
    ("where", "used"), [("proxy", True), ("proxy", False), ("bare", False), ("class", False)]
)
def test_a_method_that_is_replaced_by_data_or_taken_away(where: str, used: bool) -> None:
    class Small:
        def find(self) -> int:
            return 1

        def other(self) -> int:
            return 2

    client = own_slot().wrap(Small())
    if used:
        client.find()
    target = {"proxy": client, "bare": client.__wrapped__, "class": Small}[where]
    target.find = 5
    assert client.find == 5
    del target.find
    if where == "class":
        assert not hasattr(client, "find")
    else:
        assert client.find() == 1
    target.find = lambda *_: 6
    assert client.find() == 6
    target.find = lambda *_: 7
    assert client.find() == 7


def test_a_wrapped_mock() -> None:
    of = guards()
    bare = mock.Mock()
    client = of.wrap(bare)
    client.find.return_value = 3
    assert client.find("x") == 3
    bare.find.side_effect = OSError("down")
    assert type(raised(client.find, "y")) is OSError
    assert bare.find.mock_calls == [mock.call("x"), mock.call("y")]
    assert counts(of) == {"success": 1, "failure": 1}
    spec = mock.create_autospec(Client, instance=True)
    client = of.wrap(spec)
    assert isinstance(client, Client)
    spec.find.return_value = "spec"
    assert client.find("x") == "spec"
    assert type(raised(client.find)) is TypeError


def test_a_wrapped_mocks_own_assertions_are_no_calls(policies: Any) -> None:
    of = guards()
    bare = mock.Mock()
    client = of.wrap(bare)
    with policies.forced_open(of):
        raised(client.find, "x")
        client.find.assert_not_called()


def test_a_wrapped_async_mock() -> None:
    import asyncio

    of = own_slot()
    bare = mock.AsyncMock()
    bare.find.return_value = 3
    client = of.wrap(bare)

    async def body() -> None:
        assert await client.find("x") == 3

    asyncio.run(body())
    assert bare.find.mock_calls == [mock.call("x")]
    assert counts(of) == {"success": 1}


def test_the_traceback_ends_in_the_clients_own_code() -> None:
    class Fails:
        def find(self) -> None:
            raise LookupError("here")

    ends = []
    for client in (Fails(), guards().wrap(Fails())):
        error = raised(client.find)
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        assert trace is not None
        ends.append(
            (trace.tb_frame.f_code.co_name, trace.tb_lineno, error.__cause__, error.__context__)
        )
    assert ends[0] == ends[1]


def test_a_client_that_counts_its_copies_is_not_copied() -> None:
    class Precious:
        def __copy__(self) -> None:
            raise RuntimeError("not mine")

        def find(self) -> int:
            return 1

    client = policy(bulkhead(1)).wrap(Precious())
    assert client.find() == 1
    assert raised(copy.copy, client).args == ("not mine",)
    gc.collect()
