"""What is on and what is off in each side, as read in the code of the pinned versions."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import Final

_OURS: Final = """
resilient
+ one lock, for a moment before and after the body; failures in a row, and the rate over a window
  of 10 s; slots; fallback; time limit (cooperative: a deadline that the body can read; thread: a
  worker, with the context's variables; async: a cancellation); epochs; all counts and histograms of
  the metrics; monotonic clock
- slow calls, as by default

"""
_PEERS: Final = """\
pybreaker
+ an RLock held over the whole call, so that calls run one by one; failures in a row; listeners,
  none set; wall clock, read while open
- window, rate, time limit, slots, fallback, metrics, asyncio

circuitbreaker
+ failures in a row; monotonic clock, read while open
- locks, window, rate, time limit, slots, metrics

purgatory
+ failures in a row; a look-up of the breaker by its name, and three objects, at each call; events;
  wall clock, read while open
- locks, window, rate, time limit, slots, fallback, metrics

hyx
+ alone: failures in a row, wall clock, read while open; whole: fallback, breaker, two semaphores, a
  time limit by asyncio.wait_for, and a task of its own for each call
- locks, window, rate, metrics, sync code

pyresilience
+ a lock in the breaker and one in the bulkhead, each taken twice for a moment; failures in a row;
  slots; fallback; a call number in a context variable; time limit on a pool of 4 threads (sync) or
  by asyncio.wait_for (async); monotonic clock, read while open
- its window of calls, off by default (on, it is walked at every call); its Prometheus listener, not
  set; the context's variables in workers

tenacity
+ a copy of the retry object and a state object for each call; a list of actions for each attempt;
  statistics of the last call
- a budget, hints of servers, deadlines, locks, metrics

stamina
+ tenacity, with its instrumentation, which is not set; a time limit over all attempts
- a budget, hints of servers, deadlines, locks, metrics

asyncio.timeout
+ a time limit, with a timer made and cancelled for each call
- everything else

anyio
+ fail_after: a time limit, with a cancel scope and a timer made and cancelled for each call
- everything else

trio
+ fail_after: a time limit, with a cancel scope for each call
- everything else

executor
+ ThreadPoolExecutor(1).submit().result(): one warm worker, no time limit
- everything else; the context's variables in the worker

openfeature-sdk
+ the provider and its status looked up; contexts merged; hooks, none set; an object with value,
  variant and reason for each read
- locks, targeting, events, any I/O

UnleashClient
+ a context given as JSON to an engine of native code, which walks the strategies (one, for
  everybody); a second look-up for impressions; a count of the read
- registration, polling, sending of metrics, impressions, any I/O

launchdarkly-server-sdk
+ a lock of readers and writers, taken twice; the flag's targets and rules looked at for a context
  that was made before; hooks, none set; an object with value and reason for each read
- events, streaming, any I/O
"""


@dataclass(frozen=True)
class About:
    """One side: its name and version, what is on, and what is off."""

    name: str
    version: str
    on: str
    off: str


def about() -> list[About]:
    """Return what is known of every side."""
    found = []
    for text in (_OURS + _PEERS).strip().split("\n\n"):
        name, _, rest = text.partition("\n+ ")
        on, _, off = rest.partition("\n- ")
        version = _version("resilient-guards" if name == "resilient" else name)
        found.append(About(name, version, _joined(on), _joined(off)))
    return found


def _joined(text: str) -> str:
    return " ".join(text.split())


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""  # a part of the standard library
