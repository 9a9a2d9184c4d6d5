"""What a guard takes part in: it inherits from the facets of what it does. Provisional.

The engine asks which facets a guard has once, when a policy is built. Arguments that come again:
`now` is the policy's clock in seconds, `ticket` is what `admit` gave, `waiter` is a caller in the
guard's queue, `args` and `kwargs` are those of the call. What is not "under the lock" is outside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ..errors import RefusedError
from ..flag_handle import Flag
from ..outcomes import SUCCESS
from .asked import Asked
from .attached import Attached
from .base import Guard, Mode, Waiter
from .tried import Tried


class Admission(Guard):
    """It lets each attempt in, or refuses it.

    Attributes:
        error: the class of the error that a refused caller gets.
        why: the reason of a refusal; set by `admit` before it answers, read under the same lock.
    """

    error: ClassVar[type[RefusedError]] = RefusedError
    why: str = ""

    def admit(self, now: float) -> int:
        """Let an attempt in, or not; under the lock. What it raises, the caller gets.

        Returns:
            A ticket, at least 0, which `settle` gives back; or `REFUSE`; or `PARK`, with
            `Queueing`; or `ANSWER`, with `Answers`.
        """
        raise NotImplementedError

    def admits(self, mode: Mode) -> bool:
        """Return whether admit() and settle() are called for calls that run in this mode."""
        return True

    def settle_success(self, ticket: int, now: float, duration: float) -> None:
        """Take back the ticket of a success: as `settle`, or faster; under the lock."""
        self.settle(ticket, now, SUCCESS, duration, "", False)

    def release(self, ticket: int, now: float) -> None:
        """Take back the slot of an abandoned worker that has ended; under the lock."""

    def retry_after(self, now: float) -> float | None:
        """Return the seconds until a new call may pass, None if unknown; under the lock."""
        return None


class Queueing(Admission):
    """It has a queue: `admit` may answer `PARK`. See `resilient.guards.wait_queue`.

    It wakes those whose turn is another now by ``self.emit(waiter)``, also in `take_over`.
    """

    def park(self, waiter: Waiter, now: float) -> int:
        """Put a waiter in the queue: `PARK`, or what `admit` would say by now; under the lock."""
        raise NotImplementedError

    def unpark(self, waiter: Waiter, now: float) -> int:
        """Answer a waiter that woke: a ticket, `REFUSE`, or `PARK` to wait on; under the lock."""
        raise NotImplementedError

    def quit(self, waiter: Waiter, now: float) -> None:
        """Take a waiter out that gave up, if it is in, and hand on its grant; under the lock."""
        raise NotImplementedError

    def places(self) -> int:
        """Return how many callers may wait; 0 says that nobody ever does."""
        raise NotImplementedError


class Slots(Admission):
    """It bounds how many calls run at once: a block keeps its slot for as long as it is open."""

    def slots(self) -> int:
        """Return how many calls it lets run at once."""
        raise NotImplementedError


class InFlight(Admission):
    """It watches calls while they are in flight."""

    watches_ages: bool = False  # `pause` and `go_on` are called

    @property
    def slow_from(self) -> float:
        """The seconds from which on a call is slow to it."""
        return float("inf")

    @property
    def is_probing(self) -> bool:
        """Whether it lets probes in; it does not refuse calls that their bodies make."""
        return False

    def pause(self, ticket: int, now: float) -> None:
        """Stop the age of an attempt, which waits, but not for the dependency; under the lock."""

    def go_on(self, ticket: int, now: float) -> None:
        """Begin the age of a paused attempt anew; under the lock."""

    def confirm(self, ticket: int, now: float) -> int:
        """Return a ticket, or `REFUSE`, for an attempt that waited further in; under the lock.

        With `REFUSE` it has set `why` and taken the old ticket back itself, which no `settle` does.
        """
        return ticket


class Answers(Guard):
    """It can answer in place of the function: `settle` says `RECOVER`, or `admit` `ANSWER`.

    Attributes:
        is_blind: it answers every refusal, and does not look at the error.
        answer: what it answers, briefly.
        only_async, only_streams: it can serve no sync calls; no calls but generators.
    """

    is_blind: bool = False
    answer: str = ""
    only_async: bool = False
    only_streams: bool = False

    def recover(self, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer in place of the function, for an async call perhaps by an awaitable.

        Raises:
            NoAnswer: it has none: the error stands, or, after `ANSWER`, the call goes on inwards.
        """
        raise NotImplementedError

    def shortcut(self) -> tuple[Callable[..., Any] | None, Any]:
        """Return the function that `recover` only calls, and what it returns each time, or None."""
        return None, None

    def check_signature(self, fn: Callable[..., Any]) -> None:
        """Raise a TypeError, which says why, where it can't serve calls of fn."""


class Keeps(Guard):
    """It sees good values, perhaps to answer with one later."""

    def keep(self, value: Any, asked: Asked) -> None:
        """Take what the function returned, a success. What it raises is logged once."""
        raise NotImplementedError


class Retries(Admission):
    """It asks again: guards inside it see each attempt, those outside it see the one call.

    All but `hint` is called under the lock.

    Attributes:
        why_not: why there is no other attempt; set by `again`, read under the same lock.
        nested: "share" if the policy of an attempt that it is inside of pays, too.
    """

    why_not: str = ""
    nested: str = "share"

    def hint(self, error: Exception | None, value: Any) -> Any:
        """Return what `again` shall know of an error, or of a value that is a failure."""
        return None

    def again(self, ticket: int, now: float, tried: Tried) -> float | None:
        """Return the seconds until another attempt; None for no other, and `settle` follows."""
        raise NotImplementedError

    def begun(self, ticket: int, now: float, number: int) -> None:
        """Learn that the attempt it asked for begins, the so-manieth of the call."""

    def not_begun(self, ticket: int, now: float, why: str) -> None:
        """Learn that the attempt it asked for does not begin; why is "" if its caller left."""

    def pay(self, now: float) -> bool:
        """Pay an attempt that another policy makes inside one of ours, or not."""
        return True

    def pay_back(self, now: float) -> None:
        """Take back what `pay` paid: that attempt was not begun."""


class TimeLimit(Guard):
    """It bounds the time of all that is inside it; the drivers keep the limit.

    Attributes:
        sync: how sync calls keep to it: "thread", "cooperative", or None: not at all.
    """

    seconds: float  # how long that may take
    sync: str | None = None


class Switch(Admission, Attached):
    """It refuses while its flag is off; while that is on, no call asks it.

    When it is moved, it calls the policy's `refresh_gate`.
    """

    answers_anywhere: bool = False  # fallbacks inside it, too, answer its refusal
    flag: Flag
    has_answer: bool = False  # it answers by itself

    def needs_asking(self) -> bool:
        """Return whether calls have to ask it; under the lock."""
        raise NotImplementedError

    def is_off(self) -> bool:
        """Return whether it refuses every call now, a forced state or not; under the lock."""
        raise NotImplementedError


class Changeable(Guard):
    """Some of its options can change at run time.

    Attributes:
        changeable: their names, as the constructor takes them.
        starts_afresh: those among them whose change costs the state.
    """

    changeable: ClassVar[tuple[str, ...]] = ()
    starts_afresh: ClassVar[tuple[str, ...]] = ()

    def take_over(self, new: Guard, now: float) -> None:
        """Copy the options in `changeable` from a new guard of its kind; under the lock."""
        raise NotImplementedError


class Peered(Guard):
    """It has to know the other guards of its policy."""

    def replaces(self, old: Guard) -> None:
        """Share what is the policy's with the guard whose place it takes in a view."""

    def meet(self, guards: tuple[Guard, ...]) -> None:
        """Learn which guards stand in the same policy."""

    def peers_changed(self) -> None:
        """Learn that options of those guards, or its own, have changed; under the lock."""


class Restorable(Guard):
    """What it remembers of calls can be saved and put back, as between two tests."""

    def memory(self) -> float:
        """Return how long, in seconds, a finished call still influences it."""
        return 0.0

    def save(self) -> dict[str, Any]:
        """Return what it remembers, for `restore`; under the lock."""
        return {}

    def restore(self, saved: dict[str, Any]) -> None:
        """Remember what `save` returned; under the lock."""


class Jitters(Guard):
    """It spreads its times at random."""

    def jitter(self, on: bool) -> None:
        """Do so, or not: a policy with a manual clock wants exact times."""
        raise NotImplementedError


class Stateful(Admission, Restorable, Jitters):
    """It has a state that operators see, move and reset."""

    state: str = ""  # such as "open"

    def force(self, state: str | None, now: float) -> None:
        """Follow a forced state of the policy, None where it is released; under the lock."""

    def reset(self, now: float, why: str) -> None:
        """Begin anew; `why` is for its event; under the lock."""

    def jitter(self, on: bool) -> None:
        """Do nothing: most have no times to spread."""


def _note(*facets: type[Guard]) -> None:
    """Remember which facet each method is of, for a class that forgets to inherit from it."""
    for facet in facets:
        for name, member in vars(facet).items():
            asked = callable(member) or isinstance(member, property) or name == "changeable"
            if asked and name[0] != "_" and name not in vars(Guard) and name != "error":
                Guard._facet_of.setdefault(name, facet)


_note(
    Admission, Queueing, Slots, InFlight, Answers, Keeps, Retries, TimeLimit, Switch, Changeable,
    Peered, Restorable, Jitters, Stateful,
)  # fmt: skip
