"""In the style of torchtune: optimizers that step in the backward pass, held by a wrapper with a state dict."""

from __future__ import annotations

import torch

from tests.loops.correct.registry import correct


class OptimizerInBackward:
    """One optimizer a parameter, by name; each steps when its gradient is complete, and clears it."""

    def __init__(self, model, make_optimizer):
        self.optimizers = {name: make_optimizer([p]) for name, p in model.named_parameters() if p.requires_grad}
        by_parameter = {p: self.optimizers[name] for name, p in model.named_parameters() if p.requires_grad}

        def step(parameter):
            by_parameter[parameter].step()
            by_parameter[parameter].zero_grad(set_to_none=True)

        self._handles = [p.register_post_accumulate_grad_hook(step) for p in by_parameter]

    def state_dict(self):
        return {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}

    def set_lr(self, lr):
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = lr

    def remove(self):
        for handle in self._handles:
            handle.remove()


@correct(own_optimizer=True)
def optimizer_in_backward(model, train_loader, loss_fn, lr, epochs):
    """No gradient lives longer than the backward pass; the rate is halved after each epoch."""
    wrapper = OptimizerInBackward(model, lambda parameters: torch.optim.AdamW(parameters, lr=lr))
    try:
        for epoch in range(epochs):
            wrapper.set_lr(lr / 2**epoch)
            model.train()
            for inputs, labels in train_loader:
                loss_fn(model(inputs), labels).backward()
    finally:
        wrapper.remove()
