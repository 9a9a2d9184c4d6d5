"""The local copy: whole or refused, never waited for, and never older than it was."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resilient.flags.flip import Flip
from resilient.flags.local_copy import LARGEST, CopyError, LocalCopy
from tests.kit.followers import open_files
from tests.kit.threads import in_threads
from tests.kit.waiting import WAIT, within


def made(name: str, version: int, value: str = "off") -> Flip:
    """Return a recorded flip."""
    return Flip(f"flag/{name}", value, by="ann", reason="r", version=version, at=1.0)


def told(copy: LocalCopy) -> list[dict[str, Any]] | None:
    """Return what a copy holds, as plain data."""
    there = copy.load()
    return None if there is None else [flip.as_data() for flip in there.flips]


@pytest.fixture
def copy(tmp_path: Path) -> LocalCopy:
    """A copy with two flips."""
    there = LocalCopy(tmp_path / "state")
    assert there.save("life", [made("a", 1), made("b", 2, "on")], 5.0)
    return there


def test_what_was_saved_is_loaded(copy: LocalCopy) -> None:
    """Flips and the life of the store, in a file for this user alone."""
    there = copy.load()
    assert there is not None
    assert (there.incarnation, there.at) == ("life", 5.0)
    assert told(copy) == [made("a", 1).as_data(), made("b", 2, "on").as_data()]
    assert copy.path.stat().st_mode & 0o777 == 0o600
    assert copy.directory.stat().st_mode & 0o777 == 0o700


def test_none_is_no_fault(tmp_path: Path) -> None:
    """A host that knows nothing yet has no directory either."""
    assert LocalCopy(tmp_path / "a" / "b").load() is None


def test_a_copy_cut_short_anywhere_is_refused(copy: LocalCopy) -> None:
    """At every byte."""
    whole = copy.path.read_bytes()
    for place in range(len(whole)):
        copy.path.write_bytes(whole[:place])
        with pytest.raises(CopyError):
            copy.load()
    copy.path.write_bytes(whole + b"x")
    with pytest.raises(CopyError):
        copy.load()


def test_a_copy_with_an_altered_byte_is_refused(copy: LocalCopy) -> None:
    """Every byte, each to another value, and each of its bits in some."""
    whole, draw = copy.path.read_bytes(), random.Random(3)
    for place in range(len(whole)):
        for mask in {1 << draw.randrange(8), draw.randrange(1, 256)}:
            copy.path.write_bytes(whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1 :])
            with pytest.raises(CopyError):
                copy.load()


def test_a_spoilt_copy_is_written_anew(copy: LocalCopy) -> None:
    """What can't be read holds nothing up."""
    copy.path.write_bytes(b"spoilt")
    assert copy.save("life", [made("c", 3)], 6.0)
    assert told(copy) == [made("c", 3).as_data()]


@pytest.mark.parametrize(
    "content", [{}, [], {"incarnation": "x", "flips": 7, "at": 1}, {"flips": [[]]}, "x"]
)
def test_a_copy_of_another_form_is_refused(copy: LocalCopy, content: object) -> None:
    """Whole and with the right checksum, written by something else."""
    import json

    from resilient.flags.local_copy import _header

    body = json.dumps(content).encode() + b"\n"
    copy.path.write_bytes(_header(body) + body)
    with pytest.raises(CopyError):
        copy.load()
    assert copy.save("life", [made("c", 3)], 6.0)


def test_a_lever_of_a_later_version_does_not_hide_the_others(copy: LocalCopy) -> None:
    """Two versions of the library share a host during a deployment: what each knows stands."""
    import json

    from resilient.flags.local_copy import _header

    flips = [made("a", 1).as_data(), {**made("b", 2).as_data(), "lever": "share/b"}]
    body = json.dumps({"incarnation": "life", "at": 1.0, "flips": flips}).encode() + b"\n"
    copy.path.write_bytes(_header(body) + body)
    assert told(copy) == [made("a", 1).as_data()]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    if done.returncode:
        pytest.skip(f"a tmpfs can't be mounted here: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True, timeout=60)


def test_a_full_disk_leaves_the_old_copy(small: Path) -> None:
    """The error says so, the old content is there, and nothing half written is left."""
    copy = LocalCopy(small / "state")
    assert copy.save("life", [made("a", 1)], 1.0)
    (small / "full").write_bytes(b"x" * 40_000)
    many = [made(f"f{number}", 2 + number) for number in range(400)]
    for _ in range(3):
        with pytest.raises(CopyError, match="No space"):
            copy.save("life", many, 2.0)
        assert told(copy) == [made("a", 1).as_data()]
        assert sorted(os.listdir(copy.directory)) == ["flips", "lock"]
    (small / "full").unlink()
    assert copy.save("life", [made("b", 2)], 3.0)


def test_a_directory_that_is_read_only_leaves_the_old_copy(small: Path) -> None:
    """It is read all the same, and writing says what is wrong."""
    copy = LocalCopy(small / "state")
    assert copy.save("life", [made("a", 1)], 1.0)
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True, timeout=60)
    with pytest.raises(CopyError, match="Read-only"):
        copy.save("life", [made("b", 2)], 2.0)
    assert told(copy) == [made("a", 1).as_data()]


@pytest.mark.parametrize("what", ["fifo", "directory", "huge", "dangling", "loop", "device"])
def test_what_is_no_file_is_never_waited_for(copy: LocalCopy, tmp_path: Path, what: str) -> None:
    """Reading and writing are bounded, raise CopyError at most, and lose no descriptor."""
    copy.path.unlink()
    if what == "fifo":
        os.mkfifo(copy.path)
    elif what == "directory":
        copy.path.mkdir()
    elif what == "huge":
        with open(copy.path, "wb") as file:
            file.truncate(LARGEST + 1)
    else:
        target = {"dangling": tmp_path / "none", "loop": copy.path, "device": "/dev/zero"}[what]
        copy.path.symlink_to(target)
    before = open_files()
    with within(WAIT):
        for _ in range(5):
            try:
                assert copy.load() is None or what == "none"
            except CopyError:
                pass
    assert open_files() == before
    try:
        with within(WAIT):
            saved = copy.save("life", [made("c", 3)], 1.0)
    except CopyError:
        return
    assert saved
    assert told(copy) == [made("c", 3).as_data()]


@pytest.mark.parametrize("what", ["fifo", "directory", "loop"])
def test_a_lock_that_is_no_file_is_never_waited_for(copy: LocalCopy, what: str) -> None:
    """Something else lies where the lock is: an error, or it does."""
    lock = copy.directory / "lock"
    lock.unlink()
    {"fifo": os.mkfifo, "directory": os.mkdir, "loop": lambda at: at.symlink_to(at)}[what](lock)
    with within(WAIT):
        try:
            copy.save("life", [made("c", 3)], 1.0)
        except CopyError:
            pass


def test_a_directory_that_everybody_may_write_to_is_refused(copy: LocalCopy) -> None:
    """Anybody could turn flags off there: it is neither written nor believed."""
    copy.directory.chmod(0o777)
    with pytest.raises(CopyError, match="everybody"):
        copy.save("life", [made("c", 3)], 1.0)
    with pytest.raises(CopyError, match="everybody"):
        copy.load()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
@pytest.mark.parametrize("which", ["directory", "file"])
def test_what_belongs_to_another_user_is_refused(tmp_path: Path, which: str) -> None:
    """Of a foreign directory or file nothing is believed, and into the former nothing written."""
    copy = LocalCopy(tmp_path / "resilient-0" / "key")
    assert copy.save("life", [made("a", 1)], 1.0)
    target = {"directory": copy.directory, "file": copy.path}
    os.chown(target[which], 65534, 65534)
    with pytest.raises(CopyError, match="another user"):
        copy.load()
    if which != "file":
        with pytest.raises(CopyError, match="another user"):
            copy.save("life", [made("c", 3)], 1.0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_ours_below_a_foreign_one_will_do(tmp_path: Path) -> None:
    """As on a volume that everybody may write to: who moves it away can't put one of ours there."""
    copy = LocalCopy(tmp_path / "volume" / "key")
    assert copy.save("life", [made("a", 1)], 1.0)
    copy.directory.parent.chmod(0o777)
    os.chown(copy.directory.parent, 65534, 65534)
    assert [flip.lever for flip in (copy.load() or pytest.fail("none")).flips] == ["flag/a"]


def test_what_a_killed_writer_left_is_swept(copy: LocalCopy) -> None:
    """Half-written files of any process, also of this one's id."""
    for name in (f"flips.{os.getpid()}.new", "flips.1.new", "flips.99999.new"):
        (copy.directory / name).write_bytes(b"half")
    assert copy.save("life", [made("c", 3)], 1.0)
    assert sorted(os.listdir(copy.directory)) == ["flips", "lock"]


def test_savers_at_once_never_lose_a_newer_flip(tmp_path: Path) -> None:
    """Eight savers, each with its own flag and an old view of one that they share."""
    directory = tmp_path / "state"

    def save(place: int) -> None:
        copy = LocalCopy(directory)
        for version in range(1, 9):
            flips = [made(f"f{place}", version), made("shared", version * 10 + place)]
            while not copy.save("life", flips, 1.0):
                pass

    assert in_threads(8, save) == [None] * 8
    there = LocalCopy(directory).load()
    assert there is not None
    versions = {flip.lever: flip.version for flip in there.flips}
    assert versions == {**{f"flag/f{place}": 8 for place in range(8)}, "flag/shared": 87}


def test_an_older_view_does_not_lower_the_copy(copy: LocalCopy) -> None:
    """Who knows less adds what it knows."""
    assert copy.save("life", [made("a", 9, "on"), made("b", 1)], 1.0)
    assert {each["lever"]: each["version"] for each in told(copy) or []} == {
        "flag/a": 9, "flag/b": 2,
    }  # fmt: skip
