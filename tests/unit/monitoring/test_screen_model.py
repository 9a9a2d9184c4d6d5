"""What a screen says, against a model that adds up plain numbers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from resilient.engine.counters import EDGES
from resilient.monitoring.page_samples import ENOUGH, PagePoller, SampleDelta
from resilient.monitoring.top_model import Row, Screen
from resilient.pages.format import Entry
from tests.unit.monitoring.kit import WALL, Page, flag_entry, look, order_entry, policy, screen

PHASES = [Phase.explicit, Phase.generate, Phase.shrink]  # explaining costs a minute here
WORDS = ("full", "degraded", "error")
NAMES = ("a", "b", "c", "d")
counts = st.one_of(st.just(0), st.integers(0, 3), st.integers(0, 5000))
tiers = st.sampled_from([None, 1, 2, 3, 4])


def rows_of(shown: Screen) -> dict[str, Row]:
    """Return the rows by the name of their policy."""
    found = {row.policy.name: row for row in (*shown.worst, *shown.well)}
    assert len(found) == len(shown.worst) + len(shown.well)
    return found


# -- rates, shares, harm ------------------------------------------------------------------

process = st.fixed_dictionaries(
    {
        "before": st.booleans(),  # whether it was there at the first look
        "alive": st.booleans(),  # at the second
        "folded": st.booleans(),  # of the dead: their page was taken in meanwhile
        "then": st.dictionaries(st.sampled_from(NAMES), st.tuples(counts, counts, counts)),
        "more": st.dictionaries(st.sampled_from(NAMES), st.tuples(counts, counts, counts)),
    }
)


def counted(numbers: tuple[int, ...]) -> dict[str, float]:
    """Return the counts of what callers got, by word."""
    return dict(zip(WORDS, map(float, numbers), strict=True))


def entries(
    said: dict[str, tuple[int, ...]], about: dict[str, Any], *, in_flight: float = 1.0
) -> list[Any]:
    """Return the entries of a process."""
    return [
        policy(name, about=about[name], in_flight=in_flight, **counted(numbers))  # type: ignore[arg-type]
        for name, numbers in said.items()
    ]


def summed(then: dict[str, Any], more: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return counts that have grown."""
    none = (0, 0, 0)
    return {
        name: tuple(map(sum, zip(then.get(name, none), more.get(name, none), strict=True)))
        for name in {*then, *more}
    }


@given(
    processes=st.lists(process, max_size=5),
    tier=st.fixed_dictionaries(dict.fromkeys(NAMES, tiers)),
    seconds=st.floats(0.5, 100),
)
@settings(max_examples=100, phases=PHASES)
def test_rates_shares_and_order(processes: list[Any], tier: dict[str, Any], seconds: float) -> None:
    """What happened between two looks is the difference of sums over processes, worst first."""
    about = {name: {"tier": tier[name]} for name in NAMES}
    first, second, left = [], [], []
    model: dict[str, list[float]] = {}
    living: dict[str, int] = {}
    for each in processes:
        then = each["then"] if each["before"] else {}
        now = summed(then, each["more"])
        if each["before"]:
            first.append(Page(*entries(then, about)))
        if each["alive"] or not each["folded"]:
            second.append(Page(*entries(now, about), alive=each["alive"]))
        else:
            left += entries(now, about, in_flight=0)
        for name in now:
            whole = model.setdefault(name, [0.0, 0.0, 0.0])
            for place in range(3):
                whole[place] += now[name][place] - then.get(name, (0, 0, 0))[place]
            living[name] = living.get(name, 0) + each["alive"]
    shown = Screen(look(0.0, *first), look(seconds, *second, left=left))
    found = rows_of(shown)
    assert set(found) == set(model)
    for name, (full, degraded, error) in model.items():
        row, calls = found[name], full + degraded + error
        assert row.calls == calls
        assert row.rate == pytest.approx(calls / seconds)
        assert row.enough == (calls >= ENOUGH)
        assert row.live == (living[name] > 0)
        assert row.in_flight == living[name]
        shares = [number / calls if calls else 0.0 for number in (full, degraded, error)]
        assert [row.full, row.degraded, row.error] == pytest.approx(shares)
        assert row.well == (degraded == error == 0)
    whole = [sum(numbers[place] for numbers in model.values()) for place in range(3)]
    assert [shown.served[word] for word in WORDS] == pytest.approx(whole)
    assert shown.calls == sum(whole)
    assert len(shown.processes) == sum(each["alive"] for each in processes)

    def harm(name: str) -> float:
        weight = {1: 4, 2: 2}.get(tier[name], 1) if living[name] else 1
        _, degraded, error = model[name]
        return (error + 0.2 * degraded) * weight

    harms = [harm(row.policy.name) for row in shown.worst]
    assert harms == sorted(harms, reverse=True) or harms == pytest.approx(
        sorted(harms, reverse=True)
    )
    rates = [row.rate for row in shown.well]
    assert rates == sorted(rates, reverse=True)


@given(
    then=st.tuples(counts, counts, counts),
    now=st.tuples(counts, counts, counts),
    buckets=st.lists(counts, min_size=13, max_size=13),
)
@settings(max_examples=60, phases=PHASES)
def test_counters_that_began_anew(
    then: tuple[int, ...], now: tuple[int, ...], buckets: list[int]
) -> None:
    """A sum that fell is no call, never less than none; shares still add up."""
    before = policy("a", durations=buckets[::-1], **counted(then))  # type: ignore[arg-type]
    after = policy("a", durations=buckets, **counted(now))  # type: ignore[arg-type]
    (row,) = rows_of(Screen(look(0, Page(before)), look(10, Page(after)))).values()
    more = [max(0, b - a) for a, b in zip(then, now, strict=True)]
    assert row.calls == sum(more)
    shares = [row.full, row.degraded, row.error]
    assert all(0 <= share <= 1 for share in shares)
    assert sum(shares) == pytest.approx(1 if sum(more) else 0)
    for quantile in (row.p50, row.p99):
        assert quantile is None or 0 <= quantile <= EDGES[-1]


def test_a_policy_that_comes_and_one_that_goes() -> None:
    """One that was not there has all its calls in between; one that is gone has no row."""
    shown = Screen(
        look(0, Page(policy("old", full=50))), look(10, Page(policy("new", full=30, error=3)))
    )
    assert set(rows_of(shown)) == {"new"}
    assert rows_of(shown)["new"].calls == 33


def test_what_the_departed_are_added_up_in_is_not_a_burst() -> None:
    """A policy whose long life moves to `_other` between two looks has made no call."""
    shown = Screen(
        look(0, Page(), left=[policy("gone", full=9000, error=1000)]),
        look(10, Page(), left=[policy("_other", full=9000, error=1000)]),
    )
    assert shown.calls == 0


# -- quantiles ------------------------------------------------------------------


def histogram_quantile(share: float, upto: list[float]) -> float:
    """Return what Prometheus says (promql/quantile.go, bucketQuantile), of cumulative buckets."""
    edges = [*EDGES, float("inf")]
    rank = share * upto[-1]
    place = next((n for n, count in enumerate(upto[:-1]) if count >= rank), len(upto) - 1)
    if place == len(upto) - 1:
        return edges[-2]
    if place == 0 and edges[0] <= 0:
        return edges[0]
    start, end, count = 0.0, edges[place], upto[place]
    if place > 0:
        start = edges[place - 1]
        count -= upto[place - 1]
        rank -= upto[place - 1]
    return start + (end - start) * (rank / count)


@given(
    pages=st.lists(st.lists(counts, min_size=13, max_size=13), min_size=1, max_size=3),
    then=st.lists(counts, min_size=13, max_size=13),
    share=st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]),
)
@settings(max_examples=120, phases=PHASES)
def test_quantiles_are_those_of_prometheus(
    pages: list[list[int]], then: list[int], share: float
) -> None:
    """Of the summed buckets of all processes, since the first look; None below the minimum."""
    before = look(0, Page(policy("a", durations=then)))
    after = look(
        10,
        Page(policy("a", durations=[a + b for a, b in zip(then, pages[0], strict=True)])),
        *(Page(policy("a", durations=each)) for each in pages[1:]),
    )
    sums = [sum(column) for column in zip(*pages, strict=True)]
    upto = [float(sum(sums[: place + 1])) for place in range(13)]
    found = SampleDelta("a", before, after).quantile(share)
    if upto[-1] < ENOUGH:
        assert found is None
    else:
        assert found == pytest.approx(histogram_quantile(share, upto))


@pytest.mark.parametrize(("calls", "known"), [(0, False), (9, False), (10, True)])
def test_few_calls_have_no_quantile_and_no_share(calls: int, known: bool) -> None:
    """Below ten, neither is said."""
    (row,) = rows_of(screen(policy("a", full=calls, durations=[calls] + [0] * 12))).values()
    assert (row.p50 is not None) == (row.p99 is not None) == row.enough == known


def test_quick_calls_are_in_the_first_bucket() -> None:
    """The calls that are counted apart, because they are quick, are calls like others."""
    (row,) = rows_of(screen(policy("a", quick=100, duration_sum=0.1))).values()
    assert (row.calls, row.full) == (100, 1.0)
    assert row.p99 == pytest.approx(0.99 * EDGES[0])


# -- states ------------------------------------------------------------------


def breaker(**states: int) -> dict[tuple[str, str], float]:
    """Return the gauges of a breaker in one process."""
    return {("breaker_workers", state): float(number) for state, number in states.items()}


def since(at: float) -> dict[tuple[str, str], float]:
    """Return the gauge that says when a breaker last moved."""
    return {("breaker_since_timestamp_seconds", ""): at}


def state(*pages: Page) -> Row:
    """Return the row of the one policy."""
    (row,) = rows_of(Screen(look(0), look(10, *pages))).values()
    return row


def test_a_circuit_in_several_processes() -> None:
    """The worst state is shown, in how many of how many, and since when."""
    closed = Page(policy("a", gauges=breaker(closed=1, open=0, half_open=0)))
    opened = Page(policy("a", gauges=breaker(closed=0, open=1, half_open=0) | since(WALL - 60)))
    half = Page(policy("a", gauges=breaker(closed=0, open=0, half_open=1) | since(WALL - 5)))
    assert (state(closed).state, state(closed).well) == ("closed", True)
    assert (state(opened).state, state(opened).since) == ("open", WALL - 60)
    assert state(opened, closed, closed).state == "open 1/3"
    assert state(half, closed).state == "half-open 1/2"
    assert state(half, opened, closed, closed).state == "open 1/4"
    assert not state(half).well


def test_since_is_that_of_the_state_that_is_shown() -> None:
    """A circuit that is open in one process for an hour is, whatever another one has done since."""
    opened = Page(policy("a", gauges=breaker(closed=0, open=1, half_open=0) | since(WALL - 3600)))
    closed = Page(policy("a", gauges=breaker(closed=1, open=0, half_open=0) | since(WALL - 1)))
    later = Page(policy("a", gauges=breaker(closed=0, open=1, half_open=0) | since(WALL - 5)))
    assert state(opened, closed).state == "open 1/2"
    assert state(opened, closed).since == WALL - 3600
    assert state(later, opened, later, closed).since == WALL - 3600
    assert state(later, closed).since == WALL - 5


def test_a_dead_process_has_no_state() -> None:
    """What a circuit was in a process that died is over, and so is what it had in hand."""
    dead = policy("a", full=20, in_flight=3, abandoned=2, gauges=breaker(open=1) | since(WALL))
    row = state(Page(dead, alive=False))
    assert (row.state, row.since, row.in_flight, row.abandoned) == ("", None, 0, 0)
    assert (row.calls, row.live, row.well) == (20, False, True)
    hurt = policy("a", about={"covered": True, "fallback": "top_100"}, error=100)
    row = state(Page(hurt, alive=False))
    assert (
        row.note == "no living process says what answers in its place, so no lever helps customers"
    )


def test_metrics_only() -> None:
    """It has a word of its own, and refuses nobody: what is open comes before it."""
    only = breaker(closed=0, open=0, half_open=0, metrics_only=1)
    assert state(Page(policy("a", gauges=only))).state == "metrics-only"
    opened = Page(policy("a", gauges=breaker(closed=0, open=1, half_open=0)))
    assert state(Page(policy("a", gauges=only)), opened).state == "open 1/2"


@pytest.mark.parametrize("kind", ["forced_open", "forced_closed"])
def test_a_forced_state(kind: str) -> None:
    """It goes over the circuit, with the moment of the order, and the lever is its release."""
    gauges = breaker(closed=0, open=1, half_open=0) | {("override_active", kind): 1.0}
    row = state(Page(policy("shop", gauges=gauges), order_entry("shop", kind, WALL - 30)))
    assert (row.state, row.since) == (kind.replace("_", " "), WALL - 30)
    assert row.lever == 'resilient policies release shop --reason "..."'
    assert not row.well


def test_a_flag_that_is_off_in_some_processes() -> None:
    """It goes over everything, with in how many it is off, and the lever asks why; or turns it on."""
    about = {"flags": ["recs"]}
    on = Page(policy("a", about=about), flag_entry("recs", on=True))
    off = Page(policy("a", about=about), flag_entry("recs", on=False, flipped=WALL - 9))
    assert (state(on).state, state(on).well) == ("", True)
    row = state(on, on, off)
    assert (row.state, row.since, row.well) == ("flag off 1/3", WALL - 9, False)
    assert row.lever == "resilient doctor"  # it is off in the store: some have not obeyed
    assert state(off).lever == 'resilient flags on recs --reason "..."'
    assert state(off).state == "flag off"
    shown = Screen(look(0), look(10, on, off))
    assert shown.flags_off == ["recs"]


@pytest.mark.parametrize("others", [0, 2])
@pytest.mark.parametrize("flipped", [None, WALL - 9])
def test_a_flag_that_no_order_holds_off(others: int, flipped: float | None) -> None:
    """The environment does, or a provider: an order to turn it on would be obeyed by nobody."""
    about = {"flags": ["recs"]}
    on = Page(policy("a", about=about), flag_entry("recs", on=True, flipped=flipped))
    off = Page(policy("a", about=about), flag_entry("recs", on=False, flipped=flipped, held=True))
    row = state(*[on] * others, off)
    assert row.state.startswith("flag off")
    assert row.lever == "resilient flags show recs"
    assert row.note == "its environment or provider holds it off, which no order ends"
    ordered = Page(policy("a", about=about), flag_entry("recs", on=False, flipped=WALL - 9))
    assert state(*[on] * others, off, ordered).lever.startswith("resilient")
    assert "flags show" not in state(*[on] * others, off, ordered).lever


def test_the_second_of_two_flags_is_off() -> None:
    """The lever turns on the flag that is off."""
    about = {"flags": ["first", "second"]}
    row = state(
        Page(
            policy("a", about=about),
            flag_entry("first", on=True),
            flag_entry("second", on=False, flipped=WALL - 9),
        )
    )
    assert row.lever == 'resilient flags on second --reason "..."'


def test_levers() -> None:
    """What cuts it off, where something answers then: its flag, or else the forced state."""
    off = 'resilient flags off recs --reason "..." --for 30m'
    forced = "resilient policies force-open 'a b' --reason \"...\" --for 30m"
    recs, cut = {"flags": ["recs"]}, {"covered": True}
    look = "resilient policies show 'a b'"
    for about, lever in (
        (recs | cut | {"answered": ["recs"]}, off),
        (recs | {"answered": ["recs"], "covered": False}, off),  # by the answer of its kill switch
        (recs | cut | {"answered": []}, forced),  # its fallback takes no FlagOffError
        (recs | {"answered": [], "covered": False}, look),
        (cut, forced),
        ({"covered": False, "fallback": "top_100"}, look),  # it answers some errors, no refusal
        ({"fallback": "top_100"}, forced),  # as a process of an older version says it
        (recs | {"fallback": "top_100"}, off),
        (recs, look),
        ({}, look),
        ({"covered": "yes", "answered": 5}, look),
    ):
        row = state(Page(policy("a b", about=about), flag_entry("recs", on=True)))
        assert row.lever == lever, about


def only(entry: Entry) -> Row:
    """Return the row of a policy that came to these numbers since the first look."""
    shown = screen(entry)
    (row,) = [*shown.worst, *shown.well]
    return row


def test_what_a_lever_would_do_is_said() -> None:
    """How many good answers it would cost, or that there is none that helps."""
    covered, alone = {"covered": True}, {"covered": False, "owner": "team-pay"}
    bad = {"full": 74, "error": 26}
    assert only(policy("a", about=covered, **bad)).note == (
        "74 % full would become its fallback's answers"
    )
    assert only(policy("a", about=alone, **bad)).note == (
        "no fallback: forcing it open would turn 74 % full into errors"
    )
    assert only(policy("a", about=alone, error=100)).note == (
        "no fallback, so no lever helps customers; call team-pay"
    )
    assert only(policy("a", about=covered, error=100)).note == ""


def test_what_is_cut_off_already_needs_no_lever() -> None:
    """Its circuit is open and its fallback answers every call: there is nothing left to cut off."""
    about = {"covered": True}
    row = only(policy("a", about=about, degraded=100, gauges=breaker(open=1)))
    assert row.lever == "resilient policies show a"
    assert row.note == "every call is answered in its place already"
    some = only(policy("a", about=about, degraded=90, full=10, gauges=breaker(open=1)))
    assert some.lever.startswith("resilient policies force-open a")
    durations = [0] * len(EDGES) + [100]
    closed = policy("a", about=about, degraded=100, durations=durations, gauges=breaker(closed=1))
    slow = only(closed)  # forced open, its callers would not wait for their answers
    assert slow.lever.startswith("resilient policies force-open a")
    hung = only(policy("a", about=about, degraded=100, abandoned=8))
    assert hung.lever == "resilient policies show a"


def test_who_answers_is_said() -> None:
    """A kill switch's answer is no fallback's, and a fallback may not be asked for refusals."""
    switch = {"covered": False, "flags": ["k"], "answered": ["k"]}
    assert only(policy("a", about=switch, full=74, error=26)).note == (
        "74 % full would become its kill switch's answers"
    )
    narrow = {"covered": False, "fallback": "1"}
    assert only(policy("a", about=narrow, full=74, error=26)).note == (
        "its fallback does not answer refusals: forcing it open would turn 74 % full into errors"
    )


def test_forced_open_with_a_fallback_that_fails() -> None:
    """It is said, also where the fallback was there when the order was given."""
    gauges = {("override_active", "forced_open"): 1.0}
    failing = policy("a", about={"covered": True}, error=100, fallback_failures=100, gauges=gauges)
    assert only(failing).note == "its fallback fails too: each call that it fails for is an error"
    well = policy("a", about={"covered": True}, degraded=100, gauges=gauges)
    assert only(well).note == ""


def test_a_fallback_that_fails_takes_nothing_over() -> None:
    """Where it fails as often as it answers, to cut the policy off helps nobody."""
    row = only(policy("a", about={"covered": True}, full=74, error=26, fallback_failures=26))
    assert row.lever == "resilient policies show a"
    assert row.note == "its fallback fails too: forcing it open would turn 74 % full into errors"


def test_the_callers_own_errors_are_outside_every_ratio() -> None:
    """They make nobody worse, whatever their share: not the policy, nor the screen."""
    row = only(policy("a", full=90, error=10, caller_error=900))
    assert (row.full, row.error, row.caller_error) == (0.9, 0.1, 0.9)
    assert row.rate == 100
    shown = screen(policy("a", full=10, caller_error=90), policy("b", caller_error=50))
    assert [row.policy.name for row in shown.well] == ["a", "b"]
    assert shown.as_data()["customers"]["full"] == 1
    assert shown.as_data()["policies"][0]["served"]["caller_error"] == 0.9


@pytest.mark.parametrize(
    ("limit", "share"), [(0.3, 0.99), (0.25, 0.5), (0.249, 0.99), (40.0, 0.99)]
)
def test_no_quantile_goes_over_the_limit_that_cuts_it(limit: float, share: float) -> None:
    """The bucket ends at 0.5 s, but nothing takes longer than the timeout: so long, at least."""
    durations = [0] * (len(EDGES) + 1)
    durations[EDGES.index(0.5) if limit < 1 else -1] = 100
    gauges = {("timeout_seconds", ""): limit}
    row = only(policy("a", full=100, durations=durations, gauges=gauges))
    found = row.p99 if share == 0.99 else row.p50
    assert found is not None
    assert (found, found.at_least) == (min(limit, EDGES[-1]), True)
    assert row.as_data()["p99_at_least"] is True
    free = only(policy("a", full=100, durations=durations))
    assert free.p99 is not None
    assert free.p99.at_least == (limit > 1)


def test_worker_threads_that_hang_are_no_good_sign() -> None:
    """A policy whose calls are all well, and that has threads that hang, is not folded."""
    row = state(Page(policy("a", full=100, abandoned=2, in_flight=1)))
    assert (row.abandoned, row.well) == (2, False)


def test_what_hurts_comes_before_what_is_only_open() -> None:
    """The worst is first: harm, then a state that is not closed, then the name."""
    shown = screen(
        policy("quiet", gauges=breaker(open=1)),
        policy("tier3", error=100, about={"tier": 3}),
        policy("tier1", error=100, about={"tier": 1}),
        policy("mild", degraded=100, about={"tier": 3}),
        policy("also quiet", gauges=breaker(half_open=1)),
        policy("well", full=100),
    )
    names = [row.policy.name for row in shown.worst]
    assert names == ["tier1", "tier3", "mild", "also quiet", "quiet"]
    assert [row.policy.name for row in shown.well] == ["well"]


def test_no_directory_is_no_look(tmp_path: Any) -> None:
    """To look where nothing is raises what the command line turns into words."""
    with pytest.raises(OSError):
        PagePoller(tmp_path / "nowhere").look()


def test_views_that_answer_are_no_cover_of_all() -> None:
    """Cut off, some callers are answered and others are not: it says both."""
    about = {"covered": False, "in_views": True}
    row = only(policy("a", about=about, full=74, error=26))
    assert row.note == (
        "only some of its views have a fallback: forcing it open would turn 74 % full into errors"
    )
    row = state(Page(policy("a", about=about, gauges={("override_active", "forced_open"): 1.0})))
    assert row.note == "only some of its views answer in its place: other calls are errors"
