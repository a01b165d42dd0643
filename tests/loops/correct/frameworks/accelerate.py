"""Accelerate: the plain loop, with everything prepared by an Accelerator."""

from __future__ import annotations

from contextlib import contextmanager

import torch

from tests.loops.correct.frameworks.quiet import quiet
from tests.loops.correct.registry import correct


@contextmanager
def accelerator(**options):
    """Make an Accelerator for the CPU, and forget the state that it shares with those to come."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState

    with quiet():
        try:
            yield Accelerator(cpu=True, **options)
        finally:
            AcceleratorState._reset_state(reset_partial_state=True)
            GradientState._reset_state()


@correct(needs="accelerate", schedule="per-batch")
def plain(model, train_dataloader, eval_dataloader, loss_fn, optimizer, lr_scheduler, num_epochs):
    with accelerator() as accel:
        model, optimizer, train_dataloader, eval_dataloader, lr_scheduler = accel.prepare(
            model, optimizer, train_dataloader, eval_dataloader, lr_scheduler
        )
        history = []
        for _ in range(num_epochs):
            model.train()
            for inputs, labels in train_dataloader:
                optimizer.zero_grad()
                loss = loss_fn(model(inputs), labels)
                accel.backward(loss)
                optimizer.step()
                lr_scheduler.step()

            model.eval()
            total, count = 0.0, 0
            for inputs, labels in eval_dataloader:
                with torch.no_grad():
                    outputs = model(inputs)
                outputs, labels = accel.gather_for_metrics((outputs, labels))
                total += loss_fn(outputs, labels).item() * len(labels)
                count += len(labels)
            history.append({"val_loss": total / count})
        return history


def accumulate(model, train_dataloader, loss_fn, optimizer, num_epochs, clip=None):
    with accelerator(gradient_accumulation_steps=2) as accel:
        model, optimizer, train_dataloader = accel.prepare(model, optimizer, train_dataloader)
        model.train()
        for _ in range(num_epochs):
            for inputs, labels in train_dataloader:
                with accel.accumulate(model):
                    accel.backward(loss_fn(model(inputs), labels))
                    if clip is not None and accel.sync_gradients:
                        accel.clip_grad_norm_(model.parameters(), clip)
                    optimizer.step()
                    optimizer.zero_grad()


@correct(
    needs="accelerate",
    accumulate=2,
    breaks={
        "accumulation-tail": "Accelerate divides each loss by gradient_accumulation_steps, also in a shorter window"
    },
)
def accumulates(model, train_dataloader, loss_fn, optimizer, num_epochs):
    """Accumulation as in its guide: it decides which batches step, and which clear."""
    accumulate(model, train_dataloader, loss_fn, optimizer, num_epochs)


@correct(needs="accelerate", accumulate=2, clip=1.0)
def accumulates_and_clips(model, train_dataloader, loss_fn, optimizer, num_epochs):
    """The same with the gradient clipped, which hides what the last window is divided by."""
    accumulate(model, train_dataloader, loss_fn, optimizer, num_epochs, clip=1.0)


@correct(needs="accelerate", precision="bfloat16")
def bfloat16(model, train_dataloader, loss_fn, optimizer, num_epochs):
    with accelerator(mixed_precision="bf16") as accel:
        model, optimizer, train_dataloader = accel.prepare(model, optimizer, train_dataloader)
        model.train()
        for _ in range(num_epochs):
            for inputs, labels in train_dataloader:
                optimizer.zero_grad()
                with accel.autocast():
                    loss = loss_fn(model(inputs), labels)
                accel.backward(loss)
                optimizer.step()
