"""Run the same operations on a bare and on a wrapped client, and tell in what they differ.

An operation is a function of a `Side`, which has the client and whatever earlier operations have
put aside. What it returns or raises is described as plain data: a proxy by the class that
`isinstance` sees and by its repr, an error by its type, arguments, causes and the innermost frame
of its traceback. `inspect_pair` compares two objects by what can be asked of them.
"""

from __future__ import annotations

import asyncio
import collections.abc
import functools
import gc
import inspect
import itertools
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import resilient
from resilient import Policy, bulkhead, circuit_breaker, timeout
from tests.integration.transparency.differences import is_listed
from tests.kit.waiting import until

MODES = ("cooperative", "thread")
_policies: list[Policy] = []
_numbers = itertools.count(1)
_ABCS = tuple(
    cls
    for name in collections.abc.__all__
    if name not in {"ByteString", "Buffer"}
    and isinstance(cls := getattr(collections.abc, name), type)
)
_OURS = str(Path(resilient.__file__).parent)
_ADDRESS = re.compile(r"(?<=scope )[0-9a-f]{6,}|0x[0-9a-f]{6,}")

few = functools.partial(
    settings,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def permissive(mode: str | None = None) -> Policy:
    """Return a policy that lets everything through; mode is how sync calls are bounded."""
    return Policy(
        f"transparency-{next(_numbers)}",
        circuit_breaker(metrics_only=True),
        bulkhead(50),
        timeout(5.0) if mode is None else timeout(5.0, sync=mode),  # type: ignore[arg-type]
    )


@functools.cache
def policy_of(library: str, mode: str | None = None) -> Policy:
    """Return the one policy of a library and mode in this process."""
    _policies.append(permissive(mode))
    return _policies[-1]


def comes_to_an_end(policy: Policy) -> None:
    """Fail unless every call of a policy has ended, or soon does."""
    if policy.snapshot()["in_flight"]:
        gc.collect()  # what was entered by hand and never left ends with its context manager
    until(lambda: policy.snapshot()["in_flight"] == 0, f"{policy.name}: calls that never end")


# -- operations ---------------------------------------------


@dataclass
class Side:
    """A client, bare or wrapped, and what operations have put aside."""

    client: Any
    wrapped: bool = False
    bag: dict[str, Any] = field(default_factory=dict)
    more: Any = None


class Operations:
    """The operations of a library; each takes a side and named arguments."""

    def __init__(self) -> None:
        self._found: list[tuple[Callable[..., Any], dict[str, st.SearchStrategy[Any]]]] = []

    def __call__(self, **args: st.SearchStrategy[Any]) -> Callable[[Any], Any]:
        def adds(fn: Any) -> Any:
            self._found.append((fn, args))
            return fn

        return adds

    def sequences(self, least: int = 3, most: int = 16) -> st.SearchStrategy[list[Any]]:
        """Return sequences of operations with their arguments."""
        each = st.sampled_from(self._found).flatmap(
            lambda pair: st.tuples(st.just(pair[0]), st.fixed_dictionaries(pair[1]))
        )
        return st.lists(each, min_size=least, max_size=most)


def play(side: Side, steps: Iterable[Any], scrub: Callable[[str], str] = str) -> list[Any]:
    """Run operations and return what each has come to."""
    log = []
    for op, args in steps:
        try:
            log.append((op.__name__, args, "returned", describe(op(side, **args), scrub)))
        except Exception as error:
            log.append((op.__name__, args, "raised", told_of(error, scrub)))
    return log


async def aplay(side: Side, steps: Iterable[Any], scrub: Callable[[str], str] = str) -> list[Any]:
    """Do the same with async operations."""
    log = []
    for op, args in steps:
        try:
            value = op(side, **args)
            if inspect.iscoroutine(value):
                value = await value
            log.append((op.__name__, args, "returned", describe(value, scrub)))
        except Exception as error:
            log.append((op.__name__, args, "raised", told_of(error, scrub)))
    return log


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    """Run an async function."""

    async def bounded() -> Any:
        return await asyncio.wait_for(main(), 50)

    return asyncio.run(bounded())


def same(library: str, bare: list[Any], wrapped: list[Any]) -> None:
    """Fail where two logs differ in more than what the table allows."""
    assert len(bare) == len(wrapped)
    for policy in _policies:
        comes_to_an_end(policy)
    for number, (one, other) in enumerate(zip(bare, wrapped, strict=True)):
        for path, left, right in _differing(one, other, ""):
            assert is_listed(library, f"{one[0]}{path}"), (
                f"{library}: step {number} {one[0]}{one[1]}{path}\n bare    {left!r}\n"
                f" wrapped {right!r}"
            )


def _differing(one: Any, other: Any, path: str) -> Iterable[tuple[str, Any, Any]]:
    if type(one) is type(other) and isinstance(one, (tuple, list)) and len(one) == len(other):
        for number, pair in enumerate(zip(one, other, strict=True)):
            yield from _differing(*pair, f"{path}/{number}")
    elif isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}, key=repr):
            yield from _differing(
                one.get(key, "<absent>"), other.get(key, "<absent>"), f"{path}/{key}"
            )
    elif one != other:
        yield path, one, other


# -- values ---------------------------------------------


def name_of(cls: Any) -> str:
    """Return the full name of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def describe(value: Any, scrub: Callable[[str], str] = str, depth: int = 0) -> Any:
    """Return a value as plain data that can be compared."""
    if type(value) in (type(None), bool, int, str, bytes, float):
        if type(value) is bytes and value[:2] == b"\x1f\x8b":  # gzip, with the time in it
            value = value[:4] + value[8:]
        return (type(value).__name__, scrub(value) if type(value) is str else value)
    if isinstance(value, BaseException):
        return told_of(value, scrub)
    cls = value.__class__
    if depth > 6:
        return (name_of(cls), "...")
    if isinstance(value, (dict,)) or (isinstance(value, collections.abc.Mapping) and depth < 6):
        items = {
            k if type(k) is str else repr_of(k, scrub): describe(v, scrub, depth + 1)
            for k, v in value.items()
        }
        return (name_of(cls), items)
    if isinstance(value, (set, frozenset)):
        return (
            name_of(cls),
            sorted((describe(each, scrub, depth + 1) for each in value), key=repr),
        )
    if isinstance(value, (list, tuple)):
        return (name_of(cls), [describe(each, scrub, depth + 1) for each in value])
    return (name_of(cls), repr_of(value, scrub))


def repr_of(value: Any, scrub: Callable[[str], str] = str) -> str:
    """Return the repr without addresses."""
    return scrub(_ADDRESS.sub("0x", repr(value)))


def told_of(error: BaseException, scrub: Callable[[str], str] = str, depth: int = 0) -> Any:
    """Return an error as plain data: type, arguments, text, root of its traceback, its causes."""
    told = {
        "type": name_of(error.__class__),
        "args": [_argument(each, scrub) for each in error.args],
        "str": scrub(_ADDRESS.sub("0x", str(error))),
        "root": root_of(error.__traceback__),
        "notes": getattr(error, "__notes__", []),
    }
    if depth < 4:
        for name in ("__cause__", "__context__"):
            inner = getattr(error, name)
            told[name] = None if inner is None else told_of(inner, scrub, depth + 1)
        told["suppressed"] = error.__suppress_context__
    return told


def _argument(value: Any, scrub: Callable[[str], str]) -> Any:
    if type(value) is str:
        value = _ADDRESS.sub("0x", value)
    return (
        told_of(value, scrub, 3) if isinstance(value, BaseException) else describe(value, scrub, 3)
    )


def root_of(trace: TracebackType | None) -> tuple[str, str] | None:
    """Return file and function of the innermost frame of a traceback that is not resilient's own.

    Where the call itself is wrong (an argument too many, a missing attribute) no code of the client
    has run: the innermost frame is the caller's then, or resilient's, which stands in its place.
    """
    found = None
    while trace is not None:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith(_OURS):
            found = code.co_filename, code.co_name
        trace = trace.tb_next
    return found


# -- introspection ---------------------------------------------


def inspect_pair(
    library: str, bare: Any, wrapped: Any, where: str, *, skip: Iterable[str] = ()
) -> list[str]:
    """Return in what a wrapped object differs from a bare one of its kind, beyond the table."""
    one, other = _looks(bare, skip), _looks(wrapped, skip)
    found = []
    for key in sorted({*one, *other}):
        left, right = one.get(key, "<absent>"), other.get(key, "<absent>")
        if left != right and not is_listed(library, f"{where}.{key}"):
            if isinstance(left, list) and isinstance(right, list):
                left, right = (
                    [x for x in left if x not in right],
                    [x for x in right if x not in left],
                )
            found.append(f"{where}.{key}: bare {left!r}, wrapped {right!r}")
    return found


def _looks(value: Any, skip: Iterable[str]) -> dict[str, Any]:
    cls = value.__class__
    seen: dict[str, Any] = {
        "__class__": name_of(cls),
        "isinstance": isinstance(value, cls),
        "callable()": callable(value),
        "abcs": [each.__name__ for each in _ABCS if isinstance(value, each)],
        "dir()": sorted(dir(value)),
        "vars()": sorted(getattr(value, "__dict__", {})),
        "bool()": _tried(bool, value) if "__len__" not in skip else None,
        "repr()": repr_of(value),
        "str()": _ADDRESS.sub("0x", str(value)),
        "format()": _ADDRESS.sub("0x", f"{value}"),
        "hashable": _tried(lambda each: isinstance(hash(each), int), value),
        "doc": value.__doc__,
        "isawaitable": inspect.isawaitable(value),
        "is function": (
            inspect.isfunction(value),
            inspect.ismethod(value),
            inspect.isroutine(value),
            inspect.iscoroutinefunction(value),
            inspect.isgenerator(value),
            inspect.iscoroutine(value),
            inspect.isasyncgen(value),
            inspect.isgeneratorfunction(value),
            inspect.isasyncgenfunction(value),
        ),
        "equals itself": [
            _tried(lambda each: each == each, value),
            _tried(lambda each: each != each, value),
            _tried(lambda each: each == object(), value),
        ],
        **{f"has {name}": hasattr(value, name) for name in _SPECIALS},
        "missing attribute": _tried(lambda each: each.there_is_no_such_name, value),
        "isinstance of object": isinstance(value, object),
        "issubclass": [name_of(base) for base in cls.__mro__],
    }
    if callable(value):
        seen["signature()"] = _tried(lambda each: str(inspect.signature(each)), value)
    for name in dir(value):
        if name.startswith("_") or name in skip:
            continue
        try:
            attribute = getattr(value, name)
        except Exception as error:
            seen[f"{name}!"] = told_of(error)
            continue
        seen[name] = name_of(attribute.__class__)
        if not callable(attribute) or isinstance(attribute, type):
            continue
        seen[f"{name}()"] = _tried(lambda each: str(inspect.signature(each)), attribute)
        seen[f"{name} kind"] = (
            inspect.iscoroutinefunction(attribute),
            inspect.isgeneratorfunction(attribute),
            inspect.isasyncgenfunction(attribute),
            inspect.isroutine(attribute),
            asyncio.iscoroutinefunction(attribute),
        )
        for special in ("__name__", "__qualname__", "__doc__", "__module__"):
            seen[f"{name}.{special}"] = getattr(attribute, special, "<none>")
        seen[f"{name}.__self__"] = getattr(attribute, "__self__", None) is not None
    return seen


def _tried(fn: Callable[[Any], Any], value: Any) -> Any:
    try:
        return fn(value)
    except Exception as error:
        return type(error).__name__, _ADDRESS.sub("0x", str(error))


_SPECIALS = (
    "__aenter__",
    "__aexit__",
    "__aiter__",
    "__anext__",
    "__await__",
    "__bool__",
    "__bytes__",
    "__call__",
    "__contains__",
    "__copy__",
    "__deepcopy__",
    "__del__",
    "__delitem__",
    "__enter__",
    "__exit__",
    "__float__",
    "__fspath__",
    "__getitem__",
    "__index__",
    "__int__",
    "__iter__",
    "__len__",
    "__length_hint__",
    "__next__",
    "__reversed__",
    "__set_name__",
    "__setitem__",
    "__slots__",
    "__wrapped__",
    "__name__",
    "__qualname__",
    "__code__",
    "__func__",
    "__self__",
    "__annotations__",
    "__getattr__",
    "__setstate__",
    "__getstate__",
    "__reduce__",
    "__lt__",
    "__add__",
    "__or__",
    "__array__",
    "__iter__",
    "__length_hint__",
    "_asdict",
    "keys",
)
