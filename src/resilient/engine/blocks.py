"""Guarded blocks: ``with policy.block() as b:`` and ``async with policy.block() as b:``."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, cast

from .. import validation
from ..deadline import Deadline, TaskDeadline, current, leave
from ..outcomes import FAILURE, IGNORED, SUCCESS
from . import interpreter, settlement
from .call import DO_PARK, DO_RUN, Step, value_or_raise
from .compiled import taken
from .detached_call import DetachedCall
from .pipeline import Pipeline
from .sync.driver import wait
from .time_limits import binding

if TYPE_CHECKING:
    from typing import Self

    from .aio.deadline_scope import Limit
    from .aio.timers import TimeoutEntry
    from .block_plan import BlockPlan


class Block:
    """One guarded block, for one use; made by `Policy.block`.

    It is admitted at its beginning and judged at its end: an exception that leaves it
    is judged as that of a call, and propagates to the caller. Nothing can replace the block, so
    fallbacks do not act.

    Example:
        >>> from resilient import Policy, bulkhead
        >>> stock = Policy("stock", bulkhead(10))
        >>> with stock.block() as b:
        ...     level = -1
        ...     if level < 0:
        ...         b.fail("a negative level")
        >>> stock.snapshot()["calls"]["failure"]
        1
    """

    __slots__ = ("_begun", "_call", "_ended", "_entered", "_limit", "_own", "_plan", "_policy")

    def __init__(self, plan: BlockPlan, policy: object) -> None:
        self._plan = plan
        self._policy = policy  # which lives as long
        # What runs it, once it has begun: the pass of a compiled path, else a call.
        self._entered: Any = None
        self._call: DetachedCall | None = None
        self._begun = self._ended = False
        self._own: Deadline | None  # of a sync block
        self._limit: Limit | None  # of an async block

    def __reduce__(self) -> Any:
        return self._policy.__reduce__()  # which says why it stays in its process

    def fail(self, reason: str) -> None:
        """Count the block as a failure, even if no exception leaves it.

        Args:
            reason: why, in a few words; a circuit that opens shows it in its summary.

        Raises:
            TypeError: reason is not a str.
            ValueError: reason is empty, too long or not printable.
            RuntimeError: the block has not begun, or has ended.
        """
        if not validation.text("reason", reason):
            validation.refuse("reason", reason, "a few words")
        self._running().forced_outcome = FAILURE, reason

    def ignore(self) -> None:
        """Count the block as ignored, however it ends: it says nothing of the dependency's health.

        Raises:
            RuntimeError: the block has not begun, or has ended.
        """
        self._running().forced_outcome = IGNORED, ""

    def _running(self) -> DetachedCall:
        if self._entered is not None and not self._ended:
            self._call = self._taken(self._entered)
            self._entered = None
        if self._call is None or self._ended:
            when = "has ended" if self._ended else "has not begun"
            raise RuntimeError(f"this block {when}: fail() and ignore() are for inside it")
        return self._call

    def _taken(self, entered: Any) -> DetachedCall:
        """Return a call in place of a pass: it says more of its end."""
        call = taken(DetachedCall, entered, _nothing, (), {})
        call.final = True
        own = entered.deadline
        in_task = isinstance(own, TaskDeadline)
        self._own, self._limit = (None, _InQueue(entered)) if in_task else (own, None)
        return call

    def _left(self, error: BaseException | None) -> bool:
        """Note that the block has ended, and book that; return False where its call has to."""
        entered = self._entered
        if entered is None:
            self._running()
            self._ended = True
            return False
        self._entered, self._ended = None, True
        if entered.booked:  # the stack was too short to go on as a call: it was given back
            return True
        if error is None and self._plan.leave(entered, None):
            return True
        self._call = self._taken(entered)
        return False

    def _made(self, pipeline: Pipeline) -> DetachedCall:
        self._call = call = DetachedCall(pipeline, _nothing, (), {})
        call.final = True
        self._own = self._limit = None
        return call

    def _refused(self, call: DetachedCall) -> None:
        self._ended = True
        value_or_raise(call)

    # -- sync ---------------------------------------------

    def __enter__(self) -> Self:
        plan = self._plan
        if self._begun:
            raise RuntimeError(_USED)
        enter = plan.sync or plan.first_sync()
        self._begun = True
        self._entered = enter()
        if self._entered is not None:
            return self
        call = self._made(plan.sync_pipeline())
        try:
            step: Step = interpreter.start(call)
            while step == DO_PARK:
                step = wait(call)
            if step == DO_RUN:
                bound = binding(call, len(call.tickets))
                if bound is not None and bound.now() >= bound.when:
                    step = interpreter.not_run(call, bound.error())
        except BaseException:
            settlement.abort(call)
            raise
        if step != DO_RUN:
            self._refused(call)
        self._own = own = call.deadline
        if own is not None:
            current.set(own)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._left(error):
            return
        if self._own is not None:
            leave(self._own)
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        call = self._call
        assert call is not None
        if error is None and call.forced_outcome is None:
            call.forced_outcome = SUCCESS, ""  # there is no value for a predicate to judge
        try:
            interpreter.returned(call, None) if error is None else interpreter.raised(call, error)
        except BaseException:
            settlement.abort(call)
            raise
        finally:
            call.error = None  # the error is propagating already; a reference here would be a cycle

    # -- async ---------------------------------------------

    async def __aenter__(self) -> Self:
        plan = self._plan
        if self._begun:
            raise RuntimeError(_USED)
        enter = plan.tasks or plan.first_async()
        self._begun = True
        self._entered = enter()
        if self._entered is not None:
            return self
        from .aio import driver
        from .aio.deadline_scope import DeadlineScope

        call = self._made(plan.async_pipeline())
        try:
            step: Step = interpreter.start(call)
            while step == DO_PARK:
                step = await driver.wait(call)
            if step == DO_RUN:
                bounds = DeadlineScope(call, len(call.tickets))
                over = bounds.over()
                if over is None:
                    self._limit = bounds.begin()
                    return self
                interpreter.not_run(call, over.error())
        except BaseException:
            settlement.abort(call)
            raise
        self._refused(call)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._left(error):
            return
        told = error if self._limit is None else self._limit.end(error)
        self._limit = None
        try:
            self._end(told)
            if told is not None and told is not error:
                raise told
        finally:
            del told, error  # the traceback holds this frame: a reference is a cycle


_USED: Final = "this block was entered before; call block() for each use"


def _nothing() -> None:
    """Stand for the body of a block."""


class _InQueue:
    """The limit of an async block that a compiled path has entered."""

    __slots__ = ("_entered",)

    def __init__(self, entered: Any) -> None:
        self._entered = entered

    def end(self, error: BaseException | None) -> BaseException | None:
        own = self._entered.deadline
        self._entered.lift()
        leave(own)
        return cast("TimeoutEntry", own).reason(error)
