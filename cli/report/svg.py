"""Charts as inline SVG: scales, axes and four kinds of picture, in the colours of the page's style sheet.

Every chart is a string that needs nothing beside it; lines and areas carry the class `c0`..`c7`, which the page
colours for light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 14, 44
COLOURS = 8
FLAG_WIDTH = 20

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A named series of points in the units of the axes; colour: its place in the palette."""

    name: str
    points: Sequence[Point]
    colour: int = 0


@dataclass(frozen=True)
class Axis:
    """One direction of a chart: what it shows, its ends in its unit, whether it is logarithmic."""

    title: str
    low: float
    high: float
    log: bool = False

    def place(self, start: float, end: float) -> Callable[[float], float]:
        """A function from a value to its position between two pixels; values outside stay at the nearer end."""
        scale = math.log10 if self.log else float
        low, high = scale(self.low), scale(self.high)
        span = (high - low) or 1.0

        def at(value: float) -> float:
            inside = min(max(value, self.low), self.high)
            return start + (scale(inside) - low) / span * (end - start)

        return at

    def ticks(self) -> list[float]:
        """Round values between the ends: about five, or 1-2-5 a decade on a logarithmic axis."""
        return log_ticks(self.low, self.high) if self.log else linear_ticks(self.low, self.high)


def linear_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between two values, about so many."""
    if high <= low:
        return [low]
    step = 10 ** math.floor(math.log10((high - low) / about))
    step = next(step * factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= about)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two positive values; powers alone over more than three decades."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(decades) <= 4 else (1,)
    every = [factor * 10.0**decade for decade in decades for factor in factors]
    return [value for value in every if low <= value <= high]


def tick_text(value: float) -> str:
    """A tick's label: thousands separated, no needless digits."""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:g}"


def chart(title: str, x: Axis, y: Axis, body: Sequence[str], height: int = HEIGHT) -> str:
    """The frame of a chart with its axes and grid round some drawn shapes."""
    x_at, y_at = places(x, y, height)
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">']
    for value in y.ticks():
        at = y_at(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 7}" y="{at + 4:.1f}" text-anchor="end">{tick_text(value)}</text>')
    for value in x.ticks():
        at, foot = x_at(value), height - BOTTOM
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{foot}" y2="{foot + 5}"/>')
        parts.append(f'<text class="tick" x="{at:.1f}" y="{foot + 18}" text-anchor="middle">{tick_text(value)}</text>')
    foot = height - BOTTOM
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{foot}" y2="{foot}"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="title" x="{middle:.0f}" y="{height - 6}" text-anchor="middle">{escape(x.title)}</text>')
    turn = f"translate(13 {(TOP + foot) / 2:.0f}) rotate(-90)"
    parts.append(f'<text class="title" transform="{turn}" text-anchor="middle">{escape(y.title)}</text>')
    return "\n".join([*parts, *body, "</svg>"])


def places(x: Axis, y: Axis, height: int = HEIGHT) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """Where values of the two axes lie in the chart's frame, in pixels."""
    return x.place(LEFT, WIDTH - RIGHT), y.place(height - BOTTOM, TOP)


def lines(title: str, x: Axis, y: Axis, series: Sequence[Line], diagonal: bool = False) -> str:
    """A line a series; diagonal: also where x equals y."""
    x_at, y_at = places(x, y)
    body = []
    if diagonal:
        low, high = max(x.low, y.low), min(x.high, y.high)
        body.append(
            f'<line class="diagonal" x1="{x_at(low):.1f}" y1="{y_at(low):.1f}" '
            f'x2="{x_at(high):.1f}" y2="{y_at(high):.1f}"/>'
        )
    for line in series:
        path = " ".join(f"{x_at(a):.1f},{y_at(b):.1f}" for a, b in line.points)
        tip = f"<title>{escape(line.name)}</title>"
        body.append(f'<polyline class="line c{line.colour % COLOURS}" points="{path}">{tip}</polyline>')
    return chart(title, x, y, body) + legend(series)


def stacked(
    title: str, x: Axis, y: Axis, edges: Sequence[float], series: Sequence[Line], marks: Sequence[tuple[float, str]]
) -> str:
    """Bars of several series on top of each other, one bar between two edges; marks: moments with a numbered flag.

    A series' points are (left edge, height) in the order of the edges.
    """
    x_at, y_at = places(x, y)
    body, base = [], [0.0] * (len(edges) - 1)
    for line in series:
        for place, (left, height) in enumerate(line.points):
            if height > 0:
                top, foot = y_at(base[place] + height), y_at(base[place])
                body.append(_bar(x_at(left), x_at(edges[place + 1]), top, foot, line))
                base[place] += height
    body += [_flag(number, x_at(when), row, text) for number, (when, row, text) in enumerate(rows_of(marks, x_at), 1)]
    return chart(title, x, y, body) + legend(series)


def rows_of(marks: Sequence[tuple[float, str]], x_at: Callable[[float], float]) -> list[tuple[float, int, str]]:
    """Marks with the row of their flags: the first row in which the flag before leaves room."""
    ends: list[float] = []
    found = []
    for when, text in marks:
        at = x_at(when)
        row = next((row for row, end in enumerate(ends) if end <= at), len(ends))
        ends[row : row + 1] = [at + FLAG_WIDTH]
        found.append((when, row, text))
    return found


def _flag(number: int, at: float, row: int, text: str) -> str:
    y = TOP + row * FLAG_WIDTH
    pole = f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{y + 9}" y2="{HEIGHT - BOTTOM}"/>'
    circle = f'<circle class="flagpole" cx="{at:.1f}" cy="{y}" r="9"/>'
    label = f'<text class="flag" x="{at:.1f}" y="{y + 4}" text-anchor="middle">{number}</text>'
    return f"<g>{pole}{circle}{label}<title>{escape(text)}</title></g>"


def _bar(left: float, right: float, top: float, bottom: float, line: Line) -> str:
    width = max(right - left - 0.5, 0.5)
    size = f'x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{bottom - top:.1f}"'
    return f'<rect class="bar c{line.colour % COLOURS}" {size}><title>{escape(line.name)}</title></rect>'


def legend(series: Sequence[Line]) -> str:
    """The names of the series beside their colours."""
    items = (f'<span class="key"><i class="c{line.colour % COLOURS}"></i>{escape(line.name)}</span>' for line in series)
    return f'<p class="legend">{"".join(items)}</p>'
