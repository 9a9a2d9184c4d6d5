"""Flags set by tests, and the proof that the tests read them: for any test runner."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from .. import validation
from ..callables import kind_of
from ..flag_handle import Flag
from ..flags.runtime import here

F = TypeVar("F", bound=Callable[..., Any])
Reads = set[tuple[str, bool]]  # the flags that were read, with the values


_listening: list[Reads] = []
_owners: dict[str, str] = {}  # the holder of a flag, by name


def listen() -> Reads:
    """Return a set that collects every read from now on, until `unlisten`."""
    reads: Reads = set()
    _listening.append(reads)
    here.state.watch(_seen)
    return reads


def unlisten(reads: Reads) -> None:
    """Stop collecting reads in a set."""
    _listening[:] = [each for each in _listening if each is not reads]
    here.state.watch(_seen if _listening else None)


def _seen(flag: Flag, on: bool) -> None:
    for reads in _listening:
        reads.add((flag.name, on))


class Overrides:
    """The flags that one owner, such as a fixture, has set; restored newest first."""

    def __init__(self, owner: str, *, any_of: bool = False) -> None:
        self._owner = owner
        self._any_of = any_of  # a read of one of the flags turned off is enough
        self._before: list[tuple[str, bool | None]] = []
        self.off: dict[str, Reads] = {}  # the flags it turned off, and the reads since

    def set(self, flag: str | Flag, on: bool) -> None:
        """Set a flag until `restore`."""
        found = here.flags.get(flag)
        validation.flag("on", on)
        name, holder = found.name, _owners.setdefault(found.name, self._owner)
        if holder != self._owner:
            raise RuntimeError(
                f"the flag {name} can't be set by {self._owner}: {holder} holds it, and one of the "
                "two would test something else than it says"
            )
        self._before.append((name, here.state.override(name, on)))
        if on:
            self._forget(name)
        elif name not in self.off:
            self.off[name] = listen()

    def unread(self) -> list[str]:
        """Return the flags that it turned off and that no code has read since."""
        unread = [name for name, reads in self.off.items() if (name, False) not in reads]
        return [] if self._any_of and len(unread) < len(self.off) else unread

    def restore(self) -> None:
        """Restore every flag's previous value."""
        while self._before:
            name, before = self._before.pop()
            here.state.override(name, before)
            _owners.pop(name, None)
        for name in list(self.off):
            self._forget(name)

    def _forget(self, name: str) -> None:
        reads = self.off.pop(name, None)
        if reads is not None:
            unlisten(reads)


class Forced:
    """Flags on or off inside a ``with`` block or a decorated test; see `flag_off`."""

    def __init__(self, flags: tuple[str | Flag, ...], on: bool) -> None:
        if not flags:
            raise TypeError("name at least one flag")
        for each in flags:
            if not isinstance(each, (str, Flag)):
                validation.refuse_type("flags", each, "flags, or their names")
        self._flags = flags
        self._on = on
        self._open: list[Overrides] = []

    def __enter__(self) -> Self:
        mine = Overrides(f"a block {len(self._open)} of {self!r} at {id(self):#x}")
        try:
            for flag in self._flags:
                mine.set(flag, self._on)
        except BaseException:
            mine.restore()
            raise
        self._open.append(mine)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        mine = self._open.pop()
        unread = mine.unread()
        mine.restore()
        if kind is None and unread:
            raise AssertionError(never_read(unread))

    def __call__(self, test: F, /) -> F:
        """Decorate a test, sync or async, or every test of a unittest class."""
        if isinstance(test, type):
            for name in dir(test):  # inherited ones too
                inside: Any = getattr(test, name)
                if name.startswith("test") and callable(inside):
                    setattr(test, name, self(inside))
            return cast("F", test)
        if kind_of(test) == "async":

            @functools.wraps(test)
            async def run_async(*args: Any, **kwargs: Any) -> Any:
                with Forced(self._flags, self._on):
                    return await test(*args, **kwargs)

            return cast("F", run_async)

        @functools.wraps(test)
        def run(*args: Any, **kwargs: Any) -> Any:
            with Forced(self._flags, self._on):
                return test(*args, **kwargs)

        return cast("F", run)

    def __repr__(self) -> str:
        names = ", ".join(f if isinstance(f, str) else f.name for f in self._flags)
        return f"flag_{'on' if self._on else 'off'}({names})"


def flag_off(*flags: str | Flag) -> Forced:
    """Turn flags off inside a block or a decorated test, in every thread.

    For tests that do not run under pytest, and for a part of a test. A block or test that ends
    without a read of them fails: it has proved nothing.

    Args:
        *flags: the flags, or their names.

    Returns:
        A context manager, and a decorator for functions, async functions and unittest classes.

    Raises:
        LookupError: at the beginning: a name has no declared flag.
        RuntimeError: at the beginning: other code of the test has set a flag.
        AssertionError: at the end: no code has read a flag.

    Example:
        >>> from resilient import flag
        >>> from resilient.testing import flag_off
        >>> OFFERS = flag("offers")
        >>> with flag_off(OFFERS):
        ...     print("offers" if OFFERS else "nothing")
        nothing
    """
    return Forced(flags, on=False)


def flag_on(*flags: str | Flag) -> Forced:
    """Turn flags on inside a block or a decorated test, in every thread.

    Args:
        *flags: the flags, or their names.

    Returns:
        A context manager, and a decorator for functions, async functions and unittest classes.

    Raises:
        LookupError: at the beginning: a name has no declared flag.
        RuntimeError: at the beginning: other code of the test has set a flag.

    Example:
        >>> from resilient import flag
        >>> from resilient.testing import flag_on
        >>> SOON = flag("soon", default=False)
        >>> with flag_on(SOON):
        ...     bool(SOON)
        True
    """
    return Forced(flags, on=True)


def never_read(names: list[str]) -> str:
    """Return the failure of a test that turned flags off without reading them."""
    return (
        f"turned off and never read: {', '.join(names)}. What ran does not ask the flag, or asked "
        "it before (at import, or in a cache), so nothing was proved of off"
    )
