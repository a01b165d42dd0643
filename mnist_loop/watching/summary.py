"""The verdict on a training that was watched, and the sentence that says what was watched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mnist_loop.verdict.finding import Judgement
from mnist_loop.verdict.verdict import Verdict
from mnist_loop.watching.judge import judge
from mnist_loop.watching.laws.modes import evaluations
from mnist_loop.watching.log import SeenForward, WatchLog
from mnist_loop.watching.told import Told
from mnist_loop.watching.watcher import Watcher

NOTHING = "nothing that trains was seen: no backward pass and no optimizer step"


def verdict_on(watcher: Watcher, name: str, children: Sequence[Told] = ()) -> Verdict:
    """Judge what a watcher has seen, and what processes have told; ``name`` says of what."""
    verdict = Verdict(name=name, tool="check")
    sentences = []
    if watcher.log.backwards or watcher.log.steps:
        judgement = judge(watcher.log)
        verdict.judgements.append(judgement)
        sentences.append(watched(watcher, judgement))
    verdict.judgements += [told.judgement for told in children]
    by_sentence = Counter(told.watched for told in children)
    sentences += [f"in {_count(number, 'process', 'processes')}, {told}" for told, number in by_sentence.items()]
    if watcher.log.processes:
        sentences.append(f"{_count(watcher.log.processes, 'process', 'processes')} not watched")
    verdict.watched = "; ".join(sentences) or NOTHING
    return verdict


def watched(watcher: Watcher, judgement: Judgement) -> str:
    """Say what was watched: silence proves nothing of what was not."""
    log = watcher.log
    parts = [f"{_steps(log)}{_on_models(log)}{_data(log)}"]
    parts += [_training(log), _evaluation(log), _losses(log)]
    decided = len(judgement.held) + len(judgement.findings)
    parts.append(f"decided {_count(decided, 'bug')}, {len(judgement.not_run)} had nothing to judge")
    parts += [f"{what} not watched: {why}" for what, why in {**log.unwatched, **watcher.broken}.items()]
    return "; ".join(part for part in parts if part)


def _steps(log: WatchLog) -> str:
    if not log.steps:
        return f"{_count(log.backwards, 'backward pass', 'backward passes')} and no step of a torch optimizer"
    closely = "" if log.closely >= log.steps else f" ({log.closely} watched closely)"
    names = dict.fromkeys(one.name for one in log.optimizers if one.steps)
    return f"{_count(log.steps, 'step')}{closely} of {' and '.join(names)}"


def _on_models(log: WatchLog) -> str:
    trained = [model for model in log.models if model.number in log.trained_models]
    if not trained:
        return ""
    told = [f"{model.name} ({_count(len(model.parameters), 'parameter')})" for model in trained[:3]]
    return f" on {', '.join(told)}" + (f" and {len(trained) - 3} more" if len(trained) > 3 else "")


def _data(log: WatchLog) -> str:
    passes = [one for one in log.passes if one.loader in log.trained_loaders]
    if not passes:
        return ", without a DataLoader"
    loader = log.loaders[passes[0].loader]
    size = "" if loader.batch_size is None else f", {loader.batch_size}"
    order = {"random": ", shuffled", "sequential": ", in order"}.get(loader.kind, "")
    return f" in {_count(len(passes), 'pass', 'passes')} over DataLoader({loader.name}{size}{order})"


def _training(log: WatchLog) -> str:
    modes = [
        (training, awake) for event in log.events if hasattr(event, "models") for _, training, awake in event.models
    ]
    if not modes:
        return ""
    train = sum(training for training, _ in modes)
    if train in (0, len(modes)):
        return f"{'train' if train else 'eval'} mode in {_count(len(modes), 'training forward')}"
    return f"train mode in {train} of {_count(len(modes), 'training forward')}"


def _evaluation(log: WatchLog) -> str:
    numbers = {one.number for one in evaluations(log)}
    forwards: list[SeenForward] = [event for event in log.of(SeenForward) if event.pass_ in numbers]
    if not forwards:
        return "no evaluation"
    mode = (
        "train mode"
        if all(e.training for e in forwards)
        else "eval mode"
        if not any(e.training for e in forwards)
        else "either mode"
    )
    graph = " under no_grad" if not any(e.recorded for e in forwards) else ""
    return f"{_count(len(forwards), 'evaluation forward')} in {mode}{graph}"


def _losses(log: WatchLog) -> str:
    if not log.losses:
        return ""
    return f"loss {log.losses[0]:.3g} to {log.losses[-1]:.3g}"


def _count(number: int, name: str, plural: str = "") -> str:
    return f"{number} {name if number == 1 else plural or name + 's'}"
