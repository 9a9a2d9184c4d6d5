"""A store that can be read and not written is read: by a process, and by the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from resilient.errors import StoreError
from resilient.flags.stores.redis import RedisStore
from resilient.flags.stores.sqlite import SQLiteStore
from tests.kit.followers import Make, off
from tests.kit.servers.redis_server import RedisServer
from tests.kit.waiting import WAIT, until

NOBODY = 65534
root_only = pytest.mark.skipif(
    getattr(os, "geteuid", lambda: 1)() != 0, reason="only root can act as two users"
)

# After the imports: the interpreter may lie where others can't read.
BECOME = """
import json, pwd, encodings.idna, logging, importlib.metadata, fcntl, getpass, difflib
import resilient.flags.operations, resilient.flags.follower, resilient.flags.local_copy
import resilient.flags.presence, resilient.flags.policy_overrides, resilient.flags.stores.sqlite
import resilient.pages.sharing, resilient.pages.directory, resilient.pages.writer
import resilient.pages.publisher, resilient.flags.stores.urls
os.setgid(65534); os.setuid(65534)
"""
FOLLOWS = """
    import json, os, sys, time
    import resilient
    from resilient import flag
    from resilient.flags.runtime import here
    RECS = flag("recs")
    BECOME
    resilient.configure(store=sys.argv[1], state_dir=sys.argv[2])
    first = bool(RECS)
    until = time.monotonic() + 10
    while time.monotonic() < until and not here.follower.beat_error: time.sleep(0.01)
    print(json.dumps([first, here.follower.error, here.follower.beat_error]))
"""


def as_nobody(body: str, *arguments: str) -> str:
    """Run a script as another user; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(body).replace("BECOME", BECOME), *arguments],
        env={k: v for k, v in os.environ.items() if not k.startswith("RESILIENT")},
        capture_output=True, text=True, timeout=3 * WAIT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.fixture
def store() -> Iterator[str]:
    """A SQLite file of root's that others may read; not below pytest's own, which is private."""
    with tempfile.TemporaryDirectory(prefix="store-") as home:
        os.chmod(home, 0o755)  # noqa: S103 - another user goes there
        place = Path(home) / "lib"
        place.mkdir()
        place.chmod(0o755)
        yield str(place / "flags.db")


@root_only
@pytest.mark.parametrize("open_meanwhile", [True, False])
@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_a_file_of_another_user_is_followed(store: str, open_meanwhile: bool, mode: int) -> None:
    """With its owner at it, and without; nothing is left beside it that would lock the owner out."""
    writer = SQLiteStore(store)
    writer.flip(off("recs"), None, None)
    os.chmod(store, 0o644)
    if not open_meanwhile:
        writer.close()
    os.chmod(Path(store).parent, mode)
    home = Path(store).parents[1] / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    first, error, beat = json.loads(as_nobody(FOLLOWS, f"sqlite:///{store}", str(home)))
    assert (first, error) == (False, "")
    assert "can be read by this user, and not written" in beat
    assert all(each.stat().st_uid == 0 for each in Path(store).parent.iterdir())
    writer.flip(off("more"), None, None)
    writer.close()


@root_only
def test_a_file_that_is_empty_is_no_fault(store: str) -> None:
    """Nothing was ever written: every flag is as declared."""
    Path(store).touch(0o644)
    said = as_nobody(
        """
        import os, sys
        from resilient.flags.stores.sqlite import SQLiteStore
        BECOME
        store = SQLiteStore(sys.argv[1])
        print(store.read("", -1).flips, store.processes()[0], store.log(None, 5))
        """,
        store,
    )
    assert said == "[] [] []"


@root_only
def test_what_is_written_while_it_is_read_is_not_believed(store: str) -> None:
    """Without its locks a reading may be torn: it is refused, and made again."""
    writer = SQLiteStore(store)
    writer.flip(off("recs"), None, None)
    writer.close()
    os.chmod(store, 0o644)
    said = as_nobody(
        """
        import os, sys
        from resilient.errors import StoreError
        from resilient.flags.stores import sqlite_file
        from resilient.flags.stores.sqlite import SQLiteStore
        BECOME
        store = SQLiteStore(sys.argv[1])
        def meanwhile(db, **how):
            sqlite_file._signs = lambda path: (1, 2, 3, 4, True)  # the owner has it open again
            return True
        store._file._set_up = meanwhile
        try:
            store.read("", -1)
        except StoreError as error:
            print(str(error).rpartition(": ")[2])
        """,
        store,
    )
    assert said == "it was written while it was read; it is read again"


@root_only
def test_the_command_of_another_user(store: str) -> None:
    """Lists are shown, `doctor` says that nothing can be written, a flip says why not."""
    pytest.importorskip("rich")
    writer = SQLiteStore(store)
    writer.flip(off("recs"), None, None)
    os.chmod(store, 0o644)
    body = """
        import os, sys
        from click.testing import CliRunner
        import rich.table, rich.console, rich.box, rich._emoji_codes
        from resilient.cli.commands import cli
        BECOME
        for words in (["flags"], ["status"], ["doctor"], ["flags", "log"],
                      ["flags", "on", "recs", "--reason", "r", "--declare"]):
            done = CliRunner().invoke(cli, [*words, "--store", "sqlite:///" + sys.argv[1]])
            print(done.exit_code, done.output.replace(chr(10), " "))
    """
    for _ in range(2):
        flags, status, doctor, log, flip = as_nobody(body, store).splitlines()
        assert flags.startswith("0 ")
        assert "recs" in flags
        assert "off: recs" in status
        assert "can be read by this user, and not written" in doctor
        assert log.startswith("0 ")
        assert flip.startswith("4 ")
        assert "not written" in flip
        writer.close()


# -- Redis ---------------------------------------------


@pytest.mark.parametrize(
    "rights",
    ["+@all -@write", "+@read +@connection", "+@read +@connection +@scripting +time",
     "+hgetall +hmget +@connection"],
)  # fmt: skip
def test_a_user_of_redis_that_may_only_read(
    redis_server: RedisServer, hand: Make, rights: str
) -> None:
    """Flags are followed; that the process can't be counted is said, and a flip is refused."""
    order = ("ACL", "SETUSER", "reader", "on", ">pw", "~*", "resetchannels", "-@all")
    assert redis_server.send(*order, *rights.split()).startswith(b"+OK")
    try:
        writer = RedisStore(redis_server.url)
        writer.flip(off("recs"), None, None)
        store = RedisStore(redis_server.url.replace("//", "//reader:pw@"))
        one = hand(lambda: store, "recs", "more")
        one.turn()
        assert (one.says("recs"), one.follower.error) == (False, "")
        assert "ermission" in one.follower.beat_error or "can't run" in one.follower.beat_error
        writer.flip(off("more"), None, None)
        store.hint(0.01)
        one.turn()
        assert not one.says("more")
        assert "can be read by this user, and not written" in " ".join(store.unreadable())
        assert store.processes()[0] == [] or rights.startswith("+@read") is False
        with pytest.raises(StoreError, match=r"NoPermission|can.t run"):
            store.flip(off("recs"), None, None)
        writer.close()
    finally:
        redis_server.send("ACL", "DELUSER", "reader")


def test_a_replica_is_followed(redis_server: RedisServer, tmp_path: Path, hand: Make) -> None:
    """What its primary has is obeyed; it is not written."""
    with RedisServer() as replica:
        RedisStore(redis_server.url).flip(off("recs"), None, None)
        replica.send("REPLICAOF", "127.0.0.1", str(redis_server.port))
        store = RedisStore(replica.url)
        one = hand(lambda: store, "recs")

        def obeyed() -> bool:
            one.turn()
            return not one.says("recs")

        until(obeyed)
        assert one.follower.error == ""
        assert "ReadOnly" in one.follower.beat_error
        assert "not written" in " ".join(store.unreadable())
