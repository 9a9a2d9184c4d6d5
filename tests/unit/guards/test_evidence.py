"""What a move of a circuit keeps: in the event, and in the snapshot, bounded and plain."""

from __future__ import annotations

import copy
import gc
import json
import weakref
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resilient import Event, Policy, calls, circuit_breaker, timeout
from resilient.guards.circuit_breaker.history import MOST, OTHERS, Reasons
from resilient.testing import ManualClock

pytestmark = pytest.mark.usefixtures("alone")

SEEN = {
    "calls", "failures", "failure_rate", "slow", "slow_rate", "consecutive_failures", "exceptions",
    "settings", "revision",
}  # fmt: skip
MOVE = SEEN | {"to", "kind", "cause", "reason", "seconds_ago"}


def fail(error: type[Exception] = ConnectionError) -> None:
    raise error


def history(policy: Policy) -> list[dict[str, Any]]:
    """Return the moves of a policy's breaker, the newest first."""
    guards = {each["guard"]: each for each in policy.snapshot()["guards"]}
    found: list[dict[str, Any]] = guards["circuit_breaker"]["history"]
    return found


def revision(policy: Policy) -> int:
    """Return how often the options of a policy's breaker were changed."""
    (guard,) = policy.snapshot()["guards"]
    found: int = guard["revision"]
    return found


def last(events: list[Event], policy: Policy) -> dict[str, Any]:
    """Return the evidence of the newest move; it is the same in the event and in the snapshot."""
    event, move = [e for e in events if e.guard == "circuit_breaker"][-1], history(policy)[0]
    shown = {k: v for k, v in move.items() if k not in MOVE - SEEN}
    assert shown == dict(event.evidence)
    assert (move["to"], move["kind"], move["cause"], move["reason"]) == (
        event.after, event.kind, event.cause, event.reason,
    )  # fmt: skip
    assert set(event.evidence) == SEEN | ({"retry_after"} if event.after == "open" else set())
    return dict(event.evidence)


# -- the rules ------------------------------------------------------------------


def test_the_rate(events: list[Event], clock: ManualClock) -> None:
    """Calls, failures, their share, the exceptions with their counts, and when it tries again."""
    policy = Policy("a", circuit_breaker(minimum_calls=10, recovery_timeout=7), clock=clock)
    for error in (None, ValueError, None, ConnectionError, ConnectionError, None, None, ValueError):
        policy.try_call(fail, error) if error else policy.call(int)
    policy.call(int)
    policy.try_call(fail, ConnectionError)
    seen = last(events, policy)
    assert (seen["calls"], seen["failures"], seen["failure_rate"]) == (10, 5, 0.5)
    assert seen["exceptions"] == {"ConnectionError": 3, "ValueError": 2}
    assert list(seen["exceptions"]) == ["ConnectionError", "ValueError"]
    assert (seen["slow"], seen["consecutive_failures"], seen["retry_after"]) == (0, 1, 7)
    assert seen["settings"] == {
        "failure_rate": 0.5, "failure_threshold": 5, "window": "10 s", "minimum_calls": 10,
        "slow_call_duration": None, "slow_call_rate": 0.5, "recovery_timeout": 7.0,
        "recovery_backoff": 2.0, "max_recovery_timeout": 60.0, "ramp": None,
        "half_open_max_calls": 1, "success_threshold": 1, "probe_lease": 7.0, "metrics_only": False,
    }  # fmt: skip
    clock.advance(3)
    assert history(policy)[0]["seconds_ago"] == pytest.approx(3)


def test_failures_in_a_row(events: list[Event], clock: ManualClock) -> None:
    """How many there were in a row is told, below the minimum of calls."""
    policy = Policy("a", circuit_breaker(failure_threshold=3), clock=clock)
    policy.call(int)
    for _ in range(3):
        policy.try_call(fail)
    seen = last(events, policy)
    assert (seen["calls"], seen["failures"], seen["consecutive_failures"]) == (4, 3, 3)
    assert seen["failure_rate"] == 0.75


def test_slowness(events: list[Event], clock: ManualClock) -> None:
    """The slow share counts those that are in flight for too long."""
    policy = Policy(
        "a", circuit_breaker(slow_call_duration=1, slow_call_rate=0.6, minimum_calls=5), clock=clock
    )
    blocks = [policy.block() for _ in range(2)]
    for block in blocks:
        block.__enter__()
    policy.call(int)
    policy.call(int)
    policy.call(clock.advance, 2)
    seen = last(events, policy)
    assert (seen["calls"], seen["failures"], seen["failure_rate"]) == (3, 0, 0.0)
    assert (seen["slow"], seen["slow_rate"], seen["exceptions"]) == (3, 0.6, {})
    for block in blocks:
        block.__exit__(None, None, None)


def test_a_relapse(events: list[Event], clock: ManualClock) -> None:
    """A failed probe is the evidence, and the recovery time is longer; so is each later one's."""
    policy = Policy("a", circuit_breaker(failure_threshold=1, recovery_timeout=5), clock=clock)
    policy.try_call(fail)
    for after in (10, 20, 40):
        clock.advance(60)
        policy.try_call(fail, ValueError)
        seen = last(events, policy)
        assert (seen["calls"], seen["failures"], seen["exceptions"]) == (1, 1, {"ValueError": 1})
        assert seen["retry_after"] == after
        assert history(policy)[1]["to"] == "half_open"
    clock.advance(60)
    policy.call(int)
    assert history(policy)[0]["to"] == "closed"
    last(events, policy)


def test_a_relapse_by_a_slow_probe(events: list[Event], clock: ManualClock) -> None:
    """A slow probe is told as slow."""
    policy = Policy("a", circuit_breaker(failure_threshold=1, slow_call_duration=1), clock=clock)
    policy.try_call(fail)
    clock.advance(6)
    policy.call(clock.advance, 2)
    seen = last(events, policy)
    assert (seen["calls"], seen["slow"], seen["slow_rate"]) == (1, 1, 1.0)


def test_would_open(events: list[Event], clock: ManualClock) -> None:
    """A circuit that only measures keeps what it would have gone by, and refuses nobody."""
    policy = Policy("a", circuit_breaker(failure_threshold=2, metrics_only=True), clock=clock)
    for _ in range(4):
        policy.try_call(fail)
    assert [move["kind"] for move in history(policy)] == ["would_open"]
    seen = last(events, policy)
    assert (seen["failures"], seen["settings"]["metrics_only"]) == (2, True)
    assert policy.state == "metrics_only"


def turned(clock: ManualClock) -> dict[str, Any]:
    """Return what a circuit says that was open, and then only measures."""
    policy = Policy("a", circuit_breaker(failure_threshold=1), clock=clock)
    policy.try_call(fail)
    policy.update(circuit_breaker={"metrics_only": True})
    (guard,) = policy.snapshot()["guards"]
    assert guard["state"] == "metrics_only"
    found: dict[str, Any] = guard
    return found


def test_metrics_only_on_an_open_circuit(clock: ManualClock) -> None:
    """Nothing says any more why it is open."""
    said = turned(clock)
    assert (said["why"], said["retry_after"]) == ("", None)


def test_metrics_only_is_no_move_but_a_change_of_options(
    clock: ManualClock, events: list[Event]
) -> None:
    """The history keeps moves of the circuit; what was changed is told by the event of the update."""
    assert turned(clock)["history"][0]["to"] == "open"
    assert (events[-1].kind, events[-1].after) == ("updated", "circuit_breaker.metrics_only=True")


def test_an_operator(events: list[Event], clock: ManualClock) -> None:
    """What a release moves is told as an operator's, with what was seen until then."""
    policy = Policy("a", circuit_breaker(), clock=clock)
    policy.try_call(fail)
    policy.force_closed("come what may")
    policy.try_call(fail)
    policy.release()
    assert (history(policy)[0]["to"], history(policy)[0]["cause"]) == ("closed", "operator")
    assert last(events, policy)["failures"] == 2
    policy.force_open("no more")
    policy.release()
    assert (history(policy)[0]["to"], history(policy)[0]["cause"]) == ("half_open", "operator")
    forced = [e for e in events if e.kind in ("forced", "released")]
    assert len(forced) == 4
    assert all(not e.evidence for e in forced)


def test_a_window_of_calls(events: list[Event], clock: ManualClock) -> None:
    """The numbers are those of the last so many."""
    policy = Policy("a", circuit_breaker(window=calls(4), minimum_calls=4), clock=clock)
    for _ in range(20):
        policy.call(int)
    policy.try_call(fail)
    policy.try_call(fail)
    seen = last(events, policy)
    assert (seen["calls"], seen["failures"], seen["failure_rate"]) == (4, 2, 0.5)
    assert seen["settings"]["window"] == "the last 4 calls"


# -- settings and their version ------------------------------------------------------------------


def test_the_revision_counts_changes(events: list[Event], clock: ManualClock) -> None:
    """Each change of options counts once, however many change; what changes nothing counts not."""
    policy = Policy("a", circuit_breaker(), clock=clock)
    assert revision(policy) == 0
    policy.update(circuit_breaker={"failure_rate": 0.4, "failure_threshold": 1})
    assert revision(policy) == 1
    policy.update(circuit_breaker={"failure_rate": 0.4})
    assert revision(policy) == 1
    with pytest.raises(ValueError, match="failure_rate"):
        policy.update(circuit_breaker={"failure_rate": 5})
    assert revision(policy) == 1
    policy.update(circuit_breaker={"window": calls(30)})
    assert revision(policy) == 2
    policy.try_call(fail)
    seen = last(events, policy)
    assert (seen["revision"], seen["settings"]["failure_rate"]) == (2, 0.4)
    policy.update(circuit_breaker={"failure_rate": 0.9})
    assert history(policy)[0]["settings"]["failure_rate"] == 0.4  # what it went by then
    assert revision(policy) == 3


# -- bounds ------------------------------------------------------------------


def test_bounded_and_plain(events: list[Event], clock: ManualClock) -> None:
    """A thousand moves keep eight, at most nine reasons each; all of it is JSON."""
    policy = Policy(
        "a",
        circuit_breaker(failure_threshold=30, failure_rate=None, recovery_timeout=5),
        timeout(9, sync="cooperative"),
        clock=clock,
    )
    for turn in range(300):
        for number in range(30):
            policy.try_call(fail, type(f"Error{turn}x{number}", (Exception,), {}))
        clock.advance(6)
        policy.call(int)
    moves = history(policy)
    assert len(moves) == MOST
    assert all(len(move["exceptions"]) <= MOST + 1 for move in moves)
    assert moves == json.loads(json.dumps(moves, allow_nan=False))
    json.dumps(policy.snapshot(), allow_nan=False)


def test_what_is_handed_out_is_a_copy(clock: ManualClock) -> None:
    """Who changes what a snapshot returned changes nothing else."""
    policy = Policy("a", circuit_breaker(failure_threshold=1), clock=clock)
    policy.try_call(fail)
    moves, kept = history(policy), copy.deepcopy(history(policy))
    moves[0]["settings"].clear()
    moves[0]["exceptions"]["x"] = 1
    moves.clear()
    assert history(policy) == kept


def test_no_exception_is_kept_alive(clock: ManualClock) -> None:
    """Neither the exception, nor what its frames hold, outlives the call that raised it."""

    class Big(Exception):
        pass

    policy = Policy("a", circuit_breaker(failure_threshold=2), clock=clock)
    refs: list[weakref.ref[Any]] = []

    def raises() -> None:
        error = Big("secret")
        refs.append(weakref.ref(error))
        raise error

    for _ in range(2):
        policy.try_call(raises)
    assert policy.state == "open"
    gc.collect()
    assert [ref() for ref in refs] == [None, None]
    assert "secret" not in json.dumps(policy.snapshot())


# -- reasons ------------------------------------------------------------------

notes = st.lists(st.tuples(st.floats(0, 12), st.sampled_from("abcd")), max_size=40)


@given(notes=notes, later=st.floats(0, 40))
@example(notes=[(0.0, "a"), (12.0, "a")], later=9.0)
def test_reasons_are_of_the_last_one_to_two_windows(
    notes: list[tuple[float, str]], later: float
) -> None:
    """Those of the last window are all there, and none that is older than two."""
    reasons, now, noted = Reasons(10), 0.0, []
    for wait, reason in notes:
        now += wait
        reasons.note(reason, now)
        noted.append((now, reason))
    now += later
    found = reasons.top(now)
    for reason in "abcd":
        recent = sum(1 for at, each in noted if each == reason and now - at < 10)
        possible = sum(1 for at, each in noted if each == reason and now - at <= 20)
        assert recent <= found.get(reason, 0) <= possible
    assert 0 not in found.values()
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert OTHERS not in found


def test_old_reasons_fade(events: list[Event], clock: ManualClock) -> None:
    """What failed an hour ago is not why it opens now."""
    policy = Policy("a", circuit_breaker(minimum_calls=4, failure_threshold=None), clock=clock)
    for _ in range(3):
        policy.try_call(fail, ValueError)
    clock.advance(3600)
    for _ in range(4):
        policy.try_call(fail, ConnectionError)
    seen = last(events, policy)
    assert seen["exceptions"] == {"ConnectionError": 4}
    assert seen["failures"] == 4


def test_a_new_window_is_the_span_of_the_reasons_too(
    events: list[Event], clock: ManualClock
) -> None:
    """After the window was made shorter, reasons fade sooner."""
    policy = Policy("a", circuit_breaker(minimum_calls=4, failure_threshold=None), clock=clock)
    policy.update(circuit_breaker={"window": 1.0})
    policy.try_call(fail, ValueError)
    clock.advance(2.5)
    for _ in range(4):
        policy.try_call(fail)
    assert last(events, policy)["exceptions"] == {"ConnectionError": 4}


@pytest.mark.parametrize("kinds", [2, 8, 30])
def test_many_kinds_of_reasons(kinds: int) -> None:
    """The eight first have their names; the rest are others, and stand behind them."""
    reasons = Reasons(10)
    for number in range(kinds):
        for _ in range(2):
            reasons.note(f"E{number}", 0)
    found = reasons.top(1)
    assert found.get(OTHERS, 0) == 2 * max(0, kinds - MOST)
    assert len(found) <= MOST + 1
    assert kinds <= MOST or list(found)[-1] == OTHERS


@pytest.mark.parametrize("spans", [1, 2])
def test_the_reasons_add_up(spans: int) -> None:
    """No failure of the window is left out: what has no name is one of the others."""
    reasons = Reasons(10)
    for span in range(spans):
        for number in range(9):
            reasons.note(f"E{span}x{number}", span * 10.0)
    assert sum(reasons.top(spans * 10.0 - 9).values()) == 9 * spans
