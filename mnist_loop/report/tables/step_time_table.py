"""The table of fits T(b) = t0 + b / r of the arms of a comparison or the parts of a sweep."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mnist_loop.report.tables.table import Column, Table, Value
from mnist_loop.statistics.step_time import StepTimeFit
from mnist_loop.support.numbers import Interval, Quantity, Unit

HEADINGS = ("dispatch t0", "95% interval", "arithmetic r", "95% interval", "half of r at batch", "misfit")


def step_time_table(
    names: Sequence[str], fits: Iterable[tuple[Sequence[str], StepTimeFit]], notes: Sequence[str] = ()
) -> Table:
    """Return a row for each of ``fits``, which come with the values of the columns called ``names``."""
    return Table(
        title="A step takes T(b) = t0 + b / r",
        columns=[*(Column(name, numbers=False) for name in names), *map(Column, HEADINGS)],
        rows=[(*key, *_figures(line)) for key, line in fits],
        caption="t0: seconds of a step however small its batch b; r: images per second of large batches; misfit: the "
        "largest relative difference between a measured time and the fit",
        notes=tuple(notes),
    )


def _figures(line: StepTimeFit) -> tuple[Value, ...]:
    return (
        Quantity(line.dispatch_s, Unit.SECONDS),
        Interval(*line.dispatch_s_interval, Unit.SECONDS),
        Quantity(line.rate, Unit.IMAGES_PER_SECOND),
        Interval(*line.rate_interval, Unit.RATE),
        Quantity(line.half_batch, Unit.NUMBER),
        Quantity(line.misfit, Unit.SHARE),
    )
