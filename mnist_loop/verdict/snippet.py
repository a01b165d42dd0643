"""Code to paste that shows a finding again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_loop.verification.cases.case import Case

TEMPLATE = """\
from mnist_loop import Case, Options, verify

case = {case!r}
verdict = verify({arguments})
print(verdict.failed.get({id}, "held"))
"""


@dataclass(frozen=True)
class Asked:
    """How a verification was asked for.

    Attributes:
        loop: where the loop is, "my_train.py:train"; None for a loop that was handed over as an object.
        evaluate: where its evaluation is, if that was given as text.
        declared: the intentions that were declared, on the loop or beside it; of those on it, no functions.
        only: ids of the laws that it was held to; None for all.
        options: those of `mnist_loop.Options` that differ from the default, without the cases and the laws.
    """

    loop: str | None = None
    evaluate: str | None = None
    declared: Mapping[str, object] = field(default_factory=dict)
    only: tuple[str, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def snippet(asked: Asked, name: str, id: str, case: Case) -> str:  # noqa: A002  # the catalogue's word
    """Return code that verifies the loop in this one case, and prints the evidence for the finding ``id``.

    A loop that was handed over as an object is called by its name in its file, the end of ``name``.
    """
    loop = _literal(asked.loop) if asked.loop is not None else name.rpartition(":")[2]
    options = {name: value for name, value in asked.options.items() if name not in ("seed", "random_cases")}
    chosen = ", ".join(["cases=(case,)", *(f"{name}={_literal(value)}" for name, value in options.items())])
    arguments = [loop, *([] if asked.evaluate is None else [_literal(asked.evaluate)]), f"options=Options({chosen})"]
    arguments += [f"{name}={_literal(value)}" for name, value in asked.declared.items()]
    return TEMPLATE.format(case=case, arguments=", ".join(arguments), id=_literal(id))


def _literal(value: object) -> str:
    """Return a value as code: a function by its name, a text in double quotes if it needs no escapes."""
    text = repr(value)
    if isinstance(value, str):
        return f'"{value}"' if text == f"'{value}'" and '"' not in value else text
    return str(getattr(value, "__qualname__", text)).rpartition(".")[2] if callable(value) else text
