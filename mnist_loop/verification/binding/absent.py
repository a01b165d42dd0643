"""Stands for packages that are not installed, or log elsewhere: it raises where it is used, or takes each call."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from mnist_loop.verification.binding.given import TakesEveryCall

# Packages that log, show or name a training, and change nothing in it.
LOGGERS = {
    *("aim", "clearml", "comet_ml", "mlflow", "neptune", "progress", "setproctitle", "swanlab", "tensorboard"),
    *("tensorboardX", "tensorboard_logger", "torch.utils.tensorboard", "visdom", "wandb"),
}
# Those that send what they log to a server: nobody wants the cases there, so that they are never imported.
ELSEWHERE = {"aim", "clearml", "comet_ml", "mlflow", "neptune", "swanlab", "wandb"}
WITH_IT = {"tensorboard": ("torch.utils.tensorboard",)}  # modules of installed packages that need an absent one


class NotInstalledError(ModuleNotFoundError):
    """A package that is not installed was used."""


class Absent:
    """Stands for what an absent package holds."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Absent:
        """Return what stands for an attribute, whose name is all that is known."""
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{self._name}.{name}")

    def __call__(self, *_: object, **__: object) -> Any:
        """Raise.

        Raises:
            NotInstalledError: always.
        """
        raise NotInstalledError(f"{self._name} is used, and {self._name.partition('.')[0]} is not installed")

    __iter__ = __enter__ = __exit__ = __getitem__ = __call__

    def __or__(self, _: object) -> Absent:
        """Return itself: in an annotation it means nothing."""
        return self

    __ror__ = __or__

    def __instancecheck__(self, _: object) -> bool:
        """Return False: nothing is made by an absent class."""
        return False

    def __mro_entries__(self, _: object) -> tuple[type, ...]:
        """Return a base for a class that is made of an absent one."""
        return (type(self._name.rpartition(".")[2], (), {"__init__": self.__call__}),)


class _Module(ModuleType):
    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return TakesEveryCall() if logs(self.__name__) else Absent(f"{self.__name__}.{name}")


class _Finder(MetaPathFinder, Loader):
    def __init__(self, names: Collection[str]) -> None:
        self.names = {*names, *(more for name in names for more in WITH_IT.get(name, ())), *ELSEWHERE}
        self.found: set[str] = set()

    def find_spec(self, fullname: str, _path: object, _target: object = None) -> ModuleSpec | None:
        package = fullname.partition(".")[0]
        if fullname not in self.names and package not in self.names:
            return None
        self.found.add(fullname if fullname in self.names else package)
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = _Module(spec.name)
        module.__path__ = []  # it is a package
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: it holds nothing."""


def logs(name: str) -> bool:
    """Return whether the package of a module only logs."""
    return name in LOGGERS or name.partition(".")[0] in LOGGERS


@contextmanager
def stand_ins(names: Collection[str]) -> Iterator[set[str]]:
    """Have imports of these absent packages, and of what logs elsewhere, find what stands for them, within.

    Yields the names of those that were found.
    """
    finder = _Finder(names)
    sys.meta_path.insert(0, finder)
    try:
        yield finder.found
    finally:
        sys.meta_path.remove(finder)
        for name, module in [*sys.modules.items()]:
            if isinstance(module, _Module):
                del sys.modules[name]


def told(names: Collection[str]) -> list[str]:
    """Return a sentence for each kind of package that something stands for."""
    silent = ", ".join(sorted(name for name in names if logs(name)))
    others = ", ".join(sorted(name for name in names if not logs(name)))
    return [
        *([f"it only logs, and what is called of it does nothing: {silent}"] if silent else []),
        *([f"not installed: {others}; a loop that uses it cannot be tried"] if others else []),
    ]
