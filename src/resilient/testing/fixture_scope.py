"""Whether what is made now is made by a fixture that outlives the test."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

_wide: list[bool] = []


def wide() -> bool:
    """Return whether a fixture of a class, module, package or session is being made."""
    return bool(_wide) and _wide[-1]


@contextmanager
def making(scope: str) -> Generator[None]:
    """Make a fixture of this scope inside."""
    _wide.append(scope != "function")
    try:
        yield
    finally:
        _wide.pop()
