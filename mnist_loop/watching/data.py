"""The passes over DataLoaders: what they draw, and whether it is trained on or evaluated."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from mnist_loop.watching.log import Indices, SeenBackward, SeenForward, SeenLoader, SeenPass, WatchLog
from mnist_loop.watching.transparent import site

ORDER = 256  # indices of a pass that are kept, to compare the order of two passes
DRAWS = {
    "choice",
    "choices",
    "multinomial",
    "permutation",
    "rand",
    "randint",
    "random",
    "randperm",
    "sample",
    "shuffle",
}
RANDOM = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)


class DataWatch:
    """Follows the passes.

    Attributes:
        log: what was seen.
        current: number of the pass whose batch is the latest; None if there is none.
        making: the pass whose iterator is being made.
    """

    def __init__(self, log: WatchLog) -> None:
        self.log = log
        self.current: int | None = None
        self.making: SeenPass | None = None
        self.loaders: dict[int, SeenLoader] = {}
        self.datasets: list[weakref.ref[Any]] = []

    @property
    def current_loader(self) -> int | None:
        """Number of the loader whose batch is the latest."""
        return None if self.current is None else self.log.passes[self.current].loader

    def begin(self, loader: Any, time: int) -> SeenPass:
        """Note that a pass begins."""
        where = site()
        seen = self.loaders.get(id(loader))
        if seen is None or seen.ref() is not loader:
            seen = self._loader(loader)
            seen.site = where
            self.loaders[id(loader)] = seen
            self.log.loaders.append(seen)
        begun = SeenPass(len(self.log.passes), seen.number, time, where)
        self.log.passes.append(begun)
        return begun

    def on_batch(self, which: SeenPass) -> None:
        """Note that a pass has yielded a batch."""
        which.batches += 1
        self.current = which.number

    def on_end(self, which: SeenPass) -> None:
        """Note that a pass is over."""
        which.finished = True
        if self.current == which.number:
            self.current = None

    def on_forward(self, event: SeenForward) -> None:
        """Count a forward that no graph is recorded for, or that may be evaluated."""
        if event.pass_ is not None and not event.recorded:
            which = self.log.passes[event.pass_]
            counts = which.evaluated.setdefault(event.model, [0, 0])
            counts[0] += 1
            counts[1] += event.awake > 0 and event.training
            which.first_evaluation = which.first_evaluation or event.site

    def on_training(self, event: SeenBackward) -> None:
        """Note that a backward pass reached parameters."""
        if event.pass_ is not None:
            which = self.log.passes[event.pass_]
            which.backwards += 1
            which.models.update(number for number, _, _ in event.models)

    def drawn(self, which: SeenPass, index: Any) -> None:
        """Note the indices that a pass draws."""
        if len(which.order) < ORDER:
            which.order += [int(one) for one in (index if isinstance(index, list | tuple) else [index])]

    def _loader(self, loader: Any) -> SeenLoader:
        dataset, indices = _base(loader.dataset)
        size = _length(dataset)
        kind, sampled = _kind(loader)
        if sampled is not None:
            indices = sampled if indices is None else indices[sampled[sampled < len(indices)]]
        batches = None if isinstance(loader.dataset, IterableDataset) else _length(loader)
        return SeenLoader(
            number=len(self.log.loaders),
            ref=weakref.ref(loader),
            site=None,
            dataset=self._dataset(dataset),
            name=type(dataset).__name__,
            size=size,
            universe=None if indices is None else np.unique(indices),
            kind=kind,
            batch_size=loader.batch_size,
            drop_last=bool(getattr(loader, "drop_last", False)),
            batches=batches,
        )

    def _dataset(self, dataset: Any) -> int:
        for number, ref in enumerate(self.datasets):
            if ref() is dataset:
                return number
        try:
            self.datasets.append(weakref.ref(dataset))
        except TypeError:  # such as a list, which cannot be referred to weakly: it is known by its place alone
            self.datasets.append(_Place(dataset))  # type: ignore[arg-type]
        return len(self.datasets) - 1


class _Place:
    """Stands for a reference to an object that cannot be referred to weakly: it never answers with the object."""

    def __init__(self, _: object) -> None:
        pass

    def __call__(self) -> None:
        return None


class RecordedSampler:
    """A sampler as a loader sees it, whose indices are noted as they are drawn."""

    def __init__(self, sampler: Any, watch: DataWatch) -> None:
        self.sampler, self.watch = sampler, watch

    def __len__(self) -> int:
        """Return the length of the sampler."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the sampler, which begins now as it does without this."""
        which = self.watch.making
        inner = iter(self.sampler)
        return inner if which is None else _Drawing(inner, self.watch, which)


class _Drawing:
    def __init__(self, inner: Iterator[Any], watch: DataWatch, which: SeenPass) -> None:
        self.inner, self.watch, self.which = inner, watch, which

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        index = next(self.inner)
        try:
            self.watch.drawn(self.which, index)
        except (TypeError, ValueError):  # keys of another kind than numbers
            self.which.order.clear()
        return index


def _base(dataset: Any) -> tuple[Any, Indices | None]:
    """Return the data set behind all subsets, and the indices that they leave of it; None for all."""
    indices: Indices | None = None
    while type(dataset) is Subset:
        own = np.asarray(dataset.indices, dtype=np.int64)
        indices = own if indices is None else own[indices]
        dataset = dataset.dataset
    return dataset, indices


def _kind(loader: Any) -> tuple[str, Indices | None]:
    """Return how a loader draws, and the indices that its sampler is limited to; None for all."""
    if isinstance(loader.dataset, IterableDataset):
        return "iterable", None
    if loader.batch_sampler is not None and type(loader.batch_sampler) is not BatchSampler:
        return "own", None
    sampler = loader.sampler if loader.batch_sampler is None else loader.batch_sampler.sampler
    if type(sampler) is SequentialSampler:
        # A data set that draws by itself need not give the samples that it is asked for.
        return ("own" if _draws(_base(loader.dataset)[0]) else "sequential"), None
    if type(sampler) is SubsetRandomSampler:
        return "random", np.asarray(list(sampler.indices), dtype=np.int64)
    if type(sampler) in RANDOM:
        return "random", None
    if type(sampler) is DistributedSampler:
        return ("random" if sampler.shuffle else "sequential"), None
    return "own", None


def _draws(dataset: Any) -> bool:
    """Return whether a data set may draw its samples at random, as the names in its ``__getitem__`` tell."""
    code = getattr(getattr(type(dataset), "__getitem__", None), "__code__", None)
    return code is not None and not DRAWS.isdisjoint(code.co_names)


def _length(thing: Any) -> int | None:
    try:
        return len(thing)
    except (TypeError, NotImplementedError, AttributeError):
        return None
