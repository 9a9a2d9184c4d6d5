"""The same declaration again: a reload replaces, a function joins, and all that lives is reached."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import resilient
from resilient import (
    CircuitOpenError,
    DeclarationWarning,
    Policy,
    bulkhead,
    circuit_breaker,
    fallback,
    flag,
)
from resilient.admin.registry import registry

HEAD = "from resilient import *\n"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a module, import it, and load it again after an edit."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    name = "declares_again"

    def load(text: str) -> ModuleType:
        (tmp_path / f"{name}.py").write_text(HEAD + text)
        importlib.invalidate_caches()
        there = sys.modules.get(name)
        return importlib.reload(there) if there else importlib.import_module(name)

    yield load
    sys.modules.pop(name, None)
    for each in registry.names():
        if "declares_again" in each or each.startswith("again-"):
            registry.remove(each)


def run(cell: str, number: int) -> dict[str, Any]:
    """Run a cell of a notebook, whose file is named by its text."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(HEAD + cell, f"ipykernel_1/{number}.py", "exec"), names)
    return names


def test_a_reload_after_an_edit(module: Any) -> None:
    before = module(
        "pay = Policy('again-pay', circuit_breaker())\n@pay\ndef charge(): return 1\n"
    ).charge
    module("import os\n\npay = Policy('again-pay', bulkhead(3))\ncharge = None\n")
    assert [g["guard"] for g in policies()["again-pay"]["guards"]] == ["bulkhead"]
    assert [g["guard"] for g in policies()["again-pay"]["replaced"][0]["guards"]] == [
        "circuit_breaker"
    ]
    assert before() == 1
    assert policies()["again-pay"]["replaced"][0]["calls"]["success"] == 1


def test_what_nobody_has_any_more_is_gone() -> None:
    cell = "from resilient import *\nshop = Policy('shop', bulkhead(1))\n"
    code = (
        "from resilient.admin.registry import registry\nnames = {'__name__': '__main__'}\n"
        f"for number in range(3): exec(compile({cell!r}, f'ipykernel_1/{{number}}.py', 'exec'), names)\n"
        "print(len(registry.named('shop')), registry.names())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1 ['shop']"


def policies() -> dict[str, Any]:
    return resilient.registry.snapshot()["policies"]


def test_an_order_reaches_what_was_replaced(module: Any) -> None:
    from resilient.flags.runtime import here

    old = module("pay = Policy('again-pay')\n@pay\ndef charge(): return 1\n").charge
    new = module("\n\npay = Policy('again-pay')\n@pay\ndef charge(): return 1\n").charge
    assert len(registry.named("again-pay")) == 2
    orders = here.ordering()
    from resilient.flags.flip import Flip

    here.state.adopt(
        [Flip("forced/again-pay", "forced_open", version=1, by="ana", reason="r")], 0.0
    )
    try:
        orders.follow(["forced/again-pay"])
        for charge in (old, new):
            with pytest.raises(CircuitOpenError):
                charge()
    finally:
        here.state.adopt([Flip("forced/again-pay", "released", version=2)], 0.0)
        orders.follow(["forced/again-pay"])
    assert old() == new() == 1


def test_a_cell_that_is_run_again() -> None:
    run("cart = Policy('again-cart', circuit_breaker(failure_threshold=3))", 1)
    cart = run("cart = Policy('again-cart', circuit_breaker(failure_threshold=4))", 2)["cart"]
    shown = cart.snapshot()["guards"][0]["options"]
    assert shown["failure_threshold"] == 4
    assert registry.find("again-cart") is cart._core
    registry.remove("again-cart")


def test_a_script_that_is_run_again_from_its_compiled_code() -> None:
    """As servers of notebooks and apps do, which keep the code and make a module each time."""
    code = compile(HEAD + "shop = Policy('again-script')", "script.py", "exec")
    made = []
    for _ in range(2):
        made.append({"__name__": "__main__", "__file__": "script.py"})
        exec(code, made[-1])
    assert registry.find("again-script") is made[1]["shop"]._core
    registry.remove("again-script")


def test_two_declarations_in_one_run_collide(module: Any) -> None:
    with pytest.raises(ValueError, match=r"exists already, made at .*again.py:2 .*:3"):
        module("a = Policy('again-twice')\nb = Policy('again-twice')\n")
    with pytest.raises(ValueError, match="exists already"):
        run("for _ in range(2):\n    Policy('again-loop')", 3)

    def both() -> None:
        Policy("again-both")
        Policy("again-both")

    with pytest.raises(ValueError, match="exists already"):
        both()
    with pytest.raises(ValueError, match="declared already"):
        run("a = flag('again-flag', impact='x')\nb = flag('again-flag', impact='x')", 4)


def test_another_place_collides(module: Any) -> None:
    module("pay = Policy('again-pay')\n")
    with pytest.raises(ValueError, match=r"made at .*declares_again.py:2 in <module>"):
        Policy("again-pay")


def create_app(threshold: int = 5) -> Policy:
    return Policy(
        "again-app", circuit_breaker(failure_threshold=threshold), bulkhead(3), owner="us"
    )


def test_a_function_that_runs_again_joins() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = create_app(), create_app()
    assert first._core is second._core
    for _ in range(5):
        first.try_call(int, "x")
    assert (second.state, second.snapshot()["calls"]["failure"]) == ("open", 5)
    assert second.guards == first.guards
    assert registry.names().count("again-app") == 1


def test_joining_with_other_options_is_warned_of_once() -> None:
    first = create_app()
    with pytest.warns(DeclarationWarning, match=r"failure_threshold was 5, and is 3 now") as told:  # noqa: PT031 - the second is not warned of
        create_app(3)
        create_app(4)
    assert len(told) == 1
    assert first.snapshot()["guards"][0]["options"]["failure_threshold"] == 5


def test_functions_of_one_code_are_the_same_option() -> None:
    def make(answer: int) -> Policy:
        return Policy(
            "again-closure", fallback(lambda: answer), circuit_breaker(ignore=lambda e: False)
        )

    make(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(1)
    with pytest.warns(DeclarationWarning, match="fallback.fn"):
        make(2)


def test_a_handler_that_makes_its_policy_counts_in_one() -> None:
    def handler() -> str:
        policy = Policy("again-handler", circuit_breaker(failure_threshold=3))
        return type(policy.try_call(int, "x").error).__name__

    assert [handler() for _ in range(5)] == ["ValueError"] * 3 + ["CircuitOpenError"] * 2


def test_anonymous_policies_keep_their_names_in_order(module: Any) -> None:
    text = "def make():\n    @bulkhead(1)\n    def f(): pass\n    return f\n"
    text += "@bulkhead(1)\ndef f(): pass\ng = f\n@bulkhead(2)\ndef f(): pass\n"
    old = module(text)
    kept = old.f, old.g
    names = [n for n in registry.names() if n.startswith("declares_again.")]
    assert names == ["declares_again.f", "declares_again.f#2"]
    new = module("\n\n" + text)
    assert [n for n in registry.names() if n.startswith("declares_again.")] == names
    shown = {n: policies()[n]["guards"][0]["options"]["max_concurrent"] for n in names}
    assert shown == {"declares_again.f": 1, "declares_again.f#2": 2}
    assert len(policies()["declares_again.f"]["replaced"]) == 1
    assert kept
    assert new.make()
    assert len(registry.named("declares_again.f")) == 2


def test_each_function_that_a_factory_makes_has_its_own() -> None:
    def make() -> Any:
        @bulkhead(1)
        def client() -> None:
            return

        return client

    made = [make() for _ in range(3)]
    base = f"{__name__}.test_each_function_that_a_factory_makes_has_its_own.<locals>.make.<locals>.client"
    found = [n for n in registry.names() if n.startswith(base[:90])]
    assert len(found) == 3 == len(made)


def test_flags_that_are_declared_again_are_the_same(module: Any) -> None:
    old = module("RECS = flag('again-recs', impact='x')\n").RECS
    new = module("\n\n\nRECS = flag('again-recs', impact='top 100')\n").RECS
    assert (old is new, old.impact) == (True, "top 100")

    def app() -> Any:
        return flag("again-in-app", impact="x")

    assert app() is app()


def test_a_script_that_a_helper_imports(tmp_path: Path) -> None:
    """The module runs twice: as ``__main__`` and by its name. Both obey, and both are counted."""
    (tmp_path / "app.py").write_text(
        HEAD + "import resilient\npay = Policy('payments', circuit_breaker())\n"
        "@pay\ndef charge(): return 1\n"
        "if __name__ == '__main__':\n"
        "    import helper\n"
        "    charge(), helper.charge(), helper.charge()\n"
        "    shown = resilient.registry.snapshot()['policies']['payments']\n"
        "    print(shown['calls']['success'], shown['replaced'][0]['calls']['success'])\n"
        "    from resilient import metrics\n"
        "    text = metrics.exposition()[0].decode()\n"
        "    print([l for l in text.splitlines() if l.startswith('resilient_served_total') and 'full' in l])\n"
    )
    (tmp_path / "helper.py").write_text("from app import charge\n")
    done = subprocess.run(
        [sys.executable, "app.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "2 1", "['resilient_served_total{served=\"full\",policy=\"payments\"} 3.0']"
    ]  # fmt: skip
