"""Declaring flags, and reading them."""

from __future__ import annotations

import copy
import datetime as dt
import pickle
from typing import Any

import pytest

from resilient import Flag, flag, flags
from resilient.flags.declarations import Flags, variable_of
from tests.kit.waiting import until

HERE = flag("flags-here")


def declared(name: str, **options: Any) -> Flag:
    """Declare a flag, at this very place."""
    return flag(name, **options)


def test_a_flag_is_on_and_known() -> None:
    """It is on, carries what it was declared with, and is found by its name."""
    shown = declared("flags-shown", owner="us", impact="Nothing.", review="2027-03-01")
    assert shown
    assert (shown.owner, shown.impact, shown.default) == ("us", "Nothing.", True)
    assert shown.review == dt.date(2027, 3, 1)
    assert flags.get("flags-shown") is shown
    assert repr(shown) == "<flag flags-shown: on>"
    assert not declared("flags-dark", default=False)


def test_the_same_declaration_gives_the_same_flag() -> None:
    """A declaration that is carried out again, as by a reload, is one flag."""
    assert declared("flags-twice", owner="a") is declared("flags-twice", owner="b")
    assert flags.get("flags-twice").owner == "b"


@pytest.mark.parametrize("name", ["flags-here", "flags_here", "FLAGS.HERE"])
def test_names_collide(name: str) -> None:
    """Another place can't declare the name, nor one that looks like it; both places are shown."""
    with pytest.raises(ValueError, match=r"test_declaring\.py:\d+"):
        flag(name)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"name": ""}, ValueError, "name must be 1 to 100"),
        ({"name": "a b"}, ValueError, "name must be"),
        ({"name": "a\n"}, ValueError, "name must be"),
        ({"name": None}, TypeError, "name must be a str"),
        ({"owner": 3}, TypeError, "owner must be a str"),
        ({"impact": "a\x1b[0m"}, ValueError, "impact must be printable"),
        ({"review": "soon"}, ValueError, "review must be a date"),
        ({"review": 2027}, TypeError, "review must be a date"),
        ({"review": dt.datetime(2027, 1, 1)}, TypeError, "review must be a date"),  # noqa: DTZ001 - it is refused
        ({"default": 1}, TypeError, "default must be True or False"),
    ],
)
def test_bad_declarations(options: dict[str, Any], error: type[Exception], words: str) -> None:
    """Each error names the parameter and what is allowed; nothing is declared."""
    before = len(flags.snapshot())
    with pytest.raises(error, match=words):
        declared(**{"name": "flags-bad", **options})
    assert len(flags.snapshot()) == before


def test_undeclared_names_are_errors() -> None:
    """Nowhere does a typo become a default; the nearest name is told."""
    for look in (lambda: flags.get("flags-hre"), lambda: flags.snapshot()["flags-hre"],
                 lambda: flags.off("flags-hre", reason="x")):  # fmt: skip
        with pytest.raises(LookupError, match="did you mean 'flags-here'"):
            look()


def test_retired_names_stay_retired() -> None:
    """A retired name can't be declared again, and a living one not retired."""
    flags.retired("flags-gone")
    with pytest.raises(ValueError, match=r"'flags-gone' was retired at .*test_declaring\.py"):
        flag("flags_gone")
    with pytest.raises(ValueError, match="still declared"):
        flags.retired("flags-here")


def test_the_environment_only_forces_off() -> None:
    """Off is obeyed; anything else is an error at the declaration that names the variable."""
    around = {"RESILIENT_FLAG_A_B": " OFF ", "RESILIENT_FLAG_C": "on", "RESILIENT_FLAG_D": "off"}
    mine = Flags(around)
    assert mine.pinned("a-b")
    assert mine.pinned("a.b")
    assert not mine.pinned("e")
    with pytest.raises(ValueError, match="RESILIENT_FLAG_C must be 'off'"):
        mine.declare("c")
    mine.declare("a-b")
    assert mine.unmatched() == ["RESILIENT_FLAG_C", "RESILIENT_FLAG_D"]
    assert variable_of("a<b>:c#1") == "RESILIENT_FLAG_A_B__C_1"


def test_a_snapshot_does_not_change() -> None:
    """One view gives one answer, by flag and by name, whatever is flipped meanwhile."""
    view = flags.snapshot()
    flags.off(HERE, reason="a try")
    assert view[HERE]
    assert view["flags-here"]
    assert not flags.snapshot()[HERE]
    assert set(view) <= set(flags.snapshot())
    assert "flags" in repr(view)
    flags.on(HERE, reason="enough")


def test_copies_are_the_flag_itself() -> None:
    """A flag in an object that is copied or pickled is the one flag of the process."""
    assert copy.copy(HERE) is HERE
    assert copy.deepcopy([HERE])[0] is HERE
    assert pickle.loads(pickle.dumps(HERE)) is HERE


@pytest.mark.parametrize("reason", ["", "  ", "a\nb", 3, "x" * 501])
def test_flips_need_a_reason(reason: Any) -> None:
    """A flip without a word on why is refused, and nothing has changed."""
    with pytest.raises((ValueError, TypeError), match="reason must be"):
        flags.off(HERE, reason=reason)
    assert HERE


def test_a_timed_flip_of_the_own_memory_ends() -> None:
    """Without a store a timed flip ends by itself too."""
    from resilient.flags.runtime import here

    flags.off(HERE, reason="a try", duration=2)
    assert not HERE
    until(lambda: bool(HERE))
    here.stop()
