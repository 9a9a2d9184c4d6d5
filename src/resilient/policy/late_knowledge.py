"""What is known of the library that a patch is applied to, perhaps while that is being imported.

Then its adapter can't be loaded: it imports the library, of which only parts are there. It is
loaded at the first error or value that it has to judge.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from ..outcomes import FAILURE, SUCCESS, Judge
from .clients.adapter import ClientAdapter, source
from .patch_targets import is_half_made

Kin = Callable[[Exception, Any, tuple[Any, ...], dict[str, Any]], Exception]


def knowledge_of(owner: Any) -> tuple[Judge | None, Kin | None]:
    """Return the judge of a class's or a module's library, and what turns our errors into its."""
    is_class = isinstance(owner, type)
    name = str(getattr(owner, "__module__" if is_class else "__name__", ""))
    find = partial(source.of, owner) if is_class else partial(source.within, name)
    package = name.partition(".")[0]
    if source.knows(package) and is_half_made(sys.modules.get(package)):
        late = LateJudge(find)
        return late, late.kin
    known = find()
    return known.judge, known.kin


class LateJudge(Judge):
    """The judge of an adapter that is not loaded yet."""

    __slots__ = ("_find", "_found")

    def __init__(self, find: Callable[[], ClientAdapter]) -> None:
        super().__init__(failed_result=_never)  # so that values are judged
        self._find = find
        self._found: ClientAdapter | None = None

    def _adapter(self) -> ClientAdapter:
        if self._found is None:
            self._found = self._find()
        return self._found

    def weigh(self, error: Exception) -> int:
        judge = self._adapter().judge
        return FAILURE if judge is None else judge.weigh(error)

    def of_value(self, value: object) -> int:
        judge = self._adapter().judge
        return SUCCESS if judge is None else judge.of_value(value)

    def kin(self, error: Exception, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return one of our errors as one of the library's too."""
        turn = self._adapter().kin
        return error if turn is None else turn(error, fn, args, kwargs)


def _never(_: object) -> bool:
    return False
