"""Flips, states and counts, as the tests of flags look at them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resilient.flags.declarations import Flags
from resilient.flags.flip import Flip
from resilient.flags.operations import Acknowledgement
from resilient.flags.state import State
from tests.kit.followers import off


def flip(store: Any, name: str, value: str = "off", lasts: float | None = None) -> Flip:
    """Flip a flag in a store, as somebody else does."""
    made: Flip = store.flip(off(name, value=value), lasts, None)
    return made


def states(environ: Mapping[str, str]) -> State:
    """Return a state of no process."""
    state = State(Flags(environ=environ))
    state.flags.on_declared = state.declared
    state.read(fresh=False)
    return state


def counted(store: Any, made: Flip) -> tuple[int, int]:
    """Return how many processes have applied a flip, and how many it is for."""
    seen = Acknowledgement(made, *store.processes())
    return len(seen.applied), seen.known
