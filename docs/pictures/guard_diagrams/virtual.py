"""Runs real policies in virtual time, so that what is drawn is what they do."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from resilient import Policy
from resilient.guards.base import Guard
from resilient.simulate.loop import LoopClock, VirtualLoop

Now = Callable[[], float]
Scene = Callable[[Policy, Now], Coroutine[Any, Any, Any]]


def played(scene: Scene, name: str, *guards: Guard) -> Any:
    """Run a coroutine with a policy on a loop that never sleeps; return its result.

    Args:
        scene: gets the policy, and a function that returns the time, which begins at 0.
        name: of the policy.
        guards: of the policy, the outermost first.
    """
    loop = VirtualLoop()
    try:
        policy = Policy(name, *guards, clock=LoopClock(loop))
        return loop.run_until_complete(scene(policy, lambda: round(loop.time(), 6)))
    finally:
        loop.shut()


def told(policy: Policy, kind: str) -> dict[str, Any]:
    """Return what a policy's snapshot says of one of its guards."""
    guards: list[dict[str, Any]] = policy.snapshot()["guards"]
    return next(each for each in guards if each["guard"] == kind)
