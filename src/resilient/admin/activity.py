"""Switch the protection of this process's calls off and on, for a debugger or a test."""

from __future__ import annotations

import os
from typing import Final

from .. import validation
from ..engine.policy_state import PolicyState, living

VARIABLE: Final = "RESILIENT_DISABLED"
_YES: Final = ("1", "true", "yes", "on")
_NO: Final = ("", "0", "false", "no", "off")

WHY: Final = f"resilient is not active in this process: set_active(False), or {VARIABLE}"

_told: list[bool] = []  # whether the log has reported that the process is not active


def set_active(active: bool, /) -> None:
    """Let every call of this process pass its breaker, timeout, bulkhead and limits, or undo that.

    While not active, calls are still counted, kill switches and forced states hold, and fallbacks
    answer their refusals and the function's errors. Calls in flight keep their slots until they
    end. The process reports that it is not active: by a warning in the log, by the metric
    ``resilient_active``, and in ``resilient status``; and it does not acknowledge ordered
    options. The environment variable ``RESILIENT_DISABLED=1`` makes it so from the start.

    Args:
        active: False lets every call pass, True protects calls again.

    Raises:
        TypeError: active is not a bool.

    Example:
        >>> import resilient
        >>> stock = resilient.Policy("stock", resilient.bulkhead(1))
        >>> resilient.set_active(False)
        >>> with stock.block():
        ...     stock.call(int, "7")
        7
        >>> resilient.set_active(True)
    """
    if validation.flag("active", active) == PolicyState.active:
        return
    PolicyState.active = active
    for core in living():
        core.refresh_gate()
    if active:
        _told.clear()
        _log(20, "resilient is active again")
    else:
        tell()


def tell() -> None:
    """Log, once, that calls are not protected."""
    if not PolicyState.active and not _told:
        _told.append(True)
        _log(
            30,
            f"{WHY}. Every call passes its breaker, timeout, bulkhead and limits; kill switches "
            "and forced states hold",
        )


def from_environment() -> None:
    """Apply the environment variable, at the import."""
    said = os.environ.get(VARIABLE, "")
    word = said.strip().lower()
    if word in _YES:
        PolicyState.active = False
    elif word not in _NO:
        import warnings

        warnings.warn(
            f"{VARIABLE} must be one of {', '.join((*_YES, *_NO[1:]))}; got {said!r}: "
            "resilient stays active",
            RuntimeWarning,
            stacklevel=2,
        )


def _log(level: int, text: str) -> None:
    import logging

    logging.getLogger("resilient").log(level, "%s", text)
