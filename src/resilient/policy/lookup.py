"""Find the policy of a function, a method or a client, and explain it."""

from __future__ import annotations

import sys
from functools import cached_property, partial, partialmethod
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import ref

from .. import validation
from ..admin.registry import Registry
from ..admin.registry import registry as policies
from ..engine.policy_state import PolicyState
from .marks import BY, COUNTED, MARK, GuardedBy, Mark
from .policy import Policy

if TYPE_CHECKING:
    from .clients.explanation import Explanation

_MOST: Final = 100  # an object that answers to every name has an endless chain
_HOLDERS: Final[tuple[type, ...]] = (classmethod, property, partialmethod, cached_property)
_PLACES: Final[tuple[tuple[tuple[type, ...], str], ...]] = (  # where the function is kept
    ((MethodType, classmethod, staticmethod), "__func__"),
    ((partial, partialmethod, cached_property), "func"),
    ((property,), "fget"),
)


def policy_of(fn: object, /) -> Policy | None:
    """Return the policy that guards a function, or None if none does.

    It looks through other decorators that wrap the function and keep ``__wrapped__``. If several
    policies guard it, it returns the outermost.

    Args:
        fn: a function, a method (bound or not), a classmethod, staticmethod, property or partial
            of one, a callable object, a client that `Policy.wrap` returned, or a method of one.

    Returns:
        The policy, or None. If guards were stacked on the function of a policy, that view of it;
        see `Policy.with_`.

    Raises:
        TypeError: fn is not something that a policy could guard.

    Example:
        >>> from resilient import bulkhead, policy_of
        >>> @bulkhead(3)
        ... def tickets():
        ...     return 7
        >>> policy_of(tickets).guards
        (<bulkhead: runs at most 3 at once and refuses the rest>,)
        >>> policy_of(len) is None
        True
    """
    proxies: Any = sys.modules.get(f"{__package__}.clients.proxy")
    held: Any = fn
    if proxies is not None and proxies.is_proxy(held):
        wrapped: Policy = held._resilient_by.policy
        return wrapped
    if not (callable(held) or _is(held, _HOLDERS)):
        validation.refuse_type("fn", fn, "a function, method or wrapped client")
    for _ in range(_MOST):
        policy = _own(held)
        if policy is not None or held is None:
            return policy
        held = _inside(held)
    return None


def explain(client: Any, /) -> Explanation:
    """Explain what of a wrapped client is guarded, bounded, handed out and left alone, and why.

    It reads no property and calls nothing: it describes what a property or a method hands out once
    that has happened.

    Args:
        client: the result of `Policy.wrap`, or a part of it.

    Returns:
        An `Explanation`: text by ``print``, data by its attributes.

    Raises:
        TypeError: client is not wrapped.

    Example:
        >>> import resilient
        >>> from resilient import Policy, circuit_breaker
        >>> class Movies:
        ...     def find(self, title):
        ...         return [title]
        ...     def close(self): ...
        >>> movies = Policy("films", circuit_breaker()).wrap(Movies())
        >>> [(row.name, row.what) for row in resilient.explain(movies).rows]
        [('find', 'guarded'), ('close', 'bounded')]
    """
    from .clients.explaining import explained

    return explained(client)


def _own(fn: object) -> Policy | None:
    """Return the policy that guards the object itself."""
    mark, by = _asked(fn, MARK), _asked(fn, BY)
    of: object = fn.__self__ if isinstance(fn, MethodType) else fn
    if isinstance(mark, Mark) and mark.of(fn):
        of = mark.policy
    elif isinstance(by, GuardedBy):
        of = by.policy
    elif _asked(fn, COUNTED) is not None:
        of = _asked(fn, COUNTED)
    if isinstance(of, Policy):
        return of
    from .keyed import KeyedPolicy

    held: Any = of
    return cast("Policy", held.policy) if isinstance(of, KeyedPolicy) else None


def _inside(fn: object) -> object:
    """Return what a callable passes its calls to, None if that can't be known."""
    for kinds, name in _PLACES:
        if _is(fn, kinds):
            return _asked(fn, name)
    inner = _asked(fn, "__wrapped__")
    call = getattr(type(fn), "__call__", None)  # noqa: B004 - the function itself is wanted
    return call if inner is None and isinstance(call, FunctionType) else inner


def _is(fn: object, kinds: tuple[type, ...]) -> bool:
    return isinstance(fn, kinds)


def _asked(fn: object, name: str) -> object:
    """Return an attribute, None if it is missing or raises: it may run anybody's code."""
    try:
        return cast("object", getattr(fn, name, None))
    except Exception:
        return None


def _rebuilt(core: PolicyState) -> Policy:
    """Return the policy of a state whose policy object was collected."""
    policy = Policy.__new__(Policy)
    policy._join(core, core.guards, core.guards)
    core.policy = ref(policy)
    return policy


registry: Registry[Policy] = cast("Registry[Policy]", policies)
registry.rebuild = _rebuilt
