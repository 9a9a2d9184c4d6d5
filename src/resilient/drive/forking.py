"""What a forked child must make anew: one hook for all policies of the process.

Locks are taken before the fork, so that no other thread is caught in the middle of its arithmetic.
In the child only the forking thread lives on: waiters, workers and everybody else's calls are gone.
"""

from __future__ import annotations

import os
import sys
from typing import Any, cast

from ..events import bus
from . import sync
from .call import Call
from .core import FORCED, Core, living
from .workers import pool

_held: list[Core] = []


def _before() -> None:
    _held.extend(living)
    for core in _held:
        core.lock.acquire()


def _in_parent() -> None:
    while _held:
        _held.pop().lock.release()


def _in_child() -> None:
    pool.reset()
    bus.reset()
    own = _own_calls()
    held, cores = list(_held), list(living)
    _held.clear()
    for core in held:
        core.lock.release()  # ours: this thread took it before the fork
    for core in cores:
        if core not in held:  # made by another thread at that very moment: its lock may be taken
            cast("Any", core.lock)._at_fork_reinit()
        core.gate = 0 if core.forced is None else FORCED
        core.outbox.clear()
        core.clear()
        now = core.now()
        core.born = now
        core.inherited = core.in_flight = sum(found is core for found, _ in own)
        for guard in core.all_guards():
            guard.forked(now, core.inherited)


def _own_calls() -> list[tuple[Core, float]]:
    """Return the calls that the forking thread is in the middle of, by looking at its stack."""
    found: dict[tuple[int, float], tuple[Core, float]] = {}
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == sync.__file__:
            here = frame.f_locals
            call, core = here.get("call"), here.get("core")
            if isinstance(call, Call) and call.admitted:
                found[id(call.core), call.began] = (call.core, call.began)
            elif isinstance(core, Core) and here.get("tickets") is not None:
                found[id(core), here["now"]] = (core, here["now"])
        frame = frame.f_back
    return list(found.values())


def install() -> None:
    """Set the hook, where there is fork at all."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
