"""Lightning's Trainer with the lesson's DataLoader; logger, checkpoints, progress bar and summary are off."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..task import Task
    from . import EpochFunction

NEEDS = ("lightning",)
USED = "Trainer, torchvision and DataLoader"


def start(task: Task) -> EpochFunction:
    """Make trainer, module and loader."""
    import lightning
    import torch

    from ..engine import EngineEpoch
    from ..in_lightning import fit_once_more, module_of

    loader = EngineEpoch("reference", task).loader
    module = module_of(task, lambda module, loss: module.log("train_loss", loss, on_step=False, on_epoch=True))
    torch.manual_seed(task.settings.seed)
    trainer = lightning.Trainer(
        max_epochs=0,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )

    def epoch() -> float:
        fit_once_more(trainer, module, loader)
        return float(trainer.callback_metrics["train_loss"])

    return epoch
