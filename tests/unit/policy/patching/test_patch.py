"""`resilient.patch`: by name, now or at the import, undone in any order."""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import sys
import threading
from typing import Any
from unittest import mock

import pytest

import resilient
from resilient import Policy, bulkhead, circuit_breaker, registry, timeout
from tests.kit.policies import counts, policy, raised
from tests.kit.threads import in_threads

SOURCE = """
import contextlib

def function(x=1):
    "Say x."
    return x

def fails():
    raise OSError("down")

async def afunction(x=1):
    return x

def items(n):
    yield from range(n)

async def aitems(n):
    for each in range(n):
        yield each

class Base:
    def method(self, x=1):
        "A method."
        return self, x

    @classmethod
    def made(cls, x=1):
        return cls, x

    @staticmethod
    def static(x=1):
        return x

    async def amethod(self, x=1):
        return self, x

    def items(self, n):
        yield from range(n)

    @property
    def size(self):
        return 1

    data = 5

    class Inner:
        def deep(self):
            return "deep"

class Child(Base):
    pass

class Meta(type):
    def meta(cls):
        return cls

class Made(metaclass=Meta):
    pass

instance = Base()
Alias = Base
nothing = None
"""

TARGETS = {
    "function": lambda m: m.function(2) == 2,
    "Base.method": lambda m: m.Base().method(2)[1] == 2,
    "Base.made": lambda m: m.Base.made(2) == (m.Base, 2),
    "Base.static": lambda m: m.Base.static(2) == 2 and m.Base().static(3) == 3,
    "Base.amethod": lambda m: asyncio.run(m.Base().amethod(2))[1] == 2,
    "afunction": lambda m: asyncio.run(m.afunction(2)) == 2,
    "items": lambda m: list(m.items(3)) == [0, 1, 2],
    "Base.items": lambda m: list(m.Base().items(3)) == [0, 1, 2],
    "aitems": lambda m: asyncio.run(_all(m.aitems(3))) == [0, 1, 2],
    "Child.method": lambda m: m.Child().method(2)[1] == 2,
    "Child.made": lambda m: m.Child.made(2) == (m.Child, 2),
    "Child.static": lambda m: m.Child.static(2) == 2,
    "Base.Inner.deep": lambda m: m.Base.Inner().deep() == "deep",
    "instance.method": lambda m: m.instance.method(2) == (m.instance, 2),
    "Alias.method": lambda m: m.Base().method(2)[1] == 2,
}


async def _all(stream: Any) -> list[Any]:
    return [item async for item in stream]


def state_of(module: Any) -> Any:
    """Return all that is in a module and its classes, by identity."""
    return {
        (name, inner): value
        for name, owner in [
            ("", module),
            *((n, v) for n, v in vars(module).items() if isinstance(v, type)),
        ]
        for inner, value in vars(owner).items()
        if not inner.startswith("__")
    }


@pytest.mark.parametrize("path", TARGETS)
@pytest.mark.parametrize("imported", [True, False], ids=["imported", "not yet"])
def test_what_a_name_stands_for_is_guarded_and_put_back(
    path: str, imported: bool, write: Any, slot: Any
) -> None:
    name, of = write(SOURCE), slot()
    before = None
    if imported:
        before = state_of(importlib.import_module(name))
    patched = resilient.patch(f"{name}:{path}", of)
    assert patched.state == ("applied" if imported else "waiting")
    assert patched.applied is imported
    module = importlib.import_module(name)
    assert patched.state == "applied"
    for number in (1, 2):
        assert TARGETS[path](module)
        assert counts(of)["success"] >= number
    seen = counts(of)
    patched.undo()
    assert patched.state == "undone"
    assert TARGETS[path](module)
    assert counts(of) == seen
    if before is not None:
        assert state_of(module) == before
    assert "method" not in vars(module.Child)
    assert vars(module.instance) == {}
    patched.undo()


def test_the_class_keeps_its_shape(write: Any, slot: Any) -> None:
    module = importlib.import_module(write(SOURCE))
    shapes = {}
    for turn in range(2):
        shapes[turn] = [
            (inspect.signature(fn), inspect.iscoroutinefunction(fn), inspect.isgeneratorfunction(fn),
             inspect.isasyncgenfunction(fn), fn.__name__, fn.__qualname__, fn.__module__, inspect.getdoc(fn))
            for fn in (module.function, module.afunction, module.items, module.aitems, module.Base.method,
                       module.Base.made, module.Base.static, module.Base.amethod)
        ] + [type(vars(module.Base)[each]) for each in ("method", "made", "static", "amethod")]  # fmt: skip
        for path in ("function", "afunction", "items", "aitems", "Base.method", "Base.made", "Base.static",
                     "Base.amethod") if turn == 0 else ():  # fmt: skip
            resilient.patch(f"{module.__name__}:{path}", slot())
    assert shapes[0] == shapes[1]


def test_a_patched_base_guards_its_children_and_a_child_only_itself(write: Any, slot: Any) -> None:
    module = importlib.import_module(write(SOURCE))
    of = slot()
    with resilient.patch(f"{module.__name__}:Child.method", of):
        module.Base().method()
        assert counts(of) == {}
        module.Child().method()
        assert counts(of) == {"success": 1}
    with resilient.patch(f"{module.__name__}:Base.method", of):
        module.Child().method()
        module.Base().method()
        assert counts(of) == {"success": 3}
        child = resilient.patch(f"{module.__name__}:Child.made", of)
        assert module.Child.made()[0] is module.Child
        assert counts(of) == {"success": 4}
        child.undo()


def test_a_method_that_is_inherited_from_a_patched_one(write: Any, slot: Any) -> None:
    """By the same policy it is guarded already: nothing, or an error that says by what."""
    module = importlib.import_module(write(SOURCE))
    of = slot()
    resilient.patch(f"{module.__name__}:Base.method", of)
    try:
        resilient.patch(f"{module.__name__}:Child.method", of)
    except ValueError as error:
        assert of.name in str(error)
        assert "Base.method" in str(error)
    module.Child().method()
    assert counts(of) == {"success": 1}
    other = slot()
    resilient.patch(f"{module.__name__}:Child.made", other)
    module.Child.made()
    assert counts(other) == {"success": 1}


def test_instances_made_before_are_guarded_too(write: Any, slot: Any) -> None:
    module = importlib.import_module(write(SOURCE))
    old, of = module.Child(), slot()
    with resilient.patch(f"{module.__name__}:Base.method", of):
        old.method()
    old.method()
    assert counts(of) == {"success": 1}


# -- names that are wrong ---------------------------------------------


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        (5, TypeError), (None, TypeError), (len, TypeError), ("", ValueError), ("module", ValueError),
        ("module:", ValueError), (":name", ValueError), ("mod:a..b", ValueError), ("mod.:a", ValueError),
        ("mod:a b", ValueError), ("mod:a:b", ValueError), ("mod:a()", ValueError), (".mod:a", ValueError),
    ],
    ids=repr,
)  # fmt: skip
def test_targets_of_another_form(target: Any, kind: Any, slot: Any, shown: Any) -> None:
    error = raised(resilient.patch, target, slot())
    assert type(error) is kind
    assert "target" in str(error)
    assert "package.module:function" in str(error)
    assert shown() == []


def test_a_policy_is_needed(write: Any) -> None:
    for wrong in (None, "policy", bulkhead(1), print):
        error = raised(resilient.patch, "json:dumps", wrong)
        assert type(error) is TypeError
        assert "policy" in str(error)


@pytest.mark.parametrize(
    "path", ["functino", "Base.methd", "Bse.method", "Base.Inner.dep", "nothing.x", "instance.nope"]
)
def test_a_name_that_does_not_exist(path: str, write: Any, slot: Any, shown: Any) -> None:
    module = importlib.import_module(write(SOURCE))
    error = raised(resilient.patch, f"{module.__name__}:{path}", slot())
    assert type(error) is AttributeError
    assert f"{module.__name__}:{path}" in str(error)
    assert shown() == []
    for near in ("function", "method", "Base", "deep"):
        if (
            path in ("functino", "Base.methd", "Bse.method", "Base.Inner.dep")
            and near[:2] in path
            and near[-1] == path[-1]
        ):
            assert near in str(error)


def test_a_name_that_does_not_exist_is_told_at_the_import(
    write: Any, slot: Any, shown: Any
) -> None:
    name, of = write(SOURCE), slot()
    patched = resilient.patch(f"{name}:functino", of)
    assert patched.state == "waiting"
    for _ in range(2):
        try:
            importlib.import_module(name)
        except AttributeError as error:
            assert f"{name}:functino" in str(error)
            assert "function" in str(error)
            assert name not in sys.modules
            break
    else:
        raise AssertionError("it was silent")
    assert shown() == [] or shown()[0]["state"] != "applied"
    try:
        module = importlib.import_module(
            name
        )  # told once; the application can go on if it wants to
    except AttributeError:
        return
    assert module.function(3) == 3
    assert patched.state == "undone"


def test_a_wrong_name_takes_no_other_patch_of_its_module_away(write: Any, slot: Any) -> None:
    for order in (("functino", "function"), ("function", "functino")):
        name, of = write(SOURCE), slot()
        patches = {path: resilient.patch(f"{name}:{path}", of) for path in order}
        assert type(raised(importlib.import_module, name)) is AttributeError
        try:
            module = importlib.import_module(name)
        except AttributeError:
            module = importlib.import_module(name)
        module.function()
        assert counts(of) == {"success": 1}, order
        assert patches["function"].state == "applied"


@pytest.mark.parametrize(
    "path", ["Base", "Base.data", "Base.size", "nothing", "Base.Inner", "instance"]
)
@pytest.mark.parametrize("imported", [True, False], ids=["imported", "not yet"])
def test_what_can_not_be_guarded(
    path: str, imported: bool, write: Any, slot: Any, shown: Any
) -> None:
    name, of = write(SOURCE), slot()
    if imported:
        importlib.import_module(name)
        error = raised(resilient.patch, f"{name}:{path}", of)
    else:
        resilient.patch(f"{name}:{path}", of)
        error = raised(importlib.import_module, name)
    assert type(error) is TypeError
    assert shown() == []


def test_what_can_not_be_set(slot: Any, shown: Any) -> None:
    assert type(raised(resilient.patch, "builtins:str.upper", slot())) is TypeError
    assert shown() == []
    assert "x".upper() == "X"


def test_a_policy_that_can_not_bound_it(write: Any, shown: Any) -> None:
    module = importlib.import_module(write(SOURCE))
    of = policy(timeout(1))
    assert type(raised(resilient.patch, f"{module.__name__}:function", of)) is TypeError
    assert module.function.__module__ == module.__name__
    assert not hasattr(module.function, "__wrapped__")
    resilient.patch(f"{module.__name__}:afunction", of)
    assert asyncio.run(module.afunction(2)) == 2
    assert [each["target"] for each in shown()] == [f"{module.__name__}:afunction"]


def test_a_module_that_does_not_exist(write: Any, slot: Any, shown: Any) -> None:
    error = raised(resilient.patch, "no_such_module_at_all:function", slot())
    assert type(error) is ModuleNotFoundError
    assert error.name == "no_such_module_at_all"  # type: ignore[attr-defined]
    assert "no_such_module_at_all" in str(error)
    assert (
        type(raised(resilient.patch, "no_such_package.module:function", slot()))
        is ModuleNotFoundError
    )
    assert shown() == []


def test_a_missing_submodule_of_what_is_imported(write: Any, slot: Any, shown: Any) -> None:
    package = write("", f"{write('')}_pkg.__init__")
    write(SOURCE, f"{package}.sub")
    importlib.import_module(f"{package}.sub")
    for missing in (f"{package}.nothing", f"{package}.sub.deeper"):
        assert (
            type(raised(resilient.patch, f"{missing}:function", slot())) is ModuleNotFoundError
        ), missing
    assert shown() == []


# -- modules that are not imported yet ---------------------------------------------


def test_submodules_of_packages(write: Any, slot: Any) -> None:
    package = write("", f"{write('')}_pkg.__init__")
    write("", f"{package}.inner.__init__")
    write(SOURCE, f"{package}.inner.sub")
    of = slot()
    deep = resilient.patch(f"{package}.inner.sub:Base.method", of)
    assert package not in sys.modules, "to patch imports nothing"
    importlib.import_module(package)
    importlib.import_module(f"{package}.inner")
    assert deep.state == "waiting"
    module = importlib.import_module(f"{package}.inner.sub")
    module.Base().method()
    assert counts(of) == {"success": 1}


def test_a_package_and_what_imports_it(write: Any, slot: Any) -> None:
    package = write("def function(): return 'package'\n", f"{write('')}_pkg.__init__")
    write(f"import {package}\ndef use(): return {package}.function()\n", f"{package}.user")
    write(f"from {package} import function\ndef use(): return function()\n", f"{package}.taker")
    of = slot()
    resilient.patch(f"{package}:function", of)
    user = importlib.import_module(f"{package}.user")
    assert user.use() == "package"
    assert importlib.import_module(f"{package}.taker").use() == "package"
    assert counts(of) == {"success": 2}


def test_a_module_that_fails_at_its_import_and_is_imported_again(write: Any, slot: Any) -> None:
    name, of = (
        write(
            "import builtins\nif getattr(builtins, 'broken_once', True): raise OSError('import')\ndef function(): return 1\n"
        ),
        slot(),
    )
    patched = resilient.patch(f"{name}:function", of)
    assert type(raised(importlib.import_module, name)) is OSError
    assert patched.state == "waiting"
    with mock.patch("builtins.broken_once", False, create=True):
        module = importlib.import_module(name)
    assert module.function() == 1
    assert counts(of) == {"success": 1}


def test_patched_by_what_it_imports_itself(write: Any, slot: Any) -> None:
    """A circle: the module is being imported, by this very thread, and has not got its names yet."""
    of = slot()
    setup = write(
        "import builtins, resilient\ntarget, of = builtins.circle\nresilient.patch(target, of)\n"
    )
    name = write(f"import {setup}\n" + SOURCE)
    with mock.patch("builtins.circle", (f"{name}:Base.method", of), create=True):
        error = raised(importlib.import_module, name)
    assert type(error) is ImportError
    assert name in str(error)
    assert all(
        row["target"] != f"{name}:Base.method" for row in resilient.registry.snapshot()["patches"]
    )


def test_what_is_no_module_in_sys_modules(slot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    stub = types.SimpleNamespace(function=lambda: 1)
    monkeypatch.setitem(sys.modules, "patched_stub", stub)
    of = slot()
    with resilient.patch("patched_stub:function", of):
        assert stub.function() == 1
    assert counts(of) == {"success": 1}


def test_undone_before_the_import(write: Any, slot: Any, shown: Any) -> None:
    name, of = write(SOURCE), slot()
    patched = resilient.patch(f"{name}:function", of)
    assert shown() == [{"target": f"{name}:function", "policy": of.name, "state": "waiting"}]
    patched.undo()
    assert shown() == []
    assert importlib.import_module(name).function(1) == 1
    assert counts(of) == {}
    assert patched.state == "undone"
    again = resilient.patch(f"{name}:function", of)
    assert again is not patched
    sys.modules[name].function()
    assert counts(of) == {"success": 1}


def test_undone_and_patched_again_before_the_import(write: Any, slot: Any) -> None:
    name, first, second = write(SOURCE), slot(), slot()
    resilient.patch(f"{name}:function", first).undo()
    resilient.patch(f"{name}:function", second)
    importlib.import_module(name).function()
    assert (counts(first), counts(second)) == ({}, {"success": 1})


def test_many_names_of_one_module(write: Any, slot: Any) -> None:
    name, of = write(SOURCE), slot()
    patches = [
        resilient.patch(f"{name}:{path}", of)
        for path in ("function", "Base.method", "Base.made", "Child.static")
    ]
    module = importlib.import_module(name)
    assert {each.state for each in patches} == {"applied"}
    module.function(), module.Base().method(), module.Base.made(), module.Child.static()
    assert counts(of) == {"success": 4}


# -- again, others, and undoing ---------------------------------------------


def test_patching_twice_is_one_patch(write: Any, slot: Any, shown: Any) -> None:
    name, of = write(SOURCE), slot()
    waiting = resilient.patch(f"{name}:function", of)
    assert resilient.patch(f"{name}:function", of) is waiting
    module = importlib.import_module(name)
    assert resilient.patch(f"{name}:function", of) is waiting
    module.function()
    assert counts(of) == {"success": 1}
    assert len(shown()) == 1
    waiting.undo()
    assert not hasattr(module.function, "__wrapped__")


@pytest.mark.parametrize("imported", [True, False], ids=["imported", "not yet"])
def test_two_policies_for_one_name_are_an_error(
    imported: bool, write: Any, slot: Any, shown: Any
) -> None:
    name, first, second = write(SOURCE), slot(), slot()
    if imported:
        importlib.import_module(name)
    patched = resilient.patch(f"{name}:function", first)
    error = raised(resilient.patch, f"{name}:function", second)
    assert type(error) is ValueError
    assert first.name in str(error)
    assert "undo" in str(error)
    assert [each["policy"] for each in shown()] == [first.name]
    patched.undo()
    resilient.patch(f"{name}:function", second)
    importlib.import_module(name).function()
    assert counts(second) == {"success": 1}


def test_two_names_for_one_function_by_two_policies(write: Any, slot: Any) -> None:
    module = importlib.import_module(write(SOURCE))
    first, second = slot(), slot()
    one = resilient.patch(f"{module.__name__}:Base.method", first)
    two = resilient.patch(f"{module.__name__}:Alias.method", second)
    module.Base().method()
    assert (counts(first), counts(second)) == ({"success": 1}, {"success": 1})
    assert type(raised(one.undo)) is RuntimeError
    assert one.state == "replaced"
    two.undo()
    assert one.state == "applied"
    one.undo()
    assert not hasattr(module.Base.method, "__wrapped__")


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]], ids=str)
def test_undone_in_any_order(order: list[int], write: Any, slot: Any, shown: Any) -> None:
    module = importlib.import_module(write(SOURCE))
    before = state_of(module)
    patches = [
        resilient.patch(f"{module.__name__}:{path}", slot())
        for path in ("Base.method", "Child.method", "function")
    ]
    for place in order:
        patches[place].undo()
        module.Child().method()
        module.Base().method()
    assert state_of(module) == before
    assert shown() == []


def test_wrapped_by_others_meanwhile(write: Any, slot: Any) -> None:
    module = importlib.import_module(write(SOURCE))
    original, of = module.function, slot()
    patched = resilient.patch(f"{module.__name__}:function", of)
    mine = module.function

    @functools.wraps(mine)
    def theirs(*args: Any) -> Any:
        return mine(*args)

    module.function = theirs
    assert patched.state == "replaced"
    assert not patched.applied
    error = raised(patched.undo)
    assert type(error) is RuntimeError
    assert of.name in str(error)
    assert module.function is theirs
    module.function()
    assert counts(of) == {"success": 1}, "theirs calls ours"
    module.function = mine
    assert patched.state == "applied"
    patched.undo()
    assert module.function is original


def test_replaced_by_others_for_good(write: Any, slot: Any) -> None:
    module = importlib.import_module(write(SOURCE))
    of = slot()
    patched = resilient.patch(f"{module.__name__}:function", of)
    module.function = theirs = lambda: "theirs"
    patched.undo()
    assert module.function is theirs
    assert patched.state == "undone"


def test_mocked_meanwhile(write: Any, slot: Any) -> None:
    module = importlib.import_module(write(SOURCE))
    original, of = module.function, slot()
    with resilient.patch(f"{module.__name__}:function", of):
        with mock.patch(f"{module.__name__}.function", return_value="mock"):
            assert module.function() == "mock"
        assert module.function(2) == 2
    assert module.function is original
    assert counts(of) == {"success": 1}
    with (
        mock.patch.object(module, "function", lambda: "mock"),  # noqa: PT008 - a plain function
        resilient.patch(f"{module.__name__}:function", of),
    ):
        assert module.function() == "mock"
    assert module.function is original
    assert counts(of) == {"success": 2}


def test_as_a_context_manager(write: Any, slot: Any, shown: Any) -> None:
    module = importlib.import_module(write(SOURCE))
    original, of = module.fails, slot()

    def block() -> None:
        with resilient.patch(f"{module.__name__}:fails", of) as patched:
            assert patched.applied
            assert of.name in repr(patched)
            assert "applied" in repr(patched)
            module.fails()

    assert type(raised(block)) is OSError
    assert module.fails is original
    assert counts(of) == {"failure": 1}
    assert shown() == []


def test_reloaded(write: Any, slot: Any, shown: Any) -> None:
    module = importlib.import_module(write(SOURCE))
    of = slot()
    target = f"{module.__name__}:function"
    first = resilient.patch(target, of)
    importlib.reload(module)
    assert first.state in ("applied", "replaced"), "and it says so"
    if first.state == "applied":
        module.function()
        assert counts(of) == {"success": 1}
        return
    assert shown() == [{"target": target, "policy": of.name, "state": "replaced"}]
    second = resilient.patch(target, of)
    assert second.applied
    module.function()
    assert counts(of) == {"success": 1}
    first.undo()
    assert second.applied
    assert shown() == [{"target": target, "policy": of.name, "state": "applied"}], (
        "undoing the first is not its business"
    )
    assert resilient.patch(target, of) is second
    second.undo()
    assert not hasattr(module.function, "__wrapped__")
    assert shown() == []


def test_imported_anew(write: Any, slot: Any) -> None:
    """Taken out of sys.modules and imported again it is another module: that must not pass for patched."""
    name, of = write(SOURCE), slot()
    importlib.import_module(name)
    target = f"{name}:function"
    first = resilient.patch(target, of)
    del sys.modules[name]
    module = importlib.import_module(name)
    if first.state == "applied":
        assert module.function.__wrapped__
        return
    assert first.state == "replaced"
    second = resilient.patch(target, of)
    module.function()
    assert counts(of) == {"success": 1}
    second.undo()


def test_removed_by_others(write: Any, slot: Any) -> None:
    module = importlib.import_module(write(SOURCE))
    patched = resilient.patch(f"{module.__name__}:Base.method", slot())
    del module.Base.method
    assert patched.state == "replaced"
    patched.undo()
    assert not hasattr(module.Base, "method")


# -- policies ---------------------------------------------


def test_the_circuit_is_the_policys(write: Any, policies: Any) -> None:
    module = importlib.import_module(write(SOURCE))
    of = policy(circuit_breaker(failure_threshold=2))
    with (
        resilient.patch(f"{module.__name__}:fails", of),
        resilient.patch(f"{module.__name__}:function", of),
    ):
        for _ in range(2):
            assert type(raised(module.fails)) is OSError
        assert type(raised(module.function)).__name__ == "CircuitOpenError"
    assert module.function(1) == 1


def test_a_view_of_a_policy(write: Any) -> None:
    module = importlib.import_module(write(SOURCE))
    of = policy(bulkhead(1), timeout(5, sync="thread"))
    with resilient.patch(f"{module.__name__}:function", of.with_(timeout(0.5, sync="cooperative"))):
        module.function()
    assert counts(of) == {"success": 1}


def test_wrapping_a_client_whose_class_is_patched(write: Any, slot: Any) -> None:
    module = importlib.import_module(write(SOURCE))
    of, other = slot(), slot()
    with resilient.patch(f"{module.__name__}:Base.method", of):
        of.wrap(module.Base()).method()
        assert counts(of) == {"success": 1}, "guarded once"
        assert list(of.wrap(module.Base()).items(2)) == [0, 1]
        other.wrap(module.Base()).method()
        assert (counts(of), counts(other)) == ({"success": 3}, {"success": 1})


def test_patched_while_a_wrapped_client_is_used(write: Any, slot: Any) -> None:
    module = importlib.import_module(write(SOURCE))
    of, other = slot(), slot()
    client = other.wrap(module.Base())
    client.method()
    with resilient.patch(f"{module.__name__}:Base.method", of):
        client.method()
    client.method()
    assert (counts(of), counts(other)) == ({"success": 1}, {"success": 3})


def test_listed_in_the_registry(write: Any, slot: Any) -> None:
    name, of = write(SOURCE), slot()
    assert registry.snapshot()["patches"] == []
    patches = [resilient.patch(f"{name}:{path}", of) for path in ("function", "Base.made")]
    assert [each["state"] for each in registry.snapshot()["patches"]] == ["waiting", "waiting"]
    module = importlib.import_module(name)
    assert registry.snapshot()["patches"] == [
        {"target": f"{name}:{path}", "policy": of.name, "state": "applied"}
        for path in ("Base.made", "function")
    ]
    module.function = None
    assert {each["state"] for each in registry.snapshot()["patches"]} == {"applied", "replaced"}
    for each in patches:
        each.undo()
    assert registry.snapshot()["patches"] == []


def test_shown_by_resilient_policies(write: Any, slot: Any) -> None:
    """The registry's snapshot is what the command shows; it must be plain data."""
    import json

    resilient.patch(f"{write(SOURCE)}:function", slot())
    assert json.loads(json.dumps(registry.snapshot()["patches"]))


# -- threads ---------------------------------------------


@pytest.mark.parametrize("imported", [True, False], ids=["imported", "not yet"])
def test_threads_that_patch_at_once(imported: bool, write: Any, slot: Any) -> None:
    for _ in range(10):
        name, of = write(SOURCE), slot()
        if imported:
            importlib.import_module(name)
        paths = ["function", "Base.method", "Base.made", "Base.static"]

        def body(place: int, name: str = name, of: Policy = of) -> Any:
            patched = resilient.patch(f"{name}:{paths[place % 4]}", of)
            if place % 3 == 0:
                importlib.import_module(name)
            return patched

        made = in_threads(12, body)
        assert [each for each in made if isinstance(each, BaseException)] == []
        assert len({id(each) for each in made}) == 4
        module = importlib.import_module(name)
        assert {each.state for each in made} == {"applied"}
        module.function(), module.Base().method(), module.Base.made(), module.Base.static()
        assert counts(of) == {"success": 4}
        ends = in_threads(12, lambda place, made=made: made[place].undo())
        assert ends == [None] * 12
        module.function()
        assert counts(of) == {"success": 4}


def test_calls_go_on_while_it_is_patched_and_undone(write: Any) -> None:
    module = importlib.import_module(write(SOURCE))
    of = policy(bulkhead(100))
    stop = threading.Event()
    wrong: list[Any] = []

    def calls() -> None:
        while not stop.is_set():
            try:
                if module.Base().method(3)[1] != 3:
                    wrong.append("value")
            except BaseException as error:
                wrong.append(error)

    threads = [threading.Thread(target=calls) for _ in range(3)]
    for each in threads:
        each.start()
    for _ in range(200):
        resilient.patch(f"{module.__name__}:Base.method", of).undo()
    stop.set()
    for each in threads:
        each.join()
    assert wrong == []
    assert not hasattr(module.Base.method, "__wrapped__")


def test_nothing_is_kept_of_undone_patches(write: Any) -> None:
    import gc
    import weakref

    module = importlib.import_module(write(SOURCE))
    of = policy(bulkhead(100))
    refs = []
    for _ in range(5):
        patched = resilient.patch(f"{module.__name__}:function", of)
        module.function()
        refs.append(weakref.ref(module.function))
        patched.undo()
        del patched
    gc.collect()
    assert [ref() for ref in refs] == [None] * 5
