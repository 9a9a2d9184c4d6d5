"""The address of a store, parsed so strictly that every part of it must have a meaning.

A part without a meaning is a mistake, and the rest of the setting may well name another existing
store. Errors show nothing of a setting that could not be parsed: it may hold a password.
"""

from __future__ import annotations

import contextlib
import re
from typing import Final, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from ... import validation

NAMED: Final = "store (RESILIENT_STORE)"
HIDDEN: Final = "<a setting that is not shown: it may hold a password>"
ALLOWED: Final = (
    "'memory:', 'sqlite:////absolute/path', 'redis://host:port/db', 'rediss://...', "
    "'file:/absolute/path', or a function that returns a store"
)
FILES: Final = {"sqlite": "sqlite:///", "file": "file:"}  # followed by the absolute path of a file
REDIS: Final = ("redis", "rediss")

_HOST: Final = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?\]")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,8}")
_USER_IN_PATH: Final = re.compile(r"(^|/)[^/]*:[^/]*@")
_OPTIONS: Final = ("prefix", "username", "password", "db", "client_name")
_TLS: Final = (
    "ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_certfile", "ssl_keyfile", "ssl_password",
    "ssl_cert_reqs", "ssl_check_hostname", "ssl_min_version", "ssl_ciphers",
)  # fmt: skip
_OURS: Final = (
    "socket_timeout", "socket_connect_timeout", "socket_read_size", "socket_keepalive", "timeout",
    "retry", "retry_on_timeout", "retry_on_error", "health_check_interval", "max_connections",
    "protocol", "encoding", "encoding_errors", "decode_responses", "single_connection_client",
)  # fmt: skip


class Address:
    """The address of a Redis: what may be shown of it, and what distinguishes it from others."""

    scheme: str
    host: str
    port: str
    options: dict[str, str]

    def __init__(self, url: str) -> None:
        self.scheme, self.host, self.port, self.options = _parts(url)
        self.prefix: str = _prefix(self.options)
        self.db: str = _database(url, self.options)
        self.hides: bool = "@" in urlsplit(url).netloc or bool(
            {"username", "password"} & set(self.options)
        )

    @property
    def shown(self) -> str:
        """The part of it that may be shown: scheme, host, port, database and prefix."""
        port = f":{self.port}" if self.port else ""
        prefix = f"?prefix={self.prefix}" if "prefix" in self.options else ""
        user = "***@" if self.hides else ""
        return f"{self.scheme}://{user}{self.host}{port}/{self.db}{prefix}"


def refuse(why: str) -> NoReturn:
    """Raise the error of a setting, without the setting itself.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"{NAMED}: {why}. It must be {ALLOWED}")


def scheme_of(store: str) -> str:
    """Return the scheme of a setting, and check that it has no unexpected characters.

    Raises:
        ValueError: it has some, or no scheme.
    """
    if store != store.strip():
        refuse("it begins or ends with a blank or a newline; take that away")
    if not store.isprintable():
        refuse("it has a line break, or another sign in it that can't be printed")
    scheme, colon, _ = store.partition(":")
    if not colon or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        refuse("it has no scheme")
    if scheme.lower() in (*FILES, *REDIS) and scheme != scheme.lower():
        refuse("its scheme is to be written in small letters")
    return scheme


def file_of(store: str) -> str:
    """Return the path in a setting with one of `FILES`.

    Raises:
        ValueError: it has none, or something besides.
    """
    head = FILES[scheme_of(store)]
    path = store.removeprefix(head)
    if path == store or not path.startswith("/") or path.startswith("//"):
        refuse(f"write {head} and then the absolute path of a file, such as {head}/var/lib/x")
    if any(sign in path for sign in "?#"):
        refuse("a file has no options: take away what stands after the path, from ? or # on")
    if _USER_IN_PATH.search(path):
        refuse("a file has no user and no password: take them away")
    if path.endswith("/") or "\0" in path or {".", ".."} & set(path.split("/")):
        refuse(f"write {head} and then the absolute path of a file, without . and ..")
    return path


def shown(store: str) -> str:
    """Return what may be shown and logged of a setting; nothing if it could not be parsed."""
    try:
        scheme = scheme_of(store)
        if scheme in FILES:
            return FILES[scheme] + file_of(store)
        if scheme in REDIS:
            return Address(store).shown
    except ValueError:
        pass
    return HIDDEN


def _parts(url: str) -> tuple[str, str, str, dict[str, str]]:
    """Return scheme, host, port and options."""
    scheme = scheme_of(url)
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = None
    if parts is None or not url.startswith(f"{scheme}://") or not parts.netloc:
        refuse(f"write {scheme}://host:port/db; an address of IPv6 stands in [ ]")
    place = parts.netloc.rpartition("@")[2]
    host, colon, port = place.rpartition(":") if not place.endswith("]") else (place, "", "")
    if not colon:
        host, port = place, ""
    if not _HOST.fullmatch(host) or (colon and not _PORT.fullmatch(port)) or int(port or 1) > 65535:
        refuse(
            f"after {scheme}:// stands user:password@ if there is one, then the name of a host, "
            "and a port from 1 to 65535; signs in a password such as / ? # @ are to be quoted, as "
            "%2F %3F %23 %40"
        )
    if "#" in url:
        refuse("take away what stands after #, or write %23 where it is a part of the password")
    return scheme, host, port, _options(parts.query, "?" in url, scheme)


def _options(query: str, any_there: bool, scheme: str) -> dict[str, str]:
    pairs: list[tuple[str, str]] | None = None if any_there else []
    with contextlib.suppress(ValueError):
        if any_there and query:
            pairs = parse_qsl(query, True, strict_parsing=True, max_num_fields=50)
    if pairs is None or not all(value for _, value in pairs):
        refuse("what stands after ? is no option=value")
    found = dict(pairs)
    if len(found) < len(pairs):
        refuse("an option stands there twice")
    for name in found:
        if name in _OURS:
            refuse(
                f"the option {name} is not taken: resilient bounds each operation itself, at half "
                f"a second, and never tries again within one. Delete {name}=... from it"
            )
        if name in _TLS and scheme != "rediss":
            refuse(f"the option {name} needs rediss://")
        if name not in (*_OPTIONS, *_TLS):
            refuse(
                "it has an option that is not known; the options are "
                + ", ".join((*_OPTIONS, *_TLS))
            )
    return found


def _prefix(options: dict[str, str]) -> str:
    try:
        return validation.name_of("prefix", options.get("prefix", "resilient"))
    except ValueError:
        refuse(f"the option prefix must be {validation.NAME_ALLOWED}")


def _database(url: str, options: dict[str, str]) -> str:
    path = unquote(urlsplit(url).path)
    said = path.removeprefix("/")
    if said and "db" in options:
        refuse("the database is said twice, as a path and as an option")
    number = options.get("db", said) or "0"
    if not _NUMBER.fullmatch(number):
        refuse(
            "after the port stands / and the number of a database, such as /0, and nothing else; "
            "several fleets share one database with ?prefix=NAME"
        )
    return number
