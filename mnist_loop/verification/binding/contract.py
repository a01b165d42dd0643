"""What a training loop is: something whose parameters can be bound by their names, and of which a run can begin."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import GeneratorType

from mnist_loop.errors import UserError
from mnist_loop.verification.binding import intentions, resolve
from mnist_loop.verification.binding.binder import Binder, FoundBy, async_error
from mnist_loop.verification.binding.intentions import Intentions
from mnist_loop.verification.binding.parts import Owner, Part
from mnist_loop.verification.binding.roles import SETTINGS, Settings
from mnist_loop.verification.binding.target import Location, locate, target_of

__all__ = ["Contract", "Location", "Trainee", "bind"]


@dataclass(frozen=True)
class Contract:
    """A loop that can be run: what it is, what it takes, and how its parts are called.

    Attributes:
        name: for people: "my_train.py:train_one_epoch".
        location: where the part that trains is written; None where that cannot be told.
        intentions: what the loop is declared to do; what it declares as texts is found.
        training: trains.
        evaluation: evaluates; None where nothing does.
        found_evaluate_by: "declared", or "beside": found in the same class or module under a usual name.
        saving: writes a checkpoint, where that is declared.
        loading: reads a checkpoint, where that is declared.
        owner: what the methods belong to, where the loop is a class or an object.
        whole_fit: one call trains all epochs; else one call is one epoch.
        folders: what is put on the search path of modules while the loop runs, as it was when it was imported.
    """

    name: str
    location: Location | None
    intentions: Intentions
    training: Part
    evaluation: Part | None
    found_evaluate_by: FoundBy | None
    saving: Part | None
    loading: Part | None
    owner: Owner | None
    whole_fit: bool
    folders: tuple[str, ...] = ()

    @property
    def roles(self) -> frozenset[str]:
        """The roles that training takes, with those of the constructor."""
        return self.training.roles

    @property
    def evaluate_roles(self) -> frozenset[str] | None:
        """The roles that evaluation takes, of a method with those of the constructor; None without evaluation."""
        return None if self.evaluation is None else self.evaluation.roles

    def begin(self, values: Mapping[str, object]) -> Trainee:
        """Begin one run, with fresh values: of a class, make the instance.

        Args:
            values: from role to value. ``args`` and ``loaders`` are made from the others where they are not given.
                A parameter with a default keeps it where its value is None or not given.
        """
        settings = Settings(**SETTINGS)
        instance = None
        if self.owner is not None:
            with resolve.search_path(*self.folders):
                instance = self.owner.make(_complete(values, settings))
        return Trainee(self, instance, settings)


@dataclass
class Trainee:
    """One run of a loop.

    Attributes:
        contract: the loop.
        instance: of the loop's class, for this run alone; None where the loop is a function.
        settings: the ``args`` of this run.
        yielded: what the loop, being a generator, has yielded.
    """

    contract: Contract
    instance: object
    settings: Settings
    yielded: list[object] = field(default_factory=list)

    def train(self, values: Mapping[str, object]) -> object:
        """Train one epoch, or all of them where the contract is a whole fit; return what the loop returns.

        Of a generator that returns nothing it is what it yielded last.
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

    def _call(self, part: Part | None, values: Mapping[str, object]) -> object:
        if part is None:
            raise UserError(f"{self.contract.name} has no function for this, expected a declared one: declare it")
        with resolve.search_path(*self.contract.folders):
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


def bind(loop: object, evaluate: object = None, **declared: object) -> Contract:
    """Bind ``loop``: learn what each of its parameters means, without running it.

    Args:
        loop: what trains: a function, a class, an object with ``fit`` or the like, or the text that says where one is.
        evaluate: what evaluates, by default what the loop declares, or what stands beside it under a usual name.
        **declared: intentions, on top of what the loop declares itself.

    Raises:
        UserError: it is no loop, a parameter cannot be bound, or an intention is none.
    """
    if isinstance(loop, str):
        loop = resolve.resolve(loop)
    target = target_of(loop)
    meant = intentions.of(loop)
    if meant is intentions.DEFAULT and target.owner_class is not None:
        meant = intentions.of(target.owner_class)
    meant = intentions.make(declared if evaluate is None else {**declared, "evaluate": evaluate}, meant)
    binder = Binder(target, meant)
    training = binder.training()
    evaluation, found_by = binder.evaluation()
    if isinstance(meant.model, str):
        meant = intentions.make({"model": binder.look_up(meant.model)}, meant)
    return Contract(
        name=binder.title,
        location=locate(training.function),
        intentions=meant,
        training=training,
        evaluation=evaluation,
        found_evaluate_by=found_by,
        saving=binder.checkpointing(meant.save),
        loading=binder.checkpointing(meant.load),
        owner=training.owner,
        whole_fit=binder.is_whole(),
        folders=resolve.folders_of(binder.module),
    )


def _complete(values: Mapping[str, object], settings: Settings) -> dict[str, object]:
    vars(settings).update(values)
    return {"args": settings, **values}
