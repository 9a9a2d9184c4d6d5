"""Settings of stores: what opens, what is refused, and what is never shown."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from resilient.flags.stores.address import HIDDEN, shown
from resilient.flags.stores.base import StoreError
from resilient.flags.stores.redis import RedisStore
from resilient.flags.stores.urls import directory_for, opener_of
from tests.kit.followers import off
from tests.kit.servers.redis_server import RedisServer
from tests.kit.workers import free_port


def everything(error: BaseException | None) -> str:
    """Return the text of an error and of all that it came from."""
    texts = []
    while error is not None:
        texts.append(f"{error!r} {error}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return " ".join(texts)


SECRETS = [
    "redis://:hunter2@127.0.0.1:{port}/0",
    "redis://user:hunter2@127.0.0.1:{port}/0",
    "redis://:hunter2@127.0.0.1:{port}/x",
    "redis://:hunter2@127.0.0.1:notaport/0",
    "redis://:hunter2@127.0.0.1:{port}/0?prefix=a%20b",
    "redis://:hunter2@127.0.0.1:{port}/0?unknown_option=1",
    "redis://:hunter2@[::1/0",
    "reddis://:hunter2@127.0.0.1/0",
    # As people paste them: a password whose signs are not quoted, or where redis-py takes it too.
    "redis://:hunter2/x@127.0.0.1:{port}/0",
    "redis://:hunter2#x@127.0.0.1:{port}/0",
    "redis://:hunter2?x@127.0.0.1:{port}/0",
    "redis://127.0.0.1:{port}/0?password=hunter2",
]


@pytest.mark.parametrize("setting", SECRETS)
def test_no_password_is_in_any_error(setting: str) -> None:
    """Neither where it is refused, nor where nobody answers."""
    setting = setting.format(port=free_port())
    with pytest.raises((StoreError, ValueError, TypeError)) as caught:
        opener_of(setting)().read("", 0)
    assert "hunter2" not in everything(caught.value)
    with contextlib.suppress(ValueError):
        assert "hunter2" not in shown(setting)


def test_no_password_is_in_the_error_of_a_server_that_refuses_it(redis_server: RedisServer) -> None:
    """Redis says what is wrong, and not the password."""
    store = RedisStore(f"redis://ann:hunter2@127.0.0.1:{redis_server.port}/0")
    for attempt in (lambda: store.read("", 0), lambda: store.flip(off("a"), None, None)):
        with pytest.raises(StoreError) as caught:
            attempt()
        assert "hunter2" not in everything(caught.value)
    store.close()


REFLECTED = "-ERR unknown command 'AUTH', with args beginning with: 'hunter2' 'h%33'\r\n"


@pytest.mark.parametrize("user", [":hunter2", "ann:hunter2", "ann:h%75nter2"])
def test_a_server_that_sends_a_password_back(user: str) -> None:
    """What is no Redis may: it is neither in the error nor in those behind it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):
                with server.accept()[0] as connection:
                    connection.recv(1000)
                    connection.sendall(REFLECTED.encode() * 3)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        store = RedisStore(f"redis://{user}@127.0.0.1:{server.getsockname()[1]}/0")
        with pytest.raises(StoreError, match=r"\*\*\*") as caught:
            store.read("", 0)
        error: BaseException | None = caught.value
        while error is not None:
            assert "hunter2" not in f"{error!r} {error}"
            error = error.__cause__ or error.__context__
        store.close()


SLIPS = [  # a setting, and what is said of it
    ("redis://h/shop", "number of a database"), ("redis://h/0/1", "number of a database"),
    ("redis://h/00", "number of a database"), ("redis://h/-1", "number of a database"),
    ("redis://h/0%20", "number of a database"), ("redis://h/٣", "number of a database"),
    ("redis://h/0#x", "#"), ("redis://h/0#", "#"), ("redis://h/0?", "after ?"),
    ("redis://h/0?prefix", "after ?"), ("redis://h/0?prefix=", "after ?"),
    ("redis://h/0?prefix=a&prefix=b", "twice"), ("redis://h/0?db=1", "twice"),
    ("redis://h?db=x", "number of a database"), ("redis://h/0?Prefix=a", "not known"),
    ("redis://h/0?nonsense=1", "not known"), ("redis://h/0?ssl_ca_certs=/x", "rediss"),
    ("redis://h:/0", "port"), ("redis://h:0/0", "port"), ("redis://h:99999/0", "port"),
    ("redis://h:6379x/0", "port"), ("redis:///0", "host"), ("redis:h/0", "host"),
    ("redis://", "host"), ("redis://a b/0", "host"), ("redis://::1/0", "host"),
    ("redis://[::1/0", "IPv6"), ("redis://u@/0", "host"), ("REDIS://h/0", "small letters"),
    ("SQLite:////a", "small letters"), ("redis://h/0\n", "blank"), (" redis://h/0", "blank"),
    ("memory: ", "blank"), ("\tsqlite:////a", "blank"), ("redis://h\n/0", "printed"),
    ("sqlite:////a\u202eb", "printed"), ("redis://h/\ud800", "printed"),
    ("sqlite:////a?mode=ro", "no options"), ("sqlite:////a#b", "no options"),
    ("sqlite:////u:p@h/db", "no user"), ("sqlite://u:p@h/db", "absolute"),
    ("sqlite:////a/../b", "absolute path"), ("sqlite:///a", "absolute"), ("sqlite:/a", "sqlite:///"),
    ("file:/a?x=1", "no options"), ("file://h/a", "absolute"), ("file:/u:p@h/a", "no user"),
    ("h:6379", "none of those"), ("localhost", "no scheme"), ("redis", "no scheme"),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "said"), SLIPS)
def test_every_part_of_a_setting_has_a_meaning(setting: str, said: str) -> None:
    """What has none is refused, with the variable and what is allowed, and is not shown."""
    with pytest.raises(ValueError) as caught:
        opener_of(setting)
    text = str(caught.value)
    assert said in text
    assert "RESILIENT_STORE" in text
    assert "sqlite:////absolute/path" in text
    assert shown(setting) == HIDDEN


@pytest.mark.parametrize(
    ("setting", "as_shown"),
    [
        ("redis://h", "redis://h/0"), ("redis://h/", "redis://h/0"),
        ("redis://h:1/7", "redis://h:1/7"), ("redis://h?db=3", "redis://h/3"),
        ("rediss://:pw@[::1]:1/0?prefix=shop", "rediss://***@[::1]:1/0?prefix=shop"),
        ("redis://u:p%40%2F@my-host_1.x:1/0", "redis://***@my-host_1.x:1/0"),
        ("redis://u:a@b@h:1/0", "redis://***@h:1/0"),
        ("redis://h/0?username=u&password=pw", "redis://***@h/0"),
        ("rediss://h/0?ssl_cert_reqs=none", "rediss://h/0"),
        ("sqlite:////var/lib/app@1/my app.db", "sqlite:////var/lib/app@1/my app.db"),
        ("file:/etc/flags.toml", "file:/etc/flags.toml"),
    ],
)  # fmt: skip
def test_a_setting_is_shown_by_what_is_there(setting: str, as_shown: str) -> None:
    """Scheme, host, port, database and prefix; that there is a user, and nothing of him."""
    assert shown(setting) == as_shown
    opener_of(setting)


OURS = ["socket_timeout", "socket_connect_timeout", "retry_on_timeout", "health_check_interval",
        "max_connections", "decode_responses", "protocol", "retry_on_error"]  # fmt: skip


@pytest.mark.parametrize("option", OURS)
def test_an_option_that_is_set_here_is_explained(option: str) -> None:
    """As in the URLs of other tools: which it is, why it is not taken, and what to delete."""
    with pytest.raises(ValueError, match=f"the option {option} is not taken.*Delete {option}="):
        opener_of(f"redis://h/0?{option}=5")


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (
            "import async_timeout_that_is_missing",
            "can't be imported: No module named 'async_timeou",
        ),
        ("raise ImportError('built for another Python')", "built for another Python"),
        (
            "raise ModuleNotFoundError(\"No module named 'redis'\", name='redis')",
            "needs redis-py; ",
        ),
    ],
)
def test_an_import_error_keeps_its_cause(tmp_path: Path, module: str, said: str) -> None:
    """What is installed and can't be imported says why, and how it is installed."""
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "__init__.py").write_text(module + "\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    code = """
from resilient.flags.stores.urls import directory_for, opener_of
try: opener_of("redis://h/0")
except ValueError as error: print(type(error.__cause__).__mro__[-4].__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said in done.stdout
    assert "ImportError" in done.stdout
    assert "pip install 'resilient-guards[redis]'" in done.stdout


# As they were named before settings were read strictly: a local copy is to be found again.
KEYS = {
    "redis://127.0.0.1:6379/0": "27399e8594c34d7c",
    "redis://:hunter2@h:1/0?prefix=shop": "03a4ab0580bd6981",
    "rediss://ann:hunter2@h/3": "e1dd9d69a00a66d7",
}


@pytest.mark.parametrize("setting", KEYS)
def test_the_directory_of_a_store_keeps_its_name(setting: str) -> None:
    """It is the same as before, and says nothing of a password."""
    assert directory_for(setting, "/d", {}) == Path("/d") / KEYS[setting]
    other = setting.replace("hunter2", "other")
    assert directory_for(other, "/d", {}) == directory_for(setting, "/d", {})


def test_two_stores_never_share_a_directory() -> None:
    """Of another package's, whatever part of the setting tells them apart."""
    settings = [
        "shared://tenant1@h/x", "shared://tenant2@h/x", "shared://t:1@h/x", "shared://t:2@h/x",
        "shared://h/x?token=1", "shared://h/x?token=2", "shared://h/x",
        "redis://h/0", "redis://h/1", "redis://h/0?prefix=a", "redis://h/0?prefix=b",
        "rediss://h/0", "file:/a", "file:/b",
    ]  # fmt: skip
    assert len({directory_for(each, "/d", {}) for each in settings}) == len(settings)


def test_two_prefixes_are_two_stores(redis_server: RedisServer) -> None:
    """One Redis serves many."""
    one, two = (RedisStore(f"{redis_server.url}?prefix={name}") for name in ("one", "two"))
    one.flip(off("a"), None, None)
    assert len(one.read("", -1).flips or []) == 1
    assert two.read("", -1).flips == []
    one.close()
    two.close()


@pytest.mark.parametrize(
    "setting",
    ["sqlite:relative.db", "sqlite:///relative.db", "sqlite:////tmp/", "file:rel", "file:///tmp/x",
     "nothing", "http://x", "sqlite:////a\0b", " "],
)  # fmt: skip
def test_a_setting_that_is_none_is_refused(setting: str) -> None:
    """At once, before anything is opened."""
    with pytest.raises(ValueError):
        opener_of(setting)


def test_nothing_is_made_by_a_setting_alone(tmp_path: Path) -> None:
    """Naming a store opens nothing, and reading it makes nothing."""
    store = opener_of(f"sqlite:///{tmp_path / 'flags.db'}")()
    assert store.read("", 0).version == 0
    assert list(tmp_path.iterdir()) == []
    store.close()
