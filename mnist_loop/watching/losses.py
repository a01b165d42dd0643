"""The loss functions of torch, and what is certain to be wrong with what they are given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from mnist_loop.watching.hooks import Hooks
    from mnist_loop.watching.watcher import Watcher

# Nodes of a graph that keep the values of the tensor they are given, in another shape or a part of them.
KEEPS_VALUES = (
    "Alias", "AsStrided", "Clone", "Expand", "Flatten", "Permute", "Reshape", "ReshapeAlias", "Select", "Slice",
    "Squeeze", "T", "ToCopy", "Transpose", "Unsqueeze", "UnsafeView", "View", "Index",
)  # fmt: skip
DEEPEST = 8  # such nodes
POSITIVE = 1e-3  # a log-probability is at most 0; rounding takes it less far above
PAIRWISE = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
CHECKED = 20  # calls of nll_loss whose values are looked at


def put_in(hooks: Hooks) -> None:
    """Put the hooks into torch.nn.functional, where the loss modules look the functions up."""

    def around(name: str, look: Any) -> None:
        def make(original: Any) -> Any:
            def wrapper(input: Any = None, target: Any = None, *args: Any, **kwargs: Any) -> Any:  # noqa: A002
                if not torch.compiler.is_compiling():
                    watcher = hooks.watcher
                    if watcher is not None and watcher.closely and type(input) is torch.Tensor:
                        hooks.tell(name, look, name, input, target)
                if input is None:
                    return original(*args, **kwargs)
                if target is None:
                    return original(input, *args, **kwargs)
                return original(input, target, *args, **kwargs)

            return wrapper

        hooks.put(functional, name, make)

    around("cross_entropy", _cross_entropy)
    around("binary_cross_entropy_with_logits", _bce_with_logits)
    around("nll_loss", _nll)
    for name in PAIRWISE:
        around(name, _pairwise)


def made_by(tensor: torch.Tensor) -> str:
    """Return the operation that made a tensor's values, such as "Softmax"; "" where that cannot be told."""
    node: Any = tensor.grad_fn
    for _ in range(DEEPEST):
        if node is None:
            return ""
        name = str(node.name()).rstrip("0123456789").removesuffix("Backward")
        if name not in KEEPS_VALUES:
            return name
        node = node.next_functions[0][0]
    return ""


def _cross_entropy(watcher: Watcher, name: str, given: torch.Tensor, target: Any) -> None:  # noqa: ARG001
    watcher.called(name)
    if made_by(given) == "Softmax":
        watcher.misuse("softmax-before-cross-entropy", "the input of cross_entropy is the output of a softmax")


def _bce_with_logits(watcher: Watcher, name: str, given: torch.Tensor, target: Any) -> None:  # noqa: ARG001
    watcher.called(name)
    if made_by(given) == "Sigmoid":
        watcher.misuse(
            "sigmoid-before-bce-with-logits", "the input of binary_cross_entropy_with_logits is the output of a sigmoid"
        )


def _nll(watcher: Watcher, name: str, given: torch.Tensor, target: Any) -> None:  # noqa: ARG001
    watcher.called(name)
    if watcher.log.calls[name] > CHECKED or made_by(given) == "LogSoftmax" or not given.numel():
        return
    largest = float(given.detach().max())
    if largest > POSITIVE:
        watcher.misuse(
            "log-softmax-missing-for-nll",
            f"the input of nll_loss is as large as {largest:.3g}, and the logarithm of a probability is at most 0",
        )


def _pairwise(watcher: Watcher, name: str, given: torch.Tensor, target: Any) -> None:
    watcher.called("pairwise")
    if not isinstance(target, torch.Tensor) or given.shape == target.shape or given.numel() < 2:
        return
    if given.ndim == target.ndim:
        return  # (N, 1) with (1, N): each is to be compared with each
    # As many predictions as targets, and yet each is compared with each.
    if given.numel() == target.numel() and given.squeeze().shape == target.squeeze().shape:
        size = torch.broadcast_shapes(given.shape, target.shape)
        if size.numel() > given.numel():
            watcher.misuse(
                "loss-broadcast",
                f"{name} compares predictions of shape {tuple(given.shape)} with targets of shape "
                f"{tuple(target.shape)}: each with each, {size.numel()} differences instead of {given.numel()}",
            )
