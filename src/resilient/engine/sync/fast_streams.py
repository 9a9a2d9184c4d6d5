"""Guard generators on a compiled path."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from ...deadline import Deadline
from ..compiled import path_of
from ..detached_call import DetachedCall
from ..fast_flow import FastFlow, Steps
from ..frames import has_call
from ..keeping import Fn
from ..pipeline import Pipeline
from . import streams
from .functions import SyncEnds
from .streams import SyncFlow


def guard(pipeline: Pipeline, fn: Fn) -> Callable[..., Generator[Any, Any, Any]]:
    """Return a generator function that guards fn's generators."""
    return streams.driven(beginning(pipeline, fn))


def beginning(pipeline: Pipeline, fn: Fn) -> streams.Begin:
    """Return what begins a stream of fn."""
    path = None
    if pipeline.fast_detached:
        ends = SyncEnds(pipeline, fn)
        path = path_of(pipeline, fn, ends, None, None, Deadline, detached=True)
    if path is None:
        return streams.beginning(pipeline, fn)
    enter, leave = path.enter_here, path.leave

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Steps:
        entered = enter()
        if entered is None:
            return SyncFlow(DetachedCall(pipeline, fn, args, kwargs))
        return SyncFastFlow(leave, entered, (fn, args, kwargs))

    return begin


class SyncFastFlow(FastFlow):
    """One guarded generator as long as each step is usual."""

    __slots__ = ()
    sent: Any

    def step(self) -> bool:
        """Advance to the next item; return False at the end."""
        source, entered = self._source, self._entered
        if (
            self._rest is not None
            or self.thrown is not None
            or not (source is None or entered.begin_step())
        ):
            again: bool = self._slow().step()
            return again
        sent, self.sent = self.sent, None
        try:
            if source is None:
                fn, args, kwargs = self._called
                self._source = source = fn(*args, **kwargs)
            self._item = source.send(sent)
        except BaseException as error:
            entered.end_step(False)
            if type(error) is StopIteration and self._is_booked(error.value):
                return False
            rest = self._go_over()
            return rest.step(partial(rest.ended, error, entered.step))  # type: ignore[no-any-return]
        entered.end_step(True)
        self._given = True
        return True

    def close(self, reason: GeneratorExit) -> None:
        """End the stream early."""
        self._slow().close(reason)

    def _new_rest(self, call: DetachedCall, source: Any) -> SyncFlow:
        return SyncFlow(call, source)


has_call(SyncFastFlow.step, entered="entered")
