"""Images per second by batch size: measurements, their fit, and upper limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from mnist_loop.report.plots import sweep_findings, words
from mnist_loop.report.plots.axes import LogLog, can_be_drawn
from mnist_loop.report.plots.ceiling import ceiling
from mnist_loop.report.plots.configurations import PARTS, Configuration, names, subjects
from mnist_loop.report.plots.curve import Curve, draw_curve
from mnist_loop.report.plots.ink import MARKERS, MUTED, RULE, SERIES, SIDE, SMALL, sheet, text_width
from mnist_loop.report.plots.labels import End, label_ends
from mnist_loop.report.plots.plot import Plot
from mnist_loop.report.stored import SweepResult
from mnist_loop.support import numbers

CEILING = "step's ceiling"
HEIGHT = 270.0  # points
MOST_MACHINES = 4  # with a plot of their parts; the table has all
MOST_LINES = 60
MOST_COLOURS = len(SERIES)
READING = (
    "Ribbon: 95% interval of the median. Dashed: the fit T(b)\u00a0=\u00a0t0\u00a0+\u00a0b/r, a fixed time for each "
    "batch and a rate."
)


@dataclass(frozen=True)
class Level:
    """A ceiling: its label, and its rate by batch size; the same at all of them where it is a number."""

    label: str
    rates: float | Mapping[int, float]


def throughput_plots(sweeps: Sequence[SweepResult]) -> list[Plot]:
    """Draw the parts on each machine, then step and end to end of all configurations side by side."""
    plots = []
    for (data, model), configurations in subjects(sweeps).items():
        newest = {(one.sweep.machine.name, one.setting.device): one for one in configurations}
        plots += [_parts(one, data, model, len(newest) > 1) for one in list(newest.values())[:MOST_MACHINES]]
        for part in ("step", "end to end"):
            chosen = [one for one in configurations if part in one.parts]
            if len(chosen) > 1:
                plots.append(_side_by_side(part, chosen[-MOST_LINES:], data, model, len(chosen)))
    return plots


def _parts(one: Configuration, data: str, model: str, several: bool) -> Plot:
    """Draw the parts of one configuration."""
    parts = {part: one.parts[part] for part in PARTS if part in one.parts}
    curves = [
        Curve(part, measured, SERIES[number], MARKERS[number], strong=True)
        for number, (part, measured) in enumerate(parts.items())
    ]
    finding = sweep_findings.limit_finding(parts)
    if several:
        finding = f"{words.shorten(one.sweep.machine.name)}, {one.setting.device}: {finding[0].lower()}{finding[1:]}"
    about = (
        f"{names([one])[0]} on {words.shorten(one.sweep.machine.name)}, {one.setting.device}; {words.shorten(data)}."
    )
    name = words.file_name("parts", data, one.setting.device, one.sweep.machine.name if several else "")
    levels = _ruler([one], model)
    return _plot(name, finding, f"{about} {READING}", curves, levels)


def _side_by_side(part: str, chosen: Sequence[Configuration], data: str, model: str, known: int) -> Plot:
    """Draw one part of several configurations."""
    labels = names(chosen)
    strong = sweep_findings.noteworthy([one.parts[part] for one in chosen], MOST_COLOURS)
    curves, colours = [], iter(range(MOST_COLOURS))
    for number, one in enumerate(chosen):
        place = next(colours) if number in strong else None
        curves.append(
            Curve(
                labels[number],
                one.parts[part],
                RULE if place is None else SERIES[place],
                "" if place is None else MARKERS[place],
                strong=place is not None,
            )
        )
    finding = sweep_findings.lead_finding(part, dict(zip(labels, (one.parts[part] for one in chosen), strict=True)))
    reading = f"{part.capitalize()} on {words.shorten(data)}. {READING} Measured one after the other, not in pairs."
    if len(strong) < known:
        reading += f" Grey: {known - len(strong)} more."
    levels = [*_ruler(chosen, model), *_pipeline(chosen)]
    return _plot(words.file_name("throughput", part, data), finding, reading, curves, levels)


def _ruler(chosen: Sequence[Configuration], model: str) -> list[Level]:
    """Return the ceiling that large matrix products set, for each machine and device where they were measured."""
    rates: dict[tuple[str, str], list[float]] = {}
    for one in chosen:
        limit = ceiling(model, one.ruler.gemm) if one.ruler is not None else None
        if limit is not None:
            rates.setdefault((one.setting.device, one.sweep.machine.name), []).append(limit)
    one_each = len(rates) == len({device for device, _ in rates})
    levels = []
    for (device, machine), found in list(rates.items())[:MOST_MACHINES]:
        where = "" if len(rates) == 1 else f", {device if one_each else words.shorten(machine, 18)}"
        levels.append(Level(f"{CEILING}{where}", median(found)))
    return levels


def _pipeline(chosen: Sequence[Configuration]) -> list[Level]:
    """Return the rate of the fastest input pipeline by batch size, an upper limit of training end to end."""
    best: dict[int, float] = {}
    for one in chosen:
        for measured in one.parts.get("input pipeline", ()):
            if can_be_drawn(measured.median):
                size = measured.workload.batch_size
                best[size] = max(best.get(size, 0.0), measured.median)
    return [Level("input pipeline", best)] if best else []


def _plot(name: str, finding: str, reading: str, curves: Sequence[Curve], levels: Sequence[Level]) -> Plot:
    rates = [rate for curve in curves for one in curve.measured for rate in (one.median, one.low, one.high)]
    heights = [rate for level in levels for rate in _rates(level)]
    if any(level.label.startswith(CEILING) for level in levels):
        reading += " Ceiling: what large matrix products do on the same machine, measured in the same run."
    shown = [curve for curve in curves if curve.strong and curve.last is not None]
    ceilings = [(_label(level.label, _rates(level)[-1]), _rates(level)[-1]) for level in levels]
    texts = [_label(curve.label, curve.last) for curve in shown] + [text for text, _ in ceilings]
    right = 18 + max((text_width(text) for text in texts), default=0.0) + SIDE
    page = sheet(finding, reading, HEIGHT)
    width = page.width - 48 - right
    if width < 180:  # long names: a wider sheet rather than a narrow picture
        page = sheet(finding, reading, HEIGHT, width=page.width + 180 - width)
        width = 180.0
    sizes = [one.workload.batch_size for curve in curves for one in curve.measured]
    plane = LogLog(page.axes(48, 40, right, 24), width, sizes, [*rates, *heights])
    plane.axes.set_title("images per second", loc="left", size=SMALL, color=MUTED, pad=8)
    for curve in sorted(curves, key=lambda curve: curve.strong):
        draw_curve(plane.axes, curve)
    for level in levels:
        _level(plane, level)
    ends = [End(plane.height(_last(curve)), _label(curve.label, curve.last), curve.colour) for curve in shown]
    ends += [End(plane.height(rate), text, MUTED, strong=False) for text, rate in ceilings]
    label_ends(plane.axes, ends)
    alt = f"Images per second by batch size. {finding}. At the largest batch size: " + "; ".join(texts)
    return Plot(name, finding, reading, alt, page.figure, page.head)


def _level(plane: LogLog, level: Level) -> None:
    sizes = sorted(level.rates) if isinstance(level.rates, Mapping) else [10**end for end in plane.x]
    rates = _rates(level) if isinstance(level.rates, Mapping) else [level.rates] * 2
    plane.axes.plot(sizes, rates, color=MUTED, linewidth=1.2, linestyle=(0, (1, 2)), zorder=1)


def _rates(level: Level) -> list[float]:
    """Return the rates of a ceiling by rising batch size."""
    return [level.rates[size] for size in sorted(level.rates)] if isinstance(level.rates, Mapping) else [level.rates]


def _last(curve: Curve) -> float:
    assert curve.last is not None
    return curve.last


def _label(label: str, last: float | None) -> str:
    return f"{words.shorten(label, 34)}  {numbers.short(last)}" if last is not None else label
