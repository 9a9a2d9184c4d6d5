"""The pytest plugin: the fixtures `clock`, `policies` and `flags`, and isolation between tests.

pytest loads it through its entry point; it needs no configuration.
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
    """The fixture `policies`: forced states, and the counts of a test's calls."""

    def __init__(self) -> None:
        self._before: dict[str, dict[str, Any]] = {}
        for core in registry.cores():
            self._before[core.name] = snapshot_of(core, core.guards)

    def outcomes(self, policy: str | Policy) -> dict[str, int]:
        """Return how the calls of this test ended, by outcome; outcomes without calls are 0.

        Args:
            policy: the policy or its name.

        Returns:
            ``{"success": n, "failure": n, "ignored": n, "cancelled": n, "refused": n}``.

        Raises:
            LookupError: no policy has that name; the message names the nearest one.
        """
        return self._since(policy, "calls")

    def served(self, policy: str | Policy) -> dict[str, int]:
        """Return how the callers of this test were served: full, degraded, error and caller_error.

        Args:
            policy: the policy or its name.

        Raises:
            LookupError: no policy has that name; the message names the nearest one.
        """
        return self._since(policy, "served")

    @contextmanager
    def forced_open(self, policy: str | Policy) -> Generator[None]:
        """Make a policy refuse every call inside the block, so that its fallback answers.

        Args:
            policy: the policy or its name.

        Raises:
            LookupError: no policy has that name; the message names the nearest one.
        """
        yield from self._forced(policy, "forced_open")

    @contextmanager
    def forced_closed(self, policy: str | Policy) -> Generator[None]:
        """Make a policy's breaker let every call pass inside the block.

        Args:
            policy: the policy or its name.

        Raises:
            LookupError: no policy has that name; the message names the nearest one.
        """
        yield from self._forced(policy, "forced_closed")

    def _forced(self, policy: str | Policy, state: str) -> Generator[None]:
        cores = [_core(policy)]
        if not isinstance(policy, Policy):  # a name also finds policies that a reload has replaced
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
    """A clock that every policy follows during the test; it stands still until a test moves it."""
    # It starts at the real time, so that open circuits and windows stay as they are.
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
            if core.clock is manual:  # made by a module that the test imported
                core.follow(before)


@pytest.fixture
def policies() -> Policies:
    """Every policy of the process: force states, and read the counts of a test's calls."""
    return Policies()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Restore every policy after the test, and forget those that it made."""
    if not isinstance(item, pytest.Function):
        return (yield)  # such as a block of a page, which later blocks build on
    bus.calm()  # floods of another test must not suppress this one's events
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
    """Keep what a fixture that outlives the test makes."""
    with fixture_scope.making(fixturedef.scope):
        return (yield)
