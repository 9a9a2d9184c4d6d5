"""A Grafana dashboard as plain JSON: customers first, then policies, then what is in use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from .expressions import OWN

_WIDTH: Final = 24
_SOURCE: Final = {"type": "prometheus", "uid": "${source}"}
_POLICY: Final = 'policy=~"$policy"'
_JOB: Final = 'job=~"$job"'
_HARM: Final = 'served=~"degraded|error"'
_CLOSED: Final = 'state!="closed"'
_OFF: Final = 'state="off"'
_SPAN: Final = "$__rate_interval"

Panel = dict[str, Any]


def dashboard(title: str = "resilient", selector: str = "") -> dict[str, Any]:
    """Return a dashboard to import into Grafana.

    Args:
        title: its title.
        selector: labels that all series must have as well, such as ``env="live"``.
    """
    panels: list[Panel] = []
    x = y = height = 0
    for panel in _panels(_Query(selector)):
        width, tall = panel["gridPos"]["w"], panel["gridPos"]["h"]
        if x + width > _WIDTH:
            x, y, height = 0, y + height, 0
        panel["gridPos"] = {"x": x, "y": y, "w": width, "h": tall}
        panel["id"] = len(panels) + 1
        x, height = x + width, max(height, tall)
        panels.append(panel)
    return {
        "title": title,
        "tags": ["resilient"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables(selector)},
        "annotations": {"list": [_openings(_Query(selector))]},
        "panels": panels,
    }


def queries(made: dict[str, Any]) -> list[str]:
    """Return every query of a dashboard."""
    found = [target["expr"] for panel in made["panels"] for target in panel["targets"]]
    return found + [each["expr"] for each in made["annotations"]["list"]]


class _Query:
    def __init__(self, selector: str, job: str = _JOB) -> None:
        self._labels = [each for each in (job, selector) if each]

    def __call__(self, name: str, *labels: str) -> str:
        inside = ",".join([*labels, *self._labels])
        return f"resilient_{name}{{{inside}}}" if inside else f"resilient_{name}"

    def rate(self, name: str, *labels: str) -> str:
        return f"rate({self(name, *labels)}[{_SPAN}])"


def _is(label: str, value: str) -> str:
    return f'{label}="{value}"'


def _variables(selector: str) -> list[dict[str, Any]]:
    jobs = f"label_values({_Query(selector, job='')('policy_info')}, job)"
    policies = f"label_values({_Query(selector)('policy_info')}, policy)"
    return [
        {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        _variable("job", "Service", jobs),
        _variable("policy", "Policy", policies),
    ]


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name, "label": label, "type": "query", "datasource": _SOURCE,
        "query": query, "multi": True, "includeAll": True, "allValue": ".*",
        "current": {"text": "All", "value": "$__all"}, "refresh": 2,
    }  # fmt: skip


def _openings(of: _Query) -> dict[str, Any]:
    moves = of("breaker_transitions_total", _POLICY, 'to="open"')
    return {
        "name": "circuits that open", "enable": True, "datasource": _SOURCE, "iconColor": "red",
        "expr": f"sum by (policy) (increase({moves}[{_SPAN}])) > 0", "titleFormat": "{{policy}}",
    }  # fmt: skip


def _panels(of: _Query) -> Iterator[Panel]:
    yield from _customers(of)
    yield from _policies(of)
    yield from _holding(of)


def _customers(of: _Query) -> Iterator[Panel]:
    """Yield the panels on what callers get."""
    served = of.rate("served_total", _POLICY, OWN)
    whole = f"sum({served})"
    for word, colour in (("error", "red"), ("degraded", "orange"), ("full", "green")):
        part = f"sum({of.rate('served_total', _POLICY, _is('served', word))})"
        yield _panel(f"Customers: {word}", "stat", 5, 4, (f"{part} / {whole}", word),
                     unit="percentunit", colour=colour)  # fmt: skip
    yield _panel("Processes", "stat", 4, 4, (f"sum({of('processes')})", "processes"))
    # Count a flag once, in however many processes and on however many hosts it is off.
    off = f"count(min by (job, flag) ({of('flag_enabled')}) == 0) or vector(0)"
    yield _panel("Flags that are off", "stat", 5, 4, (off, "off"))
    yield _panel("What customers get", "timeseries", 12, 8,
                 (f"sum by (served) ({served})", "{{served}}"), unit="reqps")  # fmt: skip
    harm = f"sum by (policy) ({of.rate('served_total', _POLICY, _HARM)})"
    yield _panel("Not served in full, by policy", "timeseries", 12, 8,
                 (f"topk(10, {harm} > 0)", "{{policy}}"), unit="reqps")  # fmt: skip


def _policies(of: _Query) -> Iterator[Panel]:
    """Yield the panels on what policies do, and why."""
    state = f"sum by (policy, state) ({of('breaker_workers', _POLICY, _CLOSED)}) > 0"
    yield _panel("Circuits that are not closed, in processes", "timeseries", 12, 8,
                 (state, "{{policy}} {{state}}"))  # fmt: skip
    yield _panel("Share of failures in the breakers' windows", "timeseries", 12, 8,
                 (f"max by (policy) ({of('failure_ratio', _POLICY)})", "{{policy}}"),
                 unit="percentunit")  # fmt: skip
    buckets = f"sum by (policy, le) ({of.rate('call_duration_seconds_bucket', _POLICY)})"
    limit = f"max by (policy) ({of('timeout_seconds', _POLICY)})"
    for share in (0.5, 0.99):
        found = f"histogram_quantile({share}, {buckets})"
        # A timeout cuts calls off at its limit, so that the limit is the least that they took.
        yield _panel(f"p{share * 100:g} of calls, at most their timeout", "timeseries", 12, 8,
                     (f"({limit} and ({found} >= {limit})) or {found}", "{{policy}}"),
                     unit="s")  # fmt: skip
    refused = f"sum by (policy, guard) ({of.rate('refusals_total', _POLICY)}) > 0"
    yield _panel("Refused, by guard", "timeseries", 12, 8, (refused, "{{policy}} {{guard}}"),
                 unit="reqps")  # fmt: skip
    timeouts = f"sum by (policy) ({of.rate('timeouts_total', _POLICY)})"
    yield _panel("Timed out", "timeseries", 12, 8, (timeouts, "{{policy}}"), unit="reqps")


def _holding(of: _Query) -> Iterator[Panel]:
    """Yield the panels on what is in use, and on operators' orders."""
    used = f"sum by (policy) ({of('slots_used', _POLICY)})"
    limit = f"sum by (policy) ({of('limit', _POLICY)})"
    yield _panel("Slots used, of those there are", "timeseries", 12, 8,
                 (f"{used} / {limit}", "{{policy}}"), unit="percentunit")  # fmt: skip
    yield _panel("In flight", "timeseries", 12, 8,
                 (f"sum by (policy) ({of('in_flight', _POLICY)})", "{{policy}}"))  # fmt: skip
    held = f"sum by (policy) ({of('abandoned_workers', _POLICY)})"
    yield _panel("Worker threads that hang", "timeseries", 12, 8, (held, "{{policy}}"))
    orders = f"max by (policy, kind) ({of('override_active', _POLICY)}) > 0"
    yield _panel("Orders that hold", "timeseries", 12, 8, (orders, "{{policy}} {{kind}}"))
    flags = f"sum by (flag) ({of('flag_processes', _OFF)})"
    yield _panel("Processes in which a flag is off", "timeseries", 12, 8, (flags, "{{flag}}"))
    yield _panel("Age of what is known of the store", "timeseries", 12, 8,
                 (f"max({of('flag_sync_age_seconds')})", "age"), unit="s")  # fmt: skip


def _panel(
    title: str, kind: str, width: int, height: int, *targets: tuple[str, str], unit: str = "short",
    colour: str = "",
) -> Panel:  # fmt: skip
    defaults: dict[str, Any] = {"unit": unit, "min": 0}
    if colour:
        defaults["color"] = {"mode": "fixed", "fixedColor": colour}
    return {
        "title": title,
        "type": kind,
        "datasource": _SOURCE,
        "gridPos": {"w": width, "h": height},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {},
        "targets": [
            {"refId": chr(65 + n), "expr": expr, "legendFormat": legend, "datasource": _SOURCE}
            for n, (expr, legend) in enumerate(targets)
        ],
    }
