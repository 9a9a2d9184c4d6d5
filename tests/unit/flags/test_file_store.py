"""The store that somebody else writes: read whole or not at all, and obeyed as it stands."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from resilient.flags.stores.base import ReadOnlyStoreError, StoreError
from resilient.flags.stores.file import FileStore
from tests.kit.followers import Make, off, open_files
from tests.kit.waiting import WAIT, within

TOML = {
    "off": '[flags]\nrecs = "off"\n',
    "on": '[flags]\nrecs = "on"\n',
    "told": '[flags.recs]\nstate = "off"\nreason = "INC-1"\nby = "ann"\n',
    "none": "",
    "until": '[flags.recs]\nstate = "off"\nuntil = 2999-01-01T00:00:00Z\n',
    "past": '[flags.recs]\nstate = "off"\nuntil = "2001-01-01T00:00:00+00:00"\n',
}
JSON = {
    "off": '{"flags": {"recs": "off"}}',
    "on": '{"flags": {"recs": "on"}}',
    "told": '{"flags": {"recs": {"state": "off", "reason": "INC-1", "by": "ann"}}}',
    "none": "{}",
    "until": '{"flags": {"recs": {"state": "off", "until": "2999-01-01T00:00:00Z"}}}',
    "past": '{"flags": {"recs": {"state": "off", "until": "2001-01-01T00:00:00Z"}}}',
}


class Form:
    """A file in one of the forms."""

    def __init__(self, path: Path, texts: dict[str, str]) -> None:
        self.path = path
        self._texts = texts

    def write(self, word: str) -> None:
        """Have it say something."""
        self.path.write_text(self._texts[word])

    def open(self) -> FileStore:
        """Return a store that reads it."""
        return FileStore(str(self.path))


@pytest.fixture(params=["toml", "json"])
def form(request: pytest.FixtureRequest, tmp_path: Path) -> Form:
    """Both forms."""
    texts = TOML if request.param == "toml" else JSON
    return Form(tmp_path / f"flags.{request.param}", texts)


def test_what_it_says_is_read(form: Form) -> None:
    """Value, actor and reason, all there is at once, and nothing again while it stays so."""
    form.write("told")
    store = form.open()
    seen = store.read("", 0)
    (flip,) = seen.flips or []
    assert (flip.lever, flip.value, flip.by, flip.reason) == ("flag/recs", "off", "ann", "INC-1")
    assert seen.whole
    assert seen.version == flip.version > 0
    assert store.read(seen.incarnation, seen.version).flips is None
    form.write("on")
    again = store.read(seen.incarnation, seen.version)
    assert again.version > seen.version
    assert [flip.value for flip in again.flips or []] == ["on"]


def test_it_is_never_written(form: Form) -> None:
    """The error says how its levers are changed; giving back and telling are nothing."""
    form.write("off")
    store = form.open()
    with pytest.raises(ReadOnlyStoreError, match="Git"):
        store.flip(off("recs", value="on"), None, None)
    store.restore([off("recs", value="on")])
    assert not store.writable
    assert (store.log(None, 5), store.processes()[0], store.leave("x")) == ([], [], False)
    assert [flip.value for flip in store.read("", 0).flips or []] == ["off"]


def test_edits_are_followed_and_a_removed_entry_lets_go(hand: Make, form: Form) -> None:
    """Off, on, off, gone: each is obeyed at the next look, also by who begins in between."""
    one = hand(form.open, "recs")
    for word, on in [("off", False), ("on", True), ("off", False), ("none", True), ("off", False)]:
        form.write(word)
        one.turn()
        assert one.says("recs") is on, word
        other = hand(form.open, "recs")
        other.load()
        other.turn()
        assert other.says("recs") is on, word


def test_its_ends_are_obeyed(hand: Make, form: Form) -> None:
    """One that is yet to come, and one that has passed."""
    one = hand(form.open, "recs")
    form.write("until")
    one.turn()
    assert not one.says("recs")
    form.write("past")
    one.turn()
    assert one.says("recs")


def test_a_file_that_is_missing_or_cut_changes_nothing(hand: Make, form: Form) -> None:
    """While it is half written, gone, or something else, what is known stands."""
    form.write("told")
    whole = form.path.read_bytes()
    one = hand(form.open, "recs")
    one.turn()
    for place in range(1, len(whole) - 1):
        form.path.write_bytes(whole[:place])
        one.turn()
        cut_well = not one.follower.error
        assert cut_well or not one.says("recs")
    form.path.write_bytes(whole)
    one.turn()
    form.path.unlink()
    before = open_files()
    for _ in range(20):
        one.turn()
        assert "No such file" in one.follower.error
        form.path.mkdir()
        one.turn()
        assert one.follower.error
        assert not one.says("recs")
        form.path.rmdir()
    os.mkfifo(form.path)
    with within(WAIT):
        one.turn()
    assert "not a regular file" in one.follower.error
    assert open_files() <= before
    form.path.unlink()
    form.write("on")
    one.turn()
    assert one.says("recs")


def test_a_swapped_link_is_followed(hand: Make, form: Form, tmp_path: Path) -> None:
    """As a ConfigMap is changed: a link to a directory is replaced by another."""
    for word in ("off", "on"):
        (tmp_path / word).mkdir()
        inner = Form(tmp_path / word / form.path.name, form._texts)
        inner.write(word)
    (tmp_path / "..data").symlink_to(tmp_path / "on")
    form.path.symlink_to(Path("..data") / form.path.name)
    one = hand(form.open, "recs")
    one.turn()
    assert one.says("recs")
    for word, on in (("off", False), ("on", True)):
        (tmp_path / "..new").symlink_to(tmp_path / word)
        os.replace(tmp_path / "..new", tmp_path / "..data")
        one.turn()
        assert one.says("recs") is on


def test_an_edit_within_one_tick_of_the_clock_is_seen(hand: Make, tmp_path: Path) -> None:
    """The same size and the same time of change: the content is what counts."""
    path = tmp_path / "flags.toml"
    one = hand(lambda: FileStore(str(path)), "recs")
    for word, on in (('"off"', False), ('"on" ', True), ('"off"', False)):
        path.write_text(f"[flags]\nrecs = {word}\n")
        os.utime(path, (1e9, 1e9))
        one.turn()
        assert one.says("recs") is on


def test_a_clock_that_went_back_over_a_restart_hides_no_edit(
    hand: Make, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file was changed while the process was down: it is obeyed, whatever the local copy knows."""
    form.write("on")
    one = hand(form.open, "recs")
    one.turn()
    form.write("off")
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() - 3600)
    other = hand(form.open, "recs")
    other.load()
    other.turn()
    assert not other.says("recs")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("f.toml", b'[flags]\nrecs = "off"\nrecs = "on"', ""),
        ("f.json", b'{"flags": {"recs": "off", "recs": "on"}}', "twice"),
        ("f.json", b'{"flags": {}, "flags": {}}', "twice"),
        ("f.json", b'{"flags":' + b"[" * 100_000, ""),
        ("f.toml", b"a = " + b"[" * 100_000, ""),
        ("f.json", b"[]", "table"),
        ("f.json", b"\xff\xfe{}", ""),
        ("f.toml", b"x" * (2**20 + 1), "larger"),
        ("f.toml", b"\0", ""),
    ],
)
def test_a_file_that_is_none_says_why(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    """The error names the file and the fault."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(StoreError) as caught, within(WAIT):
        FileStore(str(path)).read("", 0)
    text = str(caught.value)
    assert str(path) in text
    assert said in text
    assert len(text) < 1000


ENTRIES = [  # the content, the part that is none, and what is said of it
    ("f.toml", '[flag]\nrecs = "off"', "flag", "did you mean 'flags'"),
    ("f.toml", '[flags.recs]\nstate = "off"\nreson = "x"', "flag/recs", "did you mean 'reason'"),
    ("f.toml", 'flags.recs = "of"', "flag/recs", "'on', 'off'"),
    ("f.toml", "flags.recs = nan", "flag/recs", "one of"),
    ("f.toml", "options.p.g.o = inf", "option/p/g.o", "finite"),
    ("f.json", '"flags": []', "flags", "a table"),
    ("f.json", '"flags": {"a b": "off"}', "flag/a b", "lever"),
    ("f.json", '"flags": {"a": {"state": "off", "until": 5}}', "flag/a", "date and time"),
    ("f.json", '"flags": {"a": {"state": "off", "until": "2027-01-01"}}', "flag/a", "offset"),
    ("f.json", '"flags": {"a": {"state": null}}', "flag/a", "one of"),
    ("f.json", '"flags": {"a": {"state": "off", "by": [1]}}', "flag/a", "by"),
    ("f.json", '"flags": {"a": {"state": "off", "reason": "\\ud800"}}', "flag/a", "printable"),
    ("f.json", '"flags": {"\\ud800": "off"}', "flag/?", "lever"),
    ("f.json", '"options": {"p": {"g.h": {"o": 1}}}', "option/p/g.h.o", "lever"),
    ("f.json", '"options": {"p": {"g": {"o": [1]}}}', "option/p/g.o", "number"),
    ("f.json", '"options": {"p": [1]}', "options.p", "a table"),
    ("f.json", '"options": {"p": {"g": {"o": 1' + "0" * 5000 + "}}}", "option/p/g.o", "finite"),
    ("f.json", '"options": {"p": {"g": {"o": Infinity}}}', "option/p/g.o", "finite"),
]


@pytest.mark.parametrize(("name", "content", "where", "said"), ENTRIES)
def test_an_entry_that_is_none_holds_no_other_up(
    hand: Make, tmp_path: Path, name: str, content: str, where: str, said: str
) -> None:
    """The others are obeyed; of that one it is said where it stands and what is wrong."""
    path = tmp_path / name
    good = 'policies.shop = "forced_open"'
    whole = f"{good}\n{content}" if name == "f.toml" else (
        '{"policies": {"shop": "forced_open"}, ' + content + "}"
    )  # fmt: skip
    path.write_text(whole)
    one = hand(lambda: FileStore(str(path)), "recs")
    one.turn()
    assert not one.follower.error
    assert one.says("recs")
    assert one.state.holding("forced/shop") is not None
    assert where in one.follower.unread
    assert said in one.follower.unread[where]
    assert one.follower.about()["faults"][where] == one.follower.unread[where]
    assert said in " ".join(FileStore(str(path)).unreadable())


def test_an_entry_that_has_become_none_stays_as_it_was(hand: Make, tmp_path: Path) -> None:
    """It is not let go, as one that is gone: somebody mistyped what was to hold."""
    path = tmp_path / "f.toml"
    path.write_text('[flags]\nrecs = "off"\nmore = "off"\n')
    one = hand(lambda: FileStore(str(path)), "recs", "more")
    one.turn()
    for spoilt in ('[flags]\nrecs = "of"\n', 'flags = "off"\n', "[flags.recs]\nstat = 1\n"):
        path.write_text(spoilt)
        one.turn()
        assert not one.says("recs"), spoilt
        one.turn()
        assert not one.says("recs"), spoilt
    assert one.says("more")
    path.write_text("[flags]\n")
    one.turn()
    assert one.says("recs")
    assert one.follower.unread == {}


def test_a_mark_at_the_beginning_is_passed_over(hand: Make, form: Form) -> None:
    """Editors of Windows write one."""
    form.write("off")
    form.path.write_bytes(b"\xef\xbb\xbf" + form.path.read_bytes())
    one: Any = hand(form.open, "recs")
    one.turn()
    assert not one.says("recs")


def test_a_removed_line_of_a_policys_keys_lets_that_key_go(tmp_path: Path) -> None:
    form = Form(
        tmp_path / "flags.toml",
        {
            "both": '[keys.shop]\na = "forced_open"\nb = "forced_open"\n',
            "one": '[keys.shop]\na = "forced_open"\n',
        },
    )
    form.write("both")
    store = form.open()
    assert sorted(flip.lever for flip in (store.read("", 0).flips or [])) == [
        "key/shop/a",
        "key/shop/b",
    ]
    form.write("one")
    assert [flip.lever for flip in (store.read("", 0).flips or [])] == ["key/shop/a"]
