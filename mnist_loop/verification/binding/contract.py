"""A bound loop, and a run of it."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import GeneratorType
from typing import Any

from mnist_loop.errors import UserError
from mnist_loop.verification.binding.cuda_written_out import cuda_means
from mnist_loop.verification.binding.foreign import foreign_code
from mnist_loop.verification.binding.given import TakesEveryCall, settings_given
from mnist_loop.verification.binding.global_names import given_globals, missing_writers
from mnist_loop.verification.binding.intentions import MOST_PATIENCE, Intentions
from mnist_loop.verification.binding.parts import FoundBy, LoopPart, Owner
from mnist_loop.verification.binding.resolve import search_path
from mnist_loop.verification.binding.roles import ROLES, SETTINGS, LoopArgs, meanings
from mnist_loop.verification.binding.signature import WHERE_NONE, value_of
from mnist_loop.verification.binding.target import Location, async_error, codes_of, title_of, unwrapped
from mnist_loop.verification.binding.usage import source_of

# Roles that settings have as numbers: those of the case. What a parser says of the others is a name or a path.
NUMBERS = frozenset({"epochs", "epoch", "batch_size", "lr", "seed", "accumulate", "clip", "device", "classes", "mixed"})
OBJECTS = frozenset(role.name for role in ROLES) - NUMBERS
# Settings of the machine, which no parser of a file knows.
FIXED = {
    *("dry_run", "save_model", "no_cuda", "no_mps", "no_accel", "use_cuda", "cuda", "distributed", "world_size"),
    *("rank", "local_rank", "workers", "num_workers"),
}
# Names that code uses on outputs or targets of classes alone; and a largest output, which stands for a class.
CLASSIFIES = frozenset(
    {"softmax", "log_softmax", "Softmax", "LogSoftmax", "one_hot", "long", "cross_entropy", "argmax", "topk"}
)
LARGEST = re.compile(r"torch\.max\(\s*[\w.]+\s*,\s*(?:dim\s*=\s*)?-?1\s*\)|\.max\((?:dim\s*=\s*)?-?1\b")


@dataclass(frozen=True)
class Description:
    """What is known of a loop in other processes: what chooses its cases, and what its verdict shows.

    Attributes:
        name: of the loop, for people.
        file: the source file of what trains; None if it has none.
        lines: the first and the last line of what trains.
        roles, evaluate_roles, whole_fit: as in the contract.
        declared: its intentions, without the functions, which cannot be pickled.
        own_model: it declares a model of its own.
        saves: it declares how to save and load.
        found_evaluate_by: how its evaluation was found; None without evaluation.
        evaluate_name: name of its evaluation.
        evaluate_title: the same with its file.
        adapter: the source of an adapter for it, to paste.
        classifies: its code treats outputs or targets as those of classes, so that targets of another kind do not fit.
        own_targets: it declares an objective, which takes the targets of classes.
        patience: epochs without an improvement after which it stops early; None if it is not known to.
        mixes: it has a setting for mixed precision.
        notes: what is said of how it was imported, a sentence each.
        least_batches: batches that each case has more, for a loop that divides by zero where there are few.
    """

    name: str
    file: str | None
    lines: tuple[int, int] | None
    roles: frozenset[str]
    evaluate_roles: frozenset[str] | None
    whole_fit: bool
    declared: Intentions
    own_model: bool = False
    saves: bool = False
    found_evaluate_by: FoundBy | None = None
    evaluate_name: str | None = None
    evaluate_title: str | None = None
    adapter: str = ""
    classifies: bool = False
    own_targets: bool = False
    patience: int | None = None
    mixes: bool = False
    notes: tuple[str, ...] = ()
    least_batches: int = 0

    @property
    def builds_its_loader(self) -> bool:
        """Whether the size of the last batch is the loop's own choice, which no case can foresee."""
        return "train_set" in self.roles and "train_loader" not in self.roles


@dataclass(frozen=True)
class Contract:
    """A bound loop: what it takes, and how its parts are called.

    Attributes:
        name: for people: "my_train.py:train_one_epoch".
        location: where the part that trains is written; None if it is not written in Python.
        intentions: what the loop declares; a model that it declares as text is imported.
        training: trains.
        evaluation: evaluates; None if nothing does.
        found_evaluate_by: "declared", or "beside": found in the same class or module under a usual name.
        saving: writes a checkpoint, if that is declared.
        loading: reads a checkpoint, if that is declared.
        owner: what the methods belong to, if the loop is a class or an object.
        whole_fit: one call trains all epochs; otherwise a call is one epoch.
        folders: the folders on the search path of modules while the loop runs, as when it was imported.
        adapter: the source of an adapter for it, to paste.
        given: values that the user gives, by name: of parameters, globals, and settings (``args.warm``).
        settings: the defaults of the parser in its file.
        calls_forward: it calls ``forward`` of something by that name, where torch's hooks do not see it.
        writes_cuda: it has ``.cuda()`` written out, and this machine has none.
        notes: what is said of how it was imported, a sentence each.
    """

    name: str
    location: Location | None
    intentions: Intentions
    training: LoopPart
    evaluation: LoopPart | None
    found_evaluate_by: FoundBy | None
    saving: LoopPart | None
    loading: LoopPart | None
    owner: Owner | None
    whole_fit: bool
    folders: tuple[str, ...] = ()
    adapter: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    calls_forward: bool = False
    writes_cuda: bool = False
    notes: tuple[str, ...] = ()

    @property
    def roles(self) -> frozenset[str]:
        """The roles that training takes, with those of the constructor."""
        return self.training.roles

    @property
    def evaluate_roles(self) -> frozenset[str] | None:
        """The roles that evaluation takes, of a method with those of the constructor; None without evaluation."""
        return None if self.evaluation is None else self.evaluation.roles

    @property
    def description(self) -> Description:
        """The part of the contract that can be pickled."""
        location = self.location
        return Description(
            name=self.name,
            file=None if location is None else location.file,
            lines=None if location is None else (location.line, location.end),
            roles=self.roles,
            evaluate_roles=self.evaluate_roles,
            whole_fit=self.whole_fit,
            declared=self.plain_intentions,
            own_model=self.intentions.model is not None,
            saves=self.saving is not None and self.loading is not None,
            found_evaluate_by=self.found_evaluate_by,
            evaluate_name=None if self.evaluation is None else self.evaluation.name,
            evaluate_title=None if self.evaluation is None else title_of(self.evaluation.function),
            adapter=self.adapter,
            classifies=self.classifies,
            own_targets=self.intentions.objective is not None,
            patience=self.intentions.patience or self.default_patience,
            mixes=self.mixes,
            notes=self.notes,
        )

    @property
    def default_patience(self) -> int | None:
        """The default of its parameter ``patience``, if that is a number of epochs that a case can have."""
        constructor = None if self.owner is None else self.owner.constructor
        for binding in (self.training.binding, constructor):
            parameter = None if binding is None else binding.signature.parameters.get("patience")
            found = None if parameter is None else parameter.default
            if type(found) is int and 0 < found <= MOST_PATIENCE:
                return found
        return None

    @property
    def mixes(self) -> bool:
        """It takes whether mixed precision is on, or reads it from its settings."""
        codes = [code for function in self._written for code in codes_of(function)] if "args" in self.roles else []
        words = {word for code in codes for word in (*code.co_names, *code.co_consts) if isinstance(word, str)}
        return "mixed" in self.roles or any(meanings(word, "train") == ("mixed",) for word in words)

    @property
    def _written(self) -> list[Any]:
        """The function that trains, and those of its class."""
        written: list[Any] = [self.training.function]
        if self.owner is not None and self.owner.target.owner_class is not None:
            written += [part for part in vars(self.owner.target.owner_class).values() if inspect.isfunction(part)]
        return written

    @property
    def classifies(self) -> bool:
        """Its code treats outputs or targets as those of classes."""
        written = self._written
        named = any(CLASSIFIES & {*code.co_names} for function in written for code in codes_of(function))
        return named or any(LARGEST.search(source_of(unwrapped(function))) for function in written)

    @property
    def plain_intentions(self) -> Intentions:
        """The intentions without the functions, which cannot be pickled."""
        return dataclasses.replace(self.intentions, objective=None, model=None, evaluate=None, save=None, load=None)

    def devices(self, values: Mapping[str, object]) -> AbstractContextManager[None]:
        """Return a block in which CUDA that is written out means the device of the case, if there is none."""
        return cuda_means(values.get("device", "cpu")) if self.writes_cuda else nullcontext()

    def begin(self, values: Mapping[str, object]) -> Trainee:
        """Begin one run: make the instance, if the loop is a class.

        Args:
            values: from role to value. ``args`` and ``loaders`` are made from the others if they are not given.
                A parameter with a default keeps it if its value is None or not given.
        """
        trainee = Trainee(self, None, LoopArgs(**{**SETTINGS, **_own(self.settings)}))
        if self.owner is not None:
            with search_path(*self.folders), foreign_code, self.devices(values):
                trainee.set_globals(self.training, values)
                trainee.instance = self.owner.make(trainee.complete(values))
        return trainee


@dataclass
class Trainee:
    """One run of a loop.

    Attributes:
        contract: the loop.
        instance: of the loop's class, for this run alone; None if the loop is a function.
        settings: the ``args`` of this run.
        yielded: what the loop has yielded, if it is a generator.
        placed: the globals that this run has set: name to role.
    """

    contract: Contract
    instance: object
    settings: LoopArgs
    yielded: list[object] = field(default_factory=list)
    placed: dict[str, str] = field(default_factory=dict)

    def train(self, values: Mapping[str, object]) -> object:
        """Train one epoch, or all epochs of a whole fit; return what the loop returns.

        For a generator that returns nothing, that is what it yielded last.
        """
        return self._call(self.contract.training, values)

    def evaluate(self, values: Mapping[str, object]) -> object:
        """Evaluate; return what the loop returns."""
        return self._call(self.contract.evaluation, values)

    def save(self, values: Mapping[str, object]) -> object:
        """Write a checkpoint to the value of ``path``."""
        return self._call(self.contract.saving, values)

    def load(self, values: Mapping[str, object]) -> object:
        """Read the checkpoint at the value of ``path``."""
        return self._call(self.contract.loading, values)

    def _call(self, part: LoopPart | None, values: Mapping[str, object]) -> object:
        if part is None:
            raise UserError(f"{self.contract.name} has no function for this, expected a declared one: declare it")
        with search_path(*self.contract.folders), foreign_code, self.contract.devices(values):
            self.set_globals(part, values)
            result = part.call(self.instance, self.complete(values))
            if isinstance(result, GeneratorType):
                result = self._exhaust(result)
        if inspect.isawaitable(result) or inspect.isasyncgen(result):
            if inspect.iscoroutine(result):
                result.close()
            raise async_error(self.contract.name)
        return result

    def set_globals(self, part: LoopPart, values: Mapping[str, object]) -> None:
        """Put into the module what ``part`` reads there, once a run: a loop may go on with what it made of it."""
        namespace = getattr(unwrapped(part.function), "__globals__", {})
        complete = self.complete(values)
        for name, role in part.read.items():
            if self.placed.get(name) != role and role in {**complete, "loaders": None, "sizes": None}:
                self.placed[name] = role
                namespace[name] = value_of(role, complete)
        for name in given_globals(part.function, self.contract.given) - self.placed.keys():
            self.placed[name] = ""
            namespace[name] = copy.deepcopy(self.contract.given[name])
        for name in missing_writers(part.function) - self.placed.keys():
            self.placed[name] = ""
            namespace[name] = TakesEveryCall()

    def complete(self, values: Mapping[str, object]) -> dict[str, object]:
        """Return the values with the settings, made anew of them."""
        settings = vars(self.settings)
        settings.update(values)
        settings.update({role: off for role, off in WHERE_NONE.items() if settings.get(role, off) is None})
        settings.update({name: value for name, value in self.contract.settings.items() if name in OBJECTS})
        if "epoch" in self.contract.settings:  # of a parser, it is their number
            settings["epoch"] = values.get("epochs")
        settings.update(settings_given(self.contract.given))
        return {"args": self.settings, **values}

    def _exhaust(self, generator: GeneratorType[object, None, object]) -> object:
        before = len(self.yielded)
        while True:
            try:
                self.yielded.append(next(generator))
            except StopIteration as end:
                return self.yielded[-1] if end.value is None and len(self.yielded) > before else end.value


def _own(parsed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parser's defaults that come before the table: not those of the device, of processes, of numbers."""
    return {
        name: value
        for name, value in parsed.items()
        if name not in FIXED and not set(meanings(name, "train")) & NUMBERS
    }
