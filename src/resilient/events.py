"""Events of policies and flags, and their delivery to listeners and `logging`."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, Final, Literal, cast

from .callables import kind_of, label
from .event_folding import Folds, key_of
from .locks import tally
from .process import at_exit
from .stack import room_for_call
from .validation import clean, refuse_type

Kind = Literal[
    "opened", "half_open", "closed", "would_open", "forced", "released", "refused", "updated",
    "flipped", "abandoned", "retried", "not_retried", "away", "back",
]  # fmt: skip
Cause = Literal["auto", "operator"]

_LEVELS: Final[dict[str, int]] = dict.fromkeys(
    ("opened", "forced", "refused", "would_open", "flipped", "abandoned", "not_retried", "away"), 30
)
_INFO: Final = 20
_BACKLOG: Final = 10_000


class Event:
    """One change of a policy or flag.

    Attributes:
        policy: the policy's name; ``""`` for a flag.
        flag: the flag's name; ``""`` for a policy.
        guard: the kind of the guard concerned, ``"policy"``, or ``"flag"``.
        kind: what happened: ``opened``, ``half_open``, ``closed``, ``would_open`` (a breaker that
            only measures), ``forced``, ``released``, ``updated`` (options were changed),
            ``refused`` (the first refusal of a guard after a minute without one), ``flipped`` (a
            flag changed in this process), ``abandoned`` (a caller gave up on a
            worker thread, and none of the policy's other workers is abandoned), ``retried``
            (another attempt, or a copy of one, begins), ``not_retried`` (the first failure after
            a minute without one to which a retry makes no other attempt, or slow one to which a
            hedge makes no copy, for that reason), ``away`` (the store of a fleet's rate limit does
            not answer, so that this process goes on alone), or ``back`` (it answers again).
        cause: ``"auto"`` or ``"operator"``.
        at: when, by the policy's monotonic clock, in seconds.
        key: the key of the policy whose guard it was; ``""`` without one.
        reason: why, in a few words.
        before: the state before, or the options that were changed.
        after: the state after, or what they were changed to.
        evidence: for a circuit breaker's moves, what was in its window: ``calls``,
            ``failures``, ``failure_rate``, ``slow``, ``slow_rate``, ``consecutive_failures``, the
            most frequent ``exceptions`` with their counts; ``retry_after``, in seconds, if it
            opened; the ``settings`` in force, and ``revision``, how often they had been changed.
            Empty for other events.
    """

    __slots__ = (
        "after", "at", "before", "cause", "evidence", "flag", "guard", "key", "kind", "policy",
        "reason",
    )  # fmt: skip

    def __init__(
        self,
        kind: Kind,
        *,
        guard: str,
        at: float,
        reason: str = "",
        before: str = "",
        after: str = "",
        cause: Cause = "auto",
        policy: str = "",
        flag: str = "",
        evidence: Mapping[str, Any] | None = None,
    ) -> None:
        self.policy: str = policy
        self.flag: str = flag
        self.key: str = ""  # set by the policy, like its name
        self.guard: str = guard
        self.kind: Kind = kind
        self.cause: Cause = cause
        self.at: float = at
        self.reason: str = reason
        self.before: str = before
        self.after: str = after
        self.evidence: Mapping[str, Any] = {} if evidence is None else evidence

    def __str__(self) -> str:
        moved = f" ({self.before} -> {self.after})" if self.before and self.after else ""
        why = f": {self.reason}" if self.reason else ""
        name = f"{self.policy}[{clean(self.key)}]" if self.key else self.policy or self.flag
        return f"{name}: {self.guard} {self.kind}{moved}{why}"

    def __repr__(self) -> str:
        return f"<Event {self}>"


Listener = Callable[[Event], object]


class Bus:
    """Hands events to listeners in order, one at a time, and never while a lock is held.

    The thread that finds the bus idle delivers for all threads; an event published meanwhile, also
    by a listener, joins the queue. A listener that raises is logged once and removed.
    """

    def __init__(self) -> None:
        self._listeners: tuple[Listener, ...] = ()
        self._queue: deque[Event | Callable[[], object]] = deque()
        self._reluctant: set[int] = set()  # threads that must not wait for a listener
        self._delivering = threading.Lock()
        self._log: Log = Log()
        self.dropped: int = 0
        self.listener_errors: int = 0

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call listener with every event from now on.

        Args:
            listener: a plain function of one `Event`. It runs in the thread of a guarded call,
                and all other events wait for it, so it should be quick.
                A listener that raises is logged once and removed.

        Returns:
            A function that ends the subscription; a second call does no harm.

        Raises:
            TypeError: listener is not a plain callable.
        """
        if not callable(listener) or kind_of(listener) != "sync":
            refuse_type("listener", listener, "a plain function of one Event")
        self._listeners = (*self._listeners, listener)

        def unsubscribe() -> None:
            self._listeners = tuple(kept for kept in self._listeners if kept is not listener)

        return unsubscribe

    def enqueue(self, event: Event | Callable[[], object]) -> None:
        """Queue an event, or a function, without delivering it; allowed under a lock."""
        if len(self._queue) >= _BACKLOG:
            with tally:
                self.dropped += 1
        else:
            self._queue.append(event)

    def reset(self) -> None:
        """Forget a delivery that another thread had begun before a fork."""
        self._queue.clear()
        self.dropped = self.listener_errors = 0
        self._delivering = threading.Lock()
        self._reluctant.clear()
        self._log.reset()

    def leave_to_others(self) -> None:
        """Leave deliveries of this thread to another one, because a listener may hang."""
        self._reluctant.add(threading.get_ident())

    def calm(self) -> None:
        """Have the log report the next events one by one, whatever came before."""
        self._log.reset()

    def look_back(self) -> None:
        """Log the floods after which nothing has happened; to be called now and then."""
        self.enqueue(self._log.tell)
        self.deliver()

    def deliver(self) -> None:
        """Deliver the queue, unless another thread is doing so."""
        try:
            room_for_call()
        except RecursionError:  # the next call delivers it
            return
        if threading.get_ident() not in self._reluctant:
            self._deliver()
        elif self._queue and not self._delivering.locked():
            # No thread can be started: the next call does it.
            with contextlib.suppress(RuntimeError):
                threading.Thread(target=self._deliver, name="resilient-events", daemon=True).start()

    def _deliver(self) -> None:
        # Check the queue again after the release: a thread that found the lock taken did not wait.
        while self._queue and (lock := self._delivering).acquire(blocking=False):
            try:
                while self._queue:
                    self._send(self._queue.popleft())
            finally:
                lock.release()  # the local lock, and not that of a child: a listener may fork

    def _send(self, event: Event | Callable[[], object]) -> None:
        if not isinstance(event, Event):
            event()
            return
        self._log.take(event)
        for listener in self._listeners:
            try:
                listener(event)
            except RecursionError:  # the stack was too short: perhaps not the listener's fault
                continue
            except Exception:
                self._listeners = tuple(kept for kept in self._listeners if kept is not listener)
                self.listener_errors += 1
                import logging

                logging.getLogger("resilient").exception(
                    "listener %s raised and was removed", label(listener)
                )


class Log:
    """Writes events to `logging`; a flood as one line with the number of its events."""

    def __init__(self) -> None:
        self._folds: Folds[Event] = Folds()
        self._at_exit = False

    def reset(self) -> None:
        """Forget in a child what was kept back before the fork: the parent reports it."""
        self._folds = Folds()

    def take(self, event: Event) -> None:
        """Log an event or keep it back; then log the floods that are due."""
        now = time.monotonic()
        key, singly = key_of(event.policy, event.flag, event.guard, event.kind, event.cause)
        if not self._folds.keeps(key, singly, event, now):
            _write(event, 1, 0.0)
        elif not self._at_exit:
            self._at_exit = True
            at_exit("log", lambda: self.tell(every_one=True))
        if self._folds.floods:
            self.tell()

    def tell(self, *, every_one: bool = False) -> None:
        """Log the floods that are due."""
        now = time.monotonic()
        for event, times, since in self._folds.ended(now, every_one=every_one):
            _write(event, times, now - since)


def _write(event: Event, times: int, seconds: float) -> None:
    import logging

    try:
        logger, level = logging.getLogger("resilient"), _LEVELS.get(event.kind, _INFO)
        if logger.isEnabledFor(level):
            more = f" (the last of {times} more like it in {seconds:.0f} s)" if times > 1 else ""
            logger.log(level, "%s%s", event, more, extra={**_fields(event), _TIMES: times})
    except Exception:  # a handler that raises is the application's fault, not the call's
        return


_TIMES: Final = "resilient_times"


def _fields(event: Event) -> dict[str, Any]:
    """Return the fields of a log record for an event: always all of them, under stable names.

    ``docs/howto/trace-and-log.md`` documents them.
    """
    return {
        "resilient_event": event,
        "resilient_name": f"resilient.{event.kind}",
        "resilient_policy": event.policy,
        "resilient_flag": event.flag,
        "resilient_key": event.key,
        "resilient_guard": event.guard,
        "resilient_cause": event.cause,
        "resilient_reason": event.reason,
        "resilient_before": event.before,
        "resilient_after": event.after,
        "resilient_evidence": _plain(event.evidence),
    }


def _plain(value: Any) -> Any:
    """Return a copy that any formatter can write: of str, int, float, bool, None, list and dict."""
    if isinstance(value, Mapping):
        named = cast("dict[Any, Any]", value)
        return {str(name): _plain(inside) for name, inside in named.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inside) for inside in cast("list[Any]", value)]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float) and isfinite(value):
        return value
    return str(value)  # JSON has no infinity


bus: Final = Bus()
