"""What came of a run, held against what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .measure import Run
from .scenario import Scenario


class Report:
    """What came of a scenario: a run for each policy.

    Attributes:
        scenario: what was run.
        seed: of all chance.
        runs: a `Run` for each policy, by its name.
    """

    __slots__ = ("runs", "scenario", "seed")

    def __init__(self, scenario: Scenario, seed: int, runs: Mapping[str, Run]) -> None:
        self.scenario: Scenario = scenario
        self.seed: int = seed
        self.runs: dict[str, Run] = dict(runs)

    @property
    def unmet(self) -> list[str]:
        """What was expected and did not come true, a sentence each; empty if all did."""
        return [why for name in self.runs for why in self.unmet_by(name)]

    def unmet_by(self, policy: str) -> list[str]:
        """Return what was expected of one policy and did not come true.

        Args:
            policy: its name.

        Returns:
            A sentence for each; none if nothing was expected of it.

        Raises:
            KeyError: no policy has that name.
        """
        expected, run = self.scenario.expected, self.runs[policy]
        if expected is None or policy not in expected.of:
            return []
        said: list[str] = []
        if expected.goodput_back is not None:
            back = run.back(expected.within)
            if back is None or back < expected.goodput_back:
                nothing = "there was none before, or no call after"
                found = nothing if back is None else f"{back:.1%} of it are back"
                said.append(
                    f"{policy}: {expected.goodput_back:.1%} of the goodput was expected to be back "
                    f"{expected.within:g} s after the fault; {found}"
                )
        whole = run.ends["good"] / max(1, run.calls)
        if expected.goodput is not None and whole < expected.goodput:
            said.append(f"{policy}: goodput is {whole:.1%}; expected {expected.goodput:.1%}")
        each = run.attempts_per_call
        if expected.attempts is not None and each > expected.attempts:
            most = expected.attempts
            said.append(f"{policy}: a call made {each:.2f} attempts; expected at most {most:g}")
        others = run.other_keys
        if expected.other_keys is not None and (others is None or others < expected.other_keys):
            found = "nothing" if others is None else f"{others:.1%}"
            said.append(
                f"{policy}: goodput of keys without a fault is {found}; "
                f"expected {expected.other_keys:.1%}"
            )
        return said

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data, for JSON."""
        expected = self.scenario.expected
        within = 30.0 if expected is None else expected.within
        return {
            "scenario": self.scenario.name,
            "seed": self.seed,
            "seconds": self.scenario.seconds,
            "step": self.scenario.step,
            "faults": [fault.data() for fault in self.scenario.faults],
            "within": within,
            "unmet": self.unmet,
            "policies": {
                name: {**run.as_data(), "back": run.back(within)} for name, run in self.runs.items()
            },
        }
