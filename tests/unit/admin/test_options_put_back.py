"""The pytest plugin puts options and layers back after each test."""

from __future__ import annotations

import textwrap

import pytest

pytest_plugins = ["pytester"]

HEAD = """
    from resilient import *
    from resilient.admin import options as updating
    from resilient.testing import ManualClock

    clock_ = ManualClock()
    shop = Policy(
        "shop", circuit_breaker(), bulkhead(20), timeout(1, sync="cooperative"), clock=clock_
    )
    own = shop.with_(timeout(2, sync="cooperative"))

    def options():
        return [guard.options() for guard in (*shop.guards, *own.guards)]

    def seen():
        return [
            {key: value for key, value in guard.items() if key in ("options", "changed", "state")}
            for guard in shop.snapshot()["guards"] + own.snapshot()["guards"]
        ]

    first, layers = seen(), [guard._layers for guard in shop.guards]

    def fails():
        raise OSError
"""


def passes(pytester: pytest.Pytester, *tests: str) -> None:
    """Run tests in the order in which they are written."""
    body = "".join(
        f"def test_{number}():\n{textwrap.indent(textwrap.dedent(each), '    ')}\n"
        for number, each in enumerate(tests)
    )
    pytester.makepyfile(textwrap.dedent(HEAD) + "\n" + body)
    pytester.runpytest_subprocess("-p", "no:randomly").assert_outcomes(passed=len(tests))


AS_BEFORE = """
    assert seen() == first
    assert [guard._layers for guard in shop.guards] == layers
"""


CHANGES = [
    'shop.update(bulkhead={"max_concurrent": 5}, circuit_breaker={"failure_rate": 0.1})',
    'shop.update(timeout={"seconds": 9})',
    'shop.update(timeout={"seconds": 90})',
    'shop.update(circuit_breaker={"probe_lease": 77})',
    'shop.update(circuit_breaker={"recovery_timeout": 77})',
    'shop.update(circuit_breaker={"slow_call_duration": 7, "window": calls(30)})',
    'shop.update(circuit_breaker={"metrics_only": True})',
    'own.update(timeout={"seconds": 9}, bulkhead={"order": "lifo"})',
    'load_settings(environ={"RESILIENT__SHOP__BULKHEAD__MAX_CONCURRENT": "5"})',
    'updating.update(shop._core, shop.guards, "operator", {"bulkhead": {"order": "lifo"}}, "")',
]


def test_the_next_test_finds_options_and_layers_as_declared(pytester: pytest.Pytester) -> None:
    """Whatever a test changed, in whichever layer, with calls in between."""
    tests = []
    for change in CHANGES:
        tests += [
            f"{change}\nassert seen() != first\nfor _ in range(9):\n    shop.try_call(fails)",
            AS_BEFORE,
            f"{change}\nassert seen() != first",
            AS_BEFORE,
        ]
    passes(pytester, *tests)


def test_options_that_were_changed_at_import_stay(pytester: pytest.Pytester) -> None:
    """A module that loads its settings has them in every test; a layer above goes again."""
    passes(
        pytester,
        """
        load_settings(environ={"RESILIENT__SHOP__BULKHEAD__MAX_CONCURRENT": "5"})
        assert shop.guards[1].options()["max_concurrent"] == 5
        """,
        AS_BEFORE,
    )
    pytester.makepyfile(
        textwrap.dedent(HEAD)
        + textwrap.dedent(
            """
            shop.update(bulkhead={"max_concurrent": 5})

            def test_one():
                shop.update(bulkhead={"max_concurrent": 6, "order": "lifo"})

            def test_two():
                assert shop.guards[1].options()["max_concurrent"] == 5
                assert shop.guards[1].options()["order"] == "fifo"
                changed = shop.snapshot()["guards"][1]["changed"]
                assert changed == {"max_concurrent": {"declared": 20, "by": "update"}}
            """
        )
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=2)


def test_evidence_and_state_are_put_back_with_a_window_that_changed(
    pytester: pytest.Pytester,
) -> None:
    """The window of before, with what was in it."""
    passes(
        pytester,
        """
        shop.update(circuit_breaker={"window": calls(50)})
        shop.try_call(fails)
        assert shop.snapshot()["guards"][0]["window"]["calls"] == 1
        """,
        """
        assert shop.snapshot()["guards"][0]["window"]["calls"] == 0
        shop.try_call(fails)
        clock_.advance(20)
        shop.try_call(fails)
        assert shop.snapshot()["guards"][0]["window"]["calls"] == 1, "a window of seconds again"
        """,
        AS_BEFORE,
    )
