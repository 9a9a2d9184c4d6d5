"""A refusal that nothing answers, on the fast path: as by the interpreter, but for the time it takes."""

from __future__ import annotations

import asyncio
import itertools
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from resilient import (
    CircuitOpenError,
    Policy,
    RefusedError,
    bulkhead,
    circuit_breaker,
    fallback,
    rate_limit,
    retry,
    timeout,
)
from resilient.engine.call import Call
from resilient.engine.fast_refusal import throw
from resilient.engine.pipeline import Pipeline
from resilient.engine.policy_state import PolicyState
from resilient.engine.section import BUSY
from resilient.engine.stops import Stopped, count_refusal
from resilient.guards.base import PARK, REFUSE, Guard
from resilient.guards.facets import Admission
from resilient.telemetry.policy_samples import row_of
from resilient.testing import ManualClock

pytestmark = pytest.mark.filterwarnings("ignore::resilient.errors.OrderWarning")
_numbers = itertools.count()
Guards = Callable[[], list[Guard]]


def breaker() -> Any:
    """Return a breaker without jitter."""
    guard = circuit_breaker(failure_threshold=1, recovery_timeout=600, max_recovery_timeout=600)
    guard.random = None
    return guard


OPEN: list[Guards] = [
    lambda: [breaker()],
    lambda: [breaker(), bulkhead(3)],
    lambda: [breaker(), rate_limit(9, 1), bulkhead(3)],
    lambda: [breaker(), timeout(5, sync="cooperative")],
    lambda: [timeout(5, sync="cooperative"), breaker()],
    lambda: [bulkhead(3), breaker()],
    lambda: [circuit_breaker(), rate_limit(1, 1e6)],
    lambda: [circuit_breaker(), bulkhead(3), rate_limit(1, 1e6)],
    lambda: [breaker(), retry(on=ValueError)],
    lambda: [retry(on=ValueError), breaker()],
    lambda: [circuit_breaker(failure_threshold=1, ignore=CircuitOpenError)],
]


class Scene:
    """A policy that refuses, after a call that failed."""

    def __init__(self, guards: Guards, *, is_async: bool = False, manual: bool = True) -> None:
        self.clock, self.runner = ManualClock(), asyncio.Runner() if is_async else None
        self.policy = Policy(
            f"raised-{next(_numbers)}", *guards(), clock=self.clock if manual else None
        )
        self.guarded = self.policy(self._later if is_async else self._now)
        with pytest.raises(OSError, match="down"):
            self.call(self.guarded)

    def _now(self) -> None:
        raise OSError("down")

    async def _later(self) -> None:
        raise OSError("down")

    def call(self, fn: Callable[[], Any]) -> Any:
        """Call a function, or await it."""
        return fn() if self.runner is None else self.runner.run(fn())

    def close(self) -> None:
        """End its loop."""
        if self.runner is not None:
            self.runner.close()

    def refused(self, fn: Callable[[], Any]) -> RefusedError:
        """Return the error of a call that is refused."""
        with pytest.raises(RefusedError) as caught:
            self.call(fn)
        return caught.value

    @property
    def by_interpreter(self) -> Callable[[], Any]:
        """The same call, which the interpreter runs from its beginning."""
        if self.runner is not None:
            return lambda: self.policy.acall(self._later)
        return lambda: self.policy.call(self._now)


Begin = Callable[..., Scene]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Make scenes, which end with the test."""
    with ExitStack() as open_scenes:

        def made(guards: Guards, **how: bool) -> Scene:
            scene = Scene(guards, **how)
            open_scenes.callback(scene.close)
            return scene

        yield made


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the call tracer is told."""
    told: list[tuple[Any, ...]] = []
    monkeypatch.setattr(PolicyState, "on_end", lambda core, *words: told.append(words))
    return told


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("guards", OPEN)
def test_it_counts_tells_and_raises_what_the_interpreter_does(
    guards: Guards, is_async: bool, begin: Begin, ends: list[tuple[Any, ...]]
) -> None:
    """Error, counts, the row that other processes read, the trace."""
    said = []
    for way in ("guarded", "by_interpreter"):
        scene = begin(guards, is_async=is_async)
        core = scene.policy._core
        ends.clear()
        layout = row_of(core)[0]
        row = array("d", core.row(layout))
        core.show_in(memoryview(row), layout)
        errors = []
        for _ in range(3):
            scene.clock.advance(0.5)
            errors.append(scene.refused(getattr(scene, way)))
        assert [*row] == core.row(layout)
        name = scene.policy.name
        said.append((
            [(type(e), str(e).replace(name, ""), e.guard, e.retry_after, e.key) for e in errors],
            {each.policy == name for each in errors},
            scene.policy.snapshot()["calls"], scene.policy.snapshot()["served"], [*row], [*ends],
            core.refused_at, scene.policy.snapshot()["guards"],
        ))  # fmt: skip
    assert said[0] == said[1]
    assert said[0][2]["refused"] == 3
    assert said[0][3]["error"] == 4
    assert said[0][5] == [("refused", "error", said[0][0][0][2], 0.0)] * 3


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(("guards", "fast"), [*zip(OPEN, [True] * 8 + [False] * 3, strict=True)])
def test_who_is_refused_without_the_interpreter(
    guards: Guards, fast: bool, is_async: bool, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no guard outside has anything to learn; but for the first, which is an event."""
    scene = begin(guards, is_async=is_async, manual=False)
    begun: list[object] = []
    made = Call.__init__
    monkeypatch.setattr(Call, "__init__", lambda *words: begun.append(words) or made(*words))
    scene.refused(scene.guarded)
    assert len(begun) == 1
    for _ in range(3):
        begun.clear()
        scene.refused(scene.guarded)
        assert len(begun) == (not fast)


def test_an_error_that_is_handled_where_it_is_raised_is_none_of_it(begin: Begin) -> None:
    """Neither its cause nor its context; and nothing keeps the error alive but its reader."""
    scene = begin(OPEN[0])
    scene.refused(scene.guarded)
    try:
        raise KeyError
    except KeyError:
        error = scene.refused(scene.guarded)
    assert error.__context__ is error.__cause__ is None
    frames, at = [], error.__traceback__
    while at is not None:
        frames.append(at.tb_frame)
        at = at.tb_next
    assert not [each for each in frames[1:] if error in each.f_locals.values()]


def test_a_call_inside_a_probe_passes_all_the_same(begin: Begin) -> None:
    """It is part of the probe; the guard has refused others meanwhile."""
    scene = begin(OPEN[0])
    scene.refused(scene.guarded)
    scene.refused(scene.guarded)
    scene.clock.advance(600)

    @scene.policy
    def outer() -> str:
        with ThreadPoolExecutor(1) as other:
            other.submit(scene.refused, scene.guarded).result()
        with pytest.raises(OSError, match="down"):
            scene.guarded()
        return "in"

    assert outer() == "in"


def test_a_forced_state_and_a_fallback_are_no_business_of_it(begin: Begin) -> None:
    """The one is looked at first, the other answers, also where it looks at the error."""
    scene = begin(OPEN[0])
    scene.policy.force_open(reason="INC-1")
    for _ in range(3):
        error = scene.refused(scene.guarded)
        assert (type(error), error.guard) == (CircuitOpenError, "policy")
    told = Policy(
        f"raised-{next(_numbers)}",
        fallback(lambda error: str(error), with_error=True),
        circuit_breaker(failure_threshold=1),
    )(scene._now)
    assert told() == "down"
    assert ["refused by its circuit_breaker" in told() for _ in range(3)] == [True] * 3


@pytest.mark.parametrize(
    ("changes", "thrown"),
    [
        ({}, True),
        ({"verdict": PARK}, False),
        ({"tickets": (7,)}, False),  # a probe has ended since it was asked
        ({"now": -1.0}, False),  # before a fork
    ],
)
def test_when_it_is_thrown(changes: dict[str, Any], thrown: bool, begin: Begin) -> None:
    """Where anything else is to be done, the interpreter does it, and nothing has changed."""
    scene = begin(OPEN[0])
    core, plan = scene.policy._core, scene.policy._sync_pipeline(scene.guarded)
    scene.refused(scene.guarded)
    core.counting_since = 0.0
    told = {"verdict": REFUSE, "tickets": (), "now": core.now(), **changes}
    stop = Stopped(told["verdict"], 0, told["tickets"], "why", None, told["now"])
    before = scene.policy.snapshot()["calls"]
    if thrown:
        with pytest.raises(CircuitOpenError):
            throw(plan, stop)
    else:
        throw(plan, stop)
        assert scene.policy.snapshot()["calls"] == before
    with core.lock:
        core.gate |= BUSY  # a signal handler's call
        throw(plan, Stopped(REFUSE, 0, (), "why", None, core.now()))
        core.gate = core.idle_gate


def test_what_needs_more_than_an_error_is_not_thrown(begin: Begin) -> None:
    """A client's own kind of error is made by the interpreter; so are the counts of a key."""
    policy = begin(OPEN[0]).policy
    core, guards = policy._core, policy._guards
    assert Pipeline(core, guards, "cooperative").throws == 1
    assert Pipeline(core, guards, "cooperative", kin=lambda error, *_: error).throws == 0
    key: Any = SimpleNamespace(forced="")
    assert Pipeline(core, guards, "cooperative", key=key).throws == 0


def test_a_refusal_of_a_key_names_it(begin: Begin) -> None:
    scene = begin(OPEN[0])
    shards = scene.policy.keyed(lambda key: key)

    @shards
    def asked(key: str) -> None:
        raise OSError("down")

    with pytest.raises(OSError, match="down"):
        asked("a")
    for count in range(1, 4):
        assert scene.refused(lambda: asked("a")).key == "a"
        assert shards.snapshot("a")["refused"] == count


class Failing(RefusedError):
    """An error that can't be made twice."""

    made = 0

    def __init__(self, *words: Any, **more: Any) -> None:
        Failing.made += 1
        if Failing.made > 1:
            raise ValueError("its constructor")
        super().__init__(*words, **more)


class Refusing(Admission):
    """A guard of a third party."""

    kind: ClassVar[str] = "refusing"

    def __init__(self, error: type[RefusedError]) -> None:
        super().__init__()
        self.error = error  # type: ignore[misc]

    def admit(self, now: float) -> int:
        self.why = "told so"
        return REFUSE

    def settle(self, *_: Any) -> None:
        """Have nothing to take back."""


def test_an_error_that_can_not_be_made_is_counted_as_before() -> None:
    Failing.made = 0
    policy = Policy(f"raised-{next(_numbers)}", Refusing(Failing))
    guarded = policy(lambda: None)
    for error in (Failing, ValueError, ValueError):
        with pytest.raises(error):
            guarded()
    calls = policy.snapshot()["calls"]
    assert (calls["refused"], calls["cancelled"]) == (1, 2)


class Because(RefusedError):
    """An error with a context of its own."""

    def __init__(self, *words: Any, **more: Any) -> None:
        super().__init__(*words, **more)
        self.__context__ = KeyError("why")


def test_an_error_keeps_the_context_that_it_was_made_with() -> None:
    guarded = Policy(f"raised-{next(_numbers)}", Refusing(Because))(lambda: None)
    for _ in range(3):
        with pytest.raises(Because) as caught:
            guarded()
        assert repr(caught.value.__context__) == "KeyError('why')"


def test_a_handler_that_forks_amid_the_count_leaves_the_child_whole(begin: Begin) -> None:
    """All counts are cleared under it: the child's call is refused as any other."""
    core = begin(OPEN[0]).policy._core
    core.refused_at["circuit_breaker"] = core.now()
    core.refusals.clear()
    assert count_refusal(core, "circuit_breaker", core.now())
    assert core.refusals == {"circuit_breaker": 1}
