"""Guard generators: admit at the first step, judge at the end, bound each step.

Nothing is set across a yield: between two steps the consumer's code runs, perhaps in another thread
or task, so the stream's deadline and context must not apply to it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any, Final, cast

from ...callables import returns_awaitable
from ...deadline import Deadline, current, leave
from ...guards.facets import InFlight
from ...outcomes import IGNORED
from .. import attempts, interpreter, settlement
from ..call import DO_PARK, DO_RECOVER, DO_RUN, DONE, value_or_raise
from ..detached_call import DetachedCall
from ..fast_flow import Steps
from ..frames import has_call
from ..keeping import Fn
from ..pipeline import Pipeline
from ..time_limits import binding
from .driver import pause, wait

Begin = Callable[[tuple[Any, ...], dict[str, Any]], Steps]

GIVEN: Final = 6  # besides the steps of a call: an item is ready


class Flow:
    """One guarded stream from its first step to its end."""

    __slots__ = ("call", "item", "sent", "source", "thrown")

    def __init__(self, call: DetachedCall, source: Any = None) -> None:
        self.call: DetachedCall = call
        call.active_seconds = call.active_seconds or 0.0
        self.source: Any = source  # the generator that runs
        self.item: Any = None
        self.sent: Any = None
        self.thrown: BaseException | None = None

    @property
    def level(self) -> int:
        """The level at which the source runs: innermost, or that of a fallback."""
        call = self.call
        return len(call.tickets) if call.recovering_from is None else call.level

    def given(self, item: Any, began: float) -> int:
        """Report an item: from now on no fallback can answer."""
        self._spend(began)
        self.age(paused=True)
        self.call.final = True
        self.item = item
        return GIVEN

    def returned(self, value: Any, began: float) -> int:
        """Report that the source is exhausted; return the next step."""
        self._spend(began)
        self.source = self.thrown = None
        return interpreter.returned(self.call, value)

    def ended(self, error: BaseException, began: float) -> int:
        """Report what a step of a generator raised; return the next step."""
        if type(error) is StopIteration:
            return self.returned(error.value, began)
        return self.raised(error, began)

    def raised(self, error: BaseException, began: float | None = None) -> int:
        """Report that the source failed or could not be made; return the next step."""
        if began is not None:
            self._spend(began)
        if error is self.thrown:  # the consumer's own, which says nothing of the dependency
            self.call.forced_outcome = IGNORED, type(error).__name__
        self.source = self.thrown = None
        return interpreter.raised(self.call, error)

    def gone(self, reason: BaseException) -> None:
        """Report an early end: neutral if the consumer closed the stream."""
        self.source = None
        if not self.call.counted:  # else its finalizer did, when a cycle was collected
            interpreter.raised(self.call, reason)
        self.call.error = None  # a traceback that holds its own exception is a cycle

    def taken(self) -> Any:
        """Return the item, and drop the reference to it."""
        item, self.item = self.item, None
        return item

    def end(self) -> Any:
        """Return what the stream returned, or raise the error that it ended with."""
        return value_or_raise(self.call)

    def not_iterable(self, answer: object) -> TypeError:
        """Return the error for a fallback's answer that can't be iterated over."""
        return TypeError(
            f"{self.call.core.name}: the fallback of a stream must give something to iterate "
            f"over; got {type(answer).__name__}"
        )

    def age(self, *, paused: bool) -> None:
        """Tell the guards that watch ages whether the dependency or the consumer is at work."""
        call = self.call
        watching = [
            (guard, ticket)
            for level, guard in call.pipeline.watchers
            if guard.watches_ages and (ticket := call.tickets[level]) is not None
        ]
        if not watching:
            return
        if not call.core.holds_lock():
            call.core.locked(_age, watching, call.core.now(), paused)

    def _spend(self, began: float) -> None:
        call = self.call
        call.active_seconds = (call.active_seconds or 0.0) + call.core.now() - began


def _age(watching: list[tuple[InFlight, int]], now: float, paused: bool) -> None:
    for guard, ticket in watching:
        (guard.pause if paused else guard.go_on)(ticket, now)


class SyncFlow(Flow):
    """One guarded generator."""

    __slots__ = ()
    source: Any
    sent: Any
    thrown: BaseException | None

    def step(self, first: Callable[[], int] | None = None) -> bool:
        """Advance to the next item, beginning with `first`; return False at the end."""
        call = self.call
        try:
            if first is not None:
                todo = first()
                first = None  # it may hold the error that this raises
            else:
                todo = interpreter.start(call) if self.source is None else self._again()
            while todo not in (DONE, GIVEN):
                if todo == DO_RUN:
                    todo = self._begin(call.fn, call.args, call.kwargs)
                elif todo == DO_RECOVER:
                    todo = self._begin(*call.recovery(), {})
                elif todo == DO_PARK:
                    todo = wait(call)
                else:
                    todo = pause(call)
        except BaseException:
            settlement.abort(call)
            raise
        return todo == GIVEN

    def close(self, reason: GeneratorExit) -> None:
        """End the stream early."""
        over = over_at(binding(self.call, self.level))
        try:
            _within(None if over is not None else self.call.deadline, self.source.close)
        except BaseException as error:
            self.gone(error)
            raise
        self.gone(reason)

    def _begin(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        call = self.call
        over = over_at(binding(call, self.level))
        if over is not None:
            return interpreter.not_run(call, over.error())
        try:
            source: Any = _within(call.deadline, self.attempt(fn), *args, **kwargs)
            generates = hasattr(source, "throw") and hasattr(source, "__next__")
            self.source = source if generates else self._each(source)
        except BaseException as error:
            return self.raised(error)
        return self._go_on()

    def _each(self, answer: object) -> Generator[Any]:
        try:
            items = iter(cast("Iterable[Any]", answer))
        except TypeError:
            if returns_awaitable(answer) and hasattr(answer, "close"):
                cast("Any", answer).close()  # nobody would await it
            raise self.not_iterable(answer) from None
        return (item for item in items)

    def _again(self) -> int:
        self.age(paused=False)
        return self._go_on()

    def _go_on(self) -> int:
        call, source, sent = self.call, self.source, self.sent
        over, self.sent = over_at(binding(call, self.level)), None
        if over is not None:
            return self._cut(over)
        began = call.core.now()
        try:
            if self.thrown is not None:
                item = self._run(self._throw)
            else:
                item = self._run(source.send, sent)
        except BaseException as error:
            return self.ended(error, began)
        self.thrown = None
        return self.given(item, began)

    def _throw(self) -> Any:
        return self.source.throw(self.thrown)  # no local variable: it would make a cycle

    def attempt(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Return fn, run as a part of an attempt if the policy may ask again."""
        return attempts.inside(self.call.pipeline, fn) if attempts.is_one(self.call) else fn

    def _run(self, fn: Callable[..., Any], *args: Any) -> Any:
        return _within(self.call.deadline, self.attempt(fn), *args)

    def _cut(self, over: Deadline) -> int:
        """Close a stream whose time is up."""
        timeout = over.error()
        try:
            self.source.close()
        except Exception as error:
            timeout.__cause__ = error
        except BaseException as error:
            return self.raised(error)
        return self.raised(timeout)


has_call(SyncFlow.step, call="call")


def guard(
    pipeline: Pipeline, fn: Fn, *, final: bool = False, runs: type[SyncFlow] = SyncFlow
) -> Callable[..., Generator[Any, Any, Any]]:
    """Return a generator function that guards fn's generators; if final, no fallback answers."""
    return driven(beginning(pipeline, fn, final=final, runs=runs))


def beginning(
    pipeline: Pipeline, fn: Fn, *, final: bool = False, runs: type[SyncFlow] = SyncFlow
) -> Begin:
    """Return what begins a stream of fn."""

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> SyncFlow:
        flow = runs(DetachedCall(pipeline, fn, args, kwargs))
        flow.call.final = final
        return flow

    return begin


def driven(
    begin: Begin,
) -> Callable[..., Generator[Any, Any, Any]]:
    """Return a generator function that drives what `begin` returns for its arguments."""

    def guarded(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        flow = begin(args, kwargs)
        while flow.step():
            try:
                flow.sent = yield flow.taken()
            except GeneratorExit as reason:
                flow.close(reason)
                raise
            except BaseException as error:
                flow.thrown = error
        return flow.end()

    return guarded


def going_on(call: DetachedCall, source: Any) -> Generator[Any, Any, Any]:
    """Return a generator that continues one which a guarded call has returned."""
    flow = SyncFlow(call, source)
    flow.age(paused=True)
    return driven(lambda _args, _kwargs: flow)()


def over_at(bound: Deadline | None) -> Deadline | None:
    """Return a deadline that has passed, else None."""
    return bound if bound is not None and bound.now() >= bound.when else None


def _within(own: Deadline | None, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if own is None:
        return fn(*args, **kwargs)
    current.set(own)
    try:
        return fn(*args, **kwargs)
    finally:
        leave(own)
