"""What a comparison was asked to do, at its start or when an interrupted one goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mnist_loop import __version__
from mnist_loop.compare.arms import Arm, parse_arms
from mnist_loop.compare.comparison import Comparison, is_full, restarts, spent
from mnist_loop.compare.crew import Crew
from mnist_loop.compare.journal import Journal, blocks, reopen, unused
from mnist_loop.compare.plan import Plan
from mnist_loop.errors import UserError
from mnist_loop.support.shown import shown

SAME_VERSIONS = ("torch", "python", "numpy")  # must be unchanged when a comparison goes on


@dataclass(frozen=True)
class ComparisonRequest:
    """A comparison as it was asked for, and what of it is already stored.

    Attributes:
        specs: the arms, as typed.
        settings: those of ``--set``, as typed.
        plan: how they are compared.
        arms: what is compared; the last is the control.
        journal: the file of a comparison that goes on, open.
        head: its first line.
        events: its other lines.
    """

    specs: Sequence[str]
    settings: Sequence[str]
    plan: Plan
    arms: Sequence[Arm]
    journal: Journal | None = None
    head: dict[str, Any] = field(default_factory=dict)
    events: Sequence[dict[str, Any]] = ()

    def begin(self, crew: Crew, path: Path | None, folder: Path, tell: Callable[..., object]) -> Comparison:
        """Open the file, and return the comparison, ready to run.

        Args:
            crew: has been started.
            path: a new file; None for one in ``folder``, named for what is compared.
            folder: where it goes then.
            tell: as in `Comparison`.

        Raises:
            UserError: the file cannot be written, or the environments are no longer what they were.
        """
        facts = [crew.facts(arm) for arm in self.arms]
        if self.journal is not None:
            self._check(facts, self.journal.path)
            found = blocks(self.events)
            self.journal.mend()
            self.journal.write({"event": "continued", "at": max((block.start for block in found), default=0.0)})
            return Comparison(self.arms, self.plan, crew, self.journal, tell, found, spent(self.events))
        head = {
            "version": __version__,
            "started": datetime.now(timezone.utc).isoformat(),
            "machine": facts[0]["machine"],
            "state": facts[0]["state"],
            "asked": {"arms": list(self.specs), "set": list(self.settings), "data": self.plan.data},
            "plan": {**self.plan.as_stored(), "data": crew.data_name},
            "arms": [self._stored(crew, arm, one) for arm, one in zip(self.arms, facts, strict=True)],
        }
        versions = "-".join(dict.fromkeys(one["software"]["torch"] for one in facts))
        stem = f"compare_{facts[0]['machine']['name']}_torch-{versions}"
        return Comparison(self.arms, self.plan, crew, Journal(path or unused(folder, stem), head), tell)

    def _stored(self, crew: Crew, arm: Arm, facts: dict[str, Any]) -> dict[str, Any]:
        settings = {**crew.settings(arm, 0), **arm.variables}
        shown = {name: str(value) for name, value in settings.items() if value}  # no batch size but its own
        return {"label": arm.label, "software": facts["software"], "settings": shown, "control": arm.control}

    def close(self) -> None:
        """Close the file of a comparison that goes on, where it is open."""
        if self.journal is not None:
            self.journal.close()

    def _check(self, facts: Sequence[dict[str, Any]], path: Path) -> None:
        for arm, now, then in zip(self.arms, facts, self.head["arms"], strict=True):
            for name in SAME_VERSIONS:
                before, here = then["software"].get(name), now["software"].get(name)
                if before != here:
                    raise UserError(
                        f"{path}: {arm.label} had {name} {before}, and has {here} now; start a new comparison"
                    )
        before, here = self.head["machine"].get("hash"), facts[0]["machine"].get("hash")
        if before != here:
            raise UserError(f"{path}: measured on another machine ({before}; this one is {here})")


def new_request(specs: Sequence[str], settings: Sequence[str], plan: Plan) -> ComparisonRequest:
    """Prepare a comparison of what was typed.

    Raises:
        UserError: an arm that is not there, a setting that is not known, or more than a file can hold.
    """
    arms = parse_arms(specs, settings)
    arms.append(arms[0].again())
    plan.check(len(arms))
    return ComparisonRequest(specs, settings, plan, arms)


def continued_request(path: Path, budget_s: float | None = None) -> ComparisonRequest:
    """Prepare to go on with the comparison in ``path``, for ``budget_s`` seconds in all where that is said.

    Raises:
        UserError: it is damaged, of another version or full, another process writes it, or its environments are not
            there.
    """
    journal, head, events = reopen(path)
    try:
        if is_full(journal, restarts(blocks(events))):
            raise UserError(f"{path}: holds as much as a comparison may; start a new one")
        if not spent(events) >= 0:
            raise ValueError("seconds")
        asked = head["asked"]
        specs, settings, data = _texts(asked["arms"]), _texts(asked["set"]), asked["data"]
        plan = Plan.of({**head["plan"], "data": data})
        again = new_request(specs, settings, replace(plan, budget_s=budget_s or plan.budget_s))
        if not all(isinstance(arm["software"], dict) for arm in head["arms"]) or len(head["arms"]) != len(again.arms):
            raise ValueError("arms")
        if not isinstance(head["machine"], dict):
            raise ValueError("machine")
    except KeyError as error:
        journal.close()
        raise UserError(f"{path}: not complete ({error} is missing), expected a comparison") from error
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        journal.close()
        raise UserError(f"{path}: damaged ({shown(str(error))}), expected a comparison: start a new one") from error
    except BaseException:
        journal.close()
        raise
    return ComparisonRequest(again.specs, again.settings, again.plan, again.arms, journal, head, events)


def _texts(values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError("what was asked for is no list of texts")
    return values
