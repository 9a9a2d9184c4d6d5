"""The place in the code of a declaration, and whether two declarations are the same."""

from __future__ import annotations

import os
import sys
from types import CodeType, FrameType
from typing import Any, Final, Literal

_IMPORTLIB: Final = "<frozen importlib._bootstrap>"
_PACKAGE: Final = __name__.partition(".")[0]
_IN_FUNCTION: Final = 0x1  # a flag of a code object: it is that of a function

_COMPREHENSIONS: Final = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")

Relation = Literal["elsewhere", "same run", "again", "anew"]


class Place:
    """The place in the code where a policy or flag was declared.

    Attributes:
        source: the file; in a notebook ``"__main__"``, for all its cells.
        scope: the qualified name of the function or class body, ``<module>`` at the top.
        importing: whether a module was being imported.
    """

    __slots__ = (
        "_at",
        "_caller",
        "_frame",
        "_globals",
        "code",
        "importing",
        "line",
        "scope",
        "source",
    )

    def __init__(self, frame: FrameType) -> None:
        while frame.f_code.co_name in _COMPREHENSIONS and frame.f_back is not None:
            frame = frame.f_back  # a comprehension has a frame of its own before Python 3.12
        self.code: CodeType = frame.f_code
        self.line: int = frame.f_lineno
        self.scope: str = frame.f_code.co_qualname
        self.source: str = _source(frame)
        # The dict itself and not its id, which another module's dict may get later.
        self._globals = None if self.repeats else frame.f_globals
        self._frame, self._at = id(frame), frame.f_lasti
        caller = frame.f_back
        self._caller = hash((id(caller), -1 if caller is None else caller.f_lasti))
        above = frame.f_back
        while above is not None and above.f_code.co_filename != _IMPORTLIB:
            above = above.f_back
        self.importing: bool = above is not None

    @staticmethod
    def depth() -> int:
        """Return the stacklevel, as `warnings.warn` counts, of the first caller outside."""
        level, frame = 1, sys._getframe(1)
        while frame.f_back is not None and _is_ours(frame.f_globals):
            level, frame = level + 1, frame.f_back
        return level

    @classmethod
    def here(cls) -> Place:
        """Return the place of the first caller outside this package."""
        return cls(outside())

    @property
    def repeats(self) -> bool:
        """Whether its code may run repeatedly within one load of its module."""
        return bool(self.code.co_flags & _IN_FUNCTION) or "<locals>" in self.scope

    def relation(self, older: Place) -> Relation:
        """Return how a declaration here relates to an older one of the same name.

        "elsewhere": another scope; "same run": the same run of one scope; "again": a function that
        runs again; "anew": code that was loaded again, by a reload, a cell run again, or a second
        import.
        """
        if (self.source, self.scope) != (older.source, older.scope):
            return "elsewhere"
        if self.code is not older.code or self._globals is not older._globals:
            return "anew"
        if not self.repeats:
            return "same run"
        # An older frame may be gone, and another call's frame may have its id.
        same = self._frame == older._frame and self._caller == older._caller
        return "same run" if same and self._at > older._at else "again"

    def __str__(self) -> str:
        return f"{self.code.co_filename}:{self.line} in {self.scope}"


def outside() -> FrameType:
    """Return the frame of the first caller outside this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame.f_globals):
        frame = frame.f_back
    return frame


def _source(frame: FrameType) -> str:
    names = frame.f_globals
    if names.get("__name__") == "__main__":
        file = names.get("__file__")
        return sys.intern(os.path.realpath(file)) if isinstance(file, str) else "__main__"
    file = frame.f_code.co_filename
    # One shared string for all declarations of a file
    return file if file.startswith("<") else sys.intern(os.path.realpath(file))


def _is_ours(names: dict[str, Any]) -> bool:
    module = str(names.get("__name__", ""))
    return module == _PACKAGE or module.startswith(_PACKAGE + ".")
