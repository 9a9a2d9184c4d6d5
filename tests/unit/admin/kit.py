"""What the tests of live settings share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resilient import Event, Policy, load_settings
from resilient.admin import options as updating
from resilient.engine.section import BUSY
from resilient.testing import ManualClock
from tests.kit.policies import part, policy
from tests.kit.waiting import until
from tests.kit.worlds import Held, World

_files = itertools.count(1)


def options(of: Policy, kind: str) -> dict[str, Any]:
    """Return the options in force of the one guard of a kind."""
    (guard,) = (guard for guard in of.guards if guard.kind == kind)
    return guard.options()


def every_option() -> dict[str, dict[str, Any]]:
    """Return the options in force of all guards of all policies."""
    from resilient.admin.registry import registry

    return {
        core.name: {f"{place}": guard.options() for place, guard in enumerate(core.guards)}
        for core in registry.cores()
    }


def operator(of: Policy, reason: str = "an order", **guards: Mapping[str, Any]) -> None:
    """Change options as an operator's order does."""
    updating.update(of._core, of._guards, updating.OPERATOR, guards, reason)


def updated(events: list[Event], of: Policy) -> list[Event]:
    """Return a policy's events of the kind that tells of a change of options."""
    return [event for event in events if event.kind == "updated" and event.policy == of.name]


def changed_by(of: Policy, kind: str) -> dict[str, str]:
    """Return who set each option that is not as declared."""
    return {name: how["by"] for name, how in part(of, kind)["changed"].items()}


def breaker_state(of: Policy) -> dict[str, Any]:
    """Return what a change of options must keep of a circuit breaker."""
    seen = part(of, "circuit_breaker")
    return {
        key: seen[key]
        for key in (
            "state", "why", "retry_after", "window", "consecutive_failures", "probes",
            "late_results", "slow_calls", "would_open", "transitions",
        )
    }  # fmt: skip


def probes(of: Policy) -> int:
    """Return how many probes are in flight."""
    number: int = part(of, "circuit_breaker")["probes"]
    return number


def written(folder: Path, text: str) -> Path:
    """Write a settings file of its own name."""
    path = folder / f"settings-{next(_files)}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def loaded(folder: Path, text: str, **environ: str) -> Path:
    """Write a settings file and load it."""
    path = written(folder, text)
    load_settings(path, environ=environ)
    return path


def said(error: BaseException, *words: str) -> str:
    """Assert that a message is short, printable and has some words; return it."""
    text = str(error)
    assert text
    assert len(text) < 2000, "nobody reads that"
    assert all(line.isprintable() for line in text.split("\n")), repr(text)
    missing = [word for word in words if word not in text]
    assert not missing, f"{missing} not said in: {text}"
    return text


class Interfering(dict[str, Any]):
    """Options during whose reading something else happens once, as another thread might do it."""

    def __init__(self, given: Mapping[str, Any], meanwhile: Callable[[], object]) -> None:
        super().__init__(given)
        self._meanwhile: Callable[[], object] | None = meanwhile

    def __iter__(self) -> Iterator[str]:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return super().__iter__()


@contextmanager
def inside_its_section(of: Policy) -> Iterator[None]:
    """Stand where a signal handler stands that interrupts the policy's own bookkeeping."""
    core = of._core
    with core.lock:
        core.gate |= BUSY
        try:
            yield
        finally:
            core.gate &= ~BUSY


def line_up(world: World, of: Policy) -> Held:
    """Begin a call that is to wait in the bulkhead's line; return once it stands there."""
    held, before = Held(), part(of, "bulkhead")["waiting"]
    if world.portal is None:
        world._in_thread(of, held)
    else:
        world._in_task(of, held, world.portal)
    until(lambda: part(of, "bulkhead")["waiting"] > before or held.future.done())
    return held


def manual(*guards: Any) -> tuple[Policy, ManualClock]:
    """Return a policy and the clock that moves it."""
    clock = ManualClock()
    return policy(*guards, clock=clock), clock
