"""Guard generators on a compiled path."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from ...deadline import Deadline, current
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
    path = None
    if pipeline.fast_detached:
        ends = SyncEnds(pipeline, fn)
        path = path_of(pipeline, fn, ends, None, None, Deadline, detached=True)
    if path is None:
        return streams.guard(pipeline, fn)
    enter, ways = path.enter_here, (pipeline.core, path.leave)

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Steps:
        entered = enter()
        if entered is None:
            return SyncFlow(DetachedCall(pipeline, fn, args, kwargs))
        return SyncFastFlow(ways, entered, (fn, args, kwargs))

    return streams.driven(begin)


class SyncFastFlow(FastFlow):
    """One guarded generator as long as each step is usual."""

    __slots__ = ()
    sent: Any

    def step(self) -> bool:
        """Advance to the next item; return False at the end."""
        source = self._source
        if self._rest is not None or not (source is None or self._is_usual()):
            again: bool = self._slow().step()
            return again
        entered, sent, self.sent = self._entered, self.sent, None
        own = entered.deadline
        try:
            if source is None:
                fn, args, kwargs = self._called
                self._source = source = fn(*args, **kwargs)
            elif own is not None:
                own.open = True
                current.set(own)
            self._item = source.send(sent)
        except BaseException as error:
            if own is not None:
                own.open = False
                if current.get() is own:
                    current.set(None)
            if type(error) is StopIteration and self._is_booked(error.value):
                return False
            rest = self._go_over()
            return rest.step(partial(rest.ended, error, self._began))  # type: ignore[no-any-return]
        if own is not None:
            own.open = False
            if current.get() is own:
                current.set(None)
        self._spent = (self._spent or 0.0) + self._ways[0].now() - self._began
        return True

    def close(self, reason: GeneratorExit) -> None:
        """End the stream early."""
        self._slow().close(reason)

    def _new_rest(self, call: DetachedCall, source: Any) -> SyncFlow:
        return SyncFlow(call, source)


has_call(SyncFastFlow.step, entered="entered")
