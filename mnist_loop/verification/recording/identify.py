"""Identifies the samples in each forward, and the epoch that it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mnist_loop.verification.recording.events import Call, Draw, Event, Forward, Pass
from mnist_loop.verification.recording.recording import Recording

Sample = tuple[str, int]  # split and number
# The correlation of an image with itself, scaled and shifted in float32; two of random pixels are far from it.
ALIKE = 1 - 1e-6


def identify_samples(events: Iterable[Event], images: Mapping[str, Tensor]) -> None:
    """Note in each forward which samples it held.

    They are found by their pixels, also where all of these were scaled and shifted. Where the loop altered them
    otherwise, they are the samples that were drawn last, if those were drawn for it.

    Args:
        events: in order.
        images: (N, *shape) of each split.
    """
    known = _Known(images)
    drawn: list[Sample] = []
    before: tuple[int, list[Sample]] = (0, [])
    fresh: list[Sample] = []  # drawn since the forward before
    for event in events:
        if isinstance(event, Draw):
            drawn.append((event.split, event.index))
            fresh.append(drawn[-1])
        if isinstance(event, Forward):
            count = len(event.inputs) if event.inputs.dim() else 0
            found = known.find(event.inputs, count)
            event.altered = not found.exact
            if found.samples:
                drawn_for_it = found.samples
            elif fresh:
                # Data that are drawn as a whole are kept, and what is drawn last is no batch of them.
                kept = count < len(fresh) and any(known.splits[split] <= {*fresh} for split in known.splits)
                drawn_for_it = drawn[-count:] if 0 < count <= len(drawn) and not kept else []
            else:
                drawn_for_it = before[1] if before[0] == count else []
            before, fresh = (count, drawn_for_it), []
            _note(event, drawn_for_it)


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


@dataclass(frozen=True)
class _Found:
    samples: list[Sample]
    exact: bool


class _Known:
    """The images that were handed out.

    Args:
        images: (N, *shape) of each split.
    """

    def __init__(self, images: Mapping[str, Tensor]) -> None:
        self.samples = {
            _key(row): (split, index) for split, rows in images.items() for index, row in enumerate(rows.flatten(1))
        }
        self.splits = {split: {(split, index) for index in range(len(rows))} for split, rows in images.items()}
        self.places = [(split, index) for split, rows in images.items() for index in range(len(rows))]
        self.images = images

    @cached_property
    def standardised(self) -> Tensor:
        """All images, each with the mean 0 and the norm 1: (N, features)."""
        return _standardised(torch.cat([rows.flatten(1).double() for rows in self.images.values()]))

    def find(self, inputs: Tensor, count: int) -> _Found:
        """Return the samples in a batch; none if they are not all found."""
        rows = inputs.reshape(count, -1) if count else inputs.reshape(0, 0)
        found = [self.samples.get(_key(row)) for row in rows]
        samples = [sample for sample in found if sample is not None]
        if samples and len(samples) == len(found):
            return _Found(samples, exact=True)
        if not count or rows.shape[1] != self.standardised.shape[1] or not rows.shape[1]:
            return _Found([], exact=False)
        likeness = _standardised(rows.double().cpu()) @ self.standardised.T
        best = likeness.max(dim=1)
        alike = bool((best.values > ALIKE).all())
        return _Found([self.places[int(place)] for place in best.indices] if alike else [], exact=False)


def _standardised(rows: Tensor) -> Tensor:
    centred = rows - rows.mean(dim=1, keepdim=True)
    lengths = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
    return torch.nan_to_num(centred / lengths)


def _note(forward: Forward, known: list[Sample]) -> None:
    if known:
        forward.splits = tuple(split for split, _ in known)
        forward.samples = tuple(index for _, index in known)
        forward.split = forward.splits[0] if len(set(forward.splits)) == 1 else "mixed"


def _key(row: Tensor) -> bytes:
    return row.detach().float().cpu().numpy().tobytes()
