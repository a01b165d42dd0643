"""Train and eval mode, and gradients on and off."""

from __future__ import annotations

from collections.abc import Iterator

from mnist_loop.watching.gradients import moved
from mnist_loop.watching.laws.registry import Evidence, law, must
from mnist_loop.watching.log import ModeChange, SeenBackward, SeenForward, SeenModel, SeenPass, WatchLog

AGAIN = 3
NO_EVALUATION = "no pass over a DataLoader was seen that is evaluated and never trained on"


def _training(log: WatchLog, model: SeenModel) -> list[tuple[SeenBackward, bool, int]]:
    """Return the backward passes that trained a model, with its mode and the number of its awake modules."""
    return [
        (event, training, awake)
        for event in log.of(SeenBackward)
        for number, training, awake in event.models
        if number == model.number and number in log.trained_by(event)
    ]


def _sensitive(log: WatchLog) -> list[SeenModel]:
    trained = log.trained_models
    models = [model for model in log.models if model.number in trained and model.sensitive]
    # A model that no optimizer holds may be trained by hand, or be looked at alone, as saliency maps do it.
    models = [
        model for model in models if any(one.holders or (one.ever_arrived and moved(one)) for one in model.parameters)
    ]
    must(models, "no model that is trained has Dropout or BatchNorm")
    return models


@law("train-mode-not-restored")
def training_goes_on_in_train_mode(log: WatchLog) -> Iterator[Evidence]:
    for model in _sensitive(log):
        events = _training(log, model)
        first = next((n for n, (_, training, awake) in enumerate(events) if training and awake), None)
        if first is None:
            continue
        for event, training, awake in events[first + 1 :]:
            began, part = events[first][0].time, event.reached < events[first][0].reached  # the others may be frozen
            if not training and not awake and not part and _evaluated(log, began, event.time):
                change = [e for e in log.of(ModeChange) if not e.training and began < e.time < event.time]
                yield Evidence(
                    event.time,
                    f"step {event.step}: {model.name} is trained in eval mode, after steps in train mode and an "
                    "evaluation between",
                    (change[-1].site if change else None) or event.site or log.first_backward,
                )
                break


def _evaluated(log: WatchLog, begin: int, end: int) -> bool:
    return any(begin < e.time < end and not e.recorded for e in log.of(SeenForward)) or any(
        begin < e.time < end and not e.backwards and e.batches for e in log.passes
    )


@law("trains-in-eval-mode")
def training_is_done_in_train_mode(log: WatchLog) -> Iterator[Evidence]:
    for model in _sensitive(log):
        events = _training(log, model)
        if not all(one.ever_arrived for one in model.parameters):
            continue  # new layers on a frozen model, whose Dropout and BatchNorm are rightly in eval mode
        if len(events) >= AGAIN and not any(training or awake for _, training, awake in events):
            kinds = "Dropout" if model.dropout else "BatchNorm"
            yield Evidence(
                events[0][0].time,
                f"step {events[0][0].step}: {model.name} is trained in eval mode from the first batch on, and has "
                f"{len(model.sensitive)} {kinds} module" + ("s" if len(model.sensitive) > 1 else ""),
                next((e.site for e in reversed(log.of(ModeChange)) if not e.training and e.site), log.first_backward),
            )


def evaluations(log: WatchLog) -> list[SeenPass]:
    """Return the passes over data that is never trained on, in which nothing was trained."""
    trained = log.trained_loaders
    datasets = {log.loaders[number].dataset for number in trained}
    return [
        one
        for one in log.passes
        if one.batches
        and not one.backwards
        and one.loader not in trained
        and one.evaluated
        # Unless another part of it, a split, is trained on.
        and (log.loaders[one.loader].dataset not in datasets or log.loaders[one.loader].universe is not None)
    ]


@law("evaluates-in-train-mode")
def evaluation_is_done_in_eval_mode(log: WatchLog) -> Iterator[Evidence]:
    passes = evaluations(log)
    must(passes, NO_EVALUATION)
    models = {model.number: model for model in _sensitive(log)}
    for one in passes:
        for number, (forwards, awake) in one.evaluated.items():
            if number in models and forwards == awake and (one.finished or one.batches > 1):
                model = models[number]
                yield Evidence(
                    one.time,
                    f"{model.name} evaluates {log.loaders[one.loader].name} in train mode, with {len(model.sensitive)} "
                    f"Dropout or BatchNorm modules at work; forwards seen: {forwards}",
                    one.first_evaluation or one.site,
                )


@law("evaluates-with-grad")
def evaluation_records_no_graph(log: WatchLog) -> Iterator[Evidence]:
    trained, models = log.trained_loaders, log.trained_models
    must(models, "no model is trained")
    passes = [one for one in log.passes if one.loader not in trained and one.batches and not one.backwards]
    must(passes, NO_EVALUATION)
    for one in passes:
        forwards = [event for event in log.of(SeenForward) if event.pass_ == one.number and event.model in models]
        if forwards and (one.finished or one.batches > 1) and all(e.recorded and not e.training for e in forwards):
            yield Evidence(
                one.time,
                f"evaluation forwards over {log.loaders[one.loader].name} record a graph that no backward pass goes "
                f"through; forwards seen: {len(forwards)}",
                next((event.site for event in forwards if event.site), one.site),
            )
