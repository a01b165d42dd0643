"""How to verify a loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from mnist_loop.verification.cases.case import Case

TIMEOUT = 60.0  # seconds for one experiment, which takes some hundredths of one
RANDOM_CASES = 10  # after the battery, where that found nothing
NOT_REPEATED = ("cases", "fixed_cases", "laws", "on_case")  # options that a snippet for one case does not repeat


@dataclass(frozen=True)
class Options:
    """How to verify a loop.

    Attributes:
        cases: these cases alone, instead of the battery and random ones.
        fixed_cases: number of experiments of the battery, its first; None for all.
        random_cases: number of random cases after a battery that found no bug.
        seed: of the random cases.
        timeout: seconds that the runs of one case may take together.
        device: where the loop trains.
        in_process: run the loop in this process, for a debugger; nothing protects this process then.
        laws: ids of the laws to hold it to; None for all.
        give: values for parameters, globals and settings of the loop that no role covers, by name: ``gpu_id``,
            ``args.warm``.
        on_case: called after each case with the number of cases that are done and of those that are planned.
    """

    cases: tuple[Case, ...] | None = None
    fixed_cases: int | None = None
    random_cases: int = RANDOM_CASES
    seed: int = 0
    timeout: float = TIMEOUT
    device: str = "cpu"
    in_process: bool = False
    laws: tuple[str, ...] | None = None
    give: Mapping[str, Any] | None = None
    on_case: Callable[[int, int], None] | None = None

    def changed(self) -> dict[str, Any]:
        """Return the options that differ from the default and that are repeated to see a finding again."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in NOT_REPEATED}
        return {name: value for name, value in values.items() if value != getattr(Options, name)}
