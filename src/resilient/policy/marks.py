"""The marks of guarded functions: which policy guards one, and what is inside."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, cast

from ..callables import label
from ..engine.pipeline import Pipeline
from ..guards.base import Mode
from .guard_stack import GuardStack

if TYPE_CHECKING:
    from ..engine.policy_state import PolicyState

MARK = "__resilient__"
BY = "__resilient_by__"
COUNTED = "__resilient_counted__"  # the policy that counts the shared calls of a function

Plans = Callable[[Mode], Pipeline]


class Guarding(Protocol):
    """What guards a function: a policy, a view of it, or its keys."""

    _core: PolicyState

    @property
    def name(self) -> str:
        """The policy's name."""
        ...


class ClientPlans(Protocol):
    """The pipelines by which a client's method is guarded."""

    def plan_of(self, policy: GuardStack, mode: Mode) -> Pipeline:
        """Return the pipeline for a policy, or a view of it, and a mode."""
        ...


class GuardedBy:
    """A method of a wrapped client refers to its policy by this."""

    __slots__ = ("inner", "name", "plans", "policy")

    def __init__(
        self,
        policy: GuardStack,
        name: str,
        inner: Callable[..., Any] | None = None,
        plans: ClientPlans | None = None,
    ) -> None:
        self.policy: GuardStack = policy
        self.name: str = name
        self.inner: Callable[..., Any] | None = inner  # what it guards, a function of the proxy
        self.plans: ClientPlans | None = plans

    def __copy__(self) -> GuardedBy:
        return self

    def __deepcopy__(self, memo: object) -> GuardedBy:
        return self

    def __reduce__(self) -> NoReturn:
        # As for Mark: code that pickles a function by value meets it first.
        raise TypeError(
            f"{self.name} of a client that is wrapped by the policy {self.policy.name} can't be "
            "pickled: its state stays in its process. Pickle client.__wrapped__, and wrap what was "
            "unpickled"
        )


class Mark:
    """The mark of a guarded function: its policy and its original."""

    __slots__ = ("_wrapper", "fn", "policy")

    def __init__(self, policy: Guarding, fn: Callable[..., Any], wrapper: object) -> None:
        self.policy: Guarding = policy
        self.fn: Callable[..., Any] = fn
        self._wrapper = weakref.ref(wrapper)

    def of(self, candidate: object) -> bool:
        """Return whether it was made for that very object, not copied by functools.wraps."""
        return self._wrapper() is candidate

    # A decorator that is an object gets a copy of the mark, and that object may be copied, too.
    def __copy__(self) -> Mark:
        return self

    def __deepcopy__(self, memo: object) -> Mark:
        return self

    def __reduce__(self) -> NoReturn:
        # Code that pickles a function by value, such as cloudpickle or dill, meets it first.
        name = label(self.fn)
        raise TypeError(
            f"{name} can't be pickled by value: it is guarded by the policy {self.policy.name}, "
            "whose state stays in its process. Define it in a module that the other process "
            f"imports, so that it goes by its name; or send {name.rpartition('.')[2]}.__wrapped__, "
            "which is not guarded"
        )


def mark_of(fn: object) -> Mark | None:
    """Return the mark of a function that a policy guards, None for any other."""
    mark = getattr(fn, MARK, None)
    return mark if isinstance(mark, Mark) and mark.of(fn) else None


def bare(core: PolicyState, fn: Any) -> Any:
    """Return the undecorated body of a function that this very policy guards; fn for any other."""
    if isinstance(fn, functools.partial):
        whole = cast("Any", fn)
        inner: Any = bare(core, whole.func)
        same = inner is whole.func
        return whole if same else functools.partial(inner, *whole.args, **whole.keywords)
    if isinstance(fn, MethodType):
        inner = bare(core, fn.__func__)
        return fn if inner is fn.__func__ else MethodType(inner, fn.__self__)
    mark = mark_of(fn)
    return fn if mark is None or mark.policy._core is not core else mark.fn


def unguarded(
    policy: GuardStack, fn: Any, args: tuple[Any, ...]
) -> tuple[Any, tuple[Any, ...], Plans | None]:
    """Return what a function runs that this very policy guards, so that the guards act once.

    Returns:
        The function, fn itself if the policy does not guard it; its arguments, with the object of
        a guarded method; the pipelines, for the method of a client that the policy wraps.
    """
    if not isinstance(fn, MethodType):
        return bare(policy._core, fn), args, None
    by = getattr(fn.__func__, BY, None)
    own = by if isinstance(by, GuardedBy) and by.policy._core is policy._core else None
    if own is not None and own.inner is not None and own.plans is not None:
        return own.inner, (fn.__self__, *args), functools.partial(own.plans.plan_of, policy)
    inner = bare(policy._core, fn.__func__)
    if inner is fn.__func__:
        return fn, args, None
    return inner, (fn.__self__, *args), None
