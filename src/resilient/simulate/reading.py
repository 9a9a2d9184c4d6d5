"""Read a scenario from plain data, strictly: a typo can't become a silent default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from .. import validation
from .chance import KINDS as DISTRIBUTIONS
from .chance import Times
from .clients import ClientsPlan
from .faults import KINDS as FAULTS
from .faults import Fault
from .keys import Keys, one_of
from .policies import MAX_KEYS, PolicyPlan, guard_of, try_out
from .scenario import Expected, Scenario
from .service import ServicePlan
from .trace import Trace, read

_SCENARIO: Final = (
    "name", "seconds", "seed", "step", "clients", "service", "fault", "policy", "expect", "trace",
)  # fmt: skip
_CLIENTS: Final = (
    "kind",
    "rate",
    "arrivals",
    "users",
    "think",
    "deadline",
    "gives_up",
    "processes",
    "keys",
)
_POLICY: Final = ("name", "guards", "shadows", "keyed", "max_keys", "collapse")
_SERVICE: Final = ("workers", "queue", "time", "errors", "drops_abandoned")
_ELSE: Final = "attempts", "other_keys"
_AMOUNTS: Final = {"slow": "times", "errors": "share", "workers": "workers"}
_CALLS: Final = 50_000_000  # of one run: more would take days
_RATE: Final = 1_000_000.0
_LONGEST: Final = 1e7


def scenario_of(data: Mapping[str, Any], folder: Path) -> Scenario:
    """Return the scenario that plain data says."""
    keys = Keys("", data, _SCENARIO)
    trace = _trace(keys, folder)
    clients = _clients(keys.take("clients"), trace)
    service = _service(keys.take("service"), trace)
    seconds = _seconds(keys, trace, clients)
    if clients.rate * seconds > _CALLS:
        validation.refuse("clients.rate", clients.rate, f"at most {_CALLS:,} calls in a run")
    listed = enumerate(keys.list("fault", []), 1)
    faults = tuple(_fault(n, each, clients.keys) for n, each in listed)
    policies = _policies(keys.list("policy"), clients.keys)
    expected = None
    if "expect" in keys:
        names = tuple(each.name for each in policies)
        expected = _expected(keys.take("expect"), names, faults, seconds, clients)
    return Scenario(
        name=keys.text("name", "simulation"),
        seconds=seconds,
        seed=keys.count("seed", 1, least=0),
        step=keys.number("step", min(1.0, seconds / 10), least=0.001, most=seconds),
        clients=clients,
        service=service,
        faults=faults,
        policies=policies,
        expected=expected,
        trace=trace,
    )


def _seconds(keys: Keys, trace: Trace, clients: ClientsPlan) -> float:
    if clients.arrivals != "trace":
        return keys.seconds("seconds")
    last = trace.at[-1]
    # What begins at the very end is not counted; the last call is, a rounding later.
    return keys.seconds("seconds", last * (1 + 1e-9) if last > 0 else 1.0)


def _trace(keys: Keys, folder: Path) -> Trace:
    if "trace" not in keys:
        return Trace()
    part = Keys("trace", keys.take("trace"), ("file", "at", "seconds"))
    file = part.text("file", cast("Any", None) if "file" in part else part.take("file"))
    columns = [part.text(key, "") or None for key in ("at", "seconds")]
    if columns == [None, None]:
        raise ValueError("trace names no column: at (arrivals), seconds (service times), or both")
    return read(folder / file, *columns)


def _times(name: str, value: Any, trace: Trace, *, zero: bool = False) -> Times:
    if value == "trace":
        if not trace.seconds:
            validation.refuse(name, value, "a distribution, since no [trace] names `seconds`")
        return Times("trace", 0.0)
    if not isinstance(value, Mapping):
        return Times("constant", validation.duration(name, value, zero=zero))
    keys = Keys(name, cast("object", value), ("kind", "mean", "sigma", "alpha"))
    kind = keys.one_of("kind", "constant", DISTRIBUTIONS[:-1])
    mean, shape = keys.seconds("mean"), 0.0
    for word, of in (("sigma", "lognormal"), ("alpha", "pareto")):
        if kind != of:
            keys.refuse_beside(word, f"kind is {kind!r}")
    if kind == "lognormal":
        shape = keys.number("sigma", least=0.0, most=5.0)
    elif kind == "pareto":
        shape = keys.number("alpha", least=1.01, most=100.0)
    return Times(kind, mean, shape)


def _clients(data: Any, trace: Trace) -> ClientsPlan:
    keys = Keys("clients", data, _CLIENTS)
    kind = keys.one_of("kind", "open", ("open", "closed"))
    rate, arrivals, users, think = 0.0, "", 0, Times("constant", 0.0)
    if kind == "closed":
        for word in ("rate", "arrivals"):
            keys.refuse_beside(word, "kind is 'closed'")
        users = keys.count("users")
        think = _times("clients.think", keys.take("think"), Trace())
    else:
        for word in ("users", "think"):
            keys.refuse_beside(word, "kind is 'open'")
        arrivals = keys.one_of("arrivals", "poisson", ("poisson", "even", "trace"))
        if arrivals != "trace":
            rate = keys.number("rate", least=0.001, most=_RATE)
        else:
            keys.refuse_beside("rate", "arrivals is 'trace'")
            if not trace.at:
                validation.refuse(
                    "clients.arrivals", "trace", "'poisson' or 'even', since no [trace] names `at`"
                )
    return ClientsPlan(
        kind=kind,
        arrivals=arrivals,
        rate=rate,
        users=users,
        think=think,
        deadline=keys.seconds("deadline"),
        gives_up=keys.flag("gives_up"),
        processes=keys.count("processes", 1),
        keys=keys.count("keys") if "keys" in keys else 0,
    )


def _service(data: Any, trace: Trace) -> ServicePlan:
    keys = Keys("service", data, _SERVICE)
    return ServicePlan(
        workers=keys.count("workers"),
        queue=keys.count("queue", least=0) if "queue" in keys else None,
        time=_times("service.time", keys.take("time"), trace),
        errors=keys.number("errors", 0.0, least=0.0, most=1.0),
        drops_abandoned=keys.flag("drops_abandoned"),
    )


def _fault(number: int, data: Any, known: int) -> Fault:
    where = f"fault {number}"
    keys = Keys(where, data, ("kind", "at", "seconds", "keys", *_AMOUNTS.values()))
    kind = one_of(keys.name("kind"), keys.take("kind"), FAULTS)
    for of, word in _AMOUNTS.items():
        if of != kind:
            keys.refuse_beside(word, f"kind is {kind!r}")
    amount = 0.0
    if kind == "slow":
        amount = keys.number("times", least=0.01, most=1e6)
    elif kind == "errors":
        amount = keys.number("share", least=0.0, most=1.0)
    elif kind == "workers":
        amount = float(keys.count("workers", least=0))
    if kind == "workers":
        keys.refuse_beside("keys", "kind is 'workers', which all keys share")
    elif not known:
        keys.refuse_beside("keys", "clients.keys is left out")
    sick = keys.count("keys", most=known) if "keys" in keys else 0
    if sick and sick == known:
        raise ValueError(f"{where}.keys is {sick}, as many as there are: leave it out")
    return Fault(kind, keys.seconds("at", zero=True), keys.seconds("seconds"), amount, sick)


def _policies(found: list[Any], known: int) -> tuple[PolicyPlan, ...]:
    if not found:
        raise ValueError("policy is missing: a scenario has at least one")
    plans: list[PolicyPlan] = []
    for number, data in enumerate(found, 1):
        keys = Keys(f"policy {number}", data, _POLICY)
        name = validation.name_of(keys.name("name"), keys.take("name"))
        if any(plan.name == name for plan in plans):
            validation.refuse(keys.name("name"), name, "a name that no other policy has")
        guards = _maker(f"policy {name!r}, guard", keys.list("guards", []))
        shadow = _maker(f"policy {name!r}, shadow", keys.list("shadows", []))
        keyed, collapse = keys.flag("keyed"), keys.flag("collapse")
        if keyed and not known:
            keys.refuse_beside("keyed", "clients.keys is left out")
        if not keyed:
            keys.refuse_beside("max_keys", "keyed is not true")
        most = keys.count("max_keys", MAX_KEYS, most=100_000) if keyed else 0
        plans.append(PolicyPlan(name, guards, shadow, most, collapse))
        try_out(plans[-1])
    return tuple(plans)


def _maker(where: str, tables: list[Any]) -> Any:
    """Return what makes the guards of some tables."""
    for place, table in enumerate(tables, 1):
        if not isinstance(table, Mapping):
            validation.refuse_type(f"{where} {place}", table, 'a table such as {guard = "timeout"}')
        guard_of(f"{where} {place}", cast("Mapping[str, Any]", table))  # a bad option is told now

    def make() -> tuple[Any, ...]:
        return tuple(guard_of(f"{where} {n}", each) for n, each in enumerate(tables, 1))

    return make


def _expected(
    data: Any, names: tuple[str, ...], faults: tuple[Fault, ...], seconds: float,
    clients: ClientsPlan,
) -> Expected:  # fmt: skip
    keys = Keys("expect", data, ("of", "goodput_back", "within", "goodput", *_ELSE))
    back = keys.maybe_number("goodput_back", least=0.0, most=1.0)
    within = keys.seconds("within", 30.0, zero=True)
    if back is None:
        keys.refuse_beside("within", "goodput_back is left out")
    elif not faults:
        raise ValueError("expect.goodput_back needs a [[fault]]")
    else:
        _check_room(faults, seconds, within, clients.deadline)
    if not any(fault.keys for fault in faults):
        keys.refuse_beside("other_keys", "no [[fault]] is one of some keys alone")
    of = keys.list("of", list(names))
    for word in of:
        if word not in names:
            hint = validation.did_you_mean(word, names) or "."
            raise ValueError(
                f"expect.of: no policy is named {validation.shown(word)}{hint} "
                f"There is: {', '.join(names)}"
            )
    expected = Expected(
        of=tuple(of),
        goodput_back=back,
        within=within,
        goodput=keys.maybe_number("goodput", least=0.0, most=1.0),
        attempts=keys.maybe_number("attempts", least=0.0, most=1e6),
        other_keys=keys.maybe_number("other_keys", least=0.0, most=1.0),
    )
    if {back, expected.goodput, expected.attempts, expected.other_keys} == {None}:
        raise ValueError(
            "expect says nothing: give it goodput_back, goodput, attempts or other_keys"
        )
    return expected


def _check_room(faults: tuple[Fault, ...], seconds: float, within: float, deadline: float) -> None:
    """Check that there is time to compare before the faults and after them."""
    first, last = min(fault.at for fault in faults), max(fault.end for fault in faults)
    if first < deadline + 5:
        validation.refuse(
            "fault.at", first,
            f"at least {deadline + 5:g}: expect.goodput_back needs 5 s before the first fault in "
            "which no call can meet it",
        )  # fmt: skip
    if last + within + 5 > seconds:
        validation.refuse(
            "seconds", seconds,
            f"at least {last + within + 5:g}: the last fault ends at {last:g}, expect.within is "
            f"{within:g}, and 5 s after that are looked at",
        )  # fmt: skip
