"""What happens to a real service: a time of health, one fault for each alert, and the way back.

A Prometheus scrapes it every second, with rules in which an hour is 36 s (and, for what takes
hours, 2 s). All faults are there at once, each in a policy or flag of its own.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resilient.monitoring.alerts import OBJECTIVES, Alerts, as_yaml
from resilient.monitoring.dashboard import dashboard, queries
from resilient.monitoring.declared import Declared, in_pages

from ..servers.prometheus import Alert, Prometheus, PrometheusError, Rule, Target
from .running import Load, Service

RATE = 20.0  # requests a second that each worker gets, each of which asks every dependency
HEALTH = 7.0  # seconds without a fault
LEAST = 9.0  # seconds that a fault lasts which must not be taken for another one
LONGEST = 25.0  # seconds in which all alerts must fire, and in which those must end that can
SCALE, SCALE_OF_HOURS, SCALE_OF_STORE = 0.01, 0.0005, 0.05
OF_HOURS = {
    "ResilientOverrideForgotten", "ResilientFlagForgotten", "ResilientFlagStale",
    "ResilientFlagDisagrees", "ResilientPoliciesFolded",
}  # fmt: skip
OF_STORE = {"ResilientStoreSilent"}
SELECTOR = 'job="shop"'

Key = tuple[str, str]  # the name of an alert, and the policy or flag that it is about

BURN, LEAK, MILD = "ResilientErrorsBurn", "ResilientErrorsLeak", "ResilientDegraded"
RIGHT_FROM_THE_START: set[Key] = {("ResilientFlagStale", "stale")}
# What must fire after each fault, and what of it must end with the fault, within the run.
ENDS: set[Key] = {
    (BURN, "burning"), (BURN, "outage"), (BURN, "switched"), (MILD, "degraded"),
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
    "burning": "down", "leaking": "each 25", "degraded": "down", "outage": "down",
    "switched": "down", "flapping": "comes-and-goes", "hanging": "hangs",
}  # fmt: skip
# The levers that the run pulls, once their alert fires.
PULLED: list[Key] = [
    (BURN, "switched"), ("ResilientOverrideForgotten", "forced"),
    ("ResilientFlagForgotten", "old-look"), ("ResilientFlagDisagrees", "search-v2"),
    ("ResilientStoreSilent", ""),
]  # fmt: skip


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
        self.ended_at: dict[Key, float] = {}  # seconds after the last fault ended
        self.now: dict[Key, str] = {}
        self.answers: dict[str, int] = {query: 0 for query in queries(dashboard(selector=SELECTOR))}
        self.refused: dict[str, str] = {}
        self.levers: dict[str, tuple[int, str]] = {}
        self.rules: list[Rule] = []
        self.exported: set[str] = set()
        self.told: list[dict[str, Any]] = []  # the last answer of each worker
        self.took: dict[str, float] = {}
        self._pulling: dict[str, subprocess.Popen[str]] = {}

    # -- the course of events ---------------------------------------------

    def play(self) -> None:
        """Let it all happen."""
        service, prometheus = self.service, self.prometheus
        with self._timed("all"):
            with self._timed("start"):
                prometheus.start([Target(service.address, job="shop")])
                load = Load(service, RATE)
            with load:
                self._events(load)
                self.told = list(load.last.values())
            assert not load.faults, load.faults
            self.rules = prometheus.rules()
            names = prometheus.query('count by (__name__) ({__name__=~"resilient_.*"})')
            self.exported = {row["metric"]["__name__"] for row in names}

    def _events(self, load: Load) -> None:
        service, prometheus = self.service, self.prometheus
        with self._timed("first scrape"):
            prometheus.wait_until(lambda: sum(load.asked.values()) > 10, 10)
            self.declared = in_pages(service.pages)
            prometheus.reload(rules=rules(self.declared))
            prometheus.scraped()
        with self._timed("health"):
            self._until(lambda: False, HEALTH, lambda: self.healthy.append(self.now))
        began = time.monotonic()
        with self._timed("faults"):
            self._begin(load)
            quick = {key for key in ENDS | STAYS if key[1] in FAULTS} - {(MILD, "switched")}
            self._until(lambda: quick <= set(self.fired_at), LONGEST, lambda: self._note(began))
            service.suffers("degraded")
            self._pull((BURN, "switched"))
            rest = set(PULLED) | {key for key in ENDS if key not in quick}
            self._until(
                lambda: rest <= set(self.fired_at) and time.monotonic() - began > LEAST,
                LONGEST, lambda: self._note(began),
            )  # fmt: skip
        with self._timed("way back"):
            self._end(load)
            ended = time.monotonic()
            self._until(
                lambda: ENDS.isdisjoint(self.now) and ENDS | STAYS <= set(self.fired_at), LONGEST,
                lambda: (self._note(began), self._note_end(ended)),
            )  # fmt: skip
            for lever, process in self._pulling.items():
                said, _ = process.communicate(timeout=10)
                self.levers[lever] = process.returncode, said

    def _begin(self, load: Load) -> None:
        """Have everything go wrong: last of all, one of two processes is cut off from the store."""
        service = self.service
        for name, what in FAULTS.items():
            service.suffers(name, what)
        service.suffers("split", f"down {load.pids[0]}")
        load.order(load.pids[1], "/more/yes")
        page = service.pages / "1-broken.page"
        page.write_bytes(b"no page")
        page.chmod(0o600)
        for words in (
            ("policies", "force-open", "forced"), ("flags", "off", "old-look"),
            ("policies", "force-open", "timed", "--for", "30m"),
            ("flags", "off", "banner", "--for", "30m"),
        ):  # fmt: skip
            service.resilient(*words, "--reason", "to see")
        service.suffers(f"deaf-{load.pids[0]}", "yes")
        service.pulls("resilient flags off search-v2 --for 30m --reason half --wait 0.1s").wait(10)

    def _end(self, load: Load) -> None:
        service = self.service
        for name in [*FAULTS, "split", f"deaf-{load.pids[0]}"]:
            service.suffers(name)
        (service.pages / "1-broken.page").unlink()
        for key in PULLED:
            self._pull(key)

    def _pull(self, key: Key) -> None:
        if key in self.fired:
            lever = self.fired[key]["annotations"]["lever"]
            if lever not in self._pulling:
                self._pulling[lever] = self.service.pulls(lever)

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

    def _note(self, began: float) -> None:
        for key, state in self.now.items():
            if state == "firing":
                self.fired_at.setdefault(key, time.monotonic() - began)

    def _note_end(self, ended: float) -> None:
        for key in self.fired_at:
            if key in self.now:
                self.ended_at.pop(key, None)
            else:
                self.ended_at.setdefault(key, time.monotonic() - ended)

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
    return query.replace("$policy", ".*").replace("$__rate_interval", "5s")
