"""``mnist-loop train``: the lesson, with progress, checkpoints and a target."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_loop.cli.signals import held_back
from mnist_loop.engines import NAMES
from mnist_loop.errors import CheckpointError, UserError
from mnist_loop.support.files import check_output
from mnist_loop.support.options import fraction, positive_float, positive_int, seed, thread_count, worker_count
from mnist_loop.support.progress import Progress

if TYPE_CHECKING:
    import torch

    from mnist_loop.training.checkpoint import Checkpoint
    from mnist_loop.training.run import TrainingRun

LESSON = {"batch_size": 64, "lr": 0.01, "seed": 0}
SHORTEST_S = 5.0  # of a training whose use of the machine is looked at: a shorter one is no burden
FINISHED, MISSED, FAILED, INTERRUPTED = 0, 1, 2, 130


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``train`` to the command line."""
    parser = commands.add_parser(
        "train",
        help="train the lesson's MLP on MNIST",
        description="Train the lesson's MLP (784-128-10, SGD) on MNIST. Without options it is the lesson.",
        epilog="Exit codes: 0 done, 1 target missed or loss not finite, 2 misuse or a full disk, 130 interrupted.",
    )
    add = parser.add_argument
    add("--epochs", type=positive_int, default=5, metavar="N", help="number of the last epoch (default 5)")
    # These have no default: a value that is not given comes from the checkpoint of --resume, else from the lesson.
    add("--batch-size", type=positive_int, metavar="N", help="images in a batch (default 64)")
    add("--lr", type=positive_float, metavar="X", help="learning rate of SGD (default 0.01)")
    add("--seed", type=seed, metavar="N", help="seed of the weights and of the shuffling (default 0)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default auto: the fastest that is there)")
    add("--engine", choices=NAMES, default="reference", help="how the loop is run (default: as the lesson writes it)")
    add(
        "--data",
        metavar="WHERE",
        help="folder that holds MNIST/raw; or mnist: no stand-in; or digits: the stand-in, 55 MB in ./data",
    )
    add("--workers", type=worker_count, default=0, metavar="N", help="processes that load data (default 0: this one)")
    add("--threads", type=thread_count, metavar="N", help="CPU threads (default: as many as this process may use)")
    add("--target-accuracy", type=fraction, metavar="X", help="exit 1 if the last test accuracy is below X, say 0.92")
    add("--save", type=Path, metavar="FILE", help="write a checkpoint to FILE, which must be new, after each epoch")
    add(
        "--resume",
        type=Path,
        metavar="FILE",
        help="go on from a checkpoint, and keep it up to date unless --save is given",
    )
    add("--json", action="store_true", help="print the result as JSON on stdout, and all else on stderr")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train with the options; return the exit code."""
    if _speaks(arguments):
        _check_save(arguments.save, arguments.resume)
    with Progress(to_stderr=arguments.json, silent=not _speaks(arguments)) as progress:
        progress.status("loading torch")  # only here, so that --help does not wait for it
        with held_back(lambda: progress.status("interrupted: ending as soon as torch is loaded")):
            import torch

            import mnist_loop.training.run  # noqa: F401  # loads torchvision
            from mnist_loop.support.device import resolve_device

        device = _own(resolve_device(arguments.device), arguments)
        threads = torch.get_num_threads()
        try:
            # Without the name of the device, fork_rng would initialise every CUDA device.
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                result = _train(arguments, device, progress)
        finally:
            torch.set_num_threads(threads)
    if arguments.json and sys.stdout is not None and _speaks(arguments):
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    exit_code: int = result["exit_code"]
    return exit_code


def _train(arguments: argparse.Namespace, device: torch.device, progress: Progress) -> dict[str, Any]:
    from mnist_loop.bench.machine.load import OthersLoad
    from mnist_loop.training.run import LossNotFinite

    training_run, prepare_s = _start(arguments, device, progress)
    before = len(training_run.history)
    started, others = time.perf_counter(), OthersLoad()
    exit_code, ended, reason, can_go_on = FINISHED, "finished", None, False
    try:
        training_run.train(arguments.epochs, progress)
    except KeyboardInterrupt:
        exit_code, ended, can_go_on = INTERRUPTED, "interrupted", True
    except LossNotFinite as error:
        exit_code, ended = MISSED, "stopped"
        reason = f"{error}; a lower --lr than {training_run.settings.lr} may help"
    except CheckpointError as error:
        exit_code, ended, reason, can_go_on = FAILED, "stopped", str(error), True
    seconds = time.perf_counter() - started

    done, last = len(training_run.history), training_run.history[-1] if training_run.history else None
    if reason is not None:
        progress.line(reason)
    reached = "" if last is None else f", test accuracy {last.test_accuracy:.4f}"
    if before == arguments.epochs:
        progress.line(f"nothing to do: {done} of {_epochs(arguments.epochs)} {_are(done)} done{reached}")
    else:
        if seconds > SHORTEST_S and (hint := others.hint(seconds, training_run.settings.threads)):
            progress.line(hint)
        on = training_run.settings.data
        progress.line(f"{ended}: {done} of {_epochs(arguments.epochs)} in {seconds:.1f} s on {on}{reached}")
    if training_run.saved is not None:
        hint = f"; go on from it with {_resume_options(arguments, training_run)}" if can_go_on else ""
        progress.line(f"checkpoint: {training_run.save_to}, after epoch {training_run.saved}{hint}")
    target = arguments.target_accuracy
    if exit_code == FINISHED and target is not None and last is not None:
        missed = last.test_accuracy < target
        exit_code = MISSED if missed else FINISHED
        verb = "misses" if missed else "reaches"
        progress.line(f"test accuracy {last.test_accuracy:.4f} {verb} the target {target}")
    return {
        "schema": 1,
        "exit_code": exit_code,
        "ended": ended,
        "reason": reason,
        "settings": asdict(training_run.settings),
        "epochs": arguments.epochs,
        "history": [asdict(epoch) for epoch in training_run.history],
        "prepare_seconds": prepare_s,
        "seconds": seconds,
        "target_accuracy": target,
        "checkpoint": None if training_run.saved is None else str(training_run.save_to),
    }


def _epochs(count: int) -> str:
    return f"{count} epoch{'' if count == 1 else 's'}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _start(arguments: argparse.Namespace, device: torch.device, progress: Progress) -> tuple[TrainingRun, float]:
    import torch

    from mnist_loop.bench.machine import available_cpus
    from mnist_loop.data import load_data
    from mnist_loop.training.run import TrainingRun, TrainingSettings

    checkpoint, save_to = _checkpoint(arguments)
    beside = _of_torchrun("LOCAL_WORLD_SIZE", 1) if arguments.engine == "distributed" else 1
    torch.set_num_threads(arguments.threads or max(1, available_cpus() // beside))
    progress.status("looking for the data")
    data = load_data(arguments.data)
    progress.line(data.note)
    chosen = {name: _choose(name, arguments, checkpoint) for name in LESSON}
    if chosen["batch_size"] > len(data.train):
        raise UserError(
            f"a batch size of {chosen['batch_size']} found, expected at most {len(data.train)}, the number of training "
            f"images of {data.name}: name a smaller --batch-size"
        )
    settings = TrainingSettings(
        **chosen,
        data=data.name,
        device=device.type,
        threads=torch.get_num_threads(),
        torch=str(torch.__version__),  # weights_only cannot read its own type
        engine=arguments.engine,
    )
    progress.line(f"device: {device} | CPU threads: {settings.threads} | torch: {settings.torch}")
    training_run = TrainingRun(settings, data, device, arguments.workers, save_to)
    if checkpoint is not None:
        training_run.resume(checkpoint)
        done = len(training_run.history)
        if done > arguments.epochs:
            raise CheckpointError(
                f"{arguments.resume}: {_epochs(done)} {_are(done)} done, expected --epochs {done} or more, "
                f"not {arguments.epochs}"
            )
        progress.line(f"resumed from {arguments.resume}, after epoch {done}")
        for name in ("device", "threads", "torch", "engine"):
            there, here = checkpoint.settings.get(name), getattr(settings, name)
            if there != here:
                progress.line(f"{name} was {there} and is {here}: the result may differ in its last bits")
    prepare_s = training_run.prepare(progress)
    training_run.save()  # fails now, not after an epoch, if the file cannot be written
    return training_run, prepare_s


def _checkpoint(arguments: argparse.Namespace) -> tuple[Checkpoint | None, Path | None]:
    """Return the checkpoint to continue from, and the file to save to."""
    from mnist_loop.training.checkpoint import Checkpoint
    from mnist_loop.training.run import check_settings

    save, resume = arguments.save, arguments.resume
    checkpoint = None
    if resume is not None:
        checkpoint = Checkpoint.load(resume)
        try:
            check_settings(checkpoint.settings)
        except CheckpointError as error:
            raise CheckpointError(f"{resume}: {error}") from None
    return checkpoint, (save or resume) if _speaks(arguments) else None


def _check_save(save: Path | None, resume: Path | None) -> None:
    """Refuse to overwrite a file, except the checkpoint of the run that is resumed."""
    if save is None or (resume is not None and save.resolve() == resume.resolve()):
        return
    check_output(save, instead=f"go on from it with --resume {save}, or save to a new file")
    if not save.parent.is_dir():
        raise CheckpointError(f"{save}: there is no folder {save.parent}; make it, or save elsewhere")


def _speaks(arguments: argparse.Namespace) -> bool:
    """Return whether this process prints and saves. Of several that train together, only the first one does."""
    return arguments.engine != "distributed" or os.environ.get("RANK", "0") == "0"


def _own(device: torch.device, arguments: argparse.Namespace) -> torch.device:
    """Return the GPU of this process, if several train together."""
    import torch

    if arguments.engine != "distributed" or device.type != "cuda" or device.index is not None:
        return device
    return torch.device("cuda", _of_torchrun("LOCAL_RANK", 0))


def _of_torchrun(name: str, default: int) -> int:
    """Return a number that torchrun sets in the environment."""
    text = os.environ.get(name, str(default))
    if not text.isdecimal() or int(text) < default:
        raise UserError(f"${name} is {text!r}, expected a whole number as torchrun sets it: unset it")
    return int(text)


def _choose(name: str, arguments: argparse.Namespace, checkpoint: Checkpoint | None) -> Any:
    given = getattr(arguments, name)
    if given is not None:
        return given
    return LESSON[name] if checkpoint is None else checkpoint.settings.get(name, LESSON[name])


def _resume_options(arguments: argparse.Namespace, training_run: TrainingRun) -> str:
    """Return the options that continue this run. All other settings are in the checkpoint."""
    options = ["--resume", str(training_run.save_to), "--epochs", str(arguments.epochs)]
    return shlex.join(options if arguments.data is None else [*options, "--data", arguments.data])
