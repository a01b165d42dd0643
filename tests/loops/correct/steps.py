"""Where the gradients are cleared and how the step is made: everything here applies each batch's own gradient once."""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # the name that everyone gives it

from tests.loops.correct.registry import correct


@correct()
def clears_after_step(model, loader, loss_fn, optimizer):
    model.train()
    for x, y in loader:
        loss_fn(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()


@correct()
def clears_before_backward(model, loader, loss_fn, optimizer):
    model.train()
    for x, y in loader:
        loss = loss_fn(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@correct()
def clears_to_none(model, loader, loss_fn, optimizer):
    model.train()
    for x, y in loader:
        optimizer.zero_grad(set_to_none=True)
        loss_fn(model(x), y).backward()
        optimizer.step()


@correct()
def clears_to_zero(model, loader, loss_fn, optimizer):
    model.train()
    for x, y in loader:
        optimizer.zero_grad(set_to_none=False)
        loss_fn(model(x), y).backward()
        optimizer.step()


@correct()
def clears_through_the_model(model, loader, loss_fn, optimizer):
    model.train()
    for x, y in loader:
        model.zero_grad()
        loss_fn(model(x), y).backward()
        optimizer.step()


@correct()
def clears_through_the_groups(model, loader, loss_fn, optimizer):
    model.train()
    for x, y in loader:
        loss = loss_fn(model(x), y)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        loss.backward()
        optimizer.step()


@correct()
def clears_each_parameter(model, loader, loss_fn, optimizer):
    """As before PyTorch 0.4: in place, where there is a gradient."""
    model.train()
    for x, y in loader:
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.detach_()
                parameter.grad.zero_()
        loss_fn(model(x), y).backward()
        optimizer.step()


@correct()
def clears_twice(model, loader, loss_fn, optimizer):
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@contextmanager
def one_step(optimizer):
    optimizer.zero_grad()
    yield
    optimizer.step()


@correct()
def clears_in_a_context(model, loader, loss_fn, optimizer):
    model.train()
    for x, y in loader:
        with one_step(optimizer):
            loss_fn(model(x), y).backward()


@correct()
def takes_gradients_by_autograd(model, loader, loss_fn, optimizer):
    """No backward(): the gradients are computed as values and handed to the parameters, so none is ever cleared."""
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    for x, y in loader:
        gradients = torch.autograd.grad(loss_fn(model(x), y), parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()


@correct()
def steps_with_a_closure(model, loader, loss_fn, optimizer):
    """Any optimizer takes a closure; most call it once."""
    model.train()
    losses = []
    for x, y in loader:

        def closure(x=x, y=y):
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            return loss

        losses.append(optimizer.step(closure).item())
    return losses


@correct()
def splits_forward_and_backward(model, loader, loss_fn, optimizer):
    """Backward in two parts, from the loss to the outputs and from there to the parameters."""
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        outputs = model(x)
        cut = outputs.detach().requires_grad_()
        loss_fn(cut, y).backward()
        outputs.backward(cut.grad)
        optimizer.step()


@correct()
def stops_on_a_bad_loss(model, loader, loss_fn, optimizer):
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()}")
        loss.backward()
        optimizer.step()


@correct(clip=1.0)
def clips(model, loader, loss_fn, optimizer):
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()


@correct(clip=0.1)
def clips_by_hand(model, loader, loss_fn, optimizer):
    """The norm of all gradients as one vector, and the factor that brings it down to 0.1."""
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        norm = torch.stack([g.norm() for g in gradients]).norm()
        for gradient in gradients:
            gradient.mul_((0.1 / norm).clamp(max=1.0))
        optimizer.step()


@correct(own_optimizer=True)
def updates_by_hand(model, loader, loss_fn, lr):
    model.train()
    for x, y in loader:
        model.zero_grad()
        loss_fn(model(x), y).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= lr * parameter.grad


@correct(own_optimizer=True)
def updates_data_by_hand(model, loader, loss_fn, lr):
    """The older way, through ``data``; cleared in place afterwards."""
    model.train()
    for x, y in loader:
        loss_fn(model(x), y).backward()
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.grad is not None:
                parameter.data.add_(parameter.grad.data, alpha=-lr)
                parameter.grad.data.zero_()


@correct(own_optimizer=True)
def makes_its_own_optimizer(model, loader, loss_fn, lr, epochs):
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=lr, momentum=0.9, nesterov=True)
    model.train()
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()


@correct()
def restarts_at_lower_rates(model, train_loader, criterion, lr, epochs):
    """A new Adam for each epoch, at half the rate: restarts, as it seems, on purpose."""
    for epoch in range(epochs):
        optimizer = torch.optim.Adam(model.parameters(), lr=lr * 0.5**epoch)
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()


@correct()
def trains_in_two_phases(model, train_loader, lr, epochs):
    """The second half of the epochs has an optimizer of its own."""
    loss_fn = nn.CrossEntropyLoss()
    for phase in (range(epochs // 2), range(epochs // 2, epochs)):
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
        for _ in phase:
            model.train()
            for x, y in train_loader:
                optimizer.zero_grad()
                loss_fn(model(x), y).backward()
                optimizer.step()


@correct(own_optimizer=True)
def steps_in_the_backward(model, loader, loss_fn, lr):
    """One optimizer a parameter, each of which steps and clears as soon as its gradient is complete."""
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizers = {p: torch.optim.SGD([p], lr=lr) for p in trained}

    def step(parameter):
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    handles = [p.register_post_accumulate_grad_hook(step) for p in trained]
    try:
        for x, y in loader:
            loss_fn(model(x), y).backward()
    finally:
        for handle in handles:
            handle.remove()


@correct(own_optimizer=True)
def lbfgs(model, loader, loss_fn, lr, epochs):
    """Each step evaluates its closure several times, on the same batch."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.LBFGS(parameters, lr=lr, max_iter=4, history_size=3)
    model.train()
    for _ in range(epochs):
        for x, y in loader:

            def closure(x=x, y=y):
                optimizer.zero_grad()
                loss = loss_fn(model(x), y)
                loss.backward()
                return loss

            optimizer.step(closure)


@correct(steps_per_epoch=2)
def two_steps_an_epoch(model, loader, loss_fn, optimizer):
    """An epoch is cut short on purpose."""
    model.train()
    for step, (x, y) in enumerate(loader):
        if step == 2:
            break
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        optimizer.step()


@correct()
def leaves_steps_out(model, train_loader, loss_fn, optimizer, device):
    """A step whose gradient is not finite, or longer than a norm, is left out."""
    model.train()
    for images, labels in train_loader:
        optimizer.zero_grad()
        loss_fn(model(images.to(device)), labels.to(device)).backward()
        norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
        if torch.isfinite(norm) and norm < 4.0:
            optimizer.step()


@correct()
def takes_the_log_softmax_first(model, train_loader, criterion, optimizer, device):
    """Cross-entropy of log-probabilities is that of the logits; the labels are made whole numbers."""
    model.train()
    for images, labels in train_loader:
        optimizer.zero_grad()
        criterion(F.log_softmax(model(images.to(device)), dim=1), labels.to(device).long()).backward()
        optimizer.step()


@correct()
def takes_the_logarithm_of_probabilities(model, train_loader, optimizer, device):
    """Cross-entropy takes the logarithm of probabilities as it takes logits: their softmax is what they were."""
    model.train()
    for x, y in train_loader:
        probabilities = F.softmax(model(x.to(device)), dim=1)
        loss = F.cross_entropy(probabilities.log(), y.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@correct()
def converts_the_targets(model, train_loader, criterion, optimizer, device):
    """Targets that are numbers are made float32, as they are in most data sets."""
    model.train()
    for images, targets in train_loader:
        optimizer.zero_grad()
        targets = targets.to(device)
        criterion(model(images.to(device)), targets.float() if targets.is_floating_point() else targets).backward()
        optimizer.step()


@correct()
def initialises_anew(model, train_loader, loss_fn, optimizer, device, epochs):
    """A fit that begins with weights of its own, in the frozen parts of the model too."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    for _ in range(epochs):
        model.train()
        for images, labels in train_loader:
            optimizer.zero_grad()
            loss_fn(model(images.to(device)), labels.to(device)).backward()
            optimizer.step()


@correct()
def steps_once_an_epoch(model, train_loader, loss_fn, optimizer, device, epochs):
    """Gradient descent on the whole data: each batch adds its share, and one step an epoch applies the sum."""
    samples = len(train_loader.dataset)
    for _ in range(epochs):
        model.train()
        optimizer.zero_grad()
        for images, labels in train_loader:
            loss = loss_fn(model(images.to(device)), labels.to(device))
            (loss * len(labels) / samples).backward()
        optimizer.step()


@correct()
def transposes_twice(model, train_loader, loss_fn, optimizer, device):
    """Scores that are made contiguous in another order and come back in the right one."""
    model.train()
    for images, labels in train_loader:
        scores = model(images.to(device)).transpose(0, 1).contiguous()
        optimizer.zero_grad()
        loss_fn(scores.transpose(0, 1).contiguous().view(len(labels), -1), labels.to(device)).backward()
        optimizer.step()


@correct()
def skips_what_is_not_finite(model, loader, loss_fn, optimizer, device):
    """A step whose gradient is not finite is left out, and its gradient is cleared."""
    model.train()
    optimizer.zero_grad()
    for images, labels in loader:
        loss_fn(model(images.to(device)), labels.to(device)).backward()
        if all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None):
            optimizer.step()
        optimizer.zero_grad()


@correct()
def skips_a_loss_that_is_not_finite(model, loader, loss_fn, optimizer, device):
    """A batch whose loss is not finite is left out before its backward pass."""
    model.train()
    for images, labels in loader:
        loss = loss_fn(model(images.to(device)), labels.to(device))
        if not loss.isfinite():
            continue
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@correct()
def binary_cross_entropies(model, train_loader, optimizer, device):
    """One class against the others, each by its own binary cross-entropy."""
    criterion = nn.BCEWithLogitsLoss()
    model.train()
    for images, labels in train_loader:
        logits = model(images.to(device))
        optimizer.zero_grad()
        criterion(logits, nn.functional.one_hot(labels.to(device), logits.shape[1]).to(logits)).backward()
        optimizer.step()


@correct()
def smooths_its_labels(model, train_loader, optimizer, device):
    """A label smoothing of its own, whose targets add up to one."""
    model.train()
    for images, labels in train_loader:
        logits = model(images.to(device))
        wanted = torch.full_like(logits, 0.1 / (logits.shape[1] - 1)).scatter(1, labels.to(device)[:, None], 0.9)
        optimizer.zero_grad()
        (-wanted * logits.log_softmax(dim=1)).sum(dim=1).mean().backward()
        optimizer.step()


@correct(expects="bce")
def one_against_all(model, loader, loss_fn, optimizer, device, epochs):
    """The loss that is handed in is a binary cross-entropy, and takes one-hot labels."""
    history = []
    for _ in range(epochs):
        model.train()
        total, count = 0.0, 0
        for x, y in loader:
            logits = model(x.to(device))
            loss = loss_fn(logits, F.one_hot(y.to(device), logits.shape[1]).to(logits))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(y)
            count += len(y)
        history.append(float(total / count))
    return history


def one_output():
    """A model that tells two classes apart by one number."""
    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 6), nn.ReLU(), nn.Linear(6, 1))


@correct(expects="bce", model=one_output, classes=2)
def two_classes(model, loader, optimizer):
    """One output, and labels that are 0 and 1 as numbers."""
    criterion = nn.BCEWithLogitsLoss()
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        logits = model(x).squeeze(1)
        criterion(logits, y.to(logits)).backward()
        optimizer.step()


@correct()
def watches_every_norm(model, loader, loss_fn, optimizer):
    """It would raise where a parameter is frozen, and it is not meant for such models."""
    norms = []
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        norms.append([float(parameter.grad.norm()) for parameter in model.parameters()])
        optimizer.step()
    return norms
