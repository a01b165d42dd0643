"""The Learner of fastai, on torch's own loaders and optimizer."""

from __future__ import annotations

import tempfile

import torch

from tests.loops.correct.frameworks.quiet import quiet
from tests.loops.correct.registry import correct


@correct(needs="fastai")
def learner(model, train_loader, val_loader, loss_fn, optimizer, device, lr, epochs):
    with quiet(), tempfile.TemporaryDirectory() as folder:
        from fastai.callback.progress import ProgressCallback
        from fastai.data.core import DataLoaders
        from fastai.learner import AvgSmoothLoss, Learner
        from fastai.optimizer import OptimWrapper

        class SmoothLoss(AvgSmoothLoss):
            def reset(self):  # its own begins in float32, and no other loss can be added to that
                self.count, self.val = 0, torch.zeros((), dtype=next(model.parameters()).dtype)

        learn = Learner(
            DataLoaders(train_loader, val_loader, device=device),
            model,
            loss_func=loss_fn,
            opt_func=lambda *_, **__: OptimWrapper(opt=optimizer),
            lr=lr,
            path=folder,
        )
        learn.recorder.smooth_loss = SmoothLoss()
        learn.remove_cb(ProgressCallback)
        with learn.no_logging():
            learn.fit(epochs)
        return [{"val_loss": valid} for _, valid in learn.recorder.values]
