"""The definitions of a file that trains, or fails, when it runs: its imports, functions, classes and constants."""

from __future__ import annotations
import __future__

import ast
import contextlib
import io
import re
from collections.abc import Iterator
from types import ModuleType

from mnist_loop.verification.binding.absent import NotInstalledError

DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
# What may be called for a constant: no data, no model, no training.
HARMLESS = {
    *("argparse", "collections", "functools", "logging", "math", "nn", "np", "numpy", "os", "pathlib", "re", "time"),
    *("torch", "transforms", "Path", "namedtuple", "defaultdict", "deque", "bool", "dict", "float", "int", "len"),
    *("list", "max", "min", "range", "set", "sorted", "str", "sum", "tuple", "zip", "enumerate", "vars", "args"),
}
NOT_HARMLESS = ("torch.load", "torch.manual_seed", "torch.utils", "torch.hub", "np.load", "numpy.load", "os.mkdir")
# What adds to a parser, and what it returns.
ADDS = ("add_argument", "set_defaults", "add_argument_group", "add_mutually_exclusive_group")
PARSES = ("parse_args", "parse_known_args")


def trains(tree: ast.Module) -> bool:
    """Tell whether a file trains as it is imported: a loop at its top calls what goes backward."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    trainers: set[str] = set()
    for _ in functions:  # a chain of calls is at most so long
        trainers |= {node.name for node in functions if _goes_backward(node, trainers)}
    return any(
        _goes_backward(node, trainers)
        for statement in tree.body
        if not isinstance(statement, DEFINITIONS) and not _is_main(statement)
        for node in ast.walk(statement)
        if isinstance(node, ast.For | ast.While | ast.Expr)
    )


def has_loops(tree: ast.Module) -> bool:
    """Tell whether a file defines what could be a loop."""
    return any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in tree.body)


def load(tree: ast.Module, file: str, module: ModuleType) -> list[str]:
    """Execute the definitions and constants of ``tree`` in ``module``, and nothing else of it.

    Returns:
        The functions and classes that are left out, as their defaults, bases or decorators are not there, with why.
    """
    failed = []
    for statement in _kept(tree.body):
        try:
            _execute(statement, tree, file, module)
        except (NameError, NotInstalledError) as error:
            if not isinstance(statement, ast.FunctionDef | ast.ClassDef):
                raise
            failed.append(f"{statement.name} ({error})")
    return failed


def load_constants_of_main(tree: ast.Module, file: str, module: ModuleType) -> None:
    """Execute the constants under ``if __name__ == "__main__"`` in ``module`` that it lacks."""
    present = {*vars(module)}
    for block in filter(_is_main, tree.body):
        assert isinstance(block, ast.If)
        for statement in _kept(block.body):
            if not present & _names_in(statement):
                with contextlib.suppress(Exception):  # a script may need more than its functions do
                    _execute(statement, tree, file, module)


def _execute(statement: ast.stmt, tree: ast.Module, file: str, module: ModuleType) -> None:
    flags = (
        __future__.annotations.compiler_flag
        if "from __future__ import annotations" in map(ast.unparse, tree.body)
        else 0
    )
    code = compile(ast.Module([statement], []), file, "exec", flags, dont_inherit=True)
    if isinstance(statement, DEFINITIONS):
        exec(code, vars(module))  # noqa: S102  # it is what was asked for
        return
    # A constant may be made of what is not there, and a parser may want what nobody gave.
    with contextlib.suppress(Exception, SystemExit), contextlib.redirect_stderr(io.StringIO()):
        exec(code, vars(module))  # noqa: S102


def _names_in(statement: ast.stmt) -> set[str]:
    """Return the names that a statement assigns."""
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _kept(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        if isinstance(statement, DEFINITIONS) or ast.unparse(statement).startswith("sys.path."):
            yield statement
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            if _is_harmless(statement):
                yield statement
        elif isinstance(statement, ast.Expr):
            if isinstance(statement.value, ast.Call) and ast.unparse(statement.value.func).endswith(ADDS):
                yield statement
        elif isinstance(statement, ast.Try | ast.If) and not _is_main(statement) and _only_harmless(statement):
            yield statement


def _only_harmless(statement: ast.stmt) -> bool:
    return all(_is_harmless(node) for node in ast.walk(statement) if isinstance(node, ast.stmt) and node != statement)


def _is_harmless(statement: ast.AST) -> bool:
    if isinstance(statement, ast.For | ast.While | ast.With | ast.Delete | ast.Raise):
        return False
    calls = [node for node in ast.walk(statement) if isinstance(node, ast.Call)]
    return all(_may_call(ast.unparse(call.func)) for call in calls)


def _may_call(name: str) -> bool:
    return name.endswith((*ADDS, *PARSES)) or (
        re.split(r"[.(\[]", name)[0] in HARMLESS and not name.startswith(NOT_HARMLESS)
    )


def _is_main(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)


def _goes_backward(node: ast.AST, trainers: set[str]) -> bool:
    return any(
        (isinstance(call.func, ast.Attribute) and call.func.attr == "backward")
        or (isinstance(call.func, ast.Name) and call.func.id in trainers)
        for call in ast.walk(node)
        if isinstance(call, ast.Call)
    )
