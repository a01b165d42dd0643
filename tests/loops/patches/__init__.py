"""Loops with one bug each, and the property that must reject each of them.

A mutant is written as what differs from the reference: the right line and the wrong one. So it cannot drift from the
reference, and it differs from it in the bug alone. Ids are those of the catalogue of training-loop bugs where it
has one. To add a mutant, add it to the list of its subject.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class Mutant:
    """A broken copy of a module.

    Attributes:
        bug: its id.
        right, wrong: the line or lines of the reference, and what stands in their place.
        rejected_by: ``test_file.test_name`` of the property that must fail.
        says: a regular expression that the failure's message matches.
        case: arguments of a parametrised property.
        and_also: further pairs of right and wrong, where the bug moves a line.
        error: the exception that the property fails with, where it is not an assertion's.
    """

    bug: str
    right: str
    wrong: str
    rejected_by: str
    says: str
    case: dict[str, Any] = field(default_factory=dict)
    and_also: tuple[tuple[str, str], ...] = ()
    error: type[BaseException] = AssertionError

    def __str__(self) -> str:
        return f"{self.bug}-{self.rejected_by.rpartition('.')[2].removeprefix('test_')}"

    def apply(self, module: ModuleType) -> ModuleType:
        """Make the broken copy of ``module``."""
        source = inspect.getsource(module)
        for right, wrong in ((self.right, self.wrong), *self.and_also):
            count = source.count(right)
            assert count == 1, f"mutant {self.bug}: its right line stands {count} times in {module.__name__}: {right!r}"
            source = source.replace(right, wrong)
        broken = ModuleType(module.__name__, f"{module.__name__} with the bug {self.bug}")
        broken.__file__ = f"{module.__file__} ({self.bug})"
        exec(compile(source, broken.__file__, "exec"), vars(broken))  # noqa: S102  # our own source
        return broken
