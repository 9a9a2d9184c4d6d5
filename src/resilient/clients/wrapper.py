"""What one `Policy.wrap` makes: the proxies of a client and of all it hands out."""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from types import ClassMethodDescriptorType, FunctionType, MethodDescriptorType, MethodType
from typing import TYPE_CHECKING, Any, Final

from ..shapes import Kind, kind_of
from ..wrapping import MARK, mark_of
from . import methods, parts
from .guarding import Guarding
from .knowledge import Knowledge
from .proxy import Proxy, is_proxy, make_class, own
from .selection import RELEASES, Selection

if TYPE_CHECKING:
    from ..policy import Policy

_BUILT_IN: Final = (MethodDescriptorType, ClassMethodDescriptorType)


class Wrapper:
    """A policy, a selection and what is known of a client: the same for all proxies of one wrap."""

    def __init__(
        self, policy: Policy, selection: Selection, knowledge: Knowledge, judges: tuple[Any, ...]
    ) -> None:
        self.policy: Policy = policy
        self.name: str = policy.name
        self.selection: Selection = selection
        self.data: set[type] = set()  # types whose instances are handed on as they are
        self.timeouts: tuple[type[Exception], ...] = knowledge.timeouts
        self._knowledge = knowledge
        self._judges = judges
        self._guardings: dict[tuple[Policy, bool], Guarding] = {}
        self._classes: weakref.WeakKeyDictionary[type, dict[Any, type[Proxy]]] = (
            weakref.WeakKeyDictionary()
        )
        # So that what is handed out twice is one proxy, as it is one object.
        self._known: weakref.WeakValueDictionary[int, Proxy] = weakref.WeakValueDictionary()

    @property
    def seconds(self) -> float | None:
        """The time limit of sync calls, where there is one."""
        limits = [
            guard.seconds
            for guard in self.policy.guards
            if guard.seconds is not None and guard.sync is not None
        ]
        return min(limits, default=None)

    # -- proxies ---------------------------------------------

    def proxy(self, value: Any, holder: str) -> Any:
        """Return the proxy of a client, or of a part of one that was handed out by holder."""
        known = self._known.get(id(value))
        if known is not None and known.__wrapped__ is value:
            return known
        cls: type[Any] = type(value)
        classes = self._classes.setdefault(cls, {})
        key = holder, self._shadowed(value, cls)
        if key not in classes:
            classes[key] = make_class(self, value, holder)
        made = object.__new__(classes[key])
        for name, field in (
            ("__wrapped__", value),
            ("_resilient_as", holder),
            ("_resilient_by", self),
        ):
            object.__setattr__(made, name, field)
        self._known[id(value)] = made
        return made

    def _shadowed(self, value: Any, cls: type) -> frozenset[str]:
        """Return the methods of a class that an instance has something of its own for."""
        try:
            mine: dict[str, Any] = object.__getattribute__(value, "__dict__")
        except AttributeError:
            return frozenset()
        return frozenset(name for name in mine if name[:1] != "_" and callable(_static(cls, name)))

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
        if issubclass(cls, parts.STREAMS):
            return self._stream(proxy, name, value)
        known = self._knowledge.is_part(cls) or is_proxy(value)
        if not known and (self._knowledge.is_data(cls) or parts.is_data_type(cls)):
            self.data.add(cls)
        elif known or parts.is_part(value, owner, attribute=attribute):
            return self.proxy(value, self._holder(proxy, name))
        return value

    def _holder(self, proxy: Any, name: str) -> str:
        """Return how a part is called: a context manager's by who handed out that."""
        return str(proxy._resilient_as) if name.startswith("__") else name

    def _stream(self, proxy: Any, name: str, value: Any) -> Any:
        is_async = isinstance(value, parts.STREAMS[1])
        guarding = self.guarding(proxy._resilient_as, name, proxy.__wrapped__)
        if guarding is None:
            return value
        if not is_async and guarding.sync_mode == "thread":
            return self.proxy(value, name)  # each step of it on a worker
        items = (methods._AsyncItems if is_async else methods._Items)(self, proxy, name, value)
        return guarding.stream(items, is_async=is_async)

    # -- attributes ---------------------------------------------

    def attribute(self, proxy: Proxy, name: str) -> Any:
        """Return an attribute that the proxy has not got itself: of its client, guarded."""
        client = proxy.__wrapped__
        value = getattr(client, name)
        if name.startswith("_") or type(value) in self.data:
            return proxy if value is client else value
        if self.selection.leaves(proxy._resilient_as, name):
            return value
        if self._is_function(value):
            return self._method(proxy, client, name, value)
        if callable(value) and not isinstance(value, type) and not is_proxy(value):
            return self.proxy(value, name)  # an object that can be called
        return self._handed(proxy, name, value, attribute=True)

    def _is_function(self, value: Any) -> bool:
        return isinstance(value, (*parts.FUNCTIONS, functools.partial)) or (
            callable(value) and hasattr(value, "__wrapped__") and hasattr(value, "__name__")
        )

    def _method(self, proxy: Proxy, client: Any, name: str, value: Any) -> Any:
        """Return a method, guarded; it is made once for all instances where its class has it."""
        cls, holder = type(client), proxy._resilient_as
        static = _static(cls, name)
        bound = isinstance(value, MethodType) and value.__self__ is client
        shared = isinstance(static, _BUILT_IN) or (bound and isinstance(static, FunctionType))
        if shared and name not in self._shadowed(client, cls):
            setattr(type(proxy), name, self._guarded(holder, client, name, value, static))
            return getattr(proxy, name)
        made = self._guarded(holder, client, name, value, value)
        # It holds the client and not the proxy, or the two would be a cycle.
        is_method = isinstance(value, MethodType)  # of its class, or of another object
        alone = _alone(kind_of(value), made, lambda: self.proxy(client, holder), skip=is_method)
        functools.update_wrapper(alone, value.__func__ if is_method else value, updated=())
        own(proxy)[name] = given = MethodType(alone, value.__self__) if is_method else alone
        return given

    def _guarded(
        self, holder: str, client: Any, name: str, value: Any, original: Any
    ) -> Callable[..., Any]:
        """Return a function of a proxy and a method's arguments."""
        kind, guarding = kind_of(value), self.guarding(holder, name, client)
        mark = mark_of(getattr(value, "__func__", value))
        if guarding is None or (mark is not None and mark.policy._core is self.policy._core):
            release = name in RELEASES and kind == "sync"
            made = methods.released(self, name) if release else methods.free(self, name, kind)
        elif kind == "sync" and parts.is_async_client(type(client)):
            made = methods.asynchronous(self, guarding, name)
        elif kind == "generator" and guarding.sync_mode == "thread":
            made = methods.free(self, name, "sync")  # each step of it runs on a worker
        else:
            forwarded = methods.forward(self, name, kind)
            made = guarding.function(kind, forwarded, skip=1)
        updated = ("__dict__",) if hasattr(original, "__code__") else ()
        functools.update_wrapper(made, original, updated=updated)
        vars(made).pop(MARK, None)  # a copy of another's
        return made

    def guarding(self, holder: str, name: str, client: Any) -> Guarding | None:
        """Return what guards a method of a client, None for one that is left free."""
        if name in methods.NAMELESS:
            holder, name = "", holder or name  # by the name of what handed it out
        policy = self.selection.policy_of(holder, name, self.policy)
        if policy is None or self._knowledge.free(type(client), name):
            return None
        key = policy, parts.is_thread_bound(client)
        found = self._guardings.get(key)
        if found is None:
            found = self._guardings[key] = Guarding(policy, self._judges, inline=key[1])
        return found


def _static(cls: type, name: str) -> Any:
    """Return what a class has by a name, unbound, without running any code of it."""
    return next((base.__dict__[name] for base in cls.__mro__ if name in base.__dict__), None)


def _alone(
    kind: Kind, made: Callable[..., Any], proxy: Callable[[], Any], *, skip: bool
) -> Callable[..., Any]:
    """Return a function of one client's proxy, that passes for the function in a bound method."""
    if kind == "async":

        async def awaits(*args: Any, **kwargs: Any) -> Any:
            return await made(proxy(), *args[skip:], **kwargs)

        return awaits
    if kind == "generator":

        def generates(*args: Any, **kwargs: Any) -> Any:
            return (yield from made(proxy(), *args[skip:], **kwargs))

        return generates

    def calls(*args: Any, **kwargs: Any) -> Any:
        return made(proxy(), *args[skip:], **kwargs)

    return calls
