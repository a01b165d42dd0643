"""Metrics: the numbers that a loop reports."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from mnist_loop.verification.laws.registry import Evidence, law, must
from mnist_loop.verification.recording.events import Forward
from mnist_loop.verification.recording.oracle import mean_loss
from mnist_loop.verification.recording.trace import Trace

CLOSE = 1e-6  # of the value: metrics are often summed in float32, and formulas differ by far more in these cases
PERCENT = 100.0
MEAN = "the mean over the samples"
ERRORS = "the share of errors"
Kind = Literal["right", "mean_of_means", "wrong_count", "never_reset", "first_batch", "last_batch", "extreme"]
KNOWN: tuple[Kind, ...] = ("right", "mean_of_means", "wrong_count", "never_reset", "first_batch", "last_batch")


@dataclass(frozen=True)
class Batch:
    """What one batch adds to a report."""

    size: int
    loss: float
    correct: int


@dataclass(frozen=True)
class Formula:
    """A way to make one number of the batches of a pass: the right one, or a known mistake.

    Attributes:
        kind: "right", or the mistake.
        of: "loss" or "accuracy".
        told: what was done, for a message.
    """

    kind: Kind
    of: Literal["loss", "accuracy"]
    told: str


# The value of each formula in a pass; the passes over one split, in training or in evaluation, have one name.
Report = dict[tuple[str, Formula], float]


def batches(trace: Trace, forwards: list[Forward]) -> list[Batch]:
    """Return what each forward adds to a report, from the outputs that it gave."""
    found = []
    for forward in forwards:
        if forward.outputs is None or not forward.samples:
            continue
        labels = trace.labels(forward)
        regression = trace.case.loss == "mse"
        correct = 0 if regression else int((forward.outputs.argmax(dim=1).cpu() == labels).sum())
        found.append(Batch(len(labels), mean_loss(trace.case.loss, forward.outputs, labels), correct))
    return found


def report(trace: Trace, split: str, passes: list[list[Batch]]) -> dict[Formula, float]:
    """Return what can be reported of the last of these passes over a split, right and wrong; the others came before."""
    values: dict[Formula, float] = {}
    for of, scale in (("loss", 1.0), ("accuracy", 1.0), ("accuracy", PERCENT)):
        unit = " in percent" if scale == PERCENT else ""
        for kind, told, value in (
            *_values(trace, passes, of == "loss"),
            *_of_the_other(trace, split, passes, of == "loss"),
        ):
            values[Formula(kind, "loss" if of == "loss" else "accuracy", told + unit)] = value * scale
    return values


def _values(trace: Trace, passes: list[list[Batch]], of_loss: bool) -> Iterator[tuple[Kind, str, float]]:
    """Yield each formula's kind, what it does, and its value."""
    case, found = trace.case, passes[-1]
    means = [batch.loss if of_loss else batch.correct / batch.size for batch in found]
    sums = [mean * batch.size for mean, batch in zip(means, found, strict=True)]
    total, share = sum(sums), sum(means)
    count, length = sum(batch.size for batch in found), len(found)
    yield "right", MEAN, total / count
    yield "right", "the sum over the samples", total
    yield "right", "the sum over the batches", share
    if not of_loss:
        yield "right", ERRORS, 1 - total / count
    yield "mean_of_means", "it is the mean of the batches' means", share / length
    divided = "it was divided by another number"
    yield "wrong_count", f"{divided}, the batches: {length}", total / length
    yield "wrong_count", f"{divided}, the size of a batch: {case.batch_size}", total / case.batch_size
    padded = case.batch_size * length
    yield "wrong_count", f"{divided}, batches times their size: {padded}", total / padded
    yield "wrong_count", f"the batches' means were divided by another number, the samples: {count}", share / count
    yield "wrong_count", f"the batches' means were divided by batches times their size: {padded}", share / padded
    nominal = share * case.batch_size / count
    yield "wrong_count", f"each batch was weighted by {case.batch_size}, also one of fewer samples", nominal
    for divisor, name in ((trace.declared.accumulate, "batches that are accumulated"), (case.epochs, "epochs")):
        if divisor > 1:
            yield "wrong_count", f"it was divided by the number of {name} besides: {divisor}", total / count / divisor
            yield "wrong_count", f"the batches' mean was divided by the {name} besides", share / length / divisor
    if (each := trace.declared.accumulate) > 1:
        whole = length // each * each
        sizes = [each if number < whole else length - whole for number in range(length)]
        told = "each loss was divided by the batches that are accumulated"
        yield "wrong_count", told, sum(s / n for s, n in zip(sums, sizes, strict=True)) / count
        yield "wrong_count", f"{told}, over batches", sum(m / n for m, n in zip(means, sizes, strict=True)) / length
    yield "first_batch", "it is that of the first batch", means[0]
    yield "last_batch", "it is that of the last batch", means[-1]
    yield "extreme", "it is the largest of the batches", max(means)
    yield "extreme", "it is the smallest of the batches", min(means)
    yield from _never_reset(passes, of_loss)


def _of_the_other(
    trace: Trace, split: str, passes: list[list[Batch]], of_loss: bool
) -> Iterator[tuple[Kind, str, float]]:
    """Yield what results where the sum over a split is divided by what belongs to the other one."""
    size, found = trace.case.batch_size, passes[-1]
    trains = split.startswith("train")
    name, samples = ("evaluated", trace.case.held_out) if trains else ("training", trace.case.samples)
    count, length, others = sum(batch.size for batch in found), len(found), math.ceil(samples / size)
    means = [batch.loss if of_loss else batch.correct / batch.size for batch in found]
    total = sum(mean * batch.size for mean, batch in zip(means, found, strict=True))
    divided = "it was divided by the"
    if samples != count:
        yield "wrong_count", f"{divided} size of the {name} data: {samples}", total / samples
    if others != length:
        yield "wrong_count", f"{divided} number of batches of the {name} data: {others}", total / others
        yield (
            "wrong_count",
            f"the batches' means were divided by those of the {name} data: {others}",
            sum(means) / others,
        )
        yield (
            "wrong_count",
            f"{divided} batches of the {name} data times their size: {others * size}",
            total / others / size,
        )


def _never_reset(passes: list[list[Batch]], of_loss: bool) -> Iterator[tuple[Kind, str, float]]:
    """Yield what results where a sum or a count goes on from pass to pass."""
    batches_before = [batch for one in passes for batch in one]
    for per_sample in (True, False):
        sums, counts = [], []
        for one in (passes[-1], batches_before):
            means = [batch.loss if of_loss else batch.correct / batch.size for batch in one]
            weights = [batch.size if per_sample else 1 for batch in one]
            sums.append(sum(mean * weight for mean, weight in zip(means, weights, strict=True)))
            counts.append(sum(weights))
        over = "samples" if per_sample else "batches"
        yield "wrong_count", f"the sum goes on from pass to pass, divided by the {over} of one", sums[1] / counts[0]
        yield "wrong_count", f"the count of {over} goes on from pass to pass, and the sum does not", sums[0] / counts[1]
        yield "never_reset", f"it is the mean over all passes until then, over {over}", sums[1] / counts[1]


def is_close(number: float, candidate: float) -> bool:
    """Return whether a number is the candidate, up to rounding in float32."""
    return abs(number - candidate) <= CLOSE * max(abs(candidate), 1e-3)


@dataclass(frozen=True)
class Series:
    """A number that the loop reports in each call or epoch, with the values that it can have in each."""

    name: str
    time: int
    numbers: tuple[float, ...]
    reports: tuple[Report, ...]

    def formulas(self, *kinds: Kind) -> list[tuple[str, Formula]]:
        """Return the formulas of these kinds that give each number of its own report, with the passes they are of."""
        pairs = list(zip(self.numbers, self.reports, strict=True))
        return [
            key
            for key in self.reports[-1]
            if key[1].kind in kinds and all(key in one and is_close(number, one[key]) for number, one in pairs)
        ]

    def wrong(self, key: tuple[str, Formula]) -> int:
        """How many different numbers are none of the right ones of their report that measure the same as a formula."""
        return len(
            {
                number
                for number, one in zip(self.numbers, self.reports, strict=True)
                if not any(
                    formula.kind == "right" and formula.of == key[1].of and is_close(number, value)
                    for (_, formula), value in one.items()
                )
            }
        )

    def shows(self, key: tuple[str, Formula]) -> bool:
        """Return whether it is enough to show a mistake.

        Shares of a few samples are round numbers, which can agree by chance twice; losses hardly do once.
        """
        wrong = self.wrong(key)
        return wrong > 2 or (wrong > 0 and len(set(self.numbers)) > 1 and key[1].of == "loss")

    @property
    def tells(self) -> bool:
        """Return whether it can show a mistake: it varies, and not all of its numbers are integers."""
        return len(set(self.numbers)) > 1 and not all(
            number == int(number) for number in self.numbers if number == number
        )


@lru_cache(maxsize=1)  # five laws read it, one after the other
def series(trace: Trace) -> tuple[Series, ...]:
    """Return what the loop reports call by call, where a call saw one pass over data."""
    must(trace.failed is None, "the loop raised")
    must(trace.case.loss != "mse" and (trace.knows_loss or trace.recording.evaluate_roles), "its loss is not known")
    found: dict[tuple[str, str], list[tuple[int, float, Report]]] = {}
    passes: dict[str, list[list[Batch]]] = {}
    for call in trace.calls:
        seen: Report = {}
        for name, forwards in passes_between(trace, call.time, call.end):
            if (known := batches(trace, forwards)) and len({f.samples for f in forwards}) == len(forwards):
                passes.setdefault(name, []).append(known)
                seen |= {(name, formula): value for formula, value in report(trace, name, passes[name]).items()}
        if any(number != number for number in call.result.numbers.values()) or not trace.is_judged(call.end - 1):
            continue
        if not seen or (call.what == "train" and trace.recording.whole_fit):
            continue
        for name, number in call.result.numbers.items():
            found.setdefault((call.what, name), []).append((call.time, number, seen))
    result = []
    for (what, name), entries in found.items():
        numbers, reports = tuple(e[1] for e in entries), tuple(e[2] for e in entries)
        result.append(Series(f"{name} of {what}", entries[0][0], numbers, reports))
    result += _histories(trace)
    must(result, "the loop returns no number that could be a metric")
    return tuple(result)


def passes_between(trace: Trace, begin: int, end: int) -> Iterator[tuple[str, list[Forward]]]:
    """Yield the passes over each split within a span of time, in training and in evaluation."""
    trained = set(map(id, trace.training))
    inside = [forward for forward in trace.forwards if begin <= forward.time < end]
    yield "training", [forward for forward in inside if id(forward) in trained]
    for split in ("val", "test", "train"):
        yield split, [forward for forward in inside if id(forward) not in trained and forward.split == split]


def _histories(trace: Trace) -> Iterator[Series]:
    """Yield the histories in the result of a whole fit: a number for each epoch, at paths that differ in one index."""
    if not trace.recording.whole_fit:
        return
    for call in (call for call in trace.calls if call.what == "train" and trace.is_judged(call.end - 1)):
        epochs = sorted(trace.epochs)
        passes: dict[str, list[list[Batch]]] = {}
        by_epoch: list[Report] = []
        for epoch in epochs:
            by_epoch.append({})
            for split, forwards in (("training", trace.epochs[epoch]), *_evaluated(trace, epoch)):
                if known := batches(trace, forwards):
                    passes.setdefault(split, []).append(known)
                    by_epoch[-1] |= {(split, f): value for f, value in report(trace, split, passes[split]).items()}
        for name in call.result.numbers:
            for index in ("[0]", "[1]"):
                if index not in name:
                    continue
                head, tail = name.split(index, 1)
                first = int(index[1])
                paths = [f"{head}[{first + n}]{tail}" for n in range(len(epochs))]
                if first == 0 and len(epochs) > 1 and all(path in call.result.numbers for path in paths):
                    numbers = tuple(call.result.numbers[path] for path in paths)
                    yield Series(f"{head}[...]{tail}", call.time, numbers, tuple(by_epoch))


def _evaluated(trace: Trace, epoch: int) -> Iterator[tuple[str, list[Forward]]]:
    for number, e in enumerate(
        e for e in trace.evaluations if e.after_epoch == epoch and (e.call is None or e.call.what == "train")
    ):
        yield f"{e.forwards[0].split} {number}", e.forwards


def _breaks(trace: Trace, *kinds: Kind) -> Iterator[tuple[Series, Formula, str]]:
    """Yield the numbers that a mistake gives each time and no right formula does, with what is to be said of them."""
    for one in series(trace):
        if not one.tells or one.formulas("right"):
            continue
        key = next((key for key in one.formulas(*kinds) if one.shows(key)), None)
        if key is not None:
            name, formula = key
            number, values = one.numbers[-1], one.reports[-1]
            same = ((f, value) for (n, f), value in values.items() if n == name and f.of == formula.of)
            right = [value for f, value in same if f.told.startswith(MEAN)]
            nearest = min(right, key=lambda value: abs(value - number))
            text = f"{one.name} is {number:.6g}, but {MEAN} is {nearest:.6g}"
            yield one, formula, f"{text}: {formula.told}"


@law("mean-of-batch-means")
def a_metric_is_a_mean_over_samples(trace: Trace) -> Iterator[Evidence]:
    for one, _, text in _breaks(trace, "mean_of_means"):
        yield one.time, text


@law("metric-wrong-n")
def a_metric_is_divided_by_the_samples(trace: Trace) -> Iterator[Evidence]:
    for one, _, text in _breaks(trace, "wrong_count"):
        if not one.formulas("mean_of_means"):
            yield one.time, text
    for one, _, text in _breaks(trace, "never_reset"):
        yield one.time, text, "info"  # a mean over the whole training may be meant


@law("last-batch-reported")
def a_metric_is_of_all_batches(trace: Trace) -> Iterator[Evidence]:
    for one, _, text in _breaks(trace, "last_batch"):
        if one.formulas("extreme"):
            continue  # the largest or the smallest of all batches, which at times is the last
        # A list with the number of each batch has one of the last batch too.
        if not any(formula.of == "loss" for other in series(trace) for _, formula in other.formulas("first_batch")):
            yield one.time, text


@law("metric-differs")
def a_metric_is_what_its_name_says(trace: Trace) -> Iterator[Evidence]:
    for one in series(trace):
        named = any(word in one.name.lower() for word in ("loss", "acc")) and one.name.endswith("of evaluate")
        if named and one.tells and not one.formulas(*KNOWN):
            yield one.time, f"{one.name} is {one.numbers[0]:.6g}, which is no mean over the samples or batches"
