"""Skorch: a net that behaves like an estimator of scikit-learn, on the loaders and the optimizer that it is handed."""

from __future__ import annotations

from tests.loops.correct.frameworks.quiet import quiet
from tests.loops.correct.registry import correct


@correct(needs="skorch")
def neural_net(model, train_loader, val_loader, loss_fn, optimizer, device, epochs):
    with quiet():
        from skorch import NeuralNet
        from skorch.helper import predefined_split

        net = NeuralNet(
            model,
            criterion=loss_fn,
            optimizer=lambda *_, **__: optimizer,
            iterator_train=lambda *_, **__: train_loader,
            iterator_valid=lambda *_, **__: val_loader,
            train_split=predefined_split(val_loader.dataset),
            max_epochs=epochs,
            device=device,
            verbose=0,
        )
        net.fit(train_loader.dataset, y=None)
        return [{"train_loss": row["train_loss"], "val_loss": row["valid_loss"]} for row in net.history]


@correct(needs="skorch", clip=1.0, shuffles_itself=True)
def with_callbacks(model, train_set, batch_size, loss_fn, optimizer, scheduler, epochs):
    """Its own loader, its gradient clipping, and the schedule by a callback after each epoch."""
    with quiet():
        from skorch import NeuralNet
        from skorch.callbacks import Callback, GradientNormClipping

        class Schedule(Callback):
            def on_epoch_end(self, net, **kwargs):
                scheduler.step()

        net = NeuralNet(
            model,
            criterion=loss_fn,
            optimizer=lambda *_, **__: optimizer,
            batch_size=batch_size,
            iterator_train__shuffle=True,
            train_split=None,
            callbacks=[GradientNormClipping(1.0), Schedule()],
            max_epochs=epochs,
            verbose=0,
        )
        net.fit(train_set, y=None)
        return [{"train_loss": row["train_loss"]} for row in net.history]
