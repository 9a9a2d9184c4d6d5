"""A small canvas for SVG: text, boxes, arrows, bars and lanes, the same bytes each time."""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot
from xml.sax.saxutils import escape

# Those of `resilient.simulate.picture`.
PLUM, BLUE, GREEN, ORANGE, GREY, RED = (
    "#8b2f6b", "#2166ac", "#3a9d6e", "#d98b1f", "#5b5b66", "#b5402f",
)  # fmt: skip
INK, FAINT = "#2b2b33", "#b5b5bd"
PALE_GREEN, PALE_RED, PALE_BLUE, PALE_ORANGE, PALE_GREY = (
    "#bfe0cf", "#f7dedb", "#d3e1f0", "#f8e3c4", "#ececef",
)  # fmt: skip
WIDTH = 720
SIZE = 14
Point = tuple[float, float]


def num(value: float) -> str:
    """Return a number as people write it: 0.25, 5, 60."""
    return f"{round(value, 2):g}"


class Picture:
    """A drawing on a white card, which is legible on light and dark pages.

    Args:
        title: what it is, for those who do not see it.
        height: of the card; it is 720 wide.
    """

    def __init__(self, title: str, height: int) -> None:
        self.title = title
        self.height = height
        self._parts: list[str] = []

    def text(
        self, x: float, y: float, words: str, *, size: int = SIZE, colour: str = INK,
        anchor: str = "start", bold: bool = False,
    ) -> None:  # fmt: skip
        """Write a line of text whose baseline is at y."""
        weight = ' font-weight="bold"' if bold else ""
        self._parts.append(
            f'<text x="{num(x)}" y="{num(y)}" font-size="{size}" fill="{colour}" '
            f'text-anchor="{anchor}"{weight}>{escape(words)}</text>'
        )

    def lines(self, x: float, y: float, words: Sequence[str], *, anchor: str = "start") -> None:
        """Write several lines of text, the first one's baseline at y."""
        for place, line in enumerate(words):
            self.text(x, y + 18 * place, line, anchor=anchor)

    def rect(
        self, x: float, y: float, width: float, height: float, fill: str, *,
        edge: str = "none", radius: float = 0,
    ) -> None:  # fmt: skip
        """Fill a rectangle."""
        self._parts.append(
            f'<rect x="{num(x)}" y="{num(y)}" width="{num(width)}" height="{num(height)}" '
            f'rx="{num(radius)}" fill="{fill}" stroke="{edge}"/>'
        )

    def box(
        self, x: float, y: float, width: float, height: float, words: Sequence[str], *,
        fill: str = PALE_GREY, edge: str = GREY, bold: bool = False,
    ) -> None:  # fmt: skip
        """Draw a box with lines of text in its middle; `bold` is for the first."""
        self.rect(x, y, width, height, fill, edge=edge, radius=6)
        top = y + height / 2 - 9 * (len(words) - 1) + 5
        for place, line in enumerate(words):
            self.text(
                x + width / 2, top + 18 * place, line, anchor="middle", bold=bold and not place
            )

    def line(
        self, points: Sequence[Point], colour: str = FAINT, *, width: float = 1,
        dashed: bool = False,
    ) -> None:  # fmt: skip
        """Draw a line through points."""
        there = " ".join(f"{num(x)},{num(y)}" for x, y in points)
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<polyline points="{there}" fill="none" stroke="{colour}" '
            f'stroke-width="{num(width)}"{dashes}/>'
        )

    def area(self, points: Sequence[Point], fill: str) -> None:
        """Fill a polygon."""
        there = " ".join(f"{num(x)},{num(y)}" for x, y in points)
        self._parts.append(f'<polygon points="{there}" fill="{fill}"/>')

    def arrow(
        self, points: Sequence[Point], colour: str = INK, *, dashed: bool = False
    ) -> None:  # fmt: skip
        """Draw a line through points, with a head at the last."""
        (x0, y0), (x1, y1) = points[-2], points[-1]
        length = hypot(x1 - x0, y1 - y0)
        dx, dy = (x1 - x0) / length, (y1 - y0) / length
        back_x, back_y = x1 - 9 * dx, y1 - 9 * dy
        self.line([*points[:-1], (back_x, back_y)], colour, width=1.5, dashed=dashed)
        head = ((x1, y1), (back_x - 4 * dy, back_y + 4 * dx), (back_x + 4 * dy, back_y - 4 * dx))
        self.area(head, colour)

    def dot(self, x: float, y: float, colour: str, radius: float = 5) -> None:
        """Draw a dot: something begins, or is let in."""
        self._parts.append(
            f'<circle cx="{num(x)}" cy="{num(y)}" r="{num(radius)}" fill="{colour}"/>'
        )

    def cross(self, x: float, y: float, colour: str = RED) -> None:
        """Draw a cross: something is refused, or given up."""
        self.line([(x - 5, y - 5), (x + 5, y + 5)], colour, width=2.5)
        self.line([(x - 5, y + 5), (x + 5, y - 5)], colour, width=2.5)

    def svg(self) -> str:
        """Return the file."""
        body = "\n".join(self._parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" '
            'role="img" font-family="system-ui, sans-serif">\n'
            f"<title>{escape(self.title)}</title>\n"
            f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{self.height - 1}" rx="10" '
            f'fill="#ffffff" stroke="{FAINT}"/>\n{body}\n</svg>\n'
        )


class Timeline:
    """An axis of time on a picture, and bars along it.

    Args:
        picture: to draw on.
        left: the x of the first time.
        right: the x of the last.
        start: the first time, in seconds.
        end: the last.
    """

    def __init__(
        self, picture: Picture, left: float, right: float, start: float, end: float
    ) -> None:
        self.picture = picture
        self.left, self.right = left, right
        self._start = start
        self._scale = (right - left) / (end - start)

    def x(self, at: float) -> float:
        """Return where a time is."""
        return self.left + (at - self._start) * self._scale

    def axis(self, y: float, ticks: Sequence[float], unit: str = "s") -> None:
        """Draw the axis at y, with numbers below."""
        self.picture.line([(self.left, y), (self.right, y)], GREY)
        for at in ticks:
            self.picture.line([(self.x(at), y), (self.x(at), y + 5)], GREY)
            words = f"{num(at)} {unit}"
            self.picture.text(self.x(at), y + 19, words, size=13, colour=GREY, anchor="middle")

    def lane(self, y: float, height: float, label: str, *, at: float = 16) -> None:
        """Draw an empty lane whose top is at y, with its label on the left."""
        self.picture.text(at, y + height / 2 + 5, label)
        self.picture.rect(self.left, y, self.right - self.left, height, "#f7f7f9")

    def bar(
        self, y: float, height: float, start: float, end: float, fill: str, words: str = "", *,
        colour: str = "#ffffff", edge: str = "none",
    ) -> None:  # fmt: skip
        """Fill a stretch of time in a lane, with words in its middle."""
        left, right = self.x(start), self.x(end)
        self.picture.rect(left, y, right - left, height, fill, edge=edge, radius=3)
        middle = (left + right) / 2
        if words:
            self.picture.text(middle, y + height / 2 + 5, words, colour=colour, anchor="middle")
