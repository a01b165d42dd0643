"""Resources: memory that a training takes without need."""

from __future__ import annotations

from collections.abc import Iterator

from mnist_loop.watching.laws.registry import Evidence, law, must
from mnist_loop.watching.log import SeenBackward, WatchLog

MANY = 16  # graphs of earlier backward passes; an unrolled sequence keeps some
NO_BACKWARD = "no backward pass from a single loss was watched closely"


@law("graph-leak")
def graphs_go_after_their_backward_pass(log: WatchLog) -> Iterator[Evidence]:
    backwards = log.of(SeenBackward)
    must(backwards, NO_BACKWARD)
    held = [event for event in backwards if event.alive >= MANY]
    if held and held[0].alive >= MANY:
        yield Evidence(
            held[0].time,
            f"step {held[0].step}: the graphs of {held[0].alive} earlier backward passes are still held",
            held[0].site or log.first_backward,
            level=None if held[0].retained else "cost",  # without retain_graph they no longer hold activations
        )


@law("retain-graph")
def a_graph_that_is_kept_is_used(log: WatchLog) -> Iterator[Evidence]:
    backwards = [event for event in log.of(SeenBackward) if event.reached]
    must(backwards, NO_BACKWARD)
    one_a_step = len({event.step for event in backwards}) == len(backwards) > 2
    if one_a_step and all(event.retained and not event.alive for event in backwards):
        yield Evidence(
            backwards[0].time,
            f"{len(backwards)} backward passes were told to keep their graph, and each was dropped unused",
            log.first_backward,
        )
