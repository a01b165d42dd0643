"""Conduct: whether the loop trains what it is handed, returns, and leaves nothing behind."""

import copy
import ctypes
import os
import queue
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn
from torch.utils.data import DataLoader

from tests.loops.mutants import evaluate, mutant


@mutant("trains-nothing")
def resumes_at_the_end(model, train_loader, loss_fn, optimizer, device, epochs, start_epoch=None):
    """Without a checkpoint the first epoch is the last one: range(epochs, epochs) is empty."""
    start_epoch = start_epoch or epochs
    for _ in range(start_epoch, epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x.to(device)), y.to(device)).backward()
            optimizer.step()
    return model


@mutant("trains-nothing", evaluate=evaluate)
def maps_lazily(model, loader, loss_fn, optimizer, device):
    """map() does nothing until someone asks for its results, and no one does."""

    def step(batch):
        inputs, targets = (part.to(device) for part in batch)
        optimizer.zero_grad()
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        optimizer.step()
        return loss.detach()

    model.train()
    map(step, loader)


@mutant("trains-nothing")
def stops_before_it_starts(model, train_loader, val_loader, loss_fn, optimizer, device, epochs, patience=0):
    """Early stopping whose patience is used up before the first epoch."""
    best, bad_epochs = float("inf"), 0
    for _ in range(epochs):
        if bad_epochs >= patience:
            break
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x.to(device)), y.to(device)).backward()
            optimizer.step()
        loss, _ = evaluate(model, val_loader, loss_fn, device)
        bad_epochs = 0 if loss < best else bad_epochs + 1
        best = min(best, loss)
    return best


@mutant("model-replaced", own_optimizer=True)
def trains_a_copy(model, train_loader, loss_fn, device, epochs):
    """Trains a copy of the model and returns nothing: the model that was handed in is as it was."""
    model = copy.deepcopy(model).to(device)  # the likely line
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x.to(device)), y.to(device)).backward()
            optimizer.step()


@mutant("model-replaced", own_optimizer=True)
class KeepsACopy:
    """__init__ copies the model "to be safe", and the copy is what learns."""

    def __init__(self, net, criterion, device):
        self.net = copy.deepcopy(net)  # the likely line
        self.criterion, self.device = criterion, device
        self.opt = torch.optim.Adam(self.net.parameters(), lr=1e-3)

    def fit(self, train_loader, epochs):
        losses = []
        for _ in range(epochs):
            self.net.train()
            total = 0.0
            for x, y in train_loader:
                loss = self.criterion(self.net(x.to(self.device)), y.to(self.device))
                self.opt.zero_grad()
                loss.backward()
                self.opt.step()
                total += loss.detach() * len(x)
            losses.append(float(total) / len(train_loader.dataset))
        return losses


@mutant("leaves-global-state", evaluate=evaluate)
def changes_the_default_dtype(model, loader, loss_fn, optimizer, device):
    """Sets the default dtype for everyone, and leaves it so."""
    torch.set_default_dtype(torch.float64)  # the likely line
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(inputs.to(device)), targets.to(device))
        loss.backward()
        optimizer.step()


@mutant("leaves-global-state")
def leaves_gradients_off(net, train_loader, test_loader, criterion, opt, device, epochs):
    """set_grad_enabled(False) for the evaluation; after the last one it stays off."""
    history = []
    for _ in range(epochs):
        torch.set_grad_enabled(True)
        net.train()
        for x, y in train_loader:
            opt.zero_grad()
            criterion(net(x.to(device)), y.to(device)).backward()
            opt.step()
        torch.set_grad_enabled(False)
        history.append(evaluate(net, test_loader, criterion, device))
    return history


@mutant("leaves-global-state")
class Deterministic:
    """Asks for deterministic algorithms in the whole process, and never takes it back."""

    def __init__(self, model, optimizer, loss_fn, device):
        torch.use_deterministic_algorithms(True)  # the likely line
        self.model, self.optimizer, self.loss_fn, self.device = model, optimizer, loss_fn, device

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            self.model.train()
            for x, y in train_loader:
                self.optimizer.zero_grad()
                self.loss_fn(self.model(x.to(self.device)), y.to(self.device)).backward()
                self.optimizer.step()
        return self.model


@mutant("leaves-global-state")
class LeavesItsHooks:
    """Watches the activations by forward hooks that it never removes from the model."""

    def __init__(self, model, optimizer, criterion, device):
        self.model, self.optimizer, self.criterion, self.device = model, optimizer, criterion, device
        self.calls = 0

    def count(self, module, args, output):
        self.calls += 1

    def fit(self, train_loader, epochs):
        for module in self.model.children():
            module.register_forward_hook(self.count)  # the likely line
        for _ in range(epochs):
            self.model.train()
            for x, y in train_loader:
                self.optimizer.zero_grad()
                self.criterion(self.model(x.to(self.device)), y.to(self.device)).backward()
                self.optimizer.step()
        return self.calls


@mutant("leaves-global-state", evaluate=evaluate)
def changes_the_threads(model, loader, loss_fn, optimizer, device):
    """Sets the number of torch's threads, and leaves it so."""
    torch.set_num_threads(2 * (os.cpu_count() or 1) + 1)  # the likely line
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(inputs.to(device)), targets.to(device))
        loss.backward()
        optimizer.step()


@mutant("loop-raises", evaluate=evaluate)
def counts_full_batches(model, loader, loss_fn, optimizer, device):
    """A buffer for as many losses as there are full batches: the partial one has no place in it."""
    losses = torch.zeros(len(loader.dataset) // loader.batch_size, device=device)
    model.train()
    for i, (inputs, targets) in enumerate(loader):
        optimizer.zero_grad()
        loss = loss_fn(model(inputs.to(device)), targets.to(device))
        loss.backward()
        optimizer.step()
        losses[i] = loss.detach()
    return losses.tolist()


def normalised():
    """A model of the loop's own, with BatchNorm."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 10))


@mutant("loop-raises", model=normalised, shuffles_itself=True)
def leaves_one_sample_over(model, train_set, criterion, optimizer, batch_size, epochs):
    """BatchNorm cannot normalise the last batch where a single sample is left for it."""
    train_loader = DataLoader(train_set, batch_size=batch_size, shuffle=True)
    for _ in range(epochs):
        model.train()
        for images, labels in train_loader:
            optimizer.zero_grad()
            criterion(model(images), labels).backward()
            optimizer.step()


@mutant("loop-raises")
class StaticShapes:
    """Views every batch as a full one."""

    def __init__(self, net, criterion, opt, device, batch_size=None):
        self.net, self.criterion, self.opt, self.device = net, criterion, opt, device
        self.batch_size = batch_size

    def fit(self, train_loader, epochs):
        size = self.batch_size or train_loader.batch_size
        for _ in range(epochs):
            self.net.train()
            for x, y in train_loader:
                x, y = x.to(self.device), y.to(self.device)
                x, y = x.view(size, *x.shape[1:]), y.view(size, *y.shape[1:])
                self.opt.zero_grad()
                self.criterion(self.net(x), y).backward()
                self.opt.step()
        return self.net


@mutant("loop-hangs")
def never_counts_its_epochs(model, train_loader, loss_fn, optimizer, device, epochs):
    """`while epoch < epochs`, and no epoch += 1."""
    epoch = 0
    while epoch < epochs:
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x.to(device)), y.to(device)).backward()
            optimizer.step()
    return model


@mutant("loop-hangs", evaluate=evaluate)
def waits_for_a_batch(net, train_loader, criterion, opt, device):
    """A queue of batches, from which one more is taken than was put in: get() waits for ever."""
    batches: queue.Queue = queue.Queue()
    for batch in train_loader:
        batches.put(batch)
    net.train()
    while True:
        batch = batches.get()
        if batch is None:
            return
        x, y = (part.to(device) for part in batch)
        opt.zero_grad()
        criterion(net(x), y).backward()
        opt.step()


@mutant("loop-exits")
def ends_the_program(model, train_loader, test_loader, loss_fn, optimizer, device, epochs):
    """sys.exit(0) at the end of the training, as in the script that it was."""
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x.to(device)), y.to(device)).backward()
            optimizer.step()
        evaluate(model, test_loader, loss_fn, device)
    sys.exit(0)  # the likely line


@mutant("loop-exits", evaluate=evaluate)
def ends_the_process(model, loader, loss_fn, optimizer, device):
    """os._exit(0), which no one can catch."""
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(inputs.to(device)), targets.to(device))
        loss.backward()
        optimizer.step()
    os._exit(0)  # the likely line


@mutant("loop-exits")
class GivesUp:
    """Raises SystemExit with a message as soon as the loss does not fall."""

    def __init__(self, net, optimizer, criterion, device):
        self.net, self.optimizer, self.criterion, self.device = net, optimizer, criterion, device

    def fit(self, train_loader, epochs):
        lowest = -1.0
        for _ in range(epochs):
            self.net.train()
            total = 0.0
            for x, y in train_loader:
                self.optimizer.zero_grad()
                loss = self.criterion(self.net(x.to(self.device)), y.to(self.device))
                loss.backward()
                self.optimizer.step()
                total += loss.detach() * len(y)
            if total > lowest:
                raise SystemExit("the loss does not fall")  # the likely line
            lowest = total


@mutant("loop-crashes", evaluate=evaluate)
def reads_address_zero(model, loader, loss_fn, optimizer, device):
    """Reads memory at address 0, as a broken extension does."""
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(inputs.to(device)), targets.to(device))
        loss.backward()
        optimizer.step()
        ctypes.string_at(0)


@mutant("loop-crashes")
def aborts(net, train_loader, criterion, opt, device, epochs):
    """Ends by a signal in its second epoch, as when an assertion fails in C++."""
    for epoch in range(epochs):
        if epoch == 1:
            os.kill(os.getpid(), signal.SIGABRT)
        net.train()
        for x, y in train_loader:
            opt.zero_grad()
            criterion(net(x.to(device)), y.to(device)).backward()
            opt.step()


@mutant("loop-exhausts-memory", evaluate=evaluate)
def keeps_everything(model, loader, loss_fn, optimizer, device):
    """Keeps a table of several GiB for each batch until there is no memory left."""
    model.train()
    tables = []
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(inputs.to(device)), targets.to(device))
        loss.backward()
        optimizer.step()
        while True:
            tables.append(torch.ones(2**29, device=device))


@mutant("loop-exhausts-memory")
class GrowsItsLog:
    """A log that is appended to itself, without end, once the training is done."""

    def __init__(self, model, optimizer, loss_fn, device):
        self.model, self.optimizer, self.loss_fn, self.device = model, optimizer, loss_fn, device
        self.log = "step;"

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            self.model.train()
            for x, y in train_loader:
                self.optimizer.zero_grad()
                self.loss_fn(self.model(x.to(self.device)), y.to(self.device)).backward()
                self.optimizer.step()
        while True:
            self.log += self.log


@mutant("leaves-threads", evaluate=evaluate)
def never_closes_its_pool(model, loader, loss_fn, optimizer, device):
    """Moves the batches in a pool of threads that is not shut down."""
    pool = ThreadPoolExecutor(max_workers=2)
    model.train()
    for batch in loader:
        inputs, targets = pool.map(lambda part: part.to(device), batch)
        optimizer.zero_grad()
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        optimizer.step()
    _POOLS.append(pool)


_POOLS: list[ThreadPoolExecutor] = []  # for the next epoch, which makes one of its own


@mutant("leaves-threads")
class Heartbeat:
    """Starts a thread that watches the training, and never stops it."""

    def __init__(self, net, optimizer, loss_fn, device):
        self.net, self.optimizer, self.loss_fn, self.device = net, optimizer, loss_fn, device
        self.stopped, self.beats = threading.Event(), 0

    def watch(self):
        while not self.stopped.wait(timeout=1):
            self.beats += 1

    def fit(self, train_loader, epochs):
        threading.Thread(target=self.watch, daemon=True).start()  # the likely line
        for _ in range(epochs):
            self.net.train()
            for x, y in train_loader:
                self.optimizer.zero_grad()
                self.loss_fn(self.net(x.to(self.device)), y.to(self.device)).backward()
                self.optimizer.step()
        return self.net
