"""Mixed precision: the steps of a GradScaler."""

from __future__ import annotations

from collections.abc import Iterator

from mnist_loop.watching.laws.registry import Evidence, law, must
from mnist_loop.watching.log import SeenBackward, SeenStep, WatchLog


@law("scaler-bypassed")
def scaled_gradients_are_stepped_by_the_scaler(log: WatchLog) -> Iterator[Evidence]:
    must(any(event.scaled for event in log.of(SeenBackward)), "no loss was scaled by a GradScaler")
    for step in log.of(SeenStep):
        if step.scaled and step.scaled == step.arrived and not step.in_scaler and not step.closure:
            yield Evidence(
                step.time,
                f"step {step.step}: {step.scaled} gradients of a scaled loss are applied without unscaling them",
                step.site,
            )


@law("scaler-update-missing")
def a_scaler_that_steps_is_updated(log: WatchLog) -> Iterator[Evidence]:
    must(log.scaler_steps, "there is no GradScaler at work")
    if log.scaler_steps >= 2 and not log.scaler_updates:
        yield Evidence(0, f"GradScaler.step() was called {log.scaler_steps} times, and update() never", log.scaler_step)
