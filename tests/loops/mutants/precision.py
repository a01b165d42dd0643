"""Mixed precision: sums in half precision, and gradients under a GradScaler."""

import torch
from torch.nn import functional as F  # noqa: N812  # the name that everyone gives it

from tests.loops.mutants import evaluate, mutant


@mutant("scaler-bypassed", evaluate=evaluate)
def steps_past_the_scaler(model, loader, loss_fn, optimizer, scaler, device):
    """scaler.scale(loss).backward(), and then optimizer.step(): the scaled gradient is applied."""
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(inputs.to(device)), targets.to(device))
        scaler.scale(loss).backward()
        optimizer.step()  # the likely line


@mutant("scaler-bypassed")
class HalfwayToAmp:
    """Mixed precision came to backward() and did not come to the step."""

    def __init__(self, model, optimizer, criterion, device, grad_scaler=None):
        self.model, self.optimizer, self.criterion, self.device = model, optimizer, criterion, device
        self.grad_scaler = grad_scaler

    def backward(self, loss):
        if self.grad_scaler is not None:
            loss = self.grad_scaler.scale(loss)
        loss.backward()

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            self.model.train()
            for x, y in train_loader:
                self.optimizer.zero_grad()
                self.backward(self.criterion(self.model(x.to(self.device)), y.to(self.device)))
                self.optimizer.step()  # the likely line
        return self.model


@mutant("half-precision-overflow", expects="logits")
def scales_in_half(model, loader, optimizer, device):
    """A fixed loss scale of 2**16 in float16, whose largest number is 65504."""
    model.train()
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs).half(), targets)  # the likely line
        (loss * 2**16).backward()
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad /= 2**16
        optimizer.step()


@mutant("half-precision-overflow", expects="logits")
class LossInHalf:
    """The loss is computed and summed in float16 to save memory, which no one declared."""

    def __init__(self, net, optimizer, device):
        self.net, self.optimizer, self.device = net, optimizer, device

    def loss(self, x, y):
        log_probs = self.net(x.to(self.device)).half().log_softmax(dim=1)  # the likely line
        return F.nll_loss(log_probs, y.to(self.device), reduction="sum") / len(y)

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            self.net.train()
            for x, y in train_loader:
                self.optimizer.zero_grad()
                self.loss(x, y).backward()
                self.optimizer.step()
        return self.net


@mutant("half-precision-overflow", expects="log_probs")
def weighs_in_half(model, device, train_loader, optimizer, epoch):
    """A weighted sum over the batch in float16: the weights, class counts, add up to more than it can hold."""
    model.train()
    for data, target in train_loader:
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        weights = torch.full((len(data),), 60_000.0, dtype=torch.half, device=device)
        losses = F.nll_loss(model(data), target, reduction="none").half()  # the likely line
        loss = (weights * losses).sum() / weights.sum()
        loss.backward()
        optimizer.step()


@mutant("scaler-update-missing", evaluate=evaluate, clip=1.0)
def clips_and_forgets_the_update(model, loader, loss_fn, optimizer, scaler, device):
    """unscale_(), clip, step(), and no update(): torch refuses the second unscale_()."""
    model.train()
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        optimizer.zero_grad()
        scaler.scale(loss_fn(model(inputs), targets)).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)  # the likely line


@mutant("scaler-update-missing", evaluate=evaluate)
def leaves_a_large_step_out(model, loader, loss_fn, optimizer, scaler, device):
    """A step that is left out for its large gradient leaves out update() too: the next unscale_() is refused."""
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        scaler.scale(loss_fn(model(inputs.to(device)), targets.to(device))).backward()
        scaler.unscale_(optimizer)
        norms = [parameter.grad.norm() for parameter in model.parameters() if parameter.grad is not None]
        if torch.stack(norms).norm() > 100.0:
            continue
        scaler.step(optimizer)  # the likely line
        scaler.update()


@mutant("scaler-recreated")
def scales_anew(model, loader, loss_fn, optimizer, epochs):
    """The GradScaler is made within the loop over the epochs."""
    for _ in range(epochs):
        scaler = torch.amp.GradScaler("cpu", init_scale=256.0)  # the likely line
        model.train()
        for x, y in loader:
            optimizer.zero_grad()
            scaler.scale(loss_fn(model(x), y)).backward()
            scaler.step(optimizer)
            scaler.update()


@mutant("scaler-recreated")
def a_scaler_a_call(net, train_loader, criterion, opt, epoch):
    """What trains one epoch makes a GradScaler of its own, in each call."""
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=2)  # the likely line
    net.train()
    for x, y in train_loader:
        scaler.scale(criterion(net(x), y)).backward()
        scaler.step(opt)
        scaler.update()
        opt.zero_grad()
