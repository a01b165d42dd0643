"""The heat map of speed-ups of arms or configurations by batch size; undecided cells are hatched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.patches import Rectangle

from mnist_loop.report.contenders import Family, put_side_by_side
from mnist_loop.report.plots import comparison_findings, ink, words
from mnist_loop.report.plots.configurations import Configuration, names
from mnist_loop.report.plots.ink import SIDE, TEXT, WIDTH, sheet, text_width
from mnist_loop.report.plots.plot import Plot
from mnist_loop.report.stored import ComparisonResult, RulerResult, SweepResult
from mnist_loop.report.sweep_difference import SweepDifference
from mnist_loop.statistics.speed_verdict import SpeedVerdict
from mnist_loop.support import numbers

NARROWEST, WIDEST, CELL_HEIGHT = 46.0, 92.0, 30.0  # points
MOST_ROWS, MOST_COLUMNS = 40, 14
PHRASES = {"step": "in the step", "end to end": "from end to end"}  # the parts that are shown
WEAKEST = math.log(1.10)  # a speed-up of 1.1 has full colour only where none is larger
STRONGEST = math.log(10)
# From vermillion to blue, slightly different from the palette, whose colours the page changes in dark mode.
SLOW_TO_FAST = LinearSegmentedColormap.from_list(
    "slow to fast", ["#d45d00", "#f0c3a0", "#f4f4f2", "#a5cbe6", "#0071b1"]
)
DARK_TEXT, LIGHT_TEXT = "#000000", "#ffffff"
HATCH = 0.4  # share of the text's colour in the hatching, mixed with the cell's colour


@dataclass(frozen=True)
class Square:
    """One cell: the speed-up, whether it is decided, and whether it is a difference."""

    speed_up: float
    decided: bool
    different: bool


Squares = dict[tuple[int, int], Square]  # by row and by batch size


def comparison_heat_maps(comparison: ComparisonResult) -> list[Plot]:
    """Draw the arms of a comparison by batch size; no plot of a single arm, which the forest plot shows."""
    plots = []
    base = comparison_findings.arm_name(comparison, 0)
    for part in sorted({cell.workload.part for cell in comparison.cells}):
        cells = [cell for cell in comparison.cells if cell.workload.part == part]
        if len({cell.arm for cell in cells}) < 2:
            continue
        grid = {
            (cell.arm, cell.workload.batch_size): Square(
                _reciprocal(cell.ratio.estimate),
                decided=cell.verdict is not SpeedVerdict.INCONCLUSIVE,
                different=cell.verdict in comparison_findings.DECIDED,
            )
            for cell in cells
        }
        labels = {arm: comparison_findings.arm_name(comparison, arm) for arm, _ in grid}
        undecided = sum(not square.decided for square in grid.values())
        hatched = f" Hatched, {undecided} of {len(grid)}: undecided." if undecided else ""
        reading = f"Speed of the {words.shorten(part)} relative to {base}: blue is faster, orange slower.{hatched}"
        finding = _finding(grid, labels, base)
        name = words.file_name("speed-up", comparison.file.stem, part)
        plots.append(replace(_plot(name, finding, reading, grid, labels), source=comparison))
    return plots


def sweep_heat_maps(sweeps: Sequence[SweepResult]) -> list[Plot]:
    """Draw stored sweeps of the same data and model relative to the first, for each part of training."""
    plots = []
    for family in put_side_by_side(sweeps).families:
        contenders = [Configuration(one.runs[0].sweep, one.setting, {}) for one in family.contenders]
        labels = dict(enumerate(names(contenders)))
        for part in PHRASES:
            grid = {
                (entry.contender, entry.workload.batch_size): _square_of(entry.evidence)
                for entry in family.entries
                if entry.workload.part == part and entry.evidence is not None
            }
            if grid:
                reading = _reading_of_sweeps(part, labels[0], family, grid)
                name = words.file_name("speed-up", part, family.data)
                plots.append(_plot(name, _finding(grid, labels, labels[0], part), reading, grid, labels))
    return plots


def _square_of(evidence: SweepDifference) -> Square:
    return Square(
        _reciprocal(evidence.ratio),
        decided=evidence.verdict is not SpeedVerdict.INCONCLUSIVE,
        different=evidence.verdict in comparison_findings.DECIDED,
    )


def _reading_of_sweeps(part: str, base: str, family: Family, grid: Squares) -> str:
    undecided = sum(not square.decided for square in grid.values())
    text = f"Images per second {PHRASES[part]}, on {words.shorten(family.data)}; {base} is 1. "
    if undecided:
        text += f"Hatched, {undecided} of {len(grid)}: no difference can be told from runs stored one after the other. "
    machines = {one.machine.name: one.ruler for one in family.contenders}
    if len(machines) > 1:
        rulers = [f"{words.shorten(name)} {_ruler(ruler)}" for name, ruler in machines.items()]
        text += f"Different machines; large matrix products: {words.join_words(rulers)}."
    return text.strip()


def _ruler(ruler: RulerResult | None) -> str:
    return "not measured" if ruler is None else numbers.with_unit(ruler.gemm, "FLOP/s")


def _finding(grid: Squares, labels: dict[int, str], base: str, part: str = "") -> str:
    """Name the largest difference; for sweeps, which have a ``part``, in the past tense."""
    told = {place: square for place, square in grid.items() if square.different}
    if not told:
        same = all(square.decided for square in grid.values())
        text = f"Nothing differs from {base}" if same else f"No difference from {base} can be told"
        return f"{_capital(PHRASES[part])}, {text[0].lower()}{text[1:]}" if part else text
    (row, batch_size), square = max(told.items(), key=lambda item: abs(_log(item[1].speed_up)))
    ratio = _reciprocal(square.speed_up)
    by = words.faster_by(ratio) if ratio < 1 else words.slower_by(ratio)
    text = f"{words.than(by, base)} at batch {batch_size}"
    return f"{_capital(PHRASES[part])}, {labels[row]} was {text}" if part else f"{labels[row]} is {text}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _plot(name: str, finding: str, reading: str, grid: Squares, labels: dict[int, str]) -> Plot:
    size_of = {row: 0.0 for row, _ in grid}
    for (row, _), square in grid.items():
        size_of[row] = max(size_of[row], abs(_log(square.speed_up)))
    ranked = sorted(size_of, key=lambda row: -size_of[row])
    rows, columns = sorted(ranked[:MOST_ROWS]), sorted({size for _, size in grid})[:MOST_COLUMNS]
    if len(ranked) > MOST_ROWS:
        reading += f" {words.count(len(ranked) - MOST_ROWS, 'row')} that differ less left out."
    left = SIDE + max(text_width(labels[row], TEXT) for row in rows) + 12
    cell = max(NARROWEST, min(WIDEST, (WIDTH - left - SIDE) / len(columns)))
    width = max(WIDTH, left + cell * len(columns) + SIDE)
    page = sheet(finding, reading, CELL_HEIGHT * len(rows) + 46, width)
    axes = page.axes(left, 36, width - left - cell * len(columns), 10)
    _draw(axes, grid, rows, columns)
    for place, row in enumerate(rows):
        ink.write_beside(axes, 0.0, -10, place, labels[row], "right", size=TEXT)
    alt = f"Heat map of speed by batch size. {finding}. " + "; ".join(
        f"{labels[row]}: " + ", ".join(f"{size} {_figure(grid[row, size])}" for size in columns if (row, size) in grid)
        for row in rows
    )
    return Plot(name, finding, reading, alt, page.figure, page.head)


def _draw(axes: Axes, grid: Squares, rows: Sequence[int], columns: Sequence[int]) -> None:
    shown = [grid[row, size] for row in rows for size in columns if (row, size) in grid]
    reach = min(max([WEAKEST, *(abs(_log(square.speed_up)) for square in shown)]), STRONGEST)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xticks(range(len(columns)), [str(size) for size in columns])
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("batch size (images)")
    for y, row in enumerate(rows):
        for x, size in enumerate(columns):
            if (row, size) in grid:
                _square(axes, x, y, grid[row, size], reach)


def _square(axes: Axes, x: int, y: int, square: Square, reach: float) -> None:
    colour = SLOW_TO_FAST(0.5 + 0.5 * max(-1.0, min(1.0, _log(square.speed_up) / reach)))
    fill = to_hex(colour)
    light = 0.2126 * colour[0] ** 2.2 + 0.7152 * colour[1] ** 2.2 + 0.0722 * colour[2] ** 2.2
    pale = light > 0.18  # equal WCAG contrast with black and white: (L + 0.05)^2 = 1.05 * 0.05
    letters = DARK_TEXT if pale else LIGHT_TEXT
    lines = [
        HATCH * of_letters + (1 - HATCH) * of_cell
        for of_letters, of_cell in zip(to_rgb(letters), colour[:3], strict=True)
    ]
    hatch = None if square.decided else "////"
    axes.add_patch(
        Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, facecolor=fill, edgecolor=lines, hatch=hatch, linewidth=0)
    )
    behind = None if square.decided else {"facecolor": fill, "edgecolor": "none", "pad": 1.5}
    axes.text(x, y, _figure(square), ha="center", va="center_baseline", size=TEXT, color=letters, bbox=behind)


def _figure(square: Square) -> str:
    return numbers.ratio(square.speed_up)


def _log(value: float) -> float:
    if math.isnan(value):
        return 0.0
    return math.log(value) if 0 < value < math.inf else math.copysign(STRONGEST, value - 1)


def _reciprocal(value: float) -> float:
    return 1 / value if value > 1e-308 else math.inf
