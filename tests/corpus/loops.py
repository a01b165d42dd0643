"""``python -m tests.corpus.loops FOLDER [NAME ...]``: try the loops of loops.toml, write docs/loops.md."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from mnist_loop.errors import UserError
from mnist_loop.verification.options import Options
from mnist_loop.verification.verify import verify
from tests.corpus.manifest import Reading

MANIFEST = Path(__file__).with_name("loops.toml")
PAGE = Path(__file__).parents[2] / "docs" / "loops.md"
LIMIT_S = 30.0  # for one case
LONGEST = 160  # characters of a refusal in the table

INTRODUCTION = """\
# Public training loops

What `mnist-loop verify FILE:FUNCTION` says of public loops that are functions or methods, each as it is, on the CPU:
torch {torch}. [What counts as a training loop](contract.md) says what they are handed.

- **verdict**: the bugs by their id; infos and costs in brackets; "clean" without a bug. A refusal is what verify says
  instead, exit code 2: it accuses nobody.
- **decided**: the number of laws that hold or are broken.
- **options**: what was given besides the loop, mostly as the refusal proposes it.

[`loops.toml`](../tests/corpus/loops.toml) has the commit, the file, the function and the options of each, and what a
person who read the loop says of each bug. None of their code is here.

*This page is generated: `python -m tests.corpus.loops FOLDER`.*
"""


@dataclass(frozen=True)
class Loop:
    """A public loop.

    Attributes:
        repository: its owner and name at GitHub.
        commit: of the repository.
        path: of the file.
        function: its name, dotted for a method.
        give: values for `Options.give`.
        declare: its intentions.
        readings: of its bugs, by id.
    """

    repository: str
    commit: str
    path: str
    function: str
    give: dict[str, Any] = field(default_factory=dict)
    declare: dict[str, Any] = field(default_factory=dict)
    readings: dict[str, Reading] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called on the command line and in the stored outcomes."""
        return f"{self.repository}/{self.path}:{self.function}"

    def file(self, checkouts: Path) -> Path:
        """Return its file."""
        return checkouts / self.repository.replace("/", "+") / self.path


@dataclass
class Outcome:
    """What verify said of a loop.

    Attributes:
        refused: the sentence with which it was refused; "" with a verdict.
        decided: number of laws that hold or are broken.
        bugs: by id, with the evidence.
        others: ids of infos and costs.
    """

    refused: str = ""
    decided: int = 0
    bugs: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)


Outcomes = Sequence[tuple[Loop, Outcome]]


def loops(manifest: Path = MANIFEST) -> list[Loop]:
    """Return the loops of the manifest."""
    found = []
    for repository in tomllib.loads(manifest.read_text(encoding="utf-8"))["repository"]:
        for entry in repository["loop"]:
            readings = {bug: Reading(**reading) for bug, reading in entry.pop("readings", {}).items()}
            found.append(Loop(repository["name"], repository["commit"], **entry, readings=readings))
    return found


def try_loop(loop: Loop, checkouts: Path) -> Outcome:
    """Verify it as the command line does, in the folder of its file."""
    file, before = loop.file(checkouts), Path.cwd()
    os.chdir(file.parent)
    try:
        options = Options(timeout=LIMIT_S, give=loop.give or None)
        verdict = verify(f"{file.name}:{loop.function}", None, options, **loop.declare)
    except UserError as error:
        return Outcome(refused=str(error).replace(f"{file.parent}/", "").replace(f"{checkouts}/", ""))
    finally:
        os.chdir(before)
    found = {one.id: one for one in verdict.diagnoses}
    return Outcome(
        decided=len(verdict.held) + len(verdict.failed),
        bugs={id_: one.finding.text for id_, one in found.items() if one.severity == "bug"},
        others=[id_ for id_, one in found.items() if one.severity != "bug"],
    )


def unread(outcomes: Outcomes) -> list[str]:
    """Return a sentence for each bug that nobody has read, and for each that is false."""
    told = []
    for loop, outcome in outcomes:
        for bug, text in outcome.bugs.items():
            reading = loop.readings.get(bug)
            if reading is None:
                told.append(f"{loop.name}: {bug} was found and not read: {text}")
            elif not reading.right:
                told.append(f"{loop.name}: {bug} is false: {reading.why}")
    return told


def page(outcomes: Outcomes) -> str:
    """Return the page."""
    return "\n".join(
        [
            INTRODUCTION.format(torch=torch.__version__),
            _summary(outcomes),
            "\n## The bugs that were found, each read by hand\n",
            *(_bugs(outcomes) or ["None."]),
            "\n## All loops",
            *_tables(outcomes),
            "",
        ]
    )


def _summary(outcomes: Outcomes) -> str:
    tried = [(loop, one) for loop, one in outcomes if not one.refused]
    count = Counter(bool(one.bugs) for _, one in tried)
    bugs = sum(len(one.bugs) for _, one in tried)
    false = sum(not reading.right for loop, one in tried for bug in one.bugs if (reading := loop.readings.get(bug)))
    repositories, reached = ({loop.repository for loop, _ in some} for some in (outcomes, tried))
    return (
        f"**Of {len(outcomes)} loops of {len(repositories)} repositories, {len(tried)} of {len(reached)} repositories "
        f"reached a verdict**: {count[False]} are clean, and "
        f"{count[True]} have a bug. {bugs} findings were read by hand; {false or 'none'} of them "
        f"{'are' if false > 1 else 'is'} false. {len(outcomes) - len(tried)} loops were refused, in a sentence."
    )


def _bugs(outcomes: Outcomes) -> list[str]:
    rows = []
    for loop, one in outcomes:
        for bug, text in one.bugs.items():
            reading = loop.readings.get(bug) or Reading("", right=False, why="not read yet")
            rows.append(f"- **{bug}** in {_link(loop)}: {text}.\\")
            rows.append(f"  {'Right' if reading.right else 'False'} ({reading.line}): {reading.why}")
    return rows


def _tables(outcomes: Outcomes) -> list[str]:
    rows: list[str] = []
    for repository, group in groupby(outcomes, lambda one: one[0].repository):
        own = list(group)
        commit = own[0][0].commit
        rows += ["", f"### {repository} at [{commit[:7]}](https://github.com/{repository}/tree/{commit})", ""]
        rows += ["| loop | verdict | decided | options |", "|---|---|---|---|"]
        for loop, one in own:
            cells = [f"{loop.path}:{loop.function}", _verdict(one), str(one.decided or ""), _options(loop)]
            rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return rows


def _verdict(one: Outcome) -> str:
    if one.refused:
        told = " ".join(one.refused.partition("\n")[0].split())
        told = told.partition(", expected")[0].partition("; expected")[0].partition(": see that")[0]
        told = told.rpartition(" in float32, ")[2].replace("`", "'").replace("<", "&lt;")
        return f"refused: {told if len(told) <= LONGEST else told[:LONGEST] + ' ...'}"
    return ", ".join([*one.bugs, *([] if one.bugs else ["clean"]), *(f"({other})" for other in one.others)])


def _options(loop: Loop) -> str:
    given = [f"--give {name}={value!r}" for name, value in loop.give.items()]
    values = {name: ",".join(value) if isinstance(value, list) else value for name, value in loop.declare.items()}
    return " ".join(f"`{text}`" for text in [*given, *(f"--declare {name}={value}" for name, value in values.items())])


def _link(loop: Loop) -> str:
    path = loop.path.replace(" ", "%20").replace("(", "%28").replace(")", "%29")
    return f"[{loop.name}](https://github.com/{loop.repository}/blob/{loop.commit}/{path})"


def main(argv: Sequence[str] | None = None) -> int:
    """Try the loops that are asked for; return 1 if a bug was found that nobody has read, or one is false."""
    parser = argparse.ArgumentParser(prog="python -m tests.corpus.loops", description=__doc__)
    add = parser.add_argument
    add("folder", type=Path, help="where the repositories are checked out, each as OWNER+NAME")
    add("names", nargs="*", metavar="NAME", help="a part of a loop's name; all, if none is given")
    add("--manifest", type=Path, default=MANIFEST)
    add("--page", type=Path, default=PAGE)
    add("--only-page", action="store_true", help="run nothing: write the page from what is stored")
    arguments = parser.parse_args(argv)
    folder = arguments.folder.absolute()
    listed, file = loops(arguments.manifest), folder / "loops.json"
    stored = {name: Outcome(**one) for name, one in (json.loads(file.read_text()) if file.is_file() else {}).items()}
    asked = [one for one in listed if not arguments.names or any(name in one.name for name in arguments.names)]
    for loop in [] if arguments.only_page else asked:
        if not loop.file(folder).is_file():
            sys.stdout.write(f"missing: {loop.name}: git clone https://github.com/{loop.repository}\n")
            continue
        stored[loop.name] = outcome = try_loop(loop, folder)
        file.write_text(json.dumps({name: asdict(one) for name, one in stored.items()}, indent=1))
        sys.stdout.write(f"{loop.name}: {_verdict(outcome)}\n")
        sys.stdout.flush()
    outcomes = [(one, stored[one.name]) for one in listed if one.name in stored]
    arguments.page.write_text(page(outcomes), encoding="utf-8")
    wrong = unread(outcomes)
    sys.stdout.writelines(f"{text}\n" for text in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
