"""Operators' orders as records: levers, flips, and how to merge two views of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any, Final, cast

from .. import validation

# The kinds of levers. A lever is written as its kind, "/" and a name.
FLAG: Final = "flag"  # flag/NAME: "on" or "off"
FORCED: Final = "forced"  # forced/POLICY: "forced_open" or "forced_closed"
OPTION: Final = "option"  # option/POLICY/GUARD.OPTION: a number, a bool, a str or None
KEY: Final = "key"  # key/POLICY/KEY: "forced_open" or "forced_closed", of one key of a policy
KINDS: Final = (FLAG, FORCED, OPTION, KEY)

RELEASED: Final = "released"  # it ends an order: what is declared holds

ON: Final = "on"
OFF: Final = "off"
_FORCED: Final[tuple[str, ...]] = ("forced_open", "forced_closed", RELEASED)
STATES: Final[dict[str, tuple[str, ...]]] = {
    FLAG: (ON, OFF, RELEASED),
    FORCED: _FORCED,
    KEY: _FORCED,
}
_LEVERS: Final = "flag/NAME, forced/POLICY, option/POLICY/GUARD.OPTION or key/POLICY/KEY"

LONGEST_REASON: Final = 500
LONGEST_KEY: Final = 200
OVERFLOW: Final = "(overflow)"
HIGHEST: Final = 10**15  # no valid version reaches it within 30,000 years
_LATEST: Final = 253_402_300_800.0  # the year 10,000


def lever_of(kind: str, name: str) -> str:
    """Return the lever of a flag or policy."""
    return f"{kind}/{name}"


def kind_of(lever: str) -> str:
    """Return the kind of a lever."""
    return lever.partition("/")[0]


def key_in(lever: str) -> str:
    """Return the key of a lever of one key."""
    return lever.split("/", 2)[2]


def name_of(lever: str) -> str:
    """Return the name of a lever's flag or policy, without an option's."""
    return lever.split("/")[1]


class Flip:
    """One recorded change of a lever.

    Attributes:
        lever: such as ``"flag/recommendations"`` or ``"forced/payments"``.
        value: such as ``"off"``, ``"forced_open"``, or ``"released"``.
        by: who.
        reason: why.
        at: when, in seconds since 1970, by the store's clock.
        until: when it ends by itself, by the same clock, or None.
        version: larger than the version of every earlier flip.
        request: the identity of one order, which a repeated request keeps.
    """

    __slots__ = ("at", "boot", "by", "due", "lever", "reason", "request", "until", "value",
                 "version")  # fmt: skip

    def __init__(
        self,
        lever: str,
        value: Any,
        *,
        by: str = "",
        reason: str = "",
        at: float = 0.0,
        until: float | None = None,
        version: int = 0,
        request: str = "",
        boot: str = "",
        due: float | None = None,
    ) -> None:
        self.lever: str = lever
        self.value: Any = value
        self.by: str = by
        self.reason: str = reason
        self.at: float = at
        self.until: float | None = until
        self.version: int = version
        self.request: str = request
        # The end on a clock that counts from a host's boot, which no change of the date moves.
        self.boot: str = boot
        self.due: float | None = due

    @property
    def kind(self) -> str:
        """The kind of its lever."""
        return kind_of(self.lever)

    @property
    def name(self) -> str:
        """The name of its flag or policy."""
        return name_of(self.lever)

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {name: getattr(self, name) for name in self.__slots__}

    def as_json(self) -> str:
        """Return it as one line."""
        import json  # imported here to keep `import resilient` light

        return json.dumps(self.as_data(), separators=(",", ":"))

    def __repr__(self) -> str:
        return f"<flip {self.version} {self.lever}={self.value} by {self.by!r}: {self.reason!r}>"


def flip_of(data: object) -> Flip:
    """Return the flip that plain data describes.

    Raises:
        ValueError: it does not describe a flip.
    """
    if isinstance(data, (str, bytes)):
        import json

        try:
            data = json.loads(data)
        except (ValueError, RecursionError, MemoryError):
            raise ValueError(f"not a flip: {validation.shown(data)}") from None
    given: Mapping[str, Any] = {}
    if isinstance(data, dict):
        given = cast("Mapping[str, Any]", data)
    try:
        flip = Flip(
            checked_lever(given["lever"]),
            checked_value(given["lever"], given["value"]),
            by=_words(given.get("by", "")),
            reason=_words(given.get("reason", "")),
            at=_seconds(given.get("at", 0.0)),
            until=None if given.get("until") is None else _seconds(given["until"]),
            version=_whole(given["version"]),
            request=_words(given.get("request", "")),
            boot=_words(given.get("boot", "")),
            due=None if given.get("due") is None else _seconds(given["due"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"not a flip ({error}): {validation.shown(given)}") from None
    return flip


def checked_lever(lever: object) -> str:
    """Return lever if it is well formed."""
    if type(lever) is not str:
        validation.refuse_type("lever", lever, "a str")
    kind, _, rest = lever.partition("/")
    name, _, option = rest.partition("/")
    if kind not in KINDS or (kind in (OPTION, KEY)) != bool(option):
        validation.refuse("lever", lever, _LEVERS)
    validation.name_of("lever", name)
    if kind == KEY:
        validation.text("lever", option, most=LONGEST_KEY)
        if option == OVERFLOW:
            validation.refuse("lever", lever, "of a key: no key is forced that shares guards")
        return lever
    parts = option.split(".")
    if option and not (len(parts) == 2 and all(part.isidentifier() for part in parts)):
        validation.refuse("lever", lever, "option/POLICY/GUARD.OPTION")
    return lever


def checked_value(lever: str, value: object) -> Any:
    """Return value if the lever can take it."""
    allowed = STATES.get(kind_of(lever))
    if allowed is not None:
        return validation.one_of(lever, value, allowed)
    if value is not None and type(value) not in (bool, int, float, str):
        validation.refuse_type(lever, value, "a number, True, False, a str or None")
    if type(value) is str:
        validation.text(lever, value)
    if type(value) is float and not isfinite(value):
        validation.refuse(lever, value, "a finite number")
    return value


def checked_reason(reason: object) -> str:
    """Return reason if it is not empty."""
    said = validation.text("reason", reason, most=LONGEST_REASON)
    if not said.strip():
        validation.refuse("reason", reason, "why, in a few words: it is what others read at 2 a.m.")
    return said


def checked_lasts(name: str, lasts: object) -> float | None:
    """Return how many seconds a flip lasts, None if it has no end."""
    return None if lasts is None else validation.duration(name, lasts)


def _words(value: object) -> str:
    if type(value) is not str or len(value) > 2 * LONGEST_REASON:
        raise ValueError("a text is none, or too long")
    # Logs and terminals show it, and anybody with access to the store may have written it.
    return value if value.isprintable() else "".join(c if c.isprintable() else "?" for c in value)


def _seconds(value: object) -> float:
    if type(value) not in (int, float) or not 0 <= cast("float", value) < _LATEST:
        raise ValueError("a time is none")
    return float(cast("float", value))


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value < HIGHEST:
        raise ValueError("a version is none")
    return value


def next_version(last: int, now: float) -> int:
    """Return the version of a flip made now.

    It counts in milliseconds, so that flips made after a store lost everything outrank those made
    before; and it rises even if the clock stands still or goes back.
    """
    return max(last + 1 if last < HIGHEST - 1 else 0, int(now * 1000))


def newer(known: Mapping[str, Flip], read: Iterable[Flip]) -> list[Flip]:
    """Return the flips of `read` that outrank the known ones, oldest first."""
    news: dict[str, Flip] = {}
    for flip in read:
        best = news.get(flip.lever) or known.get(flip.lever)
        if best is None or flip.version > best.version:
            news[flip.lever] = flip
    return sorted(news.values(), key=lambda flip: flip.version)


def same_order(flip: Flip, now: Flip | None) -> bool:
    """Return whether a flip orders what already holds, and so changes nothing."""
    if now is None:
        return bool(flip.value == RELEASED)
    ends = flip.until is not None or now.until is not None
    return bool(now.value == flip.value and not (ends and now.until != flip.until))
