"""Options from outside the code: a TOML file, and the environment over it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, cast

from . import checks
from .drive.core import Core
from .guards.base import Guard
from .guards.window import calls
from .registry import registry
from .updating import SETTINGS, Change, checked, guard_named, unknown

VARIABLE: Final = "RESILIENT_SETTINGS"  # names the file
PREFIX: Final = "RESILIENT__"  # RESILIENT__<POLICY>__<GUARD>__<OPTION>
_SECTION: Final = "policies"

Wanted = dict[str, dict[str, dict[str, Any]]]  # policy, guard, option


def load_settings(
    path: str | os.PathLike[str] | None = None, *, environ: Mapping[str, str] | None = None
) -> None:
    """Change options of policies as a TOML file and the environment say: all of them, or none.

    Call it once every policy is declared, and again whenever the file has changed: what it does not
    name any more goes back to what was declared. `Policy.update` and operators go over it. State is
    kept as with `Policy.update`, and each policy that changes tells so in an event.

    The file has a table for each guard; a variable of the environment goes over it, with every
    character of the policy's name but A-Z and 0-9 written as ``_``:

    .. code-block:: toml

        [policies.search.bulkhead]
        max_concurrent = 40

    .. code-block:: console

        $ export RESILIENT__SEARCH__BULKHEAD__MAX_CONCURRENT=60

    Durations are seconds, ``"none"`` is None, and ``"calls(100)"`` a window of calls.

    Args:
        path: the file. Default: the one that the variable ``RESILIENT_SETTINGS`` names, if it is
            set, else none.
        environ: the environment. Default `os.environ`.

    Raises:
        ValueError: the file is no TOML, or a policy, guard or option is unknown (the message has
            the nearest), or a value is not allowed. Nothing has changed.
        TypeError: a value has the wrong type. Nothing has changed.
        OSError: the file can't be read. Nothing has changed.

    Example:
        >>> from resilient import Policy, bulkhead, load_settings
        >>> maps = Policy("maps", bulkhead(20))
        >>> load_settings(environ={"RESILIENT__MAPS__BULKHEAD__MAX_CONCURRENT": "5"})
        >>> maps.snapshot()["guards"][0]["options"]["max_concurrent"]
        5
        >>> load_settings(environ={})
        >>> maps.snapshot()["guards"][0]["options"]["max_concurrent"]
        20
    """
    around = os.environ if environ is None else environ
    file = path if path is not None else around.get(VARIABLE) or None
    sources: dict[tuple[str, str, str], str] = {}  # where each option was said
    wanted: Wanted = {} if file is None else _from_file(file, sources)
    _from_environment(around, wanted, sources)
    while not _apply(wanted, sources):
        pass


def _apply(wanted: Wanted, sources: dict[tuple[str, str, str], str]) -> bool:
    """Prepare everything, then change everything; False where another change came between."""
    changes: list[Change] = []
    for core in registry.cores():
        options = wanted.get(core.name, {})
        change, touched = Change(core, core.guards), False
        for guard in core.guards:
            here = _of_guard(core, guard, options, sources)
            if here or (guard.layers or {}).get(SETTINGS):
                _say_where(
                    sources, core.name, guard.kind, here, partial(change.add, guard, SETTINGS, here)
                )
                touched = True
        for kind in options:
            guard_named(core.name, core.guards, kind)
        if touched:
            changes.append(change)
    done = [change.apply("settings were loaded") for change in changes]
    return all(done)


def _of_guard(
    core: Core,
    guard: Guard,
    options: Mapping[str, Mapping[str, Any]],
    sources: dict[tuple[str, str, str], str],
) -> dict[str, Any]:
    given = options.get(guard.kind)
    if given is None:
        return {}
    guard_named(core.name, core.guards, guard.kind)
    _say_where(sources, core.name, guard.kind, given, partial(checked, core.name, guard, given))
    return {name: _value(value) for name, value in given.items()}


def _say_where(
    sources: dict[tuple[str, str, str], str],
    policy: str,
    kind: str,
    options: Mapping[str, Any],
    do: Callable[[], object],
) -> None:
    """Do something, and name the file or variables in its error."""
    try:
        do()
    except (ValueError, TypeError) as error:
        said = dict.fromkeys(sources[policy, kind, name] for name in options)
        where = f"{', '.join(said)}: {policy}.{kind}: " if said else f"{policy}.{kind}: "
        error.args = (f"{where}{error}",)
        raise


# -- the file ------------------------------------------------------------------------


def _from_file(path: str | os.PathLike[str], sources: dict[tuple[str, str, str], str]) -> Wanted:
    import tomllib

    try:
        with open(path, "rb") as file:
            data = tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{os.fspath(path)} is no TOML: {error}") from None
    for key in data:
        if key != _SECTION:
            unknown(f"{os.fspath(path)} has an unknown table", key, [_SECTION])
    wanted: Wanted = {}
    for policy, guards in _table(path, _SECTION, data.get(_SECTION, {})).items():
        _known(os.fspath(path), policy)
        for kind, options in _table(path, f"{_SECTION}.{policy}", guards).items():
            here = _table(path, f"{_SECTION}.{policy}.{kind}", options)
            wanted.setdefault(policy, {})[kind] = dict(here)
            for name in here:
                sources[policy, kind, name] = os.fspath(path)
    return wanted


def _table(path: str | os.PathLike[str], key: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        checks.refuse_type(f"{os.fspath(path)}: {key}", value, "a table")
    return cast("dict[str, Any]", value)


def _known(where: str, name: str) -> None:
    if name not in registry.names():
        unknown(f"{where}: no policy is named", name, registry.names())


# -- the environment -----------------------------------------------------------------


def _from_environment(
    environ: Mapping[str, str], wanted: Wanted, sources: dict[tuple[str, str, str], str]
) -> None:
    names = [name for name in environ if name.startswith(PREFIX)]
    if not names:
        return
    by_variable: dict[str, list[str]] = {}
    for policy in registry.names():
        by_variable.setdefault(_as_variable(policy), []).append(policy)
    for name in names:
        parts = name.removeprefix(PREFIX).rsplit("__", 2)
        if len(parts) != 3:
            raise ValueError(f"{name} must be {PREFIX}<POLICY>__<GUARD>__<OPTION>")
        written, kind, option = parts[0], parts[1].lower(), parts[2].lower()
        found = by_variable.get(written, [])
        if not found:
            unknown(f"{name}: no policy is written", written, sorted(by_variable))
        if len(found) > 1:
            raise ValueError(f"{name} may mean {' or '.join(found)}; use a file for these")
        wanted.setdefault(found[0], {}).setdefault(kind, {})[option] = _parsed(environ[name])
        sources[found[0], kind, option] = name


def _as_variable(policy: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in policy).upper()


def _parsed(text: str) -> Any:
    word = text.strip()
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    for number in (int, float):
        try:
            return number(word)
        except ValueError:
            continue
    return word


def _value(value: Any) -> Any:
    """Return what TOML and the environment can't say otherwise: None, and a window of calls."""
    if not isinstance(value, str):
        return value
    if value.lower() == "none":
        return None
    size = value.removeprefix("calls(").removesuffix(")")
    return calls(int(size)) if f"calls({size})" == value and size.isdecimal() else value
