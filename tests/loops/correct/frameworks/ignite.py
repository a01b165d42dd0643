"""Ignite: engines made by its own helpers."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812  # its usual name

from tests.loops.correct.frameworks.quiet import quiet
from tests.loops.correct.registry import correct


@correct(needs="ignite")
def supervised_trainer(model, train_loader, val_loader, loss_fn, optimizer, scheduler, device, epochs):
    """Trainer and evaluator; the schedule and the evaluation hang on the end of an epoch."""
    with quiet():
        from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
        from ignite.metrics import Loss

        trainer = create_supervised_trainer(model, optimizer, loss_fn, device=device)
        evaluator = create_supervised_evaluator(model, metrics={"loss": Loss(loss_fn)}, device=device)
        history = []

        @trainer.on(Events.EPOCH_COMPLETED)
        def validate():
            history.append({"val_loss": evaluator.run(val_loader).metrics["loss"]})
            scheduler.step()

        trainer.run(train_loader, max_epochs=epochs)
        return history


@correct(needs="ignite", expects="logits")
def with_accuracy(model, train_loader, val_loader, optimizer, device, epochs):
    """The same with its accuracy, and with a running average as the training loss, which it keeps to itself."""
    with quiet():
        from ignite.engine import create_supervised_evaluator, create_supervised_trainer
        from ignite.metrics import Accuracy, Loss, RunningAverage

        trainer = create_supervised_trainer(model, optimizer, F.cross_entropy, device=device)
        RunningAverage(output_transform=lambda loss: loss).attach(trainer, "running_loss")
        metrics = {"loss": Loss(F.cross_entropy), "accuracy": Accuracy()}
        evaluator = create_supervised_evaluator(model, metrics=metrics, device=device)
        trainer.run(train_loader, max_epochs=epochs)
        metrics = evaluator.run(val_loader).metrics
        return {"val_loss": metrics["loss"], "val_accuracy": metrics["accuracy"]}


@correct(
    needs="ignite",
    accumulate=2,
    breaks={
        "accumulation-tail": "Ignite counts batches over all epochs: a window runs over the edge of an epoch, and what "
        "is left after the last one makes no step"
    },
)
def accumulates(model, train_loader, loss_fn, optimizer, device, epochs):
    with quiet():
        from ignite.engine import create_supervised_trainer

        trainer = create_supervised_trainer(model, optimizer, loss_fn, device=device, gradient_accumulation_steps=2)
        trainer.run(train_loader, max_epochs=epochs)


@correct(needs="ignite")
def own_step(model, train_loader, loss_fn, optimizer, epochs):
    """An Engine around a step of one's own."""
    with quiet():
        from ignite.engine import Engine

        def step(engine, batch):
            model.train()
            inputs, labels = batch
            optimizer.zero_grad()
            loss = loss_fn(model(inputs), labels)
            loss.backward()
            optimizer.step()
            return loss.item()

        Engine(step).run(train_loader, max_epochs=epochs)
