"""Log faults of code that a policy was given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..guards.base import Guard

_KINDS: Final = 10  # of a guard's faults that are logged


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


def log_no_key(name: str, fault: Exception) -> None:
    """Log that a call has no key."""
    import logging

    logging.getLogger("resilient").error(
        "%s: a call has no key, and shares its guards with others (logged once)",
        name,
        exc_info=fault,
    )


def log_alone(name: str, fault: Exception) -> None:
    """Log that a call shares nothing, since it can't be told apart from others."""
    import logging

    logging.getLogger("resilient").error(
        "%s: a call can't be told apart from others, and is made alone (logged once)",
        name,
        exc_info=fault,
    )


def log_fault(name: str, guard: Guard, what: str, fault: Exception) -> None:
    """Log a fault of a guard's own code, the first of its type."""
    kind = what, type(fault).__name__
    if kind in guard._faults_logged or len(guard._faults_logged) >= _KINDS:
        return
    guard._faults_logged = (*guard._faults_logged, kind)
    import logging

    logging.getLogger("resilient").error(
        "%s: the %s guard's %s (logged once)", name, guard.kind, what, exc_info=fault
    )
