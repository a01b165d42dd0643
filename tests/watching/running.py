"""Runs a training script in this process, watched or not, and says all that can be compared of the two runs."""

from __future__ import annotations

import contextlib
import hashlib
import io
import linecache
import random
import re
import sys
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnist_loop.verdict.verdict import Verdict
from mnist_loop.watching.hooks import installed
from mnist_loop.watching.notebook import notebook
from mnist_loop.watching.program import Program, script
from mnist_loop.watching.summary import verdict_on
from mnist_loop.watching.watcher import Watcher
from tests import global_state

STYLES = Path(__file__).parent / "styles"
FINDS = re.compile(r"^# finds ([a-z-]+): ", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """One run of a script.

    Attributes:
        printed: what it printed, on stdout and stderr together.
        warned: its warnings: category, message, file, line.
        state: a digest of everything that it left in its names, and of the generators of random numbers.
        raised: the exception that ended it, in words.
        watcher, verdict: what watched it, if anything did, and what it says.
    """

    printed: str
    warned: list[tuple[str, str, str, int]]
    state: dict[str, str]
    raised: str
    watcher: Watcher | None = None
    verdict: Verdict | None = None


def names() -> list[str]:
    """The styles that run in this process, by name."""
    return sorted(file.name for file in STYLES.iterdir() if file.suffix in (".py", ".ipynb"))


def source_of(name: str) -> str:
    """The source of a style."""
    return (STYLES / name).read_text()


def right_findings(name: str) -> set[str]:
    """The ids of the findings that a style is right to be told of: the comments at its head name them."""
    return set(FINDS.findall(source_of(name)))


def run(name: str, source: str | None = None, *, watched: bool) -> Run:
    """Run a style, or another source in its place."""
    file = STYLES / name
    if name.endswith(".ipynb"):
        program = notebook(str(file), [])
    elif source is None:
        program = script(str(file), [])
    else:
        program = _replaced(file, source)
    watcher = Watcher() if watched else None
    with _fresh(program) as (namespace, printed, warned):
        raised = ""
        with installed(watcher) if watched else contextlib.nullcontext():
            try:
                program.run(namespace)
            except BaseException as error:  # noqa: BLE001  # it is compared
                raised = f"{type(error).__name__}: {error}"
            if watcher is not None:
                watcher.log.complete = not raised
        state = {name: digest(value) for name, value in namespace.items() if _counts(name, value)}
        state |= {"random": digest(random.getstate()), "numpy": digest(np.random.get_state(legacy=True))}
        state["torch"] = digest(torch.get_rng_state())
        verdict = None if watcher is None else verdict_on(watcher, name)
        return Run(printed.getvalue(), [_told(one) for one in warned], state, raised, watcher, verdict)


@cache
def watched_run(name: str) -> Run:
    """A style, run once a session under watch."""
    return run(name, watched=True)


def _replaced(file: Path, source: str) -> Program:
    full = str(file)
    linecache.cache[full] = (len(source), None, source.splitlines(keepends=True), full)
    code = compile(source, full, "exec", dont_inherit=True)
    return Program(file.name, lambda namespace: exec(code, namespace), "", (file.name,), {"__file__": full})  # noqa: S102


@contextlib.contextmanager
def _fresh(program: Program) -> Iterator[tuple[dict[str, Any], io.StringIO, list[warnings.WarningMessage]]]:
    """Provide what a process of its own would: a ``__main__``, generators of random numbers, streams."""
    before, main_before, argv = global_state.snapshot(), sys.modules["__main__"], sys.argv
    main = types.ModuleType("__main__")
    main.__dict__.update(program.main)
    printed = io.StringIO()
    always = torch.is_warn_always_enabled()
    try:
        sys.modules["__main__"], sys.argv = main, list(program.argv)
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        torch.set_warn_always(True)
        _forget_what_is_compiled()
        with (
            warnings.catch_warnings(record=True) as warned,
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            warnings.simplefilter("always")
            yield main.__dict__, printed, warned
    finally:
        torch.set_warn_always(always)
        sys.modules["__main__"], sys.argv = main_before, argv
        linecache.cache.pop(str(program.main["__file__"]), None)
        global_state.restore(before)


def _forget_what_is_compiled() -> None:
    torch.jit._state._jit_caching_layer.clear()
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()


def _told(warned: warnings.WarningMessage) -> tuple[str, str, str, int]:
    return warned.category.__name__, str(warned.message), warned.filename, warned.lineno


# -- what a script leaves ----------------------------------------------------------------------------------------------


def _counts(name: str, value: Any) -> bool:
    return not name.startswith("__") and not isinstance(value, types.ModuleType | types.FunctionType | type)


def digest(value: Any) -> str:
    """Return a digest of a value: of all tensors, numbers and texts that can be reached from it."""
    hashed = hashlib.sha256()
    for part in _parts(value, {}):
        hashed.update(part)
    return hashed.hexdigest()


def _parts(value: Any, seen: dict[int, Any]) -> Iterator[bytes]:
    if isinstance(value, torch.Tensor):
        yield from _tensor(value)
    elif isinstance(value, np.ndarray):
        yield value.tobytes()
    elif value is None or isinstance(value, bool | int | float | complex | str | bytes):
        yield repr(value).encode()
    elif id(value) not in seen:
        seen[id(value)] = value  # which keeps its id from being used again
        if isinstance(value, dict):
            for key, one in value.items():
                yield from _parts(key if isinstance(key, str | int | float) else None, seen)
                yield from _parts(one, seen)
        elif isinstance(value, list | tuple | set | frozenset):
            for one in value:
                yield from _parts(one, seen)
        elif isinstance(value, torch.nn.Module):
            yield from _parts(dict(value.named_parameters()) | dict(value.named_buffers()), seen)
            yield from _parts([module.training for module in value.modules()], seen)
        elif type(value).__module__ == "__main__" or isinstance(value, torch.optim.Optimizer):
            own = {key: one for key, one in vars(value).items() if "hook" not in key}
            yield from _parts(own, seen)


def _tensor(value: torch.Tensor) -> Iterator[bytes]:
    yield f"{value.dtype} {tuple(value.shape)} {value.requires_grad}".encode()
    own = value.detach()
    own = own.to_dense() if own.layout != torch.strided else own
    yield own.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if own.numel() else b""
    if value.is_leaf and value.grad is not None:
        yield from _tensor(value.grad)
