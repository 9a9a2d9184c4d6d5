"""Options from outside the code: a TOML file, and environment variables over it."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final, cast

from .. import validation
from ..guards.window import calls
from .options import SETTINGS, OptionChange, apply, checked, guard_named, unknown
from .registry import registry

VARIABLE: Final = "RESILIENT_SETTINGS"  # names the file
PREFIX: Final = "RESILIENT__"  # RESILIENT__<POLICY>__<GUARD>__<OPTION>
_SECTION: Final = "policies"

Sources = dict[tuple[str, str, str], str]  # the source of an option, by policy, guard and option
Wanted = dict[str, dict[str, dict[str, Any]]]  # policy, guard, option


def load_settings(
    path: str | os.PathLike[str] | None = None, *, environ: Mapping[str, str] | None = None
) -> None:
    """Set options of policies from a TOML file and the environment: all of them, or none.

    Call it when all policies are declared, and again whenever the file has changed: an option that
    it no longer names returns to its declared value. `Policy.update` and operators override it.
    Guards keep their state as with `Policy.update`, and each changed policy publishes an event.

    The file has a table for each guard; an environment variable overrides it, with every
    character of the policy's name but A-Z and 0-9 written as ``_``:

    .. code-block:: toml

        [policies.search.bulkhead]
        max_concurrent = 40

    .. code-block:: console

        $ export RESILIENT__SEARCH__BULKHEAD__MAX_CONCURRENT=60

    Durations are seconds, ``"none"`` is None, and ``"calls(100)"`` a window of calls.

    Args:
        path: the file. Default: the file that the variable ``RESILIENT_SETTINGS`` names, if it is
            set, else none.
        environ: the environment. Default `os.environ`.

    Raises:
        ValueError: the file is no TOML, or a policy, guard or option is unknown (the message names
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
    if not isinstance(around, Mapping):
        validation.refuse_type("environ", around, "a mapping of str to str")
    for name, value in around.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            validation.refuse_type("environ", {name: value}, "a mapping of str to str")
    file = path if path is not None else around.get(VARIABLE) or None
    sources: Sources = {}
    wanted: Wanted = {} if file is None else _from_file(file, sources)
    _from_environment(around, wanted, sources)
    while not _apply(wanted, sources):
        pass


def _apply(wanted: Wanted, sources: Sources) -> bool:
    """Prepare all changes, then make them; return False if there was a concurrent change."""
    changes: list[OptionChange] = []
    for core in registry.cores():
        options = wanted.get(core.name, {})
        change, touched = OptionChange(core), False
        for kind in options:
            with _saying(sources, core.name, kind):
                guard_named(core.name, core.guards, kind)
        for guard in core.guards:
            if guard.kind in options or (guard._layers or {}).get(SETTINGS):
                with _saying(sources, core.name, guard.kind):
                    given = checked(core.name, guard, options.get(guard.kind, {}))
                    here = {name: value_of(name, value) for name, value in given.items()}
                    change.add(guard, SETTINGS, here)
                touched = True
        if touched:
            changes.append(change)
    return apply(changes, "settings were loaded")


@contextmanager
def _saying(sources: Sources, policy: str, kind: str) -> Generator[None]:
    """Name the file or the variables in errors of the body."""
    try:
        yield
    except (ValueError, TypeError) as error:
        text = str(error)
        here = {at[2]: said for at, said in sources.items() if at[:2] == (policy, kind)}
        meant = [
            at
            for name, at in here.items()
            if (name and text.startswith(name)) or repr(name) in text
        ]
        where = ", ".join(dict.fromkeys(meant or here.values()))
        guard = kind if kind.isprintable() else repr(kind)
        error.args = (f"{where}: {policy}.{guard}: {text}",)
        raise


# -- the file ------------------------------------------------------------------------


def _from_file(path: str | os.PathLike[str], sources: Sources) -> Wanted:
    import tomllib

    try:
        with open(path, "rb") as file:
            data = tomllib.load(file)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{os.fspath(path)} is no TOML: {str(error)[:200]}") from None
    for key in data:
        if key != _SECTION:
            unknown(f"{os.fspath(path)} has an unknown table", key, [_SECTION])
    wanted: Wanted = {}
    for policy, guards in _table(path, _SECTION, data.get(_SECTION, {})).items():
        _known(os.fspath(path), policy)
        for kind, options in _table(path, f"{_SECTION}.{policy}", guards).items():
            here = _table(path, f"{_SECTION}.{policy}.{kind}", options)
            sources[policy, kind, ""] = os.fspath(path)
            wanted.setdefault(policy, {})[kind] = dict(here)
            for name in here:
                sources[policy, kind, name] = os.fspath(path)
    return wanted


def _table(path: str | os.PathLike[str], key: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        said = key if key.isprintable() else repr(key)
        validation.refuse_type(f"{os.fspath(path)}: {said}", value, "a table")
    return cast("dict[str, Any]", value)


def _known(where: str, name: str) -> None:
    if name not in registry.names():
        unknown(f"{where}: no policy is named", name, registry.names())


# -- the environment -----------------------------------------------------------------


def _from_environment(environ: Mapping[str, str], wanted: Wanted, sources: Sources) -> None:
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
        twice = sources.get((found[0], kind, option), "")
        if twice.startswith(PREFIX):
            raise ValueError(f"{twice} and {name} both say {option}; unset one of them")
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


def value_of(name: str, value: Any) -> Any:
    """Return None or a window of calls for their text, which TOML and the environment need."""
    if not isinstance(value, str):
        return value
    if value.lower() == "none":
        return None
    size = value.removeprefix("calls(").removesuffix(")")
    if f"calls({size})" != value or not (size.isascii() and size.isdecimal()):
        return value
    if len(size) > 9:
        validation.refuse(name, value, "a number, or calls(n) with n from 1 to 100,000")
    try:
        return calls(int(size))
    except ValueError:
        validation.refuse(name, value, "a number, or calls(n) with n from 1 to 100,000")
