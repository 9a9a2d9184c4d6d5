"""The policies of loops over a retry: one for each loop in the code, however often it runs."""

from __future__ import annotations

from types import CodeType
from typing import Final, cast
from weakref import WeakKeyDictionary

from ..admin.registry import registry
from ..engine.loops import AsyncLoop, SyncLoop
from ..guards.base import Mode
from ..guards.retry.retry import Retry
from ..locks import made_anew
from ..place import outside
from . import ordering
from .policy import Policy

Sites = dict[tuple[str, int], Policy]  # by module, and by the place in the code

_lock: Final = made_anew()
_policies: Final[WeakKeyDictionary[CodeType, Sites]] = WeakKeyDictionary()


def loop(guard: Retry, mode: Mode) -> SyncLoop | AsyncLoop:
    """Return one run of a loop over a retry.

    Raises:
        TypeError: the retry is a part of a policy, whose other guards would not act; or it has a
            predicate of the value, which a block has not.
    """
    if guard.judge.failed_result is not None:
        raise TypeError(
            "the failed_result of this retry judges a value, and the body of a loop has none: "
            "raise an exception there that on= names"
        )
    policy = cast("Policy | None", guard._policy)
    if policy is None:
        if guard._policy_name:
            raise TypeError(
                f"this retry is a part of the policy {guard._policy_name}, whose guards would not "
                "act in a loop: make another retry for the loop"
            )
        policy = _policy_of(guard)
    pipeline = policy._pipeline(mode)
    return AsyncLoop(pipeline) if mode == "async" else SyncLoop(pipeline)


def _policy_of(guard: Retry) -> Policy:
    """Return the policy of the loop that runs: its budget and counts last from run to run."""
    frame = outside()
    module = str(frame.f_globals.get("__name__"))
    with _lock:
        sites = _policies.setdefault(frame.f_code, {})
        policy = sites.get((module, frame.f_lasti))
        if policy is None or not registry.knows(policy._core):  # a test's was removed after it
            policy = Policy._anonymous(f"{module}.{frame.f_code.co_qualname}", guard)
            guard._policy = sites[module, frame.f_lasti] = policy
            return policy
    there = policy._core.guards[0]
    declared = there.options() | (there._layers or {}).get("declared", {})
    return policy if ordering.alike(declared, guard.options()) else policy.with_(guard)
