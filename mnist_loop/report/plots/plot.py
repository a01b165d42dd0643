"""One plot: its texts and its figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mnist_loop.report.stored import ComparisonResult


@dataclass(frozen=True)
class Plot:
    """One plot.

    Attributes:
        name: for its file: small letters, digits and hyphens.
        finding: what it shows, in one sentence; the title.
        reading: how to read it: what lines, shades and marks mean.
        alt: what it shows for those who do not see it.
        figure: with finding and reading above the picture.
        head: height of these two, in points; the page shows them as text of its own and cuts them off.
        source: the comparison that it is of; None for sweeps.
    """

    name: str
    finding: str
    reading: str
    alt: str
    figure: Figure
    head: float
    source: ComparisonResult | None = None
