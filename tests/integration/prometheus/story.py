"""What happens to a real service: a time of health, one fault for each alert, and the way back.

A Prometheus scrapes it every second, with rules in which an hour is 36 s (and, for what takes
hours, 2 s). All faults are there at once, each in a policy or flag of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resilient.monitoring.alerts import OBJECTIVES, Alerts
from resilient.monitoring.dashboard import dashboard, queries
from resilient.monitoring.inventory import Declared, in_pages
from resilient.monitoring.rule_file import as_yaml
from tests.integration.prometheus.running import Load, Pulled, Service
from tests.kit.servers.prometheus import Alert, Prometheus, PrometheusError, Rule, Target

RATE = 20.0  # requests a second that each worker gets, each of which asks every dependency
HEALTH = 6.0  # seconds without a fault
LEAST = {"outage": 7.0}  # seconds of a fault that must not be taken for another one
HEARD = 4.0  # seconds until a process that was cut off has been heard of again
LONGEST = 44.0  # seconds after the first fault; by then all has fired, and ended where it can
SCALE, SCALE_OF_HOURS, SCALE_OF_STORE = 0.01, 0.0005, 0.05
OF_HOURS = {
    "ResilientOverrideForgotten", "ResilientFlagForgotten", "ResilientFlagStale",
    "ResilientFlagDisagrees", "ResilientPoliciesFolded",
}  # fmt: skip
OF_STORE = {"ResilientStoreSilent"}
SELECTOR = 'job="shop"'
PRINT = f"resilient metrics alerts --selector '{SELECTOR}'"

Key = tuple[str, str]  # the name of an alert, and the policy or flag that it is about

BURN, LEAK, MILD = "ResilientErrorsBurn", "ResilientErrorsLeak", "ResilientDegraded"
RIGHT_FROM_THE_START: set[Key] = {("ResilientFlagStale", "stale")}
# What must fire after each fault, and what of it must end with the fault, within the run.
ENDS: set[Key] = {
    (BURN, "burning"), (BURN, "outage"), (BURN, "switched"), (MILD, "degraded"),
    (MILD, "cut"), ("ResilientFullyDegraded", "cut"),
    ("ResilientCircuitFlaps", "flapping"), ("ResilientProcessesDisagree", "split"),
    ("ResilientWorkersAbandoned", "hanging"), ("ResilientOverrideForgotten", "forced"),
    ("ResilientFlagForgotten", "old-look"), ("ResilientFlagDisagrees", "search-v2"),
    ("ResilientStoreSilent", ""), ("ResilientPagesUnread", ""),
}  # fmt: skip
STAYS: set[Key] = {
    (LEAK, "burning"), (LEAK, "leaking"), (LEAK, "outage"), (LEAK, "switched"),
    (MILD, "switched"),  # once its switch has been turned off, as the alert says
    ("ResilientPoliciesFolded", ""),
}  # fmt: skip
FAULTS = {
    "burning": "down", "leaking": "each 25", "degraded": "down", "cut": "down", "outage": "down",
    "switched": "down", "flapping": "comes-and-goes", "hanging": "hangs",
}  # fmt: skip
# The levers that the run pulls: one while its fault goes on, others once all processes hear again.
AT_ONCE: Key = (BURN, "switched")
LATER: set[Key] = {
    ("ResilientOverrideForgotten", "forced"), ("ResilientFlagForgotten", "old-look"),
    ("ResilientFlagDisagrees", "search-v2"), ("ResilientStoreSilent", ""),
}  # fmt: skip


def rules(declared: Declared) -> str:
    """Return the rules, each on the scale on which its story takes seconds."""
    objectives = {**OBJECTIVES, 9: 0.001}
    made, hours, store = (
        Alerts(declared, objectives, selector=SELECTOR, scale=scale).groups()
        for scale in (SCALE, SCALE_OF_HOURS, SCALE_OF_STORE)
    )
    for others, these in ((hours, OF_HOURS), (store, OF_STORE)):
        for group, other in zip(made, others, strict=True):
            for place, rule in enumerate(other["rules"]):
                if rule.get("alert") in these:
                    group["rules"][place] = rule
    return as_yaml(made)


TIERS = {
    "healthy": 1, "burning": 1, "cut": 1, "leaking": 3, "degraded": None, "outage": 2, "switched": 2,
    "flapping": 9, "split": 9, "hanging": 9, "forced": 9, "timed": 9,
}  # fmt: skip
FLAGS = {
    "recs": "The page shows the top 100.", "old-look": "The page looks as last year.",
    "banner": "No banner.", "beta": "Nothing new is seen.", "stale": "No snow on the page.",
    "search-v2": "Search finds less.",
}  # fmt: skip


def about(alert: Alert) -> Key:
    """Return what an alert is about."""
    labels = alert["labels"]
    return alert["name"], labels.get("policy") or labels.get("flag", "")


class Run:
    """The run, and all that was seen of it."""

    def __init__(self, home: Path, prometheus: Prometheus) -> None:
        self.service = Service(home)
        self.prometheus = prometheus
        self.declared = Declared([], [])
        self.healthy: list[dict[Key, str]] = []  # each look: the states of the alerts
        self.fired: dict[Key, Alert] = {}  # as it was when it first fired
        self.fired_at: dict[Key, float] = {}  # seconds after the faults began
        self.ended_at: dict[Key, float] = {}
        self.now: dict[Key, str] = {}
        self.answers: dict[str, int] = dict.fromkeys(queries(dashboard(selector=SELECTOR)), 0)
        self.refused: dict[str, str] = {}
        self.levers: dict[str, tuple[int, str]] = {}
        self.rules: list[Rule] = []
        self.exported: set[str] = set()
        self.told: list[dict[str, Any]] = []  # the last answer of each worker
        self.took: dict[str, float] = {}
        self._pulled: dict[str, Pulled] = {}
        self._deaf = False
        self._hears = 0.0  # since when it does again

    # -- the course of events ---------------------------------------------

    def play(self) -> None:
        """Let it all happen."""
        with self._timed("all"):
            with self._timed("start"):
                self.prometheus.start([Target(self.service.address, job="shop")])
                load = Load(self.service, RATE)
            with load:
                with self._timed("first scrape"):
                    self._watched(load)
                with self._timed("health"):
                    self._until(lambda: False, HEALTH, lambda: self.healthy.append(self.now))
                with self._timed("faults"):
                    self._faults(load)
                self.told = list(load.last.values())
            self.levers = {lever: pulled.end() for lever, pulled in self._pulled.items()}
            assert not load.faults, load.faults
            self.rules = self.prometheus.rules()
            names = self.prometheus.query('count by (__name__) ({__name__=~"resilient_.*"})')
            self.exported = {row["metric"]["__name__"] for row in names}

    def close(self) -> None:
        """End all that still runs."""
        for pulled in self._pulled.values():
            pulled.kill()
        self.service.stop()

    def _watched(self, load: Load) -> None:
        """Have Prometheus know the rules, and scrape."""
        self.prometheus.wait_until(lambda: min(load.asked.values()) > 10, 10)
        self._pulled[PRINT] = self.service.pulls(PRINT)
        self.declared = in_pages(self.service.pages)
        self.prometheus.reload(rules=rules(self.declared))
        self.prometheus.scraped()

    def _faults(self, load: Load) -> None:
        """Have everything go wrong, and each thing be well again once its alerts have fired."""
        service, began = self.service, time.monotonic()
        page = service.pages / "1-broken.page"
        page.write_bytes(b"no page")
        page.chmod(0o600)
        for name, what in FAULTS.items():
            service.suffers(name, what)
        service.suffers("split", f"down {load.pids[0]}")
        load.order(load.pids[1], "/more/yes")
        self._flipped(
            "policies force-closed forced", "policies force-closed timed --for 30m",
            "flags off old-look", "flags off banner --for 30m",
        )  # fmt: skip

        def look() -> None:
            self._note(time.monotonic() - began)
            for name in {*FAULTS, "split"} - {"leaking"}:
                keys = {key for key in ENDS | STAYS if key[1] == name}
                if keys <= set(self.fired_at) and time.monotonic() - began > LEAST.get(name, 0):
                    service.suffers(name)
            if ("ResilientPagesUnread", "") in self.fired_at:
                page.unlink(missing_ok=True)
            self._cut_off(load.pids[0])

        def over() -> bool:
            return set(self.fired_at) >= ENDS | STAYS and ENDS.isdisjoint(self.now)

        self._until(over, LONGEST, look)

    def _flipped(self, *flips: str) -> None:
        """Flip some levers, all at once."""
        for words in flips:
            self._pulled[words] = self.service.pulls(f"resilient {words} --reason test")
        for words in flips:
            code, said = self._pulled.pop(words).end()
            assert code == 0, said

    def _cut_off(self, pid: int) -> None:
        """Pull a lever; then cut one process off from the store until that was told of."""
        if AT_ONCE in self.fired:
            self._pull(AT_ONCE)
        if not all(pulled.over() for pulled in self._pulled.values()):
            return
        if AT_ONCE in self.fired and not self._deaf:
            self._deaf = True
            self.service.suffers(f"deaf-{pid}", "yes")
            half = "resilient flags off search-v2 --for 30m --reason test --wait 0.1s"
            self._pulled[half] = self.service.pulls(half)
        if set(self.fired) >= LATER:
            self.service.suffers(f"deaf-{pid}")
            self._hears = self._hears or time.monotonic()
            if time.monotonic() - self._hears > HEARD:  # it may have been silent for long
                for key in sorted(LATER):
                    self._pull(key)

    def _pull(self, key: Key) -> None:
        lever = self.fired[key]["annotations"]["lever"]
        if lever not in self._pulled:
            self._pulled[lever] = self.service.pulls(lever)

    # -- looking ---------------------------------------------

    def _until(self, done: Callable[[], bool], within: float, look: Callable[[], Any]) -> None:
        end = time.monotonic() + within
        while time.monotonic() < end and not done():
            seen: dict[Key, str] = {}
            for alert in self.prometheus.alerts():
                seen[about(alert)] = alert["state"]
                if alert["state"] == "firing":
                    self.fired.setdefault(about(alert), alert)
            self.now = seen
            look()
            self._ask()
            time.sleep(0.25)

    def _note(self, at: float) -> None:
        for key, state in self.now.items():
            if state == "firing":
                self.fired_at.setdefault(key, round(at, 1))
        for key in self.fired_at:
            if key in self.now:
                self.ended_at.pop(key, None)
            else:
                self.ended_at.setdefault(key, round(at, 1))

    def _ask(self) -> None:
        """Ask what a dashboard asks, until there was an answer."""
        for query, answered in self.answers.items():
            if not answered:
                try:
                    self.answers[query] = len(self.prometheus.query(shown(query)))
                except PrometheusError as error:
                    self.refused[query] = str(error)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.took[what] = round(time.monotonic() - began, 1)


def shown(query: str) -> str:
    """Return a query as Grafana asks it, of all policies."""
    return query.replace("$policy", ".*").replace("$job", ".*").replace("$__rate_interval", "5s")
