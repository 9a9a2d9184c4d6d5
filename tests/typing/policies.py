"""What a policy takes and tells: read by mypy and pyright, both strict; never run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_type

from resilient import Block, Policy, bulkhead, calls, circuit_breaker, fallback, timeout
from resilient.testing import ManualClock


class Alarm:
    def cancel(self) -> None: ...


class OwnClock:
    def now(self) -> float:
        return 0.0

    def call_at(self, when: float, callback: Callable[[], object]) -> Alarm:
        return Alarm()


class HalfAClock:
    def now(self) -> float:
        return 0.0


policy = Policy(
    "policies",
    fallback(value=[]),
    circuit_breaker(window=calls(100)),
    bulkhead(20),
    timeout(0.3, sync="thread"),
    owner="team-recs",
    tier=3,
    impact="The home page shows the top 100 instead of personal picks.",
    clock=ManualClock(),
)


def making() -> None:
    assert_type(Policy("empty"), Policy)
    assert_type(Policy("own clock", clock=OwnClock()), Policy)
    assert_type(Policy("no clock", tier=None, clock=None), Policy)
    Policy()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Policy(name="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Policy(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Policy("x", 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Policy("x", circuit_breaker)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Policy("x", fallback)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Policy("x", policy)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Policy("x", owner=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Policy("x", tier="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Policy("x", impact=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Policy("x", clock=HalfAClock())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Policy("x", color="red")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def telling() -> None:
    assert_type(policy.name, str)
    assert_type(policy.state, str)
    assert_type(policy.guards[0].kind, str)
    assert_type(policy.snapshot(), dict[str, Any])
    assert_type(str(policy), str)
    policy.name = "x"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    policy.state = "open"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    policy.guards = ()  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    policy.owner  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


def views() -> None:
    assert_type(policy.with_(), Policy)
    assert_type(policy.with_(timeout(0.1), bulkhead(5)), Policy)
    assert_type(policy.with_(timeout(0.1)).with_(bulkhead(5)), Policy)
    policy.with_("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy.with_(timeout)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy.with_(timeout=0.1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def levers() -> None:
    policy.force_open()
    policy.force_open("INC-1234")
    policy.force_closed(reason="INC-1234")
    policy.release("over")
    policy.force_open(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy.force_closed(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy.release(b"over")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def updates() -> None:
    policy.update()
    policy.update(bulkhead={"max_concurrent": 40}, circuit_breaker={"window": calls(10)})
    policy.update(timeout={"seconds": 1}, reason="INC-1234")
    policy.update(bulkhead=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy.update(reason=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy.update(bulkhead={1: 2})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    policy.update({"bulkhead": {}})  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]


async def blocks() -> None:
    assert_type(policy.block(), Block)
    with policy.block() as block:
        assert_type(block, Block)
        block.fail("stale")
        block.ignore()
        block.fail(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        block.fail()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        block.ignore("x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    async with policy.block() as ablock:
        assert_type(ablock, Block)
        ablock.fail("stale")
    policy.block("x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def a_block_may_end_early() -> float:
    with policy.block():
        return 1.0


def a_block_swallows_nothing() -> float:
    with policy.block():
        number = 1.0
    return number
