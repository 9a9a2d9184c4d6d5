"""Directories of ours: no link is followed, and nobody else's is used."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from resilient.flags.flip import Flip
from resilient.flags.local_copy import CopyError, LocalCopy
from resilient.flags.presence import Presence
from resilient.flags.private_files import check_private, make_private
from resilient.pages.directory import Directory

NOBODY = 65534
root_only = pytest.mark.skipif(
    getattr(os, "geteuid", lambda: 1)() != 0, reason="only root can act as two users"
)
FLIP = Flip("flag/a", "off", version=1)


def refuses(directory: Path, said: str) -> None:
    """See that nobody makes or uses a directory: the copy, the locks and the pages alike."""
    copy = LocalCopy(directory)
    with pytest.raises(CopyError, match=said):
        copy.save("life", [FLIP], 1.0)
    with pytest.raises(ValueError, match=said):
        make_private(directory)
    with pytest.raises((ValueError, OSError)):
        Presence(directory).enter()
    with pytest.raises((ValueError, OSError)):
        Directory(directory).prepare()


def test_what_is_made_is_private(tmp_path: Path) -> None:
    """Every directory on the way, whatever the umask."""
    before = os.umask(0)
    try:
        make_private(tmp_path / "a" / "b" / "c")
    finally:
        os.umask(before)
    for each in ("a", "a/b", "a/b/c"):
        assert stat.S_IMODE((tmp_path / each).stat().st_mode) == 0o700


def test_a_directory_that_is_a_link_is_not_used(tmp_path: Path) -> None:
    """Also not one of our own: what it points to is not what was meant."""
    target = tmp_path / "target"
    target.mkdir(0o700)
    (tmp_path / "link").symlink_to(target)
    refuses(tmp_path / "link", "symbolic link")
    with pytest.raises(CopyError, match="symbolic link"):
        LocalCopy(tmp_path / "link").load()
    assert os.listdir(target) == []


@pytest.mark.parametrize("name", ["flags.db-state", "resilient-0"])
def test_what_we_make_is_never_a_link(tmp_path: Path, name: str) -> None:
    """The directory beside a SQLite file, and that in /tmp, on the way to what lies in them."""
    target = tmp_path / "target"
    target.mkdir(0o700)
    (tmp_path / name).symlink_to(target)
    refuses(tmp_path / name / "pages", "symbolic link")
    assert os.listdir(target) == []


@pytest.mark.parametrize("target", ["/etc", "nowhere", ".", "link"])
def test_a_link_to_anything(tmp_path: Path, target: str) -> None:
    """What is there, what is not, and itself."""
    (tmp_path / "link").symlink_to(target)
    refuses(tmp_path / "link", "symbolic link")


def test_a_link_of_ours_on_the_way_is_followed(tmp_path: Path) -> None:
    """As where a host's /var/lib is on another disk: it is the administrator's."""
    (tmp_path / "disk" / "deep").mkdir(parents=True, mode=0o700)
    (tmp_path / "disk" / "back").symlink_to("../disk/./deep")
    (tmp_path / "lib").symlink_to(tmp_path / "disk")
    copy = LocalCopy(tmp_path / "lib" / "back" / "key")
    assert copy.save("life", [FLIP], 1.0)
    assert (tmp_path / "disk" / "deep" / "key" / "flips").exists()
    assert copy.load() is not None


@pytest.mark.parametrize("name", ["flips", "lock"])
def test_a_file_that_is_a_link_is_not_followed(tmp_path: Path, name: str) -> None:
    """Of a link for a copy or a lock, what it points to is neither read nor written."""
    other = tmp_path / "other"
    other.write_text("somebody's\n")
    copy = LocalCopy(tmp_path / "key")
    make_private(copy.directory)
    (copy.directory / name).symlink_to(other)
    if name == "lock":
        with pytest.raises(CopyError):
            copy.save("life", [FLIP], 1.0)
    else:
        with pytest.raises(CopyError):
            copy.load()
        assert copy.save("life", [FLIP], 1.0)
        assert not copy.path.is_symlink()
    assert other.read_text() == "somebody's\n"


def test_a_lock_of_a_process_that_is_a_link_proves_nothing(tmp_path: Path) -> None:
    """Who follows it would lock another file, and take its process for dead."""
    presence = Presence(tmp_path / "key")
    presence.enter()
    other = tmp_path / "other"
    other.write_text("")
    (tmp_path / "key" / "processes" / "1a2b").symlink_to(other)
    assert not presence.is_dead("1a2b")
    presence.leave()


@root_only
@pytest.mark.parametrize("what", ["directory", "link", "key", "link for key"])
def test_what_another_user_has_put_into_tmp(tmp_path: Path, what: str) -> None:
    """In a directory where everybody may make things, one of somebody else's is not ours."""
    everybodys, victim = tmp_path / "tmp", tmp_path / "victim"
    everybodys.mkdir()
    everybodys.chmod(0o1777)
    victim.mkdir()
    mine = everybodys / "resilient-0"
    if what == "link":
        mine.symlink_to(victim)
    else:
        mine.mkdir()
    if what == "key":
        (mine / "key").mkdir(0o700)
    elif what == "link for key":
        (mine / "key").symlink_to(victim)
        os.chown(mine / "key", NOBODY, NOBODY, follow_symlinks=False)
    if what != "key":
        os.chown(mine, NOBODY, NOBODY, follow_symlinks=False)
    else:
        os.chown(mine / "key", NOBODY, NOBODY)
    said = "symbolic link" if "link" in what and what == "link" else "another user|symbolic link"
    refuses(mine / "key", said)
    assert os.listdir(victim) == []


@root_only
def test_nothing_is_made_in_another_users_directory(tmp_path: Path) -> None:
    """He could put another in its place; one of ours that is there is used."""
    home = tmp_path / "home"
    home.mkdir(0o755)
    (home / "there").mkdir(0o700)
    os.chown(home, NOBODY, NOBODY)
    refuses(home / "key", "another user")
    assert os.listdir(home) == ["there"]
    make_private(home / "there")


def test_nothing_is_made_where_everybody_may_move_it(tmp_path: Path) -> None:
    """A directory like /tmp whose sticky bit is missing."""
    everybodys = tmp_path / "shared"
    everybodys.mkdir()
    everybodys.chmod(0o777)
    refuses(everybodys / "key", "everybody may write")
    everybodys.chmod(0o1777)
    make_private(everybodys / "key")
    check_private(everybodys / "key")


@root_only
def test_a_way_that_may_be_passed_and_not_read(tmp_path: Path) -> None:
    """As /home on many hosts, for whoever is not root."""
    home = tmp_path / "home"
    (home / "me").mkdir(parents=True)
    os.chown(home / "me", NOBODY, NOBODY)
    for each in (home, *tmp_path.parents[:-1], tmp_path):
        each.chmod(each.stat().st_mode | 0o011)
    home.chmod(0o711)
    pid = os.fork()
    if pid == 0:
        try:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            make_private(home / "me" / "state" / "key")
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (home / "me" / "state" / "key").is_dir()
