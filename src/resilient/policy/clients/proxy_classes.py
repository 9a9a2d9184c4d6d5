"""The classes of proxies: one for each class of a client, and of what a client hands out.

Each has exactly the special methods of its client's class, so that the interpreter and abstract
base classes get the same answers from the proxy as from the client. `wrapt.ObjectProxy` has all
of them, whatever it wraps, and makes a call through it 0.6 us slower; see
``docs/explanation/functions-and-clients.md``.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, Protocol

from ...callables import STREAMS, kind_of
from . import proxy_methods, steps
from .client_policy import ClientPolicy
from .proxy import Proxy, Traits, Wrapping, own_doc
from .subclients import GUARDED

# The proxy has its own version of these, or Python never looks them up on an instance.
_OWN: Final = frozenset({
    "__class__", "__class_getitem__", "__copy__", "__deepcopy__", "__del__", "__delattr__",
    "__dict__", "__dir__", "__doc__", "__eq__", "__format__", "__getattr__", "__getattribute__",
    "__getstate__", "__hash__", "__init_subclass__", "__module__", "__ne__", "__new__",
    "__reduce__", "__reduce_ex__", "__repr__", "__set_name__", "__setattr__", "__setstate__",
    "__sizeof__", "__str__", "__subclasshook__", "__weakref__", "__wrapped__",
})  # fmt: skip

# Other code looks for these in the class of an object.
_SHOWN: Final = (
    "__annotations__", "__attrs_attrs__", "__dataclass_fields__", "__dataclass_params__",
    "__match_args__",
)  # fmt: skip


class Guards(Wrapping, Protocol):
    """A wrapper that knows what guards a method of a client."""

    def guarding(self, traits: Traits, name: str, client: Any) -> ClientPolicy | None: ...


def make_class(wrapper: Guards, client: Any, traits: Traits) -> type[Proxy]:
    """Return the proxy class for this client's class and these traits."""
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
    """Return the special methods that a class adds to those of object."""
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
    wrapper: Guards, client: Any, traits: Traits, name: str
) -> Callable[..., Any]:
    """Return a special method of a proxy, guarded if it calls the dependency.

    One rule decides: all are guarded except those of the object itself, those that release
    something, and those that only read data that is here already.
    """
    cls: type[Any] = type(client)
    if name in ("__aexit__", "__exit__"):
        return steps.exit_of(wrapper, name, "async" if name == "__aexit__" else "sync")
    known = name in GUARDED or name in steps.NAMELESS
    if not known and (name not in steps.OPERATIONS or _is_stream(cls, name)):
        return proxy_methods.forward(wrapper, name, "sync")
    guarding = wrapper.guarding(traits, name, client)
    if name == "__await__":
        return steps.awaiting(wrapper, guarding)
    if name in steps.ASYNC_STEPS:
        if name == "__aenter__" and traits.lasts and guarding is not None:
            return steps.async_entry(wrapper, guarding)
        return steps.async_step(wrapper, guarding, name)
    if guarding is None or (not known and traits.is_async):
        return proxy_methods.forward(wrapper, name, "sync")
    if name in GUARDED:
        return proxy_methods.special(wrapper, guarding, cls, name, is_async=traits.is_async)
    if name == "__enter__" and traits.lasts:
        return steps.entry(wrapper, guarding)
    return steps.step(wrapper, guarding, name)


def _is_stream(cls: type, name: str) -> bool:
    return kind_of(getattr(cls, name)) in STREAMS
