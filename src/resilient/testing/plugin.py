"""The pytest plugin: fixtures `clock`, `policies` and `flags`, and everything left as it was.

Loaded by pytest through its entry point; nothing needs to be switched on.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

from ..admin.activity import set_active
from ..admin.describe import snapshot_of
from ..admin.registry import registry
from ..engine.policy_state import PolicyState
from ..events import bus
from ..place import Place
from ..policy import short_lived
from ..policy.policy import Policy
from . import ManualClock, fixture_scope
from .policy_snapshot import PolicySnapshot

pytest_plugins: tuple[str, ...] = ("resilient.testing.flag_plugin",)


class Policies:
    """What the fixture `policies` offers: forced states, and what a test's calls came to."""

    def __init__(self) -> None:
        self._before: dict[str, dict[str, Any]] = {}
        for core in registry.cores():
            self._before[core.name] = snapshot_of(core, core.guards)

    def outcomes(self, policy: str | Policy) -> dict[str, int]:
        """Return how the calls of this test ended, by outcome; outcomes that did not occur are 0.

        Args:
            policy: the policy or its name.

        Returns:
            ``{"success": n, "failure": n, "ignored": n, "cancelled": n, "refused": n}``.

        Raises:
            LookupError: no policy has that name; the message has the nearest.
        """
        return self._since(policy, "calls")

    def served(self, policy: str | Policy) -> dict[str, int]:
        """Return what the callers of this test got: full, degraded, error and caller_error.

        Args:
            policy: the policy or its name.

        Raises:
            LookupError: no policy has that name; the message has the nearest.
        """
        return self._since(policy, "served")

    @contextmanager
    def forced_open(self, policy: str | Policy) -> Generator[None]:
        """Have a policy refuse every call inside the block, so that its fallback answers.

        Args:
            policy: the policy or its name.

        Raises:
            LookupError: no policy has that name; the message has the nearest.
        """
        yield from self._forced(policy, "forced_open")

    @contextmanager
    def forced_closed(self, policy: str | Policy) -> Generator[None]:
        """Have a policy's breaker let every call pass inside the block.

        Args:
            policy: the policy or its name.

        Raises:
            LookupError: no policy has that name; the message has the nearest.
        """
        yield from self._forced(policy, "forced_closed")

    def _forced(self, policy: str | Policy, state: str) -> Generator[None]:
        cores = [_core(policy)]
        if not isinstance(policy, Policy):  # also what a reload has replaced
            cores = registry.named(cores[0].name)
        kept = [PolicySnapshot(core) for core in cores]
        for core in cores:
            core.force(state, "forced by a test")
        try:
            yield
        finally:
            for keep in kept:
                keep.put_back(counts=False)

    def _since(self, policy: str | Policy, part: str) -> dict[str, int]:
        core = _core(policy)
        now: dict[str, int] = snapshot_of(core, core.guards)[part]
        before: dict[str, int] = self._before.get(core.name, {}).get(part, {})
        return {word: number - before.get(word, 0) for word, number in now.items()}


def _core(policy: str | Policy) -> PolicyState:
    return policy._core if isinstance(policy, Policy) else registry.find(policy)


@pytest.fixture
def clock() -> Generator[ManualClock]:
    """A clock that every policy follows during the test; it stands still until it is advanced."""
    # Not behind what the policies have seen: their open circuits and windows stay as they are.
    manual = ManualClock(start=time.monotonic())
    clocks = [(core, core.clock) for core in registry.cores()]
    before, registry.clock = registry.clock, manual
    for core, _ in clocks:
        core.follow(manual)
    try:
        yield manual
    finally:
        registry.clock = before
        for core, own in clocks:
            core.follow(own)
        for core in registry.cores():
            if core.clock is manual:  # made meanwhile, by a module that was imported
                core.follow(before)


@pytest.fixture
def policies() -> Policies:
    """Every policy of the process: force states, and ask what a test's calls came to."""
    return Policies()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Leave every policy as it was before the test, and forget those that it made."""
    if not isinstance(item, pytest.Function):
        return (yield)  # such as a block of a page, whose blocks are one story
    bus.calm()  # what another test did in floods is no reason to keep this one's back
    kept = [PolicySnapshot(core) for core in registry.cores()]
    made: list[weakref.ref[PolicyState]] = []
    active = PolicyState.active

    def on_made(core: PolicyState, place: Place) -> None:
        if place.importing or fixture_scope.wide():
            kept.append(PolicySnapshot(core))
        else:
            made.append(weakref.ref(core))

    registry.on_made = on_made
    short_lived.forget()
    try:
        return (yield)
    finally:
        registry.on_made = None
        set_active(active)
        for keep in kept:
            keep.put_back()
        for core in filter(None, (ref() for ref in made)):
            if core in registry.cores():
                registry.remove(core.name)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any],
) -> Generator[None, object, object]:
    """What is made by a fixture that outlives the test is not the test's to forget."""
    with fixture_scope.making(fixturedef.scope):
        return (yield)
