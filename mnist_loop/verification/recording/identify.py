"""Identifies the samples in each forward, and the epoch that it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from mnist_loop.verification.recording.events import Call, Draw, Event, Forward, Pass
from mnist_loop.verification.recording.recording import Recording

Sample = tuple[str, int]  # split and number


def identify_samples(events: Iterable[Event], images: Mapping[str, Tensor]) -> None:
    """Note in each forward which samples it held.

    They are found by their pixels or, where the loop altered them, as the samples that were drawn last.

    Args:
        events: in order.
        images: (N, *shape) of each split.
    """
    samples = {_key(row): (split, index) for split in images for index, row in enumerate(images[split].flatten(1))}
    drawn: list[Sample] = []
    for event in events:
        if isinstance(event, Draw):
            drawn.append((event.split, event.index))
        if isinstance(event, Forward):
            _identify(event, samples, drawn)


def number_epochs(recording: Recording, training: list[Forward]) -> None:
    """Note in each training forward which epoch it belongs to, from 1."""
    if recording.whole_fit:
        _number_epochs_of_fit(recording, training)
        return
    calls = [event for event in recording.events if isinstance(event, Call) and event.what == "train"]
    for forward in training:
        forward.epoch = max((call.epoch for call in calls if call.time < forward.time), default=1)


def held_out(recording: Recording, training: list[Forward]) -> set[int]:
    """Return the samples of the training set that the loop keeps for evaluation, and never trains on."""
    trained = {sample for forward in training for sample in forward.samples}
    evaluated = {
        sample
        for forward in recording.events
        if isinstance(forward, Forward) and not forward.differentiable
        for split, sample in zip(forward.splits, forward.samples, strict=True)
        if split == "train"
    }
    return evaluated - trained


def _number_epochs_of_fit(recording: Recording, training: list[Forward]) -> None:
    case = recording.case
    passes = [event.time for event in recording.events if isinstance(event, Pass) and event.split == "train"]
    draws = [event.time for event in recording.events if isinstance(event, Draw) and event.split == "train"]
    full = (case.samples - len(held_out(recording, training))) // case.batch_size * case.batch_size
    starts: set[int] = set()
    epoch, last = (0 if passes else 1), -1
    seen, previous = set[Sample](), set[Sample]()
    for forward in training:
        samples = set(zip(forward.splits, forward.samples, strict=True))
        begun = [time for time in passes if time < forward.time]
        new_pass = bool(begun) and begun[-1] not in starts
        if new_pass:
            starts.add(begun[-1])
            epoch, seen = epoch + 1, set()
        # A closure calls the model on one batch again: nothing is drawn for it, and no epoch begins.
        drawn = any(last < time < forward.time for time in draws)
        another = drawn or samples != previous or case.batches == 1
        if not new_pass and len(seen) >= full and seen & samples and another:
            epoch, seen = epoch + 1, set()  # batches that are kept and used again, or those of another loader
        previous, last = samples, forward.time
        seen |= samples
        forward.epoch = max(epoch, 1)
    sizes: dict[int, int] = {}
    for forward in training:
        sizes[forward.epoch] = sizes.get(forward.epoch, 0) + len(forward.samples)
    # A loader that is opened within an epoch, or for each step, does not show where an epoch begins.
    if epoch > case.epochs and min(sizes.values(), default=0) < full and len(training) % case.epochs == 0:
        for number, forward in enumerate(training):
            forward.epoch = number * case.epochs // len(training) + 1


def _identify(forward: Forward, samples: Mapping[bytes, Sample], drawn: list[Sample]) -> None:
    count = len(forward.inputs) if forward.inputs.dim() else 0
    found = [samples.get(_key(row)) for row in forward.inputs.reshape(count, -1)] if count else []
    known = [sample for sample in found if sample is not None]
    if not known or len(known) < len(found):
        forward.altered = True
        known = drawn[-count:] if 0 < count <= len(drawn) else []
    if known:
        forward.splits = tuple(split for split, _ in known)
        forward.samples = tuple(index for _, index in known)
        forward.split = forward.splits[0] if len(set(forward.splits)) == 1 else "mixed"


def _key(row: Tensor) -> bytes:
    return row.detach().float().cpu().numpy().tobytes()
