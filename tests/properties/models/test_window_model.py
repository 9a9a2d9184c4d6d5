"""The windows and the ages of calls in flight, against a recount of everything that went in."""

from __future__ import annotations

from math import floor

from hypothesis import given
from hypothesis import strategies as st

from resilient.guards.window import Ages, CountWindow, TimeWindow

GAPS = st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.875, 1.0, 1.0, 2.0, 8.0, 9.0, 10.0, 11.0, 1000.0])
STARTS = st.sampled_from([0.0, 0.5, 9.875, 86_400.25])
ACTS = st.lists(
    st.tuples(
        GAPS,
        st.sampled_from(["add", "add", "add", "add", "advance", "add late", "clear"]),
        st.booleans(),
        st.booleans(),
    ),
    max_size=60,
)


@given(start=STARTS, seconds=st.sampled_from([2.5, 5.0, 10.0, 20.0]), acts=ACTS)
def test_B5_a_time_window_counts_the_last_ten_slices(
    start: float, seconds: float, acts: list[tuple[float, str, bool, bool]]
) -> None:
    """A result belongs to slice floor(t / slice); the current slice and nine before it count."""
    window, width = TimeWindow(seconds), seconds / 10
    results: list[tuple[int, bool, bool]] = []
    newest = now = start
    for gap, act, failed, slow in acts:
        now += gap
        if act == "clear":
            window.clear()
            results.clear()
            continue
        # A clock that was read a little before it was this call's turn moves nothing back.
        newest = now if not results else max(newest, now)
        if act == "advance":
            window.advance(now)
        elif act == "add late" and results:
            window.advance(now)
            window.add(now - 0.125, failed, slow)
            results.append((floor(newest / width), failed, slow))
        else:
            window.add(now, failed, slow)
            results.append((floor(newest / width), failed, slow))
        current = floor(newest / width)
        inside = [result for result in results if current - 9 <= result[0] <= current]
        assert window.calls == len(inside)
        assert window.failures == sum(failed for _, failed, _ in inside)
        assert window.slow == sum(slow for _, _, slow in inside)


@given(
    start=st.floats(0, 1e6),
    seconds=st.floats(0.01, 1e4),
    gaps=st.lists(st.floats(0, 2), min_size=1, max_size=60),
)
def test_B5_a_time_window_is_exact_at_the_grain_of_a_slice(
    start: float, seconds: float, gaps: list[float]
) -> None:
    """Whatever the numbers, the last nine tenths are all counted and nothing older than it all."""
    window = TimeWindow(seconds)
    times: list[float] = []
    now = start
    for gap in gaps:
        now += gap * seconds
        window.add(now, True, False)
        times.append(now)
        blur = 1e-9 * (now + seconds)
        least = sum(at > now - 0.9 * seconds + blur for at in times)
        most = sum(at >= now - seconds - blur for at in times)
        assert least <= window.calls <= most
        assert window.failures == window.calls


@given(
    size=st.integers(1, 8),
    acts=st.lists(
        st.tuples(st.sampled_from(["add"] * 9 + ["clear"]), st.booleans(), st.booleans()),
        max_size=60,
    ),
)
def test_B5_a_count_window_counts_the_last_results(
    size: int, acts: list[tuple[str, bool, bool]]
) -> None:
    """The last `size` results count, and time takes none of them out."""
    window = CountWindow(size)
    results: list[tuple[bool, bool]] = []
    for number, (act, failed, slow) in enumerate(acts):
        window.advance(number * 1e6)
        if act == "clear":
            window.clear()
            results.clear()
        else:
            window.add(number * 1e6, failed, slow)
            results.append((failed, slow))
        last = results[-size:]
        assert window.calls == len(last)
        assert window.failures == sum(failed for failed, _ in last)
        assert window.slow == sum(slow for _, slow in last)


@given(
    limit=st.sampled_from([0.25, 1.0, 5.0]),
    acts=st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.125, 0.25, 0.75, 1.0, 4.0]),
            st.sampled_from(["add", "add", "add", "discard", "again", "look", "clear"]),
            st.integers(0, 1000),
        ),
        max_size=60,
    ),
)
def test_B5_ages_tell_how_many_are_at_or_over_the_limit(
    limit: float, acts: list[tuple[float, str, int]]
) -> None:
    """A ticket is late from exactly `limit` seconds after it was added, until it is discarded."""
    ages = Ages(limit)
    started: dict[int, float] = {}
    now = 100.0
    for serial, (gap, act, choice) in enumerate(acts):
        now += gap
        known = sorted(started)
        if act == "clear" and choice % 4 == 0:
            ages.clear()
            started.clear()
        elif act in {"discard", "again"} and known:
            ticket = known[choice % len(known)]
            ages.discard(ticket)
            del started[ticket]
            if act == "again":
                ages.add(ticket, now)
                started[ticket] = now
        elif act == "add":
            ages.add(serial, now)
            started[serial] = now
        else:
            late = sum(now - at >= limit for at in started.values())
            assert ages.late(now) == late
        assert len(ages) == len(started)
        assert all(ticket in ages for ticket in started)
        assert serial + 1 not in ages
    late = sum(now - at >= limit for at in started.values())
    assert ages.late(now) == late


def test_B5_discarding_a_ticket_that_is_not_there_does_nothing() -> None:
    """A ticket of an older epoch may be discarded at any time."""
    ages = Ages(1.0)
    ages.add(1, 0.0)
    ages.discard(7)
    assert (len(ages), ages.late(1.0)) == (1, 1)
    ages.discard(7)
    assert (len(ages), ages.late(1.0)) == (1, 1)
