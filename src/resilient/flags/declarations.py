"""The flags that this process declares, by name."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from .. import validation
from ..admin.options import unknown
from ..flag_handle import AskedFlag, Flag
from ..place import Place

if TYPE_CHECKING:
    from datetime import date

PREFIX: Final = "RESILIENT_FLAG_"  # RESILIENT_FLAG_<NAME>=off


class Flags:
    """Flags by name; names that differ only in case or punctuation are one."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self.on_declared: Callable[[Flag], None] | None = None
        self.before_declaring: Callable[[], None] | None = None  # may raise
        self.on_made: Callable[[Flag], None] | None = None  # set by the testing plugin
        self._environ = environ
        self._lock = threading.Lock()
        self._flags: dict[str, Flag] = {}  # by folded name
        self._retired: dict[str, tuple[str, Place]] = {}

    def declare(
        self,
        name: str,
        *,
        owner: str = "",
        impact: str = "",
        review: date | str | None = None,
        default: bool = True,
    ) -> Flag:
        """Return the flag of a name, and declare it if it is new; see `resilient.flag`."""
        folded = _folded(validation.name_of("name", name))
        told = validation.text("owner", owner), validation.text("impact", impact)
        day, state, place = _day(review), validation.flag("default", default), Place.here()
        if self.before_declaring is not None:
            self.before_declaring()
        self.pinned(name)  # raises where the environment has a value other than off
        with self._lock:
            self._check_free(name, folded, place)
            flag = self._flags.get(folded)
            made = flag is None
            if flag is None:
                flag = self._flags[folded] = AskedFlag(name)
            flag.owner, flag.impact = told
            flag.review, flag.default, flag.place = day, state, place
        if self.on_declared is not None:
            self.on_declared(flag)
        if made and self.on_made is not None:
            self.on_made(flag)
        return flag

    def _check_free(self, name: str, folded: str, place: Place) -> None:
        if folded in self._retired:
            old, where = self._retired[folded]
            raise ValueError(
                f"the flag name {name!r} can't be used: {old!r} was retired at {where}, and an old "
                "version of the code may still obey it. Choose another name"
            )
        there = self._flags.get(folded)
        if there is None:
            return
        if there.name == name and place.relation(there.place) in ("again", "anew"):
            return  # the same flag: its holders go on obeying
        if there.name != name:
            raise ValueError(
                f"the flag name {name!r} is too much like {there.name!r}, declared at "
                f"{there.place}: they differ in case or punctuation alone. Choose another name"
            )
        raise ValueError(
            f"a flag named {name!r} is declared already, at {there.place}; this one is at {place}. "
            "Import the one flag, or choose another name"
        )

    def retire(self, *names: str) -> None:
        """Forbid to declare these names again; see `resilient.flags.retired`."""
        place = Place.here()
        for name in names:
            folded = _folded(validation.name_of("names", name))
            with self._lock:
                there = self._flags.get(folded)
                if there is not None:
                    raise ValueError(
                        f"the flag {there.name!r} can't be retired at {place}: it is still "
                        f"declared, at {there.place}"
                    )
                self._retired[folded] = name, place

    def get(self, name: str | Flag) -> Flag:
        """Return a declared flag.

        Raises:
            LookupError: no flag has that name; the message names the nearest one.
        """
        if isinstance(name, Flag):
            name = name.name
        flag = self._flags.get(_folded(str(name)))
        if flag is None or flag.name != name:
            try:
                unknown("no flag is named", name, sorted(self.names()))
            except ValueError as error:
                raise LookupError(str(error)) from None
        return flag

    def find(self, name: str) -> Flag | None:
        """Return a declared flag, or None."""
        flag = self._flags.get(_folded(name))
        return flag if flag is not None and flag.name == name else None

    def all(self) -> list[Flag]:
        """Return every flag, in the order of declaration."""
        return list(self._flags.values())

    def names(self) -> list[str]:
        """Return every name, in the order of declaration."""
        return [flag.name for flag in self.all()]

    def forget(self, flag: Flag) -> None:
        """Allow another declaration of its name: for tests."""
        with self._lock:
            self._flags.pop(_folded(flag.name), None)

    def pinned(self, name: str) -> bool:
        """Return whether the environment forces a flag off.

        Raises:
            ValueError: the variable has a value other than off.
        """
        variable = variable_of(name)
        said = (os.environ if self._environ is None else self._environ).get(variable)
        if said is None or not said.strip():
            return False
        if said.strip().lower() != OFF:
            validation.refuse(
                variable, said, "'off': the environment can force a flag off, never on"
            )
        return True

    def is_pinned(self, name: str) -> bool:
        """Return whether the environment forces a flag off now; never raise for other values."""
        said = (os.environ if self._environ is None else self._environ).get(variable_of(name), "")
        return said.strip().lower() == OFF

    def unmatched(self) -> list[str]:
        """Return the environment's variables that force no declared flag off."""
        around = os.environ if self._environ is None else self._environ
        known = {variable_of(name) for name in self.names()}
        return sorted(v for v in around if v.startswith(PREFIX) and v not in known)

    def reset_lock(self) -> None:
        """Replace the lock, in a forked child."""
        self._lock = threading.Lock()


OFF: Final = "off"


def variable_of(name: str) -> str:
    """Return the environment variable that can force a flag off."""
    return PREFIX + "".join(c if c.isalnum() else "_" for c in name).upper()


def _folded(name: str) -> str:
    return variable_of(name)  # the environment could not distinguish two names of one variable


def _day(review: object) -> date | None:
    if review is None:
        return None
    from datetime import date, datetime

    allowed = "a date, or a str such as '2027-03-01'"
    if isinstance(review, date) and not isinstance(review, datetime):
        return review
    if type(review) is not str:
        validation.refuse_type("review", review, allowed)
    try:
        return date.fromisoformat(review)
    except ValueError:
        validation.refuse("review", review, allowed)
