"""From a setting to a store, and to the directory where this host keeps what it knows of it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from ... import checks
from ..here import MEMORY, RUNTIME
from .base import Store, shown

DIRECTORY: Final = "RESILIENT_STATE_DIR"
ENTRY_POINTS: Final = "resilient.stores"  # of other packages: a scheme, and what opens its URLs

Opener = Callable[[], Store]
ALLOWED: Final = (
    "'memory:', 'sqlite:////absolute/path', 'redis://host:port/db', 'rediss://...', "
    "'file:/absolute/path', or a function that returns a store"
)


def opener_of(store: str | Opener | None) -> Opener:
    """Return what opens a store, without opening it.

    Raises:
        ValueError: the setting is of no known form.
        TypeError: it is no str and no function.
    """
    if callable(store):
        return store
    if store is None or store in MEMORY:
        from .memory import MemoryStore

        return MemoryStore
    if type(store) is not str:
        checks.refuse_type("store", store, ALLOWED)
    try:
        scheme = urlsplit(store).scheme
    except ValueError:
        checks.refuse("store", shown(store), ALLOWED)
    if scheme == "sqlite":
        from .sqlite import SQLiteStore, refuse_network

        path = _path(store, "sqlite:///")
        refuse_network(path)
        return lambda: SQLiteStore(path)
    if scheme == "file":
        from .file import FileStore

        path = _path(store, "file:")
        return lambda: FileStore(path)
    if scheme in ("redis", "rediss"):
        return _redis(store)
    return _foreign(scheme, store)


def _path(store: str, head: str) -> str:
    path = store.removeprefix(head)
    if not path.startswith("/") or path.startswith("//") or path.endswith("/") or "\0" in path:
        checks.refuse("store", store, f"{head} and the absolute path of a file")
    return path


def _redis(store: str) -> Opener:
    try:
        from .redis import RedisStore
    except ImportError:
        raise ValueError(
            "store: a redis:// store needs redis-py: pip install 'resilient-guards[redis]'"
        ) from None
    RedisStore(store).close()  # its errors of form come now; it connects to nothing
    return lambda: RedisStore(store)


def _foreign(scheme: str, store: str) -> Opener:
    from importlib.metadata import entry_points

    for entry in entry_points(group=ENTRY_POINTS):
        if scheme and entry.name == scheme:
            make: Callable[[str], Store] = entry.load()
            return lambda: make(store)
    return checks.refuse("store", shown(store), ALLOWED)


def directory_for(
    store: str | Opener, given: str | None, environ: Mapping[str, str]
) -> Path | None:
    """Return where this host keeps its copy of a store, and who follows it.

    Args:
        store: the setting.
        given: the directory that the application names, or None.
        environ: the environment, which may name one.
    """
    if callable(store):
        return None if given is None else Path(given).absolute()
    key = hashlib.sha256(shown(store).encode()).hexdigest()[:16]
    said = given or environ.get(DIRECTORY)
    if said:
        return Path(said).absolute() / key
    if store.startswith("sqlite:"):
        return Path(_path(store, "sqlite:///") + "-state")
    home = environ.get("XDG_STATE_HOME") or (
        os.path.join(environ["HOME"], ".local", "state") if environ.get("HOME") else ""
    )
    if home and os.access(_existing(Path(home)), os.W_OK):
        return Path(home) / "resilient" / key
    user = os.geteuid() if hasattr(os, "geteuid") else "user"
    return Path(tempfile.gettempdir()) / f"resilient-{user}" / key


def runtime_for(store: str | Opener, environ: Mapping[str, str]) -> Path | None:
    """Return where this host's processes share their counts, None where each counts for itself."""
    said = environ.get(RUNTIME, "").strip()
    if said:
        return None if said == "off" else Path(said).absolute()
    if callable(store) or not store.startswith("sqlite:"):
        return None
    return Path(_path(store, "sqlite:///") + "-state") / "pages"


def _existing(path: Path) -> Path:
    while not os.path.exists(path) and path != path.parent:
        path = path.parent
    return path
