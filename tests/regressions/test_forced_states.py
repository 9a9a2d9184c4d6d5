"""Forced states and those who wait, answer or join a policy meanwhile."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import resilient
from resilient import CircuitOpenError, Policy, bulkhead, circuit_breaker, fallback


def test_a_guard_that_a_view_brings_follows_the_forced_state() -> None:
    """Forced closed holds for the breaker of a view that is made later."""
    policy = Policy("fault-forced", circuit_breaker())
    policy.force_closed()
    view = policy.with_(circuit_breaker(failure_threshold=1))
    for _ in range(3):
        assert isinstance(view.try_call(int, "x").error, ValueError)


def test_who_waits_while_the_policy_is_forced_open_hears_why() -> None:
    """A caller in line is refused with the operator's reason; a new reason is a new event."""
    policy = Policy("fault-line", bulkhead(1, max_waiting=1, max_wait=10))
    inside, go = threading.Event(), threading.Event()
    first = threading.Thread(target=lambda: policy.call(lambda: inside.set() or go.wait(10)))
    first.start()
    assert inside.wait(10)
    ends: list[Any] = []
    second = threading.Thread(target=lambda: ends.append(policy.try_call(int)))
    second.start()
    while policy.snapshot()["guards"][0]["waiting"] == 0:
        time.sleep(0)
    events: list[Any] = []
    unsubscribe = resilient.registry.subscribe(events.append)
    policy.force_open("INC-1")
    policy.force_open("INC-1")
    policy.force_open("INC-2")
    unsubscribe()
    go.set()
    first.join(10)
    second.join(10)
    assert "INC-2" in str(ends[0].error)
    assert [event.reason for event in events if event.kind == "forced"] == ["INC-1", "INC-2"]


def test_a_fallback_that_fails_while_the_policy_is_forced_open() -> None:
    """Its own error comes out, with a refusal as its cause."""
    policy = Policy("fault-forced", fallback(lambda meanwhile: meanwhile()), bulkhead(1))

    @policy
    def call(meanwhile: Any) -> Any:
        call(int)  # the one slot is taken: this is the first refusal, which is news
        return call(meanwhile)

    def incident() -> None:
        policy.force_open("incident")
        policy.try_call(int)
        raise KeyError("the fallback's own")

    # The fallback of the inner call fails; the outer one's, too, with the same function.
    with pytest.raises(KeyError) as caught:
        call(incident)
    assert isinstance(caught.value.__cause__, (CircuitOpenError, KeyError))
