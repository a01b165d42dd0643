"""Several training steps, recorded as one graph and compiled."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.fx import Graph, GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.optim import Optimizer

from mnist_loop.data import normalise
from mnist_loop.engines import products
from mnist_loop.loop import LossFunction, shape_input

Function = Callable[[Sequence[Tensor], Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Steps:
    """A number of training steps on batches of one size.

    Args:
        model: a model in train mode.
        loss_fn: mean loss over a batch.
        optimizer: an optimizer that has made a step, so that its state exists.
        count: number of steps.
    """

    model: nn.Module
    loss_fn: LossFunction
    optimizer: Optimizer
    count: int

    def record(self, state: Sequence[Tensor], images: Tensor, labels: Tensor) -> GraphModule:
        """Return the steps as one function, which changes ``state`` in place and returns the losses (count,).

        Args:
            state: as `state_of` yields it; it is not changed here.
            images: of all batches in order, as uint8 or as the model takes them.
            labels: of all batches in order.
        """
        with torch.no_grad():
            graph = make_fx(lambda *given: self._run(*given))([tensor.clone() for tensor in state], images, labels)
        _drop_profiler_marks(graph.graph)
        graph.recompile()
        return graph

    def _run(self, state: Sequence[Tensor], images: Tensor, labels: Tensor) -> Tensor:
        names = [name for name, _ in (*self.model.named_parameters(), *self.model.named_buffers())]
        given = dict(zip(names, state, strict=False))
        inputs = normalise(images) if images.dtype == torch.uint8 else images
        losses = []
        for batch, targets in zip(inputs.chunk(self.count), labels.chunk(self.count), strict=True):
            values = {
                name: given[name].detach().requires_grad_(parameter.requires_grad)
                for name, parameter in self.model.named_parameters()
            }
            with torch.enable_grad():
                outputs = functional_call(self.model, {**given, **values}, (shape_input(batch, self.model),))
                loss = self.loss_fn(outputs, targets)
            trained = [value for value in values.values() if value.requires_grad]
            gradients = torch.autograd.grad(loss, trained, allow_unused=True)
            for value, gradient in zip(trained, gradients, strict=True):
                value.grad = gradient
            losses.append(loss.detach())
            own = [values[name] for name, _ in self.model.named_parameters()]
            self._shadow(own, state[len(names) :]).step()
        return torch.stack(losses)

    def _shadow(self, values: Sequence[Tensor], moments: Sequence[Tensor]) -> Optimizer:
        """Return a copy of the optimizer that has ``values`` instead of the parameters."""
        of = dict(zip(map(id, self.model.parameters()), values, strict=True))
        shadow = copy.copy(self.optimizer)
        shadow.param_groups = [
            {**group, "params": [of[id(one)] for one in group["params"]], **_plain(group)}
            for group in self.optimizer.param_groups
        ]
        rest = iter(moments)
        shadow.state = defaultdict(
            dict,
            {
                of[id(parameter)]: {
                    name: next(rest) if isinstance(value, Tensor) else value for name, value in moments_of.items()
                }
                for parameter, moments_of in self.optimizer.state.items()
            },
        )
        return shadow


def _plain(group: dict[str, Any]) -> dict[str, Any]:
    """Return options for one operation per tensor, with the step count in a tensor instead of a Python number."""
    wanted = {"foreach": False, "fused": False, "differentiable": "betas" in group, "capturable": False}
    return {name: value for name, value in wanted.items() if name in group}


def compile_for(threads: int, graph: GraphModule, state: Sequence[Tensor], images: Tensor, labels: Tensor) -> Function:
    """Compile a graph of `Steps.record` for a number of CPU threads. The graph is changed."""
    from torch import _inductor as inductor  # its import takes as long as torch's

    products.take_faster(graph.graph)
    products.sum_in_products(graph.graph)
    graph.recompile()
    # This is torch.compile without its guards: the engine knows when another function is needed. The compiler uses its
    # cache only with fake tensors, in a mode with a ShapeEnv.
    mode = FakeTensorMode(shape_env=ShapeEnv())
    fake = partial(mode.from_tensor, static_shapes=True)
    example: list[Any] = [list(map(fake, state)), fake(images), fake(labels)]
    options: dict[str, str | int | bool | Callable[..., Any]] = {
        "fallback_random": True,  # the same random numbers as without compiling
        "cpp.threads": threads,
    }
    with torch.no_grad():
        return cast("Function", inductor.compile(graph, example, options=options))


def _drop_profiler_marks(graph: Graph) -> None:
    """Remove the optimizer's calls of torch.profiler, which the compiler does not support."""
    for node in reversed(graph.nodes):
        if str(node.target).startswith("profiler"):
            graph.erase_node(node)


@contextmanager
def state_of(model: nn.Module, optimizer: Optimizer) -> Iterator[list[Tensor]]:
    """Yield everything that a step changes: parameters, buffers, and the tensors of the optimizer's state.

    The optimizer counts its steps in a float32 tensor, which would limit float64 arithmetic to its precision. Here the
    count is float64; it is written back at the end.
    """
    moments = [
        (name, value) for of_one in optimizer.state.values() for name, value in of_one.items() if _is_tensor(value)
    ]
    counts = {index: value for index, (name, value) in enumerate(moments) if name == "step"}
    lent = [value.double() if index in counts else value for index, (_, value) in enumerate(moments)]
    try:
        yield [*(parameter.detach() for parameter in model.parameters()), *model.buffers(), *lent]
    finally:
        for index, value in counts.items():
            value.copy_(lent[index])


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)
