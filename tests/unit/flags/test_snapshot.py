"""The snapshot of all flags: a mapping that settles none, and knows those declared later."""

from __future__ import annotations

import pytest

from resilient import flag, flags
from resilient.flag_handle import Flag
from resilient.flags.flip import Flip
from tests.unit.flags.kit import states

LISTED = flag("fault-listed")


def test_a_snapshot_knows_a_flag_declared_later() -> None:
    """It gives what the flag says then, not its default."""
    state = states({"RESILIENT_FLAG_PINNED": "off"})
    state.adopt([Flip("flag/flipped", "off", version=1)], 0.0)
    view = state.snapshot()
    for name in ("pinned", "flipped"):
        late = state.flags.declare(name)
        assert not late
        assert view[late] is False
        assert view[name] is False
    assert view[state.flags.declare("plain")] is True


def test_a_snapshot_is_a_mapping() -> None:
    """What it does not have is a KeyError to look up, and nothing else."""
    state = states({})
    state.flags.declare("recs")
    view = state.snapshot()
    assert "nope" not in view
    assert view.get("nope") is None
    assert view.get("recs") is True
    with pytest.raises(KeyError, match="no flag is named 'nope'"):
        view["nope"]


def test_a_snapshot_in_memory_settles_no_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    """A view at the beginning of each request costs nothing for each flag."""
    flags.snapshot()
    settled: list[Flag] = []
    real = Flag.settle
    monkeypatch.setattr(Flag, "settle", lambda self: settled.append(self) or real(self))
    for _ in range(3):
        assert flags.snapshot()[LISTED]
    assert not settled
