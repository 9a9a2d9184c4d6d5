"""What lies where in the file of a page.

A header, then records; all numbers are 8 bytes in the order of this machine, since no other one
reads them. A record's cells are the row of one policy (see `resilient.rows`); only they change
once it is there, unless the header's sequence number says so: it is odd while the owner moves
records, and a reader who saw it change reads again.
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Iterator
from typing import Any, Final, cast

from ..telemetry.schema import Row, RowSchema, counters, exact, parsed
from ..validation import clean

MAGIC: Final = b"RSLNTP01"  # its last two characters are the version of this form
HEADER: Final = 4096
SEGMENT: Final = 256 * 1024  # a page grows by so much
LARGEST: Final = 64 * 2**20  # bytes of one page: some 60,000 policies
SUFFIX: Final = ".page"
DEPARTED: Final = "departed" + SUFFIX
MOST: Final = 10_000  # policies that are gone and yet named; the rest are added up
OTHER: Final = "_other"  # under this name

# Of the header, counted in numbers of 8 bytes.
BEAT: Final = 1  # when the owner last gave a sign of life, on the monotonic clock
USED: Final = 2  # bytes from the beginning to the end of the last record
SEQUENCE: Final = 3
LEFT: Final = 4  # 1 where the owner has said goodbye
SWITCH: Final = 5  # while one record takes the place of others: which of them do not count
FRESH: Final = 6  # where that one begins, which does not count where the switch is 1
OLD: Final = 7  # and where those begin, up to two, which do not count where it is 2
_ABOUT: Final = 128  # where its JSON begins, after a number with its length

FREE: Final = 0
LAYOUT: Final = 1
ROW: Final = 2
_TEXTS: Final = ("owner", "impact", "fallback")
_PLAIN: Final[dict[str, tuple[type, ...]]] = {
    "tier": (int, type(None)),
    "since": (float, int),
    "covered": (bool,),
}
_LONGEST: Final = 200  # characters of a name
_END: Final = 1e12  # seconds since 1970 that no clock will show
_HEAD: Final = struct.Struct("qqqq")  # size in bytes, kind, bytes of JSON, cells


class Entry:
    """The row of one policy, or of a process's own counts, and whose it is.

    There is one for as long as the policy is there; its row, a tuple, is another one when a number
    has changed. So a scrape leaves next to nothing for garbage collection, which at thousands of
    policies takes as long as the scrape. What is made of a row remembers which one it was.
    """

    __slots__ = ("_kept", "about", "info", "kind", "layout", "name", "row", "shown")

    def __init__(self, kind: str, name: str, about: Any, layout: RowSchema, row: Row) -> None:
        self.shown: Any = None  # what a scrape made of its row, for the next one
        self.info: Any = None  # and of what is said about it
        self.kind: str = kind  # "policy" or "process"
        self.name: str = name
        self.about: Any = about  # of a policy: owner, tier, impact
        self.layout: RowSchema = layout
        self.row: Row = tuple(row)
        self._kept: tuple[Row, Entry] | None = None

    def kept(self) -> Entry:
        """Return what of it outlives its process: the same one while its row is."""
        row = self.row
        if self._kept is None or self._kept[0] is not row:
            kept = counters(self.layout, row)
            self._kept = row, Entry(self.kind, self.name, self.about, self.layout, kept)
        return self._kept[1]


def header(about: dict[str, Any], used: int, beat: float) -> bytes:
    """Return the header of a page.

    Raises:
        ValueError: about is too long.
    """
    text = json.dumps(about, separators=(",", ":")).encode()
    start = MAGIC + struct.pack("dqqq", beat, used, 0, 0)
    whole = start.ljust(_ABOUT - 8, b"\0") + struct.pack("q", len(text)) + text
    if len(whole) > HEADER:
        raise ValueError(f"{len(text)} bytes about a page; at most {HEADER - _ABOUT}")
    return whole.ljust(HEADER, b"\0")


def about_of(content: memoryview) -> dict[str, Any]:
    """Return what a page says of itself.

    Raises:
        ValueError: it is no page, or one of another form.
    """
    if bytes(content[:8]) != MAGIC:
        raise ValueError("not a page of this version")
    length = int(content[_ABOUT - 8 : _ABOUT].cast("q")[0])
    try:
        said = json.loads(bytes(content[_ABOUT : _ABOUT + max(0, min(length, HEADER))]))
    except RecursionError:
        said = None
    if not isinstance(said, dict):
        raise ValueError("not a page: it says nothing of itself")  # noqa: TRY004
    table = cast("dict[str, Any]", said)
    return {word: clean(v) if isinstance(v, str) else v for word, v in table.items()}


def record(kind: int, text: str, cells: int) -> tuple[bytes, int]:
    """Return a record without its cells, which are to follow it, and its size with them."""
    data = text.encode()
    # Sizes are multiples of a head, so that what is left of a segment always holds one.
    size = -(-(_HEAD.size + len(data) + 8 * cells) // _HEAD.size) * _HEAD.size
    data = data.ljust(size - _HEAD.size - 8 * cells)
    return _HEAD.pack(size, kind, len(data), cells) + data, size


def row_text(entry: Entry, number: int) -> str:
    """Return what a row's record says of it, with the number of its layout."""
    said = {"kind": entry.kind, "name": entry.name, "about": entry.about, "layout": number}
    return json.dumps(said, separators=(",", ":"))


def filler(size: int) -> bytes:
    """Return the head of a record that says nothing."""
    return _HEAD.pack(size, FREE, 0, 0)


class Place(Entry):
    """An entry that lies in a page."""

    __slots__ = ("order", "raw", "start", "stop")

    def __init__(self, said: dict[str, Any], layout: RowSchema, order: list[int] | None) -> None:
        if not isinstance(said["about"], dict):
            raise TypeError("about an entry is a table")
        name = clean(said["name"])[:_LONGEST]  # it goes to terminals, and to scrapes as UTF-8
        super().__init__(
            str(said["kind"]), name, _about(cast("dict[str, Any]", said["about"])), layout, ()
        )
        since = self.about.get("since", 0.0)
        if (
            not isinstance(since, (int, float))
            or not 0 <= since < _END
            or (self.kind == "process" and self.name)
        ):
            raise ValueError("not an entry")
        self.order: list[int] | None = order
        self.start: int = 0  # in bytes
        self.stop: int = 0
        self.raw: bytes = b""  # its cells at the last reading

    def fits(self, cells: int) -> bool:
        """Tell whether a record of so many cells has what is read of it."""
        if self.order is None:
            return cells == len(self.layout)
        return max(self.order, default=-1) < cells

    def take(self, raw: bytes) -> None:
        """Bring the row up to date with its cells: the same one where nothing changed."""
        if raw == self.raw and self.row:
            return
        row = row_in(memoryview(raw).cast("d"))
        if self.order is not None:
            row = [row[at] if at >= 0 else 0.0 for at in self.order]
        self.row: Row = tuple(exact(self.layout, row))
        self.raw = raw


def _about(said: dict[str, Any]) -> dict[str, Any]:
    """Return what is said about an entry, in the types that it has here; the rest is left out."""
    found: dict[str, Any] = {}
    for word, value in said.items():
        if word in _TEXTS and isinstance(value, str):
            found[word] = clean(value)
        elif word in _PLAIN and type(value) in _PLAIN[word]:
            found[word] = value
        elif word in ("flags", "answered") and isinstance(value, list):
            found[word] = [clean(each) for each in cast("list[object]", value)]
    return found


def row_in(cells: memoryview[float]) -> list[float]:
    """Return what stands in cells now."""
    row: Any = cells.tolist()  # of floats, whatever typeshed says
    return cast("list[float]", row)


def hidden(whole: memoryview) -> tuple[int, ...]:
    """Return where the records begin that do not count, from a header seen as whole numbers."""
    switch = whole[SWITCH]
    return (whole[FRESH],) if switch == 1 else (whole[OLD], whole[OLD + 1]) if switch == 2 else ()


def places(
    content: memoryview, start: int, stop: int, layouts: list[Any], passed: tuple[int, ...] = ()
) -> Iterator[Place]:
    """Yield where rows lie between two records; layouts are those found so far, and are added to.

    What can't be read is left out, and all that follows a record that has no end; so are records
    that begin where `passed` says. A row may lie before its layout, in a place used again.
    """
    rows: list[tuple[str, int, int]] = []
    while start + _HEAD.size <= stop:
        size, kind, length, cells = _HEAD.unpack_from(content, start)
        body = start + _HEAD.size
        if size < _HEAD.size + length + 8 * cells or start + size > stop or length < 0 or cells < 0:
            break
        if kind == LAYOUT:
            try:
                layouts.append(parsed(_text(content, body, length).rstrip()))
            except ValueError:
                layouts.append(None)  # those after it keep their numbers
        elif kind == ROW and start not in passed:
            rows.append((_text(content, body, length), body + length, cells))
        start += size
    for said, (_, first, cells) in zip(_said([text for text, _, _ in rows]), rows, strict=True):
        try:
            place = Place(said, *layouts[said["layout"]])
        except (ValueError, LookupError, TypeError):
            continue
        place.start, place.stop = first, first + 8 * cells
        if place.fits(cells):
            yield place


def _said(texts: list[str]) -> list[Any]:
    """Return what records say, at a third of what it costs to parse one by one."""
    try:
        said: list[Any] = json.loads(f"[{','.join(texts)}]")
    except (ValueError, RecursionError):  # of one of them
        said = []
    return said if len(said) == len(texts) else list(map(_said_by_one, texts))


def _said_by_one(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _text(content: memoryview, start: int, length: int) -> str:
    return bytes(content[start : start + length]).decode(errors="replace")


def departed(entries: list[Entry], about: dict[str, Any]) -> bytes:
    """Return a whole page that nobody writes any more."""
    out, numbers = bytearray(HEADER), dict[str, int]()
    for entry in entries:
        text = entry.layout.text
        if text not in numbers:
            numbers[text] = len(numbers)
            out += record(LAYOUT, text, 0)[0]
        head, _ = record(ROW, row_text(entry, numbers[text]), len(entry.row))
        out += head + array("d", entry.row).tobytes()
    out[:HEADER] = header(about, len(out), 0.0)
    return bytes(out)
