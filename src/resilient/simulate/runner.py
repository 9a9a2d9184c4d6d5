"""Run a scenario: a loop, a service, clients and a policy, for each policy of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

from .. import validation
from ..guards.base import Guard
from ..policy.policy import Policy
from .chance import source
from .clients import Ask, Clients
from .faults import Schedule
from .loop import LoopClock, VirtualLoop
from .measure import Run, Tape
from .policies import Guards, PolicyPlan, built, guarded, shadows_of, states_of
from .report import Report
from .scenario import Scenario
from .service import Answer, Service

Progress = Callable[[str, float], object]  # a policy's name, and the share of its run that is done


def run(
    scenario: Scenario,
    *,
    seed: int | None = None,
    guards: Mapping[str, Callable[[], tuple[Guard, ...]]] | None = None,
    progress: Callable[[str, float], object] | None = None,
) -> Report:
    """Run a scenario on a virtual clock, once for each policy, all against the same outage.

    The policies are real ones, with the engine of every call, and apart from those of the process:
    no metrics, no log, no orders of a store. It never sleeps. In a coroutine run it in a thread.

    Args:
        scenario: what `load` returned.
        seed: of all chance: the same seed gives the same run, and all policies meet the same
            arrivals. Default None: the scenario's.
        guards: policies in place of the scenario's, by name: each a function that makes the guards
            anew, the outermost first. Default None: the scenario's own policies.
        progress: called now and then with a policy's name and the share of its run that is done.
            Default None.

    Returns:
        What came of it.

    Raises:
        RuntimeError: an event loop runs in this thread; or a guard of yours raised where it must
            not.
        TypeError: seed is no int, or guards holds what makes no guards.

    Example:
        >>> from resilient.simulate import from_data, run
        >>> calm = from_data({
        ...     "seconds": 20,
        ...     "clients": {"rate": 10, "deadline": 1},
        ...     "service": {"workers": 2, "time": 0.1},
        ...     "policy": [{"name": "ours", "guards": [{"guard": "timeout", "seconds": 0.5}]}],
        ... })
        >>> run(calm, seed=1).runs["ours"].ends["failed"]
        0
    """
    if seed is not None and type(seed) is not int:
        validation.refuse_type("seed", seed, "an int")
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(
            "an event loop runs in this thread: simulate in another one, such as by "
            "asyncio.to_thread(run, scenario)"
        )
    chosen = scenario.seed if seed is None else seed
    plans = scenario.policies
    if guards is not None:
        plans = _plans(guards)
    return Report(
        scenario, chosen, {plan.name: _run(scenario, plan, chosen, progress) for plan in plans}
    )


def _plans(guards: object) -> tuple[PolicyPlan, ...]:
    """Return the plans of policies whose guards a caller makes; try each once."""
    allowed = "a dict of functions that return guards, such as {'mine': lambda: (timeout(1.0),)}"
    if not isinstance(guards, Mapping):
        validation.refuse_type("guards", guards, allowed)
    plans: list[PolicyPlan] = []
    for name, make in cast("Mapping[str, Any]", guards).items():
        made: object = make() if callable(make) else None
        parts = cast("tuple[object, ...]", made) if isinstance(made, tuple) else ("",)
        if not all(isinstance(each, Guard) for each in parts):
            validation.refuse_type(f"guards[{name!r}]", cast("object", made or make), allowed)
        plans.append(PolicyPlan(name, cast("Guards", make)))
    return tuple(plans)


def _run(scenario: Scenario, plan: PolicyPlan, seed: int, progress: Progress | None) -> Run:
    loop, tape = VirtualLoop(), Tape()
    service_plan, clients = scenario.service, scenario.clients
    try:
        schedule = Schedule(scenario.faults, service_plan.workers, service_plan.errors)
        chances = (source(seed, concern) for concern in ("service", "errors"))
        service = Service(loop, service_plan, schedule, *chances)
        clock, draw = LoopClock(loop), source(seed, "guards").random
        policies = [built(plan, n, clock, draw, tape.moves) for n in range(clients.processes)]
        asks = [_guarded(plan, policy, service, loop, tape) for policy in policies]
        times = service_plan.time.recorded(scenario.trace.seconds)
        arrivals = source(seed, "arrivals")
        keys = partial(source(seed, "keys").randrange, max(1, clients.keys))
        Clients(loop, clients, asks, tape, arrivals, times, keys, scenario.trace.at).begin()
        tell = None if progress is None else partial(progress, plan.name)
        _look(loop, scenario, service, policies, tape, tell)
        # Those who began last have until their deadline; who began later is not counted.
        stop: Any = loop.stop
        loop.call_at(scenario.seconds + clients.deadline, stop)
        loop.run_forever()
        if loop.fault is not None:
            raise RuntimeError(f"the policy {plan.name} broke the simulation") from loop.fault
        tape.wasted = service.wasted
        tape.shadows = shadows_of(policies)
        return _measured(scenario, plan, seed, tape)
    finally:
        loop.shut()


def _guarded(
    plan: PolicyPlan, policy: Policy, service: Service, loop: VirtualLoop, tape: Tape
) -> Ask:
    async def ask(seconds: float | None, key: int) -> Answer:
        tape.attempts.append(loop.time())
        return await service.ask(seconds, key)

    made: Ask = guarded(plan, policy, ask)
    return made


def _look(
    loop: VirtualLoop, scenario: Scenario, service: Service, policies: list[Policy], tape: Tape,
    tell: Callable[[float], object] | None,
) -> None:  # fmt: skip
    """Have the queue and the states be looked at, at the end of each step; tell the progress."""

    def look(number: int) -> None:
        at = number * scenario.step
        tape.queue.append((at, len(service.waiting)))
        tape.states.append(
            (at, dict(Counter(state for policy in policies for state in states_of(policy))))
        )
        if tell is not None:  # here, and by no timer of its own: that could move the run's ties
            tell(min(1.0, at / scenario.seconds))
        if at < scenario.seconds:
            loop.call_at((number + 1) * scenario.step, look, number + 1)

    loop.call_at(scenario.step, look, 1)


def _measured(scenario: Scenario, plan: PolicyPlan, seed: int, tape: Tape) -> Run:
    tape.cut(scenario.seconds)
    fault = None
    if scenario.faults:
        fault = min(f.at for f in scenario.faults), max(f.end for f in scenario.faults)
    return Run(
        plan.name, seed, tape, seconds=scenario.seconds, step=scenario.step,
        fault=fault, deadline=scenario.clients.deadline,
        sick=max((each.keys for each in scenario.faults), default=0),
    )  # fmt: skip
