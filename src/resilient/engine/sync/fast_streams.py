"""Guard generators on a compiled path; `streams` takes over where a step is not usual."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from ...deadline import Deadline, current, leave
from ..compiled import path_of, taken
from ..detached_call import DetachedCall
from ..frames import has_call
from ..keeping import Fn
from ..pipeline import Pipeline
from . import streams
from .functions import SyncEnds
from .streams import SyncFlow


def guard(pipeline: Pipeline, fn: Fn) -> Callable[..., Generator[Any, Any, Any]]:
    """Return a generator function that guards fn's generators."""
    slow, path = streams.guard(pipeline, fn), None
    if pipeline.fast_detached:
        path = path_of(pipeline, fn, SyncEnds(pipeline, fn), None, None, Deadline)
    return slow if path is None else _through(path, pipeline, fn, slow)


def _through(path: Any, pipeline: Pipeline, fn: Fn, slow: Fn) -> Fn:
    enter, booked, core = path.enter_here, path.leave, pipeline.core

    def guarded(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        entered = enter()
        if entered is None:
            return (yield from slow(*args, **kwargs))
        own, began, spent = entered.deadline, entered.began, 0.0
        source: Any = None
        flow = sent = None
        while True:
            try:
                if source is None:
                    source = fn(*args, **kwargs)
                item = source.send(sent)
            except BaseException as error:
                if own is not None:
                    leave(own)
                idle = began - entered.began - spent
                if type(error) is StopIteration and booked(entered, error.value, idle):
                    return error.value
                flow = _flow(entered, fn, args, kwargs, source, spent)
                more = flow.step(partial(flow.ended, error, began))
                break
            spent += core.now() - began
            if own is not None:
                leave(own)
            try:
                sent = yield item
            except BaseException as error:
                flow = _flow(entered, fn, args, kwargs, source, spent)
                if isinstance(error, GeneratorExit):
                    flow.close(error)
                    raise
                flow.thrown = error
            item = None
            began = core.now()
            if flow is not None or not _goes_on(own, began):
                flow = flow or _flow(entered, fn, args, kwargs, source, spent)
                flow.sent = sent
                more = flow.step()
                break
        return (yield from streams.driven(flow, more=more))

    return has_call(guarded, entered="entered")


def _goes_on(own: Deadline | None, now: float) -> bool:
    """Set the limit of the next step, and return True; False where `streams` has to do it."""
    outer = current.get()
    if outer is not None and (outer.open or outer.outer is not None):
        return False
    if own is None:
        return True
    if now >= own.when:
        return False
    own.open = True
    current.set(own)
    return True


def _flow(
    entered: Any, fn: Fn, args: tuple[Any, ...], kwargs: dict[str, Any], source: Any, spent: float
) -> SyncFlow:
    """Take a pass over as a stream that the interpreter judges."""
    flow = SyncFlow(taken(DetachedCall, entered, fn, args, kwargs), source)
    flow.call.active_seconds, flow.call.final = spent, spent > 0.0
    return flow
