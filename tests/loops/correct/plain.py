"""The plain loop, one step a batch, in the many ways to write it down and to report what it did."""

from __future__ import annotations

import logging
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812  # its usual name
from torch import nn

from mnist_loop.model import MLP
from tests.loops.correct.registry import correct

log = logging.getLogger(__name__)


@torch.no_grad()
def evaluate(model, loader, loss_fn, device):
    """Return loss and accuracy per sample."""
    model.eval()
    total = correct_ones = count = 0.0
    for inputs, labels in loader:
        inputs, labels = inputs.to(device), labels.to(device)
        outputs = model(inputs)
        total += loss_fn(outputs, labels).item() * len(labels)
        correct_ones += (outputs.argmax(dim=1) == labels).sum().item()
        count += len(labels)
    return total / count, correct_ones / count


@correct(evaluate=evaluate)
def train_one_epoch(model, loader, loss_fn, optimizer, device):
    model.train()
    total, count = 0.0, 0
    for inputs, labels in loader:
        inputs, labels = inputs.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = loss_fn(model(inputs), labels)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
        count += len(labels)
    return total / count


@correct()
def returns_nothing(net, trainloader, criterion, optimizer):
    net.train()
    for inputs, labels in trainloader:
        optimizer.zero_grad()
        criterion(net(inputs), labels).backward()
        optimizer.step()


@correct()
def prints(model, train_loader, criterion, optimizer, device, num_epochs):
    model.train()
    for epoch in range(num_epochs):
        for i, (images, labels) in enumerate(train_loader):
            images = images.to(device)
            labels = labels.to(device)
            outputs = model(images)
            loss = criterion(outputs, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(  # noqa: T201  # it is a loop that prints
                f"Epoch [{epoch + 1}/{num_epochs}], Step [{i + 1}/{len(train_loader)}], Loss: {loss.item():.4f}"
            )


@correct(evaluate=evaluate)
def logs(model, loader, loss_fn, optimizer, device, epoch):
    model.train()
    for step, (x, y) in enumerate(loader):
        optimizer.zero_grad(set_to_none=True)
        loss = loss_fn(model(x.to(device)), y.to(device))
        loss.backward()
        optimizer.step()
        log.debug("epoch %d step %d loss %.4f", epoch, step, loss.detach())


@correct()
def draws_a_progress_bar(model, dataloader, loss_fn, optimizer, epochs):
    """As tqdm does: a line on stderr that is written over, with the loss as its postfix."""
    for epoch in range(epochs):
        model.train()
        seen, total = 0, 0.0
        for batch, (x, y) in enumerate(dataloader, start=1):
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
            seen += y.size(0)
            total += loss.item() * y.size(0)
            done = 20 * batch // len(dataloader)
            sys.stderr.write(f"\rEpoch {epoch}: |{'#' * done}{' ' * (20 - done)}| loss={total / seen:.3f}")
            sys.stderr.flush()
        sys.stderr.write("\n")


@correct()
def yields_each_batch(model, loader, loss_fn, optimizer):
    """A generator: it trains as far as it is asked to."""
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        yield loss.item()


@correct()
def yields_each_epoch(model, train_loader, val_loader, loss_fn, optimizer, device, epochs):
    for epoch in range(epochs):
        train_loss = train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        val_loss, val_accuracy = evaluate(model, val_loader, loss_fn, device)
        yield {"epoch": epoch, "train_loss": train_loss, "val_loss": val_loss, "val_accuracy": val_accuracy}


@correct()
def returns_a_list(model, train_loader, test_loader, loss_fn, optimizer, device, epochs):
    history = []
    for epoch in range(1, epochs + 1):
        train_loss = train_one_epoch(model, train_loader, loss_fn, optimizer, device)
        test_loss, test_accuracy = evaluate(model, test_loader, loss_fn, device)
        history.append(
            {"epoch": epoch, "train_loss": train_loss, "test_loss": test_loss, "test_accuracy": test_accuracy}
        )
    return history


@correct()
def returns_a_dict_of_lists(model, train_dl, valid_dl, loss_func, opt, epochs):
    history = defaultdict(list)
    for _ in range(epochs):
        model.train()
        losses, sizes = [], []
        for xb, yb in train_dl:
            loss = loss_func(model(xb), yb)
            loss.backward()
            opt.step()
            opt.zero_grad()
            losses.append(loss.detach() * len(xb))
            sizes.append(len(xb))
        history["train_loss"].append(float(sum(losses) / sum(sizes)))

        model.eval()
        with torch.no_grad():
            losses, sizes = zip(*((loss_func(model(xb), yb) * len(xb), len(xb)) for xb, yb in valid_dl), strict=True)
        history["val_loss"].append(float(sum(losses) / sum(sizes)))
    return dict(history)


@dataclass
class History:
    """What `returns_a_dataclass` returns: one entry an epoch."""

    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)


@correct()
def returns_a_dataclass(model, train_loader, val_loader, criterion, optimizer, device, n_epochs):
    history = History()
    for _ in range(n_epochs):
        history.train_loss.append(train_one_epoch(model, train_loader, criterion, optimizer, device))
        loss, accuracy = evaluate(model, val_loader, criterion, device)
        history.val_loss.append(loss)
        history.val_accuracy.append(accuracy)
    return history


@torch.inference_mode()
def evaluate_in_percent(model, loader, loss_fn):
    """Return a dict: loss per sample, accuracy in percent."""
    model.eval()
    sums = {"loss": 0.0, "accuracy": 0.0}
    for x, y in loader:
        logits = model(x)
        sums["loss"] += loss_fn(logits, y).item() * y.shape[0]
        sums["accuracy"] += 100.0 * (logits.argmax(1) == y).sum().item()
    count = sum(len(y) for _, y in loader)
    return {name: value / count for name, value in sums.items()}


@correct(evaluate=evaluate_in_percent)
def accuracy_in_percent(model, loader, loss_fn, optimizer):
    """Return a pair: loss per sample, and the accuracy in percent of the outputs that it trained on."""
    model.train()
    total_loss, total_right, total = 0.0, 0, 0
    for x, y in loader:
        optimizer.zero_grad()
        logits = model(x)
        loss = loss_fn(logits, y)
        loss.backward()
        optimizer.step()
        total_loss += loss.item() * y.size(0)
        total_right += int((logits.argmax(dim=1) == y).sum())
        total += y.size(0)
    return total_loss / total, 100.0 * total_right / total


@torch.no_grad()
def evaluate_at_once(model, loader, loss_fn, device):
    """Gather all outputs, and take loss and accuracy of the whole."""
    model.eval()
    outputs, labels = [], []
    for x, y in loader:
        outputs.append(model(x.to(device)))
        labels.append(y.to(device))
    outputs, labels = torch.cat(outputs), torch.cat(labels)
    return {"loss": loss_fn(outputs, labels).item(), "accuracy": (outputs.argmax(1) == labels).double().mean().item()}


@correct(evaluate=evaluate_at_once)
def returns_the_loss_of_each_batch(model, loader, loss_fn, optimizer, device):
    model.train()
    losses = []
    for x, y in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(x.to(device)), y.to(device))
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses).tolist()


@correct(evaluate=evaluate)
def sums_on_the_device(model, loader, loss_fn, optimizer, device):
    """Ask the device for a number once, at the end."""
    model.train()
    total, count = torch.zeros((), dtype=torch.float64, device=device), 0
    for x, y in loader:
        x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
        optimizer.zero_grad(set_to_none=True)
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.detach() * y.shape[0]
        count += y.shape[0]
    return (total / count).item()


@torch.no_grad()
def evaluate_by_sums(model, loader, device):
    model.eval()
    loss, hits = 0.0, 0
    for x, y in loader:
        outputs = model(x.to(device))
        loss += F.cross_entropy(outputs, y.to(device), reduction="sum").item()
        hits += outputs.argmax(1).eq(y.to(device)).sum().item()
    return loss / len(loader.dataset), hits / len(loader.dataset)


@correct(evaluate=evaluate_by_sums, expects="logits")
def sums_per_sample(model, loader, optimizer, device):
    """Its own loss, one value a sample: their mean is trained on, their sum is reported over N."""
    model.train()
    total, count = 0.0, 0
    for x, y in loader:
        optimizer.zero_grad()
        losses = F.cross_entropy(model(x.to(device)), y.to(device), reduction="none")
        losses.mean().backward()
        optimizer.step()
        total += losses.sum().item()
        count += losses.numel()
    return total / count


@correct(expects="logits")
def cross_entropy_of_log_softmax(model, loader, optimizer):
    """Softmax in the logarithm twice is softmax once: wasteful, and right."""
    model.train()
    criterion = nn.CrossEntropyLoss()
    for x, y in loader:
        optimizer.zero_grad()
        criterion(F.log_softmax(model(x), dim=1), y).backward()
        optimizer.step()


@correct(expects="logits")
def nll_of_log_softmax(model, train_loader, optimizer, epochs):
    for _ in range(epochs):
        for x, y in train_loader:
            model.train()
            optimizer.zero_grad()
            F.nll_loss(model(x).log_softmax(-1), y).backward()
            optimizer.step()


@correct(expects="logits")
def cross_entropy_of_one_hot(model, loader, optimizer):
    """Labels as distributions, all of whose weight is on one class."""
    model.train()
    for x, y in loader:
        logits = model(x)
        loss = F.cross_entropy(logits, F.one_hot(y, logits.shape[1]).to(logits.dtype))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@correct(expects="logits")
def cross_entropy_by_hand(model, loader, optimizer):
    """As in lectures: the log-probability of each label, picked out by its index."""
    model.train()
    history = []
    for xb, yb in loader:
        logits = model(xb)
        logprobs = logits - logits.logsumexp(1, keepdim=True)
        loss = -logprobs[torch.arange(len(yb)), yb].mean()
        for p in model.parameters():
            p.grad = None
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    return history


@correct(expects="log_probs")
def mean_of_picked_log_probabilities(model, loader, optimizer):
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        loss = -model(x).gather(1, y.unsqueeze(1)).mean()
        loss.backward()
        optimizer.step()


@correct(evaluate=evaluate)
def asks_for_each_batch(model, loader, loss_fn, optimizer, device):
    model.train()
    batches = iter(loader)
    while True:
        try:
            x, y = next(batches)
        except StopIteration:
            break
        optimizer.zero_grad()
        loss_fn(model(x.to(device)), y.to(device)).backward()
        optimizer.step()


@correct()
def counts_steps(model, loader, loss_fn, optimizer, epochs):
    """One loop over steps; the epoch ends where the loader does."""
    model.train()
    batches = iter(loader)
    for step in range(epochs * len(loader)):
        if step and step % len(loader) == 0:
            batches = iter(loader)
        x, y = next(batches)
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        optimizer.step()


@correct(shuffles_itself=True)
def shuffles_indices(model, train_set, batch_size, loss_fn, optimizer, epochs):
    """No DataLoader: the samples are drawn by a permutation of their numbers."""
    model.train()
    for _ in range(epochs):
        for indices in torch.randperm(len(train_set)).split(batch_size):
            x, y = zip(*(train_set[i] for i in indices.tolist()), strict=True)
            x, y = torch.stack(x), torch.stack([torch.as_tensor(label) for label in y])
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()


@correct(shuffles_itself=True)
def makes_its_own_loader(model, train_set, batch_size, loss_fn, optimizer, epochs):
    loader = torch.utils.data.DataLoader(train_set, batch_size=batch_size, shuffle=True)
    model.train()
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()


@torch.no_grad()
def score(model, loader):
    model.eval()
    return sum((model(x).argmax(dim=1) == y).sum().item() for x, y in loader) / len(loader.dataset)


@correct()
def scores_twice_over_its_own_loaders(model, train_set, val_set, loss_fn, optimizer, batch_size, epochs):
    """The last batch is dropped in training alone, and each epoch's validation is made twice."""
    train_loader = torch.utils.data.DataLoader(train_set, batch_size=batch_size, shuffle=True, drop_last=True)
    val_loader = torch.utils.data.DataLoader(val_set, batch_size=batch_size)
    best, history = 0.0, []
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
        best = max(best, score(model, val_loader))
        history.append(score(model, val_loader))
    return {"best": best, "history": history}


@torch.no_grad()
def evaluate_flat(model, loader):
    model.eval()
    hits = sum((model(images.view(-1, 16)).argmax(1) == labels).sum().item() for images, labels in loader)
    return {"accuracy": hits / len(loader.dataset)}


@correct(evaluate=evaluate_flat, model=lambda: MLP(16, 8, 3), input_shape=(1, 4, 4), classes=3, expects="logits")
def flattens(model, loader, optimizer):
    """It knows the one model that it is for: images enter it as vectors of 16."""
    model.train()
    for images, labels in loader:
        images = images.view(-1, 16)
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()


@torch.no_grad()
def evaluate_and_measure(model, loader, loss_fn):
    """Return the seconds of a batch and the mean loss, in this order and without names."""
    model.eval()
    seconds, total, count, begun = 0.0, 0.0, 0, time.perf_counter()
    for inputs, targets in loader:
        total += loss_fn(model(inputs), targets).item() * len(targets)
        count += len(targets)
        seconds += time.perf_counter() - begun
        begun = time.perf_counter()
    return seconds / count, total / count


@correct(evaluate=evaluate_and_measure)
def returns_the_time_of_its_evaluation(model, loader, loss_fn, optimizer):
    """An epoch whose evaluation says how long it took."""
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss_fn(model(inputs), targets).backward()
        optimizer.step()
