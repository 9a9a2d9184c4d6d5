"""An operator's view as plain data: the flips, joined with the processes' reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..flags.flip import FLAG, FORCED, KEY, OPTION, RELEASED, Flip, lever_of
from ..flags.operations import SILENT_AFTER, Acknowledgement, holds
from ..flags.reasons import HOLDS
from ..flags.stores.base import Process


class StoreView:
    """One view of a store: every lever, and every process that follows it."""

    def __init__(
        self, flips: Mapping[str, Flip], processes: list[Process], now: float, *, counts: bool
    ) -> None:
        self.flips: Mapping[str, Flip] = flips
        self.processes: list[Process] = processes
        self.now: float = now
        self.counts: bool = counts  # whether the store knows its processes
        self.version: int = max((flip.version for flip in flips.values()), default=0)

    # -- names ---------------------------------------------

    def declared(self, table: str) -> dict[str, dict[str, Any]]:
        """Return the flags or policies that the processes declare, by name."""
        found: dict[str, dict[str, Any]] = {}
        for process in self.processes:
            for name, about in process.about.get(table, {}).items():
                known = found.setdefault(name, {})
                known.update({key: value for key, value in about.items() if value is not None})
        return found

    def names(self, kind: str) -> list[str]:
        """Return the known names: declared by a process, or flipped before."""
        kinds = (FLAG,) if kind == FLAG else (FORCED, OPTION, KEY)
        table = "flags" if kind == FLAG else "policies"
        flipped = {
            flip.name
            for flip in self.flips.values()
            if flip.kind in kinds and flip.value != RELEASED
        }
        return sorted({*self.declared(table), *flipped})

    # -- rows ---------------------------------------------

    def flags(self) -> list[dict[str, Any]]:
        """Return every flag."""
        declared = self.declared("flags")
        return [self.flag(name, declared.get(name, {})) for name in self.names(FLAG)]

    def flag(self, name: str, about: Mapping[str, Any]) -> dict[str, Any]:
        """Return one flag."""
        flip = self.holding(lever_of(FLAG, name))
        default = bool(about.get("default", True))
        on = default if flip is None else flip.value == "on"
        says = [p.about["flags"][name] for p in self.processes if name in p.about.get("flags", {})]
        return {
            "flag": name,
            "state": "on" if on else "off",
            **self._order(lever_of(FLAG, name)),
            "owner": about.get("owner", ""),
            "impact": about.get("impact", ""),
            "review": about.get("review"),
            "default": "on" if default else "off",
            "declared": bool(says),
            "off_in": sum(not said["on"] for said in says),
            "pinned_in": sum(said["source"] in HOLDS for said in says),
            "pinned_by": sorted({HOLDS[s["source"]] for s in says if s["source"] in HOLDS}),
        }

    def policies(self) -> list[dict[str, Any]]:
        """Return every policy."""
        declared = self.declared("policies")
        return [self.policy(name, declared.get(name, {})) for name in self.names(FORCED)]

    def policy(self, name: str, about: Mapping[str, Any]) -> dict[str, Any]:
        """Return one policy."""
        said = [p.about.get("policies", {}).get(name) for p in self.processes]
        states = Counter(shown_state(each) for each in said if each is not None)
        forced = self.holding(lever_of(FORCED, name))
        options, keys = self._orders(f"{OPTION}/{name}/"), self._orders(f"{KEY}/{name}/")
        order = self._order(lever_of(FORCED, name))
        parts = [*options.values(), *keys.values()]
        for each in parts if forced is None else (order, *parts):
            order["applied"] = min(order["applied"], each["applied"])
            order["silent"] = max(order["silent"], each["silent"])
            order["faults"] = {**order["faults"], **each["faults"]}
        patches: dict[str, Counter[str]] = {}
        for each in said:
            mine: Any = each
            for target, state in mine["patches"].items() if mine and "patches" in mine else ():
                patches.setdefault(target, Counter())[state] += 1
        return {
            "policy": name,
            "patches": {
                target: dict(sorted(patches[target].items())) for target in sorted(patches)
            },
            "forced": None if forced is None else forced.value,
            **order,
            "options": options,
            "keys": keys,
            "states": dict(sorted(states.items())),
            "owner": about.get("owner", ""),
            "tier": about.get("tier"),
            "impact": about.get("impact", ""),
            "declared": bool(states),
            "flags_off": [flag for flag in about.get("flags", ()) if self._is_off(flag)],
        }

    def _orders(self, prefix: str) -> dict[str, dict[str, Any]]:
        """Return the orders that hold for parts of a policy, by what follows a prefix."""
        return {
            lever.removeprefix(prefix): self._order(lever) | {"value": self.flips[lever].value}
            for lever in sorted(self.flips)
            if lever.startswith(prefix) and self.holding(lever) is not None
        }

    def _is_off(self, flag: str) -> bool:
        return bool(self.flag(flag, self.declared("flags").get(flag, {}))["off_in"])

    def holding(self, lever: str) -> Flip | None:
        """Return the flip that a lever must obey now."""
        flip = self.flips.get(lever)
        return flip if holds(flip, self.now) else None

    def _order(self, lever: str) -> dict[str, Any]:
        flip = self.flips.get(lever)
        holding = self.holding(lever)
        seen = None if flip is None else Acknowledgement(flip, self.processes, self.now)
        everybody = Acknowledgement(Flip(lever, None), self.processes, self.now).known
        return {
            "since": None if holding is None else holding.at,
            "by": None if holding is None else holding.by,
            "reason": None if holding is None else holding.reason,
            "until": None if holding is None else holding.until,
            "version": 0 if flip is None else flip.version,
            "applied": everybody if seen is None else len(seen.applied),
            "processes": everybody,
            "silent": 0 if seen is None else len(seen.silent),
            "faults": {} if seen is None else {shown_id(p): why for p, why in seen.faults},
        }

    # -- processes ---------------------------------------------

    def rows(self) -> list[dict[str, Any]]:
        """Return every process."""
        ordered = sorted(self.processes, key=lambda p: (p.host, p.pid))
        return [self.row(process) for process in ordered]

    def row(self, process: Process) -> dict[str, Any]:
        """Return one process."""
        return {
            "id": process.id,
            "host": process.host,
            "pid": process.pid,
            "program": process.program,
            "applied": process.applied,
            "behind": process.applied < self.version,
            "seen": process.seen,
            "silent": self.is_silent(process),
        }

    def is_silent(self, process: Process) -> bool:
        """Return whether a process has had no heartbeat for long."""
        return self.now - process.seen > SILENT_AFTER

    def silent(self) -> list[Process]:
        """Return the processes without a heartbeat for long."""
        return [process for process in self.processes if self.is_silent(process)]

    def behind(self) -> list[Process]:
        """Return the processes with a heartbeat that have not applied the newest flip."""
        return [
            process
            for process in self.processes
            if process.applied < self.version and not self.is_silent(process)
        ]


def shown_state(said: Mapping[str, Any]) -> str:
    """Return a process's state of a policy; a policy without a circuit is never closed."""
    state = str(said["state"])
    return "no circuit" if state == "closed" and said.get("circuit") is False else state


def shown_id(process: Process) -> str:
    """Return the name of a process for operators."""
    return f"{process.host}, pid {process.pid}"
