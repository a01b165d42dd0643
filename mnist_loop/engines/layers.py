"""Models that are linear layers with ReLU between them, as torch.fx sees their forward pass."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from itertools import pairwise
from weakref import WeakKeyDictionary

import torch
from torch import fx, nn
from torch.nn import functional


@dataclass(frozen=True)
class Layers:
    """Linear layers in order, with ReLU after each but the last.

    Attributes:
        names: of the layers in the model.
        flatten: whether the model flattens each image first.
    """

    names: tuple[str, ...]
    flatten: bool

    def of(self, model: nn.Module) -> list[nn.Linear]:
        """Return the layers of ``model``."""
        return [model.get_submodule(name) for name in self.names]  # type: ignore[misc]  # each is a Linear


# What was found of a model, and of which modules and options it then had.
_found: WeakKeyDictionary[nn.Module, tuple[list[object], Layers | None]] = WeakKeyDictionary()


def layers_of(model: nn.Module) -> Layers | None:
    """Return the layers of which ``model`` is made, or None if it has anything else. A copy of it is traced, once."""
    modules = _modules(model)
    known = _found.get(model)
    if known is None or known[0] != modules:
        known = _found[model] = modules, _traced(model)
    return known[1]


def _modules(model: nn.Module) -> list[object]:
    """Return the modules and their options."""
    return [
        (name, type(one), {key: value for key, value in vars(one).items() if isinstance(value, (int, float, str))})
        for name, one in model.named_modules()
    ]


def _traced(model: nn.Module) -> Layers | None:
    traced = copy.deepcopy(model)
    try:
        with torch.random.fork_rng(devices=[]):
            nodes = list(fx.symbolic_trace(traced).graph.nodes)
    except Exception:  # noqa: BLE001  # whatever a model's own code raises where it is given no tensor
        return None
    if _modules(traced) != _modules(model):  # such as a count of its calls: it may compute something else later
        return None
    kinds = "".join(_kind(node, model) for node in nodes)
    if not re.fullmatch("if?l(rl)*o", kinds) or any(node.args[0] is not before for before, node in pairwise(nodes)):
        return None
    layers = Layers(tuple(str(node.target) for node in nodes if _kind(node, model) == "l"), "f" in kinds)
    own = [id(parameter) for layer in layers.of(model) for parameter in layer.parameters()]
    # A layer or weight that is used twice is here twice.
    return layers if sorted(own) == sorted(map(id, model.parameters())) and not list(model.buffers()) else None


def _kind(node: fx.Node, model: nn.Module) -> str:
    """Return a letter: input, flatten, linear, relu, output, or ? for anything else."""
    target: object = type(model.get_submodule(str(node.target))) if node.op == "call_module" else node.target
    rest = (*node.args[1:], *node.kwargs.items())
    if node.op in ("placeholder", "output"):
        return node.op[0].replace("p", "i")
    if target in (nn.ReLU, functional.relu, torch.relu, "relu"):
        return "r"
    if target is nn.Linear:
        return "l"
    if target is nn.Flatten:
        return "f" if str(model.get_submodule(str(node.target))) == str(nn.Flatten()) else "?"
    return "f" if target in (torch.flatten, "flatten") and rest in ((1,), (("start_dim", 1),)) else "?"
