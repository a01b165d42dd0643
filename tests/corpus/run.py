"""One script of the corpus, run with and without ``mnist-loop check``."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.corpus.manifest import Script
from tests.corpus.stand_in import make

STEPS = 50
ENVIRONMENT = Path(__file__).with_name("environment")
PROGRAM = Path(sys.executable).with_name("mnist-loop")
NUMBER = re.compile(r" *\d[\d.:e+-]*")
STEPPED = re.compile(r"(\d+) steps?\b")
KEPT = 4000  # characters of what a script printed


@dataclass
class Found:
    """A finding of `check`: its id, severity, text and the author's line."""

    bug: str
    severity: str
    text: str = ""
    place: str = ""


@dataclass
class Outcome:
    """What came of one script.

    Attributes:
        name: of the script.
        found: the findings.
        watched: the sentence that says what was watched; "" if there was no verdict.
        decided: number of bugs that were decided; 0 without a verdict.
        steps: number of optimizer steps that were watched.
        overhead: time of the same steps, watched by unwatched; None if they cannot be compared.
        same: after the same steps, parameters and random numbers are bitwise the same; None if nothing was stepped, or
            if two unwatched runs differ too.
        printed_same: both runs printed the same lines, numbers aside: they may be times.
        difference: the first line that differs.
        error: the end of what the watched run wrote, if there was no verdict.
        codes: the exit codes, watched and unwatched.
        seconds: that the two runs took.
    """

    name: str
    found: list[Found] = field(default_factory=list)
    watched: str = ""
    decided: int = 0
    steps: int = 0
    overhead: float | None = None
    same: bool | None = None
    printed_same: bool = True
    difference: str = ""
    error: str = ""
    codes: tuple[int | None, int | None] = (None, None)
    seconds: tuple[float, float] = (0.0, 0.0)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Outcome:
        """Return what `to_json` has stored."""
        found = [Found(**one) for one in stored.pop("found")]
        return cls(found=found, **stored)


@dataclass
class _Run:
    code: int | None  # None where the time was over
    out: str
    err: str
    seconds: float
    counted: dict[str, Any]


def try_script(script: Script, checkouts: Path, limit_s: float, *, pairs: bool = True) -> Outcome:
    """Make the stand-in data, run the script with and, for ``pairs``, without `check`, and compare."""
    folder = script.run_in(checkouts)
    for place, maker in script.data.items():
        make(maker, folder / place)
    file = os.path.relpath(script.file(checkouts), folder)
    with tempfile.TemporaryDirectory() as scratch:
        verdict = Path(scratch) / "verdict.json"
        command = [str(PROGRAM), "check", "--stop-after", str(STEPS), "-o", str(verdict), file]
        watched = _run(script, folder, command, limit_s, stop=False)
        document = json.loads(verdict.read_text()) if verdict.is_file() else None
    pairs = pairs and not file.endswith(".ipynb")  # which Python does not run by itself
    plain = _run(script, folder, [sys.executable, file], limit_s, stop=True) if pairs else _Run(None, "", "", 0.0, {})
    outcome = Outcome(script.name, codes=(watched.code, plain.code), seconds=(watched.seconds, plain.seconds))
    if document is not None:
        read(document, outcome, folder)
    if not outcome.decided:
        outcome.error = watched.err[-KEPT:]
    if pairs:
        _compare(watched, plain, outcome)
    if outcome.same is False and not _same(plain, _run(script, folder, [sys.executable, file], limit_s, stop=True)):
        outcome.same = None
    return outcome


def _run(script: Script, folder: Path, command: list[str], limit_s: float, *, stop: bool) -> _Run:
    with tempfile.TemporaryDirectory() as scratch:
        return _run_in(script, folder, command, limit_s, Path(scratch) / "report.json", stop=stop)


def _run_in(script: Script, folder: Path, command: list[str], limit_s: float, report: Path, *, stop: bool) -> _Run:
    nowhere = "http://127.0.0.1:9"
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "0",
        "MPLBACKEND": "Agg",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "http_proxy": nowhere,
        "https_proxy": nowhere,
        "COLUMNS": "1000",  # one line a paragraph
        "HF_HUB_OFFLINE": "1",
        "WANDB_MODE": "disabled",
        "CORPUS_REPORT": str(report),
        "CORPUS_STOP": "1" if stop else "",
        **script.environment,
    }
    environment["PYTHONPATH"] = os.pathsep.join([str(ENVIRONMENT), script.environment.get("PYTHONPATH", "")]).strip(":")
    began = time.perf_counter()
    terminal, ours = _terminal()
    process = subprocess.Popen(
        [*command, *script.arguments],
        cwd=folder,
        env=environment,
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=limit_s)
        code: int | None = process.returncode
    except subprocess.TimeoutExpired:
        process.terminate()  # check tells its verdict then
        try:
            out, err = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
        code = None
    for one in (terminal, ours):
        os.close(one)
    seconds = time.perf_counter() - began
    counted = json.loads(report.read_text()) if report.is_file() else {}
    return _Run(code, out, err, seconds, counted)


def _terminal() -> tuple[int, int]:
    """Return a terminal of 24 lines for the script's input, of which some ask its size, and our end of it."""
    ours, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    return terminal, ours


def read(document: dict[str, Any], outcome: Outcome, folder: Path) -> None:
    """Read the verdict that `check` has written."""
    outcome.watched = document["watched"]
    outcome.decided = sum(law["status"] != "not-run" for law in document["laws"])
    outcome.steps = sum(int(number) for number in STEPPED.findall(outcome.watched.split("closely")[0]))
    for one in document["diagnoses"]:
        found = Found(one["id"], one["severity"], one["text"])
        if (place := one["location"]) is not None:
            found.place = f"{os.path.relpath(place['file'], folder)}:{place['line']}: {place['text'].strip()}"
        outcome.found.append(found)


def _compare(watched: _Run, plain: _Run, outcome: Outcome) -> None:
    both = _both(watched, plain)
    if both:
        outcome.same = _same(watched, plain)
        last = both[-1]
        if int(last) > 1:
            outcome.overhead = _lasted(watched, last) / max(_lasted(plain, last), 1e-9)
    if None in outcome.codes:  # the time was over, at another line in each
        return
    ours, theirs = (NUMBER.sub("#", run.out).splitlines() for run in (watched, plain))
    for one, other in zip(ours, theirs, strict=False):
        if one != other:
            outcome.printed_same, outcome.difference = False, f"{one[:200]!r} / {other[:200]!r}"
            return
    if len(ours) != len(theirs):
        outcome.printed_same = False
        outcome.difference = f"{len(ours)} lines / {len(theirs)} lines"


def _both(run: _Run, other: _Run) -> list[str]:
    """Return the steps after which both runs have a digest."""
    return [step for step in run.counted.get("digests", {}) if step in other.counted.get("digests", {})]


def _same(run: _Run, other: _Run) -> bool:
    return all(run.counted["digests"][step] == other.counted["digests"][step] for step in _both(run, other))


def _lasted(run: _Run, last: str) -> float:
    return float(run.counted["times"][last]) - float(run.counted["times"]["1"])
