"""The structure that the architecture page describes, held by reading the code."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import resilient

SOURCE = Path(resilient.__file__).parent
FLOORS = [
    {
        "errors",
        "families",
        "known",
        "checks",
        "shapes",
        "clock",
        "measures",
        "outcomes",
        "stack",
        "steering",
        "locks",
        "imports",
        "process",
        "events",
        "deadline",
        "reading",
        "folding",
    },
    {"guards"},
    {"drive"},
    {"place", "copying", "rows", "measuring", "updating", "showing", "publishing", "composing"},
    {"guard_stack", "registry", "wrapping", "making", "activity"},
    {"clients"},
    {"calling", "levers", "policy"},
    {"decoration", "decorators", "circuit_decorator", "lookup", "patch_targets", "patching"},
    {"settings", "flags", "pages", "startup"},
    {
        "metrics",
        "metrics_hook",
        "scraping",
        "catalogue",
        "endpoints",
        "exemplars",
        "health",
        "monitoring",
        "exposition",
        "serving",
        "testing",
        "cli",
        "integrations",
    },
]
# Who may import what is heavy, at any depth of the module.
ALLOWED = {
    "anyio": {"drive/bell.py", "endpoints.py", "wrapping.py"},
    "trio": {"drive/bell.py", "drive/limits.py"},
    "asyncio": {
        "drive/aio.py",
        "drive/aio_driver.py",
        "drive/bell.py",
        "drive/timers.py",
        "integrations/grpc_aio.py",
        "integrations/psycopg.py",
    },
    "prometheus_client": {"metrics.py", "serving.py"},
    "wrapt": {"patching.py"},
    "logging": {
        "activity.py",
        "deadline.py",
        "events.py",
        "drive/core.py",
        "flags/follower.py",
        "flags/here.py",
        "flags/uwsgi.py",
        "pages/here.py",
    },
    "inspect": {"shapes.py", "guards/answers.py", "cli/checking.py"},
    "pytest": {"testing/plugin.py", "testing/flag_plugin.py"},
    "redis": {"flags/stores/bounded.py", "flags/stores/redis.py", "integrations/redis.py"},
    "aiohttp": {"integrations/aiohttp.py"},
    "botocore": {"integrations/boto3.py"},
    "django": {"integrations/django.py"},
    "flask": {"integrations/flask.py"},
    "opentelemetry": {
        "integrations/opentelemetry.py",
        "integrations/opentelemetry_metrics.py",
        "integrations/opentelemetry_spans.py",
    },
    "grpc": {
        "integrations/grpc.py",
        "integrations/grpc_aio.py",
        "integrations/grpc_calls.py",
        "integrations/grpc_errors.py",
        "integrations/psycopg.py",
    },
    "httpx": {"integrations/httpx.py"},
    "httpx2": {"integrations/httpx2.py"},
    "psycopg": {"integrations/psycopg.py"},
    "requests": {"integrations/requests.py"},
    "sqlalchemy": {"integrations/sqlalchemy.py"},
    "urllib3": {"integrations/requests.py", "integrations/urllib3.py"},
    "sqlite3": {"flags/stores/sqlite.py", "flags/stores/sqlite_file.py"},
    "click": {
        "cli/__init__.py",
        "cli/commands.py",
        "cli/flag_commands.py",
        "cli/options.py",
        "cli/policy_commands.py",
        "cli/reach.py",
        "cli/status.py",
        "cli/timeline.py",
        "cli/metrics_commands.py",
        "cli/top.py",
    },
    "rich": {"cli/drawing.py", "cli/printing.py", "cli/top.py"},
}
# Imports that still go up.
UPWARDS = {"drive/counting.py": {("resilient", "rows")}}
# Circles of imports that still stand: no other may come, and what is gone leaves the list.
CIRCLES: list[set[str]] = [
    {
        "drive.abandoning", "drive.call", "drive.ending", "drive.fast_path", "drive.leases",
        "drive.outward", "drive.own_calls", "drive.patience", "drive.plan", "drive.state",
        "drive.turned",
    },
    {
        "drive.aio", "drive.astreams", "drive.driver", "drive.handles", "drive.managers",
        "drive.pending", "drive.streams", "drive.sync",
    },
    {"drive.counting", "rows"},
    {
        "flags.flag_metrics", "flags.here", "flags.stores.opening", "pages.here", "pages.own",
        "pages.records",
    },
    {"guards.circuit_breaker", "guards.circuit_moving", "guards.circuit_showing"},
]  # fmt: skip
# Files of more than 300 lines, and functions of more than 40: they can only become fewer.
LONG_FILES = {
    "drive/aio.py",
    "drive/core.py",
    "drive/fast_path.py",
    "flags/here.py",
    "guards/base.py",
    "guards/circuit_breaker.py",
    "pages/here.py",
}
LONG_FUNCTIONS = {
    "drive/aio.py:_timed",
    "drive/aio.py:guarded",
    "drive/fast_path.py:_enter",
    "drive/fast_path.py:_two",
    "drive/fast_path.py:enter",
    "drive/sync.py:_threaded",
    "drive/sync.py:_timed",
    "drive/sync.py:guarded",
}
FILES = sorted(SOURCE.rglob("*.py"))


def floor_of(part: str) -> int:
    return next((n for n, names in enumerate(FLOORS) if part in names), len(FLOORS))


def imports(path: Path) -> set[tuple[str, ...]]:
    """Return what a file imports: package-relative parts for its own package, names for others."""
    found: set[tuple[str, ...]] = set()
    here = path.relative_to(SOURCE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {("", *alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(("", *(node.module or "").split(".")))
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - (node.level - 1)]
            module = tuple((node.module or "").split(".")) if node.module else ()
            if module:
                found.add(("resilient", *base, *module))
            else:
                found |= {("resilient", *base, alias.name) for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_down(path: Path) -> None:
    """No file imports from a floor above its own, not even names for type checkers."""
    relative = path.relative_to(SOURCE)
    if relative.name == "__init__.py" and len(relative.parts) == 1:
        return
    own = floor_of(relative.parts[0].removesuffix(".py"))
    for target in imports(path) - UPWARDS.get(str(relative), set()):
        if target[0] == "resilient":
            assert floor_of(target[1]) <= own, f"{relative} imports {'.'.join(target)}"


def test_guards_do_not_import_each_other() -> None:
    """A guard's file knows the base and its own helpers, and no other guard."""
    guards = {"circuit_breaker", "timeout", "bulkhead", "fallback", "kill_switch"}
    for name in guards:
        for target in imports(SOURCE / "guards" / f"{name}.py"):
            assert not (target[:2] == ("resilient", "guards") and target[2] in guards), target


@pytest.mark.parametrize("path", sorted((SOURCE / "flags").rglob("*.py")), ids=lambda p: p.name)
def test_flags_know_no_pages(path: Path) -> None:
    """What a process does with both is set by `resilient.startup`, above them."""
    assert not any(target[:2] == ("resilient", "pages") for target in imports(path))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_heavy_imports_stay_where_they_are_allowed(path: Path) -> None:
    """Only the files named here import what is heavy or waits."""
    relative = str(path.relative_to(SOURCE))
    for target in imports(path):
        if target[0] == "" and target[1] in ALLOWED:
            assert relative in ALLOWED[target[1]], f"{relative} imports {target[1]}"


@pytest.mark.parametrize("path", sorted((SOURCE / "guards").glob("*.py")), ids=lambda p: p.name)
def test_guards_never_wait_lock_log_or_read_a_clock(path: Path) -> None:
    """A guard is pure: no module that could do any of it is imported there."""
    banned = {"time", "threading", "_thread", "logging", "asyncio", "anyio", "trio", "os", "socket"}
    assert not {t[1] for t in imports(path) if t[0] == ""} & banned
    tree = ast.parse(path.read_text())
    assert not any(isinstance(n, (ast.AsyncFunctionDef, ast.Await)) for n in ast.walk(tree))


def modules() -> dict[str, ast.Module]:
    """Return every module by its name within the package."""
    parts = {path: path.relative_to(SOURCE).with_suffix("").parts for path in FILES}
    return {
        ".".join(parts[path]).removesuffix("__init__").strip("."): ast.parse(path.read_text())
        for path in FILES
    }


def arrows(name: str, tree: ast.Module, known: set[str]) -> set[str]:
    """Return the modules that a module imports, at any depth of it and for type checkers too."""
    package = (SOURCE / name.replace(".", "/")).is_dir()
    here = name.split(".") if name else []
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level + package]
            base += node.module.split(".") if node.module else []
            for alias in node.names:
                whole = ".".join([*base, alias.name])
                found.add(whole if whole in known else ".".join(base))
    return (found & known) - {name}


def reached(start: str, graph: dict[str, set[str]]) -> set[str]:
    """Return all that a module imports, also by others."""
    todo, seen = [*graph[start]], set[str]()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += graph[name]
    return seen


def test_no_import_circles() -> None:
    """No modules import each other, not even late or for type checkers, but those that stand."""
    trees = modules()
    graph = {name: arrows(name, tree, set(trees)) for name, tree in trees.items()}
    reach = {name: reached(name, graph) for name in graph}
    circles = {
        frozenset(other for other in found if name in reach[other])
        for name, found in reach.items()
        if name in found
    }
    new = [sorted(circle) for circle in circles if not any(circle <= known for known in CIRCLES)]
    gone = [sorted(known) for known in CIRCLES if not any(circle <= known for circle in circles)]
    assert (new, gone) == ([], [])


def test_files_are_small() -> None:
    """No file has more than 300 lines, but those that are listed; what is listed still has."""
    long = {str(f.relative_to(SOURCE)) for f in FILES if len(f.read_text().splitlines()) > 300}
    assert long == LONG_FILES


def lengths(path: Path) -> Iterator[tuple[str, int]]:
    """Yield a file's functions, with the lines of each besides its signature and docstring.

    An inner function counts for itself, and for the one that it is in.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            yield f"{path.relative_to(SOURCE)}:{node.name}", lines


def test_functions_are_small() -> None:
    """No function has more than 40 lines, but those that are listed; what is listed still has."""
    assert {name for path in FILES for name, n in lengths(path) if n > 40} == LONG_FUNCTIONS


def test_one_module_hooks_into_forks_and_the_end() -> None:
    """Nobody else registers anything: what is done then has one order, in `resilient.process`."""
    found = {
        str(path.relative_to(SOURCE))
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if (
            isinstance(node, ast.Attribute)
            and node.attr in ("register_at_fork", "_register_atexit")
        )
        or (isinstance(node, ast.alias) and node.name in ("atexit", "register_at_fork"))
    }
    assert found == {"process.py"}


def test_import_loads_nothing_heavy() -> None:
    """`import resilient` loads no event loop, no client library, no inspect, no logging."""
    heavy = [
        "asyncio", "anyio", "trio", "wrapt", "prometheus_client", "redis", "sqlite3", "click", "rich",
        "json", "hashlib", "inspect", "dataclasses", "logging", "pytest",
    ]  # fmt: skip
    code = (
        "import sys; before = set(sys.modules); import resilient; "
        f"print([m for m in {heavy!r} if m in sys.modules and m not in before])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[]"


def test_import_starts_nothing() -> None:
    """`import resilient` starts no thread and opens no file."""
    code = (
        "import threading, os; fds = len(os.listdir('/proc/self/fd')); import resilient; "
        "print(threading.active_count(), len(os.listdir('/proc/self/fd')) - fds)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.split() == ["1", "0"]


def test_public_names_are_declared() -> None:
    """`__all__` is a sorted tuple, and each name in it exists and has a docstring."""
    assert isinstance(resilient.__all__, tuple)
    assert sorted(resilient.__all__) == list(resilient.__all__)
    for name in resilient.__all__:
        assert getattr(resilient, name).__doc__, name
