"""Whether the running code belongs to the set-up of a fixture that outlives the test."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

_wide: list[bool] = []


def wide() -> bool:
    """Return whether a fixture of a class, module, package or session is being set up."""
    return bool(_wide) and _wide[-1]


@contextmanager
def making(scope: str) -> Generator[None]:
    """Mark the body as the set-up of a fixture of this scope."""
    _wide.append(scope != "function")
    try:
        yield
    finally:
        _wide.pop()
