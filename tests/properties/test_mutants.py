"""The properties are themselves tested: each must reject loops with one known bug, and say why."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import Phase, given, settings

from tests.loops.patches import Mutant, data, gradients, losses, metrics, modes, reproducibility, resources, shapes

# The fixture that hands out the module, and the broken copies of that module.
MUTANTS: dict[str, list[Mutant]] = {
    "loop": [
        mutant for subject in (gradients, modes, losses, shapes, metrics, resources) for mutant in subject.MUTANTS
    ],
    "models": shapes.MODEL_MUTANTS,
    "loading": data.MUTANTS,
    "checkpoints": reproducibility.CHECKPOINT_MUTANTS,
}
PROPERTY_FILES = (
    "test_reference",
    "test_gradient_zeroing",
    "test_train_eval",
    "test_loss_decrease",
    "test_shapes",
    "test_data_order",
    "test_metrics",
    "test_reproducibility",
    "test_resources",
)


def without_shrinking(test: Callable[..., None]) -> Callable[..., None]:
    """Return the property such that it stops at the first failing case: the smallest one is not needed here."""
    handle = getattr(test, "hypothesis", None)
    if handle is None:
        return test
    first_failure = settings(phases=[Phase.explicit, Phase.generate], database=None, report_multiple_bugs=False)
    return first_failure(given(**handle._given_kwargs)(handle.inner_test))


@pytest.mark.parametrize(
    ("fixture", "mutant"),
    [pytest.param(fixture, mutant, id=str(mutant)) for fixture, mutants in MUTANTS.items() for mutant in mutants],
)
def test_the_property_rejects_the_mutant(fixture: str, mutant: Mutant, request: pytest.FixtureRequest) -> None:
    """Each broken loop fails the property that is there for it, with a message that names what is wrong."""
    file, name = mutant.rejected_by.split(".")
    test = getattr(importlib.import_module(f"tests.properties.{file}"), name)
    arguments: dict[str, Any] = {**mutant.case, fixture: mutant.apply(request.getfixturevalue(fixture))}
    for parameter in inspect.signature(test).parameters:
        if parameter not in arguments:
            arguments[parameter] = "cpu" if parameter == "device" else _fixture(parameter, request)
    with pytest.raises(mutant.error, match=mutant.says):
        without_shrinking(test)(**arguments)


def test_each_property_rejects_a_mutant() -> None:
    """No property is without a mutant: one that rejects nothing would prove nothing."""
    covered = {mutant.rejected_by for mutants in MUTANTS.values() for mutant in mutants}
    properties = {
        f"{file}.{name}"
        for file in PROPERTY_FILES
        for name in vars(importlib.import_module(f"tests.properties.{file}"))
        if name.startswith("test_")
    }
    assert properties - covered == set()


def _fixture(name: str, request: pytest.FixtureRequest) -> Any:
    return request if name == "request" else request.getfixturevalue(name)
