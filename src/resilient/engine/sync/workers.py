"""Daemon worker threads for ``timeout(..., sync="thread")``.

The pool starts threads when needed, reuses the last idle one first, and ends them after ten idle
seconds. Jobs never queue: the timeout guard limits the number of workers before one is requested. A
thread can't be stopped from outside, so a worker whose caller gave up runs on; its end is reported.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, cast

from ...state_types import compiled

IDLE_SECONDS: Final = 10.0


class _Wakes:
    """What wakes one waiting thread; where there is the compiled core, that has another."""

    __slots__ = ("_lock", "take")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        # Takes (True, seconds); for callers to whom one more call matters.
        self.take: Callable[[bool, float], bool] = self._lock.acquire

    def set(self) -> bool:
        """Wake the waiter; a second call does no harm."""
        try:
            self._lock.release()
        except RuntimeError:
            pass
        return True


# Where gevent or eventlet has patched `threading`, a wait must switch greenlets: the core's can't.
_waits_by_thread: Final = type(threading.Lock()).__module__ == "_thread"
if compiled is not None and _waits_by_thread and not TYPE_CHECKING:
    _Wakes = compiled.Signal


class Signal(_Wakes):
    """A one-shot event for one waiting thread, cheaper than `threading.Event`."""

    __slots__ = ()

    def wait(self, seconds: float) -> bool:
        """Wait for set(), at most so long; for ever if negative. Consumes the signal."""
        return self.take(True, min(seconds, threading.TIMEOUT_MAX))


def exchange(wake: Signal, wait: Signal, seconds: float) -> bool:
    """Set one signal, then wait for another; return whether that was set in time."""
    wake.set()
    return wait.take(True, seconds)


if compiled is not None and _waits_by_thread and not TYPE_CHECKING:
    exchange = compiled.exchange

_ending: Final = threading.Lock()  # guards _on_end of all jobs; held for two assignments


class Job:
    """One body on a worker: either it ends in time, or its caller abandons it, never both."""

    __slots__ = (
        "_body",
        "_claim",
        "_context",
        "_on_end",
        "ended",
        "error",
        "signal",
        "value",
    )

    def __init__(self, context: Context, fn: Callable[[], Any]) -> None:
        self._context = context
        self._body: list[Callable[[], Any]] = [fn]  # taken once: by a worker, or by `withdraw`
        self._claim = threading.Lock()  # acquired once: by the end, or by the caller who gives up
        self.ended: bool = False  # in time: value and error are set
        self._on_end: Callable[[], None] | None = None
        self.signal: Signal = Signal()
        self.value: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Run the body, on the worker."""
        try:
            fn = self._body.pop()
        except IndexError:  # nobody wants it any more
            return
        value, error = None, None
        try:
            if not self._claim.locked():  # else its caller gave up before it began
                value = self._context.run(fn)
        except BaseException as raised:
            error = raised
        self.value, self.error = value, error  # before the claim, whose loser reads them
        del value, error, fn  # the error's traceback refers to this frame
        if self._claim.acquire(blocking=False):
            self.ended = True
            return
        self.value = self.error = None
        with _ending:
            on_end, self._on_end = self._on_end, _nothing
        if on_end is not None:
            on_end()

    def withdraw(self) -> bool:
        """Take back a body that no worker has taken up; return False if one has."""
        try:
            self._body.pop()
        except IndexError:
            return False
        return True

    def abandon(self) -> bool:
        """Give up on the body; return False if it has ended, and its result stands."""
        return self._claim.acquire(blocking=False)

    def when_ended(self, on_end: Callable[[], None]) -> None:
        """Call on_end once the abandoned body has ended; at once if it already has."""
        with _ending:
            ended = self._on_end is _nothing
            if not ended:
                self._on_end = on_end
        if ended:
            on_end()


def _nothing() -> None:
    return None


class Pool:
    """The worker threads of this process."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget every worker: in a forked child their threads do not exist."""
        cast("Any", _ending)._at_fork_reinit()  # another thread may have held it
        # No lock, only atomic operations: a signal handler may come in between.
        self._idle: deque[_Worker] = deque()
        self._numbers = itertools.count(1)

    def submit(self, job: Job) -> None:
        """Run a job at once, on an idle worker or a new one.

        Raises:
            RuntimeError: the system starts no more threads.
        """
        self.hire(job).set()

    def hire(self, job: Job) -> Signal:
        """Give a job to an idle worker or a new one; return the signal that wakes it.

        Set it as late as possible, by `exchange`: a worker that wakes before its caller waits must
        wait for the interpreter's lock, and is woken twice.

        Raises:
            RuntimeError: the system starts no more threads.
        """
        worker = self._hired(job)
        if worker.ident is None:
            worker.start()
        return worker.mail

    def _hired(self, job: Job) -> _Worker:
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = None
        if worker is not None and worker.ident == threading.get_ident():
            # We are a finalizer on the worker itself, while it becomes idle: it can't wait for
            # itself.
            self._idle.append(worker)
            worker = None
        if worker is None:
            worker = _Worker(self, next(self._numbers))
        worker.job = job
        return worker

    def rest(self, worker: _Worker) -> None:
        """Make a worker available again."""
        self._idle.append(worker)

    def retire(self, worker: _Worker) -> bool:
        """Let an idle worker end; return False if a job was given to it just now."""
        try:
            self._idle.remove(worker)
        except ValueError:
            return False
        return True


class _Worker(threading.Thread):
    def __init__(self, pool: Pool, number: int) -> None:
        super().__init__(name=f"resilient-worker-{number}", daemon=True)
        self._pool = pool
        self.mail: Signal = Signal()
        self.job: Job | None = None

    def run(self) -> None:
        mail, rest = self.mail, self._pool.rest
        woken = mail.take(True, IDLE_SECONDS)
        while woken or not self._pool.retire(self):
            job, self.job = self.job, None
            if job is None:
                woken = mail.take(True, IDLE_SECONDS)
                continue
            job.run()
            # Idle before its caller knows, so that the caller's next call finds it.
            rest(self)
            caller = job.signal
            del job
            woken = exchange(caller, mail, IDLE_SECONDS)


pool: Final = Pool()
