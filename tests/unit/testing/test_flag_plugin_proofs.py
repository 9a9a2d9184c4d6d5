"""The flags part of the pytest plugin: fixtures, products of states, inheritance, and what is no proof."""

from __future__ import annotations

import pytest

from resilient import Policy, flag, kill_switch
from resilient.testing import assert_off

pytest_plugins = ["pytester"]

LEAKING = flag("fault-leaking")

ALONE = ("-p", "resilient.testing.plugin")  # with no other plugin, which takes a second to load
APP = """
    from resilient import flag
    X, A, B = flag("x"), flag("a"), flag("b")
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load no other plugin in the runs below."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def outcomes(pytester: pytest.Pytester, tests: str, **expected: int) -> pytest.RunResult:
    """Run tests of an application with three flags, and check how many came out how."""
    pytester.makepyfile(app=APP, test_app=tests)
    done = pytester.runpytest_subprocess(*ALONE)
    done.assert_outcomes(**expected)
    return done


def test_a_fixture_of_a_module_may_hold_a_flag_off(pytester: pytest.Pytester) -> None:
    """A block that is open over many tests is no change that a test has left."""
    outcomes(
        pytester,
        """
        import pytest
        from app import X
        from resilient.testing import flag_off
        @pytest.fixture(scope="module", autouse=True)
        def off():
            with flag_off(X):
                yield
        def test_one(): assert not X
        def test_two(): assert not X
        def test_three(): assert not X
        """,
        passed=3,
    )


def test_a_flag_of_a_test_starts_on_in_the_next(pytester: pytest.Pytester) -> None:
    """Declared and flipped off in one test, it is as declared where another declares it."""
    outcomes(
        pytester,
        """
        from resilient import flag, flags
        def make(): return flag("made_in_a_test")
        def test_one():
            made = make()
            flags.off(made, reason="for a try")
            assert not made
        def test_two(): assert make()
        def test_three():
            made = make()
            flags.off(made, reason="for a try", duration=60)
            assert not made
        def test_four(): assert make()
        """,
        passed=4,
    )


def test_a_bad_value_leaves_no_owner_behind(pytester: pytest.Pytester) -> None:
    """What the fixture refused to set, a block may set, in the same test and in the next."""
    outcomes(
        pytester,
        """
        import pytest
        from app import X
        from resilient.testing import flag_off
        def test_one(flags):
            with pytest.raises(TypeError):
                flags.set({X: 0})
            with flag_off(X):
                assert not X
        def test_two():
            with flag_off(X):
                assert not X
        """,
        passed=2,
    )


def test_a_product_of_states_passes_where_one_is_read(pytester: pytest.Pytester) -> None:
    """With both off, `A and B` reads A alone; where none is read it fails still."""
    done = outcomes(
        pytester,
        """
        import pytest
        from app import A, B
        @pytest.mark.flag_states(A, B, product=True)
        def test_both():
            if A and B:
                pass
        @pytest.mark.flag_states(A, B, product=True)
        def test_none(): pass
        """,
        passed=5,
        failed=3,
    )
    done.stdout.fnmatch_lines(["*turned off and never read: a, b*"])


def test_states_of_a_unittest_method_are_a_usage_error(pytester: pytest.Pytester) -> None:
    """It can't be run twice, and is not passed over in silence."""
    done = outcomes(
        pytester,
        """
        import pytest, unittest
        from app import A
        class Case(unittest.TestCase):
            @pytest.mark.flag_states(A)
            def test_states(self): pass
        """,
        errors=1,
    )
    done.stdout.fnmatch_lines(["*UsageError: flag_states can't make two tests of a method*"])


def test_flag_off_reaches_inherited_tests(pytester: pytest.Pytester) -> None:
    """Those of a base class too, and the base class stays as it is."""
    outcomes(
        pytester,
        """
        import unittest
        from app import A, X
        from resilient.testing import flag_off
        class Base(unittest.TestCase):
            expected = True
            def test_inherited(self): self.assertEqual(bool(X), self.expected)
        @flag_off(X)
        class Off(Base):
            expected = False
            def test_own(self): self.assertFalse(bool(X))
            @flag_off(A)
            def test_two(self): self.assertFalse(bool(A) or bool(X))
        """,
        passed=4,
    )


def test_collecting_alone_requires_nothing(pytester: pytest.Pytester) -> None:
    """A run of no test proves nothing of a flag, and fails nothing."""
    pytester.makepyfile(app=APP, test_app="from app import X\ndef test_x(): assert X\n")
    done = pytester.runpytest_subprocess(*ALONE, "--collect-only", "--flags-require-off")
    assert done.ret == 0
    done = pytester.runpytest_subprocess(*ALONE, "--flags-require-off")
    assert done.ret == 1


def test_two_runs_in_one_process_share_no_proof(pytester: pytest.Pytester) -> None:
    """What the first has read off, the second has not."""
    pytester.makepyfile(
        app=APP,
        test_proves="""
        from app import *
        def test_it(flags):
            flags.off("x", "a", "b")
            assert not (X or A or B)
        """,
        test_proves_nothing="from app import *\ndef test_it(): assert X\n",
    )
    script = pytester.makepyfile(
        main="""
        import pytest
        for name in ("test_proves.py", "test_proves_nothing.py", "test_proves.py"):
            code = pytest.main([name, "--flags-require-off", "-p", "resilient.testing.plugin"])
            print("ended with", int(code), flush=True)
        """
    )
    done = pytester.runpython(script)
    done.stdout.fnmatch_lines(["ended with 0", "ended with 1", "ended with 0"])


def test_a_listing_is_no_proof_of_off(pytester: pytest.Pytester) -> None:
    """Who copies a whole snapshot has asked no flag; who looks one up has."""
    done = outcomes(
        pytester,
        """
        import app
        from resilient import flags as levers
        def test_listing(flags):
            flags.off("x")
            assert dict(levers.snapshot())["x"] is False
        def test_lookup(flags):
            flags.off("x")
            assert levers.snapshot()[app.X] is False
        """,
        passed=1,
        failed=1,
    )
    done.stdout.fnmatch_lines(["*turned off and never read: x*"])


def test_assert_off_finds_a_leak() -> None:
    """An answer that asks the vendor all the same, through the policy, lets calls in."""
    policy = Policy("fault-leak")

    def fetch(user: str) -> list[str]:
        return ["for", user]

    leak = policy.with_(kill_switch(LEAKING, answer=lambda user: policy.call(fetch, user)))
    with pytest.raises(AssertionError, match="calls were let in by fault-leak"):
        assert_off(LEAKING, leak.call, fetch, "ana")
    tight = policy.with_(kill_switch(LEAKING, answer=lambda *_: ["top"]))
    assert assert_off(LEAKING, tight.call, fetch, "ana", expect=["top"]) == ["top"]


@pytest.mark.parametrize(
    "body", ["async def f(): return bool(X)", "def f(): return bool(X) or later()"]
)
def test_an_assertion_that_nobody_awaits_fails_its_test(
    pytester: pytest.Pytester, body: str
) -> None:
    """Nothing was asserted; the next test is none the worse."""
    done = outcomes(
        pytester,
        f"""
        import asyncio, warnings
        from app import X
        from resilient.testing import assert_off
        warnings.simplefilter("ignore")
        async def later(): return bool(X)
        {body}
        def test_forgotten(): assert_off(X, f, expect="nonsense")
        def test_kept(): asyncio.run(awaited())
        async def awaited(): assert await assert_off(X, f, expect=False) is False
        """,
        passed=1,
        failed=1,
    )
    done.stdout.fnmatch_lines(["*nobody has awaited assert_off(x, *f): nothing was asserted"])
