"""How `resilient.explain` finds out what a policy does for a wrapped client, and what it can't."""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from functools import cached_property
from itertools import islice
from types import MethodDescriptorType
from typing import Any, Final

from ... import validation
from ...callables import kind_of, label
from ...guards.sorting import time_limits
from . import steps, subclients
from .client_policy import ClientPolicy
from .explanation import ORDER, Explained, Explanation
from .proxy import Proxy, Traits, is_proxy
from .touching import static
from .wrapped_client import Wrapper

_CONTAINERS: Final = (dict, frozenset, list, set, tuple)
_LOOKED_AT: Final = 100  # items of each container


def explained(client: Any) -> Explanation:
    """Return the explanation of a wrapped client; see `resilient.explain`."""
    if not is_proxy(client):
        validation.refuse_type("client", client, "what Policy.wrap returned, or a part of it")
    wrapper: Wrapper = client._resilient_by
    rows = sorted(_rows(wrapper, client, client._resilient_traits),
                  key=lambda row: ORDER.index(row.what))  # fmt: skip
    kind = label(type(client.__wrapped__))
    return Explanation(wrapper.name, kind, tuple(rows), tuple(gaps(client, rows)))


def gaps(proxy: Any, rows: list[Explained]) -> list[str]:
    """Return, as sentences, what a policy declares but can't do for a client."""
    wrapper: Wrapper = proxy._resilient_by
    client, traits = proxy.__wrapped__, proxy._resilient_traits
    found: list[str] = []
    if not any(row.what == "guarded" for row in rows) and not _is_namespace(rows):
        found.append("nothing of it is guarded")
    limited = wrapper.limit("sync") is not None and not traits.is_async
    if limited and _has_sync(client):
        unbounded = wrapper.unbounded(client)
        if traits.inline:
            found.append(
                "it keeps state of its own for each thread, so its calls stay in the caller's "
                f"thread, where {unbounded or 'they keep to the deadline'}"
            )
        elif wrapper.mode() == "cooperative" and unbounded is not None:
            found.append(f'sync="cooperative" bounds no call of it: {unbounded}')
    if _is_built_in(type(client)):
        found.append(
            "its class is written in C: what it hands out can't be looked into, and is guarded "
            "only where it is an iterator, an awaitable or a context manager"
        )
    return found


def _is_namespace(rows: list[Explained]) -> bool:
    return any(row.what == "handed out" for row in rows)


def _has_sync(client: Any) -> bool:
    cls: type[Any] = type(client)
    kinds = (kind_of(getattr(cls, name, None)) for name in subclients.public_names(client))
    return any(kind in ("sync", "generator") for kind in kinds)


def _is_built_in(cls: type) -> bool:
    found = [base.__dict__.get(name) for name in subclients.methods_of(cls) for base in cls.__mro__]
    return any(isinstance(each, MethodDescriptorType) for each in found if each is not None)


def _rows(wrapper: Wrapper, proxy: Proxy, traits: Traits, prefix: str = "") -> list[Explained]:
    client = proxy.__wrapped__
    cls: type[Any] = type(client)
    names = [*subclients.public_names(client), *_special(cls)]
    found = [_method(wrapper, client, traits, name, prefix) for name in names]
    for name, held in subclients.own_attributes(client):
        if name in names or name.startswith("_"):
            continue
        found += _attribute(wrapper, proxy, traits, name, held, prefix)
    held = dict(subclients.own_attributes(client))
    for name in _properties(cls):
        if name in held:
            continue
        if wrapper.selection.leaves(traits.holder, name):
            found.append(Explained(prefix + name, "left alone", "unless= names it"))
        else:
            why = "a property: what it gives is not known before it is read"
            found.append(Explained(prefix + name, "handed out", why))
    return found


def _special(cls: type) -> list[str]:
    asked = (*subclients.GUARDED, *steps.NAMELESS, *steps.OPERATIONS)
    return sorted(
        name
        for name in set(asked)
        if any(name in base.__dict__ for base in cls.__mro__ if base is not object)
    )


def _properties(cls: type) -> list[str]:
    return sorted(
        name
        for name in {name for base in cls.__mro__ for name in base.__dict__}
        if not name.startswith("_") and isinstance(static(cls, name), (property, cached_property))
    )


def _attribute(
    wrapper: Wrapper, proxy: Proxy, traits: Traits, name: str, held: Any, prefix: str
) -> list[Explained]:
    path = prefix + name
    if wrapper.selection.leaves(traits.holder, name):
        return [Explained(path, "left alone", "unless= names it")]
    handed = wrapper.attribute(proxy, name)
    if is_proxy(handed):
        if prefix or handed is proxy:
            return [Explained(path, "handed out", f"a part: {label(type(held))}")]
        return _rows(wrapper, handed, handed._resilient_traits, f"{name}.")
    if handed is not held:
        return [Explained(path, "guarded", "a function of this client alone")]
    kind = type(held).__name__
    inside = _part_in(wrapper, proxy, name, held)
    if inside is not None:
        why = f"a {kind} that holds parts, {label(type(inside))}: they are not guarded, wrap each"
        return [Explained(path, "left alone", why)]
    return [Explained(path, "left alone", f"data: {kind}")]


def _part_in(wrapper: Wrapper, proxy: Proxy, name: str, held: Any) -> Any:
    """Return the first part in a container of a built-in type, or None."""
    if type(held) not in _CONTAINERS:
        return None
    values = held.values() if type(held) is dict else held
    return next((each for each in islice(values, _LOOKED_AT)
                 if is_proxy(wrapper._handed(proxy, name, each))), None)  # fmt: skip


def _method(wrapper: Wrapper, client: Any, traits: Traits, name: str, prefix: str) -> Explained:
    guarding = wrapper.guarding(traits, name, client)
    path = prefix + name
    if guarding is None:
        what, why = wrapper.left(traits, name, client)
        return Explained(path, what, why)
    fn = getattr(type(client), name, None) or dict(subclients.own_attributes(client)).get(name)
    return Explained(path, "guarded", _how(wrapper, guarding, client, traits, name, fn))


def _how(
    wrapper: Wrapper, guarding: ClientPolicy, client: Any, traits: Traits, name: str, fn: Any
) -> str:
    """Return how long a guarded method may take, and what enforces it."""
    by = "" if guarding.policy is wrapper.policy else f"by {guarding.policy.name}, "
    limits = [limit.seconds for limit in time_limits(guarding.policy.guards)]
    if not limits:
        return by + "no time limit"
    took = f"at most {min(limits):g} s"
    later = traits.is_async or name in steps.ASYNC_STEPS or subclients.makes_async(fn)
    if later or kind_of(fn) in ("async", "async generator"):
        return f"{by}{took}, then cancelled"
    if name == "__enter__" or guarding.sync_mode != "thread":
        why = wrapper.unbounded(client)
        return f"{by}{took}, by its deadline alone" + (f": {why}" if why else "")
    return f"{by}{took}, on a worker thread"
