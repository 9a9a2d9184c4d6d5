"""The docstrings of what is public: what they must say, in the form that all of them share."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from types import FunctionType
from typing import Any, get_overloads

import pytest

import resilient
from resilient.policy.calling import Calling
from resilient.policy.controls import Levers
from resilient.policy.guard_stack import GuardStack
from resilient.policy.key_controls import KeyControls
from tests.kit.paths import ROOT
from tests.kit.waiting import WAIT

MODULES = (
    "resilient", "resilient.flags", "resilient.health", "resilient.metrics", "resilient.testing",
    "resilient.integrations.openfeature", "resilient.integrations.opentelemetry", "resilient.simulate",
)  # fmt: skip
# Documented, in a module without `__all__`.
PLUGINS = (
    ("resilient.testing.plugin", "Policies"), ("resilient.testing.flag_plugin", "Flags"),
)  # fmt: skip
# The rest of these classes is for the package itself.
SHOWN = ("name", "owner", "impact", "review", "default")  # of a flag
# OpenFeature calls the methods of a provider, and users never do.
ONLY = {"Registry": ("names", "snapshot", "subscribe"), "Flag": SHOWN, "Provider": ()}
# Handed out and not made by users: their docstrings describe attributes, not a constructor.
HANDED_OUT = {
    "Attempt",
    "Explained",
    "Explanation",
    "Block",
    "Event",
    "Flag",
    "Flags",
    "KeyedPolicy",
    "Patch",
    "Policies",
    "Registry",
    "Result",
    "flags.Snapshot",
    "simulate.Report",
    "simulate.Run",
    "simulate.Scenario",
}
SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Example")


def public() -> dict[str, Any]:
    """Return every public function, class, method and property by its dotted name."""
    found: dict[str, Any] = {}
    for name in MODULES:
        module = importlib.import_module(name)
        for word in module.__all__:
            take(f"{name}.{word}".removeprefix("resilient."), getattr(module, word), found)
    for module, name in PLUGINS:
        take(name, vars(importlib.import_module(module))[name], found)
    return found


def take(name: str, value: Any, found: dict[str, Any]) -> None:
    """Add a public name, and the public members of a class."""
    if not isinstance(value, (type, FunctionType)):
        if not type(value).__module__.startswith("resilient"):
            return  # a constant
        value = type(value)  # the registry
        name = value.__name__
    found[name] = value
    if isinstance(value, type):
        only = ONLY.get(value.__name__)
        bases = {"Policy": (GuardStack, Calling, Levers), "KeyedPolicy": (KeyControls,)}.get(
            value.__name__, ()
        )
        inherited = {word: inside for base in bases for word, inside in vars(base).items()}
        for word, inside in {**inherited, **vars(value)}.items():
            if (word.startswith("_") and word != "__call__") or (
                only is not None and word not in only
            ):
                continue
            if isinstance(inside, (classmethod, staticmethod)):
                inside = inside.__func__
            if isinstance(inside, (FunctionType, property)):
                found[f"{name}.{word}"] = inside


PUBLIC = public()
CLASSES = [name for name, value in PUBLIC.items() if isinstance(value, type)]
PROPERTIES = [name for name, value in PUBLIC.items() if isinstance(value, property)]
FUNCTIONS = [name for name in PUBLIC if name not in CLASSES and name not in PROPERTIES]
ERRORS = [name for name in CLASSES if issubclass(PUBLIC[name], BaseException)]
MADE = [name for name in CLASSES if name not in ERRORS and name not in HANDED_OUT]
# What a user calls by its own name, and so looks up by it.
ENTRANCES = [
    name for name in PUBLIC if "." not in name.removeprefix("metrics.").removeprefix("testing.")
    and name not in ERRORS and name not in HANDED_OUT - {"Block"}
]  # fmt: skip


def doc_of(name: str) -> str:
    """Return a docstring, its indentation taken off; the class's own, not one it inherits."""
    return inspect.cleandoc(PUBLIC[name].__doc__ or "")


def sections(name: str) -> dict[str, str]:
    """Return what stands under each heading, in the order of the headings."""
    parts = re.split(r"^([A-Z][a-z]+):\n(?=    )", doc_of(name), flags=re.MULTILINE)
    return dict(zip(parts[1::2], map(textwrap.dedent, parts[2::2]), strict=True))


def entries(section: str) -> dict[str, str]:
    """Return the entries of a section, such as `Args`: each name, and what is said of it."""
    parts = re.split(r"^([*\w]+): +", section, flags=re.MULTILINE)
    assert not parts[0].strip(), f"this belongs to no entry: {parts[0]!r}"
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def parameters(name: str) -> list[str]:
    """Return the parameters as a docstring names them."""
    value = PUBLIC[name]
    made = value.__init__ if isinstance(value, type) else value
    taken = [
        {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "") + each.name
        for each in inspect.signature(made).parameters.values()
    ]
    return [each for each in taken if each != "self"]


# -- every docstring -----------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLIC)
def test_begins_with_one_sentence(name: str) -> None:
    """The first line is one sentence, and stands alone."""
    first, _, rest = doc_of(name).partition("\n")
    assert first, f"{name} has no docstring"
    assert re.fullmatch(r"[A-Z`].*[^.]\.", first), first
    assert not re.search(r"[.!?] +[A-Z]", first), f"more than one sentence: {first}"
    assert not rest or rest.startswith("\n"), f"no empty line after: {first}"


@pytest.mark.parametrize("name", PUBLIC)
def test_sections_stand_in_one_order(name: str) -> None:
    """The headings are those of the house, each once, in its order, with something under it."""
    found = sections(name)
    assert list(found) == [word for word in SECTIONS if word in found]
    heading = re.compile(r"^([A-Z]\w+):$", re.MULTILINE)
    assert heading.findall(doc_of(name)) == list(found)
    for word in found.keys() & {"Args", "Attributes", "Raises"}:
        for entry, said in entries(found[word]).items():
            assert re.search(r"[.)]$|[.]\S*$", said.strip()), f"{entry}: no full stop: {said}"


@pytest.mark.parametrize("name", [*FUNCTIONS, *MADE])
def test_args_are_the_parameters(name: str) -> None:
    """`Args` names exactly the parameters, in their order; without parameters there is none."""
    assert list(entries(sections(name).get("Args", ""))) == parameters(name)


@pytest.mark.parametrize("name", [*FUNCTIONS, *PROPERTIES, *MADE])
def test_raises_is_there_where_something_is_raised(name: str) -> None:
    """What raises in its own body, or checks what it is given, says so under `Raises`."""
    value = PUBLIC[name]
    code = value.fget if name in PROPERTIES else value.__init__ if name in MADE else value
    body = ast.parse(textwrap.dedent(inspect.getsource(code)))
    raising = any(
        isinstance(node, ast.Raise)
        or (isinstance(node, ast.Name) and node.id in ("checks", "composing"))
        for node in ast.walk(body)
    )
    if raising:
        assert "Raises" in sections(name), f"{name} raises, and does not say when"


@pytest.mark.parametrize("name", [name for name in PUBLIC if "Raises" in sections(name)])
def test_raises_names_exceptions(name: str) -> None:
    """What stands under `Raises` is an exception that there is."""
    for word, said in entries(sections(name)["Raises"]).items():
        kind = getattr(resilient, word, None) or getattr(builtins, word, None)
        assert isinstance(kind, type), word
        assert issubclass(kind, BaseException), word
        assert said.strip()


@pytest.mark.parametrize("name", ENTRANCES)
def test_has_an_example(name: str) -> None:
    """Everything that users call by its name has an example, which the tests run."""
    assert ">>> " in sections(name).get("Example", "")


def test_each_example_is_collected() -> None:
    """Whatever folder of the package it stands in."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "src"],
        cwd=ROOT, capture_output=True, text=True, timeout=WAIT, check=True,
    )  # fmt: skip
    found = {line.partition("::")[0] for line in done.stdout.splitlines() if "::line:" in line}
    with_one = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "src").rglob("*.py")
        if re.search(r"^ *>>> ", path.read_text(), re.MULTILINE)
    }
    assert found == with_one


# -- classes -------------------------------------------------------------------------


def own_attributes(kind: type) -> set[str]:
    """Return the public attributes that a class itself adds."""
    slots = vars(kind).get("__slots__", ())
    named = {
        *([slots] if isinstance(slots, str) else slots),
        *vars(kind).get("__annotations__", ()),
    }
    return {name for name in named if not name.startswith("_")}


@pytest.mark.parametrize("name", [*ERRORS, *sorted(HANDED_OUT)])
def test_attributes_are_the_attributes(name: str) -> None:
    """`Attributes` names exactly what an error, or what is handed out, carries."""
    written = entries(sections(name).get("Attributes", ""))
    found = own_attributes(PUBLIC[name])
    assert set(written) == (found & {*SHOWN} if name == "Flag" else found)


# -- that these tests see what they should -------------------------------------------


def test_what_is_looked_at() -> None:
    """The lists are not empty, and have one of each sort."""
    assert {"circuit_breaker", "Policy.call", "Registry.subscribe", "metrics.register"} < {
        *FUNCTIONS
    }
    assert {
        "Policy", "calls", "on_abandon", "priority", "testing.ManualClock",
        "integrations.openfeature.Provider",
    } == {*MADE}  # fmt: skip
    assert {"Policy.name", "testing.ManualClock.waiting"} < {*PROPERTIES}
    assert {"timeout", "remaining", "Block", "Policy"} < {*ENTRANCES}
    assert "Policy.__call__" in PUBLIC
    assert get_overloads(PUBLIC["Policy.__call__"])


def good(a: int, *rest: str) -> None:
    """Do one thing.

    Args:
        a: how often.
        *rest: the others.

    Raises:
        ValueError: a is 0.

    Example:
        >>> good(1)
    """


def no_stop(a: int) -> None:
    """Do one thing"""


def two_sentences() -> None:
    """Do one thing. Do another."""


def wrong_args(a: int, b: int) -> None:
    """Do one thing.

    Args:
        b: how often.
        a: how often.
    """


def silent(a: int) -> None:
    """Do one thing.

    Args:
        a: how often.
    """
    raise ValueError(a)


def out_of_order(a: int) -> None:
    """Do one thing.

    Raises:
        NoSuchError: never.

    Args:
        a: how often
    """


TESTS: dict[str, Callable[[str], None]] = {
    "sentence": test_begins_with_one_sentence,
    "order": test_sections_stand_in_one_order,
    "args": test_args_are_the_parameters,
    "raises": test_raises_is_there_where_something_is_raised,
    "names": test_raises_names_exceptions,
    "example": test_has_an_example,
}


@pytest.mark.parametrize("fn", [good, no_stop, two_sentences, wrong_args, silent, out_of_order])
def test_what_is_found(fn: FunctionType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test finds the fault that it is there to find."""
    expected = {
        good: set(), no_stop: {"sentence", "args"}, two_sentences: {"sentence"},
        wrong_args: {"args"}, silent: {"raises"}, out_of_order: {"order", "names"},
    }[fn]  # fmt: skip
    monkeypatch.setitem(PUBLIC, "it", fn)
    found = set()
    for word, test in TESTS.items():
        try:
            test("it")
        except AssertionError:
            found.add(word)
        except KeyError:  # no such section to look at
            continue
    assert found - {"example"} == expected
    assert ("example" in found) == (fn is not good)
