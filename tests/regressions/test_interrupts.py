"""Interrupts and the end of the stack, in the middle of the bookkeeping."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import pytest

from resilient import Policy, bulkhead, circuit_breaker, fallback, timeout
from resilient.event_folding import Folds
from tests.kit.policies import fails

_INTERRUPTED = """
import logging, signal, threading, time
from resilient import Policy, bulkhead, circuit_breaker, fallback

logging.disable()  # its locks are not safe from interrupts
policy = Policy(
    "interrupted",
    fallback(value=0),
    circuit_breaker(failure_threshold=2, recovery_timeout=1e-4),
    bulkhead(100_000),
)

def bad():
    raise ValueError

def interrupt(*_):
    raise KeyboardInterrupt

good, failing = policy(lambda: 0), policy(bad)
signal.signal(signal.SIGALRM, interrupt)
end, number = time.monotonic() + 2, 0
while time.monotonic() < end or number <= 100:
    number += 1
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.00002 + number % 97 * 0.000003)
        for _ in range(200):
            good()
            failing()
            policy.try_call(bad)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        pass
signal.signal(signal.SIGALRM, lambda *_: None)
ends = []
other = threading.Thread(target=lambda: ends.append(policy.call(int)), daemon=True)
other.start()
other.join(10)
print(ends, policy._core.gate, number > 100)
"""


def test_an_interrupt_anywhere_in_the_bookkeeping_wedges_nothing() -> None:
    """Whenever KeyboardInterrupt comes, the lock is free and the gate open afterwards."""
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.stdout.strip() == "[0] 0 True", done.stderr


def test_interrupted_bookkeeping_never_makes_successes_fewer() -> None:
    """Successes are derived: what ended is counted before what did not succeed."""
    policy = Policy("fault-derived", bulkhead(1))
    core = policy._core
    order: list[str] = []

    def trace(frame: Any, event: str, arg: Any) -> Any:
        if frame.f_code.co_name == "count" and event == "line":
            order.append(str(core.outcomes()[0]))
        return trace

    before = sys.gettrace()  # that of coverage
    sys.settrace(trace)
    try:
        policy.try_call(fails)
    finally:
        sys.settrace(before)
    assert order
    assert not any(number.startswith("-") for number in order)


def test_an_interrupt_while_events_are_folded_spoils_no_later_report() -> None:
    """Wherever an interrupt comes, the events of before and after are told at the end."""
    lines = 0

    def interrupted(at: int) -> Folds[str]:
        nonlocal lines
        folds: Folds[str] = Folds()
        lines = 0

        def trace(frame: Any, event: str, arg: Any) -> Any:
            nonlocal lines
            if frame.f_code.co_name != "keeps":
                return None
            lines += event == "line"
            if event == "line" and lines == at:
                raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            folds.keeps("key", 1, "first", 0.0)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        return folds

    interrupted(0)
    assert lines > 3
    for at in range(1, lines + 1):
        folds = interrupted(at)
        folds.ended(1.0, every_one=True)
        told = [folds.keeps("key", 1, each, 2.0) for each in ("second", "third")]
        assert told[1] is True
        assert [last for last, *_ in folds.ended(3.0, every_one=True)] == ["third"]


@pytest.mark.parametrize("stack", ["breaker", "bulkhead", "both", "whole"])
def test_a_runaway_recursion_wedges_nothing_and_keeps_no_slot(stack: str) -> None:
    """However little of the stack is left, the section is freed and every call is given back."""
    breaker = circuit_breaker(failure_threshold=10**6, minimum_calls=10**6)
    guards = {
        "breaker": (breaker,),
        "bulkhead": (bulkhead(10**5),),
        "both": (breaker, bulkhead(10**5)),
        "whole": (
            fallback(value=0), breaker, bulkhead(10**5), timeout(50, sync="cooperative")
        ),
    }[stack]  # fmt: skip
    policy = Policy(f"fault-deep-{stack}", *guards)

    @policy
    def deeper(number: int) -> Any:
        return deeper(number + 1)

    def from_a_depth(left: int) -> Any:
        return deeper(0) if left == 0 else from_a_depth(left - 1)

    for depth in range(12):
        try:
            from_a_depth(depth)
        except RecursionError:
            pass
    other = threading.Thread(target=policy.call, args=(int,), daemon=True)
    other.start()
    other.join(5)
    policy.call(int)
    shown = policy.snapshot()
    assert (other.is_alive(), policy._core.gate, shown["in_flight"]) == (False, 0, 0)
    assert all(guard.get("used", 0) == 0 for guard in shown["guards"])
