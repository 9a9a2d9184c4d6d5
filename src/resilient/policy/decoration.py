"""Decoration of a function with one guard: the guard joins the function's policy, or a new one."""

from __future__ import annotations

from typing import Any, Final, cast
from weakref import ref

from ..callables import label
from ..errors import DeclarationWarning
from ..guards.base import Guard
from ..locks import made_anew
from ..place import Place
from . import marks, short_lived, wrapping
from .guard_stack import GuardStack
from .policy import Policy


def is_decorated(first: object) -> bool:
    """Return whether a bare decorator got its function rather than its first option."""
    return callable(first) or hasattr(type(first), "__get__")


def decorate(fn: Any, guard: Guard) -> Any:
    """Decorate fn with one guard: into the policy that fn already has, or a new anonymous one."""
    opened = wrapping.opened(fn)
    if opened is not None:
        return type(fn)(decorate(opened, guard))
    wrapping.check_not_ours(guard.kind, fn)
    mark = marks.mark_of(fn)
    inner = None if mark is None else _policy_in(mark, fn, guard)
    stacked = (guard,) if inner is None else (guard, *inner.guards)
    wrapping.check(f"@{guard.kind}", stacked, fn if mark is None else mark.fn)
    with _decorating:
        policy = _policy_for(fn, guard, inner)
        wrapped = wrapping.wrap(policy, fn if mark is None else mark.fn)
        guard._decorated = ref(wrapped), _code(fn)
    return wrapped


def _policy_in(mark: marks.Mark, fn: Any, guard: Guard) -> GuardStack:
    if not isinstance(mark.policy, GuardStack):
        raise TypeError(
            f"{label(fn)} is guarded by the keys of the policy {mark.policy.name}: give its "
            f"{guard.kind} to that policy"
        )
    return mark.policy


_decorating: Final = made_anew()


def _code(fn: Any) -> Any:
    return getattr(short_lived.function_in(fn), "__code__", None) or id(fn)


def _policy_for(fn: Any, guard: Guard, inner: GuardStack | None) -> GuardStack:
    """Return the policy of a function with one more guard.

    A guard may decorate again: the same function, as on each request, or another one once no code
    holds what it decorated before. Its policy then lives as long as the guard.
    """
    if guard._policy_name and guard._decorated is not None:
        before, code = guard._decorated
        same = code is _code(fn)
        if inner is None and same and guard._policy is not None:
            return cast("GuardStack", guard._policy)
        if inner is not None and any(guard is each for each in inner._core.guards):
            return inner._outwards(guard)
        if before() is None or (inner is None and same):
            guard._policy_name = ""  # its policy was collected or replaced; its state stays
            policy = guard._policy = _policy_for(fn, guard, inner)
            return policy
    if inner is not None:
        return inner._view((guard, *inner.guards), (guard,))
    _warn_of_split(fn, guard)
    policy = Policy._anonymous(label(fn), guard)
    short_lived.notice(fn, policy._core, guard.kind)
    return policy


def _warn_of_split(fn: Any, guard: Guard) -> None:
    """Warn if a foreign decorator stands between two guards of one function."""
    copied = getattr(fn, marks.MARK, None)
    if not isinstance(copied, marks.Mark):
        return
    import warnings

    warnings.warn(
        f"{label(fn)}: a decorator that is not ours stands between its {guard.kind} and the policy "
        f"{copied.policy.name}, so they are two policies, each with counts and a state of its own. "
        "Put the guards next to each other, or make one Policy of them",
        DeclarationWarning,
        stacklevel=Place.depth(),
    )


Guard._decorate = staticmethod(decorate)
