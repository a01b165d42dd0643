"""Matrix products in a recorded step: choose the faster library for each, and fold sums into them.

torch computes float32 products with its BLAS, which is MKL in the wheels for x86. On an AMD EPYC with AVX-512 MKL
reaches 119 GFLOP/s a core; oneDNN, which torch has for other work, reaches 264 (large products, torch 2.15). Which one
is faster depends on the machine and the shape, so it is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from statistics import median

import torch
from torch import Tensor
from torch.fx import Graph, Node

from mnist_loop.engines import trials

GAIN = 0.9  # oneDNN is used only below 90 % of BLAS's time, because it needs a second pass to add a sum

aten = torch.ops.aten

# The compiler has no in-place addmm (it copies the matrix first), and no oneDNN product of matrices that change. As
# custom operators it calls them unchanged.
_operators = torch.library.Library("mnist_loop", "DEF")
_operators.define("addmm_(Tensor(a!) input, Tensor mat1, Tensor mat2, Scalar alpha) -> ()")
_operators.define("onednn_mm(Tensor mat1, Tensor mat2, Tensor? bias) -> Tensor")


def _addmm_(to: Tensor, one: Tensor, other: Tensor, alpha: float) -> None:
    to.addmm_(one, other, alpha=alpha)


def _onednn_mm(one: Tensor, other: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(one, other.t(), bias, "none", [], "")  # type: ignore[no-any-return]


def _shape_of_mm(one: Tensor, other: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ARG001  # as the operator's
    return one.new_empty(len(one), other.shape[1])


_operators.impl("addmm_", _addmm_, "CompositeExplicitAutograd")
_operators.impl("onednn_mm", _onednn_mm, "CPU")
_operators.impl("onednn_mm", _shape_of_mm, "Meta")


def take_faster(graph: Graph) -> None:
    """Let oneDNN compute the products of ``graph`` for which it is faster, with torch's current number of threads."""
    for node in list(graph.nodes):
        if node.target is aten.mm.default:
            factors, bias = node.args, None
        elif node.target is aten.addmm.default and not node.kwargs and node.args[0].meta["val"].dim() == 1:
            bias, *factors = node.args
        else:
            continue
        one, other = (_Layout.of(factor.meta["val"]) for factor in factors)
        if not _onednn_is_faster(one, other, torch.get_num_threads()):
            continue
        with graph.inserting_before(node):
            product = graph.call_function(torch.ops.mnist_loop.onednn_mm.default, (*factors, bias))
        node.replace_all_uses_with(product)
        graph.erase_node(node)


def of_step(widths: Sequence[int], images: int) -> list[Callable[[], Tensor]]:
    """Return the products of a step of linear layers on so many float32 images, each by the faster library."""
    found: list[Callable[[], Tensor]] = []
    for layer, (inputs, outputs) in enumerate(pairwise(widths)):
        x, weight, dz = torch.ones(images, inputs), torch.ones(outputs, inputs), torch.ones(images, outputs)
        for factors in ((x, weight.t()), (dz.t(), x), *([(dz, weight)] if layer else [])):
            faster = _onednn_is_faster(*map(_Layout.of, factors), torch.get_num_threads())
            onednn = partial(torch.ops.mnist_loop.onednn_mm.default, *factors, None)
            found.append(onednn if faster else partial(torch.mm, *factors))
    return found


@dataclass(frozen=True)
class _Layout:
    """The properties of a factor on which the time of a product depends."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, tensor: Tensor) -> _Layout:
        return cls(tuple(tensor.size()), tuple(tensor.stride()), tensor.dtype, tensor.device)

    def example(self) -> Tensor:
        return torch.empty_strided(self.size, self.stride, dtype=self.dtype, device=self.device).fill_(1)


@cache
def _onednn_is_faster(one: _Layout, other: _Layout, threads: int) -> bool:  # noqa: ARG001  # a part of the cache's key
    """Time a product with both libraries, which take turns."""
    if one.device.type != "cpu" or {one.dtype, other.dtype} != {torch.float32} or not torch.backends.mkldnn.enabled:
        return False
    factors = one.example(), other.example()
    blas, onednn = partial(torch.mm, *factors), partial(torch.ops.mnist_loop.onednn_mm.default, *factors, None)
    try:
        onednn()
    except (RuntimeError, NotImplementedError):  # this torch has no oneDNN, or oneDNN refuses such factors
        return False
    rounds = [(trials.seconds(blas), trials.seconds(onednn)) for _ in range(trials.COUNT)]
    of_blas, of_onednn = map(median, zip(*rounds, strict=True))
    return bool(of_onednn < GAIN * of_blas)


def sum_in_products(graph: Graph) -> None:
    """Fold sums into matrix products: W += alpha (A B), and A B + beta W.

    The first is SGD's update of a linear layer's weight; with the sum in the product, the gradient is neither stored
    nor read. The second is weight decay. The compilers of torch 2.4 to 2.9 fold the second too, but drop beta; after
    this function they find nothing to fold.
    """
    own = torch.ops.mnist_loop
    for node in list(graph.nodes):
        if node.target is aten.add_.Tensor:
            to, summed = node.args[:2]
        elif node.target is aten.add.Tensor:
            summed, to = node.args[:2]
        else:
            continue
        chain = [summed]
        while isinstance(chain[-1], Node) and chain[-1].target is aten.t.default:
            chain.append(chain[-1].args[0])
        product = chain[-1]
        if not isinstance(product, Node) or product.target is not aten.mm.default or len(chain) % 2 == 0:
            continue
        if not isinstance(to, Node) or any(isinstance(one, Node) and len(one.users) > 1 for one in chain):
            continue
        factor = node.kwargs.get("alpha", 1)
        with graph.inserting_before(node):
            if node.target is aten.add_.Tensor:
                graph.call_function(own.addmm_.default, (to, *product.args, factor))
                updated = to
            else:
                updated = graph.call_function(aten.addmm.default, (to, *product.args), {"beta": factor})
        node.replace_all_uses_with(updated)
        for one in (node, *chain):
            assert isinstance(one, Node)
            graph.erase_node(one)
