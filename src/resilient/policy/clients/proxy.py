"""The proxy of a client, and the interface of the wrapper that makes it."""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
from __future__ import annotations

import copy
from collections.abc import Callable
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Literal, NamedTuple, NoReturn, Protocol, TypeVar, cast

from .subclients import fields

Given = TypeVar("Given", tuple[Any, ...], dict[str, Any])


class Traits(NamedTuple):
    """What distinguishes proxy classes besides the class of their clients."""

    holder: str = ""  # the name of the attribute or method that handed it out
    is_async: bool = False  # of an async client: its plain methods do no I/O
    inline: bool = False  # bound to its thread: sync calls stay in it
    live: frozenset[str] | None = None  # of an answer: the attributes by which it reaches back
    lasts: bool = False  # a call has handed it out: once entered, it holds a slot until its exit

    def lent(self, holder: str) -> Traits:
        """Return the traits of a part that this client hands out."""
        return self._replace(holder=holder, live=None, lasts=False)


class Wrapping(Protocol):
    """What proxies and their methods use of their wrapper."""

    name: str
    data: set[type]
    timeouts: tuple[type[Exception], ...]
    gave_up: Callable[[Exception], bool]
    hands_out: bool

    def limit(self, colour: Literal["sync", "async"]) -> float | None: ...
    def proxy(self, value: Any, traits: Traits, root: Any = None) -> Any: ...
    def attribute(self, proxy: Proxy, name: str) -> Any: ...
    def assigned(self, value: Any) -> Any: ...
    def changed(self, proxy: Proxy, name: str) -> None: ...
    def original(self, proxy: Proxy, name: str) -> Any: ...
    def all_opened(self, given: Given) -> Given: ...
    def hand(
        self, proxy: Any, name: str, value: Any, args: Any = (), kwargs: dict[str, Any] = ...
    ) -> Any: ...


class Proxy:
    """Base of the proxy classes; `bare` returns the client itself."""

    __slots__ = ("__weakref__", "__wrapped__", "_resilient_brought", "_resilient_by",
                 "_resilient_entries", "_resilient_own", "_resilient_root",
                 "_resilient_works_by")  # fmt: skip
    _resilient_traits: Traits
    __wrapped__: Any
    _resilient_brought: bool  # it came with data, so handing it out was the call
    _resilient_root: Any  # the client that it is a part of
    _resilient_works_by: tuple[list[int], frozenset[int], list[Any]] | None
    _resilient_by: Wrapping
    _resilient_entries: list[Any] | None  # of a context manager: entries without an exit yet
    _resilient_own: dict[str, tuple[Any, Any]] | None  # guarded functions of this instance alone

    def __getattr__(self, name: str) -> Any:
        return self._resilient_by.attribute(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__wrapped__, name, self._resilient_by.assigned(value))
        self._resilient_by.changed(self, name)

    def __delattr__(self, name: str) -> None:
        delattr(self.__wrapped__, name)
        self._resilient_by.changed(self, name)

    @property
    def __origin__(self) -> type:
        """The class that help() describes."""
        return type(self.__wrapped__)

    def __dir__(self) -> list[str]:
        return dir(self.__wrapped__)

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    def __str__(self) -> str:
        return str(self.__wrapped__)

    def __format__(self, spec: str) -> str:
        return format(self.__wrapped__, spec)

    def __sizeof__(self) -> int:
        return self.__wrapped__.__sizeof__()  # type: ignore[no-any-return]

    def __eq__(self, other: object) -> bool:
        return self.__wrapped__ == bare(other)  # type: ignore[no-any-return]

    def __ne__(self, other: object) -> bool:
        return self.__wrapped__ != bare(other)  # type: ignore[no-any-return]

    def __hash__(self) -> int:
        return hash(self.__wrapped__)

    def __copy__(self) -> Any:
        return self._resilient_as_this(copy.copy(self.__wrapped__))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self._resilient_as_this(copy.deepcopy(self.__wrapped__, memo))

    def _resilient_as_this(self, client: Any) -> Any:
        return self._resilient_by.proxy(client, self._resilient_traits)

    def __getstate__(self) -> Any:
        return self.__wrapped__.__getstate__()

    def __reduce__(self) -> NoReturn:
        self.__reduce_ex__(2)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            f"{type(self.__wrapped__).__name__} is wrapped by the policy "
            f"{self._resilient_by.name}, which stays in its process: pickle client.__wrapped__, "
            "and wrap what was unpickled"
        )


del Proxy.__slots__  # instances show the client's, if it has any


def bare(value: Any) -> Any:
    """Return the client of a proxy, or the value itself."""
    while is_proxy(value):
        value = value.__wrapped__
    return value


def is_proxy(value: object) -> bool:
    """Return whether a value is a wrapped client; isinstance() would ask the client."""
    return issubclass(type(value), Proxy)


def is_handed(value: object) -> bool:
    """Return whether a value is a handed-out part whose work is still to come."""
    cls = type(value)
    if issubclass(cls, Proxy):
        return not cast("Proxy", value)._resilient_brought
    return issubclass(cls, (GeneratorType, AsyncGeneratorType))


def came_of_a_call(proxy: Any) -> bool:
    """Return whether a proxy's object came out of a call, and is not one that its client holds."""
    root = proxy._resilient_root if is_proxy(proxy) else None
    owner = None if root is None else proxy.__wrapped__
    return owner is not root and not any(held is owner for held in fields(root))


def own_doc(client: Any) -> bool:
    """Return whether a client has its own docstring, besides that of its class."""
    try:
        return "__doc__" in object.__getattribute__(client, "__dict__")
    except AttributeError:
        return False
