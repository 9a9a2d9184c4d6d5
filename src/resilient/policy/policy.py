"""Policies: ordered guards round one dependency, and the functions they protect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from .. import validation
from ..admin.registry import registry
from ..clock import Clock
from ..engine.blocks import Block
from ..engine.policy_state import PolicyState
from ..guards.base import Guard
from ..outcomes import OnError, OnResult
from ..place import Place
from . import ordering, wrapping
from .calling import Calling
from .controls import Levers
from .process_bound import Sole

if TYPE_CHECKING:
    from datetime import timedelta

    from .clients.wrapped_client import Wrapper
    from .keyed import KeyedPolicy

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
M = TypeVar("M", bound="classmethod[Any, Any, Any] | staticmethod[Any, Any]")


class Policy(Calling, Levers, Sole):
    """A named, ordered stack of guards that protects one dependency.

    Args:
        name: what operators see, in metrics, logs and errors. 1 to 100 characters from
            ``A-Z a-z 0-9 . _ - < > : #``. Unique in the process.
        *guards: outermost first, in the order in which they act. Recommended is fallback, total
            timeout, circuit breaker, bulkhead, timeout of one attempt; a warning names an order in
            which a guard does less than it seems to.
        owner: the team to call. Default none.
        tier: how much it matters, 1 (most) to 9. Default none.
        impact: one sentence on what the customer sees while it is cut off. Default none.
        patience: a failure at a caller's own deadline, tighter than this policy's, says little of
            the dependency: it is cancelled if the attempt ran for fewer than so many seconds.
            Default: half of the policy's timeout, or 1 if it has none.
        clock: a source of time instead of the system's monotonic clock; for tests.

    Raises:
        ValueError: the name is taken or not allowed, or a guard belongs to another policy.
        TypeError: one of the guards is not a guard.

    Example:
        >>> from resilient import Policy, bulkhead, circuit_breaker, fallback
        >>> search = Policy("search", fallback(value=[]), circuit_breaker(), bulkhead(20))
        >>> @search
        ... def find(text):
        ...     raise ConnectionError("search is down")
        >>> find("shoes")
        []
    """

    __slots__ = ("_wrappers",)

    @validation.keywords
    def __init__(
        self,
        name: str,
        /,
        *guards: Guard,
        owner: str = "",
        tier: int | None = None,
        impact: str = "",
        patience: float | timedelta | None = None,
        clock: Clock | None = None,
    ) -> None:
        validation.name_of("name", name)
        core = PolicyState(
            name,
            validation.text("owner", owner),
            None if tier is None else validation.count("tier", tier, most=9),
            validation.text("impact", impact),
            registry.clock
            if clock is None
            else validation.methods("clock", clock, "now", "call_at"),
        )
        if patience is not None:
            core.patience = validation.duration("patience", patience)
        ordering.check_new(guards)
        ordering.check_together(guards)
        ordering.warn_of_order(name, guards)
        there = registry.add(core, Place.here())
        if there is not core:
            ordering.warn_of_difference(there, core, guards)
            self._join(there, there.guards, ())
            return
        core.adopt(guards)
        self._join(core, guards, guards)
        registry.made(core)

    def _join(
        self, core: PolicyState, guards: tuple[Guard, ...], told: tuple[Guard, ...], key: Any = None
    ) -> None:
        super()._join(core, guards, told, key)
        self._wrappers: dict[Any, Wrapper] | None = None  # of its clients, by options

    def _blank(self) -> Policy:  # for subclasses too, without running their __init__
        return Policy.__new__(Policy)

    @classmethod
    def _anonymous(cls, base: str, *guards: Guard) -> Policy:
        ordering.check_new(guards)
        core = PolicyState("", "", None, "", registry.clock)
        core.name = registry.add_anonymous(core, base, Place.here())
        core.adopt(guards)
        policy = cls.__new__(cls)
        policy._join(core, core.guards, core.guards)
        registry.made(core)
        return policy

    # -- what it is ---------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return options, state and counts as plain data, consistent in itself."""
        from ..admin.describe import snapshot_of

        return snapshot_of(self._core, self._guards)

    def with_(self, *guards: Guard) -> Policy:
        """Return a view of this policy with some guards replaced or added.

        The view has the same name, state, lock and counts: its calls trip the same breaker and take
        slots of the same bulkhead. It is not registered a second time.

        Args:
            *guards: each replaces the guard of its kind, or is added at its recommended place. It
                is an error if the policy has two guards of that kind.

        Returns:
            The view.

        Raises:
            ValueError: a guard belongs to a policy already, or the policy has two of its kind.

        Example:
            >>> from resilient import Policy, circuit_breaker, timeout
            >>> ledger = Policy("ledger", circuit_breaker(), timeout(1.0, sync="thread"))
            >>> strict = ledger.with_(timeout(0.05, sync="thread"))
            >>> strict.guards[0] is ledger.guards[0]
            True
        """
        return self._exchanged(guards)

    # -- decorating ---------------------------------------------

    @overload
    def __call__(self, fn: M, /) -> M: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, fn: Callable[P, T], /) -> Callable[P, T]: ...
    def __call__(self, fn: Any, /) -> Any:
        """Decorate fn: each call of it goes through this policy.

        Args:
            fn: a function, async function, generator function, async generator function, method,
                classmethod, staticmethod, partial or callable object.

        Returns:
            A function of fn's own kind and signature, or a classmethod or staticmethod of one.

        Raises:
            TypeError: fn can't be guarded; the message says why.
        """
        wrapping.check_not_ours(self.name, fn)
        return wrapping.wrap(self, fn)

    def block(self) -> Block:
        """Return a guarded block: ``with policy.block() as b:`` or ``async with``.

        Admission, outcome and time limit are those of a call. Fallbacks do not act. In an async
        block the timeout cancels the body; in a sync one it can only be cooperative.

        Returns:
            A `Block`, for one use.

        Raises:
            RefusedError: at the block's beginning: a guard did not admit it.
            CallTimeoutError: at its end: a timeout of this policy was up.
            TypeError: at its beginning, if it is sync: the policy's timeout is not cooperative.

        Example:
            >>> from resilient import Policy, bulkhead
            >>> files = Policy("files", bulkhead(4))
            >>> with files.block():
            ...     files.snapshot()["in_flight"]
            1
        """
        return Block(self._block_plan(), self)

    @validation.keywords
    def keyed(self, key: Callable[..., object], /, *, max_keys: int = 1000) -> KeyedPolicy[Policy]:
        """Return this policy with a circuit breaker and limits of its own for each key.

        So have retries and hedges; fallbacks, timeouts and kill switches are of all. The policy's
        counts, options and forced states are those of all keys.

        Args:
            key: a plain function of a call's arguments that returns a host, a tenant, a shard, by
                its text.
            max_keys: so many have guards of their own, up to 100,000. Default 1000. Another takes
                the place of one that is closed and empty, or shares those of further ones, counted.

        Returns:
            A `KeyedPolicy`: a decorator that also calls.

        Raises:
            TypeError: key is not a plain function.
            ValueError: no guard of the policy is of a key, this is a view, or the policy has keys
                with another `max_keys`.

        Example:
            >>> from resilient import Policy, circuit_breaker
            >>> pages = Policy("pages", circuit_breaker(failure_threshold=1))
            >>> per_host = pages.keyed(lambda host, *_: host)
            >>> failed = per_host.try_call(int, "a.example")
            >>> per_host.snapshot("a.example")["state"], pages.state
            ('open', 'closed')
        """
        from .keyed import keyed

        return keyed(self, key, max_keys)

    # -- clients ---------------------------------------------

    @validation.keywords
    def wrap(
        self,
        client: T,
        /,
        *,
        only: str | Iterable[str] | None = None,
        unless: str | Iterable[str] | None = None,
        per_call: Mapping[str, Policy | float | timedelta] | None = None,
        ignore: OnError | None = None,
        failed_result: OnResult | None = None,
        strict: bool = False,
        key: str | Callable[..., object] | None = None,
    ) -> T:
        """Return client, with every public call of it, and of what it hands out, guarded.

        Only its calls change; the time limits of a known library's client follow the deadline.
        Methods that release something (``close`` ...) are never refused.

        Args:
            client: an instance. Of one of a known library, the caller's own errors are known.
            only: names and patterns (``"get_*"``, ``"movies.find"``) of the methods to guard.
                Default all.
            unless: names and patterns of the methods, and parts, to leave as they are. Default
                none.
            per_call: another policy, or another time limit in seconds, by name or pattern; the
                first match counts. Default none.
            ignore: exception types, or a predicate, that are not failures of the dependency, such
                as its "not found"; in addition to those that the guards ignore. Default none.
            failed_result: a predicate of the value; if True, it is a failure, such as a response
                with status 503; in addition to those of the guards. Default none.
            strict: raise if the policy declares what it can't do here: see `resilient.explain`.
            key: ``"host"`` of an HTTP client, or a function of a call's arguments: each call has
                the guards of its key, as with `keyed`. Default none: all have the policy's.

        Returns:
            A proxy that passes for the client in ``isinstance``, comparison and attributes; the
            same client again, if this policy wraps it already.

        Raises:
            TypeError: client is a class, module, function or plain data; or the policy's timeout
                does not say how to bound its sync calls.
            ValueError: a name or pattern matches nothing: the message lists the names. Or this
                policy wraps the client already, with other options. Or strict, and there is a gap.

        Example:
            >>> from resilient import Policy, circuit_breaker
            >>> class Movies:
            ...     def find(self, title):
            ...         return [title]
            >>> movies = Policy("movies", circuit_breaker()).wrap(Movies())
            >>> movies.find("Heat"), isinstance(movies, Movies)
            (['Heat'], True)
        """
        from .clients.wrap import wrap

        made = self._wrappers = self._wrappers or {}
        given: Any = {"only": only, "unless": unless, "per_call": per_call, "ignore": ignore,
                      "failed_result": failed_result, "strict": strict, "key": key}  # fmt: skip
        wrapped: T = wrap(self, made, client, **given)
        return wrapped

    def __str__(self) -> str:
        from ..admin.describe import plan_text

        return plan_text(self._core, self._guards)
