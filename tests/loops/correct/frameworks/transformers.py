"""The Trainer of Hugging Face transformers, with the optimizer and the schedule that it is handed."""

from __future__ import annotations

import tempfile

import torch
from torch import nn

from tests.loops.correct.frameworks.quiet import quiet
from tests.loops.correct.registry import correct


class WithLoss(nn.Module):
    """What the Trainer takes for a model: called with a batch by name, it returns the loss and the outputs."""

    def __init__(self, model, loss_fn):
        super().__init__()
        self.model, self.loss_fn = model, loss_fn

    def forward(self, inputs, labels):
        outputs = self.model(inputs)
        return {"loss": self.loss_fn(outputs, labels), "logits": outputs}


def collate(samples):
    inputs, labels = zip(*samples, strict=True)
    return {"inputs": torch.stack(inputs), "labels": torch.stack([torch.as_tensor(label) for label in labels])}


def train(model, train_set, val_set, batch_size, loss_fn, optimizer, scheduler, epochs, seed, **options):
    import transformers

    with quiet(), tempfile.TemporaryDirectory() as folder:
        trainer = transformers.Trainer(
            WithLoss(model, loss_fn),
            transformers.TrainingArguments(
                output_dir=folder,
                num_train_epochs=epochs,
                per_device_train_batch_size=batch_size,
                per_device_eval_batch_size=batch_size,
                seed=seed,
                use_cpu=True,
                report_to=[],
                disable_tqdm=True,
                save_strategy="no",
                logging_strategy="no",
                eval_strategy="epoch",
                **options,
            ),
            data_collator=collate,
            train_dataset=train_set,
            eval_dataset=val_set,
            optimizers=(optimizer, scheduler),
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
        return [{"val_loss": entry["eval_loss"]} for entry in trainer.state.log_history if "eval_loss" in entry]


@correct(needs="transformers", shuffles_itself=True, schedule="per-batch", clip=1.0)
def trainer(model, train_set, val_set, batch_size, loss_fn, optimizer, scheduler, epochs, seed):
    """As it is by default: clipped at 1, the schedule stepped with the optimizer."""
    return train(model, train_set, val_set, batch_size, loss_fn, optimizer, scheduler, epochs, seed)


@correct(needs="transformers", shuffles_itself=True, schedule="per-batch", accumulate=2)
def accumulates(model, train_set, val_set, batch_size, loss_fn, optimizer, scheduler, epochs, seed):
    """Two batches a step, not clipped."""
    options = {"gradient_accumulation_steps": 2, "max_grad_norm": 0.0}
    return train(model, train_set, val_set, batch_size, loss_fn, optimizer, scheduler, epochs, seed, **options)
