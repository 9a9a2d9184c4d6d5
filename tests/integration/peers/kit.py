"""What a check is, and how all of them are found by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import NamedTuple

OURS = "resilient-guards"


class Seen(NamedTuple):
    """What a program saw, and whether that is what the page says."""

    text: str
    holds: bool


Run = Callable[[], Seen]


@dataclass(frozen=True, slots=True)
class Check:
    """One claim of docs/explanation/comparison.md."""

    name: str
    distribution: str
    python: tuple[int, int]
    run: Run

    @property
    def version(self) -> str | None:
        """The version that is installed, or None."""
        try:
            return version(self.distribution)
        except PackageNotFoundError:
            return None


checks: dict[str, Check] = {}


def check(distribution: str, python: tuple[int, int] = (3, 11)) -> Callable[[Run], Run]:
    """Enter a function as a check; its module imports nothing of a peer at the top.

    `python` is the oldest one that pip installs the peer's newest version for.
    """

    def enter(run: Run) -> Run:
        if run.__name__ in checks:
            raise ValueError(f"two checks named {run.__name__}")
        checks[run.__name__] = Check(run.__name__, distribution, python, run)
        return run

    return enter


def needs(distribution: str) -> list[str]:
    """Return what a distribution needs besides itself, its extras left out."""
    return [each for each in requires(distribution) or () if "extra ==" not in each]
