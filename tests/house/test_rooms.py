"""The rooms of the house: which may import which, no circles, and no public name that means two things."""

from __future__ import annotations

import ast
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

# Each room, and the rooms that it may import beside itself. A new room is added here, with its place in the house.
FOR_ALL = {"errors", "support"}
LESSON = {"loop", "model", "data", "engines"}
MAY_IMPORT = {
    "errors": set(),
    "support": {"errors"},
    # the lesson
    "loop": set(),
    "model": set(),
    "data": FOR_ALL,
    "engines": FOR_ALL | {"loop", "model", "data"},
    "training": FOR_ALL | LESSON,
    # the wing of truth
    "bugs": FOR_ALL,
    "verdict": FOR_ALL | {"bugs"},
    "verification": FOR_ALL | {"bugs", "verdict"},
    "watching": FOR_ALL | {"bugs", "verdict"},
    "pytest_plugin": FOR_ALL | {"bugs", "verdict", "verification", "watching"},
    # the wing of speed
    "statistics": FOR_ALL,
    "bench": FOR_ALL | LESSON | {"statistics"},
    "compare": FOR_ALL | LESSON | {"statistics", "bench"},
    "report": FOR_ALL | {"statistics"},
}
ANYWHERE = {"", "cli", "__main__"}  # the package's face, and the commands


@pytest.fixture(scope="module")
def modules(request) -> dict[str, Path]:
    """Every module of the package, by its dotted name."""
    root = request.config.rootpath
    files = (root / "mnist_loop").rglob("*.py")
    return {".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


@pytest.fixture(scope="module")
def imports(modules) -> dict[str, set[str]]:
    """What each module imports of the package as it runs; imports for type checkers alone are left out."""
    return {name: set(_imported(ast.parse(file.read_text()), modules)) - {name} for name, file in modules.items()}


def _imported(tree, modules):
    for node in _running(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            whole = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in modules else node.module for name in whole)


def _running(tree):
    """Walk the tree, but not below ``if TYPE_CHECKING:``."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from _running(node)


def _room(module):
    return module.partition(".")[2].partition(".")[0]


def test_each_room_imports_what_it_may(imports):
    """An import runs from a room to those that the table allows it, and never back."""
    wrong = [
        f"{name} imports {other}"
        for name, others in imports.items()
        for other in others
        if _room(name) not in ANYWHERE and _room(other) not in {_room(name), *MAY_IMPORT[_room(name)], ""}
    ]
    assert not wrong, "\n".join(sorted(wrong))


def test_the_table_has_no_circle():
    """The rooms can be put in a line such that each imports only what stands before it."""
    assert list(TopologicalSorter(MAY_IMPORT).static_order())


def test_no_modules_import_each_other_in_a_circle(imports):
    """Modules can be put in such a line as well. A package's own ``__init__`` only hands names on."""
    faces = {name for name in imports if any(other.startswith(f"{name}.") for other in imports)}
    try:
        TopologicalSorter({name: others - faces for name, others in imports.items()}).prepare()
    except CycleError as circle:
        pytest.fail(f"a circle of imports: {' -> '.join(circle.args[1])}")


def test_a_public_class_has_a_name_of_its_own(modules):
    """No two public classes of the package share a name: one word for one thing."""
    places = defaultdict(list)
    for name, file in modules.items():
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name)
    double = {name: found for name, found in places.items() if len(found) > 1}
    assert not double, "\n".join(f"{name}: {', '.join(found)}" for name, found in sorted(double.items()))
