"""What is one thing in its process."""

from __future__ import annotations

from typing import Any, Self


class Sole:
    """Is itself in every copy of what holds it, and is not sent to another process."""

    __slots__ = ()
    name: Any  # of the policy

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            f"the policy {self.name} can't be pickled: its state stays in its process. Build it in "
            "a module that the other process imports, and take it from there"
        )
