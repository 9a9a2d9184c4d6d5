"""Flips and state against a naive model: a list of what was taken in, counted from scratch."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from resilient.flags.declarations import Flags, variable_of
from resilient.flags.flip import Flip, flip_of, newer
from resilient.flags.snapshot import Snapshot
from resilient.flags.state import State

NAMES = ("a", "b", "c")
names = st.sampled_from(NAMES)
values = st.sampled_from(("on", "off", "released"))
versions = st.integers(1, 30)
jumps = st.sampled_from((-1e6, -3600.0, 0.0, 5.0, 3600.0, 1e8))


def flip_for(name: str, value: str, version: int, until: float | None = None) -> Flip:
    """Return a recorded flip."""
    return Flip(f"flag/{name}", value, by="x", reason="y", version=version, until=until)


class Model(RuleBasedStateMachine):
    """A state, and everything that ever happened to it."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 1000.0
        self.environ: dict[str, str] = {}
        self.flags = Flags(environ=self.environ)
        self.state = State(self.flags, lambda: self.time)
        self.flags.on_declared = self.state.declared
        for name in NAMES:
            self.flags.declare(name, default=name != "c")
        self.state.read(fresh=False)
        self.events: list[tuple[Flip, float | None]] = []  # and its end, as first seen
        self.overrides: dict[str, bool] = {}
        self.views: list[tuple[Snapshot, dict[str, bool]]] = []
        self.expired_to = self.time

    def holding(self, name: str, now: float) -> str | None:
        """Recount from scratch what a flag obeys."""
        best, end = None, None
        for flip, until in self.events:
            if flip.name == name and (best is None or flip.version > best.version):
                best, end = flip, until
        if best is None or best.value == "released" or (end is not None and end <= now):
            return None
        return str(best.value)

    def expected(self, name: str, now: float) -> tuple[bool, str]:
        """Recount what a flag says, and who decides it."""
        if name in self.overrides:
            return self.overrides[name], "test"
        if variable_of(name) in self.environ:
            return False, "environment"
        held = self.holding(name, now)
        return (name != "c", "declared") if held is None else (held == "on", "store")

    @rule(
        name=names,
        value=values,
        version=versions,
        lasts=st.none() | st.integers(-5, 50),
        clock=jumps,
    )
    def adopt(self, name: str, value: str, version: int, lasts: int | None, clock: float) -> None:
        """The store's clock says anything; only what is left until the end counts."""
        now = 1e9 + clock
        until = None if lasts is None else now + lasts
        known = [flip.version for flip, _ in self.events if flip.name == name]
        news = self.state.adopt([flip_for(name, value, version, until)], now)
        assert bool(news) == (version > max(known, default=0))
        self.events.append(
            (flip_for(name, value, version), None if lasts is None else self.time + max(0, lasts))
        )

    @rule(clock=jumps)
    def adopt_again(self, clock: float) -> None:
        """The same flips, by another clock: no end moves."""
        again = [flip_of(flip.as_json()) for flip in self.state.flips.values()]
        assert self.state.adopt(again, 1e9 + clock) == []

    @rule(seconds=st.integers(0, 30))
    def advance(self, seconds: int) -> None:
        """Time passes, and the follower looks."""
        self.time += seconds
        ended = self.state.expire()
        assert len(set(ended)) == len(ended)
        self.expired_to = self.time

    @rule(name=names, on=st.none() | st.booleans())
    def override(self, name: str, on: bool | None) -> None:
        """A test says something, or nothing any more."""
        assert self.state.override(name, on) == self.overrides.get(name)
        self.overrides.pop(name, None)
        if on is not None:
            self.overrides[name] = on

    @rule(name=names, pinned=st.booleans())
    def pin(self, name: str, pinned: bool) -> None:
        """The environment forces it off, or not any more."""
        self.environ.pop(variable_of(name), None)
        if pinned:
            self.environ[variable_of(name)] = "off"
        self.state.declared(self.flags.get(name))

    @rule()
    def look(self) -> None:
        """Keep a view."""
        self.views.append((self.state.snapshot(), dict(self.state.snapshot())))

    @invariant()
    def agrees(self) -> None:
        """What it says, who decides, what it obeys, and what every view says."""
        for name in NAMES:
            flag = self.flags.get(name)
            on, source = self.expected(name, self.time)
            assert self.state.says(flag)[:2] == (on, source)
            flip = self.state.holding(f"flag/{name}")
            assert (None if flip is None else flip.value) == self.holding(name, self.time)
            assert bool(flag) is on
            assert self.state.snapshot()[name] is on
        for view, said in self.views:
            assert {name: view[name] for name in NAMES} == said


Model.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestModel = Model.TestCase


recorded = st.lists(st.tuples(names, values, versions), max_size=12)


def unique(rows: list[tuple[str, str, int]]) -> list[Flip]:
    """Return flips of which no two of a lever have one version, as no store makes them."""
    found: dict[tuple[str, int], Flip] = {}
    for name, value, version in rows:
        found.setdefault((name, version), flip_for(name, value, version))
    return list(found.values())


def view(state: State) -> dict[str, Any]:
    """Return what a state knows."""
    return {lever: (flip.value, flip.version) for lever, flip in state.flips.items()}


@given(recorded, st.randoms(use_true_random=False), st.integers(1, 5))
def test_the_order_of_adoption_does_not_matter(rows: Any, draw: Any, size: int) -> None:
    """In any order, in any portions, with any repeated: everybody ends with the same."""
    flips = unique(rows)
    first = State(Flags(environ={}))
    first.adopt(flips, 0.0)
    shuffled = flips + flips[: len(flips) // 2]
    draw.shuffle(shuffled)
    second = State(Flags(environ={}))
    for place in range(0, len(shuffled), size):
        second.adopt([flip_of(flip.as_data()) for flip in shuffled[place : place + size]], 0.0)
    assert view(first) == view(second)
    assert first.version == second.version == max((flip.version for flip in flips), default=0)


@given(recorded, recorded)
def test_newer_is_the_best_of_each_lever(known_rows: Any, read_rows: Any) -> None:
    """Against a recount: of each lever the newest that was read, if it goes over what is known."""
    known = {flip.lever: flip for flip in sorted(unique(known_rows), key=lambda f: f.version)}
    read = unique(read_rows)
    news = newer(known, read)
    wanted = {}
    for flip in read:
        best = max((each for each in read if each.lever == flip.lever), key=lambda f: f.version)
        if flip.lever not in known or best.version > known[flip.lever].version:
            wanted[flip.lever] = best
    assert {flip.lever: flip for flip in news} == wanted
    assert [flip.version for flip in news] == sorted(flip.version for flip in news)


@given(st.lists(st.tuples(names, values, versions), min_size=1, max_size=5), recorded)
def test_what_is_not_in_a_whole_reading_is_let_go(before: Any, after: Any) -> None:
    """Exactly the flips that were read hold, or newer ones, and a flip that comes back is obeyed."""
    state = State(Flags(environ={}))
    state.adopt(unique(before), 0.0)
    top = state.version + 1
    read = {f.lever: flip_for(f.name, f.value, top) for f in unique(after)}
    state.adopt(list(read.values()), 0.0, whole=True)
    holding = {lever for lever in state.flips if state.holding(lever)}
    assert holding == {lever for lever, flip in read.items() if flip.value != "released"}


@given(
    st.dictionaries(
        st.sampled_from(["lever", "value", "by", "reason", "at", "until", "version", "due", "x"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=9)
        | st.just("flag/a")
        | st.just("off"),
    )
    | st.text(max_size=30)
    | st.binary(max_size=30)
    | st.lists(st.integers(), max_size=3)
)
def test_data_is_a_flip_or_a_value_error(data: Any) -> None:
    """Nothing else is raised, and what is one says the same after a journey as text."""
    try:
        flip = flip_of(data)
    except ValueError:
        return
    assert flip_of(flip.as_json()).as_data() == flip.as_data()
