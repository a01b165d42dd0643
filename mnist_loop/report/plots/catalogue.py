"""All plots of a report, and their files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_loop.errors import UserError
from mnist_loop.report.plots.plot import Plot
from mnist_loop.support.files import check_output, write_atomically

if TYPE_CHECKING:
    from mnist_loop.report.model import Results


def figures(results: Results) -> list[Plot]:
    """Draw what the results allow: comparisons first, then sweeps."""
    from mnist_loop.report.plots import forest, heat, series, throughput
    from mnist_loop.report.plots.ink import drawing

    with drawing():
        plots = [plot for one in results.comparisons for room in (forest, heat, series) for plot in room.of(one)]
        plots += throughput.of(results.sweeps)
        plots += heat.of_sweeps(results.sweeps)
    return _named_apart(plots)


def save(results: Results, folder: Path) -> list[Path]:
    """Write each plot as PNG and as SVG, and return the files. The same results give the same SVG, byte for byte.

    Raises:
        UserError: the folder cannot be written, or there is a file in it that would be lost; nothing is written then.
    """
    from mnist_loop.report.plots.files import is_plot, png, svg

    plots = figures(results)
    for plot in plots:
        for ending in ("png", "svg"):
            check_output(folder / f"{plot.name}.{ending}", ours=is_plot)
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for plot in plots:
            for ending, content in (("png", png(plot)), ("svg", svg(plot))):
                path = folder / f"{plot.name}.{ending}"
                write_atomically(path, content)
                written.append(path)
    except OSError as error:
        raise UserError(f"{folder}: plots cannot be written there ({error.strerror}); name another folder") from error
    return written


def _named_apart(plots: list[Plot]) -> list[Plot]:
    """Number the names that occur more than once."""
    seen: dict[str, int] = {}
    named = []
    for plot in plots:
        seen[plot.name] = number = seen.get(plot.name, 0) + 1
        named.append(plot if number == 1 else replace(plot, name=f"{plot.name}-{number}"))
    return named
