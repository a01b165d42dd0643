"""What verify finds in real frameworks: ``python -m tests.scoreboard`` writes docs/frameworks.md (minutes).

Run it in an environment with the optional dependencies ``frameworks``. Then run ``python -m tests.scoreboard composer``
in one with ``composer``, which needs an old torch. Rows of frameworks that are not installed are kept.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from mnist_loop.bugs import BUGS
from mnist_loop.verdict.verdict import Verdict
from mnist_loop.verification.laws.judge import LAWS
from mnist_loop.verification.options import Options
from tests.loops.correct import CORRECT, Correct
from tests.verdicts import TIMEOUT_S, quietly

PAGE = Path(__file__).parents[1] / "docs" / "frameworks.md"
CASES = 30
LOOPS = [loop for loop in CORRECT if loop.name.startswith("frameworks.")]

# By the module of the adapter: what people call the framework, and the package that has its version.
FRAMEWORKS = {
    "accelerate": ("Accelerate", "accelerate"),
    "compiled": ("torch.compile", "torch"),
    "composer": ("Composer", "mosaicml"),
    "fabric": ("Lightning Fabric", "lightning"),
    "fastai": ("fastai", "fastai"),
    "ignite": ("Ignite", "pytorch-ignite"),
    "keras": ("Keras on torch", "keras"),
    "lightning": ("Lightning Trainer", "lightning"),
    "skorch": ("skorch", "skorch"),
    "torchtune": ("torchtune style: optimizer in backward", "torch"),
    "transformers": ("Hugging Face Trainer", "transformers"),
}

INTRODUCTION = """\
# Frameworks

What `verify` finds in the training loops of real frameworks, on the CPU. Thin adapters in
[`tests/loops/correct/frameworks`](../tests/loops/correct/frameworks) call them.

- **held / not run**: the number of laws that hold, and of laws that do not apply, for example because the loop
  evaluates nothing or declares no clipping. All other laws are findings.
- **findings**: laws that do not hold, with their severity. A bug makes the result wrong; a cost wastes time or memory;
  an info is worth a look. [The bugs](bugs.md) explains each. An unexpected bug is in bold.
- **expected**: bugs that the framework really has. The reasons are below.
- **cases**: the number of fixed and of random cases, and the seed of the random ones.

*This page is generated: `python -m tests.scoreboard`.*

| framework | version | torch | loop | held / not run | findings | expected | cases |
|---|---|---|---|---:|---|---|---|
"""


def key(loop: Correct) -> str:
    """Return the module of the adapter."""
    return loop.name.split(".")[1]


def row(loop: Correct, fixed: Verdict, drawn: Verdict) -> str:
    """Return the row of the table for a loop."""
    name, package = FRAMEWORKS[key(loop)]
    found = {diagnosis.id: diagnosis.finding.severity for diagnosis in (*fixed.diagnoses, *drawn.diagnoses)}
    findings = [
        f"**{id_} (bug)**" if kind == "bug" and id_ not in loop.breaks else f"{id_} ({kind})"
        for id_, kind in found.items()
    ]
    cells = (
        name,
        importlib.metadata.version(package),
        torch.__version__.split("+")[0],
        f"`{loop.name.removeprefix('frameworks.')}`",
        f"{len(fixed.held)} / {len(set(fixed.not_run) & set(LAWS))}",
        ", ".join(findings),
        ", ".join(id_ if id_ in found else f"**{id_} does not occur**" for id_ in loop.breaks),
        f"{len(fixed.judgements)} + {drawn.random_cases}, seed {drawn.seed}",
    )
    return "| " + " | ".join(cells) + " |"


def verified(loop: Correct, cases: int, seed: int) -> str:
    """Verify a loop in the fixed battery and in random cases; return its row."""
    known = [id_ for id_ in LAWS if any(id_ == broken or id_ in BUGS[broken].explains for broken in loop.breaks)]
    # A law that is known to be broken would end the search at the first random case.
    laws = tuple(id_ for id_ in LAWS if id_ not in known)
    fixed = quietly(loop, Options(random_cases=0, timeout=TIMEOUT_S))
    drawn = quietly(loop, Options(fixed_cases=0, random_cases=cases, seed=seed, timeout=TIMEOUT_S, laws=laws))
    return row(loop, fixed, drawn)


def known_rows(page: str) -> dict[str, str]:
    """Return the rows of a page by the loop's name."""
    return {found[1]: found[0] for found in re.finditer(r"^\|(?:[^|\n]*\|){3} `([\w.]+)` \|.*$", page, re.MULTILINE)}


def render(rows: dict[str, str]) -> str:
    """Return the page, as Markdown, with the rows in the order of the adapters."""
    names = [loop.name.removeprefix("frameworks.") for loop in LOOPS]
    reasons = [
        f"- `{loop.name.removeprefix('frameworks.')}`, {id_}: {reason}."
        for loop in LOOPS
        for id_, reason in loop.breaks.items()
    ]
    table = "\n".join(rows[name] for name in names if name in rows)
    return f"{INTRODUCTION}{table}\n\n## Expected failures\n\n" + "\n".join(reasons or ["None."]) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Verify the loops of each framework that is installed, and write the page after each."""
    parser = argparse.ArgumentParser(prog="python -m tests.scoreboard", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="adapters, such as composer; all without one")
    parser.add_argument("--cases", type=int, default=CASES, metavar="N", help="random cases a loop [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random cases [%(default)s]")
    chosen = parser.parse_args(arguments)
    rows = known_rows(PAGE.read_text()) if PAGE.exists() else {}
    for loop in LOOPS:
        if chosen.names and key(loop) not in chosen.names:
            continue
        if loop.needs is not None and importlib.util.find_spec(loop.needs) is None:
            sys.stderr.write(f"{loop.name}: {loop.needs} is not installed, its row is kept\n")
            continue
        found = rows[loop.name.removeprefix("frameworks.")] = verified(loop, chosen.cases, chosen.seed)
        sys.stderr.write(f"{found}\n")
        PAGE.write_text(render(rows))


if __name__ == "__main__":
    main()
