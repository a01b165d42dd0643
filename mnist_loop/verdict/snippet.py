"""Code to paste that shows a finding again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_loop.verification.cases.cases import Case

TEMPLATE = """\
from mnist_loop.verification.cases.cases import Case
from mnist_loop.verification.trial import Options, verify

case = {case!r}
verdict = verify({arguments})
print(verdict.failed.get({id}, "held"))
"""


@dataclass(frozen=True)
class Asked:
    """How a verification was asked for, as far as it takes to ask again.

    Attributes:
        loop: where the loop is, "my_train.py:train"; None where it was handed over as an object.
        evaluate: where its evaluation is, if that was said.
        declared: the intentions that were declared beside the loop, not on it.
        only: ids of the laws that it was held to; None for all.
        options: those of `mnist_loop.verification.trial.Options` that are not as usual, without the cases and the laws.
    """

    loop: str | None = None
    evaluate: str | None = None
    declared: Mapping[str, object] = field(default_factory=dict)
    only: tuple[str, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def snippet(asked: Asked, name: str, id: str, case: Case) -> str:  # noqa: A002  # the catalogue's word
    """Return code that holds the loop to the laws in this one case, and prints how the finding ``id`` shows.

    A loop that was handed over as an object is called as it is called in its file; ``name`` has the name.
    """
    loop = _literal(asked.loop) if asked.loop is not None else name.rpartition(":")[2]
    options = {name: value for name, value in asked.options.items() if name not in ("seed", "random_cases")}
    chosen = ", ".join(["cases=(case,)", *(f"{name}={_literal(value)}" for name, value in options.items())])
    arguments = [loop, *([] if asked.evaluate is None else [_literal(asked.evaluate)]), f"options=Options({chosen})"]
    arguments += [f"{name}={_literal(value)}" for name, value in asked.declared.items()]
    return TEMPLATE.format(case=case, arguments=", ".join(arguments), id=_literal(id))


def _literal(value: object) -> str:
    """Return a value as code, a text in double quotes where that is the same."""
    text = repr(value)
    return f'"{value}"' if isinstance(value, str) and text == f"'{value}'" and '"' not in value else text
