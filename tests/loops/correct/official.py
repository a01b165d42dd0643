"""Loops in the style of official examples, tutorials and well-known repositories, written anew, without their slips."""

from __future__ import annotations

import contextlib
import copy
import time
from collections import OrderedDict
from itertools import starmap

import torch
import torch.nn.functional as F  # noqa: N812  # its usual name
from torch import nn

from tests.loops.correct.registry import correct


def mnist_test(model, device, test_loader):
    """As in pytorch/examples, mnist: sums over the samples, printed."""
    model.eval()
    test_loss = 0
    correct_ones = 0
    with torch.no_grad():
        for data, target in test_loader:
            data, target = data.to(device), target.to(device)
            output = model(data)
            test_loss += F.nll_loss(output, target, reduction="sum").item()
            pred = output.argmax(dim=1, keepdim=True)
            correct_ones += pred.eq(target.view_as(pred)).sum().item()
    test_loss /= len(test_loader.dataset)
    share = 100.0 * correct_ones / len(test_loader.dataset)
    print(f"\nTest set: Average loss: {test_loss:.4f}, Accuracy: {share:.0f}%\n")  # noqa: T201  # as there


@correct(evaluate=mnist_test, expects="log_probs")
def mnist_train(args, model, device, train_loader, optimizer, epoch):
    """As in pytorch/examples, mnist."""
    model.train()
    for batch_idx, (data, target) in enumerate(train_loader):
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        output = model(data)
        loss = F.nll_loss(output, target)
        loss.backward()
        optimizer.step()
        if batch_idx % args.log_interval == 0:
            print(  # noqa: T201  # as there
                f"Train Epoch: {epoch} [{batch_idx * len(data)}/{len(train_loader.dataset)}]\tLoss: {loss.item():.6f}"
            )
            if args.dry_run:
                break


@correct(expects="log_probs")
def mnist_main(args, model, device, train_loader, test_loader, optimizer, scheduler):
    """The main function of the same example."""
    for epoch in range(1, args.epochs + 1):
        mnist_train(args, model, device, train_loader, optimizer, epoch)
        mnist_test(model, device, test_loader)
        scheduler.step()


def quickstart_test(dataloader, model, loss_fn):
    """As in the quickstart tutorial, but with the loss of each batch counted once a sample."""
    size = len(dataloader.dataset)
    model.eval()
    test_loss, correct_ones = 0, 0
    with torch.no_grad():
        for X, y in dataloader:  # noqa: N806  # as there
            pred = model(X)
            test_loss += loss_fn(pred, y).item() * len(X)
            correct_ones += (pred.argmax(1) == y).type(torch.float).sum().item()
    test_loss /= size
    correct_ones /= size
    print(f"Test Error: \n Accuracy: {100 * correct_ones:>0.1f}%, Avg loss: {test_loss:>8f} \n")  # noqa: T201  # as there
    return correct_ones, test_loss


@correct(evaluate=quickstart_test)
def quickstart_train(dataloader, model, loss_fn, optimizer):
    """As in the quickstart tutorial."""
    size = len(dataloader.dataset)
    model.train()
    for batch, (X, y) in enumerate(dataloader):  # noqa: N806  # as there
        pred = model(X)
        loss = loss_fn(pred, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if batch % 100 == 0:
            loss, current = loss.item(), (batch + 1) * len(X)
            print(f"loss: {loss:>7f}  [{current:>5d}/{size:>5d}]")  # noqa: T201  # as there


@correct()
def tutorial_epochs(model, training_loader, validation_loader, loss_fn, optimizer, epochs):
    """As in "Training with PyTorch": a running loss for the report, the validation loss after each epoch."""

    def train_one_epoch():
        running_loss, running_count = 0.0, 0
        for inputs, labels in training_loader:
            optimizer.zero_grad()
            outputs = model(inputs)
            loss = loss_fn(outputs, labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item() * len(inputs)
            running_count += len(inputs)
        return running_loss / running_count

    history = []
    for _ in range(epochs):
        model.train(True)
        avg_loss = train_one_epoch()

        running_vloss, count = 0.0, 0
        model.eval()
        with torch.no_grad():
            for vinputs, vlabels in validation_loader:
                running_vloss += loss_fn(model(vinputs), vlabels) * len(vinputs)
                count += len(vinputs)
        history.append({"train_loss": avg_loss, "val_loss": float(running_vloss / count)})
    return history


@correct()
def cifar10_tutorial(net, trainloader, criterion, optimizer, epochs):
    """As in the CIFAR-10 tutorial: a running loss that is printed and begun anew."""
    for epoch in range(epochs):
        running_loss = 0.0
        for i, data in enumerate(trainloader, 0):
            inputs, labels = data
            optimizer.zero_grad()
            outputs = net(inputs)
            loss = criterion(outputs, labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
            if i % 2 == 1:
                print(f"[{epoch + 1}, {i + 1:5d}] loss: {running_loss / 2:.3f}")  # noqa: T201  # as there
                running_loss = 0.0
    print("Finished Training")  # noqa: T201  # as there


@correct(keeps_best=True)
def transfer_learning(model, train_loader, val_loader, criterion, optimizer, scheduler, device, num_epochs):
    """As in the transfer-learning tutorial: both phases in one loop, and the best weights at the end."""
    best_model_wts = copy.deepcopy(model.state_dict())
    best_acc = -1.0
    for _ in range(num_epochs):
        for phase, loader in (("train", train_loader), ("val", val_loader)):
            if phase == "train":
                model.train()
            else:
                model.eval()
            running_loss = 0.0
            running_corrects = 0
            for inputs, labels in loader:
                inputs = inputs.to(device)
                labels = labels.to(device)
                optimizer.zero_grad()
                with torch.set_grad_enabled(phase == "train"):
                    outputs = model(inputs)
                    _, preds = torch.max(outputs, 1)
                    loss = criterion(outputs, labels)
                    if phase == "train":
                        loss.backward()
                        optimizer.step()
                running_loss += loss.item() * inputs.size(0)
                running_corrects += torch.sum(preds == labels.data)
            if phase == "train":
                scheduler.step()
            epoch_acc = running_corrects.double() / len(loader.dataset)
            if phase == "val" and epoch_acc > best_acc:
                best_acc = epoch_acc
                best_model_wts = copy.deepcopy(model.state_dict())
    model.load_state_dict(best_model_wts)
    return model


class AverageMeter:
    """A mean that grows, as in pytorch/examples, imagenet: each value counts as often as it has samples."""

    def __init__(self):
        self.sum, self.count = 0.0, 0

    def update(self, value, n=1):
        self.sum += value * n
        self.count += n

    @property
    def avg(self):
        return self.sum / self.count


def top1(output, target):
    """Accuracy of a batch, in percent."""
    with torch.no_grad():
        _, pred = output.topk(1, 1, True, True)
        return pred.t().eq(target.view(1, -1)).reshape(-1).double().sum().mul_(100.0 / target.size(0)).item()


def imagenet_validate(val_loader, model, criterion):
    """As in pytorch/examples, imagenet."""
    losses, accuracy = AverageMeter(), AverageMeter()
    model.eval()
    with torch.no_grad():
        for images, target in val_loader:
            output = model(images)
            losses.update(criterion(output, target).item(), images.size(0))
            accuracy.update(top1(output, target), images.size(0))
    return {"loss": losses.avg, "accuracy": accuracy.avg}


@correct(evaluate=imagenet_validate)
def imagenet_train(train_loader, model, criterion, optimizer, epoch, device):
    """As in pytorch/examples, imagenet: meters of time, loss and accuracy."""
    batch_time, losses, accuracy = AverageMeter(), AverageMeter(), AverageMeter()
    model.train()
    end = time.time()
    for images, target in train_loader:
        images = images.to(device, non_blocking=True)
        target = target.to(device, non_blocking=True)
        output = model(images)
        loss = criterion(output, target)
        losses.update(loss.item(), images.size(0))
        accuracy.update(top1(output, target), images.size(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        batch_time.update(time.time() - end)
        end = time.time()
    return {"epoch": epoch, "loss": losses.avg, "accuracy": accuracy.avg}


class MetricLogger:
    """Goes through a loader, prints a header now and then, and keeps the meters, as in torchvision's references."""

    def __init__(self):
        self.meters = {}

    def update(self, n, **values):
        for name, value in values.items():
            self.meters.setdefault(name, AverageMeter()).update(value, n)

    def log_every(self, loader, header):
        yield from loader
        print(header, {name: round(meter.avg, 4) for name, meter in self.meters.items()})  # noqa: T201  # as there


def torchvision_evaluate(model, criterion, data_loader, device):
    """As in torchvision's references, classification."""
    model.eval()
    metric_logger = MetricLogger()
    with torch.inference_mode():
        for image, target in metric_logger.log_every(data_loader, "Test:"):
            image, target = image.to(device, non_blocking=True), target.to(device, non_blocking=True)
            output = model(image)
            loss = criterion(output, target)
            metric_logger.update(image.shape[0], loss=loss.item(), acc1=top1(output, target))
    return metric_logger.meters["acc1"].avg


@correct(evaluate=torchvision_evaluate)
def torchvision_train(model, criterion, optimizer, data_loader, device, epoch, scaler=None, clip_grad_norm=None):
    """As in torchvision's references, classification: the scaler and the clipping are there for who wants them."""
    model.train()
    metric_logger = MetricLogger()
    for image, target in metric_logger.log_every(data_loader, f"Epoch: [{epoch}]"):
        image, target = image.to(device), target.to(device)
        with torch.autocast(device_type=torch.device(device).type, enabled=scaler is not None):
            output = model(image)
            loss = criterion(output, target)
        optimizer.zero_grad()
        if scaler is not None:
            scaler.scale(loss).backward()
            if clip_grad_norm is not None:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), clip_grad_norm)
            scaler.step(optimizer)
            scaler.update()
        else:
            loss.backward()
            if clip_grad_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip_grad_norm)
            optimizer.step()
        metric_logger.update(image.shape[0], loss=loss.item(), lr=optimizer.param_groups[0]["lr"])


def timm_validate(model, loader, loss_fn, device):
    """As in timm: an ordered dict of meters."""
    losses, accuracy = AverageMeter(), AverageMeter()
    model.eval()
    with torch.no_grad():
        for input, target in loader:  # noqa: A001  # as there
            output = model(input.to(device))
            losses.update(loss_fn(output, target.to(device)).item(), input.size(0))
            accuracy.update(top1(output, target.to(device)), input.size(0))
    return OrderedDict([("loss", losses.avg), ("top1", accuracy.avg)])


@correct(evaluate=timm_validate)
def timm_train(epoch, model, loader, optimizer, loss_fn, device):
    """As in timm: forward and backward as inner functions, under a context that may be autocast and here is none."""
    model.train()
    losses = AverageMeter()
    amp_autocast = contextlib.nullcontext

    def _forward(input, target):  # noqa: A002  # as there
        with amp_autocast():
            return loss_fn(model(input), target)

    def _backward(loss):
        loss.backward(create_graph=False)
        optimizer.step()

    for input, target in loader:  # noqa: A001  # as there
        input, target = input.to(device), target.to(device)  # noqa: A001  # as there
        loss = _forward(input, target)
        _backward(loss)
        optimizer.zero_grad()
        losses.update(loss.item(), input.size(0))
    return OrderedDict([("loss", losses.avg)])


@correct(accumulate=2)
def nanogpt(model, train_loader, loss_fn, optimizer, device, epochs):
    """As in nanoGPT: batches asked for ahead of time, each micro-step's loss divided by their number.

    Where an epoch has an odd number of batches, its last step has one micro-step.
    """
    model.train()
    for _ in range(epochs):
        batches = iter(train_loader)
        ahead = next(batches, None)
        remaining = len(train_loader)
        while ahead is not None:
            micro_steps = min(2, remaining)
            for _ in range(micro_steps):
                X, Y = ahead[0].to(device), ahead[1].to(device)  # noqa: N806  # as there
                loss = loss_fn(model(X), Y) / micro_steps
                ahead = next(batches, None)
                loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            remaining -= micro_steps


@correct(schedule="per-batch")
def transformers_no_trainer(model, train_dataloader, eval_dataloader, loss_fn, optimizer, lr_scheduler, num_epochs):
    """As in the no_trainer examples of transformers: batches as dicts, the schedule stepped with the optimizer."""
    results = []
    for epoch in range(num_epochs):
        model.train()
        total_loss, seen = 0, 0
        for pixel_values, labels in train_dataloader:
            batch = {"pixel_values": pixel_values, "labels": labels}
            logits = model(batch["pixel_values"])
            loss = loss_fn(logits, batch["labels"])
            total_loss += loss.detach().float() * len(labels)
            seen += len(labels)
            loss.backward()
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()

        model.eval()
        samples, hits, eval_loss = 0, 0, 0.0
        for pixel_values, labels in eval_dataloader:
            with torch.no_grad():
                logits = model(pixel_values)
            predictions = logits.argmax(dim=-1)
            eval_loss += loss_fn(logits, labels).item() * len(labels)
            hits += (predictions == labels).sum().item()
            samples += len(labels)
        results.append(
            {
                "epoch": epoch,
                "train_loss": total_loss.item() / seen,
                "eval_loss": eval_loss / samples,
                "eval_accuracy": hits / samples,
            }
        )
    return results


@correct()
def micrograd_style(model, train_loader, loss_fn, optimizer):
    """As in Karpathy's lectures: forward pass, backward pass, update, each a paragraph."""
    lossi = []
    for Xb, Yb in train_loader:  # noqa: N806  # as there
        # forward pass
        logits = model(Xb)
        loss = loss_fn(logits, Yb)

        # backward pass
        for p in model.parameters():
            p.grad = None
        loss.backward()

        # update
        optimizer.step()

        # track stats
        lossi.append(loss.log10().item())
    return lossi


@correct()
def kaggle(model, train_loader, valid_loader, criterion, optimizer, scheduler, device, n_epochs):
    """As in many notebooks: train_fn and valid_fn, predictions gathered, a score at the end."""

    def train_fn():
        model.train()
        losses = AverageMeter()
        for images, labels in train_loader:
            images, labels = images.to(device), labels.to(device)
            y_preds = model(images)
            loss = criterion(y_preds, labels)
            losses.update(loss.item(), labels.size(0))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return losses.avg

    def valid_fn():
        model.eval()
        losses, preds, truth = AverageMeter(), [], []
        for images, labels in valid_loader:
            images, labels = images.to(device), labels.to(device)
            with torch.no_grad():
                y_preds = model(images)
            losses.update(criterion(y_preds, labels).item(), labels.size(0))
            preds.append(y_preds.softmax(1).to("cpu").numpy().argmax(1))
            truth.append(labels.to("cpu").numpy())
        hits = sum(int((p == t).sum()) for p, t in zip(preds, truth, strict=True))
        return losses.avg, hits / losses.count

    history = []
    for epoch in range(n_epochs):
        avg_loss = train_fn()
        avg_val_loss, score = valid_fn()
        scheduler.step()
        history.append({"epoch": epoch, "loss": avg_loss, "val_loss": avg_val_loss, "val_accuracy": score})
    return history


class Callback:
    """What a `Learner` calls; each method's name is an event."""

    order = 0


class TrainEval(Callback):
    """Sets the mode."""

    def before_epoch(self, learn):
        learn.model.train(learn.training)


class Metrics(Callback):
    """Counts the loss over the samples of each epoch."""

    order = 1

    def before_epoch(self, learn):
        self.total, self.count = 0.0, 0

    def after_batch(self, learn):
        self.total += learn.loss.item() * len(learn.xb)
        self.count += len(learn.xb)

    def after_epoch(self, learn):
        learn.history.append(("train_loss" if learn.training else "valid_loss", self.total / self.count))


class CancelBatchException(Exception):
    """A callback ends the batch."""


class Learner:
    """As in the fastai course, from the foundations: the loop knows the events, the callbacks do the rest."""

    def __init__(self, model, train_dl, valid_dl, loss_func, opt):
        self.model, self.loss_func, self.opt = model, loss_func, opt
        self.dls = {True: train_dl, False: valid_dl}
        self.cbs, self.history = [TrainEval(), Metrics()], []

    def callback(self, event):
        for cb in sorted(self.cbs, key=lambda cb: cb.order):
            getattr(cb, event, lambda learn: None)(self)

    def one_batch(self):
        with contextlib.suppress(CancelBatchException):
            self.callback("before_batch")
            self.preds = self.model(self.xb)
            self.loss = self.loss_func(self.preds, self.yb)
            if not self.training:
                raise CancelBatchException
            self.loss.backward()
            self.opt.step()
            self.opt.zero_grad()
        self.callback("after_batch")
        del self.preds, self.loss

    def one_epoch(self, training):
        self.training = training
        self.callback("before_epoch")
        with torch.set_grad_enabled(training):
            for self.xb, self.yb in self.dls[training]:  # noqa: B020  # as there: the batch is the learner's state
                self.one_batch()
        self.callback("after_epoch")

    def fit(self, n_epochs):
        for _ in range(n_epochs):
            self.one_epoch(training=True)
            self.one_epoch(training=False)


@correct()
def fastai_course(model, train_dl, valid_dl, loss_func, opt, n_epochs):
    learn = Learner(model, train_dl, valid_dl, loss_func, opt)
    learn.fit(n_epochs)
    return learn.history


@correct()
def minimal_fit(epochs, model, loss_func, opt, train_dl, valid_dl):
    """As in "What is torch.nn really?": one function for a batch of either kind."""

    def loss_batch(xb, yb, opt=None):
        loss = loss_func(model(xb), yb)
        if opt is not None:
            loss.backward()
            opt.step()
            opt.zero_grad()
        return loss.item(), len(xb)

    val_losses = []
    for _ in range(epochs):
        model.train()
        for xb, yb in train_dl:
            loss_batch(xb, yb, opt)
        model.eval()
        with torch.no_grad():
            losses, nums = zip(*starmap(loss_batch, valid_dl), strict=True)
        val_losses.append(sum(loss * n for loss, n in zip(losses, nums, strict=True)) / sum(nums))
    return {"val_loss": val_losses}
