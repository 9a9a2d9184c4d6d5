"""One policy as it guards the methods of a client: pipelines for calls, steps and streams."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any, Final

from ...callables import Kind
from ...clock import real
from ...deadline import bounded
from ...engine import interpreter
from ...engine.call import DO_PARK
from ...engine.compiled import Frameless
from ...engine.pipeline import Kin, Once, Pipeline, Writes
from ...engine.policy_state import PolicyState
from ...engine.sync import functions as sync
from ...engine.sync import streams
from ...engine.sync.driver import wait
from ...guards.base import Mode
from ...guards.facets import TimeLimit
from ...guards.sorting import time_limits
from ...knowledge.repeats import unknown
from ...outcomes import Judge
from ..guard_stack import GuardStack
from ..wrapping import sync_mode
from .lasting import Entry, Lasting
from .proxy import came_of_a_call, is_handed
from .subclients import close_unawaited

_ENDS: Final = Judge(ignore=(StopIteration, StopAsyncIteration))
_ABSENT: Final = Judge(ignore=(KeyError, IndexError))  # these say "not there", those "no more"


class ClientPolicy:
    """A policy, and the judges that a client adds to those of its guards."""

    __slots__ = ("_judges", "_kin", "_once", "_pipelines", "_writes", "inline", "policy")

    def __init__(
        self,
        policy: GuardStack,
        judges: tuple[Judge, ...],
        *,
        inline: bool = False,
        kin: Kin | None = None,
        once: Once = unknown,
        writes: Writes | None = None,
    ) -> None:
        self.policy: GuardStack = policy
        self._once: Once = once  # says why a call must not be repeated
        self._writes = writes
        self._kin = kin  # turns errors into the library's own types, which its handlers catch
        self.inline: bool = inline  # its sync calls stay in their thread
        self._judges = judges
        self._pipelines: dict[tuple[Mode, str, int], Pipeline] = {}

    @property
    def sync_mode(self) -> Mode:
        """How sync calls are bounded; raises the TypeError that explains the choice."""
        if self.inline:
            return "cooperative"
        return sync_mode(self.policy.name, self.policy.guards)

    def plan(self, mode: Mode, what: str = "call", skip: int = 0) -> Pipeline:
        """Return the pipeline for a mode and for what it runs: a call, a step, an item."""
        key = mode, what, skip
        found = self._pipelines.get(key)
        if found is None:
            judges, guards = self._judges, self.policy.guards
            if what != "call":
                judges = (*judges, _ABSENT if what == "item" else _ENDS)
            if what == "enter":
                guards = tuple(each for each in guards if not isinstance(each, TimeLimit))
            found = Pipeline(
                self.policy._core, guards, mode, judges=judges, skip=skip, neutral=is_handed,
                kin=self._kin, once=self._once if what == "call" else _part,
                writes=self._writes, handed_out=came_of_a_call, key=self.policy._key,
            )  # fmt: skip
            if self.inline or what != "call":  # no other thread, and no copy of a part
                found.races = None
            self._pipelines[key] = found
        return found

    def of(self, policy: GuardStack) -> ClientPolicy:
        """Return the same for a view of the policy."""
        own: Any = copy(self)
        if policy is not self.policy:
            own.policy, own._pipelines = policy, {}
        return own  # type: ignore[no-any-return]

    def plan_of(self, policy: GuardStack, mode: Mode) -> Pipeline:
        """Return the pipeline of a client's method for the policy, or a view of it."""
        return self.of(policy).plan(mode, skip=1)

    def function(
        self,
        kind: Kind,
        fn: Callable[..., Any],
        what: str = "call",
        skip: int = 0,
        quick: Frameless | None = None,
    ) -> Callable[..., Any]:
        """Return fn guarded, in the form of its kind; the first `skip` arguments are ours."""
        if kind == "sync":
            return sync.guard(self.plan(self.sync_mode, what, skip), fn, quick)
        if kind == "generator":
            return self._streams(fn, what, skip)
        from ...engine.aio import functions as aio
        from ...engine.aio import streams as astreams

        plan = self.plan("async", what, skip)
        return aio.guard(plan, fn, quick) if kind == "async" else astreams.guard(plan, fn)

    def _streams(
        self, fn: Callable[..., Any], what: str = "call", skip: int = 0, *, final: bool = False
    ) -> Callable[..., Any]:
        plan = self.plan(self.sync_mode, what, skip)
        if not plan.threaded:
            return streams.guard(plan, fn, final=final)
        from .threaded import ThreadedFlow

        return streams.guard(plan, fn, final=final, runs=ThreadedFlow)

    def step(self, fn: Callable[[], Any], *, stays: bool = False) -> Any:
        """Run one sync step of a handed-out object; no fallback can answer it."""
        mode = "cooperative" if stays else self.sync_mode
        return sync.call(self.plan(mode, "step"), fn, (), {}, final=True)

    async def async_step(self, fn: Callable[[], Any], *, enters: bool = False) -> Any:
        """Run one async step of a handed-out object; no fallback can answer it."""
        from ...engine.aio import functions as aio
        from ...engine.aio.waker import current_task

        # On trio the entry may open a nursery, which must not be inside a cancel scope of ours.
        if not enters or current_task()[0] is not None:
            return await aio.call(self.plan("async", "step"), fn, (), {}, final=True)
        return await aio.call(self.plan("async", "enter"), self._told(fn), (), {}, final=True)

    def enter(self, fn: Callable[[], Any]) -> Entry:
        """Return the entry of a context manager, which holds its slot until the exit."""
        return Entry(self.plan("cooperative", "step"), fn)

    def async_enter(self, fn: Callable[[], Any]) -> Entry:
        """Return the same for an async context manager."""
        from ...engine.aio.waker import current_task

        if current_task()[0] is not None:
            return Entry(self.plan("async", "step"), fn)
        return Entry(self.plan("async", "enter"), self._told(fn))

    def _told(self, fn: Callable[[], Any]) -> Callable[[], Any]:
        """Return fn in the scope of the policy's deadline, if it has one."""
        limits = [limit.seconds for limit in time_limits(self.policy.guards)]
        if not limits or not PolicyState.active:
            return fn
        return partial(_within, min(limits), self.policy.name, fn)

    async def awaited(
        self,
        awaitable: Any,
        fn: Callable[..., Any],
        hand: Callable[[Any], Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Await what a method, fn, returned for its arguments; another attempt calls it again.

        The call is judged by what `hand` makes of its value.
        """
        from ...engine.aio import functions as aio

        box = [awaitable]
        try:
            return await aio.call(self.plan("async"), _Made(box, fn, hand), args, kwargs)
        finally:
            if box:
                close_unawaited(box[0])

    def stream(self, generator: Any, *, is_async: bool) -> Any:
        """Return a handed-out generator, guarded for its whole life."""
        if not is_async:
            return self._streams(lambda: generator, final=True)()
        from ...engine.aio import streams as astreams

        return astreams.guard(self.plan("async"), lambda: generator, final=True)()

    def lasting(self) -> Lasting:
        """Admit a call that ends elsewhere, maybe in another thread; or raise a refusal."""
        call = Lasting(self.plan("cooperative"))
        step = interpreter.start(call)
        while step == DO_PARK:
            step = wait(call)
        return call.began_at(step)

    async def async_lasting(self) -> Lasting:
        """Admit the same in a task."""
        from ...engine.aio.driver import wait

        call = Lasting(self.plan("async"))
        step = interpreter.start(call)
        while step == DO_PARK:
            step = await wait(call)
        return call.began_at(step)


class _Made:
    """The body of a call whose awaitable was made before it began."""

    __slots__ = ("__name__", "_box", "_fn", "_hand")

    def __init__(self, box: list[Any], fn: Callable[..., Any], hand: Callable[[Any], Any]) -> None:
        self.__name__: str = getattr(fn, "__name__", "")
        self._box = box
        self._fn = fn
        self._hand = hand

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._hand(await (self._box.pop() if self._box else self._fn(*args, **kwargs)))


def _part(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    return "it is a part of what a call has handed out, and can't be made again"


async def _within(seconds: float, policy: str, fn: Callable[[], Any]) -> Any:
    """Await a function that reads its deadline; do not cancel it there."""
    with bounded(seconds, policy, real.now):
        return await fn()
