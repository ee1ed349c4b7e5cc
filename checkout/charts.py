"""Charts as SVG text, drawn on the server: no script, no inline style, and a table says the same.

Pure: values in, text out. Colours are classes of the style sheet, so light and dark follow the page;
each bar has a <title>, the whole has a title and a description. Heights are computed in whole units
of the view box: a chart shows proportions, the table beside it the money.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

WIDTH: Final = 720
HEIGHT: Final = 180
FOOT: Final = 22
HEAD: Final = 14


@dataclass(frozen=True)
class Part:
    """One layer of a bar: how many, of which kind (a class of the style sheet), in which words."""

    count: int
    kind: str
    words: str


@dataclass(frozen=True)
class Bar:
    """One day: its label, what stands above it from the bottom up, and where it leads."""

    label: str
    parts: Sequence[Part]
    link: str = ""

    @property
    def count(self) -> int:
        return sum(part.count for part in self.parts)


def stacked_bars(*, name: str, title: str, description: str, bars: Sequence[Bar]) -> SafeString:
    """Stacked bars as an SVG of its own width; `name` makes its ids unique on the page."""
    highest = max((bar.count for bar in bars), default=0) or 1
    step = WIDTH // max(len(bars), 1)
    columns = format_html_join(
        "\n",
        "{}",
        ((_column(bar, left=n * step, step=step, highest=highest),) for n, bar in enumerate(bars)),
    )
    return format_html(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-labelledby="{}-title {}-desc"'
        ' xmlns="http://www.w3.org/2000/svg">'
        '<title id="{}-title">{}</title><desc id="{}-desc">{}</desc>'
        '<line class="axis" x1="0" y1="{}" x2="{}" y2="{}"/>'
        '<text class="scale" x="0" y="10">{}</text>{}</svg>',
        WIDTH,
        HEIGHT,
        name,
        name,
        name,
        title,
        name,
        description,
        HEIGHT - FOOT,
        WIDTH,
        HEIGHT - FOOT,
        f"{highest:,}",
        columns,
    )


def _column(bar: Bar, *, left: int, step: int, highest: int) -> SafeString:
    room = HEIGHT - FOOT - HEAD
    gap = max(step // 6, 1)
    rectangles, below = [], 0
    for part in bar.parts:
        # From the sums, not from the part: rounding adds up to the bar's own height.
        bottom = room * below // highest
        below += part.count
        top = room * below // highest
        if part.count:
            # What is there is seen, be it one in a hundred thousand.
            height = max(top - bottom, 2)
            y = HEIGHT - FOOT - bottom - height
            rectangles.append(
                (part.kind, left + gap, y, step - 2 * gap, height, f"{bar.label}: {part.words}")
            )
    return format_html(
        '{}<text class="label" x="{}" y="{}">{}</text>',
        format_html_join(
            "",
            '<rect class="part-{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>',
            rectangles,
        ),
        left + step // 2,
        HEIGHT - 6,
        bar.label,
    )
