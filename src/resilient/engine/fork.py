"""Renew the state of all policies in a forked child.

The fork hook takes all locks before the fork, so that no thread is inside a critical section at the
moment of the fork. Only the forking thread lives on in the child: the waiters, workers and calls of
other threads are dropped. uWSGI runs only the hook of the child, which therefore also works without
the one before.
"""

from __future__ import annotations

import sys
import threading
from typing import Any, Final, cast

from .. import locks
from ..events import bus
from ..process import at_fork
from ..state_types import compiled
from .own_calls import OwnCall, own_calls
from .policy_state import PolicyState, living
from .sync.workers import pool

_one_at_a_time: Final = threading.RLock()  # two threads may fork at the same time
_held: Final[list[PolicyState]] = []


def _before() -> None:
    _one_at_a_time.acquire()
    for core in living():
        core.lock.acquire()
        _held.append(core)


def _in_parent() -> None:
    while _held:
        _held.pop().lock.release()
    _one_at_a_time.release()


def _in_child() -> None:
    locks.reset_locks()
    pool.reset()
    bus.reset()
    own = own_calls(sys._getframe(1))
    if compiled is not None:
        compiled.forget_others()
    for copy in (copy for call in own for copy in call.beside):
        copy.tickets = [None] * len(copy.tickets)  # it is in another task, or in no thread at all
    held = {id(core) for core in _held}
    for core in _held:
        core.lock.release()  # this thread took it before the fork
    for core in living():
        if id(core) not in held:  # another thread made it during the fork: its lock may be held
            cast("Any", core.lock)._at_fork_reinit()
        _renew(core, [call for call in own if call.core is core])
    _held.clear()
    cast("Any", _one_at_a_time)._at_fork_reinit()


def _renew(core: PolicyState, own: list[OwnCall]) -> None:
    core.uncalled = True
    core.alarm = None  # its thread does not exist here: the next call or look ends a forced state
    core.gate = core.compute_gate()
    core.outbox.clear()
    core.clear()
    core.counting_since = now = core.now()
    core.inherited = {call.began for call in own}
    core.in_flight = len(core.inherited)
    if core.collapsed is not None:
        core.collapsed.clear()
    if core.keys is not None:
        core.keys.in_child()
    for guard in core.all_guards():
        guard.judge.faults = 0
        guard.after_fork(now, sum(guard in call.holding for call in own))
    if core.keys is not None:
        core.keys.follow()  # the fork may have come between two keys


def install() -> None:
    """Register the fork hooks that take and renew the locks of policies."""
    at_fork("policies", before=_before, in_parent=_in_parent, in_child=_in_child)
