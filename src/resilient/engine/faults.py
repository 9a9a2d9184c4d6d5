"""Faults of code that a policy was given, and calls outside its lock."""

from __future__ import annotations

from collections.abc import Callable


def fault_logger(name: str, kind: str) -> Callable[[Exception], None]:
    """Return what logs the first fault of the predicates of a guard, or of a wrapped client."""
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
