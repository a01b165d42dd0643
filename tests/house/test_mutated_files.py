"""Whatever becomes of a file that is read, it is read, or refused in one sentence: never another error.

Each reader is given thousands of files that were good and were changed, by seeded chance: bytes and values that are
replaced, removed, repeated, cut off. All take 15 s, and a tenth of them are tried each time.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import io
import json
import random
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnist_loop.bench.forecast import stored_costs
from mnist_loop.cli import compare, main
from mnist_loop.compare.plan import Plan
from mnist_loop.compare.request import new_request
from mnist_loop.data import load_data
from mnist_loop.engines.reference import make_loaders
from mnist_loop.errors import UserError
from mnist_loop.report.reading import read_result
from mnist_loop.report.stored import Refused
from mnist_loop.training.checkpoint import Checkpoint
from mnist_loop.training.run import TrainingRun, TrainingSettings, check_settings
from mnist_loop.verdict.expected import read_expected
from mnist_loop.verdict.settings import read_settings
from mnist_loop.verification.binding.intentions import declared_for
from tests import small_mnist
from tests.compare.test_limits import FakeCrew
from tests.results_maker import comparison_lines, sweep_document

LONGEST = 1500  # characters of a sentence
ODD: tuple[Callable[[], Any], ...] = (
    *(lambda value=value: value for value in (None, True, 0, -1, 2**80, -(2**80), 1e308, -0.5, float("inf"))),
    *(lambda value=value: value for value in (float("nan"), "", "text", "\0", "x" * 100_000, "\ud800", "1")),
    *(list, dict, lambda: [[]], lambda: [None], lambda: {"": None}, lambda: [1] * 1000),
)


# -- changes -----------------------------------------------------------------------------------------------------------


def changed_values(value: Any, chance: random.Random) -> Any:
    """Replace, remove or repeat up to three values of what JSON can hold."""
    document = copy.deepcopy(value)
    for _ in range(chance.randint(1, 3)):
        here = document
        while isinstance(here, dict | list) and here:
            key = chance.choice(list(here) if isinstance(here, dict) else range(len(here)))
            if isinstance(here[key], dict | list) and chance.random() < 0.75:
                here = here[key]
                continue
            how = chance.choice(("replace", "replace", "remove", "repeat"))
            if how == "replace":
                here[key] = chance.choice(ODD)()
            elif how == "remove":
                del here[key]
            elif isinstance(here, list):
                here.insert(chance.randint(0, len(here)), copy.deepcopy(here[key]))
            break
    return document


def changed_bytes(content: bytes, chance: random.Random) -> bytes:
    """Flip, cut, insert, repeat or zero some bytes, up to three times."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        at = chance.randint(0, max(0, len(data) - 1))
        length = chance.choice((1, 1, 1, 4, 16, len(data)))
        how = chance.choice(("flip", "cut", "truncate", "insert", "repeat", "zero"))
        if how == "flip" and data:
            data[at] ^= 1 << chance.randint(0, 7)
        elif how == "cut":
            del data[at : at + length]
        elif how == "truncate":
            del data[at:]
        elif how == "insert":
            data[at:at] = chance.choice((b"\0", b"\xff\xfe", b'"', b"{", b"[" * 5000, b"\n", b",", chance.randbytes(8)))
        elif how == "repeat":
            data[at:at] = data[at : at + length]
        else:
            data[at : at + length] = bytes(min(length, max(0, len(data) - at)))
    return bytes(data)


# -- readers: what makes a changed file, and what reads it -------------------------------------------------------------


@functools.cache
def sweep() -> dict[str, Any]:
    return dict(sweep_document(batch_sizes=(64,)))


@functools.cache
def lines() -> list[dict[str, Any]]:
    """Return a comparison that can go on here."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl")
        asked = new_request([".", "."], [], Plan(data="digits"))
        asked.begin(FakeCrew(), path, path.parent, lambda *_: None).journal.close()  # type: ignore[arg-type]
        head = json.loads(path.read_text())
    _, *events = comparison_lines(rounds=1, generations=3)
    return [head, *events]


def json_file(value: Any, path: Path, chance: random.Random) -> None:
    if chance.random() < 0.3:
        path.write_bytes(changed_bytes(json.dumps(value).encode(), chance))
    else:
        path.write_text(json.dumps(changed_values(value, chance)))


def a_sweep(folder: Path, chance: random.Random) -> None:
    """A result of bench, for the report."""
    json_file(sweep(), folder / "a.json", chance)
    refused(read_result(folder / "a.json"))


def a_report(folder: Path, chance: random.Random) -> None:
    """A comparison or a sweep, reported in a format."""
    kind = chance.choice(("terminal", "markdown", "csv", "github", "bencher"))
    if chance.random() < 0.5:
        json_file(sweep(), folder / "a.json", chance)
        file = folder / "a.json"
    else:
        file = folder / "a.jsonl"
        a_log(file, chance)
    told = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(told):
        assert main(["report", str(file), "--format", kind]) in (0, 1, 2)
    assert "Traceback" not in told.getvalue()


def a_log(path: Path, chance: random.Random) -> None:
    how = chance.random()
    if how < 0.6:
        one = chance.randrange(len(lines())) if chance.random() < 0.6 else 0
        found = [changed_values(line, chance) if at == one else line for at, line in enumerate(lines())]
        path.write_text("".join(json.dumps(line) + "\n" for line in found))
    elif how < 0.8:
        path.write_text("".join(json.dumps(line) + "\n" for line in changed_values(lines(), chance)))
    else:
        path.write_bytes(changed_bytes("".join(json.dumps(line) + "\n" for line in lines()).encode(), chance))


def a_comparison(folder: Path, chance: random.Random) -> None:
    """A comparison that goes on."""
    path = folder / "a.jsonl"
    a_log(path, chance)
    request = compare._request(argparse.Namespace(go_on=path, budget=None, arms=[], set=[], output=None))
    try:
        request.begin(FakeCrew(), None, folder, lambda *_: None)  # type: ignore[arg-type]
    finally:
        request.close()


def a_forecast(folder: Path, chance: random.Random) -> None:
    """Results that tell bench how long it will take: whatever they are, they are passed over."""
    document = copy.deepcopy(sweep())
    document["mnist_loop"]["identity"]["hash"] = "here"
    torch_version = document["mnist_loop"]["software"]["torch"]
    json_file(document, folder / f"a_torch-{torch_version}_1.json", chance)
    stored_costs(folder, "here", torch_version)


@functools.cache
def checkpoint() -> tuple[bytes, dict[str, Any]]:
    with torch.random.fork_rng():
        run = training_run()
        content = io.BytesIO()
        made = Checkpoint.capture(run.model, run.optimizer, [], vars(run.settings))
        history = [{"epoch": 1, "train_loss": 0.5, "test_loss": 0.4, "test_accuracy": 0.9}]
        document = {"format": "mnist_loop checkpoint 1", **vars(made), "history": history}
        torch.save(document, content)
    return content.getvalue(), document


def training_run() -> TrainingRun:
    root = small_root()
    settings = TrainingSettings(64, 0.01, 0, "MNIST (modified)", "cpu", 1, str(torch.__version__))
    return TrainingRun(settings, load_data(root), torch.device("cpu"))


def a_checkpoint(folder: Path, chance: random.Random) -> None:
    """A checkpoint that a training goes on from."""
    content, document = checkpoint()
    path = folder / "a.pt"
    if chance.random() < 0.4:
        path.write_bytes(changed_bytes(content, chance))
    else:
        part = chance.choice(("settings", "settings", "history", "optimizer", "rng", "model", "all"))
        if part == "all":
            document = {**document, **changed_values(dict.fromkeys(document, 0), chance)}
        else:
            document = {**document, part: changed_values(document[part], chance)}
        with contextlib.suppress(UnicodeEncodeError):
            torch.save(document, path)
    read = Checkpoint.load(path)
    check_settings(read.settings)
    with torch.random.fork_rng():
        training_run().resume(read)


@functools.cache
def small_root() -> Path:
    return Path(str(ROOT))


def the_data(folder: Path, chance: random.Random) -> None:
    """Files in MNIST's place, and a batch of them."""
    files = small_mnist.contents()
    name = chance.choice(sorted(files))
    files[name] = changed_bytes(files[name][: 16 + 28 * 28] if chance.random() < 0.2 else files[name], chance)
    shutil.rmtree(folder / "MNIST", ignore_errors=True)
    small_mnist.write(folder / "MNIST" / "raw", files)
    data = load_data(folder, download=False)
    images, labels = next(iter(make_loaders(data, 4)[1]))
    assert np.isfinite(images.numpy()).all()
    assert labels.max() < 10


KNOWN = b"# what is known\nzero-grad-missing: it is the lesson\n\nloss-sum: since 2019 # see the issue\n"


def known_failures(folder: Path, chance: random.Random) -> None:
    """A file of expected failures."""
    (folder / "known.txt").write_bytes(changed_bytes(KNOWN, chance))
    read_expected(folder / "known.txt")


PROJECT = b"""[project]
name = "x"
[tool.mnist_loop]
ignore = ["zero-grad-missing"]
format = "json"
[tool.mnist_loop.declare]
clip = 1.0
accumulate = 4
keeps_best = true
frozen = ["hidden"]
input_shape = [3, 32, 32]
schedule = "per-epoch"
[tool.mnist_loop.expected-failures]
loss-sum = "it is the lesson"
"""
VALUES = (b"0", b"-1", b"1e400", b"nan", b"true", b'"x"', b"[]", b"{}", b"[[]]", b"1979-05-27", b'"\\u0000"', b"1" * 50)


def a_project(folder: Path, chance: random.Random) -> None:
    """The settings of a project."""
    content = PROJECT
    if chance.random() < 0.6:
        rows = content.split(b"\n")
        at = chance.choice([number for number, row in enumerate(rows) if b"=" in row])
        rows[at] = rows[at].split(b"=")[0] + b"= " + chance.choice(VALUES)
        content = b"\n".join(rows)
    else:
        content = changed_bytes(content, chance)
    (folder / "pyproject.toml").write_bytes(content)
    declared_for(read_settings(folder), [])


READERS: dict[str, tuple[Callable[[Path, random.Random], None], int]] = {
    "a result of bench": (a_sweep, 500),
    "a report": (a_report, 300),
    "a comparison to continue": (a_comparison, 700),
    "a forecast": (a_forecast, 200),
    "a checkpoint": (a_checkpoint, 400),
    "files of MNIST": (the_data, 500),
    "known failures": (known_failures, 400),
    "pyproject.toml": (a_project, 500),
}
ANSWERED = ("a report", "a forecast")  # whatever the file is
ROOT: Path


# -- the tests ---------------------------------------------------------------------------------------------------------


def refused(found: object) -> None:
    if isinstance(found, Refused):
        raise UserError(found.reason)


@pytest.fixture(scope="module", autouse=True)
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a small MNIST."""
    global ROOT
    ROOT = tmp_path_factory.mktemp("small")
    small_mnist.write(ROOT / "MNIST" / "raw", small_mnist.contents())
    yield ROOT
    for cached in (sweep, lines, checkpoint, small_root):
        cached.cache_clear()


def test_there_are_enough() -> None:
    """At least 3,000 files in all."""
    assert sum(count for _, count in READERS.values()) >= 3000


@pytest.mark.parametrize(
    "share", [pytest.param(1.0, marks=pytest.mark.slow, id="all"), pytest.param(0.1, id="a tenth")]
)
@pytest.mark.parametrize("name", READERS)
def test_it_is_read_or_refused_in_one_sentence(tmp_path: Path, name: str, share: float) -> None:
    """No other error, and no long or broken sentence; the seed of each that fails is told."""
    read, count = READERS[name]
    failed, refusals, tried = {}, 0, round(share * count)
    for seed in range(tried):
        try:
            read(tmp_path, random.Random(f"{name} {seed}"))  # noqa: S311  # chance, no secret
        except UserError as error:
            refusals += 1
            said = str(error)
            if "\n" in said or len(said) > LONGEST or not said:
                failed[f"a sentence: {said[:300]!r}"] = seed
        except Exception as error:  # noqa: BLE001  # that is what is looked for
            where = traceback.extract_tb(error.__traceback__)[-1]
            failed[f"{type(error).__name__} at {where.filename}:{where.lineno}: {str(error)[:200]}"] = seed
    assert failed == {}
    assert name in ANSWERED or 0 < refusals < tried, "the changes are too small, or too large"
