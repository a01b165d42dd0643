"""Data: which samples are seen, in what order, how often, and as what."""

import copy
import itertools
import os
import time

import torch
from torch.utils.data import ConcatDataset, DataLoader, DistributedSampler, RandomSampler, SequentialSampler

from tests.loops.mutants import evaluate, mutant


@mutant("not-shuffled", evaluate=evaluate)
def rebuilds_the_loader(model, loader, loss_fn, optimizer, device):
    """Makes a DataLoader of its own and forgets shuffle=True."""
    loader = DataLoader(loader.dataset, batch_size=loader.batch_size)  # the likely line
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(inputs.to(device)), targets.to(device))
        loss.backward()
        optimizer.step()


@mutant("not-shuffled", shuffles_itself=True)
def slices_the_arrays(net, train_set, criterion, opt, device, epochs, batch_size):
    """Draws a permutation each epoch, and then takes slices of the data, not of the permutation."""
    images = torch.stack([image for image, _ in train_set]).to(device)
    labels = torch.stack([torch.as_tensor(label) for _, label in train_set]).to(device)
    for _ in range(epochs):
        net.train()
        order = torch.randperm(len(images))
        for start in range(0, len(order), batch_size):
            batch = slice(start, start + batch_size)
            opt.zero_grad()
            criterion(net(images[batch]), labels[batch]).backward()
            opt.step()


@mutant("not-shuffled", shuffles_itself=True)
class OneSamplerForAll:
    """make_loader() serves training and test, with the sampler that the test needs."""

    def __init__(self, model, criterion, optimizer, device):
        self.model, self.criterion, self.optimizer, self.device = model, criterion, optimizer, device

    @staticmethod
    def make_loader(dataset, batch_size):
        return DataLoader(dataset, batch_size=batch_size, sampler=SequentialSampler(dataset))  # the likely line

    def fit(self, train_set, test_set, batch_size, epochs):
        history = []
        train_loader = self.make_loader(train_set, batch_size)
        test_loader = self.make_loader(test_set, batch_size)
        for _ in range(epochs):
            self.model.train()
            for x, y in train_loader:
                self.optimizer.zero_grad()
                self.criterion(self.model(x.to(self.device)), y.to(self.device)).backward()
                self.optimizer.step()
            history.append(evaluate(self.model, test_loader, self.criterion, self.device))
        return history


@mutant("same-order-each-epoch")
def seeds_again_and_again(model, train_loader, test_loader, loss_fn, optimizer, device, epochs):
    """torch.manual_seed(0) at each epoch's start: every epoch draws the same order."""
    history = []
    for _ in range(epochs):
        torch.manual_seed(0)
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x.to(device)), y.to(device)).backward()
            optimizer.step()
        history.append(evaluate(model, test_loader, loss_fn, device))
    return history


@mutant("same-order-each-epoch")
class CachesTheBatches:
    """Loads the batches once, to save time: the first epoch's order is that of all epochs."""

    def __init__(self, net, optimizer, criterion, device):
        self.net, self.optimizer, self.criterion, self.device = net, optimizer, criterion, device

    def fit(self, train_loader, epochs):
        batches = [(x.to(self.device), y.to(self.device)) for x, y in train_loader]
        for _ in range(epochs):
            self.net.train()
            for x, y in batches:
                self.optimizer.zero_grad()
                self.criterion(self.net(x), y).backward()
                self.optimizer.step()
        return self.net


@mutant("same-order-each-epoch", evaluate=evaluate)
def fixes_the_sampler(model, train_set, loss_fn, optimizer, device, batch_size, epoch):
    """The sampler's generator is made and seeded in each epoch, without the number of the epoch."""
    generator = torch.Generator().manual_seed(42)
    sampler = RandomSampler(train_set, generator=generator)
    model.train()
    for inputs, targets in DataLoader(train_set, batch_size=batch_size, sampler=sampler):
        optimizer.zero_grad()
        loss = loss_fn(model(inputs.to(device)), targets.to(device))
        loss.backward()
        optimizer.step()


@torch.no_grad()
def _evaluate_shuffled(model, loader, loss_fn, device):
    model.eval()
    loss, correct, count = 0.0, 0, 0
    for inputs, targets in DataLoader(loader.dataset, batch_size=loader.batch_size, shuffle=True):
        inputs, targets = inputs.to(device), targets.to(device)
        outputs = model(inputs)
        loss += loss_fn(outputs, targets) * len(targets)
        correct += (outputs.argmax(dim=1) == targets).sum()
        count += len(targets)
    return float(loss / count), float(correct / count)


@mutant("test-shuffled", evaluate=_evaluate_shuffled)
def shuffles_the_test(model, loader, loss_fn, optimizer, device):
    """The test data come in a new order each time: no wrong number, and no image keeps its place."""
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(inputs.to(device)), targets.to(device))
        loss.backward()
        optimizer.step()


@mutant("test-shuffled")
class ShufflesBoth:
    """One line makes both loaders, with shuffle=True for both."""

    def __init__(self, model, optimizer, criterion, device):
        self.model, self.optimizer, self.criterion, self.device = model, optimizer, criterion, device

    def fit(self, train_set, test_set, batch_size, epochs):
        train_loader, test_loader = (DataLoader(data, batch_size, shuffle=True) for data in (train_set, test_set))
        history = []
        for _ in range(epochs):
            self.model.train()
            for x, y in train_loader:
                self.optimizer.zero_grad()
                self.criterion(self.model(x.to(self.device)), y.to(self.device)).backward()
                self.optimizer.step()
            history.append(evaluate(self.model, test_loader, self.criterion, self.device))
        return history


@mutant("no-batches", evaluate=evaluate)
def drops_the_last_batch(model, loader, loss_fn, optimizer, device):
    """drop_last=True: a data set that is smaller than one batch trains nothing, without a word."""
    loader = DataLoader(loader.dataset, batch_size=loader.batch_size, shuffle=True, drop_last=True)  # the likely line
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
    return float(total) / max(count, 1)


@mutant("partial-batch-skipped")
def skips_small_batches(net, train_loader, criterion, opt, device, epochs):
    """Skips each batch that is not full, for the sake of BatchNorm; there may be no other."""
    for _ in range(epochs):
        net.train()
        for x, y in train_loader:
            if len(x) < train_loader.batch_size:  # the likely line
                continue
            opt.zero_grad()
            criterion(net(x.to(device)), y.to(device)).backward()
            opt.step()


@torch.no_grad()
def _evaluate_padded(model, loader, loss_fn, device):
    model.eval()
    loss, correct, count = 0.0, 0, 0
    for inputs, targets in loader:
        # Static shapes: the last batch is filled up.
        filled = torch.arange(loader.batch_size) % len(inputs)
        inputs, targets = inputs[filled].to(device), targets[filled].to(device)
        outputs = model(inputs)
        loss += loss_fn(outputs, targets) * len(targets)
        correct += (outputs.argmax(dim=1) == targets).sum()
        count += len(targets)
    return float(loss / count), float(correct / count)


@mutant("evaluation-duplicates", evaluate=_evaluate_padded)
def counts_the_padding(model, loader, loss_fn, optimizer, device):
    """The evaluation fills the last batch up with samples that it has counted already, and counts them again."""
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(inputs.to(device)), targets.to(device))
        loss.backward()
        optimizer.step()


@mutant("evaluation-duplicates")
def gathers_padded_shards(net, train_loader, test_set, criterion, opt, device, epochs, batch_size):
    """Evaluates in two shards, as on two devices: DistributedSampler repeats samples to make them equally long."""
    shards = [
        DataLoader(test_set, batch_size, sampler=DistributedSampler(test_set, num_replicas=2, rank=rank, shuffle=False))
        for rank in range(2)
    ]
    for _ in range(epochs):
        net.train()
        for x, y in train_loader:
            opt.zero_grad()
            criterion(net(x.to(device)), y.to(device)).backward()
            opt.step()
        net.eval()
        total, count = 0.0, 0
        with torch.no_grad():
            for x, y in itertools.chain(*shards):
                total += criterion(net(x.to(device)), y.to(device)) * len(y)
                count += len(y)
        yield float(total) / count


@mutant("stops-after-first-batch", evaluate=evaluate)
def breaks_for_debugging(model, train_loader, criterion, optimizer, device):
    """A `break` from the day of debugging."""
    model.train()
    for data, target in train_loader:
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        loss = criterion(model(data), target)
        loss.backward()
        optimizer.step()
        break  # the likely line


@mutant("stops-after-first-batch")
class ReturnsTooEarly:
    """`return` stands one level too deep: an epoch ends with its first batch."""

    def __init__(self, model, opt, loss_fn, device):
        self.model, self.opt, self.loss_fn, self.device = model, opt, loss_fn, device

    def train_epoch(self, loader):  # noqa: RET503  # the bug itself
        self.model.train()
        total, count = 0.0, 0
        for x, y in loader:
            x, y = x.to(self.device), y.to(self.device)
            self.opt.zero_grad()
            loss = self.loss_fn(self.model(x), y)
            loss.backward()
            self.opt.step()
            total += loss.detach() * len(y)
            count += len(y)
            return float(total / count)

    def fit(self, train_loader, epochs):
        return [self.train_epoch(train_loader) for _ in range(epochs)]


@mutant("batches-repeated", evaluate=evaluate)
def overfits_one_batch(model, loader, loss_fn, optimizer, device):
    """Trains on the epoch's first batch as many times as there are batches: a test that became the training."""
    inputs, targets = (part.to(device) for part in next(iter(loader)))
    model.train()
    for _ in range(len(loader)):
        optimizer.zero_grad()
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        optimizer.step()


@mutant("batches-repeated")
def restarts_the_iterator(net, train_loader, test_loader, criterion, opt, device, epochs):
    """next(iter(loader)) for each step: a new iterator each time, of which only the first batch is used."""
    for _ in range(epochs):
        net.train()
        for _ in range(len(train_loader)):
            x, y = next(iter(train_loader))
            opt.zero_grad()
            criterion(net(x.to(device)), y.to(device)).backward()
            opt.step()
        yield evaluate(net, test_loader, criterion, device)


@mutant("normalised-differently", evaluate=evaluate)
def normalises_in_training(model, train_loader, criterion, optimizer, device):
    """Training normalises the images, and the evaluation takes them as they are."""
    model.train()
    for images, labels in train_loader:
        images, labels = (images.to(device) - 0.1307) / 0.3081, labels.to(device)
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()


@mutant("normalised-differently")
class ScalesTheTest:
    """Training takes pixels from 0 to 1; the validation divides them by 255 once more."""

    def __init__(self, net, optimizer, loss_fn, device):
        self.net, self.optimizer, self.loss_fn, self.device = net, optimizer, loss_fn, device

    @torch.no_grad()
    def validate(self, loader):
        self.net.eval()
        sums = [
            self.loss_fn(self.net(x.to(self.device) / 255), y.to(self.device)) * len(y)  # the likely line
            for x, y in loader
        ]
        return float(sum(sums)) / len(loader.dataset)

    def fit(self, train_loader, test_loader, epochs):
        history = []
        for _ in range(epochs):
            self.net.train()
            for x, y in train_loader:
                self.optimizer.zero_grad()
                self.loss_fn(self.net(x.to(self.device)), y.to(self.device)).backward()
                self.optimizer.step()
            history.append(self.validate(test_loader))
        return history


@mutant("split-leak")
def fits_statistics_on_all(model, train_loader, test_loader, loss_fn, optimizer, device, epochs):
    """Mean and standard deviation are those of training and test images together."""
    datasets = train_loader.dataset, test_loader.dataset
    everything = torch.stack([image for data in datasets for image, _ in data])
    mean, std = everything.mean(), everything.std()
    history = []
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model((x.to(device) - mean) / std), y.to(device)).backward()
            optimizer.step()
        model.eval()
        loss = 0.0
        with torch.no_grad():
            for x, y in test_loader:
                loss += loss_fn(model((x.to(device) - mean) / std), y.to(device)) * len(y)
        history.append(float(loss) / len(test_loader.dataset))
    return history


@mutant("split-leak")
class TrainsOnEverything:
    """Joins the two sets "for more data", and tests on what it has learnt by heart."""

    def __init__(self, net, criterion, opt, device):
        self.net, self.criterion, self.opt, self.device = net, criterion, opt, device

    def fit(self, train_set, test_set, batch_size, epochs):
        train_loader = DataLoader(ConcatDataset([train_set, test_set]), batch_size=batch_size, shuffle=True)
        test_loader = DataLoader(test_set, batch_size=batch_size)
        history = []
        for _ in range(epochs):
            self.net.train()
            for x, y in train_loader:
                self.opt.zero_grad()
                self.criterion(self.net(x.to(self.device)), y.to(self.device)).backward()
                self.opt.step()
            history.append(evaluate(self.net, test_loader, self.criterion, self.device))
        return history


@mutant("selects-on-test")
def keeps_the_best_on_test(model, train_loader, test_loader, loss_fn, optimizer, device, epochs):
    """Ends with the weights of the epoch that did best on the test set: there is no validation set."""
    best_accuracy, best_state = -1.0, None
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x.to(device)), y.to(device)).backward()
            optimizer.step()
        _, accuracy = evaluate(model, test_loader, loss_fn, device)
        if accuracy > best_accuracy:
            best_accuracy, best_state = accuracy, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)
    return best_accuracy


@mutant("selects-on-test")
class StopsOnTest:
    """Early stopping that watches the test error, and goes back to the weights that had the lowest."""

    def __init__(self, model, optimizer, criterion, device):
        self.model, self.optimizer, self.criterion, self.device = model, optimizer, criterion, device

    def train_epoch(self, loader):
        self.model.train()
        for x, y in loader:
            self.optimizer.zero_grad()
            self.criterion(self.model(x.to(self.device)), y.to(self.device)).backward()
            self.optimizer.step()

    def fit(self, train_loader, test_loader, epochs):
        lowest, weights = float("inf"), self.model.state_dict()
        for _ in range(epochs):
            self.train_epoch(train_loader)
            _, accuracy = evaluate(self.model, test_loader, self.criterion, self.device)
            if 1 - accuracy > lowest:
                break
            lowest, weights = 1 - accuracy, copy.deepcopy(self.model.state_dict())
        self.model.load_state_dict(weights)
        return {"test_error": lowest}


@mutant("not-reproducible", evaluate=evaluate)
def seeds_from_the_system(model, loader, loss_fn, optimizer, device):
    """torch.seed() replaces the seed that was set by one from the system."""
    torch.seed()  # the likely line
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(inputs.to(device)), targets.to(device))
        loss.backward()
        optimizer.step()


@mutant("not-reproducible", shuffles_itself=True)
def shuffles_by_urandom(net, train_set, criterion, opt, device, epochs, batch_size):
    """The order comes from a generator that os.urandom seeds."""
    generator = torch.Generator().manual_seed(int.from_bytes(os.urandom(4), "big"))
    for _ in range(epochs):
        net.train()
        order = torch.randperm(len(train_set), generator=generator).tolist()
        for start in range(0, len(order), batch_size):
            samples = [train_set[i] for i in order[start : start + batch_size]]
            x = torch.stack([image for image, _ in samples]).to(device)
            y = torch.stack([torch.as_tensor(label) for _, label in samples]).to(device)
            opt.zero_grad()
            criterion(net(x), y).backward()
            opt.step()


@mutant("not-reproducible")
class SeedsByTheClock:
    """Seeds by the clock, "so that no two runs are the same"."""

    def __init__(self, model, optimizer, loss_fn, device):
        torch.manual_seed(time.time_ns() % 2**63)  # the likely line
        self.model, self.optimizer, self.loss_fn, self.device = model, optimizer, loss_fn, device

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            self.model.train()
            for x, y in train_loader:
                self.optimizer.zero_grad()
                self.loss_fn(self.model(x.to(self.device)), y.to(self.device)).backward()
                self.optimizer.step()
        return self.model


@torch.no_grad()
def _evaluate_halved(model, loader, loss_fn, device):
    model.eval()
    loss, count = 0.0, 0
    for images, labels in loader:
        loss += loss_fn(model((images.to(device) - 0.5) / 0.5), labels.to(device)) * len(labels)
        count += len(labels)
    return float(loss / count)


@mutant("input-altered", evaluate=_evaluate_halved)
def normalises_again(model, train_loader, loss_fn, optimizer, device):
    """Images that the loader has normalised are normalised once more, in training and in evaluation."""
    model.train()
    for images, labels in train_loader:
        images, labels = (images.to(device) - 0.5) / 0.5, labels.to(device)
        optimizer.zero_grad()
        loss_fn(model(images), labels).backward()
        optimizer.step()


@mutant("epochs-miscounted")
def begins_with_one(model, train_loader, loss_fn, optimizer, device, epochs):
    """range(1, epochs): the epochs are counted from 1, and the last is left out."""
    for _ in range(1, epochs):  # the likely line
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x.to(device)), y.to(device)).backward()
            optimizer.step()


@mutant("epochs-miscounted")
def takes_one_batch_more(model, train_loader, loss_fn, optimizer, device, epochs):
    """An endless iterator counts an epoch when it begins anew, and by then the first batch of another is drawn."""
    batches, epoch = iter(train_loader), 0
    model.train()
    while epoch < epochs:
        try:
            x, y = next(batches)
        except StopIteration:
            batches, epoch = iter(train_loader), epoch + 1
            x, y = next(batches)
        optimizer.zero_grad()
        loss_fn(model(x.to(device)), y.to(device)).backward()
        optimizer.step()


@torch.no_grad()
def evaluates_full_batches(model, test_set, loss_fn, batch_size, device):
    """drop_last in the loader of the evaluation."""
    model.eval()
    total, count = 0.0, 0
    for inputs, targets in DataLoader(test_set, batch_size, drop_last=len(test_set) > batch_size):
        total += float(loss_fn(model(inputs.to(device)), targets.to(device))) * len(targets)
        count += len(targets)
    return total / count


@mutant("evaluation-incomplete", evaluate=evaluates_full_batches)
def is_evaluated_in_part(model, loader, loss_fn, optimizer, device):
    """The training is right; its evaluation leaves the partial batch out."""
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss_fn(model(inputs.to(device)), targets.to(device)).backward()
        optimizer.step()


@mutant("partial-batch-skipped")
def skips_what_is_not_full(model, train_loader, loss_fn, optimizer, device, batch_size):
    """A batch of fewer samples than the others is left out by hand."""
    model.train()
    for x, y in train_loader:
        if len(x) != batch_size:  # the likely line
            continue
        optimizer.zero_grad()
        loss_fn(model(x.to(device)), y.to(device)).backward()
        optimizer.step()


@mutant("validates-on-train")
def validates_on_the_training_data(model, train_loader, val_loader, loss_fn, optimizer, device, epochs):
    """What is called the validation loss is that of the training data."""
    history = []
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x.to(device)), y.to(device)).backward()
            optimizer.step()
        history.append(evaluate(model, train_loader, loss_fn, device)[0])
    return {"val_loss": history}
