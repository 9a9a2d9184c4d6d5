"""From a setting to a store, and to the directory where this host keeps its copy of it."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from ... import validation
from ..environment import MEMORY, RUNTIME
from .address import ALLOWED, FILES, NAMED, REDIS, Address, file_of, refuse, scheme_of
from .base import Store

DIRECTORY: Final = "RESILIENT_STATE_DIR"
ENTRY_POINTS: Final = "resilient.stores"  # other packages' schemes, and what opens their URLs

Opener = Callable[[], Store]

# How versions before 0.2 showed settings: names of directories derive from it and must not change.
_USER: Final = re.compile(r"^(\w+:/*).*@", re.DOTALL)
_SECRET: Final = re.compile(r"([?&][^=&#]*(?:pass|secret|token|user)[^=&#]*=)[^&#]*", re.IGNORECASE)


def opener_of(store: str | Opener | None) -> Opener:
    """Return a function that opens the store; open nothing.

    Raises:
        ValueError: the setting has an unknown form.
        TypeError: it is neither a str nor a function.
    """
    if callable(store):
        return store
    if store is None or store in MEMORY:
        from .memory import MemoryStore

        return MemoryStore
    if type(store) is not str:
        validation.refuse_type(NAMED, store, ALLOWED)
    scheme = scheme_of(store)
    if scheme == "sqlite":
        from .sqlite import SQLiteStore, refuse_network

        path = file_of(store)
        refuse_network(path)
        return lambda: SQLiteStore(path)
    if scheme == "file":
        from .file import FileStore

        path = file_of(store)
        return lambda: FileStore(path)
    return _redis(store) if scheme in REDIS else _foreign(scheme, store)


def _redis(store: str) -> Opener:
    Address(store)  # raises the errors of form first
    try:
        from .redis import RedisStore
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "redis"
        what = "needs redis-py" if missing else f"needs redis-py, which can't be imported: {error}"
        raise ValueError(
            f"{NAMED}: a redis:// store {what}; pip install 'resilient-guards[redis]'"
        ) from error
    RedisStore(store).close()  # connects to nothing, and raises for invalid options
    return lambda: RedisStore(store)


def _foreign(scheme: str, store: str) -> Opener:
    from importlib.metadata import entry_points

    for entry in entry_points(group=ENTRY_POINTS):
        if entry.name == scheme:
            make: Callable[[str], Store] = entry.load()
            return lambda: make(store)
    return refuse("its scheme is none of those, and no installed package has it")


def directory_for(
    store: str | Opener, given: str | None, environ: Mapping[str, str]
) -> Path | None:
    """Return where this host keeps its copy of a store, and the locks of its followers.

    Args:
        store: the setting.
        given: the directory that the application names, or None.
        environ: the environment, which may name one.
    """
    if callable(store):
        return None if given is None else Path(given).absolute()
    key = _key(store)
    said = given or environ.get(DIRECTORY, "").strip()
    if said:
        return Path(said).absolute() / key
    if store.startswith("sqlite:"):
        return Path(file_of(store) + "-state")
    home = environ.get("XDG_STATE_HOME") or (
        os.path.join(environ["HOME"], ".local", "state") if environ.get("HOME") else ""
    )
    if home and os.access(_existing(Path(home)), os.W_OK):
        return Path(home) / "resilient" / key
    user = os.geteuid() if hasattr(os, "geteuid") else "user"
    return Path(tempfile.gettempdir()) / f"resilient-{user}" / key


@lru_cache(maxsize=8)
def _key(store: str) -> str:
    """Return a unique word for a store, which reveals nothing of its password."""
    if store.partition(":")[0] in (*FILES, *REDIS):
        told = _SECRET.sub(r"\1***", _USER.sub(r"\1***@", store))
        return hashlib.sha256(told.encode(errors="replace")).hexdigest()[:16]
    # For another package's store nobody here knows which part is a secret and which names it.
    raw = store.encode(errors="surrogateescape")
    return hashlib.pbkdf2_hmac("sha256", raw, b"resilient", 20_000).hex()[:16]


def runtime_for(store: str | Opener, environ: Mapping[str, str]) -> Path | None:
    """Return where this host's processes share their counts, None if each counts alone."""
    said = environ.get(RUNTIME, "").strip()
    if said:
        return None if said.lower() == "off" else Path(said).absolute()
    if callable(store) or not store.startswith("sqlite:"):
        return None
    return Path(file_of(store) + "-state") / "pages"


def _existing(path: Path) -> Path:
    while not os.path.exists(path) and path != path.parent:
        path = path.parent
    return path
