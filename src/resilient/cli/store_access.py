"""Access to the store for the command line, and the exit codes of failures."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, NoReturn

import click

from ..errors import StoreError
from ..flags.environment import MEMORY, VARIABLE
from ..flags.operations import current, living
from ..flags.presence import Presence
from ..flags.stores.address import shown
from ..flags.stores.base import ConflictError, Store, UnknownOutcomeError
from ..flags.stores.urls import directory_for, opener_of
from ..validation import clean, nearest
from .store_view import StoreView

FINDINGS: Final = 1  # `status` and `doctor`: something is off, forced, or wrong
USAGE: Final = 2
NOT_ALL: Final = 3  # recorded, but some process does not obey yet
UNREACHED: Final = 4  # the store can't be reached, or refuses
CONFLICT: Final = 5  # somebody else was faster
UNKNOWN: Final = 6  # the store did not answer: it may or may not have recorded the flip
# 7 is in resilient.cli: done, but the answer could not be written


def fail(message: str, code: int) -> NoReturn:
    """Exit with a message and a code."""
    click.echo(f"resilient: {clean(message)}", err=True)
    raise SystemExit(code)


class StoreAccess:
    """The store that a command uses."""

    def __init__(self, setting: str | None) -> None:
        self.setting: str = setting or os.environ.get(VARIABLE, "")
        if self.setting in MEMORY:
            fail(
                f"no store is set, so no process could be reached. Set {VARIABLE}, or --store, to "
                "what the processes follow, such as sqlite:////var/lib/app/flags.db",
                USAGE,
            )
        try:
            self._opener = opener_of(self.setting)
            directory = directory_for(self.setting, None, os.environ)
        except (ValueError, TypeError) as error:
            fail(str(error), USAGE)
        self.presence: Presence = Presence(directory)

    @property
    def shown(self) -> str:
        """The setting, without a password."""
        return shown(self.setting)

    @contextmanager
    def store(self) -> Generator[Store]:
        """Yield the store; turn its errors into exit codes."""
        file = self.setting.removeprefix("sqlite:///")
        if file != self.setting:
            try:
                os.stat(file)
            except PermissionError:
                fail(f"{file} can't be looked at by this user: ask as the user that runs the "
                     "processes", UNREACHED)  # fmt: skip
            except OSError:
                fail(f"{file} does not exist: no process has used this store yet, or it was moved "
                     "or deleted", UNREACHED)  # fmt: skip
        try:
            store = self._opener()
            try:
                yield store
            finally:
                store.close()
        except ConflictError as error:
            flip = error.now
            fail(
                f"nothing was done: {flip.by or 'somebody'} has just set {flip.lever} to "
                f"{flip.value} ({flip.reason}). Look, and say it again if you still mean it",
                CONFLICT,
            )
        except UnknownOutcomeError as error:
            fail(
                f"the store did not answer ({error}): it may or may not have been recorded. Look "
                "with `resilient status`, or say it again: that does no harm",
                UNKNOWN,
            )
        except StoreError as error:
            fail(
                f"the store can't be used: {error}. Every process goes on with what it knows; to "
                "force a flag off all the same, set RESILIENT_FLAG_<NAME>=off and restart",
                UNREACHED,
            )
        except ValueError as error:
            fail(str(error), USAGE)


def look(reach: StoreAccess, store: Store) -> StoreView:
    """Return a view of a store, without the dead processes of this host."""
    flips, now = current(store)
    processes = living(store, reach.presence)[0] if store.writable else []
    return StoreView(flips, processes, now, counts=store.writable)


def known_name(name: str, names: list[str], what: str) -> str:
    """Return a known name, or exit with the nearest one."""
    if name in names:
        return name
    near = nearest(name, names)
    hint = f" Did you mean {near}?" if near else ""
    there = f" There is: {', '.join(names[:20])}." if names and not near else ""
    fail(
        f"no process declares a {what} named {name}.{hint}{there} A process is known from its "
        "first read or call on; --declare flips it all the same",
        USAGE,
    )
