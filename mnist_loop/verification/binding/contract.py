"""A bound loop, and a run of it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import GeneratorType

from mnist_loop.errors import UserError
from mnist_loop.verification.binding.foreign import foreign_code
from mnist_loop.verification.binding.intentions import Intentions
from mnist_loop.verification.binding.parts import FoundBy, LoopPart, Owner
from mnist_loop.verification.binding.resolve import search_path
from mnist_loop.verification.binding.roles import SETTINGS, LoopArgs
from mnist_loop.verification.binding.target import Location, async_error, codes_of, title_of

# Names that code uses on outputs or targets of classes alone.
CLASSIFIES = frozenset({"softmax", "log_softmax", "Softmax", "LogSoftmax", "one_hot", "long", "cross_entropy"})


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
        )

    @property
    def classifies(self) -> bool:
        """Its code treats outputs or targets as those of classes."""
        written = [self.training.function]
        if self.owner is not None and self.owner.target.owner_class is not None:
            written += [part for part in vars(self.owner.target.owner_class).values() if inspect.isfunction(part)]
        return any(CLASSIFIES & {*code.co_names} for function in written for code in codes_of(function))

    @property
    def plain_intentions(self) -> Intentions:
        """The intentions without the functions, which cannot be pickled."""
        return dataclasses.replace(self.intentions, model=None, evaluate=None, save=None, load=None)

    def begin(self, values: Mapping[str, object]) -> Trainee:
        """Begin one run: make the instance, if the loop is a class.

        Args:
            values: from role to value. ``args`` and ``loaders`` are made from the others if they are not given.
                A parameter with a default keeps it if its value is None or not given.
        """
        settings = LoopArgs(**SETTINGS)
        instance = None
        if self.owner is not None:
            with search_path(*self.folders), foreign_code:
                instance = self.owner.make(_complete(values, settings))
        return Trainee(self, instance, settings)


@dataclass
class Trainee:
    """One run of a loop.

    Attributes:
        contract: the loop.
        instance: of the loop's class, for this run alone; None if the loop is a function.
        settings: the ``args`` of this run.
        yielded: what the loop has yielded, if it is a generator.
    """

    contract: Contract
    instance: object
    settings: LoopArgs
    yielded: list[object] = field(default_factory=list)

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
        with search_path(*self.contract.folders), foreign_code:
            result = part.call(self.instance, _complete(values, self.settings))
            if isinstance(result, GeneratorType):
                result = self._exhaust(result)
        if inspect.isawaitable(result) or inspect.isasyncgen(result):
            if inspect.iscoroutine(result):
                result.close()
            raise async_error(self.contract.name)
        return result

    def _exhaust(self, generator: GeneratorType[object, None, object]) -> object:
        before = len(self.yielded)
        while True:
            try:
                self.yielded.append(next(generator))
            except StopIteration as end:
                return self.yielded[-1] if end.value is None and len(self.yielded) > before else end.value


def _complete(values: Mapping[str, object], settings: LoopArgs) -> dict[str, object]:
    vars(settings).update(values)
    return {"args": settings, **values}
