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
from typing import TYPE_CHECKING, Any, Final, NoReturn

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


class Proxy:
    """Base of the proxy classes; `bare` gives the client itself."""

    __slots__ = ("__weakref__", "__wrapped__", "_resilient_as", "_resilient_by", "_resilient_own")
    _resilient_async: bool  # of an async client: its plain methods do no I/O themselves
    __wrapped__: Any
    _resilient_as: str  # how it was handed out: the name of an attribute or method, "" at the root
    _resilient_by: Wrapper
    _resilient_own: dict[str, tuple[Any, Any]] | None  # functions of this client alone, guarded

    def __getattr__(self, name: str) -> Any:
        return self._resilient_by.attribute(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__wrapped__, name, self._resilient_by.opened(value))
        self._resilient_by.changed(self, name)

    def __delattr__(self, name: str) -> None:
        delattr(self.__wrapped__, name)
        self._resilient_by.changed(self, name)

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
        is_async = self._resilient_async
        return self._resilient_by.proxy(client, self._resilient_as, is_async=is_async)

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
    """Tell whether a value is a part of a client that was handed out, guarded."""
    return issubclass(type(value), (Proxy, GeneratorType, AsyncGeneratorType))


def make_class(wrapper: Wrapper, client: Any, holder: str, *, is_async: bool) -> type[Proxy]:
    """Return the proxy class for clients of this one's class that are handed out by holder."""
    cls: type[Any] = type(client)
    names: dict[str, Any] = {
        "__slots__": (),
        "__class__": property(lambda self: self.__wrapped__.__class__),
        "__dict__": property(lambda self: self.__wrapped__.__dict__),
        "__doc__": property(lambda self: self.__wrapped__.__doc__),  # an instance may have its own
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "_resilient_async": is_async,
    }
    if getattr(cls, "__hash__", None) is None:
        names["__hash__"] = None
    seen = {name: base.__dict__[name] for base in reversed(cls.__mro__) for name in _SHOWN
            if name in base.__dict__}  # fmt: skip
    names |= seen
    for name in _special(cls):
        made = _forwarded(wrapper, client, holder, name, is_async=is_async)
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


def _forwarded(
    wrapper: Wrapper, client: Any, holder: str, name: str, *, is_async: bool
) -> Callable[..., Any]:
    if name in ("__aexit__", "__exit__"):
        return methods.released(wrapper, name, "async" if name == "__aexit__" else "sync")
    if name not in GUARDED and name not in methods.NAMELESS:
        return methods.forward(wrapper, name, "sync")
    guarding = wrapper.guarding(holder, name, client)
    if name in GUARDED or name == "__call__":
        if guarding is None:
            return methods.forward(wrapper, name, "sync")
        return methods.special(wrapper, guarding, type(client), name, is_async=is_async)
    if name == "__await__":
        return methods.awaiting(wrapper, guarding)
    made = methods.step if name in methods.STEPS else methods.async_step
    return made(wrapper, guarding, name)
