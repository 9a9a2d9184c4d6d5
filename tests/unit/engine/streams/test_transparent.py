"""A guarded stream is its bare one: random bodies and consumers, step by step the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from resilient import Policy, bulkhead, circuit_breaker, fallback, timeout
from tests.kit.colours import Gone
from tests.kit.policies import idle, policy
from tests.kit.streams import ASYNC_KINDS, SYNC_KIND, End, Kind

ERRORS: dict[str, Callable[[], BaseException]] = {
    "KeyError": lambda: KeyError("thrown"),
    "OSError": lambda: OSError(2, "thrown"),
    "StopIteration": lambda: StopIteration("thrown"),
    "StopAsyncIteration": lambda: StopAsyncIteration("thrown"),
    "TimeoutError": lambda: TimeoutError("thrown"),
    "Group": lambda: ExceptionGroup("thrown", [KeyError(1), OSError(2)]),
    "Gone": lambda: Gone("thrown"),
}

# A body is a list of yields; each says what it does with what is thrown at it and with close().
yields = st.tuples(
    st.integers(0, 9),
    st.sampled_from(["out", "out", "swallow", "convert", "from", "return", "yield"]),
    st.sampled_from(["out", "out", "return", "error", "yield"]),
)
ends = st.one_of(
    st.just(("falls off", None)),
    st.tuples(st.just("return"), st.integers()),
    st.tuples(st.just("raise"), st.sampled_from(list(ERRORS))),
)
bodies = st.tuples(st.lists(yields, max_size=5), ends)
ops = st.one_of(
    st.just(("next", None)),
    st.just(("next", None)),
    st.tuples(st.just("send"), st.integers(0, 9)),
    st.tuples(st.just("throw"), st.sampled_from(list(ERRORS))),
    st.just(("close", None)),
)
Body = tuple[list[tuple[int, str, str]], tuple[str, Any]]


def made_up(what: str) -> BaseException:
    """Return an exception of that name."""
    return ERRORS[what]()


def on_throw(how: str, error: BaseException) -> Any:
    """Do what a body does with an exception; return what it yields, or ... to go on."""
    if how == "out":
        raise error
    if how == "convert":
        raise KeyError("converted")
    if how == "from":
        raise ValueError("converted", 7) from error
    return "extra" if how == "yield" else ...


def plain_of(body: Body, log: list[Any]) -> Callable[..., Any]:
    """Return the generator function of a body."""

    def stream() -> Any:
        for item, thrown, closed in body[0]:
            try:
                log.append((yield item))
            except GeneratorExit:
                log.append("closed")
                if closed == "return":
                    return "at close"
                if closed == "error":
                    raise OSError("clean-up") from None
                if closed == "yield":
                    yield "ignored the close"
                raise
            except BaseException as error:
                log.append(type(error))
                if thrown == "return":
                    return "thrown"
                extra = on_throw(thrown, error)
                if extra is not ...:
                    yield extra
        how, what = body[1]
        if how == "raise":
            raise made_up(what)
        return what

    return stream


def waits_of(body: Body, log: list[Any]) -> Callable[..., Any]:
    """Return the async generator function of a body."""

    async def stream() -> Any:
        for item, thrown, closed in body[0]:
            try:
                log.append((yield item))
            except GeneratorExit:
                log.append("closed")
                if closed == "return":
                    return
                if closed == "error":
                    raise OSError("clean-up") from None
                if closed == "yield":
                    yield "ignored the close"
                raise
            except BaseException as error:
                log.append(type(error))
                if thrown == "return":
                    return
                extra = on_throw(thrown, error)
                if extra is not ...:
                    yield extra
        how, what = body[1]
        if how == "raise":
            raise made_up(what)

    return stream


def shown(error: BaseException | None) -> tuple[Any, ...]:
    """Return what is to be equal of two exceptions, and of their causes."""
    if error is None:
        return ()
    if isinstance(error, ExceptionGroup):
        return type(error), error.message, [shown(leaf) for leaf in error.exceptions]
    return type(error), error.args, shown(error.__cause__)


async def trace_of(kind: Kind, fn: Any, steps: list[tuple[str, Any]]) -> list[Any]:
    """Return what each operation on a stream gives."""
    stream, trace = fn(), []
    for op, value in [*steps, ("close", None)]:
        try:
            if op == "send":
                trace.append(await kind.send(stream, value))
            elif op == "throw":
                trace.append(await kind.throw(stream, ERRORS[value]()))
            elif op == "close":
                trace.append(await kind.close(stream))
            else:
                trace.append(await kind.next(stream))
        except BaseException as error:
            trace.append(shown(error))
            if op == "close":
                break  # a bare one that ignored its close is still there
    return trace


def guarded_policies() -> list[Policy]:
    """Return policies whose guards do not act on what the bodies do."""
    return [
        policy(),
        policy(circuit_breaker(metrics_only=True), bulkhead(9), timeout(999, sync="cooperative")),
        policy(fallback(value=["never"], on=LookupError, ignore=KeyError), bulkhead(9)),
    ]


def compare(kind: Kind, body: Body, steps: list[tuple[str, Any]]) -> None:
    """Assert that a guarded stream gives what a bare one gives."""
    make = waits_of if kind.is_async else plain_of

    async def main() -> None:
        bare_log: list[Any] = []
        bare = await trace_of(kind, make(body, bare_log), steps)
        for shop in SHOPS:
            log: list[Any] = []
            trace = await trace_of(kind, shop(make(body, log)), steps)
            assert trace == bare, f"guarded by {shop!r}"
            assert log == bare_log, f"guarded by {shop!r}"
            idle(shop)

    kind.run(main)


SHOPS = guarded_policies()


@given(body=bodies, steps=st.lists(ops, max_size=8))
def test_of_generators(body: Body, steps: list[tuple[str, Any]]) -> None:
    """Items, return values and exceptions of a guarded generator are those of a bare one."""
    compare(SYNC_KIND, body, steps)


@given(body=bodies, steps=st.lists(ops, max_size=8), place=st.integers(0, len(ASYNC_KINDS) - 1))
def test_of_async_generators(body: Body, steps: list[tuple[str, Any]], place: int) -> None:
    """The same for async generators, on each loop."""
    compare(ASYNC_KINDS[place], body, steps)


def test_of_delegation() -> None:
    """`yield from` a guarded generator passes everything both ways."""
    log: list[Any] = []
    body: Body = ([(1, "swallow", "out"), (2, "out", "out")], ("return", 5))

    def outer(fn: Any) -> Any:
        def stream() -> Any:
            return (yield from fn())

        return stream

    for fn in (plain_of(body, log), SHOPS[1](plain_of(body, log))):
        stream = outer(fn)()
        assert next(stream) == 1
        assert stream.throw(KeyError("mine")) == 2
        assert SYNC_KIND.run(SYNC_KIND.send, stream, "x") == End(5)
    assert log == [KeyError, "x"] * 2
