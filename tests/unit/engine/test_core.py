"""The compiled core: whether it runs, that it has the twin's names, and that a pass is never lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import resilient
from resilient import Policy, bulkhead, circuit_breaker, fallback, retry, timeout
from resilient.engine.compiled import has_rule, path_of
from resilient.engine.sync import functions as sync
from resilient.guards.bulkhead import Bulkhead
from resilient.state_types import compiled, why_pure
from tests.kit.policies import policy

needs_core = pytest.mark.skipif(compiled is None, reason=f"no compiled core: {why_pure}")


def run(code: str, **environ: str) -> str:
    known = {name: value for name, value in os.environ.items() if name != "RESILIENT_PURE"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**known, **environ},
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SAYS = "import resilient; from resilient.state_types import why_pure; print(resilient.compiled, why_pure)"


def test_it_says_whether_it_runs() -> None:
    """`resilient.compiled` is true where it does; else `why_pure` says why not."""
    assert resilient.compiled is (compiled is not None) is (not why_pure)


@pytest.mark.parametrize("word", ["1", "true", "ON", " yes "])
def test_it_can_be_switched_off(word: str) -> None:
    assert run(SAYS, RESILIENT_PURE=word) == "False RESILIENT_PURE is set"


@pytest.mark.skipif("RESILIENT_NEED_CORE" not in os.environ, reason="it is not said to be needed")
@pytest.mark.parametrize("word", ["", "0", "false", "Off", "no"])
def test_it_runs_where_it_must(word: str) -> None:
    """CI builds it, and would not see otherwise that all tests have run without it."""
    assert run(SAYS, RESILIENT_PURE=word) == "True"


def test_an_extension_that_can_not_be_loaded_is_done_without() -> None:
    code = "import sys; sys.modules['resilient._core'] = None\n" + SAYS
    assert run(code) in (
        "False it was not built for this Python",
        "False it can't be loaded: import of resilient._core halted; None in sys.modules",
    )


NAMES = """
import resilient.state_types as types
for name, kind in sorted(vars(types).items()):
    if name.endswith("State") and name != "TaskDeadlineState":
        fields = {field for each in kind.__mro__ for field in vars(each) if field[:2] != "__"}
        print(name, *sorted(fields))
"""


@needs_core
def test_the_twin_has_the_same_fields() -> None:
    """What Python reads and writes is there with the core and without it."""
    twin = dict(line.split(" ", 1) for line in run(NAMES, RESILIENT_PURE="1").splitlines())
    here = dict(line.split(" ", 1) for line in run(NAMES).splitlines())
    assert here.pop("DeadlineState").split() == sorted(
        [*twin.pop("DeadlineState").split(), "cancelling", "fired"]
    )
    assert here == twin


STACKS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "nothing": tuple,
    "breaker": lambda: (circuit_breaker(),),
    "bulkhead": lambda: (bulkhead(2),),
    "three": lambda: (retry(on=OSError), circuit_breaker(), bulkhead(2, max_waiting=1, max_wait=1)),
    "limit": lambda: (
        fallback(value=0),
        circuit_breaker(),
        bulkhead(2),
        timeout(9, sync="cooperative"),
    ),
}


def path_for(of: Policy, fn: Callable[..., Any]) -> Any:
    pipeline = of._pipeline("cooperative")
    ends = sync.SyncEnds(pipeline, fn)
    return path_of(pipeline, fn, ends, None, None, sync.Deadline)


@needs_core
@pytest.mark.parametrize("stack", STACKS)
def test_a_pass_that_nobody_books_gives_itself_back(stack: str) -> None:
    """An interrupt may come between the entry and the code that would book it."""
    of = policy(*STACKS[stack]())
    path = path_for(of, int)
    of.call(int)
    assert path() == 0  # the first call of a span of time is Python's
    for _ in range(3):
        entered = path.enter() if of._pipeline("cooperative").single is None else None
        if stack == "limit":  # it has no enter without a task
            return
        assert of.snapshot()["in_flight"] == 1
        began = entered.began
        assert began > 0
        del entered
        assert len(of._core.outbox) == 1
        of.call(int)
        assert of.snapshot()["in_flight"] == 0
    calls = of.snapshot()["calls"]
    assert (calls["success"], calls["cancelled"]) == (5, 3)


@needs_core
def test_a_pass_is_handed_over_once() -> None:
    of = policy(bulkhead(2))
    of.call(int)
    path = path_for(of, int)
    path()
    entered = path.enter()
    assert (entered.tickets, entered.booked, entered.pipeline.core) == (0, False, of._core)
    entered.hand_over()
    with pytest.raises(RuntimeError, match="before"):
        entered.hand_over()
    del entered
    assert not of._core.outbox


class Log:
    """A mixin, as one writes it to look at what a guard is asked."""

    asked: list[float]

    def admit(self, now: float) -> int:
        asked.append(now)
        return super().admit(now)  # type: ignore[misc,no-any-return]


class Inherited(Bulkhead):
    pass


class Mixed(Log, Bulkhead):
    pass


asked: list[float] = []


def _of_class(patched: pytest.MonkeyPatch) -> Bulkhead:
    real = Bulkhead.admit
    patched.setattr(Bulkhead, "admit", lambda self, now: asked.append(now) or real(self, now))
    return Bulkhead(2)


def _of_object(patched: pytest.MonkeyPatch) -> Bulkhead:
    guard, real = Bulkhead(2), Bulkhead.admit
    guard.admit = lambda now: asked.append(now) or real(guard, now)  # type: ignore[method-assign]
    return guard


CHANGED: dict[str, Callable[[pytest.MonkeyPatch], Bulkhead]] = {
    "a mixin": lambda _: Mixed(2), "its class": _of_class, "the object": _of_object,
}  # fmt: skip


@pytest.mark.parametrize("how", CHANGED)
def test_a_guard_whose_method_is_another_stays_in_python(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The core's rule is that of the very class: what somebody has put in its place is asked."""
    asked.clear()
    guard = CHANGED[how](monkeypatch)
    guarded = policy(guard)(lambda: 7)
    for _ in range(3):
        guarded()
    assert len(asked) == 3
    assert not has_rule(Inherited(2))


@needs_core
def test_the_path_takes_only_what_it_knows() -> None:
    """What Python gives it is checked: a mistake there is an error, and no crash."""
    of = policy(bulkhead(2))
    pipeline = of._pipeline("cooperative")
    right: dict[str, Any] = {
        "core": of._core, "guards": (of.guards[0],), "kinds": ("bulkhead",), "limit": None,
        "deadline_type": sync.Deadline, "fn": int, "ends": sync.SyncEnds(pipeline, int), "pipeline": pipeline,
        "leave": pipeline.leave, "fails": None, "keep": None, "answers": False, "direct": None, "constant": None,
        "detached": False,
    }  # fmt: skip
    compiled.FastPath(**right)
    for wrong in (
        {"core": object()}, {"guards": [1]}, {"guards": (1,)}, {"kinds": ()}, {"kinds": (1,)}, {"limit": 1},
        {"deadline_type": int}, {"guards": (of.guards[0],) * 9, "kinds": ("bulkhead",) * 9},
    ):  # fmt: skip
        with pytest.raises((TypeError, ValueError)):
            compiled.FastPath(**{**right, **wrong})
    for given in (1, len, lambda: right, compiled.FastPath(**right)):
        if sys.version_info >= (3, 12):
            with pytest.raises(TypeError):
                compiled.quicken(given)


@needs_core
def test_a_shared_row_is_checked() -> None:
    state = policy(bulkhead(1))._core
    for wrong in (
        memoryview(bytearray(800)),
        memoryview(bytearray(16)).cast("d"),
        1,
        memoryview(bytes(800)).cast("d"),
    ):
        with pytest.raises((TypeError, BufferError)):
            state.shared_row = wrong  # type: ignore[assignment]
    assert state.shared_row is None
    row = memoryview(bytearray(800)).cast("d")
    state.shared_row = row
    assert state.shared_row is row
    with pytest.raises(BufferError):
        row.release()  # the core writes there
    state.shared_row = None
    row.release()


def test_it_steps_aside_in_a_subinterpreter() -> None:
    """Types and settings are the process's: another interpreter takes the twin, and works."""
    pytest.importorskip("_xxsubinterpreters" if sys.version_info < (3, 13) else "_interpreters")
    name = "_xxsubinterpreters" if sys.version_info < (3, 13) else "_interpreters"
    code = f"""
import {name} as interpreters, resilient
code = '''
import sys
sys.path[:0] = {sys.path!r}
import resilient
@resilient.bulkhead(2)
def f(): return 7
print(resilient.compiled, f(), f())
'''
made = interpreters.create()
print(interpreters.run_string(made, code) or "")
"""
    assert run(code).split() == ["False", "7", "7"]
