"""Train and eval mode, gradients on and off, and what an evaluation changes."""

import copy

import torch
from torch.nn import functional as F  # noqa: N812  # the name that everyone gives it

from tests.loops.mutants import evaluate, mutant


@mutant("trains-in-eval-mode", evaluate=evaluate)
def trains_in_eval(model, loader, loss_fn, optimizer, device):
    """model.eval() where model.train() was meant."""
    model.eval()  # the likely line
    total, count = 0.0, 0
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        optimizer.zero_grad()
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(targets)
        count += len(targets)
    return float(total / count)


@mutant("trains-in-eval-mode")
class SanityCheckFirst:
    """A sanity check of the validation runs before the first epoch, and nothing calls train() after it."""

    def __init__(self, model, optimizer, criterion, device):
        self.model, self.optimizer, self.criterion, self.device = model, optimizer, criterion, device

    def validate(self, loader):
        self.model.eval()  # the likely line
        with torch.no_grad():
            return sum(
                self.criterion(self.model(x.to(self.device)), y.to(self.device)) * len(y) for x, y in loader
            ) / len(loader.dataset)

    def fit(self, train_loader, val_loader, epochs):
        history = [float(self.validate(val_loader))]
        for _ in range(epochs):
            for x, y in train_loader:
                self.optimizer.zero_grad()
                self.criterion(self.model(x.to(self.device)), y.to(self.device)).backward()
                self.optimizer.step()
            history.append(float(self.validate(val_loader)))
        return history


@mutant("trains-in-eval-mode")
def misspells_the_phase(net, train_dataloader, test_dataloader, criterion, opt, device, epochs):
    """Both phases in one loop; the first is called "training", and train mode is set for "train"."""
    phases = {"training": train_dataloader, "testing": test_dataloader}
    history = []
    for _ in range(epochs):
        losses = {}
        for phase, dataloader in phases.items():
            net.train(phase == "train")
            total = 0.0
            for x, y in dataloader:
                x, y = x.to(device), y.to(device)
                with torch.set_grad_enabled(phase == "training"):
                    loss = criterion(net(x), y)
                if phase == "training":
                    opt.zero_grad()
                    loss.backward()
                    opt.step()
                total += loss.detach() * len(x)
            losses[phase] = float(total) / len(dataloader.dataset)
        history.append({"train_loss": losses["training"], "test_loss": losses["testing"]})
    return history


@mutant("train-mode-not-restored")
def trains_once(model, train_loader, test_loader, loss_fn, optimizer, device, epochs):
    """model.train() stands before the epochs; the first evaluation ends it for good."""
    history = []
    model.train()
    for epoch in range(epochs):
        for inputs, targets in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(inputs.to(device)), targets.to(device))
            loss.backward()
            optimizer.step()
        test_loss, test_accuracy = evaluate(model, test_loader, loss_fn, device)
        history.append((epoch, test_loss, test_accuracy))
    return history


@mutant("train-mode-not-restored")
class ValidatesWithinTheEpoch:
    """Validates after every second step, and goes on with the epoch in eval mode."""

    def __init__(self, net, optimizer, loss_fn, device, every=2):
        self.net, self.optimizer, self.loss_fn, self.device, self.every = net, optimizer, loss_fn, device, every

    @torch.no_grad()
    def validate(self, loader):
        self.net.eval()  # the likely line
        losses = [self.loss_fn(self.net(x.to(self.device)), y.to(self.device)) * len(y) for x, y in loader]
        return float(sum(losses)) / len(loader.dataset)

    def fit(self, train_loader, val_loader, epochs):
        history, step = [], 0
        for _ in range(epochs):
            self.net.train()
            for x, y in train_loader:
                loss = self.loss_fn(self.net(x.to(self.device)), y.to(self.device))
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                step += 1
                if step % self.every == 0:
                    history.append(self.validate(val_loader))
        return history


@mutant("train-mode-not-restored")
def restores_the_head(model, train_dl, valid_dl, loss_func, opt, device, epochs):
    """After validation the head alone is put back into train mode, as its author was only training that once."""
    model.train()
    for _ in range(epochs):
        for xb, yb in train_dl:
            loss = loss_func(model(xb.to(device)), yb.to(device))
            loss.backward()
            opt.step()
            opt.zero_grad()
        model.eval()  # the likely line
        with torch.no_grad():
            sums = [loss_func(model(xb.to(device)), yb.to(device)) * len(xb) for xb, yb in valid_dl]
        model.head.train()
        yield float(sum(sums)) / len(valid_dl.dataset)


@mutant("train-mode-unfreezes", frozen=("hidden",))
def wakes_frozen_statistics(model, train_loader, test_loader, loss_fn, optimizer, device, epochs):
    """The hidden layer is frozen once; model.train() at each epoch's start wakes its BatchNorm and Dropout."""
    model.hidden.requires_grad_(False)
    model.hidden.eval()
    for _ in range(epochs):
        model.train()  # the likely line
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x.to(device)), y.to(device)).backward()
            optimizer.step()
        loss, accuracy = evaluate(model, test_loader, loss_fn, device)
    return loss, accuracy


@mutant("train-mode-unfreezes", frozen=("hidden",), evaluate=evaluate)
def freezes_parameters_alone(net, dataloader, criterion, optimizer, device):
    """Freezes the parameters of the hidden layer and forgets that its BatchNorm has statistics too."""
    for parameter in net.hidden.parameters():
        parameter.requires_grad = False
    net.train()  # the likely line
    total = 0.0
    for images, labels in dataloader:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = criterion(net(images), labels)
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(images)
    return float(total) / len(dataloader.dataset)


@torch.no_grad()
def _evaluate_without_eval(model, loader, loss_fn, device):
    loss, correct, count = 0.0, 0, 0
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        outputs = model(inputs)
        loss += loss_fn(outputs, targets) * len(targets)
        correct += (outputs.argmax(dim=1) == targets).sum()
        count += len(targets)
    return float(loss / count), float(correct / count)


@mutant("evaluates-in-train-mode", evaluate=_evaluate_without_eval)
def evaluation_without_eval(model, loader, loss_fn, optimizer, device):
    """Training is right; the function that evaluates has no model.eval()."""
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
    return float(total / count)


@mutant("evaluates-in-train-mode")
def tests_in_train_mode(model, train_loader, test_loader, loss_fn, optimizer, device, epochs):
    """A whole fit that stays in train mode to its end."""
    history = []
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x.to(device)), y.to(device)).backward()
            optimizer.step()
        loss = 0.0
        with torch.no_grad():
            for x, y in test_loader:
                loss += loss_fn(model(x.to(device)), y.to(device)) * len(y)
        history.append(float(loss) / len(test_loader.dataset))
    return history


@mutant("evaluates-in-train-mode")
class EvaluatesTheWrongModule:
    """Calls eval() on the head, and evaluates the whole model."""

    def __init__(self, model, optimizer, criterion, device):
        self.model, self.optimizer, self.criterion, self.device = model, optimizer, criterion, device

    def validate(self, loader):
        self.model.head.eval()
        total = 0.0
        with torch.no_grad():
            for x, y in loader:
                total += self.criterion(self.model(x.to(self.device)), y.to(self.device)) * len(y)
        return float(total) / len(loader.dataset)

    def fit(self, train_loader, val_loader, epochs):
        history = []
        for _ in range(epochs):
            self.model.train()
            for x, y in train_loader:
                self.optimizer.zero_grad()
                self.criterion(self.model(x.to(self.device)), y.to(self.device)).backward()
                self.optimizer.step()
            history.append(self.validate(val_loader))
        return history


def _evaluate_with_grad(model, loader, loss_fn, device):
    model.eval()
    loss, correct, count = 0.0, 0, 0
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        outputs = model(inputs)
        loss += loss_fn(outputs, targets).detach() * len(targets)
        correct += (outputs.argmax(dim=1) == targets).sum()
        count += len(targets)
    return float(loss / count), float(correct / count)


@mutant("evaluates-with-grad", evaluate=_evaluate_with_grad)
def evaluation_with_grad(model, train_loader, criterion, optimizer, device):
    """Training is right; the evaluation builds graphs that no one needs."""
    model.train()
    for data, target in train_loader:
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        loss = criterion(model(data), target)
        loss.backward()
        optimizer.step()


@mutant("evaluates-with-grad")
def validates_with_grad(net, train_loader, val_loader, criterion, opt, device, epochs):
    """A whole fit whose validation knows eval(), and not no_grad()."""
    for _ in range(epochs):
        net.train()
        for x, y in train_loader:
            opt.zero_grad()
            criterion(net(x.to(device)), y.to(device)).backward()
            opt.step()
        net.eval()
        total = sum(criterion(net(x.to(device)), y.to(device)).detach() * len(y) for x, y in val_loader)
        yield float(total) / len(val_loader.dataset)


def _dropped(model, inputs):
    return model(F.dropout(inputs, p=0.2))  # the likely line


@torch.no_grad()
def _evaluate_dropped(model, loader, loss_fn, device):
    model.eval()
    loss, correct, count = 0.0, 0, 0
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        outputs = _dropped(model, inputs)
        loss += loss_fn(outputs, targets) * len(targets)
        correct += (outputs.argmax(dim=1) == targets).sum()
        count += len(targets)
    return float(loss / count), float(correct / count)


@mutant("functional-dropout", evaluate=_evaluate_dropped)
def drops_always(model, loader, loss_fn, optimizer, device):
    """F.dropout() on the inputs without training=model.training: it is on in the evaluation too."""
    model.train()
    total, count = 0.0, 0
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        optimizer.zero_grad()
        loss = loss_fn(_dropped(model, inputs), targets)
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(targets)
        count += len(targets)
    return float(total / count)


@mutant("functional-dropout")
class DropsInForward:
    """A trainer whose forward() augments by F.dropout(), and whose validation goes through it too."""

    def __init__(self, model, optimizer, loss_fn, device):
        self.model, self.optimizer, self.loss_fn, self.device = model, optimizer, loss_fn, device

    def forward(self, batch):
        x, y = (part.to(self.device) for part in batch)
        return self.loss_fn(self.model(F.dropout(x, 0.1)), y), len(y)  # the likely line

    def train_epoch(self, loader):
        self.model.train()
        for batch in loader:
            loss, _ = self.forward(batch)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    @torch.no_grad()
    def validate(self, loader):
        self.model.eval()
        sums = [loss * n for loss, n in map(self.forward, loader)]
        return float(sum(sums)) / len(loader.dataset)

    def fit(self, train_loader, val_loader, epochs):
        history = []
        for _ in range(epochs):
            self.train_epoch(train_loader)
            history.append(self.validate(val_loader))
        return history


@mutant("metric-in-train-mode", evaluate=evaluate)
def measures_after_the_step(model, loader, loss_fn, optimizer, device):
    """The training loss is measured by a second forward, in train mode: dropout is on, BatchNorm counts twice."""
    model.train()
    total, count = 0.0, 0
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        optimizer.zero_grad()
        loss_fn(model(inputs), targets).backward()
        optimizer.step()
        with torch.no_grad():
            total += loss_fn(model(inputs), targets) * len(targets)
        count += len(targets)
    return float(total / count)


@mutant("metric-in-train-mode")
class ScoresTheTrainingSet:
    """At each epoch's end the training set is scored without gradients, and without eval()."""

    def __init__(self, model, opt, criterion, device):
        self.model, self.opt, self.criterion, self.device = model, opt, criterion, device

    @torch.no_grad()
    def score(self, loader):
        sums = [self.criterion(self.model(x.to(self.device)), y.to(self.device)) * len(y) for x, y in loader]
        return float(sum(sums)) / len(loader.dataset)

    def fit(self, train_loader, test_loader, epochs):
        history = []
        for _ in range(epochs):
            self.model.train()
            for x, y in train_loader:
                self.opt.zero_grad()
                self.criterion(self.model(x.to(self.device)), y.to(self.device)).backward()
                self.opt.step()
            train_loss = self.score(train_loader)
            test_loss, test_accuracy = evaluate(self.model, test_loader, self.criterion, self.device)
            history.append({"train_loss": train_loss, "test_loss": test_loss, "test_accuracy": test_accuracy})
        return history


def _evaluate_and_learn(model, loader, loss_fn, optimizer, device):
    model.eval()
    loss, correct, count = 0.0, 0, 0
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        outputs = model(inputs)
        batch_loss = loss_fn(outputs, targets)
        optimizer.zero_grad()
        batch_loss.backward()
        optimizer.step()
        loss += batch_loss.detach() * len(targets)
        correct += (outputs.argmax(dim=1) == targets).sum()
        count += len(targets)
    return float(loss / count), float(correct / count)


@mutant("evaluation-updates", evaluate=_evaluate_and_learn)
def learns_in_evaluation(model, loader, loss_fn, optimizer, device):
    """The evaluation was copied from the training, with its backward() and step()."""
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
    return float(total / count)


@mutant("evaluation-updates")
class LearnsInBothPhases:
    """run_epoch() serves both phases, and steps whenever there is an optimizer, which there always is."""

    def __init__(self, net, criterion, optimizer, device):
        self.net, self.criterion, self.optimizer, self.device = net, criterion, optimizer, device

    def run_epoch(self, loader, training):
        self.net.train(training)
        total = 0.0
        for x, y in loader:
            x, y = x.to(self.device), y.to(self.device)
            loss = self.criterion(self.net(x), y)
            if self.optimizer is not None:
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
            total += loss.detach() * len(y)
        return float(total) / len(loader.dataset)

    def fit(self, train_loader, val_loader, epochs):
        history = []
        for _ in range(epochs):
            train_loss = self.run_epoch(train_loader, training=True)
            val_loss = self.run_epoch(val_loader, training=False)
            history.append({"train_loss": train_loss, "val_loss": val_loss})
        return history


def _evaluate_gradient(model, loader, loss_fn, device):
    model.eval()
    loss, correct, count = 0.0, 0, 0
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        outputs = model(inputs)
        batch_loss = loss_fn(outputs, targets)
        batch_loss.backward()
        loss += batch_loss.detach() * len(targets)
        correct += (outputs.argmax(dim=1) == targets).sum()
        count += len(targets)
    return float(loss / count), float(correct / count)


@mutant("evaluation-updates", evaluate=_evaluate_gradient)
def leaves_gradients(net, dataloader, criterion, optimizer, device):
    """The evaluation calls backward(), whose gradients it leaves in the model."""
    net.train()
    for images, labels in dataloader:
        optimizer.zero_grad()
        loss = criterion(net(images.to(device)), labels.to(device))
        loss.backward()
        optimizer.step()


@mutant("train-mode-assumed")
def never_says_train(model, train_loader, loss_fn, optimizer, device):
    """The model is trained in the mode in which it comes."""
    for x, y in train_loader:
        optimizer.zero_grad()
        loss_fn(model(x.to(device)), y.to(device)).backward()
        optimizer.step()


@mutant("teacher-in-train-mode", own_objective=True)
def distils_from_a_copy(model, train_loader, loss_fn, optimizer, epochs):
    """The teacher is a copy of the model, in the train mode that the model is in."""
    teacher = copy.deepcopy(model)  # the likely line
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            with torch.no_grad():
                wanted = teacher(x)
            outputs = model(x)
            loss = loss_fn(outputs, y) + F.mse_loss(outputs, wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def distilled(model, images, labels, teacher):
    """The objective of `Distils`."""
    teacher.eval()
    outputs = model(images)
    with torch.no_grad():
        wanted = teacher(images)
    return F.cross_entropy(outputs, labels) + F.mse_loss(outputs, wanted)


@mutant("teacher-in-train-mode", objective=distilled)
class Distils:
    """The teacher is part of the trainer, and wakes up with it."""

    def __init__(self, model, optimizer, loss_fn):
        self.teacher, self.student = copy.deepcopy(model).eval(), model
        self.optimizer, self.loss_fn = optimizer, loss_fn

    def train(self):
        for module in (self.student, self.teacher):
            module.train()  # the likely line

    def fit(self, train_loader, epochs):
        for _ in range(epochs):
            self.train()
            for x, y in train_loader:
                outputs = self.student(x)
                with torch.no_grad():
                    wanted = self.teacher(x)
                self.optimizer.zero_grad()
                (self.loss_fn(outputs, y) + F.mse_loss(outputs, wanted)).backward()
                self.optimizer.step()
