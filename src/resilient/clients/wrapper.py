"""What one `Policy.wrap` makes: the proxies of a client and of all it hands out."""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from types import ClassMethodDescriptorType, FunctionType, MethodDescriptorType, MethodType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from ..drive.core import Core
from ..shapes import Kind, kind_of, returns_awaitable
from ..wrapping import BY, MARK, GuardedBy, mark_of
from . import methods, parts
from .guarding import Guarding
from .knowledge import Knowledge
from .proxy import Proxy, bare, is_proxy, make_class
from .selection import RELEASES, Selection

if TYPE_CHECKING:
    from ..policy import Policy

A = TypeVar("A", tuple[Any, ...], dict[str, Any])

_BUILT_IN: Final = (MethodDescriptorType, ClassMethodDescriptorType)


_MOST: Final = 128  # classes of clients and parts; a method that uses super() keeps its class


class Wrapper:
    """A policy, a selection and what is known of a client: the same for all proxies of one wrap."""

    def __init__(
        self, policy: Policy, selection: Selection, knowledge: Knowledge, judges: tuple[Any, ...]
    ) -> None:
        self.policy: Policy = policy
        self.name: str = policy.name
        self.selection: Selection = selection
        self.data: set[type] = set(parts.ATOMS)  # types whose instances are handed on as they are
        self.gave_up: Callable[[Exception], bool] = knowledge.gave_up
        self.timeouts: tuple[type[Exception], ...] = knowledge.timeouts
        self.hands_out: bool = False  # so that it may come back as an argument
        self._knowledge = knowledge
        self._judges = judges
        policies = [policy, *(each for _, each in selection.per_call)]
        self._threaded = any(guard.sync == "thread" for each in policies for guard in each.guards)
        self._guardings: dict[tuple[Policy, bool], Guarding] = {}
        self._classes: weakref.WeakKeyDictionary[type, dict[Any, type[Proxy]]] = (
            weakref.WeakKeyDictionary()
        )
        # So that what is handed out twice is one proxy, as it is one object.
        self._known: weakref.WeakValueDictionary[int, Proxy] = weakref.WeakValueDictionary()

    def limit(self, colour: Literal["sync", "async"]) -> float | None:
        """Return the time limit of calls of a colour, where there is one."""
        if not Core.active:
            return None
        bounding = (
            guard.seconds
            for guard in self.policy.guards
            if guard.seconds is not None and (colour == "async" or guard.sync is not None)
        )
        return min(bounding, default=None)

    # -- proxies ---------------------------------------------

    def proxy(self, value: Any, holder: str, *, is_async: bool = False) -> Any:
        """Return the proxy of a client, or of a part of one that was handed out by holder."""
        known = self._known.get(id(value))
        if known is not None and known.__wrapped__ is value:
            return known
        made: Proxy = object.__new__(self._class_for(value, holder, is_async=is_async))
        self.hands_out = self.hands_out or holder != "" or len(self._known) > 0
        put = object.__setattr__
        put(made, "__wrapped__", value)
        put(made, "_resilient_as", holder)
        put(made, "_resilient_by", self)
        put(made, "_resilient_own", None)
        self._known[id(value)] = made
        return made

    def _class_for(self, value: Any, holder: str, *, is_async: bool) -> type[Proxy]:
        cls: type[Any] = type(value)
        is_async = is_async or parts.is_async_client(cls)
        if len(self._classes) >= _MOST and cls not in self._classes:
            self._classes.clear()  # who makes new classes all the time would keep them all
        classes = self._classes.setdefault(cls, {})
        bound = self._threaded and parts.is_thread_bound(value)
        key = holder, _shadowed(value, cls), is_async, bound
        if key not in classes:
            classes[key] = made = make_class(self, value, holder, is_async=is_async)
            self._knowledge.passes(made, cls)
        return classes[key]

    def changed(self, proxy: Proxy, name: str) -> None:
        """Have a proxy look anew for what its client has by a name."""
        if name in vars(type(proxy)) and not name.startswith("__"):
            made = self._class_for(
                proxy.__wrapped__, proxy._resilient_as, is_async=proxy._resilient_async
            )
            object.__dict__["__class__"].__set__(proxy, made)  # its own, not its client's

    def opened(self, value: Any) -> Any:
        """Return what the client gave out, where it comes back as the proxy of that."""
        return bare(value) if is_proxy(value) and value._resilient_by is self else value

    def all_opened(self, given: A) -> A:
        """Return arguments, those that are proxies opened."""
        values = given.values() if isinstance(given, dict) else given
        if self.data.issuperset(map(type, values)):
            return given
        if isinstance(given, dict):
            return {name: self.opened(value) for name, value in given.items()}
        return tuple([self.opened(value) for value in given])

    # -- what is handed out ---------------------------------------------

    def hand(self, proxy: Any, name: str, value: Any) -> Any:
        """Return what a method of a proxy's client returned, as its caller gets it."""
        return self._handed(proxy, name, value, attribute=False)

    def _handed(self, proxy: Any, name: str, value: Any, *, attribute: bool) -> Any:
        cls: type[Any] = type(value)
        if cls in self.data:
            return value
        owner = proxy.__wrapped__
        if value is owner or (is_proxy(value) and value._resilient_by is self):
            return proxy if value is owner else value
        known = self._known.get(id(value))
        if known is not None and known.__wrapped__ is value:
            return known  # it was given as an argument, perhaps
        if issubclass(cls, parts.STREAMS) and not returns_awaitable(value):
            return self._stream(proxy, name, value)
        told = True if is_proxy(value) else self._knowledge.is_part(value)
        if told is None and (self._knowledge.is_data(cls) or parts.is_data_type(cls)):
            self.data.add(cls)
        elif told or (
            told is None and parts.is_part(value, owner, how="attribute" if attribute else name)
        ):
            return self._part(proxy, name, value)
        return value

    def _part(self, proxy: Any, name: str, value: Any) -> Any:
        # A context manager's part is called by what handed out the context manager.
        holder = proxy._resilient_as if name.startswith("__") else name
        return self.proxy(value, holder, is_async=proxy._resilient_async)

    def _stream(self, proxy: Any, name: str, value: Any) -> Any:
        is_async = isinstance(value, parts.STREAMS[1])
        guarding = self.guarding(proxy._resilient_as, name, proxy.__wrapped__)
        if guarding is None:
            return value
        if not is_async and guarding.sync_mode == "thread":
            return self._part(proxy, name, value)  # each step of it on a worker
        items = (methods._AsyncItems if is_async else methods._Items)(self, proxy, name, value)
        return guarding.stream(items, is_async=is_async)

    # -- attributes ---------------------------------------------

    def attribute(self, proxy: Proxy, name: str) -> Any:
        """Return an attribute that the proxy has not got itself: of its client, guarded."""
        client = proxy.__wrapped__
        value = getattr(client, name)
        if name.startswith("_"):
            return proxy if value is client else value
        if self.selection.leaves(proxy._resilient_as, name) or isinstance(value, type):
            return value
        if _is_function(value):
            return self._method(proxy, client, name, value)
        if callable(value) and not is_proxy(value):
            return self._part(proxy, name, value)  # an object that can be called
        return self._handed(proxy, name, value, attribute=True)

    def _method(self, proxy: Proxy, client: Any, name: str, value: Any) -> Any:
        """Return a method, guarded; it is made once for all instances where its class has it."""
        cls: type[Any] = type(client)
        static = _static(cls, name)
        bound = type(value) is MethodType and value.__self__ is client
        shared = isinstance(static, _BUILT_IN) or (bound and isinstance(static, FunctionType))
        if shared and name not in _shadowed(client, cls):
            made = self._guarded(proxy, name, value, None)
            if made is None:
                return value
            setattr(type(proxy), name, self._by(proxy, name, _dressed(made, static)))
            return getattr(proxy, name)
        known = proxy._resilient_own
        if known is None:
            known = {}
            object.__setattr__(proxy, "_resilient_own", known)
        if name not in known or known[name][0] != value:
            known[name] = value, self._alone(proxy, name, value)
        return known[name][1]

    def _alone(self, proxy: Proxy, name: str, value: Any) -> Any:
        """Return a guarded function that is this client's only, or not made for each of a class."""
        client, holder, is_async = proxy.__wrapped__, proxy._resilient_as, proxy._resilient_async
        made = self._guarded(proxy, name, value, value)
        if made is None:
            return value
        # It holds the client and not the proxy, or the two would be a cycle.
        again = functools.partial(self.proxy, client, holder, is_async=is_async)
        if type(value) is not MethodType:
            alone = _dressed(methods.alone(kind_of(value), made, again, skip=0), value)
            return self._by(proxy, name, alone)
        alone = _dressed(methods.alone(kind_of(value), made, again, skip=1), value.__func__)
        return MethodType(self._by(proxy, name, alone), value.__self__)

    def _by(self, proxy: Proxy, name: str, made: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method that knows which policy guards it, if one does."""
        guarding = self.guarding(proxy._resilient_as, name, proxy.__wrapped__)
        if guarding is not None:
            setattr(made, BY, GuardedBy(guarding.policy, name))
        return made

    def _guarded(
        self, proxy: Proxy, name: str, value: Any, fn: Callable[..., Any] | None
    ) -> Callable[..., Any] | None:
        """Return a function of a proxy and a method's arguments, None to leave the method as is."""
        client = proxy.__wrapped__
        kind, guarding = kind_of(value), self.guarding(proxy._resilient_as, name, client)
        mark = mark_of(getattr(value, "__func__", value))
        if guarding is None or (mark is not None and mark.policy._core is self.policy._core):
            return self._free(client, name, kind, fn, marked=mark is not None)
        if isinstance(client, parts.STREAMS[0]) and name in ("send", "throw"):
            return methods.step(self, guarding, name)
        if kind == "sync" and (proxy._resilient_async or parts.makes_async(value)):
            return methods.asynchronous(self, guarding, name, fn)
        if kind == "generator" and guarding.sync_mode == "thread":
            return methods.forward(self, name, "sync", fn)  # each step of it runs on a worker
        return guarding.function(kind, methods.forward(self, name, kind, fn), skip=1)

    def _free(
        self, client: Any, name: str, kind: Kind, fn: Callable[..., Any] | None, *, marked: bool
    ) -> Callable[..., Any] | None:
        """Return a method that is not guarded, or not always; None for a stream, left as it is."""
        if kind == "generator":
            return methods.free_stream(self, name, fn)
        if kind == "async generator":
            return None
        if name in RELEASES:
            return methods.released(self, name, kind, fn)
        plain = methods.forward(self, name, kind, fn)
        at_once = self._knowledge.at_once(type(client), name)
        if at_once is None or marked:
            return plain
        guarded = self._guarding(self.policy, client).function(kind, plain, skip=1)
        return methods.either(at_once, guarded, plain)

    def guarding(self, holder: str, name: str, client: Any) -> Guarding | None:
        """Return what guards a method of a client, None for one that is left free."""
        if name in methods.NAMELESS:
            holder, name = "", holder or name  # by the name of what handed it out
        elif hasattr(type(client), "_asyncio_future_blocking"):
            return None  # of a future the await alone is a call
        policy = self.selection.policy_of(holder, name, self.policy)
        if policy is None or self._knowledge.free(type(client), name):
            return None
        if parts.is_mocks_own(client, name):
            return None
        return self._guarding(policy, client)

    def _guarding(self, policy: Policy, client: Any) -> Guarding:
        key = policy, self._threaded and parts.is_thread_bound(client)
        found = self._guardings.get(key)
        if found is None:
            found = self._guardings[key] = Guarding(
                policy, self._judges, inline=key[1], kin=self._knowledge.kin
            )
        return found


def _is_function(value: Any) -> bool:
    """Tell whether a value is a function, or passes for one: it would be bound as a method."""
    cls = type(value)  # and not isinstance(): a mock of a function says that it is one
    if issubclass(cls, (*parts.FUNCTIONS, functools.partial)):
        return True
    return callable(value) and hasattr(cls, "__get__")


def _static(cls: type, name: str) -> Any:
    """Return what a class has by a name, unbound, without running any code of it."""
    return next((base.__dict__[name] for base in cls.__mro__ if name in base.__dict__), None)


def _shadowed(value: Any, cls: type) -> frozenset[str]:
    """Return the methods of a class that an instance has something of its own for."""
    try:
        mine: dict[str, Any] = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return frozenset()
    return frozenset(name for name in mine if name[:1] != "_" and callable(_static(cls, name)))


def _dressed(made: Callable[..., Any], original: Any) -> Callable[..., Any]:
    """Return a function with the name, the documentation and the attributes of another."""
    plain = isinstance(original, FunctionType)
    functools.update_wrapper(made, original, updated=("__dict__",) if plain else ())
    setattr(made, "__module__", getattr(original, "__module__", None))  # noqa: B010 - may be None
    vars(made).pop(MARK, None)  # a copy of another's
    if not plain and not isinstance(original, (*_BUILT_IN, *parts.FUNCTIONS)):
        for name in dir(original):
            if not name.startswith("_"):
                vars(made).setdefault(name, getattr(original, name))  # such as cache_info()
    return made
