"""The oracle: the gradient and the update of each step, replayed in float64 on a fresh copy of the model.

Each replay starts from the recorded state before the step, so that no error is carried into the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # its usual name

from mnist_loop.verification.binding.intentions import Intentions
from mnist_loop.verification.cases import world
from mnist_loop.verification.recording import by_hand
from mnist_loop.verification.recording.events import Forward, OptimizerStep, Tensors
from mnist_loop.verification.recording.recording import Recording

# The relative rounding error of a replay is below 1e-12 in float64 (five times 784 terms times 2**-53); a bug changes a
# gradient by far more than a millionth. In float32 the same number of roundings makes 2e-4. In bfloat16 with sums in
# float32, each product has an error of 2**-8, and their mean a smaller one.
TOLERANCES = {"float64": 1e-9, "float32": 1e-3, "bfloat16": 0.1, "float16": 0.1}


# The options that decide the result of an optimizer.
OPTIONS = (
    "momentum",
    "dampening",
    "weight_decay",
    "nesterov",
    "betas",
    "eps",
    "alpha",
    "centered",
    "amsgrad",
    "maximize",
)


class Oracle:
    """Replays one recording.

    Args:
        recording: one run of a loop.
        declared: its intentions with the factory of the model, if it declares one.
    """

    def __init__(self, recording: Recording, declared: Intentions | None = None) -> None:
        self.recording = recording
        self.case = recording.case
        self.declared = declared or recording.declared
        self._model: nn.Module | None = None
        self._data: dict[str, tuple[Tensor, Tensor]] = {}

    def model(self) -> nn.Module:
        """Return the fresh copy, in float64, on the device of the case, whose generator dropout draws from."""
        if self._model is None:
            self._model = world.make_model(self.case, self.declared).double().to(self.case.device)
        return self._model

    def data(self, split: str) -> tuple[Tensor, Tensor]:
        """Return images (N, *shape) and labels (N,), or targets (N, 1), of a split, as they were handed out."""
        if split not in self._data:
            self._data[split] = world.make_data(self.case, self.declared, split)
        return self._data[split]

    def labels(self, split: str) -> Tensor:
        """Return the labels (N,), or targets (N, 1), of a split."""
        return self.data(split)[1]

    def labels_of(self, forward: Forward) -> Tensor:
        """Return the labels (N,), or targets (N, 1), of the samples in a forward."""
        places = zip(forward.splits, forward.samples, strict=True)
        return torch.stack([self.labels(split)[index] for split, index in places])

    def right_eval_modules(self, forward: Forward) -> frozenset[str]:
        """Return the modules that may be in eval mode in a training forward, as the loop declares."""
        if self.declared.trains_in_eval_mode:
            return frozenset(forward.eval_modules)
        return frozenset(
            name for name in forward.eval_modules if any(_is_within(name, part) for part in self.declared.frozen)
        )

    def outputs(self, forward: Forward, eval_modules: Iterable[str]) -> Tensor:
        """Replay a forward with its graph, with these modules in eval mode and the others in train mode."""
        model = self.model()
        for parameter in model.parameters():
            parameter.grad = None
        _load(model, forward.state)
        chosen = set(eval_modules)
        for name, module in model.named_modules():
            module.training = (name or "the model") not in chosen
        device = torch.device(self.case.device)
        on_cuda = device.type == "cuda"
        with torch.random.fork_rng(devices=[device] if on_cuda else []):
            self.set_generator(forward)
            returned: Any = model(forward.inputs.double().to(device))
            place = self.declared.output
            return returned if place is None else returned[place]  # type: ignore[no-any-return]  # Any, too

    def set_generator(self, forward: Forward) -> None:
        """Put the generator of the model's device into the state that it had before a forward."""
        device = torch.device(self.case.device)
        if device.type == "cuda":
            torch.cuda.set_rng_state(forward.rng, device)
        else:
            torch.set_rng_state(forward.rng)

    def gradients(self, forward: Forward, output_gradient: Tensor | None, eval_modules: Iterable[str]) -> Tensors:
        """Return the gradients of the parameters for a gradient of the outputs, by default the right one."""
        if self.case.model == "plain":
            outputs = forward.outputs
            assert outputs is not None
            upstream = self.right_output_gradient(forward, outputs) if output_gradient is None else output_gradient
            return by_hand.gradients(forward.state, forward.inputs, upstream, self.case.loss == "nll")
        outputs = self.outputs(forward, eval_modules)
        upstream = self.right_output_gradient(forward, outputs) if output_gradient is None else output_gradient
        outputs.backward(upstream.double().to(outputs.device))
        return {n: p.grad.cpu().clone() for n, p in self.model().named_parameters() if p.grad is not None}

    def right_output_gradient(self, forward: Forward, outputs: Tensor) -> Tensor:
        """Return the gradient of the mean loss with respect to the outputs of a training forward."""
        return output_gradient(self.case.loss, outputs, self.labels_of(forward))


class Replicas:
    """An optimizer in float64 for each parameter, of the kind that was handed in; it keeps its state (momentum)."""

    def __init__(self, optimizer: str) -> None:
        self.make = world.OPTIMIZERS[optimizer]
        self.parameters: dict[str, nn.Parameter] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}

    def step(self, step: OptimizerStep) -> Tensors:
        """Replay a step from the recorded gradients and options; return all parameters after it."""
        after = {name: value.detach().double().cpu() for name, value in step.before.items()}
        for name, lr in step.lr.items():
            if name not in step.gradients:
                continue
            if name not in self.parameters:
                self.parameters[name] = nn.Parameter(after[name].clone())
                self.optimizers[name] = self.make([self.parameters[name]], lr=1.0)
            parameter, optimizer = self.parameters[name], self.optimizers[name]
            group = optimizer.param_groups[0]
            # The other options (fused, foreach, capturable) do not change the result.
            group.update({key: value for key, value in step.options[name].items() if key in OPTIONS and key in group})
            group["lr"] = lr
            parameter.data.copy_(after[name])
            parameter.grad = step.gradients[name].detach().double().cpu()
            optimizer.step()
            after[name] = parameter.detach().clone()
        return after


def output_gradient(loss: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the gradient of the mean loss over a batch with respect to ``outputs``, in float64 on the CPU."""
    outputs, targets = outputs.detach().double().cpu(), targets.cpu()
    if loss == "mse":
        return 2 * (outputs - targets.double()) / outputs.numel()
    if loss == "bce":
        return (outputs.sigmoid() - one_hot(outputs, targets)) / outputs.numel()
    if loss == "nll":
        gradient = torch.zeros_like(outputs)
        gradient[torch.arange(len(outputs)), targets] = -1 / len(outputs)
        return gradient
    return by_hand.cross_entropy_gradient(outputs, targets)


def one_hot(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the targets of a binary cross-entropy: one-hot labels, or those labels that outputs of one column have."""
    one = outputs.numel() == len(labels)
    return (labels.view_as(outputs) if one else F.one_hot(labels, outputs.shape[-1])).double()


def mean_loss(loss: str, outputs: Tensor, targets: Tensor) -> float:
    """Return the mean loss of a batch, in float64."""
    outputs, targets = outputs.detach().double().cpu(), targets.cpu()
    if loss == "mse":
        return float((outputs - targets.double()).square().mean())
    if loss == "bce":
        return float(F.binary_cross_entropy_with_logits(outputs, one_hot(outputs, targets)))
    log_probs = outputs if loss == "nll" else outputs.log_softmax(dim=1)
    return float(-log_probs[torch.arange(len(outputs)), targets].mean())


def _load(model: nn.Module, state: Tensors) -> None:
    with torch.no_grad():
        for name, value in (*model.named_parameters(), *model.named_buffers()):
            if name in state:  # a loop may remove buffers
                value.copy_(state[name])


def _is_within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")
