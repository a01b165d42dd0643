"""The settings of a file: the defaults of its argparse parser, read off its source."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

SWITCHES: dict[str, Any] = {"store_true": False, "store_false": True, "count": None, "append": None}
PLAIN = (bool, int, float, str, list, tuple, dict, type(None))  # values of settings
TYPES = {"int": int, "float": float, "str": str}


def parser_defaults(source: str, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return the default of each option that ``source`` adds to a parser; those that cannot be told are left out.

    Args:
        source: of the file.
        namespace: what a default that is no literal is looked up in.
    """
    if "add_argument" not in source:
        return {}  # most files: to parse one takes longer than all else of a binding
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return {}
    found: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            name = _destination(node)
            value = _default(node, namespace)
            if name and value is not _UNKNOWN:
                found.setdefault(name, value)
    return found


_UNKNOWN = object()


def _destination(call: ast.Call) -> str:
    """Return the name of the attribute: that of ``dest``, or else of the first long option."""
    given = next((one.value for one in call.keywords if one.arg == "dest"), None)
    if isinstance(given, ast.Constant):
        return str(given.value)
    texts = [one.value for one in call.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    chosen = next((text for text in texts if text.startswith("--")), texts[0] if texts else "")
    return chosen.lstrip("-").replace("-", "_")


def _default(call: ast.Call, namespace: Mapping[str, Any]) -> Any:
    given = {one.arg: one.value for one in call.keywords}
    action = given.get("action")
    if "default" in given:
        value = _value(given["default"], namespace)
        kind = given.get("type")
        if isinstance(value, str) and isinstance(kind, ast.Name) and kind.id in TYPES:
            return TYPES[kind.id](value)  # as argparse does
        return value
    if isinstance(action, ast.Constant):
        return SWITCHES.get(str(action.value), _UNKNOWN)
    required = given.get("required")
    is_option = bool(call.args) and isinstance(call.args[0], ast.Constant) and str(call.args[0].value).startswith("-")
    is_required = isinstance(required, ast.Constant) and bool(required.value)
    return None if is_option and not is_required else _UNKNOWN


def _value(node: ast.expr, namespace: Mapping[str, Any]) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        pass
    try:
        found = eval(compile(ast.Expression(node), "<default>", "eval"), dict(namespace))  # noqa: S307  # their file's
    except Exception:  # noqa: BLE001  # it needs what is not there
        return _UNKNOWN
    return found if isinstance(found, PLAIN) else _UNKNOWN
