"""Data: the order in which they come, and what is trained on against what is evaluated."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mnist_loop.watching.laws.modes import NO_EVALUATION
from mnist_loop.watching.laws.registry import Evidence, law, must
from mnist_loop.watching.log import SeenPass, WatchLog

ENOUGH = 10  # indices; a random order of so many comes twice by chance once in 3.6 million times
NO_TRAINING = "no pass over a DataLoader was trained on twice"


def _trained_twice(log: WatchLog) -> list[list[SeenPass]]:
    """Return the passes of each loader, or of each data set, that one optimizer was stepped in, where there are two."""
    groups: dict[tuple[object, ...], list[SeenPass]] = {}
    for one in log.passes:
        if one.backwards and one.optimizers:
            loader = log.loaders[one.loader]
            groups.setdefault((loader.dataset, loader.kind, *sorted(one.optimizers)), []).append(one)
    found = [passes for passes in groups.values() if len(passes) > 1]
    must(found, NO_TRAINING)
    return found


@law("same-order-each-epoch")
def each_epoch_has_an_order_of_its_own(log: WatchLog) -> Iterator[Evidence]:
    for passes in _trained_twice(log):
        kind = log.loaders[passes[0].loader].kind
        orders = [one.order for one in passes if len(one.order) >= ENOUGH]
        if kind == "random" and len(orders) > 1 and all(order == orders[0] for order in orders):
            loader = log.loaders[passes[0].loader]
            yield Evidence(
                passes[1].time,
                f"{len(orders)} passes over {loader.name}, which is shuffled, all begin with the samples "
                f"{', '.join(map(str, orders[0][:4]))}, ...",
                passes[1].site,
            )


@law("not-shuffled")
def training_data_are_shuffled(log: WatchLog) -> Iterator[Evidence]:
    for passes in _trained_twice(log):
        loader = log.loaders[passes[0].loader]
        if loader.kind == "sequential" and (loader.batches or 0) > 1:
            yield Evidence(
                passes[0].time,
                f"{len(passes)} passes over {loader.name} took its samples in the order in which they are stored",
                passes[0].site,
                level="info",
            )


@law("split-leak")
def what_is_evaluated_is_not_trained_on(log: WatchLog) -> Iterator[Evidence]:
    evaluated = [one for one in log.passes if one.batches and not one.backwards and one.evaluated]
    must(evaluated, NO_EVALUATION)
    trained = log.trained_loaders
    for one in evaluated:
        held_out = log.loaders[one.loader]
        if one.loader in trained or held_out.universe is None or not len(held_out.universe):
            continue
        for number in trained:
            loader = log.loaders[number]
            together = any(p.loader == number and p.models & set(one.evaluated) for p in log.passes)
            if loader.dataset != held_out.dataset or loader.universe is None or not together:
                continue
            common = np.intersect1d(loader.universe, held_out.universe).size
            if 0 < common < len(held_out.universe):  # all of them: a look at the training's own accuracy
                yield Evidence(
                    one.time,
                    f"{common} of the {len(held_out.universe)} samples of {held_out.name} that are evaluated are "
                    "trained on too",
                    one.site,
                )


@law("validates-on-train")
def something_else_than_the_training_data_is_evaluated(log: WatchLog) -> Iterator[Evidence]:
    trained = log.trained_loaders
    must(trained, "nothing of a DataLoader is trained on")
    passes = [one for one in log.passes if one.batches and not one.backwards and one.evaluated]
    must(passes, NO_EVALUATION)
    must(log.complete, "the training was not watched to its end, at which other data may be evaluated")
    datasets = {log.loaders[number].dataset for number in trained}
    # Some evaluate with gradients on: what is gone through and not trained on counts.
    seen = [log.loaders[one.loader] for one in log.passes if one.batches and not one.backwards]
    universes = [log.loaders[number].universe for number in trained]
    if all(loader.dataset in datasets and loader.universe is None for loader in seen) and None in universes:
        yield Evidence(
            passes[0].time,
            f"all that is evaluated is {seen[0].name}, the data that is trained on",
            passes[0].site,
            level="info",
        )


@law("evaluation-incomplete")
def an_evaluation_covers_its_data(log: WatchLog) -> Iterator[Evidence]:
    trained = log.trained_loaders
    passes = [
        one for one in log.passes if one.evaluated and one.batches and not one.backwards and one.loader not in trained
    ]
    must(passes, NO_EVALUATION)
    by_loader: dict[int, list[SeenPass]] = {}
    for one in passes:
        by_loader.setdefault(one.loader, []).append(one)
    for number, own in by_loader.items():
        loader = log.loaders[number]
        known = None if loader.universe is None else len(loader.universe)
        size = known if known is not None else loader.size
        rest = size % loader.batch_size if size and loader.batch_size else 0
        if loader.drop_last and rest:
            text = f"the loader of {loader.name} leaves out its last {rest} of {size} samples (drop_last=True)"
            yield Evidence(own[0].time, text, own[0].site)
        elif len(own) > 1 and loader.batches and all(one.batches < loader.batches for one in own) and log.complete:
            text = f"{len(own)} evaluations stopped after {own[0].batches} of {loader.batches} batches"
            yield Evidence(own[0].time, text, own[0].site)
