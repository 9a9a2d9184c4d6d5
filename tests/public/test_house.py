"""The structure that the architecture page describes, held by reading the code."""

from __future__ import annotations

import ast
import subprocess
import sys
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
    {
        "showing",
        "publishing",
        "measuring",
        "rows",
        "registry",
        "calling",
        "composing",
        "making",
        "place",
        "updating",
        "wrapping",
        "policy",
        "decorators",
        "levers",
        "activity",
        "lookup",
        "copying",
        "clients",
        "patching",
    },
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
        "drive/bell.py",
        "drive/timers.py",
        "integrations/grpc.py",
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
    "opentelemetry": {"integrations/opentelemetry.py"},
    "grpc": {"integrations/grpc.py", "integrations/grpc_errors.py", "integrations/psycopg.py"},
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


def typing_only(path: Path) -> set[tuple[str, ...]]:
    """Return what a file imports for type checkers alone."""
    tree = ast.parse(path.read_text())
    only = [
        n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)
    ]
    here = path.relative_to(SOURCE).parts[:-1]
    return {
        ("resilient", *here[: len(here) - (node.level - 1)], *(node.module or "").split("."))
        for block in only
        for node in block.body
        if isinstance(node, ast.ImportFrom)
    }


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_down(path: Path) -> None:
    """No file imports from a floor above its own, except names for type checkers."""
    relative = path.relative_to(SOURCE)
    if relative.name == "__init__.py" and len(relative.parts) == 1:
        return
    own = floor_of(relative.parts[0].removesuffix(".py"))
    for target in imports(path) - typing_only(path):
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


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_and_functions_are_small(path: Path) -> None:
    """No file is over 420 lines, no function over 60 besides signature and docstring."""
    text = path.read_text()
    assert len(text.splitlines()) <= 420
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            nested = any(isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)) for n in body)
            if body and not nested:
                assert (node.end_lineno or 0) - body[0].lineno < 60, node.name


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
    heavy = (
        "asyncio anyio trio wrapt prometheus_client redis sqlite3 click rich json hashlib "
        "inspect dataclasses logging pytest"
    ).split()
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
