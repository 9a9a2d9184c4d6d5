"""Alert rules for Prometheus: on what customers get, on levers, and on imminent harm.

The burn rates over two windows each are those of Google's *Site Reliability Workbook* (2018),
chapter 5, "Alerting on SLOs".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

from .. import validation
from .expressions import OWN, Expressions
from .inventory import DOCTOR, Declared, Flag, Policy
from .rule_file import Rule

OBJECTIVES: Final[Mapping[int | None, float]] = {1: 0.999, 2: 0.995, 3: 0.99, None: 0.995}
FULLY: Final = 0.95  # share of degraded answers from which a policy counts as fully degraded
FEW: Final = 10  # calls within _SOON that this needs at least
DEGRADED: Final = 0.95  # share of answers that should not be degraded, whatever the tier

_UNCOVERED: Final = (
    "nothing answers in its place: forcing it open would turn what is served in full into errors"
)
_PASSED: Final = (
    "it has a fallback, which fails or does not answer these errors: `resilient top` tells whether "
    "cutting it off would help"
)
_COUNTED: Final = "{{ $value | humanizePercentage }} of the calls, callers' own errors aside"
# Severity, how fast the budget burns, and the long and the short window that show it.
_FAST: Final = ((14.4, 3600, 300), (6.0, 21_600, 1800))
_SLOW: Final = ((3.0, 86_400, 7200), (1.0, 259_200, 21_600))
_SOON: Final = 180
_HOURS: Final = 4  # a lever without an end counts as forgotten after so many hours


class Alerts:
    """Builds the rules for the declared policies and flags.

    Args:
        declared: the policies and flags.
        objectives: by tier, the share of calls that must not end in an error.
        selector: labels that the series must have too, such as ``job="shop"``.
        runbook: the URL of a runbook, in which ``{name}``, ``{kind}``, ``{owner}`` and
            ``{alert}`` are filled in; ``""`` for none.
        scale: a factor for all times; 1, except in tests.
    """

    def __init__(
        self,
        declared: Declared,
        objectives: Mapping[int | None, float] = OBJECTIVES,
        *,
        selector: str = "",
        runbook: str = "",
        scale: float = 1.0,
    ) -> None:
        self._declared = declared
        self._objectives = objectives
        self._runbook = runbook
        self._ql = Expressions(selector, scale)

    def groups(self) -> list[dict[str, Any]]:
        """Return the groups of a rule file."""
        groups = [{"name": "resilient-ratios", "rules": list(self._ql.recordings())}]
        owners: dict[str, list[Rule]] = {}
        for policy in self._declared.policies:
            owners.setdefault(policy.owner, []).extend(self._of_policy(policy))
        for flag in self._declared.flags:
            owners.setdefault(flag.owner, []).extend(self._of_flag(flag))
        for owner in sorted(owners):
            name = f"resilient-of-{owner}"
            groups.append({"name": name, "rules": owners[owner]})
        groups.append({"name": "resilient-itself", "rules": list(self._of_itself())})
        return groups

    # -- what is watched ---------------------------------------------

    def _of_policy(self, policy: Policy) -> Iterator[Rule]:
        yield from self._of_customers(policy)
        yield from self._of_circuit(policy)
        yield from self._of_operation(policy)

    def _of_customers(self, policy: Policy) -> Iterator[Rule]:
        """Yield the rules on what callers get."""
        budget = 1 - self._objectives.get(policy.tier, self._objectives[None])
        name = policy.name
        yield self._rule(
            policy, "ResilientErrorsBurn", "page",
            self._ql.burns(policy, "error", budget, _FAST), 0,
            f"{name}: customers get errors, {_COUNTED}", passed=True,
        )  # fmt: skip
        yield self._rule(
            policy, "ResilientErrorsLeak", "ticket",
            self._ql.burns(policy, "error", budget, _SLOW), 0,
            f"{name}: errors use up the budget, {_COUNTED}", passed=True,
        )  # fmt: skip
        yield self._rule(
            policy, "ResilientDegraded", "ticket",
            self._ql.burns(policy, "degraded", 1 - DEGRADED, ((6.0, 21_600, 1800), _SLOW[0])), 0,
            f"{name}: a fallback or a switch answers {_COUNTED}",
            lever=policy.look,
        )  # fmt: skip
        if policy.tier == 1:
            yield self._fully_degraded(policy)

    def _of_circuit(self, policy: Policy) -> Iterator[Rule]:
        """Yield the rules on the circuit."""
        name, by = policy.name, self._ql.by
        workers = self._ql.series("breaker_workers", policy=name)
        open_ = f'{workers[:-1]},state=~"open|half_open"}}'
        closed = self._ql.series("breaker_workers", policy=name, state="closed")
        yield self._rule(
            policy, "ResilientProcessesDisagree", "ticket",
            " and ".join(f"sum by ({by}, policy) ({each}) > 0" for each in (open_, closed)),
            600, f"{name}: the circuit is open in some processes and closed in others",
            lever=policy.look,
        )  # fmt: skip
        # Count only closes: in a plain outage each failed probe opens the circuit again.
        moves = self._ql.series("breaker_transitions_total", policy=name, to="closed", cause="auto")
        yield self._rule(
            policy, "ResilientCircuitFlaps", "ticket",
            f"sum by ({by}, policy) (increase({moves}[{self._ql.span(1800)}])) / "
            f"sum by ({by}, policy) ({workers}) > 5",
            0, f"{name}: the circuit closed {{{{ $value | humanize }}}} times in half an hour",
        )  # fmt: skip

    def _of_operation(self, policy: Policy) -> Iterator[Rule]:
        """Yield the rules on hanging workers, and on forgotten orders."""
        name = policy.name
        used = self._ql.series("abandoned_workers", policy=name)
        limit = self._ql.series("worker_limit", policy=name)
        yield self._rule(
            policy, "ResilientWorkersAbandoned", "page",
            f"max by ({self._ql.by}, policy) (clamp_max({used} / {limit}, 1)) >= 0.8", 60,
            f"{name}: {{{{ $value | humanizePercentage }}}} of its worker threads hang",
        )  # fmt: skip
        active = f'{self._ql.series("override_active", policy=name)[:-1]},kind=~"forced_.*"}}'
        ends = self._ql.series("override_expires_timestamp_seconds", policy=name)
        yield self._rule(
            policy, "ResilientOverrideForgotten", "ticket",
            f"max by ({self._ql.by}, policy, kind) ({active}) == 1 "
            f"unless on ({self._ql.by}, policy, kind) ({ends} > time())",
            _HOURS * 3600,
            f"{name}: {{{{ $labels.kind }}}} for more than {_HOURS} h, without an end",
            lever=policy.release,
        )  # fmt: skip

    def _fully_degraded(self, policy: Policy) -> Rule:
        name, span = json.dumps(policy.name), self._ql.span(_SOON)
        rates = [
            f"sum by ({self._ql.by}, policy) (rate({series}[{span}]))"
            for label in ('served="degraded"', OWN)
            for series in [self._ql.served(f"policy={name}", label)]
        ]
        return self._rule(
            policy, "ResilientFullyDegraded", "page",
            f"{rates[0]} / {rates[1]} > {FULLY} and "
            f"{rates[1]} * {_SOON * self._ql.scale:g} >= {FEW}",
            120, f"{policy.name}: a fallback or a switch answers {_COUNTED}", lever=policy.look,
        )  # fmt: skip

    def _read_on(self, name: str, kind: str, owner: str, alert: str) -> dict[str, str]:
        """Return the runbook's URL, each part quoted."""
        if not self._runbook:
            return {}
        parts = {"name": name, "kind": kind, "owner": owner, "alert": alert}
        quoted = {word: quote(part, safe="") for word, part in parts.items()}
        return {"runbook_url": _literal(self._runbook.format(**quoted))}

    def _of_flag(self, flag: Flag) -> Iterator[Rule]:
        name = flag.name
        off = f"min by ({self._ql.by}, flag) ({self._ql.series('flag_enabled', flag=name)}) == 0"
        ends = self._ql.series("flag_expires_timestamp_seconds", flag=name)
        flipped = self._ql.series("flag_flipped_timestamp_seconds", flag=name)
        yield self._rule(
            flag, "ResilientFlagForgotten", "ticket",
            f"{off} and on ({self._ql.by}, flag) max by ({self._ql.by}, flag) ({flipped}) > 0 "
            f"unless on ({self._ql.by}, flag) ({ends} > time())",
            _HOURS * 3600, f"{name}: off for more than {_HOURS} h, without an end",
        )  # fmt: skip
        stands = [self._ql.series("flag_processes", flag=name, state=s) for s in ("on", "off")]
        yield self._rule(
            flag, "ResilientFlagDisagrees", "page",
            " and ".join(f"sum by ({self._ql.by}, flag) ({each}) > 0" for each in stands),
            120, f"{name}: on in some processes and off in others", lever=DOCTOR,
        )  # fmt: skip
        review = self._ql.series("flag_review_timestamp_seconds", flag=name)
        yield self._rule(
            flag, "ResilientFlagStale", "ticket",
            f"max by ({self._ql.by}, flag) ({review}) < time()", 3600,
            f"{name}: its day of review is over; remove it, or set a new one", lever=flag.look,
        )  # fmt: skip

    def _of_itself(self) -> Iterator[Rule]:
        for name, metric, limit, lasts, summary in (
            ("ResilientInactive", "active", None, 60,
             "guards are switched off: calls pass breakers, timeouts and bulkheads"),
            ("ResilientStoreSilent", "flag_sync_age_seconds", 60 * self._ql.scale, 120,
             "flips are not heard of: the store was last read {{ $value | humanizeDuration }} ago"),
            ("ResilientPagesUnread", "pages_unread", 0, 300,
             "pages of processes can't be read: counts are missing"),
            ("ResilientPoliciesFolded", "policies_in_other", 0, 3600,
             "{{ $value }} policies have no series of their own"),
        ):  # fmt: skip
            yield {
                "alert": name,
                "expr": f"min by ({self._ql.by}) ({self._ql.series(metric)}) == 0"
                if limit is None
                else f"max by ({self._ql.by}) ({self._ql.series(metric)}) > {limit:g}",
                "for": self._ql.span(lasts),
                "labels": {"severity": "ticket"},
                "annotations": {
                    "summary": summary,
                    "lever": DOCTOR,
                    **self._read_on("resilient", "", "", name),
                },
            }

    def _rule(
        self, of: Policy | Flag, name: str, severity: str, expr: str, lasts: float, summary: str,
        *, lever: str = "", passed: bool = False,
    ) -> Rule:  # fmt: skip
        """Return a rule; if passed, it is about errors that a fallback should have answered."""
        labels = {"severity": severity, "owner": _literal(of.owner)}
        if isinstance(of, Policy):
            labels |= {"policy": of.name, "tier": "" if of.tier is None else str(of.tier)}
        else:
            labels["flag"] = of.name
        if passed and isinstance(of, Policy) and of.covered:
            lever, caution = of.look, _PASSED
        else:
            caution = _UNCOVERED if isinstance(of, Policy) and not (lever or of.cuttable) else ""
        annotations = {
            "summary": summary, "impact": _literal(of.impact), "lever": lever or of.lever,
            "caution": caution,
        }  # fmt: skip
        kind = "policy" if isinstance(of, Policy) else "flag"
        annotations |= self._read_on(of.name, kind, of.owner, name)
        rule: Rule = {"alert": name, "expr": expr}
        if lasts:
            rule["for"] = self._ql.span(lasts)
        return {
            **rule,
            "labels": {key: value for key, value in labels.items() if value},
            "annotations": {key: value for key, value in annotations.items() if value},
        }


def checked_runbook(template: str) -> str:
    """Return a template of a URL if it is valid.

    Raises:
        ValueError: it is not.
    """
    allowed = "a URL with {name}, {kind}, {owner} or {alert} in it, or none of them"
    try:
        url = template.format(name="x", kind="x", owner="x", alert="x")
    except (ValueError, LookupError, AttributeError):
        validation.refuse("--runbook-url", template, allowed)
    if not url.isprintable() or " " in url or "://" not in url:
        validation.refuse("--runbook-url", template, allowed)
    return template


def _literal(text: str) -> str:
    """Return a text that Prometheus shows unchanged: labels and annotations are templates."""
    return text.replace("{{", '{{ "{{" }}')
