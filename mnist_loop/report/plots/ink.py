"""The style of all plots: colours by role, fonts, and the sheet with its title.

The colours are those of Okabe and Ito (2008), which people with every kind of colour vision tell apart; their yellow
is left out, for it cannot be seen on white. The page gives each role another colour in the dark: see `ROLES`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

INK, MUTED, RULE, BAND, PAPER = "#1b2026", "#5a6570", "#c3cad1", "#e9edf0", "#fffffe"
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
SERIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P")  # one for each colour: lines differ by more than colour

# The page replaces each of these colours with var(--name). White and black text in a heat map's cell stays as it is.
ROLES = {
    INK: "ink",
    MUTED: "muted",
    RULE: "rule",
    BAND: "band",
    PAPER: "paper",
    **{colour: f"series-{number}" for number, colour in enumerate(SERIES, start=1)},
}

WIDTH = 520.0  # points: half of a wide page
SIDE = 10.0  # points left free at the sides
TITLE, TEXT, SMALL = 13.5, 10.5, 10.0  # points
SNUG = 0.96  # share of the width that text fills: on a screen, letters on whole pixels make a line longer
LEADING = 1.3  # line height / size of the type
POINTS_PER_INCH = 72

STYLE = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same everywhere
    "font.size": SMALL,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a name starts no formula
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": SMALL,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.axisbelow": True,
    "grid.color": BAND,
    "grid.linewidth": 0.8,
    "xtick.color": RULE,
    "xtick.labelcolor": MUTED,
    "xtick.labelsize": SMALL,
    "ytick.color": RULE,
    "ytick.labelcolor": MUTED,
    "ytick.labelsize": SMALL,
    "lines.solid_capstyle": "round",
    "hatch.linewidth": 0.8,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "savefig.facecolor": "auto",
    "svg.hashsalt": "mnist_loop",  # makes the ids in an SVG reproducible
}


@contextmanager
def drawing(**more: object) -> Iterator[None]:
    """Draw and save in this style; afterwards the user's style is restored.

    Letters that the font lacks are shown as boxes, without a warning: they come from names in the files.
    """
    with matplotlib.style.context(["default", {**STYLE, **more}]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from", category=UserWarning)
        yield


@dataclass(frozen=True)
class Sheet:
    """A figure with its title on top and room for the picture below; lengths in points."""

    figure: Figure
    width: float
    body: float
    head: float

    def axes(self, left: float, bottom: float, right: float, top: float) -> Axes:
        """Add axes with these margins to the edges of the picture."""
        whole = self.body + self.head
        box = (
            left / self.width,
            bottom / whole,
            (self.width - left - right) / self.width,
            (self.body - bottom - top) / whole,
        )
        return self.figure.add_axes(box)


def sheet(finding: str, reading: str, body: float, width: float = WIDTH) -> Sheet:
    """Make a figure with ``body`` points of height for the picture below the two sentences."""
    room = SNUG * (width - 2 * SIDE)
    titles = wrapped(finding, room, TITLE, "bold")
    notes = wrapped(reading, room, SMALL)
    head = 14 + TITLE * LEADING * len(titles) + 4 + SMALL * LEADING * len(notes) + 8
    whole = body + head
    figure = Figure(figsize=(width / POINTS_PER_INCH, whole / POINTS_PER_INCH), dpi=100)
    top = whole - 14
    for lines, size, weight, colour in ((titles, TITLE, "bold", INK), (notes, SMALL, "normal", MUTED)):
        for line in lines:
            text = figure.text(SIDE / width, top / whole, line, size=size, weight=weight, color=colour, va="top")
            text.set_gid("head")
            top -= size * LEADING
        top -= 4
    return Sheet(figure, width, body, head)


@lru_cache(maxsize=4096)
def text_width(text: str, size: float = SMALL, weight: str = "normal") -> float:
    """Return the width of a line of text in points."""
    font = FontProperties(family=STYLE["font.family"], size=size, weight=weight)  # type: ignore[arg-type]
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width)


def wrapped(text: str, width: float, size: float, weight: str = "normal") -> list[str]:
    """Break text into lines of at most ``width`` points; a single word that is longer stays whole."""
    lines: list[str] = []
    for word in filter(None, text.split(" ")):  # a no-break space is kept
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size, weight) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def write_beside(axes: Axes, side: float, offset: float, y: float, text: str, align: str, **look: Any) -> None:
    """Write text at height ``y`` of the data, ``offset`` points from the left (0) or right (1) side of the axes."""
    axes.annotate(
        text,
        (side, y),
        xycoords=("axes fraction", "data"),
        xytext=(offset, 0),
        textcoords="offset points",
        ha=align,
        va="center_baseline",
        annotation_clip=False,
        **look,
    )
