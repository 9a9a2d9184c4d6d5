"""Forks: under load, inside calls, with lines and workers, and from several threads."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from resilient import (
    BulkheadFullError,
    CallTimeoutError,
    Policy,
    bulkhead,
    circuit_breaker,
    collapse,
    fallback,
    hedge,
    last_good,
    registry,
    retry,
    timeout,
)
from tests.kit.forks import Fork, in_both
from tests.kit.policies import idle, part, policy, trip
from tests.kit.threads import Busy
from tests.kit.waiting import WAIT, until

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def numbers(of: Policy) -> dict[str, Any]:
    """Return what a child sends home of a policy."""
    seen = of.snapshot()
    return {
        "state": seen["state"],
        "in_flight": seen["in_flight"],
        "abandoned": seen["abandoned"],
        "calls": seen["calls"],
        "served": seen["served"],
        "durations": seen["duration"]["count"],
        **{
            f"{guard['guard']}.{key}": guard[key]
            for guard in seen["guards"]
            for key in ("used", "waiting", "probes", "workers")
            if key in guard
        },
    }


ZERO = {"success": 0, "failure": 0, "ignored": 0, "cancelled": 0, "refused": 0}


@pytest.mark.parametrize("way", ["cooperative", "thread"])
def test_a_child_forked_under_load_makes_its_first_call(way: Any) -> None:
    """Forked while four threads call without a pause, a child calls at once, counts at zero."""
    shop = policy(circuit_breaker(), bulkhead(10), timeout(30, sync=way))

    def scene(fork: Fork) -> Any:
        if not fork():
            return None
        before = numbers(shop)
        return before, shop.call(int, "5"), numbers(shop)

    with Busy(4, lambda: shop.try_call(int, "1")):
        for _ in range(15):
            _, (before, value, after) = in_both(scene)
            assert value == 5
            assert before["calls"] == ZERO
            assert before["in_flight"] == before["bulkhead.used"] == before["durations"] == 0
            assert before["timeout.workers"] == before["abandoned"] == 0
            assert after["calls"] == {**ZERO, "success": 1}
            assert after["in_flight"] == after["bulkhead.used"] == after["timeout.workers"] == 0
    idle(shop)
    assert shop.snapshot()["calls"]["failure"] == 0


@pytest.mark.parametrize("way", ["first", "later", "async", "taken over"])
def test_a_fork_inside_a_streams_step_keeps_the_stream(way: str) -> None:
    """It is in flight in parent and child, and each counts its end."""
    shop = policy(circuit_breaker(), bulkhead(10))

    def scene(fork: Fork) -> Any:
        inside: list[Any] = []

        @shop
        def items(forks: bool = True) -> Iterator[int]:
            yield 1
            if forks:
                fork()
                inside.append(numbers(shop))
            yield 2

        @shop
        async def aitems() -> AsyncIterator[int]:
            for each in items.__wrapped__():  # type: ignore[attr-defined]
                yield each

        async def consume() -> None:
            assert [each async for each in aitems()] == [1, 2]

        if way != "first":
            list(items(False))
        stream = items()
        if way == "async":
            asyncio.run(consume())
        elif way == "taken over":
            next(stream)
            with policy(timeout(30, sync="cooperative")).block():
                list(stream)
        else:
            assert list(stream) == [1, 2]
        return inside[0], numbers(shop)

    for inside, after in in_both(scene):
        assert inside["in_flight"] == inside["bulkhead.used"] == 1
        assert after["in_flight"] == after["bulkhead.used"] == 0
        assert after["calls"]["success"] >= 1
        assert {**after["calls"], "success": 0} == ZERO


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("way", ["decorated", "called", "cooperative"])
def test_a_fork_inside_a_body_keeps_the_threads_own_calls(depth: int, way: str) -> None:
    """In the child exactly the calls that the forking thread is in are in flight, and end."""
    inner = (timeout(30, sync="cooperative"),) if way == "cooperative" else ()
    shop = policy(circuit_breaker(), bulkhead(10), *inner)
    entered, go = threading.Event(), threading.Event()

    def elsewhere() -> None:
        entered.set()
        go.wait(WAIT)

    def scene(fork: Fork) -> Any:
        inside: list[Any] = []

        def body(left: int) -> None:
            if left > 1:
                call(left - 1)
            else:
                fork()
                inside.append(numbers(shop))

        call: Any = shop(body) if way == "decorated" else lambda left: shop.call(body, left)
        call(depth)
        return inside[0], numbers(shop)

    other = threading.Thread(target=shop.call, args=(elsewhere,), daemon=True)
    other.start()
    assert entered.wait(WAIT)
    try:
        (parent, parent_after), (child, child_after) = in_both(scene)
    finally:
        go.set()
        other.join(WAIT)
    assert parent["in_flight"] == parent["bulkhead.used"] == depth + 1
    assert parent_after["in_flight"] == 1
    assert child["in_flight"] == child["bulkhead.used"] == depth
    assert child["calls"] == ZERO
    assert child_after["in_flight"] == child_after["bulkhead.used"] == 0
    idle(shop)


@pytest.mark.parametrize("where", ["attempt", "last"])
def test_a_fork_inside_an_attempt_goes_on_in_both(where: str) -> None:
    """Parent and child each make the attempts that are left, with a budget of their own."""
    shop = policy(retry(on=OSError, attempts=3, wait_initial=0), bulkhead(2))

    def scene(fork: Fork) -> Any:
        seen: list[int] = []
        here = 1 if where == "attempt" else 3

        def body() -> str:
            seen.append(len(seen) + 1)
            if seen[-1] == here:
                fork()
            if seen[-1] < 3:
                raise OSError("down")
            return "full"

        value = shop.call(body)
        return value, seen, part(shop, "retry")["budget_left"] > 7, numbers(shop)

    for value, seen, has_budget, after in in_both(scene):
        assert (value, seen, has_budget) == ("full", [1, 2, 3], True)
        assert after["in_flight"] == after["bulkhead.used"] == 0
        assert after["calls"]["success"] == 1


@pytest.mark.parametrize("copies", [1, 2])
def test_a_fork_inside_a_copy_goes_on_in_both(copies: int) -> None:
    """In the child the thread of the copy is the only one: its call ends with the copy."""
    shop = policy(hedge(0 if copies == 2 else 60, idempotent=True), bulkhead(3))
    both, forked = threading.Barrier(copies), threading.Event()

    def scene(fork: Fork) -> Any:
        ended: list[Any] = []

        def report() -> None:
            until(lambda: numbers(shop)["in_flight"] == numbers(shop)["bulkhead.used"] == 0)
            fork.report({"value": [[], numbers(shop)]})

        def body() -> str:
            if both.wait(WAIT) != 0:
                assert forked.wait(WAIT)
            elif fork():
                threading.Thread(target=report, daemon=True).start()
            else:
                forked.set()
            return "full"

        caller = threading.Thread(target=lambda: ended.append(shop.call(body)), daemon=True)
        caller.start()
        caller.join(WAIT)
        return ended, numbers(shop)

    (ended, _), (_, child) = in_both(scene)
    assert ended == ["full"]
    assert child["calls"]["success"] == 0  # nobody waited for it there
    assert child["abandoned"] == 0
    until(lambda: not part(shop, "hedge")["left"])
    idle(shop)


@pytest.mark.parametrize("first", [True, False])
def test_a_fork_inside_an_async_copy_goes_on_in_both(first: bool) -> None:
    shop = policy(hedge(0, idempotent=True), bulkhead(3))

    def scene(fork: Fork) -> Any:
        begun: list[int] = []

        async def body() -> str:
            number = len(begun)
            begun.append(number)
            while len(begun) < 2:  # noqa: ASYNC110 - the other one is what is waited for
                await asyncio.sleep(0)
            if number != (0 if first else 1):
                await asyncio.sleep(WAIT)
            fork()
            return "full"

        value = asyncio.run(shop.acall(body))
        return value, numbers(shop)

    for value, after in in_both(scene):
        assert value == "full"
        assert after["in_flight"] == after["bulkhead.used"] == 0
        assert after["calls"]["success"] == 1


def test_a_child_has_what_was_kept_and_counts_from_zero() -> None:
    """What is kept is as good in the child; parent and child keep apart from then on."""
    shop = policy(last_good(max_entries=3), circuit_breaker())
    down: list[int] = []

    def find(it: int) -> int:
        if down:
            raise OSError("down")
        return it

    shop.call(find, 1)

    def scene(fork: Fork) -> Any:
        down.clear()
        fork()
        before = part(shop, "last_good")
        shop.call(find, 2)
        down.append(1)
        return before, [shop.call(find, it) for it in (1, 2)], part(shop, "last_good")

    (parent, *_), (child, found, after) = in_both(scene)
    assert parent["entries"] == child["entries"] == 1
    assert child["answers"]["given"] == 0
    assert (found, after["answers"]["given"], after["entries"]) == ([1, 2], 2, 2)


@pytest.mark.parametrize("cached", [False, True])
def test_a_child_forked_while_others_keep_can_keep(cached: bool) -> None:
    """A fork in the middle of a write, of the memory or of a cache, leaves a child that works."""
    own: dict[Any, Any] = {}
    options: Any = {"cache": own} if cached else {"max_entries": 4}
    shop = policy(last_good(**options), bulkhead(10))
    numbered = itertools.count()

    def scene(fork: Fork) -> Any:
        if not fork():
            return None
        kept = [shop.call(abs, it) for it in range(-9, 0)]
        with pytest.raises(TypeError):
            shop.call(abs, "x")
        return kept, len(own) if cached else part(shop, "last_good")["entries"] <= 4

    with Busy(3, lambda: shop.call(abs, next(numbered) % 7)):
        for _ in range(10):
            _, (kept, held) = in_both(scene)
            assert kept == [*range(9, 0, -1)]
            assert held
    idle(shop)


def test_a_fork_inside_a_fallback_keeps_no_slot() -> None:
    """A call whose body is over holds no slot in the child either."""
    forks: list[Fork] = []

    def instead() -> int:
        forks[-1]()
        return 0

    shop = policy(fallback(instead), circuit_breaker(), bulkhead(1))

    def fails() -> int:
        raise OSError

    def scene(fork: Fork) -> Any:
        forks.append(fork)
        assert shop.call(fails) == 0
        return numbers(shop)

    parent, child = in_both(scene)
    assert parent["in_flight"] == parent["bulkhead.used"] == 0
    assert child["in_flight"] == child["bulkhead.used"] == 0


@pytest.mark.parametrize("limit", [None, 60], ids=["no timeout", "timeout"])
@pytest.mark.parametrize("way", ["decorated", "called"])
def test_a_fork_inside_an_async_body_ends_balanced(way: str, limit: float | None) -> None:
    """A child that goes on with the async call it was forked in ends with nothing held."""
    inner = () if limit is None else (timeout(limit),)
    shop = policy(circuit_breaker(), bulkhead(2), *inner)

    def scene(fork: Fork) -> Any:
        async def body() -> None:
            fork()

        async def main() -> Any:
            await (shop(body)() if way == "decorated" else shop.acall(body))
            if fork.in_child:  # the loop itself does not outlive a fork
                fork.report({"value": numbers(shop)})
            return numbers(shop)

        return asyncio.run(main())

    parent, child = in_both(scene)
    assert parent["in_flight"] == parent["bulkhead.used"] == 0
    assert child["in_flight"] == child["bulkhead.used"] == 0


def test_a_call_that_another_task_left_behind_takes_nothing_away() -> None:
    """What a child inherits unfinished, and drops, is not subtracted from its own counts."""
    shop = policy(circuit_breaker(), bulkhead(1))

    async def never() -> None:
        await asyncio.sleep(0)

    def scene(fork: Fork) -> Any:
        inner = [never()]
        pending: Any = shop.call(lambda: inner[0])
        fork()
        inner.pop().close()
        del pending
        gc.collect()
        return numbers(shop)

    parent, child = in_both(scene)
    assert parent["in_flight"] == parent["bulkhead.used"] == 0
    assert child["in_flight"] == child["bulkhead.used"] == 0


def test_waiters_and_workers_are_gone() -> None:
    """A full bulkhead with a line and an abandoned worker is empty in the child."""
    shop = policy(bulkhead(2, max_waiting=3, max_wait=WAIT), timeout(0.2, sync="thread"))
    patient = shop.with_(timeout(60, sync="thread"))
    go, entered = threading.Event(), threading.Event()

    def holds() -> None:
        entered.set()
        go.wait(WAIT)

    with pytest.raises(CallTimeoutError):
        shop.call(go.wait, WAIT)
    callers = [threading.Thread(target=patient.try_call, args=(f,), daemon=True) for f in (holds,)]
    callers[0].start()
    assert entered.wait(WAIT)
    callers += [
        threading.Thread(target=patient.try_call, args=(int, "1"), daemon=True) for _ in range(2)
    ]
    for caller in callers[1:]:
        caller.start()
    until(lambda: part(shop, "bulkhead")["waiting"] == 2)

    def scene(fork: Fork) -> Any:
        if not fork():
            return None
        before = numbers(shop)
        return before, [patient.call(int, "7") for _ in range(3)], numbers(shop)

    _, (before, values, after) = in_both(scene)
    assert before["bulkhead.used"] == before["bulkhead.waiting"] == before["abandoned"] == 0
    assert before["timeout.workers"] == 0
    assert values == [7, 7, 7]
    assert after["in_flight"] == after["bulkhead.used"] == 0
    go.set()
    for caller in callers:
        caller.join(WAIT)
    until(lambda: shop.snapshot()["abandoned"] == 0)
    idle(shop)


def test_the_breaker_keeps_its_state_in_a_new_epoch() -> None:
    """An open circuit is open in the child, and what began before the fork moves nothing there."""
    shut = policy(circuit_breaker(recovery_timeout=600))
    trip(shut)
    shop = policy(circuit_breaker(failure_threshold=1))

    def scene(fork: Fork) -> Any:
        def body() -> None:
            fork()
            raise OSError

        shop.try_call(body)
        end = shut.try_call(int, "1").error
        return numbers(shut)["state"], type(end).__name__, numbers(shop)["state"]

    parent, child = in_both(scene)
    assert parent == ("open", "CircuitOpenError", "open")
    assert child == ["open", "CircuitOpenError", "closed"]


def test_a_forced_state_outlives_a_fork() -> None:
    """A policy that an operator cut off is cut off in the child."""
    shop = policy(circuit_breaker())
    shop.force_open("by hand")

    def scene(fork: Fork) -> Any:
        fork()
        refused = type(shop.try_call(int, "1").error).__name__
        shop.release()
        return refused, numbers(shop)["state"]

    parent, child = in_both(scene)
    assert list(parent) == child == ["CircuitOpenError", "half_open"]
    shop.release()


def test_the_random_source_differs() -> None:
    """Children of one parent draw different recovery times."""
    shop = policy(circuit_breaker(recovery_timeout=1000))

    def in_child(fork: Fork) -> Any:
        if not fork():
            return None
        trip(shop)
        return part(shop, "circuit_breaker")["retry_after"]

    drawn = [in_both(in_child)[1] for _ in range(4)]
    assert all(700 < each <= 1000 for each in drawn)
    spread = sorted(drawn)
    assert min(b - a for a, b in itertools.pairwise(spread)) > 0.001


def test_a_child_of_a_child() -> None:
    """A fork in a forked child begins afresh again."""
    shop = policy(circuit_breaker(), bulkhead(2))

    def outer(fork: Fork) -> Any:
        if not fork():
            return None
        shop.call(int, "1")

        def inner(again: Fork) -> Any:
            if not again():
                return None
            before = numbers(shop)["calls"]["success"]
            return before, shop.call(int, "2"), numbers(shop)["calls"]["success"]

        return in_both(inner)[1]

    assert in_both(outer)[1] == [0, 2, 1]


_SCRIPT = """
import os, select, signal, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from resilient import Policy, bulkhead, circuit_breaker
shop = Policy("shop", circuit_breaker(), bulkhead(50))
faults = []
sys.unraisablehook = lambda seen: faults.append(repr(seen.exc_value))
stop = threading.Event()

def fork_once():
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            CHILD
            shop.call(int, "1")
            code = 0 if shop.snapshot()["calls"]["success"] == 1 and not faults else 2
        finally:
            os._exit(code)
    os.close(write)
    if not select.select([read], [], [], 30)[0]:
        os.kill(pid, signal.SIGKILL)
    os.close(read)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        faults.append(f"child ended with {status}")

BODY
print(sorted(set(faults)), shop.snapshot()["in_flight"])
"""


def forked(body: str, child: str = "pass") -> str:
    """Run the script above in a process of its own."""
    code = _SCRIPT.replace("BODY", body).replace("CHILD", child)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_two_threads_fork_at_once() -> None:
    """Forks from several threads at the same time neither hang nor raise in their hooks."""
    body = """
sys.setswitchinterval(1e-5)
others = [Policy(f"p{n}", bulkhead(1)) for n in range(200)]
def many():
    for _ in range(15): faults or fork_once()
threads = [threading.Thread(target=many, daemon=True) for _ in range(3)]
for t in threads: t.start()
for t in threads: t.join(60)
if any(t.is_alive() for t in threads): faults.append("a forking thread hangs")
shop.call(int, "1")
"""
    assert forked(body) == "[] 0"


@pytest.mark.parametrize("child", ["pass", "Policy('made-in-the-child', bulkhead(1))"])
def test_policies_are_made_while_another_thread_forks(child: str) -> None:
    """Making policies in one thread while another forks raises nothing in the fork's hooks."""
    body = """
sys.setswitchinterval(1e-5)
others = [Policy(f"p{n}", bulkhead(1)) for n in range(200)]
def make():
    while not stop.is_set():
        kept = [bulkhead(1)(lambda: 1) for _ in range(20)]
threads = [threading.Thread(target=make, daemon=True) for _ in range(3)]
for t in threads: t.start()
for _ in range(25): faults or fork_once()
stop.set()
for t in threads: t.join(10)
"""
    assert forked(body, child) == "[] 0"


def test_a_child_makes_policies_though_the_registry_was_in_use() -> None:
    """The registry's lock, held by another thread at the fork, does not hang the child."""
    lock = registry._lock

    def scene(fork: Fork) -> Any:
        if not fork():
            return None
        made: list[str] = []

        def make() -> None:
            made.append(policy(bulkhead(1)).name)

        maker = threading.Thread(target=make, daemon=True)
        maker.start()
        maker.join(WAIT / 2)
        return bool(made)

    inside, go = threading.Event(), threading.Event()

    def holds() -> None:
        with lock:
            inside.set()
            go.wait(WAIT)

    holder = threading.Thread(target=holds, daemon=True)
    holder.start()
    assert inside.wait(WAIT)
    try:
        _, child = in_both(scene)
    finally:
        go.set()
        holder.join(WAIT)
    assert child is True


def test_a_full_bulkhead_of_the_parent_is_free_in_the_child() -> None:
    """Slots that other threads of the parent hold are free in the child."""
    shop = policy(bulkhead(1))
    entered, go = threading.Event(), threading.Event()

    def holds() -> None:
        entered.set()
        go.wait(WAIT)

    holder = threading.Thread(target=shop.call, args=(holds,), daemon=True)
    holder.start()
    assert entered.wait(WAIT)

    def scene(fork: Fork) -> Any:
        fork()
        return type(shop.try_call(int, "1").error).__name__

    parent, child = in_both(scene)
    go.set()
    holder.join(WAIT)
    assert (parent, child) == (BulkheadFullError.__name__, "NoneType")


_IMPORTS = """
import os, pathlib, select, signal, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import resilient
pathlib.Path("half.py").write_text("import __main__; __main__.begun.set(); __main__.go.wait(60)")
sys.path.insert(0, ".")
begun, go = threading.Event(), threading.Event()
threading.Thread(target=__import__, args=["half"], daemon=True).start()
begun.wait(60)

def child_ends(body):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            body()
        finally:
            os._exit(0)
    os.close(write)
    ended = select.select([read], [], [], 30)[0]
    if not ended:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return bool(ended)
"""


def run_amid_an_import(body: str, tmp_path: Any) -> str:
    """Run a script of which one thread is in the middle of an import."""
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTS + body],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_fork_waits_until_another_thread_has_imported(tmp_path: Any) -> None:
    """A child can import what another thread was importing when it was forked."""
    body = """
threading.Timer(0.2, go.set).start()
print(child_ends(lambda: __import__("half")))
"""
    assert run_amid_an_import(body, tmp_path) == "True"


def test_a_fork_does_not_wait_for_an_import_without_an_end(tmp_path: Any) -> None:
    """Such as that of a whole program: the fork is made, and its child imports other modules."""
    body = """
print(child_ends(lambda: __import__("colorsys")), go.is_set())
go.set()
"""
    assert run_amid_an_import(body, tmp_path) == "True False"


def test_the_forking_thread_may_be_importing(tmp_path: Any) -> None:
    """A module that forks while it is imported is imported in both processes."""
    body = """
go.set()
pathlib.Path("forks.py").write_text("import __main__; ended = __main__.child_ends(lambda: __import__('colorsys'))")
import forks
threading.Thread(target=__import__, args=["wave"]).start()
print(forks.ended)
"""
    assert run_amid_an_import(body, tmp_path) == "True"


@pytest.mark.parametrize("batch", [False, True])
def test_a_child_forked_while_calls_are_shared_makes_its_own(batch: bool) -> None:
    """No thread of the parent's is waited for, and nothing of its counts is told again."""
    shop = policy(circuit_breaker(), bulkhead(10))
    plain: Any = shop(lambda ids: list(ids) if batch else ids)
    shared: Any = collapse(within=0.0005)(plain) if batch else collapse(plain)

    def scene(fork: Fork) -> Any:
        if not fork():
            return None
        before = shop.snapshot()
        answer = shared("a")
        return before["collapsed"]["shared"], before["in_flight"], answer, numbers(shop)["calls"]

    with Busy(4, lambda: shared("a")):
        for _ in range(15):
            _, child = in_both(scene)
            assert child == [0, 0, "a", {**ZERO, "success": 1}]
    idle(shop)


def test_a_fork_inside_a_shared_call_ends_it_in_both() -> None:
    """Who waits in the parent gets the parent's answer; the child has its own."""
    shop = policy(circuit_breaker(), bulkhead(1))
    answers: list[Any] = []

    def scene(fork: Fork) -> Any:
        @collapse
        @shop
        def find(key: str) -> str:
            waiter.start()
            until(lambda: _waits_in(find))
            return "child" if fork() else "parent"

        waiter = threading.Thread(target=lambda: answers.append(find("a")))
        told = find("a")
        if told == "parent":
            waiter.join(WAIT)
            assert answers == ["parent"]
        return told, numbers(shop)["in_flight"]

    assert in_both(scene) == (("parent", 0), ["child", 0])


@pytest.mark.parametrize("keyed", [False, True])
def test_a_child_forked_under_load_has_a_shadow_that_is_empty(keyed: bool) -> None:
    """Its candidate has every slot, and a circuit that works."""
    shop = policy(circuit_breaker(), bulkhead(50))
    shop.shadow(bulkhead(2))
    shop.shadow(circuit_breaker(failure_threshold=1))
    calls: Any = shop.keyed(lambda *_: "a") if keyed else shop

    def fail(*_: Any) -> None:
        raise OSError

    def scene(fork: Fork) -> Any:
        if not fork():
            return None
        seen = (calls.snapshot("a") if keyed else shop.snapshot())["guards"]
        before = [(g["would_refuse"], g["candidate"].get("used")) for g in _shadows(seen)]
        with calls.block("a") if keyed else calls.block():
            calls.try_call(int, "1")
        calls.try_call(fail)
        seen = (calls.snapshot("a") if keyed else shop.snapshot())["guards"]
        return before, [(g["would_refuse"], g["would_open"]) for g in _shadows(seen)]

    with Busy(4, lambda: calls.try_call(int, "1")):
        for _ in range(10):
            _, child = in_both(scene)
            assert sorted(child[0], key=str) == [[0, 0], [0, None]]
            assert sorted(child[1]) == [[0, 0], [0, 1]]


def _waits_in(shared: Any) -> bool:
    """Return whether somebody waits for the call of another caller."""
    flights = next(c.cell_contents for c in shared.__closure__ if hasattr(c.cell_contents, "open"))
    return any(flight._wakes for flight in list(flights.open.values()))


def _shadows(guards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [guard for guard in guards if guard["guard"] == "shadow"]
