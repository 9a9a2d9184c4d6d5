"""Generators of a client under a time limit that needs threads: one call, a worker a step."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any

from ...deadline import Deadline, abandoned, current
from ...engine.detached_call import DetachedCall
from ...engine.sync import driver
from ...engine.sync.abandoned import abandon
from ...engine.sync.streams import SyncFlow
from ...engine.sync.workers import Job, pool
from ...engine.time_limits import binding
from ...errors import WorkersBusyError


class ThreadedFlow(SyncFlow):
    """One guarded generator, whose steps run on worker threads.

    Like every stream it is one call: admitted at its first step, bounded for its whole life. A step
    that still runs when the time is up is abandoned, and keeps the slot until it ends.
    """

    __slots__ = ("_left",)
    source: Any
    thrown: BaseException | None

    def __init__(self, call: DetachedCall) -> None:
        super().__init__(call)
        self._left: tuple[Job, Deadline | None] | None = None  # the abandoned step

    def _run(self, fn: Callable[..., Any], *args: Any) -> Any:
        call = self.call
        deadline, own = binding(call, self.level), call.deadline
        if deadline is None:
            return super()._run(fn, *args)
        context = copy_context()
        if own is not None:
            context.run(current.set, own)
        job = Job(context, partial(self.attempt(fn), *args))
        try:
            pool.submit(job)
        except RuntimeError as fault:
            why = f"{call.core.name}: the system gives no more threads ({fault})"
            kind = call.pipeline.worker_guard
            raise WorkersBusyError(why, policy=call.core.name, guard=kind) from None
        reason = driver._wait_for(call, job, deadline)
        if reason is None and not job.ended:
            reason = deadline.error()
        if reason is not None and job.abandon():
            self._left = job, own
            abandoned(deadline)
            raise reason
        if own is not None:
            own.open = False
        error, job.error = job.error or reason, None
        if error is not None:
            raise error
        return job.value

    def raised(self, error: BaseException, began: float | None = None) -> int:
        left, self._left = self._left, None
        if left is None:
            return super().raised(error, began)
        if began is not None:
            self._spend(began)
        self.source = self.thrown = None  # it still runs: it can't be closed
        step, on_end = abandon(self.call, error)
        job, own = left
        job.when_ended(partial(driver._end, own, on_end))
        return step
