"""All plots of a report, and their files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_loop.errors import UserError
from mnist_loop.report.plots.plot import Plot
from mnist_loop.support.files import check_output, write_atomically

if TYPE_CHECKING:
    from mnist_loop.report.stored import StoredResults


def figures(results: StoredResults) -> list[Plot]:
    """Draw all plots of the results: comparisons first, then sweeps."""
    from mnist_loop.report.plots.forest import forest_plots
    from mnist_loop.report.plots.heat import comparison_heat_maps, sweep_heat_maps
    from mnist_loop.report.plots.ink import drawing
    from mnist_loop.report.plots.series import round_plots
    from mnist_loop.report.plots.throughput import throughput_plots

    with drawing():
        plots = [
            plot
            for one in results.comparisons
            for draw in (forest_plots, comparison_heat_maps, round_plots)
            for plot in draw(one)
        ]
        plots += throughput_plots(results.sweeps) + sweep_heat_maps(results.sweeps)
    return _named_apart(plots)


def save(results: StoredResults, folder: Path) -> list[Path]:
    """Write each plot as PNG and as SVG, and return the files. Equal results give equal SVG bytes.

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
