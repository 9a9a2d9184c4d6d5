"""Every guard on every shape of callable, in every colour."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import operator
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from resilient import Policy, bulkhead, circuit_breaker, fallback, timeout
from resilient.testing import ManualClock
from tests.kit.colours import ASYNC_COLOURS, SYNC, Colour
from tests.kit.policies import comes_to_idle, counts, policy_of

Decorator = Callable[[Any], Any]


def whole(name: str, sync: Any = "cooperative") -> Policy:
    """A policy with a guard of each kind, whose fallback does not answer a ValueError."""
    return Policy(
        name, fallback(value="lesser", on=OSError), circuit_breaker(), bulkhead(3),
        timeout(30.0, sync=sync),
    )  # fmt: skip


GUARDS: dict[str, Callable[[str], Decorator]] = {
    "breaker bare": lambda name: circuit_breaker,
    "breaker": lambda name: circuit_breaker(failure_rate=0.3),
    "bulkhead bare": lambda name: bulkhead,
    "bulkhead": lambda name: bulkhead(3),
    "timeout": lambda name: timeout(30.0, sync="cooperative"),
    "timeout thread": lambda name: timeout(30.0, sync="thread"),
    "fallback": lambda name: fallback(value="lesser", on=OSError),
    "policy": whole,
    "policy thread": lambda name: whole(name, "thread"),
    "stacked": lambda name: lambda fn: fallback(value=0, on=OSError)(circuit_breaker(fn)),
}


class Shape:
    """A guarded callable, and the plain one that it was made of."""

    def __init__(self, guarded: Any, plain: Any) -> None:
        self.guarded = guarded
        self.plain = plain


def body_of(colour: Colour) -> Callable[..., Any]:
    """Return a new function of a colour, which returns or raises what it is given."""
    if colour.is_async:

        async def fetch(value: object, *, error: BaseException | None = None) -> object:
            """Fetch it."""
            if error is not None:
                raise error
            return value
    else:

        def fetch(value: object, *, error: BaseException | None = None) -> object:
            """Fetch it."""
            if error is not None:
                raise error
            return value

    return fetch


def function(colour: Colour, guard: Decorator) -> Shape:
    plain = body_of(colour)
    return Shape(guard(plain), plain)


def _class_of(make: Callable[[Any], Any], colour: Colour) -> type:
    fetch = body_of(colour)
    if colour.is_async:

        async def method(self: Any, value: object, *, error: BaseException | None = None) -> object:
            """Fetch it."""
            assert isinstance(self, Client) or self is Client
            return await fetch(value, error=error)
    else:

        def method(self: Any, value: object, *, error: BaseException | None = None) -> object:
            """Fetch it."""
            assert isinstance(self, Client) or self is Client
            return fetch(value, error=error)

    Client: type = type("Client", (), {"fetch": make(method), "plain": method})  # noqa: N806 - it is a class
    return Client


def method(colour: Colour, guard: Decorator) -> Shape:
    client = _class_of(guard, colour)()
    return Shape(client.fetch, client.plain)


def classmethod_inside(colour: Colour, guard: Decorator) -> Shape:
    client = _class_of(lambda fn: guard(classmethod(fn)), colour)
    assert isinstance(vars(client)["fetch"], classmethod)
    return Shape(client().fetch, client().plain)  # type: ignore[attr-defined]


def classmethod_outside(colour: Colour, guard: Decorator) -> Shape:
    client = _class_of(lambda fn: classmethod(guard(fn)), colour)
    return Shape(client.fetch, client().plain)  # type: ignore[attr-defined]


def staticmethod_inside(colour: Colour, guard: Decorator) -> Shape:
    plain = body_of(colour)
    client = type("Client", (), {"fetch": guard(staticmethod(plain))})
    assert isinstance(vars(client)["fetch"], staticmethod)
    return Shape(client().fetch, plain)  # type: ignore[attr-defined]


def staticmethod_outside(colour: Colour, guard: Decorator) -> Shape:
    plain = body_of(colour)
    client = type("Client", (), {"fetch": staticmethod(guard(plain))})
    return Shape(client().fetch, plain)  # type: ignore[attr-defined]


def bound_method(colour: Colour, guard: Decorator) -> Shape:
    client = _class_of(lambda fn: fn, colour)()
    return Shape(guard(client.fetch), client.plain)


def partial(colour: Colour, guard: Decorator) -> Shape:
    inner = body_of(colour)
    plain = functools.partial(inner, error=None)
    return Shape(guard(plain), plain)


def callable_object(colour: Colour, guard: Decorator) -> Shape:
    fetch = body_of(colour)
    if colour.is_async:

        class Client:
            """A client."""

            async def __call__(
                self, value: object, *, error: BaseException | None = None
            ) -> object:
                return await fetch(value, error=error)
    else:

        class Client:  # type: ignore[no-redef]
            """A client."""

            def __call__(self, value: object, *, error: BaseException | None = None) -> object:
                return fetch(value, error=error)

    plain = Client()
    return Shape(guard(plain), plain)


def lambda_(colour: Colour, guard: Decorator) -> Shape:
    # Of an async colour, this is a sync callable that returns an awaitable.
    fetch = body_of(colour)
    plain = lambda value, *, error=None: fetch(value, error=error)  # noqa: E731 - a lambda is what is tested
    return Shape(guard(plain), plain)


SHAPES = [
    function, method, classmethod_inside, classmethod_outside, staticmethod_inside,
    staticmethod_outside, bound_method, partial, callable_object, lambda_,
]  # fmt: skip

every_guard = pytest.mark.parametrize("guard", list(GUARDS))
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)


@every_guard
@every_shape
def test_a_value_and_the_arguments_pass_by_identity(
    colour: Colour, guard: str, shape: Callable[[Colour, Decorator], Shape], name: str
) -> None:
    """What is passed in comes out, the very object, also through call and try_call."""
    made, value = shape(colour, GUARDS[guard](name)), object()

    async def body() -> None:
        assert await colour.call(made.guarded, value) is value
        assert await colour.call(made.guarded, value=value, error=None) is value

    colour.run(body)


@every_guard
@every_shape
def test_an_exception_passes_by_identity_and_without_context(
    colour: Colour, guard: str, shape: Callable[[Colour, Decorator], Shape], name: str
) -> None:
    """The body's own exception reaches the caller as it is: no cause, no context, no notes."""
    made, error = shape(colour, GUARDS[guard](name)), ValueError("no")

    async def body() -> None:
        assert await colour.error_of(made.guarded, 1, error=error) is error

    colour.run(body)
    assert error.__context__ is None
    assert error.__cause__ is None
    assert not error.__suppress_context__
    assert not hasattr(error, "__notes__")


@every_guard
@every_shape
def test_a_guarded_callable_looks_like_the_plain_one(
    colour: Colour, guard: str, shape: Callable[[Colour, Decorator], Shape], name: str
) -> None:
    """Kind, signature, docstring, module and qualified name are those of the original."""
    made = shape(colour, GUARDS[guard](name))
    plain, guarded = made.plain, made.guarded
    assert inspect.signature(guarded) == inspect.signature(plain)
    assert guarded.__doc__ == plain.__doc__
    assert guarded.__module__ == plain.__module__
    if shape in (callable_object, partial):
        assert inspect.iscoroutinefunction(guarded) == colour.is_async
    else:
        assert inspect.iscoroutinefunction(guarded) == inspect.iscoroutinefunction(plain)
        assert guarded.__qualname__ == plain.__qualname__
        assert guarded.__name__ == plain.__name__


def test_what_has_no_name_of_its_own_gets_one(colour: Colour) -> None:
    """A partial is called like its function, a callable object like its class."""
    made = callable_object(colour, bulkhead)
    assert made.guarded.__name__ == type(made.plain).__name__
    assert made.guarded.__qualname__ == type(made.plain).__qualname__
    made = partial(colour, bulkhead)
    assert made.guarded.__name__ == made.plain.func.__name__
    assert made.guarded.__qualname__ == made.plain.func.__qualname__


@every_shape
@pytest.mark.parametrize("sync", ["cooperative", "thread"])
def test_call_and_try_call_take_every_shape(
    colour: Colour, shape: Callable[[Colour, Decorator], Shape], sync: str, name: str
) -> None:
    """call, acall, try_call and atry_call pass arguments, value and error of every shape."""
    policy, plain = whole(name, sync), shape(colour, lambda fn: fn).plain
    value, error = object(), ValueError("no")

    async def body() -> None:
        assert await colour.through(policy, plain, value, error=None) is value
        result = await colour.attempt(policy, plain, value)
        assert (result.value, result.error, result.served) == (value, None, "full")
        result = await colour.attempt(policy, plain, 1, error=error)
        assert result.error is error
        assert (result.value, result.served, result.elapsed >= 0) == (None, "error", True)
        with pytest.raises(ValueError, match="no") as caught:
            await colour.through(policy, plain, 1, error=error)
        assert caught.value is error
        answered = await colour.attempt(policy, plain, 1, error=OSError("down"))
        assert (answered.value, answered.served) == ("lesser", "degraded")
        assert isinstance(answered.error, OSError)

    colour.run(body)
    assert error.__context__ is None
    assert error.__cause__ is None
    assert counts(policy) == {"success": 2, "failure": 3}
    comes_to_idle(policy)


@every_guard
def test_a_builtin_can_be_guarded(guard: str, name: str) -> None:
    """A builtin passes its value, its error and its name."""
    value = object()
    guarded = GUARDS[guard](name)(operator.getitem)
    assert guarded([value], 0) is value
    with pytest.raises(IndexError) as caught:
        guarded([], 0)
    assert caught.value.__context__ is None
    assert guarded.__name__ == "getitem"
    assert guarded.__doc__ == operator.getitem.__doc__


def test_bare_timeout_is_for_async_functions() -> None:
    """@timeout without parentheses bounds async functions at one second."""

    async def fetch() -> str:
        return "done"

    guarded = timeout(fetch)
    assert asyncio.run(guarded()) == "done"
    assert policy_of(guarded).guards[0].seconds == 1.0


# -- a sync callable that returns an awaitable ----------------------------------------------------

asynchronous = pytest.mark.parametrize("colour", ASYNC_COLOURS, ids=lambda colour: colour.name)


@asynchronous
@every_guard
def test_what_a_sync_callable_returns_is_judged_at_the_await(
    colour: Colour, guard: str, name: str
) -> None:
    """The call is in flight from the call to the end of the await, and counts only then."""
    made = lambda_(colour, GUARDS[guard](name))
    policy = policy_of(made.guarded)

    async def body() -> None:
        pending = made.guarded("value")
        assert policy.snapshot()["in_flight"] == 1
        assert counts(policy) == {}
        assert await pending == "value"
        assert counts(policy) == {"success": 1}
        failing = made.guarded(1, error=ValueError("no"))
        assert counts(policy) == {"success": 1}
        with pytest.raises(ValueError, match="no"):
            await failing
        assert counts(policy) == {"success": 1, "failure": 1}

    colour.run(body)
    comes_to_idle(policy)


@every_guard
def test_what_nobody_awaits_gives_its_slot_back(guard: str, name: str) -> None:
    """An awaitable that is dropped is neutral: the slot returns, nothing counts as failure."""
    made = lambda_(ASYNC_COLOURS[0], GUARDS[guard](name))
    policy = policy_of(made.guarded)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # never awaited, as a plain one would say
        made.guarded(1)
        gc.collect()
    assert counts(policy) == {"cancelled": 1}
    comes_to_idle(policy)


def test_an_await_that_is_begun_by_hand_and_dropped_gives_its_slot_back(name: str) -> None:
    """Asking for the iterator of the awaitable, and never running it, costs no slot."""
    made = lambda_(ASYNC_COLOURS[0], Policy(name, bulkhead(1)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        iterator = made.guarded(1).__await__()
        del iterator
        gc.collect()
    comes_to_idle(policy_of(made.guarded))


@asynchronous
def test_a_timeout_bounds_the_await_of_what_was_returned(
    colour: Colour, name: str, clock: ManualClock
) -> None:
    """The limit of a callable that returns an awaitable is kept where it is awaited."""
    policy = Policy(name, bulkhead(1), timeout(1.0, sync="cooperative"), clock=clock)

    async def late() -> None:
        clock.advance(1)
        await colour.checkpoint()

    guarded = policy(lambda: late())
    error = colour.run(colour.error_of, guarded)
    assert isinstance(error, TimeoutError)
    assert counts(policy) == {"failure": 1}
    comes_to_idle(policy)


# -- what is refused ------------------------------------------------------------------------------


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


class Generating:
    def __call__(self) -> Iterator[int]:
        yield 1


REFUSED: dict[str, tuple[Any, str]] = {
    "class": (Shape, "class"),
    "builtin class": (int, "class"),
    "property": (property(generator), "property"),
    "cached property": (functools.cached_property(body_of(SYNC)), "property"),
}


@every_guard
@pytest.mark.parametrize("refused", list(REFUSED))
def test_what_cant_be_guarded_is_refused_with_the_reason(
    guard: str, refused: str, name: str
) -> None:
    """Classes and properties are a TypeError at decoration that says why."""
    fn, why = REFUSED[refused]
    with pytest.raises(TypeError, match=why) as caught:
        GUARDS[guard](name)(fn)
    assert "can't be guarded" in str(caught.value)


@pytest.mark.parametrize("fn", [7, "fetch", None, object()])
def test_what_is_not_callable_is_refused(fn: object, name: str) -> None:
    """A non-callable under a policy or a guard is a TypeError that says so."""
    with pytest.raises(TypeError, match="not callable"):
        Policy(name, bulkhead(1))(fn)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="not callable"):
        bulkhead(1)(fn)  # type: ignore[type-var]


@pytest.mark.parametrize("way", ["acall", "try_call", "atry_call"])
@pytest.mark.parametrize("stream", [generator, async_generator])
def test_only_call_makes_streams(way: str, stream: Any, name: str) -> None:
    """Call's siblings refuse a generator function before anything runs, and name call."""
    policy = Policy(name, bulkhead(1))
    with pytest.raises(TypeError, match=r"generator.*use call\(\)"):
        ended = getattr(policy, way)(stream)
        asyncio.run(ended)
    assert counts(policy) == {}


def test_a_sync_function_needs_to_know_how_its_timeout_bounds_it(name: str) -> None:
    """A sync function under a timeout without sync= is a TypeError at decoration, and at call."""
    with pytest.raises(TypeError, match='sync="thread"'):
        timeout(1.0)(body_of(SYNC))
    with pytest.raises(TypeError, match='sync="cooperative"'):
        timeout(body_of(SYNC))
    policy = Policy(name, timeout(1.0))
    for way in (policy, policy.call, policy.try_call):
        with pytest.raises(TypeError, match='sync="thread"'):
            way(body_of(SYNC))
    assert counts(policy) == {}


def test_an_async_fallback_on_a_sync_function_is_refused(name: str) -> None:
    """A sync function can't be served by an async fallback: a TypeError at decoration."""
    lesser = body_of(ASYNC_COLOURS[0])
    with pytest.raises(TypeError, match="async"):
        fallback(lesser)(body_of(SYNC))
    with pytest.raises(TypeError, match="async"):
        Policy(name, fallback(lesser))(body_of(SYNC))


def test_an_async_fallback_of_a_sync_call_answers_nothing(name: str) -> None:
    """call() with an async fallback is an error, never an un-awaited coroutine as the answer."""
    policy = Policy(name, fallback(body_of(ASYNC_COLOURS[0])))
    with pytest.raises(TypeError, match="fallback"):
        policy.call(body_of(SYNC), 1, error=ValueError())


@pytest.mark.parametrize("with_error", [False, True])
def test_a_fallback_must_take_the_arguments(with_error: bool, colour: Colour, name: str) -> None:
    """A fallback that could not be called with the function's arguments is a TypeError."""
    plain = body_of(colour)

    def lesser() -> None: ...

    with pytest.raises(TypeError, match="arguments"):
        fallback(lesser, with_error=with_error)(plain)
    with pytest.raises(TypeError, match="arguments"):
        Policy(name, fallback(lesser, with_error=with_error))(plain)


def test_a_fallback_of_a_function_of_any_arguments_is_not_refused() -> None:
    """Where the arguments can't be known at decoration, the fallback is given its chance."""

    @fallback(lambda user: f"lesser for {user}")
    def fetch(*args: object, **kwargs: object) -> str:
        raise OSError

    assert fetch("ana") == "lesser for ana"


def test_a_refused_decoration_leaves_a_policy_as_it_was() -> None:
    """A guard that can't serve a function is not part of the function's policy afterwards."""
    guarded = circuit_breaker(body_of(SYNC))
    with pytest.raises(TypeError, match="async"):
        fallback(body_of(ASYNC_COLOURS[0]))(guarded)
    shown = [guard["guard"] for guard in policy_of(guarded).snapshot()["guards"]]
    assert shown == ["circuit_breaker"]
    assert [guard.kind for guard in policy_of(guarded)._core.guards] == ["circuit_breaker"]


def test_a_plain_function_under_acall_says_what_to_use(name: str) -> None:
    """acall of a function that returns no awaitable is a TypeError that names call()."""
    policy = Policy(name, bulkhead(1))
    with pytest.raises(TypeError, match=r"call\(\)"):
        asyncio.run(policy.acall(body_of(SYNC), 1))
    with pytest.raises(TypeError, match="acall"):
        policy.call(body_of(ASYNC_COLOURS[0]), 1)
    comes_to_idle(policy)
