"""What a function does with a name, read off its source: whether it is a number, an optimizer, a model."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from mnist_loop.verification.binding.target import unwrapped

ORDERED = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
MODEL_METHODS = {"parameters", "named_parameters", "train", "eval"}
TENSOR_METHODS = {"size", "to", "cuda", "view", "dim"}
WRITER_METHODS = {
    *("write", "flush", "close", "add_scalar", "add_scalars", "add_image", "add_images", "add_histogram"),
    *("debug", "info", "warning", "log", "log_metric", "log_metrics", "set_description", "set_postfix", "set_epoch"),
}
DICT_METHODS = {"get", "items", "keys"}
OPTIMIZER_METHODS = {"zero_grad", "step"}


@dataclass
class Usage:
    """What is done with a name.

    Attributes:
        is_number: it is reckoned with, compared in size, or given to ``range``.
        is_called: it is called.
        is_iterated: it is iterated over.
        is_loss: it is called, and what it returns goes backward.
        methods: the methods of it that are called.
        attributes: the attributes of it that are read, those methods included.
    """

    is_number: bool = False
    is_called: bool = False
    is_iterated: bool = False
    is_loss: bool = False
    methods: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)

    @property
    def is_object(self) -> bool:
        """No literal can stand for it."""
        return self.is_called or self.is_iterated or self.is_tensor

    @property
    def is_tensor(self) -> bool:
        """It has a size or is moved, as no loader is."""
        return bool(TENSOR_METHODS & self.methods) or "shape" in self.attributes

    @property
    def takes_every_call(self) -> bool:
        """Nothing is done with it but to write to it."""
        nothing_else = not (self.is_number or self.is_object)
        return bool(self.methods) and nothing_else and self.attributes <= WRITER_METHODS

    @property
    def is_settings(self) -> bool:
        """Its attributes are read, and nothing else is done with it."""
        nothing_else = not (self.is_number or self.is_object or self.takes_every_call)
        return bool(self.attributes) and nothing_else and self.methods <= DICT_METHODS

    @property
    def is_optimizer(self) -> bool:
        """It is cleared of gradients and stepped."""
        return self.methods >= OPTIMIZER_METHODS

    @property
    def is_model(self) -> bool:
        """It is called, and has parameters or modes."""
        return self.is_called and bool(MODEL_METHODS & self.methods)


def usage_of(function: Any, name: str) -> Usage:
    """Return what ``function`` does with ``name``; nothing where its source is not there."""
    written = unwrapped(vars(function).get("__init__") if isinstance(function, type) else function)
    return _usages(written).get(name, Usage()) if inspect.isfunction(written) else Usage()


def source_of(function: Any) -> str:
    """Return the source of a function; nothing where it is not there."""
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        return ""


@lru_cache(maxsize=256)
def _usages(function: Any) -> dict[str, Usage]:
    try:
        tree = ast.parse(source_of(function))
    except (SyntaxError, ValueError):
        return {}
    found: dict[str, Usage] = {}
    for name, what in _facts(tree):
        usage = found.setdefault(name, Usage())
        kind, _, detail = what.partition(" ")
        if kind == "attribute":
            usage.attributes.add(detail)
        elif kind == "method":
            usage.methods.add(detail)
        else:
            setattr(usage, f"is_{kind}", True)
    return found


def _facts(tree: ast.AST) -> Iterator[tuple[str, str]]:
    yield from ((name, "loss") for name in _losses(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp):
            yield from ((part.id, "number") for part in (node.left, node.right) if isinstance(part, ast.Name))
        elif isinstance(node, ast.Compare) and all(isinstance(kind, ORDERED) for kind in node.ops):
            yield from ((part.id, "number") for part in (node.left, *node.comparators) if isinstance(part, ast.Name))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.value.id, f"attribute {node.attr}"
        elif isinstance(node, ast.For | ast.comprehension) and isinstance(node.iter, ast.Name):
            yield node.iter.id, "iterated"
        elif isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id == "range":
                yield from ((part.id, "number") for part in node.args if isinstance(part, ast.Name))
            elif isinstance(called, ast.Name):
                yield called.id, "called"
                if called.id in ("enumerate", "zip", "iter", "tqdm", "next"):
                    yield from ((part.id, "iterated") for part in node.args if isinstance(part, ast.Name))
            elif isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
                yield called.value.id, f"method {called.attr}"


def _losses(tree: ast.AST) -> Iterator[str]:
    """Yield the names of what is called for something that goes backward."""
    backward = {
        ast.unparse(node.func.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "backward"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and any(ast.unparse(target) in backward for target in node.targets):
            made = node.value
            if isinstance(made, ast.Call) and isinstance(made.func, ast.Name):
                yield made.func.id
