"""The structure that the architecture page describes, held by reading the code."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import resilient
from resilient.guards.base import Guard
from resilient.guards.kinds import kinds as all_kinds

SOURCE = Path(resilient.__file__).parent
# Packages and modules from the lowest floor to the highest. A module belongs where the longest of these
# names is that it begins with.
FLOORS: list[tuple[str, ...]] = [
    tuple(each["names"])
    for each in tomllib.loads(Path(__file__).with_name("floors.toml").read_text())["floor"]
]
# Who may import what is heavy, at any depth of the module.
ALLOWED = {
    "anyio": {
        "engine/aio/sharing.py",
        "engine/aio/waker.py",
        "http_endpoint.py",
        "policy/wrapping.py",
    },
    "trio": {"engine/aio/waker.py", "engine/aio/deadline_scope.py"},
    "asyncio": {
        "engine/aio/functions.py",
        "engine/aio/sharing.py",
        "engine/aio/twins.py",
        "engine/aio/driver.py",
        "engine/aio/race.py",
        "engine/aio/waker.py",
        "engine/aio/timers.py",
        "integrations/grpc_aio.py",
        "integrations/psycopg.py",
        "simulate/clients.py",
        "simulate/loop.py",
        "simulate/runner.py",
        "simulate/service.py",
    },
    "matplotlib": {"simulate/picture.py"},
    "prometheus_client": {"metrics.py", "prometheus/endpoint.py"},
    "wrapt": {"policy/patching.py"},
    "logging": {
        "admin/activity.py",
        "deadline.py",
        "events.py",
        "engine/faults.py",
        "engine/tracing.py",
        "flags/follower.py",
        "flags/runtime.py",
        "flags/uwsgi.py",
        "integrations/openfeature_following.py",
        "pages/sharing.py",
    },
    "inspect": {
        "callables.py",
        "guards/last_good/keys.py",
        "guards/signatures.py",
        "cli/option_checks.py",
    },
    "pytest": {"testing/plugin.py", "testing/flag_plugin.py"},
    "redis": {
        "flags/stores/redis_limits.py",
        "flags/stores/redis.py",
        "fleet_limits/redis_turns.py",
        "integrations/redis.py",
    },
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
        "integrations/grpc_server.py",
        "integrations/psycopg.py",
    },
    "httpx": {"integrations/httpx.py"},
    "httpx2": {"integrations/httpx2.py"},
    "psycopg": {"integrations/psycopg.py"},
    "requests": {"integrations/requests.py", "integrations/requests_errors.py"},
    "sqlalchemy": {"integrations/sqlalchemy.py"},
    "urllib3": {"integrations/requests.py", "integrations/urllib3.py"},
    "sqlite3": {"flags/stores/sqlite.py", "flags/stores/sqlite_file.py"},
    "click": {
        "cli/__init__.py",
        "cli/advise.py",
        "cli/commands.py",
        "cli/flag_commands.py",
        "cli/options.py",
        "cli/policy_commands.py",
        "cli/simulate.py",
        "cli/store_access.py",
        "cli/status.py",
        "cli/timeline.py",
        "cli/metrics_commands.py",
        "cli/top.py",
    },
    "rich": {"cli/top_screen.py", "cli/output.py", "cli/top.py"},
}
# Functions of more than 40 lines: they can only become fewer.
LONG_FUNCTIONS = {
    "engine/aio/trio_calls.py:twin",
    "engine/aio/twins.py:timed",
    "engine/aio/twins.py:guarded",
    "engine/fast_path.py:_enter",
    "engine/fast_path.py:enter",
    "engine/two_guards.py:enter",
    "engine/two_guards.py:two_guards",
    "engine/sync/threads.py:threaded",
    "engine/sync/twins.py:timed",
    "engine/sync/twins.py:untimed",
    "engine/sync/twins.py:guarded",
    "engine/sync/threads.py:guarded",
}
FILES = sorted(SOURCE.rglob("*.py"))


def floor_of(module: str) -> int:
    """Return the floor of a module: that of the longest name that it begins with."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        for number, names in enumerate(FLOORS):
            if name in names:
                return number
    raise AssertionError(f"{module} stands on no floor")


def imports(path: Path) -> set[tuple[str, ...]]:
    """Return what a file imports: package-relative parts for its own package, names for others."""
    found: set[tuple[str, ...]] = set()
    here = path.relative_to(SOURCE).parts[:-1]
    for node in ast.walk(tree_of(path)):
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


def test_imports_go_down() -> None:
    """No module imports from a floor above its own, at any depth, not even for type checkers."""
    found = modules()
    upwards = [
        f"{name} imports {target}"
        for name, tree in found.items()
        for target in arrows(name, tree, set(found))
        if floor_of(target) > floor_of(name)
    ]
    assert upwards == []


def test_every_floor_is_lived_on() -> None:
    """No name is left of what has moved."""
    there = set(modules())
    assert {name for names in FLOORS for name in names} - there == set()


def test_guards_do_not_import_each_other() -> None:
    """A guard knows the contract and helpers, and no other guard."""
    guards = {kind.__module__.split(".")[2] for kind in kinds()}
    assert len(guards) == 12
    for name, tree in modules().items():
        here = name.split(".")
        if here[0] == "guards" and len(here) > 1 and here[1] in guards:
            others = {f"guards.{guard}" for guard in guards - {here[1]}}
            known = arrows(name, tree, set(modules()))
            assert not [each for each in known if each.startswith(tuple(others))], name


def kinds() -> list[type[Guard]]:
    """Return every kind of guard of ours, without those that an example in a docstring makes."""
    return [
        each
        for each in all_kinds()
        if each.__module__.startswith("resilient.")
        and vars(sys.modules[each.__module__]).get(each.__name__) is each
    ]


def test_nobody_knows_a_guard_by_its_kind() -> None:
    """Outside the files of guards only what makes them knows one, by its class or by its kind."""
    makers = {
        "",
        "policy.circuit_decorator",
        "policy.concurrency_limit_decorator",
        "policy.hedge_decorator",
        "policy.last_good_decorator",
        "policy.rate_limit_decorator",
        "policy.retry_decorator",
        "policy.retry_loops",
        "policy.shadowing",
        "policy.throttle_decorator",
        "cli.option_checks",
        "policy.decorators",
        "policy.clients.wrap",
    }
    own = {kind.__module__.removeprefix("resilient.") for kind in kinds()}
    # These words mean other things besides.
    words = {kind.kind for kind in kinds()} - {"fallback", "timeout", "retry"}
    found = modules()
    for name, tree in found.items():
        if name not in makers and not name.startswith("guards."):
            assert not arrows(name, tree, set(found)) & own, name
            told = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
            assert not told & words, name


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


@pytest.mark.parametrize("path", sorted((SOURCE / "guards").rglob("*.py")), ids=lambda p: p.name)
def test_guards_never_wait_lock_log_or_read_a_clock(path: Path) -> None:
    """A guard is pure: no module that could do any of it is imported there."""
    banned = {"time", "threading", "_thread", "logging", "asyncio", "anyio", "trio", "os", "socket"}
    assert not {t[1] for t in imports(path) if t[0] == ""} & banned
    tree = tree_of(path)
    assert not any(isinstance(n, (ast.AsyncFunctionDef, ast.Await)) for n in ast.walk(tree))


@cache
def tree_of(path: Path) -> ast.Module:
    """Return what a file says, parsed once."""
    return ast.parse(path.read_text())


@cache
def modules() -> dict[str, ast.Module]:
    """Return every module by its name within the package."""
    parts = {path: path.relative_to(SOURCE).with_suffix("").parts for path in FILES}
    return {
        ".".join(parts[path]).removesuffix("__init__").strip("."): tree_of(path) for path in FILES
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


def test_no_import_circles() -> None:
    """No modules import each other, at any depth and for type checkers too.

    What names its module by a string, to find what is known of a library, is not seen here.
    """
    found = modules()
    graph = {name: arrows(name, tree, set(found)) for name, tree in found.items()}
    TopologicalSorter(graph).prepare()  # it raises CycleError, with the circle


def test_files_are_small() -> None:
    """No file has more than 300 lines."""
    long = {str(f.relative_to(SOURCE)) for f in FILES if len(f.read_text().splitlines()) > 300}
    assert long == set()


def lengths(path: Path) -> Iterator[tuple[str, int]]:
    """Yield a file's functions, with the lines of each besides its signature and docstring.

    An inner function counts for itself, and for the one that it is in.
    """
    for node in ast.walk(tree_of(path)):
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
        for node in ast.walk(tree_of(path))
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


def test_what_is_seldom_asked_for_is_loaded_when_asked_for() -> None:
    """Those public names load their modules at their first use; they stay, and `dir` has them."""
    code = (
        "import sys, resilient\n"
        "for name, module in resilient._LATER.items():\n"
        "    assert f'resilient.{module}' not in sys.modules, module\n"
        "    assert name in resilient.__all__ and name in dir(resilient), name\n"
        "for name, module in resilient._LATER.items():\n"
        "    assert getattr(resilient, name) is getattr(sys.modules[f'resilient.{module}'], name)\n"
        "    assert name in vars(resilient), name\n"
        "try: resilient.nothing\n"
        "except AttributeError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "module 'resilient' has no attribute 'nothing'"


def test_public_names_are_declared() -> None:
    """`__all__` is a sorted tuple, and each name in it exists and has a docstring."""
    assert isinstance(resilient.__all__, tuple)
    assert sorted(resilient.__all__) == list(resilient.__all__)
    for name in resilient.__all__:
        assert getattr(resilient, name).__doc__, name
