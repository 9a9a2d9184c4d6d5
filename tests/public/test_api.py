"""The public names and signatures, held against the committed `api.txt`.

A change of the API shows in the diff of that file, where a reviewer sees it. Renew it with
``python tests/public/test_api.py --write``.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, get_overloads

WRITTEN = Path(__file__).with_name("api.txt")
RENEW = "python tests/public/test_api.py --write"

PLUGIN = "resilient.testing.plugin"
FLAG_PLUGIN = "resilient.testing.flag_plugin"
MODULES = (
    "resilient", "resilient.flags", "resilient.metrics", "resilient.testing", PLUGIN, FLAG_PLUGIN,
    "resilient.simulate",
)  # fmt: skip
# Documented, in a module without `__all__`.
NAMED = {PLUGIN: ("Policies",), FLAG_PLUGIN: ("Flags",)}
# What a guard of one's own is written against: a minor version may change it.
PROVISIONAL = {
    "resilient.guards.base": (
        "REFUSE", "PARK", "ANSWER", "RECOVER", "Mode", "NoAnswer", "Waiter", "Guard",
    ),
    "resilient.guards.facets": (
        "Admission", "Queueing", "Slots", "InFlight", "Answers", "Keeps", "Retries", "TimeLimit",
        "Switch", "Changeable", "Peered", "Restorable", "Jitters",
        "Stateful",
    ),
    "resilient.guards.tried": ("Tried",),
    "resilient.guards.asked": ("Asked", "Stale"),
    "resilient.guards.recalls": ("Recalls",),
    "resilient.guards.attached": ("Home", "Attached"),
    "resilient.guards.races": ("Races",),
    "resilient.guards.wait_queue": ("GRANT_LIFE", "WaitQueue"),
    "resilient.metric_types": ("Metric", "Sample"),
    "resilient.outcomes": ("SUCCESS", "FAILURE", "IGNORED", "CANCELLED", "REFUSED", "Judge"),
}  # fmt: skip
# The rest of these classes is for the package itself.
ONLY = {
    "Registry": ("get", "names", "snapshot", "subscribe"),
    "Flag": ("name", "owner", "impact", "review", "default", "__bool__"),
}
# Handed out, never made by users: their constructors may change.
HANDED_OUT = {
    "Attempt",
    "Block",
    "Explained",
    "Explanation",
    "Flag",
    "Flags",
    "Patch",
    "Policies",
    "Registry",
    "Report",
    "Run",
    "Scenario",
    "Snapshot",
}
OPERATIONS = (
    "__call__", "__enter__", "__exit__", "__aenter__", "__aexit__", "__eq__", "__hash__",
    "__str__", "__copy__", "__deepcopy__", "__reduce__",
)  # fmt: skip
# Names in the signatures that stand for something longer: where each is defined.
TYPES = {
    "resilient.outcomes": ("OnError", "OnResult", "Served"),
    "resilient.events": ("Cause", "Kind", "Listener"),
    "resilient.clock": ("Alarm", "Clock"),
}
ENVIRONMENT = (
    ("resilient.admin.activity", "VARIABLE"), ("resilient.prometheus.import_hook", "SWITCH"), ("resilient.admin.settings", "VARIABLE"),
    ("resilient.admin.settings", "PREFIX"), ("resilient.flags.declarations", "PREFIX"),
    ("resilient.flags.runtime", "VARIABLE"), ("resilient.flags.stores.urls", "DIRECTORY"),
)  # fmt: skip


def test_the_public_api_is_as_written() -> None:
    """Every public name and signature is that of `api.txt`."""
    written = WRITTEN.read_text(encoding="utf-8") if WRITTEN.exists() else ""
    found = api()
    if found != written:
        diff = difflib.unified_diff(
            written.splitlines(), found.splitlines(), "tests/public/api.txt", "src", lineterm=""
        )
        raise AssertionError(
            "the public API has changed:\n\n" + "\n".join(diff) + "\n\n"
            f"If that is meant, and the changelog says so, renew the file with: {RENEW}"
        )


def api() -> str:
    """Return the public API as text, the same on every version of Python."""
    parts = [section(name) for name in MODULES]
    parts.append(["types in the signatures", *types()])
    parts.append(["environment", *(f"    {word}" for word in environment())])
    parts.append(["provisional: may change with each minor version", *provisional()])
    return "\n".join("\n".join(part) + "\n" for part in parts)


def provisional() -> Iterator[str]:
    """Yield the lines of the names that are public as provisional."""
    for name, words in PROVISIONAL.items():
        module = importlib.import_module(name)
        yield f"    {name}"
        for word in words:
            yield from (f"        {line}" for line in described(word, getattr(module, word)))


def section(name: str) -> list[str]:
    """Return the lines of one module."""
    module = importlib.import_module(name)
    lines = [name]
    for word in NAMED.get(name) or module.__all__:
        lines += (f"    {line}" for line in described(word, getattr(module, word)))
    if name == "resilient":
        lines.append(f"    __version__: {type(module.__version__).__name__}")
    if name in (PLUGIN, FLAG_PLUGIN):
        lines += (f"    {line}" for line in of_pytest(module))
    return lines


# -- one name ------------------------------------------------------------------------


def described(name: str, value: object) -> Iterator[str]:
    """Yield the lines of a public name."""
    if isinstance(value, type):
        yield from of_class(name, value)
    elif isinstance(value, FunctionType):
        yield from of_function(name, value)
    elif type(value).__module__.partition(".")[0] == "resilient":
        kind = type(value)
        yield f"{name}: {kind.__name__}"
        yield from (f"    {line}" for line in members(kind))
    elif isinstance(value, ModuleType):
        yield f"{name}: module"
    else:
        here = "" if name == "compiled" else f" = {shown(value)}"  # it says what runs here
        yield f"{name}: {type(value).__name__}{here}"


def of_class(name: str, kind: type) -> Iterator[str]:
    """Yield the lines of a class: its bases, constructor, attributes and methods."""
    named = ", ".join(base_name(base) for base in bases(kind) if base is not object)
    yield f"class {name}({named})" if named else f"class {name}"
    made = vars(kind).get("__init__")
    if made is not None and name not in HANDED_OUT and not is_protocol(kind):
        yield from (f"    {line}" for line in of_function("__init__", made))
    yield from (f"    {line}" for line in members(kind))


def bases(kind: type) -> tuple[Any, ...]:
    """Return the bases as they were written, such as Generic[T]."""
    return vars(kind).get("__orig_bases__") or kind.__bases__


def base_name(base: Any) -> str:
    """Return a base as it is written."""
    if not isinstance(base, type):
        return str(base).removeprefix("typing.")
    return base.__name__


def is_protocol(kind: type) -> bool:
    """Tell whether a class is a protocol itself, and not an implementation of one."""
    return bool(vars(kind).get("_is_protocol"))


def inside_of(kind: type) -> dict[str, Any]:
    """Return what a class has itself, or from a base that is none of the public names."""
    import resilient

    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        ours = base.__module__.startswith("resilient.")
        if base is kind or (
            ours and base.__name__ not in resilient.__all__ and kind.__name__ == "Policy"
        ):
            found.update(vars(base))
    return found


def members(kind: type) -> Iterator[str]:
    """Yield the public attributes, properties and methods of a class itself, sorted."""
    inside, only = inside_of(kind), ONLY.get(kind.__name__)
    for name, annotation in sorted(attributes(kind).items()):
        if only is None or name in only:
            yield f"{name}: {annotation}"
    for name in sorted(inside):
        if name not in OPERATIONS and (name.startswith("_") or (only and name not in only)):
            continue
        yield from member(name, inside[name])


def attributes(kind: type) -> dict[str, str]:
    """Return the public attributes of instances, with their annotations."""
    inside = vars(kind)
    made = inside.get("__init__")
    taken = inspect.signature(made).parameters if isinstance(made, FunctionType) else {}
    slots = inside.get("__slots__", ())
    found = {
        name: text(taken[name].annotation) if name in taken else "?"
        for name in ([slots] if isinstance(slots, str) else slots)
    }
    found |= {name: text(each) for name, each in inside.get("__annotations__", {}).items()}
    return {name: each for name, each in found.items() if not name.startswith("_")}


def member(name: str, value: object) -> Iterator[str]:
    """Yield the lines of what stands in a class under a name."""
    if isinstance(value, property):
        returned = text(inspect.signature(value.fget).return_annotation) if value.fget else "?"
        yield f"property {name}: {returned}{', can be set' if value.fset else ''}"
    elif isinstance(value, (classmethod, staticmethod)):
        yield f"{type(value).__name__}:"
        yield from (f"    {line}" for line in of_function(name, value.__func__))
    elif isinstance(value, FunctionType):
        yield from of_function(name, value)
    elif name in OPERATIONS:  # such as __hash__ = None
        yield f"{name} = {value!r}"


def of_function(name: str, fn: FunctionType) -> Iterator[str]:
    """Yield the lines of a function: each overload, and the signature that is there to be seen."""
    word = "async def" if inspect.iscoroutinefunction(fn) else "def"
    for each in get_overloads(fn):
        yield from of_signature(f"overload {word} {name}", inspect.signature(each))
    yield from of_signature(f"{word} {name}", inspect.signature(fn))


def of_signature(before: str, given: inspect.Signature) -> Iterator[str]:
    """Yield a signature without its self, in one form for all versions of Python."""
    parts = [part for part in parameters(given) if part != "self"]
    returned = given.return_annotation
    after = "" if returned is given.empty else f" -> {text(returned)}"
    line = f"{before}({', '.join(parts)}){after}"
    if len(line) <= 100:
        yield line
    else:  # a line for each parameter, so that a diff shows which one has changed
        yield f"{before}("
        yield from (f"    {part}," for part in parts)
        yield f"){after}"


def parameters(given: inspect.Signature) -> list[str]:
    """Return the parameters as they are written, with the bare `/` and `*` among them."""
    parts: list[str] = []
    last: Any = None
    for parameter in given.parameters.values():
        if last is parameter.POSITIONAL_ONLY and parameter.kind is not last:
            parts.append("/")
        if parameter.kind is parameter.KEYWORD_ONLY and last not in (
            parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL,
        ):  # fmt: skip
            parts.append("*")
        last = parameter.kind
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(last, "")
        part = stars + parameter.name
        if parameter.annotation is not parameter.empty:
            part += f": {text(parameter.annotation)}"
        if parameter.default is not parameter.empty:
            part += f" = {shown(parameter.default)}"
        parts.append(part)
    if last is inspect.Parameter.POSITIONAL_ONLY:
        parts.append("/")
    return parts


def text(annotation: object) -> str:
    """Return an annotation as it is written."""
    if annotation is inspect.Parameter.empty:
        return "?"
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def shown(value: object) -> str:
    """Return the repr of a default, without the address that an object may have in it."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


# -- what is read from the source ----------------------------------------------------


def of_pytest(plugin: ModuleType) -> list[str]:
    """Return the fixtures, markers and options of the plugin, whatever pytest makes of them."""
    tree = ast.parse(inspect.getsource(plugin))
    lines: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for decorator in map(ast.unparse, node.decorator_list):
                if re.match(r"(pytest\.)?fixture\b", decorator):
                    scope = decorator.partition("(")[2].removesuffix(")")
                    taken = ast.unparse(node.args)
                    returned = ast.unparse(node.returns) if node.returns else "?"
                    lines.append(f"fixture {node.name}({taken}) -> {returned} [{scope}]")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            words = [each.value for each in node.args if isinstance(each, ast.Constant)]
            if node.func.attr == "addinivalue_line" and words[:1] == ["markers"]:
                lines.append(f"marker {words[1] if len(words) > 1 else ast.unparse(node)}")
            elif node.func.attr in ("addoption", "addini"):
                lines.append(f"{node.func.attr} {', '.join(map(str, words))}")
    return sorted(line.replace(" []", "") for line in lines)


def types() -> Iterator[str]:
    """Yield what the names in the signatures stand for."""
    for name, words in TYPES.items():
        module = importlib.import_module(name)
        written = {
            ast.unparse(
                node.targets[0] if isinstance(node, ast.Assign) else node.target
            ): node.value
            for node in ast.parse(inspect.getsource(module)).body
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value
        }
        for word in words:
            kind = vars(module)[word]
            if isinstance(kind, type):
                yield from (f"    {line}" for line in of_class(word, kind))
            else:
                yield f"    {word} = {ast.unparse(written[word])}"


def environment() -> list[str]:
    """Return the variables of the environment."""
    return [vars(importlib.import_module(module))[name] for module, name in ENVIRONMENT]


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        WRITTEN.write_text(api(), encoding="utf-8")
    elif sys.argv[1:]:
        sys.exit(f"usage: {RENEW}")
    else:
        sys.stdout.write(api())
