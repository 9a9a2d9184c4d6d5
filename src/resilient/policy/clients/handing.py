"""What a wrapper does with values that a client hands out: it guards parts and functions."""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from types import ClassMethodDescriptorType, FunctionType, MethodDescriptorType
from typing import Any, Final

from ...callables import is_future, kind_of, note_future, returns_awaitable
from ..marks import MARK, mark_of
from . import items, proxy_methods, reach, subclients
from .adapter import ClientAdapter
from .coverage import Coverage
from .proxy import Proxy, is_proxy

BUILT_IN: Final = (MethodDescriptorType, ClassMethodDescriptorType)
LISTS: Final = frozenset({list, tuple})
_NONE: Final[dict[str, Any]] = {}


class Handing(Coverage):
    """The half of a wrapper that handles what its clients hand out."""

    data: set[type]
    timeouts: tuple[type[Exception], ...]
    _known: weakref.WeakValueDictionary[int, Proxy]
    proxy: Callable[..., Any]
    _guarded: Callable[[Any, str, Any, Any], Callable[..., Any] | None]

    def hand(
        self, proxy: Any, name: str, value: Any, args: Any = (), kwargs: dict[str, Any] = _NONE
    ) -> Any:
        """Return what a method of a proxy's client returned, in the form that its caller gets."""
        given = (*args, *kwargs.values())
        if type(value) in LISTS:
            return self._list(proxy, name, value, given)
        return self._handed(proxy, name, value, given)

    def _list(self, proxy: Any, name: str, value: Any, given: tuple[Any, ...]) -> Any:
        """Return a list or tuple; if its first item is a part, with proxies for its items."""
        if not value or type(value[0]) in self.data or any(value is each for each in given):
            return value
        if not is_proxy(self._handed(proxy, name, value[0], given)):
            return value
        return type(value)([self._handed(proxy, name, each, given) for each in value])

    def _handed(  # noqa: PLR0911 - one for each kind of value
        self, proxy: Any, name: str, value: Any, given: Any = None
    ) -> Any:
        """Return a handed-out value; given are the call's arguments, None for an attribute."""
        cls: type[Any] = type(value)
        if cls in self.data:
            return value
        owner = proxy.__wrapped__
        if value is owner or (is_proxy(value) and value._resilient_by is self):
            return proxy if value is owner else value
        known = self._known.get(id(value))
        if known is not None and known.__wrapped__ is value:
            return known  # such as an argument of the call
        if issubclass(cls, subclients.STREAMS) and not returns_awaitable(value):
            return self._stream(proxy, name, value)
        if issubclass(cls, (*subclients.FUNCTIONS, functools.partial)):
            return self._function(proxy, name, value, given)
        if given is not None and is_future(cls):
            note_future(cls)  # the call lasts until the future is done
            return value
        told = True if is_proxy(value) else self._knowledge.is_part(value)
        if told is None and (self._knowledge.is_data(cls) or subclients.is_plain_type(cls)):
            self.data.add(cls)
        elif told or (told is None and self._is_part(proxy, name, value, given)):
            return self._part(proxy, name, value, given)
        return value

    def _is_part(self, proxy: Any, name: str, value: Any, given: Any) -> bool:
        if type(self._knowledge) is not ClientAdapter and subclients.is_foreign(
            value, proxy.__wrapped__
        ):
            return False  # a known library also hands out objects of other packages, such as rows
        is_target = self._targets(proxy)
        if subclients.is_data_type(type(value)):
            return reach.reaches(value, is_target)
        how = "attribute" if given is None else name
        return subclients.is_part(value, proxy.__wrapped__, is_target, how=how)

    def _targets(self, proxy: Any) -> reach.Target:
        """Return a predicate: is an object the client, or one that the client works by?"""
        root, owner = proxy._resilient_root, proxy.__wrapped__
        mine = self._works_by(root) | {id(root), id(owner)}
        if owner is not root:
            mine |= {id(held) for name, held in reach.named_fields(owner)
                     if not reach.is_wish(name) and subclients.is_client(held)}  # fmt: skip
        known = self._known

        def is_target(value: Any) -> bool:
            if id(value) in mine:
                return True
            found = known.get(id(value))
            return found is not None and found.__wrapped__ is value

        return is_target

    def _works_by(self, root: Any) -> frozenset[int]:
        """Return the ids of what a client works by; computed again after the client has changed."""
        proxy = self._known.get(id(root))
        held = [id(each) for each in subclients.fields(root)]
        if proxy is None or proxy.__wrapped__ is not root:
            return frozenset(map(id, reach.works_by(root, subclients.is_client)))
        known = proxy._resilient_works_by
        if known is None or known[0] != held:
            found = reach.works_by(root, subclients.is_client)
            known = held, frozenset(map(id, found)), found  # kept alive: the ids stay theirs
            object.__setattr__(proxy, "_resilient_works_by", known)
        return known[1]

    def _part(self, proxy: Any, name: str, value: Any, given: Any) -> Any:
        # The part of a context manager is named by what handed the context manager out.
        traits = proxy._resilient_traits
        traits = traits.lent(traits.holder if name.startswith("__") else name)
        if given is not None:
            traits = traits._replace(lasts=subclients.is_lazy(value))
        brought = False
        clone = proxy._resilient_traits.live is None and isinstance(value, type(proxy.__wrapped__))
        if given is not None and not clone:
            is_target = self._targets(proxy)
            brought = self._has_arrived(proxy, value, given, is_target)
            if brought or not subclients.is_lazy(value):
                traits = traits._replace(live=reach.live_fields(value, is_target))
        return self.proxy(value, traits, proxy._resilient_root, brought=brought)

    def _has_arrived(self, proxy: Any, value: Any, given: Any, is_target: reach.Target) -> bool:
        """Return whether a part is an answer: a success, and reading it is not a call."""
        cls: type[Any] = type(value)
        if is_proxy(value) or subclients.is_lazy(value):
            return False
        owner, root = proxy.__wrapped__, proxy._resilient_root
        held = {id(each) for each in (*subclients.fields(owner), *subclients.fields(root))}
        return subclients.is_record(cls) or reach.has_brought(
            value,
            given,
            lambda each: id(each) in held or is_target(each),
            deep=not subclients.is_iterator(cls),
        )

    def _function(self, proxy: Any, name: str, value: Any, given: Any) -> Any:
        """Return a handed-out function, guarded if it can call the client later."""
        if given is None or any(value is each for each in given):
            return value
        mark = mark_of(getattr(value, "__func__", value))
        if mark is not None or not reach.reaches(value, self._targets(proxy)):
            return value
        made = self._guarded(proxy, name, value, value)
        if made is None:
            return value
        again = functools.partial(
            self.proxy, proxy.__wrapped__, proxy._resilient_traits, proxy._resilient_root
        )
        return dressed(proxy_methods.alone(kind_of(value), made, again, skip=0), value)

    def _stream(self, proxy: Any, name: str, value: Any) -> Any:
        is_async = isinstance(value, subclients.STREAMS[1])
        guarding = self.guarding(proxy._resilient_traits, name, proxy.__wrapped__)
        if guarding is None:
            return value
        handed = (items.AsyncItems if is_async else items.Items)(self, proxy, name, value)
        return guarding.stream(handed, is_async=is_async)


def dressed(made: Callable[..., Any], original: Any) -> Callable[..., Any]:
    """Return a function with the name, documentation and attributes of another."""
    plain = isinstance(original, FunctionType)
    functools.update_wrapper(made, original, updated=("__dict__",) if plain else ())
    setattr(made, "__module__", getattr(original, "__module__", None))  # noqa: B010 - may be None
    vars(made).pop(MARK, None)  # a copy of the other's
    if not plain and not isinstance(original, (*BUILT_IN, *subclients.FUNCTIONS)):
        for name in dir(original):
            if not name.startswith("_"):
                vars(made).setdefault(name, getattr(original, name))  # such as cache_info()
    return made
