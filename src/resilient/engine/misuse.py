"""Errors for a function that does not suit its policy, where only its call can show that."""

from __future__ import annotations

from typing import Any


class MisuseError(TypeError):
    """A policy was asked to call something that it can't call."""


def not_awaited(policy: str, value: Any) -> TypeError:
    """Return the error for a sync fallback that returned an awaitable; close the awaitable."""
    close = getattr(value, "close", None)
    if close is not None:
        close()
    return TypeError(
        f"{policy}: the fallback of a sync call returned an awaitable "
        f"({type(value).__name__}), which nobody would await; give it a plain function"
    )
