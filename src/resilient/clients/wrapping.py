"""`Policy.wrap`: what can be wrapped, and what is asked of its options."""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
from __future__ import annotations

import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NoReturn

from .. import checks
from ..errors import ThreadBoundWarning
from ..outcomes import Judge, OnError, OnResult
from ..registry import Place
from ..shapes import kind_of, label
from ..wrapping import sync_mode
from . import parts
from .knowledge import source
from .proxy import is_proxy
from .selection import Selection, patterns
from .wrapper import Wrapper

if TYPE_CHECKING:
    from ..policy import Policy

_KEPT: Final = 16  # wraps of one policy with different options, whose proxy classes are kept


def wrap(
    policy: Policy,
    client: Any,
    *,
    only: object,
    unless: object,
    per_call: object,
    ignore: OnError | None,
    failed_result: OnResult | None,
) -> Any:
    """Return a proxy of client; see `Policy.wrap`."""
    names = patterns("only", only), patterns("unless", unless) or (), _per_call(policy, per_call)
    own = Judge(ignore=ignore, failed_result=failed_result)
    plain = only is unless is per_call is ignore is failed_result is None
    if is_proxy(client):
        known = _wrapped_by(client, policy)
        if known is not None:
            return _again(policy, client, known, plain=plain)
    _check(policy, client)
    selection = Selection(*names)
    selection.check(policy.name, client)
    _check_mode(policy, client, selection)
    wrapper = _wrapper(policy, client, selection, own if not plain else None)
    return wrapper.proxy(client, "")


def _again(policy: Policy, client: Any, known: Wrapper, *, plain: bool) -> Any:
    if plain and known.policy is policy:
        return client
    raise ValueError(
        f"{policy.name}: this client is wrapped by {policy.name} already, with options of its own; "
        "wrap client.__wrapped__ instead"
    )


def _wrapped_by(client: Any, policy: Policy) -> Wrapper | None:
    while is_proxy(client):
        wrapper: Wrapper = client._resilient_by
        if wrapper.policy._core is policy._core:
            return wrapper
        client = client.__wrapped__
    return None


def _wrapper(policy: Policy, client: Any, selection: Selection, own: Judge | None) -> Wrapper:
    """Return what wraps such clients: the same for the next of them, whose proxies it has made."""
    knowledge = source.of(type(client))
    judges = tuple(each for each in (knowledge.judge, own) if each is not None)
    made = policy._wrappers
    key = (selection.only, selection.unless, selection.per_call, type(knowledge))
    if own is None and key in made:
        wrapper = made[key]
    else:
        wrapper = Wrapper(policy, selection, knowledge, judges)
        if own is None:
            while len(made) >= _KEPT:
                made.pop(next(iter(made)), None)
            made[key] = wrapper
    knowledge.prepare(client)
    return wrapper


# -- bad input ---------------------------------------------


def _per_call(policy: Policy, given: object) -> tuple[tuple[str, Policy], ...]:
    from ..policy import Policy as AnyPolicy

    allowed = 'a dict such as {"search_*": other_policy, "get_page": 0.5} (a policy, or seconds)'
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        checks.refuse_type("per_call", given, allowed)
    found: list[tuple[str, Policy]] = []
    for pattern, what in given.items():
        if type(pattern) is not str or not pattern:
            checks.refuse_type("per_call", pattern, "names or patterns of methods as its keys")
        if isinstance(what, AnyPolicy):
            found.append((pattern, what))
            continue
        seconds = checks.duration(f"per_call[{pattern!r}]", what)
        found.append((pattern, policy.with_(_limit(policy, seconds))))
    return tuple(found)


def _limit(policy: Policy, seconds: float) -> Any:
    from ..guards.timeout import Timeout

    ways = [guard.sync for guard in policy.guards if guard.seconds is not None]
    return Timeout(seconds, sync=ways[0] if ways else None)


def _check(policy: Policy, client: Any) -> None:
    """Raise the TypeError that says why something can't be wrapped, and what to do instead."""
    name = policy.name
    if isinstance(client, type):
        _refuse(name, label(client), "it is a class; wrap an instance of it, or guard one of its "
                "methods with resilient.patch")  # fmt: skip
    if isinstance(client, ModuleType):
        _refuse(name, f"module {client.__name__}", "its functions are guarded one by one, with "
                f'resilient.patch("{client.__name__}:function", policy)')  # fmt: skip
    if isinstance(client, (*parts.FUNCTIONS, classmethod, staticmethod, property)):
        _refuse(name, checks.shown(client), "a function is decorated: policy(function)")
    if not is_proxy(client):
        if isinstance(client, parts.STREAMS) or parts.is_coroutine(client):
            _refuse(name, checks.shown(client), "decorate the function that made it")
        if parts.is_builtin(client):
            _refuse(
                name, checks.shown(client), f"{type(client).__name__} is data, and calls nothing"
            )
        if not callable(client) and not parts.is_lazy(client) and not _has_methods(client):
            _refuse(name, checks.shown(client), "it has no public method")
    if parts.is_thread_bound(client) and _threaded(policy):
        _refuse_threads(name, client)


def _has_methods(client: Any) -> bool:
    return bool(parts.public_names(client)) or hasattr(type(client), "__getattr__") or any(
        parts.is_client(each) for each in parts.fields(client)
    )  # fmt: skip


def _threaded(policy: Policy) -> bool:
    return any(guard.seconds is not None and guard.sync == "thread" for guard in policy.guards)


def _refuse_threads(name: str, client: Any) -> None:
    warnings.warn(
        f"{name}: {checks.shown(client)} keeps state of its own for each thread, so its calls are "
        'not moved to a worker: timeout(..., sync="thread") bounds them as "cooperative" would',
        ThreadBoundWarning,
        stacklevel=Place.depth(),
    )


def _check_mode(policy: Policy, client: Any, selection: Selection) -> None:
    """Raise at once the TypeError that the first sync call would raise."""
    cls: type[Any] = type(client)
    if is_proxy(client) or parts.is_async_client(cls):
        return
    for name in parts.public_names(client):
        chosen = selection.policy_of("", name, policy)
        if chosen is not None and kind_of(getattr(cls, name, None)) == "sync":
            sync_mode(f"{chosen.name}: {name}", chosen.guards)


def _refuse(name: str, what: str, why: str) -> NoReturn:
    raise TypeError(f"{name}: {what} can't be wrapped: {why}")
