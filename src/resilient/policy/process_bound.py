"""Objects that exist once in their process."""

from __future__ import annotations

from typing import Any, Self


class Sole:
    """Returns itself when copied, and refuses to be pickled."""

    __slots__ = ()
    name: Any  # the policy's

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            f"the policy {self.name} can't be pickled: its state stays in its process. Build it in "
            "a module that the other process imports, and take it from there"
        )
