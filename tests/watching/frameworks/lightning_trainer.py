"""Lightning: a module with a schedule, clipping and accumulation, trained and validated by the Trainer."""

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader

from frameworks_data import net, report, test_set, train_set


class Task(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = net()
        self.losses = []

    def training_step(self, batch):
        inputs, labels = batch
        loss = nn.functional.cross_entropy(self.net(inputs), labels)
        self.losses.append(loss.item())
        return loss

    def validation_step(self, batch):
        inputs, labels = batch
        self.log("val_loss", nn.functional.cross_entropy(self.net(inputs), labels))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)]


lightning.seed_everything(0, verbose=False)
task = Task()
trainer = lightning.Trainer(
    max_epochs=2,
    accelerator="cpu",
    devices=1,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    gradient_clip_val=1.0,
    accumulate_grad_batches=2,
)
trainer.fit(task, DataLoader(train_set(), batch_size=8, shuffle=True), DataLoader(test_set(), batch_size=8))
report(task, task.losses)
