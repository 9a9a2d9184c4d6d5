"""Log faults of code that a policy was given."""

from __future__ import annotations

from collections.abc import Callable

from ..guards.base import Guard


def fault_logger(name: str, kind: str) -> Callable[[Exception], None]:
    """Return a function that logs the first fault of a guard's or a client's predicates."""
    logged: list[bool] = []

    def on_fault(fault: Exception) -> None:
        if not logged:
            logged.append(True)
            import logging

            logging.getLogger("resilient").error(
                "%s: a predicate of its %s raised; the default answer is used (logged once)",
                name,
                kind,
                exc_info=fault,
            )

    return on_fault


def log_fault(name: str, guard: Guard, what: str, fault: Exception) -> None:
    """Log the first fault of a guard's own code."""
    if guard._fault_logged:
        return
    guard._fault_logged = True
    import logging

    logging.getLogger("resilient").error(
        "%s: the %s guard's %s (logged once)", name, guard.kind, what, exc_info=fault
    )
