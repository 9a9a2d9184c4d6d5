"""The format of a page's file.

A page is a header and records; all numbers have 8 bytes in the byte order of this machine, since no
other machine reads them. The cells of a record are the row of one policy (see `telemetry.schema`).
After a record is written only its cells change, except while the header's sequence number is odd:
then the owner moves records. A reader that saw the number change reads again.
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Iterator
from typing import Any, Final, cast

from ..telemetry.rows import counters, exact
from ..telemetry.schema import Row, RowSchema, parsed
from ..validation import clean

MAGIC: Final = b"RSLNTP01"  # the last two characters are the version of the format
HEADER: Final = 4096
SEGMENT: Final = 256 * 1024  # a page grows by this
LARGEST: Final = 64 * 2**20  # bytes of one page: some 60,000 policies
SUFFIX: Final = ".page"
DEPARTED: Final = "departed" + SUFFIX
MOST: Final = 10_000  # policies that are gone and still have a name; the rest are added up
OTHER: Final = "_other"  # under this name

# Positions in the header, in units of 8 bytes.
BEAT: Final = 1  # when the owner was last alive, on the monotonic clock
USED: Final = 2  # bytes from the beginning to the end of the last record
SEQUENCE: Final = 3
LEFT: Final = 4  # 1 if the owner has closed the page
SWITCH: Final = 5  # while one record replaces others: which of them do not count
FRESH: Final = 6  # start of the new record, which does not count while the switch is 1
OLD: Final = 7  # starts of up to two old ones, which do not count while it is 2
_ABOUT: Final = 128  # start of its JSON, after a number with the length

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
    """The row of one policy, or of a process's own counts, and its description.

    The object lives as long as the policy; a changed number replaces its row, a tuple. So a scrape
    leaves next to nothing for the garbage collector, which at thousands of policies takes as long
    as the scrape. A derived object is stored with the row it was derived from.
    """

    __slots__ = ("_kept", "about", "info", "kind", "layout", "name", "row", "shown")

    def __init__(self, kind: str, name: str, about: Any, layout: RowSchema, row: Row) -> None:
        self.shown: Any = None  # what a scrape derived from its row, for the next one
        self.info: Any = None  # and from its description
        self.kind: str = kind  # "policy" or "process"
        self.name: str = name
        self.about: Any = about  # of a policy: owner, tier, impact
        self.layout: RowSchema = layout
        self.row: Row = tuple(row)
        self._kept: tuple[Row, Entry] | None = None

    def kept(self) -> Entry:
        """Return the entry of what outlives its process; the same object for the same row."""
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
    """Return a page's description of itself.

    Raises:
        ValueError: it is no page, or has another version.
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
    """Return a record without its cells, which must follow it, and its size with them."""
    data = text.encode()
    # Sizes are multiples of a head, so that the rest of a segment always has room for one.
    size = -(-(_HEAD.size + len(data) + 8 * cells) // _HEAD.size) * _HEAD.size
    data = data.ljust(size - _HEAD.size - 8 * cells)
    return _HEAD.pack(size, kind, len(data), cells) + data, size


def row_text(entry: Entry, number: int) -> str:
    """Return the text of a row's record, with the number of its schema."""
    said = {"kind": entry.kind, "name": entry.name, "about": entry.about, "layout": number}
    return json.dumps(said, separators=(",", ":"))


def filler(size: int) -> bytes:
    """Return the head of an empty record."""
    return _HEAD.pack(size, FREE, 0, 0)


class Place(Entry):
    """An entry that was read from a page."""

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
        """Return True if a record of so many cells has all that is read of it."""
        if self.order is None:
            return cells == len(self.layout)
        return max(self.order, default=-1) < cells

    def take(self, raw: bytes) -> None:
        """Update the row from its cells; unchanged cells keep the same object."""
        if raw == self.raw and self.row:
            return
        cells = raw
        if self.order is not None:
            row = row_in(memoryview(raw).cast("d"))
            said = [row[at] if at >= 0 else 0.0 for at in self.order]
            cells = array("d", said).tobytes()
        self.row: Row = exact(self.layout, cells)
        self.raw = raw


def _about(said: dict[str, Any]) -> dict[str, Any]:
    """Return the description of an entry, without words that are unknown or of another type."""
    found: dict[str, Any] = {}
    for word, value in said.items():
        if word in _TEXTS and isinstance(value, str):
            found[word] = clean(value)
        elif word in _PLAIN and type(value) in _PLAIN[word]:
            found[word] = value
        elif word in ("flags", "answered", "keys", "traces") and isinstance(value, list):
            found[word] = [clean(each) for each in cast("list[object]", value)]
    return found


def row_in(cells: memoryview[float]) -> list[float]:
    """Return the current values of cells."""
    row: Any = cells.tolist()  # of floats, whatever typeshed says
    return cast("list[float]", row)


def hidden(whole: memoryview) -> tuple[int, ...]:
    """Return the starts of the records that do not count; `whole` is the header as integers."""
    switch = whole[SWITCH]
    return (whole[FRESH],) if switch == 1 else (whole[OLD], whole[OLD + 1]) if switch == 2 else ()


def places(
    content: memoryview, start: int, stop: int, layouts: list[Any], passed: tuple[int, ...] = ()
) -> Iterator[Place]:
    """Yield the rows between two positions; append the schemas found there to `layouts`.

    This skips records that can't be read, everything after a record with a broken size, and the
    records whose start is in `passed`. A row may precede its schema, in a position that was reused.
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
                layouts.append(None)  # the following schemas keep their numbers
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
    """Return the parsed texts of records, at a third of the cost of parsing one by one."""
    try:
        said: list[Any] = json.loads(f"[{','.join(texts)}]")
    except (ValueError, RecursionError):  # one of them is broken
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
    """Return a complete page that nobody will write to."""
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
