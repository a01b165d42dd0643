"""What a comparison may be asked for is what a report reads: whatever is beyond it is refused before any work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mnist_loop.cli import compare, main
from mnist_loop.compare.plan import Plan
from mnist_loop.compare.request import new_request
from mnist_loop.errors import UserError
from mnist_loop.report.reading import read_result
from mnist_loop.report.stored import ComparisonResult
from mnist_loop.support.limits import LONGEST_BUDGET_S, MOST_ARMS, MOST_BATCH_SIZES, MOST_RESTARTS
from tests.results_maker import CPU, comparison_lines, write_lines

WITHIN = {
    "few": (2, Plan()),
    "margin": (2, Plan(margin=0.999)),
    "small margin": (2, Plan(margin=1e-9)),
    "arms": (MOST_ARMS - 1, Plan()),
    "batch sizes": (2, Plan(batch_sizes=tuple(range(1, MOST_BATCH_SIZES + 1)))),
    "budget": (2, Plan(budget_s=LONGEST_BUDGET_S)),
    "short budget": (2, Plan(budget_s=0.001)),
}
BEYOND = {
    "margin": (2, Plan(margin=1.0), "a margin of 100% found"),
    "large margin": (2, Plan(margin=1.5), "a margin of 150% found"),
    "no margin": (2, Plan(margin=0.0), "a margin of 0% found"),
    "arms": (MOST_ARMS, Plan(), "20 arms found, expected at most 19"),
    "batch sizes": (2, Plan(batch_sizes=tuple(range(1, 41))), "40 batch sizes found, expected at most 32"),
    "budget": (2, Plan(budget_s=3601.0), "a budget of 3601 s found"),
    "endless budget": (2, Plan(budget_s=1e30), r"a budget of 1e\+30 s found"),
    "no budget": (2, Plan(budget_s=1e-20), "a budget of 1e-20 s found"),
}


class FakeCrew:
    """What a session asks of a crew before anything is measured."""

    data_name = "Digits"

    def facts(self, _arm: object) -> dict[str, Any]:
        return {"machine": {"name": CPU.name, "hash": CPU.hash}, "state": {}, "software": {"torch": "2.15.0"}}

    def settings(self, _arm: object, _batch_size: int) -> dict[str, Any]:
        return {"threads": 1}


def begun(arms: int, plan: Plan, path: Path) -> Path:
    """Return the file of a comparison that has begun, with its head alone."""
    asked = new_request(["."] * arms, [], replace(plan, ruler=False))
    asked.begin(FakeCrew(), path, path.parent, lambda *_: None).journal.close()  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(("arms", "plan"), WITHIN.values(), ids=WITHIN)
def test_what_may_be_asked_for_can_be_read(tmp_path: Path, arms: int, plan: Plan) -> None:
    """At each limit, the file that a comparison begins with is one that a report reads."""
    assert isinstance(read_result(begun(arms, plan, tmp_path / "run.jsonl")), ComparisonResult)


@pytest.mark.parametrize(("arms", "plan", "message"), BEYOND.values(), ids=BEYOND)
def test_what_cannot_be_read_cannot_be_asked_for(tmp_path: Path, arms: int, plan: Plan, message: str) -> None:
    """Beyond each limit: one sentence, and no file."""
    with pytest.raises(UserError, match=message):
        begun(arms, plan, tmp_path / "run.jsonl")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [["--margin", "150%"], ["--budget", "2h"], ["--batch-sizes", ",".join(map(str, range(1, 41)))], ["."] * 20],
    ids=["margin", "budget", "batch sizes", "arms"],
)
def test_it_is_refused_before_any_process_is_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    """Exit code 2 and one sentence, under --fail-on as without."""
    monkeypatch.setattr("mnist_loop.compare.crew.Crew.__init__", lambda *_: pytest.fail("a crew was made"))
    assert main(["compare", ".", ".", *options, "--fail-on", "slower"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("sizes", [1, MOST_BATCH_SIZES])
def test_generations_are_so_long_that_restarts_are_not_too_many(sizes: int, apart: bool) -> None:
    """Half of the restarts that a file can hold are planned at most: trainings are not divided, and a run goes on."""
    for budget_s in (1.0, 60.0, 600.0, LONGEST_BUDGET_S):
        plan = Plan(budget_s=budget_s, batch_sizes=tuple(range(1, sizes + 1)))
        assert budget_s / plan.generation_s(apart) <= MOST_RESTARTS / 2 + 1e-6


def test_a_file_that_cannot_be_read_back_is_an_error(tmp_path: Path) -> None:
    """Never exit code 0, whatever is asked of --fail-on."""
    lines = comparison_lines(rounds=1, generations=2)
    lines[0]["plan"]["margin"] = 1.5
    file = write_lines(tmp_path / "run.jsonl", lines)
    with pytest.raises(
        UserError, match=r"run\.jsonl: was stored, but cannot be read back \(line 1\.plan\.margin is 1\.5"
    ):
        compare._conclude(file, "certain", [])


def test_a_cell_without_a_verdict_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each arm at each batch size has a verdict, or the exit code is 1 and says which has none."""
    lines = comparison_lines(rounds=1, generations=2, batch_sizes=(16, 64), labels=("one", "two", "three"))
    whole = write_lines(tmp_path / "whole.jsonl", lines)
    assert compare._conclude(whole, "certain", []) == 0
    half = [line for line in lines if (line.get("event"), line.get("batch_size")) != ("block", 64)]
    for name, left in (("half", half), ("none", [line for line in half if line.get("event") != "block"])):
        capsys.readouterr()
        assert compare._conclude(write_lines(tmp_path / f"{name}.jsonl", left), "budget", []) == 1
        out = capsys.readouterr().out
        assert "three at batch size 64: measure longer with mnist-loop compare --continue" in out
        assert ("no verdict on two at batch size 16" in out) == (name == "none")


def test_time_left_is_told_beyond_an_hour() -> None:
    """In minutes, however many."""
    said: list[str] = []
    progress = SimpleNamespace(status=said.append)
    compare._show(progress, Plan(budget_s=3600.0), 0.0, [])  # type: ignore[arg-type]
    assert said == ["measuring: at most 60:00 left"]


@pytest.mark.parametrize(
    ("plan", "apart", "short"),
    [
        (Plan(), False, False),
        (Plan(), True, False),
        (Plan(batch_sizes=(16, 64, 256, 1024, 4096)), False, False),
        (Plan(budget_s=1.0), False, True),
        (Plan(budget_s=3.0), False, False),
        (Plan(budget_s=3.0), True, True),
        (Plan(budget_s=5.0, batch_sizes=(16, 64, 256)), False, True),
    ],
)
def test_a_budget_that_is_too_small_is_told(plan: Plan, apart: bool, short: bool) -> None:
    """With the restarts that it has room for, and those that a verdict takes; usual ones are not."""
    said = plan.too_short(apart)
    assert bool(said) == short
    if short:
        assert f"a budget of {plan.budget_s:.3g}" in said
        assert f"expected {10 * len(plan.batch_sizes)}" in said
