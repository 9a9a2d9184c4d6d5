"""Report the end of calls to the call tracer."""

from __future__ import annotations

from ..outcomes import OUTCOMES, SUCCESS
from .policy_state import PolicyState


def tell_end(core: PolicyState, outcome: int, served: str, guard: str, seconds: float) -> None:
    """Report how a call ended. Errors in the tracer are logged and never reach the caller."""
    hook = PolicyState.on_end
    if hook is not None:
        try:
            hook(core, OUTCOMES[outcome], served, guard, seconds)
        except RecursionError:  # the stack was too short: not the tracer's fault
            return
        except Exception:
            PolicyState.on_end = None
            import logging

            logging.getLogger("resilient").exception("calls are traced no more: the tracing raised")


def tell_slow(core: PolicyState, seconds: float) -> None:
    """Report a success that took longer than most."""
    if PolicyState.on_end is not None:
        tell_end(core, SUCCESS, "full", "", seconds)
