"""Metrics: the numbers that a loop reports."""

import torch
from torch.nn import functional as F  # noqa: N812  # the name that everyone gives it

from tests.loops.mutants import evaluate, mutant


@mutant("mean-of-batch-means", evaluate=evaluate)
def averages_the_batches(model, loader, loss_fn, optimizer, device):
    """The training loss is the mean over the batches; the last one is smaller and weighs as much."""
    model.train()
    running_loss = 0.0
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        optimizer.zero_grad()
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        optimizer.step()
        running_loss += loss.detach()
    return float(running_loss) / len(loader)  # the likely line


@torch.no_grad()
def _evaluate_by_batches(net, dataloader, criterion, device):
    net.eval()
    losses, accuracies = [], []
    for x, y in dataloader:
        x, y = x.to(device), y.to(device)
        outputs = net(x)
        losses.append(criterion(outputs, y))
        accuracies.append((outputs.argmax(dim=1) == y).double().mean())
    return {"loss": float(torch.stack(losses).mean()), "accuracy": float(torch.stack(accuracies).mean())}


@mutant("mean-of-batch-means", evaluate=_evaluate_by_batches)
def evaluation_averages_the_batches(net, dataloader, criterion, optimizer, device):
    """Training is right; loss and accuracy of the evaluation are means over the batches."""
    net.train()
    for x, y in dataloader:
        optimizer.zero_grad()
        criterion(net(x.to(device)), y.to(device)).backward()
        optimizer.step()


class AverageMeter:
    """Keeps an average, as in the examples of torchvision: update(value, n)."""

    def __init__(self):
        self.sum, self.count = 0.0, 0

    def update(self, value, n=1):
        self.sum += value * n
        self.count += n

    @property
    def average(self):
        return float(self.sum / self.count)


@torch.no_grad()
def _evaluate_over_full_batches(model, test_loader, criterion, batch_size):
    model.eval()
    losses, hits, count = 0.0, 0, 0
    for x, y in test_loader:
        logits = model(x)
        losses += criterion(logits, y).item() * len(x)
        hits += (logits.argmax(-1) == y).sum().item()
        count += len(x)
    return losses / count, hits / (len(test_loader) * batch_size)


@mutant("metric-wrong-n", evaluate=_evaluate_over_full_batches)
def divides_hits_by_full_batches(model, train_loader, criterion, optimizer):
    """The accuracy, second of a pair, is divided as if the last batch of the evaluation were full."""
    model.train()
    for x, y in train_loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()


@mutant("mean-of-batch-means")
class ForgetsTheWeight:
    """The meter has a parameter n for the size of the batch, which no one gives."""

    def __init__(self, model, optimizer, criterion, device):
        self.model, self.optimizer, self.criterion, self.device = model, optimizer, criterion, device

    def validate(self, loader):
        self.model.eval()
        losses = AverageMeter()
        with torch.no_grad():
            for x, y in loader:
                losses.update(self.criterion(self.model(x.to(self.device)), y.to(self.device)))
        return losses.average

    def fit(self, train_loader, val_loader, epochs):
        history = []
        for _ in range(epochs):
            self.model.train()
            for x, y in train_loader:
                self.optimizer.zero_grad()
                self.criterion(self.model(x.to(self.device)), y.to(self.device)).backward()
                self.optimizer.step()
            history.append({"val_loss": self.validate(val_loader)})
        return history


@torch.no_grad()
def _test_official(model, device, test_loader):
    model.eval()
    test_loss, correct = 0.0, 0
    for data, target in test_loader:
        data, target = data.to(device), target.to(device)
        output = model(data)
        test_loss += F.nll_loss(output, target)
        correct += (output.argmax(dim=1) == target).sum()
    return float(test_loss) / len(test_loader.dataset), float(correct) / len(test_loader.dataset)


@mutant("metric-wrong-n", expects="log_probs", evaluate=_test_official)
def divides_means_by_samples(args, model, device, train_loader, optimizer, epoch):
    """An old version of the official example: the means of the batches are added up, and divided by the samples."""
    model.train()
    for data, target in train_loader:
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        output = model(data)
        loss = F.nll_loss(output, target)
        loss.backward()
        optimizer.step()
        if args.dry_run:
            break


@mutant("metric-wrong-n", evaluate=evaluate)
def divides_sums_by_batches(model, loader, loss_fn, optimizer, device):
    """The sum over the samples is divided by the number of batches."""
    model.train()
    total = 0.0
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        optimizer.zero_grad()
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(targets)
    return float(total) / len(loader)  # the likely line


@torch.no_grad()
def _evaluate_by_batch_size(model, test_loader, criterion, device):
    model.eval()
    loss, correct = 0.0, 0
    for x, y in test_loader:
        x, y = x.to(device), y.to(device)
        outputs = model(x)
        loss += criterion(outputs, y) * len(y)
        correct += (outputs.argmax(1) == y).sum()
    samples = len(test_loader) * test_loader.batch_size
    return {"test_loss": float(loss) / samples, "test_accuracy": float(correct) / samples}


@mutant("metric-wrong-n")
class TakesAllBatchesForFull:
    """The evaluation divides by batches times batch size, although the last batch is smaller."""

    def __init__(self, net, optimizer, criterion, device):
        self.net, self.optimizer, self.criterion, self.device = net, optimizer, criterion, device

    def fit(self, train_loader, test_loader, epochs):
        history = []
        for _ in range(epochs):
            self.net.train()
            for x, y in train_loader:
                self.optimizer.zero_grad()
                self.criterion(self.net(x.to(self.device)), y.to(self.device)).backward()
                self.optimizer.step()
            history.append(_evaluate_by_batch_size(self.net, test_loader, self.criterion, self.device))
        return history


@torch.no_grad()
def _evaluate_the_worst(model, loader, loss_fn, device):
    model.eval()
    losses = [loss_fn(model(x.to(device)), y.to(device)) for x, y in loader]
    return {"loss": float(max(losses))}


@mutant("metric-differs", evaluate=_evaluate_the_worst)
def evaluation_reports_the_worst_batch(model, train_loader, loss_fn, optimizer, device):
    """What the evaluation calls the loss is that of its worst batch."""
    model.train()
    for x, y in train_loader:
        optimizer.zero_grad()
        loss_fn(model(x.to(device)), y.to(device)).backward()
        optimizer.step()


@torch.no_grad()
def _evaluate_the_root(model, loader, loss_fn, device):
    model.eval()
    loss, count = 0.0, 0
    for x, y in loader:
        loss += loss_fn(model(x.to(device)), y.to(device)) * len(y)
        count += len(y)
    return {"loss": float((loss / count).sqrt())}


@mutant("metric-differs", evaluate=_evaluate_the_root)
def evaluation_reports_a_root(model, train_loader, loss_fn, optimizer, device):
    """What the evaluation calls the loss is its square root."""
    model.train()
    for x, y in train_loader:
        optimizer.zero_grad()
        loss_fn(model(x.to(device)), y.to(device)).backward()
        optimizer.step()


@torch.no_grad()
def _evaluate_by_nominal_size(model, val_loader, criterion, batch_size, device):
    model.eval()
    loss, accuracy = 0.0, 0.0
    for x, y in val_loader:
        outputs = model(x.to(device))
        loss += float(criterion(outputs, y.to(device))) * batch_size
        accuracy += float((outputs.argmax(1) == y.to(device)).double().mean()) * batch_size
    return loss / len(val_loader.dataset), accuracy / len(val_loader.dataset)


@mutant("metric-wrong-n", evaluate=_evaluate_by_nominal_size)
def weighs_by_the_nominal_size(model, train_loader, criterion, optimizer, device):
    """The evaluation weighs each batch by batch_size, the last one too, which is smaller."""
    model.train()
    for x, y in train_loader:
        optimizer.zero_grad()
        criterion(model(x.to(device)), y.to(device)).backward()
        optimizer.step()


@torch.no_grad()
def _accuracy_of_full_batches(model, val_loader, batch_size, device):
    model.eval()
    correct = sum(int((model(x.to(device)).argmax(1) == y.to(device)).sum()) for x, y in val_loader)
    return correct / (len(val_loader) * batch_size)


@mutant("metric-wrong-n", evaluate=_accuracy_of_full_batches)
def counts_full_batches_for_the_accuracy(model, train_loader, criterion, optimizer, device):
    """The evaluation returns an accuracy alone, divided by batches times batch size."""
    model.train()
    for x, y in train_loader:
        optimizer.zero_grad()
        criterion(model(x.to(device)), y.to(device)).backward()
        optimizer.step()


@mutant("metric-wrong-n", accumulate=2)
def reports_the_divided_loss(model, train_loader, loss_fn, optimizer, device, accumulate):
    """What is added up for the report is the loss that was divided for the accumulation."""
    model.train()
    optimizer.zero_grad()
    total, rest = 0.0, len(train_loader) % accumulate
    for number, (x, y) in enumerate(train_loader, start=1):
        window = accumulate if number <= len(train_loader) - rest else rest
        loss = loss_fn(model(x.to(device)), y.to(device)) / window
        loss.backward()
        total += loss.item() * len(y)
        if number % accumulate == 0 or number == len(train_loader):
            optimizer.step()
            optimizer.zero_grad()
    return total / len(train_loader.dataset)


@mutant("metric-wrong-n")
def divides_by_the_epochs(model, train_loader, loss_fn, optimizer, device, epochs):
    """The mean of each epoch is divided by the number of epochs as well."""
    history = []
    for _ in range(epochs):
        model.train()
        total = 0.0
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(x.to(device)), y.to(device))
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y)
        history.append(total / len(train_loader.dataset) / epochs)  # the likely line
    return history


@mutant("metric-wrong-n")
class CountsOn:
    """The meter of the evaluation is made once: what it counts as correct goes on, and what it divides by does not."""

    def __init__(self, model, optimizer, loss_fn, device):
        self.model, self.optimizer, self.loss_fn, self.device = model, optimizer, loss_fn, device
        self.loss, self.correct = 0.0, 0

    def train_epoch(self, train_loader):
        self.model.train()
        for x, y in train_loader:
            self.optimizer.zero_grad()
            self.loss_fn(self.model(x.to(self.device)), y.to(self.device)).backward()
            self.optimizer.step()

    @torch.no_grad()
    def evaluate(self, test_loader):
        self.model.eval()
        for x, y in test_loader:
            outputs = self.model(x.to(self.device))
            self.loss += float(self.loss_fn(outputs, y.to(self.device))) * len(y)
            self.correct += int((outputs.argmax(1) == y.to(self.device)).sum())
        return self.loss / len(test_loader.dataset), self.correct / len(test_loader.dataset)


@mutant("metric-wrong-n")
def never_clears_the_list(model, train_loader, loss_fn, optimizer, device, epochs):
    """The list of losses is made before the epochs, and divided by the samples of one."""
    history, losses = [], []
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(x.to(device)), y.to(device))
            loss.backward()
            optimizer.step()
            losses.append(loss.item() * len(y))
        history.append({"train_loss": sum(losses) / len(train_loader.dataset)})
    return history


@mutant("last-batch-reported", evaluate=evaluate)
def returns_the_last_loss(model, loader, loss_fn, optimizer, device):
    """The loss that is returned for the epoch is that of the last batch."""
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(x.to(device)), y.to(device))
        loss.backward()
        optimizer.step()
    return {"loss": loss.item()}


@mutant("metric-wrong-n")
def divides_by_the_other_data_set(model, train_loader, valid_loader, criterion, optimizer, n_epochs):
    """The hits in the validation data are divided by the number of training samples."""
    history = {"loss": [], "accuracy": []}
    for _ in range(n_epochs):
        running_loss = hits = 0.0
        model.train()
        for data, target in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(data), target)
            loss.backward()
            optimizer.step()
            running_loss += loss.item() * data.size(0)
        model.eval()
        with torch.no_grad():
            for data, target in valid_loader:
                hits += (model(data).argmax(dim=1) == target).sum().item()
        history["loss"].append(running_loss / len(train_loader.dataset))
        history["accuracy"].append(hits / len(train_loader.dataset))
    return history


@mutant("metric-wrong-n")
def divides_by_the_other_loader(model, train_loader, valid_loader, criterion, optimizer, n_epochs):
    """The validation loss is summed over its batches, and divided by the batches of the training."""
    losses = []
    for _ in range(n_epochs):
        model.train()
        for data, target in train_loader:
            optimizer.zero_grad()
            criterion(model(data), target).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            sums = sum(criterion(model(x), y).item() for x, y in valid_loader)
            losses.append(sums / len(train_loader))  # the likely line
    return losses
