"""Metrics: the numbers that a loop reports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mnist_loop.verification.laws.registry import Evidence, law, must
from mnist_loop.verification.recording.events import Forward
from mnist_loop.verification.recording.oracle import mean_loss
from mnist_loop.verification.recording.trace import Trace

CLOSE = 1e-6  # of the value: metrics are often summed in float32, and formulas differ by far more in these cases
PERCENT = 100.0


@dataclass(frozen=True)
class Batch:
    """What one batch adds to a report."""

    size: int
    loss: float
    correct: int


@dataclass(frozen=True)
class Report:
    """The values that one pass over the data can report: the right ones, and those of known mistakes."""

    right: tuple[float, ...]
    mean_of_means: tuple[float, ...]
    wrong_count: tuple[float, ...]


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


def report(found: list[Batch], batch_size: int, length: int) -> Report:
    """Return the values of loss and accuracy that a pass can report, right and wrong.

    ``length`` is the number of batches that a loader of the pass has.
    """
    count = sum(batch.size for batch in found)
    loss, correct = sum(batch.loss * batch.size for batch in found), sum(batch.correct for batch in found)
    losses, shares = sum(batch.loss for batch in found), sum(batch.correct / batch.size for batch in found)
    right = (loss / count, correct / count, PERCENT * correct / count, loss, float(correct), losses)
    mean_of_means = (losses / length, shares / length, PERCENT * shares / length)
    padded = batch_size * length
    wrong_count = (
        *(value / n for value in (loss, float(correct), PERCENT * correct) for n in (length, batch_size, padded)),
        *(losses / n for n in (count, padded)),
    )
    return Report(right, mean_of_means, wrong_count)


def is_among(number: float, candidates: tuple[float, ...]) -> bool:
    """Return whether the number is one of the candidates, up to rounding in float32."""
    return any(abs(number - candidate) <= CLOSE * max(abs(candidate), 1e-3) for candidate in candidates)


@dataclass(frozen=True)
class Series:
    """A number that the loop reports in each call, with the values that it can have in each."""

    name: str
    time: int
    numbers: tuple[float, ...]
    reports: tuple[tuple[Report, ...], ...]

    def always(self, kind: str) -> bool:
        """Return whether each number is one of a kind, "right" or a known mistake, in the report of its call."""
        return all(
            any(is_among(number, getattr(report, kind)) for report in reports)
            for number, reports in zip(self.numbers, self.reports, strict=True)
        )

    @property
    def wrong(self) -> int:
        """How many different numbers are right in no report of their call."""
        pairs = zip(self.numbers, self.reports, strict=True)
        return len({number for number, reports in pairs if not any(is_among(number, r.right) for r in reports)})

    @property
    def tells(self) -> bool:
        """Return whether it can show a mistake: it varies, and not all of its numbers are integers."""
        return len(set(self.numbers)) > 1 and not all(
            number == int(number) for number in self.numbers if number == number
        )


def series(trace: Trace) -> list[Series]:
    """Return what the loop reports call by call, where a call saw one pass over data."""
    must(trace.failed is None, "the loop raised")
    must(trace.case.loss != "mse" and (trace.knows_loss or trace.recording.evaluate_roles), "its loss is not known")
    found: dict[tuple[str, str], list[tuple[int, float, tuple[Report, ...]]]] = {}
    for call in trace.calls:
        if any(number != number for number in call.result.numbers.values()) or not trace.is_judged(call.end - 1):
            continue
        inside = [forward for forward in trace.forwards if call.time <= forward.time < call.end]
        trained = set(map(id, trace.training))
        groups = [[f for f in inside if id(f) in trained]]
        groups += [
            [f for f in inside if id(f) not in trained and f.split == split] for split in ("val", "test", "train")
        ]
        seen = tuple(
            report(known, trace.case.batch_size, len(known))
            for group in groups
            if (known := batches(trace, group)) and len({f.samples for f in group}) == len(group)
        )
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
    return result


def _histories(trace: Trace) -> Iterator[Series]:
    """Yield the histories in the result of a whole fit: a number for each epoch, at paths that differ in one index."""
    if not trace.recording.whole_fit:
        return
    for call in (call for call in trace.calls if call.what == "train" and trace.is_judged(call.end - 1)):
        epochs = sorted(trace.epochs)
        by_epoch = [
            tuple(
                report(known, trace.case.batch_size, len(known))
                for group in (trace.epochs[epoch], *_evaluated(trace, epoch))
                if (known := batches(trace, group))
            )
            for epoch in epochs
        ]
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


def _evaluated(trace: Trace, epoch: int) -> list[list[Forward]]:
    return [
        e.forwards for e in trace.evaluations if e.after_epoch == epoch and (e.call is None or e.call.what == "train")
    ]


def _breaks(trace: Trace, kind: str) -> Iterator[tuple[Series, str]]:
    for one in series(trace):
        # Shares of a few samples are round numbers, which can agree by chance once, but hardly twice.
        if one.tells and one.always(kind) and one.wrong > 1:
            number, reports = one.numbers[0], one.reports[0]
            right = next((r.right for r in reports if is_among(number, getattr(r, kind))), reports[0].right)
            nearest = min(right[:3], key=lambda value: abs(value - number))
            yield one, f"{one.name} is {number:.6g}, but the mean over the samples is {nearest:.6g}"


@law("mean-of-batch-means")
def a_metric_is_a_mean_over_samples(trace: Trace) -> Iterator[Evidence]:
    for one, text in _breaks(trace, "mean_of_means"):
        yield one.time, f"{text}: it is the mean of the batches' means"


@law("metric-wrong-n")
def a_metric_is_divided_by_the_samples(trace: Trace) -> Iterator[Evidence]:
    for one, text in _breaks(trace, "wrong_count"):
        if not one.always("mean_of_means"):
            yield one.time, f"{text}: it was divided by another number"


@law("metric-differs")
def a_metric_is_what_its_name_says(trace: Trace) -> Iterator[Evidence]:
    for one in series(trace):
        named = any(word in one.name.lower() for word in ("loss", "acc")) and one.name.endswith("of evaluate")
        known = one.always("right") or one.always("mean_of_means") or one.always("wrong_count")
        if named and one.tells and not known:
            yield one.time, f"{one.name} is {one.numbers[0]:.6g}, which is no mean over the samples or batches"
