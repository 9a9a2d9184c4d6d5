"""A candidate beside a living guard: it sees what happens, and refuses nothing."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from resilient import (
    CircuitOpenError,
    Event,
    Policy,
    bulkhead,
    circuit_breaker,
    fallback,
    kill_switch,
    rate_limit,
    retry,
    timeout,
)  # fmt: skip
from resilient.admin.shadows import shadows
from resilient.telemetry.policy_samples import row_of
from resilient.testing import ManualClock
from tests.kit.colours import COLOURS, Colour
from tests.kit.forks import Fork, in_both
from tests.kit.policies import fails, part, policy


def shop(clock: ManualClock | None = None) -> Policy:
    """Return a policy with a candidate that opens at the first failure."""
    made = policy(circuit_breaker(), clock=clock)
    made.shadow(circuit_breaker(failure_threshold=1, recovery_timeout=5.0))
    return made


def test_it_refuses_nothing_and_says_what_it_would_have_done(events: list[Event]) -> None:
    made = shop()
    for _ in range(3):
        with pytest.raises(OSError, match="down"):
            made.call(fails)
    seen = part(made, "shadow")
    assert (seen["would_be"], seen["would_open"], seen["would_refuse"]) == ("open", 1, 2)
    assert seen["moves"][0]["reason"].startswith("1 of 1 call failed")
    assert seen["moves"][0]["evidence"]["failures"] == 1
    assert made.state == "closed"
    told = [(e.kind, e.guard, e.policy) for e in events if e.policy == made.name]
    assert told == [("would_open", "shadow", made.name)]
    assert "a circuit_breaker would do this: opens when" in str(made)


def test_it_probes_and_closes_as_it_would(clock: ManualClock) -> None:
    made = shop(clock)
    made.try_call(fails)
    clock.advance(5.0)
    made.call(int)
    assert part(made, "shadow")["would_be"] == "closed"
    assert [move["kind"] for move in part(made, "shadow")["moves"]] == [
        "opened", "half_open", "closed",
    ]  # fmt: skip


def test_what_the_living_guard_refuses_is_no_evidence() -> None:
    made = policy(fallback(value=0, on=CircuitOpenError), circuit_breaker(failure_threshold=1))
    made.shadow(circuit_breaker(failure_threshold=1))
    made.try_call(fails)
    for _ in range(10):
        assert made.call(int, "7") == 0
    assert part(made, "shadow")["would_refuse"] == 0
    assert part(made, "shadow")["would_be"] == "open"


@pytest.mark.parametrize(
    ("candidate", "would"), [(lambda: bulkhead(1), 1), (lambda: rate_limit(1, 3600.0), 1)]
)
def test_limits_have_shadows_too(candidate: Any, would: int) -> None:
    made = policy(bulkhead(9))
    made.shadow(candidate())
    with made.block():
        made.call(int)
    assert part(made, "shadow")["would_refuse"] == would
    assert part(made, "shadow")["would_be"] is None


@pytest.mark.parametrize("colour", COLOURS, ids=lambda colour: colour.name)
def test_it_is_fed_in_every_colour(colour: Colour) -> None:
    made = policy(circuit_breaker(), timeout(5.0, sync=colour.sync))
    made.shadow(circuit_breaker(failure_threshold=2))

    async def body() -> None:
        @colour.fn
        async def fail() -> None:
            raise OSError

        for _ in range(2):
            assert (await colour.attempt(made, fail)).served == "error"

    colour.run(body)
    assert part(made, "shadow")["would_be"] == "open"


def test_blocks_streams_and_calls_in_flight_feed_it(clock: ManualClock) -> None:
    made = policy(circuit_breaker(), clock=clock)
    made.shadow(circuit_breaker(slow_call_duration=1.0, slow_call_rate=0.5, minimum_calls=2))

    @made
    def stream() -> Any:
        yield 1
        clock.advance(2.0)
        yield 2

    assert list(stream()) == [1, 2]
    with made.block():
        clock.advance(2.0)
    assert part(made, "shadow")["would_be"] == "open"


def test_the_promoted_options_are_in_force_and_the_shadow_stays() -> None:
    made = shop()
    made.promote("it was right")
    assert part(made, "circuit_breaker")["options"]["failure_threshold"] == 1
    with contextlib.suppress(OSError):
        made.call(fails)
    assert made.state == "open"
    assert shadows(made._core)["shadows"][0]["changes"] == {}
    with pytest.raises(ValueError, match="nothing to promote"):
        made.promote()


def test_a_policy_with_keys_has_a_shadow_for_each() -> None:
    made = policy(circuit_breaker())
    made.shadow(circuit_breaker(failure_threshold=1))
    hosts = made.keyed(lambda host: host)
    for host in "ab":
        with contextlib.suppress(OSError):
            hosts.call(fails, host)
    seen = hosts.snapshot("a")
    assert seen is not None
    assert [guard["guard"] for guard in seen["guards"]] == ["shadow", "circuit_breaker"]
    found, row = row_of(made._core)
    shown = {m.name: row[at] for at, (m, _) in enumerate(found.tail, found.heads)}
    assert shown["shadow_would_open_total"] == 2


def test_the_summary_adds_up_the_shadows_of_keys() -> None:
    made = policy(circuit_breaker())
    made.shadow(circuit_breaker(failure_threshold=1))
    hosts = made.keyed(lambda host: host)
    for host in "aab":
        with contextlib.suppress(OSError):
            hosts.call(fails, host)
    (row,) = shadows(made._core)["shadows"]
    assert (row["would_open"], row["would_refuse"], row["would_be"]) == (2, 1, "open")
    assert row["last"].startswith("b: ")
    seen = part(made, "shadow")
    assert (seen["would_open"], seen["would_refuse"], seen["would_be"]) == (2, 1, "open")
    assert "of all keys: 2 would have opened, 1 calls would have been refused" in str(made)


def test_a_reset_begins_anew_what_is_beside_the_guard_too() -> None:
    made = shop()
    made.try_call(fails)
    assert part(made, "shadow")["would_be"] == "open"
    made.reset("it was a drill")
    assert part(made, "shadow")["would_be"] == "closed"
    made.call(int)
    assert part(made, "shadow")["would_refuse"] == 0


def test_a_candidate_that_only_counts_says_what_it_would_do() -> None:
    made = policy(circuit_breaker())
    made.shadow(circuit_breaker(failure_threshold=1, metrics_only=True))
    made.try_call(fails)
    assert part(made, "shadow")["would_open"] == 1


def test_slots_of_a_parents_calls_are_not_given_back_in_a_child() -> None:
    made = policy(bulkhead(9))
    made.shadow(bulkhead(2))

    def scene(fork: Fork) -> Any:
        block = made.block()
        block.__enter__()
        fork()
        block.__exit__(None, None, None)
        with made.block(), made.block():
            made.call(int)
        return part(made, "shadow")["would_refuse"]

    assert in_both(scene) == (1, 1)


def test_a_child_counts_anew() -> None:
    made = shop()
    made.try_call(fails)

    def scene(fork: Fork) -> Any:
        fork()
        return [part(made, "shadow")["would_open"], part(made, "shadow")["would_be"]]

    assert in_both(scene) == ([1, "open"], [0, "open"])


def test_bad_input_is_refused_at_once() -> None:
    made = policy(circuit_breaker())
    for given in (3, fallback(value=1), timeout(1.0), circuit_breaker, retry(on=OSError)):
        with pytest.raises(TypeError, match="a guard that can refuse"):
            made.shadow(given)  # type: ignore[arg-type]
    from resilient import flag

    with pytest.raises(TypeError, match="a guard that can refuse"):
        made.shadow(kill_switch(flag("shadow.test")))
    with pytest.raises(ValueError, match="without a line"):
        made.shadow(bulkhead(1, max_waiting=1, max_wait=1.0))
    with pytest.raises(ValueError, match="has no shadow to promote"):
        made.promote()
    candidate = circuit_breaker(failure_threshold=1)
    made.shadow(candidate)
    with pytest.raises(ValueError, match="has a shadow of its circuit_breaker already"):
        made.shadow(circuit_breaker())
    with pytest.raises(ValueError, match="belongs to"):
        policy(circuit_breaker()).shadow(candidate)
    made.shadow(bulkhead(1))
    with pytest.raises(ValueError, match="has no guard 'bulkhead'"):
        made.promote()
    made.call(int)
    with pytest.raises(ValueError, match="guards a function already"):
        made.shadow(rate_limit(1))
