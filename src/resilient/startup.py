"""Set the hooks of flags and policies, which do not import the modules that set them.

The hooks run at a process's first read of a flag, its first call of a policy, and its forks.
"""

from __future__ import annotations

from . import imports
from .engine import fork
from .engine.forced_state import ForcedState
from .engine.policy_state import PolicyState
from .flag_handle import Flag
from .flags import fork_exclusion
from .flags import runtime as flags
from .flags.runtime import here
from .guards.base import Guard


def install() -> None:
    """Set the hooks, once: not again where the package is loaded anew."""
    if Flag.on_first_read is _first_read:
        return
    here.flags.before_declaring = here.load
    here.flags.on_declared = here.declared
    Flag.on_first_read = _first_read
    PolicyState.on_first_call = _first_call
    PolicyState.on_fleet_asked = _ask_fleet
    PolicyState.on_keys_due = _end_forced_keys
    ForcedState.on_expired = here.expired
    for part in fork, flags, imports, fork_exclusion:
        part.install()


def _first_read(flag: Flag) -> None:
    here.first_read()
    _share()


def _first_call(core: PolicyState) -> bool:
    followed = here.first_call(core)
    _share(core)
    return followed


def _end_forced_keys(core: PolicyState) -> None:
    """End forced states of keys; imports what does it only then."""
    from .engine.forced_keys import expire_keys

    expire_keys(core)


def _ask_fleet(core: PolicyState, guard: Guard) -> None:
    """Ask for a rate limit that a fleet shares; imports `fleet_limits` only then."""
    from .fleet_limits.asker import here as asker

    asker.ask(core, guard)


def _share(core: PolicyState | None = None) -> None:
    """Start the page of this process, if it should have one; imports `pages` only then."""
    if here.runtime_directory is not None:
        from .pages.sharing import here as pages

        pages.begin(core)
