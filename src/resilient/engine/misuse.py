"""What is wrong with a function that a policy was given, where only its call can show that."""

from __future__ import annotations

from typing import Any


class MisuseError(TypeError):
    """A policy was called with what it can't call."""


def not_awaited(policy: str, value: Any) -> TypeError:
    """Return what is wrong with an awaitable that a sync call's fallback returned; close it."""
    close = getattr(value, "close", None)
    if close is not None:
        close()
    return TypeError(
        f"{policy}: the fallback of a sync call returned an awaitable "
        f"({type(value).__name__}), which nobody would await; give it a plain function"
    )
