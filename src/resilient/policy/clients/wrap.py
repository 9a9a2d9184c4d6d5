"""`Policy.wrap`: checks what can be wrapped, and its options."""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Final, NoReturn

from ... import validation
from ...callables import kind_of, label
from ...engine.faults import fault_logger
from ...errors import DeclarationWarning, ThreadBoundWarning
from ...guards.facets import Retries
from ...guards.races import Races
from ...guards.recalls import Recalls
from ...guards.sorting import time_limits
from ...guards.timeout import Timeout
from ...knowledge.hosts import host_over_http
from ...outcomes import Judge, OnError, OnResult
from ...place import Place
from ..guard_stack import GuardStack
from ..wrapping import sync_mode
from . import subclients
from .adapter import ClientAdapter, source
from .explaining import explained
from .keying import keying_of
from .proxy import Traits, bare, is_proxy
from .selection import Selection, patterns
from .wrapped_client import Wrapper

_KEPT: Final = 16  # wraps of one policy with different options, whose proxy classes it keeps


def wrap(
    policy: GuardStack,
    made: dict[Any, Wrapper],
    client: Any,
    *,
    only: object,
    unless: object,
    per_call: object,
    ignore: OnError | None,
    failed_result: OnResult | None,
    strict: bool,
    key: object,
) -> Any:
    """Return a proxy of client, by an existing wrapper or a new one; see `Policy.wrap`."""
    options = (
        patterns("only", only),
        patterns("unless", unless) or (),
        _per_call(per_call),
        ignore,
        failed_result,
        key,
    )
    if type(strict) is not bool:
        validation.refuse_type("strict", strict, "True or False")
    Judge(ignore=ignore, failed_result=failed_result)  # raises at once for invalid predicates
    if is_proxy(client):
        known = _wrapped_by(client, policy)
        if known is not None:
            return _again(policy, client, known, plain=not any(options))
    _check(policy, client)
    knowledge = source.of(type(client))
    wrapper = _wrapper(policy, made, knowledge, options)
    wrapper.selection.check(policy.name, bare(client))
    # With a policy for async calls only, a client that has async methods is an async client.
    is_async = subclients.is_async_client(type(client)) or (
        _is_async_only(policy) and subclients.has_async_methods(bare(client))
    )
    if not is_async:
        _check_mode(policy, client, wrapper.selection)
    knowledge.prepare(client)
    _warn_of_retries(policy, knowledge, client)
    if not wrapper.selection.is_chosen:
        _warn_of_writes(policy, knowledge, client)
    proxy = wrapper.proxy(client, Traits(is_async=is_async))
    if strict:
        _check_gaps(policy, proxy)
    return proxy


def _warn_of_retries(policy: GuardStack, knowledge: ClientAdapter, client: Any) -> None:
    """Warn where both the policy and the client ask again: attempts multiply."""
    if not any(isinstance(guard, Retries) for guard in policy.guards):
        return
    often = ""
    with contextlib.suppress(Exception):  # an unknown version of the library
        often = knowledge.asks_again(bare(client))
    if often:
        warnings.warn(
            f"{policy.name}: the policy asks again, and so does {validation.shown(bare(client))}, "
            f"up to {often}: attempts multiply, and the policy sees only some of them. Switch one "
            "of the two off",
            DeclarationWarning,
            stacklevel=Place.depth(),
        )


def _warn_of_writes(policy: GuardStack, knowledge: ClientAdapter, client: Any) -> None:
    """Warn where a write could be answered with what an earlier one returned, or made twice."""
    for guard in policy.guards:
        if isinstance(guard, Recalls) and not knowledge.speaks_http:
            does = "answer each method of {} with an old value"
        elif isinstance(guard, Races):
            does = "call each method of {} twice where it is slow"
        else:
            continue
        told = does.format(validation.shown(bare(client)))
        warnings.warn(
            f"{policy.name}: its {guard.kind} would {told}, also those that write. Name those that "
            'only read: wrap(client, only=["get_*"])',
            DeclarationWarning,
            stacklevel=Place.depth(),
        )


def _check_gaps(policy: GuardStack, proxy: Any) -> None:
    """Raise a ValueError, if the policy declares something that it can't do for this client."""
    found = explained(proxy).gaps
    if found:
        raise ValueError(
            f"{policy.name}: strict=True, and {validation.shown(proxy.__wrapped__)} can't be "
            f"guarded as the policy says: {'; '.join(found)}"
        )


def _again(policy: GuardStack, client: Any, known: Wrapper, *, plain: bool) -> Any:
    if plain and known.policy is policy:
        return client
    raise ValueError(
        f"{policy.name}: this client is wrapped by {policy.name} already, with options of its own; "
        "wrap client.__wrapped__ instead"
    )


def _wrapped_by(client: Any, policy: GuardStack) -> Wrapper | None:
    while is_proxy(client):
        wrapper: Wrapper = client._resilient_by
        if wrapper.policy._core is policy._core:
            return wrapper
        client = client.__wrapped__
    return None


def _wrapper(
    policy: GuardStack, made: dict[Any, Wrapper], knowledge: ClientAdapter, options: Any
) -> Wrapper:
    """Return the wrapper for such clients; later ones get the same, with its proxy classes."""
    key: Any = (type(knowledge), *options)
    try:
        found = made.get(key)
    except TypeError:  # an unhashable predicate
        found, key = None, None
    if found is None:
        only, unless, per_call, ignore, failed_result, by = options
        calls = tuple((pattern, _policy_for(policy, what)) for pattern, what in per_call)
        own = Judge(ignore=ignore, failed_result=failed_result)
        own.on_fault = fault_logger(policy.name, "wrapped client")
        judges = tuple(each for each in (knowledge.judge, own) if each is not None)
        host = host_over_http if knowledge.speaks_http else None
        keying = keying_of(policy, by, host)
        found = Wrapper(policy, Selection(only, unless, calls), knowledge, judges, keying)
        while len(made) >= _KEPT:
            made.pop(next(iter(made)), None)
        if key is not None:
            made[key] = found
    return found


# -- bad input ---------------------------------------------


def _per_call(given: object) -> tuple[tuple[str, Any], ...]:
    """Return names or patterns, each with a policy or seconds."""
    allowed = 'a dict such as {"search_*": other_policy, "get_page": 0.5} (a policy, or seconds)'
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        validation.refuse_type("per_call", given, allowed)
    found: list[tuple[str, Any]] = []
    for pattern, what in given.items():
        if type(pattern) is not str or not pattern:
            validation.refuse_type("per_call", pattern, "names or patterns of methods as its keys")
        if isinstance(what, GuardStack):
            found.append((pattern, what))
            continue
        name = f"per_call[{pattern!r}], where it is no policy,"
        found.append((pattern, validation.duration(name, what)))
    return tuple(found)


def _policy_for(policy: GuardStack, what: Any) -> GuardStack:
    return policy._exchanged((_limit(policy, what),)) if isinstance(what, float) else what


def _limit(policy: GuardStack, seconds: float) -> Any:
    ways = [limit.sync for limit in time_limits(policy.guards)]
    return Timeout(seconds, sync=ways[0] if ways else None)


def _check(policy: GuardStack, client: Any) -> None:
    """Raise a TypeError, if something can't be wrapped, that says why and what to do instead."""
    name = policy.name
    if isinstance(client, type):
        _refuse(name, label(client), "it is a class; wrap an instance of it, or guard one of its "
                "methods with resilient.patch")  # fmt: skip
    if isinstance(client, ModuleType):
        _refuse(name, f"module {client.__name__}", "its functions are guarded one by one, with "
                f'resilient.patch("{client.__name__}:function", policy)')  # fmt: skip
    if isinstance(client, (*subclients.FUNCTIONS, classmethod, staticmethod, property)):
        _refuse(name, validation.shown(client), "a function is decorated: policy(function)")
    if not is_proxy(client):
        if isinstance(client, subclients.STREAMS) or subclients.is_coroutine(client):
            _refuse(name, validation.shown(client), "decorate the function that made it")
        if subclients.is_builtin(client):
            _refuse(
                name,
                validation.shown(client),
                f"{type(client).__name__} is data, and calls nothing",
            )
        if not callable(client) and not _is_at_work(client) and not _has_methods(client):
            _refuse(name, validation.shown(client), "it has no public method")
    if subclients.is_thread_bound(client) and _threaded(policy):
        _refuse_threads(name, client)


def _is_at_work(client: Any) -> bool:
    cls: type[Any] = type(client)
    return subclients.is_lazy(client) or subclients.is_iterator(cls) or hasattr(cls, "__enter__")


def _has_methods(client: Any) -> bool:
    cls: type[Any] = type(client)
    special = "__aiter__", "__contains__", "__getattr__", "__getitem__", "__iter__", "__setitem__"
    return (
        bool(subclients.public_names(client))
        or any(hasattr(cls, name) for name in special)
        or any(subclients.is_client(each) for each in subclients.fields(client))
    )


def _is_async_only(policy: GuardStack) -> bool:
    return any(limit.sync is None for limit in time_limits(policy.guards))


def _threaded(policy: GuardStack) -> bool:
    return any(limit.sync == "thread" for limit in time_limits(policy.guards))


def _refuse_threads(name: str, client: Any) -> None:
    warnings.warn(
        f"{name}: {validation.shown(client)} keeps state of its own for each thread, so its calls "
        'are not moved to a worker: timeout(..., sync="thread") bounds them as "cooperative" would',
        ThreadBoundWarning,
        stacklevel=Place.depth(),
    )


def _check_mode(policy: GuardStack, client: Any, selection: Selection) -> None:
    """Raise at once the TypeError that the first sync call would raise."""
    cls: type[Any] = type(client)
    if is_proxy(client):
        return
    for name in subclients.public_names(client):
        chosen = selection.policy_of("", name, policy)
        fn = getattr(cls, name, None)
        if subclients.is_mocks_own(client, name):
            continue
        if chosen is not None and kind_of(fn) == "sync" and not subclients.makes_async(fn):
            sync_mode(f"{chosen.name}: {name}", chosen.guards)


def _refuse(name: str, what: str, why: str) -> NoReturn:
    raise TypeError(f"{name}: {what} can't be wrapped: {why}")
