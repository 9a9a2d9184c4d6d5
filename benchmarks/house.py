"""``make house``: the structure of the library in numbers, before and after a change."""

from __future__ import annotations

import ast
import logging
import re
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, Final

import resilient.guards.facets
from resilient import Policy, bulkhead, circuit_breaker, fallback, flag, flags, metrics, timeout
from resilient.errors import RefusedError
from resilient.guards.base import Guard

SOURCE: Final = Path(resilient.__file__).parent
FLOORS: Final = Path(__file__).parents[1] / "tests/public/floors.toml"
MOST_LINES: Final = 300  # of a file
LONGEST: Final = 40  # lines of a function
SHOWN: Final = 5
_SECTION: Final = re.compile(
    r"with (?:\w+\.)*core\.lock:|with self\.lock:|\bacquire\(\)|\(change\.core\.lock\)"
)


def modules() -> dict[str, ast.Module]:
    """Return every module by its name within the package."""
    found: dict[str, ast.Module] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name or "resilient"] = ast.parse(path.read_text())
    return found


def imports(name: str, tree: ast.Module, known: set[str]) -> set[str]:
    """Return which modules of the package a module imports, at any depth and for types too."""
    package = is_package(name)
    here = [] if name == "resilient" else name.split(".")
    found: set[str] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        up = len(here) - node.level + package
        base = [*here[: max(up, 0)], *((node.module or "").split(".") if node.module else [])]
        for alias in node.names:
            whole = ".".join([*base, alias.name])
            found.add(whole if whole in known else ".".join(base) or "resilient")
    return (found & known) - {name}


def is_package(name: str) -> bool:
    """Return whether a module is a folder."""
    return name == "resilient" or (SOURCE / name.replace(".", "/")).is_dir()


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the groups of modules that import each other (Tarjan's algorithm, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = set(stack[stack.index(name) :])
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(group)

    for name in graph:
        if name not in index:
            visit(name)
    return sorted(found, key=len, reverse=True)


def functions(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the lines of every function besides its signature and docstring, and its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            yield (node.end_lineno or 0) - body[0].lineno + 1 if body else 0, node.name


def floors() -> list[tuple[str, ...]]:
    """Return the names of modules and packages on each floor, the lowest first."""
    return [tuple(each["names"]) for each in tomllib.loads(FLOORS.read_text())["floor"]]


def floor_of(name: str, order: list[tuple[str, ...]]) -> int:
    """Return the floor of a module: that of the longest name that it begins with."""
    parts = [] if name == "resilient" else name.split(".")
    stems = [".".join(parts[:length]) for length in range(len(parts), -1, -1)]
    return next(n for stem in stems for n, names in enumerate(order) if stem in names)


def facets() -> list[type[Guard]]:
    """Return the facets of guards, in the order in which they are written."""
    kinds = [each for each in vars(resilient.guards.facets).values() if isinstance(each, type)]
    return [each for each in kinds if issubclass(each, Guard) and each is not Guard]


def members(kind: type[Any]) -> int:
    """Return how many public methods and attributes a class has."""
    names = {*vars(kind), *getattr(kind, "__annotations__", {})}
    return sum(not name.startswith("_") for name in names)


# -- what is touched on the way ---------------------------------------------


def trip(act: Callable[[], object]) -> str:
    """Return how many functions of the package an act calls, in how many files."""
    seen: list[str] = []

    def profile(frame: FrameType, event: str, arg: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(SOURCE)):
            seen.append(frame.f_code.co_filename)

    sys.setprofile(profile)
    try:
        act()
    finally:
        sys.setprofile(None)
    changes = sum(one != other for one, other in pairwise(seen))
    return f"{len(seen):>5} calls {len(set(seen)):>4} files {changes:>5} changes of file"


def well() -> int:
    """Go well."""
    return 1


def fails() -> int:
    """Fail."""
    raise OSError("down")


def refused(call: Callable[[], object]) -> None:
    """Have a call refused."""
    with suppress(RefusedError):
        call()


def trips() -> Iterator[tuple[str, str]]:
    """Yield the ways of a call, a flip and a scrape."""
    logging.disable()
    guards = fallback(value=0), circuit_breaker(), bulkhead(9), timeout(1, sync="cooperative")
    whole, bare = Policy("house-whole", *guards), Policy("house-bare", circuit_breaker())
    good, bad, alone = whole(well), whole(fails), bare(well)
    good(), bad(), alone()
    yield "a good call, whole policy", trip(good)
    yield "a failure, a fallback answers", trip(bad)
    whole.force_open("house")
    yield "forced open, a fallback answers", trip(good)
    whole.release()
    while whole.state != "open":
        bad()
    good()
    yield "a refusal, a fallback answers", trip(good)
    while bare.state != "open":
        bare.try_call(fails)
    refused(alone)
    yield "a refusal that is raised", trip(lambda: refused(alone))
    recs = flag("house-flag")
    yield "a flag is read", trip(lambda: bool(recs))
    flags.on("house-flag", reason="house")
    yield "a flip", trip(lambda: flags.off("house-flag", reason="house"))
    metrics.exposition()
    yield "a scrape of two policies", trip(metrics.exposition)


def main() -> None:
    """Print the numbers."""
    warnings.simplefilter("ignore")
    trees = modules()
    graph = {name: imports(name, tree, set(trees)) for name, tree in trees.items()}
    files = {path: len(path.read_text().splitlines()) for path in SOURCE.rglob("*.py")}
    long = sorted(((n, p) for p, n in files.items() if n > MOST_LINES), reverse=True)
    named = ((n, f"{m}.{f}") for m, tree in trees.items() for n, f in functions(tree))
    wide = sorted(named, reverse=True)
    top = [name for name in trees if "." not in name and name != "resilient"]
    rings = circles(graph)
    order = floors()
    floor = {name: floor_of(name, order) for name in trees}
    upwards = sum(floor[other] > floor[name] for name in trees for other in graph[name])
    outside = ("flags", "pages", "registry", "metrics", "events", "locks", "integrations", "place")
    sections = sum(
        len(_SECTION.findall(ast.unparse(tree)))
        for name, tree in trees.items()
        if not name.startswith(outside)
    )
    print(f"files {len(files)}, lines {sum(files.values())}")
    print(f"at the top: {sum(not is_package(n) for n in top)} modules, "
          f"{sum(is_package(n) for n in top)} packages")  # fmt: skip
    print(f"imports {sum(map(len, graph.values()))}; circles, deferred and typing imports too: "
          f"{len(rings)} of {sum(map(len, rings))} modules; upwards: {upwards}")  # fmt: skip
    for ring in rings[:SHOWN]:
        print(f"    {', '.join(sorted(ring))}")
    print(f"files over {MOST_LINES} lines: {len(long)}")
    for number, path in long[:SHOWN]:
        print(f"    {number} {path.relative_to(SOURCE)}")
    print(f"functions over {LONGEST} lines: {sum(n > LONGEST for n, _ in wide)}")
    for number, name in wide[:SHOWN]:
        print(f"    {number} {name}")
    told = ", ".join(f"{each.__name__} {members(each)}" for each in facets())
    print(f"members of the contract of a guard: {members(Guard)}; of its facets: {told}")
    print(f"places that take a policy's lock by hand: {sections}")
    for name, way in trips():
        print(f"{name:<34}{way}")


if __name__ == "__main__":
    main()
