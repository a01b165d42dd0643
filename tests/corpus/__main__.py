"""``python -m tests.corpus FOLDER [NAME ...]``: run the scripts, write docs/reach.md."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.corpus.manifest import MANIFEST, Script, scripts
from tests.corpus.page import unread, write
from tests.corpus.run import Outcome, try_script

PAGE = Path(__file__).parents[2] / "docs" / "reach.md"
LIMIT_S = 240.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the scripts that are asked for; return 1 if a bug was found that nobody has read, or one is false."""
    parser = argparse.ArgumentParser(prog="python -m tests.corpus", description=__doc__)
    add = parser.add_argument
    add("folder", type=Path, help="where the repositories are checked out, each as OWNER+NAME")
    add("names", nargs="*", metavar="NAME", help="a part of a script's name; all, if none is given")
    add("--limit", type=float, default=LIMIT_S, metavar="S", help="seconds for each run")
    add("--jobs", type=int, default=1, metavar="N", help="scripts at a time; overheads are worth nothing with several")
    add("--watched-only", action="store_true", help="leave the unwatched runs out, and with them the comparison")
    add("--manifest", type=Path, default=MANIFEST)
    add("--page", type=Path, default=PAGE)
    add("--only-page", action="store_true", help="run nothing: write the page from what is stored")
    arguments = parser.parse_args(argv)
    folder = arguments.folder.absolute()
    listed = scripts(arguments.manifest)
    asked = [one for one in listed if not arguments.names or any(name in one.name for name in arguments.names)]
    stored = _stored(folder)
    for text in _missing(listed, folder):
        _say(text)
    if packages := sorted({package for one in asked for package in _lacking(one)}):
        _say(f"missing: packages that some scripts need: pip install {' '.join(packages)}")
    if not arguments.only_page:

        def try_one(script: Script) -> None:
            outcome = try_script(script, folder, arguments.limit, pairs=not arguments.watched_only)
            stored[script.name] = outcome
            (folder / "outcomes.json").write_text(json.dumps([one.to_json() for one in stored.values()], indent=1))
            _say(_line(outcome))

        with ThreadPoolExecutor(arguments.jobs) as pool:
            list(pool.map(try_one, [one for one in asked if one.file(folder).is_file() and not _lacking(one)]))
    outcomes = [(one, stored[one.name]) for one in listed if one.name in stored]
    write(arguments.page, outcomes, len(listed))
    wrong = unread(outcomes)
    for text in wrong:
        _say(text)
    return 1 if wrong else 0


def _stored(folder: Path) -> dict[str, Outcome]:
    file = folder / "outcomes.json"
    found = json.loads(file.read_text()) if file.is_file() else []
    return {one["name"]: Outcome.from_json(one) for one in found}


def _missing(listed: list[Script], folder: Path) -> list[str]:
    roots = {one.repository: one for one in listed if not one.checkout(folder).is_dir()}
    told = [
        f"missing: {name}: git clone https://github.com/{name} {one.checkout(folder)} and check out {one.commit}"
        for name, one in roots.items()
    ]
    lost = [one.name for one in listed if one.repository not in roots and not one.file(folder).is_file()]
    return told + [f"missing: {name}: no such file in the checkout" for name in lost]


def _lacking(script: Script) -> list[str]:
    """Return the packages that a script needs and that are not installed."""
    installed = {one.name.lower().replace("_", "-") for one in importlib.metadata.distributions()}
    return [one for one in script.packages if one.lower().replace("_", "-") not in installed]


def _line(outcome: Outcome) -> str:
    found = ", ".join(f"{one.bug}{'' if one.severity == 'bug' else f' ({one.severity})'}" for one in outcome.found)
    verdict = (found or "no bug") if outcome.decided else "NO VERDICT"
    facts = [f"{outcome.steps} steps", f"decided {outcome.decided}", f"codes {outcome.codes}"]
    facts += [f"x{outcome.overhead:.2f}"] if outcome.overhead else []
    facts += ["DIFFERENT"] if outcome.same is False else []
    facts += [f"printed {outcome.difference}"] if not outcome.printed_same else []
    return f"{outcome.name}: {verdict}; {'; '.join(facts)}; {sum(outcome.seconds):.0f} s"


def _say(text: str) -> None:
    print(re.sub(r"\s+", " ", text), file=sys.stderr, flush=True)  # noqa: T201  # it is what this program tells


if __name__ == "__main__":
    sys.exit(main())
