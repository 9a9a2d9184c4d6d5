"""What the storm of `examples/stall.toml` must show, seed by seed."""

from __future__ import annotations

from resilient.simulate import Report, load, run
from tests.kit.paths import ROOT

STALL = load(ROOT / "examples" / "stall.toml")
PLANS = {plan.name: plan.guards for plan in STALL.policies}
OURS = ("budget", "breaker", "both")
# Ours without the budget; ours without the breaker that the naive retry had.
TAKEN_OUT = ("no-budget", "naive")
END = 30.0  # of the stall


def ran(seed: int, *names: str) -> Report:
    """Run some policies of the scenario."""
    return run(STALL, seed=seed, guards={name: PLANS[name] for name in names})


def is_back(report: Report, name: str) -> bool:
    """Return whether at least 95 % of the goodput is back 30 s after the stall."""
    return not report.unmet_by(name)


def stays_down(report: Report, name: str) -> bool:
    """Return whether, from the stall's end to the end of the run, next to nobody is served."""
    found = report.runs[name]
    return found.before is not None and found.before > 0.99 and found.goodput(END, 80.0) < 0.05
