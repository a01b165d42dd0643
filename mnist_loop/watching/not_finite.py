"""Where a number that is not finite came from, read off the graph before a backward pass goes through it."""

from __future__ import annotations

from typing import Any

import torch

MOST_NODES = 20_000


def origin_of(root: torch.Tensor) -> str:
    """Say which operation first gave a number that is not finite; what is known of it, in words.

    The nodes of a graph keep tensors for the backward pass. Of the nodes that keep one that is not finite, the one that
    was recorded first is nearest to the origin.
    """
    first: tuple[int, str] | None = None
    todo, seen = [root.grad_fn], {root.grad_fn}
    while todo and len(seen) < MOST_NODES:
        node: Any = todo.pop()
        if node is None:
            continue
        for name in dir(node):
            if not name.startswith("_saved_") or (first is not None and node._sequence_nr() >= first[0]):
                continue
            try:
                value = getattr(node, name)
            except RuntimeError:  # it was freed, or written to since
                continue
            if isinstance(value, torch.Tensor) and value.is_floating_point() and not _finite(value):
                first = (node._sequence_nr(), _in_words(node, name.removeprefix("_saved_")))
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                todo.append(following)
    return "" if first is None else f"the first that is not finite is {first[1]}"


def _in_words(node: Any, saved: str) -> str:
    """Say what a tensor is that a node has saved under this name."""
    if saved in ("result", "output"):
        return f"the result of {_operation(node)}"
    place = {"self": 0, "input": 0, "other": 1}.get(saved)
    made_by = node.next_functions[place][0] if place is not None and place < len(node.next_functions) else None
    if made_by is None:
        return f"an input of {_operation(node)}"
    if made_by.name().endswith("AccumulateGrad"):
        return f"a parameter, in {_operation(node)}"
    return f"the result of {_operation(made_by)}, which goes into {_operation(node)}"


def _finite(value: torch.Tensor) -> bool:
    with torch.no_grad():
        return bool(torch.isfinite(value.detach()).all())


def _operation(node: Any) -> str:
    """Return the name of the operation that a node belongs to: "log" for LogBackward0."""
    return str(node.name()).rpartition("::")[2].rstrip("0123456789").removesuffix("Backward").lower() or "an operation"
