"""Learning-rate schedules: whether they are stepped, when, and how often."""

from __future__ import annotations

from collections.abc import Iterator

from mnist_loop.watching.laws.registry import Evidence, law, must
from mnist_loop.watching.log import SeenScheduler, SeenStep, WatchLog
from mnist_loop.watching.source import calls_of

FEW = 0.9  # of the horizon; a schedule that ends a little early is no surprise


def _schedules(log: WatchLog) -> list[tuple[SeenScheduler, int]]:
    """Return the schedules of optimizers that were stepped, each with the number of these steps."""
    found = [
        (one, log.optimizers[one.optimizer].steps)
        for one in log.schedulers
        if one.optimizer is not None and log.optimizers[one.optimizer].steps and not one.inner
    ]
    must(found, "there is no learning-rate schedule")
    return found


@law("scheduler-before-optimizer")
def a_schedule_follows_its_optimizer(log: WatchLog) -> Iterator[Evidence]:
    schedules = _schedules(log)
    must(not log.scaler_steps, "a GradScaler may skip the first step")
    for one, steps in schedules:
        # Several steps before the first of the optimizer wind a schedule forward, for a training that is resumed.
        if one.before == 1 and one.steps > 1 and steps > 1 and not one.loaded:
            yield Evidence(
                0,
                f"{one.name} was stepped before the first step of its optimizer, so that its first learning rate was "
                "never used",
                one.first_step,
            )


@law("scheduler-not-stepped")
def a_schedule_is_stepped(log: WatchLog) -> Iterator[Evidence]:
    schedules = _schedules(log)
    must(log.complete, "the training was not watched to its end")
    passes = sum(bool(one.optimizers) and one.finished for one in log.passes)
    for one, steps in schedules:
        if not one.steps and (passes > 1 or steps > 1):
            yield Evidence(
                0,
                f"{one.name} was built, and not stepped once in {steps} steps of its optimizer",
                one.site,
                level=None if passes > 1 and _all_steps_were_taken(log, one) else "info",
            )


def _all_steps_were_taken(log: WatchLog, schedule: SeenScheduler) -> bool:
    """Return whether an optimizer was stepped at each line that steps anything, as far as the source tells.

    In a longer training another line may step the schedule, such as after a warm-up. So may a library that steps, or
    that asks a schedule for its learning rates and sets them.
    """
    if schedule.site is None or schedule.asked:
        return False
    taken = {event.site for event in log.of(SeenStep) if event.site is not None}
    files = {site.file for site in (*taken, schedule.site) if site is not None}
    return bool(taken) and calls_of("step", files) == taken


@law("scheduler-horizon")
def a_schedule_ends_with_the_training(log: WatchLog) -> Iterator[Evidence]:
    schedules = [(one, one.horizon) for one, _ in _schedules(log) if one.horizon and one.steps]
    must(schedules, "there is no schedule with an end")
    must(log.complete, "the training was not watched to its end")
    for one, horizon in schedules:
        if one.name.startswith("Cosine") and one.steps > horizon and not one.steps % horizon:
            continue  # whole cycles
        if one.name == "LinearLR" and one.steps > horizon:
            continue  # it has come to the rate at which it stays
        if not FEW * horizon <= one.steps <= horizon:
            yield Evidence(0, f"{one.name} is to end after {horizon} of its steps, and took {one.steps}", one.site)
