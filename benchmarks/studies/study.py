"""A study: many comparisons of one kind, each a line of its file."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mnist_loop.compare.comparison import Comparison
from mnist_loop.compare.crew import Crew
from mnist_loop.compare.plan import Plan
from mnist_loop.compare.request import ComparisonRequest, new_request
from mnist_loop.statistics.pairing import generations, rounds

VARIABLE = "MNIST_LOOP_STUDY"  # nothing reads it: arms for which it differs have hosts of their own, as environments do
BATCH_SIZE = 64
RUNS = (1, 2)
ARM = 1


@dataclass(frozen=True)
class Study:
    """Comparisons of one kind.

    Attributes:
        slowdown: of the second arm: 0.03 for 3 %; 0 for identical code.
        comparisons: number of comparisons.
        budget_s: of each.
        margin: of each.
        threads: of each arm.
        loaded: whether there is a load in the background now and then.
        restart_every: comparisons after which new hosts are started.
        apart: whether the arms share no process, as two environments do not.
    """

    slowdown: float
    comparisons: int
    budget_s: float
    margin: float
    threads: int
    loaded: bool
    restart_every: int
    apart: bool = False

    @property
    def name(self) -> str:
        """The name of its file."""
        suffix = "_apart" * self.apart + "_loaded" * self.loaded
        kind = f"slowdown-{100 * self.slowdown:g}pc" if self.slowdown else "identical"
        return f"{kind}_{self.budget_s:g}s_margin-{100 * self.margin:g}pc_threads-{self.threads}{suffix}.jsonl"

    @property
    def arms(self) -> tuple[str, str]:
        """The two arms, as a person would name them."""
        first, second = (f".:{VARIABLE}={name if self.apart else 'both'}" for name in ("first", "second"))
        return first, f"{second},slowdown={self.slowdown}"

    def run(self, folder: Path, say: Callable[[str], object], first: int = 0) -> None:
        """Make the comparisons from number ``first`` on that are not in ``folder`` yet."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.name
        done = first + len(path.read_text().splitlines()) if path.exists() else first
        crew: Crew | None = None
        try:
            for number in range(done, self.comparisons):
                plan = Plan(threads=self.threads, margin=self.margin, budget_s=self.budget_s, seed=number, ruler=False)
                asked = new_request(self.arms, [], plan)
                if crew is None or number % self.restart_every == 0:
                    if crew is not None:
                        crew.close()
                    crew = Crew(asked.arms, plan, lambda _: None)
                    crew.start()
                line = self._one(crew, asked)
                with path.open("a") as file:
                    file.write(json.dumps({"number": number, **line}) + "\n")
                say(
                    f"{number + 1}/{self.comparisons}  {line['verdict']:<12}  {line['spent_s']:.1f} s  {line['reason']}"
                )
        finally:
            if crew is not None:
                crew.close()

    def _one(self, crew: Crew, asked: ComparisonRequest) -> dict[str, Any]:
        started, began = datetime.now(timezone.utc).isoformat(), time.perf_counter()
        crew.plan = asked.plan
        with tempfile.TemporaryDirectory() as folder:
            comparison = asked.begin(crew, None, Path(folder), lambda *_: None)
            why = comparison.run()
            comparison.journal.end(why, comparison.spent)
        (judged,) = comparison.judge()
        ratio = judged.ratio
        return {
            "study": asdict(self),
            "started": started,
            "ended": why,
            "spent_s": comparison.spent,
            "wall_s": time.perf_counter() - began,
            "verdict": judged.verdict.value,
            "reason": judged.reason,
            "ratio": None if ratio is None else asdict(ratio),
            "log_ratios": {run: _logs(comparison, ARM, run) for run in RUNS},
            "control": {run: _logs(comparison, ARM + 1, run) for run in RUNS},
        }


def _logs(comparison: Comparison, arm: int, run: int) -> list[list[float]]:
    found = generations(rounds(comparison.blocks, len(comparison.arms)), arm, BATCH_SIZE, run)
    return [[round(one, 5) for one in members] for members in found]
