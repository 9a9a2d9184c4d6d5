"""The kill switch: refuse, or give another answer, while a flag is off."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from .. import validation
from ..callables import STREAMS, kind_of, label
from ..errors import FlagOffError, RefusedError
from ..flag_handle import Flag
from ..locks import tally
from .attached import Home
from .base import ANSWER, REFUSE
from .facets import Answers, Switch
from .signatures import check_signature


class KillSwitch(Switch, Answers):
    """Refuses calls while its flag is off; made by `resilient.kill_switch`.

    While the flag is on no call asks the switch, so that it costs nothing.
    """

    kind: ClassVar[str] = "kill_switch"
    rank: ClassVar[float | None] = 10  # like a fallback, which may stand on either side of it
    unique: ClassVar[bool] = False
    error: ClassVar[type[RefusedError]] = FlagOffError
    why: str
    misplaced = "The guards outside would take slots and count results for a call that is off."

    def __init__(self, flag: Flag, *, answer: Callable[..., Any] | None) -> None:
        super().__init__()
        if not isinstance(flag, Flag):
            validation.refuse_type("flag", flag, 'a flag, such as RECS = flag("recommendations")')
        if answer is not None and not callable(answer):
            validation.refuse_type("answer", answer, "a function, called with the call's arguments")
        self.flag: Flag = flag
        self._fn = answer
        self.has_answer: bool = answer is not None
        self.answers_anywhere: bool = answer is None
        kind = "sync" if answer is None else kind_of(answer)
        self.only_async: bool = kind in ("async", "async generator")
        self.only_streams: bool = kind in STREAMS

    def attach(self, core: Home) -> None:
        self.flag.watch(core)

    def needs_asking(self) -> bool:
        return not self.flag.state or self.flag.seen is not None

    def is_off(self) -> bool:
        return not self.flag.state

    def admit(self, now: float) -> int:
        flag = self.flag
        on, seen = flag.state, flag.seen
        if seen is not None:
            self.emit(partial(seen, flag, on))
        if on:
            return 0
        with tally:
            flag.off_reads += 1
        self.why = flag.why
        return REFUSE if self._fn is None else ANSWER

    def retry_after(self, now: float) -> float | None:
        # A flip ends by the system's clock, even if the policy has a manual one.
        return self.flag.left()

    def recover(self, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        assert self._fn is not None
        return self._fn(*args, **kwargs)

    def check_signature(self, fn: Callable[..., Any]) -> None:
        if self._fn is not None:
            check_signature("the answer of kill_switch,", self._fn, fn)

    def options(self) -> dict[str, Any]:
        return {"flag": self.flag, "answer": self._fn}

    def describe(self) -> str:
        does = "refuses" if self._fn is None else f"answers with {label(self._fn)}"
        return f"{does} while the flag {self.flag.name} is off"

    def live(self, now: float) -> str:
        return "it is on" if self.flag.state else self.flag.why

    def snapshot(self, now: float) -> dict[str, Any]:
        return {
            "guard": self.kind,
            "flag": self.flag.name,
            "on": self.flag.state,
            "options": {"answer": None if self._fn is None else label(self._fn)},
        }
