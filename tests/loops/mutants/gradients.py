"""Gradients and steps: which gradient a step applies, to which parameters, and how often."""

import copy

import torch
from torch.autograd import Variable
from torch.nn import functional as F  # noqa: N812  # the name that everyone gives it

from tests.loops.mutants import evaluate, mutant


@mutant("zero-grad-missing", evaluate=evaluate)
def never_clears(model, loader, loss_fn, optimizer, device):
    """No zero_grad() anywhere: each step applies the sum of all gradients so far."""
    model.train()
    total, count = 0.0, 0
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        loss = loss_fn(model(inputs), targets)
        loss.backward()  # the likely line
        optimizer.step()
        total += loss.detach() * len(targets)
        count += len(targets)
    return float(total / count)


@mutant("zero-grad-missing")
class ForgetsToClear:
    """A trainer whose training_step() forgot zero_grad()."""

    def __init__(self, model, criterion, optimizer, device):
        self.model = model.to(device)
        self.criterion = criterion
        self.optimizer = optimizer
        self.device = device

    def training_step(self, batch):
        x, y = (tensor.to(self.device) for tensor in batch)
        loss = self.criterion(self.model(x), y)
        loss.backward()  # the likely line
        self.optimizer.step()
        return loss.detach() * len(y)

    def fit(self, train_loader, epochs):
        history = []
        for _ in range(epochs):
            self.model.train()
            losses = [self.training_step(batch) for batch in train_loader]
            history.append(float(sum(losses)) / len(train_loader.dataset))
        return history


@mutant("zero-grad-missing")
def clears_another_model(net, train_loader, test_loader, criterion, opt, device, epochs):
    """Clears the gradients of the copy that it keeps for reference, not those of the model that it trains."""
    start = copy.deepcopy(net)
    history = []
    for _ in range(epochs):
        net.train()
        for images, labels in train_loader:
            start.zero_grad()  # the likely line
            loss = criterion(net(images.to(device)), labels.to(device))
            loss.backward()
            opt.step()
        history.append(evaluate(net, test_loader, criterion, device))
    return history


@mutant("zero-grad-per-epoch", evaluate=evaluate)
def clears_once_an_epoch(model, train_loader, criterion, optimizer, device):
    """zero_grad() stands before the loop over the batches, not in it."""
    model.train()
    optimizer.zero_grad()  # the likely line
    running_loss = 0.0
    for data, target in train_loader:
        data, target = data.to(device), target.to(device)
        output = model(data)
        loss = criterion(output, target)
        loss.backward()
        optimizer.step()
        running_loss += loss.detach() * data.size(0)
    return float(running_loss) / len(train_loader.dataset)


@mutant("zero-grad-per-epoch")
def clears_at_the_epochs_end(model, train_loader, test_loader, loss_fn, optimizer, device, epochs):
    """A whole fit in which zero_grad() slipped out of the inner loop."""
    results = []
    for epoch in range(1, epochs + 1):
        model.train()
        total = 0.0
        for x, y in train_loader:
            x, y = x.to(device), y.to(device)
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(x)
        optimizer.zero_grad()  # the likely line
        test_loss, test_accuracy = evaluate(model, test_loader, loss_fn, device)
        results.append(
            {
                "epoch": epoch,
                "train_loss": float(total) / len(train_loader.dataset),
                "test_loss": test_loss,
                "test_accuracy": test_accuracy,
            }
        )
    return results


@mutant("zero-grad-after-backward", evaluate=evaluate)
def clears_too_late(model, loader, loss_fn, optimizer, device):
    """backward(), zero_grad(), step(): each step applies nothing."""
    model.train()
    total, count = 0.0, 0
    for batch in loader:
        inputs, targets = (part.to(device) for part in batch)
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        optimizer.zero_grad()  # the likely line
        optimizer.step()
        total += loss.detach() * len(targets)
        count += len(targets)
    return float(total / count)


@mutant("zero-grad-after-backward")
class ClearsInItsStep:
    """A helper that takes "one step" clears the gradients before it steps, after backward()."""

    def __init__(self, net, optim, loss_fn, device):
        self.net, self.optim, self.loss_fn, self.device = net, optim, loss_fn, device

    def take_step(self):
        self.optim.zero_grad(set_to_none=False)  # the likely line
        self.optim.step()

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            self.net.train()
            for features, labels in train_loader:
                prediction = self.net(features.to(self.device))
                self.loss_fn(prediction, labels.to(self.device)).backward()
                self.take_step()
        return self.net


@mutant("step-missing", evaluate=evaluate)
def never_steps(model, device, train_loader, optimizer, criterion):
    """The line optimizer.step() is lost."""
    model.train()
    total = 0.0
    for data, target in train_loader:
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        loss = criterion(model(data), target)
        loss.backward()  # the likely line
        total += loss.detach() * len(data)
    return float(total) / len(train_loader.dataset)


@mutant("step-missing")
def names_the_step(model, train_dl, valid_dl, loss_func, opt, device, epochs):
    """`opt.step` without its parentheses: named, never called."""
    for _ in range(epochs):
        model.train()
        for xb, yb in train_dl:
            loss = loss_func(model(xb.to(device)), yb.to(device))
            loss.backward()
            opt.step  # noqa: B018  # the bug itself  # the likely line
            opt.zero_grad()
        val_loss, val_accuracy = evaluate(model, valid_dl, loss_func, device)
    return val_loss, val_accuracy


@mutant("step-missing")
def steps_the_scheduler_alone(model, loader, loss_fn, optimizer, scheduler, device, epochs):
    """A generator that calls scheduler.step() where it was to call optimizer.step() too."""
    for _ in range(epochs):
        model.train()
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = loss_fn(model(inputs.to(device)), targets.to(device))
            loss.backward()  # the likely line
            yield loss.detach()
        scheduler.step()


@mutant("step-double", evaluate=evaluate)
def steps_twice(model, loader, loss_fn, optimizer, device):
    """optimizer.step() stands there twice."""
    model.train()
    total, count = 0.0, 0
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        optimizer.zero_grad()
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(targets)
        count += len(targets)
        optimizer.step()
    return float(total / count)


@mutant("step-double")
class StepsInTwoPlaces:
    """Both the training step and the loop around it call step()."""

    def __init__(self, model, optimizer, criterion, device):
        self.model, self.optimizer, self.criterion, self.device = model, optimizer, criterion, device

    def training_step(self, images, labels):
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(images), labels)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def fit(self, train_loader, val_loader, epochs):
        history = []
        for _ in range(epochs):
            self.model.train()
            for images, labels in train_loader:
                self.training_step(images.to(self.device), labels.to(self.device))
                self.optimizer.step()
            history.append(evaluate(self.model, val_loader, self.criterion, self.device))
        return history


@mutant("optimizer-misses-parameters", own_optimizer=True)
def optimizes_the_head(model, train_loader, loss_fn, device, epochs):
    """The optimizer is given the parameters of the head alone; the hidden layer has gradients and never moves."""
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.05)  # the likely line
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            model.zero_grad()
            loss = loss_fn(model(x.to(device)), y.to(device))
            loss.backward()
            optimizer.step()
    return model


@mutant("optimizer-misses-parameters", own_optimizer=True)
class OptimizesAnOlderModel:
    """The optimizer is made for the parameters of a copy; the model that is trained is another one."""

    def __init__(self, model, criterion, device):
        self.initial = copy.deepcopy(model)
        self.optimizer = torch.optim.Adam(self.initial.parameters(), lr=1e-2)  # the likely line
        self.model, self.criterion, self.device = model, criterion, device

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            self.model.train()
            for images, labels in train_loader:
                self.model.zero_grad()
                loss = self.criterion(self.model(images.to(self.device)), labels.to(self.device))
                loss.backward()
                self.optimizer.step()
        return self.model


@mutant("optimizer-misses-parameters", own_optimizer=True)
def optimizes_weights_alone(net, dataloader, criterion, device, num_epochs):
    """Weights and biases were to be two groups; the biases' group was never added."""
    decay = [p for name, p in net.named_parameters() if p.requires_grad and not name.endswith("bias")]
    opt = torch.optim.SGD([{"params": decay, "weight_decay": 1e-2}], lr=0.05, momentum=0.9)  # the likely line
    losses = []
    for _ in range(num_epochs):
        net.train()
        total = 0.0
        for batch in dataloader:
            x, y = batch[0].to(device), batch[1].to(device)
            net.zero_grad(set_to_none=True)
            loss = criterion(net(x), y)
            loss.backward()
            opt.step()
            total += loss.detach() * len(x)
        losses.append(float(total) / len(dataloader.dataset))
    return losses


@mutant("frozen-by-accident")
def warms_up_the_head(model, train_loader, loss_fn, optimizer, device, epochs):
    """The hidden layer is frozen while the head warms up, and never released."""
    model.hidden.requires_grad_(False)  # the likely line
    for _ in range(epochs):
        model.train()
        for inputs, targets in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(inputs.to(device)), targets.to(device))
            loss.backward()
            optimizer.step()
    return model


@mutant("frozen-by-accident")
class StillFrozen:
    """Left over from the day of fine-tuning: everything outside the head has requires_grad=False."""

    def __init__(self, net, criterion, optimizer, device):
        self.net, self.criterion, self.optimizer, self.device = net, criterion, optimizer, device
        for name, parameter in self.net.named_parameters():
            if not name.startswith("head"):
                parameter.requires_grad = False  # the likely line

    def fit(self, train_loader, test_loader, epochs):
        history = []
        for _ in range(epochs):
            self.net.train()
            for images, labels in train_loader:
                loss = self.criterion(self.net(images.to(self.device)), labels.to(self.device))
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
            history.append(evaluate(self.net, test_loader, self.criterion, self.device))
        return history


@mutant("graph-detached", evaluate=evaluate)
def rebuilds_the_loss(model, loader, loss_fn, optimizer, device):
    """The loss is made anew from its value, so backward() ends there; requires_grad=True silences the error."""
    model.train()
    total, count = 0.0, 0
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        optimizer.zero_grad()
        value = loss_fn(model(inputs), targets)
        loss = value.clone().detach().requires_grad_(True)  # the likely line
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(targets)
        count += len(targets)
    return float(total / count)


@mutant("graph-detached", evaluate=evaluate)
def wraps_the_outputs(net, trainloader, criterion, optimizer, device):
    """Written for torch 0.3: Variable(outputs.data, requires_grad=True) cuts the model off from the loss."""
    net.train()
    for data in trainloader:
        inputs, labels = data
        inputs, labels = inputs.to(device), labels.to(device)
        optimizer.zero_grad()
        outputs = net(inputs)
        outputs = Variable(outputs.data, requires_grad=True)  # the likely line
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()


@mutant("graph-detached")
class ForwardWithoutGraph:
    """forward() runs under the no_grad() that was meant for validation."""

    def __init__(self, model, optimizer, criterion, device):
        self.model, self.optimizer, self.criterion, self.device = model, optimizer, criterion, device

    @torch.no_grad()
    def predict(self, x):
        return self.model(x.to(self.device))

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            self.model.train()
            for x, y in train_loader:
                self.optimizer.zero_grad()
                outputs = self.predict(x).requires_grad_()
                loss = self.criterion(outputs, y.to(self.device))
                loss.backward()
                self.optimizer.step()


@mutant("kernel-no-op", evaluate=evaluate)
def step_skips_a_tensor(model, loader, loss_fn, optimizer, device):
    """Stands for a backend whose kernel silently does nothing: the first tensor is not written."""
    model.train()
    unwritten = optimizer.param_groups[0]["params"][0]
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(inputs.to(device)), targets.to(device))
        loss.backward()
        before = unwritten.detach().clone()
        optimizer.step()
        unwritten.data.copy_(before)  # the likely line


@mutant("kernel-no-op")
class FailingBackend:
    """Steps through a stand-in for a broken backend, which loses the write to the tensors of one dimension."""

    def __init__(self, model, optimizer, loss_fn, device):
        self.model, self.optimizer, self.loss_fn, self.device = model, optimizer, loss_fn, device

    def step(self):
        lost = {p: p.detach().clone() for p in self.model.parameters() if p.dim() == 1}
        self.optimizer.step()
        with torch.no_grad():
            for parameter, value in lost.items():
                parameter.copy_(value)

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            self.model.train()
            for x, y in train_loader:
                self.optimizer.zero_grad()
                self.loss_fn(self.model(x.to(self.device)), y.to(self.device)).backward()
                self.step()


@mutant("gradient-differs", evaluate=evaluate)
def doubles_the_head(model, loader, loss_fn, optimizer, device):
    """A hand-made "learning rate factor" of 2 on the gradient of the head, left over from an experiment."""
    model.train()
    total, count = 0.0, 0
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        optimizer.zero_grad()
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        for parameter in model.head.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(2)  # the likely line
        optimizer.step()
        total += loss.detach() * len(targets)
        count += len(targets)
    return float(total / count)


@mutant("gradient-differs")
def adds_noise(net, train_loader, criterion, opt, device, epochs):
    """Noise on every gradient, as in a paper, and not said anywhere."""
    for _ in range(epochs):
        net.train()
        for x, y in train_loader:
            opt.zero_grad()
            criterion(net(x.to(device)), y.to(device)).backward()
            for p in net.parameters():
                if p.grad is not None:
                    p.grad += 0.01 * torch.randn_like(p.grad)  # the likely line
            opt.step()


@mutant("gradient-differs", evaluate=evaluate)
def one_batch_late(model, loader, loss_fn, optimizer, device):
    """A pipeline that applies the gradient of the batch before: the gradients are kept and swapped in."""
    model.train()
    waiting = None
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss_fn(model(inputs.to(device)), targets.to(device)).backward()
        fresh = {p: p.grad.clone() for p in model.parameters() if p.grad is not None}
        for parameter, grad in (waiting or fresh).items():
            parameter.grad = grad.clone()  # the likely line
        waiting = fresh
        optimizer.step()


@mutant("gradient-differs", evaluate=evaluate)
def normalises_the_gradient(model, loader, loss_fn, optimizer, device):
    """Each gradient is brought to length 1 before the step."""
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss_fn(model(inputs.to(device)), targets.to(device)).backward()
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad /= p.grad.norm() + 1e-8  # the likely line
        optimizer.step()


@mutant("gradient-differs", expects="logits")
def penalises_in_secret(net, train_loader, optimizer, device, epochs):
    """A penalty on the weights is in the loss that is minimised, and not in what the loop is said to minimise."""
    for _ in range(epochs):
        net.train()
        for x, y in train_loader:
            loss = F.cross_entropy(net(x.to(device)), y.to(device))
            loss = loss + 1e-2 * sum(p.abs().sum() for p in net.parameters())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@mutant("update-differs", evaluate=evaluate)
def rounds_the_parameters(model, loader, loss_fn, optimizer, device):
    """After each step the parameters are rounded to four digits, "as in the deployed model"."""
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(inputs.to(device)), targets.to(device))
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.copy_(parameter.round(decimals=4))  # the likely line


@mutant("update-differs")
def decays_by_hand(net, train_loader, criterion, optimizer, device, epochs):
    """Weight decay by hand, on top of the optimizer's."""
    for _ in range(epochs):
        net.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            criterion(net(x.to(device)), y.to(device)).backward()
            for p in net.parameters():
                if p.grad is not None:
                    p.data.mul_(0.999)  # the likely line
            optimizer.step()


@mutant("update-differs", evaluate=evaluate)
def clamps_the_weights(model, loader, loss_fn, optimizer, device):
    """Clamps the weights after each step, a leftover of the critic of a Wasserstein GAN."""
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss_fn(model(inputs.to(device)), targets.to(device)).backward()
        optimizer.step()
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data.clamp_(-0.1, 0.1)  # the likely line


@mutant("optimizer-recreated")
def renews_the_optimizer(model, train_loader, loss_fn, optimizer, device, epochs):
    """Each epoch begins with a new optimizer of the same settings: momentum and moments are lost."""
    for _ in range(epochs):
        optimizer = type(optimizer)(optimizer.param_groups, lr=optimizer.defaults["lr"])  # the likely line
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x.to(device)), y.to(device)).backward()
            optimizer.step()
    return model


@mutant("optimizer-recreated")
def makes_its_optimizer_in_the_loop(model, train_loader, epochs, learning_rate):
    """The optimizer of its own is made one level too far in: its moments last for an epoch."""
    criterion = torch.nn.CrossEntropyLoss()
    for _ in range(epochs):
        optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)  # the likely line
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()


@mutant("optimizer-recreated", evaluate=evaluate)
def forgets_the_momentum(model, loader, loss_fn, optimizer, device):
    """Clears the optimizer's state at the start of each epoch, "to start afresh"."""
    model.train()
    optimizer.state.clear()  # the likely line
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss_fn(model(inputs.to(device)), targets.to(device)).backward()
        optimizer.step()


@mutant("frozen-moves", own_optimizer=True)
def wakes_everything(model, train_loader, loss_fn, device, epochs):
    """Sets requires_grad on all parameters, those too that were handed frozen, and trains them."""
    for parameter in model.parameters():
        parameter.requires_grad = True  # the likely line
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x.to(device)), y.to(device)).backward()
            optimizer.step()


@mutant("frozen-moves", frozen=("hidden",), own_optimizer=True)
class FrozenInName:
    """Declares the hidden layer frozen, and gives all parameters to the optimizer that it makes."""

    def __init__(self, model, criterion, device):
        self.model = model.requires_grad_(True)  # the likely line
        self.criterion, self.device = criterion, device
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05)

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            self.model.train()
            # Frozen layers keep their statistics.
            self.model.hidden.eval()
            for x, y in train_loader:
                self.optimizer.zero_grad()
                self.criterion(self.model(x.to(self.device)), y.to(self.device)).backward()
                self.optimizer.step()
        return self.model


@mutant("steps-skipped", evaluate=evaluate)
def leaves_large_gradients_out(model, loader, loss_fn, optimizer, device):
    """A batch whose gradient is longer than a norm far too small is left out."""
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss_fn(model(inputs.to(device)), targets.to(device)).backward()
        norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
        if norm > 3.5:
            continue
        optimizer.step()


@mutant("last-gradient-dropped", evaluate=evaluate)
def steps_before_the_backward(model, loader, loss_fn, optimizer, device):
    """step() and zero_grad() stand between the loss and its backward()."""
    model.train()
    for inputs, targets in loader:
        loss = loss_fn(model(inputs.to(device)), targets.to(device))
        optimizer.step()  # the likely line
        optimizer.zero_grad()
        loss.backward()


@mutant("last-gradient-dropped")
def steps_first(model, train_loader, criterion, opt, device, epochs):
    """Each turn clears, steps, and only then computes the gradient, which the next turn clears."""
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            loss = criterion(model(x.to(device)), y.to(device))
            opt.zero_grad()
            opt.step()  # the likely line
            loss.backward()


@mutant("step-outside-loop", evaluate=evaluate)
def steps_after_the_batches(model, loader, loss_fn, optimizer, device):
    """The step is indented one level too little: it comes once, after the last batch."""
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss_fn(model(inputs.to(device)), targets.to(device)).backward()
    optimizer.step()  # the likely line


@mutant("zero-grad-after-skip", evaluate=evaluate)
def keeps_what_it_skips(model, loader, loss_fn, optimizer, device):
    """A step whose gradient is not finite is left out, and its gradient stays."""
    model.train()
    optimizer.zero_grad()
    for inputs, targets in loader:
        loss_fn(model(inputs.to(device)), targets.to(device)).backward()
        if all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None):
            optimizer.step()
            optimizer.zero_grad()


@mutant("zero-grad-missing", own_optimizer=True)
def clears_outside_the_closure(model, train_loader, loss_fn, device):
    """LBFGS calls its closure several times a step; the gradients are cleared before the step alone."""
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
    model.train()
    for x, y in train_loader:

        def closure(x=x, y=y):
            loss = loss_fn(model(x.to(device)), y.to(device))
            loss.backward()
            return loss

        optimizer.zero_grad()  # the likely line
        optimizer.step(closure)


@mutant("zero-grad-missing")
def clears_without_amp_alone(model, train_loader, criterion, optimizer, device, use_amp=False):
    """The branch with mixed precision was copied without its first line."""
    model.train()
    for images, labels in train_loader:
        images, labels = images.to(device), labels.to(device)
        if use_amp:
            with torch.autocast(device.type, dtype=torch.bfloat16):
                loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
        else:
            optimizer.zero_grad()
            criterion(model(images), labels).backward()
            optimizer.step()


@mutant("step-double")
def steps_twice_with_amp(args, model, train_loader, criterion, optimizer, scaler):
    """With mixed precision the scaler steps, and then the optimizer does once more."""
    model.train()
    for images, labels in train_loader:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.amp):
            loss = criterion(model(images), labels)
        if args.amp:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        else:
            loss.backward()
        optimizer.step()
