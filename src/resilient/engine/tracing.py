"""What is told to whoever traces calls."""

from __future__ import annotations

from ..outcomes import OUTCOMES, SUCCESS
from .policy_state import PolicyState


def tell_end(core: PolicyState, outcome: int, served: str, guard: str, seconds: float) -> None:
    """Tell whoever traces calls how one ended; what goes wrong there is not the call's business."""
    hook = PolicyState.on_end
    if hook is not None:
        try:
            hook(core, OUTCOMES[outcome], served, guard, seconds)
        except RecursionError:  # the stack's end, and not the hook's fault
            return
        except Exception:
            PolicyState.on_end = None
            import logging

            logging.getLogger("resilient").exception("calls are traced no more: the tracing raised")


def tell_slow(core: PolicyState, seconds: float) -> None:
    """Tell whoever traces calls of a good one that took longer than most."""
    if PolicyState.on_end is not None:
        tell_end(core, SUCCESS, "full", "", seconds)
