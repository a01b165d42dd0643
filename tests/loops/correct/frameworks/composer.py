"""Composer: its Trainer, with a ComposerModel around the model. It pins an old torch: an environment of its own."""

from __future__ import annotations

from tests.loops.correct.frameworks.quiet import quiet
from tests.loops.correct.registry import correct


@correct(needs="composer")
def trainer(model, train_loader, val_loader, loss_fn, optimizer, epochs, seed):
    with quiet():
        import composer
        from torchmetrics import MeanMetric

        class LossPerSample(MeanMetric):
            def update(self, outputs, labels):
                super().update(loss_fn(outputs, labels), weight=len(labels))

        class Task(composer.ComposerModel):
            def __init__(self):
                super().__init__()
                self.model, self.val_loss = model, LossPerSample()

            def forward(self, batch):
                return self.model(batch[0])

            def loss(self, outputs, batch):
                return loss_fn(outputs, batch[1])

            def get_metrics(self, is_train=False):
                return {} if is_train else {"val_loss": self.val_loss}

            def update_metric(self, batch, outputs, metric):
                metric.update(outputs, batch[1])

        made = composer.Trainer(
            model=Task(),
            train_dataloader=train_loader,
            eval_dataloader=val_loader,
            optimizers=optimizer,
            max_duration=f"{epochs}ep",
            device="cpu",
            seed=seed,  # or it draws one from the clock
            progress_bar=False,
        )
        made.fit()
        metrics = {name: value.compute().item() for name, value in made.state.eval_metrics["eval"].items()}
        made.close()
        return metrics
