"""The settings of which a loop only asks whether they are on: ``if args.mixup``."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from mnist_loop.verification.binding.roles import meanings
from mnist_loop.verification.binding.target import unwrapped

# What a loop cannot do without: a setting that decides whether it is called is no switch to leave off.
NEEDED = {"backward", "step", "zero_grad", "train", "eval", "clip_grad_norm_", "clip_grad_value_"}


def switches_of(function: Any, own: Iterable[str]) -> list[str]:
    """Return the names of such settings in one function.

    Args:
        function: is read.
        own: names of parameters that are settings, beside the usual ones.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(unwrapped(function))))
    except (OSError, TypeError, SyntaxError, ValueError):
        return []
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    settings = {name for name in names if "args" in meanings(name, "train")} | {*own}
    tests = [node for node in ast.walk(tree) if isinstance(node, ast.If | ast.IfExp)]
    asked = {part for test in tests if not _decides(test) for part in _asked(test.test)}
    read: dict[str, bool] = {}
    for node in ast.walk(tree):
        if name := _setting(node, settings):
            read[name] = read.get(name, True) and node in asked
    return [name for name, only_asked in read.items() if only_asked]


def _setting(node: ast.AST, settings: set[str]) -> str:
    if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.value, ast.Name):
        if node.value.id in settings and isinstance(node, ast.Attribute):
            return node.attr
        key = node.slice if isinstance(node, ast.Subscript) else None
        if node.value.id in settings and isinstance(key, ast.Constant) and isinstance(key.value, str):
            return key.value
    return ""


def _asked(test: ast.expr) -> Iterator[ast.expr]:
    """Yield the parts of a test of which it is asked whether they are true."""
    if isinstance(test, ast.BoolOp):
        for value in test.values:
            yield from _asked(value)
    elif isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        yield from _asked(test.operand)
    else:
        yield test


def _decides(test: ast.If | ast.IfExp) -> bool:
    """Return whether a test decides whether something is called that a loop needs."""
    one, other = (_calls(part) & NEEDED for part in (test.body, test.orelse))
    return one != other


def _calls(part: list[ast.stmt] | ast.expr) -> set[str]:
    nodes = [node for one in (part if isinstance(part, list) else [part]) for node in ast.walk(one)]
    return {node.attr for node in nodes if isinstance(node, ast.Attribute)}
