"""Call a function once torch is imported: a script may set what torch reads while it loads."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def once_torch_is_imported(call: Callable[[], object]) -> None:
    """Call a function as soon as torch has been imported: now, if it has been."""
    if "torch" in sys.modules:
        call()
    else:
        sys.meta_path.insert(0, _Finder(call))


class _Finder(MetaPathFinder):
    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find torch as the other finders do, with a loader that calls the function at the end."""
        if fullname != "torch":
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Calling(spec.loader, self.call)
                return spec
        return None


class _Calling(Loader):
    def __init__(self, loader: Loader, call: Callable[[], object]) -> None:
        self.loader, self.call = loader, call

    def __getattr__(self, name: str) -> object:
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Make the module as the loader does."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module as the loader does, then put the loader back and call the function."""
        self.loader.exec_module(module)
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.call()
