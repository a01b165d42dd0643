"""A study at work: one comparison after the other, each a line of its file."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mnist_loop.measure.paired import session
from mnist_loop.measure.paired.comparison import Comparison
from mnist_loop.measure.paired.crew import Crew
from mnist_loop.measure.paired.plan import Plan
from mnist_loop.statistics.pairing import generations, rounds

# Two variables that nothing reads, so that the arms have hosts of their own, as two environments have.
APART = ".:MNIST_LOOP_STUDY=a", ".:MNIST_LOOP_STUDY=b"
BATCH_SIZE = 64
RUNS = (1, 2)
ARM = 1


@dataclass(frozen=True)
class Study:
    """Comparisons of one kind.

    Attributes:
        slowdown: of the second arm: 0.03 for 3 %; 0 for identical code in a process of its own.
        comparisons: how many, in all.
        budget_s: of each.
        margin: of each.
        threads: of each arm.
        loaded: whether a load in the background comes and goes.
        restart_every: comparisons after which new hosts are started.
    """

    slowdown: float
    comparisons: int
    budget_s: float
    margin: float
    threads: int
    loaded: bool
    restart_every: int

    @property
    def name(self) -> str:
        """The name of its file."""
        load = "_loaded" if self.loaded else ""
        kind = f"slowdown-{100 * self.slowdown:g}pc" if self.slowdown else "identical"
        return f"{kind}_{self.budget_s:g}s_margin-{100 * self.margin:g}pc_threads-{self.threads}{load}.jsonl"

    @property
    def arms(self) -> tuple[str, str]:
        """The two arms, as a person would name them."""
        return (".", f".:slowdown={self.slowdown}") if self.slowdown else APART

    def run(self, folder: Path, say: Callable[[str], object]) -> None:
        """Make the comparisons that are not in ``folder`` yet."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.name
        done = len(path.read_text().splitlines()) if path.exists() else 0
        crew: Crew | None = None
        try:
            for number in range(done, self.comparisons):
                plan = Plan(threads=self.threads, margin=self.margin, budget_s=self.budget_s, seed=number, ruler=False)
                asked = session.new(self.arms, [], plan)
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

    def _one(self, crew: Crew, asked: session.Session) -> dict[str, Any]:
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
