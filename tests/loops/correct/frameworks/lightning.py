"""Lightning: the Trainer, with a module around the model."""

from __future__ import annotations

from tests.loops.correct.frameworks.quiet import quiet
from tests.loops.correct.registry import correct


def make_module(model, loss_fn, optimizer, scheduler=None, interval="epoch"):
    """Make the LightningModule that trains ``model``."""
    import lightning

    class Task(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = model

        def _loss(self, batch, name):
            inputs, labels = batch
            loss = loss_fn(self.model(inputs), labels)
            self.log(name, loss, on_step=False, on_epoch=True, batch_size=len(labels))
            return loss

        def training_step(self, batch):
            return self._loss(batch, "train_loss")

        def validation_step(self, batch):
            return self._loss(batch, "val_loss")

        def configure_optimizers(self):
            if scheduler is None:
                return optimizer
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": interval}}

    return Task()


def fit(module, train_loader, val_loader, epochs, **options):
    """Train on the CPU, without a trace on disk or screen; return the metrics of the last epoch."""
    import lightning

    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(module, train_loader, val_loader)
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


@correct(needs="lightning")
def trainer(model, train_loader, val_loader, loss_fn, optimizer, scheduler, epochs):
    with quiet():
        return fit(make_module(model, loss_fn, optimizer, scheduler), train_loader, val_loader, epochs)


@correct(needs="lightning", schedule="per-batch", clip=1.0)
def clips_and_schedules(model, train_loader, loss_fn, optimizer, scheduler, epochs):
    with quiet():
        module = make_module(model, loss_fn, optimizer, scheduler, interval="step")
        return fit(module, train_loader, None, epochs, gradient_clip_val=1.0)


@correct(
    needs="lightning",
    accumulate=2,
    breaks={
        "accumulation-tail": "Lightning divides each loss by accumulate_grad_batches, also in a window that has fewer"
    },
)
def accumulates(model, train_loader, loss_fn, optimizer, epochs):
    with quiet():
        return fit(make_module(model, loss_fn, optimizer), train_loader, None, epochs, accumulate_grad_batches=2)


@correct(needs="lightning", precision="bfloat16")
def bfloat16(model, train_loader, loss_fn, optimizer, epochs):
    with quiet():
        return fit(make_module(model, loss_fn, optimizer), train_loader, None, epochs, precision="bf16-mixed")


@correct(needs="lightning")
def manual(model, train_loader, loss_fn, optimizer, epochs):
    """Manual optimization: the module calls backward and step through Lightning."""
    import lightning

    class Task(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.model = model

        def training_step(self, batch):
            inputs, labels = batch
            wrapped = self.optimizers()
            wrapped.zero_grad()
            self.manual_backward(loss_fn(self.model(inputs), labels))
            wrapped.step()

        def configure_optimizers(self):
            return optimizer

    with quiet():
        fit(Task(), train_loader, None, epochs)
