"""What a guard can take part in: it inherits from the facets of what it does.

The engine looks at a facet only to sort the guards of a policy, when that is built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Protocol

from ..errors import RefusedError
from ..flag_handle import Flag
from ..outcomes import SUCCESS
from .base import Guard, Mode, Waiter


class Admission(Guard):
    """It lets each attempt in, or refuses it."""

    error: ClassVar[type[RefusedError]] = RefusedError
    why: str = ""  # the reason of the refusal made now

    def admit(self, now: float) -> int:
        """Let an attempt in: a ticket >= 0, or REFUSE, PARK or ANSWER. Under the lock."""
        raise NotImplementedError

    def admits(self, mode: Mode) -> bool:
        """Return whether admit() and settle() are called for calls that run in this mode."""
        return True

    def settle_success(self, ticket: int, now: float, duration: float) -> None:
        """Take a success: settle(), for those to whom each good call's nanoseconds matter."""
        self.settle(ticket, now, SUCCESS, duration, "", False)

    def release(self, ticket: int, now: float) -> None:
        """Take back the slot of an abandoned worker that has ended. Under the lock."""

    def retry_after(self, now: float) -> float | None:
        """Return the seconds until a new call may pass, where it is known. Under the lock."""
        return None

    def after_fork(self, now: float, own: int) -> None:
        """Drop, in a forked child, all but what `own` calls of the forking thread hold."""


class Queueing(Admission):
    """It has a queue: admit() may answer PARK. See `resilient.guards.wait_queue`."""

    def park(self, waiter: Waiter, now: float) -> int:
        """Put a waiter in the queue: PARK, or a ticket or REFUSE where no wait is needed."""
        raise NotImplementedError

    def unpark(self, waiter: Waiter, now: float) -> int:
        """Answer a waiter that woke: a ticket, REFUSE, or PARK to wait on. Under the lock."""
        raise NotImplementedError

    def quit(self, waiter: Waiter, now: float) -> None:
        """Take a waiter out of the queue, and hand on what it was granted. Under the lock."""
        raise NotImplementedError

    def places(self) -> int:
        """Return how many callers may wait."""
        raise NotImplementedError


class Slots(Admission):
    """It bounds how many calls run at once."""

    def slots(self) -> int:
        """Return how many calls it lets run at once."""
        raise NotImplementedError


class InFlight(Admission):
    """It watches calls while they are in flight."""

    watches_ages: bool = False  # pause() and go_on() tell it something

    @property
    def slow_from(self) -> float:
        """The seconds from which on it takes a call for slow."""
        return float("inf")

    @property
    def is_probing(self) -> bool:
        """Whether it lets few in, the calls of whose bodies are not to be refused."""
        return False

    def pause(self, ticket: int, now: float) -> None:
        """Learn that an attempt waits for something that is not the dependency: its age stops."""

    def go_on(self, ticket: int, now: float) -> None:
        """Learn that a paused attempt goes on: its age begins anew. Under the lock."""

    def confirm(self, ticket: int, now: float) -> int:
        """Confirm the ticket of an attempt that waited further inside: a ticket or REFUSE."""
        return ticket


class Answers(Guard):
    """It can answer in place of the function: settle() says RECOVER, or admit() ANSWER."""

    is_blind: bool = False  # it answers every refusal, without looking at the error
    answer: str = ""  # what it answers, in a few words
    only_async: bool = False  # it can't serve sync calls
    only_streams: bool = False  # it can't serve calls that are not generators

    def recover(self, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer instead of the function; outside the lock. It may return an awaitable.

        Raises:
            NoAnswer: there is none. Where admit() said ANSWER the call goes on inwards.
        """
        raise NotImplementedError

    def check_signature(self, fn: Callable[..., Any]) -> None:
        """Raise a TypeError if it can't serve calls of fn."""


class Keeps(Guard):
    """It takes note of good values, such as to answer with one later."""

    def keep(self, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take what the function returned, a success; outside the lock."""
        raise NotImplementedError


class Retries(Admission):
    """It asks again: the guards inside it see each attempt, those outside the call."""

    def hint(self, error: Exception) -> Any:
        """Return what an error says of when to ask again; outside the lock."""
        return None

    def again(
        self, ticket: int, now: float, attempts: int, outcome: int, hint: Any
    ) -> float | None:
        """Return the seconds until another attempt, None where there is to be none.

        Under the lock. The ticket is kept for another attempt, else settle() takes it back.

        Args:
            ticket: what admit() gave.
            now: the clock.
            attempts: how many have ended, this one too.
            outcome: how this one ended.
            hint: what hint() gave.
        """
        raise NotImplementedError


class TimeLimit(Guard):
    """It bounds the time of all that is inside it; the drivers keep the limit."""

    seconds: float
    sync: str | None = None  # how it is kept for sync calls: "thread", "cooperative" or not at all


class Gated(Protocol):
    """What a switch knows of its policy."""

    def refresh_gate(self) -> None:
        """Look at the switches again."""
        ...


class Switch(Admission):
    """It refuses while it is off; while it is on, no call asks it."""

    answers_anywhere: bool = False  # fallbacks inside it, too, answer its refusal
    flag: Flag
    has_answer: bool = False  # it answers by itself

    def attach(self, core: Gated) -> None:
        """Learn whose gate is to be looked at anew when it is moved."""
        raise NotImplementedError

    def needs_asking(self) -> bool:
        """Return whether calls have to ask it. While not, none does. Under the lock."""
        raise NotImplementedError

    def is_off(self) -> bool:
        """Return whether it refuses every call now, whatever else there is. Under the lock."""
        raise NotImplementedError


class Changeable(Guard):
    """Some of its options can change at run time."""

    changeable: ClassVar[tuple[str, ...]] = ()
    starts_afresh: ClassVar[tuple[str, ...]] = ()  # those among them that cost the state

    def take_over(self, new: Guard, now: float) -> None:
        """Take over the options named in `changeable` from a new one. Under the lock."""
        raise NotImplementedError


class Peered(Guard):
    """It has to know the other guards of its policy."""

    def replaces(self, old: Guard) -> None:
        """Share what is one policy's with the guard of its kind whose place it takes in a view."""

    def meet(self, guards: tuple[Guard, ...]) -> None:
        """Learn which guards stand in the same policy."""

    def peers_changed(self) -> None:
        """Learn that options of those guards, or its own, have changed. Under the lock."""


class Stateful(Admission):
    """It has a state that operators see, move and reset, and that tests keep and put back."""

    state: str = ""  # such as "open"

    def memory(self) -> float:
        """Return how long, in seconds, a finished call still influences it."""
        return 0.0

    def force(self, state: str | None, now: float) -> None:
        """Follow a forced state of the policy; None releases it. Under the lock."""

    def reset(self, now: float, why: str) -> None:
        """Begin anew. Under the lock."""

    def jitter(self, on: bool) -> None:
        """Draw from the random source, or leave it out."""

    def save(self) -> dict[str, Any]:
        """Return its state, for restore(); options that can change at run time are part of it."""
        return {}

    def restore(self, saved: dict[str, Any]) -> None:
        """Set the state that save() returned."""


def _note(*facets: type[Guard]) -> None:
    """Remember whose each method is, so that none can be written in vain."""
    for facet in facets:
        for name, member in vars(facet).items():
            asked = callable(member) or isinstance(member, property) or name == "changeable"
            if asked and name[0] != "_" and name not in vars(Guard) and name != "error":
                Guard._facet_of.setdefault(name, facet)


_note(
    Admission, Queueing, Slots, InFlight, Answers, Keeps, Retries, TimeLimit, Switch, Changeable,
    Peered, Stateful,
)  # fmt: skip


def time_limits(guards: Iterable[Guard]) -> list[TimeLimit]:
    """Return those that bound time, outermost first."""
    return [guard for guard in guards if isinstance(guard, TimeLimit)]


def changeable_options(guard: Guard) -> tuple[str, ...]:
    """Return the names of the options that can change at run time."""
    return guard.changeable if isinstance(guard, Changeable) else ()


def answering(guards: Iterable[Guard]) -> list[Answers]:
    """Return those that answer for the guards inside them, as a switch does not."""
    found = (guard for guard in guards if isinstance(guard, Answers))
    return [guard for guard in found if not isinstance(guard, Admission)]
