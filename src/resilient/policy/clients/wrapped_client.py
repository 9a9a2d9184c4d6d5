"""The wrapper that one `Policy.wrap` makes: it makes the proxies of a client and all its parts."""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, Final

from ...callables import Kind, kind_of
from ..guard_stack import GuardStack
from ..key_calls import KeyView
from ..marks import BY, GuardedBy, mark_of
from . import proxy_methods, subclients
from .adapter import ClientAdapter
from .handing import BUILT_IN, LISTS, Handing, dressed
from .keying import Keying
from .proxy import Given, Proxy, Traits, bare, is_proxy, own_doc
from .proxy_classes import make_class
from .selection import RELEASES, Selection
from .touching import static

INNER: Final = "_resilient_inner"  # what a new function guards, until it has its mark
_MOST: Final = 128  # classes of clients and parts; a method that uses super() keeps its class alive


class Wrapper(Handing):
    """A policy, a selection and an adapter, shared by all proxies of one wrap."""

    __slots__ = ("hands_out", "keying")  # the first where the compiled core reads it

    def __init__(
        self,
        policy: GuardStack,
        selection: Selection,
        knowledge: ClientAdapter,
        judges: tuple[Any, ...],
        keying: Keying | None = None,
    ) -> None:
        super().__init__(policy, selection, knowledge, judges)
        self.keying: Keying | None = keying  # if calls have guards by their keys
        # Types whose instances are handed out unchanged.
        self.data: set[type] = set(subclients.ATOMS) - LISTS
        self.gave_up: Callable[[Exception], bool] = knowledge.gave_up
        self.timeouts: tuple[type[Exception], ...] = knowledge.timeouts
        self.hands_out: bool = False  # once True, an argument may be one of our proxies
        # The functions made here, and the original of each.
        self._made: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
        self._classes: weakref.WeakKeyDictionary[type, dict[Any, type[Proxy]]] = (
            weakref.WeakKeyDictionary()
        )
        # An object that is handed out twice gets one proxy.
        self._known: weakref.WeakValueDictionary[int, Proxy] = weakref.WeakValueDictionary()

    # -- proxies ---------------------------------------------

    def proxy(self, value: Any, traits: Traits, root: Any = None, *, brought: bool = False) -> Any:
        """Return the proxy of a client, or of a handed-out part of root."""
        known = self._known.get(id(value))
        if known is not None and known.__wrapped__ is value:
            return known
        if self._threaded and not traits.inline and subclients.is_thread_bound(value):
            traits = traits._replace(inline=True)
        if not traits.is_async and subclients.is_async_client(type(value)):
            traits = traits._replace(is_async=True)
        made: Proxy = object.__new__(self._class_for(value, traits))
        self.hands_out = self.hands_out or traits.holder != "" or len(self._known) > 0
        put = object.__setattr__
        put(made, "__wrapped__", value)
        put(made, "_resilient_brought", brought)
        put(made, "_resilient_by", self)
        put(made, "_resilient_entries", None)
        put(made, "_resilient_own", None)
        put(made, "_resilient_root", value if root is None else root)
        put(made, "_resilient_works_by", None)
        self._known[id(value)] = made
        return made

    def _class_for(self, value: Any, traits: Traits) -> type[Proxy]:
        cls: type[Any] = type(value)
        if len(self._classes) >= _MOST and cls not in self._classes:
            self._classes.clear()  # a program that keeps making classes would keep them all
        classes = self._classes.setdefault(cls, {})
        key = traits, _shadowed(value, cls), own_doc(value)
        if key not in classes:
            classes[key] = made = make_class(self, value, traits)
            self._knowledge.passes(made, cls)
        return classes[key]

    def changed(self, proxy: Proxy, name: str) -> None:
        """Update a proxy after a change of an attribute of its client."""
        if name in vars(type(proxy)) and not name.startswith("__"):
            made = self._class_for(proxy.__wrapped__, proxy._resilient_traits)
            object.__dict__["__class__"].__set__(proxy, made)  # its own class, not its client's

    def original(self, proxy: Proxy, name: str) -> Any:
        """Return a method of a proxy's client; the class's, if the instance has replaced it since.

        A caller who read the method before holds the old one, as with a bare client.
        """
        client = proxy.__wrapped__
        cls: type[Any] = type(client)
        if name not in _shadowed(client, cls) or name in vars(type(proxy)):
            return getattr(client, name)
        return static(cls, name).__get__(client, cls)

    def opened(self, value: Any) -> Any:
        """Return the client's own object, if a proxy of it comes back as an argument."""
        return bare(value) if is_proxy(value) and value._resilient_by is self else value

    def assigned(self, value: Any) -> Any:
        """Return what to set on a client: the original of a guarded method, else the value."""
        if type(value) is MethodType:
            holder: Any = value.__self__
            if is_proxy(holder) and holder._resilient_by is self:
                found = self._made.get(value.__func__)
                client = holder.__wrapped__
                return value if found is None else found.__get__(client, type(client))
            return self._made.get(value.__func__, value)
        if type(value) is FunctionType:
            return self._made.get(value, value)
        return self.opened(value)

    def all_opened(self, given: Given) -> Given:
        """Return arguments, with proxies replaced by what they wrap."""
        values = given.values() if isinstance(given, dict) else given
        if self.data.issuperset(map(type, values)):
            return given
        if isinstance(given, dict):
            return {name: self.opened(value) for name, value in given.items()}
        return tuple([self.opened(value) for value in given])

    def _of_key(self, view: KeyView, proxy: Proxy) -> Any:
        """Return the proxy of the same client that is guarded by the guards of a key."""
        wrapper = view.clients.get(self)
        if wrapper is None:
            wrapper = Wrapper(view, self.selection, self._knowledge, self._judges)
            view.clients[self] = wrapper
        return wrapper.proxy(proxy.__wrapped__, proxy._resilient_traits)

    # -- attributes ---------------------------------------------

    def attribute(self, proxy: Proxy, name: str) -> Any:
        """Return a client's attribute, guarded, if the proxy itself does not have it."""
        client = proxy.__wrapped__
        value = getattr(client, name)
        if name.startswith("_"):
            return proxy if value is client else value
        traits = proxy._resilient_traits
        if self.selection.leaves(traits.holder, name) or isinstance(value, type):
            return value
        if _is_function(value):
            return self._method(proxy, client, name, value)
        if traits.live is not None and type(value) in LISTS:
            return self._list(proxy, name, value, ())
        if callable(value) and not is_proxy(value):
            return self._part(proxy, name, value, None)  # a callable object
        return self._handed(proxy, name, value)

    def _method(self, proxy: Proxy, client: Any, name: str, value: Any) -> Any:
        """Return a method, guarded; made once for all instances if their class defines it."""
        cls: type[Any] = type(client)
        found = static(cls, name)
        bound = type(value) is MethodType and value.__self__ is client
        shared = isinstance(found, BUILT_IN) or (bound and isinstance(found, FunctionType))
        if shared and name not in _shadowed(client, cls):
            made = self._guarded(proxy, name, value, None)
            if made is None:
                return value
            self._made[made] = found
            setattr(type(proxy), name, self._by(proxy, name, dressed(made, found)))
            return getattr(proxy, name)
        known = proxy._resilient_own
        if known is None:
            known = {}
            object.__setattr__(proxy, "_resilient_own", known)
        if name not in known or known[name][0] != value:
            known[name] = value, self._alone(proxy, name, value)
        return known[name][1]

    def _alone(self, proxy: Proxy, name: str, value: Any) -> Any:
        """Return a guarded function of this client alone."""
        made = self._guarded(proxy, name, value, value)
        if made is None:
            return value
        # It holds the client and not the proxy, which would be a cycle.
        again = functools.partial(
            self.proxy, proxy.__wrapped__, proxy._resilient_traits, proxy._resilient_root
        )
        bound = type(value) is MethodType
        alone = proxy_methods.alone(kind_of(value), made, again, skip=int(bound))
        self._made[alone] = value
        if not bound:
            return self._by(proxy, name, dressed(alone, value))
        return MethodType(self._by(proxy, name, dressed(alone, value.__func__)), value.__self__)

    def _by(self, proxy: Proxy, name: str, made: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method that knows which policy, if any, guards it."""
        guarding = self.guarding(proxy._resilient_traits, name, proxy.__wrapped__)
        if guarding is not None:
            inner = vars(made).pop(INNER, None)
            setattr(made, BY, GuardedBy(guarding.policy, name, inner, guarding))
        return made

    def _guarded(
        self, proxy: Proxy, name: str, value: Any, fn: Callable[..., Any] | None
    ) -> Callable[..., Any] | None:
        """Return a function of a proxy and a method's arguments, None to leave the method as is."""
        client, traits = proxy.__wrapped__, proxy._resilient_traits
        kind, guarding = kind_of(value), self.guarding(traits, name, client)
        mark = mark_of(getattr(value, "__func__", value))
        if guarding is None or (mark is not None and mark.policy._core is self.policy._core):
            return self._free(proxy, name, kind, fn, marked=mark is not None)
        own = guarding.policy._core is self.policy._core
        if self.keying is not None and own and traits.holder == "":
            return self.keying.method(kind, name, self._of_key)
        if kind == "sync" and (traits.is_async or subclients.makes_async(value)):
            return proxy_methods.asynchronous(self, guarding, name, fn)
        inner = proxy_methods.forward(self, name, kind, fn, type(proxy))
        quick = None
        if fn is None:
            quick = proxy_methods.frameless(self, name, kind, inner, type(proxy))
        made = guarding.function(kind, inner, skip=1, quick=quick)
        if kind in ("sync", "async"):
            setattr(made, INNER, inner)
        return made

    def _free(
        self, proxy: Proxy, name: str, kind: Kind, fn: Callable[..., Any] | None, *, marked: bool
    ) -> Callable[..., Any] | None:
        """Return a method that is not, or not always, guarded; None for a stream, left as it is."""
        if kind == "generator":
            return proxy_methods.free_stream(self, name, fn)
        if kind == "async generator":
            return None
        if name in RELEASES:
            return proxy_methods.released(self, name, kind, fn)
        plain = proxy_methods.forward(self, name, kind, fn, type(proxy))
        client = proxy.__wrapped__
        at_once = self._knowledge.at_once(type(client), name)
        if at_once is None or marked:
            return plain
        guarding = self._guarding(self.policy, inline=proxy._resilient_traits.inline)
        return proxy_methods.either(at_once, guarding.function(kind, plain, skip=1), plain)


def _is_function(value: Any) -> bool:
    """Return whether a value is a function, or acts like one and would bind as a method."""
    cls = type(value)  # not isinstance(): a mock of a function claims to be one
    if issubclass(cls, (*subclients.FUNCTIONS, functools.partial)):
        return True
    return callable(value) and hasattr(cls, "__get__")


def _shadowed(value: Any, cls: type) -> frozenset[str]:
    """Return the methods of a class that an instance shadows."""
    try:
        mine: dict[str, Any] = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return frozenset()
    return frozenset(name for name in mine if name[:1] != "_" and callable(static(cls, name)))
