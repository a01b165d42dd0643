"""The intentions that the author of a loop declares, as they cannot be read off the loop."""

from __future__ import annotations

import dataclasses
import difflib
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

from mnist_loop.errors import UserError
from mnist_loop.verdict.settings import Settings

ATTRIBUTE = "__mnist_loop__"  # of a loop, with the intentions that `declare` puts there

T = TypeVar("T")


@dataclass(frozen=True)
class Intentions:
    """What a loop is declared to do. The default is one step for each batch, on the loss that the loop is handed.

    Attributes:
        expects: what a loop with its own loss, the mean cross-entropy, expects of the model: "logits" or "log_probs";
            "bce": its loss, or the one that it is handed, is the mean binary cross-entropy of logits and one-hot
            labels, or, of a model with one output, the labels 0 and 1. None: its loss is not known, and the laws of it
            are not run.
        accumulate: batches whose gradients are averaged into one step.
        clip: largest L2 norm of the gradient that a step applies; larger gradients are scaled down to it.
        schedule: when the loop steps the scheduler that it is handed, after each epoch or after each step. None: that
            depends on what the scheduler was built for.
        frozen: names, or prefixes of names, of submodules and parameters of the model that the loop does not train.
        keeps_best: the loop ends with the state of its best evaluation, loaded into the model or returned.
        patience: epochs without an improvement after which the loop stops early. None: the default of its parameter
            ``patience``, if it has one.
        average: decay d of the moving average w <- d w + (1 - d) p over the steps, which the loop returns.
        shuffles_itself: the loop puts the data into a new random order each epoch.
        steps_per_epoch: steps after which the loop ends an epoch early, on purpose.
        trains_in_eval_mode: the loop trains with modules in eval mode, on purpose.
        dropout_at_inference: the loop evaluates with dropout on, on purpose.
        own_objective: the loop minimises something other than the mean loss of outputs and labels (a GAN,
            distillation, penalties): the laws of the gradient that a step applies are not run.
        objective: computes what such a loop should minimise, for one batch: called with the model, images, labels, and,
            by their names, with further variables of the loop, such as a teacher; returns the loss, a scalar tensor.
        own_optimizer: the loop has its own update rule (optimizer, learning rate): the laws of the update are not run,
            those of the gradients are.
        precision: lowest precision of the loop's arithmetic, if it is below that of the model.
        model: makes the model of a loop that works with no other; called without arguments.
        input_shape: shape of one image that `model` takes.
        classes: number of classes that `model` tells apart.
        batch: the keys of images and labels in batches that are dicts.
        output: which part of what the model returns is its outputs, where it returns several.
        loss_output: which part of what the loss that it is handed returns is the loss, where it returns several.
        evaluate: the loop that evaluates, for one that trains.
        save, load: write and read a checkpoint; bound by name like a loop, with ``path``.
    """

    expects: Literal["logits", "log_probs", "bce"] | None = None
    accumulate: int = 1
    clip: float | None = None
    schedule: Literal["per-epoch", "per-batch"] | None = None
    frozen: tuple[str, ...] = ()
    keeps_best: bool = False
    patience: int | None = None
    average: float | None = None
    shuffles_itself: bool = False
    steps_per_epoch: int | None = None
    trains_in_eval_mode: bool = False
    dropout_at_inference: bool = False
    own_objective: bool = False
    objective: Callable[..., Any] | str | None = None
    own_optimizer: bool = False
    precision: Literal["float32", "bfloat16", "float16"] | None = None
    model: Callable[[], Any] | None = None
    input_shape: tuple[int, ...] | None = None
    classes: int | None = None
    batch: tuple[str, ...] | None = None
    output: int | None = None
    loss_output: int | None = None
    evaluate: Any = None
    save: Any = None
    load: Any = None

    def changed(self) -> dict[str, Any]:
        """Return what differs from the default, by name."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value != getattr(DEFAULT, name)}


NAMES = tuple(field.name for field in dataclasses.fields(Intentions))
DEFAULT = Intentions()


def declare(**intentions: Any) -> Callable[[T], T]:
    """Declare what a loop means to do, as a decorator; the keywords are the attributes of `Intentions`.

    The decorator returns the loop itself, with one more attribute.

    Raises:
        UserError: a keyword is not an intention, a value is wrong, or the loop takes no attribute.
    """
    declared = checked(intentions)

    def decorate(loop: T) -> T:
        try:
            setattr(loop, ATTRIBUTE, declared)
        except (AttributeError, TypeError):
            raise UserError(
                f"{loop!r} found, which takes no attribute, expected a function, a class or an object: "
                "declare on a function that calls it"
            ) from None
        return loop

    return decorate


def checked(intentions: Mapping[str, Any], base: Intentions = DEFAULT) -> Intentions:
    """Return ``base`` with other intentions, once they are checked.

    Raises:
        UserError: a name is not an intention, or a value is wrong.
    """
    values: dict[str, Any] = {}
    for name, value in intentions.items():
        if name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(NAMES)}"
            raise UserError(f"{name!r} found, which is no intention that a loop can declare: {hint}")
        expected, check = CHECKS[name]
        optional = value is None and getattr(DEFAULT, name) is None
        try:
            values[name] = None if optional else check(value)
        except (TypeError, ValueError):
            raise UserError(f"{name}={value!r} found, expected {expected}") from None
    return dataclasses.replace(base, **values)


def declared_by(loop: object) -> Intentions:
    """Return what ``loop``, or the function in a ``functools.partial``, declares; else the default."""
    declared = getattr(loop, ATTRIBUTE, None)
    if isinstance(declared, Intentions):
        return declared
    return declared_by(loop.func) if isinstance(loop, partial) else DEFAULT


def read_declarations(declarations: Iterable[str]) -> dict[str, Any]:
    """Read the declarations of a command line, ``clip=1.0``, ``frozen=hidden,head``, ``keeps_best``: value by name.

    Functions are given as ``file.py:name`` or ``module:name``; a switch without a value is on.

    Raises:
        UserError: as for `checked`, or one is declared twice.
    """
    values: dict[str, Any] = {}
    for declaration in declarations:
        name, equals, text = (part.strip() for part in declaration.partition("="))
        name = name.replace("-", "_")
        if name in values:
            raise UserError(f"{name} found twice, expected each intention once")
        if equals:
            values[name] = _read(name, text)
        elif name not in NAMES or name in SWITCHES:
            values[name] = True  # `checked` refuses an unknown name
        else:
            raise UserError(f"{name} found without a value, expected {name}=VALUE: {CHECKS[name][0]}")
    found = checked(values)
    return {name: getattr(found, name) for name in values}


def declared_for(settings: Settings, declarations: Iterable[str]) -> dict[str, Any]:
    """Return what the settings of a project declare, and what a command line does, which comes before them.

    Raises:
        UserError: as for `read_declarations`; for the settings it names the file and the key.
    """
    given: dict[str, Any] = {}
    for key, value in settings.declare.items():
        name, place = key.replace("-", "_"), settings.key("declare")
        if name in given:
            raise UserError(f"{place}: {name} found twice, expected each intention once: remove one")
        try:
            given[name] = getattr(checked({name: value}), name)
        except UserError as error:
            raise UserError(f"{place}: {error}") from None
    return {**given, **read_declarations(declarations)}


def _read(name: str, text: str) -> Any:
    """Turn the text of a command line into a value; what cannot be read stays text, which `checked` refuses."""
    if text.lower() == "none":
        return None
    if name in SWITCHES:
        return {**dict.fromkeys(ON, True), **dict.fromkeys(OFF, False)}.get(text.lower(), text)
    if name in ("frozen", "batch"):
        return tuple(part.strip() for part in text.split(","))
    try:
        if name == "input_shape":
            return tuple(int(part) for part in text.strip("()[], ").split(","))
        if name in ("accumulate", "patience", "steps_per_epoch", "classes", "output", "loss_output"):
            return int(text)
        if name in ("clip", "average"):
            return float(text)
    except ValueError:
        pass
    return text


# What the cases can hold: an image of 1024 x 1024 in colour, the classes of ImageNet-21k, batches for a second's steps.
KEYS = 2  # of a batch: images and labels
MOST_OUTPUTS = 9
MOST_PATIENCE = 50  # a case has three times as many epochs
MOST_PIXELS, MOST_CLASSES, MOST_BATCHES = 3 * 2**20, 100_000, 1024

ON = ("true", "yes", "on", "1")
OFF = ("false", "no", "off", "0")


def _whole(at_least: int, at_most: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not at_least <= value <= at_most:
            raise ValueError
        return value

    return check


def _number(fits: Callable[[float], bool]) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not fits(value):
            raise ValueError
        return float(value)

    return check


def _one_of(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in choices:
            raise ValueError
        return str(value)

    return check


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _names(value: Any) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else tuple(value)
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError
    return names


def _keys(value: Any) -> tuple[str, ...]:
    keys = _names(value)
    if len(set(keys)) != KEYS:
        raise ValueError
    return keys


def _shape(value: Any) -> tuple[int, ...]:
    shape = tuple(_whole(1, MOST_PIXELS)(size) for size in value)
    if not shape or math.prod(shape) > MOST_PIXELS:
        raise ValueError
    return shape


def _function(value: Any) -> Any:
    if not callable(value) and not (isinstance(value, str) and value):
        raise TypeError
    return value


SWITCHES = tuple(field.name for field in dataclasses.fields(Intentions) if field.default is False)

FUNCTION = "a function, or the text that says where it is: file.py:name or module:name"

# What is expected of each, and the check that returns the value or fails.
CHECKS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "expects": ("'logits', 'log_probs' or 'bce'", _one_of("logits", "log_probs", "bce")),
    "accumulate": (f"a whole number of batches, 1 to {MOST_BATCHES}", _whole(1, MOST_BATCHES)),
    "clip": ("a number above 0, the largest norm", _number(lambda value: value > 0)),
    "schedule": ("'per-epoch' or 'per-batch'", _one_of("per-epoch", "per-batch")),
    "frozen": ("names of submodules or parameters", _names),
    "patience": (f"a whole number of epochs, 1 to {MOST_PATIENCE}", _whole(1, MOST_PATIENCE)),
    "average": ("a decay of at least 0 and below 1", _number(lambda value: 0 <= value < 1)),
    "steps_per_epoch": ("a whole number of steps, at least 1", _whole(1, sys.maxsize)),
    "precision": ("'float32', 'bfloat16' or 'float16'", _one_of("float32", "bfloat16", "float16")),
    "objective": (FUNCTION, _function),
    "model": (FUNCTION, _function),
    "input_shape": (f"whole numbers of at least 1, the shape of one image of at most {MOST_PIXELS} numbers", _shape),
    "classes": (f"a whole number of classes, 2 to {MOST_CLASSES}", _whole(2, MOST_CLASSES)),
    "batch": ("two names, the keys of images and labels", _keys),
    "output": (f"a whole number, 0 to {MOST_OUTPUTS}, the place of the outputs", _whole(0, MOST_OUTPUTS)),
    "loss_output": (f"a whole number, 0 to {MOST_OUTPUTS}, the place of the loss", _whole(0, MOST_OUTPUTS)),
    "evaluate": (FUNCTION, _function),
    "save": (FUNCTION, _function),
    "load": (FUNCTION, _function),
    **dict.fromkeys(SWITCHES, ("True or False", _switch)),
}
