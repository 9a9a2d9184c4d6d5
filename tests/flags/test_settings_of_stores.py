"""Settings of stores: what opens, what is refused, and what is never shown."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from resilient.flags.stores.address import shown
from resilient.flags.stores.base import StoreError
from resilient.flags.stores.opening import opener_of
from resilient.flags.stores.redis import RedisStore

from .kit import RedisServer, free_port, off


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
