"""The policies and flags that exist: in running processes, or in a module."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, cast

from ..admin.registry import registry
from ..flags.runtime import here
from ..pages.format import OTHER, Entry
from ..pages.process_entries import entry_of


class Policy:
    """A declared policy.

    Attributes:
        name: its name.
        owner: the team to call, or ``""``.
        tier: its importance, 1 the highest, or None.
        impact: what customers see while it is cut off, or ``""``.
        flags: the flags of its kill switches.
        keys: its worst keys, in words.
        fallback: what answers in its place, or ``""``.
        covered: whether something answers its callers while it is forced open.
        in_views: whether something answers those of some of its views alone.
        answered: those of its flags for which something answers while they are off.
    """

    def __init__(self, name: str, about: dict[str, Any]) -> None:
        tier = about.get("tier")
        self.name: str = name
        self.owner: str = str(about.get("owner") or "")
        self.tier: int | None = tier if isinstance(tier, int) else None
        self.impact: str = str(about.get("impact") or "")
        flags: Any = about.get("flags")
        self.flags: list[str] = _texts(flags)
        self.keys: list[str] = _texts(about.get("keys"))
        self.fallback: str = str(about.get("fallback") or "")
        covered: Any = about.get("covered", bool(self.fallback))  # older versions do not write it
        answered: Any = about.get("answered", self.flags if covered else [])
        self.covered: bool = covered is True
        self.in_views: bool = about.get("in_views") is True
        self.answered: list[str] = [name for name in _texts(answered) if name in self.flags]

    @property
    def lever(self) -> str:
        """The command that helps: to cut it off, if something answers then; else `look`."""
        if self.answered:
            return f'resilient flags off {shlex.quote(self.answered[0])} --reason "..." --for 30m'
        if self.covered:
            name = shlex.quote(self.name)
            return f'resilient policies force-open {name} --reason "..." --for 30m'
        return self.look

    @property
    def cuttable(self) -> bool:
        """Whether it can be cut off without an error for each of its callers."""
        return self.covered or bool(self.answered)

    @property
    def look(self) -> str:
        """The command that shows its state, the reason, and its owner."""
        return f"resilient policies show {shlex.quote(self.name)}"

    @property
    def release(self) -> str:
        """The command that ends a forced state."""
        return f'resilient policies release {shlex.quote(self.name)} --reason "..."'


def _texts(said: object) -> list[str]:
    """Return a page's list of texts; an empty list if it is no list."""
    return [str(each) for each in cast("list[object]", said)] if isinstance(said, list) else []


DOCTOR: Final = "resilient doctor"  # for processes that have not obeyed


class Flag:
    """A declared flag."""

    def __init__(self, name: str, about: dict[str, Any]) -> None:
        self.name: str = name
        self.owner: str = str(about.get("owner") or "")
        self.impact: str = str(about.get("impact") or "")

    @property
    def lever(self) -> str:
        """The command that turns it on again."""
        return f'resilient flags on {shlex.quote(self.name)} --reason "..."'

    @property
    def look(self) -> str:
        """The command that shows it."""
        return f"resilient flags show {shlex.quote(self.name)}"


class Declared:
    """All declared policies and flags, by name."""

    def __init__(self, policies: Iterable[Policy], flags: Iterable[Flag]) -> None:
        self.policies: list[Policy] = sorted(policies, key=lambda each: each.name)
        self.flags: list[Flag] = sorted(flags, key=lambda each: each.name)


def in_this_process(module: str = "") -> Declared:
    """Return what this process declares, after the import of a module.

    Raises:
        ImportError: there is no such module.
    """
    if module:
        importlib.import_module(module)
    cores = {core.name: core for core in registry.cores()}  # the newest of each name
    policies = [entry_of_core(core) for core in cores.values()]
    flags = [Flag(f.name, {"owner": f.owner, "impact": f.impact}) for f in here.flags.all()]
    return Declared(policies, flags)


def entry_of_core(core: Any) -> Policy:
    """Return a policy of this process."""
    from ..telemetry.schema import layout

    return Policy(core.name, entry_of(core, layout(words=None), [], 0.0).about)


def in_pages(path: Path) -> Declared:
    """Return what the living processes of this host declare in their pages.

    Raises:
        OSError: the directory can't be read.
        ValueError: another user owns it, or everybody may write there.
    """
    from ..pages.directory import Directory

    pages, _ = Directory(path).read()
    entries = [entry for page in pages if page.alive for entry in page.entries]
    return of_entries(entries)


def of_entries(entries: Iterable[Entry]) -> Declared:
    """Return what the entries of pages declare."""
    policies: dict[str, Policy] = {}
    flags: dict[str, Flag] = {}
    for entry in entries:
        if entry.kind == "policy" and entry.name != OTHER:
            policies[entry.name] = Policy(entry.name, entry.about)
        elif entry.kind == "flag":
            flags[entry.name] = Flag(entry.name, entry.about)
    return Declared(policies.values(), flags.values())
