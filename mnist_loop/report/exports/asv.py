"""For airspeed velocity: a folder of results in its version 2, with the machines and the list of benchmarks.

asv follows times over the commits of a repository, and the smaller is the better: a benchmark is seconds for one batch.
Its paths are ``benchmarks.json``, ``MACHINE/machine.json`` and ``MACHINE/COMMIT-ENVIRONMENT.json``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mnist_loop.errors import UserError
from mnist_loop.report.exports.asv_times import Batches, benchmark_of, columns, word
from mnist_loop.report.exports.series import line, nothing, unique
from mnist_loop.report.model import Results, Sweep

RESULTS_VERSION, MACHINE_VERSION, BENCHMARKS_VERSION = 2, 1, 2  # of the formats: asv 0.6 refuses any other
COMMIT_DIGITS = 8  # of the commit in a file's name
FACT_LENGTH = 100  # of a fact about a machine: it becomes a part of a file's name, which may have 255 bytes
BENCHMARK_VERSION = "1"  # asv drops results of another one: to be raised when the same name means another thing
PARAMETER = "batch_size"
RESULT_FILE = re.compile(r"[^/]+/[0-9a-f]{8}-[^/]+\.json")
Document = dict[str, Any]


def export(results: Results) -> str:
    """Return the one file of results: sweeps of one machine, commit and environment.

    Raises:
        UserError: as `files`; or it takes several files.
    """
    documents = {path: text for path, text in files(results).items() if RESULT_FILE.fullmatch(path)}
    if len(documents) > 1:
        raise UserError(
            f"asv keeps a file for each machine, commit and environment, and these results are of {len(documents)}: "
            "name a folder for the export"
        )
    return next(iter(documents.values()))


def files(results: Results) -> dict[str, str]:
    """Return all files of the folder that asv calls ``results_dir``, path within it to text.

    Raises:
        UserError: there is no sweep, one has no commit, or two sweeps measured the same at the same commit.
    """
    groups: dict[str, list[Sweep]] = {}
    for sweep in results.sweeps:
        if sweep.measurements:
            groups.setdefault(_path(sweep), []).append(sweep)
    if not groups:
        raise nothing(results, "asv", "a sweep: asv keeps times, and a comparison holds ratios")
    documents: dict[str, Document] = {}
    batch_sizes: dict[str, set[int]] = {}
    for path, sweeps in groups.items():
        measured = _measured(sweeps)
        for name, batches in measured.items():
            batch_sizes.setdefault(name, set()).update(batches)
        machine = _machine(sweeps[0])
        documents[f"{machine['machine']}/machine.json"] = {**machine, "version": MACHINE_VERSION}
        documents[path] = _document(sweeps[0], measured)
    documents["benchmarks.json"] = _benchmarks(batch_sizes)
    return {path: json.dumps(document, indent=1) + "\n" for path, document in documents.items()}


def made(document: Any) -> bool:
    """Tell whether a decoded document is one of those that `files` made; asv's own are not."""
    if not isinstance(document, dict):
        return False
    params = document.get("params")
    if isinstance(params, dict):
        return document.get("durations") == {} == document.get("env_vars") and "gpu" in params
    if "machine" in document:
        return document.get("arch") == "" and "gpu" in document
    benchmarks = [value for name, value in document.items() if name != "version"]
    return bool(benchmarks) and all(
        isinstance(one, dict) and one.get("code") == "" and one.get("param_names") == [PARAMETER] for one in benchmarks
    )


def _measured(sweeps: list[Sweep]) -> dict[str, Batches]:
    """Return the measurements of each benchmark, with their files, by batch size."""
    named = unique(
        (f"{benchmark_of(of)}({of.workload.batch_size})", sweep.file, (sweep.file, of))
        for sweep in sweeps
        for of in sweep.measurements
    )
    benchmarks: dict[str, Batches] = {}
    for file, of in named.values():
        benchmarks.setdefault(benchmark_of(of), {})[of.workload.batch_size] = (file, of)
    return benchmarks


def _document(sweep: Sweep, measured: Mapping[str, Batches]) -> Document:
    requirements = _requirements(sweep)
    moment = _milliseconds(sweep)
    names, rows = columns(measured)
    # After the numbers, what asv keeps of a benchmark besides: its version, and when it was started.
    rows = {name: [*row, BENCHMARK_VERSION, moment] for name, row in rows.items()}
    return {
        "commit_hash": _commit(sweep)[0],
        "env_name": _environment(sweep),
        "date": moment,
        "params": {**_machine(sweep), "python": _python(sweep), **requirements},
        "python": _python(sweep),
        "requirements": requirements,
        "env_vars": {},
        "result_columns": [*names, "version", "started_at"],
        "results": rows,
        "durations": {},
        "version": RESULTS_VERSION,
    }


def _benchmarks(batch_sizes: Mapping[str, set[int]]) -> Document:
    entries: Document = {
        name: {
            "code": "",
            "name": name,
            "param_names": [PARAMETER],
            "params": [[str(size) for size in sorted(sizes)]],
            "pretty_name": name,
            "type": "time",
            "unit": "seconds",
            "version": BENCHMARK_VERSION,
        }
        for name, sizes in sorted(batch_sizes.items())
    }
    return {**entries, "version": BENCHMARKS_VERSION}


def _path(sweep: Sweep) -> str:
    return f"{_machine_name(sweep)}/{_commit(sweep)[0][:COMMIT_DIGITS]}-{_environment(sweep)}.json"


def _commit(sweep: Sweep) -> tuple[str, bool]:
    """Return the commit that a sweep belongs to, and whether it is torch's.

    That of the repository in which it was run, where the results tell it; else that of torch, whose history the
    versions of torch are then points of.
    """
    for commit, is_torch in ((sweep.facts.get("commit"), False), (sweep.software.get("torch_git"), True)):
        if commit is not None and re.fullmatch("[0-9a-f]{40}", commit):
            return commit, is_torch
    raise UserError(
        f"{sweep.file}: neither the commit that was measured nor that of torch is known, and asv files results by "
        "commit: run mnist-loop bench in a git repository"
    )


def _environment(sweep: Sweep) -> str:
    texts = [f"py{_python(sweep)}", *(f"{name}{version}" for name, version in _requirements(sweep).items())]
    return "-".join(word(text, ".+") for text in texts)


def _requirements(sweep: Sweep) -> dict[str, str]:
    # Where the commit is torch's own, its version would make a line of every point.
    return {} if _commit(sweep)[1] else {"torch": sweep.software.get("torch", "")}


def _python(sweep: Sweep) -> str:
    """Return the version without its last number, as asv has it."""
    return ".".join(sweep.software.get("python", "").split(".")[:2])


def _milliseconds(sweep: Sweep) -> int:
    """Return the time of the sweep as JavaScript counts it."""
    try:
        # Before 3.11, Python did not read the letter.
        return round(datetime.fromisoformat(re.sub("Z$", "+00:00", sweep.when)).timestamp() * 1000)
    except (ValueError, OverflowError, OSError) as error:
        raise UserError(f"{sweep.file}: {sweep.when!r} is not a time, expected one as in ISO 8601") from error


def _machine(sweep: Sweep) -> dict[str, str]:
    machine = sweep.machine
    facts = {
        "os": machine.system or "",
        "arch": "",
        "cpu": machine.cpu or "",
        "num_cpu": "" if machine.logical_cores is None else str(machine.logical_cores),
        "ram": "" if machine.memory_gib is None else f"{machine.memory_gib} GiB",
        "gpu": ", ".join(machine.gpus),
    }
    return {"machine": _machine_name(sweep)} | {name: line(fact, FACT_LENGTH) for name, fact in facts.items()}


def _machine_name(sweep: Sweep) -> str:
    return word(sweep.machine.name)
