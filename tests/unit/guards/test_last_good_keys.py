"""What calls are told apart by, however they are made."""

from __future__ import annotations

import asyncio
import functools
import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from resilient import DeclarationWarning, Policy, circuit_breaker, last_good, retry
from resilient.guards.asked import Asked
from resilient.guards.last_good.keys import key_of
from tests.kit.policies import policy

Make = Callable[..., Any]


class Down(ConnectionError):
    """The dependency is down."""


class Switch:
    """What every function here looks at before it answers."""

    down = False

    def check(self) -> None:
        if self.down:
            raise Down


@pytest.fixture
def state() -> Switch:
    return Switch()


def kept(of: Policy) -> int:
    return int(of.snapshot()["guards"][0]["entries"])


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (((1,), {}), ((), {"a": 1})),
        (((1,), {}), ((1, 2), {})),
        (((1,), {}), ((1,), {"c": 3})),
        (((1,), {"b": 2, "c": 3}), ((), {"c": 3, "b": 2, "a": 1})),
    ],
)
def test_the_same_call_however_it_is_written(first: Any, again: Any, state: Switch) -> None:
    of = policy(last_good())

    @of
    def find(a: int, b: int = 2, *, c: int = 3) -> tuple[int, int, int]:
        state.check()
        return a, b, c

    assert find(*first[0], **first[1]) == (1, 2, 3)
    assert find(*again[0], **again[1]) == (1, 2, 3)
    assert kept(of) == 1
    state.down = True
    for args, kwargs in (first, again):
        assert find(*args, **kwargs) == (1, 2, 3)
    with pytest.raises(Down):
        find(1, c=4)


def test_any_arguments(state: Switch) -> None:
    of = policy(last_good())

    @of
    def find(*args: int, **kwargs: int) -> Any:
        state.check()
        return args, kwargs

    find(1, 2, x=3, y=4)
    find(1, x=3)
    state.down = True
    assert find(1, 2, y=4, x=3) == ((1, 2), {"x": 3, "y": 4})
    assert find(1, x=3) == ((1,), {"x": 3})
    for args, kwargs in (((1, 2), {"x": 3}), ((2, 1), {"x": 3, "y": 4}), ((1, 2, ("x", 3)), {})):
        with pytest.raises(Down):
            find(*args, **kwargs)


@pytest.mark.parametrize(("one", "other"), [
    (1, True), (1, 1.0), (0, False), ((1, 2), (True, 2)), (((1,),), ((1.0,),)), ("a", b"a"),
])  # fmt: skip
def test_equal_is_not_the_same(one: Any, other: Any, state: Switch) -> None:
    find = policy(last_good())(lambda it: state.check() or repr(it))
    find(one)
    state.down = True
    assert find(one) == repr(one)
    with pytest.raises(Down):
        find(other)


def test_functions_of_one_policy_are_told_apart(state: Switch) -> None:
    of = policy(last_good())
    names = of(lambda it: state.check() or f"name of {it}")
    prices = of(lambda it: state.check() or f"price of {it}")
    names(1)
    state.down = True
    with pytest.raises(Down):
        prices(1)
    assert names(1) == "name of 1"


def test_lambdas_of_one_line_are_told_apart(state: Switch) -> None:
    """What they hold in their closures is in no argument."""
    of = policy(last_good())

    def fetch(user: str) -> str:
        return str(of.call(lambda: state.check() or f"data of {user}"))

    assert fetch("ana") == "data of ana"
    state.down = True
    with pytest.raises(Down):
        fetch("bo")


class Client:
    def __init__(self, state: Switch, name: str = "") -> None:
        self.state, self.name = state, name

    def find(self, it: int, size: int = 1) -> str:
        self.state.check()
        return f"{self.name}{it} {size}"

    async def afind(self, it: int) -> str:
        return self.find(it)

    def __call__(self, it: int) -> str:
        return self.find(it)

    def table(self, name: str) -> Client:
        return Client(self.state, f"{name} ")

    @property
    def orders(self) -> Client:
        return self.table("orders")


def test_the_object_of_a_method_does_not_count(state: Switch) -> None:
    of = policy(last_good())

    class Own(Client):
        found = of(Client.find)

        @of
        @classmethod
        def of_class(cls, it: int) -> str:
            state.check()
            return f"{cls.__name__} {it}"

        @of
        @staticmethod
        def plain(it: int) -> str:
            state.check()
            return f"plain {it}"

    Own(state).found(1)
    Own.of_class(2)
    Own.plain(3)
    state.down = True
    assert Own(state).found(it=1, size=1) == "1 1"
    assert Own(state).of_class(2) == "Own 2"
    assert Own(state).plain(3) == "plain 3"
    for ask in (lambda: Own(state).found(2), lambda: Own.of_class(3), lambda: Own.plain(2)):
        with pytest.raises(Down):
            ask()


def test_bound_methods_given_to_call(state: Switch) -> None:
    of = policy(last_good())
    of.call(Client(state).find, 1)
    state.down = True
    assert of.call(Client(state).find, it=1) == "1 1"
    with pytest.raises(Down):
        of.call(Client(state).find, 2)


def test_partials_are_taken_apart(state: Switch) -> None:
    of = policy(last_good())
    of.call(functools.partial(Client(state).find, 1), size=2)
    state.down = True
    assert of.call(Client(state).find, 1, 2) == "1 2"
    assert of.call(functools.partial(Client(state).find, size=2), it=1) == "1 2"
    with pytest.raises(Down):
        of.call(functools.partial(Client(state).find, 2), size=2)


def test_objects_that_are_called_are_told_apart(state: Switch) -> None:
    of = policy(last_good())
    one, other = Client(state, "one "), Client(state, "other ")
    assert of.call(Client.__call__, one, 1) == "one 1 1"
    wrapped = policy(last_good())
    a, b = wrapped.wrap(one, unless=["afind"]), wrapped.wrap(other, unless=["afind"])
    assert a(1) == "one 1 1"
    state.down = True
    assert a(1) == "one 1 1"
    with pytest.raises(Down):
        b(1)


def test_builtins(state: Switch) -> None:
    of = policy(last_good())
    assert of.call({"a": 1}.get, "a") == 1
    assert of.call(int, "7") == 7
    assert of.call(len, "abc") == 3
    assert of.call(max, 1, 2) == 2
    assert kept(of) == 4


@pytest.mark.parametrize("keyed", [False, True])
def test_a_wrapped_clients_objects_are_told_apart(state: Switch, keyed: bool) -> None:
    """The parts of a client have the same methods: two tables, two collections."""

    class Shop(Client):
        def __init__(self, state: Switch, name: str = "") -> None:
            super().__init__(state, name)
            self.users, self.orders_too = Client(state, "users "), Client(state, "orders ")

    options: Any = {"key": lambda it, size=1: it} if keyed else {}
    of = policy(last_good(**options), circuit_breaker(failure_threshold=50))
    client, other = (of.wrap(Shop(state, name), only=["find"]) for name in ("one ", "other "))
    assert (client.users.find(1), client.find(1)) == ("users 1 1", "one 1 1")
    state.down = True
    assert (client.users.find(it=1), client.find(1, size=1)) == ("users 1 1", "one 1 1")
    for ask in (client.orders_too.find, other.find, other.users.find):
        with pytest.raises(Down):
            ask(1)


def test_what_a_call_has_handed_out_is_not_answered(state: Switch) -> None:
    """A cursor, a pipeline: what it returns depends on what it was asked before."""

    class Cursor:
        def __init__(self, db: object) -> None:
            self.db, self.text = db, ""

        def execute(self, text: str) -> None:
            state.check()
            self.text = text

        def fetch(self) -> str:
            state.check()
            return f"rows of {self.text}"

    class Db:
        def cursor(self) -> Cursor:
            return Cursor(self)

    of = policy(last_good(), circuit_breaker(failure_threshold=50))
    cursor = of.wrap(Db(), unless=["cursor.execute"]).cursor()
    cursor.execute("one")
    assert cursor.fetch() == "rows of one"
    cursor.execute("two")
    state.down = True
    with pytest.raises(Down):
        cursor.fetch()
    assert of.snapshot()["guards"][0]["not_kept"]["handed_out"] >= 1


def undressed(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate without functools.wraps."""

    def called(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return called


def test_no_argument_is_taken_for_an_object(state: Switch) -> None:
    """What a name says is not enough: it must be the object of that very method."""

    class Own(Client):
        dressed = undressed(Client.find)

    def load(cls: type, it: str) -> Any:
        state.check()
        return cls(it)

    def injecting(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def called(*args: Any) -> Any:
            return fn("context", *args)

        return called

    @injecting
    def fetch(self: str, it: int) -> str:
        state.check()
        return f"{self} {it}"

    @functools.wraps(Client.find)
    def aside(it: int) -> str:
        state.check()
        return f"aside {it}"

    of = policy(last_good(), circuit_breaker(failure_threshold=50))
    own, guarded_load = Own(state), of(load)
    wrapped = of.wrap(Own(state), only=["dressed"])
    guarded_fetch, guarded_aside = of(fetch), of(aside)
    calls: list[tuple[Callable[[], Any], Callable[[], Any]]] = [
        (lambda: of.call(own.dressed, 1), lambda: of.call(own.dressed, 2)),
        (lambda: wrapped.dressed(1), lambda: wrapped.dressed(2)),
        (lambda: guarded_load(int, "7"), lambda: guarded_load(str, "7")),
        (lambda: guarded_fetch(1), lambda: guarded_fetch(2)),
        (lambda: guarded_aside(1), lambda: guarded_aside(2)),
    ]
    before = [first() for first, _ in calls]
    state.down = True
    for (first, second), value in zip(calls, before, strict=True):
        assert first() == value
        with pytest.raises(Down):
            second()


def test_the_signature_is_that_of_what_is_called(state: Switch) -> None:
    def inner(it: int, page: int = 1) -> str:
        state.check()
        return f"{it} {page}"

    @functools.wraps(inner)
    def called(it: int, page: int = 2) -> str:
        return inner(it, page)

    find = policy(last_good())(called)
    assert find(1) == "1 2"
    state.down = True
    assert find(1, 2) == "1 2"
    with pytest.raises(Down):
        find(1, 1)


def test_the_class_of_the_object_counts(state: Switch) -> None:
    class Model:
        @last_good
        @classmethod
        def get(cls, it: int) -> str:
            state.check()
            return f"{cls.__name__} {it}"

        @last_good
        def show(self) -> str:
            state.check()
            return type(self).__name__

    class User(Model):
        pass

    class Order(Model):
        pass

    assert (User.get(1), User().show()) == ("User 1", "User")
    state.down = True
    assert (User.get(1), User().show()) == ("User 1", "User")
    for ask in (lambda: Order.get(1), Order().show):
        with pytest.raises(Down):
            ask()


def test_with_a_key_functions_are_still_apart(state: Switch) -> None:
    """Two of one name are two: made in a loop, lambdas, objects, what a partial binds."""
    of = policy(last_good(key=lambda *given: given[-1]))

    def made(url: str) -> Callable[[int], str]:
        @of
        def get(it: int) -> str:
            state.check()
            return f"{url}/{it}"

        return get

    first, second = made("a"), made("b")
    assert first(1) == "a/1"
    state.down = True
    assert first(1) == "a/1"
    with pytest.raises(Down):
        second(1)


def test_key_gets_what_a_partial_binds(state: Switch) -> None:
    of = policy(last_good(key=lambda place, it: (place, it)))

    def get(place: str, it: int) -> str:
        state.check()
        return f"{place} {it}"

    of.call(functools.partial(get, "a"), 1)
    state.down = True
    assert of.call(functools.partial(get, "a"), 1) == "a 1"
    with pytest.raises(Down):
        of.call(functools.partial(get, "b"), 1)


def test_a_wrong_call_is_not_answered(state: Switch) -> None:
    def find(it: int = 1, /, size: int = 2) -> int:
        state.check()
        return it

    guarded: Any = policy(last_good(), circuit_breaker(ignore=TypeError))(find)
    guarded(5)
    with pytest.raises(TypeError):
        guarded(it=5)


def test_a_view_with_another_key_keeps_apart(state: Switch) -> None:
    of = policy(last_good(key=lambda a, b: b), circuit_breaker())
    view = of.with_(last_good(key=lambda a, b: a))

    def find(a: int, b: int) -> tuple[int, int]:
        state.check()
        return a, b

    view.call(find, 1, 2)
    state.down = True
    assert view.call(find, 1, 9) == (1, 2)
    with pytest.raises(Down):
        of.call(find, 3, 2)


def test_clients_are_not_kept_alive(state: Switch) -> None:
    of = policy(last_good())
    client = Client(state)
    seen = weakref.ref(client)
    of.wrap(client, only=["find"]).find(1)
    del client
    gc.collect()
    assert seen() is None


def test_a_wrapped_clients_methods_are_told_apart() -> None:
    class Shop:
        down = False

        def price(self, it: int) -> str:
            return self._answer(f"price {it}")

        def stock(self, it: int) -> str:
            return self._answer(f"stock {it}")

        def __getattr__(self, name: str) -> Any:
            if name != "made":
                raise AttributeError(name)
            return lambda it: self._answer(f"made {it}")

        def _answer(self, it: str) -> str:
            if self.down:
                raise Down
            return it

    shop = Shop()
    with pytest.warns(DeclarationWarning, match=r"also those that write.*only=\["):
        client = policy(last_good()).wrap(shop)
    client.price(1)
    client.made(1)
    shop.down = True
    assert (client.price(1), client.made(1)) == ("price 1", "made 1")
    with pytest.raises(Down):
        client.stock(1)


def test_what_cant_be_hashed_is_not_kept(state: Switch, caplog: pytest.LogCaptureFixture) -> None:
    of = policy(last_good(), circuit_breaker())

    @of
    def find(it: Any) -> int:
        state.check()
        return 1

    assert [find([1]) for _ in range(3)] == [1] * 3
    state.down = True
    with pytest.raises(Down):
        find([1])
    told = of.snapshot()["guards"][0]
    assert (told["not_kept"]["unhashable"], told["entries"]) == (3, 0)
    assert told["answers"]["missing"] == 1
    said = [str(each.exc_info) for each in caplog.records if "logged once" in each.message]
    assert len(said) == 1
    assert "unhashable type: 'list': key=... says what such a call is told apart by" in said[0]


def test_key_says_what_counts(state: Switch) -> None:
    of = policy(last_good(key=lambda self, it, trace=None: (self.name, tuple(it))))

    class Own(Client):
        @of
        def all(self, it: list[int], trace: object = None) -> Any:
            self.state.check()
            return [self.name, *it]

    Own(state, "ana").all([1, 2], trace=object())
    state.down = True
    assert Own(state, "ana").all([1, 2]) == ["ana", 1, 2]
    for name, it in (("bo", [1, 2]), ("ana", [1])):
        with pytest.raises(Down):
            Own(state, name).all(it)


def test_key_leaves_functions_apart(state: Switch) -> None:
    of = policy(last_good(key=lambda it: it))

    @of
    def names(it: int) -> str:
        state.check()
        return f"name {it}"

    @of
    def prices(it: int) -> str:
        state.check()
        return f"price {it}"

    names(1)
    state.down = True
    assert names(1) == "name 1"
    with pytest.raises(Down):
        prices(1)


def test_a_key_that_cant_take_the_arguments_is_refused() -> None:
    with pytest.raises(TypeError, match=r"key .*can't be called with the arguments of"):

        @last_good(key=lambda it: it)
        def find(it: int, more: int) -> int:
            return it


def test_a_key_that_fails_costs_no_call(state: Switch, caplog: pytest.LogCaptureFixture) -> None:
    of = policy(last_good(key=lambda it: it.name), circuit_breaker())
    find = of(lambda it: state.check() or it)
    assert [find(1) for _ in range(3)] == [1] * 3
    state.down = True
    with pytest.raises(Down):
        find(1)
    told = of.snapshot()["guards"][0]
    assert (told["not_kept"]["fault"], told["answers"]["fault"]) == (3, 1)
    assert len([each for each in caplog.records if "logged once" in each.message]) == 2


def test_arguments_that_are_odd(state: Switch) -> None:
    @dataclass(frozen=True)
    class User:
        name: str

    class Odd:
        def __hash__(self) -> int:
            raise RuntimeError("no")

    of = policy(last_good(), circuit_breaker())
    find = of(lambda it: state.check() or "found")
    find(User("ana"))
    find(Odd())
    state.down = True
    assert find(User("ana")) == "found"
    for it in (User("bo"), Odd()):
        with pytest.raises(Down):
            find(it)
    assert of.snapshot()["guards"][0]["not_kept"]["fault"] == 1


def test_a_decorator_of_its_own_between(state: Switch) -> None:
    """Its signature is not that of what it wraps."""

    def with_session(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def called(it: int) -> Any:
            return fn("session", it)

        return called

    of = policy(last_good(), retry(on=Down, wait_initial=0))

    @of
    @with_session
    def find(session: str, it: int) -> str:
        state.check()
        return f"{session} {it}"

    find(1)  # type: ignore[call-arg, arg-type]
    state.down = True
    assert find(1) == "session 1"  # type: ignore[call-arg, arg-type]
    with pytest.raises(Down):
        find(2)  # type: ignore[call-arg, arg-type]


def test_no_function_is_kept_alive() -> None:
    of = policy(last_good())

    def local(it: int) -> int:
        return it

    seen = weakref.ref(local)
    of.call(local, 1)
    del local
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize("fn", [len, "a".upper, {}.get, print, int, functools.partial(int, "7")])
def test_a_key_can_be_hashed(fn: Callable[..., Any]) -> None:
    hash(key_of(Asked(fn, (), {}, 0.0)))


@pytest.mark.parametrize("wrapped", [False, True])
def test_try_call_of_what_the_policy_guards_already(state: Switch, wrapped: bool) -> None:
    """The guards act once, and the object of a method is there."""
    of = policy(last_good(max_age=60, key=lambda *given: given), retry(on=Down, wait_initial=0))
    asked: list[int] = []

    class Shop:
        def load(self, user: str, page: int = 0) -> str:
            asked.append(1)
            state.check()
            return f"of {user}"

        async def aload(self, user: str) -> str:
            return self.load(user)

    if not wrapped:
        Shop.load = of(Shop.load)  # type: ignore[method-assign]
    shop = of.wrap(Shop(), only=["load", "aload"]) if wrapped else Shop()
    assert of.try_call(shop.load, "ana").value == "of ana"
    state.down = True
    asked.clear()
    found = of.try_call(shop.load, "ana")
    assert (found.value, found.served, found.attempts) == (
        "of ana",
        "degraded",
        1 if wrapped else 3,
    )
    assert found.stale_for is not None
    assert len(asked) == found.attempts
    other = of.try_call(shop.load, "bo", 0)
    assert (other.value, other.served) == (None, "error")
    view = of.with_(retry(on=Down, attempts=2, wait_initial=0, idempotent=True))
    asked.clear()
    assert (view.try_call(shop.load, "bo").attempts, len(asked)) == (2, 2)
    if wrapped:
        assert asyncio.run(of.atry_call(shop.aload, "bo")).attempts == 1


@pytest.mark.parametrize("status", [404, 500])
def test_an_error_of_http_does_not_replace_a_good_answer(status: int) -> None:
    answers = [200, status, ConnectionError("down")]

    class Answering(requests.adapters.BaseAdapter):
        def send(self, request: Any, *given: Any, **options: Any) -> Any:
            found = answers.pop(0)
            if isinstance(found, Exception):
                raise found
            answer = requests.Response()
            answer.status_code, answer.url, answer._content = found, request.url, b"body"
            answer.request = request
            return answer

        def close(self) -> None:
            pass

    of = policy(last_good(), circuit_breaker())
    with requests.Session() as session:
        session.mount("mock://", Answering())
        client = of.wrap(session)
        codes = [client.get("mock://here/").status_code for _ in range(3)]
    assert codes == [200, 404 if status == 404 else 200, 200]
    assert of.snapshot()["guards"][0]["not_kept"]["error"] == (status == 404)


def test_a_parameter_called_self_is_no_object(state: Switch) -> None:
    """It must be a method of that very object."""
    of = policy(last_good())

    def find(self: int, it: int) -> tuple[int, int]:
        state.check()
        return self, it

    guarded = of(find)
    guarded(1, 5)
    state.down = True
    assert guarded(1, 5) == (1, 5)
    with pytest.raises(Down):
        guarded(2, 5)


def test_key_gets_the_object_also_by_try_call(state: Switch) -> None:
    of = policy(last_good(key=lambda self, user, page=0: (self.name, user, page)))

    class Own(Client):
        @of
        def load(self, user: str, page: int = 0) -> str:
            self.state.check()
            return f"{self.name} {user} {page}"

    ana, bo = Own(state, "ana"), Own(state, "bo")
    assert of.try_call(ana.load, "x").value == "ana x 0"
    state.down = True
    assert of.try_call(ana.load, "x").value == "ana x 0"
    assert ana.load("x") == "ana x 0"
    assert of.try_call(bo.load, "x").served == "error"
