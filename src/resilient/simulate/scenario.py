"""A scenario: clients, a service, its faults, policies to compare, and what is expected of them."""

from __future__ import annotations

from dataclasses import dataclass

from .clients import ClientsPlan
from .faults import Fault
from .policies import PolicyPlan
from .service import ServicePlan
from .trace import Trace


@dataclass(frozen=True, slots=True)
class Expected:
    """What a scenario expects of its policies.

    Attributes:
        of: the names of the policies of which it is expected.
        goodput_back: the least goodput after the faults, as a share of that before.
        within: seconds after the last fault's end from which on that counts.
        goodput: the least share of good calls of the whole run.
        attempts: the most attempts a call, on average.
        other_keys: the least share of good calls of keys without a fault of their own.
    """

    of: tuple[str, ...]
    goodput_back: float | None
    within: float
    goodput: float | None
    attempts: float | None
    other_keys: float | None


@dataclass(frozen=True, slots=True)
class Scenario:
    """An outage to try policies on, as a TOML file says it; what `load` and `from_data` return.

    Attributes:
        name: what the report is headed with.
        seconds: how long it lasts, in virtual seconds.
        seed: of all chance, unless `run` is given another.
        step: how many seconds a point of the picture is.
        clients: who calls.
        service: what is called.
        faults: what is wrong with it, and when.
        policies: what stands between, each in a run of its own.
        expected: what is expected; None if nothing is.
        trace: recorded arrivals and service times; empty without.
    """

    name: str
    seconds: float
    seed: int
    step: float
    clients: ClientsPlan
    service: ServicePlan
    faults: tuple[Fault, ...]
    policies: tuple[PolicyPlan, ...]
    expected: Expected | None
    trace: Trace
