"""The same random sequence of uses, on a bare client and on a wrapped one, ends alike.

What a use gives is compared by its value, or as an error by its type, arguments and the function it
came from; then what reached the client, and what it holds. Parts and streams stay in a pool of
things that later uses pick from, on each side its own.
"""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import copy
import functools
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resilient import Policy, bulkhead, circuit_breaker, timeout
from tests.kit.policies import counts, idle, policy


class Row:
    """A record: told apart by its value."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Row) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]


class Table:
    """A part of the shop."""

    def __init__(self, shop: Shop, name: str) -> None:
        self.shop, self.name = shop, name

    def get(self, key: str, default: Any = None) -> Any:
        self.shop.log.append(("get", self.name, key))
        return self.shop.data.get(key, default)

    def put(self, key: str, value: int) -> Table:
        self.shop.log.append(("put", self.name, key, value))
        self.shop.data[key] = value
        return self

    def scan(self, number: int) -> Iterator[Row]:
        for each in range(number):
            self.shop.log.append(("scan", each))
            yield Row(each)

    def __getitem__(self, key: str) -> int:
        return self.shop.data[key]

    def __len__(self) -> int:
        return len(self.shop.data)

    def __repr__(self) -> str:
        return f"Table({self.name})"


class Cursor:
    """An iterator that is a context manager too."""

    def __init__(self, table: Table, number: int) -> None:
        self.table, self.left, self.open = table, number, True

    def __iter__(self) -> Cursor:
        return self

    def __next__(self) -> int:
        if not self.left:
            raise StopIteration
        if self.left == 3:
            self.left -= 1
            raise OSError(5, "bad page")
        self.left -= 1
        return self.left

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *exc: object) -> None:
        self.open = False

    def close(self) -> None:
        self.open = False


class Shop:
    """The client."""

    kind = "shop"
    _tables = 0

    def __init__(self, name: str = "main") -> None:
        self.name = name
        self.data: dict[str, int] = {"a": 1}
        self.log: list[Any] = []
        self.main = Table(self, "main")
        self.hook: Any = None
        self.upper = functools.partial(str.upper, "x")

    def table(self, name: str) -> Table:
        if name == "nope":
            raise LookupError("no table", name)
        return self.main if name == "main" else Table(self, name)

    def cursor(self, number: int) -> Cursor:
        return Cursor(self.main, number)

    def read(self, key: str, *, strict: bool = True) -> int | None:
        """Read a key."""
        self.log.append(("read", key))
        return self.data[key] if strict else self.data.get(key)

    def divide(self, a: int, b: int = 0) -> float:
        return a / b

    def echo(self, *args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    def many(self, number: int) -> Iterator[int]:
        """Generate, and learn what is sent."""
        for each in range(number):
            try:
                sent = yield each
            except ValueError as error:
                self.log.append(repr(error))
                sent = "thrown"
            if sent is not None:
                self.log.append(("sent", sent))
        return "end"

    @contextlib.contextmanager
    def session(self, fails: bool = False) -> Iterator[Table]:
        self.log.append("begin")
        if fails:
            raise ConnectionError("no session")
        try:
            yield self.main
        except KeyError:
            self.log.append("swallowed")
        finally:
            self.log.append("end")

    @property
    def size(self) -> int:
        return len(self.data)

    @size.setter
    def size(self, value: int) -> None:
        if value < 0:
            raise ValueError("size", value)
        self.data = {str(each): each for each in range(value)}

    @property
    def broken(self) -> int:
        raise RuntimeError("broken property")

    @functools.cached_property
    def cached(self) -> Table:
        self.log.append("cached")
        return Table(self, "cached")

    @classmethod
    def made(cls, name: str) -> Shop:
        return cls(name)

    @staticmethod
    def joined(*words: str) -> str:
        return "-".join(words)

    def clone(self) -> Shop:
        return type(self)(self.name + "'")

    def itself(self) -> Shop:
        return self

    def function(self, number: int) -> Callable[[], int]:
        return lambda: number

    def bound(self) -> Callable[..., Any]:
        return self.read

    async def aread(self, key: str) -> int:
        await asyncio.sleep(0)
        self.log.append(("aread", key))
        return self.data[key]

    def later(self, key: str) -> Any:
        return self.aread(key)

    async def amany(self, number: int) -> Any:
        for each in range(number):
            await asyncio.sleep(0)
            if each == 3:
                raise OSError("amany")
            yield each

    @contextlib.asynccontextmanager
    async def asession(self) -> Any:
        self.log.append("abegin")
        try:
            yield self.main
        finally:
            self.log.append("aend")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("rpc_"):
            return lambda *args: (name, args)
        raise AttributeError(f"{type(self).__name__} has no {name}")

    def __call__(self, key: str) -> int:
        return self.data[key]

    def __getitem__(self, key: str) -> int:
        return self.data[key]

    def __setitem__(self, key: str, value: int) -> None:
        self.data[key] = value

    def __delitem__(self, key: str) -> None:
        del self.data[key]

    def __contains__(self, key: object) -> bool:
        return key in self.data

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shop) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __add__(self, other: Any) -> Any:
        return self.name + other.name if isinstance(other, Shop) else NotImplemented

    def __repr__(self) -> str:
        return f"Shop({self.name})"

    def close(self) -> str:
        self.log.append("close")
        return "closed"


keys = st.sampled_from(["a", "b", "zz", "0"])
small = st.integers(-1, 5)
METHODS = ["read", "table", "many", "session", "made", "joined", "aread", "amany", "asession", "later", "echo",
           "close", "rpc_x", "nothing", "kind", "main", "size", "broken", "hook", "__len__", "_tables",
           "cached", "__call__", "__dict__", "__doc__"]  # fmt: skip
QUESTIONS = [
    callable, inspect.ismethod, inspect.isfunction, inspect.iscoroutinefunction, inspect.isgeneratorfunction,
    inspect.isasyncgenfunction, lambda v: str(inspect.signature(v)), lambda v: getattr(v, "__name__", None),
    lambda v: getattr(v, "__qualname__", None), inspect.getdoc, lambda v: isinstance(v, collections.abc.Iterable),
    lambda v: isinstance(v, collections.abc.Callable),
]  # fmt: skip

# A use is its name, which thing of the pool it is of, and its arguments.
uses = st.one_of(
    st.tuples(st.just("call"), st.sampled_from(["read", "table", "cursor", "divide", "many", "made", "joined", "clone",
              "itself", "close", "rpc_x", "nothing", "get", "put", "scan", "shop", "function", "bound", "upper", "hook"]),
              st.lists(st.one_of(keys, small, st.just("main"), st.just("nope")), max_size=2)),
    st.tuples(st.just("ask"), st.sampled_from(METHODS), st.integers(0, len(QUESTIONS) - 1)),
    st.tuples(st.just("set"), st.sampled_from(["hook", "size", "name", "kind", "broken", "read"]), small),
    st.tuples(st.just("delete"), st.sampled_from(["hook", "size", "nothing", "kind", "read"]), st.none()),
    st.tuples(st.just("item"), st.sampled_from(["get", "set", "del", "in"]), keys),
    st.tuples(st.just("look"), st.sampled_from(["repr", "str", "format", "len", "bool", "list", "dir", "vars", "hash",
              "eq", "ne", "add", "copy", "type", "iter", "float", "call", "sorted"]), st.none()),
    st.tuples(st.just("step"), st.sampled_from(["next", "send", "throw", "close", "list"]), small),
    st.tuples(st.just("with"), st.sampled_from(["plain", "fails", "KeyError", "OSError"]), keys),
    st.tuples(st.just("async"), st.sampled_from(["aread", "later", "amany", "asession"]), st.one_of(keys, small)),
    st.tuples(st.just("keep"), st.sampled_from(["main", "cached", "size", "itself", "upper"]), st.none()),
)  # fmt: skip


class Side:
    """One of the two clients, and what it handed out."""

    def __init__(self, client: Any) -> None:
        self.root = client
        self.pool: list[Any] = [client]
        self.loop = asyncio.new_event_loop()

    def do(self, use: tuple[str, str, Any], place: int) -> Any:
        kind, name, extra = use
        thing = self.pool[place % len(self.pool)]
        try:
            value = getattr(self, "on_" + kind)(thing, name, extra)
        except BaseException as error:
            return "raised", type(error), re.sub("0x[0-9a-f]+", "0x", str(error)), root_of(error)
        return "gave", self.shown(value)

    def shown(self, value: Any) -> Any:
        """Return what can be compared of a value; what lives on goes into the pool."""
        for number, known in enumerate(self.pool):
            if known is value:
                return "known", number
        if isinstance(value, (Shop, Table, Cursor)) or inspect.isgenerator(value):
            self.pool.append(value)
            return type(value).__name__, value.__class__.__name__ if not inspect.isgenerator(
                value
            ) else ""
        if isinstance(value, (list, tuple)):
            return type(value), [self.shown(each) for each in value]
        if isinstance(value, Row):
            return "row", value.value
        if isinstance(value, contextlib.AbstractContextManager):
            return "manager"
        if callable(value) or isinstance(value, collections.abc.Iterator):
            return "callable or iterator", callable(value)
        return value

    def on_call(self, thing: Any, name: str, args: list[Any]) -> Any:
        if name in (
            "many",
            "scan",
        ):  # with too few arguments a guarded one says so at its first step
            args = [*args, 3][:1]
        return getattr(thing, name)(*args)

    def on_ask(self, thing: Any, name: str, place: int) -> Any:
        return QUESTIONS[place](getattr(thing, name))

    def on_set(self, thing: Any, name: str, value: int) -> Any:
        if name == "read":
            thing.read = lambda *args: ("replaced", args)
        else:
            setattr(thing, name, value if name != "name" else f"n{value}")
        return getattr(thing, name)

    def on_delete(self, thing: Any, name: str, _: Any) -> Any:
        delattr(thing, name)
        return hasattr(thing, name)

    def on_item(self, thing: Any, name: str, key: str) -> Any:
        if name == "get":
            return thing[key]
        if name == "set":
            thing[key] = len(key)
            return thing[key]
        if name == "del":
            del thing[key]
            return None
        return key in thing

    def on_look(self, thing: Any, name: str, _: Any) -> Any:
        looks: dict[str, Callable[[], Any]] = {
            "repr": lambda: repr(thing) if isinstance(thing, (Shop, Table)) else None,
            "str": lambda: str(thing) if isinstance(thing, (Shop, Table)) else None,
            "format": lambda: f"{thing:>20}" if isinstance(thing, (Shop, Table)) else None,
            "len": lambda: len(thing), "bool": lambda: bool(thing), "list": lambda: list(thing),
            "dir": lambda: dir(thing), "vars": lambda: sorted(vars(thing)), "hash": lambda: hash(thing) == hash(thing),
            "eq": lambda: [thing == each for each in self.pool], "ne": lambda: [each != thing for each in self.pool],
            "add": lambda: thing + self.root, "copy": lambda: copy.copy(thing), "type": lambda: thing.__class__,
            "iter": lambda: iter(thing) is thing, "float": lambda: float(thing), "call": lambda: thing("a"),
            "sorted": lambda: sorted([thing, self.root]),
        }  # fmt: skip
        return looks[name]()

    def on_step(self, thing: Any, name: str, value: int) -> Any:
        if name == "next":
            return next(thing)
        if name == "send":
            return thing.send(value if value > 0 else None)
        if name == "throw":
            return thing.throw(ValueError("thrown"))
        if name == "close":
            return thing.close()
        return list(thing)

    def on_with(self, thing: Any, name: str, key: str) -> Any:
        with thing.session(name == "fails") as table:
            if name == "KeyError":
                raise KeyError("mine")
            if name == "OSError":
                raise OSError("mine")
            return self.shown(table), table.get(key)

    def on_async(self, thing: Any, name: str, key: Any) -> Any:
        async def body() -> Any:
            if name in ("aread", "later"):
                return await getattr(thing, name)(key)
            if name == "amany":
                return [each async for each in thing.amany(key)]
            async with thing.asession() as table:
                return self.shown(table), table.get(key)

        return self.loop.run_until_complete(body())

    def on_keep(self, thing: Any, name: str, _: Any) -> Any:
        return getattr(thing, name)

    def effects(self) -> Any:
        """Return what the clients hold and what reached them."""
        return [
            (each.name, dict(each.data), list(each.log), each.kind)
            for each in self.pool if isinstance(each, Shop)
        ] + [each.left for each in self.pool if isinstance(each, Cursor)]  # fmt: skip

    def end(self) -> None:
        for each in self.pool:
            if inspect.isgenerator(each):
                each.close()
        self.loop.close()


def root_of(error: BaseException) -> str:
    """Return the function that raised an error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_name if trace is not None else ""


def compared(of: Policy, sequence: list[tuple[Any, int]], **options: Any) -> None:
    bare, wrapped = Side(Shop()), Side(of.wrap(Shop(), **options))
    try:
        for use, place in sequence:
            want, got = bare.do(use, place), wrapped.do(use, place)
            if want[0] == "raised" and (use[:2] == ("step", "throw") or root_of_is_ours(want, got)):
                want, got = want[:3], got[:3]
            assert got == want, (use, place)
            assert wrapped.effects() == bare.effects(), (use, place)
    finally:
        bare.end()
        wrapped.end()
    idle(of)


def root_of_is_ours(want: tuple[Any, ...], got: tuple[Any, ...]) -> bool:
    """An error that the interpreter raises at the place of the use has no other root."""
    return want[3].startswith("on_") or want[3] in (
        "<lambda>",
        "body",
        "signature",
        "_signature_from_callable",
    )


sequences = st.lists(st.tuples(uses, st.integers(0, 7)), min_size=1, max_size=25)
quick = settings(max_examples=100, suppress_health_check=list(HealthCheck))


@quick
@given(sequences)
def test_with_a_breaker_and_a_bulkhead(sequence: Any) -> None:
    compared(policy(circuit_breaker(metrics_only=True), bulkhead(20)), sequence)


@quick
@given(sequences)
def test_with_a_cooperative_limit(sequence: Any) -> None:
    compared(
        policy(circuit_breaker(metrics_only=True), bulkhead(20), timeout(60, sync="cooperative")),
        sequence,
    )


@settings(max_examples=50, suppress_health_check=list(HealthCheck))
@given(sequences)
def test_on_worker_threads(sequence: Any) -> None:
    of = policy(circuit_breaker(metrics_only=True), bulkhead(20), timeout(60, sync="thread"))
    # A generator's steps run on workers: its method is a plain one, and its own methods are functions.
    listed = [("ask", "many", QUESTIONS.index(inspect.isgeneratorfunction)), ("ask", "close", 1)]
    compared(of, [each for each in sequence if each[0] not in listed])


@settings(max_examples=50, suppress_health_check=list(HealthCheck))
@given(
    sequences,
    st.sampled_from([{"only": "read"}, {"unless": ["read", "table"]}, {"ignore": OSError}]),
)
def test_with_options(sequence: Any, options: Any) -> None:
    compared(policy(circuit_breaker(metrics_only=True), bulkhead(20)), sequence, **options)


@settings(max_examples=50, suppress_health_check=list(HealthCheck))
@given(sequences)
def test_wrapped_by_two_policies(sequence: Any) -> None:
    inner = policy(circuit_breaker(metrics_only=True), bulkhead(20))
    outer = policy(circuit_breaker(metrics_only=True), bulkhead(20))
    bare, wrapped = Side(Shop()), Side(outer.wrap(inner.wrap(Shop())))
    try:
        for use, place in sequence:
            want, got = bare.do(use, place), wrapped.do(use, place)
            assert got[:3] == want[:3], (use, place)
            assert wrapped.effects() == bare.effects(), (use, place)
    finally:
        bare.end()
        wrapped.end()
    idle(outer)
    idle(inner)


def test_a_long_way_round() -> None:
    """The uses that the random ones rarely put together."""
    of = policy(circuit_breaker(metrics_only=True), bulkhead(20))
    compared(of, [
        (("keep", "main", None), 0), (("call", "shop", []), 1), (("keep", "main", None), 0),
        (("call", "put", ["k", 1]), 1), (("call", "scan", [2]), 1), (("step", "list", 0), 2),
        (("call", "many", [3]), 0), (("step", "next", 0), 3), (("step", "send", 2), 3), (("step", "throw", 0), 3),
        (("call", "cursor", [5]), 0), (("step", "next", 0), 4), (("step", "list", 0), 4), (("step", "list", 0), 4),
        (("with", "KeyError", "a"), 0), (("with", "fails", "a"), 0), (("async", "amany", 5), 0),
        (("set", "read", 0), 0), (("call", "read", ["a"]), 0), (("delete", "read", None), 0), (("call", "read", ["a"]), 0),
        (("call", "bound", []), 0), (("call", "function", [1]), 0), (("call", "divide", [1]), 0),
    ])  # fmt: skip
    assert counts(of)["success"] > 5
