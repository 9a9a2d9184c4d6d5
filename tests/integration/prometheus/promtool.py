"""Rules tried out by promtool: series by the minute, and which alert fires when."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from resilient.monitoring.alerts import Alerts
from resilient.monitoring.inventory import Declared, Flag, Policy
from resilient.monitoring.rule_file import as_yaml
from resilient.prometheus.catalogue import known, name_and_type
from tests.kit.servers.prometheus import promtool_check_rules, promtool_test_rules

Fired = tuple[dict[str, str], dict[str, str]]  # labels and annotations
Expected = dict[tuple[str, int], list[Fired]]  # by the name of the alert, and the minute
NAME = re.compile(r"\bresilient_\w+")  # of a series in a query
AGES = 10_000  # minutes that a series without an end lasts


def exported() -> set[str]:
    """Return the names of all series that there may be."""
    found = set()
    for metric in known():
        family, kind = name_and_type(metric)
        ends = {
            "counter": ["_total"],
            "info": ["_info"],
            "histogram": ["_bucket", "_count", "_sum"],
        }
        found |= {family + end for end in ends.get(kind, [""])}
    return found


def policy(name: str = "pay", **about: Any) -> Policy:
    """Return a declared policy."""
    known = {"owner": "team-pay", "tier": 2, "impact": "Nobody can pay.", "covered": True}
    return Policy(name, {**known, **about})


def flag(name: str = "recs", **about: Any) -> Flag:
    """Return a declared flag."""
    return Flag(name, {"owner": "team-recs", "impact": "The page shows the top 100.", **about})


def counter(*parts: tuple[float, int]) -> str:
    """Return a counter that begins at 0 and grows by so much a minute, for so many minutes each."""
    said, value = ["0"], 0.0
    for step, minutes in parts:
        said.append(f"{value + step:g}+{step:g}x{minutes - 1}")
        value += step * minutes
    return " ".join(said)


def gauge(*parts: tuple[float, int]) -> str:
    """Return a gauge that says so much, for so many minutes each, from minute 0 on."""
    return " ".join(f"{value:.15g}x{minutes - 1}" for value, minutes in parts)


def always(value: float) -> str:
    """Return a gauge that never changes."""
    return gauge((value, AGES))


def written(path: Path, declared: Declared, **options: Any) -> Path:
    """Write the rules for what is declared, which must be good."""
    path.write_text(as_yaml(Alerts(declared, **options).groups()))
    good, said = promtool_check_rules(path)
    assert good, said
    return path


def alerts(declared: Declared, **options: Any) -> list[dict[str, Any]]:
    """Return the rules of all alerts that there are for what is declared."""
    groups = Alerts(declared, **options).groups()
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


class Trial:
    """Rules for what is declared, and series for them to look at."""

    def __init__(
        self, home: Path, policies: Iterable[Policy] = (), flags: Iterable[Flag] = (), *,
        step: int = 1, **options: Any,
    ) -> None:  # fmt: skip
        self._home = home
        self._step = step  # minutes between two evaluations
        self.declared = Declared(policies, flags)
        self.series: dict[str, str] = {}
        self.files: list[Path] = []
        self._groups: list[str] = []
        self.more_rules(self.declared, **options)

    def more_rules(self, declared: Declared, **options: Any) -> None:
        """Have a file of rules read, after those before."""
        path = self._home / f"rules-{len(self.files)}.yml"
        self.files.append(written(path, declared, **options))
        found = (group["name"] for group in Alerts(declared, **options).groups())
        self._groups = list(dict.fromkeys([*self._groups, *found]))

    def says(self, name: str, values: str, job: str = "shop", **labels: str) -> None:
        """Give a series its values, in place of those it had."""
        said = {"job": job, "instance": "a:80", **labels}
        inside = ",".join(f"{label}={json.dumps(said[label])}" for label in sorted(said))
        self.series[f"resilient_{name}{{{inside}}}"] = values

    def served(
        self, full: str, *, error: str = "", degraded: str = "", own: str = "", **labels: str
    ) -> None:
        """Say what callers of a policy got."""
        labels = {"policy": "pay", **labels}
        for served, values in (
            ("full", full), ("degraded", degraded), ("error", error), ("caller_error", own),
        ):  # fmt: skip
            self.says("served_total", values or always(0), **labels, served=served)

    def healthy(
        self, policy: str = "pay", flag: str = "recs", job: str = "shop", **at: str
    ) -> None:
        """Say all there is to say of a service of two processes in which nothing is wrong."""
        of = {"policy": policy, "job": job, **at}
        self.served(counter((600, AGES)), **of)
        for state, number in (("closed", 2), ("open", 0), ("half_open", 0)):
            self.says("breaker_workers", always(number), **of, state=state)
            self.says("breaker_transitions_total", always(0), **of, to=state, cause="auto")
        self.says("abandoned_workers", always(0), **of)
        self.says("worker_limit", always(20), **of)
        for kind in ("forced_open", "forced_closed"):
            self.says("override_active", always(0), **of, kind=kind)
        whose = {"flag": flag, "job": job, **at}
        self.says("flag_enabled", always(1), **whose)
        for state, number in (("on", 2), ("off", 0)):
            self.says("flag_processes", always(number), **whose, state=state)
        for name, value in (
            ("processes", 2.0), ("flag_sync_age_seconds", 0.7), ("pages_unread", 0.0),
            ("policies_in_other", 0.0),
        ):  # fmt: skip
            self.says(name, always(value), job=job, **at)

    def expect(self, expected: Expected, quiet: Iterable[int] = ()) -> None:
        """Check which alerts fire; every other one is silent at the same minutes, and at more."""
        minutes = sorted({minute for _, minute in expected} | set(quiet))
        every = {rule["alert"] for rule in alerts(self.declared)}
        said = [
            {
                "eval_time": f"{minute}m",
                "alertname": name,
                "exp_alerts": [
                    {"exp_labels": labels, "exp_annotations": annotations}
                    for labels, annotations in expected.get((name, minute), [])
                ],
            }
            for name in sorted(every | {name for name, _ in expected})
            for minute in minutes
        ]
        self._try(said)

    def only(self, name: str, expected: Mapping[int, list[Fired]]) -> None:
        """Check what fires of one alert at some minutes, whatever others do."""
        self._try([
            {
                "eval_time": f"{minute}m", "alertname": name,
                "exp_alerts": [{"exp_labels": labels, "exp_annotations": said} for labels, said in fired],
            }
            for minute, fired in expected.items()
        ])  # fmt: skip

    def answers(self, expected: Mapping[str, list[tuple[str, float]]], minute: int) -> None:
        """Check what queries return at a minute: labels as text, and the value."""
        asked = [
            {
                "expr": query, "eval_time": f"{minute}m",
                "exp_samples": [{"labels": labels, "value": value} for labels, value in samples],
            }
            for query, samples in expected.items()
        ]  # fmt: skip
        self._try([], asked)

    def _try(self, said: list[dict[str, Any]], asked: list[dict[str, Any]] | None = None) -> None:
        series = [{"series": name, "values": values} for name, values in self.series.items()]
        tests = {
            "rule_files": [file.name for file in self.files],
            "evaluation_interval": f"{self._step}m",
            "group_eval_order": self._groups,  # in any order without it
            "tests": [
                {
                    "interval": "1m",
                    "input_series": series,
                    "alert_rule_test": said,
                    "promql_expr_test": asked or [],
                }
            ],
        }
        path = self._home / "tests.yml"
        path.write_text(json.dumps(tests, ensure_ascii=False))
        good, why = promtool_test_rules(path)
        assert good, why

    def fires(self, name: str, minute: int, *fired: Fired) -> None:
        """Check that an alert fires at a minute, not at the one before, and that no other does."""
        self.expect({(name, minute): list(fired)}, quiet=[minute - self._step])


OFF = 'resilient policies force-open pay --reason "..." --for 30m'
LOOK = "resilient policies show pay"
CAUTION = (
    "nothing answers in its place: forcing it open would turn what is served in full into errors"
)
PASSED = (
    "it has a fallback, which fails or does not answer these errors: `resilient top` tells whether "
    "cutting it off would help"
)
RELEASE = 'resilient policies release pay --reason "..."'


def of_policy(
    severity: str, summary: str, *, lever: str = OFF, tier: int | None = 2, policy: str = "pay",
    **labels: str,
) -> Fired:  # fmt: skip
    """Return the labels and annotations of an alert on a policy, which has a fallback."""
    said = {"job": "shop", "policy": policy, "owner": "team-pay", "severity": severity, **labels}
    if tier is not None:
        said["tier"] = str(tier)
    caution = {}
    if " errors" in summary and lever == OFF:
        lever, caution = LOOK, {"caution": PASSED}
    lever = re.sub(r" pay(?= |$)", f" {policy}", lever)
    said_of_it = {"summary": f"{policy}: {summary}", "impact": "Nobody can pay.", "lever": lever}
    return said, {**said_of_it, **caution}


def of_flag(severity: str, summary: str, *, lever: str, **labels: str) -> Fired:
    """Return the labels and annotations of an alert on a flag."""
    said = {"job": "shop", "flag": "recs", "owner": "team-recs", "severity": severity, **labels}
    text = f"recs: {summary}"
    return said, {"summary": text, "impact": "The page shows the top 100.", "lever": lever}


# -- what Google's workbook says, in plain arithmetic ---------------------------------------------

Pairs = tuple[tuple[float, int, int], ...]  # how fast a budget burns, in two windows of minutes
FAST: Pairs = ((14.4, 60, 5), (6.0, 360, 30))
SLOW: Pairs = ((3.0, 1440, 120), (1.0, 4320, 360))
MILD: Pairs = ((6.0, 360, 30), (3.0, 1440, 120))  # of degraded answers


class Minutes:
    """Calls by the minute, and those of them that were bad."""

    def __init__(self, *parts: tuple[int, int, int]) -> None:
        self.parts = parts  # good ones and bad ones a minute, and for how many minutes
        self._all, self._bad = [0], [0]
        for good, bad, minutes in parts:
            for _ in range(minutes):
                self._all.append(self._all[-1] + good + bad)
                self._bad.append(self._bad[-1] + bad)

    @property
    def good(self) -> str:
        """The counter of good calls."""
        return counter(*((good, minutes) for good, _, minutes in self.parts))

    @property
    def bad(self) -> str:
        """The counter of bad calls."""
        return counter(*((bad, minutes) for _, bad, minutes in self.parts))

    def _since(self, counts: list[int], minute: int, window: int) -> int:
        return counts[minute] - counts[max(0, minute - window)]

    def _share(self, minute: int, window: int) -> float:
        calls = self._since(self._all, minute, window)
        return self._since(self._bad, minute, window) / calls if calls else 0.0

    def burns(self, minute: int, budget: float, pairs: Pairs) -> float | None:
        """Return the share that an alert tells of at a minute, None where it is silent."""
        for speed, long, short in pairs:
            limit = min(speed * budget, 0.99)
            shares = self._share(minute, long), self._share(minute, short)
            if min(shares) > limit and self._since(self._all, minute, long) >= 100:
                return shares[0]
        return None

    def turns(self, budget: float, pairs: Pairs) -> set[int]:
        """Return the minutes at which an alert begins or ends, and those before them."""
        last = sum(minutes for _, _, minutes in self.parts)
        fires = [self.burns(minute, budget, pairs) is not None for minute in range(last)]
        moves = [minute for minute in range(1, last) if fires[minute] != fires[minute - 1]]
        return {minute - before for minute in moves for before in (0, 1)}
