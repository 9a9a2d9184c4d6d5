"""The flags part of the pytest plugin, used as its users use it."""

from __future__ import annotations

import asyncio
import json
import threading
import unittest

import pytest

from resilient import FlagOffError, flag, kill_switch
from resilient import flags as module
from resilient.testing import assert_off, flag_off, flag_on
from resilient.testing.flag_plugin import Flags

pytest_plugins = ["pytester"]

RECS = flag("plugin-recs", owner="team-recs")
BETA = flag("plugin-beta", default=False)


@kill_switch(RECS, answer=lambda user: ["top"])
def recs(user: str) -> list[str]:
    return ["for", user]


@kill_switch(RECS, answer=lambda user: ["top"])
async def arecs(user: str) -> list[str]:
    return ["for", user]


def home() -> str:
    return "personal" if RECS else "top 100"


# -- the fixture ---------------------------------------------------------------------


def test_off_and_on_again(flags: Flags) -> None:
    """The fixture turns a flag off and on, and what reads it sees that at once."""
    flags.off(RECS)
    assert home() == "top 100"
    assert recs("ana") == ["top"]
    flags.on("plugin-recs")
    assert home() == "personal"


def test_it_is_as_before() -> None:
    """The next test finds the flag as it is declared."""
    assert home() == "personal"
    assert not BETA


def test_set_several(flags: Flags) -> None:
    """A mapping sets several at once."""
    flags.set({RECS: False, BETA: True})
    assert (bool(RECS), bool(BETA)) == (False, True)


def test_overrides_reach_threads(flags: Flags) -> None:
    """A flag is off in every thread, not in the test's own alone."""
    flags.off(RECS)
    seen: list[str] = []
    thread = threading.Thread(target=lambda: seen.append(home()))
    thread.start()
    thread.join()
    assert seen == ["top 100"]


def test_unknown_flags_are_errors(flags: Flags) -> None:
    """A misspelt name is an error that has the nearest name."""
    with pytest.raises(LookupError, match="plugin-recs"):
        flags.off("plugin-rex")


@pytest.mark.flag_off(RECS)
def test_two_owners_do_not_share_a_flag(flags: Flags) -> None:
    """What a marker holds the fixture can't set."""
    assert not RECS
    with pytest.raises(RuntimeError, match="a marker holds it"):
        flags.on(RECS)


@pytest.mark.flag_states(RECS)
def test_both_states(request: pytest.FixtureRequest) -> None:
    """The marker runs a test once on and once off."""
    assert home() == ("top 100" if "=off" in request.node.name else "personal")


# -- without pytest's fixtures -------------------------------------------------------


def test_blocks_and_decorators() -> None:
    """A block and a decorated function, sync or async, have the flag off."""
    with flag_off(RECS):
        assert home() == "top 100"
    assert home() == "personal"
    assert flag_off(RECS)(home)() == "top 100"

    @flag_on(BETA)
    async def later() -> bool:
        await asyncio.sleep(0)
        return bool(BETA)

    assert asyncio.run(later())
    assert not BETA


def test_a_block_that_reads_nothing_fails() -> None:
    """Off proves nothing where nobody asked."""
    with pytest.raises(AssertionError, match="never read: plugin-recs"), flag_off(RECS):
        pass
    assert home() == "personal"


def test_blocks_do_not_nest_on_one_flag() -> None:
    """Two owners of one flag are told."""
    with flag_off(RECS):
        with pytest.raises(RuntimeError, match="holds it"), flag_on(RECS):
            pass
        assert home() == "top 100"


@flag_off(RECS)
class TestUnittest(unittest.TestCase):
    """A unittest class, decorated as a whole."""

    def test_off(self) -> None:
        assert home() == "top 100"


def test_assert_off() -> None:
    """The value, the reading and the body are all looked at, sync and async."""
    assert assert_off(RECS, recs, "ana", expect=["top"]) == ["top"]
    assert asyncio.run(assert_off(RECS, arecs, "ana", expect=["top"])) == ["top"]
    with pytest.raises(AssertionError, match="expected"):
        assert_off(RECS, recs, "ana", expect=["best"])
    with pytest.raises(AssertionError, match="never read"):
        assert_off(BETA, home)
    with pytest.raises(FlagOffError):
        assert_off(RECS, kill_switch(RECS)(home))


# -- whole runs ----------------------------------------------------------------------

APP = """
    from resilient import flag, kill_switch
    SEARCH = flag("search_v2", owner="team-search")
    RECS = flag("recs", owner="team-recs")
    @kill_switch(RECS, answer=lambda: "top 100")
    def recs(): return "personal"
    def search(): return "new" if SEARCH else "old"
"""
TESTS = """
    import pytest
    from app import *
    def test_recs(flags):
        flags.off(RECS)
        assert recs() == "top 100"
    def test_search():
        assert search() == "new"
"""


def test_the_flag_that_nobody_tests_off_is_named(pytester: pytest.Pytester) -> None:
    """A sample application has two flags, one of them tested off: the other is named."""
    pytester.makepyfile(app=APP, test_app=TESTS)
    done = pytester.runpytest_subprocess()
    assert done.ret == 0
    done.stdout.fnmatch_lines(["*search_v2*team-search*0*0*app.py:*never proved off*"])
    done.stdout.fnmatch_lines(["never read off by a passing test: search_v2"])


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_require_off_fails(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    """With --flags-require-off such a run fails, also when workers share the tests."""
    pytester.makepyfile(app=APP, test_app=TESTS)
    done = pytester.runpytest_subprocess("--flags-require-off", "--flags-report=r.json", *workers)
    assert done.ret == 1
    done.assert_outcomes(passed=2)
    table = json.loads((pytester.path / "r.json").read_text())
    assert table["recs"]["passed"] == ["test_app.py::test_recs"]
    assert table["search_v2"]["passed"] == []


def test_require_off_passes_where_every_flag_is_proved(pytester: pytest.Pytester) -> None:
    """A marker that runs a test in both states is proof enough."""
    pytester.makepyfile(
        app=APP,
        test_app="""
        import pytest
        from app import *
        @pytest.mark.flag_states(RECS, SEARCH)
        def test_both():
            assert (recs() == "top 100") == (not RECS)
            assert (search() == "old") == (not SEARCH)
        """,
    )
    done = pytester.runpytest_subprocess("--flags-require-off", "-v")
    done.assert_outcomes(passed=3)
    assert done.ret == 0
    done.stdout.fnmatch_lines(["*test_both?recs=off,search_v2=on?*"])


def test_a_failing_test_proves_nothing(pytester: pytest.Pytester) -> None:
    """A flag read off by a failing test alone is not proved."""
    pytester.makepyfile(
        app=APP,
        test_app="""
        from app import *
        def test_it(flags):
            flags.off(SEARCH, RECS)
            assert recs() and search() == "new"
        """,
    )
    done = pytester.runpytest_subprocess()
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["never read off by a passing test: recs, search_v2"])


def test_faults_of_tests_are_found(pytester: pytest.Pytester) -> None:
    """Off and never read, left changed, and a leak into the next test: each fails."""
    pytester.makepyfile(
        app=APP,
        test_app="""
        import pytest
        from app import *
        from resilient import flags as levers
        @pytest.mark.flag_off(RECS)
        def test_marked_and_never_read(): pass
        def test_fixture_and_never_read(flags): flags.off(RECS)
        def test_leaves_it_off(): levers.off(RECS, reason="for a try")
        def test_finds_it_on(): assert recs() == "personal"
        @pytest.mark.flag_off("no-such")
        def test_unknown(): pass
        """,
    )
    done = pytester.runpytest_subprocess()
    done.assert_outcomes(passed=2, failed=2, errors=2)
    done.stdout.fnmatch_lines(["*turned off and never read: recs*"])
    done.stdout.fnmatch_lines(["*the test left recs changed*"])


def test_all_off_runs_with_every_flag_off(pytester: pytest.Pytester) -> None:
    """--flags-all-off finds the test that needs a flag on."""
    pytester.makepyfile(app=APP, test_app=TESTS)
    done = pytester.runpytest_subprocess("--flags-all-off")
    done.assert_outcomes(passed=1, failed=1)


def test_the_environment_and_the_disk_count_for_nothing(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A developer's variables, store and copy decide no test."""
    monkeypatch.setenv("RESILIENT_FLAG_RECS", "off")
    monkeypatch.setenv("RESILIENT_STORE", f"sqlite:///{pytester.path}/flags.db")
    pytester.makepyfile(app=APP, test_app=TESTS)
    pytester.runpytest_subprocess().assert_outcomes(passed=2)
    assert not (pytester.path / "flags.db").exists()


def test_flips_of_the_test_itself_hold(request: pytest.FixtureRequest) -> None:
    """What a test flips by hand holds in it."""
    module.off(RECS, reason="for a try")
    assert home() == "top 100"
    module.on(RECS, reason="enough")
    assert home() == "personal"
