"""``mnist-loop train``: the lesson, with progress, checkpoints and a target."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_loop.cli.options import natural, positive_float, positive_int, share
from mnist_loop.errors import CheckpointError
from mnist_loop.progress import Progress

if TYPE_CHECKING:
    from mnist_loop.checkpoint import Checkpoint
    from mnist_loop.session import Session

LESSON = {"batch_size": 64, "lr": 0.01, "seed": 0}
FINISHED, MISSED, FAILED, INTERRUPTED = 0, 1, 2, 130


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``train`` to the command line."""
    parser = commands.add_parser(
        "train",
        help="train the lesson's MLP on MNIST",
        description="Train the lesson's MLP (784-128-10, SGD) on MNIST. Without options it is the lesson.",
        epilog="Exit codes: 0 done, 1 target missed or loss not finite, 2 misuse or a full disk, 130 Ctrl-C.",
    )
    add = parser.add_argument
    add("--epochs", type=positive_int, default=5, metavar="N", help="number of the last epoch (default 5)")
    # Without a default: what is not given comes from the checkpoint that --resume names, else from the lesson.
    add("--batch-size", type=positive_int, metavar="N", help="images in a batch (default 64)")
    add("--lr", type=positive_float, metavar="X", help="learning rate of SGD (default 0.01)")
    add("--seed", type=natural, metavar="N", help="seed of the weights and of the shuffling (default 0)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default auto: the fastest that is there)")
    add("--data", metavar="WHERE", help="folder that holds MNIST/raw; or mnist: no stand-in; or digits: the stand-in")
    add("--workers", type=natural, default=0, metavar="N", help="processes that load data (default 0: this one)")
    add("--threads", type=positive_int, metavar="N", help="CPU threads (default: as many as this process may use)")
    add("--target-accuracy", type=share, metavar="X", help="exit 1 if the last test accuracy is below X, say 0.92")
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
    """Train as the options say; return the exit code."""
    with Progress(to_stderr=arguments.json) as progress:
        progress.status("loading torch")  # only now: --help and a mistyped option need not wait for it
        import torch

        threads = torch.get_num_threads()
        try:
            with torch.random.fork_rng():
                result = _train(arguments, progress)
        finally:
            torch.set_num_threads(threads)
    if arguments.json:
        print(json.dumps(result, indent=2))  # noqa: T201  # what --json is for
    exit_code: int = result["exit_code"]
    return exit_code


def _train(arguments: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    from mnist_loop.session import LossNotFinite

    session = _start(arguments, progress)
    started = time.perf_counter()
    exit_code, ended = FINISHED, "finished"
    try:
        session.train(arguments.epochs, progress)
    except KeyboardInterrupt:
        exit_code, ended = INTERRUPTED, "interrupted"
    except LossNotFinite as error:
        exit_code, ended = MISSED, f"stopped: {error}; a lower --lr than {session.settings.lr} may help"
    except CheckpointError as error:
        exit_code, ended = FAILED, f"stopped: {error}"
    seconds = time.perf_counter() - started

    done, last = len(session.history), session.history[-1] if session.history else None
    reached = "" if last is None else f", test accuracy {last.test_accuracy:.4f}"
    progress.line(
        f"{ended}: {done} of {arguments.epochs} epochs in {seconds:.1f} s on {session.settings.data}{reached}"
    )
    if session.save_to is not None and session.save_to.exists():
        progress.line(f"checkpoint: {session.save_to}; go on from it with --resume {session.save_to}")
    target = arguments.target_accuracy
    if exit_code == FINISHED and target is not None and last is not None:
        missed = last.test_accuracy < target
        exit_code = MISSED if missed else FINISHED
        progress.line(f"test accuracy {last.test_accuracy:.4f} {'misses' if missed else 'reaches'} the target {target}")
    return {
        "schema": 1,
        "exit_code": exit_code,
        "ended": ended,
        "settings": asdict(session.settings),
        "epochs": arguments.epochs,
        "history": [asdict(epoch) for epoch in session.history],
        "seconds": seconds,
        "target_accuracy": target,
        "checkpoint": str(session.save_to) if session.save_to else None,
    }


def _start(arguments: argparse.Namespace, progress: Progress) -> Session:
    import torch

    from mnist_loop.data import load_data
    from mnist_loop.device import resolve_device
    from mnist_loop.measure.machine import available_cpus
    from mnist_loop.session import Session, Settings

    device = resolve_device(arguments.device)
    checkpoint, save_to = _checkpoint(arguments)
    torch.set_num_threads(arguments.threads or available_cpus())
    progress.status("looking for the data")
    data = load_data(arguments.data)
    progress.line(data.note)
    settings = Settings(
        **{name: _choose(name, arguments, checkpoint) for name in LESSON},
        data=data.name,
        device=device.type,
        threads=torch.get_num_threads(),
        torch=str(torch.__version__),  # its own type is not one that weights_only reads
    )
    progress.line(f"device: {device}, {settings.threads} CPU threads, torch {settings.torch}")
    session = Session(settings, data, device, arguments.workers, save_to)
    if checkpoint is not None:
        session.resume(checkpoint)
        progress.line(f"resumed from {arguments.resume}, after epoch {len(session.history)}")
        for name in ("device", "threads", "torch"):
            there, here = checkpoint.settings[name], getattr(settings, name)
            if there != here:
                progress.line(f"{name} was {there} and is {here}: the result may differ in its last bits")
    return session


def _checkpoint(arguments: argparse.Namespace) -> tuple[Checkpoint | None, Path | None]:
    """Return the checkpoint to go on from, and the file to save to."""
    from mnist_loop.checkpoint import Checkpoint

    save_to = arguments.save or arguments.resume
    if arguments.save is not None and arguments.save != arguments.resume and arguments.save.exists():
        raise CheckpointError(
            f"{arguments.save}: is there already, and would be lost; go on from it with --resume {arguments.save}, "
            "or save to a new file"
        )
    return (None if arguments.resume is None else Checkpoint.load(arguments.resume)), save_to


def _choose(name: str, arguments: argparse.Namespace, checkpoint: Checkpoint | None) -> Any:
    given = getattr(arguments, name)
    if given is not None:
        return given
    return LESSON[name] if checkpoint is None else checkpoint.settings[name]
