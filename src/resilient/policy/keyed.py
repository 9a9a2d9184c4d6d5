"""A policy with keys: a circuit breaker, a bulkhead and limits of its own for each of them."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, TypeVar, overload

from .. import validation
from ..callables import kind_of, label, named_part
from ..engine.faults import log_no_key
from ..engine.key_states import KeyState
from ..engine.key_table import KeyTable
from ..engine.policy_state import PolicyState
from ..guards.per_key import PerKey
from ..outcomes import Result
from . import wrapping
from .guard_stack import GuardStack
from .key_calls import KeyedBlock, Take, decorated, taking, view_of
from .key_controls import KeyControls
from .marks import MARK, Mark, bare
from .process_bound import Sole

if TYPE_CHECKING:
    from ..engine.blocks import Block

P = ParamSpec("P")
Owner = TypeVar("Owner", bound=GuardStack)
T = TypeVar("T")
M = TypeVar("M", bound="classmethod[Any, Any, Any] | staticmethod[Any, Any]")

DEFAULT: Final = 1000


class KeyedPolicy(KeyControls, Sole, Generic[Owner]):
    """A policy whose calls have guards by their key; made by `Policy.keyed`.

    Decorated functions, `call`, `acall`, `try_call`, `atry_call` and `block` are those of a
    `Policy`, for the key that is made of their arguments. A key that can't be had, because its
    function raises or what it returns can't be told apart by its text, shares the guards of
    further keys; the log says so once.

    Attributes:
        policy: the policy that it belongs to, whose orders and options reach every key.
    """

    __slots__ = ("__weakref__", "_core", "_key", "_state", "_table", "_told", "policy")

    def __init__(self, policy: Owner, key: Callable[..., object], table: KeyTable) -> None:
        self.policy: Owner = policy
        self._core: PolicyState = policy._core
        self._key: Callable[..., object] = key
        self._table: KeyTable = table
        self._told = False
        # Takes the state for a call, whose end pops its `users`.
        self._state: Take = taking(key, table, self._unknown)

    @property
    def name(self) -> str:
        """The name that operators see: the policy's."""
        return self._core.name

    # -- which key ---------------------------------------------

    def _unknown(self, fault: Exception) -> KeyState:
        if not self._told:
            self._told = True
            log_no_key(self.name, fault)
        return self._table.take_overflow()

    # -- decorating ---------------------------------------------

    @overload
    def __call__(self, fn: M, /) -> M: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, fn: Callable[P, T], /) -> Callable[P, T]: ...
    def __call__(self, fn: Any, /) -> Any:
        """Decorate fn: each call of it goes through the guards of its key.

        Args:
            fn: what a policy decorates; the key is made of the arguments of its calls, of a method
                with the object first.

        Returns:
            A function of fn's own kind and signature, or a classmethod or staticmethod of one.

        Raises:
            TypeError: fn can't be guarded; the message says why.
        """
        inner = wrapping.opened(fn)
        if inner is not None:
            return type(fn)(self(inner))
        wrapping.check_not_ours(self.name, fn)
        wrapping.check(self.name, self.policy.guards, fn)
        if bare(self._core, fn) is not fn:
            raise ValueError(f"{label(fn)} is guarded by {self.name} already")
        wrapper = decorated(self._table, self._core, self._state, fn)
        plain = hasattr(fn, "__code__")
        functools.update_wrapper(wrapper, fn, updated=("__dict__",) if plain else ())
        if not hasattr(fn, "__name__"):
            named = named_part(fn)
            wrapper.__name__, wrapper.__qualname__ = named.__name__, named.__qualname__
        setattr(wrapper, MARK, Mark(self, fn, wrapper))
        return wrapper

    def _guarded(self, state: KeyState, fn: Any) -> Any:
        """Return fn, guarded by the guards of a key."""
        made = state.made
        guarded = made.get(fn)
        if guarded is None:
            guarded = made[fn] = wrapping.guarded(view_of(self._core, state), fn)
        return guarded

    # -- calling ---------------------------------------------

    def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a plain function through the guards of its key; see `Policy.call`.

        Args:
            fn: the function.
            *args: passed to it, and to the key.
            **kwargs: passed to it, and to the key.

        Returns:
            What fn, or a fallback, returned.

        Raises:
            RefusedError: a guard did not let it run.
            CallTimeoutError: a timeout of this policy was up.
            TypeError: fn is async, or the policy's timeout does not say how to bound a sync call.
            Exception: whatever fn raised.
        """
        state = self._state(args, kwargs)
        users = state.users
        try:
            return view_of(self._core, state).call(fn, *args, **kwargs)
        finally:
            users.pop()

    async def acall(self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call an async function through the guards of its key; see `Policy.acall`.

        Args:
            fn: the async function.
            *args: passed to it, and to the key.
            **kwargs: passed to it, and to the key.

        Returns:
            What fn, or a fallback, returned.

        Raises:
            RefusedError: a guard did not let it run.
            CallTimeoutError: a timeout of this policy was up.
            TypeError: fn returned something that can't be awaited.
            Exception: whatever fn raised.
        """
        state = self._state(args, kwargs)
        users = state.users
        try:
            return await view_of(self._core, state).acall(fn, *args, **kwargs)
        finally:
            users.pop()

    def try_call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Result[T]:
        """Call a plain function and return its end as data; see `Policy.try_call`.

        Args:
            fn: the function.
            *args: passed to it, and to the key.
            **kwargs: passed to it, and to the key.

        Returns:
            A `Result`.

        Raises:
            TypeError: as for `call`.
        """
        state = self._state(args, kwargs)
        users = state.users
        try:
            return view_of(self._core, state).try_call(fn, *args, **kwargs)
        finally:
            users.pop()

    async def atry_call(
        self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Result[T]:
        """Call an async function and return its end as data; see `Policy.atry_call`.

        Args:
            fn: the async function.
            *args: passed to it, and to the key.
            **kwargs: passed to it, and to the key.

        Returns:
            A `Result`.

        Raises:
            TypeError: as for `acall`.
        """
        state = self._state(args, kwargs)
        users = state.users
        try:
            return await view_of(self._core, state).atry_call(fn, *args, **kwargs)
        finally:
            users.pop()

    def block(self, *args: Any, **kwargs: Any) -> Block:
        """Return a guarded block for a key; see `Policy.block`.

        Args:
            *args: what the key is made of, as for a call.
            **kwargs: likewise.

        Returns:
            A `Block`, for one use.

        Raises:
            RefusedError: at the block's beginning: a guard of the key did not admit it.

        Example:
            >>> from resilient import Policy, bulkhead
            >>> shards = Policy("shards", bulkhead(1)).keyed(lambda shard: shard)
            >>> with shards.block("a"), shards.block("b"):
            ...     shards.policy.snapshot()["in_flight"]
            2
        """
        return KeyedBlock(self, self._core, lambda: self._state(args, kwargs))

    def __repr__(self) -> str:
        return f"<KeyedPolicy {self.name}: {len(self._table.states)} keys>"


def keyed(policy: Owner, key: Callable[..., object], max_keys: int) -> KeyedPolicy[Owner]:
    """Return a policy with keys; see `Policy.keyed`."""
    core = policy._core
    if not callable(key) or kind_of(key) != "sync":
        validation.refuse_type("key", key, "a plain function of the call's arguments")
    most = validation.count("max_keys", max_keys, most=100_000)
    if policy._guards is not core.guards:
        raise ValueError(f"{core.name}: this is a view of the policy; give its policy the keys")
    if not any(isinstance(guard, PerKey) for guard in core.guards):
        kinds = ", ".join(guard.kind for guard in core.guards) or "none"
        raise ValueError(
            f"{core.name} has no guard that each key could have for itself, such as a "
            f"circuit_breaker, a bulkhead or a rate_limit; it has: {kinds}"
        )
    if core.keys is None:
        core.keys = KeyTable(core, most)
        core.uncalled = True  # orders for keys are obeyed from the next call on
        core.refresh_gate()
    elif core.keys.max_keys != most:
        validation.refuse("max_keys", max_keys, f"{core.keys.max_keys}, as {core.name} has by now")
    return KeyedPolicy(policy, key, core.keys)
