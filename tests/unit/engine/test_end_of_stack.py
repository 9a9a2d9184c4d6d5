"""Near the end of the stack: each ticket is given back exactly once, wherever the error comes from."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from resilient import (
    BulkheadFullError,
    Policy,
    RefusedError,
    bulkhead,
    circuit_breaker,
    fallback,
    flag,
    kill_switch,
    timeout,
)
from resilient.testing import ManualClock

SLOTS = 5
DEEP = 10**6


def breaker(**more: Any) -> Any:
    return circuit_breaker(**{"failure_threshold": DEEP, "minimum_calls": DEEP, **more})


STACKS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "nothing": tuple,
    "bulkhead": lambda: (bulkhead(SLOTS),),
    "bulkhead with a line": lambda: (bulkhead(SLOTS, max_waiting=3, max_wait=0.01),),
    "breaker": lambda: (breaker(),),
    "breaker that watches ages": lambda: (breaker(slow_call_duration=50),),
    "breaker with predicates": lambda: (breaker(ignore=lambda e: False, on=lambda e: True),),
    "breaker, bulkhead": lambda: (breaker(), bulkhead(SLOTS)),
    "fallback, bulkhead": lambda: (fallback(value=0), bulkhead(SLOTS)),
    "fallback, breaker, bulkhead": lambda: (fallback(value=0), breaker(), bulkhead(SLOTS)),
    "fallback, bulkhead, cooperative": lambda: (
        fallback(value=0), bulkhead(SLOTS), timeout(50, sync="cooperative")
    ),
    "bulkhead, thread": lambda: (bulkhead(SLOTS), timeout(50, sync="thread")),
    "three that admit": lambda: (breaker(), bulkhead(SLOTS), timeout(50, sync="thread")),
    "two limits": lambda: (
        timeout(60, sync="cooperative"), bulkhead(SLOTS), timeout(50, sync="cooperative")
    ),
    "judged value": lambda: (breaker(failed_result=lambda value: value == 7), bulkhead(SLOTS)),
    "switch": lambda: (
        kill_switch(flag("end-of-stack", impact="none")), fallback(value=0), bulkhead(SLOTS)
    ),
}  # fmt: skip


def at(depth: int, fn: Callable[[], Any]) -> Any:
    return fn() if depth == 0 else at(depth - 1, fn)


def deepest() -> int:
    reached = 0

    def further() -> None:
        nonlocal reached
        reached += 1
        further()

    with pytest.raises(RecursionError):
        further()
    return reached


def end_well() -> int:
    return 1


def fail() -> int:
    raise OSError("down")


def recurse() -> Any:
    return at(40, int)


def make_work() -> Any:
    return (each for each in "ab")


BODIES = {"ok": end_well, "fails": fail, "recurses": recurse, "hands out": make_work}


def is_whole(policy: Policy) -> bool:
    """Tell whether nothing is held, and every slot can be had."""
    shown = policy.snapshot()
    used = [guard["used"] for guard in shown["guards"] if "used" in guard]
    workers = [guard["workers"] for guard in shown["guards"] if "workers" in guard]
    return (
        shown["in_flight"] == 0 and not any(used) and not any(workers) and not policy._core.gate & 1
    )


def swept(policy: Policy, call: Callable[[], Any], bottom: int) -> None:
    for depth in range(bottom - 110, bottom + 1):
        try:
            at(depth, call)
        except (RecursionError, OSError, RefusedError):
            pass


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("stack", STACKS)
def test_every_ticket_is_given_back_once(stack: str, body: str) -> None:
    policy = Policy(f"deep-{abs(hash((stack, body)))}", *STACKS[stack]())
    guarded = policy(BODIES[body])
    swept(policy, guarded, deepest())
    for _ in range(2):  # what was left to be done is done with the next calls
        policy.try_call(int)
    assert is_whole(policy), policy.snapshot()


@pytest.mark.parametrize("way", ["call", "try_call"])
@pytest.mark.parametrize("stack", STACKS)
def test_calls_by_the_interpreter(stack: str, way: str) -> None:
    policy = Policy(f"deep-{way}-{abs(hash(stack))}", *STACKS[stack]())
    swept(policy, lambda: getattr(policy, way)(fail), deepest())
    policy.try_call(int)
    assert is_whole(policy), policy.snapshot()


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("stack", [each for each in STACKS if "thread" not in each])
def test_async_calls(stack: str) -> None:
    policy = Policy(f"deep-async-{abs(hash(stack))}", *STACKS[stack]())

    @policy
    async def fails() -> None:
        raise OSError("down")

    def run(coroutine: Any) -> None:  # on, from where the stack is
        try:
            coroutine.send(None)
        except StopIteration:
            return
        finally:
            coroutine.close()

    async def main() -> None:
        swept(policy, lambda: run(fails()), deepest())
        await policy.atry_call(asyncio.sleep, 0)

    asyncio.run(main())
    assert is_whole(policy), policy.snapshot()


def test_streams_and_blocks_and_managers() -> None:
    import contextlib

    policy = Policy("deep-lasting", fallback(value=[]), breaker(), bulkhead(SLOTS))

    @policy
    def items() -> Any:
        yield 1
        raise OSError("down")

    @policy
    @contextlib.contextmanager
    def managed() -> Any:
        yield 1

    def block() -> None:
        with policy.block():
            fail()

    def enter() -> None:
        with managed():
            fail()

    for way in (lambda: list(items()), block, enter):
        swept(policy, way, deepest())
    policy.try_call(int)
    assert is_whole(policy), policy.snapshot()


def test_an_open_circuit_half_opens_and_closes_again_after_it() -> None:
    """The moves of a circuit are whole or not made."""
    clock = ManualClock()
    policy = Policy(
        "deep-moves", circuit_breaker(failure_threshold=1, success_threshold=2), bulkhead(SLOTS),
        clock=clock,
    )  # fmt: skip
    guarded, bottom = policy(lambda: fail() if policy.state == "closed" else 1), deepest()
    for _ in range(3):
        swept(policy, guarded, bottom)
        clock.advance(100)
    for _ in range(6):
        policy.try_call(int)
        clock.advance(100)
    assert is_whole(policy)
    assert policy.state == "closed"
    shown = policy.snapshot()["guards"][0]["transitions"]
    assert shown["closed/auto"] <= shown["half_open/auto"] <= shown["open/auto"]


def test_the_slots_are_neither_fewer_nor_more_afterwards() -> None:
    policy = Policy("deep-slots", fallback(value=0, on=KeyError), bulkhead(2))
    guarded, bottom = policy(fail), deepest()
    for _ in range(3):
        swept(policy, guarded, bottom)
    go_on, inside = threading.Event(), threading.Semaphore(0)

    def hold() -> None:
        inside.release()
        go_on.wait(60)

    policy.try_call(int)
    threads = [threading.Thread(target=policy.call, args=(hold,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert inside.acquire(timeout=60)
    with pytest.raises(BulkheadFullError):
        policy.call(int)
    go_on.set()
    for thread in threads:
        thread.join()


def test_a_slot_that_had_to_wait_is_there_for_the_next_call() -> None:
    """With a single slot the very next call gets it."""
    policy = Policy("deep-single", bulkhead(1))
    guarded, bottom = policy(fail), deepest()
    for depth in range(bottom - 110, bottom + 1):
        try:
            at(depth, guarded)
        except (RecursionError, OSError):
            pass
        assert policy.try_call(int).value == 0, depth


def test_a_listener_is_kept_when_the_stack_ends_in_it() -> None:
    import resilient

    heard: list[str] = []
    stop = resilient.registry.subscribe(lambda event: heard.append(at(60, lambda: event.policy)))
    bottom, policies = deepest(), []
    for depth in range(bottom - 120, bottom + 1):  # at each of them a circuit opens
        policies.append(Policy(f"deep-heard-{depth}", circuit_breaker(failure_threshold=1)))
        try:
            at(depth, policies[-1](fail))
        except (RecursionError, OSError):
            pass
    policies.append(Policy("deep-heard-last", circuit_breaker(failure_threshold=1)))
    policies[-1].try_call(fail)
    stop()
    assert heard[-1] == "deep-heard-last"
