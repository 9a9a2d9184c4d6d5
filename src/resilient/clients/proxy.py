"""The proxy of a client: it looks like the client, and its methods are guarded.

For each class of client a proxy class is made that has the very special methods of that class, no
more: what the interpreter and abstract base classes ask of a type they are answered as by the
client's own. `wrapt.ObjectProxy` has all of them, whatever it wraps, and makes a call through it
0.6 us dearer; see ``docs/explanation/architecture.md``.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, cast

from ..shapes import STREAMS, kind_of
from . import methods
from .parts import GUARDED

if TYPE_CHECKING:
    from .wrapper import Wrapper

# These are the proxy's own, or what no instance is asked for.
_OWN: Final = frozenset({
    "__class__", "__class_getitem__", "__copy__", "__deepcopy__", "__del__", "__delattr__",
    "__dict__", "__dir__", "__doc__", "__eq__", "__format__", "__getattr__", "__getattribute__",
    "__getstate__", "__hash__", "__init_subclass__", "__module__", "__ne__", "__new__",
    "__reduce__", "__reduce_ex__", "__repr__", "__set_name__", "__setattr__", "__setstate__",
    "__sizeof__", "__str__", "__subclasshook__", "__weakref__", "__wrapped__",
})  # fmt: skip

# What others look for in the class of an object.
_SHOWN: Final = (
    "__annotations__", "__attrs_attrs__", "__dataclass_fields__", "__dataclass_params__",
    "__match_args__",
)  # fmt: skip


class Traits(NamedTuple):
    """What is to be known of a proxy class besides the class of its clients."""

    holder: str = ""  # how it was handed out: the name of an attribute or method
    is_async: bool = False  # of an async client: its plain methods do no I/O themselves
    inline: bool = False  # bound to its thread: its sync calls stay there
    live: frozenset[str] | None = None  # of an answer: the attributes by which it reaches back
    lasts: bool = False  # a call has made it: entered, it holds a slot until it is left

    def lent(self, holder: str) -> Traits:
        """Return the traits of a part that such a client hands out."""
        return self._replace(holder=holder, live=None, lasts=False)


class Proxy:
    """Base of the proxy classes; `bare` gives the client itself."""

    __slots__ = ("__weakref__", "__wrapped__", "_resilient_brought", "_resilient_by",
                 "_resilient_entries", "_resilient_own", "_resilient_root",
                 "_resilient_works_by")  # fmt: skip
    _resilient_traits: Traits
    __wrapped__: Any
    _resilient_brought: bool  # data with it, so that the call which handed it out was one
    _resilient_root: Any  # the client that it is a part of
    _resilient_works_by: tuple[list[int], frozenset[int], list[Any]] | None
    _resilient_by: Wrapper
    _resilient_entries: list[Any] | None  # of a context manager, not left yet
    _resilient_own: dict[str, tuple[Any, Any]] | None  # functions of this client alone, guarded

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
        """The class that help() is to tell of."""
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


del Proxy.__slots__  # the client's are shown, if it has any


def bare(value: Any) -> Any:
    """Return the client in a proxy, or the value itself."""
    while is_proxy(value):
        value = value.__wrapped__
    return value


def is_proxy(value: object) -> bool:
    """Tell whether a value is a wrapped client, which isinstance() can't."""
    return issubclass(type(value), Proxy)


def is_handed(value: object) -> bool:
    """Tell whether a value is a part of a client that was handed out, its work still to come."""
    cls = type(value)
    if issubclass(cls, Proxy):
        return not cast("Proxy", value)._resilient_brought
    return issubclass(cls, (GeneratorType, AsyncGeneratorType))


def own_doc(client: Any) -> bool:
    """Tell whether a client has a docstring of its own, besides that of its class."""
    try:
        return "__doc__" in object.__getattribute__(client, "__dict__")
    except AttributeError:
        return False


def make_class(wrapper: Wrapper, client: Any, traits: Traits) -> type[Proxy]:
    """Return the proxy class for clients of this one's class, and with these traits."""
    cls: type[Any] = type(client)
    names: dict[str, Any] = {
        "__slots__": (),
        "__class__": property(lambda self: self.__wrapped__.__class__),
        "__dict__": property(lambda self: self.__wrapped__.__dict__),
        "__doc__": cls.__doc__,
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "_resilient_traits": traits,
    }
    if own_doc(client):
        names["__doc__"] = property(lambda self: self.__wrapped__.__doc__)
    if getattr(cls, "__hash__", None) is None:
        names["__hash__"] = None
    seen = {name: base.__dict__[name] for base in reversed(cls.__mro__) for name in _SHOWN
            if name in base.__dict__}  # fmt: skip
    names |= seen
    for name in _special(cls):
        made = _forwarded(wrapper, client, traits, name)
        names[name] = functools.update_wrapper(made, getattr(cls, name), updated=())
    proxy_class: Any = type(cls.__name__, (Proxy,), names)
    del proxy_class.__slots__
    return proxy_class  # type: ignore[no-any-return]


def _special(cls: type) -> list[str]:
    """Return the special methods that a class has beyond those of every object."""
    found = {
        name
        for base in cls.__mro__
        if base is not object
        for name, value in base.__dict__.items()
        if name.startswith("__") and name.endswith("__") and callable(value)
        and not isinstance(value, type)
    }  # fmt: skip
    return sorted(name for name in found - _OWN if getattr(cls, name, None) is not None)


def _forwarded(  # noqa: PLR0911 - one for each form that a special method has
    wrapper: Wrapper, client: Any, traits: Traits, name: str
) -> Callable[..., Any]:
    """Return a special method of a proxy: guarded, where it is a call of the dependency.

    That is one rule for all: each is, but those of the object itself, those that give something
    back, and those that only read what is here already.
    """
    cls: type[Any] = type(client)
    if name in ("__aexit__", "__exit__"):
        return methods.exit_of(wrapper, name, "async" if name == "__aexit__" else "sync")
    known = name in GUARDED or name in methods.NAMELESS
    if not known and (name not in methods.OPERATIONS or _is_stream(cls, name)):
        return methods.forward(wrapper, name, "sync")
    guarding = wrapper.guarding(traits, name, client)
    if name == "__await__":
        return methods.awaiting(wrapper, guarding)
    if name in methods.ASYNC_STEPS:
        if name == "__aenter__" and traits.lasts and guarding is not None:
            return methods.async_entry(wrapper, guarding)
        return methods.async_step(wrapper, guarding, name)
    if guarding is None or (not known and traits.is_async):
        return methods.forward(wrapper, name, "sync")
    if name in GUARDED:
        return methods.special(wrapper, guarding, cls, name, is_async=traits.is_async)
    if name == "__enter__" and traits.lasts:
        return methods.entry(wrapper, guarding)
    return methods.step(wrapper, guarding, name)


def _is_stream(cls: type, name: str) -> bool:
    return kind_of(getattr(cls, name)) in STREAMS
