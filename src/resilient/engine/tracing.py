"""What is told to whoever traces calls."""

from __future__ import annotations

from ..outcomes import OUTCOMES, SUCCESS
from .policy_state import Core


def tell_end(core: Core, outcome: int, served: str, guard: str, seconds: float) -> None:
    """Tell whoever traces calls how one ended; what goes wrong there is not the call's business."""
    hook = Core.on_end
    if hook is not None:
        try:
            hook(core, OUTCOMES[outcome], served, guard, seconds)
        except RecursionError:  # the stack's end, and not the hook's fault
            return
        except Exception:
            Core.on_end = None
            import logging

            logging.getLogger("resilient").exception("calls are traced no more: the tracing raised")


def tell_slow(core: Core, seconds: float) -> None:
    """Tell whoever traces calls of a good one that took longer than most."""
    if Core.on_end is not None:
        tell_end(core, SUCCESS, "full", "", seconds)
